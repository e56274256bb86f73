"""What the daemon and its worker process say to each other over a pipe.

The worker owns the patients' rows and every tensor; the daemon owns keys, ledger and
network, and never imports torch. So tensors cross by path and digest through the blob
store, and only counts, digests and scores cross in messages. One request, one reply.

Frames: u32 big-endian length, then msgpack of a tagged struct (`msgspec`, both ends are
ours). The worker never sees a key and never opens a socket.
"""

from __future__ import annotations

from typing import Any

import msgspec

from konsil.protocol.artifact import Kind
from konsil.protocol.encoding import PLAIN, Codec, Format
from konsil.protocol.fields import Code
from konsil.trust.score import NEUTRAL_E9


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag=True):
    """A tagged message; the tag is the class name."""


class Open(_Message, frozen=True):
    """Load the task and the common base model. First request of every worker."""

    home: str
    blobs: str
    factory: str
    options: dict[str, Any]
    name: str
    seed: int
    """Seed of the consortium: the base model and its initial weights follow from it."""
    device: str
    kind: Kind = "parameters"
    """What is handed out and taken in."""


class Opened(_Message, frozen=True):
    """The task is loaded."""

    task: str
    classes: tuple[str, ...]
    base: bytes
    """Digest of the common initial model, now in the blob store."""
    about: bytes
    """What an artifact's `base` names: that model, or the question that answers are to."""
    form: bytes
    """The architecture of an artifact's payload."""
    whole: bool
    """A payload is a model as it is: whoever has the model need not ask for one."""
    rows: int
    class_rows: tuple[int, ...]
    data: bytes
    """Salted commitment to the training rows."""
    recipe: bytes
    code: bytes
    environment: bytes


class Figures(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be told of how well a model does on held-back rows."""

    evaluation: bytes
    """Salted commitment to these rows."""
    auroc_e6: dict[str, int]
    """By class; see `konsil.knowledge.figures`."""


class Train(_Message, frozen=True):
    """Train locally from `model` for one round."""

    model: bytes
    round: int


class Trained(_Message, frozen=True):
    """A round of local training is done; both models lie in the blob store."""

    out: bytes
    """The locally trained model (x_i)."""
    release: bytes
    """The payload to hand out; of parameters it equals `out` unless the task transforms it."""
    loss: float
    figures: Figures | None = None


class Release(_Message, frozen=True):
    """Make a payload of `model`, whose training began with `before`."""

    before: bytes
    model: bytes


class Released(_Message, frozen=True):
    """The payload lies in the blob store."""

    payload: bytes
    figures: Figures | None = None


class Encode(_Message, frozen=True):
    """Write `release` in fewer bytes, as a change of `reference` (both plain payloads)."""

    release: bytes
    reference: bytes | None
    """None: of what every member begins with."""
    codec: Codec


class Encoded(_Message, frozen=True):
    """What travels, and the tensors that its readers see; all in the blob store.

    Of the format `safetensors` when this codec cannot say it: then both are the release.
    """

    payload: bytes
    tensors: bytes
    format: Format


class Check(_Message, frozen=True):
    """Has a received payload, spooled at `path`, the form that it must have, and finite values?

    Of any other format than `safetensors` it must be a change of `reference` (as in `Encode`)
    that leads to `tensors`, which then lie in the blob store.
    """

    path: str
    form: bytes
    format: Format = PLAIN
    reference: bytes | None = None
    tensors: bytes = b""


class Checked(_Message, frozen=True):
    """The verdict; `reasons` is empty when the payload may be mixed."""

    reasons: tuple[Code, ...]


class Candidate(_Message, frozen=True):
    """One received artifact that waits to be mixed, with what is known of its publisher."""

    art: bytes
    tensors: bytes
    """The digest of its tensors as a plain payload; `art` where it travelled as one."""
    node: str
    lag: int
    metropolis_e9: int
    r_e9: int
    s_e9: int
    base_rate_e9: int = NEUTRAL_E9
    """What others say of the publisher; neutral where nobody is asked."""
    pinned_e9: int | None = None
    """Set by the operator: this gate value is used instead of the evidence's."""
    copied: bool = False
    """Another author had this payload first."""
    classes: tuple[str, ...] = ()
    """The classes that its coverage names as seen."""


class Mix(_Message, frozen=True):
    """Judge the candidates and mix them into the trained model."""

    before: bytes
    """a_i: the model before this round's local steps."""
    trained: bytes
    """x_i: the model after them."""
    node: str
    round: int
    kind: str
    candidates: tuple[Candidate, ...]


class Judged(_Message, frozen=True):
    """What the evidence says of one candidate; `record` is a packed EvidenceRecord."""

    art: bytes
    node: str
    record: bytes
    old_e9: int
    new_e9: int
    r_e9: int
    s_e9: int
    cause: str


class MixedPart(_Message, frozen=True):
    """One effective, integer coefficient of the mix."""

    art: bytes
    node: str
    w_e9: int
    trust_e9: int


class Mixed(_Message, frozen=True):
    """The mixed model lies in the blob store; `parts` replays it exactly."""

    out: bytes
    rule: str
    parts: tuple[MixedPart, ...]
    not_mixed: tuple[str, ...]
    judged: tuple[Judged, ...]
    before: dict[str, float]
    after: dict[str, float]
    reason: str


class Export(_Message, frozen=True):
    """Write a model to `folder` in a form that plain torch loads, without konsil."""

    model: bytes
    folder: str


class Exported(_Message, frozen=True):
    """The names of the files written."""

    files: tuple[str, ...]


class Failed(_Message, frozen=True):
    """The task raised; the worker lives on unless `fatal`."""

    what: str
    where: str
    fatal: bool
    code: str
    """The error's word in `konsil.protocol.errors`: our disk is not the task's fault."""


Request = Open | Train | Release | Encode | Check | Mix | Export
Reply = Opened | Trained | Released | Encoded | Checked | Mixed | Exported | Failed
