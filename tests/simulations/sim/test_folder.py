"""The folder of --out: one run's alone, and complete where it holds a result."""

from __future__ import annotations

import json
import threading

import pytest

from konsil.node.store.durable import DiskFullError
from konsil.protocol.errors import StorageError, UsageError
from konsil.simulations.sim import folder


def names(place):
    return sorted(one.name for one in place.iterdir())


def test_a_folder_is_marked_as_long_as_the_run_lasts(tmp_path):
    with folder.opened(tmp_path / "a" / "b") as place:
        assert (place, names(place)) == (tmp_path / "a" / "b", ["UNFINISHED"])
        assert "no result" in (place / "UNFINISHED").read_text()
        (place / "result.json").write_text("{}")
    assert names(place) == ["result.json"]


@pytest.mark.parametrize("fault", [KeyboardInterrupt, StorageError("no"), ValueError("a bug")])
def test_of_a_run_that_fails_nothing_is_left_that_was_not_there(tmp_path, fault):
    (tmp_path / "mine").mkdir()
    for out in (tmp_path / "new" / "deep", tmp_path / "mine"):
        with pytest.raises(BaseException, match=r"no|a bug|^$"), folder.opened(out):
            raise fault
    assert names(tmp_path) == ["mine"]
    assert names(tmp_path / "mine") == []


def test_what_a_failed_run_had_written_stays_and_is_marked(tmp_path):
    def stopped():
        with folder.opened(tmp_path / "out") as place:
            (place / "homes").mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert names(tmp_path / "out") == ["UNFINISHED", "homes"]


def test_a_folder_is_one_run_s_alone(tmp_path):
    with folder.opened(tmp_path):
        with pytest.raises(UsageError, match="no empty folder"), folder.opened(tmp_path):
            pass
        assert names(tmp_path) == ["UNFINISHED"]
    assert names(tmp_path) == []


def test_of_runs_that_begin_at_once_one_gets_the_folder(tmp_path):
    begin, end, got = threading.Barrier(8), threading.Barrier(8), []

    def claim():
        begin.wait()
        try:
            with folder.opened(tmp_path / "out") as place:
                got.append(place)
                end.wait()
        except UsageError:
            end.wait()

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert got == [tmp_path / "out"]


def test_what_is_there_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "of").write_text("mine")
    for name in ("file", "full"):
        with pytest.raises(UsageError, match="no empty folder"), folder.opened(tmp_path / name):
            pass
    with pytest.raises(StorageError), folder.opened(tmp_path / "file" / "below"):
        pass
    assert names(tmp_path) == ["file", "full"]
    assert names(tmp_path / "full") == ["of"]


def test_the_result_comes_last(tmp_path, monkeypatch):
    """Where anything before it fails, there is none that could be taken for one."""

    def full(place, data):
        assert json.loads(data) == {"metric_mean": 0.5}
        raise DiskFullError(f"{place}: full")

    monkeypatch.setattr(folder, "put", full)
    with pytest.raises(DiskFullError):
        folder.write(tmp_path, {"metric_mean": 0.5}, [], [], tell=print)
    assert names(tmp_path) == []
    monkeypatch.undo()
    folder.write(tmp_path, {"metric_mean": 0.5}, [], [], tell=print)
    assert names(tmp_path) == ["result.json"]
