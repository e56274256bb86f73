"""The audit: everything a ledger claims, recomputed from the files of one or several homes.

    report = verify_homes([Path("charite"), Path("bern")], replay=True)
    report.exit_code(strict=True)

Read-only. No index and no earlier verdict is trusted. A home may be that of a running node:
what the node appends meanwhile is verified in itself, as far as it is seen at all, and held
against the other homes at the next audit.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import genesis
from konsil.protocol.errors import RemoteError, StorageError
from konsil.protocol.keyring import Keyring
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.trust.audited import Audited
from konsil.trust.cosigned import check_cosigned
from konsil.trust.hidden import Hidden
from konsil.trust.holes import outside_holes
from konsil.trust.integrate import is_taught
from konsil.trust.keyrings import known_keyrings
from konsil.trust.layout import MAX_BLOB_BYTES, list_folder, scan
from konsil.trust.others import cross_check
from konsil.trust.peers import GENESIS, PEERS, accepted_now, check_peers
from konsil.trust.printable import printable
from konsil.trust.replay import replay as replay_mixes
from konsil.trust.report import (
    INCOMPLETE,
    TAMPERED,
    Finding,
    Findings,
    LedgerSummary,
    Report,
    gravest,
    notices_about,
)
from konsil.trust.rules import History
from konsil.trust.sources import (
    ATTEMPTS,
    BLOBS,
    LEDGER,
    Blobs,
    entries_now,
    first_entry,
    ledger_of,
    payload_digests,
    read_file,
)
from konsil.trust.walking import walk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from konsil.protocol.genesis import Author
    from konsil.trust.structure import Pruned

    _Known = tuple[Mapping[str, Author], Mapping[str, Keyring]]
    """The members by node id, and the keys of those whose keys changed."""


_ON_MEMBERS_KEYS = frozenset(("peers.unknown", "cosigned.unknown", "peer.accusation"))
"""What else rests on which keys another member had, beside what it published."""


def verify_home(home: Path, *, replay: bool = False, limits: Limits = DEFAULT_LIMITS) -> Report:
    """The audit of one home. Raises as `verify_homes` does."""
    return verify_homes([home], replay=replay, limits=limits)


def verify_homes(
    homes: Sequence[Path],
    *,
    replay: bool = False,
    is_held: Callable[[Path], bool] = lambda _: False,
    limits: Limits = DEFAULT_LIMITS,
) -> Report:
    """The audit of several homes, each alone and then against each other.

    `replay` also computes every mix again whose payloads are in one of the homes. `is_held`
    says whether a process holds the ledger in a folder open for writing. Raises `UsageError`
    for a home that does not exist, and `StorageError` when one has no readable ledger.
    """
    moments = [_Moment(entries_now(ledger_of(home)), accepted_now(home, limits)) for home in homes]
    authors = known_authors(homes, limits)
    keyrings = known_keyrings(homes, authors, limits)
    audited = [
        _audit(home, moment, (authors, keyrings.of(at)), is_held, limits)
        for at, (home, moment) in enumerate(zip(homes, moments, strict=True))
    ]
    crossed = cross_check([item.audited for item in audited], keyrings.forks)
    stores = [item.store for item in audited]
    replayed = [replay_mixes(item.audited, stores, limits) if replay else None for item in audited]
    forked = bool(keyrings.forks)
    standing = [_standing(item, audited, forked=forked) for item in audited]
    summaries = [
        _summary(item, standing[at], replayed=replayed[at], outside=crossed.outside[at])
        for at, item in enumerate(audited)
    ]
    return Report(
        ledgers=tuple(summaries),
        findings=(*(found for one in standing for found in one), *crossed.told),
        notices=tuple(notice for item in summaries for notice in notices_about(item)),
    )


def _standing(item: _Home, audited: Sequence[_Home], *, forked: bool) -> list[Finding]:
    """The findings about one home that do not follow from what cannot be read, or from which keys
    a member had whose log `forked`."""
    found, others = item.audited.findings.found, [one for one in audited if one is not item]
    if forked:
        found = [one for one in found if one.code not in _ON_MEMBERS_KEYS]
    return outside_holes(
        found,
        _holes(item),
        keys=item.audited.structure.lost_keys,
        elsewhere=any(_holes(one) for one in others),
        # A mirror shows the keys of its owner when the owner's home is not given.
        their_keys=forked
        or any(one.audited.structure.lost_keys is not None for one in others)
        or any(one.code == "peers.mirror" for one in found),
    )


def _holes(item: _Home) -> list[int]:
    """The entries of one home that cannot be read, damaged or lost for good, in order."""
    audited = item.audited
    return sorted([*audited.structure.lost, *audited.history.office.redactions.gone])


def known_authors(homes: Sequence[Path], limits: Limits = DEFAULT_LIMITS) -> dict[str, Author]:
    """Every member whose genesis entry is in these homes, by node id.

    A genesis entry certifies itself; what is no genuine copy of a peer's is left out. Raises
    `StorageError` when a file cannot be read.
    """
    found: dict[str, Author] = {}
    for home in homes:
        with suppress(FileNotFoundError):
            names = [name for name in list_folder(home / PEERS) if name.endswith(GENESIS)]
            for name in names:
                with suppress(RemoteError, FileNotFoundError):
                    data = read_file(home / PEERS / name, limits.entry_bytes)
                    author = genesis.read(data, limits=limits)
                    found[author.node] = author
        with suppress(RemoteError, FileNotFoundError):
            author = genesis.read(first_entry(home / LEDGER), limits=limits)
            found[author.node] = author
    return found


class _Moment(msgspec.Struct, frozen=True):
    """What a home held before any of the homes was read."""

    entries: int | None
    accepted: frozenset[bytes]


class _Home(msgspec.Struct, frozen=True):
    """One home after its own audit, with its blobs."""

    audited: Audited
    store: Blobs
    blobs: int
    payloads: int
    running: bool


def _audit(
    home: Path,
    moment: _Moment,
    known: _Known,
    is_held: Callable[[Path], bool],
    limits: Limits,
) -> _Home:
    """One home by itself; `moment` is what it had before."""
    running = is_held(home / LEDGER)
    for _ in range(ATTEMPTS):
        try:
            item = _attempt(home, moment, known, limits)
            return msgspec.structs.replace(item, running=running or is_held(home / LEDGER))
        except FileNotFoundError as error:
            gone = error.filename
    raise StorageError(f"{gone}: disappeared while it was read")


def _attempt(home: Path, moment: _Moment, known: _Known, limits: Limits) -> _Home:
    findings = Findings(home.name or str(home))
    store, kept, folder = Blobs(findings), Blobs(findings), home / LEDGER
    layout = scan(folder, findings, opens_blobs=True)
    # What an entry names goes with the ledger: a payload beside it is no evidence of it.
    blobs = kept.add(folder / BLOBS, layout.blobs, MAX_BLOB_BYTES)
    payloads = store.add(home / BLOBS, payload_digests(home / BLOBS), limits.payload_bytes)
    node = ""
    with suppress(RemoteError, FileNotFoundError):
        node = genesis.read(first_entry(folder), limits=limits).node
    authors, keyrings = known
    history = History(node, authors, kept, findings, limits, keyrings=keyrings, home=home)
    redacted = Hidden(layout, limits)

    def gone(item: Pruned) -> None:
        if (body := redacted.of(item)) is not None:
            history.hidden(item.place, body)

    structure = walk(layout, findings, limits, history.take, history.missed, gone, history.ahead)
    rings = [keyrings.get(node, Keyring.of(author)) for node, author in authors.items()]
    liars = history.office.charters.liars
    fence = check_cosigned(structure, rings, findings, limits, liars=liars)
    seen = check_peers(home, {ring.author.node: ring for ring in rings}, findings, limits)
    history.finish(structure, fence)
    held = structure.size if moment.entries is None else moment.entries
    before = tuple(one for one in seen if one.note in moment.accepted)
    audited = Audited(home, held, structure, history, findings, fence, before)
    return _Home(audited, store, blobs, payloads, running=False)


def _summary(
    item: _Home, findings: Sequence[Finding], *, replayed: int | None, outside: int
) -> LedgerSummary:
    audited = item.audited
    structure, history = audited.structure, audited.history
    author, head = structure.author, structure.head
    signed = 0 if head is None else head.size
    code = gravest(found.exit_code for found in findings)
    taught = sum(is_taught(body) for _, body in history.integrated)
    return LedgerSummary(
        home=printable(str(audited.home)),
        name=audited.findings.ledger if author is None else author.name,
        node_id=history.node,
        origin="" if author is None else author.origin,
        entries=structure.size,
        root=structure.root().hex() if structure.knows(structure.size) else "",
        signed=signed,
        beyond_checkpoint=0 if head is None else max(0, structure.size - signed),
        running=item.running,
        types=dict(sorted(structure.types.items())),
        opaque=structure.opaque,
        redacted=history.office.redactions.explained,
        blobs=item.blobs,
        payloads=item.payloads,
        replayed=replayed or 0,
        not_replayed=len(history.integrated) - taught - (replayed or 0),
        taught=taught,
        asked=replayed is not None,
        lost=len(_holes(item)),
        outside_checkpoints=outside,
        unchecked_receipts=history.unchecked,
        verified=code not in (TAMPERED, INCOMPLETE),
        exit_code=code,
    )
