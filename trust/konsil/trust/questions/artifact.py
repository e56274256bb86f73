"""One artifact: who published it and when, whether its signature holds, who took it in.

What the publisher's own log says comes first; where that home is not given, the proof that a
receiver kept shows the publisher's entry. An artifact is told apart by its envelope: one
payload may be published twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import artifact, envelope, proof
from konsil.protocol.artifact import Artifact
from konsil.protocol.errors import IncompleteError, ManifestRefused, RemoteError, UsageError
from konsil.protocol.learning_bodies import (
    ArtifactIntegrate,
    ArtifactPublish,
    ArtifactReceive,
    ArtifactReject,
)
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.trust.questions.gathering import hex_start
from konsil.trust.questions.words import short

if TYPE_CHECKING:
    from konsil.trust.questions.gathering import Gathered

SHOWN = 4
"""Meant artifacts that a refusal names."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """One home took the artifact in, or refused it (`refused` names why)."""

    node: str
    index: int
    time_ms: int
    refused: tuple[str, ...] = ()


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """One mix of which the artifact is a part."""

    node: str
    index: int
    time_ms: int
    round: int
    w_e9: int
    trust_e9: int
    out: bytes


class Traced(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the given homes say of one artifact."""

    art: bytes
    env: bytes
    publisher: str
    index: int
    """The publish entry in the publisher's log."""
    time_ms: int | None
    """When it was published, as the publisher says; None when nothing given shows it."""
    source: str
    """Whence the publish entry is known: `log`, `proof`, or `nothing`."""
    body: ArtifactPublish | None
    manifest: Artifact | None
    fault: str = ""
    """Why the signature does not hold; empty when it does, or could not be checked."""
    unchecked: str = ""
    """Why the signature could not be checked."""
    receipts: tuple[Receipt, ...] = ()
    uses: tuple[Use, ...] = ()

    @property
    def children(self) -> tuple[bytes, ...]:
        """The models that were mixed with it, each once."""
        return tuple(dict.fromkeys(use.out for use in self.uses))


class _Claim(msgspec.Struct, frozen=True):
    """Where an envelope is first spoken of: the publisher's own entry, or a receipt."""

    art: bytes
    env: bytes
    publisher: str
    index: int


def trace(homes: Gathered, start: str, *, limits: Limits = DEFAULT_LIMITS) -> Traced:
    """The artifact whose payload or envelope digest begins with `start`.

    Raises `UsageError` when several do, and `IncompleteError` when none does.
    """
    claim = _find(homes, hex_start(start))
    entry_time, body, source = _published(homes, claim, limits)
    manifest, fault, unchecked = _opened(homes, claim, limits)
    if source == "conflict":
        fault = fault or "the proof of its publish entry does not show it"
    receipts, uses = _afterlife(homes, claim)
    return Traced(
        art=claim.art,
        env=claim.env,
        publisher=claim.publisher,
        index=claim.index,
        time_ms=entry_time,
        source=source,
        body=body,
        manifest=manifest,
        fault=fault,
        unchecked=unchecked,
        receipts=receipts,
        uses=uses,
    )


def _find(homes: Gathered, start: str) -> _Claim:
    claims: dict[bytes, _Claim] = {}
    told: dict[bytes, _Claim] = {}
    for home, entry in homes.entries():
        body = entry.b
        if not isinstance(body, ArtifactPublish | ArtifactReceive):
            continue
        if not any(digest.hex().startswith(start) for digest in (body.art, body.env)):
            continue
        if isinstance(body, ArtifactPublish):
            claims.setdefault(body.env, _Claim(body.art, body.env, home.node, entry.n))
        else:
            told.setdefault(body.env, _Claim(body.art, body.env, body.publisher, body.index))
    for env, claim in told.items():
        claims.setdefault(env, claim)
    if not claims:
        raise IncompleteError(
            f"no given ledger publishes or received an artifact {start}",
            hint="name the homes that know it; of a model: konsil audit lineage --model",
        )
    if len(claims) > 1:
        found = [
            f"{short(one.env)} of {homes.name(one.publisher)}"
            for one in list(claims.values())[:SHOWN]
        ]
        more = ", …" if len(claims) > SHOWN else ""
        raise UsageError(
            f"{len(claims)} artifacts are meant by {start}: envelopes {', '.join(found)}{more}",
            hint="give more digits, or the digest of the envelope",
        )
    return next(iter(claims.values()))


def _published(
    homes: Gathered, claim: _Claim, limits: Limits
) -> tuple[int | None, ArtifactPublish | None, str]:
    """The publish entry: its time, its body, and whence it is known."""
    for home, entry in homes.entries():
        body = entry.b
        if home.node == claim.publisher and entry.n == claim.index:
            if isinstance(body, ArtifactPublish) and body.env == claim.env:
                return entry.ts, body, "log"
            return None, None, "conflict"
    author = homes.authors.get(claim.publisher)
    for _, entry in homes.entries():
        body = entry.b
        if not isinstance(body, ArtifactReceive) or body.env != claim.env or author is None:
            continue
        data = homes.blob(body.proof, limits.entry_bytes)
        if data is None:
            continue
        try:
            shown = proof.open_published(data, author, limits=limits)
        except RemoteError:
            return None, None, "conflict"
        same = (shown.body.art, shown.body.env, shown.entry.n) == (body.art, body.env, body.index)
        return (shown.entry.ts, shown.body, "proof") if same else (None, None, "conflict")
    return None, None, "nothing"


def _opened(homes: Gathered, claim: _Claim, limits: Limits) -> tuple[Artifact | None, str, str]:
    """The signed manifest, why it does not hold, why it could not be checked."""
    keys, data = homes.keys_of(claim.publisher), homes.blob(claim.env, limits.entry_bytes)
    if data is None:
        return None, "", "its envelope is in none of the given homes"
    if keys is None:
        return None, "", "the publisher's genesis entry is in none of the given homes"
    try:
        sealed = envelope.unpack(data, limits=limits)
        key = keys.at("art", claim.index)
        manifest = artifact.open_sealed(sealed, key, limits=limits)
        if manifest.publisher != claim.publisher:
            raise ManifestRefused(f"the manifest names {manifest.publisher} as publisher")
        if manifest.payload.digest != claim.art.hex():
            raise ManifestRefused("the manifest names another payload")
    except RemoteError as error:
        return None, error.message, ""
    return manifest, "", ""


def _afterlife(homes: Gathered, claim: _Claim) -> tuple[tuple[Receipt, ...], tuple[Use, ...]]:
    """Who received or refused it, and every mix that it is a part of."""
    receipts, uses = [], []
    for home, entry in homes.entries():
        body, at = entry.b, {"node": home.node, "index": entry.n, "time_ms": entry.ts}
        if isinstance(body, ArtifactReceive) and body.env == claim.env:
            receipts.append(msgspec.convert(at, Receipt))
        elif isinstance(body, ArtifactReject) and body.env == claim.env:
            reasons = (body.stage, *body.reasons)
            receipts.append(msgspec.convert({**at, "refused": reasons}, Receipt))
        elif isinstance(body, ArtifactIntegrate):
            for part in body.parts:
                if (part.art, part.node) != (claim.art, claim.publisher):
                    continue
                use = Use(
                    node=home.node,
                    index=entry.n,
                    time_ms=entry.ts,
                    round=body.round,
                    w_e9=part.w_e9,
                    trust_e9=part.trust_e9,
                    out=body.out,
                )
                uses.append(use)
    return tuple(receipts), tuple(uses)
