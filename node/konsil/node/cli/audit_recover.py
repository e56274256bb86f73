"""`konsil audit recover`: the owner puts the files of a stopped node in order, after a crash.

It does what a start would do to them (a torn last frame, leftovers), moves damaged copies aside,
reads the whole ledger, and makes the index anew. Invariants: it signs nothing and appends
nothing; it deletes nothing that the ledger does not hold twice; it makes no older state look
complete. Doing it again, after a stop at any step, ends in the same state.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from konsil.node.cli.audit_arguments import INCOMPLETE, REFUSED, Json, answer
from konsil.protocol.errors import RemoteError, VerificationError

if TYPE_CHECKING:
    from konsil.trust.report import Finding
    from konsil.trust.structure import Structure

BACKUP = (
    "put a backup of the ledger's folder back and start the node: it takes what is newer from its"
    " peers"
)


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """What the files hold after the repair."""

    done: tuple[str, ...]
    """What was changed, a line each."""
    entries: int
    signed: int
    """Entries under the checkpoint."""
    indexed: int | None
    """Entries in the index; None when it was not made."""
    fault: tuple[int, str, str] | None
    """Exit code, message and hint, when all is not well."""


def recover(
    home: Annotated[Path, typer.Argument(help="The home of a node that is stopped.")],
    as_json: Json = False,
) -> None:
    """Repair the files of HOME after a crash; signs nothing, and makes the index anew."""
    found = recovered(home)
    data = {
        "done": list(found.done),
        "entries": found.entries,
        "signed": found.signed,
        "indexed": found.indexed,
    }
    answer("recover", data, _lines(home, found), as_json=as_json, problem=found.fault)


def recovered(home: Path) -> Recovered:
    """Repairs the files of a home.

    Raises `VerificationError` when the newest state is not here, or not as it was signed (then
    nothing was changed), `UsageError` when there is no such home, and `StorageError`, also
    while a process writes it.
    """
    from konsil.node.store import lock
    from konsil.node.store.derived import mend_index
    from konsil.node.store.indexing import update
    from konsil.trust.sources import ledger_of

    folder = ledger_of(home.absolute())
    held = lock.take(folder)
    try:
        done = _started(folder)
        broken, mended = _mirrors(home.absolute())
        done += mended
        try:
            moved = mend_index(folder)
            done += [moved] if moved else []
            structure, worst = _read(folder)
            indexed = update(folder, anew=True) if broken is None and worst is None else None
        except RemoteError as error:
            raise VerificationError(f"{folder}: {error.message}", hint=BACKUP) from error
    finally:
        os.close(held)
    return Recovered(
        done=tuple(done),
        entries=structure.size,
        signed=0 if structure.head is None else structure.head.size,
        indexed=indexed,
        fault=broken or _fault(worst),
    )


def _started(folder: Path) -> list[str]:
    """What a start does to the files of a ledger, in lines."""
    from konsil.node.store.recovery import recover as as_a_start_does

    before = _passing(folder)
    try:
        state = as_a_start_does(folder)
    except VerificationError as error:
        hint = f"nothing was changed; {BACKUP}"
        raise VerificationError(error.message, hint=hint) from error
    state.store.close()
    gone = sorted(before - _passing(folder))
    return [*state.notices, *(f"{path}: removed, a leftover of a stop" for path in gone)]


def _passing(folder: Path) -> set[Path]:
    """Unfinished files, and tails: what a start may remove."""
    found = {path for path in (folder / "tile").rglob("*.tmp") if path.is_file()}
    return found | {*folder.glob("*.tmp"), *folder.glob("tail.*")}


def _mirrors(home: Path) -> tuple[tuple[int, str, str] | None, list[str]]:
    """What is wrong with our memory of others, and what was done about the copies of their logs."""
    from konsil.node.paths import Home
    from konsil.node.store.derived import mend_mirror
    from konsil.node.store.mirrors import SUFFIX
    from konsil.node.store.witnessed import NAME, Witnessed

    peers, broken, known = Home(home).peers, None, None
    try:
        known = Witnessed(peers / NAME)
    except VerificationError as error:
        broken = (REFUSED, error.message, error.hint)
    done = []
    for path in sorted(peers.glob(f"*{SUFFIX}")):
        if path.is_dir() and not path.is_symlink():
            continue
        heads = () if known is None else known.heads(path.name.removesuffix(SUFFIX))
        done.append(mend_mirror(path, {head.size: head.root for head, _ in heads}))
    return broken, [line for line in done if line]


def _read(folder: Path) -> tuple[Structure, Finding | None]:
    """The whole ledger, verified, and the worst of what is wrong with it."""
    from konsil.trust.reading import walk_ledger

    structure, findings = walk_ledger(folder, lambda _place, _entry: None)
    by_code = {found.exit_code: found for found in reversed(findings.found)}
    return structure, by_code.get(REFUSED) or by_code.get(INCOMPLETE)


def _fault(worst: Finding | None) -> tuple[int, str, str] | None:
    if worst is None:
        return None
    hint = f"all of it: konsil audit verify; {BACKUP}"
    return worst.exit_code, worst.line(), hint


def _lines(home: Path, found: Recovered) -> list[str]:
    beyond = found.entries - found.signed
    later = f"; the next start signs for the last {beyond}" if beyond > 0 else ""
    index = "" if found.indexed is None else "; the index is made anew"
    state = f"{home}: {found.entries} entries, {found.signed} of them signed for{later}{index}"
    nothing = "nothing to repair" if found.fault is None else "nothing that can be mended here"
    return [*(found.done or (nothing,)), state]


COMMANDS: Mapping[str, Callable[..., None]] = MappingProxyType({"recover": recover})
