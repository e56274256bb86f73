"""`konsil audit redact`: the owner takes the body of one entry away, because the law says so.

One of the two commands of `konsil audit` that write. The leaf hash stays, and a `log.redact`
entry says what went and why, so that the ledger still verifies. It needs the node to be stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from konsil.node.cli import output
from konsil.node.cli.audit_arguments import Json
from konsil.node.cli.named import existing_home
from konsil.protocol import entries
from konsil.protocol.digest import tagged
from konsil.protocol.errors import UsageError

if TYPE_CHECKING:
    from konsil.node.store.journal import Journal

SALT_BYTES = 16


def redact(
    home: Annotated[
        Path, typer.Argument(help="The home of a node that is stopped.", callback=existing_home)
    ],
    index: Annotated[int, typer.Argument(help="The entry whose body goes.", min=1)],
    legal: Annotated[str, typer.Option("--legal", help="The legal ground, a code such as gdpr17.")],
    authority: Annotated[
        str, typer.Option("--authority", help="Who ordered it; the ledger only commits to it.")
    ],
    early: Annotated[
        bool,
        typer.Option("--early", help="Although it is younger than six months; an audit says so."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Take the body of entry INDEX out of the ledger of HOME; its hash stays."""
    from konsil.node.config import read_config
    from konsil.node.keys import load_following, load_keys
    from konsil.node.opening import now_ms
    from konsil.node.paths import Home
    from konsil.node.store.journal import Journal
    from konsil.trust.redaction import RETENTION_MS

    place = Home(home.absolute())
    config = read_config(place.config)
    keys = load_keys(place.keys)
    salt = os.urandom(SALT_BYTES)
    journal = Journal.open(
        place.ledger, keys, now_ms, os.urandom, charter=config.charter().digest(),
        following=load_following(place.keys),
    )  # fmt: skip
    try:
        young = now_ms() - _time_ms(journal, index) < RETENTION_MS
        if young and not early:
            raise UsageError(
                f"entry {index} is younger than six months and must be kept",
                hint="--early if the law leaves no choice; an audit will say redact.refused",
            )
        journal.redact(index, legal, tagged("redact authority", salt + authority.encode()))
    finally:
        journal.close()
    told = {"index": index, "legal": legal, "salt": salt.hex()}
    line = f"entry {index} is redacted; keep the salt of the authority: {salt.hex()}"
    output.finish(
        "audit.redact", told, exit_code=0, error=None, as_json=as_json, text=lambda: print(line)
    )


def _time_ms(journal: Journal, index: int) -> int:
    """When an entry was written; 0 for one that is not there, or has no body."""
    found = next(iter(journal.leaves(index, 1)), None)
    return 0 if found is None or found.entry is None else entries.peek(found.entry).ts


COMMANDS: Mapping[str, Callable[..., None]] = MappingProxyType({"redact": redact})
