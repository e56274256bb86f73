"""`konsil audit artifact, taint, trust, budget, timeline, diff`: one question a command."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from konsil.node.cli import output
from konsil.node.cli.audit_arguments import (
    FINDINGS,
    INCOMPLETE,
    REFUSED,
    Homes,
    Json,
    answer,
    distinct,
)
from konsil.protocol.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from konsil.trust.questions.gathering import Gathered

Home = Annotated[Path, typer.Argument(help="The home of a node.", readable=False)]


def artifact(
    homes: Homes,
    digest: Annotated[str, typer.Argument(help="Its payload or envelope, or the beginning.")],
    as_json: Json = False,
) -> None:
    """Show one artifact: who made it, whether its signature holds, who took it into which mix."""
    from konsil.trust.questions import artifact_views as views
    from konsil.trust.questions.artifact import trace
    from konsil.trust.questions.gathering import gather

    told = gather(distinct(homes))
    found = trace(told, digest)
    problem = _lacking(told)
    if found.fault:
        problem = REFUSED, f"the signature does not verify: {found.fault}", ""
    elif found.unchecked:
        hint = f"name the home of {told.name(found.publisher)} too"
        problem = INCOMPLETE, f"the signature cannot be checked: {found.unchecked}", hint
    data, lines = views.to_data(told, found), views.to_lines(told, found)
    answer("artifact", data, lines, as_json=as_json, problem=problem)


def taint(
    homes: Homes,
    artifact: Annotated[str, typer.Argument(help="A model or artifact, or its beginning.")],
    as_json: Json = False,
) -> None:
    """Show every model and artifact made from ARTIFACT, and how much of it each one holds."""
    from konsil.trust.questions import taint_views as views
    from konsil.trust.questions.gathering import gather
    from konsil.trust.questions.taint import taint as descendants

    told = gather(distinct(homes))
    found = descendants(told, artifact)
    problem = None
    if missing := views.missing(told, found):
        problem = INCOMPLETE, *missing
    data, lines = views.to_data(told, found), views.to_lines(told, found)
    answer("taint", data, lines, as_json=as_json, problem=problem)


def trust(
    home: Home,
    peer: Annotated[str, typer.Argument(help="Its name, or the beginning of its node id.")],
    as_json: Json = False,
) -> None:
    """Show how trust in PEER moved, why, and which weight followed; all computed again.

    Exits with 3 when a figure does not follow from the evidence.
    """
    from konsil.trust.questions import peer_trust_views as views
    from konsil.trust.questions.gathering import gather
    from konsil.trust.questions.peer_trust import peer_trust

    told = gather([home])
    found = peer_trust(told, told.homes[0], peer)
    problem = None
    if found.faults:
        problem = REFUSED, views.summary(found), "the whole audit: konsil audit verify"
    elif found.missing:
        problem = INCOMPLETE, views.summary(found), "put the ledger's blobs back"
    data, lines = views.to_data(told, found), views.to_lines(told, found)
    answer("trust", data, lines, as_json=as_json, problem=problem)


def budget(
    homes: Homes,
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset", help="The commitment of one data set, or its beginning; all when left out."
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Show the privacy spent on each data set, summed again."""
    from konsil.trust.questions import budget_views as views
    from konsil.trust.questions.budget import budget as accounts_of
    from konsil.trust.questions.gathering import gather, hex_start

    start = hex_start(dataset) if dataset else ""
    told = gather(distinct(homes))
    accounts = accounts_of(told, start)
    faults = [f"{told.name(one.node)}: {fault}" for one in accounts for fault in one.faults]
    problem = _lacking(told)
    if problem is None and faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        problem = FINDINGS, faults[0] + more, "ask the hospital what it spent"
    data, lines = views.to_data(told, accounts), views.to_lines(told, accounts)
    answer("budget", data, lines, as_json=as_json, problem=problem)


def timeline(
    homes: Homes,
    start: Annotated[
        str, typer.Option("--from", help="First moment (ISO 8601, UTC if bare), or first index.")
    ] = "",
    end: Annotated[str, typer.Option("--to", help="Last moment, or last index.")] = "",
    kind: Annotated[
        str, typer.Option("--type", help="A type of entry, or a group: trust.update, artifact.")
    ] = "",
    node: Annotated[
        str, typer.Option("--node", help="One member only: its name, or the start of its id.")
    ] = "",
    as_json: Json = False,
) -> None:
    """List the entries of the ledgers of HOMES in order, one line each."""
    from konsil.trust.questions import timeline_views as views
    from konsil.trust.questions.gathering import gather
    from konsil.trust.questions.timeline import bound, known_type
    from konsil.trust.questions.timeline import timeline as events_of

    first, last, wanted = bound(start), bound(end, last=True), known_type(kind)
    told = gather(distinct(homes))
    member = told.member(node) if node else ""
    if member and member not in {home.node for home in told.homes}:
        raise UsageError(f"the home of {told.name(member)} is not given", hint="name it too")
    events = events_of(told, start=first, end=last, kind=wanted, node=member)
    if not events:
        output.talk("konsil: no entry of these ledgers fits (leave out an option to see more)")
    data = views.to_data(told, events) if as_json else {}
    lines = views.to_lines(told, events)
    answer("timeline", data, lines, as_json=as_json, problem=_lacking(told))


def _lacking(told: Gathered) -> tuple[int, str, str] | None:
    """The problem of an answer from ledgers of which entries are not here."""
    lacking = told.lacking()
    return (
        (INCOMPLETE, lacking, "put the files back: konsil audit verify names them")
        if (lacking)
        else None
    )


def diff(
    home_a: Home,
    home_b: Annotated[Path, typer.Argument(help="A copy of the same log.", readable=False)],
    as_json: Json = False,
) -> None:
    """Compare two copies of one log: the first entry at which they differ, and in what."""
    from konsil.trust.questions import divergence_views as views
    from konsil.trust.questions.divergence import diff as compare

    found = compare(*distinct([home_a, home_b]))
    problem = None
    if not found.sound:
        hint = "the author signed both; keep both copies" if found.forked else ""
        problem = REFUSED, views.verdict(found), hint or "which one is right: konsil audit verify"
    answer("diff", views.to_data(found), views.to_lines(found), as_json=as_json, problem=problem)


COMMANDS: Mapping[str, Callable[..., None]] = MappingProxyType(
    {
        "artifact": artifact,
        "taint": taint,
        "trust": trust,
        "budget": budget,
        "timeline": timeline,
        "diff": diff,
    }
)
