"""Ledgered: every simulated hospital keeps a real, signed ledger, which an audit can verify.

Entries, envelopes, proofs, evidence and checkpoints are made by the code of the daemon's own
ledger; models are mixed by the replayable kernel. Only trio, the syncs of the disk and repeated
verification are left out: nobody relies on what a simulation that was cut off left behind.
"""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from konsil.simulations.sim.ledgered.books import Books
    from konsil.simulations.sim.setting import Setting


@contextlib.contextmanager
def opened_books(
    setting: Setting, homes: Path | None, *, processes: int = 1
) -> Iterator[Books | None]:
    """A ledger for each node where the scenario wants them, else None.

    The homes are made in the folder `homes`, or nowhere; those of a run that did not come to its
    end are removed. Raises `ConfigError` where this scenario, or so many processes, can keep no
    ledgers, and `StorageError`.
    """
    if not setting.scenario.ledger.enabled:
        yield None
        return
    from konsil.simulations.sim.ledgered import eligible
    from konsil.simulations.sim.ledgered.archive import Homes, Nowhere
    from konsil.simulations.sim.ledgered.books import Books

    eligible.check(setting.scenario)
    if processes > 1:
        raise ConfigError(
            f"[ledger] enabled works in one process, not in {processes}",
            hint="run it without torchrun",
        )
    try:
        yield Books(setting, Nowhere() if homes is None else Homes(homes))
    except BaseException:
        if homes is not None:
            shutil.rmtree(homes, ignore_errors=True)
        raise
