"""From what the daemons left on disk to the facts of a run.

The ledgers are verified and read in this process while a second one, which may import torch,
measures the models. Whatever is missing stays absent: a run that failed early still has
facts.
"""

from __future__ import annotations

import math
from importlib.metadata import version
from statistics import mean
from typing import TYPE_CHECKING

from konsil.protocol.errors import TaskError
from konsil.simulations import ancestry, reading
from konsil.simulations.facts import Curve, HospitalFacts, Judgement, LineageFacts, RunFacts
from konsil.simulations.measuring import Measured, Measuring, Question, Site

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from konsil.protocol.errors import KonsilError
    from konsil.simulations.consortium import Consortium


def facts(
    consortium: Consortium, nodes: Mapping[str, str], started_ms: int, error: KonsilError | None
) -> RunFacts:
    """Everything that is known of a run; `nodes` are node ids by name."""
    plan, killed = consortium.plan, consortium.killed
    homes = {name: consortium.out / name for name in plan.names}
    stories = reading.read(homes)
    with Measuring(_question(consortium, stories)) as measuring:
        verdicts = reading.verify(homes)
        judgements = reading.judgements(stories, nodes)
        living = [name for name in plan.honest if name not in killed]
        lineage = _lineage(homes, stories, living)
        measured = _answer(measuring)
    daemons = consortium.daemons.values()
    return RunFacts(
        version=version("konsil"),
        started_ms=started_ms,
        wall_s=0.0,
        seed=plan.seed,
        rounds=plan.rounds,
        topology=plan.topology,
        task=plan.task,
        attack=plan.attack,
        killed=killed,
        hospitals=_hospitals(consortium, nodes, measured, judgements),
        links=plan.links,
        metric=measured.metric,
        metric_pooled=mean(measured.pooled.values()) if measured.pooled else None,
        curves=tuple(
            Curve(name=n, network=measured.network.get(n, ()), local=measured.local.get(n, ()))
            for n in living
        ),
        judgements=judgements,
        lineage=lineage,
        ledgers=verdicts,
        artifacts=_total(daemon.sight.artifacts for daemon in daemons),
        bytes_on_wire=sum(daemon.sight.bytes_sent for daemon in daemons),
        out=str(consortium.out),
        report=str(consortium.out / "report.html"),
        failures=(*([error.message] if error else []), *measured.failures),
    )


def _answer(measuring: Measuring) -> Measured:
    try:
        return measuring.answer()
    except TaskError as problem:
        return Measured(metric="", failures=(problem.diagnostics(),))


def _lineage(
    homes: Mapping[str, Path], stories: Mapping[str, reading.Story], candidates: Sequence[str]
) -> LineageFacts | None:
    """The history of the final model of the first candidate that has one."""
    for name in candidates:
        final = stories[name].final()
        if final is not None:
            return ancestry.history(list(homes.values()), name, final)
    return None


def _question(consortium: Consortium, stories: Mapping[str, reading.Story]) -> Question:
    plan = consortium.plan
    sites = tuple(
        Site(
            name=one.name,
            home=str(consortium.out / one.name),
            byzantine=one.byzantine,
            models=tuple(stories[one.name].model_after(at) for at in range(1, plan.rounds + 1)),
        )
        for one in plan.hospitals
    )
    return Question(sites=sites, rounds=plan.rounds, seed=plan.seed)


def _hospitals(
    consortium: Consortium,
    nodes: Mapping[str, str],
    measured: Measured,
    judgements: Sequence[Judgement],
) -> tuple[HospitalFacts, ...]:
    plan = consortium.plan
    return tuple(
        HospitalFacts(
            name=one.name,
            node_id=nodes[one.name],
            byzantine=one.byzantine,
            n_train=measured.rows.get(one.name),
            metric_local=last(measured.local.get(one.name, ())),
            metric_network=last(measured.network.get(one.name, ())),
            weight_received_by_honest=granted(judgements, one.name, plan.honest, plan.rounds),
        )
        for one in plan.hospitals
    )


def granted(
    judgements: Iterable[Judgement], peer: str, honest: Sequence[str], rounds: int
) -> float | None:
    """The weight that honest neighbours gave `peer`, as w / W: mean over the last quarter.

    The mean is taken for each neighbour over its own last quarter of rounds, then over the
    neighbours; absent where no honest neighbour judged it then.
    """
    first = rounds - math.ceil(rounds / 4) + 1
    by_observer: dict[str, list[float]] = {}
    for one in judgements:
        usable = one.peer == peer and one.observer in honest and one.observer != peer
        if usable and one.round >= first and one.granted is not None:
            by_observer.setdefault(one.observer, []).append(one.granted)
    means = [sum(values) / len(values) for values in by_observer.values()]
    return sum(means) / len(means) if means else None


def last(values: Sequence[float | None]) -> float | None:
    """The newest value that is there."""
    return next((value for value in reversed(values) if value is not None), None)


def _total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for count in counts:
        for kind, number in count.items():
            total[kind] = total.get(kind, 0) + number
    return total
