"""The attack list is complete: A1 to A30, each pinned and each played, and no code is made up."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from pinned import ATTACKS

from konsil.protocol import errors
from konsil.protocol.entries import TYPES
from konsil.trust.report import CODES

NUMBERS = [f"a{number}" for number in range(1, 31)]
MODULES = [ast.parse(path.read_text()) for path in sorted(Path(__file__).parent.glob("test_*.py"))]
ERRORS = {
    getattr(one, "code", None): getattr(one, "exit_code", None) for one in vars(errors).values()
}


def forms(number):
    """Every pinned form of an attack, the first one without a name."""
    table = ATTACKS[number]
    return {None: table} | {name: one for name, one in table.items() if isinstance(one, dict)}


def words(module):
    """Every string constant in a module."""
    found = (node.value for node in ast.walk(module) if isinstance(node, ast.Constant))
    return {value for value in found if isinstance(value, str)}


def test_the_list_goes_from_a1_to_a30():
    assert sorted(ATTACKS, key=lambda name: int(name[1:])) == NUMBERS


@pytest.mark.parametrize("number", NUMBERS)
def test_a_finding_leads_to_the_exit_code_that_is_pinned(number):
    for name, one in forms(number).items():
        assert {"code", "exit"} == set(one) - set(forms(number)), name
        if not one["code"]:
            assert one["exit"] == 0, "what counts for nothing is no finding"
        elif one["code"] in CODES:
            assert CODES[one["code"]] == one["exit"]
        elif one["code"] in TYPES:
            assert one["exit"] == 0, "an entry that an honest node writes is no finding"
        else:
            assert ERRORS[one["code"]] == one["exit"]


@pytest.mark.parametrize("number", NUMBERS)
def test_every_form_of_every_attack_is_played(number):
    played = [module for module in MODULES if number in words(module)]
    assert played
    for name in forms(number):
        assert name is None or any(name in words(module) for module in played), name
