"""`konsil artifact gaps`: what no ancestor of a model covers, as scripts see it."""

from __future__ import annotations

import msgspec
import pytest
from commands import files, konsil
from ledgers import Clock, Hospital

from konsil.protocol.artifact import ClassCoverage, Coverage


class Specialist(Hospital):
    """A hospital with rows of one class of three."""

    sees = ""

    def manifest(self, art, data, *, parents=()):
        whole = super().manifest(art, data, parents=parents)
        coverage = Coverage(
            rows=50,
            classes=(ClassCoverage(name=self.sees, rows=50),),
            not_evaluated=tuple(sorted({"benign", "malignant", "unclear"} - {self.sees})),
            tensors=(),
        )
        return msgspec.structs.replace(whole, coverage=coverage)


@pytest.fixture
def bern(tmp_path):
    clock = Clock()
    mine, theirs = (Specialist(tmp_path, one, clock=clock) for one in ("bern", "graz"))
    mine.sees, theirs.sees = "benign", "malignant"
    mine.train()
    mine.publish()
    theirs.train()
    sent = theirs.publish()
    mine.receive(sent, theirs.author)
    mine.mix([sent])
    mine.close()
    theirs.close()
    return mine


def test_gaps_are_findings_and_name_who_covers_the_rest(bern):
    before = files(bern.home)
    done = konsil("artifact", "gaps", bern.home, bern.model.hex()[:10], "--json")
    assert done.code == 1
    value = done.envelope("artifact.gaps")
    data = value["data"]
    assert data["gaps"] == ["unclear"]
    assert "unclear" in value["error"]["message"]
    by = {one["label"]: one for one in data["labels"]}
    assert [one["name"] for one in by["malignant"]["covered_by"]] == ["graz"]
    assert by["benign"]["covered_by"][0]["rows_at_least"] == 50
    assert by["benign"]["not_evaluated_by"] == ["graz"]
    assert (data["claims"], data["silent"]) == (2, [])
    assert files(bern.home) == before


def test_labels_can_be_asked_for(bern):
    model = bern.model.hex()
    done = konsil("artifact", "gaps", bern.home, model, "--labels", "benign, malignant")
    assert done.code == 0
    assert "bern (50+ rows)" in done.out
    assert "it is not known" in done.out
    asked = konsil("artifact", "gaps", bern.home, model, "--labels", "C44,benign", "--json")
    assert asked.code == 1
    assert asked.envelope("artifact.gaps")["data"]["gaps"] == ["C44"]


def test_wrong_models_and_homes_are_told(bern, tmp_path):
    assert konsil("artifact", "gaps", bern.home, "ffff").code == 4
    assert konsil("artifact", "gaps", tmp_path / "nowhere", "ffff").code == 2
