"""The workbench: one opened task, and the answers to everything the daemon asks of it.

Runs in the worker process. The same request gives the same digests: randomness is seeded by
consortium, node and round, and files are named by their content.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from konsil.knowledge import losses, pack, train
from konsil.knowledge.figures import aurocs
from konsil.knowledge.judge import Judge
from konsil.knowledge.task import Task, TaskConfig, load_factory
from konsil.node.learning import fingerprints
from konsil.node.learning.blending import Blending
from konsil.node.learning.compacting import Compacting
from konsil.node.learning.kinds.choice import kind_of
from konsil.node.learning.plain_torch import write_plain
from konsil.node.learning.worker_messages import (
    Check,
    Checked,
    Encode,
    Encoded,
    Export,
    Exported,
    Figures,
    Mix,
    Mixed,
    Open,
    Opened,
    Release,
    Released,
    Train,
    Trained,
)
from konsil.node.store.blobs import BlobStore
from konsil.protocol.errors import ConfigError, StorageError, TaskError

if TYPE_CHECKING:
    from konsil.knowledge.named import NamedTensors
    from konsil.protocol.digest import Digest


class Workbench:
    """A task, its device and its blobs. Raises `ConfigError` when the task cannot be opened."""

    def __init__(self, request: Open) -> None:
        self._request = request
        home = Path(request.home)
        factory = load_factory(request.factory, home)
        config = TaskConfig(home, request.name, request.seed, request.options)
        task = factory(config)
        if not isinstance(task, Task):
            kind = type(task).__name__
            raise ConfigError(f"[task] factory = {request.factory!r} returned {kind}, not a Task")
        self._task = task
        self._device = choose_device(request.device)
        self._blobs = BlobStore(Path(request.blobs))
        self._scratch = _scratch_folder(home / "spool")
        self._judge = Judge(task, self._device)
        salt = fingerprints.secret_salt(home)
        self._evaluation = fingerprints.data_commitment(task.holdout, salt)
        digest = self._store(train.initial_model(task, request.seed))
        self._kind = kind_of(request, task, self._blobs, digest, self._device)
        self._compacting = Compacting(self._blobs, self._kind)
        self.opened = Opened(
            task=task.name,
            classes=task.classes,
            base=digest,
            about=self._kind.about,
            form=self._kind.form,
            whole=request.kind == "parameters" and task.release is None,
            rows=len(task.train),
            class_rows=_class_rows(task),
            data=fingerprints.data_commitment(task.train, salt),
            recipe=fingerprints.recipe(task, request, self._kind.about),
            code=fingerprints.code(factory),
            environment=fingerprints.environment(),
        )

    def train(self, request: Train) -> Trained:
        """One round of local training; the trained model and its release are stored."""
        before = self._load(request.model)
        trained = train.train(
            self._task,
            before,
            seed=self._request.seed,
            node=self._request.name,
            number=request.round,
            device=self._device,
        )
        out = self._store(trained.model)
        return Trained(
            out=out,
            release=self._payload(before, trained.model),
            loss=trained.loss,
            figures=self._figures(trained.model),
        )

    def release(self, request: Release) -> Released:
        """The payload of any model of ours."""
        before, model = self._load(request.before), self._load(request.model)
        return Released(payload=self._payload(before, model), figures=self._figures(model))

    def encode(self, request: Encode) -> Encoded:
        """A payload of ours in fewer bytes."""
        return self._compacting.encode(request)

    def check(self, request: Check) -> Checked:
        """Whether a spooled payload may be mixed."""
        return self._compacting.check(request)

    def mix(self, request: Mix) -> Mixed:
        """Judge the candidates and mix them into the trained model."""
        return Blending(request, self._judge, self._blobs, self._kind, self._scratch).run()

    def export(self, request: Export) -> Exported:
        """Write a model with its network and local intercept for use without konsil."""
        model = self._load(request.model)
        intercept = self._judge.intercept(model)
        return Exported(files=write_plain(self._task, model, intercept, Path(request.folder)))

    def _payload(self, before: NamedTensors, trained: NamedTensors) -> Digest:
        """What is handed out of a trained model, in the blob store."""
        return self._store(self._kind.payload(self._released(before, trained)))

    def _released(self, before: NamedTensors, trained: NamedTensors) -> NamedTensors:
        """What the task lets out of the hospital; it must still be a model like any other."""
        if self._task.release is None:
            return trained
        released = self._task.release(before, trained)
        same = {name: (t.dtype, t.shape) for name, t in trained.items()}
        if {name: (t.dtype, t.shape) for name, t in released.items()} != same:
            raise TaskError("the task's release returned other names, types or shapes")
        if not released.finite():
            raise TaskError("the task's release returned values that are not finite")
        return released

    def _figures(self, model: NamedTensors) -> Figures | None:
        """What may be told of a model beside its payload: nothing where a task changes what it
        lets out, since no noise was spent on figures, and nothing of masks."""
        if self._task.release is not None or self._task.problem == "masks":
            return None
        rows = self._task.holdout
        outputs = self._judge.outputs(model, rows.inputs)
        told = aurocs(
            outputs.numpy(), rows.targets.cpu().numpy(), rows.patients, self._task.classes
        )
        learned = dict(zip(self.opened.classes, self.opened.class_rows, strict=True))
        told = {name: value for name, value in told.items() if learned[name]}
        return Figures(evaluation=self._evaluation, auroc_e6=told)

    def _load(self, digest: Digest) -> NamedTensors:
        self._blobs.check(digest)
        return pack.load(self._blobs.path(digest))

    def _store(self, model: NamedTensors) -> Digest:
        path = self._scratch / "model.safetensors"
        digest = pack.save(model, path)
        self._blobs.put_file(path, digest)
        return digest


def choose_device(wanted: str) -> str:
    """`cpu` or `cuda`; `auto` takes the GPU when there is one.

    Raises `ConfigError` when a GPU is demanded and absent.
    """
    present = torch.cuda.is_available()
    if wanted == "cuda" and not present:
        raise ConfigError("[training] device = cuda, but torch sees no GPU", hint="device = auto")
    return "cuda" if present and wanted in ("auto", "cuda") else "cpu"


def _class_rows(task: Task) -> tuple[int, ...]:
    """Training rows of each class; for masks, the images that have pixels of it."""
    targets = task.train.targets.cpu()
    of = losses.mask_members if task.problem == "masks" else losses.members
    return tuple(int(count) for count in of(targets, len(task.classes)).sum(0))


def _scratch_folder(spool: Path) -> Path:
    """An empty folder of this process's own; those that dead workers left are removed.

    An export may open the same home beside the daemon's worker.
    """
    path = spool / f"worker-{os.getpid()}"
    try:
        for old in spool.glob("worker-*"):
            if old == path or not _alive(old.name.removeprefix("worker-")):
                shutil.rmtree(old, ignore_errors=True)
        path.mkdir(mode=0o700, parents=True)
    except OSError as fault:
        raise StorageError(f"{path}: {fault.strerror}") from fault
    return path


def _alive(number: str) -> bool:
    try:
        os.kill(int(number), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
