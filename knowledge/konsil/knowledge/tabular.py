"""Tabular: logistic and small networks on embedded, fetched or a hospital's own tables.

`build` is the task factory ``konsil.knowledge.tabular:build``. Its options are the fields of
`TabularOptions`. Data sets: ``breast_cancer`` (WDBC, inside scikit-learn), split over `sites`
by the seed; ``heart_disease`` (four real hospitals); or the path of a CSV file. Inputs are
normalised by each hospital's own training rows; all hospitals start from the same weights.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from konsil.knowledge import heart, split
from konsil.knowledge.cohort import Cohort, preparation, standardised
from konsil.knowledge.data.place import data_folder
from konsil.knowledge.embedded import breast_cancer
from konsil.knowledge.networks import hidden_widths, perceptron
from konsil.knowledge.spreadsheet import Columns, read_csv
from konsil.knowledge.task import Rows, Task, TaskConfig
from konsil.knowledge.teaching.generated import gaussian
from konsil.protocol.errors import ConfigError

_Positive = Annotated[float, Meta(gt=0)]


class TabularOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[task.options]` of a tabular task."""

    dataset: str = "breast_cancer"
    """`breast_cancer`, `heart_disease`, or the path of a CSV file (relative to the home)."""
    name: str = ""
    """What the consortium calls this task, the same everywhere; by default after the data set."""
    model: str = "logistic"
    """`logistic`, or `mlp:16`, `mlp:64-32`: the widths of the hidden layers."""
    site: int | str | None = None
    """Which hospital this is: a number from 0, or its name; by default the node's name."""
    sites: Annotated[int, Meta(ge=1)] = 1
    """Over how many hospitals one table is split; 1 leaves it whole."""
    alpha: _Positive = 1.0
    """Evenness of the classes over the sites: small is uneven (Dirichlet)."""
    size_skew: Annotated[float, Meta(ge=0)] = 0.0
    """Site k is planned (k + 1) ** -size_skew times as large as the first."""
    size: Annotated[int, Meta(ge=0)] = 0
    """Patients that a site of a split table keeps at most; 0 keeps all."""
    split_seed: int | None = None
    """Seed of every split; by default the consortium's (heart_disease: FLamby's 43)."""
    holdout: Annotated[float, Meta(gt=0, lt=1)] = 0.2
    """Share of a site's patients that is never trained on and judges peers."""
    test: Annotated[float, Meta(ge=0, lt=1)] | None = None
    """Share of patients on whom nobody trains; by default 0.3 where a table is split."""
    label: str = "label"
    patient: str = ""
    site_column: str = ""
    """Columns of a CSV file; patient and site may be absent."""
    classes: tuple[str, ...] = ()
    """Texts in the label column, in an order that is the same everywhere; default: sorted."""
    question: Annotated[int, Meta(ge=1)] = 256
    """Random rows that all members answer, where they exchange logits or weak labels."""
    local_epochs: Annotated[int, Meta(ge=1)] = 1
    batch: Annotated[int, Meta(ge=1)] = 16
    lr: _Positive = 0.1


def build(config: TaskConfig) -> Task:
    """The task of one hospital. Raises `ConfigError` naming the option, or file and line."""
    options = read_options(config)
    train, holdout, _ = _parts(config, options)
    hidden = _widths(options.model)
    inputs, outputs = train.inputs.shape[1], len(train.classes)
    return Task(
        name=options.name or f"tabular/{Path(options.dataset).stem}",
        classes=train.classes,
        model=partial(perceptron, inputs, hidden, outputs),
        train=standardised(train, train),
        holdout=standardised(holdout, train),
        metric="balanced_accuracy" if options.dataset == "breast_cancer" else "auc",
        local_epochs=options.local_epochs,
        batch_size=options.batch,
        learning_rate=options.lr,
        question=partial(gaussian, options.question, inputs, train.classes, seed=config.seed),
        test=partial(common_test, config),
        preparation=preparation(train),
    )


def common_test(config: TaskConfig) -> Rows:
    """Patients on whom no hospital trains, normalised as this hospital would.

    A split table has one such set for all; heart_disease and a CSV file with a site column
    have one for each hospital. Raises `ConfigError` where option `test` leaves none.
    """
    train, _, test = _parts(config, read_options(config))
    if len(test) == 0:
        raise ConfigError("[task.options] test: no patients are set aside", hint="set test = 0.3")
    return standardised(test, train)


def read_options(config: TaskConfig) -> TabularOptions:
    """The options, checked. Raises `ConfigError` naming the one that is wrong."""
    try:
        options = msgspec.convert(dict(config.options), TabularOptions, strict=True)
    except msgspec.ValidationError as fault:
        known = ", ".join(TabularOptions.__struct_fields__)
        raise ConfigError(f"[task.options] {fault}", hint=f"options are {known}") from None
    _widths(options.model)
    dealt = options.sites > 1 and not options.site_column
    if dealt and isinstance(options.site, int) and not 0 <= options.site < options.sites:
        raise ConfigError(f"[task.options] site = {options.site} is not in 0 … sites - 1")
    return options


def _parts(config: TaskConfig, options: TabularOptions) -> tuple[Cohort, Cohort, Cohort]:
    """This hospital's rows to train on and to judge with, and the rows nobody trains on."""
    seed = config.seed if options.split_seed is None else options.split_seed
    if options.dataset == "heart_disease":
        name, own, test, seed = _heart(config, options)
    else:
        whole, sites = _table(config, options)
        if options.site_column:
            name, own, test = _by_column(config, options, whole, sites, seed)
        else:
            name, own, test = _dealt(options, whole, seed)
    keep, back = split.by_patient(own.labels, own.patients, options.holdout, seed, name)
    if len(keep) == 0 or len(back) == 0:
        raise ConfigError(f"[task.options] site {name}: {len(own)} rows are too few to split")
    return own.take(keep), own.take(back), test


def _heart(config: TaskConfig, options: TabularOptions) -> tuple[str, Cohort, Cohort, int]:
    site = config.name if options.site is None else options.site
    if isinstance(site, int) and 0 <= site < len(heart.SITES):
        site = heart.SITES[site]
    site = {"hungary": "hungarian"}.get(str(site), str(site))
    if site not in heart.SITES:
        raise ConfigError(
            f"[task.options] site = {options.site!r} (node {config.name!r}) is no hospital of "
            "heart_disease",
            hint=f"one of {', '.join(heart.SITES)}, or 0 to {len(heart.SITES) - 1}",
        )
    seed = heart.FLAMBY_SPLIT if options.split_seed is None else options.split_seed
    cohort = heart.read_site(data_folder() / "heart_disease", site)
    train, test = heart.train_test(cohort, seed)
    return site, cohort.take(train), cohort.take(test), seed


def _table(config: TaskConfig, options: TabularOptions) -> tuple[Cohort, tuple[str, ...]]:
    if options.dataset == "breast_cancer":
        return breast_cancer(), ()
    if not options.dataset.endswith(".csv"):
        raise ConfigError(
            f"[task.options] dataset = {options.dataset!r} is not known",
            hint="breast_cancer, heart_disease, or the path of a .csv file",
        )
    columns = Columns(options.label, options.patient, options.site_column, options.classes)
    return read_csv(config.home / Path(options.dataset).expanduser(), columns)


def _by_column(
    config: TaskConfig, options: TabularOptions, whole: Cohort, sites: tuple[str, ...], seed: int
) -> tuple[str, Cohort, Cohort]:
    places = split.by_column(sites)
    site = config.name if options.site is None else options.site
    name = sorted(places)[site] if isinstance(site, int) and 0 <= site < len(places) else str(site)
    if name not in places:
        raise ConfigError(
            f"[task.options] site = {name!r} does not occur in column {options.site_column!r}",
            hint=f"it has {', '.join(sorted(places))}",
        )
    own = whole.take(places[name])
    rest, test = _set_aside(own, options.test or 0.0, seed, name)
    return name, rest, test


def _dealt(options: TabularOptions, whole: Cohort, seed: int) -> tuple[str, Cohort, Cohort]:
    """One site of a table that is split here, by the same seed everywhere."""
    default = 0.3 if options.sites > 1 else 0.0
    share = default if options.test is None else options.test
    rest, test = _set_aside(whole, share, seed, "common")
    if options.sites == 1:
        return "0", rest, test
    if not isinstance(options.site, int) or not 0 <= options.site < options.sites:
        raise ConfigError(
            f"[task.options] site = {options.site!r} must be a number from 0 to "
            f"{options.sites - 1}, because sites = {options.sites}"
        )
    dealt = split.dirichlet(
        rest.labels,
        rest.patients,
        options.sites,
        seed,
        alpha=options.alpha,
        size_skew=options.size_skew,
    )
    own = rest.take(dealt[options.site])
    if 0 < options.size < len(set(own.patients)):
        share = options.size / len(set(own.patients))
        words = (seed, "size", options.site)
        kept = split.by_patient(own.labels, own.patients, share, *words, fewest=split.FEWEST)[1]
        own = own.take(kept)
    return str(options.site), own, test


def _set_aside(cohort: Cohort, share: float, *words: object) -> tuple[Cohort, Cohort]:
    if share == 0:
        return cohort, cohort.take(np.arange(0))
    keep, test = split.by_patient(cohort.labels, cohort.patients, share, "test", *words)
    return cohort.take(keep), cohort.take(test)


def _widths(model: str) -> tuple[int, ...]:
    widths = hidden_widths(model)
    if widths is None:
        raise ConfigError(
            f"[task.options] model = {model!r} is not known", hint="logistic, mlp:16, mlp:64-32"
        )
    return widths
