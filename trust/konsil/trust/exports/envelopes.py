"""The signed envelopes that lie beside ledgers, found by the entries that name them.

Read-only, from verified entries, and only bytes that hash to their names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import envelope
from konsil.protocol.artifact import Artifact, read_statement
from konsil.protocol.entries import Entry
from konsil.protocol.errors import IncompleteError, UsageError, VerificationError
from konsil.protocol.learning_bodies import ArtifactPublish, ArtifactReceive
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.trust.layout import MAX_BLOB_BYTES
from konsil.trust.reading import read_entries
from konsil.trust.report import Findings
from konsil.trust.sources import BLOBS, Blobs, ledger_of

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from pathlib import Path


class Named(msgspec.Struct, frozen=True):
    """An entry that names an envelope, and the home whose ledger says so."""

    home: str
    entry: Entry
    art: bytes
    env: bytes
    published: bool
    """Whether the home itself published it; else it was received there."""


def find_artifact(
    homes: Sequence[Path], start: str = "", *, limits: Limits = DEFAULT_LIMITS
) -> Named:
    """The one artifact whose payload's or envelope's digest begins with `start`.

    Its publish entry is preferred to those of its receivers. Without `start` it is what the
    first home published last. Raises `IncompleteError` when there is none, `UsageError` when
    there are several, and what `read_entries` raises.
    """
    if not start:
        own = [one for one in _named(homes[:1], limits) if one.published]
        if not own:
            raise IncompleteError(f"{homes[0]}: nothing was published yet")
        return own[-1]
    wanted = start.lower()
    found: dict[bytes, Named] = {}
    for one in _named(homes, limits):
        known = found.get(one.env)
        fits = one.art.hex().startswith(wanted) or one.env.hex().startswith(wanted)
        if fits and (known is None or (one.published and not known.published)):
            found[one.env] = one
    if not found:
        raise IncompleteError(
            f"no entry names the artifact {start}", hint="name the homes that know it"
        )
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} artifacts begin with {start}",
            hint="give more digits, or the digest of the envelope",
        )
    return next(iter(found.values()))


def read_envelope(homes: Sequence[Path], env: bytes, *, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The packed envelope `env` from the first home that holds it.

    Raises `VerificationError` when its bytes were changed and `IncompleteError` when no home
    holds it.
    """
    findings = Findings("")
    data = _store(homes, findings).get(env, limits.envelope_bytes)
    if data is not None:
        return data
    if findings.found:
        raise VerificationError(findings.found[0].line(), hint="run: konsil audit verify")
    raise IncompleteError(f"{env.hex()}: the envelope is in none of these homes")


def manifests(
    homes: Sequence[Path], wanted: Container[bytes], *, limits: Limits = DEFAULT_LIMITS
) -> dict[bytes, Artifact]:
    """The manifests of those payloads in `wanted` whose envelopes are in these homes.

    Raises `VerificationError` for one whose bytes were changed, `EncodingRefused`,
    `LimitExceeded` or `ManifestRefused` for one that breaks the rules.
    """
    findings = Findings("")
    store = _store(homes, findings)
    found: dict[bytes, Artifact] = {}
    for one in _named(homes, limits):
        if one.art in wanted and one.art not in found:
            data = store.get(one.env, limits.envelope_bytes)
            if data is not None:
                payload = envelope.unpack(data, limits=limits).payload
                found[one.art] = read_statement(payload, limits=limits)
    if findings.found:
        raise VerificationError(findings.found[0].line(), hint="run: konsil audit verify")
    return found


def _named(homes: Sequence[Path], limits: Limits) -> Iterator[Named]:
    for home in homes:
        for entry in read_entries(ledger_of(home), limits=limits):
            body = entry.b
            if isinstance(body, ArtifactPublish | ArtifactReceive):
                published = isinstance(body, ArtifactPublish)
                yield Named(str(home), entry, body.art, body.env, published)


def _store(homes: Sequence[Path], findings: Findings) -> Blobs:
    store = Blobs(findings)
    for home in homes:
        store.add(ledger_of(home) / BLOBS, {}, MAX_BLOB_BYTES)
    return store
