"""Archive: where the homes of simulated hospitals are kept, or nowhere.

A blob that several homes hold is written once and hard-linked into the others. Nothing is
synced: a run that was cut off leaves nothing that anybody relies on.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Protocol

from konsil.node.store.durable import storage_error, write_all
from konsil.simulations.sim.setting import name_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LEDGER = "ledger"
BLOBS = "ledger/blobs"
"""Envelopes, proofs and evidence."""
PAYLOADS = "blobs"
"""Models."""


class Archive(Protocol):
    """What takes the files of all homes. Raises `StorageError` when the disk refuses."""

    def write(self, node: int, name: str, data: bytes) -> None:
        """The file `name` below the home of `node`."""
        ...

    def put(self, node: int, place: str, digest: bytes, *pieces: bytes | memoryview) -> None:
        """A blob of these pieces in one of the node's stores, `BLOBS` or `PAYLOADS`."""
        ...

    def share(self, owner: int, node: int, place: str, digest: bytes) -> None:
        """The blob that the home of `owner` holds, in the same store of `node` too."""
        ...


class Nowhere:
    """Forgets everything."""

    def write(self, node: int, name: str, data: bytes) -> None:
        """See `Archive`."""

    def put(self, node: int, place: str, digest: bytes, *pieces: bytes | memoryview) -> None:
        """See `Archive`."""

    def share(self, owner: int, node: int, place: str, digest: bytes) -> None:
        """See `Archive`."""


class Homes:
    """The homes `node-0`, `node-1` … in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder.absolute())

    def write(self, node: int, name: str, data: bytes) -> None:
        """See `Archive`."""
        _placed(self._path(node, name), lambda path: _fresh(path, data))

    def put(self, node: int, place: str, digest: bytes, *pieces: bytes | memoryview) -> None:
        """See `Archive`."""
        _placed(self._blob(node, place, digest), lambda path: _fresh(path, b"".join(pieces)))

    def share(self, owner: int, node: int, place: str, digest: bytes) -> None:
        """See `Archive`."""
        source = self._blob(owner, place, digest)
        _placed(self._blob(node, place, digest), lambda path: _linked(source, path))

    def _path(self, node: int, name: str) -> str:
        return f"{self._folder}/{name_of(node)}/{name}"

    def _blob(self, node: int, place: str, digest: bytes) -> str:
        name = digest.hex()
        return self._path(node, f"{place}/sha256/{name[:2]}/{name}")


def _placed(path: str, make: Callable[[str], None]) -> None:
    """Makes a file, and its folder where that is missing. A file that is there stays."""
    try:
        try:
            make(path)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            make(path)
    except FileExistsError:
        return
    except OSError as error:
        raise storage_error(path, error) from error  # type: ignore[arg-type]


def _fresh(path: str, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        write_all(handle, data, 0)
    finally:
        os.close(handle)


def _linked(source: str, path: str) -> None:
    try:
        os.link(source, path)
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError:
        # A file has only so many links, and some file systems know none.
        shutil.copyfile(source, path)
