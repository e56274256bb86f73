"""The audit: everything a ledger claims, recomputed from the files of one or several homes.

    report = verify_homes([Path("charite"), Path("bern")], replay=True)
    report.exit_code(strict=True)

Read-only. No index and no earlier verdict is trusted. A home may be that of a running node:
what the node appends meanwhile is simply not looked at.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import genesis
from konsil.protocol.errors import RemoteError, StorageError
from konsil.protocol.identity import node_id
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.trust.layout import scan
from konsil.trust.others import Audited, cross_check
from konsil.trust.replay import replay as replay_mixes
from konsil.trust.report import INCOMPLETE, TAMPERED, Findings, LedgerSummary, Report
from konsil.trust.rules import History
from konsil.trust.sources import Blobs, first_entry, payload_files, read_file
from konsil.trust.structure import walk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from konsil.protocol.genesis import Author

LEDGER = "ledger"
PAYLOADS = "blobs"
PEERS = "peers"
ATTEMPTS = 5
"""A running node may replace its tail while it is read; then the home is read again."""


def verify_home(home: Path, *, replay: bool = False, limits: Limits = DEFAULT_LIMITS) -> Report:
    """The audit of one home. Raises `StorageError` when there is no readable ledger."""
    return verify_homes([home], replay=replay, limits=limits)


def verify_homes(
    homes: Sequence[Path], *, replay: bool = False, limits: Limits = DEFAULT_LIMITS
) -> Report:
    """The audit of several homes, each alone and then against each other.

    `replay` also computes every mix again whose payloads are in one of the homes. Raises
    `StorageError` when a home has no readable ledger.
    """
    authors = known_authors(homes, limits)
    audited = [_audit(home, authors, limits) for home in homes]
    outside = cross_check([item.audited for item in audited])
    stores = [item.store for item in audited]
    summaries: list[LedgerSummary] = []
    for position, item in enumerate(audited):
        replayed = replay_mixes(item.audited, stores, limits) if replay else 0
        summaries.append(_summary(item, replayed=replayed, outside=outside[position]))
    findings = tuple(found for item in audited for found in item.audited.findings.found)
    return Report(ledgers=tuple(summaries), findings=findings)


def known_authors(homes: Sequence[Path], limits: Limits = DEFAULT_LIMITS) -> dict[str, Author]:
    """Every member whose genesis entry is in these homes, by node id.

    A genesis entry certifies itself; a damaged copy of a peer's is left out.
    """
    found: dict[str, Author] = {}
    for home in homes:
        for path in sorted((home / PEERS).glob("*.genesis")):
            with suppress(RemoteError, StorageError, FileNotFoundError):
                author = genesis.read(read_file(path, limits.entry_bytes), limits=limits)
                found[author.node] = author
        with suppress(RemoteError, StorageError, FileNotFoundError):
            author = genesis.read(first_entry(home / LEDGER), limits=limits)
            found[author.node] = author
    return found


class _Home(msgspec.Struct, frozen=True):
    """One home after its own audit, with its blobs."""

    audited: Audited
    store: Blobs
    blobs: int
    payloads: int


def _audit(home: Path, authors: Mapping[str, Author], limits: Limits) -> _Home:
    """One home by itself."""
    if not (home / LEDGER).is_dir():
        raise StorageError(
            f"{home}: there is no ledger here", hint="name the home of a node (konsil init)"
        )
    for _ in range(ATTEMPTS):
        try:
            return _attempt(home, authors, limits)
        except FileNotFoundError as error:
            gone = error.filename
    raise StorageError(f"{gone}: disappeared while it was read")


def _attempt(home: Path, authors: Mapping[str, Author], limits: Limits) -> _Home:
    findings, store = Findings(home.name or str(home)), Blobs()
    layout = scan(home / LEDGER, findings)
    blobs = store.add(layout.blobs, findings)
    payloads = store.add(payload_files(home / PAYLOADS), findings)
    node = ""
    with suppress(RemoteError, StorageError, FileNotFoundError):
        node = node_id(first_entry(home / LEDGER))
    history = History(node, authors, store, findings, limits)
    structure = walk(layout, findings, limits, history.take)
    history.finish()
    return _Home(Audited(home, structure, history, findings), store, blobs, payloads)


def _summary(item: _Home, *, replayed: int, outside: int) -> LedgerSummary:
    audited = item.audited
    structure, history = audited.structure, audited.history
    author, head = structure.author, structure.head
    signed = 0 if head is None else head.size
    return LedgerSummary(
        home=str(audited.home),
        name=audited.home.name if author is None else author.name,
        node_id=history.node,
        origin="" if author is None else author.origin,
        entries=structure.size,
        root=structure.root().hex(),
        signed=signed,
        beyond_checkpoint=max(0, structure.size - signed),
        types=dict(sorted(structure.types.items())),
        opaque=structure.opaque,
        blobs=item.blobs,
        payloads=item.payloads,
        replayed=replayed,
        not_replayed=len(history.integrated) - replayed,
        outside_checkpoints=outside,
        unchecked_receipts=history.unchecked,
        verified=not any(
            found.exit_code in (TAMPERED, INCOMPLETE) for found in audited.findings.found
        ),
    )
