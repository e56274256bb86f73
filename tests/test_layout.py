"""The house stands as drawn: source roots, floors, and who may import what."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
FLOORS = ("protocol", "knowledge", "trust", "node", "simulations")
MODULES = {floor: sorted((CHECKOUT / floor).rglob("*.py")) for floor in FLOORS}
WORKER_SIDE = {
    "blending", "compacting", "fingerprints", "plain_torch", "workbench", "worker",
    "kinds.answers", "kinds.choice", "kinds.kind", "kinds.parameters", "kinds.prototypes",
    "kinds.trials", "kinds.vectors",
}  # fmt: skip
"""The files of node/ that run in the worker process; the daemon imports none of them."""
AUDIT_SIDE = (
    "konsil.trust.audit",
    "konsil.trust.evidence",
    "konsil.trust.ledger",
    "konsil.trust.lineage",
    "konsil.trust.report",
    "konsil.trust.score",
    "konsil.trust.weights",
    "konsil.knowledge.mixing",
)


def run_python(code: str, *arguments: str) -> str:
    """Standard output of a fresh interpreter that runs `code`."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_with(*modules: str) -> set[str]:
    """All that a fresh interpreter has loaded once it imported these."""
    code = "import sys\nfor name in sys.argv[1:]: __import__(name)\nprint(*sys.modules)"
    return set(run_python(code, *modules).split())


@cache
def imported_names(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, save for type checkers only."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides the floor"
            found.add(node.module or "")
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


@pytest.mark.parametrize("floor", FLOORS)
def test_a_top_folder_is_a_source_root_of_one_portion(floor):
    root = CHECKOUT / floor
    code = root / "konsil" / floor
    assert MODULES[floor], f"{floor} holds no module"
    assert (code / "py.typed").is_file()
    assert not (root / "konsil" / "__init__.py").exists(), "it would hide the other portions"
    astray = [path for path in root.rglob("*") if path.is_file() and code not in path.parents]
    assert [path for path in astray if "__pycache__" not in path.parts] == []
    assert [path for path in root.rglob("*") if path.name.lower().startswith("readme")] == []
    packages = {path.parent for path in MODULES[floor]}
    assert [folder for folder in packages if not (folder / "__init__.py").exists()] == []


def test_the_namespace_holds_exactly_the_five_floors():
    import konsil

    portions = sorted(Path(root) for root in konsil.__path__)
    assert portions == sorted(CHECKOUT / floor / "konsil" for floor in FLOORS)
    assert getattr(konsil, "__file__", None) is None
    assert version("konsil") == "0.1.0"


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Check the import contracts of the tree at `root`."""
    roots = os.pathsep.join(str(root / floor) for floor in FLOORS)
    return subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": roots, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the code in which a breach can be planted."""
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    for floor in FLOORS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / floor, tmp_path / floor, ignore=ignored)
    return tmp_path


def test_the_import_contracts_hold():
    done = lint_imports(CHECKOUT)
    assert done.returncode == 0, done.stdout


BREACHES = (
    ("protocol", "import konsil.node.transports.transport", "floors"),
    ("knowledge", "import torchvision", "nothing imports torchvision"),
    ("protocol", "import torch", "protocol does no I/O and no tensors"),
    ("trust", "import trio", "knowledge and trust know no network and no event loop"),
    ("trust", "import torch", "an audit runs without torch"),
    ("node", "import torch", "only the worker process imports torch; the daemon never does"),
)


def test_planted_breaches_are_caught(copy):
    for number, (floor, line, _) in enumerate(BREACHES):
        planted = copy / floor / "konsil" / floor / f"planted_{number}.py"
        planted.write_text(f'"""Planted."""\n\n{line}\n')
    done = lint_imports(copy)
    assert done.returncode == 1, done.stdout + done.stderr
    told = " ".join(done.stdout.split())
    for number, (floor, line, contract) in enumerate(BREACHES):
        assert f"{contract} BROKEN" in told
        imported = line.removeprefix("import ")
        assert f"konsil.{floor}.planted_{number} -> {imported}" in told


def importers_of_libp2p(root: Path) -> set[str]:
    """The files of the tree at `root` that import libp2p, by path."""
    return {
        path.relative_to(root).as_posix()
        for floor in FLOORS
        for path in (root / floor).rglob("*.py")
        if any(name.split(".")[0] == "libp2p" for name in imported_names(path))
    }


def test_only_the_libp2p_files_of_node_import_libp2p(copy):
    prefix = "node/konsil/node/transports/libp2p_"
    importers = importers_of_libp2p(CHECKOUT)
    assert f"{prefix}transport.py" in importers
    assert [path for path in importers if not path.startswith(prefix)] == []
    planted = copy / "node/konsil/node/planted.py"
    planted.write_text("def late() -> None:\n    from libp2p.abc import IHost\n")
    assert "node/konsil/node/planted.py" in importers_of_libp2p(copy)


def test_what_belongs_to_libp2p_is_reached_through_its_transport_alone():
    inner = {
        f"konsil.node.transports.{path.stem}"
        for path in MODULES["node"]
        if path.stem.startswith("libp2p_") and path.stem != "libp2p_transport"
    }
    for paths in MODULES.values():
        for path in paths:
            if not path.stem.startswith("libp2p_"):
                assert not imported_names(path) & inner, path


def test_help_is_quick_to_load():
    loaded = run_python(
        "import sys\n"
        "from konsil.node.cli.app import main\n"
        "sys.argv = ['konsil', '--help']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "print('LOADED', *sys.modules)\n"
    ).split("LOADED")[1]
    heavy = {"torch", "libp2p", "networkx", "numpy", "sklearn", "safetensors", "jinja2"}
    assert heavy & set(loaded.split()) == set()


def test_the_audit_side_loads_no_torch_and_no_network():
    assert {"torch", "trio", "libp2p"} & loaded_with(*AUDIT_SIDE) == set()


def name_of(path):
    """The name under which a file is imported."""
    parts = path.with_suffix("").parts
    return ".".join(parts[parts.index("konsil") :])


def test_the_daemon_imports_nothing_of_the_worker():
    inner = {f"konsil.node.learning.{name}" for name in WORKER_SIDE}
    for path in MODULES["node"] + MODULES["simulations"]:
        if name_of(path) not in inner:
            assert not imported_names(path) & inner, path


def test_the_daemon_never_loads_torch():
    """At run time too, whatever its functions import late; the worker alone is left out."""
    inner = {f"konsil.node.learning.{name}" for name in WORKER_SIDE}
    modules = [
        name_of(path)
        for path in MODULES["node"]
        if name_of(path) not in inner and path.stem not in {"__init__", "__main__"}
    ]
    assert "konsil.node.daemon" in modules
    assert "torch" not in loaded_with(*modules)
