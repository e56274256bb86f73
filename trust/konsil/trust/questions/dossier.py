"""Everything that the printable report says, gathered in one go: verdict, models, trust, privacy.

Ledgers that do not verify are named in the verdict and tell nothing else: no figure of the
report rests on them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol.errors import KonsilError
from konsil.trust.lineage import Contributions, Lineage, lineage_of
from konsil.trust.lineage_chart import Picture, lay_out
from konsil.trust.questions.budget import Account, budget
from konsil.trust.questions.gathering import Gathered, gather
from konsil.trust.questions.peer_trust import PeerTrust, trusts
from konsil.trust.report import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS_DRAWN = 12
"""Own rounds of a lineage that fit a page."""


class ModelOf(msgspec.Struct, frozen=True, kw_only=True):
    """The current model of one home and whose training is in it."""

    owner: str
    """Node id."""
    model: bytes
    found: Contributions | None
    why: str = ""
    """Why there are no contributions."""


class Dossier(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a report; `homes` holds only what verifies."""

    report: Report
    homes: Gathered
    left_out: dict[Path, str]
    lineage: Lineage | None
    models: tuple[ModelOf, ...]
    shown: bytes | None
    """The model whose history is drawn."""
    picture: Picture | None
    trust: dict[str, dict[str, PeerTrust]]
    """By observer and peer."""
    accounts: tuple[Account, ...]


def dossier(homes: Sequence[Path], report: Report, *, model: str = "") -> Dossier:
    """The facts about these homes; `report` is their audit, `model` the one to draw.

    Without `model` it is the current one of the first home that verifies. Raises `UsageError`
    or `IncompleteError` for a `model` that is not there, and as `gather`.
    """
    left_out: dict[Path, str] = {}
    told = gather(homes, left_out=left_out)
    lineage = _lineage(told)
    shown = picture = None
    if lineage is not None and (model or lineage.currents):
        shown = lineage.find(model) if model else next(iter(lineage.currents.values()))
        picture = lay_out(lineage, shown, rounds=ROUNDS_DRAWN)
    return Dossier(
        report=report,
        homes=told,
        left_out=left_out,
        lineage=lineage,
        models=() if lineage is None else tuple(_models(lineage)),
        shown=shown,
        picture=picture,
        trust={home.node: trusts(home) for home in told.homes},
        accounts=budget(told),
    )


def _lineage(told: Gathered) -> Lineage | None:
    """The lineage of what verifies; None when it contradicts itself, which is a finding."""
    try:
        return lineage_of([home.told for home in told.homes], told.names())
    except KonsilError:
        return None


def _models(lineage: Lineage) -> list[ModelOf]:
    found = []
    for node, model in lineage.currents.items():
        try:
            found.append(ModelOf(owner=node, model=model, found=lineage.contributors(model)))
        except KonsilError as error:
            found.append(ModelOf(owner=node, model=model, found=None, why=error.message))
    return found
