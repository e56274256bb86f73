"""Trust in one peer: every word that a log says of it, and whether it follows from the evidence.

Each `trust.update` is computed again from its evidence record and held against what the log
said before (`konsil.trust.judgement`); what does not follow is marked with the reason, and so is
evidence whose bytes are not those of its name. The weight is the one that the mix of the same
round really gave. Kinds of artifacts are trusted apart: each has its own words and its own end.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import msgspec

from konsil.protocol import fork, records
from konsil.protocol.errors import IncompleteError, LimitExceeded, RemoteError
from konsil.protocol.learning_bodies import (
    ArtifactIntegrate,
    ArtifactPublish,
    ArtifactReceive,
    ArtifactReject,
    ModelBase,
    ModelTrain,
    TrustUpdate,
)
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.trust.ageing import day_of
from konsil.trust.contribution import Contribution, contribution
from konsil.trust.evidence import EvidenceRecord
from konsil.trust.gate import OPERATOR_CAUSES, PENALTY_CAUSE, Decision, Penalty, quarantines
from konsil.trust.judgement import Judgements
from konsil.trust.opinions import Opinion, spoken
from konsil.trust.report import Findings
from konsil.trust.structure import Place

if TYPE_CHECKING:
    from konsil.protocol.entries import Entry
    from konsil.trust.opinions import Said
    from konsil.trust.questions.gathering import Gathered, GivenHome

Record = TypeVar("Record", EvidenceRecord, Penalty, Decision)


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """One trust update about the peer."""

    index: int
    time_ms: int
    round: int
    """The own round of the judging hospital; 0 before the first."""
    kind: str
    cause: str
    old_e9: int
    new_e9: int
    art: bytes | None
    judgement: EvidenceRecord | None
    penalty: Penalty | None
    decision: Decision | None
    """What a person said, where it was one."""
    proof: str
    """What proves a lie that only a person can forgive, in words; empty where nothing does."""
    evidence: bytes
    """The digest of the record that explains it."""
    mix: int | None
    """The entry of the mix that the judged artifact is part of."""
    w_e9: int | None
    """The weight in that mix; 0 where the round was mixed without it, None without a mix."""
    faults: tuple[str, ...]
    """Why it does not follow; empty when it does."""
    missing: bool
    """Its evidence is not here, so nothing could be computed again."""
    opinions: tuple[Opinion, ...] = ()
    """What others said of the peer, where the base rate of the judgement is not neutral."""

    @property
    def operator(self) -> bool:
        """Whether it is a person's word."""
        return self.cause in OPERATOR_CAUSES


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """Trust in a peer's artifacts of one kind after the last word, and what they gave."""

    trust_e9: int
    contribution: Contribution


class PeerTrust(msgspec.Struct, frozen=True, kw_only=True):
    """What the log of `observer` says of `peer`, in order."""

    observer: str
    peer: str
    words: tuple[Word, ...]
    general: tuple[str, ...] = ()
    """What is wrong with rounds in which the peer was judged, beyond one word."""

    @property
    def faults(self) -> int:
        """Words that do not follow, and rounds that do not."""
        return len(self.general) + sum(bool(word.faults) for word in self.words)

    @property
    def missing(self) -> int:
        """Words whose evidence is not here."""
        return sum(word.missing for word in self.words)

    @property
    def kinds(self) -> dict[str, Kind]:
        """Where each kind of artifact stands at the end; a person's word is about all of them."""
        found = {}
        for kind in dict.fromkeys(word.kind for word in self.words if not word.operator):
            words = [word for word in self.words if word.kind == kind and not word.operator]
            judgements = (word.judgement for word in words if word.judgement is not None)
            given = contribution(judgements)
            found[kind] = Kind(trust_e9=words[-1].new_e9, contribution=given)
        return found

    @property
    def word(self) -> str | None:
        """The operator's word in force; None where the evidence decides."""
        told = [word.cause for word in self.words if word.operator]
        return OPERATOR_CAUSES[told[-1]] if told else None


def peer_trust(
    homes: Gathered, home: GivenHome, word: str, *, limits: Limits = DEFAULT_LIMITS
) -> PeerTrust:
    """What the log of `home` says of the member `word` (a name, or the beginning of an id).

    Raises `UsageError` when several are meant, `IncompleteError` when nobody is, or the log
    says nothing of the one who is.
    """
    peer = homes.member(word)
    found = trusts(home, limits=limits).get(peer)
    if found is None:
        raise IncompleteError(
            f"{home.path}: no entry judges {homes.name(peer)}",
            hint="trust is judged by who receives: name the home of a neighbour of that peer",
        )
    return found


def trusts(home: GivenHome, *, limits: Limits = DEFAULT_LIMITS) -> dict[str, PeerTrust]:
    """What the log of `home` says of every peer that it judges, by node id."""
    updates = [entry for entry in home.told.entries if isinstance(entry.b, TrustUpdate)]
    data = {entry.n: _evidence(home, entry, limits) for entry in updates}
    wrong, said = _recomputed(home, data, limits)
    rounds, mixes = _rounds(home)
    peers = {entry.b.node for entry in updates if isinstance(entry.b, TrustUpdate)}
    found: dict[str, list[Word]] = {}
    for entry in updates:
        body = entry.b
        assert isinstance(body, TrustUpdate)
        own = rounds[entry.n]
        mix = mixes.get(own) if body.art is not None else None
        others = peers - {body.node}
        faults = tuple(
            reason
            for reason in wrong.get(entry.n, ())
            if body.node in reason or not any(other in reason for other in others)
        )
        word = _word(entry, body, data[entry.n], own, mix, faults)
        if home.blobs.altered(body.evidence):
            reason = f"the bytes of its evidence {body.evidence.hex()} were changed"
            word = msgspec.structs.replace(word, faults=(reason, *faults), missing=False)
        if entry.n in said:
            word = msgspec.structs.replace(word, opinions=said[entry.n])
        found.setdefault(body.node, []).append(word)
    return {
        peer: PeerTrust(
            observer=home.node,
            peer=peer,
            words=tuple(words),
            general=_elsewhere(wrong, peer, {word.index for word in words}),
        )
        for peer, words in found.items()
    }


def _elsewhere(wrong: dict[int, list[str]], peer: str, own: set[int]) -> tuple[str, ...]:
    """What is wrong about `peer` at entries that are not `own` updates of trust in it."""
    return tuple(
        f"entry {index}: {reason}"
        for index, reasons in sorted(wrong.items())
        if index not in own
        for reason in reasons
        if peer in reason
    )


def _word(
    entry: Entry,
    body: TrustUpdate,
    data: bytes | None,
    own: int,
    mix: Entry | None,
    faults: tuple[str, ...],
) -> Word:
    granted = None
    if mix is not None:
        assert isinstance(mix.b, ArtifactIntegrate)
        weights = [p.w_e9 for p in mix.b.parts if (p.art, p.node) == (body.art, body.node)]
        granted = weights[0] if weights else 0
    judged = data is not None and body.cause != PENALTY_CAUSE and body.art is not None
    return Word(
        index=entry.n,
        time_ms=entry.ts,
        round=own,
        kind=body.kind,
        cause=body.cause,
        old_e9=body.old_e9,
        new_e9=body.new_e9,
        art=body.art,
        judgement=_read(data, EvidenceRecord) if judged else None,
        penalty=_read(data, Penalty) if body.cause == PENALTY_CAUSE else None,
        decision=_read(data, Decision) if body.cause in OPERATOR_CAUSES else None,
        proof=_proof(data) if body.cause in OPERATOR_CAUSES else "",
        evidence=body.evidence,
        mix=None if mix is None else mix.n,
        w_e9=granted,
        faults=faults,
        missing=data is None and body.cause not in OPERATOR_CAUSES,
    )


def _proof(data: bytes | None) -> str:
    """What made the node itself quarantine a peer, if the evidence of the word says that."""
    penalty = _read(data, Penalty)
    if penalty is not None and quarantines(penalty.reasons):
        return "two signed artifacts under one number"
    forked = data is not None and data.startswith(fork.HEADER.encode())
    return "it signed two histories of its log" if forked else ""


def _read(data: bytes | None, kind: type[Record]) -> Record | None:
    """The record in `data`; None when it is not one of this kind."""
    try:
        return None if data is None else records.unpack(data, kind)
    except RemoteError:
        return None


def _evidence(home: GivenHome, entry: Entry, limits: Limits) -> bytes | None:
    assert isinstance(entry.b, TrustUpdate)
    try:
        return home.blobs.get(entry.b.evidence, limits.entry_bytes)
    except LimitExceeded:
        return None


def _rounds(home: GivenHome) -> tuple[dict[int, int], dict[int, Entry]]:
    """The own round in which each entry was made, and the mix of each round."""
    own, rounds, mixes = 0, {}, {}
    for entry in home.told.entries:
        if isinstance(entry.b, ModelTrain):
            own = entry.b.round
        rounds[entry.n] = own
        if isinstance(entry.b, ArtifactIntegrate):
            mixes[entry.b.round] = entry
    return rounds, mixes


def _recomputed(
    home: GivenHome, data: dict[int, bytes | None], limits: Limits
) -> tuple[dict[int, list[str]], dict[int, tuple[Opinion, ...]]]:
    """What does not follow, by the entry at which it shows, and what others said of the peer."""
    findings = Findings(home.path.name)
    judgements = Judgements(findings, _said(home, limits))
    chain, said = judgements.chain, {}
    begun_ms = home.told.entries[0].ts if home.told.entries else 0
    hidden = sorted(at for at, kind in home.told.redacted.items() if kind == "trust.update")
    for entry in home.told.entries:
        while hidden and hidden[0] < entry.n:
            judgements.hidden()
            del hidden[0]
        body, place = entry.b, Place(home.path, 0, entry.n, b"")  # no judgement asks for the leaf
        if isinstance(body, ModelBase):
            chain.had(body.model, home.node)
        elif isinstance(body, ModelTrain):
            judgements.trained(entry.n, body, day_of(begun_ms, entry.ts))
        elif isinstance(body, ArtifactPublish):
            chain.had(body.art, home.node)
        elif isinstance(body, ArtifactReceive):
            chain.had(body.art, body.publisher)
            chain.hearing.heard(entry.n, body.publisher, body.env)
        elif isinstance(body, ArtifactReject):
            chain.refused(body)
        elif isinstance(body, ArtifactIntegrate):
            judgements.mixed(place, body, home.node)
        elif isinstance(body, TrustUpdate):
            judgements.take(place, body, data[entry.n])
            if body.art is not None and chain.opinions:
                said[entry.n] = chain.opinions
    judgements.finish()
    wrong: dict[int, list[str]] = {}
    for one in findings.found:
        wrong.setdefault(one.index or 0, []).append(one.message)
    return wrong, said


def _said(home: GivenHome, limits: Limits) -> Said:
    """What envelopes of this home say of peers."""

    def blob(digest: bytes) -> bytes | None:
        with suppress(LimitExceeded):
            return home.blobs.get(digest, max(limits.entry_bytes, limits.knowledge_bytes))
        return None

    return lambda env: spoken(env, blob, limits)
