"""The `konsil` command as a person or a script meets it: exit code, stdout, stderr.

`konsil` runs it in this process, which takes milliseconds; `shell` starts a process of its own.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from konsil.node import control
from konsil.node.cli import app
from konsil.protocol.errors import KonsilError

KONSIL = Path(sys.executable).parent / "konsil"


class Done(NamedTuple):
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line for people; what else is on stderr must be the node's log."""
        lines = self.err.splitlines()
        told = [line for line in lines if line.startswith("konsil: ")]
        assert len(told) == 1, self.err
        for line in lines:
            assert line in told or "event" in json.loads(line), line
        return told[0]

    def envelope(self, schema: str) -> dict[str, Any]:
        """The one object that `--json` prints."""
        (line,) = self.out.splitlines()
        value: dict[str, Any] = json.loads(line)
        assert value["schema"] == f"konsil.{schema}/1"
        assert value["ok"] is (self.code == 0)
        assert set(value) <= {"schema", "ok", "data", "error"}
        if self.code:
            assert set(value["error"]) == {"code", "message", "hint"}
        else:
            assert isinstance(value["data"], dict)
            assert "error" not in value
        return value


def konsil(*arguments: object) -> Done:
    """Run a command line here."""
    out, err = io.StringIO(), io.StringIO()
    code: int | str | None = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            app.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return Done(code, out.getvalue(), err.getvalue())


def shell(*arguments: object, timeout_s: float = 120.0) -> Done:
    """Run a command line in a process of its own."""
    done = subprocess.run(
        [KONSIL, *map(str, arguments)], capture_output=True, text=True, timeout=timeout_s
    )
    return Done(done.returncode, done.stdout, done.stderr)


def run_node(
    home: Path, until: Callable[[dict[str, Any]], bool] = bool, seconds: float = 60.0
) -> Done:
    """Run the daemon of `home` here until its status satisfies `until`; then stop it."""
    ended = threading.Event()

    def stop() -> None:
        end = time.monotonic() + seconds
        while not ended.is_set():
            with contextlib.suppress(KonsilError):
                if until(control.ask(home, "status")) or time.monotonic() > end:
                    control.ask(home, "stop")
                    return
            ended.wait(0.05)

    asking = threading.Thread(target=stop)
    asking.start()
    try:
        return konsil("node", "run", home)
    finally:
        ended.set()
        asking.join()


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for locks."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "LOCK"
    }
