"""Opening: the ledger of a home, recovered, locked, and known to be that of its configuration.

What a stop left half done is finished here: a key that was about to change, a torn last frame.
Nothing is signed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from konsil.node.clock import now_ms
from konsil.node.config import check_identity
from konsil.node.keys import load_following, settle
from konsil.node.store.journal import Journal
from konsil.protocol.errors import ConfigError, KonsilError

if TYPE_CHECKING:
    from konsil.node.config import NodeConfig
    from konsil.node.log import Log
    from konsil.node.paths import Home
    from konsil.protocol.identity import KeySet


def open_journal(home: Home, config: NodeConfig, keys: KeySet, log: Log) -> Journal:
    """The home's ledger, recovered and locked; notices go to the log.

    Raises as `Journal.open` does, and `ConfigError` when the ledger is somebody else's, or the
    keys are older than it.
    """

    def trace(mark: str) -> None:
        log.debug("journal", mark=mark)

    journal = Journal.open(
        home.ledger,
        keys,
        now_ms,
        os.urandom,
        charter=config.charter().digest(),
        following=load_following(home.keys),
        trace=trace,
    )
    try:
        check_identity(config, journal.author, home.config)
        journal.check_keys()
        settle(home.keys, journal.keyring.keys, sure=False)
    except KonsilError:
        journal.close(sign=False)
        raise
    try:
        journal.require_keys()
    except ConfigError as error:
        # Perhaps the ledger is the old copy: then the peers bring back what is missing.
        log.warning("keys.unknown", reason=error.message, hint=error.hint)
    for notice in journal.notices:
        log.warning("journal.notice", notice=notice)
    return journal
