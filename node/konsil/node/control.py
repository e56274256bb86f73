"""How people ask a running node: one JSON line in, one JSON line out, on a unix socket.

The socket lies in the home, is open to its owner only (0700), and answers a closed list of
verbs. A question can fail without stopping the node; only a broken disk stops it, as always.
The client side is synchronous and imports neither libp2p nor torch, so that
`konsil node status` is quick.

A socket's path may not exceed about 107 bytes; a longer home is reached through the open
folder itself (`/proc/self/fd/N/control.sock`).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import trio

from konsil.node.paths import Home
from konsil.node.store.durable import storage_error
from konsil.node.store.lock import is_held
from konsil.protocol.errors import (
    ConfigError,
    KonsilError,
    StorageError,
    UnreachableError,
    UsageError,
    VerificationError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from konsil.node.log import Log

Answer = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
LONGEST_PATH = 107
LONGEST_LINE = 1 << 20


async def serve_control(
    home: Home,
    verbs: Mapping[str, Answer],
    log: Log,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer questions until cancelled. Raises `StorageError` when the path cannot be bound."""
    listening = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    try:
        with _reachable(home.socket) as path:
            await _bind(listening, path)
    except OSError as error:
        raise storage_error(home.socket, error) from error

    async def answer_one(stream: trio.SocketStream) -> None:
        async with stream:
            with trio.move_on_after(60):
                await _answer(stream, verbs, log)

    try:
        async with trio.open_nursery() as nursery:
            listener = trio.SocketListener(listening)
            nursery.start_soon(trio.serve_listeners, answer_one, [listener])
            task_status.started()
    finally:
        with _reachable(home.socket) as path, contextlib.suppress(FileNotFoundError):
            os.unlink(path)


async def _bind(listening: trio.socket.SocketType, path: str) -> None:
    """Listen at `path`, open to its owner only; what a killed node left there goes."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    old = os.umask(0o077)
    try:
        await listening.bind(path)
    finally:
        os.umask(old)
    os.chmod(path, stat.S_IRWXU)
    listening.listen(16)


async def _answer(stream: trio.SocketStream, verbs: Mapping[str, Answer], log: Log) -> None:
    reply: dict[str, Any]
    try:
        line = await _read_line(stream)
        if not line:
            return
        verb, arguments = _question(line)
        if verb not in verbs:
            raise UsageError(f"there is no question `{verb}`", hint=f"ask {', '.join(verbs)}")
        reply = {"ok": True, "data": await verbs[verb](arguments)}
    except (StorageError, VerificationError) as error:
        await _send(stream, _failure(error))
        raise
    except KonsilError as error:
        reply = _failure(error)
    except trio.BrokenResourceError:
        return
    except Exception as error:  # noqa: BLE001 - a question must not stop the node: logged
        log.error("control.bug", error=repr(error))
        reply = _failure(KonsilError(f"a bug in konsil: {error!r}"))
    await _send(stream, reply)


def _question(line: bytes) -> tuple[str, dict[str, Any]]:
    """The verb and its arguments. Raises `UsageError` for anything but such an object."""
    try:
        question = json.loads(line)
        verb, arguments = question["verb"], question.get("arguments") or {}
        if not isinstance(verb, str) or not isinstance(arguments, dict):
            raise TypeError("verb is a text, arguments an object")
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"this is no question: {error!r}", hint='one line: {"verb": "status", "arguments": {}}'
        ) from error
    return verb, arguments


async def _send(stream: trio.SocketStream, reply: Mapping[str, Any]) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.send_all(json.dumps(reply).encode() + b"\n")


async def _read_line(stream: trio.SocketStream) -> bytes:
    buffer = bytearray()
    while not buffer.endswith(b"\n") and len(buffer) < LONGEST_LINE:
        piece = await stream.receive_some()
        if not piece:
            break
        buffer += piece
    return bytes(buffer)


def _failure(error: KonsilError) -> dict[str, Any]:
    problem = {"code": error.code, "message": error.message, "hint": error.hint}
    return {"ok": False, "error": problem, "exit_code": error.exit_code}


@contextlib.contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """A name for `path` that is short enough for a socket."""
    if len(os.fsencode(path)) <= LONGEST_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        if not os.path.isdir(f"/proc/self/fd/{folder}"):
            raise ConfigError(
                f"{path}: the path is too long for a socket", hint="choose a shorter home"
            )
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class _Answered(KonsilError):
    """An error that the node reported, with its own exit code."""

    def __init__(self, problem: Mapping[str, str], exit_code: int) -> None:
        super().__init__(problem["message"], hint=problem["hint"])
        self.code = problem["code"]  # type: ignore[misc]
        self.exit_code = exit_code  # type: ignore[misc]


def ask(
    root: Path,
    verb: str,
    arguments: Mapping[str, Any] | None = None,
    timeout_s: float = 10.0,
) -> dict[str, Any]:
    """The running node's answer. Raises `UnreachableError`, or the error that it reports."""
    if not root.is_dir():
        raise ConfigError(
            f"{root}: there is no such home", hint="make one with: konsil init HOME --name NAME"
        )
    question = json.dumps({"verb": verb, "arguments": dict(arguments or {})}).encode() + b"\n"
    try:
        with _reachable(Home(root.absolute()).socket) as path, _connect(path, timeout_s) as line:
            line.sendall(question)
            reply = json.loads(_receive_line(line))
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise UnreachableError(
            f"{root}: the node is not running, so it does not answer",
            hint=f"start it with: konsil node run {root}",
        ) from error
    except (OSError, ValueError) as error:
        raise UnreachableError(
            f"{root}: the node does not answer: {error}",
            hint=f"start it with: konsil node run {root}",
        ) from error
    try:
        if reply["ok"] is True:
            return dict(reply["data"])
        problem, code = dict(reply["error"]), int(reply["exit_code"])
        told = _Answered({key: str(problem[key]) for key in ("code", "message", "hint")}, code)
    except (KeyError, TypeError, ValueError) as error:
        raise UnreachableError(
            f"{root}: what listens at control.sock does not answer as a konsil node",
            hint=f"remove it, then start the node with: konsil node run {root}",
        ) from error
    raise told


def wait_until_gone(root: Path, timeout_s: float = 10.0) -> None:
    """Return when no daemon writes this home's ledger any more.

    The socket goes first; a checkpoint over the last entries is signed after that. Raises
    `UnreachableError` after `timeout_s`.
    """
    home, end = Home(root.absolute()), time.monotonic() + timeout_s
    while home.socket.exists() or is_held(home.ledger):
        if time.monotonic() > end:
            raise UnreachableError(
                f"{root}: the node was told to stop and is still there", hint="look at its log"
            )
        time.sleep(0.05)


def _connect(path: str, timeout_s: float) -> socket.socket:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.settimeout(timeout_s)
    try:
        line.connect(path)
    except OSError:
        line.close()
        raise
    return line


def _receive_line(line: socket.socket) -> bytes:
    buffer = bytearray()
    while not buffer.endswith(b"\n"):
        piece = line.recv(65536)
        if not piece:
            raise ConnectionError("it closed the line")
        buffer += piece
    return bytes(buffer)
