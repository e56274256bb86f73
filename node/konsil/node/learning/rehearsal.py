"""Rehearsal: open a home's task once, as the node would, and leave nothing of it behind.

In a worker process with a store of its own that is thrown away (only the salt of the home's
commitments is made, if it is not there yet). What is wrong with the task,
its options or its data shows before a node runs.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import trio

from konsil.node.learning.trainer import Trainer
from konsil.node.learning.worker_messages import Open
from konsil.node.log import open_log

if TYPE_CHECKING:
    from pathlib import Path

    from konsil.node.config import NodeConfig
    from konsil.node.learning.worker_messages import Opened


def rehearse(root: Path, config: NodeConfig) -> Opened:
    """What the task in the home at `root` says of itself.

    Raises `ConfigError` or `TaskError` naming what is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="konsil-check-") as blobs:
        opening = Open(
            home=str(root.absolute()),
            blobs=blobs,
            factory=config.task.factory,
            options=config.task.options,
            name=config.node.name,
            seed=config.training.seed,
            device="cpu",
            kind=config.artifacts.kind,
        )
        return trio.run(_open, opening, config)


async def _open(opening: Open, config: NodeConfig) -> Opened:
    trainer = Trainer(
        opening, open_log(config.node.name, "error"), timeout_s=config.training.timeout_s
    )
    try:
        return await trainer.open()
    finally:
        await trainer.aclose()
