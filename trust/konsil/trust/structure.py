"""The structure of one ledger, recomputed from its files: entries, positions, tree, signature.

`walk` streams every entry once, in order, and keeps one hash for 256 entries, so memory does
not grow with the bytes. It trusts no file because of another: bundles are held against
tiles, tiles against the recomputed tree, the tree against the signed checkpoint.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import entries, genesis, merkle, tiles
from konsil.protocol.errors import ManifestRefused, RemoteError
from konsil.protocol.keyring import Keyring
from konsil.protocol.node_bodies import KeyRevoke, KeyRotate, NodeGenesis
from konsil.trust.layout import (
    CHECKPOINT,
    MAX_BUNDLE_BYTES,
    MAX_NOTE_BYTES,
    MAX_TAIL_BYTES,
    Layout,
)
from konsil.trust.report import COPIED, Findings
from konsil.trust.salts import Salts
from konsil.trust.sources import read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from konsil.protocol.checkpoint import Checkpoint
    from konsil.protocol.genesis import Author
    from konsil.protocol.limits import Limits


class Item(msgspec.Struct, frozen=True):
    """One entry where it lies: its bytes (empty when pruned, None when lost), leaf hash, place."""

    index: int
    entry: bytes | None
    leaf: bytes
    file: Path
    offset: int


class Place(msgspec.Struct, frozen=True):
    """Where an entry stands."""

    file: Path
    offset: int
    index: int


class Pruned(msgspec.Struct, frozen=True):
    """A body that is not here any more: the leaf hash that stands for it, and the time of the
    nearest entry before it that can be read."""

    place: Place
    leaf: bytes
    since_ms: int


class Structure:
    """What `walk` leaves: the tree, the author, and the counts."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.author: Author | None = None
        self.keys: Keyring | None = None
        self.head: Checkpoint | None = None
        self.types: Counter[str] = Counter()
        self.opaque = 0
        self.pruned: list[Pruned] = []
        self.size = 0
        self._groups = merkle.Tree()
        self._partial: list[bytes] = []

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree."""
        if level >= tiles.HEIGHT:
            return self._groups.node(level - tiles.HEIGHT, index)
        begin = index << level
        hashes = self.leaves(begin // tiles.WIDTH)
        at = begin % tiles.WIDTH
        return merkle.root_of(hashes[at : at + (1 << level)])

    def leaves(self, group: int) -> list[bytes]:
        """The leaf hashes of one group of 256, read again for all but the last group.

        Raises `ManifestRefused` when the group cannot be read any more.
        """
        if group == self._groups.size:
            return self._partial
        for read in (_leaves_in_bundle, _leaves_in_tile, _leaves_in_tail):
            with suppress(RemoteError, FileNotFoundError):
                hashes = read(self.layout, group)
                if merkle.root_of(hashes) == self._groups.node(0, group):
                    return hashes
        raise ManifestRefused(f"entries {group * tiles.WIDTH}… cannot be read again")

    def root(self, size: int | None = None) -> bytes:
        """The recomputed root over the first `size` entries (all by default)."""
        return merkle.range_root(self, 0, self.size if size is None else size)

    def agrees(self, head: Checkpoint) -> bool:
        """Whether the first `head.size` entries, which must be here, have the head's root."""
        try:
            return self.root(head.size) == head.root
        except ManifestRefused:
            return False

    def tile_root(self, level: int, number: int) -> bytes:
        """The hash over everything below hash tile `number` of tile level `level`."""
        return self._groups.node(level * tiles.HEIGHT, number)

    def push(self, leaf: bytes) -> None:
        """Adds the next leaf."""
        self._partial.append(leaf)
        self.size += 1
        if len(self._partial) == tiles.WIDTH:
            self._groups.append(merkle.root_of(self._partial))
            self._partial = []


def walk(
    layout: Layout,
    findings: Findings,
    limits: Limits,
    take: Callable[[Place, entries.Entry], None],
) -> Structure:
    """Recomputes the structure; `take(place, entry)` gets every readable entry in order."""
    found = Structure(layout)
    note = _read_checkpoint(layout, findings)
    salts = Salts()
    now_ms = 0
    for item in _items(layout, findings):
        found.push(item.leaf)
        if not item.entry:
            if item.entry is not None:
                place = Place(item.file, item.offset, item.index)
                found.pruned.append(Pruned(place, item.leaf, now_ms))
            continue
        frame = _frame(item, findings, limits)
        if frame is None:
            continue
        now_ms = frame.ts
        salts.add(frame.s, item.index)
        _typed(found, item, frame, findings, limits, take)
    for index in salts.repeated():
        _repeated(layout, index, findings)
    if found.author is None:
        findings.add("entry.genesis", layout.folder, "the log has no valid genesis entry", index=0)
    _check_tiles(found, findings)
    for start in layout.tails[:-1]:
        _check_older(found, start, findings)
    _check_head(found, note, findings, limits)
    return found


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


def _repeated(layout: Layout, index: int, findings: Findings) -> None:
    """Entry `index`, read once more for its place, has the salt of another one."""
    start, again = layout.tails[-1] if layout.tails else index + 1, Findings("")
    group = _bundle(layout, index // tiles.WIDTH, again)
    items = group if index < start else _tail(layout, start, again)
    item = next(one for one in items if one.index == index)
    findings.add("entry.salt", item.file, "a salt used before", offset=item.offset, index=index)


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
    if found.keys is not None and isinstance(entry.b, KeyRotate | KeyRevoke):
        try:
            found.keys = found.keys.after(item.index, entry.b)
        except RemoteError as error:
            findings.add(
                "key.change", item.file, error.message, offset=item.offset, index=item.index
            )
    take(Place(item.file, item.offset, item.index), entry)


def _items(layout: Layout, findings: Findings) -> Iterator[Item]:
    if not layout.tails:
        findings.add("layout.missing", layout.folder / "tail.0", "there is no tail")
    start = layout.tails[-1] if layout.tails else (max(layout.bundles, default=-1) + 1) * 256
    for group in range(start // tiles.WIDTH):
        yield from _bundle(layout, group, findings)
    if layout.tails:
        yield from _tail(layout, start, findings)
    for number in (number for number in layout.bundles if number * tiles.WIDTH >= start):
        _check_ahead(layout, number, findings)


def _bundle(layout: Layout, group: int, findings: Findings) -> Iterator[Item]:
    """The 256 entries of one bundle; bare leaf hashes from its tile when the bundle is lost."""
    path = layout.path(tiles.bundle_path(group))
    tile = layout.path(tiles.tile_path(0, group))
    first = group * tiles.WIDTH
    hashes = _read_tile(layout, 0, group, findings)
    try:
        if group not in layout.bundles:
            raise FileNotFoundError
        found = _read_bundle(layout, group)
    except (FileNotFoundError, RemoteError) as error:
        missing = isinstance(error, FileNotFoundError)
        message = "256 entries are missing" if missing else str(error)
        findings.add("bundle.missing" if missing else "bundle.corrupt", path, message, index=first)
        for place, leaf in enumerate(hashes or [bytes(merkle.HASH_BYTES)] * tiles.WIDTH):
            yield Item(first + place, None, leaf, tile, place * merkle.HASH_BYTES)
        return
    leaves = _leaves_of(found, hashes)
    if hashes is not None and hashes != leaves:
        place = next(at for at in range(tiles.WIDTH) if hashes[at] != leaves[at])
        message = f"does not match entry {first + place}"
        at = place * merkle.HASH_BYTES
        findings.add("tile.mismatch", tile, message, offset=at, index=first + place, evidence=path)
    for place, (offset, entry) in enumerate(found):
        yield Item(first + place, entry, leaves[place], path, offset)


def _tail(layout: Layout, start: int, findings: Findings) -> Iterator[Item]:
    path = layout.path(f"tail.{start}")
    try:
        tail = _read_tail(layout, start)
    except RemoteError as error:
        findings.add("tail.corrupt", path, error.message, index=start)
        return
    for place, item in enumerate(tail.frames):
        yield Item(start + place, item.entry, item.leaf, path, item.offset + tiles.PREFIX_BYTES)
    if tail.torn:
        message = "the last frame is torn; the next start of the node cuts it off"
        findings.add("tail.torn", path, message, offset=tail.end, index=start + len(tail.frames))


def _check_ahead(layout: Layout, number: int, findings: Findings) -> None:
    """A bundle that a crash, or a running node, wrote before it shortened the tail."""
    path = layout.path(tiles.bundle_path(number))
    try:
        frames = _read_tail(layout, layout.tails[-1]).frames
    except RemoteError:
        return  # the tail itself is a finding
    at = number * tiles.WIDTH - layout.tails[-1]
    expected = [item.entry for item in frames[at : at + tiles.WIDTH]]
    try:
        held = [entry for _, entry in _read_bundle(layout, number)]
    except RemoteError as error:
        findings.add("bundle.corrupt", path, error.message, index=number * tiles.WIDTH)
        return
    if held != expected:
        message = "does not match the entries in the tail"
        findings.add("bundle.corrupt", path, message, index=number * tiles.WIDTH)


def _read_tile(layout: Layout, level: int, number: int, findings: Findings) -> list[bytes] | None:
    path = layout.path(tiles.tile_path(level, number))
    if (level, number) not in layout.tiles:
        findings.add("tile.missing", path, "256 hashes are missing")
        return None
    try:
        return tiles.read_tile(read_file(path, tiles.TILE_BYTES))
    except RemoteError as error:
        findings.add("tile.mismatch", path, error.message)
        return None


def _read_bundle(layout: Layout, group: int) -> list[tuple[int, bytes]]:
    path = layout.path(tiles.bundle_path(group))
    return tiles.read_bundle(read_file(path, MAX_BUNDLE_BYTES))


def _read_tail(layout: Layout, start: int) -> tiles.Tail:
    return tiles.read_tail(read_file(layout.path(f"tail.{start}"), MAX_TAIL_BYTES))


def _leaves_of(found: list[tuple[int, bytes]], hashes: list[bytes] | None) -> list[bytes]:
    """The leaf hashes of a bundle; for a pruned body the tile's word is all there is."""
    leaves = [merkle.leaf_hash(entry) for _, entry in found]
    for place, (_, entry) in enumerate(found):
        if not entry:
            leaves[place] = bytes(merkle.HASH_BYTES) if hashes is None else hashes[place]
    return leaves


def _leaves_in_bundle(layout: Layout, group: int) -> list[bytes]:
    return [merkle.leaf_hash(entry) for _, entry in _read_bundle(layout, group)]


def _leaves_in_tile(layout: Layout, group: int) -> list[bytes]:
    return tiles.read_tile(read_file(layout.path(tiles.tile_path(0, group)), tiles.TILE_BYTES))


def _leaves_in_tail(layout: Layout, group: int) -> list[bytes]:
    start = layout.tails[-1] if layout.tails else 0
    at = group * tiles.WIDTH - start
    frames = _read_tail(layout, start).frames
    return [item.leaf for item in frames[at : at + tiles.WIDTH]]


def _check_tiles(found: Structure, findings: Findings) -> None:
    """Holds every hash tile against the tree; those below the tail must all be there."""
    layout = found.layout
    start = layout.tails[-1] if layout.tails else found.size
    expected = {
        (level, number)
        for level in range(1, tiles.MAX_LEVEL + 1)
        for number in range(start // tiles.WIDTH ** (level + 1))
    }
    for level, number in sorted(expected | layout.tiles):
        end = (number + 1) * tiles.WIDTH ** (level + 1)
        path = layout.path(tiles.tile_path(level, number))
        if end > found.size:
            findings.add("layout.stray", path, "a tile beyond the last entry")
        elif level or end > start:
            hashes = _read_tile(layout, level, number, findings)
            if hashes is not None and merkle.root_of(hashes) != found.tile_root(level, number):
                findings.add("tile.mismatch", path, "does not match the tree below it")


def _check_older(found: Structure, start: int, findings: Findings) -> None:
    """A crash between two tails leaves the older one; all of it must be in the log by now."""
    path = found.layout.path(f"tail.{start}")
    try:
        for index, item in enumerate(_read_tail(found.layout, start).frames, start):
            group, place = divmod(index, tiles.WIDTH)
            if index >= found.size or found.leaves(group)[place] != item.leaf:
                message = f"is not entry {index} of the log"
                findings.add("tail.corrupt", path, message, offset=item.offset, index=index)
                return
    except RemoteError as error:
        findings.add("tail.corrupt", path, error.message, index=start)


def _read_checkpoint(layout: Layout, findings: Findings) -> bytes | None:
    path = layout.path(CHECKPOINT)
    if not layout.checkpoint:
        findings.add("layout.missing", path, "there is no checkpoint")
        return None
    return read_file(path, MAX_NOTE_BYTES)


def _check_head(found: Structure, note: bytes | None, findings: Findings, limits: Limits) -> None:
    path = found.layout.path(CHECKPOINT)
    if note is None or found.keys is None:
        return
    try:
        head = found.keys.open_checkpoint(note, only_known=True, limits=limits)
    except RemoteError as error:
        findings.add("checkpoint.corrupt", path, error.message)
        return
    found.head = head
    if head.size > found.size:
        message = f"signed for {head.size} entries, but only {found.size} are here{COPIED}"
        findings.add("checkpoint.rollback", path, message, index=found.size)
    elif not found.agrees(head):
        message = f"the first {head.size} entries are not those that were signed for"
        findings.add("checkpoint.root", path, message)
