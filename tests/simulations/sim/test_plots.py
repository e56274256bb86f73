"""Plots: what is on them, for whom, and that the same run gives the same bytes."""

from __future__ import annotations

import builtins
import math
import re

import msgspec
import numpy as np
import pytest

from konsil.simulations.sim.graphs import graphs_of
from konsil.simulations.sim.links import Links
from konsil.simulations.sim.plots import draw
from konsil.simulations.sim.plots.curves import curves
from konsil.simulations.sim.plots.histogram import edges, histogram
from konsil.simulations.sim.plots.network import network
from konsil.simulations.sim.plots.paper import STYLE, style
from konsil.simulations.sim.plots.places import places
from konsil.simulations.sim.plots.series import series
from konsil.simulations.sim.portrait import MOST_NODES, Portrait
from konsil.simulations.sim.result import Point, Result
from konsil.simulations.sim.scenario_reading import scenario_of


def scenario_with(nodes=12, kind="ring", **sections):
    values = {
        "population": {"nodes": nodes, "dataset": "digits"},
        "topology": {"kind": kind},
        "training": {"rounds": 8},
    }
    return scenario_of({name: values.get(name, {}) | sections.get(name, {}) for name in
                        {*values, *sections}})  # fmt: skip


def made_up(scenario, seed=1, attackers=True):
    """Rises over four evaluations; another seed lies a bit higher."""
    history = tuple(
        Point(
            round=number,
            metric_mean=0.5 + number / 20 + seed / 100,
            metric_worst=0.4 + number / 20 + seed / 100,
            attacker_weight_mean=1 / number if attackers else None,
        )
        for number in (2, 4, 6, 8)
    )
    return Result(
        nodes=scenario.population.nodes, rounds=8, topology=scenario.topology.kind,
        dataset="digits", rule="evidence", metric="accuracy", metric_mean=0.9,
        metric_worst=0.8, metric_local_mean=0.6, metric_local_worst=0.45, metric_pooled=0.97,
        attacker_weight_mean=0.1 if attackers else None, honest_weight_mean=0.9,
        bytes_per_node_round=1.0, faults={}, spectral_gap=0.1, wall_s=1.0, setup_s=1.0,
        eval_s=1.0, cpu_s=1.0, node_rounds_per_cpu_s=1.0, peak_rss_mb=1.0, history=history,
        seed=seed,
    )  # fmt: skip


def portrayed(scenario, tmp_path, hostile=(3,), granted=True):
    nodes = scenario.population.nodes
    links = graphs_of(scenario.topology, nodes, 1, tmp_path).at(8)
    bad = np.isin(np.arange(nodes), hostile)
    metric = np.where(bad, math.nan, np.linspace(0.8, 0.9, nodes))
    weights = np.where(bad[links.sender], 0.0, 1.0)
    return Portrait(links, metric, bad, weights if granted else None)


def named(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize(
    ("nodes", "attackers", "names"),
    [
        (12, True, ["metric", "attackers", "network"]),
        (12, False, ["metric", "network"]),
        (MOST_NODES + 1, True, ["metric", "attackers", "nodes"]),
    ],
)
def test_every_plot_is_a_png_and_an_svg(tmp_path, nodes, attackers, names):
    scenario = scenario_with(nodes)
    results = [made_up(scenario, seed, attackers) for seed in (1, 2)]
    portraits = [portrayed(scenario, tmp_path) for _ in results]
    made = draw(results, portraits, scenario, tmp_path)
    assert [one.name for one in made] == [f"{name}.{end}" for name in names for end in
                                         ("png", "svg")]  # fmt: skip
    for path in made:
        raw = path.read_bytes()
        if path.suffix == ".png":
            assert raw.startswith(b"\x89PNG\r\n\x1a\n")
            assert int.from_bytes(raw[16:20]) == 800
        else:
            assert raw.rstrip().endswith(b"</svg>")


def test_the_same_run_gives_the_same_bytes_without_a_date(tmp_path):
    scenario = scenario_with(adversary={"fraction": 0.1, "attack": "ipm"})
    drawn = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        made = draw([made_up(scenario)], [portrayed(scenario, tmp_path)], scenario, tmp_path / name)
        drawn.append([path.read_bytes() for path in made])
    assert drawn[0] == drawn[1]
    for raw in drawn[0]:
        assert b"dc:date" not in raw
        assert not re.search(rb"Matplotlib v|matplotlib.org", raw)


def test_a_line_is_the_mean_of_its_seeds_and_its_band_their_span():
    scenario = scenario_with()
    several = [made_up(scenario, seed) for seed in (1, 2, 6)]
    line = series(several, lambda point: point.metric_mean)
    assert line.rounds == (2, 4, 6, 8)
    assert line.mean[0] == pytest.approx(0.63)
    assert (line.least[0], line.greatest[0]) == (pytest.approx(0.61), pytest.approx(0.66))


def test_a_round_without_a_value_is_left_out():
    one = made_up(scenario_with())
    first, *rest = one.history
    lost = msgspec.structs.replace(first, metric_worst=None)
    gap = msgspec.structs.replace(one, history=(lost, *rest))
    assert series([gap], lambda point: point.metric_worst).rounds == (4, 6, 8)
    both = series([gap, one], lambda point: point.metric_worst)
    assert (both.rounds[0], both.mean[0]) == (2, one.history[0].metric_worst)


def test_references_are_level_lines_and_faults_are_marked():
    scenario = scenario_with(faults={"partition": [[2, 3], [5, 6]], "late": 0.2})
    figure = curves([made_up(scenario)], scenario)
    assert named(figure) == [
        "network, mean", "network, worst node", "alone, mean", "alone, worst node",
        "all rows pooled", "graph cut in two", "late nodes join",
    ]  # fmt: skip
    (axes,) = figure.axes
    level = {line.get_label(): set(line.get_ydata()) for line in axes.lines}
    assert level["alone, mean"] == {0.6}
    assert level["all rows pooled"] == {0.97}
    assert axes.get_xlabel() == "round"
    assert "share of test rows" in axes.get_ylabel()
    low, high = axes.get_ylim()
    assert low < 0.45
    assert high > 0.97


def test_a_reference_that_is_not_there_is_not_drawn():
    scenario = scenario_with()
    without = msgspec.structs.replace(made_up(scenario), metric_pooled=None)
    assert "all rows pooled" not in named(curves([without], scenario))


def test_the_network_shows_hostile_nodes_as_crosses_and_grants_as_colours(tmp_path):
    scenario = scenario_with(adversary={"fraction": 0.1, "attack": "ipm"})
    figure = network(portrayed(scenario, tmp_path), made_up(scenario), scenario)
    assert named(figure) == ["nothing came, or Byzantine", "honest node", "Byzantine node"]
    axes, *bars = figure.axes
    assert [bar.get_ylabel() for bar in bars] == [
        "accuracy (share of test rows)", "weight that the nearer node grants the other"
    ]  # fmt: skip
    plain, weighed, honest, hostile = axes.collections
    assert (len(honest.get_offsets()), len(hostile.get_offsets())) == (11, 1)
    assert len(plain.get_segments()) == 2
    assert sorted(weighed.get_array()) == [0.0, 0.0, *[1.0] * 20]


def test_a_rule_without_weights_has_plain_links(tmp_path):
    scenario = scenario_with()
    figure = network(portrayed(scenario, tmp_path, (), granted=False), made_up(scenario), scenario)
    assert named(figure) == ["honest node"]
    assert len(figure.axes) == 2


def test_a_link_that_goes_one_way_is_drawn_whole(tmp_path):
    scenario = scenario_with(nodes=3)
    links = Links.of(3, np.array([0, 1, 2]), np.array([1, 0, 0]))
    portrait = Portrait(links, np.array([0.5, 0.6, 0.7]), np.zeros(3, dtype=bool), np.ones(3))
    figure = network(portrait, made_up(scenario), scenario)
    _, weighed = figure.axes[0].collections[:2]
    lengths = [np.linalg.norm(one[1] - one[0]) for one in weighed.get_segments()]
    assert sorted(lengths) == pytest.approx([3**0.5 / 2, 3**0.5 / 2, 3**0.5])


@pytest.mark.parametrize("metric", [[0.9, 0.9], [1.0, 0.99], [0.1, 0.7], [math.nan, 0.5]])
def test_colours_span_enough_and_never_leave_the_metric(tmp_path, metric):
    scenario = scenario_with(nodes=2)
    values = np.array(metric)
    portrait = Portrait(Links.between(2, [(0, 1)]), values, np.zeros(2, dtype=bool), None)
    least, greatest = (
        network(portrait, made_up(scenario), scenario).axes[0].collections[1].get_clim()
    )
    assert greatest - least >= 0.05 - 1e-9
    assert greatest <= 1
    assert least <= np.nanmin(values) <= np.nanmax(values) <= greatest + 1e-9


@pytest.mark.parametrize(
    "kind", ["ring", "star", "complete", "grid", "random_regular", "small_world", "epidemic"]
)
@pytest.mark.parametrize("nodes", [6, 130])
def test_every_node_has_its_own_place_and_always_the_same(tmp_path, kind, nodes):
    links = graphs_of(scenario_with(kind=kind).topology, nodes, 1, tmp_path).at(1)
    found = places(kind, links)
    assert found.shape == (nodes, 2)
    assert np.isfinite(found).all()
    assert len(np.unique(found.round(6), axis=0)) == nodes
    assert np.array_equal(found, places(kind, links))


def test_neighbours_of_a_grid_stand_side_by_side(tmp_path):
    links = graphs_of(scenario_with(kind="grid").topology, 11, 1, tmp_path).at(1)
    where = places("grid", links)
    apart = np.linalg.norm(where[links.receiver] - where[links.sender], axis=1)
    assert apart == pytest.approx(1)


def test_bars_hold_every_node_and_as_many_steps_each(tmp_path):
    rows = 360
    scenario = scenario_with(MOST_NODES + 1)
    for spread in (0, 3, 39, 170):
        right = 300 + np.arange(MOST_NODES + 1) % (spread + 1)
        bounds = edges(right / rows)
        steps = np.diff(bounds) * rows
        if spread:
            assert steps == pytest.approx(round(steps[0]))
        assert len(bounds) <= 42
        counted, _ = np.histogram(right / rows, bounds)
        assert counted.sum() == MOST_NODES + 1
    links = Links.between(MOST_NODES + 1, [(0, 1)])
    one = Portrait(links, right / rows, np.zeros(MOST_NODES + 1, dtype=bool), None)
    figure = histogram([made_up(scenario)] * 2, [one, one], scenario)
    bars = figure.axes[0].patches
    assert sum(bar.get_height() for bar in bars) == 2 * (MOST_NODES + 1)


def test_the_caller_finds_matplotlib_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    with style():
        assert matplotlib.rcParams["svg.hashsalt"] == STYLE["svg.hashsalt"]
    assert dict(matplotlib.rcParams) == before


def test_a_missing_matplotlib_is_named(monkeypatch, tmp_path):
    """What `konsil sim run --out` turns into one line."""
    plain = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return plain(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    scenario = scenario_with()
    with pytest.raises(ModuleNotFoundError) as caught:
        draw([made_up(scenario)], [portrayed(scenario, tmp_path)], scenario, tmp_path)
    assert caught.value.name == "matplotlib"
    assert list(tmp_path.iterdir()) == []
