"""A trainer without torch: models of one float, so that the daemon's own logic runs in a flash.

It obeys the same messages as the worker process and uses the same trust functions and the
same mixing kernel; only training is a toy (each node pulls towards its own target).
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

from konsil.knowledge import mixing
from konsil.knowledge.screen import screen
from konsil.node.learning.worker_messages import (
    Check,
    Checked,
    Encode,
    Encoded,
    Judged,
    Mix,
    Mixed,
    MixedPart,
    Open,
    Opened,
    Train,
    Trained,
)
from konsil.node.store.blobs import BlobStore
from konsil.protocol import records, tensors
from konsil.protocol.digest import sha256
from konsil.protocol.encoding import PLAIN
from konsil.protocol.errors import TaskError
from konsil.trust import evidence, integrate, medians, score, weights, whole_round
from konsil.trust.fixed import to_e9


def payload(value: float) -> bytes:
    """A safetensors payload with one float."""
    head = json.dumps(
        {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, separators=(",", ":")
    ).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + struct.pack("<f", value)


def value_of(data: bytes) -> float:
    """The float in such a payload."""
    return struct.unpack("<f", data[-4:])[0]


class ScriptedTrainer:
    """Stands in for `konsil.node.learning.trainer.Trainer`."""

    def __init__(self, opening: Open, log, *, timeout_s: float) -> None:
        self.restarts = 0
        self.state = "running"
        self.blobs = BlobStore(Path(opening.blobs))
        self.target = float(opening.options.get("target", 0.0))
        self.fails = opening.options.get("fails", False)
        self.releases = opening.options.get("releases")
        self.name = opening.name

    async def open(self) -> Opened:
        base = self.blobs.put(payload(0.0))
        head = self.blobs.path(base).read_bytes()
        table = tensors.read_table(head, len(head))
        return Opened(
            task="scripted/1",
            classes=("no", "yes"),
            base=base,
            about=base,
            form=tensors.architecture(table),
            whole=True,
            rows=42,
            class_rows=(20, 22),
            data=sha256(b"data" + self.name.encode()),
            recipe=sha256(b"recipe"),
            code=sha256(b"code"),
            environment=sha256(b"environment"),
        )

    async def ask(self, request, kind):
        if self.fails:
            raise TaskError("the task failed during `train`: ValueError: no (task.py:1)")
        if isinstance(request, Train):
            before = value_of(self.blobs.get(request.model))
            out = release = self.blobs.put(payload(before + 0.5 * (self.target - before)))
            if self.releases is not None:
                release = self.blobs.put(payload(self.releases))
            return Trained(out=out, release=release, loss=0.0)
        if isinstance(request, Encode):
            return Encoded(payload=request.release, tensors=request.release, format=PLAIN)
        if isinstance(request, Check):
            return Checked(reasons=screen(Path(request.path), request.form))
        assert isinstance(request, Mix)
        return self.mix(request)

    async def aclose(self) -> None:
        self.state = "stopped"

    def mix(self, request: Mix) -> Mixed:
        a, x = (value_of(self.blobs.get(d)) for d in (request.before, request.trained))
        others = [value_of(self.blobs.get(candidate.tensors)) for candidate in request.candidates]
        distances = [to_e9(abs(other - x)) for other in others]
        reaches = [to_e9(abs(other - a)) for other in others]
        own = to_e9(10.0)
        mine = (request.before, request.trained)
        shares = [weights.share(c.art, mine, copied=c.copied) for c in request.candidates]
        voices = [
            whole_round.voice(score.mean(c.r_e9, c.s_e9, c.base_rate_e9), share)
            for c, share in zip(request.candidates, shares, strict=True)
        ]
        tau, rho = medians.bounds_of(distances, reaches, own, voices)
        scales = medians.gain_scales_of([0] * len(others), [0] * len(others), voices)
        found = []
        for candidate, distance, reach, share in zip(
            request.candidates, distances, reaches, shares, strict=True
        ):
            found.append(
                evidence.EvidenceRecord(
                    node=candidate.node,
                    art=candidate.art,
                    kind=request.kind,
                    round=request.round,
                    before=request.before,
                    trained=request.trained,
                    lag=candidate.lag,
                    own_e9=own,
                    reach_e9=reach,
                    rho_e9=rho,
                    g_e9=0,
                    error_e9=0,
                    excused_e9=0,
                    scale_e9=scales[0],
                    d_e9=distance,
                    tau_e9=tau,
                    r_before_e9=candidate.r_e9,
                    s_before_e9=candidate.s_e9,
                    base_rate_e9=candidate.base_rate_e9,
                    metropolis_e9=candidate.metropolis_e9,
                    pinned_e9=candidate.pinned_e9,
                    share_e9=share,
                    step_e9=10**9,
                )
            )
        judged = [evidence.recompute(record) for record in found]
        parts = integrate.coefficients(request.trained, request.node, judged)
        out = self.blobs.root / f"mix-{os.getpid()}-{request.node}"
        digest = mixing.mix([mixing.Part(self.blobs.path(p.art), p.w_e9) for p in parts], out)
        self.blobs.put_file(out, digest)
        return Mixed(
            out=digest,
            rule="evidence/1",
            parts=tuple(
                MixedPart(art=p.art, node=p.node, w_e9=p.w_e9, trust_e9=p.trust_e9) for p in parts
            ),
            not_mixed=(),
            judged=tuple(
                Judged(
                    art=r.art,
                    node=r.node,
                    record=records.pack(r),
                    old_e9=r.trust_before_e9,
                    new_e9=r.trust_e9,
                    r_e9=r.r_after_e9,
                    s_e9=r.s_after_e9,
                    cause=r.reason,
                )
                for r in judged
            ),
            before={"nearness": -abs(x)},
            after={"nearness": -abs(value_of(self.blobs.get(digest)))},
            reason="mixed",
        )
