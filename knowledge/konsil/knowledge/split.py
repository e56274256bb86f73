"""Split: which patient belongs to which hospital, and which of them are held back.

Every function deals whole patients, so that no patient is ever on two sides, and depends on
its seed only. Rows of one patient follow the label of the patient's first row.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

Labels: TypeAlias = npt.NDArray[np.int64]
Places: TypeAlias = npt.NDArray[np.int64]
"""Row numbers, ascending."""

_TRIES = 200


def random_source(*words: object) -> np.random.Generator:
    """A generator whose stream depends on these words and on nothing else."""
    text = "\0".join(str(word) for word in words)
    return np.random.default_rng(list(hashlib.sha256(text.encode()).digest()))


FEWEST = 4
"""Patients of each class that a site has at least: fewer cannot be learned from and judged by."""


def by_patient(
    labels: Labels, patients: Sequence[str], fraction: float, *words: object, fewest: int = 1
) -> tuple[Places, Places]:
    """Rows to keep and rows to hold back, the latter `fraction` of each class's patients.

    A class holds back `fewest` patients at least where it has more than that, and keeps one at
    least; with patients of one row each the shares of the classes are those of the whole.
    """
    random = random_source("holdout", *words)
    label_of = _label_of_patients(labels, patients)
    held: set[str] = set()
    for label in np.unique(labels):
        mine = [patient for patient, its in label_of.items() if its == label]
        count = min(max(round(fraction * len(mine)), fewest), len(mine) - 1)
        held.update(mine[place] for place in random.permutation(len(mine))[:count])
    if not held and len(label_of) > 1:
        held.add(next(iter(label_of)))
    side = np.array([patient in held for patient in patients])
    return np.flatnonzero(~side), np.flatnonzero(side)


def iid(labels: Labels, patients: Sequence[str], sites: int, seed: int) -> list[Places]:
    """Every class dealt evenly over the sites."""
    return dirichlet(labels, patients, sites, seed, alpha=1e6)


def dirichlet(
    labels: Labels,
    patients: Sequence[str],
    sites: int,
    seed: int,
    *,
    alpha: float,
    size_skew: float = 0.0,
    fewest: int = FEWEST,
) -> list[Places]:
    """The rows of each site, each class dealt in proportions of a Dirichlet distribution.

    A small `alpha` makes the sites' class shares differ (Hsu, Qi and Brown, 2019); site k of
    `size_skew` s is planned ``(k + 1) ** -s`` times as large as the first. Splits in which a
    site has fewer than `fewest` patients of some class are drawn again. Raises `ConfigError`
    when none is found.
    """
    random = random_source("dirichlet", seed, sites, alpha, size_skew)
    sizes = np.arange(1, sites + 1, dtype=np.float64) ** -size_skew
    label_of = _label_of_patients(labels, patients)
    classes = [[p for p, its in label_of.items() if its == label] for label in np.unique(labels)]
    for _ in range(_TRIES):
        site_of: dict[str, int] = {}
        for mine in classes:
            shares = random.dirichlet(alpha * sites * sizes / sizes.sum())
            edges = np.round(np.cumsum(shares)[:-1] * len(mine)).astype(int)
            for site, places in enumerate(np.split(random.permutation(len(mine)), edges)):
                site_of.update((mine[place], site) for place in places)
        if _fewest(classes, site_of, sites) >= fewest:
            return _places(patients, site_of, sites)
    raise ConfigError(
        f"no split over {sites} sites with alpha {alpha:g} gives each {fewest} patients a class",
        hint="raise alpha, or take fewer sites",
    )


def pathological(
    labels: Labels, patients: Sequence[str], sites: int, seed: int, *, classes_each: int
) -> list[Places]:
    """Each site gets patients of `classes_each` classes only; the classes go round.

    Raises `ConfigError` when the sites cannot take every class.
    """
    random = random_source("pathological", seed, sites, classes_each)
    label_of = _label_of_patients(labels, patients)
    found = random.permutation(np.unique(labels))
    if not 1 <= classes_each <= len(found) or sites * classes_each < len(found):
        raise ConfigError(f"{sites} sites of {classes_each} classes cannot hold {len(found)}")
    takers: dict[int, list[int]] = {int(label): [] for label in found}
    for turn in range(sites * classes_each):
        takers[int(found[turn % len(found)])].append(turn // classes_each)
    site_of: dict[str, int] = {}
    for label, its_sites in takers.items():
        mine = [patient for patient, its in label_of.items() if its == label]
        for turn, place in enumerate(random.permutation(len(mine))):
            site_of[mine[place]] = its_sites[turn % len(its_sites)]
    return _places(patients, site_of, sites)


def by_column(sites: Sequence[str]) -> dict[str, Places]:
    """The rows of each site named in a column."""
    column = np.array(sites)
    return {str(site): np.flatnonzero(column == site) for site in np.unique(column)}


def _label_of_patients(labels: Labels, patients: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for patient, label in zip(patients, labels.tolist(), strict=True):
        found.setdefault(patient, label)
    return found


def _fewest(classes: Sequence[Sequence[str]], site_of: dict[str, int], sites: int) -> int:
    counts = [
        np.bincount([site_of[patient] for patient in mine], minlength=sites) for mine in classes
    ]
    return int(np.min(counts))


def _places(patients: Sequence[str], site_of: dict[str, int], sites: int) -> list[Places]:
    column = np.array([site_of[patient] for patient in patients])
    return [np.flatnonzero(column == site) for site in range(sites)]
