"""What the commands of `konsil audit` take in common, and how they end."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from konsil.node.cli import output
from konsil.node.store.durable import put, storage_error
from konsil.node.store.lock import is_held
from konsil.protocol.errors import UsageError
from konsil.protocol.identity import ROLES
from konsil.trust.layout import CHECKPOINT, COSIGNED, INDEX, LOCK, tail_start
from konsil.trust.printable import printable
from konsil.trust.remedies import remedy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from konsil.trust.report import Report

Homes = Annotated[
    list[Path],
    typer.Argument(help="Homes of nodes; several are held against each other.", readable=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="The file to write.")]

_OF_A_LEDGER = frozenset({CHECKPOINT, COSIGNED, INDEX, LOCK, "tile"})
ATTEMPTS = 3
PAUSE_S = 0.05
FINDINGS, REFUSED, INCOMPLETE = 1, 3, 4
_CODES = {FINDINGS: "findings", REFUSED: "verification", INCOMPLETE: "incomplete"}


def distinct(homes: list[Path]) -> list[Path]:
    """The homes, each named once. Raises `UsageError`."""
    if len({os.path.realpath(home) for home in homes}) != len(homes):
        raise UsageError("a home is named twice", hint="name every home once")
    return homes


def answer(
    verb: str,
    data: Mapping[str, object],
    lines: Sequence[str],
    *,
    as_json: bool,
    problem: tuple[int, str, str] | None = None,
) -> NoReturn:
    """Print the answer and exit: with 0, or with the code of `problem` (code, message, hint)."""
    code, message, hint = problem or (0, "", "")
    error = output.ErrorObject(
        code=_CODES.get(code, ""), message=printable(message), hint=printable(hint)
    )
    output.finish(
        f"audit.{verb}",
        data,
        exit_code=code,
        error=error if code else None,
        as_json=as_json,
        text=lambda: print("\n".join(lines)) if lines else None,
    )


def write(path: Path, data: bytes) -> None:
    """Write a file as a whole. Raises as `may_write` does, and `StorageError`.

    What is no regular file (a pipe, /dev/null) is written to; it is never replaced by one.
    """
    may_write(path)
    target = path.resolve()
    if not target.exists() or target.is_file():
        put(target, data)
        return
    try:
        with target.open("wb") as file:
            file.write(data)
    except OSError as error:
        raise storage_error(path, error) from error


def may_write(path: Path) -> None:
    """Look at where a file is to be written, before the work. Raises `UsageError`."""
    if path.is_dir():
        raise UsageError(f"{path}: is a folder", hint="name the file to write")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: there is no such folder", hint="make it first")
    above = path.resolve().parents
    if any(_is_ledger(one / "ledger") or _is_ledger(one) or _has_keys(one) for one in above):
        raise UsageError(f"{path}: lies in the home of a node", hint="write it somewhere else")


def _is_ledger(folder: Path) -> bool:
    """Whether a node's ledger lies there, though a file of it be missing."""
    names: list[str] = []
    if folder.name == "ledger":
        with suppress(OSError):
            names = os.listdir(folder)
    return any(name in _OF_A_LEDGER or tail_start(name) is not None for name in names)


def _has_keys(folder: Path) -> bool:
    """Whether these are the keys of a node, or a home that has some."""
    places = (folder, folder / "keys") if folder.name == "keys" else (folder / "keys",)
    return any(os.path.lexists(one / f"{role}.key") for one in places for role in ROLES)


def settled(homes: list[Path], *, replay: bool) -> Report:
    """The audit; again when a running node was writing the very frame that looks torn."""
    from konsil.trust.audit import verify_homes

    report = verify_homes(homes, replay=replay, is_held=is_held)
    for _ in range(ATTEMPTS):
        torn = any(finding.code == "tail.torn" for finding in report.findings)
        if not torn or not any(is_held(home / "ledger") for home in homes):
            break
        time.sleep(PAUSE_S)
        report = verify_homes(homes, replay=replay, is_held=is_held)
    return report


def problem(report: Report, code: int) -> output.ErrorObject:
    """The worst finding as the error of the JSON envelope."""
    words = {3: "verification", 4: "incomplete", 1: "findings"}
    worst = [finding for finding in report.findings if finding.exit_code == code]
    more = f" (and {len(worst) - 1} more)" if len(worst) > 1 else ""
    hint = remedy(worst[0].code)
    return output.ErrorObject(code=words[code], message=worst[0].line() + more, hint=hint)
