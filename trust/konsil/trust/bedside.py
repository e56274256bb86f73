"""Use at the bedside: batches of decisions, and what people decided otherwise.

The records of a batch never leave the hospital and may be erased. While they are here, in the
home's `inference/<hex of the root>`, they must be those that the entry committed to. The file
is a run of frames, u16 length ‖ record; a record is a map of `input` (digest), `output` (text),
`salt` (16 bytes, never the same twice) and `ts` (unix milliseconds) in canonical encoding.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import merkle, records
from konsil.protocol.artifact import bucket
from konsil.protocol.errors import EncodingRefused, RemoteError
from konsil.protocol.fields import Count, Text
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.records import DigestField, SaltField
from konsil.protocol.tiles import PREFIX_BYTES
from konsil.trust.sources import is_missing, read_file

if TYPE_CHECKING:
    from konsil.protocol.office_bodies import HumanOverride, InferenceBatch
    from konsil.trust.margin import Margin
    from konsil.trust.structure import Place

RECORDS = "inference"
MAX_RECORDS_BYTES = DEFAULT_LIMITS.use_bytes
"""Some hundred thousand uses: what an audit holds in memory at once."""


class UseRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One use of a model: a commitment to what it saw, what it said, and when."""

    input: DigestField
    output: Text
    salt: SaltField
    ts: Count


def write_records(items: list[UseRecord]) -> bytes:
    """The bytes of a records file: for the hospital's own software, which is what writes them."""
    packed = [records.pack(item) for item in items]
    return b"".join(len(data).to_bytes(PREFIX_BYTES, "big") + data for data in packed)


def read_records(data: bytes) -> list[tuple[UseRecord, bytes]]:
    """The records in a file, each with its leaf hash. Raises `EncodingRefused`."""
    found: list[tuple[UseRecord, bytes]] = []
    offset = 0
    while offset < len(data):
        start = offset + PREFIX_BYTES
        end = start + int.from_bytes(data[offset:start], "big")
        if end > len(data):
            raise EncodingRefused(f"records: cut short at offset {offset}")
        packed = data[start:end]
        found.append((records.unpack(packed, UseRecord), merkle.record_hash(packed)))
        offset = end
    if len({item.salt for item, _ in found}) != len(found):
        raise EncodingRefused("records: a salt stands twice")
    return found


class Bedside:
    """The batches of one log; `home` is where their records may lie."""

    def __init__(self, margin: Margin, home: Path | None) -> None:
        self._margin = margin
        self._records = None if home is None else str(home / RECORDS)
        self._batches: dict[int, frozenset[bytes] | None] = {}
        self._looked: Path | None = None
        """The file of entries behind whose reading the folder of records was looked for."""
        self._are_here = False

    def batch(self, place: Place, body: InferenceBatch) -> None:
        """A batch of uses, held against its records when they are here."""
        self._batches[place.index] = None
        if not self._may_be_here(place):
            return
        path = f"{self._records}/{body.root.hex()}"
        try:
            found = read_records(read_file(path, MAX_RECORDS_BYTES))
            leaves = [leaf for _, leaf in found]
            if merkle.root_of(leaves) != body.root:
                raise EncodingRefused("records: they are not those that the entry commits to")
            if body.count != bucket(len(found)):
                raise EncodingRefused(f"records: {len(found)} instead of {body.count} or more")
            if any(not body.from_ms <= item.ts <= body.to_ms for item, _ in found):
                raise EncodingRefused("records: one is of another time")
        except FileNotFoundError:
            return  # erased, or kept elsewhere
        except RemoteError as error:
            self._margin.add("inference.root", place, error.message, Path(path))
            return
        self._batches[place.index] = frozenset(leaves)

    def _may_be_here(self, place: Place) -> bool:
        """Whether the home has a folder of records: most have none, and a batch opens no file then.

        Looked for once behind each file of entries, for a running home may get one meanwhile.
        """
        if self._records is not None and self._looked is not place.file:
            self._looked, self._are_here = place.file, not is_missing(self._records)
        return self._are_here

    def hidden(self, index: int) -> None:
        """The body of the batch in entry `index` was redacted: its records cannot be told."""
        self._batches[index] = None

    def override(self, place: Place, body: HumanOverride) -> None:
        """A person decided otherwise than the model did in one record of a batch."""
        if body.index not in self._batches:
            self._margin.add("inference.root", place, f"entry {body.index} is no batch before it")
            return
        leaves = self._batches[body.index]
        if leaves is not None and body.leaf not in leaves:
            message = f"no record of the batch in entry {body.index} has this leaf hash"
            self._margin.add("inference.root", place, message)
