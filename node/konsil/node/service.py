"""The daemon as an operating system sees it: signals in, an exit code out.

SIGTERM and SIGINT stop it cleanly. The errors of several tasks at once become the gravest
one, so that the exit code is a documented one.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
from functools import partial
from typing import TYPE_CHECKING

import trio

from konsil.node.config import check_addresses, read_config
from konsil.node.daemon import Daemon
from konsil.node.keys import load_keys
from konsil.node.log import Log, open_log
from konsil.node.opening import open_journal
from konsil.node.paths import Home
from konsil.protocol.errors import ConfigError, KonsilError

if TYPE_CHECKING:
    from pathlib import Path

    from konsil.node.config import NodeConfig

PR_SET_PDEATHSIG = 1
GRAVEST_FIRST = (3, 6, 4, 5)


def run_node(root: Path, *, exit_with_parent: bool) -> None:
    """Run the node at `root` until it is told to stop.

    Raises the error of `konsil.protocol.errors` that ended it.
    """
    home = Home(root.absolute())
    if not home.root.is_dir():
        raise ConfigError(
            f"{root}: there is no such home", hint="make one with: konsil init HOME --name NAME"
        )
    if exit_with_parent:
        _end_with_parent()
    config = read_config(home.config)
    check_addresses(config, home.config)
    log = open_log(config.node.name, config.log.level)
    _silence_libp2p()
    try:
        trio.run(_serve, home, config, log)
    except BaseExceptionGroup as group:
        error = gravest(group)
        if error is None:
            raise
        raise error from group


async def _serve(home: Home, config: NodeConfig, log: Log) -> None:
    from konsil.node.transports.libp2p_transport import Libp2pTransport

    keys = load_keys(home.keys)
    journal = await trio.to_thread.run_sync(open_journal, home, config, keys, log)
    daemon: Daemon | None = None
    try:
        transport = Libp2pTransport(
            keys["peer"].seed,
            config.node.listen,
            frozenset(member.peer for member in config.members),
            f"{config.consortium.name}/heads",
            log=log,
        )
        daemon = Daemon(home, config, journal, transport, log)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_heed_signals, daemon)
            await daemon.run()
            nursery.cancel_scope.cancel()
    finally:
        sure = daemon is not None and daemon.vouched
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(partial(journal.close, sign=sure, index=sure))
    log.info("node.stopped")


async def _heed_signals(daemon: Daemon) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            daemon.stop.set()


def gravest(group: BaseExceptionGroup[BaseException]) -> KonsilError | None:
    """The error that decides the exit code; None when a bug of ours is among them."""
    found = _leaves(group)
    known = [error for error in found if isinstance(error, KonsilError)]
    if len(known) < len([e for e in found if not isinstance(e, trio.Cancelled)]):
        return None
    order = {code: place for place, code in enumerate(GRAVEST_FIRST)}
    return min(known, key=lambda error: order.get(error.exit_code, len(order)), default=None)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves


def _silence_libp2p() -> None:
    """Every peer that leaves is an error to libp2p; our transport tells what matters."""
    logging.getLogger("libp2p").setLevel(logging.CRITICAL + 1)
    logging.getLogger().addHandler(logging.NullHandler())


def _end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies (Linux); nobody has to clean up then.

    A parent that names itself in KONSIL_PARENT_PID may be gone before we come to ask.
    """
    parent = int(os.environ.get("KONSIL_PARENT_PID") or os.getppid())
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
