"""What a home can do without: mirrors of peers and the index. Damaged ones are moved aside.

A mirror is a copy, and the index is made from the ledger; both can be had again. Nothing is
deleted for all that: what is damaged goes whole into `HOME/aside/`, and of a mirror the part
before the damage stays in its place. Invariants: at every moment the damaged bytes are under one
of the two names; doing it again does no more. Nobody else may write the home meanwhile.
"""

from __future__ import annotations

import os
import stat
from contextlib import closing
from typing import TYPE_CHECKING

from konsil.node.store.durable import TEMPORARY, copy, storage_error, sync_folder
from konsil.node.store.reading import opened
from konsil.protocol import merkle
from konsil.protocol.errors import StorageError
from konsil.protocol.merkle import HASH_BYTES, Peaks
from konsil.protocol.tiles import PREFIX_BYTES
from konsil.trust.index import IndexRefused, follows, open_index
from konsil.trust.inplace import InPlace
from konsil.trust.layout import INDEX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import BinaryIO

ASIDE = "aside"


def mend_index(ledger: Path) -> str:
    """Moves an index aside that is none, or not of this log; what was done, or nothing.

    Raises `StorageError`, and `RemoteError` for a malformed file of the ledger.
    """
    try:
        index = open_index(ledger)
        if index is None:
            return ""
        with closing(index):
            if follows(index, InPlace(ledger)):
                return ""
        why = f"{ledger / INDEX}: is not of this log"
    except IndexRefused as error:
        why = error.message
    target = _free(ledger.parent, ledger / INDEX)
    try:
        os.rename(ledger / INDEX, target)
        sync_folder(target.parent)
        sync_folder(ledger)
    except OSError as error:
        raise storage_error(ledger / INDEX, error) from error
    return f"{why}; moved to {target}"


def mend_mirror(path: Path, roots: Mapping[int, bytes]) -> str:
    """Moves a damaged mirror aside but for its beginning; what was done, or nothing.

    `roots` are the signed roots of the log by its size. A last frame that is short is no damage:
    a portion was being written, and the next start cuts it off. Raises `StorageError`.
    """
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return _set_aside(path)
        with opened(path)[0] as file:
            end, why = _sound(file, roots)
            if not why:
                return ""
            target = _kept(path)
            temporary = path.with_name(path.name + TEMPORARY)
            file.seek(0)
            copy(file, temporary, end)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
    return f"{path}: {why}; moved to {target}, the {end} bytes before that are left"


def _set_aside(path: Path) -> str:
    """Moves a link, a pipe or a device aside, not what it leads to; what was done."""
    target = _free(path.parent.parent, path)
    os.rename(path, target)
    sync_folder(target.parent)
    sync_folder(path.parent)
    return f"{path}: is not a regular file; moved to {target}"


def _sound(file: BinaryIO, roots: Mapping[int, bytes]) -> tuple[int, str]:
    """How many bytes are good, and what is wrong behind them; nothing when it is only cut off."""
    peaks = Peaks()
    size = end = agreed = 0
    while prefix := file.read(PREFIX_BYTES):
        length = int.from_bytes(prefix, "big")
        body = file.read(length + HASH_BYTES)
        if len(prefix) < PREFIX_BYTES or len(body) < length + HASH_BYTES:
            break
        entry, leaf = body[:length], body[length:]
        if entry and merkle.leaf_hash(entry) != leaf:
            return end, f"offset {end}: entry {size} does not match its hash"
        peaks.push(leaf)
        size, end = size + 1, end + PREFIX_BYTES + len(body)
        if size in roots:
            if peaks.root() != roots[size]:
                return agreed, f"the first {size} entries are not those that were signed for"
            agreed = end
    return end, ""


def _kept(path: Path) -> Path:
    """A second name of the file among what was moved aside; made unless it has one there."""
    folder = path.parent.parent / ASIDE
    if _is_folder(folder):
        for item in folder.glob(f"{path.name}*"):
            if os.path.samestat(os.lstat(item), os.lstat(path)):
                return item
    target = _free(path.parent.parent, path)
    os.link(path, target, follow_symlinks=False)
    sync_folder(target.parent)
    return target


def _is_folder(path: Path) -> bool:
    """Whether a folder stands there: a link would lead out of the home."""
    return os.path.lexists(path) and stat.S_ISDIR(os.lstat(path).st_mode)


def _free(home: Path, path: Path) -> Path:
    """A name that nothing has among what was moved aside. Raises `StorageError`."""
    folder = home / ASIDE
    try:
        if not os.path.lexists(folder):
            os.mkdir(folder)
        sync_folder(home)
    except OSError as error:
        raise storage_error(folder, error) from error
    if not _is_folder(folder):
        raise StorageError(f"{folder}: is not a folder", hint="move it away, then try again")
    number = 0
    while os.path.lexists(target := folder / (path.name + (f".{number}" if number else ""))):
        number += 1
    return target
