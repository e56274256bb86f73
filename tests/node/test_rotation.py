"""Another key in the middle of a run: the peers follow, and the ledgers still verify."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import trio
from network import LOG, Network
from scripted import ScriptedTrainer

from konsil.node import daemon as daemon_module
from konsil.node.config import read_config
from konsil.node.keys import create_keys, load_following, load_keys, stage
from konsil.node.opening import open_journal
from konsil.node.paths import Home
from konsil.node.store.lock import is_held
from konsil.protocol.errors import ConfigError, UsageError
from konsil.protocol.learning_bodies import ArtifactIntegrate, ArtifactReceive, ArtifactReject
from konsil.protocol.node_bodies import KeyRevoke, KeyRotate
from konsil.trust.audit import verify_homes

pytestmark = pytest.mark.slow

SECOND = Path(__file__).parents[2] / "tools" / "verify_ledger.py"


@pytest.fixture(autouse=True)
def scripted(monkeypatch):
    monkeypatch.setattr(daemon_module, "Trainer", ScriptedTrainer)


async def rotate(net, name, role, **more):
    return await net.daemons[name]._rotation.rotate({"role": role, **more})


def taken(net, name, publisher, behind):
    """The artifacts that `name` took which were logged behind entry `behind`."""
    node = net.members[publisher].node
    found = net.bodies(name, ArtifactReceive)
    return {body.art for body in found if body.publisher == node and body.index > behind}


def mixed(net, name):
    return {part.art for body in net.bodies(name, ArtifactIntegrate) for part in body.parts}


async def test_keys_change_in_the_middle_of_a_run_and_nobody_is_refused(tmp_path, nursery):
    """The recovery key changes first: the new one orders all that follow, also after a restart."""
    net = Network(tmp_path, nursery, "abc", rounds=9)
    await net.start()
    await net.until(lambda: net.daemons["a"].learner.memory.round >= 2)
    changed = {}
    for role in ("rec", "art", "log", "wit"):
        changed[role] = await rotate(net, "a", role)
        size = changed[role]["index"]
        await net.until(lambda size=size: net.daemons["a"].cosigning.vouched > size)
    await net.until(lambda: all(taken(net, name, "a", size) for name in "bc"))
    await net.kill("b")
    await net.start("b")
    held = taken(net, "b", "a", size)
    await net.until(net.idle)
    assert taken(net, "b", "a", size) > held
    for name in "bc":
        assert taken(net, name, "a", size) & mixed(net, name)
        assert net.bodies(name, ArtifactReject) == []
    for name in "abc":
        await net.kill(name)
    home = Home(tmp_path / "a")
    for role, told in changed.items():
        assert load_keys(home.keys)[role].public.raw.hex() == told["new"]
    assert load_following(home.keys) == {}
    homes = [tmp_path / name for name in "abc"]
    report = verify_homes(homes)
    assert report.exit_code() == 0, report
    other = await trio.run_process(
        [sys.executable, SECOND, *homes], capture_stdout=True, check=False
    )
    assert other.returncode == 0, other.stdout
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("role", "staged"), [("log", False), ("art", True)])
async def test_a_home_whose_ledger_is_older_than_its_keys_takes_the_change_back(
    tmp_path, nursery, role, staged
):
    """A backup of the ledger from before a change of keys; the new key is in its place already,
    or still lies beside the old one."""
    net = Network(tmp_path, nursery, "abc", rounds=4)
    await net.start()
    await net.until(lambda: net.daemons["a"].learner.memory.round >= 1)
    await net.kill("a")
    home = Home(tmp_path / "a")
    shutil.copytree(home.root, tmp_path / "backup")
    await net.start("a")
    told = await rotate(net, "a", role)
    await net.until(lambda: net.daemons["a"].cosigning.vouched > told["index"])
    await net.kill("a")
    shutil.rmtree(home.ledger)
    shutil.copytree(tmp_path / "backup" / "ledger", home.ledger)
    if staged:
        new = home.keys / f"{role}.key"
        new.rename(home.keys / f"{role}.next.key")
        shutil.copy(tmp_path / "backup" / "keys" / f"{role}.key", new)
    await net.start("a")
    assert net.bodies("a", KeyRotate)[0].new.hex() == told["new"]
    assert load_keys(home.keys)[role].public.raw.hex() == told["new"]
    assert load_following(home.keys) == {}
    await net.until(net.idle)
    for name in "abc":
        await net.kill(name)
    assert verify_homes([tmp_path / name for name in "bc"]).exit_code() == 0
    nursery.cancel_scope.cancel()


async def test_a_staged_key_is_dropped_only_when_somebody_knows_the_log(tmp_path, nursery):
    """Alone, the ledger may be an old copy: the key may be the one in force."""
    net = Network(tmp_path, nursery, "ab", rounds=1)
    keys = Home(tmp_path / "a").keys
    new = stage(keys, "art")
    await net.start("a")
    await net.kill("a")
    assert load_following(keys)["art"].seed == new.seed
    await net.start("a", "b")
    await net.until(lambda: net.daemons["a"].cosigning.vouched > 0)
    await net.kill("a")
    await net.start("a")
    assert load_following(keys) == {}
    nursery.cancel_scope.cancel()


async def test_keys_that_are_older_than_the_ledger_start_nothing(tmp_path, nursery):
    net = Network(tmp_path, nursery, "ab", rounds=1)
    await net.start()
    await net.until(net.idle)
    home = Home(tmp_path / "a")
    shutil.copytree(home.keys, tmp_path / "old")
    await rotate(net, "a", "art")
    await net.kill("a")
    shutil.rmtree(home.keys)
    shutil.copytree(tmp_path / "old", home.keys)
    before = sorted(path.read_bytes() for path in home.ledger.glob("[ct]*") if path.is_file())
    with pytest.raises(ConfigError, match=r"art\.key is not the art key in force"):
        open_journal(home, read_config(home.config), load_keys(home.keys), LOG)
    assert before == sorted(
        path.read_bytes() for path in home.ledger.glob("[ct]*") if path.is_file()
    )
    assert not is_held(home.ledger)
    nursery.cancel_scope.cancel()


async def test_a_stolen_key_is_revoked_and_the_run_goes_on(tmp_path, nursery):
    net = Network(tmp_path, nursery, "abc", rounds=6)
    await net.start()
    await net.until(lambda: net.daemons["a"].learner.memory.round >= 2)
    size = net.daemons["a"].chronicle.size
    told = await rotate(net, "a", "log", revoke_from=size, reason="stolen")
    assert told["revoked_from"] == size
    await net.until(net.idle)
    assert len(net.bodies("a", KeyRevoke)) == 1
    assert taken(net, "b", "a", told["index"])
    nursery.cancel_scope.cancel()


async def test_what_cannot_be_changed_is_refused_and_changes_nothing(tmp_path, nursery):
    net = Network(tmp_path, nursery, "ab", rounds=1)
    await net.start()
    await net.until(net.idle)
    home = Home(net.root / "a")
    before = {path.name: path.read_bytes() for path in home.keys.iterdir()}
    with pytest.raises(UsageError) as caught:
        await rotate(net, "a", "peer")
    assert "member list" in caught.value.hint
    for name, value in (("reason", "No word"), ("revoke_from", -1), ("elsewhere", 1)):
        with pytest.raises(UsageError, match=name.split("_")[0]) as caught:
            await rotate(net, "a", "art", **{name: value})
        assert caught.value.hint
    with pytest.raises(UsageError, match="serves from entry 0 on, and the log has") as caught:
        await rotate(net, "a", "art", revoke_from=99_999)
    assert "from 0 to" in caught.value.hint
    create_keys(tmp_path / "foreign")
    foreign = str(tmp_path / "foreign" / "rec.key")
    with pytest.raises(ConfigError, match=r"rec\.key: is not the recovery key in force"):
        await rotate(net, "a", "art", recovery_key=foreign)
    with pytest.raises(ConfigError, match="missing"):
        await rotate(net, "a", "art", recovery_key=str(tmp_path / "nowhere.key"))
    assert {path.name: path.read_bytes() for path in home.keys.iterdir()} == before
    assert net.bodies("a", KeyRotate) == []
    nursery.cancel_scope.cancel()


async def test_the_recovery_key_may_lie_away_and_be_named(tmp_path, nursery):
    net = Network(tmp_path, nursery, "ab", rounds=1)
    away = tmp_path / "safe.key"
    (Home(net.root / "a").keys / "rec.key").rename(away)
    await net.start()
    await net.until(net.idle)
    with pytest.raises(ConfigError, match=r"rec\.key: the key is missing") as caught:
        await rotate(net, "a", "wit")
    assert "--recovery-key" in caught.value.hint
    assert (await rotate(net, "a", "wit", recovery_key=str(away)))["role"] == "wit"
    nursery.cancel_scope.cancel()
