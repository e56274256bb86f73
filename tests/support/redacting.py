"""An honest hospital whose log has every type of body that may be redacted, each with a use."""

from __future__ import annotations

from ledgers import prune, release, train_of, two, word_of_redaction
from trusting import refuse, say

from konsil.protocol import merkle
from konsil.protocol.artifact import PrivacySpent, bucket
from konsil.protocol.digest import sha256
from konsil.protocol.fields import UNIT_E9
from konsil.protocol.learning_bodies import PrivacySpend, UnlearnDone
from konsil.protocol.node_bodies import PeerClear, PeerSuspect
from konsil.protocol.office_bodies import (
    ArtifactWithdraw,
    HumanOverride,
    InferenceBatch,
    ModelDeploy,
    PolicyLocal,
    WithdrawAck,
)
from konsil.trust.bedside import UseRecord, write_records
from konsil.trust.redaction import RETENTION_MS

D = sha256(b"somebody's role")
COHORT = sha256(b"a cohort")


def spend(hospital, total, *, eps=3, dataset=D):
    """Spends privacy; the leaf hash of the entry."""
    body = PrivacySpend(
        dataset=dataset, mechanism="gaussian", eps_micro=eps, delta_e12=5, rho_e9=1,
        sampling_e9=1, steps=9, cumulative_micro=total,
    )  # fmt: skip
    return hospital.journal.append([body])[0].leaf


def train_for(hospital, paid, name):
    """Logs a training of the cohort that an entry has paid for."""
    body = train_of(hospital, privacy=paid, data=COHORT, out=sha256(name), round=hospital.round)
    hospital.journal.append([body])


def unlearn(hospital, new, old=None):
    """Logs that a model was made without what is taken out."""
    check = hospital.journal.blobs.put(b"how we know")
    body = UnlearnDone(old=old or hospital.model, new=new, method="linear", verification=check)
    hospital.journal.append([body])


def use(hospital, model):
    """Puts a model to use."""
    body = ModelDeploy(model=model, approver=D, step="pccp.1", evaluation=D)
    hospital.journal.append([body])


def withdraw(hospital, art):
    """Withdraws an artifact, for answers within 100 s; the index of the entry."""
    due = hospital.clock.now + 100_000
    body = ArtifactWithdraw(art=art, reason="consent", scope="all", deadline_ms=due)
    return hospital.journal.append([body])[0].index


def answer(hospital, publisher, index):
    """Refuses a withdrawal for a legal reason."""
    body = WithdrawAck(
        node=publisher.node, index=index, action="refused", legal="mdr.10", before=[], after=[]
    )
    hospital.journal.append([body])


def batch(hospital):
    """Logs uses of a model, and that a person decided otherwise in one; the batch's index."""
    records = [
        UseRecord(input=D, output="x", salt=bytes([n]) * 16, ts=hospital.clock.now)
        for n in range(3)
    ]
    data = write_records(records)
    size = 2 + int.from_bytes(data[:2], "big")
    leaves = [merkle.record_hash(data[at + 2 : at + size]) for at in range(0, len(data), size)]
    root, now = merkle.root_of(leaves), hospital.clock.now
    (hospital.home / "inference").mkdir(exist_ok=True)
    (hospital.home / "inference" / root.hex()).write_bytes(data)
    body = InferenceBatch(model=hospital.model, count=bucket(3), from_ms=now, to_ms=now, root=root)
    (told,) = hospital.journal.append([body])
    hospital.journal.append([HumanOverride(index=told.index, leaf=leaves[0], code="clinician")])
    return told.index


def suspect(hospital):
    """Logs a doubt that nothing follows from."""
    body = PeerSuspect(node="b" * 32, kind="consistency", evidence=None)
    return hospital.journal.append([body])[0].index


def lived(root):
    """Two hospitals; the first one's log has every type that may be redacted."""
    bern, graz = two(root)
    for number in range(3):
        if number == 1:
            say(bern, graz.node, "operator.pin")
        bern.train()
        graz.train()
        sent = graz.publish()
        bern.receive(sent, graz.author)
        if number == 2:
            refuse(bern, sent)
        bern.mix([sent], bern.judge([sent], pinned_e9=UNIT_E9) if number else None)
    use(bern, bern.model)
    answer(bern, graz, withdraw(graz, sent.art))
    bern.journal.append([
        PolicyLocal(policy=D, version=1),
        PeerSuspect(node=graz.node, kind="consistency", evidence=None),
        PeerClear(node=graz.node, kind="consistency", evidence=None),
    ])  # fmt: skip
    train_for(bern, spend(bern, 3), b"first")
    train_for(bern, spend(bern, 6), b"second")
    bern.train()
    release(bern, privacy=PrivacySpent(
        mechanism="gaussian", unit="patient", epsilon_micro=3, delta_e12=5
    ))  # fmt: skip
    new = sha256(b"without it")
    unlearn(bern, new)
    use(bern, new)
    bern.journal.append([train_of(bern, base=new, out=sha256(b"went on"))])
    batch(bern)
    return bern, graz


def redact(hospital, *indices, age_ms=RETENTION_MS, **changes):
    """Lets time pass, takes bodies away, and says so; the hospital is closed afterwards."""
    hospital.clock.now += age_ms
    hospital.journal.append(
        [word_of_redaction(hospital.journal, index, **changes) for index in indices]
    )
    hospital.close()
    prune(hospital.home, *indices)


def places(hospital, word):
    """The entries of one type."""
    return [entry.n for entry in hospital.journal.entries() if entry.t == word]
