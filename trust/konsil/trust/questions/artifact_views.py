"""What is known of one artifact, in lines and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.trust.printable import printable
from konsil.trust.questions.words import fraction, short, when

if TYPE_CHECKING:
    from konsil.trust.questions.artifact import Receipt, Traced
    from konsil.trust.questions.gathering import Gathered

_SOURCES = {
    "log": "its own log",
    "proof": "the proof that a receiver kept",
    "conflict": "a receipt, which its log or proof contradicts",
    "nothing": "a receipt alone",
}


def verdict(found: Traced) -> str:
    """What the signature is worth, in words."""
    if found.fault:
        return f"DOES NOT VERIFY: {found.fault}"
    return f"not checked: {found.unchecked}" if found.unchecked else "verified"


def to_lines(homes: Gathered, found: Traced) -> list[str]:
    """The artifact in lines for a person."""
    body, manifest = found.body, found.manifest
    moment = "at an unknown time" if found.time_ms is None else when(found.time_ms)
    lines = [
        f"payload    {found.art.hex()}",
        f"envelope   {found.env.hex()}",
        f"published  by {homes.name(found.publisher)} ({found.publisher}),"
        f" entry {found.index}, {moment}; known from {_SOURCES[found.source]}",
        f"signature  {verdict(found)}",
    ]
    if body is not None:
        lines.append(f"kind       {body.kind}, number {body.sequence}, {body.size} bytes")
        parents = ", ".join(short(one) for one in body.derived_from) or "itself"
        lines.append(f"made from  {parents}")
    if manifest is not None:
        spent = manifest.privacy
        cost = (
            "none stated"
            if spent.mechanism == "none"
            else (
                f"{spent.mechanism}, ε {spent.epsilon_micro / 1e6:g}, δ {spent.delta_e12 / 1e12:g}"
                f" for each {spent.unit}"
            )
        )
        lines.append(
            f"manifest   task {manifest.task}, round {manifest.round},"
            f" from {manifest.coverage.rows} rows on, privacy {cost}"
        )
    for one in found.receipts:
        verb = f"refused ({', '.join(one.refused)}) by" if one.refused else "received by"
        lines.append(f"{verb} {homes.name(one.node)}, entry {one.index}, {when(one.time_ms)}")
    lines += [
        f"mixed by {homes.name(use.node)}, round {use.round}, entry {use.index}:"
        f" weight {fraction(use.w_e9, 6)}, trust {fraction(use.trust_e9)} → {short(use.out)}"
        for use in found.uses
    ]
    if not found.receipts:
        lines.append("no given home says that it received it")
    elif not found.uses:
        lines.append("no given home mixed it")
    return [printable(line) for line in lines]


def to_data(homes: Gathered, found: Traced) -> dict[str, object]:
    """The `data` object of `konsil audit artifact --json`."""
    body = found.body
    return {
        "payload": found.art.hex(),
        "envelope": found.env.hex(),
        "publisher": {"node_id": found.publisher, "name": homes.name(found.publisher)},
        "index": found.index,
        "time_ms": found.time_ms,
        "known_from": found.source,
        "signature": {
            "verified": not found.fault and not found.unchecked,
            "message": verdict(found),
        },
        "kind": None if body is None else body.kind,
        "sequence": None if body is None else body.sequence,
        "size": None if body is None else body.size,
        "manifest": None if found.manifest is None else msgspec.to_builtins(found.manifest),
        "parents": [] if body is None else [one.hex() for one in body.derived_from],
        "children": [one.hex() for one in found.children],
        "received": [_receipt(homes, one) for one in found.receipts if not one.refused],
        "refused": [
            {**_receipt(homes, one), "reasons": list(one.refused)}
            for one in found.receipts
            if one.refused
        ],
        "mixes": [
            {
                "node_id": use.node,
                "name": homes.name(use.node),
                "index": use.index,
                "time_ms": use.time_ms,
                "round": use.round,
                "w_e9": use.w_e9,
                "trust_e9": use.trust_e9,
                "out": use.out.hex(),
            }
            for use in found.uses
        ],
    }


def _receipt(homes: Gathered, one: Receipt) -> dict[str, object]:
    return {
        "node_id": one.node,
        "name": homes.name(one.node),
        "index": one.index,
        "time_ms": one.time_ms,
    }
