"""Choice: the kind of artifact that an opened task hands out and takes in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.knowledge.judge import local_names
from konsil.knowledge.pack import load
from konsil.node.learning.kinds.answers import Answers
from konsil.node.learning.kinds.parameters import Parameters
from konsil.node.learning.kinds.prototypes import Prototypes
from konsil.node.learning.kinds.vectors import Vectors
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from konsil.knowledge.task import Task
    from konsil.node.learning.kinds.kind import Kind
    from konsil.node.learning.worker_messages import Open
    from konsil.node.store.blobs import BlobStore
    from konsil.protocol.digest import Digest


def kind_of(request: Open, task: Task, blobs: BlobStore, base: Digest, device: str) -> Kind:
    """The kind that `request` names, for a task whose base model lies in `blobs`.

    Raises `ConfigError` for a kind that this task cannot give.
    """
    local = local_names(task, task.model())
    if request.kind == "parameters":
        return Parameters(blobs, base, local)
    if request.kind == "data_vector":
        return Vectors(blobs, base, local)
    if task.problem != "classes":
        raise ConfigError(f"[artifacts] kind = {request.kind!r} is not for a task of masks")
    start, seed, name = load(blobs.path(base)), request.seed, request.name
    if request.kind == "prototypes":
        return Prototypes(blobs, task, start, seed=seed, node=name, device=device)
    if task.question is None:
        raise ConfigError(
            f"[artifacts] kind = {request.kind!r}: task {task.name!r} has no common question",
            hint="give Task(question=...) unlabelled rows that all members agree on",
        )
    question = task.question()
    if question.classes != task.classes:
        raise ConfigError(
            f"task {task.name!r}: its question is about {', '.join(question.classes)}, not "
            f"{', '.join(task.classes)}"
        )
    return Answers(
        blobs, task, question, start,
        seed=seed, node=name, device=device, weak=request.kind == "weak_labels",
    )  # fmt: skip
