"""X-ray: PneumoniaMNIST, and four hospitals simulated from it that differ as hospitals do.

Chest X-rays of children, 28 × 28 grey values, normal or pneumonia (Yang et al., MedMNIST v2,
2023, CC BY 4.0; images of Kermany et al., 2018). The collection comes from one hospital and
names no patients. A patient here is the content of the image, so that the eight images that stand
in both train and validation of the original are one patient each, and no split parts them.

`simulated` deals the training images: hospitals differ in size, prevalence and scanner
(`scanners.XRAY_SCANNERS`). The site simulation is ours, the images are real.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge.data.arrays import Wanted, pixels, read_arrays, single
from konsil.knowledge.data.images import Images
from konsil.knowledge.data.scanners import XRAY_SCANNERS, Scanner, scanned
from konsil.knowledge.split import random_source
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FOLDER, FILE = "pneumoniamnist", "pneumoniamnist.npz"
CLASSES = ("normal", "pneumonia")
SITE = "guangzhou"


@dataclass(frozen=True)
class Collection:
    """The official parts: 4708 images to train on, 524 to validate, 624 to test."""

    train: Images
    validation: Images
    test: Images


@dataclass(frozen=True)
class Hospital:
    """A simulated hospital: how many training images, how many of them with pneumonia."""

    name: str
    images: int
    prevalence: float
    scanner: Scanner


HOSPITALS = tuple(
    Hospital(scanner.name, images, prevalence, scanner)
    for scanner, images, prevalence in zip(
        XRAY_SCANNERS, (400, 250, 150, 100), (0.74, 0.5, 0.3, 0.9), strict=True
    )
)
"""Four unlike hospitals; 900 of the training images are dealt to them."""


@dataclass(frozen=True)
class Simulated:
    """Training images of each hospital, as its scanner shows them, and what nobody got."""

    hospitals: tuple[Images, ...]
    rest: Images
    """Images of the training part that no hospital has, without a scanner: to ask about."""


def read(folder: Path) -> Collection:
    """The three parts, from the folder `pneumoniamnist` of a data folder.

    Raises `ConfigError` naming the file and what is wrong, with how to fetch it.
    """
    path = folder / FILE
    if not path.is_file():
        raise ConfigError(
            f"dataset pneumoniamnist: there is no {path}",
            hint="konsil data fetch pneumoniamnist, or set KONSIL_DATA to the folder above",
        )
    parts = ("train", "val", "test")
    wanted = {f"{part}_images": Wanted("u", (None, 28, 28)) for part in parts}
    wanted |= {f"{part}_labels": Wanted("u", (None, 1)) for part in parts}
    arrays = read_arrays(path, wanted, most_bytes=1 << 26)
    found = []
    for part in parts:
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        if len(images) != len(labels):
            raise ConfigError(f"{path}: {len(images)} images and {len(labels)} labels in {part}")
        names = tuple(_patient(image.tobytes()) for image in images)
        inputs = pixels(path, f"{part}_images", images)
        found.append(Images(inputs, single(labels), names, CLASSES, (SITE,) * len(names)))
    return Collection(*found)


def simulated(train: Images, seed: int, hospitals: Sequence[Hospital] = HOSPITALS) -> Simulated:
    """Training images dealt to hospitals by their sizes and prevalences, each patient to one.

    Raises `ConfigError` when there are not enough images of a class.
    """
    random = random_source("xray", seed)
    order = random.permutation(_first_of_each(train))
    pools = [list(order[train.targets[order] == label]) for label in range(len(CLASSES))]
    found = []
    for hospital in hospitals:
        ill = round(hospital.images * hospital.prevalence)
        counts = (hospital.images - ill, ill)
        if any(len(pool) < count for pool, count in zip(pools, counts, strict=True)):
            raise ConfigError(f"hospital {hospital.name!r}: too few x-rays are left to deal")
        dealt = [
            pool.pop() for pool, count in zip(pools, counts, strict=True) for _ in range(count)
        ]
        found.append(seen_by(hospital, train.take(np.sort(dealt)), seed, "train"))
    taken = {patient for images in found for patient in images.patients}
    left = [place for place, patient in enumerate(train.patients) if patient not in taken]
    return Simulated(tuple(found), train.take(np.array(left, dtype=np.int64)))


def under_each(
    test: Images, seed: int, hospitals: Sequence[Hospital] = HOSPITALS
) -> tuple[Images, ...]:
    """The same test images as each hospital's scanner shows them."""
    return tuple(seen_by(hospital, test, seed, "test") for hospital in hospitals)


def seen_by(hospital: Hospital, images: Images, seed: int, *words: object) -> Images:
    """Images under a hospital's scanner and name; noise depends on seed, name and words."""
    random = random_source("xray scanner", seed, hospital.name, *words)
    return Images(
        inputs=scanned(images.inputs, hospital.scanner, random),
        targets=images.targets,
        patients=images.patients,
        classes=images.classes,
        sites=(hospital.name,) * len(images),
    )


def apart(images: Images, others: Images) -> Images:
    """The images of patients who are not among the others."""
    known = set(others.patients)
    keep = [place for place, patient in enumerate(images.patients) if patient not in known]
    return images.take(np.array(keep, dtype=np.int64))


def _patient(content: bytes) -> str:
    return f"xray-{hashlib.sha256(content).hexdigest()[:16]}"


def _first_of_each(images: Images) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    first: dict[str, int] = {}
    for place, patient in enumerate(images.patients):
        first.setdefault(patient, place)
    return np.array(list(first.values()), dtype=np.int64)
