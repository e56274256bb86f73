"""The ledger: durable appends, restart, disk, proofs, the whole audit, lineage.

Limits are measured in the same run on the same entries, in turns: the least that any program
would have to do. The audit and the restart run in processes of their own.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import tree_peer
from benchmarks.long_ledger import KEYS, Clock, Writer, write
from benchmarks.measure import Row, at_least, at_most, median, ratios
from konsil.node.store.durable import write_all
from konsil.node.store.journal import Journal
from konsil.protocol import entries, merkle, records
from konsil.protocol.fields import UNIT_E9
from konsil.trust.lineage import Lineage, Source, Step

GROUPS = ((1, 300), (16, 300), (128, 200))
LEAVES = 100_000
SIGN_EVERY = 1_024


def run(*, quick: bool = False) -> list[Row]:
    """The rows of the ledger's benchmarks; `quick` is for trying it out."""
    with tempfile.TemporaryDirectory(prefix="konsil-bench-") as name:
        folder = Path(name)
        rows = _appends(folder, 20 if quick else 1)
        rows += _proofs(LEAVES // 100, beside=False) if quick else _proofs(LEAVES, beside=True)
        rows += _lineage(5 if quick else 250)
        middle, large = (600, 1_500) if quick else (100_000, 1_000_000)
        write(folder / "middle", middle, middle // 5)
        rows += _audit(folder / "middle", middle, 1 if quick else 3)
        write(folder / "large", large, large // 50)
        return rows + _large(folder / "large", large)


def _appends(folder: Path, less: int) -> list[Row]:
    clock, draw = Clock(), random.Random(13).randbytes
    Journal.create(folder / "appends" / "ledger", "bern", "bench", KEYS, clock, draw)
    journal = Journal.open(folder / "appends" / "ledger", KEYS, clock, draw)
    writer = Writer(folder / "appends", journal.author)
    handle = os.open(folder / "raw", os.O_RDWR | os.O_CREAT)
    rows = []
    offset = 0
    for count, turns in GROUPS:
        product, limit = [], []
        for _ in range(max(5, turns // less)):
            bodies = [writer.train() for _ in range(count)]
            began = time.perf_counter()
            receipts = journal.append(bodies)
            product.append((time.perf_counter() - began) / count)
            same = [journal.entry(receipt.index) for receipt in receipts]
            began = time.perf_counter()
            offset += _plainly(handle, offset, same)
            limit.append((time.perf_counter() - began) / count)
            if journal.size - journal.signed_size >= SIGN_EVERY:
                journal.sign_checkpoint()
        rate = [1 / one for one in product]
        title = f"durable append, groups of {count}"
        rows.append(median(title, rate, "entries/s"))
        rows.append(
            at_least(f"{title} / limit", ratios(limit, product), 0.8 if count == 1 else 0.7)
        )
    os.close(handle)
    journal.close()
    return rows


def _plainly(handle: int, offset: int, items: list[entries.Entry]) -> int:
    """Encode, hash, write and sync, and nothing else; the bytes written."""
    parts = []
    for item in items:
        data = records.ENCODER.encode(item)
        parts += (len(data).to_bytes(2, "big"), data, merkle.leaf_hash(data))
    whole = b"".join(parts)
    write_all(handle, whole, offset)
    os.fdatasync(handle)
    return len(whole)


def _proofs(leaves: int, *, beside: bool) -> list[Row]:
    """Inclusion proofs, made and verified; `beside` pymerkle where pip can install it."""
    tree = merkle.Tree(merkle.leaf_hash(str(at).encode()) for at in range(leaves))
    root = tree.root()

    def turn() -> float:
        places = [at * 7_919 % leaves for at in range(2_000)]
        began = time.process_time()
        for at in places:
            merkle.verify_inclusion(tree.node(0, at), at, leaves, tree.inclusion(at), root)
        return len(places) / (time.process_time() - began)

    title = f"inclusion of {leaves}, prove and verify"
    rates, others = tree_peer.turns(leaves, turn) if beside else ([turn()], [])
    rows = [median(title, rates, "/s")]
    if not others:
        return [*rows, Row(name=f"{title}, pymerkle", value=0.0, unit="not installed here")]
    return [
        *rows,
        median(f"{title}, pymerkle", others, "/s"),
        at_least(f"{title}, konsil / pymerkle", ratios(rates, others), 2.0),
    ]


def _lineage(rounds: int) -> list[Row]:
    """Ten hospitals that each mix nine models a round: 10 · rounds · 2 models."""
    lineage, newest = _ten_hospitals(rounds)
    models = len(lineage.steps)
    edges = sum(len(step.sources) for step in lineage.steps.values())

    def both() -> None:
        lineage.ancestors(newest)
        lineage.contributors(newest)

    title = f"lineage of {models} models, {edges} edges, warm"
    return [at_most(title, [1_000 * _best(both)], 50.0, "ms CPU")]


def _ten_hospitals(rounds: int) -> tuple[Lineage, bytes]:
    weights = [UNIT_E9 // 9 + (at < UNIT_E9 % 9) for at in range(9)]
    nodes = [f"node-{at}" for at in range(10)]
    draw = random.Random(14).randbytes
    seed = draw(32)
    steps = {seed: _step(seed, "base", nodes[0], 0, ())}
    current = dict.fromkeys(nodes, seed)
    for number in range(1, rounds + 1):
        trained = {node: draw(32) for node in nodes}
        for node, model in trained.items():
            source = (Source(current[node], node, UNIT_E9),)
            steps[model] = _step(model, "train", node, 2 * number, source)
        for at, node in enumerate(nodes):
            near = [nodes[(at + far) % 10] for far in range(9)]
            current[node] = draw(32)
            sources = tuple(
                Source(trained[one], one, weight) for one, weight in zip(near, weights, strict=True)
            )
            steps[current[node]] = _step(current[node], "mix", node, 2 * number + 1, sources)
    return Lineage(steps, {}), current[nodes[0]]


def _step(out: bytes, kind: str, node: str, at: int, sources: tuple[Source, ...]) -> Step:
    return Step(out=out, kind=kind, node=node, index=at, time_ms=at, round=at // 2, sources=sources)


def _best(work: Callable[[], None]) -> float:
    """Seconds of the processor of the quickest of seven."""
    found = []
    for _ in range(7):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def _audit(home: Path, size: int, turns: int) -> list[Row]:
    told = [_in_process("audit", home) for _ in range(turns)]
    times = [one["audit"] for one in told]
    bound = [3 * one["floor"] + 1.15 * one["signatures"] for one in told]
    title = f"audit of {size} entries, {size // 5} envelopes"
    return [
        median(title, times, "s CPU"),
        median(f"{title}: rehash and canonical form", [one["floor"] for one in told], "s CPU"),
        median(f"{title}: signatures", [one["signatures"] for one in told], "s CPU"),
        at_most(f"{title} / (3 floors + 1.15 signatures)", ratios(times, bound), 1.0),
    ]


def _large(home: Path, size: int) -> list[Row]:
    told, started = _in_process("memory", home), _in_process("restart", home)
    return [
        at_most(f"audit of {size} entries, peak memory", [told["peak"]], 150.0, "MiB"),
        median(f"audit of {size} entries", [told["audit"]], "s CPU"),
        at_most(f"disk beyond {size} entries", [_overhead(home)], 35.0, "bytes/entry"),
        median(f"restart with {size} entries, processor", [started["cpu"]], "ms CPU"),
        at_most(f"restart with {size} entries", [started["wall"]], 50.0, "ms"),
    ]


def _overhead(home: Path) -> float:
    """Bytes of all files but blobs beyond those of the entries, an entry."""
    journal = Journal.open(home / "ledger", KEYS, Clock(), random.Random(15).randbytes)
    bare = sum(len(journal._store.entry(at)) for at in range(journal.size))
    size = journal.size
    journal.close()
    files = (path for path in (home / "ledger").rglob("*") if path.is_file())
    held = sum(path.stat().st_size for path in files if "blobs" not in path.parts)
    return (held - bare) / size


def _in_process(what: str, home: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.ledger_alone", what, str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found
