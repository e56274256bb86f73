"""Equivocation: two signed artifacts under one number, the proof that a stranger can check.

A claim is one signed statement of a publisher; two that differ are the proof, whoever holds
them. A node that casts a peer out for it keeps the second envelope beside its ledger, and an
audit holds it against the first: an accusation without its proof is a finding about the accuser.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import artifact, envelope
from konsil.protocol.errors import RemoteError
from konsil.trust.sources import blob_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.protocol.artifact import Artifact
    from konsil.protocol.keyring import Keyring
    from konsil.protocol.learning_bodies import ArtifactReject
    from konsil.protocol.limits import Limits
    from konsil.trust.margin import Margin
    from konsil.trust.structure import Place


class Claim(msgspec.Struct, frozen=True, gc=False):
    """A signed statement that `publisher` gave out `env` as number `sequence` of a kind."""

    publisher: str
    kind: str
    sequence: int
    env: bytes
    store: str
    """The root of the blobs that it lies in."""

    @property
    def number(self) -> tuple[str, str, int]:
        """What a publisher may sign once."""
        return self.publisher, self.kind, self.sequence

    @property
    def file(self) -> Path:
        """The envelope."""
        return Path(blob_file(self.store, self.env))


def second_face(
    margin: Margin,
    place: Place,
    body: ArtifactReject,
    keys: Keyring | None,
    claims: Sequence[Claim],
) -> tuple[Claim, ...]:
    """What the refused envelope of an equivocation claims, against what was claimed before.

    `keys` are those of the accused, where they are known. Without the proof it is a finding, and
    nothing is claimed.
    """
    assert body.env is not None
    data = margin.blob(place, body.env, "the second artifact under one number")
    if data is None or keys is None:
        return ()
    manifest = _signed(data, keys, margin.limits)
    if manifest is not None:
        store = margin.store_of(body.env) or ""
        claim = Claim(body.publisher, manifest.kind, manifest.sequence, body.env, store)
        if any(one.number == claim.number and one.env != claim.env for one in claims):
            return (claim,)
    message = f"nothing here proves that {body.publisher} signed two artifacts under one number"
    margin.add("trust.refusal", place, message, margin.path(body.env))
    return ()


def _signed(data: bytes, keys: Keyring, limits: Limits) -> Artifact | None:
    """The manifest in an envelope that any key of its publisher signed; where it stands in the
    publisher's log is not known here."""
    for key in (one.key for one in keys.periods if one.role == "art"):
        with suppress(RemoteError):
            sealed = envelope.unpack(data, limits=limits)
            manifest = artifact.open_sealed(sealed, key, limits=limits)
            return manifest if manifest.publisher == keys.author.node else None
    return None
