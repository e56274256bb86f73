"""A proof that an entry is in a log, made from the files of a home alone (tlog-proof@v1).

The stored checkpoint signs for it: the cosigned one where it covers the entry, else the newest.
No key is needed and nothing is written, so a node may run meanwhile. What is handed out was
verified as a stranger would. An index beside the ledger saves reading all of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import cmp1, merkle, proof, tiles
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.entries import Entry
from konsil.protocol.errors import (
    IncompleteError,
    KeyRevoked,
    KonsilError,
    ManifestRefused,
    RemoteError,
    UsageError,
    VerificationError,
)
from konsil.protocol.genesis import Author
from konsil.protocol.learning_bodies import (
    ArtifactIntegrate,
    ArtifactPublish,
    ArtifactReceive,
    ModelBase,
    ModelTrain,
)
from konsil.protocol.limits import DEFAULT_LIMITS, KIB, Limits
from konsil.trust.inplace import InPlace
from konsil.trust.layout import CHECKPOINT, COSIGNED, MAX_NOTE_BYTES
from konsil.trust.questions.gathering import hex_start
from konsil.trust.questions.locating import locate
from konsil.trust.reading import keyring_of, walk_ledger
from konsil.trust.sources import ledger_of, read_file
from konsil.trust.structure import Structure

if TYPE_CHECKING:
    from collections.abc import Callable

    from konsil.protocol.keyring import Keyring

_INDEX = re.compile(r"0|[1-9][0-9]{0,14}")
"""An index; more decimal digits, or a zero before others, begin a digest."""
FILE_LIMITS = msgspec.structs.replace(DEFAULT_LIMITS, proof_bytes=256 * KIB)
"""A proof as a file may carry the largest entry; on the wire it may not."""


class Proven(msgspec.Struct, frozen=True, kw_only=True):
    """A proof, and what it proves."""

    author: Author
    entry: Entry
    head: Checkpoint
    signed_by: str
    """The file of the checkpoint: `cosigned` or `checkpoint`."""
    data: bytes


class _Log(msgspec.Struct, frozen=True, kw_only=True):
    """One log as it was read: whose it is, its tree, and entries by their index."""

    folder: Path
    notes: Mapping[str, bytes]
    """The checkpoints, read before the entries, so that these reach at least as far."""
    author: Author | None
    tree: Structure | InPlace
    found: Sequence[tuple[int, Entry]]
    """All of them, or those that the question is about, and every change of keys."""


def prove(
    home: Path,
    word: str,
    *,
    limits: Limits = FILE_LIMITS,
    notice: Callable[[str], None] = lambda _: None,
) -> Proven:
    """The proof of the entry that `word` names: an index, or the beginning of a digest.

    `notice` is told in one line when the index is not what it should be. Raises `UsageError`,
    `IncompleteError` for an entry that is not here or not signed for, `VerificationError` when the
    files do not give a proof that verifies, `ConfigError` and `StorageError`.
    """
    folder = ledger_of(home)
    with suppress(KonsilError, FileNotFoundError):
        # Whatever is refused here, the whole reading says why, if it refuses too.
        some = _some_of(folder, word, limits, notice)
        if some is not None:
            return _proven(some, word, limits)
    return _proven(_all_of(folder, limits), word, limits)


def _some_of(folder: Path, word: str, limits: Limits, notice: Callable[[str], None]) -> _Log | None:
    """What the index leads to; None when there is no way around reading the whole ledger."""
    if _INDEX.fullmatch(word):
        return None
    notes = _notes(folder)
    found = locate(folder, hex_start(word), limits, notice)
    if found is None:
        return None
    author = found.log.author(limits)
    named = [(entry.n, entry) for entry in found.entries]
    return _Log(folder=folder, notes=notes, author=author, tree=found.log, found=named)


def _all_of(folder: Path, limits: Limits) -> _Log:
    notes = _notes(folder)
    found: list[tuple[int, Entry]] = []
    tree, _ = walk_ledger(
        folder,
        lambda place, entry: found.append((place.index, entry)),
        again=found.clear,
        limits=limits,
    )
    return _Log(folder=folder, notes=notes, author=tree.author, tree=tree, found=found)


def _notes(folder: Path) -> dict[str, bytes]:
    """The checkpoints that are here, that with the signatures of others first."""
    notes: dict[str, bytes] = {}
    for name in (COSIGNED, CHECKPOINT):
        with suppress(FileNotFoundError, RemoteError):
            notes[name] = read_file(folder / name, MAX_NOTE_BYTES)
    return notes


def _proven(log: _Log, word: str, limits: Limits) -> Proven:
    author = log.author
    if author is None:
        raise VerificationError(
            f"{log.folder}: no genesis entry says whose log this is", hint=_VERIFY
        )
    index, entry = _wanted(log, word)
    try:
        keys = keyring_of(author, (item for _, item in log.found))
        name, note, head = _head(log, keys, index, limits)
        data = _bytes_of(log, index, entry)
        hashes = merkle.inclusion_proof(log.tree, index, head.size)
        made = proof.Proof(index=index, hashes=tuple(hashes), checkpoint=note, extra=data)
        merkle.verify_inclusion(merkle.leaf_hash(data), index, head.size, made.hashes, head.root)
    except RemoteError as error:
        raise VerificationError(
            f"{log.folder}: entry {index} cannot be proven: {error.message}", hint=_VERIFY
        ) from error
    return Proven(author=author, entry=entry, head=head, signed_by=name, data=proof.encode(made))


_VERIFY = "run: konsil audit verify"


def _wanted(log: _Log, word: str) -> tuple[int, Entry]:
    """The entry that a person names, and its index."""
    if _INDEX.fullmatch(word):
        index, size = int(word), log.tree.size
        for at, entry in log.found:
            if at == index:
                return at, entry
        if index < size:
            raise IncompleteError(
                f"{log.folder}: the body of entry {index} cannot be read", hint=_VERIFY
            )
        raise IncompleteError(f"{log.folder}: there is no entry {index}, only {size} entries")
    start = hex_start(word)
    for digests in (_published, _made, _received):
        named = [
            item
            for item in log.found
            if any(digest.hex().startswith(start) for digest in digests(item[1]))
        ]
        if len(named) > 1:
            indexes = ", ".join(str(at) for at, _ in named[:8])
            raise UsageError(
                f"{len(named)} entries are meant by {start}: {indexes}",
                hint="name the one you want by its index",
            )
        if named:
            return named[0]
    raise IncompleteError(
        f"{log.folder}: no entry publishes, makes or receives {start}",
        hint="name an entry by its index; list them: konsil audit timeline",
    )


def _published(entry: Entry) -> tuple[bytes, ...]:
    body = entry.b
    return (body.art, body.env) if isinstance(body, ArtifactPublish) else ()


def _made(entry: Entry) -> tuple[bytes, ...]:
    body = entry.b
    if isinstance(body, ModelBase):
        return (body.model,)
    return (body.out,) if isinstance(body, ModelTrain | ArtifactIntegrate) else ()


def _received(entry: Entry) -> tuple[bytes, ...]:
    body = entry.b
    return (body.art, body.env) if isinstance(body, ArtifactReceive) else ()


def _head(log: _Log, keys: Keyring, index: int, limits: Limits) -> tuple[str, bytes, Checkpoint]:
    """The checkpoint that signs for entry `index`: its file, its note, and what it says."""
    signed = 0
    for name, note in log.notes.items():
        try:
            head = keys.open_checkpoint(note, limits=limits)
        except KeyRevoked:
            continue  # void since: nobody who knows that believes a proof under it
        if head.size > log.tree.size:
            raise ManifestRefused(f"{name} signs for {head.size} entries, which are not all here")
        if head.size > index:
            return name, note, head
        signed = max(signed, head.size)
    raise IncompleteError(
        f"{log.folder}: entry {index} is beyond the checkpoint, which signs for {signed} entries",
        hint="a running node signs it soon; one that is stopped, when it is started and stopped",
    )


def _bytes_of(log: _Log, index: int, entry: Entry) -> bytes:
    """The bytes of an entry: their canonical form is the only one, and the tree holds its hash."""
    data = cmp1.encode(msgspec.to_builtins(entry, builtin_types=(bytes,)))
    if merkle.leaf_hash(data) != log.tree.leaves(index // tiles.WIDTH)[index % tiles.WIDTH]:
        raise ManifestRefused("its bytes are not those of the tree")
    return data
