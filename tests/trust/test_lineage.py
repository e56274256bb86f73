"""Lineage: exact shares, complete lists, honest gaps; and its four views."""

from __future__ import annotations

import json
import os
import shutil
from fractions import Fraction
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import Hospital, audit_of, consortium, payload, tail_of, two

from konsil.protocol.digest import sha256
from konsil.protocol.errors import IncompleteError, UsageError, VerificationError
from konsil.protocol.fields import UNIT_E9
from konsil.trust import lineage_views as views
from konsil.trust.exact import decimal
from konsil.trust.lineage import Lineage, read_lineage
from konsil.trust.steps import Source, Step

E9 = UNIT_E9


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory):
    return consortium(tmp_path_factory.mktemp("learned"), "bern", "graz", "ulm", rounds=3)


@pytest.fixture(scope="module")
def told(hospitals):
    return read_lineage([one.home for one in hospitals])


def name(word):
    return sha256(word.encode())


def step(out, kind="train", node="a", *sources, index=0, time_ms=0):
    found = tuple(Source(name(model), by, w_e9) for model, by, w_e9 in sources)
    return Step(
        out=name(out), kind=kind, node=node, index=index, time_ms=time_ms, round=1, sources=found
    )


def lineage_of(*steps, names=None):
    return Lineage({item.out: item for item in steps}, names or {})


def shares(found):
    return {item.node: item.share_e9 for item in found.contributors}


def exact(item):
    """A contributor's coefficient as a fraction."""
    number, depth = item.exact
    return Fraction(number, 10 ** (9 * depth))


# --- real ledgers ----------------------------------------------------------------------------


def test_the_current_model_of_the_first_home_has_every_hospital_in_it(hospitals, told):
    newest = told.current()
    assert newest == hospitals[0].model
    assert told.current_of(newest) == ["bern"]
    assert told.currents == {one.node: one.model for one in hospitals}
    other = read_lineage([one.home for one in reversed(hospitals)])
    assert other.current() == hospitals[2].model
    found = told.contributors(newest)
    assert {item.name for item in found.contributors} == {"bern", "graz", "ulm"}
    assert sum(item.share_e9 for item in found.contributors) == E9
    assert all(item.steps == 3 for item in found.contributors)
    assert (found.complete, found.linear, found.depth) == (True, True, 3)
    (root,) = found.roots
    assert (root.kind, root.note) == ("base", "seed")


def test_coefficients_equal_those_of_a_second_reckoning_with_fractions(hospitals, told):
    """The forward recursion: contributions of a model from those of its sources."""
    for one in hospitals:
        known: dict[bytes, dict[str, Fraction]] = {}
        for item in told.ordered(one.model):
            total: dict[str, Fraction] = {}
            for source in item.sources:
                for node, amount in known[source.model].items():
                    total[node] = total.get(node, Fraction()) + amount * Fraction(source.w_e9, E9)
            if item.kind == "train":
                total[item.node] = total.get(item.node, Fraction()) + 1
            known[item.out] = total
        found = told.contributors(one.model)
        sums = {item.node: exact(item) for item in found.contributors}
        assert sums == known[one.model]
        whole = sum(sums.values())
        for item in found.contributors:
            assert abs(item.share_e9 - sums[item.node] / whole * E9) < 1
            assert abs(Fraction(item.coefficient) - sums[item.node]) <= Fraction(1, 2 * 10**18)
            assert item.rounded is (Fraction(item.coefficient) != sums[item.node])


def test_one_home_alone_names_its_gaps(hospitals):
    told = read_lineage([hospitals[0].home])
    found = told.contributors(hospitals[0].model)
    assert not found.complete
    assert found.linear
    gaps = [root for root in found.roots if root.kind == "unknown"]
    assert {told.name(root.node) for root in gaps} == {"graz", "ulm"}
    assert found.missing == tuple(gaps)
    assert sum(item.share_e9 for item in found.contributors) == E9
    assert {item.name for item in found.contributors} == {"bern", "graz", "ulm"}


def test_taint_finds_every_descendant(hospitals, told):
    base = told.contributors(told.current()).roots[0].out
    assert told.descendants(base) == set(told.steps) - {base}
    assert told.descendants(hospitals[0].model) == set()
    assert told.ancestors(base) == set()
    assert told.descendants(b"unknown") == told.ancestors(b"unknown") == set()


def test_a_model_is_found_by_the_start_of_its_digest(told):
    newest = told.current()
    assert told.find(newest.hex()[:10].upper()) == newest
    assert told.find(newest.hex()) == newest
    with pytest.raises(IncompleteError, match="no entry makes"):
        told.find("zz")
    with pytest.raises(UsageError, match="models begin with"):
        told.find("")


def test_a_ledger_that_does_not_verify_tells_nothing(hospitals, tmp_path):
    home = tmp_path / "bern"
    shutil.copytree(hospitals[0].home, home)
    tail = tail_of(home)
    data = bytearray(tail.read_bytes())
    data[100] ^= 1
    tail.write_bytes(data)
    with pytest.raises(VerificationError, match=r"tail\.0"):
        read_lineage([home])


def test_a_ledger_without_models_has_no_newest(tmp_path):
    with pytest.raises(IncompleteError, match="no model"):
        Lineage({}, {}).current()
    with pytest.raises(IncompleteError, match="no model"):
        Lineage({}, {}, {"a": name("nowhere")}).current()
    bern = Hospital(tmp_path, "bern")
    bern.close()
    told = read_lineage([bern.home])
    found = told.contributors(told.current())
    assert (found.contributors, found.depth, found.complete) == ((), 0, True)


def test_what_left_transformed_counts_as_the_training_behind_it_and_not_twice(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    sent = bern.publish(payload(bern.values + 5))
    graz.train()
    graz.receive(sent, bern.author)
    graz.mix([sent])
    audit_of(bern, graz)
    told = read_lineage([bern.home, graz.home])
    assert told.steps[sent.art].kind == "release"
    found = told.contributors(graz.model)
    assert found.complete
    assert {item.name: (item.coefficient, item.steps) for item in found.contributors} == {
        "bern": ("0.5", 1),
        "graz": ("0.5", 1),
    }


# --- made-up graphs ---------------------------------------------------------------------------


def test_weights_multiply_along_paths():
    told = lineage_of(
        step("base", "base", "a"),
        step("a1", "train", "a", ("base", "a", E9)),
        step("b1", "train", "b", ("base", "b", E9)),
        step("m1", "mix", "a", ("a1", "a", E9 * 3 // 4), ("b1", "b", E9 // 4)),
        step("a2", "train", "a", ("m1", "a", E9)),
        step("m2", "mix", "a", ("a2", "a", E9 // 2), ("b1", "b", E9 // 2), ("x", "c", 0)),
        names={"a": "bern"},
    )
    found = told.contributors(name("m2"))
    assert {item.node: item.coefficient for item in found.contributors} == {
        "a": "0.875",
        "b": "0.625",
    }
    assert not any(item.rounded for item in found.contributors)
    assert shares(found) == {"a": 583_333_333, "b": 416_666_667}
    assert told.name("a") == "bern"
    assert told.name("bbbbbbbbbbbb") == "bbbbbbbb…"


def test_a_step_that_is_not_linear_gets_no_number():
    told = lineage_of(
        step("base", "base", "a"),
        step("a1", "train", "a", ("base", "a", E9)),
        step("labels", "release", "b", ("a1", "b", None), ("base", "b", None)),
        step("m", "mix", "a", ("a1", "a", E9 // 2), ("labels", "b", E9 // 2)),
    )
    found = told.contributors(name("m"))
    assert (found.linear, found.complete) == (False, False)
    assert found.missing == ()
    assert "not linear" in views.to_text(told, name("m"))
    assert "influence" in views.to_dot(told, name("m"))
    assert "svg" in views.to_svg(told, name("m"))


def test_no_model_is_its_own_ancestor():
    with pytest.raises(VerificationError):
        lineage_of(step("x", "train", "a", ("y", "a", E9)), step("y", "train", "a", ("x", "a", E9)))


def test_weights_that_do_not_sum_to_one_give_no_shares():
    told = lineage_of(
        step("base", "base"), step("m", "mix", "a", ("base", "a", E9 // 2), ("x", "b", 1))
    )
    with pytest.raises(VerificationError, match="sum to 1"):
        told.contributors(name("m"))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(2, 5), st.randoms(use_true_random=False))
def test_shares_always_sum_to_one_however_deep(rounds, count, draw):
    nodes = [f"n{at}" for at in range(count)]
    steps = [step("base", "base")]
    current = dict.fromkeys(nodes, "base")
    for number in range(rounds):
        for node in nodes:
            steps.append(step(f"{node} t{number}", "train", node, (current[node], node, E9)))
            current[node] = f"{node} t{number}"
        mixed = dict(current)
        for node in nodes:
            others = draw.sample([one for one in nodes if one != node], draw.randint(1, count - 1))
            cuts = [draw.randint(0, E9 // count) for _ in others]
            parts = [(current[node], node, E9 - sum(cuts))]
            parts += [(current[o], o, cut) for o, cut in zip(others, cuts, strict=True)]
            steps.append(step(f"{node} m{number}", "mix", node, *parts))
            mixed[node] = f"{node} m{number}"
        current = mixed
    found = lineage_of(*steps).contributors(name(current["n0"]))
    assert sum(item.share_e9 for item in found.contributors) == E9
    assert found.complete
    ranked = [exact(item) for item in found.contributors]
    assert ranked == sorted(ranked, reverse=True)
    assert sum(ranked) == rounds


@pytest.mark.parametrize(
    ("amount", "depth", "text"),
    [
        (0, 0, "0"),
        (7, 0, "7"),
        (5 * 10**8, 1, "0.5"),
        (10**9, 1, "1"),
        (1, 2, "0." + "0" * 17 + "1"),
    ],
)
def test_decimals_are_exact(amount, depth, text):
    assert decimal(amount, depth) == text


# --- views ------------------------------------------------------------------------------------


def test_text_names_the_mix_and_everybody_in_it(told):
    text = views.to_text(told, told.current())
    assert text.startswith(f"{told.current().hex()}  (the current model of bern)\n")
    assert "mixed by" in text
    assert "contributors over 3 mixes:" in text
    for word in ("bern", "graz", "ulm", "%"):
        assert word in text


def test_a_trained_model_is_told_without_parts(hospitals, told):
    trained = next(item for item in told.steps.values() if item.kind == "train")
    lines = views.to_text(told, trained.out).splitlines()
    assert lines[0] == trained.out.hex()
    assert "trained by" in lines[1]
    assert lines[2].startswith("contributors")


def test_data_is_plain_json_and_complete(told):
    data = json.loads(json.dumps(views.to_data(told, told.current(), steps=True)))
    assert data["complete"] is True
    assert sum(item["share_e9"] for item in data["contributors"]) == E9
    nodes = {item["model"] for item in data["graph"]["nodes"]}
    assert {edge["from"] for edge in data["graph"]["edges"]} <= nodes
    assert {edge["to"] for edge in data["graph"]["edges"]} <= nodes
    assert data["made"]["kind"] == "mix"
    assert sum(source["w_e9"] for source in data["made"]["sources"]) == E9


def test_gaps_are_one_line_of_text_and_listed_in_data(hospitals):
    told = read_lineage([hospitals[0].home])
    model = hospitals[0].model
    lines = views.to_text(told, model).splitlines()
    assert "contributors over 3 mixes, incomplete:" in lines
    assert lines[-1] == (
        "6 ancestors have no given ledger that says how they were made"
        " (name those homes too: graz, ulm)"
    )
    gaps = views.to_data(told, model)["gaps"]
    assert len(gaps) == 6
    assert {gap["name"] for gap in gaps} == {"graz", "ulm"}
    graz = next(gap for gap in gaps if gap["name"] == "graz")
    line = views.to_text(told, bytes.fromhex(graz["model"])).splitlines()[-1]
    assert line.startswith("1 ancestor has no given ledger")


def test_a_coefficient_is_short_however_many_mixes_made_it():
    """Exact, it has nine digits a mix; Python itself refuses to write more than 4,300."""
    steps, current = [step("base", "base"), step("x", "train", "b", ("base", "b", E9))], "base"
    for number in range(600):
        steps.append(step(f"t{number}", "train", "a", (current, "a", E9)))
        current = f"m{number}"
        steps.append(step(current, "mix", "a", (f"t{number}", "a", 7), ("x", "b", E9 - 7)))
    told = lineage_of(*steps)
    found = told.contributors(name(current))
    assert found.depth == 600
    assert {item.node: item.coefficient for item in found.contributors} == {
        "a": "0.000000007000000049",
        "b": "1",
    }
    assert all(item.rounded for item in found.contributors if item.node == "a")
    data = views.to_data(told, name(current))
    assert len(json.dumps(data["contributors"])) < 500


def test_words_of_others_stay_on_their_line():
    told = lineage_of(
        Step(
            out=name("m"), kind="base", node="a", index=0, time_ms=0, round=None, sources=(),
            note='seed\n\x1b[2J)\\"]; evil [label="',
        )
    )  # fmt: skip
    text = views.to_text(told, name("m"))
    assert [line.isprintable() for line in text.splitlines()] == [True] * 3
    dot = views.to_dot(told, name("m"))
    assert len(dot.splitlines()) == 5
    assert dot.count('"') == 4
    ElementTree.fromstring(views.to_svg(told, name("m")))


@pytest.mark.parametrize("source", ["evil\\", 'a"b', '\\"', "two\nlines", "\\n"])
def test_what_a_hospital_wrote_ends_no_label(source):
    told = lineage_of(msgspec.structs.replace(step("base", "base"), note=source))
    (label,) = [line for line in views.to_dot(told, name("base")).splitlines() if "label" in line]
    within = label.partition('label="')[2].removesuffix('"];')
    assert '"' not in within.replace('\\"', "")
    body = within.replace("\\\\", "")
    assert body.count("\\") == body.count("\\n") == 1, "the one line end is ours"


def test_dot_has_every_step_and_edge(told):
    model = told.current()
    dot = views.to_dot(told, model)
    order = told.ordered(model)
    assert dot.count("->") == sum(len(item.sources) for item in order)
    assert dot.count("[label=") == len(order) + dot.count("->")


def test_svg_is_well_formed_and_draws_every_step(told, monkeypatch):
    model = told.current()
    svg = views.to_svg(told, model)
    root = ElementTree.fromstring(svg)
    marks = [item for item in root.iter() if item.tag.rpartition("}")[2] in ("rect", "circle")]
    assert len(marks) == len(told.ordered(model))
    assert svg == views.to_svg(told, model)
    monkeypatch.setattr(views, "MAX_DRAWN", 5)
    assert "newest 5 of" in views.to_svg(told, model)


def test_names_cannot_break_out_of_a_drawing():
    told = lineage_of(
        step("base", "base"), step("m", "train", "a", ("base", "a", E9)), names={"a": '<script>"&'}
    )
    svg = views.to_svg(told, name("m"))
    ElementTree.fromstring(svg)
    assert "<script>" not in svg
    assert "&lt;script&gt;" in svg


def test_a_large_lineage_is_quick():
    """Five thousand models, twenty-five thousand edges: exact shares in well under a second."""
    import time

    nodes = [f"n{at}" for at in range(20)]
    steps, current = [step("base", "base")], dict.fromkeys(nodes, "base")
    for number in range(125):
        for node in nodes:
            steps.append(step(f"{node} t{number}", "train", node, (current[node], node, E9)))
            current[node] = f"{node} t{number}"
        mixed = {}
        for at, node in enumerate(nodes):
            parts = [
                (current[nodes[(at + k) % 20]], nodes[(at + k) % 20], E9 // 5) for k in range(5)
            ]
            steps.append(step(f"{node} m{number}", "mix", node, *parts))
            mixed[node] = f"{node} m{number}"
        current = mixed
    told = lineage_of(*steps)
    begun = time.process_time()
    found = told.contributors(name(current["n0"]))
    assert time.process_time() - begun < 2.0
    assert len(found.contributors) == 20
    assert found.depth == 125


def test_lineage_beside_a_node_that_replaces_its_tail(tmp_path, monkeypatch):
    bern = Hospital(tmp_path, "bern")
    for _ in range(140):
        bern.train()
        bern.publish()
    look = os.lstat

    def replaced(path):
        if str(path).endswith("tail.0"):
            bern.journal.sign_checkpoint()
        return look(path)

    monkeypatch.setattr(os, "lstat", replaced)
    assert read_lineage([bern.home]).current() == bern.model
    bern.close()
