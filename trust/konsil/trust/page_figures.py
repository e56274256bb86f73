"""The drawings of the printable report, each in a wide and a narrow form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol.fields import UNIT_E9
from konsil.trust import reasons
from konsil.trust.charts import lineage, shares_bar
from konsil.trust.questions.words import fraction
from konsil.trust.svg import Axes, Guide, Series, line_chart

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from konsil.trust.questions.dossier import Dossier
    from konsil.trust.questions.peer_trust import PeerTrust, Word

PALETTE = 8
"""Colours of hospitals before they repeat."""
POINTS_DRAWN = 6_000
"""More points than these, and only the means are drawn."""
LABELLED = 14
"""More peers than these would not find room for their names beside the chart."""
GATE_OPEN, GATE_SHUT = 0.5, 0.3
"""Trust at which a peer gets its whole weight, and below which it gets none."""
FALL_E9 = UNIT_E9 // 100
"""A fall of trust that is marked."""
FALLS_DRAWN = 60
WIDE, NARROW = (760.0, 330.0), (360.0, 300.0)


def colours(facts: Dossier) -> dict[str, str]:
    """The colour class of each member that is known here, by name; the same everywhere."""
    names = sorted({facts.homes.name(node) for node in facts.homes.authors})
    if facts.lineage is not None:
        names += sorted({facts.lineage.name(step.node) for step in facts.lineage.steps.values()})
    return {name: f"h{at % PALETTE}" for at, name in enumerate(dict.fromkeys(names))}


def lineage_figures(facts: Dossier, css: Mapping[str, str]) -> dict[str, str]:
    """The history of the model that is shown; nothing where there is none."""
    picture = facts.picture
    if picture is None or facts.shown is None:
        return {}
    lanes = sorted({step.lane for step in picture.steps if step.lane is not None})
    return {
        word: lineage(
            picture.steps,
            picture.flows,
            lanes,
            css,
            final=facts.shown.hex(),
            upright=upright,
            first=picture.first,
        )
        for word, upright in (("wide", False), ("narrow", True))
    }


def shares_figure(shares: Sequence[tuple[str, float]], css: Mapping[str, str]) -> str:
    """One bar cut into shares."""
    return shares_bar(shares, css) if shares else ""


def trust_figures(facts: Dossier, css: Mapping[str, str]) -> dict[str, str]:
    """Trust in each member by round; nothing where nobody judged."""
    opinions = [one for found in facts.trust.values() for one in found.values()]
    rounds = max((word.round for one in opinions for word in one.words), default=0)
    if not rounds:
        return {}
    series = _trust_series(facts, opinions, css)
    return {
        word: line_chart(_axes(size, rounds, series), series, _GUIDES)
        for word, size in (("wide", WIDE), ("narrow", NARROW))
    }


_GUIDES = (
    Guide(value=GATE_OPEN, label="whole weight above"),
    Guide(value=GATE_SHUT, label="no weight below"),
)


def _axes(size: tuple[float, float], rounds: int, series: Sequence[Series]) -> Axes:
    longest = max((len(one.label) for one in series), default=0)
    return Axes(
        width=size[0],
        height=size[1],
        x_range=(1.0, float(max(rounds, 2))),
        y_range=(0.0, 1.0),
        x_label="own round of the hospital that judges",
        y_label="trust",
        title="Trust over time",
        margin_right=24.0 + 6.6 * longest,
        whole_x=True,
    )


def _trust_series(
    facts: Dossier, opinions: Sequence[PeerTrust], css: Mapping[str, str]
) -> list[Series]:
    """Thin for each observer, strong for the mean in each peer."""
    thin, strong = [], []
    by_peer: dict[str, list[dict[int, int]]] = {}
    for one in opinions:
        by_peer.setdefault(one.peer, []).append({word.round: word.new_e9 for word in one.words})
    crowded = sum(len(one.words) for one in opinions) > POINTS_DRAWN
    for peer, views in sorted(by_peer.items(), key=lambda item: facts.homes.name(item[0])):
        name = facts.homes.name(peer)
        tint = css.get(name, "muted")
        if not crowded:
            thin += [Series(points=_points([view]), css=f"thin {tint}") for view in views]
        label = name if len(by_peer) <= LABELLED else ""
        strong.append(Series(points=_points(views), css=f"strong {tint}", label=label))
    dots = [] if crowded else [_dot(facts, one, css) for one in falls(opinions)[:FALLS_DRAWN]]
    return [*thin, *strong, *dots]


def falls(opinions: Sequence[PeerTrust]) -> list[tuple[PeerTrust, Word]]:
    """Where trust in a member fell by a hundredth or more, the deepest first."""
    found = [
        (one, word)
        for one in opinions
        for word in one.words
        if word.old_e9 - word.new_e9 >= FALL_E9
    ]
    return sorted(found, key=lambda item: (item[1].new_e9 - item[1].old_e9, item[1].time_ms))


def _dot(facts: Dossier, fall: tuple[PeerTrust, Word], css: Mapping[str, str]) -> Series:
    one, word = fall
    tint = css.get(facts.homes.name(one.peer), "muted")
    place = (float(word.round), word.new_e9 / UNIT_E9)
    return Series(points=(place,), css=f"fall {tint}", hover=fall_in_words(facts, fall))


def fall_in_words(facts: Dossier, fall: tuple[PeerTrust, Word]) -> str:
    """Who lost trust where, how far, and why."""
    one, word = fall
    record = word.judgement or word.penalty
    why = "its evidence is not here" if record is None else reasons.moved(record)
    names = f"{facts.homes.name(one.peer)} at {facts.homes.name(one.observer)}"
    moved = f"{fraction(word.old_e9, 2)} → {fraction(word.new_e9, 2)}"
    return f"{names}, round {word.round}: {moved}, {why}"


def _points(views: Sequence[Mapping[int, int]]) -> tuple[tuple[float, float], ...]:
    """The mean over observers in each round in which anybody judged."""
    rounds = sorted({at for view in views for at in view})
    found = []
    for at in rounds:
        said = [view[at] for view in views if at in view]
        found.append((float(at), sum(said) / len(said) / UNIT_E9))
    return tuple(found)
