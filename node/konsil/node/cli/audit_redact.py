"""`konsil audit redact`: the owner takes the body of one entry away, because the law says so.

One of the two commands of `konsil audit` that write, by asking the running node: only a node whose
peers vouched for its ledger may append to it. The leaf hash stays, and a `log.redact` entry says
what went and why, so that the ledger still verifies.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer

from konsil.node.cli import output
from konsil.node.cli.audit_arguments import Json
from konsil.node.cli.named import existing_home
from konsil.protocol.digest import tagged

SALT_BYTES = 16
TIMEOUT_S = 60.0


def redact(
    home: Annotated[
        Path, typer.Argument(help="The home of a node that runs.", callback=existing_home)
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
    from konsil.node.control import ask

    salt = os.urandom(SALT_BYTES)
    wanted = {
        "index": index,
        "legal": legal,
        "authority": tagged("redact authority", salt + authority.encode()).hex(),
        "early": early,
    }
    told = {**ask(home, "redact", wanted, TIMEOUT_S), "salt": salt.hex()}
    line = f"entry {index} is redacted; keep the salt of the authority: {salt.hex()}"
    output.finish(
        "audit.redact", told, exit_code=0, error=None, as_json=as_json, text=lambda: print(line)
    )


COMMANDS: Mapping[str, Callable[..., None]] = MappingProxyType({"redact": redact})
