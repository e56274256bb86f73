"""One end of a pull with the daemon's own parts, in a process of its own.

    python -m benchmarks.konsil_end serve HOME PAYLOAD     publishes PAYLOAD and hands it out
    python -m benchmarks.konsil_end pull HOME OFFER        pulls it once

The server logs and seals the payload, and prints an offer: where it listens, its genesis and
the head. The puller is told no more than that; it verifies signature, proof, manifest and
every chunk as the daemon does. Each prints a line of figures for the parent at its end.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path

import structlog
import trio

from benchmarks.measure import peak, reset_peak, resident
from konsil.node.config import NodeConfig, read_config
from konsil.node.exchange.admission import Admitted, admit
from konsil.node.exchange.pulls import Pulls
from konsil.node.exchange.serving import Serving
from konsil.node.keys import load_keys
from konsil.node.learning.memory import Memory
from konsil.node.learning.press import Press
from konsil.node.learning.shelf import Held, Shelf
from konsil.node.learning.trainer import Trainer
from konsil.node.learning.travelling import Travelling
from konsil.node.learning.worker_messages import Open, Opened
from konsil.node.opening import open_journal
from konsil.node.paths import Home
from konsil.node.roster import Roster
from konsil.node.store.blobs import BlobStore
from konsil.node.store.chronicle import Chronicle
from konsil.node.store.journal import Journal
from konsil.node.transports.libp2p_transport import Libp2pTransport
from konsil.protocol import records
from konsil.protocol.identity import KeySet
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.messages import Head

LOG = structlog.wrap_logger(structlog.ReturnLogger())
SETTLE_S = 1.0
"""The first ping measures the round trip, from which libp2p learns how large a window pays."""
LONGEST_S = 300.0
TASK = bytes(32)
OPENED = Opened(
    task="bench",
    classes=("no", "yes"),
    base=TASK,
    about=TASK,
    form=TASK,
    whole=True,
    rows=100,
    class_rows=(50, 50),
    data=TASK,
    recipe=TASK,
    code=TASK,
    environment=TASK,
)
"""What a worker would say of the task; here nobody opens a tensor."""


class Hospital:
    """The parts of a daemon that a transfer needs, built as the daemon builds them."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.config: NodeConfig = read_config(home.config)
        self.keys: KeySet = load_keys(home.keys)
        self.journal: Journal = open_journal(home, self.config, self.keys, LOG)
        self.roster = Roster(self.config, home.peers)
        self.blobs = BlobStore(home.blobs)
        self.shelf = Shelf()

    def transport(self, listen: list[str]) -> Libp2pTransport:
        """The transport of this member."""
        peers = frozenset(member.peer for member in self.config.members)
        return Libp2pTransport(self.keys["peer"].seed, listen, peers, "bench/heads", log=LOG)

    async def publish(self, payload: Path) -> Held:
        """Put a file into the store, the ledger and the shelf."""
        with payload.open("rb") as file:
            release = hashlib.file_digest(file, "sha256").digest()
        self.blobs.put_file(payload, release)
        chronicle = Chronicle(self.journal)
        # A plain payload travels as it is: nobody asks this worker anything.
        opening = Open(
            home=str(self.home.root), blobs=str(self.home.blobs), factory="", options={},
            name=self.roster.me.name, seed=0, device="cpu",
        )  # fmt: skip
        trainer = Trainer(opening, LOG, timeout_s=1.0)
        travelling = Travelling(
            "plain", self.roster.me.node, trainer, self.shelf, self.blobs, dict, LOG
        )
        press = Press(
            self.roster, self.blobs, chronicle, self.shelf, travelling, DEFAULT_LIMITS,
            lambda: None, LOG,
        )  # fmt: skip
        memory = Memory()
        entry = await press.prepare(release, OPENED, memory, parents=())
        (receipt,) = await chronicle.append(entry.body)
        return await press.issue(entry, receipt.index, memory)


class Gauge:
    """Memory and time of the processor of this process, from now on."""

    def __init__(self) -> None:
        reset_peak()
        self._idle, self._used = resident(), time.process_time()

    def figures(self) -> dict[str, float]:
        """Bytes above idle at the worst moment, and seconds of the processor."""
        return {"grown": peak() - self._idle, "cpu": time.process_time() - self._used}


def tell(figures: object) -> None:
    """One line for the parent."""
    print(json.dumps(figures), flush=True)


async def serve(home: Path, payload: Path) -> None:
    """Publish, and hand the artifact to whoever asks until stdin ends."""
    ours = Hospital(Home(home))
    held = await ours.publish(payload)
    transport = ours.transport(["/ip4/127.0.0.1/tcp/0"])
    serving = Serving(ours.shelf, lambda _: True, DEFAULT_LIMITS, LOG)

    async def answer() -> None:
        async for arrived in transport.incoming:
            await serving.answer(arrived.peer, arrived.stream)

    async with trio.open_nursery() as nursery:
        await nursery.start(transport.run)
        nursery.start_soon(answer)
        gauge = Gauge()
        tell(
            {
                "address": transport.addresses[0],
                "genesis": ours.journal.author.entry.hex(),
                "head": records.pack(held.head).hex(),
                "size": held.head.size,
            }
        )
        await trio.to_thread.run_sync(sys.stdin.readline)
        tell(gauge.figures())
        nursery.cancel_scope.cancel()
    ours.journal.close()


async def pull(home: Path, offer: dict[str, str]) -> None:
    """Pull what was offered, then check it and store it."""
    ours, head = Hospital(Home(home)), records.unpack(bytes.fromhex(offer["head"]), Head)
    publisher = ours.roster.node(head.publisher)
    assert publisher is not None
    ours.roster.learn(bytes.fromhex(offer["genesis"]), publisher.peer)
    transport, arrived = ours.transport([]), trio.Event()
    ends: list[float] = []
    figures: dict[str, float] = {}

    async def judge(wanted: Head, sealed: bytes, proof: bytes, holder: str) -> Admitted:
        return admit(
            wanted, sealed, proof, holder=holder, roster=ours.roster, mirrored=0,
            shelf=ours.shelf, opened=OPENED, limits=DEFAULT_LIMITS,
        )  # fmt: skip

    async def take(_head: Head, admitted: Admitted, path: Path) -> None:
        ends.append(time.perf_counter())
        figures.update(gauge.figures())
        await trio.to_thread.run_sync(ours.blobs.put_file, path, head.art)
        ends.append(time.perf_counter())
        arrived.set()

    async def refused(_head: Head, refusal: Exception) -> None:
        raise refusal

    pulls = Pulls(
        transport,
        ours.shelf,
        ours.home.spool,
        DEFAULT_LIMITS,
        wanted=lambda _publisher: not ends,
        member=ours.roster.node,
        admit=judge,
        taken=take,
        refused=refused,
        jitter=lambda: 0.5,
        log=LOG,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(transport.run)
        await transport.dial(publisher.peer, [offer["address"]])
        nursery.start_soon(pulls.run)
        await trio.sleep(SETTLE_S)
        gauge, crossed = Gauge(), transport.bytes_written + transport.bytes_read
        began = time.perf_counter()
        pulls.consider(publisher, [head])
        with trio.fail_after(LONGEST_S):
            await arrived.wait()
        crossed = transport.bytes_written + transport.bytes_read - crossed
        seconds, stored = (end - began for end in ends)
        tell({"seconds": seconds, "stored": stored, "crossed": crossed, **figures})
        nursery.cancel_scope.cancel()
    ours.journal.close()


def main() -> None:
    """Be the end that the command line names."""
    role, home, what = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    if role == "serve":
        trio.run(serve, home, Path(what))
    else:
        trio.run(pull, home, json.loads(what))


if __name__ == "__main__":
    main()
