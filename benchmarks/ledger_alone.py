"""One part of the ledger's benchmark in a process that does nothing else; JSON on stdout."""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from pathlib import Path

import msgpack

from benchmarks.long_ledger import KEYS, Clock
from benchmarks.measure import MIB, peak
from konsil.node.store.journal import Journal
from konsil.protocol import envelope, merkle, tiles
from konsil.trust.audit import verify_home


def audit(home: Path) -> dict[str, float]:
    """Seconds of the processor: the audit, and the least that any audit has to do."""
    began = time.process_time()
    report = verify_home(home)
    took = time.process_time() - began
    if report.findings:
        raise SystemExit(report.findings[0].line())
    floor = _floor(home / "ledger")
    return {"audit": took, "floor": floor, "signatures": _signatures(home / "ledger")}


def memory(home: Path) -> dict[str, float]:
    """The peak of resident memory of an audit, the interpreter and all libraries included."""
    began = time.process_time()
    report = verify_home(home)
    took = time.process_time() - began
    if report.findings:
        raise SystemExit(report.findings[0].line())
    return {"peak": peak() / MIB, "audit": took}


def restart(home: Path) -> dict[str, float]:
    """Milliseconds until a journal is open, files in the page cache."""
    wall, cpu = [], []
    for _ in range(7):
        began, used = time.perf_counter(), time.process_time()
        journal = Journal.open(home / "ledger", KEYS, Clock(), random.Random(16).randbytes)
        wall.append(1_000 * (time.perf_counter() - began))
        cpu.append(1_000 * (time.process_time() - used))
        journal.close()
    return {"wall": statistics.median(wall), "cpu": statistics.median(cpu)}


def _floor(ledger: Path) -> float:
    """Decode, encode and compare every entry, and compute the tree; files read before."""
    bundles = sorted((ledger / "tile" / "entries").rglob("[0-9]*"))
    data = [path.read_bytes() for path in bundles]
    items = [entry for one in data for _, entry in tiles.read_bundle(one)]
    (tail,) = ledger.glob("tail.*")
    items += [one.entry for one in tiles.read_tail(tail.read_bytes()).frames]
    began = time.process_time()
    for item in items:
        if msgpack.packb(msgpack.unpackb(item), use_bin_type=True) != item:
            raise SystemExit("not canonical")
    merkle.root_of([merkle.leaf_hash(item) for item in items])
    return time.process_time() - began


def _signatures(ledger: Path) -> float:
    """Verify the signature of every envelope; files read and parsed before."""
    found = []
    for path in (ledger / "blobs" / "sha256").glob("*/*"):
        sealed = envelope.unpack(path.read_bytes())
        found.append((sealed.signatures[0].sig, envelope.pae(sealed.payload_type, sealed.payload)))
    key = KEYS["art"].public
    began = time.process_time()
    for signature, message in found:
        key.verify(signature, message)
    return time.process_time() - began


if __name__ == "__main__":
    print(
        json.dumps(
            {"audit": audit, "memory": memory, "restart": restart}[sys.argv[1]](Path(sys.argv[2]))
        )
    )
