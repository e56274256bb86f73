"""What is not concluded from entries that cannot be read.

Many rules hold an entry against those before it: what a model was made from, where a score
stands, what was spent. Behind a hole in the log such a rule finds fault with an honest node,
and the hole is a finding already. So one damaged byte is one finding.

A rule that shows what is wrong by entries that are here (a second genesis entry, a forged
envelope, a mix that does not add up) is held behind a hole as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.trust.report import Finding

ON_EARLIER = frozenset(
    (
        "charter.chain", "deploy.unknown", "entry.pruned", "integrate.unlogged",
        "integrate.weight", "lineage.gap", "member.unknown", "policy.decision", "privacy.order",
        "privacy.sum", "redact.refused", "trust.chain", "trust.evidence", "trust.operator",
        "trust.refusal", "trust.share", "trust.training", "withdraw.foreign",
    )
)  # fmt: skip
"""Findings that rest on what no entry before says: it may stand in the hole."""

ON_KEYS = frozenset(("key.change", "publish.envelope", "publish.revoked"))
"""Findings that rest on which key of the log was in force: a change of it may stand in the hole."""

ON_THEIR_KEYS = frozenset(("receive.envelope", "receive.proof", "receive.revoked"))
"""Findings that rest on which key of another member was in force."""

ON_OTHERS = frozenset(
    ("withdraw.claim", "withdraw.deployed", "withdraw.missing", "member.unknown", "charter.chain")
)
"""Findings that rest on what the log of another member says."""


def outside_holes(
    found: Sequence[Finding],
    lost: Sequence[int],
    *,
    keys: int | None,
    elsewhere: bool,
    their_keys: bool,
) -> list[Finding]:
    """The findings about one log that stand although the entries `lost` cannot be read.

    `keys`: the first of them that may have been a change of keys. `elsewhere`: another given log
    has holes; `their_keys`: a change of keys may be in one, or in a damaged mirror. What is left
    out never makes the verdict milder than the hole itself does.
    """
    kept = []
    for one in found:
        behind = _is_behind(one, lost[0] if lost else None)
        rests = (
            (behind and one.code in ON_EARLIER | ON_OTHERS)
            or (_is_behind(one, keys) and one.code in ON_KEYS)
            or (elsewhere and one.code in ON_OTHERS)
            or (their_keys and one.code in ON_THEIR_KEYS)
        )
        if not rests:
            kept.append(one)
    return kept


def _is_behind(one: Finding, hole: int | None) -> bool:
    return hole is not None and (one.index is None or one.index >= hole)
