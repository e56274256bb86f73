"""What only the owner of a ledger can do: write its history anew, and sign it."""

from __future__ import annotations

import os
import shutil

import msgspec

from konsil.node.keys import load_keys
from konsil.node.paths import Home
from konsil.node.store.filestore import FileStore
from konsil.protocol import checkpoint, entries, genesis, merkle
from konsil.protocol.checkpoint import Checkpoint
from konsil.simulations.reading import entries_of


def rewritten(home, target, change):
    """A copy of the home in which `change(entry)` gives the bodies that stand in its place.

    Salts and times stay, positions follow, and the owner's key signs the whole.
    """
    shutil.copytree(home, target, ignore=shutil.ignore_patterns("*.sock"))
    place, log = Home(target), []
    for entry in entries_of(Home(home)):
        for at, body in enumerate(change(entry)):
            salt = entry.s if at == 0 else os.urandom(16)
            log.append(
                msgspec.structs.replace(entry, b=body, t=entries.type_of(body), n=len(log), s=salt)
            )
    for path in [*place.ledger.glob("tail.*"), place.ledger / "cosigned"]:
        path.unlink(missing_ok=True)
    store = FileStore.create(place.ledger)
    data = [entries.encode(entry) for entry in log]
    leaves = [merkle.leaf_hash(one) for one in data]
    store.append([*zip(data, leaves, strict=True)])
    origin = genesis.read(data[0]).origin
    head = Checkpoint(origin=origin, size=len(log), root=merkle.root_of(leaves))
    store.save_checkpoint(checkpoint.sign(head, load_keys(place.keys)["log"]))
    store.close()
    return target
