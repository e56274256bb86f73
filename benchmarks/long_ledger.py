"""One home with a ledger of any length: trains, publishes, spends privacy, is used at the bedside.

Entries are what a node writes, through the node's own journal, and every published artifact has
its signed envelope. Payloads are left out: nobody looks at them but a replay of mixes.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from konsil.node.store.journal import Journal
from konsil.protocol import envelope, genesis
from konsil.protocol.artifact import Artifact, Coverage, Payload, PrivacySpent, bucket, seal
from konsil.protocol.digest import sha256
from konsil.protocol.entries import Body
from konsil.protocol.genesis import Author
from konsil.protocol.identity import KeySet
from konsil.protocol.learning_bodies import ArtifactPublish, ModelBase, ModelTrain, PrivacySpend
from konsil.protocol.office_bodies import HumanOverride, InferenceBatch

KEYS = KeySet.generate(random.Random(11).randbytes)
GROUP = 512
WORD = sha256(b"a word")


class Clock:
    """Unix milliseconds that move on by one at every look."""

    def __init__(self) -> None:
        self.now = 1_760_000_000_000

    def __call__(self) -> int:
        self.now += 1
        return self.now


class Writer:
    """Writes the entries of a home; every published artifact leaves its envelope behind."""

    def __init__(self, home: Path, author: Author) -> None:
        self.blobs = home / "ledger" / "blobs" / "sha256"
        self.author = author
        self.model = sha256(b"model 0")
        self.before = self.model
        self.trained = self.published = self.spent = 0
        self.batch = -5

    def train(self) -> ModelTrain:
        """The next training step."""
        self.trained += 1
        self.before, self.model = self.model, sha256(b"model %d" % self.trained)
        return ModelTrain(
            base=self.before, out=self.model, data=WORD, cohort=bucket(123), recipe=WORD, code=WORD,
            env=WORD, round=self.trained, privacy=None,
        )  # fmt: skip

    def publish(self) -> ArtifactPublish:
        """The publication of the newest model, its envelope on disk."""
        self.published += 1
        sealed = envelope.pack(seal(self._manifest(), KEYS["art"]))
        name = sha256(sealed).hex()
        folder = self.blobs / name[:2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(sealed)
        return ArtifactPublish(
            art=self.model, chunk_root=WORD, kind="parameters", size=1_000,
            env=bytes.fromhex(name), derived_from=[self.before], knowledge=None, policy=None,
            sequence=self.published,
        )  # fmt: skip

    def spend(self) -> PrivacySpend:
        """What the next training costs."""
        self.spent += 1
        return PrivacySpend(
            dataset=WORD, mechanism="gauss", eps_micro=1_000, delta_e12=10, rho_e9=1_000,
            sampling_e9=1_000_000, steps=10, cumulative_micro=1_000 * self.spent,
        )  # fmt: skip

    def used(self, index: int) -> Body:
        """A batch of uses, or a record of the newest batch in which a person decided otherwise."""
        root = index.to_bytes(32, "big")
        if index - self.batch < 5:
            return HumanOverride(index=self.batch, leaf=root, code="disagrees")
        self.batch = index
        return InferenceBatch(model=self.model, count=64, from_ms=1, to_ms=2, root=root)

    def _manifest(self) -> Artifact:
        return Artifact(
            kind="parameters",
            publisher=self.author.node,
            sequence=self.published,
            round=self.trained,
            task="bench",
            base="00" * 32,
            architecture="11" * 32,
            parents=(self.before.hex(),),
            payload=Payload(
                digest=self.model.hex(), size=1_000, format="safetensors", chunk_bytes=1 << 20,
                chunk_root=WORD.hex(),
            ),
            coverage=Coverage(rows=bucket(123), classes=(), not_evaluated=(), tensors=()),
            privacy=PrivacySpent(mechanism="none", unit="none", epsilon_micro=0, delta_e12=0),
            charter="00" * 32,
            knowledge=None,
        )  # fmt: skip


def write(home: Path, size: int, published: int, *, closed: bool = True) -> Journal:
    """A home whose ledger has `size` entries, `published` of them artifacts; the journal.

    Synced to disk once, at the end.
    """
    folder = home / "ledger"
    clock, draw = Clock(), random.Random(12).randbytes
    author = genesis.read(Journal.create(folder, "bern", "bench", KEYS, clock, draw))
    journal = Journal.open(folder, KEYS, clock, draw)
    writer = Writer(home, author)
    journal.append([ModelBase(model=writer.model, source="seed", licence="", note="")])
    pause = max(2, size // max(1, published))
    group: list[Body] = []
    synced, os.fdatasync, os.fsync = (os.fdatasync, os.fsync), _unsynced, _unsynced
    try:
        for number in range(2, size):
            turn = number % pause
            if turn == 0:
                group.append(writer.train())
            elif turn == 1 and writer.trained:
                group.append(writer.publish())
            elif turn == 2:
                group.append(writer.spend())
            else:
                group.append(writer.used(number))
            if len(group) == GROUP or number == size - 1:
                journal.append(group)
                journal.sign_checkpoint()
                group = []
        if closed:
            journal.close()
    finally:
        os.fdatasync, os.fsync = synced
    os.sync()
    return journal


def _unsynced(_: object) -> None:
    """What a sync is while a ledger for a benchmark is made."""
