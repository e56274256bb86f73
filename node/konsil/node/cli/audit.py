"""`konsil audit`: verify ledgers and trace models; offline, read-only, without torch.

The commands that ask one question each are in `audit_questions`, those about proofs in
`audit_proofs`, the printable page in `audit_page`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from konsil.node.cli import (
    audit_page,
    audit_proofs,
    audit_questions,
    audit_recover,
    audit_redact,
    output,
)
from konsil.node.cli.audit_arguments import Homes, Json, distinct, problem, settled
from konsil.protocol.errors import UsageError

app = typer.Typer(no_args_is_help=True)


for _group in (audit_questions, audit_proofs, audit_page, audit_redact, audit_recover):
    for _name, _command in _group.COMMANDS.items():
        app.command(name=_name)(_command)


class Format(StrEnum):
    """How a lineage is shown."""

    text = "text"
    dot = "dot"
    json = "json"
    svg = "svg"


@app.command()
def verify(
    homes: Homes,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Demand that every ledger is also seen through another home given here,"
            " and that a signature covers its newest entry unless its node is running.",
        ),
    ] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Compute every mix again from the stored payloads.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Recompute everything that the ledgers of HOMES claim, and hold them against each other."""
    report = settled(distinct(homes), replay=replay)
    if strict:
        report = report.strictly()
    code = report.exit_code()
    output.finish(
        "audit.verify",
        report.to_data(),
        exit_code=code,
        error=None if code == 0 else problem(report, code),
        as_json=as_json,
        text=lambda: print("\n".join(report.lines())),
    )


@app.command()
def lineage(
    homes: Homes,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="Digest of a model, or its start; when left out, the current model of the first"
            " home: what it trained or mixed last.",
        ),
    ] = "",
    form: Annotated[
        Format, typer.Option("--format", help="How to show it.", case_sensitive=False)
    ] = Format.text,
    steps: Annotated[
        bool,
        typer.Option(
            "--steps", help="With --json: every step of its ancestry as well, as a graph."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show where a model comes from, and the exact share of every hospital in it."""
    from konsil.trust import lineage_views as views
    from konsil.trust.lineage import read_lineage
    from konsil.trust.questions.gathering import hex_start

    if as_json and form in (Format.dot, Format.svg):
        raise UsageError(f"--json and --format {form.value} are two forms", hint="choose one")
    as_json = as_json or form is Format.json
    if steps and not as_json:
        raise UsageError("--steps only adds to --json", hint="add --json, or leave --steps out")
    start = hex_start(model) if model else ""
    told = read_lineage(distinct(homes))
    digest = told.find(start) if start else told.current()
    found = told.contributors(digest)
    error = None
    if found.missing:
        message, hint = views.missing(told, found)
        error = output.ErrorObject(code="incomplete", message=message, hint=hint)
    shown = {Format.dot: views.to_dot, Format.svg: views.to_svg}.get(form, views.to_text)
    output.finish(
        "audit.lineage",
        views.to_data(told, digest, steps=steps) if as_json else {},
        exit_code=4 if error else 0,
        error=error,
        as_json=as_json,
        text=lambda: print(shown(told, digest), end=""),
    )
