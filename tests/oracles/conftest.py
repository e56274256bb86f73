"""Foreign tools, unmodified, that judge what we write.

A test whose tool is missing is skipped with the command that brings it; where the environment
says `KONSIL_ORACLES=required`, as continuous integration does, it fails.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from ledgers import consortium

from konsil.trust.lineage import read_lineage

GO = Path(__file__).resolve().parent / "go"
GOPATH = "/usr/share/gocode"


def lacking(what: str, remedy: str) -> None:
    """Skip, or fail where the oracles are required."""
    reason = f"{what} is missing: {remedy}"
    if os.environ.get("KONSIL_ORACLES") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


def find_module(name: str):
    """A foreign Python module."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        lacking(f"the Python module {name}", "run: make setup")


def find_program(name: str, package: str) -> str:
    """The path of a foreign program."""
    found = shutil.which(name)
    if found is None:
        lacking(name, f"run: sudo apt-get install -y {package}")
    return found


@pytest.fixture(scope="session")
def module():
    return find_module


@pytest.fixture(scope="session")
def program():
    return find_program


@pytest.fixture(scope="session")
def go_oracle(tmp_path_factory) -> Path:
    """The compiled Go program over golang.org/x/mod/sumdb; needs no network."""
    go = find_program("go", "golang-go golang-golang-x-mod-dev")
    if not Path(GOPATH, "src/golang.org/x/mod/sumdb").is_dir():
        lacking("Go's module x/mod", "run: sudo apt-get install -y golang-golang-x-mod-dev")
    folder = tmp_path_factory.mktemp("go")
    environment = os.environ | {
        "GO111MODULE": "off",
        "GOPATH": GOPATH,
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "",
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
    }
    command = [go, "build", "-o", str(folder / "oracle"), str(GO / "main.go")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "oracle"


@pytest.fixture(scope="session")
def hospitals(tmp_path_factory):
    """Three hospitals that learned together for three rounds."""
    return consortium(tmp_path_factory.mktemp("oracles"), "bern", "graz", "ulm", rounds=3)


@pytest.fixture(scope="session")
def lineage(hospitals):
    return read_lineage([one.home for one in hospitals])
