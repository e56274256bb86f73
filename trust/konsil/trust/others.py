"""One ledger held against what the others wrote down: forks, rollbacks, two faces.

A received artifact's proof carries the publisher's signed checkpoint. So every receiver is a
witness: whoever shows the auditor a log that does not contain what those checkpoints sign
for has cut it back or keeps two. Two copies of one log must agree where both have entries.

The homes may be those of running nodes, which write while one is read after the other. What a
home held at a moment before any was read can only name checkpoints that were durable by then;
so those receipts are held against the other homes, and later ones next time.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import tiles
from konsil.protocol.errors import ManifestRefused
from konsil.trust.report import COPIED, Findings
from konsil.trust.rules import History
from konsil.trust.structure import Structure
from konsil.trust.withdrawal import check_withdrawals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.trust.rules import Claim, Received

SKEW_MS = 600_000
"""Clocks of two hospitals may differ by so much before an order of times is a finding."""


class Audited(msgspec.Struct, frozen=True):
    """One home after its own audit."""

    home: Path
    moment: int
    """Entries that it had before any of the homes was read."""
    structure: Structure
    history: History
    findings: Findings


def cross_check(homes: Sequence[Audited]) -> dict[int, int]:
    """Holds the homes against each other; findings go to the home that is wrong.

    Returns how many agreeing checkpoints from outside each home has, by its position.
    """
    outside = dict.fromkeys(range(len(homes)), 0)
    by_node: dict[str, list[int]] = {}
    for position, item in enumerate(homes):
        by_node.setdefault(item.history.node, []).append(position)
    for item in homes:
        for received in item.history.received:
            if received.place.index >= item.moment:
                continue
            for position in by_node.get(received.body.publisher, []):
                if homes[position] is not item:
                    outside[position] += _check_receipt(homes[position], received)
    for copies in by_node.values():
        for position in copies[1:]:
            _compare(homes[copies[0]], homes[position])
    _two_faces(homes)
    _rival_charters(homes)
    check_withdrawals(homes)
    _find_cycle(homes)
    return outside


def _check_receipt(publisher: Audited, received: Received) -> int:
    """1 when the checkpoint in a receipt agrees with the publisher's own log, else 0."""
    head, body = received.head, received.body
    if head is None:
        return 0
    structure, findings = publisher.structure, publisher.findings
    folder = structure.layout.folder
    if head.size > structure.size:
        here = structure.size
        message = f"signed for {head.size} entries to a peer, but only {here} are here{COPIED}"
        findings.add("others.rollback", folder, message, index=here, evidence=received.proof)
        return 0
    if not structure.agrees(head):
        message = f"a peer holds another signed log of {head.size} entries"
        findings.add("others.fork", folder, message, evidence=received.proof)
        return 0
    entry = publisher.history.published.get(body.index)
    if entry is None or (entry.body.art, entry.body.env) != (body.art, body.env):
        message = f"entry {body.index} is not what {received.place.file} received"
        findings.add(
            "others.unpublished", folder, message, index=body.index, evidence=received.proof
        )
        return 0
    if received.time_ms + SKEW_MS < entry.time_ms:
        late = (entry.time_ms - received.time_ms) // 1_000
        message = f"published {late} s after a peer had received it"
        findings.add("others.time", entry.place.file, message, index=body.index)
    return 1


def _compare(one: Audited, other: Audited) -> None:
    """Two copies of one log: equal as far as both go, or a fork."""
    size = min(one.structure.size, other.structure.size)
    try:
        if size and one.structure.root(size) != other.structure.root(size):
            index = _first_difference(one.structure, other.structure, size)
            message = f"differs from {one.structure.layout.folder} from entry {index} on"
            folder = other.structure.layout.folder
            other.findings.add("others.fork", folder, message, index=index)
    except ManifestRefused as error:
        other.findings.add("others.fork", other.structure.layout.folder, error.message)


def _first_difference(one: Structure, other: Structure, size: int) -> int:
    full = size // tiles.WIDTH
    group = next((g for g in range(full) if one.tile_root(0, g) != other.tile_root(0, g)), full)
    pairs = zip(one.leaves(group), other.leaves(group), strict=False)
    place = next((at for at, (left, right) in enumerate(pairs) if left != right), 0)
    return group * tiles.WIDTH + place


def _two_faces(homes: Sequence[Audited]) -> None:
    """One publisher, one number, two signed envelopes: equivocation, whoever holds them."""
    first: dict[tuple[str, str, int], Claim] = {}
    told: set[tuple[bytes, bytes]] = set()
    for item in homes:
        for claim in item.history.claims:
            known = first.setdefault((claim.publisher, claim.kind, claim.sequence), claim)
            if known.env == claim.env or (known.env, claim.env) in told:
                continue
            told.add((known.env, claim.env))
            message = f"{claim.publisher} signed two artifacts as {claim.kind} {claim.sequence}"
            item.findings.add("publish.equivocation", claim.file, message, evidence=known.file)


def _rival_charters(homes: Sequence[Audited]) -> None:
    """Two charters of one version cannot both be in force; whoever signed both voted twice."""
    first: dict[int, tuple[bytes, frozenset[str]]] = {}
    for item in homes:
        for version, adopted in item.history.office.charters.versions.items():
            for digest, (place, by) in adopted.items():
                known, before = first.setdefault(version, (digest, by))
                if known == digest:
                    continue
                both = ", ".join(sorted(by & before)) or "nobody"
                message = f"another charter of version {version} was adopted; {both} signed both"
                item.findings.add(
                    "charter.fork", place.file, message, offset=place.offset, index=place.index
                )


def _find_cycle(homes: Sequence[Audited]) -> None:
    """No model can be made from its own descendant."""
    sources: dict[bytes, set[bytes]] = {}
    for item in homes:
        for out, made in item.history.made.items():
            sources.setdefault(out, set()).update(d for d in made.sources if d != out)
    try:
        TopologicalSorter(sources).prepare()
    except CycleError as error:
        cycle: set[bytes] = set(error.args[1])
        for item in homes:
            for out, made in item.history.made.items():
                if out in cycle:
                    message = f"{out.hex()[:16]}… is made from what was made from it"
                    place = made.place
                    item.findings.add(
                        "lineage.cycle",
                        place.file,
                        message,
                        offset=place.offset,
                        index=place.index,
                    )
