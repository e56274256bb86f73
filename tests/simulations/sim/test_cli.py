"""`konsil sim run`: from the command line to what is printed and written, with a made-up engine."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import msgspec
import pytest

import konsil.simulations.sim as package
from konsil.node.cli import app as command
from konsil.protocol.errors import ConfigError, TaskError
from konsil.simulations.sim.live import Progress
from konsil.simulations.sim.result import Point, Result
from konsil.simulations.sim.scenario_reading import read_scenario

CHECKOUT = Path(__file__).resolve().parents[3]
POINTS = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["entry-points"]
SIM = EntryPoint("sim", POINTS["konsil.commands"]["sim"], "konsil.commands")

TEXT = """
seed = 5
[population]
nodes = 20
dataset = "digits"
[topology]
kind = "ring"
[training]
rounds = 4
"""


def made_up(scenario, faults):
    """A result whose metric tells the seed and the rule apart."""
    mean = 0.5 + scenario.seed / 100 + 0.1 * (scenario.trust.rule == "mean")
    last = Point(round=4, metric_mean=mean, metric_worst=0.5, attacker_weight_mean=None)
    return Result(
        nodes=scenario.population.nodes, rounds=scenario.training.rounds,
        topology=scenario.topology.kind, dataset=scenario.population.dataset,
        rule=scenario.trust.rule, metric="accuracy", metric_mean=mean, metric_worst=0.5,
        metric_local_mean=0.4, metric_local_worst=0.3, metric_pooled=float("nan"),
        attacker_weight_mean=None, honest_weight_mean=0.98, bytes_per_node_round=2600.0,
        faults=faults, spectral_gap=0.0326, wall_s=2.5, setup_s=1.0, eval_s=0.25, cpu_s=0.5,
        node_rounds_per_cpu_s=160.0, peak_rss_mb=321.0, history=(last,), seed=scenario.seed,
    )  # fmt: skip


GOOD = made_up


class Engine(types.ModuleType):
    """Stands in for the engine; keeps what it was asked for."""

    def __init__(self):
        super().__init__("konsil.simulations.sim.engine")
        self.asked = []
        self.faults = {}

    def simulate(self, scenario, folder, *, device, tell, portray, homes):
        self.asked.append((scenario, folder, device))
        tell(Progress(round=4, rounds=4, metric_mean=0.5))
        portray(f"portrait under seed {scenario.seed}")
        return made_up(scenario, self.faults)


@pytest.fixture
def engine(monkeypatch):
    made = Engine()
    monkeypatch.setitem(sys.modules, made.__name__, made)
    monkeypatch.setattr(package, "engine", made, raising=False)
    return made


@pytest.fixture
def plots(monkeypatch):
    """Stands in for the plots; keeps where each was drawn, of which seeds."""
    made = types.ModuleType("konsil.simulations.sim.plots")
    made.drawn = []

    def draw(results, portraits, scenario, folder):
        seeds = [one.seed for one in results]
        assert portraits == [f"portrait under seed {seed}" for seed in seeds]
        made.drawn.append((folder, seeds, scenario.trust.rule))
        return []

    made.draw = draw
    monkeypatch.setitem(sys.modules, made.__name__, made)
    monkeypatch.setattr(package, "plots", made, raising=False)
    return made


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "scenario.toml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def run(file, monkeypatch, capsys):
    """Runs `konsil sim run FILE …`: exit code, stdout and stderr."""
    monkeypatch.setattr(command, "entry_points", lambda group: [SIM])

    def called(*more):
        with pytest.raises(SystemExit) as caught:
            command.main(["sim", "run", str(file), *map(str, more)])
        out, complaint = capsys.readouterr()
        return caught.value.code, out, complaint

    return called


def data_of(out):
    value = json.loads(out)
    assert value["schema"] == "konsil.sim.run/1"
    return value


def test_one_run_ends_in_a_table_and_its_json_is_the_result_itself(run, engine, file):
    code, out, _ = run()
    assert code == 0
    assert "0.550" in out
    assert "20 nodes, ring, 4 rounds of digits, rule evidence" in out
    ((scenario, folder, device),) = engine.asked
    assert (scenario, folder, device) == (read_scenario(file), file.parent, "auto")
    code, out, complaint = run("--json", "--device", "cpu")
    value = data_of(out)
    assert (code, complaint, value["ok"]) == (0, "", True)
    assert value["data"]["metric_mean"] == 0.55
    assert value["data"]["metric_pooled"] is None
    assert "sd" not in value["data"]
    assert engine.asked[-1][2] == "cpu"


def test_nothing_is_written_without_out(run, engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("--json")[0] == run()[0] == 0
    assert [one.name for one in tmp_path.iterdir()] == ["scenario.toml"]


def test_several_seeds_are_one_result_with_spreads(run, engine):
    code, out, _ = run("--seeds", 3, "--json")
    data = data_of(out)["data"]
    assert [scenario.seed for scenario, _, _ in engine.asked] == data["seeds"] == [5, 6, 7]
    assert (code, data["metric_mean"]) == (0, pytest.approx(0.56))
    assert data["sd"]["metric_mean"] == pytest.approx(0.01)
    code, out, _ = run("--seeds", 3)
    assert "0.560 ± 0.010" in out
    assert "5, 6, 7" in out


def test_a_sweep_is_one_result_for_each_variant(run, engine):
    sweep = ("--sweep", "trust.rule=mean,median", "--sweep", "population.nodes=10,20")
    code, out, _ = run(*sweep, "--seeds", 2, "--json")
    runs = data_of(out)["data"]["runs"]
    assert code == 0
    assert [tuple(one["set"].values()) for one in runs] == [
        ("mean", 10), ("mean", 20), ("median", 10), ("median", 20)
    ]  # fmt: skip
    assert [one["nodes"] for one in runs] == [10, 20, 10, 20]
    assert runs[0]["metric_mean"] == pytest.approx(0.655)
    assert len(engine.asked) == 8
    code, out, _ = run(*sweep)
    lines = out.splitlines()
    assert "trust.rule" in lines[0]
    assert lines[1].split()[:3] == ["mean", "10", "0.650"]


def test_out_holds_the_result_the_scenario_as_run_and_the_plots(run, engine, plots, tmp_path):
    place = tmp_path / "new" / "out"
    code, out, complaint = run("--out", place, "--json")
    assert code == 0
    assert json.loads((place / "result.json").read_text()) == data_of(out)["data"]
    assert read_scenario(place / "scenario.toml") == engine.asked[0][0]
    assert "batch = 16" in (place / "scenario.toml").read_text()
    assert plots.drawn == [(place, [5], "evidence")]
    assert str(place) in complaint


def test_every_variant_of_a_sweep_has_a_folder(run, engine, plots, tmp_path):
    place = tmp_path / "out"
    assert run("--out", place, "--sweep", "trust.rule=mean,median", "--seeds", 2)[0] == 0
    assert {one.name for one in place.iterdir()} == {"result.json", "run-1", "run-2"}
    assert read_scenario(place / "run-2" / "scenario.toml").trust.rule == "median"
    assert plots.drawn == [
        (place / "run-1", [5, 6], "mean"), (place / "run-2", [5, 6], "median")
    ]  # fmt: skip


def test_without_matplotlib_one_line_says_how_to_get_plots(run, engine, plots, tmp_path):
    def draw(results, portraits, scenario, folder):
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib.pyplot")

    plots.draw = draw
    code, _, complaint = run("--out", tmp_path / "out", "--sweep", "training.lr=0.1,0.2")
    assert code == 0
    assert [line for line in complaint.splitlines() if "konsil[plots]" in line] == [
        "no plots without matplotlib: pip install 'konsil[plots]'"
    ]
    assert (tmp_path / "out" / "run-2" / "scenario.toml").exists()


def test_a_folder_with_something_in_it_is_left_alone(run, engine, tmp_path):
    code, _, complaint = run("--out", tmp_path)
    assert (code, engine.asked) == (2, [])
    assert "no empty folder" in complaint
    assert [one.name for one in tmp_path.iterdir()] == ["scenario.toml"]


def test_a_fault_that_never_happened_is_a_goal_missed_with_data(run, engine, file):
    file.write_text(TEXT + "[faults]\ndrop = 0.1\nchurn = 0.1\n")
    engine.faults = {"drop": 3, "churn": 0}
    code, out, complaint = run()
    assert code == 1
    assert "0.550" in out
    assert "the fault `churn` never happened under seed 5" in complaint
    code, out, _ = run("--json")
    value = data_of(out)
    assert (code, value["ok"], value["error"]["code"]) == (1, False, "goal")
    assert value["data"]["faults"] == {"drop": 3, "churn": 0}
    engine.faults = {"drop": 3, "churn": 1}
    assert run()[0] == 0


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--seeds", "0"], 2, "--seeds 0"),
        (["--sweep", "trust.rle=mean"], 2, "keys of [trust] are rule"),
        (["--sweep", "trust.rule=faith"], 5, '[trust] rule = "faith" is not known'),
        (["--device", "abacus"], 2, "abacus"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_anything_runs(run, engine, more, code, said):
    found, out, complaint = run(*more)
    assert (found, out, engine.asked) == (code, "", [])
    assert said in complaint
    assert complaint.count("\n") == 1
    found, out, _ = run(*more, "--json")
    value = data_of(out)
    assert (found, value["ok"], value["data"]) == (code, False, {})


def test_a_bad_file_exits_5_and_names_itself(run, engine, file):
    file.write_text(TEXT.replace("ring", "moebius"))
    code, _, complaint = run()
    assert (code, engine.asked) == (5, [])
    assert complaint.startswith(f'konsil: {file}: [topology] kind = "moebius" is not known (one of')


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rounds = 4", "rounds = 4\nround = 4", "[training] has no key `round`"),
        ('"ring"', '"random_regular"\ndegree = 20', "degree = 20 needs at least 21 nodes"),
        ('"digits"', '"digits"\nalpha = 0', "[population] alpha = 0 must be above 0"),
        ("[training]", '[adversary]\nattack = "ipm"\n[training]', "makes none Byzantine"),
        ("[training]", "[faults]\npartition = [[5, 6]]\n[training]", "not within the 4 rounds"),
        ('"ring"', '"halves.edgelist"', "the graph falls into 2 parts"),
    ],
)
def test_bad_files_of_every_sort_exit_5_in_one_line(run, file, old, new, said):
    """With the real engine, which none but the last of them reaches."""
    pairs = [(node, (node + 1) % 10) for node in range(10)]
    lines = [f"{a + half} {b + half}" for half in (0, 10) for a, b in pairs]
    (file.parent / "halves.edgelist").write_text("\n".join(lines))
    file.write_text(TEXT.replace(old, new))
    code, out, complaint = run()
    assert (code, out) == (5, "")
    assert said in complaint
    assert complaint.count("\n") == 1


def test_an_interruption_is_told(run, engine, monkeypatch, tmp_path):
    def simulate(scenario, folder, *, device, tell, portray, homes):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "simulate", simulate)
    code, out, _ = run("--json", "--out", tmp_path / "out")
    assert (code, data_of(out)["error"]["message"]) == (1, "interrupted; there is no result")
    assert not (tmp_path / "out").exists()


def test_a_folder_where_nothing_can_be_made_is_a_matter_of_storage(run, engine, file):
    code, _, complaint = run("--out", file / "below" / "a file")
    assert (code, engine.asked, complaint.count("\n")) == (6, [], 1)
    assert str(file / "below") in complaint


@pytest.mark.parametrize("fault", [ConfigError, TaskError])
def test_what_is_found_late_names_the_file_or_the_variant(run, engine, file, tmp_path, fault):
    def simulate(scenario, folder, **_):
        raise fault("[topology] degree is odd", hint="add one")

    engine.simulate = simulate
    code, _, complaint = run("--out", tmp_path / "out")
    assert code == fault.exit_code
    assert complaint == f"konsil: {file}: [topology] degree is odd (add one)\n"
    code, _, complaint = run("--sweep", "training.rounds=3,4")
    assert complaint == "konsil: --sweep training.rounds=3: [topology] degree is odd (add one)\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "fault",
    [
        MemoryError("Unable to allocate 29.1 TiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_memory_that_runs_out_is_the_scenario_s_fault(run, engine, fault):
    def simulate(scenario, folder, **_):
        raise fault

    engine.simulate = simulate
    code, _, complaint = run()
    assert (code, complaint.count("\n")) == (5, 1)
    assert "more memory than there is" in complaint


def test_another_error_of_torch_stays_a_bug(run, engine):
    def simulate(scenario, folder, **_):
        raise RuntimeError("shapes do not match")

    engine.simulate = simulate
    assert run()[0] == 70


def test_a_scenario_that_cannot_fit_is_refused_before_it_runs(run, engine, file):
    text = TEXT.replace('"digits"', '"digits"\nrows = 1000000')
    file.write_text(text.replace("rounds = 4", "rounds = 4\nlocal_epochs = 1000000"))
    code, _, complaint = run()
    assert (code, engine.asked, complaint.count("\n")) == (5, [], 1)
    assert f"{file}: [training] local_epochs: this takes 960,0" in complaint


def test_a_run_that_measured_nothing_does_not_succeed(run, engine, monkeypatch):
    monkeypatch.setitem(
        globals(),
        "made_up",
        lambda scenario, faults: msgspec.structs.replace(GOOD(scenario, faults), metric_mean=None),
    )
    code, _, complaint = run()
    assert code == 1
    assert "no model has a value of accuracy under seed 5" in complaint
    value = data_of(run("--json")[1])
    assert (value["ok"], value["error"]["code"]) == (False, "goal")
    assert value["data"]["metric_mean"] is None


@pytest.mark.parametrize("words", [["--help"], ["sim", "--help"], ["sim", "run", "--help"]])
def test_help_loads_nothing_heavy(words):
    program = (
        "import sys\n"
        "from importlib.metadata import EntryPoint\n"
        "from konsil.node.cli import app\n"
        f"app.entry_points = lambda group: [EntryPoint('sim', {SIM.value!r}, group)]\n"
        "try:\n"
        f"    app.main({words!r})\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "print('LOADED', *sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    said, _, loaded = done.stdout.partition("LOADED")
    assert "Simulate a network of hospitals" in said or "SCENARIO.toml" in said
    heavy = {"torch", "numpy", "networkx", "sklearn", "trio", "libp2p", "matplotlib", "jinja2"}
    assert heavy & set(loaded.split()) == set()
