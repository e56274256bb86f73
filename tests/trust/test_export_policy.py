"""The export policy decides from its arguments alone, and says every reason."""

from __future__ import annotations

import msgspec
import pytest

from konsil.protocol.artifact import (
    Artifact,
    ClassCoverage,
    Coverage,
    Payload,
    PrivacySpent,
)
from konsil.protocol.charter import ExportRule
from konsil.trust.export_policy import PolicyState, decide

MANIFEST = Artifact(
    kind="parameters", publisher="a" * 32, sequence=1, round=1, task="tiny", base="00" * 32,
    architecture="11" * 32, parents=(),
    payload=Payload(
        digest="22" * 32, size=1_000, format="safetensors", chunk_bytes=1, chunk_root="33" * 32
    ),
    coverage=Coverage(
        rows=200, classes=(ClassCoverage(name="yes", rows=20),), not_evaluated=(), tensors=()
    ),
    privacy=PrivacySpent(mechanism="gaussian", unit="patient", epsilon_micro=5, delta_e12=5),
    charter="44" * 32, knowledge=None,
)  # fmt: skip
RULE = ExportRule(
    kind="parameters", min_cohort=200, min_label_rows=20, mechanisms=("gaussian",),
    max_release_micro=5, max_total_micro=9, max_delta_e12=5, max_bytes=1_000,
)  # fmt: skip
STATE = PolicyState(charter=bytes(32), spent_micro=9)


def test_what_every_rule_allows_may_leave():
    found = decide(MANIFEST, [RULE], STATE)
    assert (found.allow, found.codes, found.art.hex()) == (True, (), "22" * 32)
    assert found.digest() == decide(MANIFEST, [RULE], STATE).digest()


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ({"kind": "logits"}, "kind"),
        ({"min_cohort": 201}, "cohort"),
        ({"min_label_rows": 21}, "labels"),
        ({"mechanisms": ("laplace",)}, "mechanism"),
        ({"max_release_micro": 4}, "release"),
        ({"max_total_micro": 8}, "total"),
        ({"max_delta_e12": 4}, "delta"),
        ({"max_bytes": 999}, "size"),
    ],
)
def test_one_rule_is_enough_to_forbid(rule, code):
    found = decide(MANIFEST, [msgspec.structs.replace(RULE, **rule)], STATE)
    assert (found.allow, found.codes) == (False, (code,))


def test_without_a_rule_nothing_leaves_and_all_reasons_are_told_in_order():
    assert decide(MANIFEST, [], STATE).codes == ("kind",)
    rule = msgspec.structs.replace(RULE, min_cohort=500, max_bytes=1, max_total_micro=0)
    assert decide(MANIFEST, [rule], STATE).codes == ("cohort", "size", "total")


def test_the_decision_is_bound_to_charter_and_spending():
    known = decide(MANIFEST, [RULE], STATE).digest()
    for changes in ({"charter": bytes(31) + b"\1"}, {"spent_micro": 8}):
        state = msgspec.structs.replace(STATE, **changes)
        assert decide(MANIFEST, [RULE], state).digest() != known
