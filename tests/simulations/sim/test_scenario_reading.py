"""Bad files: one clear line that names file, place and remedy."""

from __future__ import annotations

import codecs
import os

import pytest

from konsil.protocol.errors import ConfigError, UsageError
from konsil.simulations.sim import scenario_reading
from konsil.simulations.sim.scenario import Scenario

SMALL = {"population": 'nodes = 20\ndataset = "digits"', "topology": 'kind = "ring"'}


def text(**sections):
    """A scenario file; a section that is None is left out, and `seed` stands above all."""
    seed = sections.pop("seed", None)
    whole = {**SMALL, **sections}
    parts = [f"[{name}]\n{body}\n" for name, body in whole.items() if body is not None]
    return "".join(([] if seed is None else [f"seed = {seed}\n"]) + parts)


@pytest.fixture
def read(tmp_path):
    def read_text(words):
        path = tmp_path / "scenario.toml"
        path.write_bytes(words if isinstance(words, bytes) else words.encode())
        return scenario_reading.read_scenario(path)

    return read_text


@pytest.fixture
def refused(read):
    def line(words):
        with pytest.raises(ConfigError) as caught:
            read(words)
        assert caught.value.exit_code == 5
        assert "\n" not in caught.value.diagnostics()
        place, _, said = caught.value.message.partition("scenario.toml: ")
        assert place.endswith("/")
        return said, caught.value.hint

    return line


def test_the_smallest_file_is_read(read):
    found = read(text())
    assert isinstance(found, Scenario)
    assert (found.population.nodes, found.topology.kind, found.seed) == (20, "ring", 0)


def test_the_contract_s_own_example_is_read(read):
    found = read(
        """
        seed = 1
        [population]
        nodes = 20
        dataset = "digits"
        split = "dirichlet"
        alpha = 0.5
        model = "mlp:64-32-10"
        [topology]
        kind = "random_regular"
        degree = 6
        [training]
        rounds = 40
        local_steps = 5
        batch = 16
        lr = 0.1
        [artifacts]
        kinds = ["parameters"]
        [trust]
        rule = "evidence"
        [adversary]
        fraction = 0.3
        attack = "sign_flip"
        [faults]
        churn = 0.05
        partition = [[10, 20]]
        drop = 0.01
        delay_rounds = 0
        """
    )
    assert found.hostile == 6
    assert found.faults.requested == ("churn", "partition", "drop")
    assert found.faults.partition == ((10, 20),)


def test_whole_numbers_may_stand_for_broken_ones(read):
    assert read(text(training="lr = 1")).training.lr == 1.0


def test_lists_of_models_and_attacks_are_read(read):
    words = text(
        population='nodes = 20\ndataset = "digits"\nmodel = ["logistic", "mlp:64-32-10"]',
        adversary='fraction = 0.3\nattack = ["logits_flip", "logits_cpa+noise"]',
        artifacts='kinds = ["logits"]',
    )
    found = read(words)
    assert found.population.models == ("logistic", "mlp:64-32-10")
    assert found.adversary.attacks == ("logits_flip", "logits_cpa+noise")
    assert (found.artifacts.kind, found.artifacts.asked) == ("logits", "pool")


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"topology": 'kind = "ring"\nlissten = 3'}, "[topology] has no key `lissten`"),
        ({"privacy": "epsilon = 3"}, "there is no key or section `privacy`"),
        ({"population": None}, "[population] is missing"),
        ({"population": "nodes = 3"}, "[population] dataset is missing"),
        ({"topology": "degree = 3"}, "[topology] kind is missing"),
        ({"training": "rounds = 0"}, "[training] rounds = 0 must be at least 1"),
        ({"training": "lr = 0"}, "[training] lr = 0 must be above 0"),
        ({"training": "lr = nan"}, "[training] lr = nan must be above 0"),
        ({"training": "lr = inf"}, "[training] lr = inf must be at most 1000000"),
        ({"training": 'lr = "fast"'}, '[training] lr = "fast": expected `float`, got `str`'),
        ({"training": "rounds = 2.5"}, "[training] rounds = 2.5: expected `int`, got `float`"),
        ({"training": 'rounds = "5"'}, '[training] rounds = "5": expected `int`, got `str`'),
        ({"training": "batch = true"}, "[training] batch = true: expected `int`, got `bool`"),
        ({"adversary": "fraction = 1.0"}, "[adversary] fraction = 1.0 must be below 1"),
        ({"faults": "drop = -0.1"}, "[faults] drop = -0.1 must be at least 0"),
        (
            {"faults": "partition = [[1, 2], [3, 4, 5]]"},
            "[faults] partition[1] = [3, 4, 5]: expected `array` of length 2, got 3",
        ),
        (
            {"faults": "partition = [[1, 'two']]"},
            '[faults] partition[0][1] = "two": expected `int`, got `str`',
        ),
        ({"seed": -1}, "seed = -1 must be at least 0"),
        ({"seed": 2**70}, f"seed = {2**70} must be at most 9223372036854775807"),
    ],
)
def test_a_wrong_key_is_named_as_it_stands_in_the_file(refused, sections, said):
    assert refused(text(**sections))[0] == said


@pytest.mark.parametrize(
    ("nodes", "said"), [(1, "must be at least 2"), (10**12, "must be at most 1000000")]
)
def test_a_network_has_two_nodes_at_least(refused, nodes, said):
    words = text(population=f'nodes = {nodes}\ndataset = "digits"')
    assert refused(words)[0] == f"[population] nodes = {nodes} {said}"


@pytest.mark.parametrize("alpha", ["0", "-1.0", "-0.0"])
def test_alpha_is_above_0(refused, alpha):
    words = text(population=f'nodes = 9\ndataset = "digits"\nsplit = "dirichlet"\nalpha = {alpha}')
    said, hint = refused(words)
    assert said == f"[population] alpha = {alpha} must be above 0"
    assert "alpha" in hint


def test_a_section_that_is_no_table_is_refused(refused):
    words = 'population = 3\n[topology]\nkind = "ring"'
    assert refused(words)[0] == "population = 3: expected `object`, got `int`"


def test_the_hint_names_the_keys_there_are(refused):
    assert refused(text(trust="rle = 3"))[1] == "keys of [trust] are rule"
    sections = "population, topology, training, artifacts, trust, adversary, faults, ledger, output"
    assert refused(text(seeds=""))[1] == f"there are seed and the sections {sections}"


def test_a_long_value_is_cut(refused):
    said, _ = refused(text(training=f'lr = "{"x" * 500}"'))
    assert len(said) < 120


@pytest.mark.parametrize("raw", [b"[population", b"\xff\xfe", b"a = 1\na = 2"])
def test_what_is_not_toml_is_said_to_be_none(refused, raw):
    assert refused(raw)[0].startswith("this is not TOML in UTF-8: ")


def test_a_file_that_is_not_there_is_a_slip_of_the_pen(tmp_path):
    with pytest.raises(UsageError, match=r"absent\.toml: there is no such file"):
        scenario_reading.read_scenario(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        scenario_reading.read_scenario(tmp_path)


def test_every_key_of_the_structs_is_known():
    keys = scenario_reading.keys()
    assert keys[""] == ("seed",)
    assert set(keys) - {""} == set(Scenario.__struct_fields__) - {"seed"}
    assert "delay_rounds" in keys["faults"]


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path):
    path = tmp_path / "scenario.toml"
    path.write_bytes(codecs.BOM_UTF8 + text().encode())
    assert scenario_reading.read_scenario(path).population.nodes >= 2


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"#" * 1_000_001, "larger than 1 MB"),
        (b".".join([b"a"] * 50_000) + b" = 1", "more than 500 dots"),
    ],
)
def test_files_that_would_fill_the_memory_are_refused(tmp_path, raw, said):
    path = tmp_path / "scenario.toml"
    path.write_bytes(raw)
    with pytest.raises(ConfigError, match=said) as caught:
        scenario_reading.read_scenario(path)
    assert caught.value.hint


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "scenario.toml")
    with pytest.raises(ConfigError, match="no plain file"):
        scenario_reading.read_scenario(tmp_path / "scenario.toml")


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"topology": "k" * 10_000 + " = 1"}, f"[topology] has no key `{'k' * 39}…`"),
        ({"topology": '"a\\nb" = 1'}, "[topology] has no key `a\\nb`"),
        (
            {"topology": f'kind = "{"v" * 10_000}"'},
            f'[topology] kind = "{"v" * 38}…: expected `str` of length <= 1000',
        ),
        (
            {"population": f'nodes = 2\ndataset = "digits"\nmodel = ["{"v" * 10_000}"]'},
            f'[population] model[0] = "{"v" * 38}…: expected `str` of length <= 1000',
        ),
    ],
)
def test_what_people_write_makes_no_long_lines(refused, sections, said):
    assert refused(text(**sections))[0] == said


def test_a_key_that_looks_like_a_place_is_not_taken_for_one(refused):
    said = refused(text(topology='kind = "ring"\n"a` - at `$.x" = 1'))[0]
    assert said.startswith("[topology] has no key `a` - at `$.x`")
