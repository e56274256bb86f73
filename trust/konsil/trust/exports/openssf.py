"""OpenSSF model signing: a `model.sig` that the `model_signing` tool verifies.

The bundle says that one file, the payload, has this SHA-256, signed by the P-256 key that the
node's genesis entry binds. It says nothing about lineage, privacy or time; the ledger does.
This is the one export that signs, and ECDSA draws a number: two bundles of one model differ.
"""

from __future__ import annotations

import base64
import hashlib
import json

from konsil.protocol import envelope, jcs, p256
from konsil.protocol.errors import ConfigError
from konsil.protocol.in_toto import PAYLOAD_TYPE, STATEMENT_TYPE

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
FILE = "model.safetensors"
"""The name under which the payload must lie in the folder that is verified."""


def to_openssf(model: bytes, *, seed: bytes, bound: bytes, name: str = FILE) -> bytes:
    """The bundle over the payload with digest `model`, as the file `name` of a folder.

    `seed` are the secret bytes of the home's P-256 key and `bound` is the public key that its
    genesis entry binds. Raises `ConfigError` when the two are not one key.
    """
    key = p256.P256SigningKey(seed)
    if key.public != bound:
        raise ConfigError(
            "p256.key is not the key that the genesis entry binds",
            hint="restore it from your backup",
        )
    payload = jcs.canonical(_statement(model, name))
    signature = key.sign(envelope.pae(PAYLOAD_TYPE, payload))
    bundle = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": hashlib.sha256(key.public_pem()).hexdigest()},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode("ascii"),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode("ascii"), "keyid": ""}],
        },
    }
    return json.dumps(bundle, separators=(",", ":"), sort_keys=True).encode("ascii") + b"\n"


def _statement(model: bytes, name: str) -> dict[str, object]:
    """What is signed; the subject's digest is that over the digests of all (here: one) files."""
    root = hashlib.sha256(model).hexdigest()
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": f"sha256-{model.hex()}", "digest": {"sha256": root}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [],
            },
            "resources": [{"name": name, "algorithm": "sha256", "digest": model.hex()}],
        },
    }
