"""References: an artifact that is a change of an earlier one, fetched behind that one.

A manifest names by envelope the artifact of the same publisher and kind whose tensors its payload
changes. Whoever does not hold that one asks the same holder for it, and so on down the chain;
they are taken in from the oldest on, each by all the checks of any artifact. A chain has at most
`LINKS` of them. The publisher answers for what it names: an artifact of somebody else, one that
is refused, a chain that is too long, or one that it does not show itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.node.exchange.admission import Admitted, Refusal
from konsil.node.learning.press import head_of
from konsil.node.learning.travelling import LINKS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from konsil.node.learning.shelf import Shelf
    from konsil.protocol.messages import Head

REASON = "reference"


class Unmet(Exception):
    """An artifact is a change of another one, which is not here."""

    def __init__(self, env: bytes) -> None:
        super().__init__(env.hex())
        self.env = env


def require(admitted: Admitted, shelf: Shelf) -> None:
    """Raise `Unmet` unless what the artifact is a change of is on the shelf.

    Raises `Refusal` when that is of somebody else, or of another kind.
    """
    artifact = admitted.artifact
    if artifact.payload.reference is None:
        return
    env = bytes.fromhex(artifact.payload.reference)
    held = shelf.get(env)
    if held is None:
        raise Unmet(env)
    if (held.head.publisher, held.head.kind) != (artifact.publisher, artifact.kind):
        raise Refusal("manifest", (REASON,), artifact.publisher)


async def fetch(
    head: Head,
    one: Callable[[Head], Awaitable[Admitted | None]],
    take: Callable[[Head, Admitted, Head], Awaitable[None]],
) -> tuple[Admitted | None, Head]:
    """What `one` fetches of `head` once all that it is a change of is here; what it asked last.

    `one` raises `Unmet` as `require` does, and gives None for what cannot be had now; so does
    this, with what that was. `take(link, admitted, wanted)` takes in a link that was fetched under
    the head `wanted`. Raises `Refusal` of `head` for whatever is refused on the way.
    """
    chain, tried = [head], {head.env}
    while True:
        wanted = chain[-1]
        try:
            admitted = await one(wanted)
            if admitted is None or wanted is head:
                return admitted, wanted
            await take(head_of(admitted.artifact, admitted.envelope), admitted, wanted)
            chain.pop()
        except Unmet as unmet:
            if unmet.env in tried:
                return None, head  # it came, and could not be taken in: a trouble of our own
            if len(chain) > LINKS:
                raise refused(head) from unmet
            tried.add(unmet.env)
            chain.append(msgspec.structs.replace(head, env=unmet.env, sequence=0))
        except Refusal as refusal:
            if wanted is head:
                raise
            raise Refusal(refusal.stage, (REASON,), refusal.culprit) from refusal


def refused(head: Head) -> Refusal:
    """The refusal of an artifact whose publisher names what cannot be had of it."""
    return Refusal("manifest", (REASON,), head.publisher)
