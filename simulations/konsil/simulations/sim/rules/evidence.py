"""Evidence-gated trust: the daemon's own rule (trust.md), for all nodes at once.

Distances and gains are measured here with tensors and quantised to integers in 1e-9; all that
follows is `konsil.trust`, the functions that a daemon's worker and an auditor call. A node
remembers each sender that it ever judged. Models that are not finite are as good as not sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.simulations.sim.descent import blocks
from konsil.simulations.sim.exchange import Mixed
from konsil.simulations.sim.judging import BLOCK_BYTES
from konsil.simulations.sim.rules.copies import shares
from konsil.simulations.sim.rules.memory import Memory
from konsil.simulations.sim.rules.product import mixed
from konsil.trust import evidence, integrate, medians, score, weights
from konsil.trust.fixed import UNIT_E9, many_to_e9

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from konsil.simulations.sim.exchange import Exchange, RuleSetting
    from konsil.simulations.sim.judging import Judging
    from konsil.simulations.sim.links import Nodes
    from konsil.simulations.sim.routes import Routes
    from konsil.trust.evidence import Measures, Weighed
    from konsil.trust.fixed import Integers, Truths

DISTANCE_BYTES = 1 << 19
"""Received models whose distances are taken together: two such blocks fit a core's cache."""


@dataclass(frozen=True)
class Judgement:
    """All links of a round, weighed: what a ledger would say of each."""

    measures: Measures[Integers]
    reach_e9: Integers
    error_e9: Integers
    rho_e9: Integers
    tau_e9: Integers
    scale_e9: Integers
    step_e9: Integers
    weighed: Weighed[Integers]


class Evidence:
    """Steps 1 to 7 of the rule, with the memory of step 4."""

    def __init__(self, judging: Judging, nodes: int) -> None:
        self._judging = judging
        self._memory = Memory(nodes)
        self._tables: Tables | None = None
        """Of the last round."""

    def mix(self, exchange: Exchange) -> Mixed:
        """The models after this round; what was judged is remembered."""
        links, table = exchange.links, self._tables_of(exchange.routes)
        r, s = self._memory.of(links)
        distance, reach, own = _distances(exchange)
        share = shares(exchange, distance, reach)
        trust, kept = table.of_links(score.mean(r, s)), table.of_links(share)
        heard = medians.voices(trust, kept, table.present)
        tau, rho = medians.bounds(table.of_links(distance), table.of_links(reach), own, heard)
        rho_of, tau_of = rho[links.receiver], tau[links.receiver]
        way = torch.from_numpy(_way(reach, rho_of)).to(exchange.trained.device)
        gain, error, loss = _quantised(*self._judging.gains(exchange, way))
        excused = medians.excuses(table.of_links(gain), table.of_links(error), heard)
        scale = medians.gain_scales(table.of_links(gain), table.of_links(error), heard)
        scale_of = table.to_links(scale)
        degrees = exchange.routes.degrees[links.receiver]
        measures = evidence.Measures(
            lag=exchange.lag,
            own_e9=own[links.receiver],
            g_e9=gain,
            excused_e9=table.to_links(excused),
            d_e9=distance,
            r_e9=r,
            s_e9=s,
            base_rate_e9=np.full_like(r, score.NEUTRAL_E9),
            share_e9=share,
            metropolis_e9=weights.shared_out(exchange.metropolis_e9, degrees),
            pinned_e9=np.full_like(r, evidence.UNPINNED),
        )
        models, step, weighed = self._integrated(exchange, loss, measures, scale_of, tau_of)
        self._memory.keep(links, weighed.r_after_e9, weighed.s_after_e9)
        granted = weighed.w_e9 / np.maximum(exchange.metropolis_e9, 1)
        return Mixed(
            models,
            torch.from_numpy(granted).to(models),
            judgement=Judgement(measures, reach, error, rho_of, tau_of, scale_of, step, weighed),
        )

    def _tables_of(self, routes: Routes) -> Tables:
        """The tables of these routes; kept as long as they stay."""
        if self._tables is None or self._tables.routes is not routes:
            self._tables = Tables.of(routes)
        return self._tables

    def _integrated(
        self,
        exchange: Exchange,
        before: Integers,
        measures: Measures[Integers],
        scale: Integers,
        tau: Integers,
    ) -> tuple[Tensor, Integers, Weighed[Integers]]:
        """The mix at the largest step that each node's private loss allows (trust.md, step 7);
        `before` (n) is that loss before the round."""
        links = exchange.links
        everyone = np.arange(links.nodes)
        step = np.full(links.nodes, integrate.STEPS_E9[0])
        trying, models = everyone, exchange.trained
        for attempt in integrate.STEPS_E9:
            step[trying] = attempt
            weighed = evidence.weigh(measures, scale, tau, step[links.receiver])
            granted = torch.from_numpy(weighed.w_e9 / UNIT_E9).to(exchange.trained)
            models = mixed(exchange, granted)
            if attempt == 0:
                break
            given = np.zeros(links.nodes, dtype=bool)
            given[links.receiver[weighed.w_e9 > 0]] = True
            tried = models
            if trying is not everyone:
                tried = models[torch.from_numpy(trying).to(models.device)]
            after = self._losses(tried, trying)
            fine = integrate.acceptable(before[trying], after) | ~given[trying]
            trying = trying[~fine]
            if len(trying) == 0:
                break
        return models, step[links.receiver], weighed

    def _losses(self, models: Tensor, nodes: Nodes) -> Integers:
        """The private losses in 1e-9 of models (n, p) at these nodes."""
        places = torch.from_numpy(nodes).to(models.device)
        found = models.new_empty(len(models), dtype=torch.float64)
        for begin, end in blocks(len(models), models.shape[1], BLOCK_BYTES):
            found[begin:end] = self._judging.losses(models[begin:end], places[begin:end])
        return _quantised(found)[0]


@dataclass(frozen=True)
class Tables:
    """Values of links as matrices of receivers × places, with 0 where there is no link."""

    routes: Routes
    present: Truths

    @classmethod
    def of(cls, routes: Routes) -> Tables:
        """For the links of one round."""
        degrees = routes.degrees
        return cls(routes, np.arange(degrees.max(initial=0)) < degrees[:, None])

    def of_links(self, values: Integers) -> Integers:
        """The matrix of these values, one a link."""
        if self.present.size == len(values):
            return values.reshape(self.present.shape)
        matrix = np.zeros(self.present.shape, dtype=np.int64)
        matrix[self.routes.links.receiver, self.routes.places] = values
        return matrix

    def to_links(self, matrix: Integers) -> Integers:
        """One value a link of such a matrix."""
        if self.present.size == len(self.routes.source):
            return matrix.reshape(-1)
        return matrix[self.routes.links.receiver, self.routes.places]


def _way(reach: Integers, rho: Integers) -> npt.NDArray[np.float64]:
    """The part of the way to each received model that the bound on a trial leaves."""
    return np.where(reach > 0, np.minimum(1.0, rho / np.maximum(reach, 1)), 0.0)


def _distances(exchange: Exchange) -> list[Integers]:
    """``|x_j - x|`` and ``|x_j - a|`` of each link, and each node's own step, in 1e-9."""
    routes, trained, before = exchange.routes, exchange.trained, exchange.before
    elements = trained.shape[1]
    found = trained.new_empty(2, len(routes.source))
    many = int(routes.degrees[0]) if routes.even else 1
    receivers = routes.receivers[::many]
    begins = list(blocks(len(receivers), many * elements, DISTANCE_BYTES))
    # The blocks share their memory: it then stays in the cache.
    most = (begins[0][1] if begins else 0) * many
    received, apart = trained.new_empty(2, most, elements).unbind()
    for begin, end in begins:
        some, count = slice(begin * many, end * many), (end - begin) * many
        torch.index_select(exchange.table, 0, routes.sources[some], out=received[:count])
        those, way = (one[:count].view(-1, many, elements) for one in (received, apart))
        for place, rows in enumerate((trained, before)):
            mine = rows[begin:end] if routes.even else rows.index_select(0, receivers[begin:end])
            torch.sub(mine[:, None], those, out=way)
            torch.linalg.vector_norm(way, dim=2, out=found[place, some].view(-1, many))
    own = torch.linalg.vector_norm(trained - before, dim=1)
    return _quantised(found[0], found[1], own)


def _quantised(*values: Tensor) -> list[Integers]:
    """Each of these measurements in 1e-9."""
    together = many_to_e9(torch.cat(values).double().cpu().numpy())
    return np.split(together, np.cumsum([len(one) for one in values])[:-1])


def build(setting: RuleSetting) -> Evidence:
    """The rule for a run; it remembers nobody yet."""
    return Evidence(setting.judging, setting.nodes)
