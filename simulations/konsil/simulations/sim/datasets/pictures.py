"""Images with a class each as rows of a data set; those of a row keep their shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge.cohort import Cohort
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from konsil.knowledge.data.images import Images


def as_cohort(images: Images) -> Cohort:
    """The images (n × channels × height × width) as rows; columns are named by their place.

    Raises `ConfigError` for images with masks: a row here has one class.
    """
    if images.masked:
        raise ConfigError("images with masks are no data set of one class a row")
    channels, height, width = images.shape
    return Cohort(
        inputs=images.inputs.astype(np.float64),
        labels=images.targets,
        patients=images.patients,
        classes=images.classes,
        columns=tuple(
            f"{channel}:{row},{column}"
            for channel in range(channels)
            for row in range(height)
            for column in range(width)
        ),
    )
