"""Another key in the middle of a run: the peers follow, and the ledgers still verify."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio
from network import Network
from scripted import ScriptedTrainer

from konsil.node import daemon as daemon_module
from konsil.node.keys import create_keys, load_following, load_keys
from konsil.node.paths import Home
from konsil.protocol.errors import ConfigError, UsageError
from konsil.protocol.learning_bodies import ArtifactIntegrate, ArtifactReceive, ArtifactReject
from konsil.protocol.node_bodies import KeyRevoke, KeyRotate
from konsil.trust.audit import verify_homes

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


@pytest.mark.parametrize("role", ["art", "log", "wit", "rec"])
async def test_a_key_changes_in_the_middle_of_a_run_and_nobody_is_refused(tmp_path, nursery, role):
    net = Network(tmp_path, nursery, "abc", rounds=6)
    await net.start()
    await net.until(lambda: net.daemons["a"].learner.memory.round >= 2)
    told = await rotate(net, "a", role)
    await net.until(net.idle)
    for name in "bc":
        assert taken(net, name, "a", told["index"]) & mixed(net, name)
        assert net.bodies(name, ArtifactReject) == []
    await net.until(lambda: net.daemons["a"].cosigning.vouched > told["index"])
    for name in "abc":
        await net.kill(name)
    keys = load_keys(Home(tmp_path / "a").keys)
    assert keys[role].public.raw.hex() == told["new"]
    assert load_following(Home(tmp_path / "a").keys) == {}
    homes = [tmp_path / name for name in "abc"]
    report = verify_homes(homes)
    assert report.exit_code() == 0, report
    other = await trio.run_process(
        [sys.executable, SECOND, *homes], capture_stdout=True, check=False
    )
    assert other.returncode == 0, other.stdout
    nursery.cancel_scope.cancel()


async def test_after_a_restart_the_peers_still_know_the_newest_keys(tmp_path, nursery):
    net = Network(tmp_path, nursery, "abc", rounds=8)
    await net.start()
    await net.until(lambda: net.daemons["a"].learner.memory.round >= 2)
    for role in ("art", "log", "wit"):
        told = await rotate(net, "a", role)
    await net.until(lambda: all(taken(net, name, "a", told["index"]) for name in "bc"))
    await net.kill("b")
    await net.start("b")
    held = set(taken(net, "b", "a", told["index"]))
    await net.until(net.idle)
    assert taken(net, "b", "a", told["index"]) > held
    assert net.bodies("b", ArtifactReject) == []
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
    for wrong in ({"reason": "No word"}, {"revoke_from": -1}, {"elsewhere": 1}):
        with pytest.raises(UsageError):
            await rotate(net, "a", "art", **wrong)
    create_keys(tmp_path / "foreign")
    foreign = str(tmp_path / "foreign" / "rec.key")
    with pytest.raises(ConfigError, match=r"rec\.key: the art key stays as it is"):
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
