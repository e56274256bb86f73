"""Cosignatures: a checkpoint of the public network, merging as an algebra, and every twist."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import checkpoint, cosignature, note
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.cosignature import WitnessKey, quorum
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    LocalProtocolError,
    RemoteError,
    SignatureRefused,
)
from konsil.protocol.identity import SigningKey
from konsil.protocol.limits import Limits
from konsil.protocol.note import NoteKey

LOG = SigningKey.from_seed(b"L" * 32)
WIT = [SigningKey.from_seed(bytes([n]) * 32) for n in range(8)]
NAMES = [f"alps/witness{n}" for n in range(8)]
KEYS = [WitnessKey(name, key.public) for name, key in zip(NAMES, WIT, strict=True)]
ORIGIN = "alps/bern"
HEAD = Checkpoint(origin=ORIGIN, size=7, root=b"r" * 32)
NOTE = checkpoint.sign(HEAD, LOG)
NOW = 1_700_000_000

PUBLIC = """arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==
""".encode()  # noqa: E501
"""A checkpoint that a public staging log published in 2026, with four witnesses' lines."""
PUBLIC_LOG = (
    "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
)
PUBLIC_WITNESSES = [
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
]


def line(number, seconds=NOW, data=NOTE, name=None):
    return cosignature.sign(data, name or NAMES[number], WIT[number], seconds)


class Cosigned(NamedTuple):
    """A checkpoint, and who vouched for it since when."""

    checkpoint: Checkpoint
    times: dict[str, int]


def open_cosigned(data, *, origin, key, witnesses, **options):
    """A cosigned checkpoint as a reader opens it who knows the keys of log and witnesses."""
    log = NoteKey(origin, key)
    text, signed = note.open_signatures(data, [log, *witnesses], **options)
    head = checkpoint.from_text(text)
    if head.origin != origin or all(signer is not log for signer, _ in signed):
        raise SignatureRefused(f"checkpoint of {head.origin}: not signed by the log {origin}")
    return Cosigned(head, cosignature.earliest(signed))


def opened(data, witnesses=KEYS, **options):
    return open_cosigned(
        data, origin=ORIGIN, key=LOG.public, witnesses=witnesses, **options
    )  # fmt: skip


def test_a_checkpoint_of_the_public_network_verifies():
    log = cosignature.open_vkey(PUBLIC_LOG)
    witnesses = [cosignature.open_vkey(text) for text in PUBLIC_WITNESSES]
    assert [key.vkey for key in (log, *witnesses)] == [PUBLIC_LOG, *PUBLIC_WITNESSES]
    found = open_cosigned(PUBLIC, origin=log.name, key=log.key, witnesses=witnesses)
    assert found.checkpoint.size == 1_432_088_532
    assert found.times == {key.name: 1_779_573_024 for key in witnesses}
    with pytest.raises(SignatureRefused, match="unknown key"):
        open_cosigned(
            PUBLIC, origin=log.name, key=log.key, witnesses=witnesses, only_known=True
        )  # fmt: skip


def test_the_bytes_of_a_cosignature_do_not_change():
    assert cosignature.message("o\n1\nr\n", 5) == b"cosignature/v1\ntime 5\no\n1\nr\n"
    key = WitnessKey("alps/ulm", SigningKey.from_seed(bytes(32)).public)
    assert key.vkey == "alps/ulm+66e99d38+BDtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
    made = cosignature.sign(NOTE, "alps/ulm", SigningKey.from_seed(bytes(32)), NOW)
    assert made.decode() == GOLDEN_LINE


GOLDEN_LINE = (
    "— alps/ulm ZumdOAAAAABlU/EAm257CMcylPYNodkT8OpWS4rhqFiL+MWmZAtHUP9ksYcb"
    "X3roY4qixp3soYyN+4A+ROo//dEV90j2l2i7vaW0Cw==\n"
)


def test_a_witness_counts_once_at_its_earliest_time():
    data = NOTE + line(0, NOW + 9) + line(1, NOW) + line(2, NOW - 4, name=NAMES[0])
    keys = [*KEYS, WitnessKey(NAMES[0], WIT[2].public)]
    found = opened(data, keys, only_known=True)
    assert found.checkpoint == HEAD
    assert found.times == {NAMES[0]: NOW - 4, NAMES[1]: NOW}
    assert cosignature.seen_by(data, keys) == found.times
    assert cosignature.seen_by(data, KEYS[1:2]) == {NAMES[1]: NOW}


@pytest.mark.parametrize("second", [NOW, NOW + 1])
def test_one_key_stands_there_once(second):
    with pytest.raises(SignatureRefused, match="twice"):
        opened(NOTE + line(0) + line(0, second))


def test_strangers_are_ignored_or_refused():
    stranger = line(3)
    wrong_id = note.SignatureLine(name=NAMES[1], key_id=b"none", signature=bytes(72)).text
    for extra in (stranger, wrong_id.encode()):
        assert opened(NOTE + line(0) + extra, KEYS[:2]).times == {NAMES[0]: NOW}
        with pytest.raises(SignatureRefused, match="unknown"):
            opened(NOTE + line(0) + extra, KEYS[:2], only_known=True)


def test_no_flipped_bit_of_a_cosigned_note_stays_unseen():
    data = NOTE + line(0)
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(RemoteError):
            opened(bytes(flipped), only_known=True)


def relabelled(text, kind, name, key, signature):
    marker = note.key_id(name, key.public.raw, kind)
    return text + note.SignatureLine(name=name, key_id=marker, signature=signature).text.encode()


def test_a_signature_of_one_kind_never_counts_as_the_other():
    text, (own,) = note.parse(NOTE)
    body = text.encode() + b"\n"
    as_cosignature = relabelled(NOTE, 4, ORIGIN, LOG, bytes(8) + own.signature)
    with pytest.raises(SignatureRefused):
        opened(as_cosignature, [WitnessKey(ORIGIN, LOG.public)])
    (made,) = note.parse_lines(line(0, name=ORIGIN))
    for signature in (made.signature, made.signature[8:]):
        with pytest.raises(SignatureRefused):
            open_cosigned(
                relabelled(body, 1, ORIGIN, WIT[0], signature),
                origin=ORIGIN, key=WIT[0].public, witnesses=[],
            )  # fmt: skip
    # What a witness signed is no checkpoint either, even if the same key is taken for a log's.
    message = cosignature.message(text, NOW)
    whole = relabelled(message + b"\n", 1, ORIGIN, WIT[0], made.signature[8:])
    with pytest.raises(EncodingRefused, match="three lines"):
        open_cosigned(whole, origin=ORIGIN, key=WIT[0].public, witnesses=[])


def test_a_cosignature_fits_no_other_checkpoint_time_or_witness():
    for other in (
        Checkpoint(origin="alps/ulm", size=7, root=b"r" * 32),
        Checkpoint(origin=ORIGIN, size=8, root=b"r" * 32),
        Checkpoint(origin=ORIGIN, size=7, root=b"s" * 32),
    ):
        data = checkpoint.sign(other, LOG) + line(0)
        with pytest.raises(SignatureRefused):
            open_cosigned(data, origin=other.origin, key=LOG.public, witnesses=KEYS)
    (made,) = note.parse_lines(line(0))
    later = (NOW + 1).to_bytes(8, "big") + made.signature[8:]
    for signature in (later, made.signature[:-1], made.signature + b"\0", made.signature[8:]):
        with pytest.raises(SignatureRefused):
            opened(relabelled(NOTE, 4, NAMES[0], WIT[0], signature))
    with pytest.raises(SignatureRefused):
        opened(relabelled(NOTE, 4, NAMES[1], WIT[1], made.signature))
    with pytest.raises(SignatureRefused, match="at 9223372036854775808"):
        opened(relabelled(NOTE, 4, NAMES[0], WIT[0], b"\x80" + bytes(71)))


def test_witnesses_without_the_log_prove_nothing():
    text, _ = note.parse(NOTE)
    with pytest.raises(SignatureRefused, match="not signed by the log"):
        opened(text.encode() + b"\n" + line(0))
    with pytest.raises(SignatureRefused):
        open_cosigned(NOTE, origin="alps/ulm", key=LOG.public, witnesses=KEYS)


def test_merging_takes_over_verified_lines_of_known_witnesses_only():
    unknown = note.SignatureLine(name="far", key_id=b"1234", signature=b"x").text.encode()
    data = cosignature.merge(NOTE + unknown, line(1) + line(7), KEYS[:3])
    assert data == NOTE + unknown + line(1)
    assert cosignature.merge(data, b"", KEYS[:3]) == data
    earlier = cosignature.merge(data, line(0) + line(1, NOW - 5), KEYS[:3])
    assert earlier == NOTE + unknown + line(0) + line(1, NOW - 5)
    assert cosignature.merge(earlier, line(1), KEYS[:3]) == earlier
    for wrong in (line(1).replace(b"A", b"B"), b"junk\n", line(1) + line(1)):
        with pytest.raises(RemoteError):
            cosignature.merge(data, wrong, KEYS[:3])
    with pytest.raises(LimitExceeded):
        cosignature.merge(data, line(2), KEYS[:3], limits=Limits(note_signatures=3))
    with pytest.raises(LimitExceeded):
        cosignature.merge(data, line(2), KEYS[:3], limits=Limits(proof_bytes=len(data)))


LINES = st.lists(st.tuples(st.integers(0, 3), st.integers(NOW, NOW + 3)), max_size=6)


@settings(max_examples=60, deadline=None)
@given(LINES, st.randoms(use_true_random=False))
def test_merging_is_a_union(lines, random):
    """Any order, any grouping, any repetition gives the same note."""
    one = NOTE
    for number, seconds in lines:
        one = cosignature.merge(one, line(number, seconds), KEYS)
    again = [*lines, *lines]
    random.shuffle(again)
    two = other = NOTE
    for number, seconds in again[: len(again) // 2]:
        two = cosignature.merge(two, line(number, seconds), KEYS)
    for number, seconds in again[len(again) // 2 :]:
        other = cosignature.merge(other, line(number, seconds), KEYS)
    tail = other.removeprefix(NOTE)
    assert cosignature.merge(two, tail, KEYS) == one
    least = {NAMES[number]: min(t for n, t in lines if n == number) for number, _ in lines}
    assert opened(one, only_known=True).times == least


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "alps/ulm+66e99d38",
        "two words+66e99d38+BDtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop",
        "alps/ulm+66E99D38+BDtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop",
        "alps/graz+66e99d38+BDtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop",
        "alps/ulm+66e99d38+BTtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop",
        "alps/ulm+66e99d38+BDtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWd==",
        "alps/ulm+66e99d38+BDtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdoq",
    ],
)
def test_other_verifier_keys_are_refused(text):
    with pytest.raises((EncodingRefused, SignatureRefused)):
        cosignature.open_vkey(text)


def test_a_key_of_small_order_is_no_verifier_key():
    raw = bytes(32)
    material = note.encode_base64(bytes([4]) + raw)
    text = f"n+{note.key_id('n', raw, 4).hex()}+{material}"
    with pytest.raises(SignatureRefused, match="small order"):
        cosignature.open_vkey(text)


@pytest.mark.parametrize("seconds", [-1, 2**63])
def test_an_impossible_time_is_never_signed(seconds):
    with pytest.raises(LocalProtocolError):
        line(0, seconds)


def test_only_checkpoints_are_cosigned():
    with pytest.raises(EncodingRefused):
        line(0, data=note.sign("some other text\n", [(ORIGIN, LOG)]))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_two_quorums_share_more_members_than_may_lie(data):
    members = data.draw(st.integers(1, 40))
    liars = data.draw(st.integers(0, members - 1))
    size = quorum(members, liars)
    assert size <= members
    everybody = st.permutations(range(members))
    first, second = (set(data.draw(everybody)[:size]) for _ in range(2))
    assert len(first & second) > liars
    if members >= 3 * liars + 1:
        assert size <= members - liars, "the honest ones can reach it alone"


@pytest.mark.parametrize(("members", "liars"), [(0, 0), (3, 3), (3, -1)])
def test_no_quorum_of_liars_alone(members, liars):
    with pytest.raises(LocalProtocolError):
        quorum(members, liars)


@pytest.mark.parametrize("members", [4, 5, 7])
def test_two_checkpoints_of_one_size_cannot_both_have_a_quorum(members):
    """Whatever honest members saw first, the liars' lines under both views do not suffice."""
    liars = (members - 1) // 3
    other = checkpoint.sign(Checkpoint(origin=ORIGIN, size=7, root=b"s" * 32), LOG)
    for faces in itertools.product((True, False), repeat=members - liars):
        views = [NOTE, other]
        for number in range(members):
            for index, data in enumerate((NOTE, other)):
                if number < liars or faces[number - liars] == (index == 0):
                    views[index] += line(number, data=data)
        counts = [len(opened(data).times) for data in views]
        assert min(counts) < quorum(members, liars)
