"""The worker process seen from the daemon: ask it, time it, kill it, start it again.

Training and everything that opens a tensor happens in that process, so a crash, a hang or
an out-of-memory kill of a task costs a round and never the node. One question at a time.
The daemon itself never imports torch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import msgspec
import trio

from konsil.node.learning.worker_messages import Failed, Open, Opened, Reply, Request
from konsil.node.store.durable import DiskFullError
from konsil.protocol.errors import (
    ConfigError,
    KonsilError,
    LocalProtocolError,
    StorageError,
    TaskError,
    VerificationError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from konsil.node.log import Log

LONGEST_REPLY = 64 << 20
LAST_BREATH_S = 1.0
"""A process closes its pipes a moment before it is gone."""
NOT_THE_TASK: Mapping[str, type[KonsilError]] = MappingProxyType(
    {
        kind.code: kind
        for kind in (
            ConfigError,
            StorageError,
            DiskFullError,
            VerificationError,
            LocalProtocolError,
        )
    }
)
"""Errors that the worker reports and that end more than a round."""
ReplyT = TypeVar("ReplyT")


class Trainer:
    """Owns at most one worker process; `ask` starts it when there is none.

    Must be closed (`aclose`) by whoever made it, so that no process stays behind.
    """

    def __init__(self, opening: Open, log: Log, *, timeout_s: float) -> None:
        self.restarts = -1
        self._opening = opening
        self._log = log
        self._timeout_s = timeout_s
        self._turn = trio.Lock()
        self._process: trio.Process | None = None
        self._opened: Opened | None = None
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Reply)

    @property
    def state(self) -> str:
        """`running` while a process is there, else `stopped`."""
        return "running" if self._process is not None else "stopped"

    async def open(self) -> Opened:
        """What the task is; starts the process if needed. Raises as `ask` does."""
        async with self._turn:
            await self._ensure()
            assert self._opened is not None
            return self._opened

    async def ask(self, request: Request, kind: type[ReplyT]) -> ReplyT:
        """The worker's reply. Raises `TaskError` when the task fails, dies or hangs.

        Raises `ConfigError`, `StorageError` or `VerificationError` where that is the cause.
        """
        async with self._turn:
            await self._ensure()
            return await self._exchange(request, kind)

    async def aclose(self) -> None:
        """End the process, at once: whatever it computes now is not yet in the ledger."""
        with trio.CancelScope(shield=True):
            await self._end()

    async def _ensure(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        await self._end()
        # -P: a task.py in the folder from which the daemon was started is none of ours. A
        # session of its own: what the task forks can be ended with it.
        self._process = await trio.lowlevel.open_process(
            [sys.executable, "-P", "-m", "konsil.node.learning.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "KONSIL_DAEMON_PID": str(os.getpid())},
        )
        self.restarts += 1
        self._log.info("worker.started", pid=self._process.pid, restarts=self.restarts)
        self._opened = await self._exchange(self._opening, Opened)

    async def _exchange(self, request: Request, kind: type[ReplyT]) -> ReplyT:
        what = type(request).__name__.lower()
        try:
            with trio.fail_after(self._timeout_s):
                reply = await self._roundtrip(request)
        except trio.TooSlowError:
            await self.aclose()
            raise TaskError(
                f"the task gave no answer to `{what}` within {self._timeout_s:g} s; it was killed",
                hint="raise training.timeout_s, or find where it hangs",
            ) from None
        except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError, ValueError) as error:
            code = await self._exit_code()
            await self.aclose()
            raise TaskError(
                f"the worker process died during `{what}` (exit code {code})",
                hint="its last words are in the node's log",
            ) from error
        except trio.Cancelled:
            await self.aclose()
            raise
        if isinstance(reply, Failed):
            if reply.fatal:
                await self.aclose()
            raise _error(reply, what)
        if not isinstance(reply, kind):
            await self.aclose()
            raise TaskError(f"the worker answered `{what}` with {type(reply).__name__}")
        return reply

    async def _roundtrip(self, request: Request) -> Reply:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        body = self._encoder.encode(request)
        await self._process.stdin.send_all(struct.pack(">I", len(body)) + body)
        head = await _read_exactly(self._process.stdout, 4)
        (length,) = struct.unpack(">I", head)
        if length > LONGEST_REPLY:
            raise ValueError(f"a reply of {length} bytes")
        reply: Reply = self._decoder.decode(await _read_exactly(self._process.stdout, length))
        return reply

    async def _exit_code(self) -> int | None:
        """How the process ended; None when it only closed its pipes."""
        with trio.move_on_after(LAST_BREATH_S):
            return None if self._process is None else await self._process.wait()
        return None

    async def _end(self) -> None:
        process, self._process, self._opened = self._process, None, None
        if process is None:
            return
        if process.stdin is not None:
            await process.stdin.aclose()
        if process.stdout is not None:
            await process.stdout.aclose()
        # The group, also when the worker itself is gone: a task may have forked. The number
        # stays the group's own while the process is not waited for.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _error(reply: Failed, what: str) -> KonsilError:
    """The error of our tree: the disk's and the configuration's troubles are not the task's."""
    kind = NOT_THE_TASK.get(reply.code)
    if kind is not None:
        return kind(reply.what)
    return TaskError(f"the task failed during `{what}`: {reply.what} ({reply.where})")


async def _read_exactly(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    buffer = bytearray()
    while len(buffer) < count:
        piece = await stream.receive_some(count - len(buffer))
        if not piece:
            raise EOFError("the pipe closed")
        buffer += piece
    return bytes(buffer)
