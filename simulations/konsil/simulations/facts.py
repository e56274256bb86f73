"""What is known of one run of a consortium: read from ledgers, measured, or asked for.

These structs are the seam between the part that runs daemons and the part that tells people
about it. Everything in them is finished: nothing here is read or computed any more. Fractions
are floats from 0 to 1, rounds are a hospital's own, digests are hexadecimal.
"""

from __future__ import annotations

import msgspec

from konsil.trust.charts import Flow, Step


class HospitalFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One hospital at the end of the run; the fields of the JSON contract."""

    name: str
    node_id: str
    byzantine: bool
    n_train: int | None
    metric_local: float | None
    metric_network: float | None
    weight_received_by_honest: float | None


class Judgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one hospital made of one artifact of a peer, in its own round."""

    observer: str
    peer: str
    round: int
    trust: float
    granted: float | None
    """w_ij / W_ij: the share of the topology's weight that was granted."""
    before: float | None = None
    """Trust before it."""
    why: str = ""
    """What moved trust, in words."""
    helped: bool | None = None
    """Whether the artifact lowered the private loss beyond the error; None where unknown."""


class LedgerFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One ledger: its head, and what its verification found."""

    name: str
    entries: int
    root: str
    verified: bool
    findings: tuple[str, ...] = ()
    grade: int = 0
    """The exit code that the gravest finding leads to."""


class Curve(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A metric after each own round, from round 1; absent where there is no model."""

    name: str
    network: tuple[float | None, ...]
    local: tuple[float | None, ...]


class LineageFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where one hospital's final model comes from."""

    hospital: str
    final: str
    steps: tuple[Step, ...]
    flows: tuple[Flow, ...]
    shares: tuple[tuple[str, float], ...]
    """Whose training is in it, exactly: (hospital, share), adding up to 1."""


class RunFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that the table, the JSON and the report say."""

    version: str
    started_ms: int
    wall_s: float
    seed: int
    rounds: int
    topology: str
    task: str
    attack: str
    killed: dict[str, int]
    """Hospitals killed on purpose, and the own round each had reached."""
    hospitals: tuple[HospitalFacts, ...]
    links: tuple[tuple[str, str], ...]
    metric: str
    metric_pooled: float | None
    curves: tuple[Curve, ...]
    judgements: tuple[Judgement, ...]
    lineage: LineageFacts | None
    ledgers: tuple[LedgerFacts, ...]
    artifacts: dict[str, int]
    bytes_on_wire: int
    out: str
    report: str
    failures: tuple[str, ...] = ()

    def counted(self) -> list[HospitalFacts]:
        """The hospitals that enter the means: honest, and not killed."""
        return [h for h in self.hospitals if not h.byzantine and h.name not in self.killed]

    def mean(self, values: list[float | None]) -> float | None:
        """The mean of what is there; absent when nothing is."""
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    def as_json(self) -> dict[str, object]:
        """`data` of `konsil demo --json`."""
        counted = self.counted()
        network = [h.metric_network for h in counted]
        known = [value for value in network if value is not None]
        return {
            "hospitals": [msgspec.to_builtins(h) for h in self.hospitals],
            "metric": self.metric,
            "metric_local_mean": self.mean([h.metric_local for h in counted]),
            "metric_network_mean": self.mean(network),
            "metric_network_worst": min(known) if known else None,
            "metric_pooled": self.metric_pooled,
            "artifacts": self.artifacts,
            "bytes_on_wire": self.bytes_on_wire,
            "wall_s": round(self.wall_s, 3),
            "ledgers": [
                {"name": one.name, "entries": one.entries, "verified": one.verified}
                for one in self.ledgers
            ],
            "report": self.report,
            "out": self.out,
        }
