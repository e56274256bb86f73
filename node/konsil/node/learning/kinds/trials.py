"""Trials: what a short step of the own model towards each payload does to the private loss.

For the kinds whose payloads can be stepped towards. A model that cannot be judged after the step
has done as much harm as there is.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from konsil.node.learning.kinds.kind import Gain
from konsil.protocol.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Callable

    from konsil.knowledge.named import NamedTensors
    from konsil.node.learning.kinds.kind import Ground
    from konsil.node.learning.worker_messages import Candidate

_log = logging.getLogger(__name__)


def gains_of_trials(
    ground: Ground,
    point: Callable[[Candidate], NamedTensors],
    stepped: Callable[[NamedTensors, float], NamedTensors],
) -> list[Gain]:
    """The gain of each candidate of the round, in their order.

    `point` is what a payload stands for; `stepped(point, reach)` is the model after the step, where
    `reach` is how far the point is away.
    """
    found = []
    for candidate, reach in zip(ground.candidates, ground.reaches, strict=True):
        received = point(candidate)
        try:
            found.append(Gain(*ground.judge.gain(ground.before, stepped(received, reach))))
        except TaskError as fault:
            _log.warning("%s of %s: %s", candidate.art.hex(), candidate.node, fault)
            found.append(Gain(-math.inf, 0.0))
    return found
