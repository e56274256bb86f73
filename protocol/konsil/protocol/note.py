"""Signed notes: a text and Ed25519 signature lines under it (C2SP signed-note, type 0x01).

    <text, ends in a line feed>
    <empty line>
    — <key name> <base64 of key id (4 bytes) ‖ signature (64 bytes)>

Stricter than the specification where it leaves room for two notes with one meaning:
base64 must be canonical, a signer may stand there once, and on request (`only_known`, for
our own stored checkpoints) a line by an unknown key is refused instead of ignored, so that
no bit of a stored note can change unseen.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import sha256
from typing import TYPE_CHECKING

from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    LocalProtocolError,
    SignatureRefused,
)
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.protocol.identity import SigningKey, VerifyKey

ED25519 = 0x01
"""The signature type byte of a plain Ed25519 note signature."""
KEY_ID_BYTES = 4
LINE_START = "— "


class NoteKey:
    """A public key under the name by which it signs notes."""

    __slots__ = ("key", "key_id", "name")

    def __init__(self, name: str, key: VerifyKey) -> None:
        """Raises `LocalProtocolError` for a name that cannot stand in a signature line."""
        if not is_key_name(name):
            raise LocalProtocolError(f"{name!r} cannot name a note key")
        self.name = name
        self.key = key
        self.key_id = key_id(name, key.raw)

    @property
    def vkey(self) -> str:
        """The verifier key in the text form of the specification."""
        material = encode_base64(bytes([ED25519]) + self.key.raw)
        return f"{self.name}+{self.key_id.hex()}+{material}"


def is_key_name(name: str) -> bool:
    """Whether `name` is not empty and has no space, no plus and no control character."""
    return bool(name) and name.isprintable() and not any(c == "+" or c.isspace() for c in name)


def key_id(name: str, public: bytes, kind: int = ED25519) -> bytes:
    """The 4-byte key id: SHA-256(name ‖ 0x0A ‖ type ‖ public key), cut."""
    return sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:KEY_ID_BYTES]


def sign(text: str, signers: Sequence[tuple[str, SigningKey]]) -> bytes:
    """The note over `text` with one line for each (key name, key).

    Raises `LocalProtocolError` for a text that does not end in a line feed or holds other
    control characters.
    """
    if not text.endswith("\n") or _has_control(text) or not signers:
        raise LocalProtocolError("a note needs a signer and a text of whole, printable lines")
    lines = [text, "\n"]
    for name, key in signers:
        marker = NoteKey(name, key.public).key_id
        lines.append(f"{LINE_START}{name} {encode_base64(marker + key.sign(text.encode()))}\n")
    return "".join(lines).encode()


def open_note(
    data: bytes,
    keys: Sequence[NoteKey],
    *,
    only_known: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[str, tuple[NoteKey, ...]]:
    """The text of a note and the keys of `keys` that signed it, in the order of the lines.

    Raises `EncodingRefused` for a malformed note, `LimitExceeded` for too many lines, and
    `SignatureRefused` when a known key's signature is wrong or stands twice, when no known
    key signed, or, with `only_known`, when anybody else did.
    """
    text, lines = _split(data, limits)
    known = {(key.name, key.key_id): key for key in keys}
    seen: set[tuple[str, bytes]] = set()
    signed: list[NoteKey] = []
    for line in lines:
        name, marker, signature = _parse_line(line)
        if (name, marker) in seen:
            raise SignatureRefused(f"note: {name} signed twice")
        seen.add((name, marker))
        key = known.get((name, marker))
        if key is not None:
            key.key.verify(signature, text.encode())
            signed.append(key)
        elif only_known:
            raise SignatureRefused(f"note: a signature by an unknown key of {name}")
    if not signed:
        raise SignatureRefused("note: not signed by a known key")
    return text, tuple(signed)


def encode_base64(data: bytes) -> str:
    """Standard base64 with padding (RFC 4648 §4)."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str) -> bytes:
    """The bytes of *canonical* base64: no spare bits, no missing padding, no other signs.

    Raises `EncodingRefused`.
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise EncodingRefused("this is not base64") from error
    if encode_base64(data) != text:
        raise EncodingRefused("base64 is not canonical")
    return data


def _split(data: bytes, limits: Limits) -> tuple[str, list[str]]:
    if len(data) > limits.proof_bytes:
        raise LimitExceeded(f"a note of {len(data)} bytes (at most {limits.proof_bytes})")
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        raise EncodingRefused("note: not UTF-8") from error
    if _has_control(whole) or not whole.endswith("\n"):
        raise EncodingRefused("note: control characters, or no line feed at the end")
    text, separator, tail = whole.rpartition("\n\n")
    if not separator or not text or not tail:
        raise EncodingRefused("note: no text, or no signature lines")
    lines = tail[:-1].split("\n")
    if len(lines) > limits.note_signatures:
        raise LimitExceeded(f"a note with {len(lines)} signatures")
    return text + "\n", lines


def _parse_line(line: str) -> tuple[str, bytes, bytes]:
    name, _, encoded = line.removeprefix(LINE_START).partition(" ")
    if not line.startswith(LINE_START) or not is_key_name(name):
        raise EncodingRefused("note: malformed signature line")
    raw = decode_base64(encoded)
    if len(raw) <= KEY_ID_BYTES:
        raise EncodingRefused("note: a signature line without a signature")
    return name, raw[:KEY_ID_BYTES], raw[KEY_ID_BYTES:]


def _has_control(text: str) -> bool:
    return any(character < " " and character != "\n" for character in text)
