"""A missing oracle gives a visible reason, and a failure where the oracles are required."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("required", "outcome"),
    [("", pytest.skip.Exception), ("required", pytest.fail.Exception)],
    ids=["skipped", "failed"],
)
def test_a_missing_tool_is_named_with_what_brings_it(
    module, program, monkeypatch, required, outcome
):
    monkeypatch.setenv("KONSIL_ORACLES", required)
    with pytest.raises(outcome, match="no_such_oracle is missing: run: make setup"):
        module("no_such_oracle")
    with pytest.raises(outcome, match="apt-get install -y nothing"):
        program("no-such-oracle", "nothing")
