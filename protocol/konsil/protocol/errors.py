"""The one tree of errors: what went wrong, whose fault it is, and what to do next.

    KonsilError
    ├── UsageError            the command line cannot be understood          exit 2
    ├── ConfigError           a configuration file is wrong                  exit 5
    ├── StorageError          the disk cannot be read or written             exit 6
    ├── UnreachableError      a peer or a daemon does not answer             exit 4
    ├── IncompleteError       something needed to decide is missing          exit 4
    ├── GoalMissed            the work ran, but did not reach its goal       exit 1
    ├── VerificationError     bytes on our disk do not verify                exit 3
    ├── TaskError             the hospital's own task failed                 exit 1
    ├── LocalProtocolError    a bug of ours: we broke the protocol           exit 70
    └── RemoteError           a lie, or a mistake, of somebody else          exit 3
        ├── EncodingRefused   bytes that are not canonical
        ├── LimitExceeded     more than `Limits` grants
        ├── SignatureRefused  a signature that does not verify
        │   └── KeyRevoked    by a key that was revoked for its place
        ├── ManifestRefused   a manifest, proof or payload against the rules
        └── SessionRefused    a message out of turn, an unknown format, a stranger

A `RemoteError` never stops a node: it is refused, logged and counted. Every error names
the place in its message and the remedy in `hint`; `code` is a stable word for scripts.
"""

from __future__ import annotations

from typing import ClassVar


class KonsilError(Exception):
    """The root of all errors that konsil raises on purpose."""

    exit_code: ClassVar[int] = 70
    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def diagnostics(self) -> str:
        """The text shown to a person: what happened, and the next step."""
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(KonsilError):
    """The command line cannot be understood."""

    exit_code = 2
    code = "usage"


class ConfigError(KonsilError):
    """A configuration file, key file or member list is wrong."""

    exit_code = 5
    code = "configuration"


class StorageError(KonsilError):
    """The disk cannot be read or written."""

    exit_code = 6
    code = "storage"


class UnreachableError(KonsilError):
    """A peer or a daemon does not answer."""

    exit_code = 4
    code = "unreachable"


class IncompleteError(KonsilError):
    """Something that is needed to decide is missing."""

    exit_code = 4
    code = "incomplete"


class GoalMissed(KonsilError):
    """The work ran to its end, but a stated goal was not reached."""

    exit_code = 1
    code = "goal"


class VerificationError(KonsilError):
    """Bytes on our own disk do not verify: tampering, fork or rollback."""

    exit_code = 3
    code = "verification"


class TaskError(KonsilError):
    """The hospital's own task, or the process that runs it, failed."""

    exit_code = 1
    code = "task"


class LocalProtocolError(KonsilError):
    """A bug of ours: this side tried to break the protocol."""

    code = "bug"


class RemoteError(KonsilError):
    """Bytes or behaviour of somebody else that the rules refuse."""

    exit_code = 3
    code = "remote"


class EncodingRefused(RemoteError):
    """Bytes that are not the one canonical encoding of their value."""

    code = "encoding"


class LimitExceeded(RemoteError):
    """More bytes, items or depth than `Limits` grants."""

    code = "limit"


class SignatureRefused(RemoteError):
    """A signature that does not verify, or is not by whom it should be."""

    code = "signature"


class KeyRevoked(SignatureRefused):
    """What a key signed that was revoked for this place of the log; it may have been honest."""

    code = "revoked"


class ManifestRefused(RemoteError):
    """A manifest, proof or payload that contradicts itself or the rules."""

    code = "manifest"


class SessionRefused(RemoteError):
    """A message out of turn, an unknown format version, or a stranger."""

    code = "session"
