"""`konsil config`: check a configuration file before a node reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from konsil.node.cli import output
from konsil.node.cli.named import existing_file

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Check a configuration file."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A node.toml.", callback=existing_file)],
    task: Annotated[
        bool, typer.Option(help="Open the task as well, with the options and the data it names.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Read a node.toml as the node would, and open its task; names the first thing wrong."""
    from konsil.node.config import check_addresses, read_config
    from konsil.node.learning.rehearsal import rehearse

    config = read_config(file)
    check_addresses(config, file)
    if task:
        rehearse(file.parent, config)
    data = {
        "file": str(file),
        "name": config.node.name,
        "consortium": config.consortium.name,
        "members": [member.name for member in config.members],
        "charter": config.charter().digest().hex(),
    }
    output.emit(
        "config.check",
        data,
        as_json=as_json,
        text=lambda: print(
            f"{file}: good. {config.node.name} of {config.consortium.name},"
            f" {len(config.members)} members, charter {data['charter'][:16]}"
        ),
    )
