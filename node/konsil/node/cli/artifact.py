"""`konsil artifact`: look at one artifact, or take a model out in a form that plain torch loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from konsil.node.cli import output
from konsil.node.cli.named import existing_home

app = typer.Typer(no_args_is_help=True)

HomeArgument = Annotated[Path, typer.Argument(help="The hospital's home.", callback=existing_home)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def show(
    home: HomeArgument,
    digest: Annotated[str, typer.Argument(help="The artifact, by the start of its digest.")],
    as_json: JsonOption = False,
) -> None:
    """The signed manifest of an artifact that the home holds."""
    from konsil.node.learning.export import find_manifest

    manifest = find_manifest(home, digest)

    def text() -> None:
        for key, value in manifest.items():
            plain = value if isinstance(value, str) else json.dumps(value)
            print(f"{key:<14} {plain}")

    output.emit("artifact.show", manifest, as_json=as_json, text=text)


@app.command()
def export(
    home: HomeArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make.")],
    digest: Annotated[
        str | None, typer.Argument(help="A model or artifact; the current model when left out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a model as safetensors, with a short plain-torch example that predicts with it."""
    from konsil.node.learning.export import export_model

    data = export_model(home, digest, out)

    def text() -> None:
        print(f"{out}: model {str(data['model'])[:16]}")
        output.talk(f"Try it: cd {out} && python example.py")

    output.emit("artifact.export", data, as_json=as_json, text=text)
