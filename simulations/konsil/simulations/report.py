"""`report.html`: one self-contained page about a run, for the screen, the phone and paper.

No script, no font, no image and no style is loaded from anywhere: the page can be mailed,
printed and kept beside the ledgers. Text that comes from outside is escaped by jinja2; the
drawings escape their own (see `svg`). Pure but for the template, which is part of the package.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING

from konsil.trust import house
from konsil.trust.charts import lineage, overlay, shares_bar
from konsil.trust.svg import Axes, Guide, Series, line_chart

if TYPE_CHECKING:
    from collections.abc import Iterable

    from konsil.simulations.facts import Judgement, RunFacts

PALETTE = 8
"""Colours of honest hospitals before they repeat."""

GATE_OPEN, GATE_SHUT = 0.5, 0.3
FALL, FALLS_SHOWN = 0.01, 8
"""Trust at which a peer gets its whole weight, and below which it gets none."""

SMALL_NUMBERS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
)  # fmt: skip

TOPOLOGY_WORDS = {
    "ring": "ring", "ring_chords": "ring with chords", "star": "star", "complete": "complete",
    "grid": "grid", "random_regular": "random regular", "small_world": "small world",
}  # fmt: skip


def render(facts: RunFacts) -> str:
    """The whole page."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "metric": metric_text, "percent": percent_text, "bytes": bytes_text, "signed": signed_text,
    }  # fmt: skip
    page = files("konsil.simulations") / "templates" / "report.html"
    source = page.read_text("utf-8")
    counted = facts.counted()
    network = facts.mean([h.metric_network for h in counted])
    local = facts.mean([h.metric_local for h in counted])
    return environment.from_string(source).render(
        facts=facts,
        style=house.style(),
        css=colours(facts),
        headline=headline(facts),
        started=datetime.fromtimestamp(facts.started_ms / 1000, UTC).strftime(
            "%d %B %Y, %H:%M UTC"
        ),
        topology=TOPOLOGY_WORDS.get(facts.topology, facts.topology),
        metric_name=metric_name(facts.metric),
        metric_title=title_of(metric_name(facts.metric)),
        network=network,
        local=local,
        gain=None if network is None or local is None else network - local,
        worst=min(
            (h.metric_network for h in counted if h.metric_network is not None), default=None
        ),
        hostile=[h for h in facts.hospitals if h.byzantine],
        hostile_weight=facts.mean(
            [h.weight_received_by_honest for h in facts.hospitals if h.byzantine]
        ),
        honest=[h for h in facts.hospitals if not h.byzantine],
        artifacts=sum(facts.artifacts.values()),
        figures=_figures(facts),
        falls=_falls(facts),
        helped=_helped(facts),
    )


def headline(facts: RunFacts) -> str:
    """The run in one sentence."""
    hostile = sum(h.byzantine for h in facts.hospitals)
    honest = len(facts.hospitals) - hostile
    words = f"{_count(honest).capitalize()} hospital{'s' if honest != 1 else ''} learned together"
    return (
        f"{words}, without a centre{f', and against {_count(hostile)} that lied' * (hostile > 0)}"
    )


def _count(number: int) -> str:
    """A number as people write it."""
    return SMALL_NUMBERS[number] if number < len(SMALL_NUMBERS) else str(number)


def _seen(facts: RunFacts) -> list[Judgement]:
    """What the honest hospitals made of what they received."""
    honest = {h.name for h in facts.hospitals if not h.byzantine}
    return [one for one in facts.judgements if one.observer in honest]


def _falls(facts: RunFacts) -> list[str]:
    """Where trust fell the deepest, each with its reason."""
    fell = [(one.before - one.trust, one) for one in _seen(facts) if one.before is not None]
    deep = sorted((item for item in fell if item[0] >= FALL), key=lambda item: -item[0])
    return [
        f"{one.peer} at {one.observer}, round {one.round}: {one.before:.2f} → {one.trust:.2f},"
        f" {one.why}"
        for _, one in deep[:FALLS_SHOWN]
    ]


def _helped(facts: RunFacts) -> list[tuple[str, float]]:
    """Whose artifacts lowered the private loss of others, and in which share of judgements."""
    found: dict[str, list[bool]] = {h.name: [] for h in facts.hospitals}
    for one in _seen(facts):
        if one.helped is not None:
            found[one.peer].append(one.helped)
    return [(name, sum(all_of) / len(all_of)) for name, all_of in found.items() if all_of]


def _figures(facts: RunFacts) -> dict[str, str]:
    """The drawings by name; those in pairs fit a wide and a narrow page."""
    css = colours(facts)
    figures = {
        "overlay": overlay([h.name for h in facts.hospitals], facts.links, css),
        "trust_wide": trust_chart(facts, 760, 330),
        "trust_narrow": trust_chart(facts, 360, 300),
        "metric_wide": metric_chart(facts, 760, 330),
        "metric_narrow": metric_chart(facts, 360, 300),
    }
    if facts.lineage is not None:
        one = facts.lineage
        used = {step.lane for step in one.steps}
        lanes = [h.name for h in facts.hospitals if h.name in used]
        for name, upright in (("lineage_wide", False), ("lineage_narrow", True)):
            figures[name] = lineage(
                one.steps, one.flows, lanes, css, final=one.final, upright=upright
            )
        figures["shares"] = shares_bar(one.shares, css)
    return figures


def colours(facts: RunFacts) -> dict[str, str]:
    """The colour class of each hospital, the same in every drawing."""
    honest = [h.name for h in facts.hospitals if not h.byzantine]
    css = {name: f"h{index % PALETTE}" for index, name in enumerate(honest)}
    return css | {h.name: "bad" for h in facts.hospitals if h.byzantine}


def trust_chart(facts: RunFacts, width: float, height: float) -> str:
    """Trust in each peer by round: thin for each honest observer, strong for their mean."""
    css = colours(facts)
    seen = _seen(facts)
    thin, strong = [], []
    for peer in (h.name for h in facts.hospitals):
        of_peer = [j for j in seen if j.peer == peer]
        for observer in sorted({j.observer for j in of_peer}):
            points = by_round(j for j in of_peer if j.observer == observer)
            thin.append(Series(points=points, css=f"thin {css[peer]}"))
        if of_peer:
            strong.append(Series(points=by_round(of_peer), css=f"strong {css[peer]}", label=peer))
    axes = Axes(
        width=width, height=height, x_range=(1, max(facts.rounds, 2)), y_range=(0.0, 1.0),
        x_label="own round of the hospital that judges", y_label="trust",
        title="Trust over time", margin_right=_label_room(s.label for s in strong),
        whole_x=True,
    )  # fmt: skip
    guides = [
        Guide(value=GATE_OPEN, label="whole weight above"),
        Guide(value=GATE_SHUT, label="no weight below"),
    ]
    return line_chart(axes, [*thin, *strong], guides)


def metric_chart(facts: RunFacts, width: float, height: float) -> str:
    """The metric on the common test set by round, honest hospitals: network against local."""
    css = colours(facts)
    series = []
    for curve in facts.curves:
        for values, look in ((curve.local, "local"), (curve.network, "thin")):
            series.append(Series(points=_numbered(values), css=f"{look} {css[curve.name]}"))
    means = (
        ("network", "strong ink", [c.network for c in facts.curves]),
        ("local only", "local strong muted", [c.local for c in facts.curves]),
    )
    for label, look, rows in means:
        length = max((len(row) for row in rows), default=0)
        mean = [facts.mean([row[at] for row in rows if at < len(row)]) for at in range(length)]
        series.append(Series(points=_numbered(mean), css=look, label=label))
    guides = []
    if facts.metric_pooled is not None:
        words = f"pooled reference {metric_text(facts.metric_pooled)}"
        guides.append(Guide(value=facts.metric_pooled, label=words))
    axes = Axes(
        width=width, height=height, x_range=(1, max(facts.rounds, 2)),
        y_range=_metric_range(series, facts.metric_pooled), x_label="own round",
        y_label=metric_name(facts.metric), title="Metric by round",
        margin_right=_label_room(("network", "local only")), whole_x=True,
    )  # fmt: skip
    return line_chart(axes, series, guides)


def by_round(judgements: Iterable[Judgement]) -> tuple[tuple[float, float], ...]:
    """The mean trust in each round, in order."""
    sums: dict[int, list[float]] = {}
    for one in judgements:
        sums.setdefault(one.round, []).append(one.trust)
    return tuple((float(at), sum(v) / len(v)) for at, v in sorted(sums.items()))


def _numbered(values: Iterable[float | None]) -> tuple[tuple[float, float], ...]:
    return tuple(
        (float(at), math.nan if value is None else value) for at, value in enumerate(values, 1)
    )


def _metric_range(series: list[Series], pooled: float | None) -> tuple[float, float]:
    """A range that holds every value from the second round on; the first may lie below it."""
    later = [y for one in series for x, y in one.points if math.isfinite(y) and x > 1]
    values = later or [y for one in series for _, y in one.points if math.isfinite(y)]
    if pooled is not None:
        values = [*values, pooled]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    room = max(high - low, 0.01) * 0.08
    return max(0.0, low - room), min(1.0, high + room) if high <= 1.0 else high + room


def _label_room(labels: Iterable[str]) -> float:
    """Units to the right of a chart that its labels need."""
    return 24.0 + 6.6 * max((len(label) for label in labels), default=4)


def metric_name(metric: str) -> str:
    """How people write the name of a metric."""
    return {"auc": "AUC", "balanced_accuracy": "balanced accuracy"}.get(metric, metric)


def title_of(words: str) -> str:
    """Words as they begin a sentence."""
    return words[:1].upper() + words[1:]


def metric_text(value: float | None) -> str:
    """A metric with three digits, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def signed_text(value: float | None) -> str:
    """A difference with its sign, or a dash."""
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")


def percent_text(value: float | None) -> str:
    """A share in per cent, or a dash."""
    return "–" if value is None else f"{100 * value:.0f} %"


def bytes_text(count: int) -> str:
    """A number of bytes, in the unit that people read."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
