"""A home handed over by somebody hostile: special files, giants, names that lie.

The audit tells what is wrong in bounded time and memory, one line a finding, and never ends as
a bug of ours. Each command runs in a process of its own, with a limit on memory and time.
"""

from __future__ import annotations

import json
import os
import shutil
import socket

import pytest
from forking import Bounds, forked
from ledgers import consortium

pytestmark = pytest.mark.slow

SECONDS = 30
MEMORY = 3 << 29
GIANT = 3 << 40


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    root = tmp_path_factory.mktemp("learned")
    return [one.home for one in consortium(root, "bern", "graz", rounds=1)]


@pytest.fixture
def homes(learned, tmp_path):
    return [shutil.copytree(home, tmp_path / home.name) for home in learned]


def audit(verb, *arguments, encoding="utf-8"):
    """`konsil audit VERB` within bounds; what it printed is kept as bytes."""
    bounds = Bounds(SECONDS, memory=MEMORY, encoding=encoding)
    return forked(["audit", verb, *arguments], bounds)


def found(home, *others):
    """Exit code and finding codes of `konsil audit verify --json`."""
    done = audit("verify", home, *others, "--json")
    assert b"Traceback" not in done.stderr, done.stderr
    findings = json.loads(done.stdout)["data"]["findings"]
    return done.returncode, {finding["code"] for finding in findings}


# --- special files, and giants -----------------------------------------------------------------


def as_fifo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def as_endless(path):
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def as_giant(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(GIANT)


def as_socket(path):
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    folder = os.getcwd()
    os.chdir(path.parent)
    try:
        listening.bind(path.name)
    finally:
        os.chdir(folder)
        listening.close()


@pytest.mark.parametrize("make", [as_fifo, as_endless, as_giant, as_socket])
def test_a_peer_file_that_is_no_file_is_found_and_never_read(homes, make):
    make(homes[0] / "peers" / f"{'a' * 32}.genesis")
    assert found(*homes) == (3, {"peers.genesis"})
    assert audit("lineage", *homes).returncode == 0


@pytest.mark.parametrize(
    ("name", "make", "code"),
    [
        ("tail.0", as_fifo, "layout.stray"),
        ("tail.0", as_endless, "layout.stray"),
        ("tail.0", as_socket, "layout.stray"),
        ("tail.0", as_giant, "layout.oversize"),
        ("tile/entries/000", as_fifo, "layout.stray"),
        ("tile/entries/000", as_giant, "layout.oversize"),
        ("checkpoint", as_fifo, "layout.stray"),
        ("checkpoint", as_endless, "layout.stray"),
        ("LOCK", as_fifo, "layout.stray"),
        ("LOCK", as_endless, "layout.stray"),
        ("blobs/sha256/00/" + "00" * 32, as_fifo, "layout.stray"),
        ("blobs/sha256/00/" + "00" * 32, as_giant, "layout.oversize"),
        ("../blobs/sha256/00/" + "00" * 32, as_giant, "layout.oversize"),
    ],
)
def test_a_special_or_giant_file_is_found_and_never_read(homes, name, make, code):
    make(homes[0] / "ledger" / name)
    exit_code, codes = found(*homes)
    assert exit_code == 3
    assert code in codes
    assert audit("verify", *homes, "--strict").returncode == 3
    if not name.startswith(".."):
        assert audit("lineage", *homes).returncode == 3


def test_a_fifo_in_the_place_of_a_payload_is_left_out(homes):
    as_fifo(homes[0] / "blobs" / "sha256" / "00" / ("00" * 32))
    assert found(*homes) == (0, set())


# --- places that nothing leads up to -----------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["tail.2560000000000", "tail.9999999999999999744", "tile/entries/x999/x999/x999/999"]
)
def test_a_file_for_entries_far_beyond_the_log_ends_no_audit(homes, name):
    path = homes[0] / "ledger" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    exit_code, codes = found(*homes)
    assert (exit_code, codes) == (3, {"layout.stray"})
    assert audit("lineage", *homes).returncode == 3
    (homes[0] / "ledger" / "tail.0").unlink()
    assert found(*homes)[0] == 3


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict", "latin-1:strict"])
def test_a_name_that_is_no_text_is_told_in_any_encoding(homes, encoding):
    with open(os.fsencode(homes[0] / "ledger") + b"/\xff\xfe", "wb"):
        pass
    done = audit("verify", *homes, encoding=encoding)
    assert (done.returncode, b"Traceback" in done.stderr) == (3, False)
    assert rb"\udcff\udcfe: does not belong" in done.stdout
    done = audit("verify", *homes, "--json", encoding=encoding)
    assert done.returncode == 3
    (finding,) = json.loads(done.stdout)["data"]["findings"]
    assert finding["file"].endswith(r"\udcff\udcfe")


def test_a_home_whose_own_name_is_no_text_is_told(homes):
    odd = os.fsencode(homes[0].parent) + b"/\xff\n"
    shutil.move(os.fsencode(homes[0]), odd)
    for more in ([], ["--json"]):
        done = audit("verify", odd, "--strict", *more, encoding="utf-8:strict")
        assert (done.returncode, b"Traceback" in done.stderr) == (4, False)
        assert all(line.strip() for line in done.stdout.splitlines())


def test_a_missing_home_whose_name_is_no_text_is_told(tmp_path):
    nowhere = os.fsencode(tmp_path) + b"/\xff\n\x1b[2Jgraz: verified"
    done = audit("verify", nowhere, encoding="utf-8:strict")
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.splitlines()
    assert b"\x1b" not in line
    done = audit("verify", nowhere, "--json", encoding="utf-8:strict")
    assert json.loads(done.stdout)["error"]["code"] == "usage"


def test_the_ellipsis_of_a_message_needs_no_unicode_terminal(homes):
    """`lineage.gap` and the names of unknown nodes have one."""
    shutil.rmtree(homes[0] / "peers")
    for encoding in ("latin-1", "ascii", "utf-8"):
        done = audit("lineage", homes[0], encoding=encoding)
        assert (done.returncode, b"Traceback" in done.stderr) == (4, False)
        done = audit("lineage", homes[0], "--json", encoding=encoding)
        assert json.loads(done.stdout)["data"]["contributors"]


def test_a_name_cannot_forge_a_line_or_command_a_terminal(homes):
    name = "x\n\x1b[1Abern (aaaaaaaa): 9 entries, 9 blobs: verified\u2028\u202e\x7f"
    (homes[0] / "ledger" / name).touch()
    done = audit("verify", *homes)
    assert done.returncode == 3
    lines = (done.stdout + done.stderr).decode().splitlines()
    assert len(lines) == 5
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("bern (aaaaaaaa)") for line in lines)


@pytest.mark.parametrize("make", [as_fifo, as_endless, as_giant, as_socket])
@pytest.mark.parametrize(
    "name", ["ledger/tail.0", "ledger/checkpoint", "ledger/LOCK", "peers/witness.log"]
)
def test_a_repair_waits_for_nothing_and_reads_no_more_than_there_may_be(homes, name, make):
    make(homes[0] / name)
    done = audit("recover", homes[0])
    assert done.returncode in (3, 6), done
    (line,) = done.stderr.decode().splitlines()
    assert name in line
    assert not (homes[0] / "ledger" / "index.sqlite").exists()


# --- what may be passed over -------------------------------------------------------------------


def test_only_a_regular_file_can_be_unfinished(homes):
    ledger = homes[0] / "ledger"
    (ledger / "checkpoint.tmp").write_bytes(b"half")
    assert found(*homes) == (0, set())
    (ledger / "evil.tmp").mkdir()
    (ledger / "evil.tmp" / "hidden").write_bytes(b"x")
    assert found(*homes) == (3, {"layout.stray"})
    shutil.rmtree(ledger / "evil.tmp")
    (ledger / "p.tmp").symlink_to("/etc/passwd")
    assert found(*homes) == (3, {"layout.stray"})
    (ledger / "p.tmp").unlink()
    os.mkfifo(ledger / "blobs" / "p.tmp")
    assert found(*homes) == (3, {"layout.stray"})


# --- what cannot be looked at ------------------------------------------------------------------


def as_nobody(home):
    """`konsil audit verify` under a user id that owns nothing here, all code loaded before."""
    return forked(["audit", "verify", home], Bounds(SECONDS, user=65534))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
@pytest.mark.parametrize(
    "name",
    ["ledger", "ledger/tail.0", "ledger/checkpoint", "ledger/blobs", "peers", "blobs", "."],
)
def test_what_may_not_be_read_is_a_storage_error_in_one_line(homes, tmp_path, name):
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith(("pytest", "popen")) or folder == tmp_path:
            folder.chmod(0o755)
    home = homes[0]
    assert as_nobody(home).returncode == 0
    for mode in (0o000, 0o644):
        (home / name).chmod(mode)
        done = as_nobody(home)
        if mode and (home / name).is_file():
            assert done.returncode == 0
            continue
        assert done.returncode == 6, (mode, done)
        (line,) = done.stderr.splitlines()
        assert line.startswith(b"konsil: ")


def test_a_home_that_cannot_be_is_an_error_of_usage(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("x")
    for home in ("nowhere", "x" * 300, "loop", "loop/bern", "file", "file/bern"):
        for verb in ("verify", "lineage"):
            done = audit(verb, tmp_path / home)
            assert done.returncode == 2, done
            (line,) = done.stderr.decode().splitlines()
            assert "there is no such home" in line


def test_a_home_without_a_ledger_is_a_storage_error(tmp_path):
    for verb in ("verify", "lineage"):
        done = audit(verb, tmp_path)
        assert done.returncode == 6
        assert b"there is no ledger here" in done.stderr
