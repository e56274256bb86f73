"""Opinions of three hospitals: told with artifacts, heard in base rates, computed again."""

from __future__ import annotations

import pytest
from network import Network
from scripted import ScriptedTrainer

from konsil.node import daemon as daemon_module
from konsil.trust import score
from konsil.trust.audit import verify_home
from konsil.trust.questions.gathering import gather
from konsil.trust.questions.peer_trust import trusts


@pytest.fixture(autouse=True)
def scripted(monkeypatch):
    monkeypatch.setattr(daemon_module, "Trainer", ScriptedTrainer)


async def test_what_others_say_moves_the_base_rate_and_an_auditor_finds_the_same(tmp_path, nursery):
    net = Network(tmp_path, nursery, "abc", rounds=5, patience_s=0.5, opinions=True)
    await net.start()
    await net.until(net.idle)
    for name in "abc":
        await net.kill(name)
        assert verify_home(tmp_path / name).findings == ()
    moved = 0
    for name in "abc":
        told = gather([tmp_path / name])
        for peer, found in trusts(told.homes[0]).items():
            assert found.faults == 0
            for word in found.words:
                assert (word.judgement.base_rate_e9 != score.NEUTRAL_E9) == bool(word.opinions)
                assert peer not in {one.by for one in word.opinions}
                moved += bool(word.opinions)
    assert moved
    nursery.cancel_scope.cancel()
