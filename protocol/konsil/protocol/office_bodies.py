"""Entry bodies of the office: charter and members, deployment, withdrawal, use at the bedside.

What people decide. A charter, vote or credential is a signed document beside the ledger; the
entry holds its digest and puts it at a place in time.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from konsil.protocol.fields import Code, Count, Number
from konsil.protocol.records import DigestField, NodeField


class CharterPropose(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A new version of the charter is put to the vote."""

    charter: DigestField
    version: Number
    prev: DigestField


class CharterVote(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """This node's signature under a version, logged before it is released: one a version."""

    charter: DigestField
    version: Number
    envelope: DigestField


class CharterAdopt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A version came into force: its envelope carries enough signatures."""

    charter: DigestField
    version: Count
    envelope: DigestField | None


class MemberAdd(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A node joins, by a signed credential."""

    node: NodeField
    credential: DigestField
    effective_ms: Count


class MemberSuspend(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A node may not take part until it is cleared; `evidence` is a fork proof, or k votes."""

    node: NodeField
    credential: DigestField | None
    evidence: DigestField
    effective_ms: Count


class MemberRemove(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A node is no member any more."""

    node: NodeField
    credential: DigestField | None
    evidence: DigestField
    effective_ms: Count


class PolicyLocal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """This node's own export and consent policy, from here on."""

    policy: DigestField
    version: Number


class ModelDeploy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model went into use. `approver` commits to a role, `step` is the PCCP step."""

    model: DigestField
    approver: DigestField
    step: Code
    evaluation: DigestField


class ModelRetire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model went out of use."""

    model: DigestField
    approver: DigestField
    step: Code
    evaluation: DigestField | None


class ModelRollback(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An earlier model came back into use."""

    model: DigestField
    approver: DigestField
    step: Code
    evaluation: DigestField | None


class ArtifactWithdraw(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The publisher takes an own artifact back; every member answers by `deadline_ms`."""

    art: DigestField
    reason: Literal["consent", "gdpr17", "quality", "poison", "licence"]
    scope: Code
    deadline_ms: Count


class WithdrawAck(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What this node did about the withdrawal at entry `index` of the log of `node`."""

    node: NodeField
    index: Count
    action: Literal["removed_exact", "retrained", "rolled_back", "not_used", "refused"]
    legal: Code | None
    before: list[DigestField]
    after: list[DigestField]


class InferenceBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model was used: `root` is the RFC 6962 root over the local salted records."""

    model: DigestField
    count: Count
    from_ms: Count
    to_ms: Count
    root: DigestField


class HumanOverride(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A person decided otherwise than the model: record `leaf` of the batch at `index`."""

    index: Count
    leaf: DigestField
    code: Code
