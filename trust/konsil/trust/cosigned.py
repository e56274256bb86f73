"""The cosigned checkpoint of a log: what the others vouched for, held against the entries.

`ledger/cosigned` is an own checkpoint with the cosignatures of members under it. It must be of
this history, and every line in it must be by a member whose genesis entry is at hand: a line
that cannot be judged is not passed over in silence.

The times in it are a fence. Times in a log do not fall, so the entries next to the fence on
either side answer for all that lie further off.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from konsil.protocol import cosignature, entries, note
from konsil.protocol.cosignature import WitnessKey
from konsil.protocol.errors import KeyRevoked, RemoteError
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.trust.fence import Fence, crossed, doubted, fence
from konsil.trust.layout import COSIGNED, MAX_NOTE_BYTES
from konsil.trust.places import Again
from konsil.trust.report import COPIED
from konsil.trust.sources import read_file
from konsil.trust.walking import names_unknown_key

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from konsil.protocol.keyring import Keyring
    from konsil.trust.places import Item
    from konsil.trust.report import Findings
    from konsil.trust.structure import Structure


def check_cosigned(
    found: Structure,
    rings: Iterable[Keyring],
    findings: Findings,
    limits: Limits,
    *,
    liars: int = 0,
) -> Fence | None:
    """Adds what is wrong with the cosigned checkpoint, if there is one; the fence at it.

    `rings` are the keys of the known members, and `liars` of them may say a false time. Raises
    `FileNotFoundError` when a running node replaced a file meanwhile.
    """
    if not found.layout.cosigned or found.keys is None:
        return None
    path = found.layout.path(COSIGNED)
    witnesses = [
        WitnessKey(ring.author.origin, key) for ring in rings for key in ring.witness_keys()
    ]
    data = b""
    try:
        data = read_file(path, MAX_NOTE_BYTES)
        head = found.keys.open_checkpoint(data, known=witnesses, limits=limits)
        _, lines = note.parse(data, limits=limits)
    except KeyRevoked:
        return None  # void since: it says nothing of the log any more, and the next replaces it
    except RemoteError as error:
        if found.lost_keys is None or not names_unknown_key(data, found.keys):
            findings.add("cosigned.corrupt", path, error.message)
        return None
    logs = [period.key for period in found.keys.periods if period.role == "log"]
    known = {
        (key.name, key.key_id)
        for key in [*witnesses, *(note.NoteKey(head.origin, key) for key in logs)]
    }
    unknown = [line for line in lines if (line.name, line.key_id) not in known]
    if unknown:
        message = f"{len(unknown)} cosignatures by members whose genesis entry is not here"
        findings.add("cosigned.unknown", path, message)
    if head.size > found.size:
        message = f"others cosigned {head.size} entries, but only {found.size} are here{COPIED}"
        findings.add("checkpoint.rollback", path, message, index=found.size)
    elif found.contradicts(head):
        message = f"the first {head.size} entries are not those that others cosigned"
        findings.add("checkpoint.root", path, message)
    elif found.agrees(head):
        others = [witness for witness in witnesses if witness.name != head.origin]
        times = cosignature.seen_by(data, others, limits=limits)
        built = fence(head, times, liars=doubted(len(times), liars))
        if built is not None:
            check_times(found, built, path, findings, limits)
        return built
    return None


def check_times(
    found: Structure,
    built: Fence,
    source: Path,
    findings: Findings,
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Adds what the fence from the file `source` says against a log that has its checkpoint.

    Raises `FileNotFoundError` as `check_cosigned` does.
    """
    for index, step in ((built.head.size - 1, -1), (built.head.size, 1)):
        nearest = _nearest(found, index, step, limits)
        if nearest is None:
            continue
        item, time_ms = nearest
        wrong = crossed(built, item.index, time_ms)
        if wrong:
            findings.add(
                "cosigned.time",
                item.file,
                wrong,
                offset=item.offset,
                index=item.index,
                evidence=source,
            )


def _nearest(found: Structure, index: int, step: int, limits: Limits) -> tuple[Item, int] | None:
    """The readable entry nearest to `index` in the direction of `step`, and its time."""
    again = Again(found.layout)
    while 0 <= index < found.size:
        item = again.get(index)
        if item is not None and item.entry:
            with suppress(RemoteError):
                return item, entries.peek(item.entry, limits=limits).ts
        index += step
    return None
