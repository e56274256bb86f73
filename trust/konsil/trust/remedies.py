"""What to do about a finding: one step for each code, and for each group of codes.

Nothing here mends a ledger by hand: what was signed stays as it was signed. What can be put
back is put back from a copy; what a hospital did is a matter between people.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_PUT_BACK = "keep the files as they are, and put this one back from a copy of the home"
_ASK_OWNER = "ask the hospital whose log this is; the entry itself cannot be mended"
_SHOW_OTHERS = "keep the files as evidence, and show them to the other members"
_GENESIS = "put HOME/peers/<node id>.genesis back, or name the home of that member too"

REMEDIES: Mapping[str, str] = MappingProxyType(
    {
        "layout.stray": "find out who put it there, then move it out of the ledger",
        "layout.missing": (
            "put it back from a copy of the home; no node starts without it, and none must be "
            "made by hand"
        ),
        "layout.oversize": "keep a copy, then put the genuine file back from a copy of the home",
        "tail.torn": "nothing is lost that anybody was told of: start and stop the node",
        "tail.corrupt": _PUT_BACK,
        "bundle.corrupt": _PUT_BACK,
        "bundle.missing": "put it back from a copy of the home; its hashes say whether it is right",
        "tile.mismatch": _PUT_BACK,
        "tile.missing": "put it back from a copy of the home",
        "entry.time": "check the clock of that machine",
        "entry.pruned": "put the body back from a copy of the home, or ask who took it out",
        "entry.lost": (
            "no tampering: only another copy of that home can show them, and what rests on them "
            "is not judged here"
        ),
        "entry.salt": "check the machine's source of randomness, and whether a home was copied",
        "checkpoint.corrupt": (
            "put it back from a copy of the home; a node does not start on it as it is"
        ),
        "checkpoint.rollback": "put the newest copy of the home back; do not let this one sign",
        "checkpoint.root": _SHOW_OTHERS,
        "checkpoint.behind": "start and stop the node to have them signed",
        "cosigned.corrupt": "put it back from a copy; a running node makes a new one",
        "cosigned.unknown": _GENESIS,
        "cosigned.time": "compare the clocks of both machines, then ask the hospital",
        "blob.corrupt": "put the file back from a copy: its name says whether it is right",
        "blob.missing": "put the file back from a copy, or name a home that has it",
        "integrate.replay": _SHOW_OTHERS,
        "integrate.unreplayed": (
            "name a home, or a copy, that still has them; a hospital may drop old payloads, "
            "which is no fault, and then these mixes stay unproven"
        ),
        "key.change": "do not accept what the new key signs, and ask the hospital by another way",
        "publish.equivocation": _SHOW_OTHERS,
        "publish.revoked": "no model should build on it: see konsil audit taint",
        "receive.revoked": (
            "whoever received it did no wrong; what it went into shows konsil audit taint"
        ),
        "withdraw.missing": "ask the hospital for its answer, and for the models it still uses",
        "withdraw.deployed": "take that model out of use",
        "charter.fork": _SHOW_OTHERS,
        "inference.root": "put the file of records back from a copy, or ask who changed it",
        "peer.accusation": "do not act on it; ask the accuser for the proof",
        "peers.witnessed": (
            "put peers/witness.log back from a copy, or move it away: then the node knows nothing "
            "of what it vouched for"
        ),
        "peers.mirror": "remove the file while the node is stopped: it is asked for again",
        "peers.genesis": "remove the file, or put it back from a home that knows the member",
        "peers.unknown": _GENESIS,
        "lineage.gap": "name the home that made it, if there is one; else ask the hospital",
        "others.fork": _SHOW_OTHERS,
        "others.rollback": "put the newest copy of the home back; do not let this one sign",
        "others.unpublished": _SHOW_OTHERS,
        "others.time": "check the clocks of both machines",
        "others.unchecked": "name the homes, or copies of the ledgers, of peers as well",
    }
)

GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "publish": "do not use the artifact, and show the files to the other members",
        "receive": "do not use the artifact; ask its publisher for the proof again",
        "trust": "ask the hospital how the weight came about: konsil audit trust HOME PEER",
        "privacy": "ask the hospital what it spent: konsil audit budget HOME",
        "withdraw": "ask the hospital what it did with the artifact: konsil audit taint",
    }
)


def remedy(code: str) -> str:
    """What to do about a finding of this code."""
    return REMEDIES.get(code, GROUPS.get(code.partition(".")[0], _ASK_OWNER))
