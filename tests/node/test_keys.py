"""Key files: made once, private, and refused when anybody else could read them."""

import os
import stat

import pytest

from konsil.node.keys import create_keys, load_following, load_keys, settle, stage
from konsil.protocol.errors import ConfigError
from konsil.protocol.identity import ROLES


def test_keys_come_back_and_are_private(tmp_path):
    made = create_keys(tmp_path / "keys")
    loaded = load_keys(tmp_path / "keys")
    for role in ROLES:
        assert loaded[role].seed == made[role].seed
        assert stat.S_IMODE((tmp_path / "keys" / f"{role}.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path, mode):
    create_keys(tmp_path)
    os.chmod(tmp_path / "art.key", mode)
    with pytest.raises(ConfigError, match=r"art\.key") as caught:
        load_keys(tmp_path)
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize("content", ["", "zz" * 32, "00" * 31, "00" * 33, "\u00e9"])
def test_a_malformed_key_is_named(tmp_path, content):
    create_keys(tmp_path)
    (tmp_path / "log.key").write_text(content)
    with pytest.raises(ConfigError, match=r"log\.key"):
        load_keys(tmp_path)


@pytest.mark.parametrize("make", ["link", "pipe", "folder", "giant"])
def test_what_is_no_key_file_is_named_and_never_waited_for(tmp_path, make):
    create_keys(tmp_path)
    path = tmp_path / "art.key"
    kept = path.rename(tmp_path / "kept")
    if make == "link":
        path.symlink_to(kept)
    elif make == "pipe":
        os.mkfifo(path, 0o600)
    elif make == "folder":
        path.mkdir(0o700)
    else:
        path.touch(0o600)
        os.truncate(path, 1 << 42)
    with pytest.raises(ConfigError, match=r"art\.key: (is not a regular file|this is no key)"):
        load_keys(tmp_path)


def test_keys_are_never_overwritten(tmp_path):
    made = create_keys(tmp_path)
    with pytest.raises(ConfigError, match="already"):
        create_keys(tmp_path)
    assert load_keys(tmp_path)["rec"].seed == made["rec"].seed


def test_a_missing_key_is_named(tmp_path):
    create_keys(tmp_path)
    (tmp_path / "wit.key").unlink()
    with pytest.raises(ConfigError, match=r"wit\.key: the key is missing"):
        load_keys(tmp_path)


def test_the_recovery_key_may_lie_away(tmp_path):
    create_keys(tmp_path)
    (tmp_path / "rec.key").unlink()
    assert "rec" not in load_keys(tmp_path)


def test_a_staged_key_takes_its_place_when_it_is_in_force_and_goes_when_it_is_not(tmp_path):
    made = create_keys(tmp_path)
    new, other = stage(tmp_path, "art"), stage(tmp_path, "log")
    assert load_keys(tmp_path)["art"].seed == made["art"].seed
    assert {role: key.seed for role, key in load_following(tmp_path).items()} == {
        "art": new.seed, "log": other.seed,
    }  # fmt: skip
    in_force = {role: made[role].public for role in ROLES} | {"art": new.public}
    settle(tmp_path, in_force, sure=True)
    assert load_keys(tmp_path)["art"].seed == new.seed
    assert load_keys(tmp_path)["log"].seed == made["log"].seed
    assert load_following(tmp_path) == {}
    assert stat.S_IMODE((tmp_path / "art.key").stat().st_mode) == 0o600


def test_a_second_staging_forgets_the_first(tmp_path):
    create_keys(tmp_path)
    first, second = stage(tmp_path, "art"), stage(tmp_path, "art")
    assert first.seed != second.seed
    assert load_following(tmp_path)["art"].seed == second.seed


def test_two_equal_keys_are_named(tmp_path):
    create_keys(tmp_path / "keys")
    (tmp_path / "keys" / "art.key").write_bytes((tmp_path / "keys" / "log.key").read_bytes())
    with pytest.raises(ConfigError, match=r"art\.key: holds the same key as log\.key"):
        load_keys(tmp_path / "keys")
