"""Travelling: in how many bytes the next artifact travels, and what it is a change of.

The codec is the configured one, or the next plainer one that all linked members read; who is not
linked asks later, and refuses what it cannot read. What is encoded is the difference to our last
publication of this kind, so what that one left out comes with the next (error feedback). Where
that is not here any more, or stands behind `LINKS` changes, the chain begins anew, at what every
member begins with: so nobody needs more than `LINKS` others to understand the newest. A new
beginning has to say at once all that was learned, so top-k gives way to 8 bits there; but for the
first publication of all, which is one round old.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.node.learning.worker_messages import Encode, Encoded
from konsil.protocol.encoding import PLAIN, Encoding, Format

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from konsil.node.learning.shelf import Held, Shelf
    from konsil.node.learning.trainer import Trainer
    from konsil.node.log import Log
    from konsil.node.store.blobs import BlobStore
    from konsil.protocol.artifact import Kind
    from konsil.protocol.encoding import Codec

LINKS = 64
"""Changes in a chain behind its beginning: a newcomer fetches as many artifacts for the newest."""
_PLAINER: tuple[Codec, ...] = ("topk", "int8", "fp16")


class Travelled(msgspec.Struct, frozen=True, kw_only=True):
    """How one release travels."""

    art: bytes
    """What travels, a blob."""
    format: Format = PLAIN
    decoded: str | None = None
    reference: str | None = None


class Travelling:
    """Chooses how our releases travel, and has them encoded."""

    def __init__(
        self,
        codec: Codec,
        me: str,
        trainer: Trainer,
        shelf: Shelf,
        blobs: BlobStore,
        reads: Callable[[], Mapping[str, Collection[str]]],
        log: Log,
    ) -> None:
        """`reads` tells the formats that each linked member reads, by its name."""
        self._codec = codec
        self._me = me
        self._trainer = trainer
        self._shelf = shelf
        self._blobs = blobs
        self._reads = reads
        self._log = log

    async def prepare(self, release: bytes, kind: Kind, sequence: int) -> Travelled:
        """How the payload `release` travels, behind `sequence` publications of ours.

        Raises as `Trainer.ask` does.
        """
        reference = self._reference(kind)
        codec = self._agreed(from_anew=reference is None and sequence > 0)
        if codec == "plain":
            return Travelled(art=release)
        tensors = None if reference is None else bytes.fromhex(reference.artifact.payload.tensors)
        question = Encode(release=release, reference=tensors, codec=codec)
        made = await self._trainer.ask(question, Encoded)
        if made.format == PLAIN:
            self._log.warning("artifact.plain", codec=codec, reason="this codec cannot say it")
            return Travelled(art=release)
        self._log.info("artifact.encoded", format=made.format, anew=reference is None)
        return Travelled(
            art=made.payload,
            format=made.format,
            decoded=made.tensors.hex(),
            reference=None if reference is None else reference.head.env.hex(),
        )

    def _agreed(self, *, from_anew: bool) -> Codec:
        """The configured codec, or the next plainer one that everybody linked reads."""
        if self._codec == "plain":
            return "plain"
        wanted = _PLAINER[_PLAINER.index(self._codec) :]
        if from_anew and self._codec == "topk":
            wanted = _PLAINER[1:]
        reads = self._reads()
        for codec in wanted:
            words = {Encoding(codec=codec, zstd=zstd).word for zstd in (False, True)}
            unable = sorted(name for name, known in reads.items() if not words <= {*known})
            if not unable:
                return codec
            self._log.warning("codec.plainer", instead_of=codec, cannot_read=unable)
        return "plain"

    def _reference(self, kind: Kind) -> Held | None:
        """Our last publication, if all that it builds on is here and not too much."""
        newest = link = self._shelf.newest(self._me, kind)
        for _ in range(LINKS):
            if link is None or not self._blobs.has(bytes.fromhex(link.artifact.payload.tensors)):
                return None
            before = link.artifact.payload.reference
            if before is None:
                return newest
            link = self._shelf.get(bytes.fromhex(before))
        return None
