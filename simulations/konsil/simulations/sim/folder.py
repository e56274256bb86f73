"""The folder of `--out`: what was computed, the scenario as it was run, and the plots.

    DIR/result.json          the data that --json prints
    DIR/scenario.toml        the scenario with every default written out, and its plots beside it
    DIR/homes/node-0 …       where nodes keep ledgers: their homes, as `konsil audit` reads them;
                             below homes/seed-3 … under several seeds
    DIR/run-1, run-2 …       instead of these, where a sweep has several variants

A missing matplotlib costs the plots only.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from konsil.node.store.durable import storage_error
from konsil.simulations.sim.seeds import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from konsil.simulations.sim.portrait import Portrait
    from konsil.simulations.sim.result import Result
    from konsil.simulations.sim.scenario import Scenario
    from konsil.simulations.sim.seeds import Variant


def write(
    folder: Path,
    data: Mapping[str, object],
    runs: Sequence[tuple[Variant, Sequence[Result]]],
    portraits: Sequence[Sequence[Portrait]],
    *,
    tell: Callable[[str], None],
) -> None:
    """Fill the folder, which exists. Raises `StorageError`."""
    drawn: list[bool] = []
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, indent=2)
        (folder / "result.json").write_text(f"{text}\n", encoding="utf-8")
        pairs = zip(runs, portraits, strict=True)
        for number, ((variant, results), portrayed) in enumerate(pairs, start=1):
            place = place_of(folder, variant, number)
            place.mkdir(exist_ok=True)
            (place / "scenario.toml").write_bytes(msgspec.toml.encode(plain(variant.scenario)))
            drawn.append(_draw(variant, results, portrayed, place))
    except OSError as error:
        raise storage_error(folder, error) from error
    if not all(drawn):
        tell("no plots without matplotlib: pip install 'konsil[plots]'")


def place_of(folder: Path, variant: Variant, number: int) -> Path:
    """Where variant `number`, from 1, of a run is kept."""
    return folder / f"run-{number}" if variant.settings else folder


def homes_of(folder: Path, variant: Variant, number: int, run: Scenario, seeds: int) -> Path:
    """Where the homes of one run of a variant are made, which is run under so many seeds."""
    homes = place_of(folder, variant, number) / "homes"
    return homes / f"seed-{run.seed}" if seeds > 1 else homes


def _draw(
    variant: Variant, results: Sequence[Result], portraits: Sequence[Portrait], place: Path
) -> bool:
    """Draw the plots of one scenario; False where matplotlib is not installed."""
    try:
        from konsil.simulations.sim import plots

        plots.draw(results, portraits, variant.scenario, place)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        return False
    return True
