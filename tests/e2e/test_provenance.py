"""A demo of six real daemons tells all, and stays up when asked, until it is stopped.

Where a model of theirs comes from is complete, and what a liar changes in that is found.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
from commands import KONSIL, konsil, shell
from processes import processes_of, wait_until
from rewriting import rewritten

from konsil.node.paths import Home
from konsil.protocol.digest import sha256
from konsil.protocol.fields import UNIT_E9
from konsil.protocol.learning_bodies import (
    ArtifactIntegrate,
    ArtifactPublish,
    ModelTrain,
    Part,
)
from konsil.simulations.reading import entries_of


def told(*words, code=0):
    """What a command says, as data."""
    done = konsil(*words, "--json")
    assert done.code == code, done.err or done.out
    return json.loads(done.out)["data"]


def contributors(homes):
    """The share of each node in the current model of the first home, from the entries alone.

    Step by step through the bodies, in exact fractions: a second opinion of the lineage. Whoever
    trained a model has its weight, and passes it on to the base; a hostile hospital publishes
    what it did not train, so its word for where that comes from counts.
    """
    made, newest = {}, None
    for home in reversed(homes):
        log = [entry.b for entry in entries_of(Home(home))]
        node = told("audit", "verify", home)["ledgers"][0]["node_id"]
        for body in log:
            if isinstance(body, ArtifactIntegrate):
                made[body.out] = None, [(part.art, part.w_e9) for part in body.parts]
            elif isinstance(body, ModelTrain):
                made[body.out] = node, [(body.base, UNIT_E9)]
            elif isinstance(body, ArtifactPublish) and body.art not in made:
                made[body.art] = node, [(body.derived_from[0], UNIT_E9)]
            if isinstance(body, ArtifactIntegrate | ModelTrain):
                newest = body.out
    shares, weights = Counter(), {newest: Fraction(1)}
    while weights:
        model, weight = weights.popitem()
        node, sources = made.get(model, (None, []))
        if node is not None:
            shares[node] += weight
        for source, w_e9 in sources:
            weights[source] = weights.get(source, 0) + weight * Fraction(w_e9, UNIT_E9)
    whole = sum(shares.values())
    return {node: float(share / whole) for node, share in shares.items() if share}


def last_mix(home):
    mixes = [e for e in entries_of(Home(home)) if isinstance(e.b, ArtifactIntegrate)]
    return next(e for e in reversed(mixes) if sum(p.w_e9 > 0 for p in e.b.parts) > 1)


def edited(home, target, edit):
    """The home with other parts in its last mix."""
    mix = last_mix(home)

    def change(entry):
        if entry.n != mix.n:
            return [entry.b]
        return [msgspec.structs.replace(entry.b, parts=edit(list(entry.b.parts)))]

    return rewritten(home, target, change)


def moved(parts):
    """One millionth from the own model to the peer's: an edited coefficient."""
    own, peer = parts[0], next(p for p in parts[1:] if p.w_e9)
    at = parts.index(peer)
    parts[0] = msgspec.structs.replace(own, w_e9=own.w_e9 - 1_000)
    parts[at] = msgspec.structs.replace(peer, w_e9=peer.w_e9 + 1_000)
    return parts


def hidden(parts):
    """The peer's part is left out, and its weight said to be the own model's."""
    peer = next(p for p in parts[1:] if p.w_e9)
    own = msgspec.structs.replace(parts[0], w_e9=parts[0].w_e9 + peer.w_e9)
    return [own, *(p for p in parts[1:] if p is not peer)]


def unlogged(parts):
    """A model that nobody ever published joins the mix."""
    own = msgspec.structs.replace(parts[0], w_e9=parts[0].w_e9 - 1_000)
    return [own, *parts[1:], Part(art=sha256(b"x"), node=parts[1].node, w_e9=1_000, trust_e9=1)]


def codes(data):
    return {finding["code"] for finding in data["findings"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Six hospitals, one of them hostile, as people start them: the command that ended, where."""
    out = tmp_path_factory.mktemp("demo") / "run"
    size = ("--hospitals", "5", "--byzantine", "1", "--rounds", "3", "--seed", "100")
    command = [KONSIL, "demo", *size, "--out", out, "--json", "--keep-running"]
    try:
        yield out, subprocess.run(command, capture_output=True, text=True, timeout=300)
    finally:
        for pid in processes_of(out):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_run_tells_all_leaves_its_daemons_up_when_asked_and_they_stop(run):
    out, done = run
    assert done.returncode == 0, done.stderr
    envelope = json.loads(done.stdout)
    assert (envelope["schema"], envelope["ok"]) == ("konsil.demo/1", True)
    data = envelope["data"]
    names = [one["name"] for one in data["hospitals"]]
    assert [line.split()[0] for line in done.stderr.splitlines()[:6]] == names
    assert sum(one["byzantine"] for one in data["hospitals"]) == 1
    for one in data["hospitals"]:
        assert 0.3 < one["metric_local"] <= 1
        assert 0.3 < one["metric_network"] <= 1
        assert one["n_train"] > 5
    assert data["artifacts"] == {"parameters": 18}
    assert data["bytes_on_wire"] > 18 * 500
    assert [one["name"] for one in data["ledgers"]] == names
    assert all(one["verified"] for one in data["ledgers"])
    assert Path(data["report"]).read_text().startswith("<!doctype html>")
    assert data["out"] == str(out)

    assert len(processes_of(out)) == 6
    assert told("node", "status", out / names[0])["phase"] == "idle"
    assert "konsil node stop" in done.stderr
    assert shell("node", "stop", out / names[0]).code == 0
    for name in names[1:]:
        assert konsil("node", "stop", out / name).code == 0
    wait_until(lambda: not processes_of(out), 20)


@pytest.mark.slow
def test_the_ancestry_of_a_model_of_six_daemons_is_complete_and_cannot_be_edited(run, tmp_path):
    out, done = run
    assert done.returncode == 0, done.stderr
    homes = [out / one["name"] for one in json.loads(done.stdout)["data"]["hospitals"]]
    assert len(homes) == 6
    shares = {
        one["node_id"]: one["share"] for one in told("audit", "lineage", *homes)["contributors"]
    }
    expected = contributors(homes)
    assert shares.keys() == expected.keys()
    assert len(shares) >= 4, "three rounds reach across the ring"
    for node, share in expected.items():
        assert shares[node] == pytest.approx(share, abs=1e-6)
    replayed = told("audit", "verify", "--replay", *homes)
    assert codes(replayed) == set()
    assert all(one["replayed"] and not one["not_replayed"] for one in replayed["ledgers"])

    # A part that nobody has cannot be mixed again: incomplete, and no proof of anything.
    for edit, code, found, suspect in (
        (moved, 3, "integrate.replay", "integrate.weight"),
        (hidden, 3, "integrate.replay", "integrate.weight"),
        (unlogged, 4, "integrate.unreplayed", "integrate.unlogged"),
    ):
        liar = edited(homes[0], tmp_path / edit.__name__, edit)
        assert found in codes(told("audit", "verify", "--replay", liar, code=code)), edit
        # By itself the log is well signed, and only its figures look odd.
        alone = codes(told("audit", "verify", liar, code=1))
        assert suspect in alone, edit
        assert not any(one.startswith("others.") for one in alone), edit
        # Whoever met the true log knows that this is another one.
        together = told("audit", "verify", liar, *homes[1:], code=3)
        forks = {one["ledger"] for one in together["findings"] if one["code"] == "others.fork"}
        assert forks == {liar.name}, edit
