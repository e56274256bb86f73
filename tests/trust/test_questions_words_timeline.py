"""How answers say things, and the listing of entries in order."""

from __future__ import annotations

import json

import pytest
from bodies import BODIES
from ledgers import consortium

from konsil.protocol.entries import TYPES, type_of
from konsil.protocol.errors import UsageError
from konsil.protocol.learning_bodies import ModelBase
from konsil.trust.meanings import GROUPS, MEANINGS, meaning
from konsil.trust.questions import timeline_views as views
from konsil.trust.questions.gathering import gather, hex_start
from konsil.trust.questions.timeline import Bound, bound, known_type, timeline
from konsil.trust.questions.words import describe, plain, when
from konsil.trust.remedies import REMEDIES, remedy
from konsil.trust.report import CODES


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    root = tmp_path_factory.mktemp("learned")
    return gather([one.home for one in consortium(root, "bern", "graz", rounds=2)])


def listed(told, **wanted):
    return timeline(told, **{"start": Bound(), "end": Bound(), **wanted})


@pytest.mark.parametrize("body", BODIES, ids=type_of)
def test_every_type_of_entry_has_a_line_and_data(body):
    line = describe(body, lambda node: node[:4])
    assert line.isprintable()
    assert line
    json.dumps(plain(body))


def test_words_of_others_cannot_end_a_line():
    body = ModelBase(model=bytes(32), source="a\nb\x1b[2J\u202e", licence="", note="")
    assert describe(body, str).isprintable()


def test_a_moment_beyond_every_calendar_is_a_number():
    assert when(2**63 - 1).endswith(" ms")
    assert when(0) == "1970-01-01 00:00:00Z"


def test_every_finding_code_means_something():
    for code in CODES:
        assert meaning(code)
        assert code in MEANINGS or code.partition(".")[0] in GROUPS, code
        assert meaning(code).endswith(f"; {remedy(code)}")
        assert len(remedy(code)) > 20


def test_no_remedy_is_for_a_code_that_there_is_not():
    assert set(REMEDIES) <= set(CODES)


def test_the_order_of_each_log_is_kept(told):
    events = listed(told)
    assert len(events) == sum(len(home.told.entries) for home in told.homes)
    for home in told.homes:
        mine = [event.entry.n for event in events if event.node == home.node]
        assert mine == sorted(mine)
    times = [event.entry.ts for event in events]
    assert times == sorted(times)


def test_bounds_types_and_members_narrow_it(told):
    middle = listed(told)[10].entry.ts
    moment = when(middle).replace(" ", "T")
    assert all(
        event.entry.ts >= middle // 1000 * 1000 for event in listed(told, start=bound(moment))
    )
    some = listed(told, start=bound("3"), end=bound("4"))
    assert [event.entry.n for event in some] == [3, 3, 4, 4]
    assert {event.entry.t for event in listed(told, kind="artifact")} == {
        "artifact.publish", "artifact.receive", "artifact.integrate",
    }  # fmt: skip
    assert {event.entry.t for event in listed(told, kind="trust.update")} == {"trust.update"}
    node = told.member("graz")
    assert {event.node for event in listed(told, node=node)} == {node}
    day = bound("2025-10-09", last=True).time_ms - bound("2025-10-09").time_ms
    assert day == 24 * 3600 * 1000 - 1


@pytest.mark.parametrize("word", ["yesterday", "2025-13-01", "-4", "1" * 30, "12:00", "a\nb", "٣"])
def test_what_is_no_bound_is_refused_in_one_line(word):
    with pytest.raises(UsageError) as refused:
        bound(word)
    assert refused.value.diagnostics().isprintable()


def test_types_are_a_closed_list():
    for word in ("", "model", *TYPES):
        assert known_type(word) == word
    for word in ("mod", "model.", "trust.updat"):
        with pytest.raises(UsageError, match="no type"):
            known_type(word)


def test_views(told):
    events = listed(told)
    lines = views.to_lines(told, events)
    assert len(lines) == len(events)
    assert "the log of bern in alps begins" in lines[0]
    data = views.to_data(told, events)
    assert data["count"] == len(events)
    assert json.loads(json.dumps(data)) == data


def test_digests_are_hexadecimal():
    assert hex_start("AB12") == "ab12"
    for word in ("", "xyz", "a" * 65, "ab cd"):
        with pytest.raises(UsageError, match="no digest"):
            hex_start(word)
