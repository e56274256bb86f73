"""Mirror: what members tell each other of one another's logs, one question and one answer.

    Ask     what do you hold of this log, from entry `first` on?     → Page
    Prove   does `size` entries of this log continue `old` of them?  → Proven
    Seen    the newest checkpoint that I know of each member         → Seen

A page carries mirror frames (u16 length ‖ entry ‖ leaf hash; length 0 for a body that the
asker may not see), so hashes travel whole and bodies by permission. Nothing in an answer is
to be believed before its leaves lead to a root that the log's own key signed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias, cast

import msgspec

from konsil.protocol import entries, records
from konsil.protocol.errors import EncodingRefused, ManifestRefused
from konsil.protocol.fields import Count
from konsil.protocol.limits import DEFAULT_LIMITS, KIB, Limits
from konsil.protocol.merkle import HASH_BYTES, leaf_hash
from konsil.protocol.records import DigestField, NodeField
from konsil.protocol.tiles import PREFIX_BYTES, frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAGE_BYTES = 192 * KIB
"""Frames in one page; always room for one."""
MAX_NOTES = 256
NOTES_BYTES = 192 * KIB
"""Notes in one `Seen`, which leaves room for what packs them."""


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="t"):
    """A message whose map carries its type under `t`."""


class Ask(_Record, frozen=True, kw_only=True, tag="ask"):
    """What do you hold of the log of `node`, from entry `first` on?"""

    node: NodeField
    first: Count


class Page(_Record, frozen=True, kw_only=True, tag="page"):
    """`note` is the newest checkpoint known of the log, `held` the one that covers exactly the
    `size` entries held (both empty: none), `frames` those from `first` on, as many as fit."""

    note: bytes
    held: bytes
    size: Count
    first: Count
    frames: bytes


class Prove(_Record, frozen=True, kw_only=True, tag="prove"):
    """Do the first `size` entries of the log of `node` continue the first `old` of them?"""

    node: NodeField
    old: Count
    size: Count


class Proven(_Record, frozen=True, kw_only=True, tag="proven"):
    """The root over the first `old` entries as held here, and the proof from there; `root` is
    None when so much is not held."""

    root: DigestField | None
    hashes: Annotated[tuple[DigestField, ...], msgspec.Meta(max_length=64)]


class Seen(_Record, frozen=True, kw_only=True, tag="seen"):
    """The newest checkpoint that the sender knows of each member's log."""

    notes: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=MAX_NOTES)]


Question: TypeAlias = Ask | Prove | Seen
Answer: TypeAlias = Page | Proven | Seen

_QUESTION = cast("type[Question]", Ask | Prove | Seen)
_ANSWER = cast("type[Answer]", Page | Proven | Seen)


class Leaf(msgspec.Struct, frozen=True):
    """One entry of somebody's log: its bytes, None when withheld, and its leaf hash."""

    entry: bytes | None
    leaf: bytes


def page(leaves: Iterable[Leaf]) -> bytes:
    """As many mirror frames as fit in one page."""
    found: list[bytes] = []
    size = 0
    for item in leaves:
        data = frame(item.entry or b"", item.leaf)
        if found and size + len(data) > PAGE_BYTES:
            break
        found.append(data)
        size += len(data)
    return b"".join(found)


def read_page(
    frames: bytes, first: int, *, limits: Limits = DEFAULT_LIMITS
) -> Iterator[tuple[int, Leaf]]:
    """The frames of a page as (offset behind it, leaf), each held against its own hash.

    An entry that is there must hash to its leaf and say its own position. Raises
    `EncodingRefused`, `LimitExceeded` or `ManifestRefused`.
    """
    offset, index = 0, first
    while offset < len(frames):
        start = offset + PREFIX_BYTES
        end = start + int.from_bytes(frames[offset:start], "big")
        if end + HASH_BYTES > len(frames):
            raise EncodingRefused(f"mirror: cut short at offset {offset}")
        entry, leaf = frames[start:end], frames[end : end + HASH_BYTES]
        if entry:
            if leaf_hash(entry) != leaf:
                raise ManifestRefused(f"mirror: entry {index} does not match its hash")
            stated = entries.peek(entry, limits=limits).n
            if stated != index:
                raise ManifestRefused(f"mirror: entry {stated} stands at position {index}")
        offset, index = end + HASH_BYTES, index + 1
        yield offset, Leaf(entry or None, leaf)


def pack(message: Question | Answer) -> bytes:
    """The canonical bytes of a message."""
    return records.pack(message)


def read_question(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Question:
    """The question in `data`. Raises `EncodingRefused` or `LimitExceeded`."""
    return records.unpack(data, _QUESTION, limits=limits, max_bytes=limits.message_bytes)


def read_answer(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Answer:
    """The answer in `data`. Raises `EncodingRefused` or `LimitExceeded`."""
    return records.unpack(data, _ANSWER, limits=limits, max_bytes=limits.message_bytes)
