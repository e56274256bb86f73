"""Prepare a virtual environment that holds everything konsil needs; nothing to do costs < 1 s.

    python3 tools/bootstrap.py [--torch-args "…"] [--venv DIR] [--wheel FILE]

Steps: system packages → venv → torch, alone and by exact version → the rest as pinned in
`constraints.txt` → konsil itself (editable, or a given wheel without the developers' tools)
→ `pip check`. Go, which only tests/oracles use, is installed where apt may be used, and never
demanded. Standard library only, because it runs before anything is installed.

Invariants: a marker file with a digest of all inputs is written last, so an interrupted
set-up is never taken for a finished one; a file lock, which pip's processes inherit, admits
one set-up at a time. Talk goes to stderr. Exit codes: 0 ready, 4 an installation failed,
5 something that the machine must bring is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import glob
import hashlib
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
INPUTS = ("pyproject.toml", "constraints.txt", "tools/bootstrap.py")
MARKER = "konsil-setup.json"
LEAST_PYTHON = (3, 11)
GO_MODULE = Path("/usr/share/gocode/src/golang.org/x/mod/sumdb")
"""Where Debian puts what tests/oracles/go is compiled with."""


class SetupFailed(Exception):
    """The set-up cannot go on; the message is one clear line, `code` the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def say(text: str) -> None:
    """One line to people."""
    print(f"setup: {text}", file=sys.stderr, flush=True)


# What the machine must bring: fastecdsa, which libp2p needs, is compiled on installation.


def _has_gmp() -> bool:
    """Whether the compiler finds gmp.h; without a compiler, whether it lies where it should."""
    compiler = os.environ.get("CC") or "cc"
    if shutil.which(compiler) is None:
        return bool(glob.glob("/usr/include/gmp.h") + glob.glob("/usr/include/*/gmp.h"))
    command = [compiler, "-E", "-include", "gmp.h", "-x", "c", os.devnull]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def missing_needs() -> dict[str, str]:
    """What is missing, for people, each with the Debian package that brings it ("" = none)."""
    version = f"python3.{sys.version_info.minor}"
    from_system = sys.base_prefix == "/usr"
    needs: dict[str, str] = {}
    if importlib.util.find_spec("ensurepip") is None:
        needs["Python's venv module"] = f"{version}-venv" if from_system else ""
    if shutil.which(os.environ.get("CC") or "cc") is None:
        needs["a C compiler"] = "build-essential"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        needs["Python's C headers"] = f"{version}-dev" if from_system else ""
    if not _has_gmp():
        needs["the GMP header gmp.h"] = "libgmp-dev"
    return needs


def missing_wishes() -> dict[str, str]:
    """What only the tests with Go miss, in the same form; nothing else needs it."""
    wishes: dict[str, str] = {}
    if shutil.which("go") is None:
        wishes["Go"] = "golang-go"
    if not GO_MODULE.is_dir():
        wishes["Go's module x/mod"] = "golang-golang-x-mod-dev"
    return wishes


def provide_system_packages(log: Path, *, build: bool = True, oracles: bool = False) -> None:
    """Install what is missing when the caller may do so.

    Of what `build` needs the rest is raised, with the command to run; what only `oracles`
    wish for is told in the same words, and the set-up goes on.
    """
    needs = missing_needs() if build else {}
    wishes = missing_wishes() if oracles else {}
    has_apt = shutil.which("apt-get") is not None
    groups = [[package for package in one.values() if package] for one in (needs, wishes)]
    if has_apt and os.geteuid() == 0 and any(groups):
        _install([packages for packages in groups if packages], log)
        needs = missing_needs() if needs else {}
        wishes = missing_wishes() if wishes else {}
    if needs:
        raise SetupFailed(_request(needs, has_apt), 5)
    if wishes:
        say(f"{_request(wishes, has_apt)} (only tests/oracles use it; going on without)")


def _install(groups: Sequence[list[str]], log: Path) -> None:
    """Let apt install each group of packages by itself."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "--no-install-recommends"]
    started = time.monotonic()
    with log.open("ab") as out:
        for command in (["apt-get", "update"], *([*install, *one] for one in groups)):
            subprocess.run(command, stdout=out, stderr=out, env=environment, check=False)
    importlib.invalidate_caches()
    packages = " ".join(package for one in groups for package in one)
    say(f"system packages {packages} ({time.monotonic() - started:.0f} s)")


def _request(needs: dict[str, str], has_apt: bool) -> str:
    """The one line that names what is missing and the command that brings it."""
    packages = " ".join(package for package in needs.values() if package)
    line = f"missing: {', '.join(needs)}."
    if packages and has_apt:
        line += f" Run: sudo apt-get update && sudo apt-get install -y {packages}"
    elif packages:
        line += f" Install what Debian calls {packages}"
    if "" in needs.values():
        line += f" {sys.executable} is not the system's: bring the rest where it came from"
    return line


# The environment.


class Environment:
    """One virtual environment being prepared; `inputs` is the digest that makes it current."""

    def __init__(self, folder: Path, *, wheel: Path | None, torch_args: str, lock: int) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.log = folder / "setup.log"
        self.wheel = wheel
        self.torch_args = torch_args
        self.lock = lock
        self.place = f"{folder} {sys.version_info[:2]} {os.path.realpath(sys.executable)}"
        self.inputs = _digest(self.place, wheel)

    def marker(self) -> dict[str, str]:
        """What an earlier set-up left; empty when there was none."""
        try:
            found = json.loads((self.folder / MARKER).read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def mark(self, state: str) -> None:
        """Record how far the set-up is, atomically."""
        torch_args = self.torch_args or self.marker().get("torch_args", "")
        record = {"state": state, "place": self.place, "torch_args": torch_args}
        fresh = self.folder / f"{MARKER}.new"
        fresh.write_text(json.dumps(record))
        fresh.replace(self.folder / MARKER)

    def is_current(self) -> bool:
        """Whether nothing has to be done."""
        found = self.marker()
        same_torch = not self.torch_args or self.torch_args == found.get("torch_args")
        return found.get("state") == self.inputs and same_torch and os.access(self.python, os.X_OK)

    def must_start_over(self) -> bool:
        """Whether what lies there cannot be built upon: torn, moved, of another Python or torch."""
        found = self.marker()
        if not found:
            minor = f"python3.{sys.version_info.minor}"
            return not (self.folder / "lib" / minor).is_dir() or not os.access(self.python, os.X_OK)
        other_torch = self.torch_args and self.torch_args != found.get("torch_args")
        moved = found.get("place") != self.place or not os.access(self.python, os.X_OK)
        return bool(found.get("state") == "begun" or moved or other_torch)

    def prepare(self) -> None:
        """Run all steps. Raises `SetupFailed`."""
        fresh = self.must_start_over()
        if fresh and self.folder.exists():
            say(f"{self.folder.name} is unfinished, or of another Python or place: starting over")
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)
        compiled = list(self.folder.glob("lib/python3*/site-packages/fastecdsa"))
        provide_system_packages(self.log, build=not compiled, oracles=self.wheel is None)
        if fresh:
            self.run("virtual environment", [sys.executable, "-m", "venv", str(self.folder)])
        self.mark("begun")
        try:
            self.install()
        except SetupFailed:
            self.mark("failed")
            raise
        self.mark(self.inputs)

    def install(self) -> None:
        """Install everything into the virtual environment that is there."""
        runtime, tools = _requirements()
        torch = next(line for line in _pins() if line.startswith("torch=="))
        self.pip(torch, "--no-deps", *shlex.split(self.torch_args), torch)
        # torch comes first and alone: a resolver that may choose it would choose another build.
        pinned = ["-c", "constraints.txt", *runtime]
        if self.wheel is None:
            self.pip("dependencies and tools", *pinned, *tools)
            self.pip("konsil (editable)", "--no-deps", "--no-build-isolation", "-e", ".")
        else:
            self.pip("dependencies", *pinned)
            self.pip(self.wheel.name, "--no-deps", "--force-reinstall", str(self.wheel))
        # trio-typing ships stale stubs that would hide trio's own types from mypy.
        for stubs in self.folder.glob("lib/python3*/site-packages/trio-stubs"):
            shutil.rmtree(stubs)
        self.run("consistency", [str(self.python), "-m", "pip", "check"])

    def pip(self, title: str, *arguments: str) -> None:
        """Run `pip install` with `arguments`. Raises `SetupFailed`."""
        flags = ["--disable-pip-version-check", "--no-input"]
        self.run(title, [str(self.python), "-m", "pip", "install", *flags, *arguments])

    def run(self, title: str, command: Sequence[str]) -> None:
        """Run one step quietly; its output goes to the log and is shown when it fails."""
        dropped = {"PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX"}
        environment = {key: value for key, value in os.environ.items() if key not in dropped}
        environment["PIP_BUILD_CONSTRAINT"] = environment["PIP_CONSTRAINT"] = "constraints.txt"
        started = time.monotonic()
        with self.log.open("ab") as out:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdout=out,
                stderr=out,
                pass_fds=(self.lock,),
                check=False,
            )
        if done.returncode != 0:
            tail = self.log.read_text(errors="replace").splitlines()[-30:]
            print("\n".join(tail), file=sys.stderr)
            raise SetupFailed(f"{title} failed; the whole output is in {self.log}", 4)
        say(f"{title} ({time.monotonic() - started:.0f} s)")


def _digest(place: str, wheel: Path | None) -> str:
    """Digest of all that the environment is made from (hex)."""
    total = hashlib.sha256(place.encode())
    for path in [*(ROOT / name for name in INPUTS), *([wheel] if wheel else [])]:
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _pins() -> list[str]:
    """The lines of the constraints file."""
    return (ROOT / "constraints.txt").read_text().split()


def _requirements() -> tuple[list[str], list[str]]:
    """What `pyproject.toml` asks for at run time, and for developers with their oracles."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    return project["project"]["dependencies"], groups["dev"] + groups["oracles"]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Hold the lock of this checkout; yields the descriptor that keeps it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up runs in this checkout; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def main() -> int:
    """Prepare the environment that the command line names; returns the exit code."""
    if sys.version_info < LEAST_PYTHON:
        least = ".".join(map(str, LEAST_PYTHON))
        say(f"{sys.executable} is too old; konsil needs Python {least} or newer (make PYTHON=…)")
        return 5
    parser = argparse.ArgumentParser(description="Prepare konsil's virtual environment.")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="the folder to prepare")
    parser.add_argument("--wheel", type=Path, help="install this wheel instead of the checkout")
    parser.add_argument("--torch-args", default="", help="further options for installing torch")
    asked = parser.parse_args()
    wheel = asked.wheel.resolve() if asked.wheel else None
    with _locked(ROOT) as lock:
        environment = Environment(
            asked.venv.absolute(), wheel=wheel, torch_args=asked.torch_args.strip(), lock=lock
        )
        if not environment.is_current():
            environment.prepare()
        elif wheel is None and os.environ.get("KONSIL_ORACLES") == "required":
            provide_system_packages(environment.log, build=False, oracles=True)
    return 0


def _run() -> NoReturn:
    """Call `main` and end the process with its exit code."""
    try:
        sys.exit(main())
    except SetupFailed as failure:
        say(str(failure))
        sys.exit(failure.code)
    except KeyboardInterrupt:
        say("interrupted; the next call starts over")
        sys.exit(130)


if __name__ == "__main__":
    _run()
