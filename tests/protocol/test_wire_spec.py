"""The specification of the wire says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from konsil.protocol import messages
from konsil.protocol.frames import frame
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.session import TABLE, Role
from konsil.protocol.transfer_turns import PULL, SERVE

TEXT = (Path(__file__).parents[2] / "docs" / "spec" / "wire.md").read_text(encoding="utf-8")


def rows(title: str) -> dict[tuple[str, str, str], str]:
    """The turns in the table below the line that starts with `title`."""
    block = re.search(rf"^{title}.*:\n\n\| state .*\n\|---.*\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    assert block is not None, title
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in block[1].split("\n")]
    return {(one[0], one[1], one[2]): one[3] for one in cells if len(one) == 4}


def plain(table) -> dict[tuple[str, str, str], str]:
    return {(a.value, b.value, c): d.value for (a, b, c), d in table.items()}


def test_the_tables_of_the_session_are_those_of_the_code():
    both = rows("Both")
    assert rows("Opener") | both == plain(TABLE[Role.OPENER])
    assert rows("Answerer") | both == plain(TABLE[Role.ANSWERER])


def test_the_tables_of_the_transfer_are_those_of_the_code():
    assert rows("Client") == plain(PULL)
    assert rows("Server") == plain(SERVE)


def test_every_field_of_every_record_is_specified():
    told = set(re.findall(r"^\| `(\w+)` \| (?:`(\w+)`)? *\|", TEXT, re.MULTILINE))
    built = {
        (name, field.encode_name)
        for name, kind in messages.TYPES.items()
        for field in msgspec.structs.fields(kind)
    }
    assert told == built | {("done", "")}


def test_every_field_of_a_head_is_specified():
    block = TEXT.split("A *head* is a map without `t`:")[1].split("A head is a claim")[0]
    told = re.findall(r"^\| `(\w+)` \|", block, re.MULTILINE)
    assert told == [field.name for field in msgspec.structs.fields(messages.Head)]


def test_the_example_is_a_ping():
    digits = re.search(r"^    (82 a5 .*)$", TEXT, re.MULTILINE)
    assert digits is not None
    body = bytes.fromhex(digits[1])
    assert messages.decode(body) == messages.Ping(nonce=7)
    assert frame(body)[:4].hex() == "0000000f"


def test_the_bounds_are_those_of_the_code():
    for bound in (
        DEFAULT_LIMITS.message_bytes,
        DEFAULT_LIMITS.entry_bytes,
        DEFAULT_LIMITS.envelope_bytes,
        DEFAULT_LIMITS.proof_bytes,
        DEFAULT_LIMITS.announcement_bytes,
        DEFAULT_LIMITS.text_bytes,
        DEFAULT_LIMITS.items,
        DEFAULT_LIMITS.chunks,
        DEFAULT_LIMITS.heads,
        messages.PAGE_DIGESTS,
    ):
        assert f"{bound:,}" in TEXT
