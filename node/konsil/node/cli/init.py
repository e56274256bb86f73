"""`konsil init`: make a hospital's home."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from konsil.node.cli import output

TABULAR = "konsil.knowledge.tabular:build"


def init(
    home: Annotated[Path, typer.Argument(help="The folder to make.")],
    name: Annotated[str, typer.Option(help="The hospital's short name: a-z, 0-9 and dashes.")],
    consortium: Annotated[str, typer.Option(help="The consortium's short name.")] = "consortium",
    task: Annotated[
        str, typer.Option(help="What is learned: module:factory (HOME/task.py counts).")
    ] = TABULAR,
    listen: Annotated[
        list[str] | None,
        typer.Option(help="A multiaddr to listen on; `none` for an outbound-only hospital."),
    ] = None,
    p256: Annotated[
        bool,
        typer.Option("--p256", help="Also make and bind a P-256 key, to sign models for OpenSSF."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make keys, node.toml and a ledger with its genesis entry."""
    from konsil.node.init import DEFAULT_LISTEN, create_home
    from konsil.node.transports.address import endpoint

    addresses = tuple(a for a in (listen or [DEFAULT_LISTEN]) if a != "none")
    for address in addresses:
        endpoint(address)
    member = create_home(
        home,
        name=name,
        consortium=consortium,
        factory=task,
        listen=addresses,
        options={},
        p256=p256,
    )
    data = {
        "home": str(home),
        "name": member.name,
        "node_id": member.node,
        "peer_id": member.peer,
        "member": str(home / "member.toml"),
    }

    def text() -> None:
        print(f"{member.name} is {member.node}, and lives in {home}.")
        if addresses and not member.addresses:
            output.talk(
                f"{home / 'member.toml'} names no address, because the node listens everywhere:"
                " write into it where others reach you, for example addresses ="
                ' ["/dns4/konsil.example.org/tcp/4001"].'
            )
        if task == TABULAR:
            output.talk(
                f"It would learn from a built-in table: name yours under [task.options] in"
                f" {home / 'node.toml'} (docs/node-toml.md)."
            )
        output.talk(
            f"Next: hand {home / 'member.toml'} to the other members, append theirs to"
            f" {home / 'node.toml'}, then: konsil node run {home}"
        )

    output.emit("init", data, as_json=as_json, text=text)
