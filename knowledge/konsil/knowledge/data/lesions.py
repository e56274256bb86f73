"""Lesions: generated patients of several hospitals, to learn finding and judging lesions by.

No patient stands behind an image. Each shows one or more lesions inside one organ; all lesions of
a patient are of one kind. A *smooth* lesion has a nearly round border and a faint, even inside,
an *irregular* one a ragged border and a strong, mottled inside, as benign and suspicious growths
tend to (after the border and colour rules of dermatology; a likeness, not a model of disease).
Masks mark the lesion, targets of a classification its kind. `konsil.knowledge.data.anatomy` draws
what lies around it, and each hospital's scanner (`scanners`) comes last, so that a mask is the
same on all.

What a patient looks like depends on seed, hospital name and number only: a hospital that grows
keeps its patients, and another scanner shows the same anatomy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge.data.anatomy import MODALITIES
from konsil.knowledge.data.fields import smooth_fields
from konsil.knowledge.data.images import Images, joined
from konsil.knowledge.data.scanners import SCANNERS, Scanner, scanned
from konsil.knowledge.split import random_source
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.knowledge.data.anatomy import Grid, Modality, Scene
    from konsil.knowledge.data.images import Pixels
    from konsil.knowledge.split import Labels

KINDS = ("smooth", "irregular")
MASKS = ("background", "lesion")
SMALLEST = 32
"""Pixels a side below which a lesion could vanish."""


@dataclass(frozen=True)
class Hospital:
    """One hospital of the generator: how many patients, how many of them with ragged lesions."""

    name: str
    patients: int
    scanner: Scanner
    irregular: float = 0.5
    """Share of patients whose lesions are irregular."""

    def __post_init__(self) -> None:
        if self.patients < 1 or not 0 <= self.irregular <= 1:
            raise ConfigError(
                f"hospital {self.name!r}: one patient or more, and 0 <= irregular <= 1, needed"
            )


PATIENTS = (96, 64, 64, 32, 64)
"""Patients of the hospitals, unless told otherwise."""


def hospitals(sizes: Sequence[int] = PATIENTS) -> tuple[Hospital, ...]:
    """Hospitals of these sizes with the five machines of `SCANNERS`, in their order.

    The prevalence of irregular lesions differs too: .5, .7, .3, .6, .5. Raises `ConfigError` for
    more sizes than machines.
    """
    if len(sizes) > len(SCANNERS):
        raise ConfigError(f"{len(sizes)} hospitals, but there are {len(SCANNERS)} scanners")
    return tuple(
        Hospital(scanner.name, size, scanner, share)
        for size, scanner, share in zip(sizes, SCANNERS, (0.5, 0.7, 0.3, 0.6, 0.5), strict=False)
    )


@dataclass(frozen=True)
class Lesions:
    """The same generated images with both targets: masks of the lesions, and their kinds."""

    masked: Images
    kinds: Images


def generate(
    modality: str, sites: Sequence[Hospital], seed: int, *, size: int = 64, views: int = 1
) -> Lesions:
    """Patients of these hospitals, `views` images each, `size` pixels a side.

    `modality` is a name in `anatomy.MODALITIES`: ``skin`` (3 channels), ``ct`` (1) or ``mri``
    (4). Views of one patient share the kind of lesion and nothing else. Raises `ConfigError` for
    an unknown modality, for a size below 32, and when no hospital is named.
    """
    if modality not in MODALITIES:
        raise ConfigError(
            f"modality {modality!r} is not known", hint=f"one of {', '.join(MODALITIES)}"
        )
    if size < SMALLEST or views < 1:
        raise ConfigError(f"generated lesions need {SMALLEST} pixels a side and one view or more")
    if len({site.name for site in sites}) != len(sites) or not sites:
        raise ConfigError("generated lesions need hospitals of different names")
    chosen = MODALITIES[modality]
    found = [_hospital(chosen, site, seed, size, views) for site in sites]
    return Lesions(joined([one.masked for one in found]), joined([one.kinds for one in found]))


def _hospital(modality: Modality, site: Hospital, seed: int, size: int, views: int) -> Lesions:
    inputs: list[Pixels] = []
    masks: list[Labels] = []
    kinds: list[int] = []
    scanner = modality.fitting(site.scanner)
    for patient in range(site.patients):
        words = ("lesions", seed, modality.name, size, site.name, patient)
        kind = int(random_source(*words).random() < site.irregular)
        for view in range(views):
            scene, mask = _patient(modality, kind, size, random_source(*words, view))
            seen = scanned(scene[np.newaxis], scanner, random_source(*words, view, "scanner"))
            inputs.append(seen)
            masks.append(mask)
            kinds.append(kind)
    names = tuple(
        f"{site.name}-{patient}" for patient in range(site.patients) for _ in range(views)
    )
    pixels, sites = np.concatenate(inputs), (site.name,) * len(names)
    return Lesions(
        masked=Images(pixels, np.stack(masks), names, MASKS, sites),
        kinds=Images(pixels, np.array(kinds, dtype=np.int64), names, KINDS, sites),
    )


def _patient(
    modality: Modality, kind: int, size: int, random: np.random.Generator
) -> tuple[Pixels, Labels]:
    """One image (channels × size × size) without a scanner, and its mask."""
    scene = modality.draw(size, random)
    mask = np.zeros((size, size), dtype=np.int64)
    cover = np.zeros((size, size))
    for _ in range(int(random.integers(1, 4))):
        distance = _border_distance(scene, kind, size, random)
        mask[distance <= 0] = 1
        # Partial volume: the border fades over about a pixel and a half.
        soft = 1 / (1 + np.exp(np.clip(distance / 0.5, -30, 30)))
        cover = np.maximum(cover, soft * _inside(kind, size, random))
    image = modality.with_lesion(scene.image, cover, random)
    return np.clip(image, 0, 1).astype(np.float32), mask


def _border_distance(scene: Scene, kind: int, size: int, random: np.random.Generator) -> Grid:
    """How far each pixel lies outside a lesion's border, in pixels; negative inside.

    The radius is 4 to 8 pixels of 64, times 1 plus waves around the lesion: two slow ones of
    together .1 for a smooth border, six of together .55 for a ragged one. The middle lies so
    deep in the organ that the radius fits, and there is a pixel in every lesion.
    """
    radius = random.uniform(4, 8) * size / 64
    angle, out = random.uniform(0, 2 * np.pi), np.sqrt(random.uniform(0, 1))
    room_y, room_x = (max(axis - 1.1 * radius, 0) for axis in scene.axes)
    middle_y = scene.centre[0] + out * room_y * np.sin(angle)
    middle_x = scene.centre[1] + out * room_x * np.cos(angle)
    y, x = np.ogrid[:size, :size]
    offset = (x - middle_x) + 1j * (y - middle_y)
    away = np.abs(offset)
    turn = offset / np.maximum(away, 1e-9)
    waves = 6 if kind else 2
    heights = random.dirichlet(np.full(waves, 2.0)) * (0.55 if kind else 0.1)
    border, power = np.ones((size, size)), turn
    for height in heights:  # the cosine of 2, 3, … times the angle is a power of the turn
        power = power * turn
        border += height * (power * np.exp(1j * random.uniform(0, 2 * np.pi))).real
    # A middle between pixels is at most .71 from one of them.
    distance: Grid = away - np.maximum(radius * border, 0.75)
    return distance


def _inside(kind: int, size: int, random: np.random.Generator) -> Grid:
    """How strongly a lesion differs from its surroundings at each pixel.

    About .8 everywhere in a smooth one, .5 to 2.1 and on average 1.3 in an irregular one.
    """
    texture: Grid = smooth_fields(1, size, size, max(size // 4, 4), random)[0].astype(np.float64)
    return 0.5 + 1.6 * texture if kind else 0.7 + 0.2 * texture
