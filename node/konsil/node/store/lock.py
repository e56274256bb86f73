"""The lock of a ledger: one process writes it, and others can see that one does.

An advisory `flock` on a file beside the ledger; it ends with the process that holds it.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from typing import TYPE_CHECKING

from konsil.node.store.durable import AS_IT_IS, storage_error
from konsil.protocol.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

LOCK = "LOCK"
LOCK_ATTEMPTS = 5
LOCK_PAUSE_S = 0.1


def take(folder: Path) -> int:
    """The lock of the ledger in `folder`; close the handle to let go. Raises `StorageError`.

    Tries for a moment: a process that was just killed, or an audit that looks whether a node
    is running, may still hold it.
    """
    path = folder / LOCK
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | AS_IT_IS, 0o600)
    except OSError as error:
        raise storage_error(path, error) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise StorageError(f"{path}: is not a regular file", hint="move it out of the ledger")
    for attempt in range(LOCK_ATTEMPTS):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt + 1 < LOCK_ATTEMPTS:
                time.sleep(LOCK_PAUSE_S)
        else:
            return handle
    os.close(handle)
    raise StorageError(f"{path}: another process writes this ledger", hint="stop that node first")


def is_held(folder: Path) -> bool:
    """Does a process hold the ledger in `folder` open for writing? No where there is none.

    The folder may be anybody's: what stands in the lock's place is not waited for.
    """
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False
