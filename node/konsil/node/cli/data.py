"""`konsil data`: the data sets that konsil knows, fetched and verified against pinned digests.

No command imports numpy or torch. A file that differs ends with 3, one that is missing or not to
be had with 4, a name that nobody knows with 5, a disk that fails with 6.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from konsil.node.cli import output
from konsil.node.cli.named import existing_file

if TYPE_CHECKING:
    from konsil.knowledge.data.checking import Held
    from konsil.knowledge.data.fetching import Brought
    from konsil.knowledge.data.origins import DataSet

app = typer.Typer(no_args_is_help=True)

_WITHOUT = {"embedded": "comes with scikit-learn", "generated": "is generated from a seed"}
"""Where a data set without files is."""


@app.callback()
def _group() -> None:
    """Known data sets: list them, fetch them, verify their digests."""


@app.command(name="list")
def list_sets(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Every known data set, and whether its files are here."""
    from konsil.knowledge.data.origins import CATALOGUE
    from konsil.knowledge.data.place import data_folder

    top = data_folder()
    sets = [_listed(one, top) for one in CATALOGUE.values()]

    def text() -> None:
        print(f"data folder: {top}")
        for one in sets:
            print(f"{one['name']:<16} {one['state']:<10} {one['what']}  [{one['licence']}]")

    output.emit("data.list", {"folder": str(top), "sets": sets}, as_json=as_json, text=text)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A data set's name; see: konsil data list.")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Take the files from this folder, not from the publisher.",
            callback=lambda path: None if path is None else existing_file(path),
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Data folder; by default KONSIL_DATA, or the user's own."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Bring a data set here; only files of a pinned digest are kept, and the origin is told."""
    from konsil.knowledge.data import fetching, origins
    from konsil.knowledge.data.place import VARIABLE, data_folder

    data_set = origins.named(name)
    top = data_folder() if to is None else to
    brought = fetching.fetch(data_set, top, source=source, tell=output.talk)
    data = {
        "name": name,
        "folder": str(top / data_set.folder) if brought else "",
        "licence": data_set.licence,
        "source": data_set.source,
        "files": [{**_file(one.held), "how": one.how} for one in brought],
    }

    def text() -> None:
        if not brought:
            print(f"{name} {_WITHOUT[data_set.kind]}; there is nothing to fetch")
        for one in brought:
            print(_line(one.held, one))
        print(f"{data_set.licence}; cite {data_set.source}")
        if to is not None and brought:
            print(f"konsil finds it with {VARIABLE}={to.absolute()}")

    output.emit("data.fetch", data, as_json=as_json, text=text)


@app.command()
def verify(
    name: Annotated[
        str | None, typer.Argument(help="One data set; else all that are here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare the files here with the pinned digests.

    A set that is not here at all is told, and is an error only when it is named.
    """
    from konsil.knowledge.data import checking, origins
    from konsil.knowledge.data.place import data_folder

    top = data_folder()
    chosen = origins.CATALOGUE.values() if name is None else [origins.named(name)]
    found = [(one, checking.held(one, top)) for one in chosen if one.files]
    states = {one.name: checking.state_of(files) for one, files in found}
    sets = [
        {"name": one.name, "state": states[one.name], "files": [_file(item) for item in files]}
        for one, files in found
    ]
    code, error = _verdict(states, name, top)

    def text() -> None:
        for one, files in found:
            print(f"{one.name}: {states[one.name]}")
            for item in files if states[one.name] != checking.ABSENT else ():
                print(f"  {_line(item)}")
        if not found:
            print(f"{name} {_WITHOUT[origins.named(str(name)).kind]}; it has no files")

    data = {"folder": str(top), "sets": sets}
    output.finish("data.verify", data, exit_code=code, error=error, as_json=as_json, text=text)


def _verdict(
    states: dict[str, str], name: str | None, top: Path
) -> tuple[int, output.ErrorObject | None]:
    """The exit code by the states of the sets: differing before missing."""
    from konsil.protocol.errors import IncompleteError, VerificationError

    differing = [one for one, state in states.items() if state == "differs"]
    missing = [
        one
        for one, state in states.items()
        if state == "incomplete" or (state == "absent" and name is not None)
    ]
    if differing:
        message = f"{', '.join(differing)} in {top}: files are none of the accepted copies"
        hint = "move them away, then: konsil data fetch"
        return VerificationError.exit_code, _problem(VerificationError.code, message, hint)
    if missing:
        message = f"{', '.join(missing)} in {top}: files are missing"
        hint = f"konsil data fetch {missing[0]}"
        return IncompleteError.exit_code, _problem(IncompleteError.code, message, hint)
    return 0, None


def _problem(code: str, message: str, hint: str) -> output.ErrorObject:
    return output.ErrorObject(code=code, message=message, hint=hint)


def _listed(one: DataSet, top: Path) -> dict[str, object]:
    """One line of the list; by names and not by content, so that it is quick."""
    there = [(top / one.folder / file.name).is_file() for file in one.files]
    if one.files:
        state = "here" if all(there) else "incomplete" if any(there) else "absent"
    else:
        state = one.kind
    return {
        "name": one.name,
        "kind": one.kind,
        "state": state,
        "what": one.what,
        "licence": one.licence,
        "source": one.source,
        "remark": one.remark,
    }


def _file(held: Held) -> dict[str, object]:
    content, copy = held.content, held.copy
    return {
        "path": str(held.path),
        "state": held.state,
        "bytes": None if content is None else content.size,
        "sha256": None if content is None else content.sha256,
        "origin": None if copy is None else copy.origin,
        "official": None if copy is None else copy.official,
    }


def _line(held: Held, brought: Brought | None = None) -> str:
    how = held.state if brought is None else brought.how
    what = f"  sha256 {held.content.sha256}" if held.content is not None else ""
    origin = f"  {held.copy.origin}" if held.copy is not None else ""
    return f"{held.path}: {how}{what}{origin}"
