"""A home from a backup signs nothing new before it has back what it signed for."""

from __future__ import annotations

import shutil

import pytest
import trio
from network import Network
from scripted import ScriptedTrainer

from konsil.node import daemon as daemon_module
from konsil.node.control import ask
from konsil.node.exchange import vouching
from konsil.protocol.errors import VerificationError
from konsil.protocol.learning_bodies import ArtifactPublish
from konsil.protocol.mirror import Leaf
from konsil.protocol.node_bodies import NodeBoot, Span
from konsil.trust.audit import verify_homes


@pytest.fixture(autouse=True)
def scripted(monkeypatch):
    monkeypatch.setattr(daemon_module, "Trainer", ScriptedTrainer)


def signed(net, name):
    journal = net.daemons[name]._journal
    return journal.open_checkpoint(journal.checkpoint)


async def mirrored(net, name, *holders):
    """Every entry of `name` is signed for and mirrored at the holders."""
    node = net.members[name].node
    await net.until(
        lambda: (
            signed(net, name).size == net.daemons[name]._journal.size
            and all(net.daemons[h].watch.kept(node).size == signed(net, name).size for h in holders)
        )
    )


async def lived_on(tmp_path, nursery, backup):
    """Three nodes; the home of `a` was copied to `backup` before it went on for a while."""
    net = Network(tmp_path, nursery, "abc", rounds=2, vouch_wait_s=30.0)
    await net.start()
    await net.until(net.idle)
    await mirrored(net, "a", "b", "c")
    await net.kill("a")
    shutil.copytree(tmp_path / "a", backup, ignore=shutil.ignore_patterns("control.sock"))
    await net.start("a")
    for _ in range(2):
        await trio.to_thread.run_sync(ask, tmp_path / "a", "publish")
    await mirrored(net, "a", "b", "c")
    return net


async def restored(net, backup):
    await net.kill("a")
    home = net.root / "a"
    shutil.rmtree(home)
    shutil.copytree(backup, home)
    await net.start("a")


async def test_an_old_backup_takes_its_log_back_and_goes_on(tmp_path, nursery):
    backup = tmp_path / "backup"
    net = await lived_on(tmp_path, nursery, backup)
    before = signed(net, "a")
    published = net.bodies("a", ArtifactPublish)
    await restored(net, backup)
    journal = net.daemons["a"]._journal
    assert journal.root_at(before.size) == before.root
    assert net.bodies("a", ArtifactPublish) == published
    boot = net.bodies("a", NodeBoot)[-1]
    assert boot.size == before.size
    assert {one.size for one in boot.peers} == {before.size}
    assert boot.lost == []
    await trio.to_thread.run_sync(ask, tmp_path / "a", "publish")
    await net.until(lambda: net.bodies("a", ArtifactPublish)[-1].sequence == len(published) + 1)
    await mirrored(net, "a", "b", "c")
    assert not net.daemons["b"].watch.exposed(net.members["a"].node)
    for name in "abc":
        await net.kill(name)
    report = verify_homes([tmp_path / name for name in "abc"])
    assert [found for found in report.findings if found.exit_code == 3] == []
    nursery.cancel_scope.cancel()


async def test_what_only_we_held_is_lost_and_said_to_be(tmp_path, nursery):
    backup = tmp_path / "backup"
    net = Network(tmp_path, nursery, "abc", rounds=1, vouch_wait_s=30.0)
    await net.start()
    await net.until(net.idle)
    await mirrored(net, "a", "b")
    await net.kill("a")
    config = tmp_path / "a" / "node.toml"
    config.write_text(config.read_text().replace("rounds = 1", "rounds = 3"))
    shutil.copytree(tmp_path / "a", backup, ignore=shutil.ignore_patterns("control.sock"))
    await net.start("a")
    await net.until(net.idle)
    await mirrored(net, "a", "b", "c")
    before = signed(net, "a")
    await restored(net, backup)
    boot = net.bodies("a", NodeBoot)[-1]
    assert boot.size == before.size
    assert boot.lost
    for span in boot.lost:
        stored = net.daemons["a"]._journal.leaves(span.first, span.last - span.first + 1)
        assert all(leaf.entry is None for leaf in stored)
    await net.until(net.idle)
    nursery.cancel_scope.cancel()


async def test_a_log_that_went_on_differently_never_signs(tmp_path, nursery):
    backup = tmp_path / "backup"
    net = await lived_on(tmp_path, nursery, backup)
    await net.kill("a")
    home = net.root / "a"
    shutil.rmtree(home)
    shutil.copytree(backup, home)
    text = (home / "node.toml").read_text()
    (home / "node.toml").write_text(text.replace("vouch_wait_s = 30.0", "vouch_wait_s = 0.01"))
    for name in "bc":
        await net.kill(name)
    await net.start("a")
    await trio.to_thread.run_sync(ask, home, "publish")
    await net.kill("a")
    (home / "node.toml").write_text(text)
    note = (home / "ledger" / "checkpoint").read_bytes()

    async def all_at_once():
        async with trio.open_nursery() as net.nursery:
            await net.start("b", "c")
            await net.start("a")

    with pytest.raises(BaseExceptionGroup) as raised:
        await all_at_once()
    assert raised.group_contains(VerificationError, match="that are not these")
    assert (home / "ledger" / "checkpoint").read_bytes() == note
    nursery.cancel_scope.cancel()


def test_numbers_become_spans():
    assert vouching._spans([]) == []
    assert vouching._spans([3, 4, 5, 9]) == [Span(first=3, last=5), Span(first=9, last=9)]
    assert Leaf(None, b"").entry is None
