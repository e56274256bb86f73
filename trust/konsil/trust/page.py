"""`konsil audit report`: one self-contained page, for the screen, the phone and paper.

No script, font, image or style is loaded from anywhere: the page can be mailed, printed and
kept beside the ledgers. Text from ledgers is escaped by jinja2; drawings escape their own.
Pure but for the template, which is part of the package; the moment is an argument.
"""

from __future__ import annotations

import shlex
from importlib.resources import files
from typing import TYPE_CHECKING

from konsil.protocol.fields import UNIT_E9
from konsil.trust import house
from konsil.trust.contribution import contribution
from konsil.trust.meanings import meaning
from konsil.trust.page_figures import (
    colours,
    fall_in_words,
    falls,
    lineage_figures,
    shares_figure,
    trust_figures,
)
from konsil.trust.printable import printable
from konsil.trust.questions.budget_views import delta, epsilon
from konsil.trust.questions.words import fraction, plural, short, when
from konsil.trust.report import CONDUCT, HEADLINES, INCOMPLETE, TAMPERED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from konsil.trust.evidence import EvidenceRecord
    from konsil.trust.questions.dossier import Dossier
    from konsil.trust.questions.peer_trust import PeerTrust
    from konsil.trust.report import Finding, Report

FALLS_SHOWN = 12
"""Falls of trust that are printed with their reasons; more are counted."""
FINDINGS_SHOWN = 40
"""Findings of one code that are printed; more are counted."""

VERDICTS = {
    TAMPERED: ("Does not verify", "Files were changed, or somebody wrote what cannot be."),
    INCOMPLETE: ("Verified as far as it goes", "Something that is needed to decide is missing."),
    CONDUCT: ("Verified, with findings", "Nothing was changed, but not every rule was kept."),
    0: ("Verified", "Every entry, hash, signature and proof was computed again and holds."),
}


def render(facts: Dossier, homes: Sequence[Path], *, now_ms: int, version: str) -> str:
    """The whole page about the audit of `homes`."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"short": short, "plural": plural, "when": when}
    source = (files("konsil.trust") / "templates" / "audit.html").read_text("utf-8")
    css = colours(facts)
    title, lead = VERDICTS[facts.report.exit_code()]
    return environment.from_string(source).render(
        style=house.style(),
        css=css,
        title=title,
        lead=lead,
        made=when(now_ms),
        version=version,
        report=facts.report,
        headlines=HEADLINES,
        entries=sum(item.entries for item in facts.report.ledgers),
        replayed=sum(item.replayed for item in facts.report.ledgers),
        verified=sum(item.verified for item in facts.report.ledgers),
        tampered=facts.report.exit_code() == TAMPERED,
        findings=_findings(facts.report),
        left_out={printable(str(path)): printable(why) for path, why in facts.left_out.items()},
        models=_models(facts, css),
        shown=facts.shown,
        shown_of=_owners(facts),
        picture=facts.picture,
        lineage=lineage_figures(facts, css),
        trust=trust_figures(facts, css),
        peers=_peers(facts),
        falls=_falls(facts),
        accounts=_accounts(facts),
        command=" ".join(shlex.quote(printable(str(home))) for home in homes),
    )


def _findings(report: Report) -> list[dict[str, object]]:
    """The findings by code, the gravest first, each code with its meaning."""
    found: dict[str, list[Finding]] = {}
    for one in report.findings:
        found.setdefault(one.code, []).append(one)
    order = (TAMPERED, INCOMPLETE, CONDUCT)
    return [
        {
            "code": code,
            "grave": items[0].exit_code == TAMPERED,
            "meaning": meaning(code),
            "lines": [(one.ledger, one.line().removeprefix(f"{code}: ")) for one in items][
                :FINDINGS_SHOWN
            ],
            "more": max(0, len(items) - FINDINGS_SHOWN),
        }
        for code, items in sorted(
            found.items(), key=lambda item: (order.index(item[1][0].exit_code), item[0])
        )
    ]


def _owners(facts: Dossier) -> str:
    if facts.lineage is None or facts.shown is None:
        return ""
    return ", ".join(facts.lineage.current_of(facts.shown))


def _models(facts: Dossier, css: Mapping[str, str]) -> list[dict[str, object]]:
    """Whose training is in the current model of each hospital."""
    rows = []
    for one in facts.models:
        found = one.found
        shares = (
            []
            if found is None
            else [(part.name, part.share_e9 / UNIT_E9) for part in found.contributors]
        )
        rows.append(
            {
                "name": facts.homes.name(one.owner),
                "model": one.model,
                "shares": [(name, f"{100 * share:.1f} %") for name, share in shares],
                "bar": shares_figure(shares, css),
                "mixes": 0 if found is None else found.depth,
                "linear": found is not None and found.linear,
                "missing": 0 if found is None else len(found.missing),
                "why": one.why,
            }
        )
    return rows


def _peers(facts: Dossier) -> list[dict[str, object]]:
    """One row a judged member: how far the given hospitals trust it at the end."""
    by_peer: dict[str, list[PeerTrust]] = {}
    for opinions in facts.trust.values():
        for peer, opinion in opinions.items():
            by_peer.setdefault(peer, []).append(opinion)
    rows: list[dict[str, object]] = []
    for peer, opinions_of in by_peer.items():
        last = [one.words[-1].new_e9 for one in opinions_of]
        words = [word for one in opinions_of for word in one.words]
        rows.append(
            {
                "name": facts.homes.name(peer),
                "mean": fraction(sum(last) // len(last), 2),
                "lowest": fraction(min(last), 2),
                "judged": sum(word.art is not None for word in words),
                "refused": sum(word.cause == "gate.refused" for word in words),
                "told": sum(word.operator for word in words),
                "gave": _gave(word.judgement for word in words if word.judgement is not None),
                "faults": sum(one.faults for one in opinions_of),
                "missing": sum(one.missing for one in opinions_of),
            }
        )
    return sorted(rows, key=lambda row: str(row["name"]))


def _gave(judgements: Iterable[EvidenceRecord]) -> str:
    """The share of the judged artifacts that helped."""
    share = contribution(judgements).share_e9
    return "–" if share is None else f"{100 * share / UNIT_E9:.0f} %"


def _falls(facts: Dossier) -> dict[str, object]:
    """The deepest falls of trust, each with its reason."""
    opinions = [one for found in facts.trust.values() for one in found.values()]
    found = falls(opinions)
    return {
        "lines": [fall_in_words(facts, one) for one in found[:FALLS_SHOWN]],
        "more": max(0, len(found) - FALLS_SHOWN),
    }


def _accounts(facts: Dossier) -> list[dict[str, object]]:
    return [
        {
            "name": facts.homes.name(one.node),
            "dataset": short(one.dataset),
            "releases": len(one.spends),
            "epsilon": epsilon(one.eps_micro),
            "delta": delta(one.delta_e12),
            "faults": one.faults,
        }
        for one in facts.accounts
    ]
