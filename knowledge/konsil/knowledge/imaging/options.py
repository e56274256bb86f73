"""Options: what `[task.options]` of an imaging task may say. Frozen; unknown names are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from konsil.knowledge.imaging.augment import Augmentation
from konsil.knowledge.imaging.plans import Plan
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from konsil.knowledge.task import TaskConfig

_Positive = Annotated[float, Meta(gt=0)]
_Count = Annotated[int, Meta(ge=1)]


class Search(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[task.options.search]`: settings drawn from the consortium's seed and tried at opening."""

    settings: Annotated[int, Meta(ge=0)] = 0
    """How many are tried; 0 searches nothing."""
    rounds: _Count = 2
    """Rounds of local training of each."""
    lr: tuple[_Positive, _Positive] = (0.001, 0.1)
    """The lowest and the highest learning rate."""
    optimisers: tuple[Literal["sgd", "adam"], ...] = ("sgd", "adam")


class ImagingOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[task.options]` of ``…imaging.tasks:classify`` and ``:segment``."""

    dataset: str = "lesions"
    """`lesions`, `digits`, `pneumoniamnist`, `nuclei`, or a hospital's own: `folder:PATH`,
    `PATH.npz`, `dicom:PATH`."""
    name: str = ""
    """What the consortium calls this task, the same everywhere; by default after the data set."""
    site: int | str | None = None
    """Which hospital this is: a number from 0, or its name; by default the node's name."""
    sites: _Count = 4
    alpha: _Positive = 0.5
    """Of `digits`: over how many hospitals they are dealt, and how evenly (Dirichlet)."""
    split_seed: int | None = None
    """Seed of every split and of generated patients; by default the consortium's."""
    holdout: Annotated[float, Meta(gt=0, lt=1)] = 0.2
    """Share of a site's patients that is never trained on and judges peers."""
    test: Annotated[float, Meta(ge=0, lt=1)] | None = None
    """Share of patients on whom nobody trains; own data has none by default."""
    modality: str = "skin"
    """`skin`, `ct` or `mri`, of generated lesions."""
    size: Annotated[int, Meta(ge=32)] = 64
    """Pixels a side of generated lesions."""
    crowd: _Count = 1
    """How many times as many patients the hospitals of generated lesions have."""
    shape: tuple[_Count, _Count] = (64, 64)
    """Height and width to which a hospital's own files are brought."""
    classes: tuple[str, ...] = ()
    """Names of the classes, the same everywhere; for masks the background first."""
    colour: bool = False
    channels_last: bool = False
    patient: str = "(.+)"
    """Of `folder:`; the group of this pattern for a file's name is the patient."""
    salt: str = "dicom.salt"
    window: tuple[float, float] | None = None
    """Of `dicom:`; a secret file in the home, and the lowest and highest value shown."""
    patients: Annotated[int, Meta(ge=0)] = 0
    """Patients to learn from and judge with that a hospital has at most; 0 keeps all."""
    question: _Count = 256
    """Unlabelled images that all members answer, where they exchange logits or weak labels."""
    atlas: str = ""
    """A public mean image of generated or own patients around which these are drawn, the same file
    everywhere (uint8 `.npy`, channels × height × width); smooth random fields where there is none.
    """
    model: str = ""
    """`mlp:32`, `cnn`, `cnn:8-16`, `unet`, `unet:8-16-32`, with `-bn`, or `module:factory`."""
    model_options: dict[str, Any] = {}
    """Keyword arguments of a `module:factory`."""
    augmentation: Augmentation = Augmentation()
    plan: Plan = Plan()
    optimiser: Literal["sgd", "adam"] = "sgd"
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    lr: _Positive = 0.1
    search: Search = Search()
    """A search for `optimiser` and `lr`; each hospital takes what does best on its own holdout."""
    batch: _Count = 8
    local_steps: Annotated[int, Meta(ge=0)] = 6
    """Batches of a round at every hospital, whatever its size: where rounds are whole epochs, a
    small hospital takes few steps, is outvoted by larger ones and loses what only it can see."""
    local_epochs: _Count = 1
    """Whole epochs of a round instead, where `local_steps` is 0."""
    weighted: bool = False
    """Whether a class counts in the loss inversely to its rows (or pixels) here."""
    dice: Annotated[float, Meta(ge=0)] = 1.0
    """What the soft Dice loss counts beside the cross-entropy, for masks."""


def read_options(config: TaskConfig) -> ImagingOptions:
    """The options, checked. Raises `ConfigError` naming the one that is wrong."""
    try:
        return msgspec.convert(dict(config.options), ImagingOptions, strict=True)
    except msgspec.ValidationError as fault:
        known = ", ".join(ImagingOptions.__struct_fields__)
        raise ConfigError(f"[task.options] {fault}", hint=f"options are {known}") from None
