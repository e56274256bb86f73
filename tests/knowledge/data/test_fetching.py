"""Fetching: only whole files of a pinned digest appear; a cut download goes on; nothing is lost."""

from __future__ import annotations

import fcntl
import hashlib
import os
from dataclasses import replace

import pytest
from downloads import publishing

from konsil.knowledge.data import checking, fetching, origins
from konsil.knowledge.data.origins import Copy, DataSet, File
from konsil.protocol.errors import (
    ConfigError,
    IncompleteError,
    LimitExceeded,
    StorageError,
    UnreachableError,
    VerificationError,
)

CONTENT = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def publisher():
    with publishing() as one:
        one.files["/rows.npz"] = CONTENT
        yield one


def a_set(address="", *, most_bytes=1 << 20, digest=f"sha256:{DIGEST}"):
    file = File("rows.npz", (Copy(digest, "the official copy"),), most_bytes, address)
    return DataSet("rows", origins.FETCHED, "rows", "CC0", "nobody", "rows_folder", (file,))


def fetch(data_set, top, source=None):
    told: list[str] = []
    brought = fetching.fetch(data_set, top, source=source, tell=told.append)
    return brought, told


def names(top):
    return sorted(path.name for path in top.rglob("*") if path.is_file())


def test_a_download_appears_whole_with_its_origin(publisher, tmp_path):
    (one,), told = fetch(a_set(f"{publisher.address}/rows.npz"), tmp_path)
    assert (tmp_path / "rows_folder" / "rows.npz").read_bytes() == CONTENT
    assert (one.how, one.held.state) == (fetching.DOWNLOADED, checking.GOOD)
    assert one.held.copy.origin == "the official copy"
    assert one.held.content == checking.Content(
        len(CONTENT), DIGEST, hashlib.md5(CONTENT).hexdigest()
    )
    assert told == [f"fetching {publisher.address}/rows.npz"]
    assert names(tmp_path) == ["rows.npz"]


def test_what_is_there_is_not_asked_for_again(publisher, tmp_path):
    data_set = a_set(f"{publisher.address}/rows.npz")
    fetch(data_set, tmp_path)
    (one,), told = fetch(data_set, tmp_path)
    assert (one.how, told, len(publisher.asked)) == (fetching.KEPT, [], 1)


@pytest.mark.parametrize("fault", ["cut", "500", "503", "429"])
def test_a_link_that_drops_is_dialled_again_from_the_missing_byte(publisher, tmp_path, fault):
    publisher.wrong = [fault, fault]
    fetch(a_set(f"{publisher.address}/rows.npz"), tmp_path)
    assert (tmp_path / "rows_folder" / "rows.npz").read_bytes() == CONTENT
    half, third = len(CONTENT) // 2, len(CONTENT) * 3 // 4
    wanted = ["", f"bytes={half}-", f"bytes={third}-"] if fault == "cut" else ["", "", ""]
    assert publisher.asked == wanted


def test_a_link_that_always_drops_leaves_what_came_for_the_next_time(publisher, tmp_path):
    data_set = a_set(f"{publisher.address}/rows.npz")
    publisher.wrong = ["cut"] * 4
    with pytest.raises(UnreachableError, match="cut off, 4 times"):
        fetch(data_set, tmp_path)
    assert names(tmp_path) == [".rows.npz.part"]
    (one,), _ = fetch(data_set, tmp_path)
    assert one.how == fetching.DOWNLOADED
    assert publisher.asked[-1] == f"bytes={len(CONTENT) * 15 // 16}-"
    assert names(tmp_path) == ["rows.npz"]


@pytest.mark.parametrize("fault", ["", "whole", "elsewhere", "unmeasured"])
def test_the_beginning_that_a_stop_left_is_used_or_begun_again(publisher, tmp_path, fault):
    folder = tmp_path / "rows_folder"
    folder.mkdir()
    (folder / ".rows.npz.part").write_bytes(CONTENT[:1000])
    publisher.wrong = [fault]
    fetch(a_set(f"{publisher.address}/rows.npz"), tmp_path)
    assert (folder / "rows.npz").read_bytes() == CONTENT
    assert publisher.asked == ["bytes=1000-"] + [""] * (fault == "elsewhere")


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * len(CONTENT), CONTENT + b"more"])
def test_the_beginning_of_another_file_is_thrown_away(publisher, tmp_path, left):
    folder = tmp_path / "rows_folder"
    folder.mkdir()
    (folder / ".rows.npz.part").write_bytes(left)
    fetch(a_set(f"{publisher.address}/rows.npz"), tmp_path)
    assert (folder / "rows.npz").read_bytes() == CONTENT
    assert publisher.asked == [f"bytes={len(left)}-", ""]


def test_a_complete_part_is_finished_without_a_byte(publisher, tmp_path):
    folder = tmp_path / "rows_folder"
    folder.mkdir()
    (folder / ".rows.npz.part").write_bytes(CONTENT)
    (one,), _ = fetch(a_set(f"{publisher.address}/rows.npz"), tmp_path)
    assert one.held.state == checking.GOOD
    assert publisher.asked == [f"bytes={len(CONTENT)}-"]


def test_content_of_another_digest_is_not_kept(publisher, tmp_path):
    publisher.files["/rows.npz"] = CONTENT[:-1] + b"!"
    with pytest.raises(VerificationError, match="none of the accepted copies"):
        fetch(a_set(f"{publisher.address}/rows.npz"), tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("fault", ["", "unmeasured"])
def test_no_more_bytes_are_taken_than_granted(publisher, tmp_path, fault):
    publisher.wrong = [fault]
    with pytest.raises(LimitExceeded, match="more than 1000 bytes"):
        fetch(a_set(f"{publisher.address}/rows.npz", most_bytes=1000), tmp_path)
    assert names(tmp_path) == []


def test_who_has_no_such_file_and_who_does_not_answer_is_told(publisher, tmp_path):
    with pytest.raises(UnreachableError, match="answers 404") as caught:
        fetch(a_set(f"{publisher.address}/other.npz"), tmp_path)
    assert "--from DIR" in caught.value.hint
    assert len(publisher.asked) == 1
    with pytest.raises(UnreachableError, match="4 times"):
        fetch(a_set("http://127.0.0.1:1/rows.npz"), tmp_path)
    with pytest.raises(ConfigError, match="no address of the web"):
        fetch(a_set(f"file://{tmp_path}/rows.npz"), tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("inner", ["", "rows_folder"])
def test_a_folder_serves_as_well_as_the_publisher(tmp_path, inner):
    source = tmp_path / "stick" / inner
    source.mkdir(parents=True)
    (source / "rows.npz").write_bytes(CONTENT)
    (one,), told = fetch(a_set(), tmp_path / "data", tmp_path / "stick")
    assert (one.how, one.held.state, told) == (fetching.COPIED, checking.GOOD, [])
    assert names(tmp_path / "data") == ["rows.npz"]


def test_a_folder_with_another_file_or_none_is_refused(tmp_path):
    with pytest.raises(IncompleteError, match=r"has no rows\.npz"):
        fetch(a_set(), tmp_path / "data", tmp_path)
    (tmp_path / "rows.npz").write_bytes(b"other")
    with pytest.raises(VerificationError, match="5 bytes"):
        fetch(a_set(), tmp_path / "data", tmp_path)
    (tmp_path / "rows.npz").write_bytes(b"x" * 2000)
    with pytest.raises(VerificationError, match="larger"):
        fetch(a_set(most_bytes=1000), tmp_path / "data", tmp_path)
    assert names(tmp_path / "data") == []


def test_a_file_that_differs_is_never_overwritten(publisher, tmp_path):
    folder = tmp_path / "rows_folder"
    folder.mkdir()
    (folder / "rows.npz").write_bytes(b"mine")
    with pytest.raises(VerificationError, match="none of the accepted copies"):
        fetch(a_set(f"{publisher.address}/rows.npz"), tmp_path)
    assert (folder / "rows.npz").read_bytes() == b"mine"
    assert publisher.asked == []


def test_a_file_without_an_address_says_how_to_get_it(tmp_path):
    with pytest.raises(IncompleteError) as caught:
        fetch(replace(a_set(), remark="ask the publisher"), tmp_path)
    assert caught.value.hint == "ask the publisher"


def test_two_at_once_do_not_write_into_one_file(publisher, tmp_path):
    folder = tmp_path / "rows_folder"
    folder.mkdir()
    with (folder / ".rows.npz.part").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="another fetch is under way"):
            fetch(a_set(f"{publisher.address}/rows.npz"), tmp_path)
    assert publisher.asked == []


def test_a_link_in_place_of_the_part_is_not_followed(publisher, tmp_path):
    folder = tmp_path / "rows_folder"
    folder.mkdir()
    (tmp_path / "elsewhere").write_bytes(b"mine")
    os.symlink(tmp_path / "elsewhere", folder / ".rows.npz.part")
    with pytest.raises(StorageError):
        fetch(a_set(f"{publisher.address}/rows.npz"), tmp_path)
    assert (tmp_path / "elsewhere").read_bytes() == b"mine"


def test_a_disk_that_takes_nothing_is_named(tmp_path):
    (tmp_path / "data").write_bytes(b"a file, and no folder")
    with pytest.raises(StorageError, match="data"):
        fetch(a_set("http://127.0.0.1:1/rows.npz"), tmp_path / "data")


def test_a_file_pinned_by_md5_is_accepted_by_it(tmp_path):
    digest = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
    (tmp_path / "rows.npz").write_bytes(CONTENT)
    (one,), _ = fetch(a_set(digest=digest), tmp_path / "data", tmp_path)
    assert one.held.copy.digest == digest


def test_the_state_of_a_set_names_the_worst():
    held = {state: checking.Held(None, state) for state in ("good", "absent", "differs")}
    assert checking.state_of((held["good"], held["good"])) == "good"
    assert checking.state_of((held["absent"], held["absent"])) == "absent"
    assert checking.state_of((held["good"], held["absent"])) == "incomplete"
    assert checking.state_of((held["good"], held["absent"], held["differs"])) == "differs"


def test_the_files_on_this_machine_are_the_pinned_ones(data_folder):
    for data_set in origins.CATALOGUE.values():
        if data_set.files:
            states = [one.state for one in checking.held(data_set, data_folder)]
            assert states == [checking.GOOD] * len(data_set.files), data_set.name


def test_every_pin_of_the_catalogue_is_a_digest_with_an_origin():
    for data_set in origins.CATALOGUE.values():
        assert bool(data_set.files) == (data_set.kind == origins.FETCHED)
        for file in data_set.files:
            assert file.copies
            for copy in file.copies:
                algorithm, _, digest = copy.digest.partition(":")
                assert len(bytes.fromhex(digest)) == {"sha256": 32, "md5": 16}[algorithm]
                assert copy.origin
            assert file.address.startswith("https://") or not file.address
            assert file.address or data_set.remark
