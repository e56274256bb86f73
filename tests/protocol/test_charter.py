"""The charter: one text, many signatures, and what may follow what."""

from __future__ import annotations

import msgspec
import pytest

from konsil.protocol import charter, records
from konsil.protocol.charter import Charter, CharterMember, ExportRule, Signed, Thresholds, Verdict
from konsil.protocol.cosignature import quorum
from konsil.protocol.digest import sha256
from konsil.protocol.envelope import EnvelopeSignature
from konsil.protocol.errors import EncodingRefused, LimitExceeded, ManifestRefused, RemoteError
from konsil.protocol.identity import SigningKey

KEYS = {name: SigningKey.from_seed(bytes([n]) * 32) for n, name in enumerate("abcd", 1)}
PUBLIC = {name * 32: (key.public,) for name, key in KEYS.items()}


def member(who, **changes):
    one = CharterMember(
        name=f"node-{who}", node=who * 32, genesis=sha256(who.encode()).hex(), roles=(),
        kinds=("parameters",), valid_from_ms=0, valid_until_ms=1_000,
    )  # fmt: skip
    return msgspec.structs.replace(one, **changes)


def rules(names="abcd", **changes):
    one = Charter(
        version=1, prev="00" * 32, name="alps", members=tuple(member(name) for name in names),
        thresholds=Thresholds(
            charter=quorum(len(names), 1), member=2, cosign=2, faults=1
        ),
        export=(), retention_ms={"trust.update": 5}, expires_ms=500,
    )  # fmt: skip
    return msgspec.structs.replace(one, **changes)


FIRST = rules()


def after(names="abcd", **changes):
    return rules(names, **{"version": 2, "prev": charter.digest(FIRST).hex(), **changes})


def signed(document, names):
    return charter.sign(document, [KEYS[name] for name in names])


def test_a_signed_charter_is_read_back_with_those_who_signed_it():
    envelope, found = charter.open_charter(signed(FIRST, "abca"))
    assert found == FIRST
    assert sha256(envelope.payload) == charter.digest(FIRST)
    assert charter.signers(envelope, PUBLIC) == {"a" * 32, "b" * 32, "c" * 32}
    assert charter.signers(envelope, {"a" * 32: PUBLIC["a" * 32]}) == {"a" * 32}


def test_a_false_signature_counts_for_nobody():
    envelope, _ = charter.open_charter(signed(FIRST, "a"))
    (one,) = envelope.signatures
    forged = (EnvelopeSignature(keyid=KEYS["b"].public.key_id, sig=one.sig),)
    other = msgspec.structs.replace(envelope, signatures=forged)
    assert charter.signers(other, PUBLIC) == frozenset()


def test_the_type_of_a_document_is_part_of_what_is_signed():
    verdict = Verdict(
        charter="00" * 32, node="a" * 32, genesis="11" * 32, verdict="add", effective_ms=1
    )
    assert charter.open_verdict(signed(verdict, "a"))[1] == verdict
    with pytest.raises(ManifestRefused):
        charter.open_charter(signed(verdict, "a"))
    envelope, _ = charter.open_verdict(signed(verdict, "a"))
    swapped = msgspec.structs.replace(envelope, payload_type=charter.CHARTER_TYPE)
    assert charter.signers(swapped, PUBLIC) == frozenset()
    with pytest.raises(EncodingRefused):
        charter.open_charter(records.pack(swapped))


@pytest.mark.parametrize(
    "broken",
    [
        {"members": (member("a"), member("a", name="other", genesis="11" * 32))},
        {"members": (member("a"), member("b", name="node-a"))},
        {"members": (member("a"), member("b", genesis=sha256(b"a").hex()))},
        {"thresholds": Thresholds(charter=2, member=1, cosign=1, faults=0)},
        {"thresholds": Thresholds(charter=5, member=1, cosign=1, faults=0)},
        {"thresholds": Thresholds(charter=3, member=5, cosign=1, faults=0)},
        {"thresholds": Thresholds(charter=3, member=1, cosign=9, faults=0)},
        {"export": (ExportRule(
            kind="logits", min_cohort=0, min_label_rows=0, mechanisms=(), max_release_micro=0,
            max_total_micro=0, max_delta_e12=0, max_bytes=0,
        ),) * 2},
    ],
)  # fmt: skip
def test_a_charter_at_odds_with_itself_is_refused(broken):
    with pytest.raises(ManifestRefused):
        charter.open_charter(signed(rules(**broken), "a"))


def test_hostile_bytes_are_refused():
    data = signed(FIRST, "ab")
    for bad in (b"", data[:-1], data + b"\0", data.replace(b"alps", b"Alps")):
        with pytest.raises(RemoteError):
            charter.open_charter(bad)
    with pytest.raises(LimitExceeded):
        charter.open_charter(bytes(1 << 20))
    one = EnvelopeSignature(keyid="", sig=bytes(64))
    many = Signed(payload=b"{}", payload_type=charter.CHARTER_TYPE, signatures=(one,) * 1_025)
    with pytest.raises(RemoteError):
        charter.open_charter(msgspec.msgpack.Encoder(order="sorted").encode(many))


@pytest.mark.parametrize(
    ("new", "by", "now", "fault"),
    [
        (after(), "abc", 9, ""),
        (after(members=FIRST.members[1:]), "bcd", 9, ""),
        (after(), "ab", 9, "2 of the 3"),
        (after(), "abc", 500, "expired"),
        (after(version=3), "abc", 9, "version 3"),
        (after(prev="11" * 32), "abc", 9, "another version"),
        (after(name="sea"), "abc", 9, "another consortium"),
        (after(members=FIRST.members[1:]), "abc", 9, "2 of the 3"),
        (after(members=(*FIRST.members, member("e"))), "bcd", 9, ""),
    ],
)
def test_a_version_follows_by_the_word_of_the_old_and_of_the_new(new, by, now, fault):
    nodes = frozenset(name * 32 for name in by)
    found = charter.succession_fault(FIRST, charter.digest(FIRST), new, nodes, now)
    assert fault in found
    assert bool(found) == bool(fault)


def test_the_old_members_decide_as_well():
    new = after("bcd")
    gone = frozenset(name * 32 for name in "bcd")
    assert charter.succession_fault(FIRST, charter.digest(FIRST), new, gone, 9) == ""
    short = msgspec.structs.replace(
        FIRST, members=(member("a"), member("b", valid_until_ms=5), *FIRST.members[2:])
    )
    digest = charter.digest(short)
    new = after("bcd", prev=digest.hex())
    assert "still decide" in charter.succession_fault(short, digest, new, gone, 9)


def test_the_first_version_is_signed_by_everybody():
    everyone = frozenset(name * 32 for name in "abcd")
    assert charter.succession_fault(None, bytes(32), FIRST, everyone, 9) == ""
    fault = charter.succession_fault(None, bytes(32), FIRST, everyone - {"a" * 32}, 9)
    assert "3 of the 4" in fault
