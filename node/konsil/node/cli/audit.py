"""`konsil audit`: verify ledgers and trace models; offline, read-only, without torch."""

from __future__ import annotations

import os
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from konsil.node.cli import output
from konsil.node.store.lock import is_held
from konsil.protocol.errors import UsageError

if TYPE_CHECKING:
    from konsil.trust.report import Report

ATTEMPTS = 3
PAUSE_S = 0.05

app = typer.Typer(no_args_is_help=True)

Homes = Annotated[
    list[Path],
    typer.Argument(help="Homes of nodes; several are held against each other.", readable=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


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
    report = _settled(_distinct(homes), replay=replay)
    if strict:
        report = report.strictly()
    code = report.exit_code()
    output.finish(
        "audit.verify",
        report.to_data(),
        exit_code=code,
        error=None if code == 0 else _problem(report, code),
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
    as_json: Json = False,
) -> None:
    """Show where a model comes from, and the exact share of every hospital in it."""
    from konsil.trust import lineage_views as views
    from konsil.trust.lineage import read_lineage

    told = read_lineage(_distinct(homes))
    digest = told.find(model) if model else told.current()
    found = told.contributors(digest)
    as_json = as_json or form is Format.json
    error = None
    if found.missing:
        message, hint = views.missing(told, found)
        error = output.ErrorObject(code="incomplete", message=message, hint=hint)
    shown = {Format.dot: views.to_dot, Format.svg: views.to_svg}.get(form, views.to_text)
    output.finish(
        "audit.lineage",
        views.to_data(told, digest) if as_json else {},
        exit_code=4 if error else 0,
        error=error,
        as_json=as_json,
        text=lambda: print(shown(told, digest), end=""),
    )


def _distinct(homes: list[Path]) -> list[Path]:
    """The homes, each named once. Raises `UsageError`."""
    if len({os.path.realpath(home) for home in homes}) != len(homes):
        raise UsageError("a home is named twice", hint="name every home once")
    return homes


def _settled(homes: list[Path], *, replay: bool) -> Report:
    """The audit; again when a running node was writing the very frame that looks torn."""
    from konsil.trust.audit import verify_homes

    report = verify_homes(homes, replay=replay, is_held=is_held)
    for _ in range(ATTEMPTS):
        torn = any(finding.code == "tail.torn" for finding in report.findings)
        if not torn or not any(is_held(home / "ledger") for home in homes):
            break
        time.sleep(PAUSE_S)
        report = verify_homes(homes, replay=replay, is_held=is_held)
    return report


def _problem(report: Report, code: int) -> output.ErrorObject:
    """The worst finding as the error of the JSON envelope."""
    words = {3: "verification", 4: "incomplete", 1: "findings"}
    worst = [finding for finding in report.findings if finding.exit_code == code]
    more = f" (and {len(worst) - 1} more)" if len(worst) > 1 else ""
    alone = worst[0].code == "others.unchecked"
    hint = "name the homes, or copies of the ledgers, of peers as well" if alone else ""
    return output.ErrorObject(code=words[code], message=worst[0].line() + more, hint=hint)
