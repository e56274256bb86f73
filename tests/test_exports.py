"""What others may rely on: exported names, commands, exit codes, pinned dependencies."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from konsil.protocol import errors

CHECKOUT = Path(__file__).resolve().parent.parent
EXPORTS = {
    "konsil.protocol": set(),
    "konsil.knowledge": {"Rows", "Task", "TaskConfig"},
    "konsil.trust": set(),
    "konsil.node": set(),
    "konsil.simulations": set(),
}
EXIT_CODES = {0, 1, 2, 3, 4, 5, 6, 70}
COMMANDS = {
    "artifact export",
    "artifact gaps",
    "artifact show",
    "audit artifact",
    "audit budget",
    "audit check",
    "audit diff",
    "audit export",
    "audit fork",
    "audit lineage",
    "audit prove",
    "audit recover",
    "audit redact",
    "audit report",
    "audit taint",
    "audit timeline",
    "audit trust",
    "audit verify",
    "config check",
    "data fetch",
    "data list",
    "data verify",
    "demo",
    "init",
    "node artifacts",
    "node peers",
    "node publish",
    "node rotate",
    "node run",
    "node status",
    "node stop",
    "node trust",
    "sim bench",
    "sim emulate",
    "sim run",
}


@pytest.mark.parametrize(("package", "names"), EXPORTS.items())
def test_a_package_exports_exactly_its_names(package, names):
    module = importlib.import_module(package)
    tree = ast.parse(Path(module.__file__).read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    exported = {alias.asname for node in imports for alias in node.names}
    assert exported == names
    assert all(alias.name == alias.asname for node in imports for alias in node.names)
    assert [node for node in tree.body if isinstance(node, ast.Assign | ast.FunctionDef)] == []


def all_errors(root: type[errors.KonsilError]) -> set[type[errors.KonsilError]]:
    return {root}.union(*(all_errors(one) for one in root.__subclasses__()))


def own_errors() -> set[type[errors.KonsilError]]:
    return {one for one in all_errors(errors.KonsilError) if one.__module__ == errors.__name__}


def test_the_page_of_exit_codes_equals_the_tree_of_errors():
    rows = re.findall(
        r"^\| (\d+) \| [^|]+ \|([^|]*)\|",
        (CHECKOUT / "docs" / "exit-codes.md").read_text(),
        flags=re.MULTILINE,
    )
    told = {int(code): set(re.findall(r"`(\w+)`", words)) for code, words in rows}
    assert set(told) == EXIT_CODES
    raised: dict[int, set[str]] = {0: set()}
    for one in own_errors():
        raised.setdefault(one.exit_code, set()).add(one.code)
    assert told == raised


def test_every_error_has_its_own_word_and_stands_in_the_drawing():
    words = [one.code for one in own_errors()]
    assert len(words) == len(set(words))
    for one in own_errors():
        assert one.__name__ in (errors.__doc__ or "")


def test_the_commands_of_the_contract_are_there():
    import typer

    from konsil.node.cli.app import build_app

    def leaves(command, prefix=""):
        children = getattr(command, "commands", None)
        if children is None:
            return {prefix.strip()}
        return set().union(*(leaves(one, f"{prefix} {name}") for name, one in children.items()))

    assert leaves(typer.main.get_command(build_app())) == COMMANDS
    assert {point.name for point in entry_points(group="konsil.commands")} == {
        "demo",
        "sim",
    }


def test_the_installed_command_answers():
    konsil = Path(sys.executable).parent / "konsil"
    done = subprocess.run([konsil, "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "konsil 0.1.0\n")
    wrong = subprocess.run([konsil, "no-such-word"], capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2
    assert wrong.stdout == ""


def test_the_readme_names_only_commands_that_exist():
    import typer

    from konsil.node.cli.app import build_app

    root = typer.main.get_command(build_app())
    named = set()
    for page in [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]:
        named |= set(re.findall(r"konsil ([a-z]+)(?: ([a-z]+))?", page.read_text()))
    assert ("demo", "") in named
    commands = {word: root.commands[word] for word, _ in named if word in root.commands}
    assert {"demo", "init", "node", "audit"} <= set(commands)
    for word, second in named:
        if hasattr(commands.get(word), "commands") and second:
            assert second in commands[word].commands, f"konsil {word} {second}"


def test_every_dependency_is_pinned():
    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    pins = dict(
        line.split("==") for line in (CHECKOUT / "constraints.txt").read_text().splitlines()
    )
    pinned = {plain(name) for name in pins}
    assert {plain(re.split(r"[<>=!~ ;\[]", one)[0]) for one in wanted} <= pinned
    assert pins["torch"] == "2.13.0"
    assert pins["libp2p"] == "0.8.1"


IMAGING = {
    "knowledge/konsil/knowledge/data/dicom.py": {"pydicom"},
    "knowledge/konsil/knowledge/data/folders.py": {"PIL"},
}
"""Readers of image files, and what they import of the `imaging` extra, inside functions only."""


def test_every_import_is_a_stated_dependency():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    stated = {re.split(r"[<>=]", one)[0].replace("-", "_") for one in project["dependencies"]}
    stated = stated - {"scikit_learn"} | {"sklearn", "konsil", *sys.stdlib_module_names}
    plots = {re.split(r"[<>=]", one)[0] for one in project["optional-dependencies"]["plots"]}
    for floor in ("protocol", "knowledge", "trust", "node", "simulations"):
        for path in (CHECKOUT / floor).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                elif isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                else:
                    continue
                allowed = stated | plots if path.parent.name == "plots" else stated
                allowed = allowed | IMAGING.get(path.relative_to(CHECKOUT).as_posix(), set())
                assert {name.split(".")[0] for name in names} <= allowed, path


def test_nothing_but_a_drawing_loads_the_plots_extra():
    """The names of `plots` are there without matplotlib; it is imported inside functions only."""
    for path in (CHECKOUT / "simulations").rglob("plots/*.py"):
        found = [
            node
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.ImportFrom | ast.Import)
        ]
        assert "matplotlib" not in "".join(map(ast.unparse, found)), path


def test_the_example_task_learns():
    from konsil.knowledge.task import TaskConfig, load_factory
    from konsil.knowledge.train import initial_model, train

    examples = CHECKOUT / "examples"
    build = load_factory("task:build", examples)
    tasks = [build(TaskConfig(home=examples, name=name, seed=0)) for name in ("bern", "ulm")]
    assert not {*tasks[0].train.patients} & {*tasks[1].train.patients, *tasks[1].holdout.patients}
    start = initial_model(tasks[0], 0)
    first = train(tasks[0], start, seed=0, node="bern", number=1)
    second = train(tasks[0], first.model, seed=0, node="bern", number=2)
    assert second.loss < first.loss < 0.8
