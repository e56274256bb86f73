"""Questions: the unlabelled images that hospitals of any network answer, without a patient.

By the data set: generated patients of a hospital that nobody has (``lesions``), public images
that no hospital was dealt (``pneumoniamnist``, ``digits``), and smooth random fields for a
hospital's own images, of which nothing public is known. The same options and seed give the same
question everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge.data import lesions, xray
from konsil.knowledge.data.place import data_folder
from konsil.knowledge.data.scanners import IDENTITY
from konsil.knowledge.imaging.sources import digits_dealt
from konsil.knowledge.teaching import generated
from konsil.knowledge.teaching.question import Question, images

if TYPE_CHECKING:
    from konsil.knowledge.imaging.options import ImagingOptions
    from konsil.knowledge.task import TaskConfig

NOBODY = "nobody"
"""The hospital of generated patients whom no member has."""


def question(
    config: TaskConfig, options: ImagingOptions, classes: tuple[str, ...], shape: tuple[int, ...]
) -> Question:
    """`options.question` images of this shape (channels, height, width) to answer.

    Raises `ConfigError` as reading the data set does.
    """
    seed = config.seed if options.split_seed is None else options.split_seed
    if options.dataset == "lesions":
        patients = lesions.Hospital(NOBODY, options.question, IDENTITY)
        made = lesions.generate(options.modality, [patients], seed, size=options.size)
        return images(made.kinds.inputs, classes)
    if options.dataset == "digits":
        asked = digits_dealt(options, seed)[2]
        return images(asked.take(np.arange(min(options.question, len(asked)))).inputs, classes)
    if options.dataset == "pneumoniamnist":
        rest = xray.simulated(xray.read(data_folder() / xray.FOLDER).train, seed).rest
        return images(rest.take(np.arange(min(options.question, len(rest)))).inputs, classes)
    channels, height, width = shape
    return generated.smooth(options.question, (channels, height, width), classes, seed=seed)
