"""Trust in one peer, in plain words and numbers, and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.trust import reasons
from konsil.trust.gate import OPERATOR_CAUSES
from konsil.trust.printable import printable
from konsil.trust.questions.words import fraction, plural, short, when
from konsil.trust.score import NEUTRAL_E9

if TYPE_CHECKING:
    from konsil.trust.contribution import Contribution
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
    "base_rate": "base_rate_e9",
    "g": "g_e9", "error": "error_e9", "excused": "excused_e9", "S": "scale_e9", "p_f": "p_f_e9",
    "d": "d_e9", "tau": "tau_e9", "p_g": "p_g_e9", "q": "q_e9", "own": "own_e9",
    "reach": "reach_e9", "rho": "rho_e9", "r_before": "r_before_e9", "s_before": "s_before_e9",
    "r_after": "r_after_e9", "s_after": "s_after_e9", "gate": "gate_e9", "share": "share_e9",
    "lag_factor": "lag_factor_e9", "clip": "clip_e9", "step": "step_e9",
    "metropolis": "metropolis_e9", "pinned": "pinned_e9", "w": "w_e9",
}  # fmt: skip


def to_lines(homes: Gathered, found: PeerTrust) -> list[str]:
    """The trust in a peer in lines, oldest first."""
    head = (
        f"{homes.name(found.observer)} on {homes.name(found.peer)} ({found.peer}):"
        f" {plural(len(found.words), 'update')}"
    )
    lines = [head]
    left: dict[str, int] = {}
    for word in found.words:
        lines += _lines(homes, word)
        lines += _drift(word, left)
    lines += _end(found)
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


def _drift(word: Word, left: dict[str, int]) -> list[str]:
    """Why trust stood elsewhere before a word than the one before it `left` it."""
    if word.operator:
        return []
    before = left.get(word.kind, NEUTRAL_E9)
    left[word.kind] = word.new_e9
    if before == word.old_e9:
        return []
    told = word.judgement is not None and word.judgement.base_rate_e9 != NEUTRAL_E9
    why = "days passed, or what others say changed" if told else "days passed, and evidence fades"
    return [f"    it had been left at {fraction(before)}: {why}"]


def _end(found: PeerTrust) -> list[str]:
    """Where each kind of artifact stands at the end, and whose word is in force."""
    lines = [
        f"{kind}: trust now {fraction(one.trust_e9)}; contribution (no part of trust):"
        f" {given(one.contribution)}"
        for kind, one in found.kinds.items()
    ]
    return lines if found.word is None else [*lines, f"a person's word in force: {found.word}"]


def given(contribution: Contribution) -> str:
    """A contribution in words."""
    if contribution.share_e9 is None:
        return "nothing judged yet"
    share = 100 * contribution.helped / contribution.judged
    return f"{contribution.helped} of {contribution.judged} helped ({share:.0f} %)"


def _lines(homes: Gathered, word: Word) -> list[str]:
    moved = f"{word.kind} {fraction(word.old_e9)} → {fraction(word.new_e9)}"
    head = f"entry {word.index}  {when(word.time_ms)}  round {word.round}  {moved}  ({word.cause})"
    lines = [head]
    if word.operator:
        whose = "proven" if word.proof else "a person's word"
        reason = word.proof or ("" if word.decision is None else word.decision.reason)
        because = f" ({reason})" if reason else ""
        lines.append(f"    {whose}{because}: {_GATES[OPERATOR_CAUSES[word.cause]]}")
    if word.penalty is not None:
        lines.append(
            f"    {reasons.moved(word.penalty)}: evidence of harm s"
            f" {fraction(word.penalty.s_before_e9)} → {fraction(word.penalty.s_after_e9)}"
        )
    if word.judgement is not None:
        lines += _reasons(word.judgement)
        said = ", ".join(
            f"{homes.name(one.by)} (heard {fraction(one.voice_e9)}) says {fraction(one.said_e9)}"
            for one in word.opinions
        )
        if said:
            lines.append(f"    base rate {fraction(word.judgement.base_rate_e9)}: {said}")
        lines.append(f"    {reasons.weight(word.judgement.reason)}: {_granted(word)}")
    if word.missing:
        lines.append("    NOT COMPUTED AGAIN: its evidence is not here")
    lines += [f"    DOES NOT FOLLOW: {reason}" for reason in word.faults]
    return lines


def _reasons(one: EvidenceRecord) -> list[str]:
    """The evidence figures of a judgement in words."""
    gain = (
        f"    {reasons.shown(one, short(one.art))} (g {fraction(one.g_e9, 4)}"
        f" ± {fraction(one.error_e9, 4)}, usual size S {fraction(one.scale_e9, 4)}):"
        f" believed harmless p_f {fraction(one.p_f_e9)}"
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
        "kinds": {
            kind: {
                "trust_e9": one.trust_e9,
                "judged": one.contribution.judged,
                "helped": one.contribution.helped,
                "contribution_e9": one.contribution.share_e9,
            }
            for kind, one in found.kinds.items()
        },
        "operator": found.word,
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
        "said": None if word.decision is None else word.decision.reason,
        "proof": word.proof or None,
        "evidence": word.evidence.hex(),
        "reason": None if word.judgement is None else word.judgement.reason,
        "evidence_e9": _figures(word.judgement),
        "opinions": [
            {"by": one.by, "trust_e9": one.trust_e9, "says_e9": one.said_e9}
            for one in word.opinions
        ],
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
