"""The trainer ends its worker with everything that the task forked, and runs no stray code."""

import os
import time

import structlog
import trio

from konsil.node.learning.trainer import Trainer
from konsil.node.learning.worker_messages import Open
from konsil.protocol.errors import KonsilError

LOG = structlog.get_logger()
FORKS = """
import os, time
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
open({place!r}, "w").write(str(child))
raise RuntimeError("enough")
"""


def opening(home, factory):
    (home / "blobs").mkdir(parents=True, exist_ok=True)
    return Open(
        home=str(home), blobs=str(home / "blobs"), factory=factory, options={}, name="a", seed=0,
        device="cpu",
    )  # fmt: skip


async def failure(home, factory):
    trainer = Trainer(opening(home, factory), LOG, timeout_s=60.0)
    try:
        await trainer.open()
    except KonsilError as error:
        return error.diagnostics()
    finally:
        await trainer.aclose()
    return ""


async def test_what_a_task_forked_ends_with_the_worker(tmp_path):
    place = tmp_path / "child"
    (tmp_path / "forking.py").write_text(FORKS.format(place=str(place)))
    assert "enough" in await failure(tmp_path, "forking:build")
    child = int(place.read_text())
    for _ in range(100):
        if not _lives(child):
            break
        await trio.sleep(0.05)
    assert not _lives(child)


async def test_a_task_in_the_current_folder_is_not_run(tmp_path, monkeypatch):
    elsewhere, home = tmp_path / "elsewhere", tmp_path / "home"
    elsewhere.mkdir()
    (elsewhere / "stray.py").write_text("raise RuntimeError('stray code ran')\n")
    monkeypatch.chdir(elsewhere)
    told = await failure(home, "stray:build")
    assert "stray code ran" not in told
    assert "stray" in told


def _lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_zombie_counts_as_ended():
    child = os.fork()
    if child == 0:
        os._exit(0)
    time.sleep(0.2)
    assert not _lives(child)
    os.waitpid(child, 0)
