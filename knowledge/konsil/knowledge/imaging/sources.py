"""Sources: which images a hospital brings, by the name of a data set in its task's options.

``lesions`` (generated), ``digits`` (real, inside scikit-learn, dealt by their classes),
``pneumoniamnist`` (simulated hospitals on real x-rays), ``nuclei`` (real laboratories), or a
hospital's own: ``folder:PATH``, ``PATH.npz``, ``dicom:PATH``. Each gives the images of one
hospital to learn from, and those on which nobody trains.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge import embedded, split
from konsil.knowledge.data import arrays, dicom, folders, lesions, nuclei, xray
from konsil.knowledge.data.images import Images
from konsil.knowledge.data.place import data_folder
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.knowledge.imaging.options import ImagingOptions
    from konsil.knowledge.split import Labels, Places
    from konsil.knowledge.task import TaskConfig

ASKED = 0.25
"""Share of the other digits that nobody has, to ask about."""
TEST = 0.3
"""Share of a generated hospital's patients on whom nobody trains, unless told otherwise."""


@dataclass(frozen=True)
class Source:
    """One hospital's name, its own images, and those on which nobody trains."""

    site: str
    own: Images
    test: Images


def source(config: TaskConfig, options: ImagingOptions, *, masks: bool) -> Source:
    """The images of this hospital, with masks or with classes.

    Raises `ConfigError` naming the option, the file, or what the data set does not have.
    """
    seed = config.seed if options.split_seed is None else options.split_seed
    if options.dataset == "lesions":
        return _lesions(config, options, seed, masks=masks)
    if options.dataset == "pneumoniamnist" and options.test is not None:
        raise ConfigError(
            f"[task.options] test = {options.test}: pneumoniamnist has test images of its own",
            hint="leave out test",
        )
    if options.dataset == "digits":
        _expect(not masks, "digits have no masks", "factory = …imaging.tasks:classify")
        return _digits(config, options, seed)
    if options.dataset == "nuclei":
        _expect(masks, "nuclei has masks and no classes", "factory = …imaging.tasks:segment")
        return _nuclei(config, options, seed)
    if options.dataset == "pneumoniamnist":
        _expect(not masks, "pneumoniamnist has no masks", "factory = …imaging.tasks:classify")
        return _xray(config, options, seed)
    own = _of_the_hospital(config, options, masks=masks)
    _expect(own.masked == masks, f"{options.dataset} does not have {_asked(masks)}")
    name = _chosen(config, options, tuple(sorted(set(own.sites))), alone=True)
    return _apart(own.take(np.flatnonzero(np.array(own.sites) == name)), options, seed, name, 0.0)


def held_back(images: Images, share: float, *words: object) -> tuple[Places, Places]:
    """Places of images to keep, and of `share` of the patients to hold back.

    Stratified by class; for masks by whether there is anything in them.
    """
    return split.by_patient(_strata(images), images.patients, share, *words)


def few(images: Images, patients: int, *words: object) -> Images:
    """The images of at most so many patients, classes as they are; 0 keeps all."""
    every = len(set(images.patients))
    if patients == 0 or patients >= every:
        return images
    _, kept = split.by_patient(
        _strata(images), images.patients, patients / every, "few", *words, fewest=split.FEWEST
    )
    return images.take(kept)


def _strata(images: Images) -> Labels:
    if not images.masked:
        return images.targets
    return np.asarray(images.targets.any(axis=(1, 2)), dtype=np.int64)


def _lesions(config: TaskConfig, options: ImagingOptions, seed: int, *, masks: bool) -> Source:
    every = lesions.hospitals(tuple(options.crowd * patients for patients in lesions.PATIENTS))
    name = _chosen(config, options, tuple(one.name for one in every))
    site = next(one for one in every if one.name == name)
    made = lesions.generate(options.modality, [site], seed, size=options.size)
    return _apart(made.masked if masks else made.kinds, options, seed, name, TEST)


def _digits(config: TaskConfig, options: ImagingOptions, seed: int) -> Source:
    dealt, test, _ = digits_dealt(options, seed)
    names = tuple(str(place) for place in range(options.sites))
    place = int(_chosen(config, options, names))
    return Source(names[place], dealt[place], test)


def digits_dealt(options: ImagingOptions, seed: int) -> tuple[tuple[Images, ...], Images, Images]:
    """The digits of each hospital, those to test everybody with, and those to ask about."""
    every = embedded.digits()
    pixels = (every.inputs / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    images = Images(pixels, every.labels, every.patients, every.classes, ("digits",) * len(every))
    rest, test = _parted(images, TEST if options.test is None else options.test, seed, "digits")
    own, asked = held_back(images.take(rest), ASKED, "question", seed, "digits")
    pool = images.take(rest).take(own)
    places = split.dirichlet(  # a hospital may lack a class: others can teach it
        pool.targets, pool.patients, options.sites, seed, alpha=options.alpha, fewest=0
    )
    dealt = tuple(pool.take(one) for one in places)
    return dealt, images.take(test), images.take(rest).take(asked)


def _nuclei(config: TaskConfig, options: ImagingOptions, seed: int) -> Source:
    sites = (*nuclei.SITES, nuclei.FAINT)
    name = _chosen(config, options, sites)
    images = nuclei.read(data_folder() / nuclei.FOLDER, (name,))
    share = nuclei.TEST_SHARE if options.test is None else options.test
    (laboratory,) = nuclei.laboratories(images, seed, test_share=share)
    return Source(name, laboratory.train, laboratory.test)


def _xray(config: TaskConfig, options: ImagingOptions, seed: int) -> Source:
    names = tuple(one.name for one in xray.HOSPITALS)
    name = _chosen(config, options, names)
    collection = xray.read(data_folder() / xray.FOLDER)
    place = names.index(name)
    own = xray.simulated(collection.train, seed).hospitals[place]
    return Source(name, own, xray.under_each(collection.test, seed)[place])


def _of_the_hospital(config: TaskConfig, options: ImagingOptions, *, masks: bool) -> Images:
    kind, colon, place = options.dataset.partition(":")
    if kind == "folder" and colon:
        folder = config.home / Path(place).expanduser()
        height, width = options.shape
        reading = folders.Reading(height, width, options.colour, options.patient)
        if masks:
            classes = options.classes or ("background", "foreground")
            return folders.read_masks(folder, reading, classes)
        return folders.read_classes(folder, reading, options.classes)
    if kind == "dicom" and colon:
        height, width = options.shape
        wish = dicom.Reading(height, width, _salt(config, options), options.window)
        return dicom.read(config.home / Path(place).expanduser(), wish, options.classes)
    if options.dataset.endswith(".npz"):
        if not options.classes:
            raise ConfigError(
                "[task.options] an .npz file does not name its classes",
                hint='classes = ["background", "lesion"], in an order that is the same everywhere',
            )
        return arrays.read_images(
            config.home / Path(options.dataset).expanduser(),
            options.classes,
            channels_last=options.channels_last,
        )
    raise ConfigError(
        f"[task.options] dataset = {options.dataset!r} is not known",
        hint="lesions, pneumoniamnist, nuclei, folder:PATH, PATH.npz, dicom:PATH",
    )


def _salt(config: TaskConfig, options: ImagingOptions) -> bytes:
    path = config.home / Path(options.salt).expanduser()
    try:
        return path.read_bytes()
    except OSError as fault:
        raise ConfigError(
            f"[task.options] salt: {path}: {fault.strerror}",
            hint="a secret file of 32 random bytes hides patients' identifiers; keep it",
        ) from fault


def _chosen(
    config: TaskConfig, options: ImagingOptions, names: Sequence[str], *, alone: bool = False
) -> str:
    """The site that options or node name; the only one where there is only one."""
    if alone and len(names) == 1 and options.site is None:
        return names[0]
    site = config.name if options.site is None else options.site
    if isinstance(site, int) and 0 <= site < len(names):
        return names[site]
    if site not in names:
        raise ConfigError(
            f"[task.options] site = {options.site!r} (node {config.name!r}) is no hospital of "
            f"{options.dataset}",
            hint=f"one of {', '.join(names)}, or 0 to {len(names) - 1}",
        )
    return str(site)


def _apart(own: Images, options: ImagingOptions, seed: int, name: str, default: float) -> Source:
    share = default if options.test is None else options.test
    keep, test = _parted(own, share, seed, name)
    return Source(name, own.take(keep), own.take(test))


def _parted(images: Images, share: float, seed: int, name: str) -> tuple[Places, Places]:
    """Places of images to keep, and of the share of the patients on whom nobody trains."""
    if share == 0:
        return np.arange(len(images)), np.arange(0)
    return held_back(images, share, "test", seed, name)


def _expect(fits: bool, said: str, hint: str = "") -> None:
    if not fits:
        raise ConfigError(f"[task.options] dataset: {said}", hint=hint)


def _asked(masks: bool) -> str:
    return "masks" if masks else "one class an image"
