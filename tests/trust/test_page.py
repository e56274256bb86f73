"""The printable report: whole, self-contained, and nothing from a ledger becomes markup."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ledgers import audit_of, consortium, tail_of, two
from trusting import refuse

from konsil.protocol.errors import IncompleteError
from konsil.trust import page_figures
from konsil.trust.audit import verify_homes
from konsil.trust.lineage_chart import lay_out
from konsil.trust.page import render
from konsil.trust.questions.dossier import dossier
from konsil.trust.report import Finding, Report

VOID = {"meta", "br", "link", "img", "hr", "wbr"}


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    root = tmp_path_factory.mktemp("learned")
    return [one.home for one in consortium(root, "bern", "graz", "ulm", rounds=3)]


def page_of(homes, *, report=None, shown=None, **options):
    report = report or verify_homes(homes, **options)
    facts = dossier(homes, report)
    return render(facts, shown or homes, now_ms=1_760_000_000_000, version="0.1.0")


class Balance(HTMLParser):
    """Every element that is opened is closed, in order."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.seen = [], set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.seen += [value for name, value in attrs if name in ("href", "src", "xlink:href")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(page):
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    return parser


def test_a_page_is_whole_and_loads_nothing(learned):
    page = page_of(learned, replay=True)
    found = parsed(page)
    assert not {"script", "link", "img", "iframe", "object"} & found.tags
    assert found.seen == []
    assert not re.search(r"@import|url\(", page)
    assert set(re.findall(r"https?://[^\"' <]+", page)) <= {"http://www.w3.org/2000/svg"}
    for word in ("Verified", "3 of 3", "9 mixes", "Trust over time", "Privacy budget", "Check it"):
        assert word in page
    assert page.count("<svg") == 3 + 2 + 2
    assert "@media print" in page
    assert "@page" in page
    assert "{{" not in page


def test_the_same_facts_give_the_same_page(learned):
    assert page_of(learned) == page_of(learned)


def test_a_home_that_does_not_verify_tells_nothing(learned, tmp_path):
    homes = [tmp_path / home.name for home in learned]
    for home, copy in zip(learned, homes, strict=True):
        shutil.copytree(home, copy)
    tail = tail_of(homes[1])
    data = bytearray(tail.read_bytes())
    data[900] ^= 1
    tail.write_bytes(data)
    page = page_of(homes)
    parsed(page)
    assert "Does not verify" in page
    assert "tells nothing below" in page
    assert "tail.corrupt" in page
    assert "A frame does not match its leaf hash" in page
    assert "Incomplete: " in page


def test_homes_of_which_none_verifies(learned, tmp_path):
    home = tmp_path / "bern"
    shutil.copytree(learned[0], home)
    tail_of(home).write_bytes(b"\x00\x01nonsense")
    page = page_of([home])
    parsed(page)
    assert "No ledger that verifies names a model" in page
    assert "Nobody judged anybody" in page


def test_names_of_hostile_files_become_text(learned):
    hostile = "<script>alert(1)</script>\n\x1b[2J\udcff"
    report = verify_homes(learned)
    finding = Finding(code="layout.stray", ledger=hostile, file=hostile, message=hostile)
    many = Report(ledgers=report.ledgers, findings=(finding,) * 100)
    page = page_of(learned, report=many, shown=[Path(hostile)])
    assert "script" not in parsed(page).tags
    assert "and 60 more" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_model_that_is_not_there(learned):
    report = verify_homes(learned)
    with pytest.raises(IncompleteError):
        dossier(learned, report, model="ff" * 32)


def test_of_a_long_history_the_newest_rounds_are_drawn(learned):
    facts = dossier(learned, verify_homes(learned))
    whole, part = (lay_out(facts.lineage, facts.shown, rounds=n) for n in (None, 1))
    assert whole.left_out == 0
    assert part.first == 2.0
    assert len(part.steps) + part.left_out == len(whole.steps)
    keys = {step.key for step in part.steps}
    assert all({flow.source, flow.target} <= keys for flow in part.flows)
    assert all(step.at >= part.first for step in part.steps)


def test_a_crowd_is_drawn_by_its_means(learned, monkeypatch):
    facts = dossier(learned, verify_homes(learned))
    css = page_figures.colours(facts)
    full = page_figures.trust_figures(facts, css)["wide"]
    monkeypatch.setattr(page_figures, "POINTS_DRAWN", 1)
    monkeypatch.setattr(page_figures, "LABELLED", 1)
    few = page_figures.trust_figures(facts, css)["wide"]
    assert full.count("<path") > few.count("<path") >= 3
    assert 'class="label' not in few


def test_a_ledger_that_lacks_a_blob_is_not_said_to_be_false(learned, tmp_path):
    home = tmp_path / "bern"
    shutil.copytree(learned[0], home)
    next(path for path in (home / "ledger/blobs").rglob("*") if path.is_file()).unlink()
    page = page_of([home])
    assert '<span class="quiet">verified as far as it goes</span>' in page
    assert "not verify" not in page


def test_every_fall_of_trust_is_told_with_its_reason_and_contribution_apart(tmp_path):
    bern, graz = two(tmp_path)
    for one in (bern, graz):
        one.train()
    sent = graz.publish()
    bern.receive(sent, graz.author)
    bern.mix([sent])
    refuse(bern, sent)
    audit_of(bern, graz)
    page = page_of([bern.home, graz.home])
    assert "graz at bern, round 1: 0." in page
    assert page.count("refused at payload for not_finite") >= 2, "in the list and at the dot"
    assert ">helped</th>" in page
    assert "<td>100 %</td>" in page
