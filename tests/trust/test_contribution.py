"""Contribution: what helped, counted apart from trust."""

from __future__ import annotations

import msgspec
import pytest
from ledgers import two

from konsil.trust.contribution import Contribution, contribution, helps
from konsil.trust.fixed import UNIT_E9


@pytest.fixture
def record(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    graz.train()
    sent = graz.publish()
    bern.receive(sent, graz.author)
    (one,) = bern.judge([sent])
    return one


def test_a_gain_counts_beyond_its_error_and_of_the_own_alone(record):
    changed = msgspec.structs.replace
    assert helps(changed(record, g_e9=3, error_e9=2))
    assert not helps(changed(record, g_e9=2, error_e9=2))
    assert not helps(changed(record, g_e9=-9, error_e9=2))
    assert not helps(changed(record, g_e9=UNIT_E9, error_e9=0, share_e9=0))


def test_copies_and_echoes_lower_the_share(record):
    changed = msgspec.structs.replace
    copies = [changed(record, share_e9=0, art=bytes([one]) * 32) for one in (1, 2)]
    found = contribution([record, *copies, changed(record, art=bytes(32))])
    assert (found, found.share_e9) == (Contribution(judged=4, helped=2), UNIT_E9 // 2)
    assert contribution([]).share_e9 is None


def test_what_is_mixed_again_was_given_once(record):
    assert contribution([record, record]) == Contribution(judged=1, helped=int(helps(record)))
