"""`kill -9` of a daemon while it trains, while it pulls, and while it writes its ledger.

Two real hospitals on loopback; one of them is killed again and again, its process alone, with
nothing that prepares it. The log says in which phase a kill landed, and only a kill inside the
wanted phase counts; but whatever state any kill left must be one that the node recovers from.
After every one: the same identity, a ledger that verifies with every mix replayed, everything
that was acknowledged or that a peer holds, no number used twice, no process and no file left
behind, and a run that goes on.
"""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from homes import Fleet, Life, Line, audit, bodies_of, entries_of, make_homes

from konsil.node import control
from konsil.node.config import read_config
from konsil.protocol.errors import UnreachableError
from konsil.protocol.learning_bodies import (
    ArtifactPublish,
    ArtifactReceive,
    ArtifactReject,
    ModelTrain,
    TrustUpdate,
)

VICTIM, PEER = "a", "b"
CHUNK = 1 << 20
TRIES = 20
"""Attempts for one kill that counts."""


class Phase(msgspec.Struct, frozen=True):
    """A phase as the log shows it: it lasts from a line of `begin` to the next of `end`."""

    name: str
    begin: Callable[[Line], bool]
    end: Callable[[Line], bool]
    longest_s: float
    """A kill comes at most so long after the phase began."""
    later: int
    """How many times the phase may pass before it is the one in which the kill comes."""

    def open(self, lines: list[Line]) -> bool:
        """Whether the last that the log says of this phase is that it began."""
        marks = [self.begin(line) for line in lines if self.begin(line) or self.end(line)]
        return bool(marks) and marks[-1]


def event(*names: str) -> Callable[[Line], bool]:
    return lambda line: line["event"] in names


def mark(begins: str) -> Callable[[Line], bool]:
    return lambda line: line["event"] == "journal" and line["mark"].startswith(begins)


SECONDS = 0.3
PHASES = {
    "training": Phase("training", event("train.begin"), event("train.end"), SECONDS, 2),
    "transfer": Phase("transfer", event("pull.begin"), event("pull.end", "pull.broken"), 0.15, 2),
    "append": Phase("append", mark("append begin"), mark("append end"), 0.0003, 8),
}


class Killer:
    """Kills one life, once, at a moment that `draw` chooses within a phase."""

    def __init__(self, life: Life, phase: Phase, draw: random.Random) -> None:
        self._life, self._phase = life, phase
        self._passes = draw.randint(1, phase.later)
        self._delay_s = draw.uniform(0.0, phase.longest_s)
        self._timer: threading.Timer | None = None

    def __call__(self, line: Line) -> None:
        if self._timer is None and self._phase.begin(line):
            self._passes -= 1
            if self._passes == 0:
                self._timer = threading.Timer(self._delay_s, self._life.kill)
                if self._delay_s < 0.001:  # an append is over before a timer's thread begins
                    self._life.kill()
                else:
                    self._timer.start()


class Trial:
    """The two nodes, and what is known of the victim's past."""

    def __init__(self, fleet: Fleet, goal: int, draw: random.Random) -> None:
        self.fleet, self.goal, self.draw = fleet, goal, draw
        self.home, self.peer = fleet.homes[VICTIM], fleet.homes[PEER]
        self.me = read_config(self.home / "node.toml").me()
        self.past = entries_of(self.home)
        self.landed = 0
        self.tried = 0
        self.resumed = 0
        self.spooled: dict[str, int] = {}
        """Whole chunks in the spool at the last kill, by envelope."""
        self.mended: list[str] = []

    @property
    def life(self) -> Life:
        return self.fleet.lives[VICTIM]

    def up(self) -> None:
        """Wait until the victim runs, linked, as who it was."""
        self.fleet.until(lambda: self.life.events("link.up"), "the link is up")
        status = control.ask(self.home, "status")
        assert (status["node_id"], status["peer_id"]) == (self.me.node, self.me.peer)
        assert status["neighbours"] == [PEER]

    def kill(self, phase: Phase) -> bool:
        """Kill in `phase` and start again; whether the kill landed there."""
        life = self.life
        before = len(life.lines)
        life.watch = Killer(life, phase, self.draw)
        end = time.monotonic() + 60
        while life.running:
            assert time.monotonic() < end, f"no {phase.name} to kill in"
            time.sleep(0.02)
        assert life.ended() == -9
        self.tried += 1
        landed = phase.open(life.lines[before:])
        self.landed += landed
        self.look_at_the_dead(life)
        if self.landed == self.goal:
            self.limit_rounds()
        self.fleet.start(VICTIM)
        self.up()
        self.mended += [line["notice"] for line in self.life.events("journal.notice")]
        self.check()
        return landed

    def look_at_the_dead(self, life: Life) -> None:
        """What the files say before anything repairs them."""
        assert not life.workers()
        with pytest.raises(UnreachableError):
            control.ask(self.home, "status")
        found = entries_of(self.home)
        assert found[: len(self.past)] == self.past
        marks = [line["mark"].split() for line in life.events("journal")]
        acknowledged = max((int(size) for _, what, size, *_ in marks if what == "end"), default=0)
        assert len(found) >= acknowledged
        self.past = found
        self.look_for_resumed(life)
        self.spooled = {
            part.stem.rpartition("-")[2]: part.stat().st_size // CHUNK
            for part in (self.home / "spool").glob("*.part")
        }

    def look_for_resumed(self, life: Life) -> None:
        """Whoever pulls on after a kill begins with the first chunk that its spool lacked."""
        for line in life.events("pull.begin"):
            chunks = self.spooled.pop(line["env"], 0)
            assert line["first"] >= chunks
            self.resumed += chunks > 0

    def check(self) -> None:
        """Nothing that was said before the kill is taken back after it."""
        code, said = audit(self.home)
        assert code == 0, said
        now = entries_of(self.home)
        assert now[: len(self.past)] == self.past
        taken = list(bodies_of(self.peer, ArtifactReceive))
        published = dict(bodies_of(self.home, ArtifactPublish))
        numbers = [body.sequence for body in published.values()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert all(published[got.index].env == got.env for _, got in taken)

    def strike(self, phase: Phase) -> None:
        """One kill that counts."""
        for _ in range(TRIES):
            if self.kill(phase):
                return
        pytest.fail(f"no kill landed in {phase.name} within {TRIES} tries")

    def limit_rounds(self) -> None:
        """The run ends two rounds after this kill."""
        config = self.home / "node.toml"
        rounds = 2 + sum(1 for _ in bodies_of(self.home, ModelTrain))
        config.write_text(config.read_text().replace("rounds = 0", f"rounds = {rounds}"))

    def finish(self) -> None:
        """The victim does its last rounds and rests; its peer took what it published."""
        self.fleet.until(self.idle, "all rounds done")
        numbers = [body.round for _, body in bodies_of(self.home, ModelTrain)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) == read_config(self.home / "node.toml").training.rounds
        before = [entry.b.sequence for entry in self.past if isinstance(entry.b, ArtifactPublish)]
        newest = max(body.sequence for _, body in bodies_of(self.home, ArtifactPublish))
        assert newest >= max(before, default=0) + 2
        self.fleet.until(lambda: self.taken_by_the_peer() == newest, "the peer took the newest")
        self.look_for_resumed(self.life)
        for life in self.fleet.lives.values():
            life.end()
            assert life.ended() == 0
        for home in (self.home, self.peer):
            assert not list(bodies_of(home, ArtifactReject))
            assert not list((home / "spool").glob("*.part"))
            assert len(list((home / "spool").iterdir())) <= 1  # the last worker's own folder
            judged = [(b.node, b.art) for _, b in bodies_of(home, TrustUpdate)]
            assert len(judged) == len(set(judged))
        code, said = audit(self.home, self.peer)
        assert code == 0, said

    def idle(self) -> bool:
        return any(line["phase"] == "idle" for line in self.life.events("phase"))

    def taken_by_the_peer(self) -> int:
        """The newest of the victim's numbers that the peer's ledger holds."""
        mine = {body.env: body.sequence for _, body in bodies_of(self.home, ArtifactPublish)}
        taken = [body.env for _, body in bodies_of(self.peer, ArtifactReceive)]
        return max((mine[env] for env in taken), default=0)


def run(root: Path, seed: str, width: int, phases: list[str]) -> Trial:
    homes = make_homes(root, VICTIM + PEER, width=width, seconds=SECONDS, rounds=0, patience_s=60.0)
    with Fleet(homes) as fleet:
        trial = Trial(fleet, len(phases), random.Random(f"crash {seed}"))
        trial.up()
        for name in phases:
            trial.strike(PHASES[name])
        trial.finish()
    shutil.rmtree(root)
    return trial


@pytest.mark.slow
def test_killed_once_in_each_phase_the_node_goes_on(tmp_path):
    trial = run(tmp_path / "homes", "sample", 1400, list(PHASES))
    assert trial.landed == len(PHASES)


@pytest.mark.exhaustive
@pytest.mark.parametrize("phase", PHASES)
def test_killed_ten_times_in_one_phase_the_node_goes_on(tmp_path, phase):
    width = 1400 if phase == "transfer" else 64
    trial = run(tmp_path / "homes", phase, width, [phase] * 10)
    print(
        f"{phase}: {trial.landed} of {trial.tried} kills landed in it; {trial.resumed} transfers"
        f" resumed; notices at start: {[notice.partition(': ')[2] for notice in trial.mended]}"
    )
    assert trial.landed == 10
