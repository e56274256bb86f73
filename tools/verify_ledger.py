"""Verify konsil ledgers a second time, with code that shares nothing with konsil.

    python tools/verify_ledger.py HOME... [--replay] [--json]
    python tools/verify_ledger.py --fork FILE --genesis FILE

Written from `docs/spec/ledger.md` and `docs/spec/wire.md` alone, on `cryptography`, `msgpack`
and the standard library, so that two programs have to be wrong in the same way before a false
ledger passes. It reads and never writes. The homes should be those of stopped nodes, or copies:
a ledger that is being written may be seen with a torn last frame.

It checks files, entries, keys, checkpoints, blobs, envelopes, receipts, mixes (with `--replay`
in float64 by the `array` module, some million values a second) and lineage, and holds the homes
against each other. Not judged here, and said so in the output: what lies in trust evidence, the
rules of the office (privacy, policy, deployment, withdrawal, redaction, charters, members, the
bedside), the times in cosignatures, records of use, and in a mirror what no accepted checkpoint
covers.

Exit codes: 0 verified, 1 rules of conduct broken, 2 usage, 3 does not verify (tampering, fork,
rollback), 4 incomplete, 6 a file cannot be read. 3 wins over 4, and 4 over 1. A path that does not
exist is usage. With `--fork`: 0 when the file proves that the owner of the log signed two
histories, else 3.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import bisect
import hashlib
import json
import math
import os
import re
import stat
import struct
import sys
import unicodedata
from array import array
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import msgpack
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256

CONDUCT, INCOMPLETE, TAMPERED = 1, 4, 3
EXITS = {
    CONDUCT: "entry.time publish.revoked publish.sequence receive.revoked integrate.unlogged "
    "integrate.rule lineage.gap lineage.reused lineage.claim others.time",
    INCOMPLETE: "tail.torn bundle.missing tile.missing blob.missing entry.pruned entry.lost "
    "peers.unknown cosigned.unknown integrate.unreplayed",
    TAMPERED: "layout.stray layout.missing layout.oversize tail.corrupt bundle.corrupt "
    "tile.mismatch entry.encoding entry.position entry.genesis entry.salt key.change boot.state "
    "checkpoint.corrupt checkpoint.rollback checkpoint.root blob.corrupt publish.envelope "
    "publish.equivocation peer.accusation receive.envelope receive.proof integrate.sum "
    "integrate.replay lineage.cycle others.fork others.rollback others.unpublished "
    "peers.witnessed peers.mirror peers.genesis cosigned.corrupt",
}
ON_WHAT_WAS_BEFORE = ("integrate.unlogged", "lineage.gap", "entry.pruned")
"""What may only seem so behind an entry that cannot be read."""
ON_KEYS = ("key.change", "publish.envelope", "publish.revoked")
"""What may only seem so behind an entry that may have changed a key of the log."""
ON_FORKED_KEYS = ("peers.unknown", "cosigned.unknown", "peer.accusation")
"""What is not held against anybody when a member signed for two histories of its keys."""
ON_OTHER_KEYS = ("receive.envelope", "receive.proof", "receive.revoked")
"""What may only seem so when the log of another, or a mirror, may have lost such an entry."""
NOT_JUDGED = (
    "trust evidence (trust.*, integrate.weight)",
    "the office (privacy.*, policy.*, deploy.*, withdraw.*, redact.*, charter.*, member.*, "
    "inference.*)",
    "the times in cosignatures (cosigned.time)",
    "what a mirror holds beyond every accepted checkpoint, and files of other names in peers/",
    "entries after the last checkpoint (checkpoint.behind)",
)
EXIT_OF = {code: number for number, codes in EXITS.items() for code in codes.split()}

NEVER = 2**63
KIB, GIB = 1 << 10, 1 << 30
WIDTH = 256
"""Entries in a bundle, hashes in a tile."""
GAP_GROUPS = 1_024
ENTRY_BYTES, NOTE_BYTES, BLOB_BYTES = 65_535, 16 * KIB, 64 * KIB
TAIL_BYTES, BUNDLE_BYTES, TILE_BYTES = GIB, WIDTH * (2 + ENTRY_BYTES), WIDTH * 32
PAYLOAD_BYTES, CHUNK_BYTES, CHUNKS = 4 * GIB, 1 << 20, 65_536
SIGNATURE_LINES, PROOF_HASHES = 128, 63
ROLES = ("art", "log", "peer", "rec", "wit")
UNIT_E9 = 10**9
LATE_MS = 600_000
STATEMENT = "application/vnd.in-toto+json"
Body = dict[str, Any]


class Refused(Exception):
    """Bytes that are not what the specification allows."""


class Revoked(Refused):
    """What a key signed for a place that its owner took back later."""


class Oversized(Refused):
    """A file that is larger than any genuine one."""


class NoSuchPath(Exception):
    """Something that was named and does not exist."""


# --- findings ---------------------------------------------------------------------------------


def printable(text: str) -> str:
    """The text in characters that cannot command a terminal or forge a line."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it must be, and where."""

    code: str
    file: str
    text: str
    offset: int | None = None
    index: int | None = None
    of_nobody: bool = False
    """about no given home, or about several of which nobody can say which is wrong"""

    def line(self) -> str:
        """The finding in one line."""
        place = "" if self.offset is None else f" offset {self.offset}"
        place += "" if self.index is None else f" entry {self.index}"
        return printable(f"{self.code}: {self.file}{place}: {self.text}")


@dataclass
class Verdict:
    """All findings, and the notices that change no exit code."""

    findings: list[Finding] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def add(
        self, code: str, file: Path, text: str, offset: int | None = None, index: int | None = None
    ) -> None:
        """Note a finding."""
        if code not in EXIT_OF:
            raise KeyError(code)
        self.findings.append(Finding(code, str(file), text, offset, index))

    def tell(self, code: str, file: Path, text: str, index: int | None = None) -> None:
        """Note what is held against no given home."""
        self.findings.append(Finding(code, str(file), text, index=index, of_nobody=True))

    def exit_code(self) -> int:
        """0, or the gravest of 3, 4, 1."""
        exits = {EXIT_OF[one.code] for one in self.findings}
        return next((one for one in (TAMPERED, INCOMPLETE, CONDUCT) if one in exits), 0)


# --- cmp1: MessagePack with one form for every value -----------------------------------------


def text_of(data: bytes) -> str:
    """Text that is UTF-8 in NFC, at most 1,024 bytes, and prints on one line."""
    if len(data) > KIB:
        raise Refused(f"a text of {len(data)} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("a text that is not UTF-8") from error
    for one in text:
        bidi = "\u202a" <= one <= "\u202e" or "\u2066" <= one <= "\u2069"
        if bidi or unicodedata.category(one) in ("Cc", "Zl", "Zp"):
            raise Refused(f"a text with {one!a}")
    if not unicodedata.is_normalized("NFC", text):
        raise Refused("a text that is not in NFC")
    return text


COUNTED = {
    0xC4: (bytes, 1), 0xC5: (bytes, 2), 0xC6: (bytes, 4), 0xD9: (str, 1), 0xDA: (str, 2),
    0xDB: (str, 4), 0xDC: (list, 2), 0xDD: (list, 4), 0xDE: (dict, 2), 0xDF: (dict, 4),
}  # fmt: skip
SIMPLE = {0xC0: None, 0xC2: False, 0xC3: True}
KEY = re.compile(r"[a-z][a-z0-9_]{0,31}")


class Decoder:
    """Reads MessagePack by hand, so that no forged count can claim memory."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.left = data, 0, 65_536

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if self.at + count > len(self.data):
            raise Refused(f"the value ends at byte {len(self.data)}, in the middle")
        self.at += count
        return self.data[self.at - count : self.at]

    def value(self, depth: int = 0) -> object:
        """The next value."""
        self.left -= 1
        if self.left < 0:
            raise Refused("more than 65536 values")
        mark = self.take(1)[0]
        if mark < 0x80 or mark >= 0xE0:
            return mark if mark < 0x80 else mark - 256
        if mark in SIMPLE:
            return SIMPLE[mark]
        if 0xCC <= mark <= 0xD3:
            return int.from_bytes(self.take(1 << (mark & 3)), "big", signed=mark >= 0xD0)
        if mark in COUNTED:
            kind, width = COUNTED[mark]
            count = int.from_bytes(self.take(width), "big")
        elif mark < 0xC0:
            kind = dict if mark < 0x90 else list if mark < 0xA0 else str
            count = mark & (0x1F if kind is str else 0x0F)
        else:
            raise Refused(f"byte {mark:#x} begins no value of cmp1")
        if kind in (bytes, str):
            data = self.take(count)
            return data if kind is bytes else text_of(data)
        if depth >= 8 or count > len(self.data):
            raise Refused("containers too deep, or too large")
        if kind is list:
            return [self.value(depth + 1) for _ in range(count)]
        return self.pairs(count, depth)

    def pairs(self, count: int, depth: int) -> Body:
        """The pairs of a map, keys ascending."""
        found: Body = {}
        last = ""
        for _ in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, str) or not KEY.fullmatch(key) or key <= last:
                raise Refused(f"a map with the key {key!a} behind {last!a}")
            found[key] = self.value(depth + 1)
            last = key
        return found


def canonical(data: bytes) -> object:
    """The value of these bytes, which are its one encoding."""
    reader = Decoder(data)
    value = reader.value()
    if reader.at != len(data):
        raise Refused(f"{len(data) - reader.at} bytes behind the value")
    if msgpack.packb(value, use_bin_type=True) != data:
        raise Refused("not the shortest form")
    return value


# --- schemas ----------------------------------------------------------------------------------

Shape = Callable[[object], bool]


def octets(low: int, high: int | None = None) -> Shape:
    """Byte strings of so many bytes."""
    return lambda value: type(value) is bytes and low <= len(value) <= (high or low)


def whole(low: int, high: int = 2**63 - 1) -> Shape:
    """Integers within bounds."""
    return lambda value: type(value) is int and low <= value <= high


def words(pattern: str) -> Shape:
    """Texts that match as a whole."""
    form = re.compile(pattern, re.DOTALL)
    return lambda value: type(value) is str and form.fullmatch(value) is not None


def listed(shape: Shape) -> Shape:
    """Arrays of one shape."""
    return lambda value: type(value) is list and all(map(shape, value))


def optional(shape: Shape) -> Shape:
    """The shape, or nil."""
    return lambda value: value is None or shape(value)


def fields(may: dict[str, Shape] | None = None, /, **shapes: Shape) -> Shape:
    """Maps with exactly these fields, and of those in `may` some or none."""
    known = {**shapes, **(may or {})}
    return lambda value: (
        type(value) is dict
        and shapes.keys() <= value.keys() <= known.keys()
        and all(known[name](value[name]) for name in value)
    )


DIGEST, SIGNATURE, TEXT = octets(32), octets(64), words(".*")
COUNT, POSITIVE, SHARE = whole(0), whole(1), whole(0, UNIT_E9)
NAME, NODE = words("[a-z][a-z0-9-]{0,31}"), words("[a-z2-7]{32}")
CODE, TYPE = words("[a-z][a-z0-9_.:/-]{0,63}"), words("[a-z]{1,16}[.][a-z_]{1,16}")
MAYBE, ROLE = optional(DIGEST), words("|".join(ROLES))
WHY = words("consent|gdpr17|quality|poison|licence")
ACTION = words("removed_exact|retrained|rolled_back|not_used|refused")
PLEDGE = fields(proof=SIGNATURE, public=DIGEST)
P256 = fields(proof=octets(8, 72), public=octets(65))
PART = fields(art=DIGEST, node=NODE, trust_e9=SHARE, w_e9=SHARE)
CHANGE = fields(
    by_new=SIGNATURE, by_rec=SIGNATURE, last_good_size=COUNT, new=DIGEST, old=DIGEST, reason=CODE,
    role=ROLE,
)  # fmt: skip
LEAVE = fields(credential=MAYBE, effective_ms=COUNT, evidence=DIGEST, node=NODE)
USE = fields(approver=DIGEST, evaluation=MAYBE, model=DIGEST, step=CODE)
DOUBT = fields(evidence=MAYBE, kind=CODE, node=NODE)

SCHEMAS: dict[str, Shape] = {
    "node.genesis": fields(
        charter=DIGEST, consortium=NAME, keys=fields(**dict.fromkeys(ROLES, PLEDGE)), name=NAME,
        p256=optional(P256),
    ),
    "node.boot": fields(
        lost=listed(fields(first=COUNT, last=COUNT)), peers=listed(fields(node=NODE, size=COUNT)),
        root=DIGEST, size=COUNT, software=DIGEST,
    ),
    "key.rotate": CHANGE,
    "key.revoke": CHANGE,
    "charter.propose": fields(charter=DIGEST, prev=DIGEST, version=POSITIVE),
    "charter.vote": fields(charter=DIGEST, envelope=DIGEST, version=POSITIVE),
    "charter.adopt": fields(charter=DIGEST, envelope=MAYBE, version=COUNT),
    "member.add": fields(credential=DIGEST, effective_ms=COUNT, node=NODE),
    "member.suspend": LEAVE,
    "member.remove": LEAVE,
    "policy.local": fields(policy=DIGEST, version=POSITIVE),
    "model.base": fields(licence=TEXT, model=DIGEST, note=TEXT, source=TEXT),
    "model.train": fields(
        base=DIGEST, code=DIGEST, cohort=COUNT, data=DIGEST, env=DIGEST, out=DIGEST,
        privacy=MAYBE, recipe=DIGEST, round=COUNT,
    ),
    "privacy.spend": fields(
        cumulative_micro=COUNT, dataset=DIGEST, delta_e12=COUNT, eps_micro=COUNT, mechanism=CODE,
        rho_e9=COUNT, sampling_e9=SHARE, steps=COUNT,
    ),
    "artifact.publish": fields(
        art=DIGEST, chunk_root=DIGEST, derived_from=listed(DIGEST), env=DIGEST, kind=CODE,
        knowledge=MAYBE, policy=MAYBE, sequence=POSITIVE, size=COUNT,
    ),
    "artifact.receive": fields(
        art=DIGEST, env=DIGEST, index=COUNT, proof=DIGEST, publisher=NODE, root=DIGEST, size=COUNT
    ),
    "artifact.reject": fields(
        art=MAYBE, env=MAYBE, evidence=MAYBE, publisher=NODE, reasons=listed(CODE), stage=CODE
    ),
    "artifact.integrate": fields(
        after=DIGEST, base=DIGEST, before=DIGEST, not_mixed=listed(words(".{1,256}")), out=DIGEST,
        parts=listed(PART), reason=CODE, round=COUNT, rule=CODE,
    ),
    "trust.update": fields(
        art=MAYBE, cause=CODE, evidence=DIGEST, kind=CODE, new_e9=SHARE, node=NODE, old_e9=SHARE
    ),
    "model.deploy": fields(approver=DIGEST, evaluation=DIGEST, model=DIGEST, step=CODE),
    "model.retire": USE,
    "model.rollback": USE,
    "artifact.withdraw": fields(art=DIGEST, deadline_ms=COUNT, reason=WHY, scope=CODE),
    "withdraw.ack": fields(
        action=ACTION, after=listed(DIGEST), before=listed(DIGEST), index=COUNT,
        legal=optional(CODE), node=NODE,
    ),
    "unlearn.done": fields(method=CODE, new=DIGEST, old=DIGEST, verification=DIGEST),
    "inference.batch": fields(
        count=COUNT, from_ms=COUNT, model=DIGEST, root=DIGEST, to_ms=COUNT
    ),
    "human.override": fields(code=CODE, index=COUNT, leaf=DIGEST),
    "peer.exposed": fields(evidence=DIGEST, kind=CODE, node=NODE),
    "peer.suspect": DOUBT,
    "peer.clear": DOUBT,
    "log.redact": fields(
        authority=DIGEST, front=DIGEST, index=COUNT, kind=CODE, leaf=DIGEST, legal=CODE,
        written_ms=COUNT,
    ),
    "audit.run": fields(
        from_size=COUNT, report=DIGEST, result=whole(0, 255), scope=CODE, to_size=COUNT
    ),
}  # fmt: skip
FRAME = fields(
    b=lambda value: type(value) is dict, c=DIGEST, n=COUNT, s=octets(16), t=TYPE, ts=COUNT,
    v=whole(1, 1),
)  # fmt: skip
BLOBS_OF = {
    "artifact.publish": ("env",),
    "artifact.receive": ("env", "proof"),
    "artifact.reject": ("evidence",),
    "artifact.integrate": ("before", "after"),
    "trust.update": ("evidence",),
    "charter.vote": ("envelope",),
    "charter.adopt": ("envelope",),
    **dict.fromkeys(("member.add", "member.suspend", "member.remove"), ("credential",)),
    "unlearn.done": ("verification",),
    "peer.exposed": ("evidence",),
}
"""The fields of a body that name blobs, of which an auditor needs every one."""


@dataclass(frozen=True)
class Entry:
    """A canonical entry whose body fits its type; `known` is false for a type of the future."""

    index: int
    type: str
    body: Body
    charter: bytes
    salt: bytes
    time: int
    data: bytes

    @property
    def known(self) -> bool:
        """Whether this verifier knows the type."""
        return self.type in SCHEMAS


def read_entry(data: bytes) -> Entry:
    """The entry of these bytes."""
    if len(data) > ENTRY_BYTES:
        raise Refused(f"an entry of {len(data)} bytes")
    value = canonical(data)
    if not FRAME(value):
        raise Refused("against the schema of an entry")
    frame: Body = value  # type: ignore[assignment]
    if frame["t"] in SCHEMAS and not SCHEMAS[frame["t"]](frame["b"]):
        raise Refused(f"against the schema of {frame['t']}")
    return Entry(frame["n"], frame["t"], frame["b"], frame["c"], frame["s"], frame["ts"], data)


# --- the tree of RFC 6962 ---------------------------------------------------------------------


def sha256(data: bytes) -> bytes:
    """The digest."""
    return hashlib.sha256(data).digest()


LAST_PART = re.compile(b"\xa1t([\xa3-\xbf]|\xd9[ !])[._a-z]+\xa2ts.{1,9}\xa1v\x01", re.DOTALL)
LAST_PART_BYTES = 52


def leaf_of(entry: bytes) -> bytes:
    """The hash of a leaf: what comes before the type counts by its own hash."""
    for at in range(max(0, len(entry) - LAST_PART_BYTES), len(entry)):
        if entry[at] == 0xA1 and LAST_PART.fullmatch(entry, at):
            return hidden_leaf(sha256(b"\2" + entry[:at]), entry[at:])
    return sha256(b"\0" + entry)


def hidden_leaf(front: bytes, last: bytes) -> bytes:
    """The hash of a leaf of which the last part is known, and of the rest a hash."""
    return sha256(b"\0" + front + last)


def never_goes(kind: str) -> bool:
    """Whether the body of an entry of this type has to stay for ever."""
    first = kind.split(".")[0]
    return first in FOR_EVER or kind in FOR_EVER


FOR_EVER = frozenset(
    ("node", "key", "charter", "member", "model", "artifact",
     "log.redact", "peer.exposed", "audit.run")
)  # fmt: skip
"""Types, and first words of types, whose bodies stay: a stranger needs them."""


def redaction_holds(entry: Entry) -> bool:
    """Whether a `log.redact` shows that the body it names was of a type that may go."""
    body = entry.body
    typed = msgpack.packb(body["kind"]) + b"\xa2ts" + msgpack.packb(body["written_ms"])
    leaf = hidden_leaf(body["front"], b"\xa1t" + typed + b"\xa1v\1")
    return body["index"] < entry.index and leaf == body["leaf"] and not never_goes(body["kind"])


def above(left: bytes, right: bytes) -> bytes:
    """The hash of two nodes."""
    return sha256(b"\1" + left + right)


class Tree:
    """The full subtrees over some leaves: `rows[k][i]` covers leaves i·2^k … (i+1)·2^k − 1."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.rows = [leaves]
        while len(row := self.rows[-1]) > 1:
            self.rows.append([above(*row[at : at + 2]) for at in range(0, len(row) & ~1, 2)])

    def root(self, size: int) -> bytes:
        """The root over the first `size` leaves."""
        found = None
        for level in range(size.bit_length()):
            if size >> level & 1:
                node = self.rows[level][(size >> level) - 1]
                found = node if found is None else above(node, found)
        return sha256(b"") if found is None else found


def included(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """The root to which an inclusion proof leads (RFC 9162, 2.1.3.2)."""
    if index >= size:
        raise Refused(f"entry {index} of a tree of {size}")
    last = size - 1
    for one in path:
        if last == 0:
            raise Refused("a proof that is too long")
        if index & 1 or index == last:
            leaf = above(one, leaf)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            leaf = above(leaf, one)
        index, last = index >> 1, last >> 1
    if last:
        raise Refused("a proof that is too short")
    return leaf


def continues(small: int, old: bytes, large: int, new: bytes, path: list[bytes]) -> bool:
    """Whether a consistency proof leads from one head to the other (RFC 9162, 2.1.4.2)."""
    if not 0 < small < large:
        return False
    path = [old, *path] if small & (small - 1) == 0 else path
    if not path:
        return False
    at, last = small - 1, large - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = path[0]
    for one in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            first, second = above(one, first), above(one, second)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            second = above(second, one)
        at, last = at >> 1, last >> 1
    return (first, second, last) == (old, new, 0)


# --- signatures, notes, checkpoints -----------------------------------------------------------


def signed(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether an Ed25519 signature verifies."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def signed_p256(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether an ECDSA signature by a P-256 key verifies."""
    try:
        key = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), public)
        key.verify(signature, message, ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def unbase64(text: str) -> bytes:
    """The bytes of canonical base64."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("base64 that is malformed") from error
    if base64.b64encode(data).decode() != text:
        raise Refused("base64 that is not canonical")
    return data


def decimal(text: str) -> int:
    """A number below 2^63 without leading zeros."""
    if not re.fullmatch("0|[1-9][0-9]{0,18}", text) or int(text) >= 2**63:
        raise Refused(f"{text!a} is no number")
    return int(text)


def hash_lines(lines: list[str]) -> list[bytes]:
    """The hashes of a proof, one in a line."""
    hashes = [unbase64(line) for line in lines]
    if len(hashes) > PROOF_HASHES or any(len(one) != 32 for one in hashes):
        raise Refused("hashes that no proof has")
    return hashes


@dataclass(frozen=True)
class Note:
    """A checkpoint and who signed it: (name, key id ‖ signature) in the order of the lines."""

    text: str
    origin: str
    size: int
    root: bytes
    lines: tuple[tuple[str, bytes], ...]


def read_note(data: bytes) -> Note:
    """A signed checkpoint in its strict form."""
    if len(data) > NOTE_BYTES:
        raise Refused(f"a note of {len(data)} bytes")
    try:
        whole_text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("a note that is not UTF-8") from error
    if any(unicodedata.category(one) == "Cc" and one != "\n" for one in whole_text):
        raise Refused("a note with control characters")
    text, parted, tail = whole_text.rpartition("\n\n")
    lines = tail.split("\n")
    if not parted or len(lines) < 2 or lines.pop() or len(lines) > SIGNATURE_LINES:
        raise Refused("a note without its lines of signatures")
    found = []
    for line in lines:
        form = re.fullmatch("— ([^\\s+]+) ([^ ]+)", line)
        if form is None or not form[1].isprintable() or len(material := unbase64(form[2])) < 5:
            raise Refused("a malformed line of a signature")
        found.append((form[1], material))
    if len({(name, material[:4]) for name, material in found}) != len(found):
        raise Refused("a signer stands there twice")
    head = text.split("\n")
    if len(head) != 3 or not head[0]:
        raise Refused("not the three lines of a checkpoint")
    root = unbase64(head[2])
    if len(root) != 32:
        raise Refused("a root that has not 32 bytes")
    return Note(text + "\n", head[0], decimal(head[1]), root, tuple(found))


def key_id(name: str, kind: int, public: bytes) -> bytes:
    """The four bytes that name a key in a note; kind 1 signs notes, kind 4 cosigns."""
    return sha256(name.encode() + b"\n" + bytes([kind]) + public)[:4]


def signers(note: Note, name: str, keys: Iterable[bytes]) -> tuple[set[bytes], int]:
    """Which of `keys` signed the note as `name`, and how many lines are by others."""
    found, strange = set(), 0
    for signer, material in note.lines:
        known = [key for key in keys if key_id(name, 1, key) == material[:4] and signer == name]
        if not known:
            strange += 1
        elif len(material) != 68 or not signed(known[0], material[4:], note.text.encode()):
            raise Refused(f"the signature by {name} does not verify")
        else:
            found.add(known[0])
    return found, strange


# --- authors and their keys -------------------------------------------------------------------


class Author:
    """Who a genesis entry makes known, and which key served which role from which index on."""

    def __init__(self, entry: Entry) -> None:
        body = entry.body
        if entry.type != "node.genesis" or entry.index or entry.charter != bytes(32):
            raise Refused("not a genesis entry at index 0")
        if body["charter"] != bytes(32):
            raise Refused("a genesis entry that names a charter")
        self.name: str = body["name"]
        self.consortium: str = body["consortium"]
        self.spans: dict[str, list[tuple[int, bytes]]] = {}
        self.void: list[tuple[bytes, int, int]] = []
        """(key, first void position, index of the revocation)"""
        for role in ROLES:
            pledge = body["keys"][role]
            if not signed(pledge["public"], pledge["proof"], self.claim(role, pledge["public"])):
                raise Refused(f"nobody proved to hold the {role} key")
            self.spans[role] = [(-1, pledge["public"])]
        if len({spans[0][1] for spans in self.spans.values()}) != len(ROLES):
            raise Refused("one key for two roles")
        odd = body["p256"]
        if odd and not signed_p256(odd["public"], odd["proof"], self.claim("p256", odd["public"])):
            raise Refused("nobody proved to hold the p256 key")
        digest = sha256(b"konsil node v1\n" + entry.data)
        self.node = base64.b32encode(digest[:20]).decode().lower()
        self.origin = f"{self.consortium}/{self.node}"

    def claim(self, role: str, public: bytes) -> bytes:
        """What a key signs to prove that its owner holds it."""
        return f"konsil key {role}\n{self.consortium}\n{self.name}\n".encode() + public

    def change(self, index: int, kind: str, body: Body) -> None:
        """Take over `key.rotate` or `key.revoke`, or refuse it."""
        role, good, old, new = (body[one] for one in ("role", "last_good_size", "old", "new"))
        if old != self.spans[role][-1][1]:
            raise Refused(f"the old key is not the {role} key in force")
        if any(new == key for spans in self.spans.values() for _, key in spans):
            raise Refused("the new key served before")
        if good > index or (kind == "key.rotate" and good != index):
            raise Refused(f"the last good size {good} cannot be")
        words = (f"konsil {kind}", self.node, role, str(good), body["reason"], "")
        message = "\n".join(words).encode() + old + new
        if not signed(self.spans["rec"][-1][1], body["by_rec"], message):
            raise Refused("not signed by the recovery key in force")
        if not signed(new, body["by_new"], message):
            raise Refused("not signed by the new key")
        self.spans[role].append((index, new))
        if kind == "key.revoke":
            self.void.append((old, good, index))

    def in_force(self, role: str, position: int) -> list[bytes]:
        """The key of a role for a position, newest first, and the keys before it."""
        return [key for start, key in reversed(self.spans[role]) if start < position]

    def art_key(self, index: int) -> bytes:
        """The key that signs an artifact which is published at this index."""
        key = self.in_force("art", index)[0]
        if any(key == old and good <= index for old, good, _ in self.void):
            raise Revoked("signed by a revoked key")
        return key

    def believes(self, data: bytes) -> bool:
        """Whether a checkpoint still counts: a key that was revoked later says nothing."""
        try:
            self.open_head(data)
        except Refused:
            return False
        return True

    def open_head(self, data: bytes, own: bool = False) -> Note:
        """A checkpoint of this author's log; nobody else may have signed an own stored one.

        A key that was revoked behind an own stored one is no fault: a stop came between the two.
        """
        note = read_note(data)
        if note.origin != self.origin:
            raise Refused(f"a checkpoint of {note.origin}")
        keys = self.in_force("log", note.size)[:2]
        found, strange = signers(note, self.origin, keys)
        if keys[0] not in found:
            raise Refused("not signed by the log's key in force")
        void = (one for one in self.void if not (own and one[2] >= note.size))
        if any(keys[0] == old and good < note.size for old, good, _ in void):
            raise Revoked("signed by a revoked key")
        if own and strange:
            raise Refused("signed by a key that is not known")
        return note


# --- files ------------------------------------------------------------------------------------


def read_file(path: Path, limit: int) -> bytes:
    """The bytes of a regular file, no link followed, nothing awaited."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise Refused("not a regular file")
        if found.st_size > limit:
            raise Oversized(f"{found.st_size} bytes (at most {limit})")
        return file.read(limit + 1)[:limit]


def file_digest(path: Path, limit: int) -> bytes:
    """The digest of a regular file."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if os.fstat(handle).st_size > limit:
            raise Oversized(f"more than {limit} bytes")
        return hashlib.file_digest(file, "sha256").digest()


def listing(folder: Path, pattern: str, folders: bool = False) -> list[Path]:
    """The regular files of a folder (or its folders) whose names match; no link is followed."""
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            return []
    except (FileNotFoundError, NotADirectoryError):
        return []
    with os.scandir(folder) as items:
        return sorted(
            Path(item.path)
            for item in items
            if re.fullmatch(pattern, item.name)
            and (item.is_dir if folders else item.is_file)(follow_symlinks=False)
        )


NUMBER = "(?P<upper>(?:x[0-9]{3}/)*)(?P<last>[0-9]{3})"
FOLDERS = re.compile(
    "tile|tile/(?:entries|[0-7])(?:/x[0-9]{3}){0,6}|blobs|blobs/sha256|blobs/sha256/[0-9a-f]{2}"
)
FILES = re.compile(
    f"(?P<tail>tail[.](?P<start>0|[1-9][0-9]{{0,18}}))|tile/(?P<level>entries|[0-7])/{NUMBER}"
    "|blobs/sha256/(?P<ab>[0-9a-f]{2})/(?P<blob>(?P=ab)[0-9a-f]{62})|LOCK|checkpoint|cosigned"
    "|index[.]sqlite"
)


@dataclass
class Layout:
    """The files of a ledger by what they are."""

    named: dict[str, Path] = field(default_factory=dict)
    tails: dict[int, Path] = field(default_factory=dict)
    bundles: dict[int, Path] = field(default_factory=dict)
    tiles: dict[tuple[int, int], Path] = field(default_factory=dict)
    blobs: dict[bytes, Path] = field(default_factory=dict)

    def take(self, name: str, path: Path) -> bool:
        """File a regular file under what it is; whether it belongs to a ledger."""
        form = FILES.fullmatch(name)
        if form is None:
            return False
        if form["tail"]:
            if int(form["start"]) % WIDTH:
                return False
            self.tails[int(form["start"])] = path
        elif form["level"]:
            digits = (form["upper"] + form["last"]).replace("x", "").replace("/", "")
            if len(digits) > 3 and digits.startswith("000"):
                return False
            if form["level"] == "entries":
                self.bundles[int(digits)] = path
            else:
                self.tiles[int(form["level"]), int(digits)] = path
        elif form["blob"]:
            self.blobs[bytes.fromhex(form["blob"])] = path
        else:
            self.named[name] = path
        return True


def scan(root: Path, verdict: Verdict) -> Layout:
    """Every file of a ledger; whatever does not belong is a finding."""
    layout, waiting = Layout(), [(root, "")]
    while waiting:
        folder, prefix = waiting.pop()
        with os.scandir(folder) as found:
            items = sorted(found, key=lambda item: item.name)
        for item in items:
            name, path = prefix + item.name, Path(item.path)
            if item.is_dir(follow_symlinks=False) and FOLDERS.fullmatch(name):
                waiting.append((path, name + "/"))
            elif not item.is_file(follow_symlinks=False):
                verdict.add("layout.stray", path, "neither a file nor a folder of a ledger")
            elif not item.name.endswith(".tmp") and not layout.take(name, path):
                verdict.add("layout.stray", path, "does not belong to a ledger")
    return layout


@dataclass
class Slot:
    """One place of a log: its bytes (nil: missing, empty: pruned), its leaf hash, its file.

    `fault` says what is wrong with a frame; `rival` is what stands there instead of an entry with
    this hash.
    """

    data: bytes | None
    leaf: bytes | None
    file: Path
    offset: int | None = None
    fault: str = ""
    rival: bytes = b""


def read_tail(data: bytes, file: Path) -> tuple[list[Slot], int | None]:
    """The frames of a tail, and the offset of a last frame that is torn."""
    found, at = [], 0
    filled = len(data) - len(data.rstrip(b"\0"))
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        end = at + 2 + length + 32
        entry, leaf = data[at + 2 : end - 32], data[end - 32 : end]
        if at + 2 <= len(data) and end <= len(data):
            if leaf == leaf_of(entry) if length else any(leaf):
                found.append(Slot(entry, leaf, file, at + 2))
                at = end
                continue
        elif not whole_frame_ends(data, at):
            return found, at
        if filled >= 8 and end >= len(data) - filled:
            return found, at
        raise Refused(f"the frame at offset {at} does not match its hash")
    return found, None


def whole_frame_ends(data: bytes, start: int) -> bool:
    """Whether a frame that matches its hash lies between `start` and the end, and ends there."""
    rest, leaf = data[max(start, len(data) - 65_569) :], data[-32:]
    if 34 <= len(rest) == len(data) - start and leaf == leaf_of(rest[2:-32]):
        return True
    for at in range(len(rest) - 34):
        length = rest[at] << 8 | rest[at + 1]
        if length == len(rest) - at - 34 and leaf == leaf_of(rest[at + 2 : -32]):
            return True
    return False


def tail_or_rescue(data: bytes, file: Path, first: int) -> tuple[list[Slot], int | None]:
    """The frames of a tail, damaged or not."""
    try:
        return read_tail(data, file)
    except Refused:
        return rescue(data, file, first)


MAP_OF_SEVEN = b"\x87\xa1b"
"""An entry is a map of seven pairs, and the key of the first is `b`."""
SEARCH_BYTES, FAULTS, GUESSES = 64 << 20, 64, 6


def rescue(data: bytes, file: Path, first: int) -> tuple[list[Slot], int | None]:
    """A tail of which a frame is wrong, read around it; the offset of a torn frame as well."""
    slots: list[Slot] = []
    at, purse = 0, SEARCH_BYTES
    while True:
        good, at = sound(data, at, file)
        slots += good
        if at == len(data):
            return slots, None
        resume, purse = next_sound(data, at, purse)
        if resume is None or sum(slot.fault != "" for slot in slots) >= FAULTS:
            break
        number = position_of(data, resume) - first - len(slots)
        slots += split_gap(data, at, resume, max(number, 1), file)
        at = resume
    ending = len(data) - len(data.rstrip(b"\0")) >= 8
    begin, more = at, []
    while at < len(data) and len(more) < FAULTS:
        end = at + 34 + int.from_bytes(data[at : at + 2], "big")
        if 34 <= len(data) - at <= 65_569 and data[-32:] == leaf_of(data[at + 2 : -32]):
            return slots + more + [judged_frame(data, at, len(data), file)], None
        if end > len(data) or (ending and end > len(data.rstrip(b"\0"))):
            if len(more) > 1 and not ending:
                return [*slots, judged_frame(data, begin, len(data), file)], None
            return slots + more, at
        more.append(judged_frame(data, at, end, file))
        at = end
    return slots + more, None


def sound(data: bytes, at: int, file: Path) -> tuple[list[Slot], int]:
    """The frames that match their hashes; one without a body counts if such a one follows it."""
    found: list[Slot] = []
    certain = (0, at)
    while at + 34 <= len(data):
        end = at + 34 + int.from_bytes(data[at : at + 2], "big")
        body, leaf = data[at + 2 : end - 32], data[end - 32 : end]
        if end > len(data) or (body and leaf_of(body) != leaf):
            break
        found.append(Slot(body, leaf, file, at + 2))
        at = end
        if body or (end == len(data) and any(leaf)):
            certain = (len(found), at)
    return found[: certain[0]], certain[1]


def next_sound(data: bytes, at: int, purse: int) -> tuple[int | None, int]:
    """The offset of the next frame with an entry that matches its hash; hashing costs."""
    mark = data.find(MAP_OF_SEVEN, at + 36)
    while mark != -1 and purse > 0:
        end = mark + int.from_bytes(data[mark - 2 : mark], "big")
        if end + 32 <= len(data):
            purse -= end - mark
            if data[end : end + 32] == leaf_of(data[mark:end]):
                return mark - 2, purse
        mark = data.find(MAP_OF_SEVEN, mark + 1)
    return None, purse


def position_of(data: bytes, at: int) -> int:
    """The index that the entry of a sound frame names, or -1."""
    try:
        return read_entry(data[at + 2 : at + 2 + int.from_bytes(data[at : at + 2], "big")]).index
    except Refused:
        return -1


def split_gap(data: bytes, at: int, end: int, number: int, file: Path) -> list[Slot]:
    """The frames between two sound ones, of which so many are missing."""
    found: list[Slot] = []
    number = number if 34 * number <= end - at else 1
    while number > 1:
        after = at + 34 + int.from_bytes(data[at : at + 2], "big")
        if after + 34 * (number - 1) > end:
            text = f"the next {number} frames run into each other"
            return found + [Slot(None, None, file, at + 2, text) for _ in range(number)]
        found.append(judged_frame(data, at, after, file))
        at, number = after, number - 1
    return [*found, judged_frame(data, at, end, file)]


def judged_frame(data: bytes, at: int, end: int, file: Path) -> Slot:
    """A frame with known ends, and what is wrong with it."""
    body, leaf = data[at + 2 : end - 32], data[end - 32 : end]
    text = "" if int.from_bytes(data[at : at + 2], "big") == len(body) else "its length is wrong"
    if not body or leaf_of(body) == leaf:
        return Slot(body, leaf, file, at + 2, text)
    return Slot(None, leaf, file, at + 2, text or "it does not match its hash", body)


ENDING = re.compile(b".*\xa1t[\xa0-\xbf]([.a-z]+)\xa2ts.{1,9}\xa1v\x01", re.DOTALL)


def kept_keys(rest: bytes) -> bool:
    """Whether what is left of an entry ends as one of a known type that changes no key."""
    form = ENDING.fullmatch(rest)
    return form is not None and form[1].decode() in SCHEMAS.keys() - {"key.rotate", "key.revoke"}


def read_bundle(data: bytes, file: Path) -> list[Slot]:
    """The 256 entries of a bundle."""
    found, at = [], 0
    for _ in range(WIDTH):
        length = int.from_bytes(data[at : at + 2], "big")
        entry = data[at + 2 : at + 2 + length]
        if at + 2 + length > len(data):
            raise Refused(f"it ends at offset {len(data)}, in an entry")
        found.append(Slot(entry, leaf_of(entry) if entry else None, file, at + 2))
        at += 2 + length
    if at != len(data):
        raise Refused(f"{len(data) - at} bytes behind the last entry")
    return found


def split_tile(data: bytes) -> list[bytes]:
    """The 256 hashes of a tile."""
    if len(data) != TILE_BYTES:
        raise Refused(f"{len(data)} bytes instead of {TILE_BYTES}")
    return [data[at : at + 32] for at in range(0, TILE_BYTES, 32)]


class Log:
    """The places of one log in order, as its files give them."""

    def __init__(self, layout: Layout, root: Path, verdict: Verdict) -> None:
        self.layout, self.root, self.verdict = layout, root, verdict
        self.slots: list[Slot] = []
        start = self.begin()
        for number in range(start // WIDTH):
            self.slots += self.group(number)
        self.damaged = False
        """whether a tail is, so that what cannot be read is no other history"""
        if start in layout.tails:
            self.slots += self.tail(start, newest=True)
        leaves = self.settle()
        self.tree = Tree([one for one in leaves if one]) if all(leaves) else None
        self.check_ahead(start)
        self.check_upper(start)
        for older in layout.tails:
            if older < start:
                self.check_older(older)

    def settle(self) -> list[bytes | None]:
        """The leaf hashes; of a damaged frame its own or that of its bytes, by the signed root."""
        leaves = [slot.leaf for slot in self.slots]
        odd = [at for at, slot in enumerate(self.slots) if slot.rival]
        size, root = self.claimed()
        within = [at for at in odd if at < size][:GUESSES]
        unknown: list[bytes | None] = [None for _ in leaves]
        if not odd:
            return leaves
        if not all(leaves[:size]) or size > len(leaves):
            return unknown
        for choice in range(1 << len(within)):
            taken = [at for bit, at in enumerate(within) if choice >> bit & 1]
            rivals = {at: leaf_of(self.slots[at].rival) for at in taken}
            tried = [rivals.get(at, leaf) for at, leaf in enumerate(leaves)]
            if Tree([one for one in tried[:size] if one]).root(size) == root:
                for at, leaf in rivals.items():
                    self.slots[at].data, self.slots[at].leaf = self.slots[at].rival, leaf
                return tried if within == odd else unknown
        return unknown

    def claimed(self) -> tuple[int, bytes]:
        """Size and root in the checkpoint, whoever signed it: it only settles doubts here."""
        try:
            note = read_note(read_file(self.layout.named["checkpoint"], NOTE_BYTES))
        except (KeyError, Refused):
            return 0, b""
        return note.size, note.root

    def begin(self) -> int:
        """Where the newest tail begins that something leads up to, or where one is missing."""
        numbers = self.layout.bundles.keys() | {n for level, n in self.layout.tiles if level == 0}
        held = sorted(numbers)
        for start in sorted(self.layout.tails, reverse=True):
            below = sum(number < start // WIDTH for number in held)
            if start // WIDTH - below <= GAP_GROUPS:
                return start
            text = "nothing here leads up to it"
            self.verdict.add("layout.stray", self.layout.tails[start], text)
        self.verdict.add("layout.missing", self.root, "there is no tail")
        reached = 0
        for at, number in enumerate(held):
            reached = number + 1 if number - at <= GAP_GROUPS else reached
        return reached * WIDTH

    def read(self, path: Path, limit: int, code: str) -> bytes | None:
        """The bytes of a file, or nothing and a finding."""
        try:
            return read_file(path, limit)
        except Refused as error:
            self.verdict.add("layout.oversize" if isinstance(error, Oversized) else code, path,
                             str(error))  # fmt: skip
            return None

    def tail(self, start: int, newest: bool) -> list[Slot]:
        """The frames of a tail."""
        path = self.layout.tails[start]
        data = self.read(path, TAIL_BYTES, "layout.stray")
        if data is None:
            return []
        try:
            slots, torn = read_tail(data, path)
        except Refused as error:
            slots, torn = rescue(data, path, start)
            self.damaged = self.damaged or newest
            for at, slot in enumerate(slots, start):
                if slot.fault and slot.offset is not None:
                    self.verdict.add("tail.corrupt", path, slot.fault, offset=slot.offset - 2,
                                     index=at)  # fmt: skip
            if not any(slot.fault for slot in slots):
                self.verdict.add("tail.corrupt", path, str(error), index=start)
        if torn is not None and newest:
            text = "the last frame is torn"
            self.verdict.add("tail.torn", path, text, offset=torn, index=start + len(slots))
        return slots

    def group(self, number: int) -> list[Slot]:
        """A full group of 256 from its bundle and its hash tile."""
        first = number * WIDTH
        bundle, tile = self.layout.bundles.get(number), self.layout.tiles.get((0, number))
        slots = [Slot(None, None, bundle or self.root) for _ in range(WIDTH)]
        if bundle is None:
            text = f"entries {first} … {first + WIDTH - 1} are missing"
            self.verdict.add("bundle.missing", self.root, text, index=first)
        elif (data := self.read(bundle, BUNDLE_BYTES, "layout.stray")) is not None:
            try:
                slots = read_bundle(data, bundle)
            except Refused as error:
                self.verdict.add("bundle.corrupt", bundle, str(error), index=first)
        if tile is None:
            text = f"the hashes of entries {first} … {first + WIDTH - 1} are missing"
            self.verdict.add("tile.missing", self.root, text, index=first)
        elif hashes := self.hashes(tile):
            for at, (slot, leaf) in enumerate(zip(slots, hashes, strict=True)):
                if slot.leaf not in (None, leaf):
                    text = "not the hash of the entry"
                    self.verdict.add("tile.mismatch", tile, text, offset=32 * at, index=first + at)
                    break
                slot.leaf = leaf
        return slots

    def hashes(self, path: Path) -> list[bytes]:
        """The hashes of a tile, or none and a finding."""
        data = self.read(path, TILE_BYTES, "layout.stray")
        try:
            return [] if data is None else split_tile(data)
        except Refused as error:
            self.verdict.add("tile.mismatch", path, str(error))
            return []

    def check_ahead(self, start: int) -> None:
        """Bundles that were written before the tail was shortened hold what the tail holds."""
        for number, path in self.layout.bundles.items():
            if number < start // WIDTH:
                continue
            held = self.slots[number * WIDTH : (number + 1) * WIDTH]
            data = self.read(path, BUNDLE_BYTES, "layout.stray")
            try:
                found = read_bundle(data or b"", path)
            except Refused as error:
                self.verdict.add("bundle.corrupt", path, str(error), index=number * WIDTH)
                continue
            if [one.data for one in found] != [one.data for one in held]:
                text = "not what the tail says"
                self.verdict.add("bundle.corrupt", path, text, index=number * WIDTH)

    def check_upper(self, start: int) -> None:
        """Hash tiles ahead of the tail, and above level 0, are those of the tree."""
        for level in range(1, 8):
            for number in range(start // WIDTH ** (level + 1)):
                if (level, number) not in self.layout.tiles:
                    text = f"hash tile {number} of level {level} is missing"
                    self.verdict.add("tile.missing", self.root, text)
        for (level, number), path in self.layout.tiles.items():
            if level == 0 and number < start // WIDTH:
                continue
            if (number + 1) * WIDTH ** (level + 1) > len(self.slots):
                self.verdict.add("layout.stray", path, "a tile beyond the last entry")
            elif self.tree is not None and (found := self.hashes(path)):
                row = self.tree.rows[8 * level]
                if found != row[number * WIDTH : (number + 1) * WIDTH]:
                    self.verdict.add("tile.mismatch", path, "not the hashes of this log")

    def check_older(self, start: int) -> None:
        """A tail beside a newer one is part of the log, as far as it goes."""
        for at, slot in enumerate(self.tail(start, newest=False), start):
            if at >= len(self.slots) or self.slots[at].leaf not in (None, slot.leaf):
                text = f"its frame is not entry {at} of the log"
                self.verdict.add("tail.corrupt", slot.file, text, offset=slot.offset, index=at)
                return


# --- artifacts: DSSE, in-toto, canonical JSON -------------------------------------------------

HEX, SAFE, VISIBLE = words("[0-9a-f]{64}"), 2**53 - 1, words("[!-~]+")
LABEL = words(".{1,256}")
ENVELOPE = fields(
    payload=octets(0, BLOB_BYTES), payload_type=VISIBLE,
    signatures=listed(fields(keyid=TEXT, sig=SIGNATURE)),
)  # fmt: skip
PREDICATE = fields(
    architecture=HEX,
    base=HEX,
    charter=HEX,
    coverage=fields(
        classes=listed(fields(name=LABEL, rows=whole(0, SAFE))),
        not_evaluated=listed(LABEL),
        rows=whole(0, SAFE),
        tensors=listed(LABEL),
    ),
    kind=words("parameters|data_vector|logits|prototypes|weak_labels"),
    knowledge=optional(HEX),
    parents=listed(HEX),
    payload=fields(
        {"decoded": HEX, "reference": HEX},
        chunk_bytes=whole(1, CHUNK_BYTES),
        chunk_root=HEX,
        digest=HEX,
        format=words(r"safetensors(\+(fp16|int8|topk))?(\+zstd)?"),
        size=whole(1, PAYLOAD_BYTES),
    ),
    privacy=fields(
        delta_e12=whole(0, 10**12),
        epsilon_micro=whole(0, SAFE),
        mechanism=words("[a-z][a-z0-9_-]{0,63}"),
        unit=words("none|patient|record"),
    ),
    publisher=NODE,
    round=whole(0, SAFE),
    sequence=whole(1, SAFE),
    task=words("[!-~]{1,128}"),
)
BUCKETS = {0, *(edge * 10**power for power in range(1, 6) for edge in (1, 2, 5)), 10**6}


def rewritten(value: object, depth: int = 0) -> object:
    """The value with its names in the order of UTF-16, or refused for what JCS here never has."""
    if depth > 8 or isinstance(value, float):
        raise Refused("JSON too deep, or with a fraction")
    if isinstance(value, str):
        return text_of(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, list):
        return [rewritten(one, depth + 1) for one in value]
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        return {rewritten(name): rewritten(value[name], depth + 1) for name in names}
    if isinstance(value, int) and abs(value) > SAFE:
        raise Refused("an integer that JSON does not carry safely")
    return value


def read_json(data: bytes) -> object:
    """The value of a text in canonical JSON (RFC 8785), without fractions."""
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Refused("a statement that is not JSON") from error
    text = json.dumps(rewritten(value), ensure_ascii=False, separators=(",", ":"))
    if text.encode("utf-8", "surrogatepass") != data:
        raise Refused("a statement that is not canonical JSON")
    return value


def read_statement(data: bytes) -> Body:
    """The manifest of an in-toto statement about one payload."""
    value = read_json(data)
    statement = fields(
        _type=words("https://in-toto[.]io/Statement/v1"), predicate=PREDICATE,
        predicateType=words("konsil:artifact/v1"),
        subject=listed(fields(digest=fields(sha256=HEX), name=words("payload"))),
    )  # fmt: skip
    if not statement(value):
        raise Refused("a statement that is no manifest of an artifact")
    manifest: Body = value["predicate"]  # type: ignore[index]
    subject: list[Body] = value["subject"]  # type: ignore[index]
    payload, coverage, privacy = (manifest[one] for one in ("payload", "coverage", "privacy"))
    digest, parents = payload["digest"], manifest["parents"]
    if [one["digest"]["sha256"] for one in subject] != [digest]:
        raise Refused("a statement about another payload")
    if len(set(parents)) != len(parents) or digest in parents or len(parents) > 64:
        raise Refused("parents that cannot be")
    if -(-payload["size"] // payload["chunk_bytes"]) > CHUNKS:
        raise Refused("more chunks than may be")
    plain = payload["format"] in ("safetensors", "safetensors+zstd")
    if ("decoded" in payload) == (payload["format"] == "safetensors"):
        raise Refused("tensors named beside a plain payload, or not named beside an encoded one")
    if plain and "reference" in payload:
        raise Refused("tensors that travel as they are cannot be a change")
    classes = [one["name"] for one in coverage["classes"]] + coverage["not_evaluated"]
    tensors = coverage["tensors"]
    if len(set(classes)) != len(classes) or len(set(tensors)) != len(tensors):
        raise Refused("a class or tensor that is named twice")
    if len(classes) > 4_096 or len(tensors) > 16_384:
        raise Refused("more classes or tensors than may be")
    if not {coverage["rows"], *(one["rows"] for one in coverage["classes"])} <= BUCKETS:
        raise Refused("rows that are no lower edge of a bucket")
    named = privacy["mechanism"] != "none"
    spent = privacy["epsilon_micro"] or privacy["delta_e12"] or privacy["unit"] != "none"
    if named != bool(spent):
        raise Refused("figures of privacy without a mechanism, or a mechanism without figures")
    return manifest


def open_envelope(data: bytes, key: bytes) -> Body:
    """The manifest in a packed envelope that this key signed."""
    if len(data) > BLOB_BYTES:
        raise Refused(f"an envelope of {len(data)} bytes")
    value = canonical(data)
    if not ENVELOPE(value) or len(value["signatures"]) != 1:  # type: ignore[index]
        raise Refused("not an envelope with one signature")
    envelope: Body = value  # type: ignore[assignment]
    (signature,) = envelope["signatures"]
    kind, payload = envelope["payload_type"], envelope["payload"]
    if kind != STATEMENT or signature["keyid"] != sha256(key).hex():
        raise Refused("not an in-toto statement by the publisher's key")
    message = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    if not signed(key, signature["sig"], message):
        raise Refused("the signature does not verify")
    return read_statement(payload)


def open_proof(data: bytes, author: Author) -> tuple[Entry, int, Note]:
    """The publish entry that a tlog-proof shows, its index, and the checkpoint above it."""
    if len(data) > NOTE_BYTES:
        raise Refused(f"a proof of {len(data)} bytes")
    head, _, note_bytes = data.partition(b"\n\n")
    try:
        title, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise Refused("a proof that is not ASCII") from error
    labels = [line.partition(" ") for line in lines[:2]]
    if title != "c2sp.org/tlog-proof@v1" or [one[0] for one in labels] != ["extra", "index"]:
        raise Refused("not a proof with its entry")
    entry, index = read_entry(unbase64(labels[0][2])), decimal(labels[1][2])
    note = author.open_head(note_bytes)
    if included(leaf_of(entry.data), index, note.size, hash_lines(lines[2:])) != note.root:
        raise Refused("the proof does not lead to the signed root")
    if entry.type != "artifact.publish" or entry.index != index:
        raise Refused("not the publish entry of its index")
    return entry, index, note


def ascending(lost: list[Body], size: int) -> bool:
    """Whether spans of lost entries lie below `size`, none of them empty, in order and apart."""
    starts, ends = [one["first"] for one in lost], [one["last"] for one in lost]
    apart = all(end < start for end, start in zip(ends, starts[1:], strict=False))
    return apart and all(map(int.__le__, starts, ends)) and max(ends, default=-1) < size


# --- one home ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Receipt:
    """What a receive entry with a valid proof says about the log of its publisher."""

    entry: Entry
    file: Path

    @property
    def body(self) -> Body:
        """The body of the receive entry."""
        return self.entry.body


class Home:
    """One home: its log, verified in itself, and what it tells about others."""

    def __init__(self, path: Path, verdict: Verdict) -> None:
        self.path, self.verdict = path, verdict
        root = path / "ledger"
        self.layout = scan(root, verdict)
        self.check_lock()
        self.log = Log(self.layout, root, verdict)
        self.entries: dict[int, Entry] = {}
        self.away: frozenset[int] = frozenset()
        """entries whose bodies a start counts as lost"""
        self.redacted: dict[int, Body] = {}
        """what a `log.redact` shows of each entry whose body went"""
        gone = [at for at, slot in enumerate(self.log.slots) if slot.data is None]
        doubts = (at for at in gone if not kept_keys(self.log.slots[at].rival))
        self.first_gap, self.first_doubt = min(gone, default=NEVER), next(doubts, NEVER)
        """the first entry that cannot be read, and the first that may have changed a key as well"""
        self.author: Author | None = None
        self.signed = 0
        self.read_entries()
        self.check_pruned()
        self.check_head("checkpoint")
        self.check_head("cosigned")
        self.blobs = self.verified(self.layout.blobs)
        self.payloads = self.verified(self.stored_payloads())
        self.receipts: list[Receipt] = []
        self.numbers: list[tuple[tuple[str, str, int], bytes, Path, int]] = []
        """(publisher, kind, sequence), envelope and place of every artifact seen signed"""
        self.made: dict[bytes, frozenset[bytes]] = {}
        """each model that this log made, and from what; one from nothing else is a base"""
        self.sent: dict[bytes, frozenset[bytes]] = {}
        self.spoken: dict[bytes, int] = {}
        """the entry in which this log first made each of them, else released it"""
        self.unchecked = self.replayed = self.not_replayed = 0
        self.unproven: list[int] = []
        """mixes of which a payload is missing"""
        self.witnessed: list[tuple[Note, str]] = []
        """checkpoints of other logs that were accepted here, and where they stand"""
        self.strangers = False
        """whether a key of another member may have changed where nobody can read it"""

    def say(self, model: bytes, index: int) -> None:
        """Remember where a model was first made; a release before that counts no more."""
        if model not in self.made:
            self.spoken[model] = index

    def words(self) -> dict[bytes, frozenset[bytes]]:
        """What this log says of the models that it made: from what."""
        return {
            model: things for model, things in (self.sent | self.made).items()
            if model not in things
        }  # fmt: skip

    def check_lock(self) -> None:
        """The lock holds no bytes."""
        lock = self.layout.named.get("LOCK")
        if lock is not None and os.lstat(lock).st_size:
            self.verdict.add("layout.oversize", lock, "a lock is empty")

    def place(self, index: int) -> Body:
        """Offset and index of an entry, for a finding."""
        return {"offset": self.log.slots[index].offset, "index": index}

    def note(self, code: str, index: int, text: str) -> None:
        """A finding about an entry."""
        if code in ON_WHAT_WAS_BEFORE and self.holes(index):
            return
        if (code in ON_KEYS and self.doubtful(index)) or (code in ON_OTHER_KEYS and self.strangers):
            return
        self.verdict.add(code, self.log.slots[index].file, text, **self.place(index))

    def holes(self, index: int) -> bool:
        """Whether an entry up to this one cannot be read, which is a finding already."""
        return self.first_gap <= index

    def doubtful(self, upto: int | None = None) -> bool:
        """Whether an entry that cannot be read, up to an index, may have changed a key."""
        return self.first_doubt <= (NEVER - 1 if upto is None else upto)

    def read_entries(self) -> None:
        """Every entry in itself, and against those before it."""
        salts: set[bytes] = set()
        newest = 0
        for index, slot in enumerate(self.log.slots):
            if not slot.data:
                continue
            try:
                entry = read_entry(slot.data)
            except Refused as error:
                self.note("entry.encoding", index, str(error))
                continue
            if entry.index != index:
                self.note("entry.position", index, f"it says that it is entry {entry.index}")
            if entry.salt in salts:
                self.note("entry.salt", index, "its salt was used before")
            if entry.time < newest:
                self.note("entry.time", index, f"{newest - entry.time} ms before another")
            salts.add(entry.salt)
            newest = max(newest, entry.time)
            self.entries[index] = entry
            self.found(index, entry)
        told = any(EXIT_OF[one.code] == TAMPERED for one in self.verdict.findings)
        gone = told and self.log.slots and self.log.slots[0].data is None
        if self.author is None and not gone:
            self.verdict.add("entry.genesis", self.path / "ledger", "no valid genesis entry")

    def found(self, index: int, entry: Entry) -> None:
        """Whose log this is, and a change of its keys."""
        try:
            if entry.type == "node.genesis":
                if index:
                    raise Refused("a second genesis entry")
                self.author = Author(entry)
        except Refused as error:
            self.note("entry.genesis", index, str(error))
        try:
            if entry.type in ("key.rotate", "key.revoke") and self.author:
                self.author.change(index, entry.type, entry.body)
        except Refused as error:
            self.note("key.change", index, str(error))
        if entry.type == "node.boot":
            tree = self.log.tree
            here = (index, tree.root(index) if tree else entry.body["root"])
            if (entry.body["size"], entry.body["root"]) != here:
                self.note("boot.state", index, "not the size and root of the entries before it")
            if not ascending(entry.body["lost"], entry.body["size"]):
                self.note("boot.state", index, "it counts as lost what cannot be")

    def check_pruned(self) -> None:
        """A body that is not here was redacted, or was lost and is counted as that."""
        excused: dict[tuple[int, bytes], Body] = {}
        lost: list[Body] = []
        away: list[int] = []
        for entry in self.entries.values():
            if entry.type == "log.redact" and redaction_holds(entry):
                excused[entry.body["index"], entry.body["leaf"]] = entry.body
            elif entry.type == "node.boot" and ascending(entry.body["lost"], entry.body["size"]):
                lost += entry.body["lost"]
        for index, slot in enumerate(self.log.slots):
            if slot.data != b"":
                continue
            if slot.leaf and (word := excused.get((index, slot.leaf))):
                self.redacted[index] = word
                continue
            if any(one["first"] <= index <= one["last"] for one in lost):
                away.append(index)
            else:
                self.note("entry.pruned", index, "its body is gone, and nothing says why it may")
        if away:
            self.note("entry.lost", away[0], f"{len(away)} bodies from here on never came back")
        self.away = frozenset(away)
        self.first_gap = min(self.first_gap, min(away, default=NEVER))
        self.check_hidden_times()

    def check_hidden_times(self) -> None:
        """The time of an entry whose body was redacted is known, and stands in order as well."""
        seen = hidden = 0
        for index in sorted(self.entries.keys() | self.redacted.keys()):
            if index in self.entries:
                time = self.entries[index].time
                odd, seen = seen <= time < hidden, max(seen, time)
            else:
                time = self.redacted[index]["written_ms"]
                odd, hidden = time < max(seen, hidden), max(hidden, time)
            if odd:
                self.note("entry.time", index, "before another, of which a redaction tells")

    def check_head(self, name: str) -> None:
        """A stored checkpoint is signed by the owner, and of these entries."""
        path, log = self.layout.named.get(name), self.log
        if path is None:
            if name == "checkpoint":
                self.verdict.add("layout.missing", self.path / "ledger", "no checkpoint")
            return
        if self.author is None:
            return
        try:
            head = self.author.open_head(read_file(path, NOTE_BYTES), own=name == "checkpoint")
        except Refused as error:
            if isinstance(error, Revoked) and name == "cosigned":
                return  # void since: it says nothing any more
            if not (self.doubtful() and self.unknown_signer(path)):
                self.verdict.add(f"{name}.corrupt", path, str(error))
            return
        self.signed = max(self.signed, head.size)
        if head.size > len(log.slots):
            text = f"signed for {head.size} entries; {len(log.slots)} are here"
            self.verdict.add("checkpoint.rollback", path, text)
        elif log.tree is None and log.damaged:
            return
        elif log.tree is None or log.tree.root(head.size) != head.root:
            text = f"the first {head.size} entries are not those that were signed for"
            self.verdict.add("checkpoint.root", path, text)

    def unknown_signer(self, path: Path) -> bool:
        """Whether the owner signed with a key of which no entry tells."""
        try:
            lines = read_note(read_file(path, NOTE_BYTES)).lines
        except Refused:
            return False
        owner = self.author
        ids = {key_id(owner.origin, 1, key) for _, key in owner.spans["log"]} if owner else set()
        return any(owner and name == owner.origin and data[:4] not in ids for name, data in lines)

    def stored_payloads(self) -> dict[bytes, Path]:
        """The payloads that lie where payloads lie; anything else there is nobody's."""
        found: dict[bytes, Path] = {}
        for path in listing(self.path / "blobs" / "sha256", "[0-9a-f]{2}", folders=True):
            for blob in listing(path, f"{path.name}[0-9a-f]{{62}}"):
                found[bytes.fromhex(blob.name)] = blob
        return found

    def verified(self, blobs: dict[bytes, Path]) -> dict[bytes, Path]:
        """Those of the files whose bytes are the bytes of their names."""
        found = {}
        for digest, path in blobs.items():
            try:
                if file_digest(path, PAYLOAD_BYTES) == digest:
                    found[digest] = path
                else:
                    self.verdict.add("blob.corrupt", path, "not the bytes of its name")
            except Oversized as error:
                self.verdict.add("layout.oversize", path, str(error))
        return found

    def blob(self, index: int, name: str) -> bytes | None:
        """The blob that a field of an entry names, or nothing and a finding."""
        digest = self.entries[index].body[name]
        if digest is None:
            return None
        if digest not in self.layout.blobs:
            self.note("blob.missing", index, f"{name} {digest.hex()} is not here")
        elif digest in self.blobs:
            try:
                return read_file(self.blobs[digest], BLOB_BYTES)
            except Oversized as error:
                self.verdict.add("layout.oversize", self.blobs[digest], str(error))
        return None


# --- what a home keeps of others --------------------------------------------------------------


@dataclass
class Account:
    """What one home says of the keys of a log: its own home, or a mirror as far as it is signed."""

    home: Home
    author: Author
    leaves: list[bytes | None]
    """of a mirror those that a checkpoint covers; in a log's own home nil where unreadable"""
    data: bytes | None = None
    """the checkpoint that covers a mirror"""

    def changes(self) -> dict[int, bytes | None]:
        """The leaf hash of every change of a key, by index."""
        starts = (at for spans in self.author.spans.values() for at, _ in spans if at >= 0)
        return {at: self.leaves[at] for at in starts}

    def denies(self, other: Account) -> bool:
        """Whether something else stands here where the other account has a change of a key."""
        held = ((at, leaf) for at, leaf in other.changes().items() if at < len(self.leaves))
        return any(None not in (leaf, self.leaves[at]) and leaf != self.leaves[at]
                   for at, leaf in held)  # fmt: skip

    def voids(self, other: Account) -> bool:
        """Whether all keys that signed for the other account are revoked here at its size."""
        if other.data is None:
            return False
        note, owner = read_note(other.data), self.author
        ids = {material[:4] for name, material in note.lines if name == owner.origin}
        keys = [key for _, key in owner.spans["log"] if key_id(owner.origin, 1, key) in ids]
        gone = {key for key, good, _ in owner.void if good < note.size}
        return bool(keys) and gone.issuperset(keys)


class Known:
    """Everybody whose genesis entry is here, with the keys that the given homes show.

    The home of the author counts in full, a mirror as far as a checkpoint covers it that its
    holder accepted. Two accounts that cannot both be are a fork of the author.
    """

    def __init__(self, homes: list[Home]) -> None:
        self.agreed: dict[str, Author] = {}
        self.apart: dict[tuple[str, Path], Author] = {}
        """of who forked: the account of each home that has one"""
        self.forks: list[tuple[str, Path]] = []
        cards: dict[str, Entry] = {}
        for home in homes:
            for path in listing(home.path / "peers", ".*[.]genesis"):
                with suppress(Refused):
                    entry = read_entry(read_file(path, ENTRY_BYTES))
                    cards[Author(entry).node] = entry
        own = {home.author.node: home.author for home in homes if home.author}
        for node in cards.keys() | own.keys():
            self.agreed[node] = own[node] if node in own else Author(cards[node])
            first = next((home.entries[0] for home in homes if home.author is own.get(node)
                          and node in own and 0 in home.entries), cards.get(node))  # fmt: skip
            if first is not None:
                self.look(node, first, homes)

    def of(self, home: Home) -> dict[str, Author]:
        """The members as one home is held against them."""
        return self.agreed | {
            node: a for (node, path), a in self.apart.items() if path == home.path
        }

    def look(self, node: str, first: Entry, homes: list[Home]) -> None:
        """Take the accounts of one log together."""
        found = [
            Account(home, home.author, [None if one.data is None else one.leaf
                                        for one in home.log.slots])
            for home in homes if home.author and home.author.node == node
        ]  # fmt: skip
        mirrors = [(home, home.path / "peers" / f"{node}.mirror") for home in homes]
        changed = any(one.changes() for one in found)
        if not changed and not any(b"key.r" in quiet(path) for _, path in mirrors):
            return
        found += [one for home, path in mirrors for one in signed_for(home, path, first)]
        found = [
            one for one in found
            if not any(other.voids(one) and not one.voids(other) for other in found)
        ]  # fmt: skip
        if any(one.denies(other) for one in found for other in found):
            self.forks.append((node, found[0].home.path))
            self.apart |= {(node, one.home.path): one.author for one in found}
        for one in found:
            if len(one.changes()) > changes(self.agreed[node]):
                self.agreed[node] = one.author


def changes(author: Author) -> int:
    """How often a key of the author changed."""
    return sum(map(len, author.spans.values())) - len(ROLES)


def quiet(path: Path) -> bytes:
    """The bytes of a mirror, or nothing."""
    try:
        return read_file(path, TAIL_BYTES)
    except (OSError, Refused):
        return b""


def signed_for(home: Home, mirror: Path, first: Entry) -> list[Account]:
    """The account of a mirror up to the largest accepted checkpoint that covers it, if any."""
    author, leaves, shown = Author(first), [], {}
    slots, _ = tail_or_rescue(quiet(mirror), mirror, 0)
    for index, slot in enumerate(slots):
        if slot.fault or not slot.leaf:
            break
        leaves.append(slot.leaf)
        if slot.data and b"key.r" in slot.data:
            shown[index] = slot.data
    tree, best = Tree(leaves), (0, b"")
    notes = [(note.size, data) for note, data in accepted_of(home.path, author.origin)]
    for size, data in sorted(notes):
        if size <= len(leaves):
            follow(author, {at: one for at, one in shown.items() if at < size})
            with suppress(Refused):
                if author.open_head(data).root == tree.root(size):
                    best = size, data
    size, data = best
    author = Author(first)
    follow(author, {at: one for at, one in shown.items() if at < size})
    return [Account(home, author, list(leaves[:size]), data)] if size else []


def accepted_of(home: Path, origin: str) -> list[tuple[Note, bytes]]:
    """The checkpoints of one log that a home has accepted, whoever signed them."""
    found = []
    for data in accepted_by_now(home):
        with suppress(Refused):
            note = read_note(data)
            if note.origin == origin:
                found.append((note, data))
    return found


def follow(author: Author, shown: dict[int, bytes]) -> None:
    """Take over every good change of keys that is newer than what the author has."""
    reached = max(at for spans in author.spans.values() for at, _ in spans)
    for index, data in shown.items():
        with suppress(Refused):
            entry = read_entry(data)
            if index > reached and entry.index == index and entry.type.startswith("key."):
                author.change(index, entry.type, entry.body)


def check_cosigners(home: Home, authors: dict[str, Author]) -> None:
    """Every line under the cosigned checkpoint is the log's own, or a known member's, and good."""
    path, owner = home.layout.named.get("cosigned"), home.author
    if path is None or owner is None:
        return
    try:
        note = read_note(read_file(path, NOTE_BYTES))
    except Refused:
        return
    own = {key_id(owner.origin, 1, key) for _, key in owner.spans["log"]}
    strangers = 0
    for name, material in note.lines:
        if name == owner.origin and material[:4] in own:
            continue
        member = authors.get(name.rpartition("/")[2])
        spans = member.spans["wit"] if member and member.origin == name else []
        fitting = [key for _, key in spans if key_id(name, 4, key) == material[:4]]
        seconds = int.from_bytes(material[4:12], "big")
        claim = f"cosignature/v1\ntime {seconds}\n{note.text}".encode()
        if not fitting:
            strangers += 1
        elif len(material) != 76 or seconds >> 63 or not signed(fitting[0], material[12:], claim):
            home.verdict.add("cosigned.corrupt", path, f"the line of {name} does not verify")
            return
    if strangers:
        text = f"{strangers} lines by whom nothing here makes known"
        home.verdict.add("cosigned.unknown", path, text)


class Keepsakes:
    """The folder `peers/` of a home, held against what the members signed."""

    def __init__(self, home: Home, authors: dict[str, Author], early: frozenset[bytes]) -> None:
        self.early = early
        """what had been accepted before any log was read: a log that grows meanwhile is no liar"""
        self.folder, self.verdict, self.authors = home.path / "peers", home.verdict, authors
        self.witnessed = home.witnessed
        self.roots: dict[str, dict[int, bytes]] = {}

    def judge(self) -> None:
        """Look at every file of a kind that the specification names."""
        try:
            names = sorted(os.listdir(self.folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        if "witness.log" in names:
            self.held(self.folder / "witness.log", "peers.witnessed", self.record)
        for name in names:
            path = self.folder / name
            form = re.fullmatch("([a-z2-7]{32})[.](genesis|mirror)", name)
            if form is None:
                if name.endswith((".genesis", ".mirror")):
                    self.verdict.add("peers.genesis", path, "no member has this name")
            elif form[2] == "genesis":
                self.held(path, "peers.genesis", self.card)
            else:
                self.held(path, "peers.mirror", self.mirror)

    def held(self, path: Path, code: str, look: Callable[[Path], None]) -> None:
        """Look at one file; what is refused is a finding."""
        try:
            look(path)
        except FileNotFoundError:
            return
        except OSError as error:
            # What is a link, a folder or a device cannot even be opened as a file.
            if os.path.isfile(path) and not os.path.islink(path):
                raise
            self.verdict.add(code, path, error.strerror or "not a file")
        except Refused as error:
            self.verdict.add(code, path, str(error))

    def card(self, path: Path) -> None:
        """A genesis entry is that of the member in the name of its file."""
        node = Author(read_entry(read_file(path, ENTRY_BYTES))).node
        if node != path.stem:
            raise Refused(f"the genesis entry of {node}")

    def record(self, path: Path) -> None:
        """What was accepted chains, and was signed."""
        notes, torn = read_chain(read_file(path, RECORD_BYTES))
        for at, data in notes:
            try:
                note = read_note(data)
                author = self.authors.get(note.origin.rpartition("/")[2])
                keys = [] if author is None else [key for _, key in author.spans["log"]]
                if author is None or author.origin != note.origin:
                    keys = []
                if signers(note, note.origin, keys)[0]:
                    if author and author.believes(data):
                        node = note.origin.rpartition("/")[2]
                        self.roots.setdefault(node, {})[note.size] = note.root
                    if author and data in self.early and author.believes(data):
                        self.witnessed.append((note, f"{path}, offset {at}"))
                else:
                    text = f"nothing here makes known who signs for {note.origin}"
                    self.verdict.add("peers.unknown", path, text, offset=at)
            except Refused as error:
                self.verdict.add("peers.witnessed", path, str(error), offset=at)
        if torn is not None:
            self.verdict.add("peers.witnessed", path, "the chain is broken", offset=torn)

    def mirror(self, path: Path) -> None:
        """A copy of a log matches its hashes and leads to what was signed, as far as it goes."""
        data = read_file(path, TAIL_BYTES)
        if path.stem not in self.authors:
            text = "nothing here makes known whose log this is"
            self.verdict.add("peers.unknown", path, text)
            return
        slots, _ = read_tail(data, path)
        tree = Tree([slot.leaf for slot in slots if slot.leaf])
        for size, root in sorted(self.roots.get(path.stem, {}).items()):
            if size <= len(slots) and tree.root(size) != root:
                raise Refused(f"its first {size} entries are not what was signed")


RECORD_BYTES = 64 << 20


def accepted_by_now(home: Path) -> frozenset[bytes]:
    """The checkpoints of others that a home has accepted, whoever signed them."""
    try:
        notes, _ = read_chain(read_file(home / "peers" / "witness.log", RECORD_BYTES))
    except (OSError, Refused):
        return frozenset()
    return frozenset(data for _, data in notes)


def read_chain(data: bytes) -> tuple[list[tuple[int, bytes]], int | None]:
    """The notes of a record of accepted checkpoints, and where it stops being a chain."""
    notes: list[tuple[int, bytes]] = []
    before, at = bytes(32), 0
    while at < len(data) and any(data[at:]):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if end + 32 > len(data):
            sums = hashlib.sha256(b"\2" + before)
            for stop in range(at + 2, min(len(data) - 32, at + 65_537) + 1):
                if sums.digest() == data[stop : stop + 32]:
                    return notes, at
                sums.update(data[stop : stop + 1])
            return notes, None
        after = sha256(b"\2" + before + data[at + 2 : end])
        if after != data[end : end + 32]:
            unwritten = end + 32 == len(data) and not any(data[-8:])
            return notes, None if unwritten else at
        notes.append((at, data[at + 2 : end]))
        before, at = after, end + 32
    return notes, None


# --- what the entries of a home claim ---------------------------------------------------------


class Claims:
    """The entries of one home against its blobs and against what came before."""

    def __init__(self, home: Home, authors: dict[str, Author], payloads: dict[bytes, Path]) -> None:
        self.home, self.authors, self.payloads = home, authors, payloads
        self.newest: dict[str, int] = {}
        self.received: dict[tuple[bytes, str], set[tuple[str, str]]] = {}
        self.tensors: dict[bytes, bytes] = {}
        """of what travelled encoded: the digest of the tensors that its publisher signed"""
        self.began: bytes | None = None
        self.unlearned = [
            at for at, word in home.redacted.items() if word["kind"] == "unlearn.done"
        ]

    def judge(self, replay: bool) -> None:
        """Go over all entries in order."""
        for index, entry in self.home.entries.items():
            if not entry.known:
                continue
            named = BLOBS_OF.get(entry.type, ())
            if entry.type == "member.suspend" and entry.body["credential"] is None:
                named = ("evidence",)
            blobs = {name: self.home.blob(index, name) for name in named}
            if entry.type == "artifact.publish":
                self.publish(index, entry, blobs["env"])
            elif entry.type == "artifact.receive":
                self.receive(index, entry, blobs["env"], blobs["proof"])
            elif entry.type == "artifact.integrate":
                self.integrate(index, entry.body, replay)
            elif entry.type == "model.train":
                self.explain(index, entry.body["base"])
                self.make(index, entry.body["out"], [entry.body["base"]])
            elif entry.type == "model.base":
                self.began = self.began or entry.body["model"]
                self.make(index, entry.body["model"], [])
            elif entry.type == "unlearn.done":
                self.explain(index, entry.body["old"])
                self.home.say(entry.body["new"], index)
                self.home.made.setdefault(entry.body["new"], frozenset())
            elif entry.type == "peer.exposed":
                self.accuse(index, entry.body, blobs["evidence"])

    def accuse(self, index: int, body: Body, proof: bytes | None) -> None:
        """Nobody is exposed but by a fork proof that holds."""
        author = self.authors.get(body["node"])
        if author is None or proof is None:
            return
        try:
            fork_shown(proof, author)
        except Refused as error:
            self.home.note("peer.accusation", index, str(error))

    def explain(self, index: int, model: bytes) -> None:
        """A model that something was made from has an entry before.

        An unlearning whose body was redacted made one model, from nothing: the first that no
        other entry explains.
        """
        if model not in self.home.made and any(at < index for at in self.unlearned):
            del self.unlearned[0]
            self.home.made[model] = frozenset()
        if model not in self.home.made:
            text = f"{model.hex()} is used, and no entry before says where it is from"
            self.home.note("lineage.gap", index, text)

    def make(self, index: int, model: bytes, parents: Iterable[bytes]) -> None:
        """A model is made once, or again from the same; from itself it is not made at all."""
        things = frozenset(parents)
        if model in things:
            return
        self.home.say(model, index)
        if self.home.made.setdefault(model, things) != things:
            self.home.note("lineage.reused", index, f"{model.hex()} was made from something else")

    def publish(self, index: int, entry: Entry, data: bytes | None) -> None:
        """What is published has a growing number and an envelope that says the same."""
        home, body = self.home, entry.body
        if body["sequence"] <= self.newest.get(body["kind"], 0):
            text = f"number {body['sequence']} of {body['kind']} is not above the one before"
            home.note("publish.sequence", index, text)
        self.newest[body["kind"]] = body["sequence"]
        if body["art"] not in home.made:
            for model in body["derived_from"]:
                self.explain(index, model)
            if not any(at < index for at in self.unlearned):
                home.sent.setdefault(body["art"], frozenset(body["derived_from"]))
            home.spoken.setdefault(body["art"], index)
        if data is None or home.author is None:
            return
        try:
            manifest = open_envelope(data, home.author.art_key(index))
            payload = manifest["payload"]
            said = {
                "publisher": (manifest["publisher"], home.author.node),
                "payload": (payload["digest"], body["art"].hex()),
                "chunk_root": (payload["chunk_root"], body["chunk_root"].hex()),
                "size": (payload["size"], body["size"]),
                "kind": (manifest["kind"], body["kind"]),
                "sequence": (manifest["sequence"], body["sequence"]),
                "parents": (manifest["parents"], [one.hex() for one in body["derived_from"]]),
                "charter": (manifest["charter"], entry.charter.hex()),
                "knowledge": (
                    manifest["knowledge"],
                    body["knowledge"] and body["knowledge"].hex(),
                ),
            }
            if other := [name for name, (one, two) in said.items() if one != two]:
                raise Refused(f"envelope and entry differ in {', '.join(other)}")
        except Revoked as error:
            home.note("publish.revoked", index, str(error))
        except Refused as error:
            home.note("publish.envelope", index, str(error))
        else:
            self.number(index, manifest, body["env"])

    def number(self, index: int, manifest: Body, env: bytes) -> None:
        """Remember a number that a publisher signed."""
        key = (manifest["publisher"], manifest["kind"], manifest["sequence"])
        self.home.numbers.append((key, env, self.home.log.slots[index].file, index))

    def receive(self, index: int, entry: Entry, env: bytes | None, proof: bytes | None) -> None:
        """What was received was signed and published by whom the entry names."""
        home, body = self.home, entry.body
        known = self.received.setdefault((body["art"], body["publisher"]), set())
        author = self.authors.get(body["publisher"])
        if author is None:
            home.unchecked += 1
            return
        if env is not None:
            try:
                manifest = open_envelope(env, author.art_key(body["index"]))
                if manifest["publisher"] != author.node:
                    raise Refused(f"the envelope is of {manifest['publisher']}")
                known.add((manifest["kind"], manifest["base"]))
                if manifest["payload"]["digest"] != body["art"].hex():
                    raise Refused("the envelope is of another payload")
                if decoded := manifest["payload"].get("decoded"):
                    self.tensors[body["art"]] = bytes.fromhex(decoded)
                self.number(index, manifest, body["env"])
            except Revoked as error:
                home.note("receive.revoked", index, str(error))
            except Refused as error:
                home.note("receive.envelope", index, str(error))
        if proof is None:
            return
        try:
            shown, position, head = open_proof(proof, author)
            here = (position, shown.body["art"], shown.body["env"], head.size, head.root)
            if here != tuple(body[one] for one in ("index", "art", "env", "size", "root")):
                raise Refused("the proof shows something else")
            home.receipts.append(Receipt(entry, home.log.slots[index].file))
        except Revoked as error:
            home.note("receive.revoked", index, str(error))
        except Refused as error:
            home.note("receive.proof", index, str(error))

    def integrate(self, index: int, body: Body, replay: bool) -> None:
        """A mix adds up, and each of its parts is the node's own or was received."""
        home, parts = self.home, body["parts"]
        pairs = [(part["art"], part["node"]) for part in parts]
        total = sum(part["w_e9"] for part in parts)
        if total != UNIT_E9 or len(set(pairs)) != len(pairs):
            text = f"{len(pairs)} parts with weights that sum to {total}, or one stands twice"
            home.note("integrate.sum", index, text)
        self.explain(index, body["base"])
        for art, node in pairs:
            if home.author and node == home.author.node:
                self.explain(index, art)
            elif (art, node) not in self.received:
                home.note("integrate.unlogged", index, f"{art.hex()} of {node} was never received")
            elif odd := self.odd(body["rule"], self.received[art, node]):
                text = f"the rule {body['rule']} took in what {node} gave as {odd}"
                home.note("integrate.rule", index, text)
        self.make(index, body["out"], [art for art, _ in pairs])
        taught = body["rule"] in TAUGHT and len(pairs) > 1
        if not replay or taught:
            return
        vectors = body["rule"] == "evidence-vectors/1" and len(pairs) > 1
        plain = [self.tensors.get(art, art) for art, _ in pairs]
        needed = plain + [self.began or b""] * vectors
        if not all(art in self.payloads for art in needed):
            home.unproven.append(index)
            return
        try:
            if total != UNIT_E9:
                raise Refused("weights that do not sum to one give nothing")
            under = self.payloads[self.began or b""] if vectors else None
            try:
                digest, portable = mixed(body, [self.payloads[one] for one in plain], under)
            except Refused:
                if all(self.received.get(pair, True) for pair in pairs):
                    raise
                # A manifest that cannot be read may say that its payload travelled encoded.
                home.unproven.append(index)
                return
            if digest != body["out"] and portable:
                raise Refused(f"the parts do not give {body['out'].hex()}")
            home.replayed += digest == body["out"]
            home.not_replayed += digest != body["out"]
        except Refused as error:
            home.note("integrate.replay", index, str(error))

    def odd(self, rule: str, known: set[tuple[str, str]]) -> str:
        """The kind, or the base, by which a rule may not take something in; empty for none."""
        for kind, base in sorted(known):
            if rule not in rules_for(kind, rule):
                return kind
            if kind == "data_vector" and self.began and base != self.began.hex():
                return f"a difference from {base}"
        return ""


# --- mixes, computed again --------------------------------------------------------------------

DTYPES = {
    8: "F64 I64 U64",
    4: "F32 I32 U32",
    2: "F16 BF16 I16 U16",
    1: "F8_E4M3 F8_E5M2 I8 U8 BOOL",
}
WIDTHS = {name: width for width, names in DTYPES.items() for name in names.split()}
FLOATING = ("F16", "BF16", "F32", "F64")
TENSOR = fields(
    data_offsets=listed(whole(0, PAYLOAD_BYTES)), dtype=words("|".join(WIDTHS)),
    shape=listed(whole(0, PAYLOAD_BYTES)),
)  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """Type and shape of a tensor, and where it lies behind the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_tensors(path: Path) -> tuple[int, dict[str, Tensor]]:
    """Where the data of a safetensors file begins, and its tensors in the order of their data."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if length <= CHUNK_BYTES else b""
        size = os.fstat(file.fileno()).st_size - 8 - length
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path.name} has no header") from error
    if not text.startswith(b"{") or not text.rstrip(b" ").endswith(b"}"):
        raise Refused(f"{path.name} has no header")
    names = [text_of(name.encode("utf-8", "surrogatepass")) for name in header]
    if len(names) > 16_384 or not all(0 < len(name.encode()) <= 256 for name in names):
        raise Refused(f"{path.name} has tensors without a proper name, or too many")
    if not all(
        TENSOR(one) and len(one["data_offsets"]) == 2 and len(one["shape"]) <= 8
        for one in header.values()
    ):
        raise Refused(f"{path.name} has a header that is no table of tensors")
    tensors = {
        name: Tensor(one["dtype"], tuple(one["shape"]), *one["data_offsets"])
        for name, one in sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    }
    reached = 0
    for tensor in tensors.values():
        count = WIDTHS[tensor.dtype]
        for length_of_axis in tensor.shape:
            count *= length_of_axis
        if tensor.begin != reached or tensor.end != reached + count:
            raise Refused(f"{path.name} has tensors that overlap, or a gap")
        reached = tensor.end
    if reached != size:
        raise Refused(f"{path.name} has {size} bytes of tensors instead of {reached}")
    return 8 + length, tensors


def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object in which no name stands twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refused("a header with a name twice")
    return found


def widened(data: bytes, dtype: str) -> array[float]:
    """The values of a floating tensor in float64."""
    if dtype == "F16":
        return array("d", (one for (one,) in struct.iter_unpack("<e", data)))
    if dtype == "BF16":
        data = b"".join(b"\0\0" + data[at : at + 2] for at in range(0, len(data), 2))
    values = array("d" if dtype == "F64" else "f", data)
    if sys.byteorder == "big":
        values.byteswap()
    return array("d", values)


def narrowed(values: array[float], dtype: str) -> bytes:
    """The values, rounded once to the stored type."""
    if dtype == "F16":
        return b"".join(map(half, values))
    if dtype == "BF16":
        return b"".join(struct.pack("<H", brain(one)) for one in values)
    found = array("d" if dtype == "F64" else "f", values)
    if sys.byteorder == "big":
        found.byteswap()
    return found.tobytes()


def half(value: float) -> bytes:
    """The nearest float16, infinite where none is near."""
    try:
        return struct.pack("<e", value)
    except OverflowError:
        return struct.pack("<e", float("inf") if value > 0 else float("-inf"))


def brain(value: float) -> int:
    """The bits of the nearest bfloat16, ties to even: to float32 towards zero, sticky, and on."""
    if value != value:
        return 0x7FC0
    near = array("f", [value])
    bits = int.from_bytes(near.tobytes(), sys.byteorder)
    if abs(near[0]) > abs(value):
        bits -= 1
    if near[0] != value:
        bits |= 1
    return bits + 0x7FFF + (bits >> 16 & 1) >> 16


TAUGHT = ["evidence-logits/1", "evidence-labels/1", "evidence-prototypes/1"]
"""Rules under which only the hospital can repeat what it made of the others' parts."""


def rules_for(kind: str, rule: str) -> list[str]:
    """The rules by which artifacts of a kind may be taken in; `rule` itself if any other may."""
    special = {
        "data_vector": ["evidence-vectors/1"],
        "logits": TAUGHT[:2],
        "prototypes": TAUGHT[2:],
        "weak_labels": TAUGHT[:2],
    }
    if kind == "parameters":
        return [rule] * all(rule not in others for others in special.values())
    return special.get(kind, [])


def mixed(body: Body, paths: list[Path], under: Path | None) -> tuple[bytes, bool]:
    """The digest of the payload that the parts give; false where the bits of a NaN are in it.

    With a base `under` them, all parts but the first are differences from it.
    """
    weights = [part["w_e9"] for part in body["parts"]]
    if under is not None:
        paths = [paths[0], under, *paths[1:]]
        weights.insert(1, UNIT_E9 - weights[0])
    tables = [read_tensors(path) for path in paths]
    begin, tensors = tables[0]
    if not set(body["not_mixed"]) <= tensors.keys():
        raise Refused("a tensor that is not mixed does not exist")
    alike = {name: (one.dtype, one.shape) for name, one in tensors.items()}
    summed = {
        name: one
        for name, one in alike.items()
        if one[0] in FLOATING and name not in body["not_mixed"]
    }
    for place, (_, table) in enumerate(tables):
        wanted = alike if under is None or place < 2 else summed
        if {name: (one.dtype, one.shape) for name, one in table.items()} != wanted:
            raise Refused("the parts do not have the tensors that they must have")
    sources = [(path, start, table) for path, (start, table) in zip(paths, tables, strict=True)]
    with paths[0].open("rb") as file:
        digest = hashlib.sha256(file.read(begin))
    portable = True
    for name, tensor in tensors.items():
        if name in body["not_mixed"] or tensor.dtype not in FLOATING:
            digest.update(stored(*sources[0], name))
            continue
        total: array[float] | None = None
        for weight, source in zip(weights, sources, strict=True):
            if weight:
                values = widened(stored(*source, name), tensor.dtype)
                share = weight / UNIT_E9
                scaled = array("d", [share * one for one in values])
                total = scaled if total is None else array("d", map(float.__add__, total, scaled))
        total = total or array("d")
        portable = portable and not any(map(math.isnan, total))
        digest.update(narrowed(total, tensor.dtype))
    return digest.digest(), portable


def stored(path: Path, begin: int, tensors: dict[str, Tensor], name: str) -> bytes:
    """The bytes of one tensor of a payload."""
    tensor = tensors[name]
    with path.open("rb") as file:
        file.seek(begin + tensor.begin)
        return file.read(tensor.end - tensor.begin)


# --- homes against each other -----------------------------------------------------------------


def compare(homes: list[Home], verdict: Verdict) -> None:
    """Hold what the homes say about each other's logs against those logs."""
    for at, one in enumerate(homes):
        for other in homes[at + 1 :]:
            if one.author and other.author and one.author.node == other.author.node:
                compare_copies(one, other)
    for home in homes:
        for receipt in home.receipts:
            for owner in homes:
                if owner.author and owner.author.node == receipt.body["publisher"]:
                    compare_receipt(owner, receipt, verdict)
        for note, where in home.witnessed:
            for owner in homes:
                if owner.author and owner.author.origin == note.origin:
                    compare_head(owner, note.size, note.root, where)
    check_numbers(homes, verdict)
    check_absent(homes, verdict)
    check_cycles(homes, check_claims(homes), verdict)


def compare_copies(one: Home, other: Home) -> None:
    """Two copies of one log agree as far as both go."""
    size = min(len(one.log.slots), len(other.log.slots))
    if any(home.log.tree is None and home.log.damaged for home in (one, other)):
        return
    trees = [home.log.tree for home in (one, other)]
    roots = {tree.root(size) if tree else b"" for tree in trees}
    if b"" in roots or len(roots) > 1:
        pairs = zip(one.log.slots, other.log.slots, strict=False)
        index = next((at for at, (a, b) in enumerate(pairs) if a.leaf != b.leaf), 0)
        one.note("others.fork", index, f"{other.path} holds another entry here")


def compare_head(owner: Home, size: int, root: bytes, where: str) -> bool:
    """A log goes as far as its owner signed for, and leads there to the same root."""
    log, path = owner.log, owner.path / "ledger"
    if size > len(log.slots):
        text = f"signed for {size} entries ({where}); {len(log.slots)} are here"
        owner.verdict.add("others.rollback", path, text)
        return False
    if log.tree is None and log.damaged:
        return False
    if log.tree is None or log.tree.root(size) != root:
        text = f"signed for {size} other entries ({where})"
        owner.verdict.add("others.fork", path, text)
        return False
    return True


def compare_receipt(owner: Home, receipt: Receipt, verdict: Verdict) -> None:
    """A log holds what its owner signed for when a peer received from it."""
    body = receipt.body
    where = f"entry {receipt.entry.index} of {receipt.file}"
    if not compare_head(owner, body["size"], body["root"], where):
        return
    entry = owner.entries.get(body["index"])
    if entry is None:
        return
    shown = entry.type == "artifact.publish"
    if not shown or any(entry.body[one] != body[one] for one in ("art", "env")):
        owner.note("others.unpublished", body["index"], f"not what was received ({where})")
    elif entry.time > receipt.entry.time + LATE_MS:
        text = f"published after it was received ({where}): the clock of one of the two is wrong"
        verdict.tell("others.time", owner.log.slots[body["index"]].file, text, body["index"])


def check_numbers(homes: list[Home], verdict: Verdict) -> None:
    """One number of one publisher and kind names one artifact."""
    owners = {home.author.node: home for home in reversed(homes) if home.author}
    seen: dict[tuple[str, str, int], bytes] = {}
    for home in homes:
        for key, env, path, index in home.numbers:
            if seen.setdefault(key, env) != env:
                text = f"{key[0]} signed another artifact as number {key[2]} of {key[1]} ({path})"
                owner = owners.get(key[0])
                if owner is None:
                    verdict.tell("publish.equivocation", path, text, index)
                else:
                    verdict.add("publish.equivocation", owner.path / "ledger", text)


def check_absent(homes: list[Home], verdict: Verdict) -> None:
    """What others hold of somebody whose home is not here tells of one log only."""
    here = {home.author.node for home in homes if home.author}
    seen: dict[tuple[str, int], bytes] = {}
    for home in homes:
        held = [(*(one.body[name] for name in ("publisher", "size", "root")), one.file)
                for one in home.receipts]  # fmt: skip
        held += [(note.origin.rpartition("/")[2], note.size, note.root, home.path / "peers")
                 for note, _ in home.witnessed]  # fmt: skip
        for who, size, root, where in held:
            if who not in here and seen.setdefault((who, size), root) != root:
                verdict.tell("others.fork", where, f"{who} signed for {size} other entries")


def check_forks(homes: list[Home], forks: list[tuple[str, Path]], verdict: Verdict) -> None:
    """Who signed for two histories of its keys forked its log, and nobody else did."""
    for node, where in forks:
        owner = next((home for home in homes if home.author and home.author.node == node), None)
        text = f"{node} signed for two histories of its keys"
        if owner is not None:
            verdict.add("others.fork", owner.path / "ledger", text)
        elif not any(one.code == "others.fork" and node in one.text for one in verdict.findings):
            verdict.tell("others.fork", where, text)


def reached(later: Home, earlier: Home) -> tuple[list[int], list[int]]:
    """How far one home's receipts had shown it another's log: at which entry, how many entries."""
    log, places, sizes = earlier.log, list[int](), list[int]()
    for one in later.receipts:
        size, mine = one.body["size"], earlier.author and earlier.author.node
        if one.body["publisher"] != mine or log.tree is None or size > len(log.slots):
            continue
        if size > max(sizes[-1:], default=0) and log.tree.root(size) == one.body["root"]:
            places.append(one.entry.index)
            sizes.append(size)
    return places, sizes


def knew(shown: tuple[list[int], list[int]], here: int, there: int) -> bool:
    """Whether a home holds a receipt over another's entry `there` from before its own `here`."""
    places, sizes = shown
    first = bisect.bisect_right(sizes, there)
    return first < len(places) and places[first] < here


def check_claims(homes: list[Home]) -> set[tuple[Path, bytes]]:
    """Nobody says that it made, from something else, what it knew as made by another."""
    words = [(home, home.words()) for home in homes if home.author]
    tellers: dict[bytes, list[tuple[Home, frozenset[bytes]]]] = {}
    for home, told in words:
        for model, things in told.items():
            tellers.setdefault(model, []).append((home, things))
    found: set[tuple[Path, bytes]] = set()
    shown: dict[tuple[Path, Path], tuple[list[int], list[int]]] = {}
    for model, several in tellers.items():
        if len({things for _, things in several}) == 1:
            continue
        for later, mine in several:
            for one, things in several if mine else ():
                if later.author and one.author and later.author.node == one.author.node:
                    continue
                if things == mine or (later.path, model) in found:
                    continue
                pair = later.path, one.path
                shown[pair] = shown.get(pair) or reached(later, one)
                if not knew(shown[pair], later.spoken[model], one.spoken[model]):
                    continue
                found.add((later.path, model))
                text = f"{model.hex()} was made by another home before, from something else"
                later.note("lineage.claim", later.spoken[model], text)
    return found


def circle(parents: dict[bytes, frozenset[bytes]]) -> set[bytes]:
    """The models that are made from their own descendants, or from such."""
    left = {model: set(things & parents.keys()) for model, things in parents.items()}
    waiting = [model for model, held in left.items() if not held]
    children: dict[bytes, list[bytes]] = {}
    for model, held in left.items():
        for one in held:
            children.setdefault(one, []).append(model)
    while waiting:
        model = waiting.pop()
        left.pop(model)
        for child in children.get(model, ()):
            left[child].discard(model)
            if not left[child]:
                waiting.append(child)
    return set(left)


def check_cycles(homes: list[Home], claims: set[tuple[Path, bytes]], verdict: Verdict) -> None:
    """No model is made from what was made from it: by one log's words, or by all together."""
    together: dict[bytes, frozenset[bytes]] = {}
    alone = False
    for home in homes:
        words = home.words()
        if left := circle(words):
            alone = True
            text = f"{min(left).hex()} is in a circle, or made from one"
            verdict.add("lineage.cycle", home.path / "ledger", text)
        for model, things in words.items():
            if (home.path, model) not in claims:
                together[model] = together.get(model, frozenset()) | things
    if not alone and (left := circle(together)):
        home = next(one for one in homes if min(left) in one.words())
        text = f"{min(left).hex()} is in a circle, or made from one, by the words of several homes"
        verdict.tell("lineage.cycle", home.path / "ledger", text)


# --- fork proofs ------------------------------------------------------------------------------


def fork_shown(data: bytes, author: Author) -> tuple[Note, Note]:
    """The two checkpoints of a fork proof that holds."""
    pieces = data.split(b"\n\n")
    if len(data) > 4 * NOTE_BYTES or len(pieces) != 5:
        raise Refused("not the parts of a fork proof")
    title, *lines = pieces[0].decode("ascii", "replace").split("\n")
    if title != "konsil fork-proof@v1":
        raise Refused("not a fork proof")
    hashes = hash_lines(lines)
    a = author.open_head(b"\n\n".join(pieces[1:3]) + b"\n")
    b = author.open_head(b"\n\n".join(pieces[3:5]))
    if a.size == b.size:
        if hashes or a.root == b.root:
            raise Refused("two checkpoints of one size that agree, or hashes with them")
        return a, b
    if a.size < b.size or not hashes:
        raise Refused("the larger checkpoint stands first, with hashes")
    if hashes[0] == b.root or not continues(b.size, hashes[0], a.size, a.root, hashes[1:]):
        raise Refused("the smaller checkpoint may well be part of the larger")
    return a, b


def judge_fork(path: Path, genesis: Path) -> int:
    """Print what a fork proof shows; 0 when it holds, else 3."""
    for given in (path, genesis):
        if not given.exists():
            raise NoSuchPath(f"{given}: there is no such file; check the path")
    try:
        author = Author(read_entry(read_file(genesis, ENTRY_BYTES)))
        a, b = fork_shown(read_file(path, 4 * NOTE_BYTES + 1), author)
    except Refused as error:
        print(printable(f"{path}: proves nothing: {error}"))
        return TAMPERED
    print(f"{author.origin} signed two histories: one of {a.size} entries, one of {b.size}")
    return 0


# --- the command ------------------------------------------------------------------------------


def read_home(path: Path, verdict: Verdict) -> Home:
    """A home verified in itself; read again while its files move under the reader's hands."""
    if not path.is_dir():
        raise NoSuchPath(f"{path}: there is no such home; name the home of a node")
    if not (path / "ledger").is_dir():
        raise OSError(f"{path}: there is no ledger here")
    for _ in range(8):
        found = Verdict()
        try:
            home = Home(path, found)
        except FileNotFoundError:
            continue
        home.verdict = verdict
        verdict.findings += found.findings
        return home
    raise OSError(f"{path}: its files keep disappearing")


def verify(paths: list[Path], replay: bool = False) -> tuple[Verdict, list[Home]]:
    """Everything about these homes, by themselves and together."""
    verdict = Verdict()
    early = {path: accepted_by_now(path) for path in paths}
    homes = [read_home(path, verdict) for path in paths]
    known = Known(homes)
    payloads = {digest: path for home in homes for digest, path in home.payloads.items()}
    for home in homes:
        before, authors = len(verdict.findings), known.of(home)
        Keepsakes(home, authors, early[home.path]).judge()
        spoiled = any(one.code == "peers.mirror" for one in verdict.findings[before:])
        home.strangers = (
            bool(known.forks) or spoiled or any(one.doubtful() for one in homes if one is not home)
        )
        Claims(home, authors, payloads).judge(replay)
        check_cosigners(home, authors)
        count, opaque = len(home.log.slots), sum(not one.known for one in home.entries.values())
        text = f"{home.path}: {count} entries, {home.signed} signed for, {opaque} of unknown types"
        text += f", {home.unchecked} receipts of unknown publishers not checked"
        verdict.notices.append(text)
        if replay:
            told(home)
    if known.forks:
        verdict.findings = [one for one in verdict.findings if one.code not in ON_FORKED_KEYS]
    compare(homes, verdict)
    check_forks(homes, known.forks, verdict)
    if len(homes) == 1:
        verdict.notices.append("not checked against others")
    verdict.notices += [f"not judged here: {what}" for what in NOT_JUDGED]
    return verdict, homes


def told(home: Home) -> None:
    """How many mixes were computed again, of how many; one that cannot be is a finding."""
    missing, odd = len(home.unproven), home.not_replayed
    text = f"{home.path}: {home.replayed} of {home.replayed + missing + odd} mixes computed again"
    text += f"; {odd} give no number that can be compared" if odd else ""
    home.verdict.notices.append(text)
    if missing:
        text = f"{missing} mixes were not computed again: payloads of theirs are not here"
        home.note("integrate.unreplayed", home.unproven[0], text)


def report(verdict: Verdict, as_json: bool) -> None:
    """Print all that was found."""
    if as_json:
        findings = [vars(one) | {"exit_code": EXIT_OF[one.code]} for one in verdict.findings]
        whole_report = {
            "schema": "konsil.verify-ledger/1", "exit_code": verdict.exit_code(),
            "findings": findings, "notices": verdict.notices,
        }  # fmt: skip
        print(json.dumps(whole_report, indent=1))
        return
    for finding in verdict.findings:
        print(finding.line())
    for notice in verdict.notices:
        print(printable(notice))
    print("verified" if verdict.exit_code() == 0 else f"exit {verdict.exit_code()}")


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Verify konsil ledgers, independently of konsil.")
    parser.add_argument("homes", nargs="*", type=Path, metavar="HOME")
    parser.add_argument("--replay", action="store_true", help="compute every mix again")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--fork", type=Path, metavar="FILE", help="a fork proof to verify")
    parser.add_argument("--genesis", type=Path, metavar="FILE", help="the accused log's genesis")
    given = parser.parse_args(arguments)
    if bool(given.fork) != bool(given.genesis) or bool(given.homes) == bool(given.fork):
        parser.error("name homes, or --fork and --genesis")
    if len({os.path.realpath(home) for home in given.homes}) != len(given.homes):
        parser.error("a home is named twice; name every home once")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if given.fork:
            return handed_over(judge_fork(given.fork, given.genesis))
        verdict, _ = verify(given.homes, given.replay)
    except NoSuchPath as error:
        return complain(error, 2)
    except (OSError, Refused) as error:
        return complain(error, 6)
    return handed_over(verdict.exit_code(), lambda: report(verdict, given.json))


def complain(error: Exception, code: int) -> int:
    """One line on stderr, if anybody can read it; the exit code."""
    with suppress(OSError):
        print(printable(str(error)), file=sys.stderr)
    return code


def handed_over(code: int, tell: Callable[[], None] = lambda: None) -> int:
    """The exit code once all is printed; 6 where there is no room for it.

    That nobody listens changes nothing about what was found.
    """
    try:
        tell()
        sys.stdout.flush()
    except OSError as error:
        sys.stdout = None  # else it is flushed once more at the end
        if not isinstance(error, BrokenPipeError):
            return complain(OSError(f"standard output: {error.strerror}"), 6)
    return code


if __name__ == "__main__":
    sys.exit(main())
