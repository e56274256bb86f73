"""Making a home: keys, a ledger whose first entry is the node's identity, and `node.toml`.

A home is made once; an existing one is never touched. The order is keys, ledger,
configuration: a home without `node.toml` was interrupted and says so.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Any

import tomli_w

from konsil.node.config import NAME
from konsil.node.keys import create_keys, create_p256
from konsil.node.paths import Home
from konsil.node.store.journal import Journal
from konsil.protocol import identity
from konsil.protocol.errors import ConfigError, StorageError
from konsil.protocol.members import Member

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DEFAULT_LISTEN = "/ip4/0.0.0.0/tcp/4001"
ROUNDS = 50
"""Own rounds of a new home: without an end, models overfit and the disk fills."""
TABULAR_OPTIONS: Mapping[str, Any] = {"dataset": "breast_cancer", "model": "logistic"}
_UNSPECIFIED = re.compile(r"^/ip[46]/(0\.0\.0\.0|::)/")


def create_home(
    root: Path,
    *,
    name: str,
    consortium: str,
    factory: str,
    listen: Sequence[str],
    options: Mapping[str, Any],
    p256: bool = False,
) -> Member:
    """Make the home of one hospital and return its row of the member list.

    With `p256` it also gets a P-256 key, bound in genesis, for OpenSSF model signing. Raises
    `ConfigError` when the name is no name or the home exists, `StorageError` when the disk
    refuses.
    """
    for what, value in (("name", name), ("consortium", consortium)):
        if not NAME.fullmatch(value):
            raise ConfigError(
                f"`{value}` is no {what}",
                hint="use a-z, 0-9 and dashes, at most 32, first a letter",
            )
    home = Home(root.absolute())
    try:
        if root.exists() and any(root.iterdir()):
            raise ConfigError(f"{root}: this folder is not empty", hint="choose another home")
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys = create_keys(home.keys)
        foreign = create_p256(home.keys) if p256 else None
        genesis = Journal.create(
            home.ledger, name, consortium, keys, _now_ms, os.urandom, p256_key=foreign
        )
        member = Member(
            name=name,
            node=identity.node_id(genesis),
            peer=identity.peer_id(keys["peer"].public.raw),
            addresses=tuple(a for a in listen if not _UNSPECIFIED.match(a)),
        )
        home.card.write_text(member_table(member))
        home.config.write_text(node_toml(member, consortium, factory, listen, options))
    except OSError as error:
        raise StorageError(f"{root}: cannot make a home: {error.strerror or error}") from error
    return member


def node_toml(
    member: Member,
    consortium: str,
    factory: str,
    listen: Sequence[str],
    options: Mapping[str, Any],
    *,
    members: Sequence[Member] | None = None,
    training: Mapping[str, Any] | None = None,
    kind: str | None = None,
    edges: Sequence[tuple[str, str]] | None = None,
) -> str:
    """The text of a `node.toml`; the member list holds only `member` when none is given."""
    document: dict[str, Any] = {
        "node": {"name": member.name, "listen": list(listen)},
        "consortium": {"name": consortium},
        "task": {"factory": factory, "options": dict(options)},
        "training": dict(training or {"rounds": ROUNDS}),
    }
    if kind is not None:
        document["artifacts"] = {"kind": kind}
    if edges is not None:
        document["overlay"] = {"edges": [list(edge) for edge in edges]}
    tables = [member_table(one) for one in (members or [member])]
    head = "# konsil node; every key: docs/node-toml.md\n"
    return head + tomli_w.dumps(document) + "\n" + "\n".join(tables)


def member_table(member: Member) -> str:
    """One `[[members]]` table, to append to every member's `node.toml`."""
    row = {
        "name": member.name,
        "node": member.node,
        "peer": member.peer,
        "addresses": list(member.addresses),
    }
    return "[[members]]\n" + tomli_w.dumps(row)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
