"""Opinions: what organisations say of each other, and the base rate that follows.

Only direct opinions count, one of each organisation, and none on itself: the newest that came
with an artifact before the round's training, unless a person muted who said it. They are heard as
far as their authors are trusted by evidence alone, and can never move a base rate by more than a
quarter; evidence they never become. So any number of colluders moves trust in a peer by no more
than ``0.5 / (r + s + 2)`` from where it stands without them (trust.md, step 5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import msgspec

from konsil.protocol import artifact, envelope, knowledge_manifest
from konsil.protocol.errors import RemoteError
from konsil.trust import score
from konsil.trust.fixed import UNIT_E9
from konsil.trust.score import NEUTRAL_E9, Score

if TYPE_CHECKING:
    from collections.abc import Iterable

    from konsil.protocol.limits import Limits

Words: TypeAlias = Mapping[tuple[str, str], int]
"""Trust in 1e-9 by node and kind."""
Said: TypeAlias = Callable[[bytes], Words | None]
"""What the envelope of this digest says of peers; None where that is not here."""

T = TypeVar("T")

LARGEST_SHIFT_E9 = UNIT_E9 // 4
"""The furthest that opinions move a base rate, in 1e-9."""


class Opinion(msgspec.Struct, frozen=True, kw_only=True):
    """What the organisation `by` says of a peer; `trust_e9` is trust in `by`, by evidence alone."""

    by: str
    trust_e9: int
    said_e9: int

    @property
    def voice_e9(self) -> int:
        """How far it is heard: ``max(0, 2 T - 1)``, nothing of a newcomer."""
        return max(0, 2 * self.trust_e9 - UNIT_E9)


def base_rate(opinions: Iterable[Opinion]) -> int:
    """``0.5 + clip(sum(c (o - 0.5)) / (sum(c) + 1), -0.25, 0.25)`` in 1e-9, rounded down.

    >>> base_rate(()), base_rate([Opinion(by="k", trust_e9=UNIT_E9, said_e9=UNIT_E9)])
    (500000000, 750000000)
    """
    heard = [(one.voice_e9, one.said_e9 - NEUTRAL_E9) for one in opinions]
    voices = sum(voice for voice, _ in heard)
    shift = sum(voice * said for voice, said in heard) // (voices + UNIT_E9)
    return NEUTRAL_E9 + min(max(shift, -LARGEST_SHIFT_E9), LARGEST_SHIFT_E9)


def opinions_on(
    node: str,
    kind: str,
    speakers: Mapping[str, bytes],
    said: Said,
    score_of: Callable[[str], Score | None],
) -> tuple[Opinion, ...] | None:
    """What the others say of `node`, each by its envelope; None where that cannot be told.

    `score_of` is the evidence about a speaker before the round, None where it is not known.
    """
    found = []
    for by, env in sorted(speakers.items()):
        if by == node:
            continue
        words, standing = said(env), score_of(by)
        if words is None or standing is None:
            return None
        if (node, kind) in words:
            trust = score.trust(standing)
            found.append(Opinion(by=by, trust_e9=trust, said_e9=words[node, kind]))
    return tuple(found)


def spoken(env: bytes, blob: Callable[[bytes], bytes | None], limits: Limits) -> Words | None:
    """What the artifact in the envelope `env` says of peers; None where a blob of it is missing.

    `blob` gives the bytes of a digest. What cannot be read says nothing.
    """
    sealed = blob(env)
    if sealed is None:
        return None
    try:
        manifest = artifact.read_statement(
            envelope.unpack(sealed, limits=limits).payload, limits=limits
        )
        if manifest.knowledge is None:
            return {}
        data = blob(bytes.fromhex(manifest.knowledge))
        if data is None:
            return None
        told = knowledge_manifest.read(data, limits=limits).opinions
    except RemoteError:
        return {}
    return {(one.node, one.kind): one.trust_e9 for one in told if one.node != manifest.publisher}


@dataclass
class Hearing:
    """Who speaks to the newest round of one log; feed it with what the log says, by index.

    In whatever order it is told the same, it knows the same.
    """

    _trained_at: int = 0
    _heard: dict[str, dict[int, bytes]] = field(default_factory=dict)
    _hushed: dict[str, dict[int, bool]] = field(default_factory=dict)

    def heard(self, index: int, by: str, env: bytes) -> None:
        """Entry `index` takes in an artifact of `by`, whose envelope has the digest `env`."""
        known = {**self._heard.get(by, {}), index: env}
        self._heard[by] = _newest(known, self._trained_at)

    def told(self, index: int, by: str, *, hushed: bool) -> None:
        """Entry `index` is a person's word that silences `by`, or lets it speak again."""
        known = {**self._hushed.get(by, {}), index: hushed}
        self._hushed[by] = _newest(known, self._trained_at)

    def trained(self, index: int) -> None:
        """Entry `index` begins a round; what no later round can ask for is forgotten."""
        self._trained_at = index
        for by, heard in self._heard.items():
            if len(heard) > 1:
                self._heard[by] = _newest(heard, index)
        for by, hushed in self._hushed.items():
            if len(hushed) > 1:
                self._hushed[by] = _newest(hushed, index)

    def speakers(self) -> dict[str, bytes]:
        """The envelope by which each organisation speaks to the round."""
        said = {}
        for by, heard in self._heard.items():
            past = [at for at in heard if at < self._trained_at]
            words = self._hushed.get(by, {})
            last = max((at for at in words if at < self._trained_at), default=None)
            if past and (last is None or not words[last]):
                said[by] = heard[max(past)]
        return said


def _newest(by_index: dict[int, T], index: int) -> dict[int, T]:
    """The last one before `index`, and all after it, in order."""
    last = max((at for at in by_index if at < index), default=index)
    return {at: by_index[at] for at in sorted(by_index) if at >= last}
