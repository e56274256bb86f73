"""The fence of time: no honest clock is wronged, and nobody is earlier or later than others saw."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import (
    Hospital,
    acquaint,
    adopt,
    audit_of,
    change_key,
    codes,
    prune,
    rules_of,
)
from vouched import cosign

from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.learning_bodies import ModelBase
from konsil.protocol.node_bodies import KeyRotate, PeerSuspect
from konsil.trust.audit import verify_home, verify_homes
from konsil.trust.fence import SKEW_MS, crossed, doubted, fence

NOW_S = 1_760_000_000
MINUTE = 60


def at(size):
    return Checkpoint(origin="alps/bern", size=size, root=bytes(32))


def named(seconds):
    return {f"alps/witness{number}": time for number, time in enumerate(seconds)}


def broken(found, times):
    """The indices of the entries that contradict a fence."""
    return [index for index, time in enumerate(times) if crossed(found, index, time)]


@given(st.data())
def test_no_honest_log_is_wronged_by_clocks_that_differ_and_a_few_that_lie(data):
    """True times rise; each clock is off by at most half of what clocks may differ."""
    off = st.integers(-SKEW_MS // 2 + 1_000, SKEW_MS // 2 - 1_000)
    steps = data.draw(st.lists(st.integers(0, 9 * SKEW_MS), min_size=1, max_size=12))
    true = [NOW_S * 1_000 + sum(steps[: n + 1]) for n in range(len(steps))]
    size = data.draw(st.integers(0, len(true)))
    before = true[size - 1] if size else true[0]
    after = true[size] if size < len(true) else true[-1] + 9 * SKEW_MS
    between = st.integers(min(before, after), after)
    honest = data.draw(st.lists(st.tuples(between, off), max_size=5))
    lies = data.draw(st.lists(st.integers(0, 2**62), max_size=3))
    said = named([*((time + wrong) // 1_000 for time, wrong in honest), *lies])
    found = fence(at(size), said, liars=len(lies))
    own = data.draw(off)
    assert found is None or broken(found, [time + own for time in true]) == []


@given(
    st.lists(st.integers(0, 3), max_size=9).map(sorted),
    st.integers(0, 9),
    st.lists(st.integers(0, 3), min_size=1, max_size=5),
    st.data(),
)
def test_the_two_entries_next_to_it_answer_for_all(hours, size, seen, data):
    """Times of a log do not fall: if any entry is wrong, the nearest on its side is."""
    liars = data.draw(st.integers(0, len(seen) - 1))
    found = fence(at(size), named([hour * 3_600 for hour in seen]), liars=liars)
    wrong = broken(found, [hour * 3_600_000 for hour in hours])
    if any(index < size for index in wrong):
        assert min(size, len(hours)) - 1 in wrong
    if any(index >= size for index in wrong):
        assert size in wrong


@given(st.integers(1, 5), st.integers(0, 4), st.integers(1, 10**9))
def test_what_more_than_the_liars_saw_is_believed_to_the_millisecond(witnesses, liars, beyond):
    found = fence(at(7), named([NOW_S] * witnesses), liars=liars)
    if witnesses <= liars:
        assert found is None
        return
    now = NOW_S * 1_000
    assert crossed(found, 6, now + SKEW_MS) == crossed(found, 7, now - SKEW_MS) == ""
    assert "after alps/witness" in crossed(found, 6, now + SKEW_MS + beyond)
    assert "before alps/witness" in crossed(found, 7, now - SKEW_MS - beyond)
    assert crossed(found, 7, now + SKEW_MS + beyond) == ""
    assert crossed(found, 6, now - SKEW_MS - beyond) == ""


def test_nobody_is_no_fence():
    assert fence(at(3), {}) is None


@given(st.integers(0, 99), st.integers(0, 30))
def test_one_clock_or_half_of_them_say_nothing_against_a_log(witnesses, liars):
    odd = doubted(witnesses, liars)
    assert odd >= max(1, liars)
    assert odd == max(1, liars) or 2 * odd < witnesses, "and never more than need be"
    assert fence(at(3), named([NOW_S] * min(witnesses, odd)), liars=odd) is None
    assert witnesses <= max(2 * liars, 2) or witnesses > odd


# --- in a ledger -------------------------------------------------------------------------------


@pytest.fixture
def met(tmp_path):
    """Bern, who writes, and two who know it; the clock of bern stands at `NOW_S`."""
    hospitals = [Hospital(tmp_path, name) for name in ("bern", "graz", "ulm")]
    acquaint(*hospitals)
    return hospitals


def grow(hospital, count=1):
    base = ModelBase(model=hospital.model, source="", licence="", note="")
    hospital.journal.append([base] * count)


def later(hospital, seconds):
    hospital.clock.now += seconds * 1_000
    grow(hospital)


@pytest.mark.parametrize("before", [2, 256, 300])
def test_entries_around_an_honest_cosignature_are_no_finding(met, before):
    bern, graz, ulm = met
    grow(bern, before - bern.journal.size)
    cosign(bern, {graz: NOW_S + 4, ulm: NOW_S - 4})
    later(bern, 1)
    grow(bern, 300)
    assert audit_of(bern).findings == ()


@pytest.mark.parametrize("before", [2, 256, 300])
@pytest.mark.parametrize(("wrong", "nearest"), [(-11 * MINUTE, -1), (11 * MINUTE, 0)])
def test_the_entry_next_to_the_fence_is_named(met, before, wrong, nearest):
    bern, graz, ulm = met
    grow(bern, before - bern.journal.size)
    cosign(bern, {graz: NOW_S + wrong, ulm: NOW_S + wrong})
    grow(bern, 30)
    found = audit_of(bern)
    (finding,) = found.findings
    assert (finding.code, finding.index) == ("cosigned.time", before + nearest)
    assert found.exit_code() == 1
    assert any(one.author.origin in finding.message for one in (graz, ulm))
    assert finding.evidence.endswith("ledger/cosigned")
    other = verify_home(bern.home)
    assert other.findings == found.findings


def test_the_nearest_body_that_is_there_answers_for_those_that_are_gone(met):
    bern, graz, ulm = met
    grow(bern)
    suspicion = PeerSuspect(node="b" * 32, kind="consistency", evidence=None)
    bern.journal.append([suspicion] * 3)
    cosign(bern, dict.fromkeys((graz, ulm), NOW_S - 11 * MINUTE))
    size = bern.journal.size
    bern.close()
    prune(bern.home, *range(size - 3, size))
    found = verify_home(bern.home)
    assert codes(found) == {"entry.pruned", "cosigned.time"}
    assert [one.index for one in found.findings if one.code == "cosigned.time"] == [size - 4]


def test_a_log_cannot_be_its_own_witness(met):
    bern, graz, _ = met
    cosign(bern, {bern: NOW_S - 99 * MINUTE, graz: NOW_S})
    assert audit_of(bern).findings == ()


def test_a_witness_that_the_charter_reckons_may_lie_wrongs_nobody(met):
    bern, graz, ulm = met
    rules = rules_of(*met)
    thresholds = type(rules.thresholds)(charter=3, member=3, cosign=1, faults=1)
    adopt(bern, rules_of(*met, thresholds=thresholds), *met)
    cosign(bern, {graz: NOW_S - 99 * MINUTE, ulm: NOW_S})
    assert audit_of(bern).findings == ()
    bern.reopen()
    cosign(bern, {graz: NOW_S - 99 * MINUTE, ulm: NOW_S - 98 * MINUTE})
    assert codes(audit_of(bern)) == {"cosigned.time"}


def test_a_witness_whose_key_changed_is_known_by_any_key_that_it_had(met):
    bern, graz, ulm = met
    cosign(bern, {ulm: NOW_S})
    change_key(ulm, KeyRotate, "wit")
    assert codes(audit_of(bern, ulm)) == set()
    bern.reopen()
    cosign(bern, {ulm: NOW_S, graz: NOW_S})
    assert codes(audit_of(bern, ulm)) == set()
    assert codes(verify_home(bern.home)) == {"cosigned.unknown"}


def test_an_older_copy_of_a_home_says_when_its_entries_ended(met, tmp_path):
    """The newest cosignature is above the entry that was dated back; the backup's is below."""
    bern, graz, ulm = met
    cosign(bern, dict.fromkeys((graz, ulm), NOW_S + 3_600))
    bern.close()
    backup = tmp_path / "backup"
    shutil.copytree(bern.home, backup)
    bern.reopen()
    size = bern.journal.size
    grow(bern)
    cosign(bern, dict.fromkeys((graz, ulm), NOW_S + 3_700))
    bern.close()
    assert verify_home(bern.home).findings == ()
    for order in ([bern.home, backup], [backup, bern.home]):
        found = verify_homes(order)
        (finding,) = found.findings
        assert (finding.code, finding.ledger, finding.index) == ("cosigned.time", "bern", size)
    twin = tmp_path / "twin"
    shutil.copytree(backup, twin)
    assert verify_homes([backup, twin]).findings == ()
