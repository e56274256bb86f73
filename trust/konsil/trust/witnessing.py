"""Witnessing: what a node concludes from the checkpoints of other logs, and when it vouches.

Two halves over the same records. A *witness* vouches for a checkpoint that continues the last
one it vouched for: compare, make durable, and only then sign (`answer`), so that two requests
at once can never take its knowledge back. A *watcher* takes in whatever checkpoint it meets
and ends in one of: same history, a question, a fork proof.

Only a proof that verifies exposes a log, and nothing clears it again. A question that nobody
answered in time makes a log suspect, a later answer clears it, and a suspect log is never
exposed for that. Time and storage are arguments; nothing here waits or writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from konsil.protocol import checkpoint, cosignature, fork, merkle, note, witness
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.errors import ManifestRefused, RemoteError, SignatureRefused
from konsil.protocol.fork import OpenHead
from konsil.protocol.identity import SigningKey
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.witness import Request, Response, Status


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that its log signed: the note as received, and what it says."""

    note: bytes
    head: Checkpoint

    @property
    def size(self) -> int:
        """The number of entries that it is signed for."""
        return self.head.size


class KnownStore(Protocol):
    """The newest checkpoint of each log that a witness vouched for, on durable storage."""

    def get(self, origin: str) -> Known | None:
        """The newest one of the log `origin`."""

    def swap(self, origin: str, expected: Known | None, new: Known) -> bool:
        """In one step: if `expected` is still the newest, make `new` it, durably; else False.

        Nothing need be written when both are equal, but the comparison still counts.
        """


class Witness(msgspec.Struct, frozen=True, kw_only=True):
    """Who vouches: the origin and the `wit` key of a node, and the logs that it reads."""

    name: str
    key: SigningKey
    readers: Mapping[str, OpenHead]
    """What verifies checkpoints, by the origin of the log."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a request deserves: a status, and what must be durable before it is told."""

    status: Status
    keep: Known | None = None
    """With status 200: the newest checkpoint from now on."""
    fork: bytes | None = None
    """With status 422: the fork proof, if the request itself gave one away."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The response to send, and the fork proof that the request gave away, if any."""

    response: Response
    fork: bytes | None = None


def read_request(request: Request, readers: Mapping[str, OpenHead]) -> Checkpoint | Status:
    """The verified head in a request, or the status that refuses it (400, 403 or 404)."""
    try:
        claimed = checkpoint.from_text(note.parse(request.note)[0])
        if claimed.origin not in readers:
            return 404
        return readers[claimed.origin](request.note)
    except SignatureRefused:
        return 403
    except RemoteError:
        return 400


def decide(request: Request, head: Checkpoint, known: Known | None) -> Verdict:
    """What a request with the verified `head` deserves from a witness that knows `known`.

    Law: a verdict of 200 keeps a head of the same history as `known` and not smaller.
    """
    if request.old > head.size:
        return Verdict(status=400)
    if request.old != (known.size if known else 0):
        return Verdict(status=409)
    if head.size == 0 and head.root != merkle.EMPTY_ROOT:
        return Verdict(status=422)
    if known is not None and known.head == head:
        return Verdict(status=422) if request.proof else Verdict(status=200, keep=known)
    fresh = Known(note=request.note, head=head)
    try:
        if known is not None and known.size:
            merkle.verify_consistency(
                known.size, head.size, request.proof, known.head.root, head.root
            )
        elif request.proof:
            return Verdict(status=422)
    except ManifestRefused:
        return Verdict(status=422, fork=given_away(fresh, known, request.proof))
    return Verdict(status=200, keep=fresh)


def given_away(newer: Known, older: Known | None, proof: Sequence[bytes]) -> bytes | None:
    """The fork proof in a consistency proof that failed, if there is one in it."""
    if older is None:
        return None
    root = fork.shown_root(older.size, newer.size, proof)
    hashes = () if root is None else (root, *proof)
    try:
        fork.contradict(newer.head, older.head, hashes)
    except ManifestRefused:
        return None
    return fork.build(newer.note, older.note, hashes)


def answer(
    data: bytes,
    who: Witness,
    store: KnownStore,
    clock: Callable[[], int],
    *,
    limits: Limits = DEFAULT_LIMITS,
) -> Answer:
    """The answer to the bytes of a request; `clock` gives unix seconds.

    The cosignature is made after `store` holds the new state, so nothing that was vouched for
    can be forgotten. The clock is read between the look at the state and the swap: of two
    cosignatures for one log the later time never goes with the smaller size.
    """
    try:
        request = witness.decode_request(data, limits=limits)
    except RemoteError:
        return Answer(response=Response(status=400))
    head = read_request(request, who.readers)
    if not isinstance(head, Checkpoint):
        return Answer(response=Response(status=head))
    # A swap fails only because another request moved the state; the next look then sees it.
    while True:
        known = store.get(head.origin)
        verdict = decide(request, head, known)
        if verdict.status == witness.CONFLICT:
            return Answer(response=witness.conflict(known.size if known else 0))
        if verdict.keep is None:
            return Answer(response=Response(status=verdict.status), fork=verdict.fork)
        seconds = clock()
        if store.swap(head.origin, known, verdict.keep):
            line = cosignature.sign(request.note, who.name, who.key, seconds)
            return Answer(response=Response(status=witness.COSIGNED, body=line))


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint whose history is not shown to be that of `held` yet, and until when."""

    known: Known
    due: int


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """All that a watcher knows of one log."""

    origin: str
    held: Known | None = None
    """The largest checkpoint of the history that was met first."""
    pending: tuple[Pending, ...] = ()
    suspect: bool = False
    fork: bytes | None = None
    """The proof that the log forked; it is exposed for good."""


class Same(msgspec.Struct, frozen=True):
    """The checkpoint belongs to the history that is held; there is nothing to ask."""


class Newer(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody must show that the tree of `to_size` extends the one of `from_size`."""

    from_size: int
    to_size: int


class Forked(msgspec.Struct, frozen=True, kw_only=True):
    """The log is exposed; `proof` convinces everybody who knows its key."""

    proof: bytes


Sight = Same | Newer | Forked


def watch(
    state: Watch,
    data: bytes,
    open_head: OpenHead,
    *,
    due: int,
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[Watch, Sight]:
    """The state after the checkpoint note `data` was met, and what follows from it.

    A question must be answered (`settle`) by the time `due`. Beyond `limits.head_history` open
    questions no more are kept: the log is about to be suspect. Raises `EncodingRefused`,
    `LimitExceeded`, `SignatureRefused` or `ManifestRefused`, with nothing changed.
    """
    head = open_head(data)
    if head.origin != state.origin or (head.size == 0 and head.root != merkle.EMPTY_ROOT):
        raise ManifestRefused(f"checkpoint of {head.origin} at {head.size}: no state of that log")
    if state.fork is not None:
        return state, Forked(proof=state.fork)
    fresh = Known(note=data, head=head)
    held = state.held
    if held is None or held.size == 0:
        return msgspec.structs.replace(state, held=fresh), Same()
    for other in (held, *(item.known for item in state.pending)):
        if other.size == head.size and other.head.root != head.root:
            return _exposed(state, fork.build(data, other.note))
    if head.size in (0, held.size):
        return state, Same()
    return _asked(state, held, fresh, due, limits)


def compare(
    state: Watch, fresh: Known, mirrored: Known, nodes: merkle.Nodes
) -> tuple[Watch, Sight]:
    """What follows from a verified checkpoint that is not larger than the tree that we hold.

    `nodes` is the tree under `mirrored`; nobody need be asked.
    """
    if state.fork is not None:
        return state, Forked(proof=state.fork)
    if merkle.range_root(nodes, 0, fresh.size) == fresh.head.root:
        return state, Same()
    return _exposed(state, fork.build_from_tree(mirrored.note, fresh.note, nodes))


def hold(
    state: Watch,
    mirrored: Known,
    nodes: merkle.Nodes,
    *,
    due: int,
    now: int,
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[Watch, Sight]:
    """The state once the whole tree under `mirrored` is held, and what follows from it.

    The tree answers for every smaller checkpoint that was met, for good or as a fork proof.
    """
    if state.fork is not None:
        return state, Forked(proof=state.fork)
    met = [item.known for item in state.pending] + ([state.held] if state.held else [])
    for other in met:
        if 0 < other.size <= mirrored.size:
            after, sight = compare(state, other, mirrored, nodes)
            if isinstance(sight, Forked):
                return after, sight
    rest = tuple(item for item in state.pending if item.known.size > mirrored.size)
    state = _with_pending(state, rest, now)
    if state.held is None or state.held.size <= mirrored.size:
        return msgspec.structs.replace(state, held=mirrored), Same()
    return _asked(state, state.held, mirrored, due, limits)


def reread(state: Watch, open_head: OpenHead, *, now: int) -> Watch:
    """The state after the log's keys changed: what they do not bear any more was never met.

    What exposes a log stays; it was signed when nobody had revoked anything.
    """
    held = state.held if state.held is not None and _opens(state.held, open_head) else None
    rest = tuple(item for item in state.pending if _opens(item.known, open_head))
    return msgspec.structs.replace(_with_pending(state, rest, now), held=held)


def questions(state: Watch) -> tuple[Newer, ...]:
    """What is open, smallest first; each is settled by the size that is not the held one."""
    if state.held is None:
        return ()
    found = [_question(state.held, item.known) for item in state.pending]
    return tuple(sorted(found, key=lambda item: (item.from_size, item.to_size)))


def settle(
    state: Watch, size: int, proof: Sequence[bytes], *, root: bytes | None = None, now: int
) -> tuple[Watch, Sight]:
    """The state after somebody's proof between the pending checkpoint at `size` and the held one.

    `root` is the root at the smaller size in the tree that the proof is from; who shows it lets
    a proof that fails become a fork proof at every size. Raises `ManifestRefused` for a proof
    that shows neither: nothing changed, the question stays open.
    """
    pending = next((item.known for item in state.pending if item.known.size == size), None)
    if pending is None or state.held is None:
        return state, (Same() if state.fork is None else Forked(proof=state.fork))
    older, newer = sorted((pending, state.held), key=lambda item: item.size)
    try:
        merkle.verify_consistency(older.size, newer.size, proof, older.head.root, newer.head.root)
    except ManifestRefused:
        if root is not None:
            hashes = (root, *proof)
            fork.contradict(newer.head, older.head, hashes)
            return _exposed(state, fork.build(newer.note, older.note, hashes))
        found = given_away(newer, older, proof)
        if found is None:
            raise
        return _exposed(state, found)
    rest = tuple(item for item in state.pending if item.known.size != size)
    return msgspec.structs.replace(_with_pending(state, rest, now), held=newer), Same()


def remind(state: Watch, now: int) -> Watch:
    """The state at time `now`: suspect once a question is overdue."""
    overdue = any(item.due <= now for item in state.pending)
    if state.fork is not None or state.suspect or not overdue:
        return state
    return msgspec.structs.replace(state, suspect=True)


def believe(state: Watch, proof: bytes, open_head: OpenHead) -> Watch:
    """The state after a fork proof from anybody, once it is verified.

    Raises what `fork.verify` raises; `open_head` must be that of this log.
    """
    found = fork.verify_with(proof, open_head)
    if found.newer.origin != state.origin:
        raise ManifestRefused(f"a fork of {found.newer.origin} says nothing of {state.origin}")
    return state if state.fork is not None else _exposed(state, proof)[0]


def recall(state: Watch, proof: bytes) -> Watch:
    """The state after a fork proof that we verified and wrote down ourselves, in an earlier life.

    Whoever is exposed stays exposed: a key that was revoked since takes nothing back, so it is
    not verified again. Raises what `fork.decode` raises, and `ManifestRefused` for another log.
    """
    newer = fork.decode(proof).newer
    origin = checkpoint.from_text(note.parse(newer)[0]).origin
    if origin != state.origin:
        raise ManifestRefused(f"a fork of {origin} says nothing of {state.origin}")
    return state if state.fork is not None else _exposed(state, proof)[0]


def _asked(
    state: Watch, held: Known, fresh: Known, due: int, limits: Limits
) -> tuple[Watch, Newer]:
    """The state with a question about `fresh`, which is as due as before when it was open."""
    if all(item.known.size != fresh.size for item in state.pending):
        kept = (*state.pending, Pending(known=fresh, due=due))
        # A flood pushes the oldest out, never the newest, and whoever floods is suspect.
        flooded = len(kept) > limits.head_history
        state = msgspec.structs.replace(
            state, pending=kept[-limits.head_history :], suspect=state.suspect or flooded
        )
    return state, _question(held, fresh)


def _with_pending(state: Watch, rest: tuple[Pending, ...], now: int) -> Watch:
    """The state in which `rest` is still open; who owes nothing overdue is not suspect."""
    overdue = any(item.due <= now for item in rest)
    return msgspec.structs.replace(state, pending=rest, suspect=state.suspect and overdue)


def _opens(known: Known, open_head: OpenHead) -> bool:
    try:
        return open_head(known.note) == known.head
    except RemoteError:
        return False


def _question(held: Known, other: Known) -> Newer:
    sizes = sorted((held.size, other.size))
    return Newer(from_size=sizes[0], to_size=sizes[1])


def _exposed(state: Watch, proof: bytes) -> tuple[Watch, Forked]:
    exposed = msgspec.structs.replace(state, fork=proof, pending=(), suspect=False)
    return exposed, Forked(proof=proof)
