"""Models in use at one hospital: put to use, taken out, brought back.

A model is in use from its `model.deploy` or `model.rollback` to its `model.retire`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from konsil.protocol.office_bodies import ModelDeploy, ModelRetire, ModelRollback
    from konsil.trust.margin import Margin
    from konsil.trust.structure import Place


class Deployment:
    """What one log says was in use."""

    def __init__(self, margin: Margin, knows: Callable[[Place, bytes], bool]) -> None:
        """`knows` says whether an entry made or received a model so far."""
        self.in_use: dict[bytes, Place] = {}
        self._ever: set[bytes] = set()
        self._knows = knows
        self._margin = margin

    def deploy(self, place: Place, body: ModelDeploy) -> None:
        """A model goes into use."""
        if not self._knows(place, body.model):
            self._unknown(place, body.model, "no entry made or received it")
        self._ever.add(body.model)
        self.in_use[body.model] = place

    def rollback(self, place: Place, body: ModelRollback) -> None:
        """An earlier model comes back."""
        if body.model not in self._ever:
            self._unknown(place, body.model, "it was never in use")
        self._ever.add(body.model)
        self.in_use[body.model] = place

    def retire(self, place: Place, body: ModelRetire) -> None:
        """A model goes out of use."""
        if self.in_use.pop(body.model, None) is None:
            self._unknown(place, body.model, "it is not in use")

    def _unknown(self, place: Place, model: bytes, why: str) -> None:
        self._margin.add("deploy.unknown", place, f"{model.hex()[:16]}…: {why}")
