"""The rules of style that a machine can check; `docs/adr` and CONTRIBUTING.md say why."""

from __future__ import annotations

import ast
import re
import statistics
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
FLOORS = ("protocol", "knowledge", "trust", "node", "simulations")
PRODUCT = [path for floor in FLOORS for path in sorted((CHECKOUT / floor).rglob("*.py"))]
BESIDE = [
    path
    for folder in ("tools", "benchmarks", "examples")
    for path in sorted((CHECKOUT / folder).rglob("*.py"))
]
LINES = {path: path.read_text().count("\n") for path in PRODUCT + BESIDE}
TREES = {path: ast.parse(path.read_text()) for path in PRODUCT + BESIDE}

SUPERVISORS = {
    "node/konsil/node/cli/app.py",
    "node/konsil/node/control.py",
    "node/konsil/node/transports/libp2p_guard.py",
    "node/konsil/node/transports/libp2p_transport.py",
    "node/konsil/node/supervise.py",
    "node/konsil/node/learning/worker.py",
    "simulations/konsil/simulations/measure.py",
}
"""The boundaries at which every exception may be caught: it is logged, counted, or told."""

BANNED_MODULES = {"utils", "util", "common", "base", "helpers", "helper", "misc", "manager"}
BANNED_CLASSES = re.compile(r"^(Base|Abstract)[A-Z]|(Manager|Helper|Handler|Utils?)$")
BANNED_IMPORTS = {"pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|placeholder|for now)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef
NAMED = [path for path in PRODUCT + BESIDE if "benchmarks" not in path.parts]
each_named_file = pytest.mark.parametrize(
    "path", NAMED, ids=lambda path: path.relative_to(CHECKOUT).as_posix()
)
each_file = pytest.mark.parametrize(
    "path", PRODUCT + BESIDE, ids=lambda path: path.relative_to(CHECKOUT).as_posix()
)


def functions(path: Path) -> list[Function]:
    return [node for node in ast.walk(TREES[path]) if isinstance(node, Function)]


def length(function: Function) -> int:
    return (function.end_lineno or 0) - function.lineno + 1


def quantile(values: list[int], share: float) -> int:
    return sorted(values)[int(share * (len(values) - 1))]


def test_files_and_functions_are_small_as_a_whole():
    files = [LINES[path] for path in PRODUCT if path.name != "__init__.py"]
    lengths = [length(function) for path in PRODUCT for function in functions(path)]
    assert statistics.median(files) <= 150
    assert quantile(lengths, 0.9) <= 30


ONE_FILE = CHECKOUT / "tools" / "verify_ledger.py"
"""A second verifier that a stranger reads, and carries away, as one file."""


@each_file
def test_no_file_and_no_function_is_long(path):
    assert LINES[path] <= 400 or path == ONE_FILE
    assert [f"{one.name}: {length(one)}" for one in functions(path) if length(one) > 60] == []


@each_named_file
def test_everything_public_has_a_docstring(path):
    tree = TREES[path]
    assert ast.get_docstring(tree), "the module says what it is"
    bare = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, Function | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
        and not any(isinstance(d, ast.Name) and d.id == "overload" for d in node.decorator_list)
        and not any(node in ast.walk(one) for one in functions(path) if one is not node)
    ]
    assert bare == []


@each_named_file
def test_everything_is_typed(path):
    for function in functions(path):
        every = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
        named = [argument for argument in every if argument.arg not in {"self", "cls"}]
        untyped = [argument.arg for argument in named if argument.annotation is None]
        assert untyped == [], function.name
        assert function.returns is not None, function.name


@each_file
def test_no_exception_is_swallowed(path):
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: a bare except"
            broad = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)}
            if broad & {"Exception", "BaseException"}:
                where = path.relative_to(CHECKOUT).as_posix()
                handed_on = isinstance(node.body[-1], ast.Raise)
                assert where in SUPERVISORS or handed_on, f"line {node.lineno}"


@each_file
def test_names_are_nouns_of_the_domain(path):
    parts = {*path.relative_to(CHECKOUT).with_suffix("").parts}
    assert not parts & BANNED_MODULES
    classes = [node.name for node in ast.walk(TREES[path]) if isinstance(node, ast.ClassDef)]
    assert [name for name in classes if BANNED_CLASSES.search(name)] == []


@each_file
def test_foreign_bytes_are_never_executed(path):
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names.append(getattr(node, "module", None) or "")
            assert not BANNED_IMPORTS & {name.split(".")[0] for name in names}
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"torch.load", "eval", "exec"}, f"line {node.lineno}"
            allowed = [keyword for keyword in node.keywords if keyword.arg == "allow_pickle"]
            assert all(ast.unparse(keyword.value) == "False" for keyword in allowed)


@each_file
def test_nothing_is_left_unfinished(path):
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        assert not UNFINISHED.search(line), f"line {number}: {line.strip()}"


def test_no_committed_text_names_a_machine_or_a_registry():
    """Pins are `name==version` lines; nobody's paths or hosts are part of the project."""
    for line in (CHECKOUT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9A-Za-z.!]+", line), line
    machine = re.compile(r"/(?:work|root|home/\w+|tmp/w)/|\bfile://|extra-index-url")
    suffixes = {".py", ".md", ".toml", ".txt", ".service", ".sh", ""}
    for folder in ("docs", "deploy", "tools", "benchmarks", "examples", ".ci", *FLOORS, "."):
        found = (CHECKOUT / folder).glob("*" if folder == "." else "**/*")
        for path in found:
            if path.is_file() and path.suffix in suffixes and not path.name.startswith(".cov"):
                assert not machine.search(path.read_text(errors="replace")), path
