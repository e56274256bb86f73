"""Crossing: every byte that passes between two hospitals for one artifact, in both directions.

The messages of `docs/spec/wire.md`, §5: question, offer (signed manifest, proof that its
publication is logged, knowledge manifest), answer, digests, chunks, end. The proof is that of a log
of `LOG` entries, which is a year of them at three a day.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from konsil.protocol import (
    artifact,
    checkpoint,
    entries,
    envelope,
    knowledge_manifest,
    messages,
    proof,
)
from konsil.protocol.encoding import encoding_of
from konsil.protocol.identity import SigningKey
from konsil.protocol.learning_bodies import ArtifactPublish

if TYPE_CHECKING:
    from konsil.knowledge.task import Task

LOG = 1_000
KEY = SigningKey.from_seed(b"b" * 32)
CHUNK_BYTES = 1 << 20
NODE = "a" * 32


def crossing(task: Task, data: bytes, word: str) -> int:
    """Bytes that cross for the payload `data` of the format `word`."""
    known = _knowledge(task)
    sealed = envelope.pack(artifact.seal(_manifest(task, data, word, known), KEY))
    pieces = [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]
    said: list[messages.Message] = [
        messages.Want(env=sha256(sealed).digest()),
        messages.Offer(
            envelope=sealed, proof=_proof(data, sealed, known), knowledge=known, size=len(data),
            chunks=len(pieces),
        ),
        messages.Accept(first=0),
        messages.Digests(first=0, digests=b"".join(sha256(one).digest() for one in pieces)),
        *(messages.Chunk(index=at, data=one) for at, one in enumerate(pieces)),
        messages.Done(),
    ]  # fmt: skip
    return sum(len(messages.encode(one)) for one in said)


def _knowledge(task: Task) -> bytes:
    return knowledge_manifest.write(
        knowledge_manifest.KnowledgeManifest(
            labels=tuple(
                knowledge_manifest.LabelKnowledge(system="task", code=one, rows=20)
                for one in task.classes
            ),
            privacy=artifact.PrivacySpent(
                mechanism="none", unit="none", epsilon_micro=0, delta_e12=0
            ),
            base="ab" * 32,
        )
    )


def _manifest(task: Task, data: bytes, word: str, known: bytes) -> artifact.Artifact:
    """A manifest as long as one of a daemon."""
    name, encoded = sha256(data).hexdigest(), encoding_of(word)
    return artifact.Artifact(
        kind="parameters", publisher=NODE, sequence=12, round=12, task=task.name,
        base=name[::-1], architecture=name[::-1], parents=(name[::-1],), charter=name[::-1],
        knowledge=sha256(known).hexdigest(),
        payload=artifact.Payload(
            digest=name, size=len(data), format=encoded.word, chunk_bytes=CHUNK_BYTES,
            chunk_root=name, decoded=None if word == "safetensors" else name[::-1],
            reference=None if encoded.codec == "plain" else name[::-1],
        ),
        coverage=artifact.Coverage(
            rows=artifact.bucket(len(task.train)), not_evaluated=(), tensors=(),
            classes=tuple(artifact.ClassCoverage(name=one, rows=20) for one in task.classes),
        ),
        privacy=artifact.PrivacySpent(mechanism="none", unit="none", epsilon_micro=0, delta_e12=0),
    )  # fmt: skip


def _proof(data: bytes, sealed: bytes, known: bytes) -> bytes:
    """A proof with as many hashes as the log needs; its hashes lead nowhere."""
    name = sha256(data).digest()
    body = ArtifactPublish(
        art=name, chunk_root=name, kind="parameters", size=len(data),
        env=sha256(sealed).digest(), derived_from=[name[::-1]], knowledge=sha256(known).digest(),
        policy=None, sequence=12,
    )  # fmt: skip
    entry = entries.Entry(
        b=body, c=name, n=LOG - 1, s=name[:16], t=entries.type_of(body), ts=1_790_000_000_000
    )
    head = checkpoint.Checkpoint(
        origin=checkpoint.origin_of("hospitals", NODE), size=LOG, root=name
    )
    return proof.encode(
        proof.Proof(
            index=LOG - 1, hashes=(name,) * (LOG - 1).bit_length(),
            checkpoint=checkpoint.sign(head, KEY), extra=entries.encode(entry),
        )
    )  # fmt: skip
