"""The worker: the child process that owns the patients' rows and every tensor.

``python -m konsil.node.learning.worker`` reads requests on its standard input and answers each
on its standard output (`worker_messages`: u32 big-endian length, then msgpack). Both are moved
aside first, so that a task that prints or reads cannot garble the channel; what it prints goes
to standard error, with the log. The worker uses one thread, never sees a key, and dies when its
input closes, also in the middle of training, with whatever the task forked.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import struct
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch

from konsil.knowledge.task import where
from konsil.node.learning.workbench import Workbench
from konsil.node.learning.worker_messages import (
    Check,
    Encode,
    Failed,
    Mix,
    Open,
    Release,
    Reply,
    Request,
    Train,
)
from konsil.protocol.errors import KonsilError, LocalProtocolError, TaskError

if TYPE_CHECKING:
    from typing import BinaryIO

LONGEST_REQUEST = 64 << 20
LONGEST_TEXT = 300
"""Characters of an error's text in a reply. It may quote a row, so it never leaves the node."""

_HEAD = struct.Struct(">I")
_ORPHAN_S = 1.0
_log = logging.getLogger(__name__)


class Worker:
    """Answers requests; the first must be `Open`. A task that raises costs one answer."""

    def __init__(self) -> None:
        self._bench: Workbench | None = None
        self._home = Path()
        self.failures = 0

    def answer(self, request: Request) -> Reply:
        """The reply to one request; whatever the task raises becomes `Failed`."""
        try:
            return self._dispatch(request)
        except (Exception, SystemExit) as fault:  # noqa: BLE001 - the supervisor's boundary
            self.failures += 1
            told = fault if isinstance(fault, KonsilError) else TaskError(_words(fault))
            if told is fault and fault.__cause__ is None:
                _log.error("request %s failed: %s", type(request).__name__, fault)
            else:
                _log.exception("request %s failed", type(request).__name__)
            return Failed(
                what=told.diagnostics()[:LONGEST_TEXT],
                where=where(fault.__cause__ or fault, self._home),
                fatal=isinstance(request, Open),
                code=told.code,
            )

    def _dispatch(self, request: Request) -> Reply:
        if isinstance(request, Open):
            self._home = Path(request.home)
            self._bench = Workbench(request)
            return self._bench.opened
        if self._bench is None:
            raise LocalProtocolError(f"{type(request).__name__} before Open")
        if isinstance(request, Train):
            return self._bench.train(request)
        if isinstance(request, Release):
            return self._bench.release(request)
        if isinstance(request, Encode):
            return self._bench.encode(request)
        if isinstance(request, Check):
            return self._bench.check(request)
        if isinstance(request, Mix):
            return self._bench.mix(request)
        return self._bench.export(request)


def _words(fault: BaseException) -> str:
    return f"{type(fault).__name__}: {fault}"


def serve(source: BinaryIO, sink: BinaryIO) -> int:
    """Answer until the source ends (0) or a failure is fatal (1)."""
    worker = Worker()
    decoder = msgspec.msgpack.Decoder(Request)
    while (body := read_frame(source)) is not None:
        reply = worker.answer(decoder.decode(body))
        data = msgspec.msgpack.encode(reply)
        sink.write(_HEAD.pack(len(data)) + data)
        sink.flush()
        if isinstance(reply, Failed) and reply.fatal:
            return 1
    return 0


def read_frame(source: BinaryIO) -> bytes | None:
    """The body of the next frame; None at the end, also in the middle of a frame.

    Raises `LocalProtocolError` on a frame longer than `LONGEST_REQUEST`.
    """
    head = source.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    (length,) = _HEAD.unpack(head)
    if length > LONGEST_REQUEST:
        raise LocalProtocolError(f"a request of {length} bytes")
    body = source.read(length)
    return body if len(body) == length else None


def end_with_parent(descriptor: int, parent: int) -> None:
    """Leave the process at once when the pipe's other end closes or the parent has died."""
    hangup = select.poll()
    hangup.register(descriptor, 0)
    while os.getppid() == parent:
        if hangup.poll(_ORPHAN_S * 1000):
            break
    leave()


def leave() -> None:
    """End this process at once, with its whole group where it leads one."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(0)


def main() -> int:
    """Run the worker on this process's standard streams."""
    parent = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    threading.Thread(target=end_with_parent, args=(source, parent), daemon=True).start()
    torch.set_num_threads(1)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As `use_deterministic_algorithms` warns, but without loading torch's compiler for its own
    # setting: that would take 1.5 s of the processor and 70 MB in every worker.
    torch.set_deterministic_debug_mode("warn")
    # The source stays open: to whoever watches it, a closed one looks like a parent that went,
    # and the exit code of a process that is just ending would be 0.
    with os.fdopen(source, "rb", closefd=False) as requests, os.fdopen(sink, "wb") as replies:
        return serve(requests, replies)


if __name__ == "__main__":
    sys.exit(main())
