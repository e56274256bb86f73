"""`konsil audit`: verify ledgers and trace models; offline, read-only, without torch."""

from __future__ import annotations

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
    list[Path], typer.Argument(help="Homes of nodes; several are held against each other.")
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
        bool, typer.Option("--strict", help="Demand a checkpoint from outside for every ledger.")
    ] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Compute every mix again from the stored payloads.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Recompute everything that the ledgers of HOMES claim, and hold them against each other."""
    report = _settled(_distinct(homes), replay=replay)
    if strict:
        report = report.demanding_others()
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
        str, typer.Option("--model", help="Digest of a model, or its start; default: the newest.")
    ] = "",
    form: Annotated[
        Format, typer.Option("--format", help="How to show it.", case_sensitive=False)
    ] = Format.text,
    as_json: Json = False,
) -> None:
    """Show where a model comes from, and the exact share of every hospital in it."""
    from konsil.trust import lineage_views as views
    from konsil.trust.lineage import read_lineage

    found = read_lineage(_distinct(homes))
    digest = found.find(model) if model else found.newest()
    data = views.to_data(found, digest)
    if as_json or form is Format.json:
        output.emit("audit.lineage", data, as_json=True)
    elif form is Format.dot:
        print(views.to_dot(found, digest), end="")
    elif form is Format.svg:
        print(views.to_svg(found, digest), end="")
    else:
        print("\n".join(views.to_lines(found, digest)))


def _distinct(homes: list[Path]) -> list[Path]:
    """The homes, each named once. Raises `UsageError`."""
    if len({home.resolve() for home in homes}) != len(homes):
        raise UsageError("a home is named twice", hint="name every home once")
    return homes


def _settled(homes: list[Path], *, replay: bool) -> Report:
    """The audit; again when a running node was writing the very frame that looks torn."""
    from konsil.trust.audit import verify_homes

    report = verify_homes(homes, replay=replay)
    for _ in range(ATTEMPTS):
        torn = any(finding.code == "tail.torn" for finding in report.findings)
        if not torn or not any(is_held(home / "ledger") for home in homes):
            break
        time.sleep(PAUSE_S)
        report = verify_homes(homes, replay=replay)
    return report


def _problem(report: Report, code: int) -> output.ErrorObject:
    """The worst finding as the error of the JSON envelope."""
    words = {3: "verification", 4: "incomplete", 1: "findings"}
    worst = [finding for finding in report.findings if finding.exit_code == code]
    more = f" (and {len(worst) - 1} more)" if len(worst) > 1 else ""
    alone = worst[0].code == "others.unchecked"
    hint = "name the homes, or copies of the ledgers, of peers as well" if alone else ""
    return output.ErrorObject(code=words[code], message=worst[0].line() + more, hint=hint)
