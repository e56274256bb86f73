"""Folders: a hospital's own image files, PNG, JPEG or TIFF, with their classes or masks.

`read_classes`: one sub-folder a class. `read_masks`: ``images/`` and ``masks/`` with files of the
same names, a mask's grey value being the class of the pixel. Which patient an image shows is a
part of the file name that the caller's pattern marks, as no rule fits all hospitals.

File names are often about a patient: an error counts files (from 1, in the order of ``LC_ALL=C
ls``) instead of repeating their names, and the names of patients are theirs alone. Pillow reads
the files; it is optional (``pip install 'konsil[imaging]'``) and imported when needed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge.data.images import Images
from konsil.knowledge.data.resizing import resized, resized_mask
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import ModuleType

    from konsil.knowledge.data.images import Pixels
    from konsil.knowledge.split import Labels

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
FORMATS = ("PNG", "JPEG", "TIFF")
MOST_PIXELS = 1 << 26
"""Pixels of one file; more are refused before they are unpacked."""

_FULL = {"1": 1, "L": 255, "LA": 255, "P": 255, "RGB": 255, "RGBA": 255, "CMYK": 255}
_DEEP = {"I;16": 65535, "I;16L": 65535, "I;16B": 65535}
"""Pillow's modes and the value of white in them: 8 bits a channel, and 16 bits of grey."""


@dataclass(frozen=True)
class Reading:
    """How files become images of one shape."""

    height: int
    width: int
    colour: bool = False
    """Three channels, or one of grey values."""
    patient: str = "(.+)"
    """A pattern for the file name without its ending; its one group is the patient."""
    site: str = "own"

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ConfigError("images need a height and a width of one pixel or more")
        try:
            groups = re.compile(self.patient).groups
        except re.error as fault:
            raise ConfigError(f"patient pattern {self.patient!r}: {fault}") from None
        if groups != 1:
            raise ConfigError(
                f"patient pattern {self.patient!r} has {groups} groups",
                hint=r"mark the patient's part with one: (\d+)_.*",
            )


def read_classes(folder: Path, reading: Reading, classes: tuple[str, ...] = ()) -> Images:
    """The images below a folder that has one sub-folder a class.

    `classes` fixes their order, which must be the same at all hospitals, and may name one that
    this hospital does not have; by default the names of the sub-folders, sorted. Raises
    `ConfigError` for a folder without images, for one that is no class, and for a bad file.
    """
    found = tuple(sorted(one.name for one in _entries(folder) if one.is_dir()))
    unknown = set(found) - set(classes or found)
    if unknown:
        raise ConfigError(
            f"{folder}: {len(unknown)} sub-folders are none of the classes",
            hint=f"classes are {', '.join(classes)}",
        )
    classes = classes or found
    inputs: list[Pixels] = []
    patients: list[str] = []
    targets: list[int] = []
    for label, name in enumerate(classes):
        if name in found:
            some = _images(folder / name, reading)
            inputs += [image for image, _ in some]
            patients += [patient for _, patient in some]
            targets += [label] * len(some)
    return _joined(folder, reading, inputs, np.array(targets, dtype=np.int64), patients, classes)


def read_masks(folder: Path, reading: Reading, classes: Sequence[str]) -> Images:
    """The images of ``images/`` with the masks of ``masks/``, background first in `classes`.

    A mask holds the places of the classes as grey values; with two classes white is the second
    as well. Raises `ConfigError` for files that are not paired, and for other grey values.
    """
    images, masks = _files(folder / "images"), _files(folder / "masks")
    if [one.stem for one in images] != [one.stem for one in masks]:
        raise ConfigError(
            f"{folder}: {len(images)} images and {len(masks)} masks are not paired by name",
            hint="each file of images/ needs one of the same name in masks/",
        )
    some = _images(folder / "images", reading)
    targets = [_mask(path, n, reading, len(classes)) for n, path in enumerate(masks, start=1)]
    stacked = np.stack(targets) if targets else np.zeros((0, 1, 1), dtype=np.int64)
    inputs = [image for image, _ in some]
    patients = [patient for _, patient in some]
    return _joined(folder, reading, inputs, stacked, patients, tuple(classes))


def _images(folder: Path, reading: Reading) -> list[tuple[Pixels, str]]:
    found = []
    for number, path in enumerate(_files(folder), start=1):
        match = re.fullmatch(reading.patient, path.stem)
        if match is None or not match.group(1):
            raise ConfigError(
                f"{folder}: the name of file {number} does not fit the patient pattern",
                hint=f"the pattern is {reading.patient!r}; count with LC_ALL=C ls",
            )
        found.append((_image(path, number, reading), match.group(1)))
    return found


def _image(path: Path, number: int, reading: Reading) -> Pixels:
    array = _opened(path, number, "RGB" if reading.colour else "L")
    channels = array.transpose(2, 0, 1) if array.ndim == 3 else array[np.newaxis]
    if reading.colour and len(channels) == 1:  # 16 bits of grey stay grey
        channels = np.repeat(channels, 3, axis=0)
    return resized(channels, reading.height, reading.width)


def _mask(path: Path, number: int, reading: Reading, classes: int) -> Labels:
    grey = np.rint(_opened(path, number, "") * np.float32(255)).astype(np.int64)
    if grey.ndim != 2:
        raise ConfigError(f"{path.parent}: file {number} is a mask in colour, not in grey")
    if classes == 2 and set(np.unique(grey)) <= {0, 255}:
        grey = grey // 255
    if grey.max() >= classes:
        raise ConfigError(
            f"{path.parent}: file {number} has the value {grey.max()}, but {classes} classes",
            hint="a mask holds the number of the class of each pixel",
        )
    return resized_mask(grey, reading.height, reading.width, classes)


def _opened(path: Path, number: int, mode: str) -> Pixels:
    """Grey or colour values of a file from 0 to 1, by `mode`, or with an empty one as it is."""
    pillow = _pillow()
    try:
        with pillow.open(path, formats=FORMATS) as file:
            if file.width * file.height > MOST_PIXELS:
                raise ConfigError(
                    f"{path.parent}: file {number} has more than {MOST_PIXELS} pixels"
                )
            if getattr(file, "n_frames", 1) != 1:
                raise ConfigError(f"{path.parent}: file {number} has several pages")
            if file.mode in _DEEP:
                deep: Pixels = np.asarray(file, dtype=np.float32) / np.float32(_DEEP[file.mode])
                return deep
            if file.mode not in _FULL:
                raise ConfigError(
                    f"{path.parent}: file {number} has pixels of the kind {file.mode!r}",
                    hint="8 bits a channel, or 16 bits of grey, are needed",
                )
            if not mode and file.mode in ("P", "1"):  # indices, or black and white
                index = np.asarray(file, dtype=np.float32)
                return index / np.float32(255) if file.mode == "P" else index
            eight: Pixels = np.asarray(file.convert(mode) if mode else file, dtype=np.float32)
            return eight / np.float32(255)
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as fault:
        raise ConfigError(
            f"{path.parent}: file {number} cannot be read as an image: {type(fault).__name__}",
            hint="PNG, JPEG or TIFF; count with LC_ALL=C ls",
        ) from None


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError:
        raise ConfigError(
            "image files need Pillow, which is not installed",
            hint="pip install 'konsil[imaging]', or use an NPZ file",
        ) from None
    return Image


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as fault:
        raise ConfigError(f"cannot read {folder}: {fault.strerror}") from None


def _files(folder: Path) -> list[Path]:
    return [one for one in _entries(folder) if one.suffix.lower() in ENDINGS and one.is_file()]


def _joined(
    folder: Path,
    reading: Reading,
    inputs: list[Pixels],
    targets: Labels,
    patients: Sequence[str],
    classes: tuple[str, ...],
) -> Images:
    if not inputs:
        raise ConfigError(f"{folder}: no image is there", hint=f"files end in {sorted(ENDINGS)}")
    names = tuple(f"{reading.site}/{patient}" for patient in patients)
    return Images(np.stack(inputs), targets, names, classes, (reading.site,) * len(names))
