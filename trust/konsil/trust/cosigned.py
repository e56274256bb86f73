"""The cosigned checkpoint of a log: what the others vouched for, held against the entries.

`ledger/cosigned` is an own checkpoint with the cosignatures of members under it. It must be of
this history, and every line in it must be by a member whose genesis entry is at hand: a line
that cannot be judged is not passed over in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol import note
from konsil.protocol.cosignature import WitnessKey
from konsil.protocol.errors import RemoteError
from konsil.trust.layout import COSIGNED, MAX_NOTE_BYTES
from konsil.trust.report import COPIED
from konsil.trust.sources import read_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from konsil.protocol.genesis import Author
    from konsil.protocol.limits import Limits
    from konsil.trust.report import Findings
    from konsil.trust.structure import Structure


def check_cosigned(
    found: Structure, authors: Iterable[Author], findings: Findings, limits: Limits
) -> None:
    """Adds what is wrong with the cosigned checkpoint, if there is one."""
    if not found.layout.cosigned or found.keys is None:
        return
    path = found.layout.path(COSIGNED)
    witnesses = [WitnessKey(author.origin, author.keys["wit"]) for author in authors]
    try:
        data = read_file(path, MAX_NOTE_BYTES)
        head = found.keys.open_checkpoint(data, known=witnesses, limits=limits)
        _, lines = note.parse(data, limits=limits)
    except RemoteError as error:
        findings.add("cosigned.corrupt", path, error.message)
        return
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
    elif not found.agrees(head):
        message = f"the first {head.size} entries are not those that others cosigned"
        findings.add("checkpoint.root", path, message)
