"""The set-up: when it works, when it starts over, and what it says when it cannot go on."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture
def bootstrap():
    spec = importlib.util.spec_from_file_location("bootstrap", CHECKOUT / "tools/bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def steps(bootstrap, monkeypatch):
    """The titles of the steps; a step named in `fail` fails, venv leaves what a venv leaves."""

    class Steps(list):
        fail = ""

    seen = Steps()

    def run(self, title, command):
        seen.append(title)
        if title == seen.fail:
            raise bootstrap.SetupFailed(f"{title} failed", 4)
        if title == "virtual environment":
            site = self.folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
            (site / "trio-stubs").mkdir(parents=True)
            (site / "fastecdsa").mkdir()
            self.python.parent.mkdir()
            self.python.symlink_to(sys.executable)

    monkeypatch.setattr(bootstrap.Environment, "run", run)
    return seen


def environment(bootstrap, folder, **changes):
    chosen = {"wheel": None, "torch_args": "", "lock": -1} | changes
    return bootstrap.Environment(folder / "venv", **chosen)


ALL = [
    "virtual environment",
    "torch==2.13.0",
    "dependencies and tools",
    "konsil (editable)",
    "consistency",
]


def test_a_fresh_checkout_runs_every_step_once(bootstrap, steps, tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap, "missing_needs", dict)
    monkeypatch.setattr(bootstrap, "missing_wishes", dict)
    place = environment(bootstrap, tmp_path)
    assert not place.is_current()
    place.prepare()
    assert steps == ALL
    assert place.is_current()
    assert environment(bootstrap, tmp_path).is_current()
    assert not list(place.folder.glob("lib/*/site-packages/trio-stubs"))


def test_changed_inputs_and_failures_go_on_in_place(bootstrap, steps, tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap, "missing_needs", dict)
    monkeypatch.setattr(bootstrap, "missing_wishes", dict)
    steps.fail = "dependencies and tools"
    with pytest.raises(bootstrap.SetupFailed):
        environment(bootstrap, tmp_path).prepare()
    again = environment(bootstrap, tmp_path)
    assert not again.is_current()
    assert not again.must_start_over()
    steps.fail = ""
    again.prepare()
    changed = environment(bootstrap, tmp_path)
    changed.inputs = "another digest"
    assert not changed.is_current()
    assert not changed.must_start_over()


@pytest.mark.parametrize("change", ["killed", "moved", "other torch", "no python"])
def test_what_cannot_be_built_upon_is_begun_anew(bootstrap, steps, tmp_path, monkeypatch, change):
    monkeypatch.setattr(bootstrap, "missing_needs", dict)
    monkeypatch.setattr(bootstrap, "missing_wishes", dict)
    place = environment(bootstrap, tmp_path)
    place.prepare()
    marker = place.folder / bootstrap.MARKER
    record = json.loads(marker.read_text())
    if change == "killed":
        marker.write_text(json.dumps(record | {"state": "begun"}))
    elif change == "moved":
        marker.write_text(json.dumps(record | {"place": "elsewhere"}))
    elif change == "other torch":
        place = environment(bootstrap, tmp_path, torch_args="--index-url somewhere")
    else:
        place.python.unlink()
        place.python.symlink_to(tmp_path / "gone")
    (place.folder / "torn").touch()
    steps.clear()
    place.prepare()
    assert steps == ALL
    assert not (place.folder / "torn").exists()
    assert place.is_current()


def test_a_venv_made_by_hand_is_kept(bootstrap, steps, tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap, "missing_needs", dict)
    monkeypatch.setattr(bootstrap, "missing_wishes", dict)
    place = environment(bootstrap, tmp_path)
    place.folder.mkdir()
    place.run("virtual environment", [])
    assert not place.must_start_over()


def test_what_is_missing_is_named_with_the_command(bootstrap, monkeypatch, tmp_path):
    needs = {"a C compiler": "build-essential", "the GMP header gmp.h": "libgmp-dev"}
    monkeypatch.setattr(bootstrap, "missing_needs", lambda: needs)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(bootstrap.SetupFailed) as failure:
        bootstrap.provide_system_packages(tmp_path / "log")
    assert failure.value.code == 5
    assert str(failure.value) == (
        "missing: a C compiler, the GMP header gmp.h. Run: "
        "sudo apt-get update && sudo apt-get install -y build-essential libgmp-dev"
    )


def test_root_installs_what_is_missing(bootstrap, monkeypatch, tmp_path):
    answers = [{"a C compiler": "build-essential"}, {}]
    commands = []

    def run(command, **_):
        commands.append(command)

    monkeypatch.setattr(bootstrap, "missing_needs", lambda: answers.pop(0))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(bootstrap.subprocess, "run", run)
    bootstrap.provide_system_packages(tmp_path / "log")
    assert [command[:2] for command in commands] == [["apt-get", "update"], ["apt-get", "install"]]
    assert "build-essential" in commands[1]


def test_go_is_wished_for_and_never_demanded(bootstrap, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bootstrap, "missing_needs", dict)
    monkeypatch.setattr(bootstrap, "GO_MODULE", tmp_path / "none")
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: name == "apt-get" or None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    bootstrap.provide_system_packages(tmp_path / "log")
    assert capsys.readouterr().err == ""
    bootstrap.provide_system_packages(tmp_path / "log", oracles=True)
    assert capsys.readouterr().err == (
        "setup: missing: Go, Go's module x/mod. Run: sudo apt-get update && sudo apt-get install"
        " -y golang-go golang-golang-x-mod-dev (only tests/oracles use it; going on without)\n"
    )


def test_root_installs_needs_and_wishes_apart(bootstrap, monkeypatch, tmp_path):
    commands = []
    needs = [{"a C compiler": "build-essential"}, {}]
    monkeypatch.setattr(bootstrap, "missing_needs", lambda: needs.pop(0))
    monkeypatch.setattr(bootstrap, "missing_wishes", lambda: {"Go": "golang-go"})
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(bootstrap.subprocess, "run", lambda command, **_: commands.append(command))
    bootstrap.provide_system_packages(tmp_path / "log", oracles=True)
    assert [command[1] for command in commands] == ["update", "install", "install"]
    assert [command[-1] for command in commands[1:]] == ["build-essential", "golang-go"]


def test_the_oracles_are_pinned_and_part_of_the_environment(bootstrap):
    _, tools = bootstrap._requirements()
    names = {one.split("[")[0].lower() for one in tools}
    assert {"tuf", "securesystemslib", "model-signing", "prov", "fhir.resources"} <= names
    assert names <= {line.split("==")[0].lower() for line in bootstrap._pins()}


def test_an_old_python_is_refused_in_one_line(bootstrap, monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    assert bootstrap.main() == 5
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "konsil needs Python 3.11 or newer" in said


def test_a_failed_step_shows_its_output(bootstrap, tmp_path, capsys):
    place = environment(bootstrap, tmp_path, lock=os.open(tmp_path, os.O_RDONLY))
    place.folder.mkdir()
    code = "print('what pip said'); raise SystemExit(3)"
    with pytest.raises(bootstrap.SetupFailed, match="a step failed; the whole output is in"):
        place.run("a step", [sys.executable, "-c", code])
    os.close(place.lock)
    assert "what pip said" in capsys.readouterr().err


def test_a_second_set_up_waits_for_the_first(tmp_path):
    code = (
        "import importlib.util, pathlib, sys\n"
        "spec = importlib.util.spec_from_file_location('bootstrap', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "with module._locked(pathlib.Path(sys.argv[2])):\n"
        "    print('mine')\n"
    )
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with subprocess.Popen(
        [sys.executable, "-c", code, CHECKOUT / "tools/bootstrap.py", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as second:
        assert "waiting for it" in second.stderr.readline()
        assert second.poll() is None
        os.close(held)
        assert second.communicate(timeout=30)[0] == "mine\n"
