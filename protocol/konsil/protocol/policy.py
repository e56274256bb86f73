"""Policies: whom a checker trusts to say that a checkpoint is the only one (C2SP tlog-policy).

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> <k | any | all> <member>…
    quorum <name | none>

One definition a line, in any number but for the quorum; `#` begins a comment line. A name is
defined before it is used and is a member of one group at most, so there are no cycles, each
witness counts in one way, and a policy is evaluated in one pass. Stricter than the
specification: names are UTF-8, and a policy without a log satisfies nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import checkpoint, cosignature, note
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.cosignature import WitnessKey
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    ManifestRefused,
    SignatureRefused,
)
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.note import NoteKey

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_QUORUM = "none"
"""The predefined name that asks for no witness at all."""
_BLANK = re.compile(r"[ \t]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_THRESHOLD = re.compile(r"[1-9][0-9]{0,5}")


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """A log whose checkpoints are accepted; the key's name is its origin."""

    key: NoteKey
    url: str | None = None


class Witness(msgspec.Struct, frozen=True, kw_only=True):
    """A witness whom a policy trusts, under the name that it has there; it signs elsewhere."""

    name: str
    key: WitnessKey
    url: str | None = None


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Witnesses or groups, of which `threshold` must have witnessed."""

    name: str
    threshold: int
    members: tuple[str, ...]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Logs, witnesses, groups in the order of their definition, and the name that decides."""

    logs: tuple[Log, ...] = ()
    witnesses: tuple[Witness, ...] = ()
    groups: tuple[Group, ...] = ()
    quorum: str = NO_QUORUM


class Satisfied(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that satisfies a policy, and who vouched for it since when (seconds)."""

    checkpoint: Checkpoint
    times: Mapping[str, int]
    """By the witness's name in the policy."""


def parse(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Policy:
    """The policy in a text.

    Raises `EncodingRefused` for another syntax, `LimitExceeded`, `ManifestRefused` for names
    that are unknown, defined or used twice, a threshold nobody can reach and a missing or
    second quorum, and `SignatureRefused` for a public key that is refused.
    """
    if len(data) > limits.message_bytes:
        raise LimitExceeded(f"a policy of {len(data)} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise EncodingRefused("policy: not UTF-8") from error
    if not text.endswith("\n") or _CONTROL.search(text):
        raise EncodingRefused("policy: control characters, or no line feed at the end")
    reading = _Reading()
    for line in text[:-1].split("\n"):
        words = [word for word in _BLANK.split(line) if word]
        if words and not words[0].startswith("#"):
            reading.take(words)
        if len(reading.logs) + len(reading.names) > limits.members:
            raise LimitExceeded(f"a policy of more than {limits.members} definitions")
    if reading.quorum is None:
        raise ManifestRefused("policy: no quorum line")
    return Policy(
        logs=tuple(reading.logs),
        witnesses=tuple(reading.witnesses),
        groups=tuple(reading.groups),
        quorum=reading.quorum,
    )


def evaluate(policy: Policy, data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Satisfied:
    """The head in a checkpoint note that satisfies `policy`.

    Raises `EncodingRefused`, `LimitExceeded`, `SignatureRefused` when none of the logs signed
    or a known key's line is wrong, and `ManifestRefused` when the quorum is missed.
    """
    keys = [item.key for item in policy.logs] + [item.key for item in policy.witnesses]
    text, signed = note.open_signatures(data, keys, limits=limits)
    head = checkpoint.from_text(text)
    signers = {id(key): signature for key, signature in signed}
    if not any(id(log.key) in signers and log.key.name == head.origin for log in policy.logs):
        raise SignatureRefused(f"checkpoint of {head.origin}: not signed by a log of the policy")
    times = {
        one.name: cosignature.time_of(signers[id(one.key)])
        for one in policy.witnesses
        if id(one.key) in signers
    }
    if not _reached(policy, set(times)):
        who = ", ".join(sorted(times)) or "nobody"
        raise ManifestRefused(f"checkpoint of {head.origin}: witnessed by {who} only")
    return Satisfied(checkpoint=head, times=times)


def _reached(policy: Policy, witnessed: set[str]) -> bool:
    # Members are defined before their group, so one pass in that order knows them all.
    for group in policy.groups:
        if sum(member in witnessed for member in group.members) >= group.threshold:
            witnessed.add(group.name)
    return policy.quorum == NO_QUORUM or policy.quorum in witnessed


class _Reading:
    """A policy as far as it has been read."""

    def __init__(self) -> None:
        self.logs: list[Log] = []
        self.witnesses: list[Witness] = []
        self.groups: list[Group] = []
        self.names: set[str] = {NO_QUORUM}
        self.quorum: str | None = None
        self._public: set[tuple[int, bytes]] = set()
        self._members: set[str] = {NO_QUORUM}

    def take(self, words: Sequence[str]) -> None:
        """Reads one line that is neither empty nor a comment."""
        match words:
            case ["log", vkey, *url] if len(url) <= 1:
                self._log(vkey, url)
            case ["witness", name, vkey, *url] if len(url) <= 1:
                self._witness(name, vkey, url)
            case ["group", name, threshold, *members] if members:
                self._group(name, threshold, members)
            case ["quorum", name]:
                self._decide(name)
            case _:
                raise EncodingRefused(f"policy: a line that begins with `{words[0][:32]}`")

    def _log(self, vkey: str, url: Sequence[str]) -> None:
        key = self._key(vkey)
        if isinstance(key, WitnessKey):
            raise ManifestRefused(f"policy: {key.name} has a witness's key where a log stands")
        self.logs.append(Log(key=key, url=url[0] if url else None))

    def _witness(self, name: str, vkey: str, url: Sequence[str]) -> None:
        key = self._key(vkey)
        if not isinstance(key, WitnessKey):
            raise ManifestRefused(f"policy: {name} has a log's key where a witness stands")
        self._define(name)
        self.witnesses.append(Witness(name=name, key=key, url=url[0] if url else None))

    def _group(self, name: str, word: str, members: Sequence[str]) -> None:
        for member in members:
            if member not in self.names or member == NO_QUORUM:
                raise ManifestRefused(f"policy: group {name} names {member}, which is not defined")
            if member in self._members:
                raise ManifestRefused(f"policy: {member} is a member twice")
            self._members.add(member)
        if not _THRESHOLD.fullmatch(word) and word not in {"any", "all"}:
            raise EncodingRefused(f"policy: group {name} has the threshold `{word[:32]}`")
        threshold = {"any": 1, "all": len(members)}.get(word) or int(word)
        if threshold > len(members):
            raise ManifestRefused(f"policy: group {name} wants {threshold} of {len(members)}")
        self._define(name)
        self.groups.append(Group(name=name, threshold=threshold, members=tuple(members)))

    def _decide(self, name: str) -> None:
        if self.quorum is not None:
            raise ManifestRefused("policy: a second quorum line")
        if name not in self.names:
            raise ManifestRefused(f"policy: the quorum names {name}, which is not defined")
        self.quorum = name

    def _define(self, name: str) -> None:
        if name in self.names:
            raise ManifestRefused(f"policy: {name} is defined twice")
        self.names.add(name)

    def _key(self, vkey: str) -> NoteKey:
        key = cosignature.open_vkey(vkey)
        if (key.kind, key.key.raw) in self._public:
            raise ManifestRefused(f"policy: the key of {key.name} stands twice")
        self._public.add((key.kind, key.key.raw))
        return key
