"""The mirror's words: any message survives its bytes, and no page is believed unchecked."""

from __future__ import annotations

import pytest
from bodies import BODIES, NODE, D
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import entries, mirror
from konsil.protocol.errors import EncodingRefused, ManifestRefused, RemoteError
from konsil.protocol.merkle import leaf_hash
from konsil.protocol.mirror import Ask, Leaf, Page, Prove, Proven, Seen

LOG = [
    entries.encode(
        entries.entry(body, index=n, time_ms=n, salt=bytes(15) + bytes([n]), charter=bytes(32))
    )
    for n, body in enumerate(BODIES)
]
LEAVES = [Leaf(data if n % 3 else None, leaf_hash(data)) for n, data in enumerate(LOG)]
QUESTIONS = [Ask(node=NODE, first=3), Prove(node=NODE, old=1, size=4), Seen(notes=(b"n",))]
ANSWERS = [
    Page(note=b"", held=b"", size=0, first=0, frames=b""), Proven(root=None, hashes=()),
    Proven(root=D, hashes=(D, D)), Seen(notes=()),
]  # fmt: skip


@pytest.mark.parametrize("message", QUESTIONS)
def test_a_question_survives_its_bytes_and_is_no_other(message):
    assert mirror.read_question(mirror.pack(message)) == message
    if not isinstance(message, Seen):
        with pytest.raises(EncodingRefused):
            mirror.read_answer(mirror.pack(message))


@pytest.mark.parametrize("message", ANSWERS)
def test_an_answer_survives_its_bytes(message):
    assert mirror.read_answer(mirror.pack(message)) == message


def outcome(read, data):
    try:
        read(data)
    except RemoteError:
        return "refused"
    return "read"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_crash_a_reader(data):
    for read in (mirror.read_question, mirror.read_answer, lambda d: [*mirror.read_page(d, 0)]):
        assert outcome(read, data) in ("read", "refused")


def test_a_page_gives_back_its_leaves_with_and_without_bodies():
    data = mirror.page(LEAVES)
    found = [*mirror.read_page(data, 0)]
    assert [leaf for _, leaf in found] == LEAVES
    assert found[-1][0] == len(data)


def test_a_page_is_cut_at_its_size_and_never_empty(monkeypatch):
    monkeypatch.setattr(mirror, "PAGE_BYTES", 1)
    assert len([*mirror.read_page(mirror.page(LEAVES[1:]), 1)]) == 1


def test_no_wrong_page_is_believed():
    data = mirror.page(LEAVES)
    with pytest.raises(ManifestRefused, match="position"):
        list(mirror.read_page(data, 1))
    with pytest.raises(EncodingRefused, match="cut short"):
        list(mirror.read_page(data[:-1], 0))
    flipped = bytearray(data)
    flipped[len(data) - 40] ^= 1
    with pytest.raises(RemoteError):
        list(mirror.read_page(bytes(flipped), 0))


def test_as_many_notes_as_may_be_told_at_once_fit_in_one_message():
    each = mirror.NOTES_BYTES // mirror.MAX_NOTES
    data = mirror.pack(Seen(notes=(bytes(each),) * mirror.MAX_NOTES))
    assert len(mirror.read_answer(data).notes) == mirror.MAX_NOTES
