"""Mixes computed again: the declared parts and weights must give the declared bytes.

Only the numpy kernel of `konsil.knowledge.mixing` runs, and only when asked to. Whatever was
mixed in without being listed, with another weight, or as other bytes, changes the digest;
this is what makes a list of contributors complete. What a model was taught by others' answers
cannot be computed again: that takes the hospital's own training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol.errors import LocalProtocolError, RemoteError
from konsil.trust.fixed import UNIT_E9
from konsil.trust.integrate import VECTORS, is_taught
from konsil.trust.sources import first_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.protocol.learning_bodies import ArtifactIntegrate
    from konsil.protocol.limits import Limits
    from konsil.trust.audited import Audited
    from konsil.trust.rules import History
    from konsil.trust.sources import Blobs
    from konsil.trust.structure import Place


def replay(item: Audited, stores: Sequence[Blobs], limits: Limits) -> int:
    """Computes every mix of one home again whose payloads are in `stores`; returns how many.

    Those of which a payload is missing are one finding together: it says that they were not.
    """
    done = 0
    missing: list[Place] = []
    mixes = [(place, body) for place, body in item.history.integrated if not is_taught(body)]
    for place, body in mixes:
        try:
            digest = _mixed(body, item.history, stores, limits)
        except (LocalProtocolError, RemoteError) as error:
            item.findings.add(
                "integrate.replay",
                place.file,
                f"the parts cannot be mixed: {error.message}",
                offset=place.offset,
                index=place.index,
            )
            continue
        if digest is None:
            missing.append(place)
            continue
        done += 1
        if digest != body.out:
            message = f"the parts give {digest.hex()[:16]}…, not {body.out.hex()[:16]}…"
            item.findings.add(
                "integrate.replay", place.file, message, offset=place.offset, index=place.index
            )
    if missing:
        item.findings.add(
            "integrate.unreplayed",
            missing[0].file,
            f"{len(missing)} of {len(mixes)} mixes were not computed again:"
            " payloads of theirs are in no given home",
            offset=missing[0].offset,
            index=missing[0].index,
        )
    return done


def _mixed(
    body: ArtifactIntegrate, history: History, stores: Sequence[Blobs], limits: Limits
) -> bytes | None:
    """The digest of the mix computed again; None when a payload is not here.

    Data vectors count as the models that they make of the base that this log began with. Of a
    payload that travelled encoded its publisher signed which tensors it stands for; these are used.
    """
    try:
        return _replayed(body, history, stores, limits)
    except RemoteError:
        # A manifest that is not here may say that a payload travelled encoded.
        if all(part.art in history.tensors for part in body.parts[1:]):
            raise
        return None


def _replayed(
    body: ArtifactIntegrate, history: History, stores: Sequence[Blobs], limits: Limits
) -> bytes | None:
    # Only here, so that an audit without a replay needs no numpy.
    from konsil.knowledge import mixing

    parts: list[mixing.Part] = []
    for part in body.parts:
        path = first_path(stores, history.tensors.get(part.art, part.art))
        if path is None:
            return None
        parts.append(mixing.Part(path, part.w_e9))
    if body.rule != VECTORS or len(parts) == 1:
        return mixing.mix(parts, None, not_mixed=body.not_mixed, limits=limits)
    under = None if history.base is None else first_path(stores, history.base)
    if under is None:
        return None
    own, vectors = parts[0], parts[1:]
    models = (own, mixing.Part(under, UNIT_E9 - own.w_e9))
    return mixing.mix(models, None, vectors=vectors, not_mixed=body.not_mixed, limits=limits)
