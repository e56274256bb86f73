"""A home from a backup signs nothing new before it has back what it signed for."""

from __future__ import annotations

import shutil

import msgspec
import pytest
import trio
from network import LOG, Network
from scripted import ScriptedTrainer

from konsil.node import daemon as daemon_module
from konsil.node.config import read_config
from konsil.node.control import ask
from konsil.node.exchange.vouching import SPANS
from konsil.node.keys import load_keys
from konsil.node.opening import open_journal
from konsil.node.paths import Home
from konsil.protocol import entries, mirror
from konsil.protocol.errors import VerificationError
from konsil.protocol.learning_bodies import ArtifactPublish
from konsil.protocol.mirror import Leaf
from konsil.protocol.node_bodies import NodeBoot, PeerSize, PeerSuspect, Span
from konsil.trust.audit import verify_home, verify_homes

pytestmark = pytest.mark.slow


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


def keep_back(net, name):
    """From now on `name` shows the hashes of the log of `a` and none of its bodies."""
    mirroring, node = net.daemons[name].mirroring, net.members["a"].node
    honest = mirroring._answer

    def withhold(question, asker):
        told = honest(question, asker)
        if isinstance(told, mirror.Page) and question.node == node:
            leaves = [leaf for _, leaf in mirror.read_page(told.frames, told.first)]
            frames = mirror.page(Leaf(None, leaf.leaf) for leaf in leaves)
            return msgspec.structs.replace(told, frames=frames)
        return told

    mirroring._answer = withhold


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


async def test_what_one_neighbour_keeps_back_another_shows(tmp_path, nursery):
    net = await lived_on(tmp_path, nursery, tmp_path / "backup")
    published = net.bodies("a", ArtifactPublish)
    keep_back(net, "b")
    await restored(net, tmp_path / "backup")
    assert net.bodies("a", ArtifactPublish) == published
    assert net.bodies("a", NodeBoot)[-1].lost == []
    nursery.cancel_scope.cancel()


async def test_no_number_is_given_out_twice_though_all_keep_back_what_had_it(tmp_path, nursery):
    net = await lived_on(tmp_path, nursery, tmp_path / "backup")
    published = net.bodies("a", ArtifactPublish)
    for name in "bc":
        keep_back(net, name)
    await restored(net, tmp_path / "backup")
    known = len(net.bodies("a", ArtifactPublish))
    assert known == len(published) - 2
    assert net.bodies("a", NodeBoot)[-1].lost
    given = await trio.to_thread.run_sync(ask, tmp_path / "a", "publish")
    assert given["sequence"] > published[-1].sequence
    await mirrored(net, "a", "b", "c")
    # The number that follows is remembered, and so is what came before it.
    await net.kill("a")
    await net.start("a")
    again = await trio.to_thread.run_sync(ask, tmp_path / "a", "publish")
    assert again["sequence"] == given["sequence"] + 1
    for name in "abc":
        await net.kill(name)
    report = verify_homes([tmp_path / name for name in "abc"])
    assert [found for found in report.findings if found.exit_code == 3] == []
    assert "publish.sequence" not in {found.code for found in report.findings}
    nursery.cancel_scope.cancel()


async def asked(net, name, verb):
    return await trio.to_thread.run_sync(ask, net.root / name, verb)


def append_unsigned(net, name):
    """An entry that no checkpoint covers, as a stop leaves it."""
    home = Home(net.root / name)
    journal = open_journal(home, read_config(home.config), load_keys(home.keys), LOG)
    journal.append([PeerSuspect(node=net.members["b"].node, kind="consistency", evidence=None)])
    journal.close(sign=False)


async def test_a_node_that_stops_before_anybody_vouched_signs_nothing(tmp_path, nursery):
    """It may be an old copy: then its entries would be signed for twice."""
    net = Network(tmp_path, nursery, "abc", rounds=1, vouch_wait_s=600.0)
    await net.start()
    await net.until(net.idle)
    for name in "abc":
        await net.kill(name)
    append_unsigned(net, "a")
    note = (tmp_path / "a" / "ledger" / "checkpoint").read_bytes()

    async def start():
        with pytest.raises(BaseExceptionGroup):  # it ends before it has started
            await net.start("a")

    nursery.start_soon(start)
    await net.until(lambda: (tmp_path / "a" / "control.sock").exists())
    status = await asked(net, "a", "status")
    assert status["phase"] == "vouching"
    assert status["waiting"]["for"] == ["b", "c"]
    assert status["waiting"]["why"].startswith("nobody is linked; ")
    assert "firewall" in status["waiting"]["check"]
    assert await asked(net, "a", "stop") == {"stopping": True}
    await net.stopped["a"].wait()
    assert (tmp_path / "a" / "ledger" / "checkpoint").read_bytes() == note
    nursery.cancel_scope.cancel()


async def test_peers_that_know_nothing_do_not_vouch(tmp_path, nursery):
    """Their disks are new too: only who knows what was cosigned can tell that this is all."""
    net = Network(tmp_path, nursery, "abc", rounds=1, vouch_wait_s=600.0)
    await net.start()
    await net.until(net.idle)
    await mirrored(net, "a", "b", "c")
    await net.until(lambda: net.daemons["a"]._journal.cosigned_size == signed(net, "a").size)
    for name in "abc":
        await net.kill(name)
    for name in "bc":
        shutil.copytree(tmp_path / name / "peers", tmp_path / f"{name}.peers")
        shutil.rmtree(tmp_path / name / "peers")
        config = tmp_path / name / "node.toml"
        config.write_text(config.read_text().replace("600.0", "0.2"))
    await net.start("b", "c")
    nursery.start_soon(net.start, "a")
    await net.until(lambda: len(net.daemons["b"]._transport.connected()) == 2)
    seen = [await asked(net, "a", "status") for _ in range(3)]
    assert {one["phase"] for one in seen} == {"vouching"}
    assert not net.daemons["a"].vouched
    # One of them gets back what it knew, and vouches.
    await net.kill("b")
    shutil.rmtree(tmp_path / "b" / "peers")
    shutil.copytree(tmp_path / "b.peers", tmp_path / "b" / "peers")
    await net.start("b")
    await net.until(lambda: net.daemons["a"].vouched)
    await net.until(lambda: net.bodies("a", NodeBoot)[1:])
    boot = net.bodies("a", NodeBoot)[-1]
    assert {one.node: one.size for one in boot.peers}[net.members["b"].node] == boot.size
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


async def test_more_spans_than_one_entry_has_room_for_are_told_in_several(
    tmp_path, nursery, monkeypatch
):
    monkeypatch.setattr(daemon_module, "SPANS", 1)
    net = Network(tmp_path, nursery, "abc", rounds=3, vouch_wait_s=30.0)
    shutil.copytree(tmp_path / "a", tmp_path / "backup")
    await net.start()
    await net.until(net.idle)
    await mirrored(net, "a", "b", "c")
    before = signed(net, "a").size
    await restored(net, tmp_path / "backup")
    boots = [body for body in net.bodies("a", NodeBoot) if body.size >= before]
    assert len(boots) > 1
    assert [body.size for body in boots] == [*range(before, before + len(boots))]
    assert {len(body.lost) for body in boots} == {1}
    await net.kill("a")
    found = verify_home(tmp_path / "a").findings
    assert not {one.code for one in found} & {"boot.state", "entry.pruned"}
    nursery.cancel_scope.cancel()


def test_one_entry_has_room_for_as_many_spans_as_it_is_given():
    last = 2**63 - 1
    spans = [
        Span(first=last - 2 * SPANS + 2 * n, last=last - 2 * SPANS + 2 * n) for n in range(SPANS)
    ]
    peers = [PeerSize(node="a" * 32, size=last)] * 256
    body = NodeBoot(software=bytes(32), size=last, root=bytes(32), peers=peers, lost=spans)
    entry = entries.entry(body, index=last, time_ms=last, salt=bytes(16), charter=bytes(32))
    assert entries.decode(entries.encode(entry)).b == body


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
