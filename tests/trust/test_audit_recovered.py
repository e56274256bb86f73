"""What an audit says of a log that came back from peers: incomplete, never tampered with."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import msgspec
import pytest
from ledgers import audit_of, codes, falsify, prune, two

from konsil.node.store.blobs import BlobStore
from konsil.protocol.errors import LocalProtocolError
from konsil.protocol.node_bodies import NodeBoot, Span
from konsil.trust.audit import verify_homes

D = bytes(32)
TOOL = Path(__file__).resolve().parents[2] / "tools" / "verify_ledger.py"


@pytest.fixture(scope="module")
def both():
    """The codes that the audit and the second verifier find in a home."""
    spec = importlib.util.spec_from_file_location("second_verifier", TOOL)
    second = sys.modules["second_verifier"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(second)

    def look(home):
        told = second.verify([home], replay=False)[0].findings
        return [codes(verify_homes([home])), {one.code for one in told}]

    yield look
    del sys.modules["second_verifier"]


def boot_of(hospital, *lost):
    journal = hospital.journal
    spans = [Span(first=first, last=last) for first, last in lost]
    return NodeBoot(software=D, size=journal.size, root=journal.root, peers=[], lost=spans)


@pytest.fixture
def received(tmp_path):
    """A hospital whose artifact another one received, and the entry that published it."""
    bern, graz = two(tmp_path)
    bern.train()
    graz.receive(bern.publish(), bern.author)
    index = bern.journal.size - 1
    return bern, graz, index


def test_a_lost_publication_is_no_tampering_although_a_peer_received_it(received):
    bern, graz, index = received
    bern.journal.append([boot_of(bern, (index, index))])
    bern.close()
    graz.close()
    prune(bern.home, index)
    found = verify_homes([bern.home, graz.home])
    assert "others.unpublished" not in codes(found)
    assert found.exit_code() != 3


def test_what_rests_on_lost_bodies_is_not_held_against_anybody(received, both):
    """The training is gone, so the model that was published comes from nowhere: no fault of its."""
    bern, _, index = received
    bern.journal.append([boot_of(bern, (index - 1, index - 1))])
    bern.close()
    prune(bern.home, index - 1)
    assert both(bern.home) == [{"entry.lost"}] * 2


def test_envelopes_that_did_not_come_back_leave_it_incomplete(received):
    bern, graz, index = received
    blobs = BlobStore(bern.home / "ledger" / "blobs")
    blobs.remove(bern.journal.entry(index).b.env)
    found = audit_of(bern, graz)
    assert codes(found) == {"blob.missing"}
    assert found.exit_code() == 4


BAD = {
    "backwards": [(3, 2)],
    "overlapping": [(1, 2), (2, 3)],
    "twice": [(2, 2), (2, 2)],
    "descending": [(3, 3), (1, 1)],
    "itself": [(2, 4)],
    "everything to come": [(2, 2**63 - 1)],
}


@pytest.mark.parametrize("name", BAD)
def test_what_a_start_cannot_have_lost_is_never_written(received, name):
    bern, _, _ = received
    size = bern.journal.size
    assert size == 4
    with pytest.raises(LocalProtocolError, match="lost"):
        bern.journal.append([boot_of(bern, *BAD[name])])
    assert bern.journal.size == size


@pytest.mark.parametrize("name", BAD)
def test_what_a_start_cannot_have_lost_explains_nothing(received, both, name):
    bern, _, _ = received
    body = msgspec.to_builtins(boot_of(bern, *BAD[name]), builtin_types=(bytes,))
    falsify(bern, lambda entry: {**entry, "t": "node.boot", "b": body})
    prune(bern.home, 3)
    for found in both(bern.home):
        assert {"boot.state", "entry.pruned"} <= found


@pytest.mark.parametrize("lost", [[], [(2, 3)], [(2, 2), (3, 3)], [(1, 1), (3, 3)]])
def test_what_a_start_may_have_lost_is_no_finding_by_itself(received, both, lost):
    bern, _, _ = received
    bern.journal.append([boot_of(bern, *lost)])
    bern.close()
    for found in both(bern.home):
        assert not found & {"boot.state", "entry.pruned"}
