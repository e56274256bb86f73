"""One sample body of every entry type, for tests that go over the closed list."""

from __future__ import annotations

from konsil.protocol import genesis
from konsil.protocol.fields import UNIT_E9
from konsil.protocol.identity import KeySet, SigningKey
from konsil.protocol.learning_bodies import (
    ArtifactIntegrate,
    ArtifactPublish,
    ArtifactReceive,
    ArtifactReject,
    ModelBase,
    ModelTrain,
    Part,
    PrivacySpend,
    TrustUpdate,
    UnlearnDone,
)
from konsil.protocol.node_bodies import (
    AuditRun,
    KeyRevoke,
    KeyRotate,
    LogRedact,
    NodeBoot,
    PeerClear,
    PeerExposed,
    PeerSize,
    PeerSuspect,
    Span,
)
from konsil.protocol.office_bodies import (
    ArtifactWithdraw,
    CharterAdopt,
    CharterPropose,
    CharterVote,
    HumanOverride,
    InferenceBatch,
    MemberAdd,
    MemberRemove,
    MemberSuspend,
    ModelDeploy,
    ModelRetire,
    ModelRollback,
    PolicyLocal,
    WithdrawAck,
)

KEYS = KeySet({role: SigningKey.from_seed(bytes([n]) * 32) for n, role in enumerate(
    ("log", "wit", "art", "peer", "rec"), 1)})  # fmt: skip
D, NODE = bytes(range(32)), "a" * 32
PARTS = [
    Part(art=D, node=NODE, w_e9=UNIT_E9 - 1, trust_e9=UNIT_E9),
    Part(art=bytes(32), node="b" * 32, w_e9=1, trust_e9=0),
]
GENESIS = genesis.build(name="bern", consortium="alps", keys=KEYS)
MIX = ArtifactIntegrate(
    base=D, out=D, rule="egt.1", parts=PARTS, not_mixed=["head.bias"], before=D, after=D,
    reason="granted", round=1,
)  # fmt: skip
CHANGE = {
    "role": "art", "old": D, "new": bytes(32), "reason": "planned", "last_good_size": 3,
    "by_rec": bytes(64), "by_new": bytes(64),
}  # fmt: skip
USE = {"model": D, "approver": D, "step": "pccp.1", "evaluation": D}
LEAVES = {"node": NODE, "credential": None, "evidence": D, "effective_ms": 9}
BODIES = [
    GENESIS,
    NodeBoot(
        software=D, size=3, root=D, peers=[PeerSize(node=NODE, size=2)],
        lost=[Span(first=1, last=2)],
    ),
    KeyRotate(**CHANGE),
    KeyRevoke(**CHANGE),
    CharterPropose(charter=D, version=2, prev=D),
    CharterVote(charter=D, version=2, envelope=D),
    CharterAdopt(charter=D, version=0, envelope=None),
    MemberAdd(node=NODE, credential=D, effective_ms=9),
    MemberSuspend(**LEAVES),
    MemberRemove(**LEAVES),
    PolicyLocal(policy=D, version=1),
    ModelBase(model=D, source="seed", licence="", note="Über alles geprüft"),
    ModelTrain(base=D, out=D, data=D, cohort=100, recipe=D, code=D, env=D, round=1, privacy=None),
    PrivacySpend(
        dataset=D, mechanism="gaussian", eps_micro=1, delta_e12=1, rho_e9=1, sampling_e9=1,
        steps=1, cumulative_micro=1,
    ),
    ArtifactPublish(
        art=D, chunk_root=D, kind="parameters", size=1, env=D, derived_from=[D], knowledge=None,
        policy=D, sequence=1,
    ),
    ArtifactReceive(art=D, publisher=NODE, env=D, index=2, size=3, root=D, proof=D),
    ArtifactReject(
        art=None, publisher=NODE, env=None, stage="envelope", reasons=["signature"], evidence=None
    ),
    MIX,
    TrustUpdate(
        node=NODE, kind="parameters", art=None, old_e9=0, new_e9=UNIT_E9, cause="granted",
        evidence=D,
    ),
    ModelDeploy(**USE),
    ModelRetire(**USE),
    ModelRollback(**USE),
    ArtifactWithdraw(art=D, reason="consent", scope="all", deadline_ms=9),
    WithdrawAck(node=NODE, index=2, action="not_used", legal=None, before=[D], after=[]),
    UnlearnDone(old=D, new=bytes(32), method="retrained", verification=D),
    InferenceBatch(model=D, count=100, from_ms=1, to_ms=2, root=D),
    HumanOverride(index=3, leaf=D, code="clinician"),
    PeerExposed(node=NODE, kind="fork", evidence=D),
    PeerSuspect(node=NODE, kind="consistency", evidence=None),
    PeerClear(node=NODE, kind="consistency", evidence=None),
    LogRedact(
        index=2, leaf=D, front=D, kind="human.override", written_ms=9, legal="gdpr17", authority=D
    ),
    AuditRun(scope="own", from_size=0, to_size=3, result=0, report=D),
]  # fmt: skip
