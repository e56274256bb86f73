"""Questions: the unlabelled images that hospitals of any network answer, without a patient.

By the data set: public images that no hospital was dealt (``pneumoniamnist``, ``digits``); for all
others a public mean image with smooth random fields, or these alone where nothing public is known.
The same options and seed give the same question everywhere, to the bit: nothing that is drawn in
floating point is asked about (generated lesions are, so they are not).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from konsil.knowledge.data import xray
from konsil.knowledge.data.place import data_folder
from konsil.knowledge.imaging.sources import digits_dealt
from konsil.knowledge.teaching import generated
from konsil.knowledge.teaching.question import Question, images
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from konsil.knowledge.imaging.options import ImagingOptions
    from konsil.knowledge.task import TaskConfig


def question(
    config: TaskConfig, options: ImagingOptions, classes: tuple[str, ...], shape: tuple[int, ...]
) -> Question:
    """`options.question` images of this shape (channels, height, width) to answer.

    Raises `ConfigError` as reading the data set does.
    """
    seed = config.seed if options.split_seed is None else options.split_seed
    if options.dataset == "digits":
        asked = digits_dealt(options, seed)[2]
        return images(asked.take(np.arange(min(options.question, len(asked)))).inputs, classes)
    if options.dataset == "pneumoniamnist":
        rest = xray.simulated(xray.read(data_folder() / xray.FOLDER).train, seed).rest
        return images(rest.take(np.arange(min(options.question, len(rest)))).inputs, classes)
    channels, height, width = shape
    if options.atlas:
        mean = _public_mean(config.home / Path(options.atlas).expanduser(), tuple(shape))
        return generated.atlas(options.question, mean, classes, seed=seed)
    return generated.smooth(options.question, (channels, height, width), classes, seed=seed)


def _public_mean(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    try:
        mean = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as fault:
        raise ConfigError(f"[task.options] atlas: {path}: {fault}") from None
    if not isinstance(mean, np.ndarray) or mean.dtype != np.uint8 or mean.shape != shape:
        raise ConfigError(
            f"[task.options] atlas: {path} is no image of uint8 of the shape {shape}",
            hint="numpy.save(PATH, mean), channels first, as the images are",
        )
    return mean
