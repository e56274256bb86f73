"""A rehearsal opens the task as the node would, names what is wrong, and leaves nothing behind."""

import pytest

from konsil.node.config import read_config
from konsil.node.init import create_home
from konsil.node.learning.rehearsal import rehearse
from konsil.protocol.errors import ConfigError, KonsilError

pytestmark = pytest.mark.slow

TASK = """
def build(config):
    raise OSError(f"no table at {config.options['table']}")
"""


def home(tmp_path, factory="konsil.knowledge.tabular:build", **options):
    root = tmp_path / "bern"
    create_home(
        root, name="bern", consortium="north", factory=factory,
        listen=["/ip4/127.0.0.1/tcp/0"], options=options,
    )  # fmt: skip
    return root


def tree(root):
    return {
        p: p.read_bytes()
        for p in root.rglob("*")
        if p.is_file() and not {"__pycache__", "state"} & {*p.parts}
    }


def test_a_good_task_says_what_it_is(tmp_path):
    root = home(tmp_path, model="mlp:4")
    before = tree(root)
    assert rehearse(root, read_config(root / "node.toml")).task == "tabular/breast_cancer"
    assert tree(root) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"modell": "mlp:4"}, "modell"),
        ({"dataset": "patients.csv"}, r"patients\.csv"),
    ],
)
def test_wrong_options_are_a_configuration_error(tmp_path, options, words):
    root = home(tmp_path, **options)
    with pytest.raises(ConfigError, match=words):
        rehearse(root, read_config(root / "node.toml"))


def test_a_task_that_raises_or_is_not_there_is_named(tmp_path):
    root = home(tmp_path, factory="task:build", table="x.csv")
    with pytest.raises(KonsilError, match="task"):
        rehearse(root, read_config(root / "node.toml"))
    (root / "task.py").write_text(TASK)
    with pytest.raises(KonsilError, match=r"no table at x\.csv.*task\.py:3"):
        rehearse(root, read_config(root / "node.toml"))
