"""`konsil artifact`: look at one, take a model out for plain torch, or ask what it cannot know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from konsil.node.cli import output
from konsil.node.cli.named import existing_home
from konsil.trust.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from konsil.trust.coverage import LineageCoverage

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


@app.command()
def gaps(
    home: HomeArgument,
    model: Annotated[str, typer.Argument(help="A model or artifact, by the start of its digest.")],
    labels: Annotated[
        str, typer.Option("--labels", help="Labels to ask for, with commas; all known if left out.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Which labels no ancestor of a model covers, and who covers the others."""
    from konsil.node.cli.audit_arguments import FINDINGS
    from konsil.protocol.limits import DEFAULT_LIMITS
    from konsil.trust import coverage
    from konsil.trust.lineage import lineage_of
    from konsil.trust.questions.gathering import gather

    told = gather([home])
    lineage = lineage_of([one.told for one in told.homes], told.names())
    claims = coverage.claims((entry for _, entry in told.entries()), told.blob, DEFAULT_LIMITS)
    asked = [label.strip() for label in labels.split(",") if label.strip()]
    found = coverage.covered(lineage, lineage.find(model), claims, asked)
    missing = coverage.gaps(found)
    output.finish(
        "artifact.gaps",
        _coverage(found),
        exit_code=FINDINGS if missing else 0,
        error=output.ErrorObject(
            code="findings",
            message=f"no ancestor covers {printable(', '.join(missing))}",
            hint="ask a hospital that has such rows to join in",
        )
        if missing
        else None,
        as_json=as_json,
        text=lambda: print("\n".join(_coverage_lines(found))),
    )


def _coverage(found: LineageCoverage) -> dict[str, object]:
    return {
        "model": found.model.hex(),
        "gaps": [one.label for one in found.labels if one.gap],
        "labels": [
            {
                "label": one.label,
                "covered_by": [
                    {"node": by.node, "name": by.name, "rows_at_least": by.rows}
                    for by in one.covered_by
                ],
                "not_evaluated_by": list(one.not_evaluated_by),
            }
            for one in found.labels
        ],
        "claims": found.told,
        "silent": list(found.silent),
        "unexplained": found.unexplained,
    }


def _coverage_lines(found: LineageCoverage) -> Iterator[str]:
    for one in found.labels:
        covering = ", ".join(
            f"{by.name} ({'rows not said' if by.rows is None else f'{by.rows}+ rows'})"
            for by in one.covered_by
        )
        missing = ", ".join(one.not_evaluated_by)
        asked = f"; not looked at by {missing}" if missing else ""
        yield printable(f"{one.label:<20} {covering or 'covered by nobody'}{asked}")
    yield f"{found.told} ancestors say what they cover; where nothing is said, it is not known"
    if found.silent:
        yield printable(f"says nothing: {', '.join(found.silent)}")
    if found.unexplained:
        yield f"what went into {found.unexplained} of them is in the ledgers of their hospitals"
