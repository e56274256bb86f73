"""Take a model out of konsil: its weights, its graph, and ten lines of plain torch.

Reads the home's ledger and stores; works beside a running daemon. The graph is written by
`torch.export` in the worker process, from the hospital's own task, so that what leaves can be
loaded where neither konsil nor the task is installed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from konsil.node.config import NodeConfig, read_config
from konsil.node.learning.trainer import Trainer
from konsil.node.learning.worker_messages import Export, Exported, Open
from konsil.node.log import open_log
from konsil.node.paths import Home
from konsil.node.store.blobs import BlobStore
from konsil.protocol import entries, envelope, knowledge_manifest
from konsil.protocol.artifact import read_statement
from konsil.protocol.errors import ConfigError, IncompleteError, StorageError, UsageError
from konsil.protocol.learning_bodies import (
    ArtifactIntegrate,
    ArtifactPublish,
    ArtifactReceive,
    ModelTrain,
)
from konsil.trust.reading import read_entries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMEOUT_S = 120.0


def find_manifest(root: Path, prefix: str) -> dict[str, Any]:
    """The manifest of the artifact whose payload or envelope digest starts with `prefix`."""
    home = _home(root)
    blobs = BlobStore(home.ledger / "blobs")
    found: dict[bytes, entries.Body] = {}
    for body in _bodies(home):
        if isinstance(body, ArtifactPublish | ArtifactReceive) and (
            body.env.hex().startswith(prefix) or body.art.hex().startswith(prefix)
        ):
            found[body.env] = body
    env = _only(list(found), prefix, root)
    sealed = envelope.unpack(blobs.get(env))
    manifest: dict[str, Any] = msgspec.to_builtins(read_statement(sealed.payload))
    return {"env": env.hex(), **manifest, "claims": _claims(blobs, manifest["knowledge"])}


def _claims(blobs: BlobStore, named: str | None) -> dict[str, Any] | None:
    """What an artifact says that it knows; None where it says nothing, or that is not here."""
    if named is None or not blobs.has(bytes.fromhex(named)):
        return None
    found = knowledge_manifest.read(blobs.get(bytes.fromhex(named)))
    claims: dict[str, Any] = msgspec.to_builtins(found)
    return claims


def export_model(root: Path, prefix: str | None, out: Path) -> dict[str, Any]:
    """Write a model of the home at `root` to the new folder `out`; what was written.

    Raises `UsageError` for an unknown digest or a folder that is not empty, `IncompleteError`
    when the payload is not in the store, `TaskError` when the task cannot be opened.
    """
    home = _home(root)
    config = read_config(home.config)
    model = _model(home, prefix, root)
    if not BlobStore(home.blobs).has(model):
        raise IncompleteError(f"{model.hex()}: its payload is not in {root}")
    try:
        if out.exists() and any(out.iterdir()):
            raise UsageError(f"{out}: this folder is not empty", hint="choose another")
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{out}: cannot be written: {error.strerror}") from error
    exported = trio.run(_export, home, config, model, out.absolute())
    facts = {"model": model.hex(), "node": config.node.name, "task": config.task.factory}
    (out / "model.json").write_text(json.dumps(facts, indent=2) + "\n")
    return {**facts, "out": str(out), "files": [*exported.files, "model.json"]}


async def _export(home: Home, config: NodeConfig, model: bytes, out: Path) -> Exported:
    opening = Open(
        home=str(home.root),
        blobs=str(home.blobs),
        factory=config.task.factory,
        options=config.task.options,
        name=config.node.name,
        seed=config.training.seed,
        device="cpu",
    )
    trainer = Trainer(opening, open_log(config.node.name, "error"), timeout_s=TIMEOUT_S)
    try:
        return await trainer.ask(Export(model=model, folder=str(out)), Exported)
    finally:
        await trainer.aclose()


def _home(root: Path) -> Home:
    home = Home(root.absolute())
    if not home.ledger.is_dir():
        raise ConfigError(f"{root}: there is no ledger here", hint="name a hospital's home")
    return home


def _bodies(home: Home) -> Iterator[entries.Body]:
    for entry in read_entries(home.ledger):
        yield entry.b


def _model(home: Home, prefix: str | None, root: Path) -> bytes:
    current: bytes | None = None
    known: dict[bytes, None] = {}
    for body in _bodies(home):
        if isinstance(body, ModelTrain | ArtifactIntegrate):
            current = body.out
            known[body.out] = None
        elif isinstance(body, ArtifactPublish | ArtifactReceive):
            known[body.art] = None
    if prefix is None:
        if current is None:
            raise IncompleteError(f"{root}: no model was trained yet")
        return current
    return _only([digest for digest in known if digest.hex().startswith(prefix)], prefix, root)


def _only(found: list[bytes], prefix: str, root: Path) -> bytes:
    if len(found) != 1:
        raise UsageError(
            f"{root}: {len(found)} artifacts begin with `{prefix}`",
            hint="see: konsil node artifacts HOME",
        )
    return found[0]
