"""Tasks: learning what is in an image, or where in it, as a hospital's task.

`classify` and `segment` are task factories, ``konsil.knowledge.imaging.tasks:classify``; their
options are the fields of `ImagingOptions`. Images stay as they are, from 0 to 1: networks
normalise inside, so no hospital needs another's means. All start from the same weights.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from konsil.knowledge.data.images import as_rows
from konsil.knowledge.imaging.fitting import Fitting
from konsil.knowledge.imaging.networks import network
from konsil.knowledge.imaging.options import ImagingOptions, read_options
from konsil.knowledge.imaging.questions import question
from konsil.knowledge.imaging.search import Choices, LogRange, best, drawn, scores
from konsil.knowledge.imaging.sources import few, held_back, source
from konsil.knowledge.task import Rows, Task, TaskConfig
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from konsil.knowledge.data.images import Images
    from konsil.knowledge.imaging.search import Setting, Space


def classify(config: TaskConfig) -> Task:
    """One class an image. Raises `ConfigError` naming the option, or the file."""
    return _task(config, masks=False)


def segment(config: TaskConfig) -> Task:
    """One class a pixel. Raises `ConfigError` naming the option, or the file."""
    return _task(config, masks=True)


def _set_aside(test: Images) -> Rows:
    if len(test) == 0:
        raise ConfigError("[task.options] test: no patients are set aside", hint="set test = 0.3")
    return as_rows(test)


def _task(config: TaskConfig, *, masks: bool) -> Task:
    options = read_options(config)
    model = options.model or ("unet" if masks else "cnn")
    found = source(config, options, masks=masks)
    own = few(found.own, options.patients, config.seed, found.site)
    keep, back = held_back(own, options.holdout, config.seed, found.site)
    if len(keep) == 0 or len(back) == 0:
        raise ConfigError(f"[task.options] site {found.site}: {len(own)} images are too few")
    classes = own.classes
    fit = fitting(options, len(classes))
    task = Task(
        name=options.name or f"imaging/{_short(options.dataset)}",
        classes=classes,
        model=_network(config, options, model, own, masks=masks),
        train=as_rows(own.take(keep)),
        holdout=as_rows(own.take(back)),
        metric="dice" if masks else "auc" if len(classes) == 2 else "balanced_accuracy",
        local_epochs=options.local_epochs,
        local_steps=options.local_steps or None,
        batch_size=options.batch,
        learning_rate=options.lr,
        fit=fit,
        optimise=fit.optimise,
        problem="masks" if masks else "classes",
        question=None if masks else partial(question, config, options, classes, own.shape),
        test=partial(_set_aside, found.test),
    )
    return _searched(task, options, config) if options.search.settings else task


def _searched(task: Task, options: ImagingOptions, config: TaskConfig) -> Task:
    """The task with the setting of the search that does best here."""
    wish = options.search
    space: Space = {"lr": LogRange(*wish.lr), "optimiser": Choices(wish.optimisers)}
    settings = drawn(space, wish.settings, config.seed)

    def of(setting: Setting) -> Task:
        changed = msgspec.structs.replace(options, **setting)
        fit = fitting(changed, len(task.classes))
        return replace(task, learning_rate=changed.lr, fit=fit, optimise=fit.optimise)

    told = scores(of, settings, seed=config.seed, node=config.name, rounds=wish.rounds)
    return of(settings[best({config.name: told})])


def fitting(options: ImagingOptions, classes: int) -> Fitting:
    """How these options train."""
    return Fitting(
        classes=classes,
        rate=options.lr,
        batch=options.batch,
        epochs=options.local_epochs,
        steps=options.local_steps or None,
        optimiser=options.optimiser,
        momentum=options.momentum,
        augmentation=options.augmentation,
        plan=options.plan,
        weighted=options.weighted,
        dice=options.dice,
    )


def _network(
    config: TaskConfig, options: ImagingOptions, model: str, images: Images, *, masks: bool
) -> Callable[[], nn.Module]:
    return network(
        model,
        shape=images.shape,
        classes=len(images.classes),
        masks=masks,
        search=config.home,
        settings=options.model_options,
    )


def _short(dataset: str) -> str:
    return Path(dataset.rpartition(":")[2]).stem or "own"
