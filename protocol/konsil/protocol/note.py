"""Signed notes: a text and Ed25519 signature lines under it (C2SP signed-note).

    <text, ends in a line feed>
    <empty line>
    — <key name> <base64 of key id (4 bytes) ‖ signature (64 bytes)>

Stricter than the specification where it leaves room for two notes with one meaning:
base64 must be canonical, a signer may stand there once, and on request (`only_known`, for
our own stored checkpoints) a line by an unknown key is refused instead of ignored, so that
no bit of a stored note can change unseen.

A `NoteKey` signs the text itself (type 0x01). A kind of key that signs another message over
the text (the witnesses of `cosignature`, type 0x04) is a subclass with its own `kind`, which
enters the key id, and its own `verify`; so a line of one kind never counts as the other.
"""

from __future__ import annotations

import base64
import binascii
import re
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar

import msgspec

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
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class SignatureLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line under a note: who, by which key (4 bytes of id), and the signature bytes."""

    name: str
    key_id: bytes
    signature: bytes

    @property
    def text(self) -> str:
        """The line as it stands in a note, with its line feed."""
        return f"{LINE_START}{self.name} {encode_base64(self.key_id + self.signature)}\n"


class NoteKey:
    """A public key under the name by which it signs notes."""

    __slots__ = ("key", "key_id", "name")
    kind: ClassVar[int] = ED25519

    def __init__(self, name: str, key: VerifyKey) -> None:
        """Raises `LocalProtocolError` for a name that cannot stand in a signature line."""
        if not is_key_name(name):
            raise LocalProtocolError(f"{name!r} cannot name a note key")
        self.name = name
        self.key = key
        self.key_id = key_id(name, key.raw, self.kind)

    def verify(self, signature: bytes, text: str) -> None:
        """Return if `signature` is this key's under `text`; else raise `SignatureRefused`."""
        self.key.verify(signature, text.encode())

    @property
    def vkey(self) -> str:
        """The verifier key in the text form of the specification."""
        material = encode_base64(bytes([self.kind]) + self.key.raw)
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
        signature = key.sign(text.encode())
        lines.append(SignatureLine(name=name, key_id=marker, signature=signature).text)
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
    text, signed = open_signatures(data, keys, only_known=only_known, limits=limits)
    return text, tuple(key for key, _ in signed)


def open_signatures(
    data: bytes,
    keys: Sequence[NoteKey],
    *,
    only_known: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[str, tuple[tuple[NoteKey, bytes], ...]]:
    """As `open_note`, with the verified signature bytes of each key beside it."""
    text, lines = parse(data, limits=limits)
    known = {(key.name, key.key_id): key for key in keys}
    signed: list[tuple[NoteKey, bytes]] = []
    for line in lines:
        key = known.get((line.name, line.key_id))
        if key is not None:
            key.verify(line.signature, text)
            signed.append((key, line.signature))
        elif only_known:
            raise SignatureRefused(f"note: a signature by an unknown key of {line.name}")
    if not signed:
        raise SignatureRefused("note: not signed by a known key")
    return text, tuple(signed)


def parse(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> tuple[str, tuple[SignatureLine, ...]]:
    """The text of a note and the lines under it, none of them verified.

    Raises `EncodingRefused`, `LimitExceeded`, or `SignatureRefused` for a signer that stands
    there twice.
    """
    whole = _printable(data, limits)
    text, separator, tail = whole.rpartition("\n\n")
    if not separator or not text or not tail:
        raise EncodingRefused("note: no text, or no signature lines")
    return text + "\n", _parse_lines(tail, limits)


def parse_lines(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> tuple[SignatureLine, ...]:
    """Signature lines that travel without their note; refuses what `parse` refuses."""
    return _parse_lines(_printable(data, limits), limits)


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


def _printable(data: bytes, limits: Limits) -> str:
    if len(data) > limits.proof_bytes:
        raise LimitExceeded(f"a note of {len(data)} bytes (at most {limits.proof_bytes})")
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        raise EncodingRefused("note: not UTF-8") from error
    if _has_control(whole) or not whole.endswith("\n"):
        raise EncodingRefused("note: control characters, or no line feed at the end")
    return whole


def _parse_lines(tail: str, limits: Limits) -> tuple[SignatureLine, ...]:
    lines = tail[:-1].split("\n")
    if len(lines) > limits.note_signatures:
        raise LimitExceeded(f"a note with {len(lines)} signatures")
    parsed: dict[tuple[str, bytes], SignatureLine] = {}
    for line in lines:
        item = _parse_line(line)
        if (item.name, item.key_id) in parsed:
            raise SignatureRefused(f"note: {item.name} signed twice")
        parsed[item.name, item.key_id] = item
    return tuple(parsed.values())


def _parse_line(line: str) -> SignatureLine:
    name, _, encoded = line.removeprefix(LINE_START).partition(" ")
    if not line.startswith(LINE_START) or not is_key_name(name):
        raise EncodingRefused("note: malformed signature line")
    raw = decode_base64(encoded)
    if len(raw) <= KEY_ID_BYTES:
        raise EncodingRefused("note: a signature line without a signature")
    return SignatureLine(name=name, key_id=raw[:KEY_ID_BYTES], signature=raw[KEY_ID_BYTES:])


def _has_control(text: str) -> bool:
    return _CONTROL.search(text) is not None
