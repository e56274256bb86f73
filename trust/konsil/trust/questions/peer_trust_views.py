"""Trust in one peer, in plain words and numbers, and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.trust.gate import OPERATOR_CAUSES
from konsil.trust.printable import printable
from konsil.trust.questions.words import fraction, plural, short, when

if TYPE_CHECKING:
    from konsil.trust.evidence import EvidenceRecord
    from konsil.trust.questions.gathering import Gathered
    from konsil.trust.questions.peer_trust import PeerTrust, Word

_GATES = {
    "pinned": "its whole weight is granted from here on",
    "muted": "no weight is granted from here on",
    "quarantined": "no weight is granted from here on",
    None: "the evidence decides again",
}
_FIGURES = {
    "g": "g_e9", "error": "error_e9", "excused": "excused_e9", "S": "scale_e9", "p_f": "p_f_e9",
    "d": "d_e9", "tau": "tau_e9", "p_g": "p_g_e9", "q": "q_e9", "own": "own_e9",
    "reach": "reach_e9", "rho": "rho_e9", "r_before": "r_before_e9", "s_before": "s_before_e9",
    "r_after": "r_after_e9", "s_after": "s_after_e9", "gate": "gate_e9", "share": "share_e9",
    "lag_factor": "lag_factor_e9", "clip": "clip_e9", "step": "step_e9",
    "metropolis": "metropolis_e9", "pinned": "pinned_e9", "w": "w_e9",
}  # fmt: skip


def to_lines(homes: Gathered, found: PeerTrust) -> list[str]:
    """The trust in a peer in lines, oldest first."""
    last = found.words[-1]
    head = (
        f"{homes.name(found.observer)} on {homes.name(found.peer)} ({found.peer}):"
        f" {plural(len(found.words), 'update')}, trust now {fraction(last.new_e9)}"
    )
    lines = [head]
    for word in found.words:
        lines += _lines(word)
    lines += [f"DOES NOT FOLLOW: {reason}" for reason in found.general]
    lines.append(summary(found))
    return [printable(line) for line in lines]


def summary(found: PeerTrust) -> str:
    """Whether everything follows, in words."""
    said = []
    if found.faults:
        verb = "does" if found.faults == 1 else "do"
        said.append(f"{found.faults} of it {verb} not follow from the evidence")
    if found.missing:
        said.append(f"the evidence of {plural(found.missing, 'update')} is not here")
    return "; ".join(said) or "computed again from the evidence: all of it follows"


def _lines(word: Word) -> list[str]:
    moved = f"{word.kind} {fraction(word.old_e9)} → {fraction(word.new_e9)}"
    head = f"entry {word.index}  {when(word.time_ms)}  round {word.round}  {moved}  ({word.cause})"
    lines = [head]
    if word.operator:
        lines.append(f"    a person's word: {_GATES[OPERATOR_CAUSES[word.cause]]}")
    if word.penalty is not None:
        reasons = ", ".join(word.penalty.reasons)
        lines.append(
            f"    refused at {word.penalty.stage} for {reasons}: evidence of harm s"
            f" {fraction(word.penalty.s_before_e9)} → {fraction(word.penalty.s_after_e9)}"
        )
    if word.judgement is not None:
        lines += _reasons(word.judgement)
        lines.append(f"    {_granted(word)}")
    if word.missing:
        lines.append("    NOT COMPUTED AGAIN: its evidence is not here")
    lines += [f"    DOES NOT FOLLOW: {reason}" for reason in word.faults]
    return lines


def _reasons(one: EvidenceRecord) -> list[str]:
    """The evidence figures of a judgement in words."""
    moved = "lowers" if one.g_e9 >= 0 else "raises"
    gain = (
        f"    a step towards {short(one.art)} {moved} the private loss by g"
        f" {fraction(one.g_e9, 4)} ± {fraction(one.error_e9, 4)} (usual size S"
        f" {fraction(one.scale_e9, 4)}): believed harmless p_f {fraction(one.p_f_e9)}"
    )
    distance = (
        f"    it lies d {fraction(one.d_e9)} away (usual distance tau {fraction(one.tau_e9)}):"
        f" believed near p_g {fraction(one.p_g_e9)}; together q {fraction(one.q_e9)}"
    )
    return [gain, distance]


def _granted(word: Word) -> str:
    one = word.judgement
    assert one is not None
    factors = (
        f"graph {fraction(one.metropolis_e9)} × gate {fraction(one.gate_e9)}"
        f"{' (a person set it)' if one.pinned_e9 is not None else ''} × share"
        f" {fraction(one.share_e9)} × lag {fraction(one.lag_factor_e9)} × clip"
        f" {fraction(one.clip_e9)} × step {fraction(one.step_e9)} = {fraction(one.w_e9, 6)}"
    )
    if word.w_e9 is None:
        return f"{factors}; this round has no mix"
    return f"{factors}; weight in the mix at entry {word.mix}: {fraction(word.w_e9, 6)}"


def to_data(homes: Gathered, found: PeerTrust) -> dict[str, object]:
    """The `data` object of `konsil audit trust --json`; fractions are integers in 1e-9."""
    return {
        "observer": {"node_id": found.observer, "name": homes.name(found.observer)},
        "peer": {"node_id": found.peer, "name": homes.name(found.peer)},
        "trust_e9": found.words[-1].new_e9,
        "follows": not found.faults,
        "missing_evidence": found.missing,
        "faults": list(found.general),
        "updates": [_word_data(word) for word in found.words],
    }


def _word_data(word: Word) -> dict[str, object]:
    penalty = word.penalty
    return {
        "index": word.index,
        "time_ms": word.time_ms,
        "round": word.round,
        "kind": word.kind,
        "cause": word.cause,
        "old_e9": word.old_e9,
        "new_e9": word.new_e9,
        "artifact": None if word.art is None else word.art.hex(),
        "operator": word.operator,
        "evidence_e9": _figures(word.judgement),
        "lag": None if word.judgement is None else word.judgement.lag,
        "refusal": None if penalty is None else {
            "stage": penalty.stage,
            "reasons": list(penalty.reasons),
            "s_before_e9": penalty.s_before_e9,
            "s_after_e9": penalty.s_after_e9,
        },
        "mix": word.mix,
        "w_e9": word.w_e9,
        "follows": None if word.missing else not word.faults,
        "faults": list(word.faults),
    }  # fmt: skip


def _figures(one: EvidenceRecord | None) -> dict[str, int | None] | None:
    """The figures of a judgement by the names that trust.md gives them."""
    if one is None:
        return None
    fields = msgspec.structs.asdict(one)
    return {name: fields[field] for name, field in _FIGURES.items()}
