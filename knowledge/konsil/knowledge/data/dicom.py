"""DICOM: a folder of files as an X-ray, CT or MR machine writes them, one sub-folder a class.

Of each file only the pixels, what is needed to show them, and the patient's identifier are read;
all else stays unread. The identifier is kept as a keyed hash (HMAC-SHA-256, `salt`), because a
split needs to know no more than which images are of one patient: with a secret salt nobody can
search for a known identifier. An error counts files instead of repeating a name or a value.

Grey values follow the standard: rescaled to the machine's unit (slope, intercept), cut to a
window, inverted for MONOCHROME1, and brought to 0 … 1. pydicom reads the files; it is optional
(``pip install 'konsil[imaging]'``) and imported when needed.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from konsil.knowledge.data.images import Images
from konsil.knowledge.data.resizing import resized
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from konsil.knowledge.data.images import Pixels

FEWEST_SALT = 16
"""Bytes of salt at least."""
MOST_PIXELS = 1 << 26
"""Pixels of one file; more are refused before they are unpacked."""

_READ = [
    "PatientID", "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation",
    "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "PixelData",
]  # fmt: skip

_MALFORMED = (
    OSError, ValueError, TypeError, AttributeError, LookupError, EOFError, ArithmeticError,
    RuntimeError, struct.error, zlib.error,
)  # fmt: skip
"""What pydicom and its decoders raise at a damaged file, beside their own error."""


@dataclass(frozen=True)
class Reading:
    """How DICOM files become images of one shape."""

    height: int
    width: int
    salt: bytes
    """The hospital's own secret, kept for as long as patients must be recognised."""
    window: tuple[float, float] | None = None
    """Lowest and highest value shown, in the machine's unit (HU of a CT): the same for all.

    Without it each file's own window, else the range of its values."""
    site: str = "own"

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ConfigError("images need a height and a width of one pixel or more")
        if len(self.salt) < FEWEST_SALT:
            raise ConfigError(
                f"a salt of {len(self.salt)} bytes does not protect identifiers",
                hint=f"{FEWEST_SALT} or more random bytes, kept secret",
            )
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ConfigError(f"window {self.window}: its low end must be below its high end")


def read(folder: Path, reading: Reading, classes: tuple[str, ...] = ()) -> Images:
    """The images below a folder that has one sub-folder a class; files have any name.

    `classes` fixes their order; by default the names of the sub-folders, sorted. Raises
    `ConfigError` for a folder without files, for a file that is not DICOM or has no patient, for
    colour or several frames, and for a compression that cannot be decoded here.
    """
    pydicom = _pydicom()
    found = tuple(sorted(one.name for one in _entries(folder) if one.is_dir()))
    if set(found) - set(classes or found):
        raise ConfigError(
            f"{folder}: {len(set(found) - set(classes))} sub-folders are none of the classes",
            hint=f"classes are {', '.join(classes)}",
        )
    inputs: list[Pixels] = []
    patients: list[str] = []
    targets: list[int] = []
    for label, name in enumerate(classes or found):
        if name not in found:
            continue
        for number, path in enumerate(_entries(folder / name), start=1):
            if path.is_file() and not path.name.startswith("."):
                place = f"{folder / name}: file {number}"
                image, patient = _read_one(pydicom, path, place, reading)
                inputs.append(image)
                patients.append(patient)
                targets.append(label)
    if not inputs:
        raise ConfigError(f"{folder}: no DICOM file is in a sub-folder of it")
    return Images(
        inputs=np.stack(inputs),
        targets=np.array(targets, dtype=np.int64),
        patients=tuple(patients),
        classes=classes or found,
        sites=(reading.site,) * len(patients),
    )


def pseudonym(identifier: str, salt: bytes) -> str:
    """The name under which a patient is known outside the file: 128 bits of a keyed hash."""
    return hmac.new(salt, identifier.encode(), hashlib.sha256).hexdigest()[:32]


def _read_one(pydicom: ModuleType, path: Path, place: str, reading: Reading) -> tuple[Pixels, str]:
    try:
        file = pydicom.dcmread(path, specific_tags=_READ)
        _expect_single_grey(file, place)
        _expect_decodable(pydicom, file, place)
        identifier = str(file.get("PatientID") or "").strip()
        if not identifier:
            raise ConfigError(f"{place} names no patient (PatientID)", hint="leave it out")
        values = _window(file, _rescaled(file), reading)
    except (*_MALFORMED, pydicom.errors.InvalidDicomError) as fault:
        raise _unreadable(place, fault) from None
    image = resized(values[np.newaxis], reading.height, reading.width)
    return image, pseudonym(identifier, reading.salt)


def _unreadable(place: str, fault: Exception) -> ConfigError:
    return ConfigError(
        f"{place} cannot be read as DICOM: {type(fault).__name__}",
        hint="files are counted as by LC_ALL=C ls; move what is no image elsewhere",
    )


def _expect_single_grey(file: Any, place: str) -> None:
    """That there is one picture of grey values, of a size that may be unpacked."""
    frames = int(file.get("NumberOfFrames") or 1)
    samples = int(file.get("SamplesPerPixel") or 1)
    shown = str(file.get("PhotometricInterpretation") or "")
    if frames != 1:
        raise ConfigError(f"{place} has {frames} frames", hint="write one file a frame")
    if samples != 1 or shown not in ("MONOCHROME1", "MONOCHROME2"):
        raise ConfigError(f"{place} is not grey: {samples} samples a pixel")
    if int(file.get("BitsAllocated") or 0) not in (8, 16, 32):
        raise ConfigError(f"{place} has pixels that are not of 8, 16 or 32 bits")
    if not 0 < int(file.Rows) * int(file.Columns) <= MOST_PIXELS:
        raise ConfigError(f"{place} has no pixels, or more than {MOST_PIXELS}")


def _expect_decodable(pydicom: ModuleType, file: Any, place: str) -> None:
    """That the file's transfer syntax is uncompressed, or has a decoder here."""
    syntax = pydicom.uid.UID(file.file_meta.TransferSyntaxUID)
    hint = "decompress it first, for instance with: gdcmconv --raw IN OUT"
    try:
        decodable = not syntax.is_compressed or pydicom.pixels.get_decoder(syntax).is_available
    except (NotImplementedError, ValueError):
        raise ConfigError(f"{place} has an unknown transfer syntax", hint=hint) from None
    if not decodable:
        raise ConfigError(f"{place} is compressed as {syntax.name}: no decoder here", hint=hint)


def _rescaled(file: Any) -> Pixels:
    """The stored values in the machine's unit."""
    slope = float(file.get("RescaleSlope", 1) or 1)
    intercept = float(file.get("RescaleIntercept", 0) or 0)
    values = np.asarray(file.pixel_array, dtype=np.float64) * slope + intercept
    if not np.isfinite(values).all():
        raise ValueError("not finite")
    return values.astype(np.float32)


def _window(file: Any, values: Pixels, reading: Reading) -> Pixels:
    """Values from 0 to 1 between the ends of the window, bright as seen on the screen."""
    low, high = reading.window or _own_window(file) or (float(values.min()), float(values.max()))
    scaled: Pixels = (values - np.float32(low)) / np.float32(max(high - low, 1e-6))
    shown = np.clip(scaled, 0, 1)
    return 1 - shown if file.PhotometricInterpretation == "MONOCHROME1" else shown


def _own_window(file: Any) -> tuple[float, float] | None:
    """The first window that the file names, as its ends (PS3.3 C.11.2.1.2.1, linear)."""
    centre, width = file.get("WindowCenter"), file.get("WindowWidth")
    if centre is None or width is None:
        return None
    middle, whole = (float(np.ravel(one)[0]) for one in (centre, width))
    if whole < 1:
        return None
    return middle - 0.5 - (whole - 1) / 2, middle - 0.5 + (whole - 1) / 2


def _pydicom() -> ModuleType:
    try:
        import pydicom
        import pydicom.errors
        import pydicom.pixels
        import pydicom.uid
    except ImportError:
        raise ConfigError(
            "DICOM files need pydicom, which is not installed",
            hint="pip install 'konsil[imaging]', or write PNG or NPZ files",
        ) from None
    return pydicom


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as fault:
        raise ConfigError(f"cannot read {folder}: {fault.strerror}") from None
