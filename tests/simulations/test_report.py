"""The page of a run: complete, self-contained, escaped, and the same colours everywhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest

from konsil.simulations import report
from konsil.simulations.facts import LedgerFacts


class _Page(HTMLParser):
    """Collects tags, links and whether every element is closed."""

    void = frozenset({"meta", "br", "img", "link", "input", "hr", "wbr"})

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.loads, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "action")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parse(page: str) -> _Page:
    parser = _Page()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_is_whole_and_loads_nothing(run):
    page = report.render(run)
    parsed = parse(page)
    assert parsed.loads == []
    assert not {"script", "iframe", "object", "link", "img"} & set(parsed.tags)
    assert "url(" not in page
    assert "@import" not in page
    assert parsed.tags.count("svg") == 8
    text = " ".join("".join(parsed.text).split())
    for words in ("Four hospitals learned together", "one that lied", "0.975", "5 of 5", "AUC"):
        assert words in text
    for hospital in run.hospitals:
        assert hospital.name in text


def test_no_number_is_missing_in_the_drawings(run):
    for drawn in re.findall(r"<svg.*?</svg>", report.render(run), re.S):
        assert not re.search(r"\bnan\b|\bNone\b|\binf\b", drawn)


def test_text_from_outside_is_escaped(run):
    evil = "<script>alert(1)</script>"
    run = msgspec.structs.replace(run, failures=(evil,), task=evil, out=evil)
    page = report.render(run)
    assert evil not in page
    assert "&lt;script&gt;" in page


def test_a_hospital_has_one_colour_and_byzantine_is_bad(run):
    css = report.colours(run)
    assert [css[h.name] for h in run.hospitals if h.byzantine] == ["bad"]
    assert sorted(css.values()) == ["bad", "h0", "h1", "h2", "h3"]


def test_a_run_that_failed_early_still_has_a_page(making):
    run = making(
        judgements=(), curves=(), lineage=None, metric_pooled=None, artifacts={}, metric="",
        failures=("oakwood: the task raised",),
    )  # fmt: skip
    run = msgspec.structs.replace(
        run,
        hospitals=tuple(
            msgspec.structs.replace(
                h, n_train=None, metric_local=None, metric_network=None,
                weight_received_by_honest=None,
            )
            for h in run.hospitals
        ),
    )  # fmt: skip
    page = report.render(run)
    parse(page)
    assert "oakwood: the task raised" in page


def test_a_broken_ledger_is_told(run):
    broken = LedgerFacts(
        name=run.hospitals[0].name, entries=3, root="00" * 32, verified=False, findings=("A3 …",)
    )
    page = report.render(msgspec.structs.replace(run, ledgers=(broken, *run.ledgers[1:])))
    assert "does not verify" in page
    assert "A3 …" in page
    assert "4 of 5" in page


@pytest.mark.parametrize(("honest", "byzantine"), [(1, 1), (4, 0), (14, 3)])
def test_any_size_of_consortium_has_a_page(honest, byzantine, making):
    parse(report.render(making(honest, byzantine, rounds=3)))


def test_means_leave_out_byzantine_and_killed(making):
    run = making()
    names = [h.name for h in run.hospitals if not h.byzantine]
    run = msgspec.structs.replace(run, killed={names[0]: 4})
    assert [h.name for h in run.counted()] == names[1:]
    data = run.as_json()
    locals_ = [h.metric_local for h in run.hospitals if h.name in names[1:]]
    assert data["metric_local_mean"] == pytest.approx(sum(locals_) / 3)


def test_the_json_has_exactly_the_fields_of_the_contract(run):
    data = run.as_json()
    assert list(data) == [
        "hospitals", "metric", "metric_local_mean", "metric_network_mean", "metric_network_worst",
        "metric_pooled", "artifacts", "bytes_on_wire", "wall_s", "ledgers", "report", "out",
    ]  # fmt: skip
    assert list(data["hospitals"][0]) == [
        "name", "node_id", "byzantine", "n_train", "metric_local", "metric_network",
        "weight_received_by_honest",
    ]  # fmt: skip
    assert list(data["ledgers"][0]) == ["name", "entries", "verified"]


@pytest.mark.parametrize(
    ("count", "words"), [(7, "7 B"), (1500, "1.5 kB"), (2_000_000, "2.0 MB"), (3e9, "3.0 GB")]
)
def test_bytes_in_words(count, words):
    assert report.bytes_text(count) == words


def test_values_in_words():
    assert report.metric_text(None) == report.percent_text(None) == report.signed_text(None) == "–"
    assert report.signed_text(-0.0123) == "−0.012"
    assert report.signed_text(0.0123) == "+0.012"


def test_falls_of_trust_have_their_reason_and_help_is_told_apart(run):
    page = report.render(run)
    liar = next(h.name for h in run.hospitals if h.byzantine)
    falls = re.findall(r"<li>([^<]*a step towards it raises the private loss)</li>", page)
    assert 1 <= len(falls) <= 8
    assert all(line.startswith(f"{liar} at ") for line in falls)
    assert f"{liar} 0 %" in page
    assert len(re.findall(r"</span>[\w-]+ 100 %</li>", page)) == 4
    silent = msgspec.structs.replace(run, judgements=())
    assert "Where trust fell" not in report.render(silent)
