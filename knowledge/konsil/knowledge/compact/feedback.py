"""Feedback: what one message left out is in the next one by itself (error feedback).

As in CHOCO-SGD (Koloskova, Stich and Jaggi 2019, algorithm 2): sender and receivers keep the same
public copy of what the sender has, and what travels is the encoded difference to it. Law: after
the same messages the public copy of every receiver equals the sender's bit for bit, and what it
lacks of the sender's tensors is exactly what is still owed; it is nowhere written down and never
leaves. Counters are those of the newest message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from konsil.knowledge.compact import payload, sparse
from konsil.knowledge.named import NamedTensors
from konsil.protocol.encoding import Encoding, encoding_of
from konsil.protocol.errors import LocalProtocolError, ManifestRefused, RemoteError
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from konsil.protocol.digest import Digest
    from konsil.protocol.encoding import Codec, Format


@dataclass(frozen=True)
class Message:
    """What travels, in which format, and the public copy that its readers then have."""

    word: Format
    data: bytes
    public: NamedTensors


def advance(
    target: NamedTensors,
    public: NamedTensors,
    codec: Codec,
    *,
    since: Digest,
    share: float = sparse.SHARE,
) -> Message:
    """The message by which followers of `public` (whose digest is `since`) come near `target`.

    Compressed where that is shorter. Raises `LocalProtocolError` for a change that this codec
    cannot say: not finite, or too large.
    """
    shapes = (Encoding(codec=codec, zstd=zstd).word for zstd in (False, True))
    change = target - public
    sent = {word: payload.write(change, word, since=since, share=share) for word in shapes}
    word = min(sent, key=lambda one: len(sent[one]))
    try:
        return Message(word, sent[word], follow(sent[word], word, public, since=since))
    except RemoteError as fault:
        raise LocalProtocolError(f"no reader could follow this change: {fault.message}") from None


def follow(
    data: bytes, word: str, public: NamedTensors, *, since: Digest, limits: Limits = DEFAULT_LIMITS
) -> NamedTensors:
    """The tensors that a message stands for, to who holds `public`, whose digest is `since`.

    Raises what `payload.read` raises, and `ManifestRefused` for a sum that is not finite.
    """
    said = payload.read(data, word, public, since=since, limits=limits)
    if encoding_of(word).codec == "plain":
        return said
    moved = public + said
    if not moved.finite():
        raise ManifestRefused("the change leads to values that are not finite")
    return NamedTensors(
        {name: t if t.is_floating_point() else said[name] for name, t in moved.items()}
    )
