"""The worker process: an undisturbed channel, faults that cost one answer, and no orphans."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from konsil.knowledge.evaluate import METRICS
from konsil.node.learning import worker
from konsil.node.learning.worker_messages import (
    Check,
    Checked,
    Failed,
    Mix,
    Mixed,
    Open,
    Opened,
    Reply,
    Train,
    Trained,
)
from konsil.protocol.errors import LocalProtocolError

pytestmark = pytest.mark.slow

TASK = """
import sys, time
import torch
from torch import nn
from konsil.knowledge.task import Rows, Task

def build(config):
    print("a task may print", flush=True)
    assert sys.stdin.read() == "", "and read nothing"
    assert torch.get_deterministic_debug_mode() == 1, "a worker warns of what may differ"
    assert "torch._inductor" not in sys.modules, "a worker loads no compiler"
    draw = torch.Generator().manual_seed(3)
    inputs = torch.randn(60, 4, generator=draw)
    targets = (inputs[:, 0] > 0).long()
    names = [f"patient-{n}" for n in range(60)]
    return Task(
        name="toy", classes=("no", "yes"), model=lambda: nn.Linear(4, 2),
        train=Rows(inputs[:40], targets[:40], names[:40]),
        holdout=Rows(inputs[40:], targets[40:], names[40:]),
        fit=lambda *given: FITS[(config.home / "mode").read_text()](*given),
    )

def learns(module, rows, generator):
    with torch.no_grad():
        module.bias.add_(torch.rand(2, generator=generator))
    return 0.25

def stuck(module, rows, generator):
    print("training", file=sys.stderr, flush=True)
    time.sleep(600)

def busy(module, rows, generator):
    print("training", file=sys.stderr, flush=True)
    while True:
        pass

def raises(module, rows, generator):
    raise ValueError("x" * 1000)

def leaves(module, rows, generator):
    sys.exit(3)

def noisy(module, rows, generator):
    for _ in range(2000):
        print("noise " * 20)
    return 0.5

FITS = {fit.__name__: fit for fit in (learns, stuck, busy, raises, leaves, noisy)}
"""


class Child:
    """A worker process with its pipes."""

    def __init__(self, home: Path) -> None:
        self.log = (home / "worker.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "konsil.node.learning.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )

    def send(self, request) -> None:
        body = msgspec.msgpack.encode(request)
        self.process.stdin.write(len(body).to_bytes(4, "big") + body)
        self.process.stdin.flush()

    def ask(self, request):
        self.send(request)
        length = int.from_bytes(self.process.stdout.read(4), "big")
        return msgspec.msgpack.decode(self.process.stdout.read(length), type=Reply)

    def end(self) -> int:
        if not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.log.close()


@pytest.fixture
def start(tmp_path):
    """Makes workers in fresh homes; none survives the test."""
    children = []

    def make(name: str = "home", mode: str = "learns") -> tuple[Child, Open, Path]:
        home = tmp_path / name
        home.mkdir()
        (home / "task.py").write_text(TASK)
        (home / "mode").write_text(mode)
        children.append(Child(home))
        opening = Open(
            home=str(home), blobs=str(home / "blobs"), factory="task:build", options={},
            name="charite", seed=7, device="cpu",
        )  # fmt: skip
        return children[-1], opening, home

    yield make
    for child in children:
        child.process.kill()
        child.end()


def converse(child: Child, opening: Open, home: Path):
    """A whole conversation; the digests and figures that it gave."""
    opened = child.ask(opening)
    assert isinstance(opened, Opened)
    assert (opened.rows, sum(opened.class_rows)) == (40, 40)
    trained = child.ask(Train(model=opened.base, round=1))
    assert isinstance(trained, Trained)
    assert trained.out == trained.release != opened.base
    path = home / "blobs" / "sha256" / trained.out.hex()[:2] / trained.out.hex()
    assert path.is_file()
    checked = child.ask(Check(path=str(path), form=opened.form))
    assert checked == Checked(reasons=())
    assert child.ask(Check(path=str(path), form=b"x" * 32)).reasons == ("architecture",)
    alone = Mix(
        before=opened.base, trained=trained.out, node="me", round=1, kind="parameters",
        candidates=(),
    )  # fmt: skip
    measured = child.ask(alone)
    assert isinstance(measured, Mixed)
    assert set(measured.after) == set(METRICS)
    same = (opened.base, opened.recipe, opened.code, opened.environment, opened.form)
    return opened, (*same, trained.out, trained.loss, measured)


def test_the_same_conversation_gives_the_same_digests_and_survives_the_task(start):
    one, opening, home = start("one")
    opened, first = converse(one, opening, home)
    other, opening, elsewhere = start("other")
    reopened, second = converse(other, opening, elsewhere)
    assert first == second
    assert opened.data != reopened.data, "the commitment to the rows is salted by the home"
    assert (home / "state" / "data.salt").stat().st_mode & 0o777 == 0o600
    assert other.end() == 0

    (home / "mode").write_text("noisy")
    assert isinstance(one.ask(Train(model=opened.base, round=2)), Trained)
    for mode, what in (("raises", "ValueError: xxx"), ("leaves", "SystemExit: 3")):
        (home / "mode").write_text(mode)
        failed = one.ask(Train(model=opened.base, round=3))
        assert isinstance(failed, Failed)
        assert failed.what.startswith(what)
        assert len(failed.what) <= worker.LONGEST_TEXT
        lines = TASK.splitlines()
        line = next(n for n, text in enumerate(lines, 1) if f"def {mode}" in text) + 1
        assert (failed.where, failed.fatal, failed.code) == (f"task.py:{line}", False, "task")
    failed = one.ask(Train(model=b"x" * 32, round=1))
    assert failed.code == "incomplete"
    assert "this blob is not here" in failed.what
    assert isinstance(one.ask(Check(path="gone", form=b"")), Checked), "the worker lives"
    assert one.end() == 0
    log = (home / "worker.log").read_text()
    assert "a task may print" in log
    assert log.count("noise") == 40_000
    assert "Traceback" in log


def test_a_task_that_cannot_be_opened_is_fatal(start):
    child, opening, home = start()
    (home / "task.py").write_text("def build(config):\n    return 5\n")
    failed = child.ask(opening)
    assert failed.fatal
    assert "'task:build' returned int, not a Task" in failed.what
    assert child.process.wait(10) == 1


@pytest.mark.parametrize("fit", ["stuck", "busy"])
def test_no_orphan_stays_when_the_parent_goes_in_the_middle_of_training(start, fit):
    child, opening, home = start(mode=fit)
    opened = child.ask(opening)
    child.send(Train(model=opened.base, round=1))
    deadline = time.monotonic() + 20
    while b"training" not in (home / "worker.log").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.process.stdin.close()
    assert child.process.wait(5) == 0


def test_a_request_before_open_is_a_failure():
    failed = worker.Worker().answer(Train(model=b"x" * 32, round=1))
    assert failed == Failed(what="Train before Open", where=failed.where, fatal=False, code="bug")


def test_frames_are_bounded_and_may_be_torn():
    assert worker.read_frame(io.BytesIO(b"")) is None
    assert worker.read_frame(io.BytesIO(b"\0\0")) is None
    assert worker.read_frame(io.BytesIO(b"\0\0\0\x05abc")) is None
    assert worker.read_frame(io.BytesIO(b"\0\0\0\x03abcd")) == b"abc"
    with pytest.raises(LocalProtocolError, match="4294967295 bytes"):
        worker.read_frame(io.BytesIO(b"\xff\xff\xff\xff"))


def test_serving_ends_after_a_fatal_failure(tmp_path):
    opening = Open(
        home=str(tmp_path), blobs=str(tmp_path / "b"), factory="nothing:here", options={},
        name="a", seed=0, device="cpu",
    )  # fmt: skip
    body = msgspec.msgpack.encode(opening)
    sink = io.BytesIO()
    assert worker.serve(io.BytesIO((len(body).to_bytes(4, "big") + body) * 2), sink) == 1
    reply = msgspec.msgpack.decode(sink.getvalue()[4:], type=Reply)
    assert reply.fatal
    assert "cannot load 'nothing'" in reply.what
    assert worker.serve(io.BytesIO(b""), sink) == 0


def test_the_daemons_side_does_not_import_torch():
    program = "import sys, konsil.node.learning.worker_messages; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert answer.stdout.strip() == b"False"
