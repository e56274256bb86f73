"""A demo ends when only one hospital is left: it would wait for company that never comes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from konsil.simulations.consortium import Sight
from konsil.simulations.demo import watch
from konsil.simulations.plan import Kill


class Running:
    """Daemons whose sights are a script; one look after the other."""

    def __init__(self, *looks):
        self.looks = iter(looks)
        self.plan = SimpleNamespace(limit_s=1e9)
        self.killed = {}
        self.daemons = {
            name: SimpleNamespace(killed_at=None, sight=None, hospital=SimpleNamespace(name=name))
            for name in "ab"
        }

    def look(self):
        sights = dict(zip("ab", next(self.looks), strict=True))
        for name, sight in sights.items():
            self.daemons[name].sight = sight
        return sights

    def kill(self, name):
        self.daemons[name].killed_at = 2


def sight(phase, number):
    return Sight(phase=phase, round=number)


PROGRESS = SimpleNamespace(show=lambda *_: None, say=lambda *_: None)
GONE = sight("ended", 2)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr("konsil.simulations.demo.LOOK_EVERY_S", 0.0)


def test_the_last_one_left_is_not_waited_for():
    consortium = Running(
        (sight("training", 2), sight("training", 2)),
        (sight("waiting", 3), GONE),
        (sight("connecting", 3), GONE),
    )
    assert watch(consortium, Kill(name="b", round=2), PROGRESS) is None
    assert list(consortium.looks) == []


def test_two_that_look_for_each_other_at_the_start_are():
    consortium = Running(
        (sight("connecting", 0), sight("connecting", 0)),
        (sight("connecting", 0), sight("idle", 3)),
        (sight("idle", 3), sight("idle", 3)),
    )
    assert watch(consortium, None, PROGRESS) is None
    assert list(consortium.looks) == []
