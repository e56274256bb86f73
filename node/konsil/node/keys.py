"""The private keys of a node on disk: one file a role, readable by the owner only.

There are five, and a sixth (P-256, for OpenSSF model signing) when it was asked for.

Invariants: a key file is 32 raw bytes as hex and mode 0600; a wider mode is refused, never
repaired, since somebody may have read the key. A key is replaced in two steps: the new one is
durable beside the old one (`<role>.next.key`) before the ledger says so, and takes its place
only after. The recovery key may lie elsewhere.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from konsil.node.store.durable import TEMPORARY, begin, storage_error, sync_folder, write_all
from konsil.node.store.reading import opened
from konsil.protocol import p256
from konsil.protocol.errors import ConfigError, LocalProtocolError, StorageError
from konsil.protocol.identity import RECOVERY, ROLES, SEED_BYTES, KeySet, SigningKey
from konsil.protocol.p256 import P256SigningKey

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from konsil.protocol.identity import VerifyKey

_MAX_BYTES = 1_024
"""No key file is as long."""

P256 = "p256"
"""The role of the key for OpenSSF model signing, which a node may have beside its five."""


def create_keys(folder: Path) -> KeySet:
    """Make and store fresh keys. Raises `ConfigError` when one is there already."""
    keys = KeySet.generate(os.urandom)
    _store(folder, {role: keys.keys[role].seed for role in ROLES})
    return keys


def create_p256(folder: Path) -> P256SigningKey:
    """Make and store a fresh P-256 key. Raises `ConfigError` when one is there already."""
    key = _draw_p256()
    _store(folder, {P256: key.seed})
    return key


def _draw_p256() -> P256SigningKey:
    while True:  # one draw in 2^32 is not below the order of the curve
        with suppress(LocalProtocolError):
            return P256SigningKey(os.urandom(p256.SEED_BYTES))


def _store(folder: Path, seeds: Mapping[str, bytes]) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for role, seed in seeds.items():
            _write_once(folder / f"{role}.key", seed)
    except FileExistsError as error:
        raise ConfigError(
            f"{error.filename}: a key is there already", hint="choose another home"
        ) from error
    except OSError as error:
        raise StorageError(f"{folder}: cannot write keys: {error.strerror}") from error


def load_keys(folder: Path) -> KeySet:
    """The stored keys. Raises `ConfigError` naming a file that is missing, open or malformed."""
    away = not (folder / f"{RECOVERY}.key").exists()
    roles = [role for role in ROLES if not (away and role == RECOVERY)]
    keys = {role: load_key(folder / f"{role}.key") for role in roles}
    owners: dict[bytes, str] = {}
    for role, key in keys.items():
        other = owners.setdefault(key.seed, role)
        if other != role:
            raise ConfigError(
                f"{folder / f'{role}.key'}: holds the same key as {other}.key",
                hint="restore both from your backup",
            )
    return KeySet(keys=keys)


def load_key(path: Path) -> SigningKey:
    """The key in one file. Raises as `load_keys` does."""
    return SigningKey.from_seed(_read(path))


def load_following(folder: Path) -> dict[str, SigningKey]:
    """Keys, by role, that a change was about to put in force. Raises as `load_keys` does."""
    paths = {role: _next(folder, role) for role in ROLES}
    return {role: load_key(path) for role, path in paths.items() if path.exists()}


def stage(folder: Path, role: str) -> SigningKey:
    """A fresh key beside the one of `role`, durable. Raises `StorageError`."""
    key, path = SigningKey.from_seed(os.urandom(SEED_BYTES)), _next(folder, role)
    unfinished = path.with_name(path.name + TEMPORARY)
    try:
        unfinished.unlink(missing_ok=True)
        _write_once(unfinished, key.seed)
        os.replace(unfinished, path)
        sync_folder(folder)
    except OSError as error:
        raise storage_error(path, error) from error
    return key


def settle(folder: Path, in_force: Mapping[str, VerifyKey], *, sure: bool) -> None:
    """Puts the staged keys that are in force in their place.

    The others are dropped only when it is `sure` that the log is the newest: an older copy of
    it does not know of the change that put one in force. Raises `StorageError`.
    """
    for role, key in load_following(folder).items():
        path = _next(folder, role)
        try:
            if in_force[role] == key.public:
                os.replace(path, folder / f"{role}.key")
            elif sure:
                path.unlink()
            sync_folder(folder)
        except OSError as error:
            raise storage_error(path, error) from error


def _next(folder: Path, role: str) -> Path:
    return folder / f"{role}.next.key"


def load_p256(folder: Path) -> bytes:
    """The 32 secret bytes of the stored P-256 key. Raises as `load_keys` does."""
    return _read(folder / f"{P256}.key")


def _write_once(path: Path, seed: bytes) -> None:
    handle = begin(path, 0o600)
    try:
        write_all(handle, seed.hex().encode() + b"\n", 0)
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path) -> bytes:
    try:
        file, _ = opened(path)
        with file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(_MAX_BYTES)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: the key is missing", hint="restore it from your backup"
        ) from error
    except StorageError as error:
        raise ConfigError(error.message, hint="name the key's own file, not a link") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigError(
            f"{path}: mode {mode:04o} lets others read a private key", hint=f"chmod 600 {path}"
        )
    try:
        seed = bytes.fromhex(text.decode("ascii").strip())
        if len(seed) != 32:
            raise ValueError(f"{len(seed)} bytes")
    except ValueError as error:
        raise ConfigError(
            f"{path}: this is no key (64 hex digits)", hint="restore it from your backup"
        ) from error
    return seed
