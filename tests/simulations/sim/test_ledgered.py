"""Simulated homes are real ones: an audit with replay accepts them, and finds what is changed."""

from __future__ import annotations

import shutil

import msgspec
import pytest
import torch

from konsil.knowledge import pack
from konsil.node.store.blobs import BlobStore
from konsil.protocol.errors import ConfigError, KonsilError
from konsil.protocol.learning_bodies import ArtifactPublish, ModelTrain
from konsil.simulations.sim import engine
from konsil.simulations.sim.attacks import ATTACKS
from konsil.simulations.sim.engine import Run
from konsil.simulations.sim.folder import homes_of
from konsil.simulations.sim.ledgered import members, opened_books
from konsil.simulations.sim.ledgered.eligible import AUDITED, WEIGHTED
from konsil.simulations.sim.rules import RULES
from konsil.simulations.sim.scenario_checks import check
from konsil.simulations.sim.scenario_reading import scenario_of
from konsil.simulations.sim.seeds import Variant
from konsil.simulations.sim.setting import setting_of
from konsil.trust.audit import verify_home, verify_homes
from konsil.trust.lineage import read_lineage
from konsil.trust.reading import read_entries

SCENARIO = """
seed = 7
[population]
nodes = 5
dataset = "breast_cancer"
split = "dirichlet"
alpha = 2.0
holdout = 0.4
model = "mlp:6"
[topology]
kind = "ring_chords"
[training]
rounds = 3
[adversary]
fraction = 0.2
attack = "sign_flip"
[ledger]
enabled = true
"""


def scenario(**changes):
    """The scenario with other values by section and key."""
    values = msgspec.toml.decode(SCENARIO)
    for section, keys in changes.items():
        if keys is None:
            values.pop(section)
        elif isinstance(keys, dict):
            values[section] = values.get(section, {}) | keys
        else:
            values[section] = keys
    return scenario_of(values)


def simulated(asked, homes, folder):
    """The run of a scenario, whose homes are made in `homes`."""
    setting = setting_of(asked, folder)
    with engine.threads(1), opened_books(setting, homes) as books:
        run = Run(setting, "cpu", books)
        for number in range(1, asked.training.rounds + 1):
            run.round(number)
        run.close()
    return run


def homes_in(folder):
    return sorted(folder.iterdir())


def files_in(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A run with one liar, and the folder of its homes."""
    homes = tmp_path_factory.mktemp("ledgered") / "homes"
    return simulated(scenario(), homes, homes.parent), homes


def test_every_home_verifies_alone_and_every_mix_is_computed_again(ran):
    for home in homes_in(ran[1]):
        report = verify_home(home, replay=True)
        assert (report.exit_code(), report.findings) == (0, ())
        (ledger,) = report.ledgers
        assert (ledger.replayed, ledger.not_replayed, ledger.unchecked_receipts) == (3, 0, 0)
        assert ledger.beyond_checkpoint == 0


def test_all_homes_agree_with_one_another(ran):
    report = verify_homes(homes_in(ran[1]), replay=True)
    assert (report.exit_code(strict=True), report.findings) == (0, ())
    assert all(ledger.outside_checkpoints > 0 for ledger in report.ledgers)


def test_the_lineage_of_a_last_model_names_its_contributors(ran):
    run, homes = ran
    told = read_lineage(homes_in(homes))
    found = told.contributors(told.current())
    names = {contributor.name for contributor in found.contributors}
    honest = {f"node-{node}" for node in range(5) if node not in run.setting.hostile}
    assert honest <= names
    assert not found.missing


def test_the_models_are_those_without_ledgers_and_lie_in_the_homes(ran, tmp_path):
    run, homes = ran
    plain = simulated(scenario(ledger=None), None, tmp_path)
    assert torch.allclose(run.models, plain.models, atol=1e-6, rtol=0)
    assert torch.allclose(run.granted, plain.granted, atol=1e-6)
    for node, row in enumerate(run.models):
        home = homes / f"node-{node}"
        store = BlobStore(home / "blobs")
        last = pack.load(store.path(read_lineage([home]).current()))
        assert torch.equal(run.setting.network.layout.row(last), row)


def test_a_liar_logs_what_it_gives_out(ran):
    run, homes = ran
    (liar,) = run.setting.hostile.tolist()
    for node in range(5):
        bodies = [entry.b for entry in read_entries(homes / f"node-{node}" / "ledger")]
        trained = [body.out for body in bodies if isinstance(body, ModelTrain)]
        given = [body.art for body in bodies if isinstance(body, ArtifactPublish)]
        assert (trained == given) == (node != liar)


def test_the_same_scenario_gives_the_same_bytes(ran, tmp_path):
    simulated(scenario(), tmp_path / "homes", tmp_path)
    again, before = files_in(tmp_path / "homes"), files_in(ran[1])
    assert again == before
    other = members.keys_of(8, 0)["log"].public
    assert other != members.keys_of(7, 0)["log"].public


@pytest.mark.parametrize("pattern", ["ledger/tail.0", "ledger/blobs/**/*", "blobs/**/*"])
def test_a_flipped_byte_is_found(ran, tmp_path, pattern):
    home = tmp_path / "node-1"
    shutil.copytree(ran[1] / "node-1", home)
    victim = next(path for path in sorted(home.glob(pattern)) if path.is_file())
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    assert verify_home(home, replay=True).exit_code() in (3, 4)


def test_no_daemon_can_run_from_a_simulated_home(ran):
    assert members.CONSORTIUM == "simulation"
    names = {name.split("/", 1)[1] for name in files_in(ran[1])}
    assert not [name for name in names if name.startswith("keys") or name.endswith(".key")]


def test_what_several_homes_hold_is_stored_once(ran):
    shared = [path for path in (ran[1] / "node-0" / "blobs").rglob("*") if path.is_file()]
    assert max(path.stat().st_nlink for path in shared) > 1


FAULTS = {
    "late and repeated": ({"delay_rounds": 2}, "mimic"),
    "asleep and late": ({"slow": 0.4, "delay_rounds": 2}, "sybil"),
    "gone and back": ({"churn": 0.2, "heal": True}, "free_rider"),
    "lost": ({"drop": 0.3}, "noisy_copy"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_whatever_goes_wrong_the_ledgers_are_in_order(name, tmp_path):
    faults, attack = FAULTS[name]
    asked = scenario(
        faults=faults, adversary={"attack": attack, "fraction": 0.4}, training={"rounds": 6}
    )
    simulated(asked, tmp_path / "homes", tmp_path)
    report = verify_homes(homes_in(tmp_path / "homes"), replay=True)
    assert report.findings == ()
    assert sum(ledger.replayed for ledger in report.ledgers) > 0


@pytest.mark.parametrize("rule", WEIGHTED)
def test_of_every_rule_with_weights_the_mixes_replay(rule, tmp_path):
    simulated(scenario(trust={"rule": rule}), tmp_path / "homes", tmp_path)
    report = verify_homes(homes_in(tmp_path / "homes"), replay=True)
    said = {finding.code for finding in report.findings}
    # Weights without evidence are found, as they should be, and nothing else is.
    assert said == (set() if rule in AUDITED else {"integrate.weight"})
    mixes = sum(ledger.replayed for ledger in report.ledgers)
    assert (mixes > 0) == (rule != "local_only")
    assert not any(ledger.not_replayed for ledger in report.ledgers)


def test_the_rules_with_weights_are_those_that_say_so(tmp_path):
    for rule in RULES:
        run = simulated(scenario(ledger=None, trust={"rule": rule}), None, tmp_path)
        assert (run.granted is not None) == (rule in WEIGHTED), rule


@pytest.mark.parametrize("rule", sorted(set(RULES) - set(WEIGHTED)))
def test_a_rule_without_weights_keeps_no_ledger(rule):
    with pytest.raises(ConfigError, match=r"\[ledger\] enabled needs a rule with weights"):
        check(scenario(trust={"rule": rule}))
    check(scenario(trust={"rule": rule}, ledger={"enabled": False}))


@pytest.mark.parametrize("attack", [name for name in ATTACKS if ATTACKS[name].per_link])
def test_nobody_signs_a_model_for_each_neighbour(attack):
    with pytest.raises(ConfigError, match="another model, which would be two logs of one node"):
        check(scenario(adversary={"attack": attack}))


def test_several_processes_keep_no_ledgers(tmp_path):
    setting = setting_of(scenario(), tmp_path)
    with (
        pytest.raises(ConfigError, match="works in one process, not in 2"),
        opened_books(setting, None, processes=2),
    ):
        pass


def test_a_run_that_fails_leaves_no_homes(tmp_path):
    def stopped(_):
        raise KonsilError("stop")

    with pytest.raises(KonsilError, match="stop"):
        engine.simulate(scenario(), tmp_path, tell=stopped, homes=tmp_path / "homes")
    assert not (tmp_path / "homes").exists()
    result = engine.simulate(scenario(), tmp_path, homes=tmp_path / "homes")
    assert len(homes_in(tmp_path / "homes")) == result.nodes


def test_every_run_has_a_folder_of_its_own_for_its_homes(tmp_path):
    asked = scenario()
    plain, swept = (
        Variant(settings={}, scenario=asked),
        Variant(settings={"seed": 7}, scenario=asked),
    )
    assert homes_of(tmp_path, plain, 1, asked, 1) == tmp_path / "homes"
    assert homes_of(tmp_path, plain, 1, asked, 2) == tmp_path / "homes" / "seed-7"
    assert homes_of(tmp_path, swept, 2, asked, 2) == tmp_path / "run-2" / "homes" / "seed-7"
