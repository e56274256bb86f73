"""A node that waits says for whom, since when, why and what to check; alone it spends no round."""

from __future__ import annotations

import pytest
import trio
from network import Network
from scripted import ScriptedTrainer

from konsil.node import daemon as daemon_module
from konsil.node.control import ask
from konsil.protocol.learning_bodies import ModelTrain


@pytest.fixture(autouse=True)
def scripted(monkeypatch):
    monkeypatch.setattr(daemon_module, "Trainer", ScriptedTrainer)


def network(root, nursery, names, **options):
    """A consortium whose nodes wait for next to nothing, so that what they do wait for shows."""
    net = Network(root, nursery, names, patience_s=0.05, vouch_wait_s=0.01, **options)
    for name in names:
        config = root / name / "node.toml"
        text = config.read_text()
        assert "start_wait_s = 5.0" in text
        config.write_text(text.replace("start_wait_s = 5.0", "start_wait_s = 0.01"))
    return net


async def status(net, name):
    return await trio.to_thread.run_sync(ask, net.root / name, "status")


async def until(net, name, condition):
    """The first status for which `condition` holds."""
    with trio.fail_after(30):
        while not condition(told := await status(net, name)):
            await trio.sleep(0.02)
    return told


async def test_the_first_node_of_all_waits_for_company_and_says_so(tmp_path, nursery):
    net = network(tmp_path, nursery, "abc", rounds=3)
    await net.start("a")
    told = await until(
        net, "a", lambda told: told["waiting"] and "no further round" in told["waiting"]["why"]
    )
    assert (told["phase"], told["round"], told["neighbours"]) == ("connecting", 0, [])
    waiting = told["waiting"]
    assert set(waiting) == {"for", "since_s", "why", "check"}
    assert waiting["for"] == ["b", "c"]
    assert waiting["why"].startswith("nobody is linked")
    assert 0 <= waiting["since_s"] <= told["uptime_s"]
    for cause in ("running", "member list", "addresses", "firewall"):
        assert cause in waiting["check"]
    assert net.bodies("a", ModelTrain) == []
    await net.start("b")
    told = await until(net, "a", lambda told: told["phase"] == "idle")
    assert (told["round"], told["waiting"]) == (3, None)
    nursery.cancel_scope.cancel()


async def test_a_node_that_is_cut_off_keeps_its_rounds_for_later(tmp_path, nursery):
    net = network(tmp_path, nursery, "ab", rounds=60)
    await net.start()
    await net.until(lambda: net.daemons["a"].learner.memory.round >= 2)
    await net.kill("b")
    told = await until(net, "a", lambda told: told["phase"] == "connecting")
    assert told["waiting"]["for"] == ["b"]
    assert 2 <= told["round"] < 60
    await net.start("b")
    await until(net, "a", lambda told: told["round"] > 20)
    nursery.cancel_scope.cancel()


async def test_without_a_count_a_lone_node_goes_on_learning(tmp_path, nursery):
    net = network(tmp_path, nursery, "ab", rounds=0)
    await net.start("a")
    told = await until(net, "a", lambda told: told["round"] >= 2 and told["phase"] == "waiting")
    assert told["waiting"]["for"] == ["b"]
    assert told["waiting"]["why"] == "nobody is linked"
    nursery.cancel_scope.cancel()


async def test_a_node_without_neighbours_waits_for_nobody(tmp_path, nursery):
    net = network(tmp_path, nursery, "abc", rounds=2, edges=[("b", "c")])
    await net.start("a")
    told = await until(net, "a", lambda told: told["phase"] == "idle")
    assert (told["round"], told["waiting"]) == (2, None)
    nursery.cancel_scope.cancel()


async def test_a_waiting_round_names_whose_artifacts_it_wants(tmp_path, nursery):
    slow = {"a": {"target": 1.0}, "b": {"target": 2.0}, "c": {"fails": True}}
    net = Network(tmp_path, nursery, "abc", rounds=2, patience_s=600.0, options=slow)
    await net.start("a", "b")
    told = await until(
        net, "a", lambda told: told["phase"] == "connecting" and told["neighbours"] == ["b"]
    )
    assert told["waiting"]["for"] == ["c"]
    assert told["waiting"]["why"] == "the first round waits 5 s for all neighbours"
    await net.start("c")
    told = await until(
        net,
        "a",
        lambda told: (told["waiting"] or {}).get("for") == ["c"] and told["phase"] == "waiting",
    )
    assert told["waiting"]["why"] == "their next artifacts, for 600 s at most"
    nursery.cancel_scope.cancel()
