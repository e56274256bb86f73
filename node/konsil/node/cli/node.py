"""`konsil node`: run a hospital's daemon, or ask the running one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from konsil.node.cli import output
from konsil.node.cli.named import existing_home
from konsil.protocol.errors import UsageError

DROP = 0.005
"""A fall of trust that is worth a line."""

app = typer.Typer(no_args_is_help=True)

HomeArgument = Annotated[Path, typer.Argument(help="The hospital's home.", callback=existing_home)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def run(
    home: HomeArgument,
    exit_with_parent: Annotated[
        bool, typer.Option(help="Stop when the process that started this one ends.")
    ] = False,
) -> None:
    """Run the daemon in the foreground; SIGTERM or Ctrl-C stop it cleanly."""
    from konsil.node.service import run_node

    run_node(home, exit_with_parent=exit_with_parent)


@app.command()
def status(home: HomeArgument, as_json: JsonOption = False) -> None:
    """What the node is doing now."""
    _ask(home, "status", as_json, lambda data: _print_pairs(_flat(data)))


@app.command()
def peers(home: HomeArgument, as_json: JsonOption = False) -> None:
    """Every member, and whether it is linked."""
    columns = ("name", "linked", "degree", "learning", "addresses", "node")
    _ask(home, "peers", as_json, lambda data: _print_table(data["peers"], columns))


@app.command()
def artifacts(home: HomeArgument, as_json: JsonOption = False) -> None:
    """The artifacts that the node holds, own and received."""
    columns = ("publisher", "kind", "sequence", "round", "size", "art")
    _ask(home, "artifacts", as_json, lambda data: _print_table(data["artifacts"], columns))


@app.command()
def trust(
    home: HomeArgument,
    pin: Annotated[str | None, typer.Option(help="Grant this peer its full weight.")] = None,
    mute: Annotated[
        str | None, typer.Option(help="Judge this peer, but give it no weight.")
    ] = None,
    quarantine: Annotated[
        str | None, typer.Option(help="Take nothing more from this peer.")
    ] = None,
    release: Annotated[str | None, typer.Option(help="Let the evidence decide again.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for whoever reads the ledger.")] = "",
    as_json: JsonOption = False,
) -> None:
    """How far the node trusts each peer; or decide by hand (which is written to the ledger)."""
    words = {"pin": pin, "mute": mute, "quarantine": quarantine, "release": release}
    chosen = {verb: peer for verb, peer in words.items() if peer is not None}
    if len(chosen) > 1:
        raise UsageError("choose one of --pin, --mute, --quarantine and --release")
    if reason and not chosen:
        raise UsageError("--reason is for a --pin, --mute, --quarantine or --release")
    verb, named = next(iter(chosen.items()), ("", ""))
    columns = ("name", "state", "trust", "share", "contribution", "node")

    def show(data: Mapping[str, Any]) -> None:
        _print_table(data["peers"], columns)
        for row in data["peers"]:
            _print_course(row)
        if chosen:
            output.talk("The share is that of the last mix; your word counts from the next one on.")

    _ask(
        home,
        "trust",
        as_json,
        show,
        {"operator": verb, "peer": named, "reason": reason} if chosen else {},
    )


@app.command()
def rotate(
    home: HomeArgument,
    role: Annotated[str, typer.Argument(help="Which key: log, wit, art or rec.")],
    reason: Annotated[str, typer.Option(help="A word for the ledger.")] = "planned",
    revoke_from: Annotated[
        int | None,
        typer.Option(help="The key was stolen: all it signed from this entry on is void."),
    ] = None,
    recovery_key: Annotated[
        Path | None, typer.Option(help="The recovery key's file, if it lies elsewhere.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put a fresh key in the place of one of the node's keys; every peer learns of it."""
    asked: dict[str, Any] = {"role": role, "reason": reason}
    if revoke_from is not None:
        asked["revoke_from"] = revoke_from
    if recovery_key is not None:
        asked["recovery_key"] = str(recovery_key.absolute())

    def show(data: Mapping[str, Any]) -> None:
        print(f"the {role} key changed at entry {data['index']}: now {data['new']}")
        if role == "rec":
            former = "" if recovery_key is None else f"; {recovery_key} counts no more"
            output.talk(f"Move {home / 'keys' / 'rec.key'} to a safe place{former}.")

    _ask(home, "rotate", as_json, show, asked)


@app.command()
def publish(home: HomeArgument, as_json: JsonOption = False) -> None:
    """Publish the node's current model now."""
    _ask(home, "publish", as_json, lambda data: _print_pairs(_flat(data)), timeout_s=60.0)


@app.command()
def stop(home: HomeArgument, as_json: JsonOption = False) -> None:
    """Stop the daemon, and wait until it is gone."""
    from konsil.node.control import wait_until_gone

    def gone(_data: Mapping[str, Any]) -> None:
        output.talk(f"{home}: stopped")

    _ask(home, "stop", as_json, gone, after=lambda: wait_until_gone(home))


def _ask(
    home: Path,
    verb: str,
    as_json: bool,
    text: Callable[[Mapping[str, Any]], None],
    arguments: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = 10.0,
    after: Callable[[], None] = lambda: None,
) -> None:
    from konsil.node.control import ask

    data = ask(home, verb, arguments, timeout_s)
    after()
    output.emit(f"node.{verb}", data, as_json=as_json, text=lambda: text(data))


def _print_course(row: Mapping[str, Any]) -> None:
    """Trust in one peer over its last rounds, and the reason of each drop."""
    course = row["course"]
    if not course:
        return
    steps = " → ".join(f"{one['new']:.2f}" for one in course)
    print(f"\n{row['name']} from round {course[0]['round']} on: {course[0]['old']:.2f} → {steps}")
    for one in course:
        if one["old"] - one["new"] >= DROP:
            moved = f"{one['old']:.2f} → {one['new']:.2f}"
            print(f"    round {one['round']}: {moved}, {one['why']}")


def _flat(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in data.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", _show(value)))
    return rows


def _show(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, list | tuple):
        return ", ".join(_show(item) for item in value) or "-"
    return str(value)


def _print_pairs(rows: list[tuple[str, str]]) -> None:
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        print(f"{key:<{width}}  {value}")


def _print_table(rows: list[Mapping[str, Any]], columns: tuple[str, ...]) -> None:
    cells = [columns] + [tuple(_show(row.get(column)) for column in columns) for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )
