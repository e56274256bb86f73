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
    found = ATTACKS[number] if form is None else ATTACKS[number][form]
    return {"code": found["code"], "exit": found["exit"]}


def verify(*homes, options=()):
    """Exit code and finding codes of `konsil audit verify`."""
    done = konsil("audit", "verify", *homes, *options, "--json")
    findings = done.envelope("audit.verify")["data"]["findings"]
    return done.code, {one["code"] for one in findings}


def genuine(*homes, options=()):
    """`konsil audit verify` finds nothing."""
    assert verify(*homes, options=options) == (0, set())


def missed(number, *homes, form=None, also=(), options=()) -> str:
    """What `konsil audit verify` says instead of this attack; empty when it finds just that.

    It may also find `also`.
    """
    wanted = pinned(number, form)
    code, codes = verify(*homes, options=options)
    as_pinned = {wanted["code"]} <= codes <= {wanted["code"], *also} and code == wanted["exit"]
    return "" if as_pinned else f"exit {code} with {sorted(codes)}, not {wanted}"


def refusal(*command) -> dict[str, Any]:
    """How a command ends, in the form of `codes.toml`."""
    done = konsil(*command, "--json")
    return {"code": json.loads(done.out)["error"]["code"], "exit": done.code}
