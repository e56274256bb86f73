"""Small, whole ledgers for tests: hospitals that train, publish, receive, judge and mix.

Everything is the real thing (keys, envelopes, proofs, payloads, evidence, the mixing kernel),
only the learning is a random walk. Seeded: the same calls give the same bytes.
"""

from __future__ import annotations

import random as stdlib_random
from pathlib import Path

import msgspec
import numpy as np
import safetensors.numpy

from konsil.knowledge import mixing
from konsil.node.store.blobs import BlobStore
from konsil.node.store.journal import Journal
from konsil.protocol import (
    charter,
    checkpoint,
    chunks,
    cmp1,
    entries,
    envelope,
    genesis,
    leaves,
    merkle,
    note,
    records,
    tiles,
)
from konsil.protocol.artifact import Artifact, Coverage, Payload, PrivacySpent, bucket, seal
from konsil.protocol.cosignature import quorum
from konsil.protocol.digest import sha256
from konsil.protocol.identity import KeySet, SigningKey
from konsil.protocol.learning_bodies import (
    ArtifactIntegrate,
    ArtifactPublish,
    ArtifactReceive,
    ModelBase,
    ModelTrain,
    Part,
    TrustUpdate,
)
from konsil.protocol.node_bodies import KeyRotate, LogRedact, key_change
from konsil.protocol.office_bodies import CharterAdopt
from konsil.trust import evidence, integrate, medians, score, weights, whole_round
from konsil.trust.ageing import aged, day_of
from konsil.trust.audit import verify_homes
from konsil.trust.evidence import EvidenceRecord
from konsil.trust.report import Report
from konsil.trust.score import Score

CONSORTIUM = "alps"
CHUNK = 1 << 20


class Clock:
    """Milliseconds that move on by one at every look."""

    def __init__(self, start: int = 1_760_000_000_000) -> None:
        self.now = start

    def __call__(self) -> int:
        self.now += 1
        return self.now


def payload(values: np.ndarray) -> bytes:
    """The safetensors bytes of a tiny model: mixed floats, a local tensor and a counter."""
    tensors = {
        "head.bias": np.asarray(values[:2], dtype=np.float32),
        "layer.weight": np.asarray(values, dtype=np.float32),
        "steps": np.asarray([7], dtype=np.int64),
    }
    return safetensors.numpy.save(tensors)


class Sent(msgspec.Struct, frozen=True):
    """What travels: payload, signed envelope, proof of its publish entry."""

    publisher: str
    art: bytes
    data: bytes
    envelope: bytes
    proof: bytes


class Hospital:
    """One home with a ledger that is open for writing."""

    def __init__(self, root: Path, name: str, seed: int = 0, clock: Clock | None = None) -> None:
        self.home = root / name
        self.name = name
        self.draw = stdlib_random.Random(f"{seed} {name}")
        self.clock = clock or Clock()
        self.keys = KeySet.generate(self.draw.randbytes)
        self.charter = bytes(32)
        folder = self.home / "ledger"
        entry = Journal.create(folder, name, CONSORTIUM, self.keys, self.clock, self.draw.randbytes)
        self.author = genesis.read(entry)
        self.node = self.author.node
        self.journal = self.reopen()
        self.store = BlobStore(self.home / "blobs")
        self.values = np.zeros(4)
        self.sequence = self.round = 0
        self.model = self._keep(payload(np.zeros(4)))
        self.before = self.model
        self.scores: dict[str, Score] = {}
        self.base_rates: dict[str, int] = {}
        self.day = 0
        self.first: dict[bytes, str] = {self.model: self.node}
        self.journal.append([ModelBase(model=self.model, source="seed", licence="", note="tiny")])

    def reopen(self, **options) -> Journal:
        """Opens the journal (again)."""
        self.journal = Journal.open(
            self.home / "ledger",
            self.keys,
            self.clock,
            self.draw.randbytes,
            charter=self.charter,
            **options,
        )
        return self.journal

    def _keep(self, data: bytes) -> bytes:
        return self.store.put(data)

    def train(self) -> bytes:
        """One round of a random walk."""
        self.round += 1
        self.before = self.model
        self.values = self.values + [self.draw.uniform(-1, 1) for _ in range(4)]
        self.model = self._keep(payload(self.values))
        word = sha256(self.name.encode())
        (receipt,) = self.journal.append(
            [
                ModelTrain(
                    base=self.before,
                    out=self.model,
                    data=word,
                    cohort=bucket(123),
                    recipe=word,
                    code=word,
                    env=word,
                    round=self.round,
                    privacy=None,
                )
            ]
        )
        self._age(day_of(self.journal.time_ms(0), receipt.time_ms))
        return self.model

    def _age(self, day: int) -> None:
        """What is known of peers fades with the days of the log."""
        self.scores = {node: aged(one, day - self.day) for node, one in self.scores.items()}
        self.day = day

    def manifest(self, art: bytes, data: bytes, *, parents: tuple[bytes, ...] = ()) -> Artifact:
        """The manifest of the next artifact."""
        root = chunks.chunk_root(chunks.chunk_digests([data]))
        return Artifact(
            kind="parameters",
            publisher=self.node,
            sequence=self.sequence,
            round=self.round,
            task="tiny",
            base="00" * 32,
            architecture="11" * 32,
            parents=tuple(parent.hex() for parent in parents),
            payload=Payload(
                digest=art.hex(),
                size=len(data),
                format="safetensors",
                chunk_bytes=CHUNK,
                chunk_root=root.hex(),
            ),
            coverage=Coverage(rows=bucket(123), classes=(), not_evaluated=(), tensors=()),
            privacy=PrivacySpent(mechanism="none", unit="none", epsilon_micro=0, delta_e12=0),
            charter=self.charter.hex(),
            knowledge=None,
        )

    def publish(self, data: bytes | None = None, **changes) -> Sent:
        """Publishes the current model, or `data` made from it; `changes` are of the manifest."""
        self.sequence += 1
        parents = (self.before,) if data is None else (self.model,)
        data = self.store.get(self.model) if data is None else data
        art = self._keep(data)
        self.first.setdefault(art, self.node)
        manifest = msgspec.structs.replace(self.manifest(art, data, parents=parents), **changes)
        sealed = envelope.pack(seal(manifest, self.keys["art"]))
        (receipt,) = self.journal.append(
            [
                ArtifactPublish(
                    art=art,
                    chunk_root=bytes.fromhex(manifest.payload.chunk_root),
                    kind=manifest.kind,
                    size=len(data),
                    env=self.journal.blobs.put(sealed),
                    derived_from=list(parents),
                    knowledge=None,
                    policy=None,
                    sequence=self.sequence,
                )
            ]
        )
        proof = self.journal.prove(receipt.index)
        return Sent(self.node, art, data, sealed, proof)

    def receive(self, sent: Sent, author: genesis.Author) -> None:
        """Logs an artifact of a peer and keeps what proves it."""
        from konsil.protocol.proof import open_published

        shown = open_published(sent.proof, author)
        self._keep(sent.data)
        self.first.setdefault(sent.art, sent.publisher)
        folder = self.home / "peers"
        folder.mkdir(exist_ok=True)
        (folder / f"{author.node}.genesis").write_bytes(author.entry)
        self.journal.append(
            [
                ArtifactReceive(
                    art=sent.art,
                    publisher=sent.publisher,
                    env=self.journal.blobs.put(sent.envelope),
                    index=shown.entry.n,
                    size=shown.checkpoint.size,
                    root=shown.checkpoint.root,
                    proof=self.journal.blobs.put(sent.proof),
                )
            ]
        )

    def judge(self, arrived: list[Sent], **changes) -> tuple[EvidenceRecord, ...]:
        """Evidence on received artifacts, consistent as `trust.evidence` demands.

        `changes` falsify what is measured or given; all else follows from it.
        """
        unit = 1_000_000_000
        scores = [self.scores.get(sent.publisher, Score()) for sent in arrived]
        mine = (self.before, self.model)
        reaches = [unit + 1_000 * at for at in range(len(arrived))]
        gains = [1_000_000 * (at + 1) for at in range(len(arrived))]
        rates = [self.base_rates.get(sent.publisher, score.NEUTRAL_E9) for sent in arrived]
        shares = [
            weights.share(
                sent.art, mine, copied=self.first.get(sent.art, sent.publisher) != sent.publisher
            )
            for sent in arrived
        ]
        voices = [
            whole_round.voice(score.trust(one, rate), changes.get("share_e9", share))
            for one, rate, share in zip(scores, rates, shares, strict=True)
        ]
        tau, rho = medians.bounds_of(reaches, reaches, unit, voices)
        scales = medians.gain_scales_of(gains, [0] * len(gains), voices)
        measured = (
            EvidenceRecord(
                node=sent.publisher,
                art=sent.art,
                kind="parameters",
                round=self.round,
                before=self.before,
                trained=self.model,
                lag=0,
                own_e9=unit,
                reach_e9=reach,
                rho_e9=rho,
                g_e9=gain,
                error_e9=0,
                excused_e9=0,
                scale_e9=scale,
                d_e9=reach,
                tau_e9=tau,
                r_before_e9=old.r_e9,
                s_before_e9=old.s_e9,
                base_rate_e9=rate,
                share_e9=share,
                metropolis_e9=unit // (1 + len(arrived)),
                step_e9=unit,
            )
            for sent, old, rate, reach, gain, scale, share in zip(
                arrived, scores, rates, reaches, gains, scales, shares, strict=True
            )
        )
        return tuple(
            evidence.recompute(msgspec.structs.replace(one, **changes)) for one in measured
        )

    def update(self, record: EvidenceRecord) -> TrustUpdate:
        """The entry of a judgement."""
        return TrustUpdate(
            node=record.node,
            kind=record.kind,
            art=record.art,
            old_e9=record.trust_before_e9,
            new_e9=record.trust_e9,
            cause=record.reason,
            evidence=self.journal.blobs.put(records.pack(record)),
        )

    def mix(
        self, arrived: list[Sent], judged: tuple[EvidenceRecord, ...] | None = None, **changes
    ) -> ArtifactIntegrate:
        """Judges (unless that is done) and mixes; `changes` falsify the integrate entry."""
        judged = self.judge(arrived) if judged is None else judged
        parts = [
            Part(art=one.art, node=one.node, w_e9=one.w_e9, trust_e9=one.trust_e9)
            for one in integrate.coefficients(self.model, self.node, judged)
        ]
        out = self.home / "mixing.tmp"
        digest = mixing.mix(
            [mixing.Part(self.store.path(part.art), part.w_e9) for part in parts],
            out,
            not_mixed=["head.bias"],
        )
        self.store.put_file(out, digest)
        scores = self.journal.blobs.put(cmp1.encode({"auc": 900_000_000}))
        body = ArtifactIntegrate(
            base=self.model,
            out=digest,
            rule="egt.1",
            parts=parts,
            not_mixed=["head.bias"],
            before=scores,
            after=scores,
            reason="granted",
            round=self.round,
        )
        updates = [self.update(one) for one in judged]
        for one in judged:
            self.scores[one.node] = Score(r_e9=one.r_after_e9, s_e9=one.s_after_e9)
        body = msgspec.structs.replace(body, **changes)
        self.journal.append([*updates, body])
        self.model = body.out
        if self.store.has(body.out):
            found = safetensors.numpy.load(self.store.get(body.out))
            self.values = np.asarray(found["layer.weight"], dtype=np.float64)
        return body

    def close(self) -> None:
        """Ends the writing."""
        self.journal.close()


def consortium(root: Path, *names: str, rounds: int = 2, seed: int = 0) -> list[Hospital]:
    """Hospitals that learned together for some rounds; every ledger is closed."""
    clock = Clock()
    hospitals = [Hospital(root, name, seed, clock) for name in names]
    for _ in range(rounds):
        sent = []
        for one in hospitals:
            one.train()
            sent.append(one.publish())
        for one in hospitals:
            arrived = [item for item in sent if item.publisher != one.node]
            for item in arrived:
                author = next(h.author for h in hospitals if h.node == item.publisher)
                one.receive(item, author)
            one.mix(arrived)
    for one in hospitals:
        one.close()
    return hospitals


def codes(found: Report) -> set[str]:
    """The codes of a report's findings."""
    return {finding.code for finding in found.findings}


def two(tmp_path):
    """Two open hospitals on one clock."""
    clock = Clock()
    return Hospital(tmp_path, "bern", clock=clock), Hospital(tmp_path, "graz", clock=clock)


def audit_of(*hospitals, replay=False):
    """Closes the hospitals and audits their homes together."""
    for one in hospitals:
        one.close()
    return verify_homes([one.home for one in hospitals], replay=replay)


def falsify(hospital, change):
    """Appends an entry that the writer would refuse, and signs for it all the same."""
    journal = hospital.journal
    entry = entries.entry(
        ModelBase(model=bytes(32), source="", licence="", note=""),
        index=journal.size,
        time_ms=hospital.clock(),
        salt=hospital.draw.randbytes(16),
        charter=bytes(32),
    )
    plain = change(msgspec.to_builtins(entry, builtin_types=(bytes,)))
    data = cmp1.encode(plain)
    journal._store.append([(data, merkle.leaf_hash(data))])
    journal.close()


def train_of(hospital, **changes):
    """A train entry on the hospital's model, changed at will."""
    word = bytes(32)
    body = ModelTrain(
        base=hospital.model, out=sha256(b"out"), data=word, cohort=0, recipe=word, code=word,
        env=word, round=1, privacy=None,
    )  # fmt: skip
    return msgspec.structs.replace(body, **changes)


def tail_of(home):
    """The one tail of a home."""
    (tail,) = (home / "ledger").glob("tail.*")
    return tail


def change_key(hospital, kind, role, *, good=None, rec=None):
    """Appends a change of key (`KeyRotate`, `KeyRevoke`); what is sealed next has the new one."""
    new = SigningKey.from_seed(hospital.draw.randbytes(32))
    fields = {
        "role": role, "old": hospital.keys[role].public.raw, "new": new.public.raw,
        "reason": "planned", "last_good_size": hospital.journal.size if good is None else good,
    }  # fmt: skip
    message = key_change(hospital.node, kind(**fields, by_rec=bytes(64), by_new=bytes(64)))
    by_rec = (rec or hospital.keys["rec"]).sign(message)
    hospital.journal.append([kind(**fields, by_rec=by_rec, by_new=new.sign(message))])
    hospital.keys = KeySet({**hospital.keys.keys, role: new})
    return new


def sign_again(hospital, *keys):
    """Closes the ledger and signs its checkpoint anew, with other keys of its log."""
    head = checkpoint.Checkpoint(
        origin=hospital.author.origin, size=hospital.journal.size, root=hospital.journal.root
    )
    hospital.close()
    signed = note.sign(checkpoint.to_text(head), [(head.origin, key) for key in keys])
    (hospital.home / "ledger" / "checkpoint").write_bytes(signed)


def release(hospital, *, policy=lambda manifest: None, **changes):
    """Publishes the current model under a manifest that is changed at will."""
    hospital.sequence += 1
    data, parents = hospital.store.get(hospital.model), (hospital.before,)
    manifest = hospital.manifest(hospital.model, data, parents=parents)
    manifest = msgspec.structs.replace(manifest, **changes)
    sealed = envelope.pack(seal(manifest, hospital.keys["art"]))
    body = ArtifactPublish(
        art=hospital.model,
        chunk_root=bytes.fromhex(manifest.payload.chunk_root),
        kind=manifest.kind,
        size=len(data),
        env=hospital.journal.blobs.put(sealed),
        derived_from=list(parents),
        knowledge=None,
        policy=policy(manifest),
        sequence=hospital.sequence,
    )
    (receipt,) = hospital.journal.append([body])
    proof = hospital.journal.prove(receipt.index)
    return Sent(hospital.node, hospital.model, data, sealed, proof)


def acquaint(*hospitals):
    """Everyone keeps everyone's genesis entry."""
    for one in hospitals:
        folder = one.home / "peers"
        folder.mkdir(exist_ok=True)
        for other in hospitals:
            (folder / f"{other.node}.genesis").write_bytes(other.author.entry)


def rules_of(*hospitals, **changes):
    """A charter of these hospitals: version 1 after none, unless told otherwise."""
    members = tuple(
        charter.CharterMember(
            name=one.name, node=one.node, genesis=sha256(one.author.entry).hex(),
            roles=("hospital",), kinds=("parameters",), valid_from_ms=0, valid_until_ms=2**50,
        )
        for one in hospitals
    )  # fmt: skip
    needed = quorum(len(hospitals), 0)
    rules = charter.Charter(
        version=1, prev="00" * 32, name=CONSORTIUM, members=members,
        thresholds=charter.Thresholds(charter=needed, member=needed, cosign=1, faults=0),
        export=(), retention_ms={}, expires_ms=2**50,
    )  # fmt: skip
    return msgspec.structs.replace(rules, **changes)


def adopt(hospital, rules, *signers):
    """The hospital adopts a charter that these signed, and writes under it from now on."""
    sealed = charter.sign(rules, [one.keys["art"] for one in signers])
    digest = charter.digest(rules)
    envelope_digest = hospital.journal.blobs.put(sealed)
    hospital.journal.append(
        [CharterAdopt(charter=digest, version=rules.version, envelope=envelope_digest)]
    )
    hospital.charter = digest
    hospital.close()
    hospital.reopen()
    return digest


def word_of_redaction(journal, at, **changes):
    """The `log.redact` of an entry that is still here, changed at will."""
    data = journal._store.entry(at)
    frame = entries.peek(data)
    word = LogRedact(
        index=at, leaf=merkle.leaf_hash(data), front=leaves.front_hash(data), kind=frame.t,
        written_ms=frame.ts, legal="gdpr17", authority=bytes(32),
    )  # fmt: skip
    return msgspec.structs.replace(word, **changes)


def prune(home, *indices):
    """Takes the bodies of entries out of a ledger's tail and bundles; their leaf hashes stay."""
    path = tail_of(home)
    start = int(path.name.removeprefix("tail."))
    frames = tiles.read_tail(path.read_bytes()).frames
    path.write_bytes(
        b"".join(
            tiles.frame(b"" if at in indices else item.entry, item.leaf)
            for at, item in enumerate(frames, start)
        )
    )
    for group in {at // tiles.WIDTH for at in indices if at < start}:
        path = home / "ledger" / tiles.bundle_path(group)
        held = enumerate(tiles.read_bundle(path.read_bytes()), group * tiles.WIDTH)
        path.write_bytes(tiles.bundle([b"" if at in indices else item for at, (_, item) in held]))


def mirrored(hospital, holder):
    """What `holder` keeps of the log of `hospital`, whose only tail has the form of a mirror."""
    folder = holder.home / "peers"
    folder.mkdir(exist_ok=True)
    (folder / f"{hospital.node}.mirror").write_bytes(tail_of(hospital.home).read_bytes())
    vouched(holder.home, (hospital.home / "ledger" / "checkpoint").read_bytes())


def vouched(home, data):
    """`home` has accepted the checkpoint note `data`: one more frame in its record."""
    path = home / "peers" / "witness.log"
    record = path.read_bytes() if path.exists() else b""
    link = sha256(b"\x02" + (record[-32:] or bytes(32)) + data)
    path.write_bytes(record + len(data).to_bytes(2, "big") + data + link)


def keys_in_a_bundle(tmp_path, role):
    """A closed hospital with a change of keys in its second bundle."""
    bern, graz = two(tmp_path)
    bern.train()
    old = bern.keys["log"]
    base = ModelBase(model=sha256(b"other"), source="seed", licence="", note="")
    bern.journal.append([base] * 256)
    new = change_key(bern, KeyRotate, role)
    bern.journal.append([base] * 300)
    if role == "art":
        release(bern)
        bern.close()
    else:
        sign_again(bern, old, new)
    graz.close()
    assert verify_homes([bern.home]).findings == ()
    return bern
