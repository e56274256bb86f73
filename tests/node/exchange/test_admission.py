"""The inbox: every claim of a manifest is held against the publisher's log and our task."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest
from ledgers import Hospital, change_key, sign_again

from konsil.node.exchange.admission import Behind, Refusal, admit, judge
from konsil.node.learning.press import head_of
from konsil.node.learning.shelf import Held, Shelf
from konsil.protocol import chunks, envelope
from konsil.protocol.artifact import seal
from konsil.protocol.digest import sha256
from konsil.protocol.errors import ManifestRefused, SignatureRefused, UnreachableError
from konsil.protocol.keyring import Keyring
from konsil.protocol.learning_bodies import ArtifactPublish
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.node_bodies import KeyRevoke, KeyRotate

HOLDER = "h" * 32


class Offer:
    """What a holder shows of one artifact, and the receiver to whom it is shown."""

    def __init__(self, hospital: Hospital, **logged) -> None:
        self.hospital, self.shelf = hospital, Shelf()
        self.ring, self.mirrored = None, 1_000
        data = hospital.store.get(hospital.train())
        hospital.sequence = 1
        self.artifact = hospital.manifest(hospital.model, data, parents=(hospital.before,))
        self.sealed = envelope.pack(seal(self.artifact, hospital.keys["art"]))
        body = ArtifactPublish(
            art=hospital.model,
            chunk_root=chunks.chunk_root(chunks.chunk_digests([data])),
            kind="parameters",
            size=len(data),
            env=sha256(self.sealed),
            derived_from=[hospital.before],
            knowledge=None,
            policy=None,
            sequence=1,
        )
        (receipt,) = hospital.journal.append([msgspec.structs.replace(body, **logged)])
        self.proof = hospital.journal.prove(receipt.index)
        self.opened = SimpleNamespace(about=bytes(32), form=bytes.fromhex("11" * 32), task="tiny")
        self.charter, self.limits = hospital.charter, DEFAULT_LIMITS

    @property
    def head(self):
        return head_of(self.artifact, self.sealed)

    def held(self, sealed: bytes) -> Held:
        artifact = msgspec.structs.replace(self.artifact, round=9)
        return Held(
            head=head_of(artifact, sealed), artifact=artifact, envelope=sealed, proof=b"",
            path=self.hospital.home, since_round=1,
        )  # fmt: skip

    def admit(self):
        ring = self.ring or Keyring.of(self.hospital.author)
        roster = SimpleNamespace(keyring={self.hospital.node: ring}.get, charter=self.charter)
        return admit(
            self.head, self.sealed, self.proof, holder=HOLDER, roster=roster,
            mirrored=self.mirrored, shelf=self.shelf, opened=self.opened, limits=self.limits,
        )  # fmt: skip

    def refused(self) -> tuple:
        with pytest.raises(Refusal) as caught:
            self.admit()
        return caught.value.stage, caught.value.reasons, caught.value.culprit


class Renumbered(Offer):
    """An old offer whose bearer announces it under a new number."""

    @property
    def head(self):
        return msgspec.structs.replace(super().head, sequence=2)


class Relabelled(Offer):
    """An offer whose bearer announces it as another kind than was signed."""

    @property
    def head(self):
        return msgspec.structs.replace(super().head, kind="logits")


@pytest.fixture
def bern(tmp_path):
    hospital = Hospital(tmp_path, "bern")
    yield hospital
    hospital.close()


def test_what_agrees_with_its_log_and_our_task_is_admitted(bern):
    offer = Offer(bern)
    admitted = offer.admit()
    assert (admitted.artifact, admitted.published.body.sequence) == (offer.artifact, 1)


def test_a_bearer_who_announces_another_kind_than_was_signed_answers_for_it(bern):
    assert Relabelled(bern).refused() == ("offer", ("kind",), HOLDER)


@pytest.mark.parametrize(
    ("ours", "reason"),
    [
        ({"about": b"b" * 32}, "base"),
        ({"form": b"b" * 32}, "architecture"),
        ({"task": "another"}, "architecture"),
    ],
)
def test_another_task_than_ours_is_refused(bern, ours, reason):
    offer = Offer(bern)
    vars(offer.opened).update(ours)
    assert offer.refused() == ("manifest", (reason,), bern.node)


@pytest.mark.parametrize(
    ("logged", "reason"),
    [
        ({"derived_from": []}, "parents"),
        ({"sequence": 2}, "unlogged"),
        ({"kind": "logits"}, "unlogged"),
        ({"size": 1}, "unlogged"),
        ({"chunk_root": bytes(32)}, "unlogged"),
    ],
)
def test_a_manifest_that_its_own_log_contradicts_is_refused(bern, logged, reason):
    assert Offer(bern, **logged).refused() == ("manifest", (reason,), bern.node)


def test_another_charter_than_ours_is_refused(bern):
    offer = Offer(bern)
    offer.charter = b"c" * 32
    assert offer.refused() == ("manifest", ("charter",), bern.node)


def test_a_payload_larger_than_any_is_refused(bern):
    offer = Offer(bern)
    offer.limits = msgspec.structs.replace(DEFAULT_LIMITS, payload_bytes=1)
    assert offer.refused() == ("manifest", ("size",), bern.node)


def test_a_second_envelope_under_one_number_is_equivocation(bern):
    offer = Offer(bern)
    offer.shelf.add(offer.held(offer.sealed))
    assert offer.refused() == ("manifest", ("sequence",), bern.node)
    offer = Offer(bern)
    offer.shelf.add(offer.held(b"another envelope"))
    assert offer.refused() == ("manifest", ("equivocation", "sequence"), bern.node)
    with pytest.raises(Refusal) as caught:
        offer.admit()
    assert caught.value.envelope == offer.sealed
    newer = msgspec.structs.replace(offer.artifact, sequence=7)
    held = offer.held(b"the newest")
    offer.shelf.add(msgspec.structs.replace(held, head=head_of(newer, b"the newest")))
    assert offer.refused() == ("manifest", ("equivocation", "sequence"), bern.node)


def test_a_replay_under_a_new_number_costs_its_bearer_and_not_its_author(bern):
    assert Renumbered(bern).refused() == ("offer", ("sequence",), HOLDER)


def test_the_holder_answers_for_what_the_publisher_did_not_sign(bern):
    offer = Offer(bern)
    offer.proof = bern.journal.prove(1)
    assert offer.refused() == ("offer", ("unlogged",), HOLDER)
    offer = Offer(bern)
    offer.hospital = SimpleNamespace(node="x" * 32, author=bern.author)
    assert offer.refused() == ("offer", ("signature",), HOLDER)
    offer = Offer(bern)
    artifact, offer.sealed = offer.artifact, offer.sealed.replace(b"tiny", b"tidy")
    offer.artifact = msgspec.structs.replace(artifact, task="tidy")
    stage, _, culprit = offer.refused()
    assert (stage, culprit) == ("offer", HOLDER)


def changed(bern, kind, role, *, good=None):
    """bern changes a key; the keys as somebody knows them who mirrors all of its log."""
    change_key(bern, kind, role, good=good)
    index = bern.journal.size - 1
    return Keyring.of(bern.author).after(index, bern.journal.entry(index).b)


def art_changed(bern, kind, **options):
    ring = changed(bern, kind, "art", **options)
    offer = Offer(bern)
    offer.ring, offer.mirrored = ring, bern.journal.size
    return offer


@pytest.mark.parametrize("kind", [KeyRotate, KeyRevoke])
def test_an_artifact_counts_with_the_key_of_its_place(bern, kind):
    before = Offer(bern)
    before.ring = changed(bern, kind, "art")
    assert before.admit().published.entry.n < bern.journal.size - 1
    after = Offer(bern)
    after.ring = before.ring
    after.admit()
    after.sealed = before.sealed
    assert after.refused()[2] == HOLDER


@pytest.mark.parametrize("mirrored", [0, 2])
def test_a_key_that_we_may_not_know_yet_is_nobodys_fault(bern, mirrored):
    offer = art_changed(bern, KeyRotate)
    offer.ring, offer.mirrored = None, mirrored
    with pytest.raises(Behind):
        offer.admit()
    offer.mirrored = 1_000
    assert offer.refused() == ("offer", ("signature",), HOLDER), "once we hold the place"


def test_a_log_key_that_we_may_not_know_yet_is_nobodys_fault(bern):
    ring = changed(bern, KeyRotate, "log")
    sign_again(bern, bern.keys["log"])
    bern.reopen()
    offer = Offer(bern)
    offer.mirrored = 1
    with pytest.raises(Behind):
        offer.admit()
    offer.ring = ring
    offer.admit()
    offer.ring, offer.mirrored = None, 1_000
    assert offer.refused() == ("offer", ("unlogged",), HOLDER)


def test_what_a_revoked_key_signed_is_turned_down_and_nobody_pays(bern):
    """The holder took it in good faith, before the revocation."""
    offer = Offer(bern)
    place = bern.journal.size - 1
    offer.ring = changed(bern, KeyRevoke, "art", good=place)
    with pytest.raises(SignatureRefused, match="revoked"):
        offer.admit()
    offer.ring = Keyring.of(bern.author).after(
        bern.journal.size - 1, bern.journal.entry(bern.journal.size - 1).b
    )
    offer.proof, offer.sealed = offer.proof, offer.sealed + b"x"
    assert offer.refused()[2] == HOLDER


async def test_an_artifact_waits_for_the_log_that_it_speaks_of():
    told = []

    def look():
        told.append("look")
        if "mirror" not in told:
            raise Behind("entry 7")
        return "admitted"

    async def catch_up():
        told.append("mirror")

    assert await judge(look, catch_up) == "admitted"
    assert told == ["look", "mirror", "look"]


@pytest.mark.parametrize("fails", [None, ManifestRefused("a lie")])
async def test_while_the_log_is_not_shown_there_is_no_verdict(fails):
    def look():
        raise Behind("entry 7")

    async def catch_up():
        if fails is not None:
            raise fails

    with pytest.raises(UnreachableError, match="entry 7"):
        await judge(look, catch_up)


def test_who_brings_the_proof_of_another_publication_answers_for_it(bern):
    offer = Offer(bern)
    offer.admit()
    body = ArtifactPublish(
        art=bern.model, chunk_root=bytes(32), kind="parameters", size=4, env=b"e" * 32,
        derived_from=[bern.before], knowledge=None, policy=None, sequence=2,
    )  # fmt: skip
    (receipt,) = bern.journal.append([body])
    offer.proof = bern.journal.prove(receipt.index)
    assert offer.refused()[2] == HOLDER
