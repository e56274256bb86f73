"""What our artifact claims to know, from what the worker said when it opened the task.

Classes with rows are known, in buckets; classes without are not evaluated; of everything else
nothing is said, which means unknown. How well a label is recognised is said only as far as it
was measured: no number without the evaluation that it is from.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import msgspec

from konsil.protocol import jcs, knowledge_manifest
from konsil.protocol.artifact import bucket
from konsil.protocol.errors import LocalProtocolError
from konsil.protocol.knowledge_manifest import (
    KnowledgeManifest,
    LabelKnowledge,
    LabelName,
    Measured,
    TrustIn,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from konsil.node.learning.worker_messages import Figures, Opened
    from konsil.protocol.artifact import PrivacySpent

TASK: Final = "task"
"""The code system of classes that only the task defines."""
_NOTHING: Final[Mapping[str, Mapping[str, Measured]]] = MappingProxyType({})
_NOBODY: Final[Mapping[tuple[str, str], int]] = MappingProxyType({})


def knowledge_of(
    opened: Opened,
    privacy: PrivacySpent,
    measured: Mapping[str, Mapping[str, Measured]] = _NOTHING,
    *,
    opinions: Mapping[tuple[str, str], int] = _NOBODY,
) -> KnowledgeManifest:
    """The claims of an artifact that was trained on the rows of `opened`.

    `measured` has figures by class and by field of `LabelKnowledge` (`auroc`, `sensitivity`, …),
    `opinions` the trust in 1e-9 by node and kind.
    Raises `LocalProtocolError` for figures of a class that has no rows, or of no such field.
    """
    rows = dict(zip(opened.classes, opened.class_rows, strict=True))
    for name, figures in measured.items():
        odd = set(figures) - set(LabelKnowledge.__struct_fields__[3:])
        if not rows.get(name) or odd:
            raise LocalProtocolError(f"figures of the class {name!r} that cannot be said: {odd}")
    return KnowledgeManifest(
        labels=tuple(
            LabelKnowledge(
                system=TASK, code=name, rows=bucket(count), **dict(measured.get(name, {}))
            )
            for name, count in rows.items()
            if count > 0
        ),
        not_evaluated=tuple(
            LabelName(system=TASK, code=name) for name, count in rows.items() if count == 0
        ),
        privacy=privacy,
        base=opened.base.hex(),
        opinions=tuple(
            TrustIn(node=node, kind=kind, trust_e9=trust)  # type: ignore[arg-type]
            for (node, kind), trust in sorted(opinions.items())
        ),
    )


def measured(figures: Figures | None) -> dict[str, dict[str, Measured]]:
    """What was measured, by class and field, as `knowledge_of` takes it."""
    if figures is None:
        return {}
    evaluation = figures.evaluation.hex()
    return {
        name: {"auroc": Measured(value_e6=value, evaluation=evaluation)}
        for name, value in figures.auroc_e6.items()
    }


def written(manifest: KnowledgeManifest, most: int) -> bytes | None:
    """The bytes of a manifest; None where they are more than `most`, which nobody would read.

    Nothing is said then, rather than a part of it: what is left out would mean unknown.
    """
    if len(jcs.canonical(msgspec.to_builtins(manifest))) > most:
        return None
    return knowledge_manifest.write(manifest)
