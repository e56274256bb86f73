"""Scenario: the TOML file that describes a simulated network, as frozen structs.

Every section but `population` and `topology` may be left out. The structs hold what was written
and refuse unknown keys and numbers out of range; `scenario_checks` refuses what no single key
can show. Values that follow from others (`hostile`, `eval_every`, `epochs`) are properties, so
that each is decided once. Shares are between 0 and 1. Rounds count from 1.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
from msgspec import Meta

_Count = Annotated[int, Meta(ge=1, le=1_000_000)]
_Share = Annotated[float, Meta(ge=0.0, le=1.0)]
_Proper = Annotated[float, Meta(ge=0.0, lt=1.0)]
_Amount = Annotated[float, Meta(ge=0.0, le=1e6)]
_Positive = Annotated[float, Meta(gt=0.0, le=1e6)]

_Name = Annotated[str, Meta(max_length=1_000)]

MAX_SEED = 2**63 - 1

WEIGHTS = ("parameters", "data_vector")
"""Kinds of artifact that are a network's weights, for equal networks only."""
ANSWERS = ("logits", "weak_labels")
"""Kinds of artifact that are answers to a question, for networks of any architecture."""
KINDS = (*WEIGHTS, *ANSWERS)

POOL, RANDOM = "pool", "random"
QUESTIONS = (POOL, RANDOM)
"""Rows of the data set that nobody was dealt, without their labels; or random values."""
QUESTION_ROWS, POOL_SHARE = 256, 4


class Population(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The hospitals: how many, and what each one's data and model are."""

    nodes: Annotated[int, Meta(ge=2, le=1_000_000)]
    dataset: _Name
    """`digits`, `breast_cancer`, `heart_disease`, or the path of a .csv or .npz file, looked up
    from the scenario's own folder."""
    split: _Name = "iid"
    """`iid`, `dirichlet`, `pathological` or `sites`."""
    alpha: _Positive = 0.5
    """Evenness of the classes over the nodes (dirichlet): small is uneven."""
    classes_each: _Count = 2
    """Classes of which a node has rows (pathological)."""
    rows: _Count | None = None
    """Training rows of each node, drawn with replacement; absent: the data set is dealt out."""
    model: _Name | tuple[_Name, ...] = "logistic"
    """One model for all, or several in turn."""
    metric: _Name = "accuracy"
    """`accuracy`, `balanced_accuracy` or `auc`."""
    holdout: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.2
    """Share of a node's rows that is never trained on and judges peers."""
    size_skew: _Amount = 0.0
    """Node k is planned (k + 1) ** -size_skew times as large as the first."""
    feature_shift: _Amount = 0.0
    """Each node's inputs are scaled and moved by an own random factor of this size."""
    drift: _Amount = 0.0
    """How far that shift moves in a round, in standard deviations."""
    label: _Name = ""
    site: _Name = ""
    patient: _Name = ""
    """Columns of a CSV file."""

    @property
    def models(self) -> tuple[str, ...]:
        """The models in turn, one or more."""
        return (self.model,) if isinstance(self.model, str) else self.model


class Topology(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who hears whom."""

    kind: _Name
    """A kind of `graph_kinds` or `graphs`, or the path of a .graphml or .edgelist file, looked up
    from the scenario's own folder."""
    degree: _Count | None = None
    """Links of a node: exact (random_regular, time_varying), before rewiring (small_world), on
    average (scale_free, erdos_renyi), or peers heard in a round (epidemic: by default ⌈log2 nodes⌉,
    else 4 where there are nodes enough)."""
    rewire: _Share = 0.3
    """Share of links that are laid anew (small_world)."""
    period: _Count = 1
    """Rounds that a graph lasts (time_varying)."""


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The local work of a round: plain stochastic gradient descent."""

    rounds: _Count = 40
    local_steps: _Count | None = None
    """Batches in a round."""
    local_epochs: _Count | None = None
    """Passes over the own rows in a round, instead of `local_steps`; with neither, 1."""
    batch: _Count = 16
    lr: _Positive = 0.1

    @property
    def epochs(self) -> int | None:
        """Passes in a round; None where `local_steps` counts."""
        if self.local_steps is not None:
            return None
        return self.local_epochs or 1


class Artifacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What travels."""

    kinds: tuple[_Name, ...] = ("parameters",)
    """One of `KINDS`."""
    question: _Name | None = None
    """What is asked where answers travel: `pool` or `random`; absent: `pool`."""
    question_rows: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    """Rows of the question; absent: `QUESTION_ROWS`, but of the training rows one in `POOL_SHARE`
    at most."""

    @property
    def kind(self) -> str:
        """The one kind that travels."""
        return self.kinds[0]

    @property
    def answers(self) -> bool:
        """Do answers to a common question travel, and no weights of a network?"""
        return self.kind in ANSWERS

    @property
    def asked(self) -> str:
        """Which question is asked; empty where none is."""
        return (self.question or POOL) if self.answers else ""


class Trust(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a node mixes what it receives."""

    rule: _Name = "evidence"
    """A name of `konsil.simulations.sim.rules.RULES`."""


class Adversary(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many nodes are Byzantine, and what these do."""

    fraction: _Proper = 0.0
    attack: _Name | tuple[_Name, ...] = ""
    """A name of `konsil.simulations.sim.attacks.ATTACKS`, or several in turn."""
    strength: _Positive | None = None
    """For the attacks that have one; absent: each one's own."""

    @property
    def attacks(self) -> tuple[str, ...]:
        """The attacks in turn; none where nobody is Byzantine."""
        if isinstance(self.attack, str):
            return (self.attack,) if self.attack else ()
        return self.attack


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What goes wrong without anybody's intent; everything is counted in the result."""

    churn: _Share = 0.0
    """Share of nodes that leave or return in a round."""
    partition: tuple[tuple[int, int], ...] = ()
    """Spans of rounds, the last one included, in which the graph is cut in two halves."""
    drop: _Share = 0.0
    """Share of messages that are lost."""
    delay_rounds: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Each message is late by a random number of rounds, this one at most."""
    slow: _Share = 0.0
    """Share of nodes that train and publish in every tenth round only."""
    late: _Share = 0.0
    """Share of nodes that join at half time."""
    heal: bool = False
    """While nodes are away, their neighbours are linked to one another in a ring."""

    @property
    def requested(self) -> tuple[str, ...]:
        """The keys whose fault must happen."""
        return tuple(name for name in self.__struct_fields__ if getattr(self, name))


class Ledger(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whether every node writes its signed ledger."""

    enabled: bool = False


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is measured while it runs."""

    eval_every: _Count | None = None
    """Rounds between two evaluations; absent: a twentieth of all."""


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole scenario. Everything random follows from `seed`."""

    seed: Annotated[int, Meta(ge=0, le=MAX_SEED)] = 0
    population: Population
    topology: Topology
    training: Training = Training()
    artifacts: Artifacts = Artifacts()
    trust: Trust = Trust()
    adversary: Adversary = Adversary()
    faults: Faults = Faults()
    ledger: Ledger = Ledger()
    output: Output = Output()

    @property
    def hostile(self) -> int:
        """How many nodes are Byzantine."""
        return self.nodes_in(self.adversary.fraction)

    @property
    def eval_every(self) -> int:
        """Rounds between two evaluations."""
        return self.output.eval_every or max(1, self.training.rounds // 20)

    def nodes_in(self, share: float) -> int:
        """How many nodes a share is: the nearest whole number, halves upwards."""
        return math.floor(share * self.population.nodes + 0.5)
