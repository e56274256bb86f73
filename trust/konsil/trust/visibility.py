"""Visibility: which bodies of a log leave the node, and to whom.

Hashes go to everybody, because without them nobody could hold us to our word. A body goes to
every member, to the members that it names, or to auditors only (who read the home itself);
what is not listed is for auditors only, so that a type added later leaks nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol import entries
from konsil.protocol.errors import RemoteError
from konsil.protocol.learning_bodies import ArtifactIntegrate, ArtifactReceive, ArtifactReject
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from konsil.protocol.entries import Body

MEMBERS = frozenset(
    {
        "node.genesis", "node.boot", "key.rotate", "key.revoke", "charter.propose",
        "charter.vote", "charter.adopt", "member.add", "member.suspend", "member.remove",
        "artifact.publish", "artifact.withdraw", "withdraw.ack", "unlearn.done",
        "peer.exposed", "log.redact",
    }
)  # fmt: skip
"""Types whose bodies every member may see; docs/spec/ledger.md, Mirrors."""


def visible_to(node: str, entry: bytes, *, limits: Limits = DEFAULT_LIMITS) -> bool:
    """Whether member `node` may see the body of this entry of our log."""
    try:
        frame = entries.peek(entry, limits=limits)
        if frame.t in MEMBERS:
            return True
        return node in _named(entries.open_frame(frame).b)
    except RemoteError:
        return False


def _named(body: Body) -> frozenset[str]:
    """The members that a body is about and that may therefore see it."""
    if isinstance(body, ArtifactIntegrate):
        return frozenset(part.node for part in body.parts)
    if isinstance(body, ArtifactReceive | ArtifactReject):
        return frozenset({body.publisher})
    return frozenset()
