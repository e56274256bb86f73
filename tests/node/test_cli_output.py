"""Where the output of a command goes: nothing of others is destroyed, and no verdict is changed.

Files are written beside what others keep there; a pipe may be closed before all is read; a
command of another package may be broken.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from importlib.metadata import EntryPoint

import pytest
from commands import files, konsil
from ledgers import consortium

from konsil.node.cli import app
from konsil.node.keys import create_keys
from konsil.node.store import durable
from konsil.protocol.errors import StorageError


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """The home of bern, with its keys."""
    (bern,) = consortium(tmp_path_factory.mktemp("learned"), "bern", rounds=1)
    create_keys(bern.home / "keys")
    return bern.home


@pytest.fixture
def home(learned, tmp_path):
    return shutil.copytree(learned, tmp_path / "bern")


# --- files of others ------------------------------------------------------------------------------


def test_a_file_beside_the_output_is_never_touched(home, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.tmp").write_text("mine")
    (tmp_path / "victim").write_text("mine as well")
    (out / "page.tmp").symlink_to(tmp_path / "victim")
    before = files(out)
    for name in ("notes", "page"):
        assert konsil("audit", "prove", home, "1", "-o", out / name).code == 0
        assert not (out / name).is_symlink()
    assert (out / "page.tmp").is_symlink()
    assert (tmp_path / "victim").read_text() == "mine as well"
    assert {name: files(out)[name] for name in before} == before
    assert sorted(item.name for item in out.iterdir()) == [
        "notes", "notes.tmp", "page", "page.tmp",
    ]  # fmt: skip


def test_what_cannot_be_finished_leaves_nothing(home, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    out = tmp_path / "out"
    out.mkdir()
    for call in ("fdatasync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(durable.os, call, refuse)
            with pytest.raises(StorageError):
                durable.put(out / "page", b"data")
        assert list(out.iterdir()) == []


@pytest.mark.parametrize("link", ["stray", "victim"])
def test_a_staged_file_takes_the_place_of_what_a_stop_left_and_of_no_more(tmp_path, link):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "page.tmp").symlink_to(tmp_path / link)
    durable.replace(tmp_path / "page", b"data")
    assert (tmp_path / "page").read_bytes() == b"data"
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / "stray").exists()
    assert not os.path.lexists(tmp_path / "page.tmp")


@pytest.mark.parametrize("missing", ["ledger/checkpoint", "ledger/tail.0", "ledger", "keys"])
@pytest.mark.parametrize("name", ["keys/rec.key", "ledger/tail.0", "page"])
def test_nothing_is_written_into_a_home_whatever_it_lacks(home, missing, name):
    gone = home / missing
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    if not (home / name).parent.exists():
        return
    before = files(home)
    done = konsil("audit", "report", home, "-o", home / name)
    assert done.code == 2
    assert "lies in the home of a node" in done.complaint
    assert files(home) == before


def test_a_folder_that_is_only_called_like_one_may_be_written_to(home, tmp_path):
    for name in ("ledger", "keys"):
        (tmp_path / "books" / name).mkdir(parents=True)
        (tmp_path / "books" / name / "2026.txt").touch()
        out = tmp_path / "books" / name / "proof"
        assert konsil("audit", "prove", home, "1", "-o", out).code == 0


# --- nobody listens -------------------------------------------------------------------------------


def unheard(*arguments):
    """Runs a command line whose output nobody reads; its exit code and what it told on stderr."""
    reader, writer = os.pipe()
    os.close(reader)
    told, out = io.StringIO(), os.fdopen(writer, "w")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(told):
        with pytest.raises(SystemExit) as ended:
            app.main([str(one) for one in arguments])
    with contextlib.suppress(BrokenPipeError):
        out.close()
    return ended.value.code, told.getvalue()


@pytest.mark.parametrize(
    "words",
    [
        ("verify",), ("verify", "--json"), ("timeline",), ("lineage", "--format", "svg"),
        ("prove", "1"), ("prove", "1", "--json"), ("recover",), ("recover", "--json"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_that_nobody_listens_is_no_finding(home, words):
    verb, *rest = words
    code, told = unheard("audit", verb, home, *rest)
    assert (code, "konsil: " in told) == (0, False)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_that_nobody_listens_hides_no_finding(home, options):
    (home / "ledger" / "stray").touch()
    code, _ = unheard("audit", "verify", home, *options)
    assert code == 3
    assert unheard("audit", "verify", home / "nowhere", "--json")[0] == 2


# --- commands of others ---------------------------------------------------------------------------


@pytest.fixture
def broken(monkeypatch):
    """Another package brings the command `zap`, and cannot be imported."""

    def points(group):
        return [EntryPoint("zap", "konsil.nowhere:main", group)]

    monkeypatch.setattr(app, "entry_points", points)


@pytest.mark.usefixtures("broken")
def test_a_command_that_cannot_be_loaded_ends_no_other_one(home):
    assert konsil("audit", "verify", home).code == 0
    done = konsil("--help")
    assert (done.code, "zap" in done.out) == (0, True)


@pytest.mark.usefixtures("broken")
def test_a_command_that_cannot_be_loaded_says_so_in_one_line():
    for words in ((), ("--help",), ("HOME", "--anything")):
        done = konsil("zap", *words)
        assert done.code == 5
        assert "`zap` cannot be loaded: ModuleNotFoundError" in done.complaint
        assert "install konsil.nowhere:main again" in done.complaint
    value = konsil("zap", "--json").envelope("zap")
    assert value["error"]["code"] == "configuration"


def test_a_command_tree_that_cannot_be_built_is_a_bug_and_no_finding(monkeypatch):
    def refuse(group):
        raise RuntimeError(group)

    monkeypatch.setattr(app, "entry_points", refuse)
    done = konsil("--version")
    assert done.code == app.BUG
    assert "a bug in konsil: RuntimeError" in done.err
