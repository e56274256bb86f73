"""The engine: round after round, all nodes train, send, receive and mix at once.

A round of every node: who is there and what arrives (`faults`), training (`descent`), what
Byzantine nodes send in place of it (`attacks`), and the rule. Nodes that are away or slow keep
their models. Time of the processor is counted for training, trust and mixing alone.
"""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.protocol.errors import ConfigError, TaskError
from konsil.simulations.sim.descent import Descent
from konsil.simulations.sim.exchange import Exchange, RuleSetting, finite
from konsil.simulations.sim.judging import Judging
from konsil.simulations.sim.ledgered import opened_books
from konsil.simulations.sim.lessons.run import LessonRun
from konsil.simulations.sim.post import Post
from konsil.simulations.sim.references import Pool
from konsil.simulations.sim.rules import POOLING, RULES, SILENT
from konsil.simulations.sim.setting import setting_of
from konsil.simulations.sim.shard import whole_or_ranks
from konsil.simulations.sim.telling import Telling
from konsil.simulations.sim.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from konsil.simulations.sim.exchange import Rule
    from konsil.simulations.sim.faults import Condition
    from konsil.simulations.sim.ledgered.books import Books
    from konsil.simulations.sim.links import Links
    from konsil.simulations.sim.live import Progress
    from konsil.simulations.sim.portrait import Portrait
    from konsil.simulations.sim.result import Result
    from konsil.simulations.sim.rules.evidence import Judgement
    from konsil.simulations.sim.scenario import Scenario
    from konsil.simulations.sim.setting import Setting

SMALL_ELEMENTS = 100_000
"""Below so many parameters a model's products are too small to be shared out over threads."""


def simulate(
    scenario: Scenario,
    folder: Path,
    *,
    device: str = "auto",
    tell: Callable[[Progress], None] = lambda _: None,
    portray: Callable[[Portrait], None] = lambda _: None,
    homes: Path | None = None,
) -> Result:
    """Run a scenario whose files are looked up from `folder`.

    `tell` hears of every round; `portray` gets single nodes and links, as they are at the end.
    Where the nodes keep ledgers, their homes are made in `homes`, or nowhere.
    Raises `ConfigError` for what the scenario's own checks could not see, and `TaskError` when
    training diverges.
    """
    begun = time.perf_counter()
    _forget_peak()
    where = _device(device)
    setting = setting_of(scenario, folder)
    processes = whole_or_ranks(setting.nodes).processes
    with (
        threads(max(kind.network.layout.elements for kind in setting.architectures)),
        opened_books(setting, homes, processes=processes) as books,
    ):
        run = _run_of(setting, where, books)
        telling = Telling(setting, run, begun, tell)
        for number in range(1, scenario.training.rounds + 1):
            run.round(number)
            telling.after(number)
        run.close()
        result = telling.result(_peak_mb())
        portray(telling.portrait())
        return result


def _run_of(setting: Setting, device: str, books: Books | None) -> Run | LessonRun:
    """The run of a setting, by what travels in it."""
    if setting.question is None:
        return Run(setting, device, books)
    return LessonRun(setting, device)


class Run:
    """The state of a run: models of this process's nodes, and what was counted."""

    def __init__(self, setting: Setting, device: str, books: Books | None = None) -> None:
        self.setting, self.device, self._books = setting, device, books
        self.shard = whole_or_ranks(setting.nodes)
        self.own = np.arange(self.shard.begin, self.shard.end)
        self.models = setting.base.to(device).repeat(len(self.own), 1)
        """(own nodes, p): as they are now."""
        self.cpu_s = 0.0
        self.counts: dict[str, int] = {}
        self.sent_bytes = 0
        self.heard: Links | None = None
        """Links of the last round to own nodes."""
        self.granted: Tensor | None = None
        """What the rule granted each of them."""
        self.judgement: Judgement | None = None
        """How it weighed each of them, where it judges."""
        self._judging = Judging(setting.network, setting.cohorts.of(self.own), device)
        self.rule: Rule = RULES[setting.scenario.trust.rule](
            RuleSetting(setting.scenario.training.rounds, setting.nodes, self._judging)
        )
        pools = setting.scenario.trust.rule in POOLING
        self._descent = Pool(setting, device) if pools else self._new_descent(0)
        self._traffic = Traffic(setting, self.shard, device)
        self._post = Post(setting)
        self._hostile = frozenset(setting.hostile.tolist())

    def round(self, number: int) -> None:
        """One round of every node."""
        setting = self.setting
        condition = self._traffic.condition(number)
        self.counts = condition.counts
        if setting.scenario.population.drift > 0:
            self._drift(number)
        before, clock = self.models, self._clock()
        trained = self._descent.round(before, number, condition.active[self.own])
        self.cpu_s += self._clock() - clock
        _require_finite(trained, number)
        everybody = self.shard.gather(trained)
        earlier = self.shard.gather(before) if len(setting.hostile) else before
        exchange = finite(self._exchange(number, condition, earlier, everybody, (before, trained)))
        clock = self._clock()
        if self._books is not None:
            exchange = self._books.released(exchange, condition.active)
        mixed = self.rule.mix(exchange)
        self.models = mixed.models
        if self._books is not None:
            self.models = self._books.mixed(exchange, mixed, mixed.judgement)
        self.cpu_s += self._clock() - clock
        self.heard, self.granted = exchange.links, mixed.granted
        self.judgement = mixed.judgement

    @property
    def stacked(self) -> tuple[Tensor, ...]:
        """The models by architecture, of which there is one."""
        return (self.models,)

    def close(self) -> None:
        """The last round is over: ledgers are closed."""
        clock = self._clock()
        if self._books is not None:
            self._books.close(self.models)
        self.cpu_s += self._clock() - clock

    def _exchange(
        self,
        number: int,
        condition: Condition,
        before: Tensor,
        trained: Tensor,
        own: tuple[Tensor, Tensor],
    ) -> Exchange:
        """What arrives at the own nodes in this round, of those who are awake at both ends."""
        table, source = self._post.sent(number, condition, before, trained)
        arrivals = self._traffic.arrivals(condition, source)
        if self.setting.scenario.trust.rule not in SILENT:
            self.sent_bytes += arrivals.messages * self._post.bytes
        return Exchange(
            number=number,
            before=own[0],
            trained=own[1],
            table=table,
            routes=arrivals.routes,
            lag=arrivals.lag,
            hostile=self._hostile,
        )

    def _drift(self, number: int) -> None:
        """Patients look different in this round, to those who train and to those who judge."""
        self._judging.see(self.setting.cohorts_at(number).holdout_inputs[self.own])
        if isinstance(self._descent, Descent):
            self._descent = self._new_descent(number)

    def _clock(self) -> float:
        """Seconds of the processor; a GPU has finished what it was given."""
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.process_time()

    def _new_descent(self, number: int) -> Descent:
        """Training on the own nodes' rows, as they are in this round."""
        cohorts = self.setting.trained_on_at(number).of(self.own)
        return Descent(
            self.setting.network,
            cohorts.inputs.to(self.device),
            cohorts.targets.to(self.device),
            cohorts.train_rows,
            [self.setting.seeds[node] for node in self.own],
            self.setting.scenario.training,
        )


def _require_finite(trained: Tensor, number: int) -> None:
    """Raises `TaskError` where training ended in weights without a value."""
    if math.isfinite(trained.sum()):
        return
    lost = int((~torch.isfinite(trained).all(1)).sum())
    if lost:
        raise TaskError(
            f"round {number}: training left {lost} of {len(trained)} nodes with weights that are"
            " no numbers",
            hint="lower [training] lr, or look for missing values in the inputs",
        )


@contextlib.contextmanager
def threads(elements: int) -> Iterator[None]:
    """One thread for models of few elements, whose products do not repay more; then as before."""
    before = torch.get_num_threads()
    if elements < SMALL_ELEMENTS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device(wanted: str) -> str:
    """Where tensors live. Raises `ConfigError` when a GPU is demanded and absent."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch sees no GPU", hint="--device auto")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def _forget_peak() -> None:
    """Let the peak of this process's memory begin anew, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    """The peak of this process's memory since then; NaN where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return float("nan")
