"""One ledger held against what the others wrote down: forks, rollbacks, two faces.

A received artifact's proof carries the publisher's signed checkpoint, and whoever mirrors a log
keeps those that it accepted (`peers/witness.log`). So every peer is a witness: whoever shows
the auditor a log that does not contain what those checkpoints sign for has cut it back or keeps
two. Two copies of one log must agree where both have entries.

The homes may be those of running nodes, which write while one is read after the other. What a
home held at a moment before any was read can only name checkpoints that were durable by then;
so those are held against the other homes, and later ones next time.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import permutations
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import tiles
from konsil.protocol.checkpoint import node_of
from konsil.protocol.errors import ManifestRefused
from konsil.trust.cosigned import check_times
from konsil.trust.descent import Descent, check_claims, check_cycles
from konsil.trust.fence import SKEW_MS
from konsil.trust.layout import COSIGNED
from konsil.trust.report import COPIED, Finding, Findings
from konsil.trust.withdrawal import check_withdrawals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from konsil.protocol.checkpoint import Checkpoint
    from konsil.trust.audited import Audited
    from konsil.trust.keyrings import Fork
    from konsil.trust.peers import Seen
    from konsil.trust.rules import Claim, Received
    from konsil.trust.structure import Structure


NOBODY = "nobody's"
"""Where a finding stands that is about none of the given homes."""


class Crossed(msgspec.Struct, frozen=True):
    """What holding the homes against each other gave, beside the findings about them."""

    outside: dict[int, int]
    """How many agreeing checkpoints from outside each home has, by its position."""
    told: tuple[Finding, ...]
    """What is wrong with a log that is not here, or lies between homes that are."""


def cross_check(homes: Sequence[Audited], forks: Sequence[Fork] = ()) -> Crossed:
    """Holds the homes against each other; findings go to the home that is wrong.

    `forks` are logs of which two accounts are signed for that cannot both be.

    Invariant: no home gets a finding for what another one wrote. What is wrong with somebody
    whose home is not here, or with one of two homes and nobody can say which, is only told.
    """
    told = Findings(NOBODY)
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
                    outside[position] += _check_receipt(homes[position], received, told)
        for seen in item.seen:
            for position in by_node.get(node_of(seen.head.origin), []):
                outside[position] += _check_seen(homes[position], seen)
    for copies in by_node.values():
        for position in copies[1:]:
            _compare(homes[copies[0]], homes[position])
        for one, other in permutations(copies, 2):
            _hold_times(homes[one], homes[other])
    _two_faces(homes, told)
    _rivals(homes, told)
    for fork in forks:
        _forked(homes, fork, told)
    _rival_charters(homes, told)
    descent = Descent(homes)
    check_withdrawals(homes, descent)
    check_cycles(homes, descent, check_claims(homes, descent), told)
    return Crossed(outside, tuple(told.found))


def _check_seen(log: Audited, seen: Seen) -> int:
    """1 when a checkpoint that a peer accepted agrees with the log itself, else 0."""
    head, path, structure = seen.head, seen.path, log.structure
    if head.size > structure.size:
        _cut_back(log, head.size, path)
    elif structure.contradicts(head):
        message = f"a peer holds another signed log of {head.size} entries"
        log.findings.add("others.fork", structure.layout.folder, message, evidence=path)
    return int(structure.agrees(head))


def _cut_back(log: Audited, size: int, evidence: Path | None) -> None:
    here = log.structure.size
    message = f"signed for {size} entries to a peer, but only {here} are here{COPIED}"
    folder = log.structure.layout.folder
    log.findings.add("others.rollback", folder, message, index=here, evidence=evidence)


def _check_receipt(publisher: Audited, received: Received, told: Findings) -> int:
    """1 when the checkpoint in a receipt agrees with the publisher's own log, else 0."""
    head, body = received.head, received.body
    if head is None:
        return 0
    structure, findings = publisher.structure, publisher.findings
    folder = structure.layout.folder
    if head.size > structure.size:
        _cut_back(publisher, head.size, received.proof)
        return 0
    if structure.contradicts(head):
        message = f"a peer holds another signed log of {head.size} entries"
        findings.add("others.fork", folder, message, evidence=received.proof)
        return 0
    if not structure.agrees(head) or body.index in structure.lost:
        return 0  # what cannot be read is a finding of its own
    entry = publisher.history.published.get(body.index)
    if entry is None and _is_gone(structure, body.index):
        return 1  # the hash that stands for it is that of the entry in the receiver's proof
    if entry is None or (entry.body.art, entry.body.env) != (body.art, body.env):
        message = f"entry {body.index} is not what {received.place.file} received"
        findings.add(
            "others.unpublished", folder, message, index=body.index, evidence=received.proof
        )
        return 0
    if received.time_ms + SKEW_MS < entry.time_ms:
        late = (entry.time_ms - received.time_ms) // 1_000
        message = f"published {late} s after {received.place.file} says that it was received"
        message += ": the clock of one of the two is wrong"
        told.add(
            "others.time", entry.place.file, message, index=body.index, evidence=received.proof
        )
    return 1


def _is_gone(structure: Structure, index: int) -> bool:
    """Whether the body of an entry is not here: pruned, lost, or in a bundle that is missing."""
    start = structure.layout.tails[-1] if structure.layout.tails else index + 1
    missing = index < start and index // tiles.WIDTH not in structure.layout.bundles
    return missing or any(item.place.index == index for item in structure.pruned)


def _compare(one: Audited, other: Audited) -> None:
    """Two copies of one log: equal as far as both go, or a fork."""
    size = min(one.structure.size, other.structure.size)
    if not (one.structure.knows(size) and other.structure.knows(size)):
        return  # a damaged tail is a finding of its own, and what is lost is no other history
    try:
        if size and one.structure.root(size) != other.structure.root(size):
            index = _first_difference(one.structure, other.structure, size)
            message = f"differs from {one.structure.layout.folder} from entry {index} on"
            folder = other.structure.layout.folder
            other.findings.add("others.fork", folder, message, index=index)
    except ManifestRefused as error:
        other.findings.add("others.fork", other.structure.layout.folder, error.message)


def _hold_times(one: Audited, other: Audited) -> None:
    """What was cosigned of one copy of a log says when the entries of another were written."""
    found, log = one.fence, other.structure
    if found is None or found == other.fence or found.head.size > log.size:
        return
    if log.agrees(found.head):
        # A running node replaces its tail: then its copy is held against this one next time.
        with suppress(FileNotFoundError):
            check_times(log, found, one.structure.layout.path(COSIGNED), other.findings)


def _first_difference(one: Structure, other: Structure, size: int) -> int:
    full = size // tiles.WIDTH
    group = next((g for g in range(full) if one.tile_root(0, g) != other.tile_root(0, g)), full)
    pairs = zip(one.leaves(group), other.leaves(group), strict=False)
    place = next((at for at, (left, right) in enumerate(pairs) if left != right), 0)
    return group * tiles.WIDTH + place


def _two_faces(homes: Sequence[Audited], told: Findings) -> None:
    """One publisher, one number, two signed envelopes: equivocation, whoever holds them."""
    of_node = {item.history.node: item.findings for item in reversed(homes)}
    first: dict[tuple[str, str, int], Claim] = {}
    seen: set[tuple[bytes, bytes]] = set()
    for item in homes:
        for claim in item.history.claims:
            known = first.setdefault((claim.publisher, claim.kind, claim.sequence), claim)
            if known.env == claim.env or (known.env, claim.env) in seen:
                continue
            seen.add((known.env, claim.env))
            message = f"{claim.publisher} signed two artifacts as {claim.kind} {claim.sequence}"
            about = of_node.get(claim.publisher, told)
            about.add("publish.equivocation", claim.file, message, evidence=known.file)


def _rivals(homes: Sequence[Audited], told: Findings) -> None:
    """An author whose home is not here signed two logs of one size: others hold both."""
    given = {item.history.node for item in homes}
    first: dict[tuple[str, int], tuple[bytes, Path | None]] = {}
    for item in homes:
        for author, head, shown in _shown(item):
            if author in given:
                continue
            root, before = first.setdefault((author, head.size), (head.root, shown))
            if root != head.root:
                message = f"{author} signed two different logs of {head.size} entries"
                told.add("others.fork", shown or item.home, message, evidence=before)


def _forked(homes: Sequence[Audited], fork: Fork, told: Findings) -> None:
    """Two accounts of one log have different changes of keys: its author signed for both."""
    own = [item.findings for item in homes if item.history.node == fork.node]
    about = own[0] if own else told
    if not any(one.code == "others.fork" for one in about.found if own or fork.node in one.message):
        message = f"{fork.node} signed for two histories of its keys"
        about.add("others.fork", fork.one, message, evidence=fork.other)


def _shown(item: Audited) -> Iterator[tuple[str, Checkpoint, Path | None]]:
    """The checkpoints of others that a home holds: whose each is, and the file that shows it."""
    for received in item.history.received:
        if received.head is not None:
            yield received.body.publisher, received.head, received.proof
    for seen in item.seen:
        yield node_of(seen.head.origin), seen.head, seen.path


def _rival_charters(homes: Sequence[Audited], told: Findings) -> None:
    """Two charters of one version cannot both be in force; whoever signed both voted twice.

    Who only adopted one of them, as its rules allow, did no wrong.
    """
    of_node = {item.history.node: item.findings for item in reversed(homes)}
    first: dict[int, tuple[bytes, frozenset[str]]] = {}
    for item in homes:
        for version, adopted in item.history.office.charters.versions.items():
            for digest, (place, by) in adopted.items():
                known, before = first.setdefault(version, (digest, by))
                if known == digest:
                    continue
                both = sorted(by & before)
                message = f"another charter of version {version} was adopted; "
                message += f"{', '.join(both) or 'nobody'} signed both"
                for about in [of_node[one] for one in both if one in of_node] or [told]:
                    about.add(
                        "charter.fork", place.file, message, offset=place.offset, index=place.index
                    )
