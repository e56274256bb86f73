"""A sealed artifact of any size for the benchmarks of the wire; both ends can rebuild it."""

from __future__ import annotations

import json
from pathlib import Path

from konsil.node.press import chunk_file, head_of
from konsil.node.shelf import Held
from konsil.protocol import envelope
from konsil.protocol.artifact import Artifact, Coverage, Payload, PrivacySpent, seal
from konsil.protocol.chunks import chunk_root
from konsil.protocol.digest import sha256
from konsil.protocol.identity import SigningKey
from konsil.protocol.limits import DEFAULT_LIMITS

PUBLISHER = "a" * 32


def key(seed: int) -> SigningKey:
    """A key that both ends know."""
    return SigningKey.from_seed(bytes([seed]) * 32)


def write_payload(path: Path, size: int) -> None:
    """A safetensors file of about `size` bytes with one tensor that does not compress."""
    count = max(1, size // 4)
    entry = {"w": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}
    head = json.dumps(entry, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    block = b"".join(sha256(number.to_bytes(4, "big")) for number in range(1 << 15))
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for begin in range(0, 4 * count, len(block)):
            file.write(block[: 4 * count - begin])


def hold(path: Path) -> Held:
    """The payload at `path` as an artifact on a shelf, with a proof of a usual length."""
    size, digests = chunk_file(path, DEFAULT_LIMITS.chunk_bytes)
    digest = sha256(path.read_bytes()).hex()
    artifact = Artifact(
        kind="parameters",
        publisher=PUBLISHER,
        sequence=1,
        round=1,
        task="bench",
        base=digest,
        architecture=digest,
        parents=(),
        payload=Payload(
            digest=digest,
            size=size,
            format="safetensors",
            chunk_bytes=DEFAULT_LIMITS.chunk_bytes,
            chunk_root=chunk_root(digests).hex(),
        ),
        coverage=Coverage(rows=100, classes=(), not_evaluated=(), tensors=()),
        privacy=PrivacySpent(mechanism="none", unit="none", epsilon_micro=0, delta_e12=0),
        charter=digest,
        knowledge=None,
    )
    sealed = envelope.pack(seal(artifact, key(3)))
    return Held(
        head=head_of(artifact, sealed),
        artifact=artifact,
        envelope=sealed,
        proof=b"p" * 1_000,
        path=path,
        since_round=1,
    )
