"""A disk that forgets: what a power cut may leave of files that are written under one folder.

`Disk` stands between the product and the operating system (`os.open`, `os.pwrite`, …). Every
call happens for real; beside it a model keeps what is surely on the disk. Content is durable
after `fdatasync` or `fsync` of the file, a name after `fsync` of its folder. Whatever else was
done may be there or not, in any order: a name made, removed or renamed (atomically), a write
kept in part, torn at any byte, or with zeros in place of its content.

    with Disk(home) as disk:
        …                                   # any operation of the product
    for moment in disk.moments:             # the state after every single call
        lay(moment.left(choice), target)    # one thing that a power cut may leave of it

An operation is any function; what it promised to the world until a moment is `moment.promises`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

CALLS = (
    "open", "close", "pwrite", "ftruncate", "fdatasync", "fsync", "replace", "rename", "unlink",
    "mkdir",
)  # fmt: skip


class Killed(BaseException):
    """The process was killed here; what it wrote is still in the cache of the system."""


class Write(NamedTuple):
    """Bytes that were written and not synced."""

    offset: int
    data: bytes


class Cut(NamedTuple):
    """A length that was set and not synced."""

    length: int


class Naming(NamedTuple):
    """Names that change together: (folder, name, node, or None for removed)."""

    number: int
    changes: tuple


class Node(NamedTuple):
    """A file (`durable` is bytes) or a folder (`durable` maps names to nodes)."""

    durable: object
    pending: tuple = ()


class Choice:
    """What a power cut leaves. The plain one leaves nothing that was not synced."""

    def keeps(self, naming):
        """Is this change of names there?"""
        return False

    def content(self, write):
        """What is there of a write, from its offset on; None when not even the length is."""
        return None

    def cuts(self, cut):
        """Is this length there?"""
        return False


class Everything(Choice):
    """Leaves all of it, or all names, or all contents."""

    def __init__(self, *, names=True, contents=True):
        self.names, self.contents = names, contents

    def keeps(self, naming):
        return self.names

    def content(self, write):
        return write.data if self.contents else None

    def cuts(self, cut):
        return self.contents


class Torn(Everything):
    """The first `kept` bytes of every write, and `zeros` more bytes that were never written."""

    def __init__(self, kept, zeros=0, *, names=True):
        super().__init__(names=names)
        self.kept, self.zeros = kept, zeros

    def content(self, write):
        return (write.data[: self.kept] + bytes(self.zeros))[: len(write.data)]


class Some(Choice):
    """Names in any selection, the first few of them, or all but one."""

    def __init__(self, numbers, *, contents=True):
        self.numbers, self.contents = frozenset(numbers), contents

    def keeps(self, naming):
        return naming.number in self.numbers

    def content(self, write):
        return write.data if self.contents else None

    def cuts(self, cut):
        return self.contents


class Chance(Choice):
    """Everything by the throw of dice."""

    def __init__(self, dice):
        self.dice = dice
        self.often = dice.choice((0.1, 0.5, 0.9))

    def keeps(self, naming):
        return self.dice.random() < self.often

    def content(self, write):
        size = len(write.data)
        kept = self.dice.randint(0, size)
        zeros = self.dice.choice((0, size, self.dice.randint(0, size - kept)))
        torn = (write.data[:kept] + bytes(zeros))[:size]
        return self.dice.choice((None, write.data, torn, torn, bytes(size)))

    def cuts(self, cut):
        return self.dice.random() < 0.5


class Moment(NamedTuple):
    """The disk after one call, and what had been promised by then."""

    label: str
    nodes: dict
    promises: tuple

    @property
    def namings(self):
        """The numbers of the changes of names that are not durable."""
        return sorted(
            one.number for node in self.nodes.values() for one in node.pending
            if isinstance(one, Naming)
        )  # fmt: skip

    @property
    def longest(self):
        """The size of the longest write that is not durable."""
        writes = (one for node in self.nodes.values() for one in node.pending)
        return max((len(one.data) for one in writes if isinstance(one, Write)), default=0)

    def left(self, choice):
        """{path: bytes, or None for a folder} after a power cut at this moment."""
        folders = {key: dict(node.durable) for key, node in self.nodes.items() if _is_folder(node)}
        changes = [
            one for node in self.nodes.values() for one in node.pending if isinstance(one, Naming)
        ]
        for naming in sorted(changes):
            if choice.keeps(naming):
                _name(folders, naming)
        found = {}
        waiting = [("", 0)]
        while waiting:
            place, key = waiting.pop()
            for name, below in folders[key].items():
                path = f"{place}/{name}" if place else name
                if below in folders:
                    found[path] = None
                    waiting.append((path, below))
                else:
                    found[path] = _content(self.nodes[below], choice)
        return found


def lay(files, target):
    """Writes what a power cut left into the new folder `target`."""
    target.mkdir(parents=True)
    for path, data in sorted(files.items()):
        if data is None:
            (target / path).mkdir()
        else:
            (target / path).write_bytes(data)


class Disk:
    """Watches everything that is written under `root`, whose present content is durable."""

    def __init__(self, root):
        self.root = root
        self.moments = []
        self.kill_at = None
        """Kill the process at the moment of this number."""
        self._nodes = {}
        self._ids = {}
        self._handles = {}
        self._promises = ()
        self._numbers = 0
        self._real = {}
        self._scan(root)

    def __enter__(self):
        for name in CALLS:
            self._real[name] = getattr(os, name)
            setattr(os, name, getattr(self, f"_{name}"))
        self._moment("begin")
        return self

    def __exit__(self, *_):
        for name, call in self._real.items():
            setattr(os, name, call)

    def promise(self, *what):
        """Notes what the operation has told the world by now."""
        self._promises = (*self._promises, what)
        self._moment(f"promised {what[0]}")

    def kill(self):
        """The process is gone: its files are closed, its locks are free."""
        self.kill_at = None
        for handle in list(self._handles):
            self._close(handle)

    def agrees(self):
        """Whether the model knows everything that is really there."""
        everything = self.moments[-1].left(Everything())
        real = {
            path.relative_to(self.root).as_posix(): path.read_bytes() if path.is_file() else None
            for path in self.root.rglob("*")
        }
        return everything == real

    # --- the calls ---------------------------------------------------------------------------

    def _open(self, path, flags, mode=0o777, *, dir_fd=None):
        handle = self._real["open"](path, flags, mode, dir_fd=dir_fd)
        place = self._place(path)
        reads = flags & os.O_ACCMODE == os.O_RDONLY and not flags & os.O_DIRECTORY
        if place is None or reads:
            self._handles.pop(handle, None)
            return handle
        if place not in self._ids:
            self._link(place, self._node(b""))
            self._handles[handle] = self._ids[place]
            self._moment(f"create {place.name}")
        self._handles[handle] = self._ids[place]
        if flags & os.O_TRUNC:
            self._pend(self._ids[place], Cut(0))
        return handle

    def _close(self, handle):
        self._handles.pop(handle, None)
        self._real["close"](handle)

    def _pwrite(self, handle, data, offset):
        done = self._real["pwrite"](handle, data, offset)
        if handle in self._handles:
            self._pend(self._handles[handle], Write(offset, bytes(data)[:done]))
            self._moment("write")
        return done

    def _ftruncate(self, handle, length):
        self._real["ftruncate"](handle, length)
        if handle in self._handles:
            self._pend(self._handles[handle], Cut(length))
            self._moment("truncate")

    def _fsync(self, handle):
        if handle not in self._handles:
            self._real["fsync"](handle)
            return
        key = self._handles[handle]
        node = self._nodes[key]
        if _is_folder(node):
            folders = {one: dict(n.durable) for one, n in self._nodes.items() if _is_folder(n)}
            for naming in node.pending:
                _name(folders, naming)
            for one, names in folders.items():
                self._nodes[one] = self._nodes[one]._replace(durable=names)
            self._nodes[key] = self._nodes[key]._replace(pending=())
        else:
            self._nodes[key] = Node(_content(node, Everything()))
        self._moment("sync")

    def _fdatasync(self, handle):
        if handle in self._handles:
            self._fsync(handle)
        else:
            self._real["fdatasync"](handle)

    def _replace(self, source, target):
        self._real["replace"](source, target)
        old, new = self._place(source), self._place(target)
        if old is None or new is None:
            return
        key = self._ids.pop(old)
        self._ids[new] = key
        changes = ((self._ids[old.parent], old.name, None), (self._ids[new.parent], new.name, key))
        self._rename_in(self._ids[new.parent], changes)
        self._moment(f"rename to {new.name}")

    _rename = _replace

    def _unlink(self, path, *, dir_fd=None):
        self._real["unlink"](path, dir_fd=dir_fd)
        place = self._place(path)
        if place is not None:
            del self._ids[place]
            folder = self._ids[place.parent]
            self._rename_in(folder, ((folder, place.name, None),))
            self._moment(f"unlink {place.name}")

    def _mkdir(self, path, mode=0o777, *, dir_fd=None):
        self._real["mkdir"](path, mode, dir_fd=dir_fd)
        place = self._place(path)
        if place is not None:
            self._link(place, self._node({}))
            self._moment(f"mkdir {place.name}")

    # --- the model ---------------------------------------------------------------------------

    def _scan(self, folder):
        self._ids[folder] = self._node({})
        for item in folder.iterdir():
            if item.is_dir():
                self._scan(item)
            else:
                self._ids[item] = self._node(item.read_bytes())
            self._nodes[self._ids[folder]].durable[item.name] = self._ids[item]

    def _node(self, durable):
        self._nodes[len(self._nodes)] = Node(durable)
        return len(self._nodes) - 1

    def _place(self, path):
        if isinstance(path, int):
            return None
        place = Path(os.fspath(path))
        return place if place == self.root or self.root in place.parents else None

    def _link(self, place, key):
        self._ids[place] = key
        folder = self._ids[place.parent]
        self._rename_in(folder, ((folder, place.name, key),))

    def _rename_in(self, folder, changes):
        self._numbers += 1
        self._pend(folder, Naming(self._numbers, changes))

    def _pend(self, key, what):
        node = self._nodes[key]
        self._nodes[key] = node._replace(pending=(*node.pending, what))

    def _moment(self, label):
        self.moments.append(Moment(label, dict(self._nodes), self._promises))
        if self.kill_at is not None and len(self.moments) >= self.kill_at:
            raise Killed(label)


def _is_folder(node):
    return isinstance(node.durable, dict)


def _name(folders, naming):
    for folder, name, key in naming.changes:
        if key is None:
            folders[folder].pop(name, None)
        else:
            folders[folder][name] = key


def _content(node, choice):
    data = bytearray(node.durable)
    for one in node.pending:
        if isinstance(one, Cut):
            if choice.cuts(one):
                del data[one.length :]
                data += bytes(one.length - len(data))
            continue
        left = choice.content(one)
        if left is not None:
            data += bytes(max(0, one.offset - len(data)))
            data[one.offset : one.offset + len(left)] = left
    return bytes(data)
