"""`konsil data`: what a person or a script sees, and each of its exit codes."""

from __future__ import annotations

import hashlib
import shutil
from types import MappingProxyType

import pytest
from commands import konsil, shell
from downloads import publishing

from konsil.knowledge import tabular
from konsil.knowledge.data import origins, place
from konsil.knowledge.data.origins import Copy, DataSet, File

CONTENT = b"1,2,3\n" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KONSIL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "data"


@pytest.fixture
def publisher(monkeypatch):
    """A catalogue of one set of two files, and one embedded set, published on loopback."""
    copy = Copy(f"sha256:{SHA256}", "the official copy")
    with publishing() as one:
        one.files = {"/a.csv": CONTENT, "/b.csv": CONTENT}
        files = tuple(
            File(name, (copy,), 1 << 16, f"{one.address}/{name}") for name in ("a.csv", "b.csv")
        )
        known = (
            DataSet("rows", origins.FETCHED, "some rows", "CC0", "nobody, 2020", "rows", files),
            DataSet("digits", origins.EMBEDDED, "digits", "CC BY 4.0", "somebody"),
        )
        catalogue = MappingProxyType({one.name: one for one in known})
        monkeypatch.setattr(origins, "CATALOGUE", catalogue)
        yield one


def test_fetch_then_list_then_verify(publisher, folder):
    done = konsil("data", "fetch", "rows", "--json")
    data = done.envelope("data.fetch")["data"]
    assert (data["name"], data["folder"]) == ("rows", str(folder / "rows"))
    assert (data["licence"], data["source"]) == ("CC0", "nobody, 2020")
    assert data["files"] == [
        {
            "path": str(folder / "rows" / name),
            "state": "good",
            "bytes": len(CONTENT),
            "sha256": SHA256,
            "origin": "the official copy",
            "official": True,
            "how": "downloaded",
        }
        for name in ("a.csv", "b.csv")
    ]
    listed = konsil("data", "list", "--json").envelope("data.list")["data"]
    assert listed["folder"] == str(folder)
    assert [(one["name"], one["kind"], one["state"]) for one in listed["sets"]] == [
        ("rows", "fetched", "here"),
        ("digits", "embedded", "embedded"),
    ]
    verified = konsil("data", "verify", "--json").envelope("data.verify")["data"]
    assert [(one["name"], one["state"]) for one in verified["sets"]] == [("rows", "good")]
    assert [one["sha256"] for one in verified["sets"][0]["files"]] == [SHA256] * 2


def test_people_see_origin_licence_and_digest(publisher, folder):
    done = konsil("data", "fetch", "rows")
    assert done.code == 0
    for word in ("downloaded", SHA256, "the official copy", "CC0; cite nobody, 2020"):
        assert word in done.out
    assert done.err.splitlines() == [
        f"fetching {publisher.address}/{name}" for name in ("a.csv", "b.csv")
    ]
    assert "kept" in konsil("data", "fetch", "rows").out
    listed = konsil("data", "list").out
    assert f"data folder: {folder}" in listed
    assert "some rows  [CC0]" in listed
    assert "rows: good" in konsil("data", "verify").out


def test_from_a_folder_to_another(publisher, folder, tmp_path):
    stick = tmp_path / "stick"
    stick.mkdir()
    for name in ("a.csv", "b.csv"):
        (stick / name).write_bytes(CONTENT)
    done = konsil("data", "fetch", "rows", "--from", stick, "--to", tmp_path / "other")
    assert done.code == 0
    assert f"KONSIL_DATA={tmp_path / 'other'}" in done.out
    assert (tmp_path / "other" / "rows" / "a.csv").read_bytes() == CONTENT
    assert publisher.asked == []
    assert not folder.exists()


def test_what_is_embedded_needs_no_fetching(publisher, folder):
    assert "nothing to fetch" in konsil("data", "fetch", "digits").out
    assert "has no files" in konsil("data", "verify", "digits").out
    assert konsil("data", "fetch", "digits", "--json").envelope("data.fetch")["data"]["files"] == []


def test_a_changed_file_does_not_verify(publisher, folder):
    konsil("data", "fetch", "rows")
    (folder / "rows" / "a.csv").write_bytes(CONTENT + b"4,5,6\n")
    for words in (("verify",), ("verify", "rows")):
        done = konsil("data", *words, "--json")
        value = done.envelope("data.verify")
        assert (done.code, value["error"]["code"]) == (3, "verification")
        assert [one["state"] for one in value["data"]["sets"][0]["files"]] == ["differs", "good"]
    done = konsil("data", "fetch", "rows")
    assert done.code == 3
    assert "none of the accepted copies" in done.complaint
    assert (folder / "rows" / "a.csv").read_bytes() == CONTENT + b"4,5,6\n"


def test_differing_is_told_before_missing(publisher, folder):
    konsil("data", "fetch", "rows")
    (folder / "rows" / "a.csv").unlink()
    done = konsil("data", "verify", "--json")
    assert (done.code, done.envelope("data.verify")["data"]["sets"][0]["state"]) == (
        4,
        "incomplete",
    )
    (folder / "rows" / "b.csv").write_bytes(b"other")
    assert konsil("data", "verify").code == 3


def test_an_absent_set_is_an_error_when_it_is_named(publisher, folder):
    done = konsil("data", "verify", "--json")
    assert done.code == 0
    assert done.envelope("data.verify")["data"]["sets"][0]["state"] == "absent"
    done = konsil("data", "verify", "rows", "--json")
    value = done.envelope("data.verify")
    assert (done.code, value["error"]["code"]) == (4, "incomplete")
    assert value["error"]["hint"] == "konsil data fetch rows"


def test_a_publisher_with_other_content_or_none_or_unreachable(publisher, folder):
    publisher.files["/a.csv"] = b"other"
    done = konsil("data", "fetch", "rows", "--json")
    assert (done.code, done.envelope("data.fetch")["error"]["code"]) == (3, "verification")
    publisher.files["/a.csv"] = b"x" * (1 << 17)
    done = konsil("data", "fetch", "rows", "--json")
    assert (done.code, done.envelope("data.fetch")["error"]["code"]) == (3, "limit")
    del publisher.files["/a.csv"]
    done = konsil("data", "fetch", "rows", "--json")
    value = done.envelope("data.fetch")
    assert (done.code, value["error"]["code"]) == (4, "unreachable")
    assert value["data"] == {}
    assert not (folder / "rows" / "a.csv").exists()


@pytest.mark.parametrize("command", ["fetch", "verify"])
def test_a_name_that_nobody_knows_is_a_configuration_error(folder, command):
    done = konsil("data", command, "mnist", "--json")
    value = done.envelope(f"data.{command}")
    assert (done.code, value["error"]["code"]) == (5, "configuration")
    assert "pneumoniamnist" in value["error"]["hint"]


def test_a_disk_that_fails_is_storage_and_a_folder_that_is_not_there_usage(publisher, folder):
    folder.write_bytes(b"a file, and no folder")
    done = konsil("data", "fetch", "rows")
    assert done.code == 6
    assert str(folder) in done.complaint
    assert konsil("data", "fetch", "rows", "--from", folder / "none").code == 2


def test_nuclei_say_that_they_come_prepared(folder):
    done = konsil("data", "fetch", "nuclei")
    assert done.code == 4
    assert "konsil does not convert them" in done.complaint
    assert "--from DIR" in done.complaint


def test_the_real_sets_are_copied_with_their_origin(folder, data_folder):
    for name in ("heart_disease", "pneumoniamnist", "nuclei"):
        done = konsil("data", "fetch", name, "--from", data_folder, "--json")
        files = done.envelope("data.fetch")["data"]["files"]
        assert {one["how"] for one in files} == {"copied"}, name
    assert konsil("data", "verify").code == 0
    shutil.rmtree(folder)


def test_a_shell_lists_them(folder):
    done = shell("data", "list", "--json")
    names = [one["name"] for one in done.envelope("data.list")["data"]["sets"]]
    assert names == list(origins.CATALOGUE)


@pytest.mark.parametrize("named", ["", "/somewhere/else"])
def test_every_part_of_konsil_looks_into_the_same_folder(monkeypatch, named):
    monkeypatch.setenv("KONSIL_DATA", named)
    assert place.data_folder() == tabular.data_folder()
