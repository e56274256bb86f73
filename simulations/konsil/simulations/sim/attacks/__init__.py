"""Attacks by name. A module holds one attack, or two that are nearly the same, as `Attack`s.

No module here imports torch before an attack is made, so that names are at hand quickly. One
more attack is one more file and one more line. What a Byzantine node does to answers are the
last twelve (`answering`).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from konsil.simulations.sim.attacks import (
    adaptive,
    alie,
    answers_cpa,
    answers_flip,
    answers_lma,
    backdoor,
    creep,
    dissensus,
    free_rider,
    ipm,
    label_flip,
    mimic,
    min_max,
    noisy_copy,
    on_off,
    opt_ipm,
    sign_flip,
    sybil,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from konsil.simulations.sim.attacks.view import Attack

ATTACKS: Mapping[str, Attack] = MappingProxyType(
    {
        "sign_flip": sign_flip.ATTACK,
        "ipm": ipm.ATTACK,
        "opt_ipm": opt_ipm.ATTACK,
        "alie": alie.ATTACK,
        "min_max": min_max.MIN_MAX,
        "min_sum": min_max.MIN_SUM,
        "mimic": mimic.ATTACK,
        "dissensus": dissensus.ATTACK,
        "creep": creep.ATTACK,
        "label_flip": label_flip.ATTACK,
        "label_flip_boosted": label_flip.BOOSTED,
        "backdoor": backdoor.ATTACK,
        "free_rider": free_rider.ATTACK,
        "on_off": on_off.ATTACK,
        "noisy_copy": noisy_copy.ATTACK,
        "sybil": sybil.ATTACK,
        "adaptive": adaptive.ATTACK,
        **answers_flip.ATTACKS,
        **answers_lma.ATTACKS,
        **answers_cpa.ATTACKS,
    }
)
"""Every attack."""
