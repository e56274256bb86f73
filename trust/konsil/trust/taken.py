"""Taken: what a log received of whom, and as which kind its publisher signed it.

Kinds decide how a payload is weighed and taken in, so nobody may choose another one for it: a
judgement of it must be about that kind, and a mix must use the rule of that kind; answers are
judged and taken in as the receiver's own kind of answers. Of a manifest
that cannot be read nothing is concluded, and a later receipt takes nothing back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.trust import integrate

if TYPE_CHECKING:
    from konsil.protocol.artifact import Artifact

Pair = tuple[bytes, str]
"""A payload, and who published it."""


class Taken:
    """Feed it every receipt of a log; ask it about judgements and mixes behind them."""

    def __init__(self) -> None:
        self._known: dict[Pair, set[tuple[str, str]]] = {}

    def note(self, pair: Pair, manifest: Artifact | None) -> None:
        """Something was received; `manifest` is None where it cannot be read."""
        known = self._known.setdefault(pair, set())
        if manifest is not None:
            known.add((manifest.kind, manifest.base))

    def __contains__(self, pair: Pair) -> bool:
        return pair in self._known

    def judged(self, pair: Pair, kind: str) -> str:
        """What is wrong with judging it as this kind, in words; empty for nothing."""
        kinds = {known for known, _ in self._known.get(pair, ())}
        if not kinds or not kinds.isdisjoint(integrate.alike(kind)):
            return ""
        return f"{pair[1]} is judged for {kind}, but gave {', '.join(sorted(kinds))}"

    def mixed(self, pair: Pair, rule: str, base: bytes | None) -> str:
        """What is wrong with a rule for it, where the log began with `base`; empty for nothing."""
        for kind, about in sorted(self._known.get(pair, ())):
            if not integrate.fits(rule, kind):
                return f"the rule {rule} for what {pair[1]} gave as {kind}"
            if rule == integrate.VECTORS and base is not None and about != base.hex():
                return f"a vector of {pair[1]} is a difference from another base than this log's"
        return ""
