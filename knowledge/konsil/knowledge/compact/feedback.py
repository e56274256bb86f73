"""Feedback: what one message left out is owed, and goes with the next (error feedback).

`send` is for a stream of changes: law, up to rounding, Σ received + owed = Σ steps. `advance` is
for a model that others follow, as in CHOCO-SGD (Koloskova, Stich and Jaggi 2019, algorithm 2):
sender and receivers keep the same public copy, what travels is the encoded difference to it, and
what that left out is in the next difference by itself. Law: after the same messages the public
copy of every receiver equals the sender's bit for bit, and what it lacks of the model is exactly
what is still owed. Counters are those of the newest message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from konsil.knowledge.named import NamedTensors

if TYPE_CHECKING:
    from collections.abc import Callable

    Decoder: TypeAlias = Callable[[NamedTensors, NamedTensors], NamedTensors]
    Encoder: TypeAlias = Callable[[NamedTensors], NamedTensors]


@dataclass(frozen=True)
class Sent:
    """One message: what travels, what its readers see, and what the sender keeps for later."""

    encoded: NamedTensors
    received: NamedTensors
    owed: NamedTensors


def send(step: NamedTensors, owed: NamedTensors, encode: Encoder, decode: Decoder) -> Sent:
    """Encode `step` and what is `owed`; `received` + the new `owed` = their sum, up to rounding."""
    due = step + owed
    encoded = encode(due)
    received = decode(encoded, due)
    return Sent(encoded, received, due - received)


def advance(
    model: NamedTensors, public: NamedTensors, encode: Encoder, decode: Decoder
) -> tuple[NamedTensors, NamedTensors]:
    """What to send so that followers of `public` come closer to `model`, and their new copy."""
    encoded = encode(model - public)
    return encoded, followed(public, decode(encoded, public))


def followed(public: NamedTensors, received: NamedTensors) -> NamedTensors:
    """The public copy after a message; `received` is what it decodes to."""
    moved = public + received
    return NamedTensors(
        {name: t if t.is_floating_point() else received[name] for name, t in moved.items()}
    )
