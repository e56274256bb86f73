"""Answers are small: under a twentieth of what the model itself would cost, manifest included."""

from __future__ import annotations

import pytest

from konsil.knowledge import pack
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.networks import perceptron
from konsil.knowledge.teaching import answers, generated
from konsil.protocol import artifact, envelope
from konsil.protocol.digest import sha256
from konsil.protocol.identity import SigningKey

CLASSES = ("normal", "pneumonia")


def sent(kind: str, base: bytes, payload: bytes) -> int:
    """Bytes of a payload and of the signed manifest that goes with it."""
    digest = sha256(payload).hex()
    manifest = artifact.Artifact(
        kind=kind, publisher="a2" * 16, sequence=1, round=1, task="xray", base=base.hex(),
        architecture=digest, parents=(base.hex(),),
        payload=artifact.Payload(
            digest=digest, size=len(payload), format="safetensors", chunk_bytes=1 << 20,
            chunk_root=digest,
        ),
        coverage=artifact.Coverage(
            rows=200,
            classes=tuple(artifact.ClassCoverage(name=name, rows=100) for name in CLASSES),
            not_evaluated=(), tensors=(),
        ),
        privacy=artifact.PrivacySpent(mechanism="none", unit="none", epsilon_micro=0, delta_e12=0),
        charter=digest, knowledge=None,
    )  # fmt: skip
    signed = artifact.seal(manifest, SigningKey.from_seed(b"k" * 32))
    return len(envelope.pack(signed)) + len(payload)


@pytest.mark.parametrize(("rows", "most"), [(256, 0.01), (2048, 0.05)])
def test_answers_cost_a_small_part_of_a_model_of_100_000_parameters(rows, most):
    module = perceptron(784, (128,), 2)
    asked = generated.gaussian(rows, 784, CLASSES, seed=1)
    whole = NamedTensors.of(module)
    assert whole.elements() > 90_000
    model = sent("parameters", asked.digest, pack.to_bytes(whole))
    said = sent("logits", asked.digest, pack.to_bytes(answers.answered(module, asked)))
    assert said / model < most
