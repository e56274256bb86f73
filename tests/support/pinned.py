"""The attack list and its codes: what a stranger's commands must say, pinned in `codes.toml`.

Homes are looked at as a person would: with `konsil audit`, by its exit code and its findings.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from commands import konsil

CODES = Path(__file__).resolve().parent.parent / "attacks" / "codes.toml"
ATTACKS = tomllib.loads(CODES.read_text())


def pinned(number, form=None) -> dict[str, Any]:
    """Code and exit code of an attack, or of a further form of it."""
    return ATTACKS[number] if form is None else ATTACKS[number][form]


def verify(*homes, options=()):
    """Exit code and finding codes of `konsil audit verify`."""
    done = konsil("audit", "verify", *homes, *options, "--json")
    findings = done.envelope("audit.verify")["data"]["findings"]
    return done.code, {one["code"] for one in findings}


def genuine(*homes, options=()):
    """`konsil audit verify` finds nothing."""
    assert verify(*homes, options=options) == (0, set())


def found(number, *homes, form=None, also=(), options=()):
    """`konsil audit verify` finds this attack, and nothing else but perhaps `also`."""
    wanted = pinned(number, form)
    code, codes = verify(*homes, options=options)
    assert {wanted["code"]} <= codes <= {wanted["code"], *also}, codes
    assert code == wanted["exit"]


def refused(number, *command, form=None):
    """A command ends with this attack's exit code, and with its code as that of the error."""
    wanted = pinned(number, form)
    done = konsil(*command, "--json")
    assert (done.code, json.loads(done.out)["error"]["code"]) == (wanted["exit"], wanted["code"])
