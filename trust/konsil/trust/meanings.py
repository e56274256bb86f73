"""What a finding code means and what to do about it, for a person who reads a report.

The words of the meanings are those of docs/spec/ledger.md; the remedies are in
`konsil.trust.remedies`. A code that has no meaning of its own is explained by its group, so
that a reader is never left with a bare word.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from konsil.trust.remedies import remedy

if TYPE_CHECKING:
    from collections.abc import Mapping

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "layout.stray": (
            "a file, link, folder or device that does not belong to a ledger, or a tail or "
            "bundle for entries that nothing here leads up to (more than 1,024 groups "
            "missing)"
        ),
        "layout.missing": "no tail, or no checkpoint",
        "layout.oversize": "larger than any genuine file of its kind",
        "tail.corrupt": (
            "a frame does not match its leaf hash, or an older tail is not part of the log"
        ),
        "tail.torn": "the last frame is short; the next start cuts it off",
        "bundle.corrupt": "a bundle is malformed, or is not what the tail says",
        "bundle.missing": "entries are missing, their hashes are there",
        "tile.mismatch": "a hash tile contradicts the entries",
        "tile.missing": "a hash tile is missing",
        "entry.encoding": "not canonical, or against the schema of its type",
        "entry.position": "stands at another place than it says",
        "entry.genesis": "no valid genesis entry, or a second one",
        "entry.salt": "a salt was used twice",
        "entry.time": "earlier than an entry before it",
        "entry.pruned": "a body is gone, and neither a log.redact nor a node.boot says why",
        "entry.lost": "bodies did not come back when the node took its log back from its peers",
        "key.change": (
            "a key is replaced against the rules, or without the signatures that it takes"
        ),
        "boot.state": (
            "a start names another size or root than the log before it had, or counts as lost "
            "what cannot be"
        ),
        "checkpoint.corrupt": "malformed, or not signed by the log's key alone",
        "checkpoint.rollback": "fewer entries are here than were signed for",
        "checkpoint.root": "the entries are not those that were signed for",
        "checkpoint.behind": (
            "entries after the last checkpoint are not signed for, and no process holds the "
            "ledger (--strict)"
        ),
        "cosigned.corrupt": (
            "the cosigned checkpoint is malformed, or a signature under it is wrong"
        ),
        "cosigned.unknown": "cosigned by a member whose genesis entry is not here",
        "cosigned.time": "an entry's time does not fit the time at which others cosigned",
        "blob.corrupt": "the bytes are not those of the name",
        "blob.missing": "an entry names a blob that is not here",
        "publish.envelope": "the envelope does not verify, or contradicts the entry",
        "publish.revoked": "it was signed by a key that was revoked for this place later",
        "publish.sequence": "a sequence number did not grow",
        "publish.equivocation": "two signed artifacts under one number",
        "receive.envelope": "the received envelope does not verify, or names another payload",
        "receive.proof": "the publisher's proof does not show what the entry says",
        "receive.revoked": "its publisher revoked the key that signed it, after it was received",
        "integrate.sum": "the weights do not sum to 10⁹, or a part stands twice",
        "integrate.unlogged": "a part was never received",
        "integrate.weight": "a weight does not follow from the evidence",
        "integrate.rule": "the rule is not the one for the kind of artifact that it took in",
        "integrate.replay": "the declared parts do not give the declared model (--replay)",
        "integrate.unreplayed": (
            "mixes were not computed again, because payloads of theirs are in no given home "
            "(--replay)"
        ),
        "trust.evidence": "a trust update does not follow from its evidence record, or has none",
        "trust.chain": (
            "a record does not go on from the score that the one before it left, or counts twice"
        ),
        "trust.refusal": (
            "a penalty without the refusal that it is for, or an accusation of equivocation "
            "without both artifacts"
        ),
        "trust.operator": "a gate that no operator's word set",
        "trust.training": "judged or mixed with another round or model than was trained",
        "trust.share": "a share that does not follow from who handed in the payload first",
        "privacy.sum": "a dataset's spends do not sum to what the entry says",
        "privacy.order": "trained or published before an entry said what it cost",
        "privacy.dataset": "one cohort is charged under two datasets",
        "policy.decision": (
            "published against the export policy, or with another decision than follows"
        ),
        "deploy.unknown": (
            "a model in use that no entry made, brought back that never was, or retired that is not"
        ),
        "withdraw.foreign": "withdraws what this node never published",
        "withdraw.deadline": "answers are due before the withdrawal itself",
        "withdraw.late": "a withdrawal was answered after its deadline",
        "withdraw.missing": "a withdrawal was not answered, and its deadline is over",
        "withdraw.claim": "an answer that cannot be true, or to what withdraws nothing",
        "withdraw.deployed": "a model in use descends from what was withdrawn",
        "redact.refused": "a body may not be pruned, not yet, or is another one",
        "charter.chain": (
            "a charter that may not follow, an entry under one that was never adopted, or an "
            "expired one"
        ),
        "charter.fork": "two charters of one version were voted for, or adopted",
        "member.unknown": "a member was added, suspended or removed without enough signatures",
        "inference.root": (
            "the records of a batch are not those that it commits to, or an override of none "
            "of them"
        ),
        "peer.accusation": "a peer is exposed without a fork proof that verifies",
        "lineage.gap": "something was made from a model that no entry explains",
        "lineage.cycle": (
            "a model is made from its own descendant, by the words of one home, or of several "
            "together, of which then none is blamed"
        ),
        "lineage.reused": "one model was made twice, from different things",
        "lineage.claim": "it says that it made what another home had made before",
        "others.fork": (
            "a peer holds a signed state of a log that it does not contain, or two copies differ, "
            "or others hold two signed states of it that cannot both be"
        ),
        "others.rollback": "a peer holds a signed state with more entries than are here",
        "others.unpublished": "a peer received what this log does not publish there",
        "others.time": (
            "published more than ten minutes after a peer says that it received it: one of the "
            "two clocks is wrong, and neither home is blamed"
        ),
        "peers.witnessed": (
            "the record of accepted checkpoints does not chain, or a signature in it is wrong"
        ),
        "peers.mirror": "a mirror is damaged, or does not lead to a root that the member signed",
        "peers.genesis": "not the genesis entry of the member in the file's name",
        "peers.unknown": "kept of a member whose genesis entry or newer key is not here",
        "others.unchecked": "no other given home holds a signed state of this log (--strict)",
    }
)

GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "layout": "the folder of a ledger is not as it must be",
        "tail": "the file of the newest entries is not as it must be",
        "bundle": "a file of entries is not as it must be",
        "tile": "a file of hashes is not as it must be",
        "entry": "an entry is against the rules of the ledger",
        "checkpoint": "the signed head of the ledger does not fit its entries",
        "cosigned": "what others signed for this ledger does not fit it",
        "blob": "a file that an entry names is not as it must be",
        "publish": "a published artifact is against the rules",
        "receive": "a received artifact is against the rules",
        "integrate": "a mix is against the rules",
        "trust": "a change of trust does not follow from what the ledger says",
        "lineage": "the history of a model has a hole or contradicts itself",
        "others": "the ledger does not fit what other members hold",
        "key": "a key was replaced or used against the rules",
        "keys": "a key was replaced or used against the rules",
        "charter": "the rules of the consortium were changed or used against the rules",
        "member": "the list of members was changed against the rules",
        "witness": "a cosignature is not as it must be",
        "redact": "an entry was pruned against the rules",
        "prune": "an entry was pruned against the rules",
        "privacy": "privacy was spent against the rules",
        "withdraw": "a withdrawal was not honoured as it must be",
        "boot": "a start does not fit what the ledger held by then",
        "policy": "something was published against the export policy",
        "deploy": "a model went into or out of use against the rules",
        "inference": "the record of a model's use does not fit what was committed to",
        "peer": "a peer was accused without proof",
        "peers": "what this home keeps of other members is not as it must be",
        "model": "a model went into or out of use against the rules",
    }
)


def meaning(code: str) -> str:
    """What a finding of this code means, and what to do about it."""
    group = GROUPS.get(code.partition(".")[0], "a rule of the ledger does not hold")
    return f"{MEANINGS.get(code, group)}; {remedy(code)}"
