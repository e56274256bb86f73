"""From a command line to a plan, and the refusals on the way."""

from __future__ import annotations

import pytest

from konsil.protocol.errors import ConfigError, UsageError
from konsil.simulations import plan as planning
from konsil.simulations import topology
from konsil.simulations.plan import Kill, Wish


def test_the_default_wish_is_the_default_demo(tmp_path):
    plan = planning.plan_of(Wish(), folder=tmp_path)
    assert len(plan.hospitals) == 5
    assert len(plan.honest) == 4
    assert plan.rounds == 8
    assert max(topology.degrees(plan.names, plan.links).values()) == 4
    assert plan == planning.plan_of(Wish(), folder=tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_the_hub_of_a_star_is_honest_and_can_be_killed(seed, tmp_path):
    plan = planning.plan_of(Wish(topology="star", seed=seed), folder=tmp_path)
    kill = planning.kill_of("HUB@4", plan)
    assert kill == Kill(name=plan.honest[0], round=4)
    assert topology.degrees(plan.names, plan.links)[kill.name] == 4


def test_a_task_hands_out_what_suits_it_unless_told_otherwise(tmp_path):
    def kinds(task, kind):
        wish = Wish(task=task, hospitals=4, byzantine=0, kind=kind)
        plan = planning.plan_of(wish, folder=tmp_path)
        return [plan.kind_of(hospital) for hospital in plan.hospitals]

    assert kinds("breast_cancer", None) == ["parameters"] * 4
    assert kinds("mixed", None) == ["logits", "logits", "logits", "weak_labels"]
    assert kinds("breast_cancer", "weak_labels") == ["weak_labels"] * 4
    assert kinds("mixed", "weak_labels") == ["weak_labels"] * 4


def test_a_hospital_is_killed_by_name(tmp_path):
    plan = planning.plan_of(Wish(), folder=tmp_path)
    assert planning.kill_of(f"{plan.names[2]}@1", plan) == Kill(name=plan.names[2], round=1)
    assert planning.kill_of(None, plan) is None


@pytest.mark.parametrize("words", ["HUB", "HUB@", "HUB@0", "HUB@9", "nobody@2", "@2", "HUB@-1"])
def test_a_kill_that_names_nothing_is_refused(words, tmp_path):
    plan = planning.plan_of(Wish(), folder=tmp_path)
    with pytest.raises(UsageError, match="names no hospital and round"):
        planning.kill_of(words, plan)


@pytest.mark.parametrize(
    "wish",
    [
        Wish(attack="kindness"),
        Wish(rounds=0),
        Wish(seed=-1),
        Wish(hospitals=0),
        Wish(task="nothing"),
        Wish(kind="models"),
    ],
)
def test_a_wish_that_cannot_be_is_a_usage_error(wish, tmp_path):
    with pytest.raises(UsageError):
        planning.plan_of(wish, folder=tmp_path)


def test_an_unknown_topology_is_named(tmp_path):
    with pytest.raises(UsageError, match="moebius"):
        planning.plan_of(Wish(topology="moebius"), folder=tmp_path)


def test_the_folder_is_fresh_or_empty_and_never_overwritten(tmp_path):
    named = planning.fresh_folder(Wish(seed=7), folder=tmp_path, now_s=0.0)
    assert named.parent == tmp_path / "konsil-demo"
    assert named.name.endswith("-seed7")
    assert named.is_dir()
    asked = Wish(out=tmp_path / "run")
    assert planning.fresh_folder(asked, folder=tmp_path, now_s=0.0) == tmp_path / "run"
    assert planning.fresh_folder(asked, folder=tmp_path, now_s=0.0) == tmp_path / "run"
    (tmp_path / "run" / "patients.csv").write_text("x")
    with pytest.raises(UsageError, match="no empty folder"):
        planning.fresh_folder(asked, folder=tmp_path, now_s=0.0)
    with pytest.raises(UsageError, match="no empty folder"):
        planning.fresh_folder(
            Wish(out=tmp_path / "run" / "patients.csv"), folder=tmp_path, now_s=0.0
        )
    with pytest.raises(ConfigError, match="cannot be made"):
        planning.fresh_folder(
            Wish(out=tmp_path / "run" / "patients.csv" / "x"), folder=tmp_path, now_s=0.0
        )
