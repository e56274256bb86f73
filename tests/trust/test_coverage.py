"""Coverage: the union over a lineage, gaps, and unknown told apart from not looked at."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import Clock, Hospital

from konsil.protocol import knowledge_manifest
from konsil.protocol.artifact import ClassCoverage, Coverage
from konsil.protocol.digest import sha256
from konsil.protocol.fields import UNIT_E9
from konsil.protocol.knowledge_manifest import KnowledgeManifest, LabelKnowledge, LabelName
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.trust.coverage import Claimed, claim, claims, covered, gaps
from konsil.trust.lineage import Lineage, lineage_of
from konsil.trust.questions.gathering import gather
from konsil.trust.steps import Source, Step

LABELS = "abcd"


def name(word: object) -> bytes:
    return sha256(str(word).encode())


def step(out: object, kind: str, *sources: tuple[object, int | None], node: str = "n") -> Step:
    found = tuple(Source(name(model), node, w_e9) for model, w_e9 in sources)
    return Step(
        out=name(out), kind=kind, node=node, index=0, time_ms=0, round=None, sources=found
    )  # fmt: skip


def claimed(out: object, rows: dict[str, int | None], missing: str = "", node: str = "n"):
    return Claimed(
        art=name(out), node=node, round=0, rows=tuple(rows.items()), not_evaluated=tuple(missing)
    )


def lineage(*steps: Step) -> Lineage:
    return Lineage({one.out: one for one in steps}, {"n": "bern", "m": "graz"})


@st.composite
def histories(draw: st.DrawFn):
    """A mix over artifacts and earlier mixes, with what each artifact covers."""
    steps, table, sets = [], {}, {}
    for number in range(draw(st.integers(1, 8))):
        rows = draw(st.sets(st.sampled_from(LABELS)))
        missing = "".join(sorted(set(LABELS) - rows)) if draw(st.booleans()) else ""
        one = claimed(number, dict.fromkeys(rows, 10), missing)
        steps.append(step(number, "release"))
        table[one.art], sets[number] = [one], rows
    for number in range(8, 8 + draw(st.integers(1, 4))):
        parts = draw(st.lists(st.sampled_from(sorted(sets)), min_size=1, unique=True))
        weights = [draw(st.sampled_from([0, 1, UNIT_E9, None])) for _ in parts]
        steps.append(step(number, "mix", *zip(parts, weights, strict=True)))
        sets[number] = set().union(
            *(sets[p] for p, w in zip(parts, weights, strict=True) if w != 0)
        )
    return lineage(*steps), table, sets


@settings(max_examples=100, deadline=None)
@given(histories())
def test_a_mix_covers_what_its_parts_cover_and_nothing_of_weight_nought(told):
    history, table, sets = told
    for number, rows in sets.items():
        found = covered(history, name(number), table, LABELS)
        assert {one.label for one in found.labels if not one.gap} == rows
        assert set(gaps(found)) == set(LABELS) - rows


def test_covered_not_looked_at_and_unknown_are_three_things():
    history = lineage(
        step("mine", "train"),
        step("theirs", "unknown", node="m"),
        step("mix", "mix", ("mine", 1), ("theirs", 1), ("none", 0)),
    )
    table = {
        name("mine"): [claimed("mine", {"a": 0, "b": None}, "cd")],
        name("theirs"): [claimed("theirs", {"a": 200, "c": 10}, node="m")],
        name("none"): [claimed("none", {"e": 1000})],
    }
    found = covered(history, name("mix"), table)
    by = {one.label: one for one in found.labels}
    assert list(by) == ["a", "b", "c", "d"]
    assert [(one.name, one.rows) for one in by["a"].covered_by] == [("graz", 200), ("bern", 0)]
    assert [(one.name, one.rows) for one in by["b"].covered_by] == [("bern", None)]
    assert by["c"].not_evaluated_by == ("bern",)
    assert gaps(found) == ("d",)
    assert (found.told, found.silent, found.unexplained) == (2, (), 1)
    assert gaps(covered(history, name("mix"), table, ["e", "a", "e"])) == ("e",)
    unknown = covered(history, name("mix"), {}, ["a"])
    assert gaps(unknown) == ("a",)
    assert unknown.labels[0].not_evaluated_by == ()
    assert unknown.silent == ("bern", "graz")


class Specialist(Hospital):
    """A hospital that says of which classes it has rows."""

    seen: tuple[tuple[str, int], ...] = ()
    unseen: tuple[str, ...] = ()
    known: KnowledgeManifest | None = None

    def manifest(self, art, data, *, parents=()):
        whole = super().manifest(art, data, parents=parents)
        classes = tuple(ClassCoverage(name=one, rows=rows) for one, rows in self.seen)
        coverage = Coverage(rows=50, classes=classes, not_evaluated=self.unseen, tensors=())
        return msgspec.structs.replace(whole, coverage=coverage)


@pytest.fixture
def pair(tmp_path):
    clock = Clock()
    bern, graz = (
        Specialist(tmp_path, "bern", clock=clock),
        Specialist(tmp_path, "graz", clock=clock),
    )
    bern.seen, bern.unseen = (("benign", 50),), ("malignant", "unclear")
    graz.seen, graz.unseen = (("malignant", 20),), ("unclear",)
    bern.train()
    bern.publish()
    graz.train()
    sent = graz.publish()
    bern.receive(sent, graz.author)
    bern.mix([sent])
    for one in (bern, graz):
        one.close()
    return bern, graz


def test_a_home_tells_what_its_model_covers(pair):
    bern, _ = pair
    told = gather([bern.home])
    history = lineage_of([one.told for one in told.homes], told.names())
    table = claims((entry for _, entry in told.entries()), told.blob, DEFAULT_LIMITS)
    found = covered(history, history.current(), table)
    assert gaps(found) == ("unclear",)
    whose = {one.label: [(by.name, by.rows) for by in one.covered_by] for one in found.labels}
    assert whose == {"benign": [("bern", 50)], "malignant": [("graz", 20)], "unclear": []}
    alone = covered(history, history.steps[bern.model].sources[0].model, table)
    assert gaps(alone) == ("malignant", "unclear")


def test_a_missing_or_foreign_blob_claims_nothing(pair):
    bern, _ = pair
    told = gather([bern.home])
    entries = [entry for _, entry in told.entries()]
    assert claims(entries, lambda _digest, _most: None, DEFAULT_LIMITS) == {}
    assert claims(entries, lambda _digest, _most: b"x", DEFAULT_LIMITS) == {}


def test_the_knowledge_manifest_speaks_beside_the_artifact(pair):
    bern, _ = pair
    known = KnowledgeManifest(
        labels=(
            LabelKnowledge(system="task", code="benign", rows=100),
            LabelKnowledge(system="icd-10", code="C50"),
        ),
        not_evaluated=(LabelName(system="icd-10", code="C44"),),
    )
    data = knowledge_manifest.write(known)
    manifest = bern.manifest(name("art"), b"data")
    with_it = msgspec.structs.replace(manifest, knowledge=sha256(data).hex())
    one = claim(with_it, known)
    assert dict(one.rows) == {"benign": 100, "icd-10:C50": None}
    assert one.not_evaluated == ("malignant", "unclear", "icd-10:C44")
    assert dict(claim(manifest, None).rows) == {"benign": 50}
