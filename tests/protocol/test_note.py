"""Signed notes: the example of the specification, and everything that must be refused."""

from __future__ import annotations

import base64

import pytest

from konsil.protocol import note
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    LocalProtocolError,
    RemoteError,
    SignatureRefused,
)
from konsil.protocol.identity import SigningKey, VerifyKey
from konsil.protocol.limits import Limits

LOG = SigningKey.from_seed(bytes(31) + b"\1")
WITNESS = SigningKey.from_seed(bytes(31) + b"\2")
TEXT = "alps/bern\n7\nwhatever\n"
NAME = "alps/bern"
KEY = note.NoteKey(NAME, LOG.public)
NOTE = note.sign(TEXT, [(NAME, LOG)])


def test_the_example_of_the_specification_verifies():
    vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    example = (
        "This is an example message.\n\n"
        "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH"
        "3mFXmRKuwHjG1Yu72IneyaQM=\n"
    ).encode()
    material = base64.b64decode(vkey.rsplit("+", 1)[1])
    key = note.NoteKey("example.com/foo", VerifyKey(material[1:]))
    assert key.vkey == vkey
    assert note.open_note(example, [key], only_known=True) == (
        "This is an example message.\n",
        (key,),
    )


def test_a_note_opens_with_its_key_and_with_no_other():
    assert note.open_note(NOTE, [KEY]) == (TEXT, (KEY,))
    with pytest.raises(SignatureRefused, match="not signed by a known key"):
        note.open_note(NOTE, [note.NoteKey(NAME, WITNESS.public)])
    with pytest.raises(SignatureRefused):
        note.open_note(NOTE, [note.NoteKey("alps/ulm", LOG.public)])


def test_a_line_by_a_stranger_is_ignored_unless_only_known_keys_may_sign():
    both = note.sign(TEXT, [(NAME, LOG), ("witness", WITNESS)])
    assert note.open_note(both, [KEY]) == (TEXT, (KEY,))
    with pytest.raises(SignatureRefused, match="unknown key of witness"):
        note.open_note(both, [KEY], only_known=True)
    witness = note.NoteKey("witness", WITNESS.public)
    assert note.open_note(both, [KEY, witness], only_known=True)[1] == (KEY, witness)


def test_a_signer_stands_there_once():
    twice = note.sign(TEXT, [(NAME, LOG), (NAME, LOG)])
    with pytest.raises(SignatureRefused, match="twice"):
        note.open_note(twice, [KEY])


def test_no_flipped_bit_of_a_stored_note_stays_unseen():
    for position in range(len(NOTE) * 8):
        flipped = bytearray(NOTE)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(RemoteError):
            note.open_note(bytes(flipped), [KEY], only_known=True)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\n\n",
        b"text\n",
        b"text\n\n",
        NOTE[:-1],
        NOTE + b"\n",
        NOTE.replace(b"\n7", b"\r7"),
        NOTE.replace("— ".encode(), b"- "),
        NOTE.replace(b"alps/bern ", b"alps+bern "),
        NOTE.replace(b"alps/bern ", b" "),
        NOTE[:-2] + b"\n",
        NOTE[:-3] + b"!=\n",
        TEXT.encode() + b"\n" + f"— {NAME} AAAA\n".encode(),
        TEXT.encode() + b"\n" + f"— {NAME} é\n".encode(),
        b"\xff" + NOTE,
    ],
)
def test_malformed_notes_are_refused(broken):
    with pytest.raises(RemoteError):
        note.open_note(broken, [KEY])


@pytest.mark.parametrize("text", ["AA", "AA==\n", "AB==", "A===", "AA=", " AAA"])
def test_base64_has_one_form(text):
    with pytest.raises(EncodingRefused):
        note.decode_base64(text)
    assert note.decode_base64("AA==") == b"\0"


def test_bounds_come_first():
    many = note.sign(TEXT, [(f"w{index}", WITNESS) for index in range(20)])
    with pytest.raises(LimitExceeded):
        note.open_note(many, [KEY], limits=Limits(note_signatures=16))
    with pytest.raises(LimitExceeded):
        note.open_note(NOTE, [KEY], limits=Limits(proof_bytes=64))


@pytest.mark.parametrize("text", ["", "no line feed", "tab\there\n"])
def test_we_never_sign_a_text_that_a_reader_refuses(text):
    with pytest.raises(LocalProtocolError):
        note.sign(text, [(NAME, LOG)])


@pytest.mark.parametrize("name", ["", "two words", "a+b", "a\u00a0b", "a\nb"])
def test_a_key_name_must_fit_in_a_line(name):
    with pytest.raises(LocalProtocolError):
        note.NoteKey(name, LOG.public)


def test_a_note_has_a_signer():
    with pytest.raises(LocalProtocolError):
        note.sign(TEXT, [])
