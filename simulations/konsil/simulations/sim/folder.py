"""The folder of `--out`: what was computed, the scenario as it was run, and the plots.

    DIR/result.json          the data that --json prints
    DIR/scenario.toml        the scenario with every default written out, and its plots beside it
    DIR/homes/node-0 …       where nodes keep ledgers: their homes, as `konsil audit` reads them;
                             below homes/seed-3 … under several seeds
    DIR/run-1, run-2 …       instead of these, where a sweep has several variants
    DIR/UNFINISHED           while the run lasts; where it stays, the run was cut off

result.json comes last and at once, so where it is, all is. A missing matplotlib costs the plots
only.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

import msgspec

from konsil.node.store.durable import begin, put, storage_error, write_all
from konsil.protocol.errors import UsageError
from konsil.simulations.sim.seeds import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from konsil.simulations.sim.portrait import Portrait
    from konsil.simulations.sim.result import Result
    from konsil.simulations.sim.scenario import Scenario
    from konsil.simulations.sim.seeds import Variant


UNFINISHED = "UNFINISHED"
"""The file that says so."""


@contextlib.contextmanager
def opened(out: Path) -> Iterator[Path]:
    """The new or empty folder `out`, which is this run's alone until the end of the context.

    Of a run that fails before it wrote anything nothing is left, else all, marked as unfinished.
    Raises `UsageError` where something is there already, or another run, and `StorageError`.
    """
    folder = out.absolute()
    mark = folder / UNFINISHED
    fresh = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        _claim(folder, mark)
    except OSError as error:
        _remove(fresh)
        raise storage_error(folder, error) from error
    try:
        yield folder
    except BaseException:
        if os.listdir(folder) == [mark.name]:
            _remove([mark, *fresh])
        raise
    mark.unlink(missing_ok=True)


def _claim(folder: Path, mark: Path) -> None:
    """Makes folder and mark. Raises `UsageError`, and `OSError`."""
    taken = UsageError(f"{folder}: this is no empty folder", hint="choose another --out")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise taken
    folder.mkdir(parents=True, exist_ok=True)
    try:
        handle = begin(mark)
    except FileExistsError as error:
        raise taken from error
    try:
        write_all(handle, b"This run has not ended, or was cut off: here is no result.\n", 0)
    except OSError:
        mark.unlink()
        raise
    finally:
        os.close(handle)


def _remove(paths: Sequence[Path]) -> None:
    """Take away files and empty folders, as far as that goes."""
    for one in paths:
        with contextlib.suppress(OSError):
            one.rmdir() if one.is_dir() else one.unlink()


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
        pairs = zip(runs, portraits, strict=True)
        for number, ((variant, results), portrayed) in enumerate(pairs, start=1):
            place = place_of(folder, variant, number)
            place.mkdir(exist_ok=True)
            (place / "scenario.toml").write_bytes(msgspec.toml.encode(plain(variant.scenario)))
            drawn.append(_draw(variant, results, portrayed, place))
    except OSError as error:
        raise storage_error(folder, error) from error
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, indent=2)
    put(folder / "result.json", f"{text}\n".encode())
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
