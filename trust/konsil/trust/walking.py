"""Walking one ledger: its entries, positions, tree and signature, recomputed from its files.

`walk` streams every entry once, in order. It trusts no file because of another: bundles are held
against tiles, tiles against the recomputed tree, the tree against the signed checkpoint. A damaged
tail is read around the damage (`konsil.trust.salvage`), which is one finding and not many.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from konsil.protocol import checkpoint, entries, genesis, merkle, note
from konsil.protocol.errors import RemoteError
from konsil.protocol.keyring import Keyring
from konsil.protocol.node_bodies import KeyRevoke, KeyRotate, NodeGenesis
from konsil.trust.layout import (
    CHECKPOINT,
    MAX_NOTE_BYTES,
    Layout,
)
from konsil.trust.places import (
    Again,
    Item,
    runs,
)
from konsil.trust.redundancy import check_older, check_tiles
from konsil.trust.report import COPIED, TAMPERED, Findings
from konsil.trust.salts import Salts
from konsil.trust.salvage import Piece, Salvage, settled
from konsil.trust.sources import read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from konsil.protocol.limits import Limits

from konsil.trust.structure import Place, Pruned, Structure

_TYPE = re.compile(rb"\xa1t[\xa0-\xbf]([a-z.]+)\xa2ts.{1,9}\xa1v\x01\Z", re.DOTALL)
"""How an entry ends: with its type, its time and its version."""


_CHANGES = (KeyRotate, KeyRevoke)
_OF_KEYS = frozenset({"node.genesis", "key.rotate", "key.revoke"})
"""What the structure itself reads of an entry's body."""


def walk(
    layout: Layout,
    findings: Findings,
    limits: Limits,
    take: Callable[[Place, entries.Entry], None],
    missed: Callable[[], None] = lambda: None,
    gone: Callable[[Pruned], None] = lambda _: None,
    ahead: Callable[[Sequence[entries.Entry]], None] = lambda _: None,
) -> Structure:
    """Recomputes the structure; `take(place, entry)` gets every readable entry in order.

    `missed` is called where an entry is missing or was changed, `gone` where a body is pruned,
    and `ahead` may get neighbours before `take` gets one after the other of them.
    """
    found = Structure(layout)
    signed = _read_checkpoint(layout, findings)
    salts = Salts()
    for run in runs(layout, findings, lambda read: _settle(found, read, signed)):
        if layout.tails[:-1] and run.first >= layout.tails[0]:
            found.keep()  # an older tail is held against them
        found.extend(run.leaves)
        quickly = entries.quick_all([entry or b"" for entry in run.entries], limits=limits)
        read = [one for one in quickly if one is not None and one.t not in _OF_KEYS]
        indices = [*range(run.first, run.first + len(run.entries))]
        if [one.n for one in read] == indices:
            # As nearly always: nothing is odd about any of them.
            salts.extend([one.s for one in read], run.first)
            found.types.update([one.t for one in read])
            ahead(read)
            for entry, offset, index, leaf in zip(
                read, run.offsets, indices, run.leaves, strict=True
            ):
                take(Place(run.file, offset, index, leaf), entry)
            continue
        for item in run.items():
            if not item.entry:
                _gone(found, item, missed, gone)
                continue
            frame = _frame(item, findings, limits)
            if frame is not None:
                salts.extend([frame.s], item.index)
                _typed(found, item, frame, findings, limits, take)
    again = Again(layout)
    for index in salts.repeated():
        # Where it lay; of a tail that a running node has just moved only the index is sure.
        one = again.get(index)
        file = layout.folder if one is None else one.file
        at = None if one is None else one.offset
        findings.add("entry.salt", file, "a salt used before", offset=at, index=index)
    # Without its first entry a log has no genesis entry; what took it away is a finding already.
    known = 0 in found.lost[:1] and any(one.exit_code == TAMPERED for one in findings.found)
    if found.author is None and not known:
        findings.add("entry.genesis", layout.folder, "the log has no valid genesis entry", index=0)
    check_tiles(found, findings)
    for start in layout.tails[:-1]:
        check_older(found, start, findings)
    _check_head(found, signed, findings, limits)
    return found


def _gone(
    found: Structure, item: Item, missed: Callable[[], None], gone: Callable[[Pruned], None]
) -> None:
    """An entry whose bytes are not here: lost, or pruned."""
    if item.entry is None:
        missed()
        found.lost.append(item.index)
        if found.lost_keys is None and _may_change_keys(item.changed):
            found.lost_keys = item.index
    else:
        place = Place(item.file, item.offset, item.index, item.leaf)
        found.pruned.append(Pruned(place, item.leaf))
        gone(found.pruned[-1])


def _may_change_keys(left: bytes) -> bool:
    """Whether a lost entry, of which this is `left`, may have been a change of keys.

    Surely it was none only where another type that we know stands at the end of it.
    """
    match = _TYPE.search(left)
    word = match[1].decode() if match else ""
    return word not in entries.TYPES or entries.TYPES[word] in (KeyRotate, KeyRevoke)


def _frame(item: Item, findings: Findings, limits: Limits) -> entries.Frame | entries.Entry | None:
    data = item.entry or b""
    try:
        frame = entries.quick(data, limits=limits) or entries.peek(data, limits=limits)
    except RemoteError as error:
        findings.add(
            "entry.encoding", item.file, error.message, offset=item.offset, index=item.index
        )
        return None
    if frame.n != item.index:
        message = f"entry {frame.n} stands at position {item.index}"
        findings.add("entry.position", item.file, message, offset=item.offset, index=item.index)
    return frame


def _typed(
    found: Structure,
    item: Item,
    frame: entries.Frame | entries.Entry,
    findings: Findings,
    limits: Limits,
    take: Callable[[Place, entries.Entry], None],
) -> None:
    """Opens the body, founds the author at entry 0, and hands the entry on."""
    found.types[frame.t] += 1
    if frame.t not in entries.TYPES:
        found.opaque += 1
        return
    data = item.entry or b""
    try:
        entry = frame if isinstance(frame, entries.Entry) else entries.open_frame(frame)
        if item.index == 0:
            found.author = genesis.read(data, limits=limits)
            found.keys = Keyring.of(found.author)
    except RemoteError as error:
        code = "entry.genesis" if item.index == 0 else "entry.encoding"
        findings.add(code, item.file, error.message, offset=item.offset, index=item.index)
        return
    if item.index and isinstance(entry.b, NodeGenesis):
        message = "a second genesis entry"
        findings.add("entry.genesis", item.file, message, offset=item.offset, index=item.index)
        return
    if found.keys is not None and isinstance(entry.b, _CHANGES):
        try:
            found.keys = found.keys.after(item.index, entry.b)
        except RemoteError as error:
            findings.add(
                "key.change", item.file, error.message, offset=item.offset, index=item.index
            )
    take(Place(item.file, item.offset, item.index, item.leaf), entry)


def _settle(found: Structure, read: Salvage, signed: bytes | None) -> Sequence[Piece]:
    """The frames of a damaged tail behind what was `found`, by the root in its checkpoint.

    The checkpoint only says which of two hashes is the right one here; whether its signature
    holds, and its root, is looked at when all is read.
    """
    start, pieces = found.size, read.pieces
    size = start
    with suppress(RemoteError):
        head = checkpoint.from_text(note.parse(signed or b"")[0])
        if start < head.size <= start + len(pieces):
            within = head.size - start
            good = settled(
                pieces[:within], lambda leaves: merkle.grown_root(found, start, leaves), head.root
            )
            if good is not None:
                size, pieces = head.size, (*good, *pieces[within:])
    doubtful = (index for index, one in enumerate(pieces, start) if one.leaf is None or one.found)
    found.unsure = next((index for index in doubtful if index >= size), None)
    found.keep()
    return pieces


def _read_checkpoint(layout: Layout, findings: Findings) -> bytes | None:
    path = layout.path(CHECKPOINT)
    if not layout.checkpoint:
        findings.add("layout.missing", path, "there is no checkpoint")
        return None
    return read_file(path, MAX_NOTE_BYTES)


def _check_head(found: Structure, signed: bytes | None, findings: Findings, limits: Limits) -> None:
    path = found.layout.path(CHECKPOINT)
    if signed is None or found.keys is None:
        return
    try:
        size = checkpoint.from_text(note.parse(signed, limits=limits)[0]).size
        # A change of keys behind it is not signed for yet: a stop came between the two.
        keys = found.keys.before(size)
        head = keys.open_checkpoint(signed, only_known=True, limits=limits)
    except RemoteError as error:
        if found.lost_keys is None or not names_unknown_key(signed, found.keys):
            findings.add("checkpoint.corrupt", path, error.message)
        return
    found.head = head
    if head.size > found.size:
        message = f"signed for {head.size} entries, but only {found.size} are here{COPIED}"
        findings.add("checkpoint.rollback", path, message, index=found.size)
    elif found.contradicts(head):
        message = f"the first {head.size} entries are not those that were signed for"
        findings.add("checkpoint.root", path, message)


def names_unknown_key(signed: bytes, keys: Keyring) -> bool:
    """Whether a key signed as the author of the log that no entry which is here makes known."""
    origin = keys.author.origin
    logs = [period.key for period in keys.periods if period.role == "log"]
    known = {note.NoteKey(origin, key).key_id for key in logs}
    with suppress(RemoteError):
        _, lines = note.parse(signed)
        return any(one.name == origin and one.key_id not in known for one in lines)
    return False
