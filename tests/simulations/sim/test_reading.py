"""Reading: a plain file of a sensible size, or a reason at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from konsil.simulations.sim.reading import Unsuitable, expect_file, read_bounded, reason


def test_a_plain_file_is_read_up_to_its_limit(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345678")
    assert read_bounded(path, 8) == b"12345678"
    assert expect_file(path, 8) is None
    for read in (read_bounded, expect_file):
        with pytest.raises(Unsuitable, match="larger than 7e-06 MB"):
            read(path, 7)


def test_a_link_stands_for_its_file(tmp_path):
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "link").symlink_to("file")
    assert read_bounded(tmp_path / "link", 1) == b"1"


@pytest.mark.parametrize("read", [read_bounded, expect_file])
def test_pipes_and_devices_are_neither_waited_for_nor_drained(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "link", tmp_path, Path("/dev/null")):
        with pytest.raises(Unsuitable) as caught:
            read(path, 10**9)
        assert reason(caught.value) == "this is no plain file"


def test_reasons_are_those_of_the_system(tmp_path):
    for path, said in (("gone", "No such file or directory"), ("a\0b", "embedded null byte")):
        with pytest.raises((OSError, ValueError)) as caught:
            read_bounded(tmp_path / path, 1)
        assert reason(caught.value) == said
