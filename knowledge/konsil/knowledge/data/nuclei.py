"""Nuclei: microscopy with masks, from unlike laboratories (2018 Data Science Bowl, BBBC038, CC0).

Caicedo et al., Nature Methods 16, 2019. 96 × 96 RGB, one mask of all cell nuclei. Five groups of
one image size and stain stand for laboratories, which the original does not name. In
``brightfield_gray_1024`` the nuclei nearly vanish at this size: it is left out unless asked for,
as a hospital with bad data. Every image counts as a patient of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge.data.arrays import Wanted, pixels, read_arrays
from konsil.knowledge.data.images import Images
from konsil.knowledge.split import random_source
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FOLDER, FILE = "dsb2018_nuclei", "nuclei96.npz"
CLASSES = ("background", "nucleus")
SITES = ("fluo_256x256", "fluo_696x520", "stain_purple_320x256", "stain_white_320x256")
FAINT = "brightfield_gray_1024"
"""The group whose nuclei nearly vanish at 96 pixels."""

TEST_SHARE = 0.3
MOST = 120
"""Images of one site that take part at most, so that the largest group is not half of all."""


@dataclass(frozen=True)
class Laboratory:
    """One site's images to train on and to test with."""

    name: str
    train: Images
    test: Images


def read(folder: Path, sites: Sequence[str] = SITES) -> Images:
    """The images of these sites, from the folder `dsb2018_nuclei` of a data folder.

    Raises `ConfigError` for an unknown site, and naming the file and what is wrong.
    """
    unknown = set(sites) - {*SITES, FAINT}
    if unknown:
        raise ConfigError(
            f"dataset nuclei: no site {', '.join(sorted(unknown))}",
            hint=f"sites are {', '.join((*SITES, FAINT))}",
        )
    path = folder / FILE
    if not path.is_file():
        raise ConfigError(
            f"dataset nuclei: there is no {path}",
            hint="konsil data fetch nuclei --from DIR, or set KONSIL_DATA to the folder above",
        )
    wanted = {
        "images": Wanted("u", (None, 96, 96, 3)),
        "masks": Wanted("u", (None, 96, 96)),
        "site": Wanted("U", (None,)),
        "image_id": Wanted("U", (None,)),
    }
    arrays = read_arrays(path, wanted, most_bytes=1 << 27)
    count = len(arrays["images"])
    if any(len(array) != count for array in arrays.values()):
        raise ConfigError(f"{path}: images, masks, sites and names differ in number")
    keep = np.flatnonzero(np.isin(arrays["site"], list(sites)))
    return Images(
        inputs=pixels(path, "images", arrays["images"][keep], channels_last=True),
        targets=(arrays["masks"][keep] > 0).astype(np.int64),
        patients=tuple(str(name) for name in arrays["image_id"][keep]),
        classes=CLASSES,
        sites=tuple(str(site) for site in arrays["site"][keep]),
    )


def laboratories(
    images: Images, seed: int, *, most: int = MOST, test_share: float = TEST_SHARE
) -> tuple[Laboratory, ...]:
    """Each site's images in two parts, at most `most` of them, in the order of `SITES`.

    The parts depend on seed and site only. Raises `ConfigError` when a part would be empty.
    """
    if not 0 < test_share < 1:
        raise ConfigError(f"dataset nuclei: a test share of {test_share} leaves a part empty")
    column = np.array(images.sites)
    found = []
    for site in (*SITES, FAINT):
        places = np.flatnonzero(column == site)
        if len(places) == 0:
            continue
        order = random_source("nuclei", seed, site).permutation(places)[:most]
        tests = round(test_share * len(order))
        if not 0 < tests < len(order):
            raise ConfigError(f"dataset nuclei: {len(order)} images of {site} are too few to split")
        train, test = np.sort(order[tests:]), np.sort(order[:tests])
        found.append(Laboratory(site, images.take(train), images.take(test)))
    return tuple(found)
