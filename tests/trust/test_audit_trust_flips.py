"""Nothing in an honest ledger's evidence can be changed without `audit trust` finding it."""

from __future__ import annotations

import msgspec
import pytest
from ledgers import Clock, Hospital, audit_of
from trusting import refuse

from konsil.protocol import records
from konsil.protocol.errors import LocalProtocolError
from konsil.protocol.learning_bodies import TrustUpdate
from konsil.trust.evidence import EvidenceRecord
from konsil.trust.fixed import UNIT_E9
from konsil.trust.gate import PENALTY_CAUSE, Penalty
from konsil.trust.questions.gathering import gather
from konsil.trust.questions.peer_trust import trusts

MEASURED_OR_GIVEN = {"reach_e9", "error_e9", "d_e9", "metropolis_e9"}
"""A small change of these may change nothing that follows, to the last of nine decimals; then
only the digest of the record fixes them, for which the ledger signs."""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Bern judged Graz and Ulm twice, and refused something of Graz in between."""
    clock, root = Clock(), tmp_path_factory.mktemp("flips")
    bern, *others = (Hospital(root, name, clock=clock) for name in ("bern", "graz", "ulm"))
    for number in range(2):
        bern.train()
        arrived = []
        for one in others:
            one.train()
            arrived.append(one.publish())
            bern.receive(arrived[-1], one.author)
        if number:
            refuse(bern, arrived[0])
        bern.mix(arrived)
    audit_of(bern, *others)
    return gather([bern.home])


class Changed:
    """The blobs of a home, of which one has other bytes, as if the ledger had named those."""

    def __init__(self, blobs, digest, data):
        self._blobs, self._changed = blobs, {digest: data}

    def get(self, digest, limit):
        return self._changed.get(digest) or self._blobs.get(digest, limit)

    def altered(self, digest):
        return False


def update_of(told, kind):
    """The last judgement of Ulm, or the penalty of Graz, with its evidence record."""
    home, peer = told.homes[0], told.member("graz" if kind is Penalty else "ulm")
    for entry in reversed(home.told.entries):
        body = entry.b
        if not isinstance(body, TrustUpdate) or body.node != peer:
            continue
        if (body.cause == PENALTY_CAUSE) == (kind is Penalty):
            return body, records.unpack(home.blobs.get(body.evidence, 1 << 16), kind)
    raise AssertionError("nothing like that was logged")


def faults_with(told, kind, **changes):
    body, record = update_of(told, kind)
    home, data = told.homes[0], records.pack(msgspec.structs.replace(record, **changes))
    lie = msgspec.structs.replace(home, blobs=Changed(home.blobs, body.evidence, data))
    return sum(one.faults for one in trusts(lie).values())


def others_than(value):
    """Values that a number might have had as well."""
    return {value + 1, value - 1, 0, value // 2, value * 2 + UNIT_E9, 10**15} - {value}


def possible(told, kind, field, other):
    """Whether a reader takes such a record at all; what it refuses is found by that alone."""
    _, record = update_of(told, kind)
    try:
        records.pack(msgspec.structs.replace(record, **{field: other}))
    except LocalProtocolError:
        return False
    return True


def test_the_honest_ledger_has_no_fault(told):
    assert faults_with(told, EvidenceRecord) == faults_with(told, Penalty) == 0


@pytest.mark.parametrize("kind", [EvidenceRecord, Penalty])
def test_no_number_of_a_record_can_be_another(told, kind):
    _, record = update_of(told, kind)
    numbers = {name for name in kind.__struct_fields__ if isinstance(getattr(record, name), int)}
    assert len(numbers) > 3
    for field in numbers:
        found = [
            bool(faults_with(told, kind, **{field: other}))
            for other in others_than(getattr(record, field))
            if possible(told, kind, field, other)
        ]
        assert field == "v" or any(found), field
        assert all(found) or field in MEASURED_OR_GIVEN, field


def test_no_byte_of_a_stored_record_can_be_another(told):
    home, ulm = told.homes[0].path, told.member("ulm")
    body, _ = update_of(told, EvidenceRecord)
    name = body.evidence.hex()
    path = home / "ledger/blobs/sha256" / name[:2] / name
    data = path.read_bytes()
    for at in range(0, len(data), 97):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        found = trusts(gather([home]).homes[0])[ulm]
        assert found.faults
        assert not found.missing
        assert "were changed" in " ".join(word for one in found.words for word in one.faults)
    path.write_bytes(data)
    assert not trusts(gather([home]).homes[0])[ulm].faults
