"""What a command prints: data to stdout, talk to stderr, one JSON object with `--json`.

The JSON envelope is a contract with scripts: `ok` is true exactly when the exit code is 0, and
`data` is always there, empty when an error ended the command before it had any.

Whatever is printed, and whatever the terminal can show, printing does not fail: what an encoding
lacks is escaped, and so is in one-line messages what could pass for another line.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypedDict

import typer

from konsil.node.store.durable import storage_error
from konsil.protocol.errors import StorageError
from konsil.trust.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from konsil.protocol.errors import KonsilError


class ErrorObject(TypedDict):
    """The `error` member of the envelope."""

    code: str
    message: str
    hint: str


def emit(
    verb: str,
    data: Mapping[str, object],
    *,
    as_json: bool,
    text: Callable[[], None] | None = None,
) -> None:
    """Print the result of a command that succeeded: as JSON, or by calling `text`."""
    _print_anywhere()
    with _listened():
        if as_json:
            _print_json({"schema": f"konsil.{verb}/1", "ok": True, "data": data})
        elif text is not None:
            text()


def finish(
    verb: str,
    data: Mapping[str, object],
    *,
    exit_code: int,
    error: ErrorObject | None = None,
    as_json: bool,
    text: Callable[[], None] | None = None,
) -> NoReturn:
    """Print the result of a command that ran to its end, and exit with its code."""
    if exit_code == 0:
        emit(verb, data, as_json=as_json, text=text)
        raise typer.Exit(0)
    problem = error or ErrorObject(code="findings", message="there are findings", hint="")
    _print_anywhere()
    if as_json:
        with _listened():
            _print_json({"schema": f"konsil.{verb}/1", "ok": False, "error": problem, "data": data})
    else:
        with _listened():
            if text is not None:
                text()
        talk(f"konsil: {problem['message']}" + (f" ({problem['hint']})" if problem["hint"] else ""))
    raise typer.Exit(exit_code)


def fail(verb: str, error: KonsilError, *, as_json: bool) -> int:
    """Print an error that ended a command, and return its exit code."""
    if as_json:
        message, hint = printable(error.message), printable(error.hint)
        problem = ErrorObject(code=error.code, message=message, hint=hint)
        with _listened():
            _print_json({"schema": f"konsil.{verb}/1", "ok": False, "error": problem, "data": {}})
    else:
        talk(f"konsil: {error.diagnostics()}")
    return error.exit_code


def talk(line: str) -> None:
    """Print one line for people, on stderr; where that is full or closed, nothing happens."""
    with contextlib.suppress(OSError, AttributeError):
        sys.stderr.write(f"{printable(line)}\n")
        sys.stderr.flush()


def settle(code: int) -> int:
    """Hand over what was printed; the exit code, which is 6 when there was no room for it.

    Python would end with a code of its own (120), and with a traceback when nobody listens.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        sys.stdout = None
        told = code == StorageError.exit_code
        if not told and not isinstance(error, BrokenPipeError):
            code = fail("", storage_error(Path("standard output"), error), as_json=False)
    try:
        sys.stderr.flush()
    except (OSError, AttributeError):
        sys.stderr = None
    return code


def raw(data: bytes) -> None:
    """Bytes to stdout as they are, whatever its encoding."""
    with _listened():
        sys.stdout.flush()
        binary = getattr(sys.stdout, "buffer", None)
        if binary is None:
            sys.stdout.write(data.decode())
        else:
            binary.write(data)
            binary.flush()


@contextlib.contextmanager
def _listened() -> Iterator[None]:
    """That nobody listens any more is no error, and changes nothing about what was found."""
    try:
        yield
    except BrokenPipeError:
        sys.stdout = None


def _print_anywhere() -> None:
    """Make stdout escape what its encoding lacks, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _print_json(value: Mapping[str, object]) -> None:
    """One line; in an encoding that lacks a character, all but ASCII is escaped as JSON does."""
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        line.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        line = json.dumps(value, allow_nan=False)
    print(line, flush=True)
