"""Graph files: a topology that somebody drew, as GraphML or as a list of edges.

Links go both ways, and every node of the file is a node of the scenario. Names that are all
whole numbers are taken in their order, others in the order in which the file has them first.
Whatever is wrong raises `ConfigError` in one line that names the file. An edge list has an edge
a line: two names, between blanks or commas; what follows them is not read, `#` begins a comment.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from konsil.protocol.errors import ConfigError
from konsil.simulations.sim.links import Links
from konsil.simulations.sim.reading import read_bounded, reason

if TYPE_CHECKING:
    from pathlib import Path

    import networkx as nx

SUFFIXES = (".graphml", ".edgelist")
"""How the name of a graph file ends."""

MOST_BYTES = 16_000_000
"""Of a file; a million edges as a list."""

_SHOWN_PARTS = 5


def links_of_file(name: str, folder: Path, nodes: int) -> Links:
    """The links of the connected graph in the file `name`, looked up from `folder`."""
    place = f'[topology] kind = "{name}"'
    try:
        raw = read_bounded(folder / name, MOST_BYTES)
    except FileNotFoundError as error:
        raise ConfigError(f"{place}: there is no such file", hint=f"beside {folder}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{place}: cannot be read: {reason(error)}",
            hint=f"name a file that ends in {' or '.join(SUFFIXES)}",
        ) from error
    graph = _graphml(raw, place) if name.endswith(".graphml") else _edge_list(raw, place)
    _check(graph, place, nodes)
    number = {label: at for at, label in enumerate(_ordered(list(graph)))}
    return Links.between(nodes, ((number[one], number[other]) for one, other in graph.edges()))


def _graphml(raw: bytes, place: str) -> nx.Graph:
    import networkx as nx

    try:
        graph = nx.read_graphml(io.BytesIO(raw))
    except (SyntaxError, nx.NetworkXException, LookupError, ValueError, TypeError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"{place}: this is not GraphML: {said}") from error
    if graph.is_directed():
        raise ConfigError(
            f"{place}: the graph is directed, but links go both ways",
            hint='write edgedefault="undirected"',
        )
    return graph


def _edge_list(raw: bytes, place: str) -> nx.Graph:
    import networkx as nx

    try:
        lines = raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{place}: this is not text in UTF-8") from error
    graph = nx.Graph()
    for at, line in enumerate(lines, start=1):
        names = line.partition("#")[0].replace(",", " ").split()
        if len(names) == 1:
            raise ConfigError(f"{place}: line {at} has one name", hint="an edge has two")
        if len(names) > 2 and not names[2].startswith(("{", *"0123456789.")):
            raise ConfigError(
                f"{place}: line {at} has {len(names)} names",
                hint="an edge has two, without spaces; a weight may follow",
            )
        if names:
            graph.add_edge(*names[:2])
    return graph


def _check(graph: nx.Graph, place: str, nodes: int) -> None:
    import networkx as nx

    if len(graph) != nodes:
        raise ConfigError(
            f"{place}: the graph has {len(graph)} nodes, but [population] nodes = {nodes}",
            hint=f"write nodes = {len(graph)}" if len(graph) > 1 else "",
        )
    looped = next((label for label in graph if graph.has_edge(label, label)), None)
    if looped is not None:
        raise ConfigError(f"{place}: node `{looped}` is linked with itself", hint="leave that out")
    parts = sorted(map(len, nx.connected_components(graph)), reverse=True)
    if len(parts) > 1:
        sizes = [str(size) for size in parts[:_SHOWN_PARTS]]
        if len(parts) > _SHOWN_PARTS:
            sizes.append("…")
        raise ConfigError(
            f"{place}: the graph falls into {len(parts)} parts, of {', '.join(sizes)} nodes",
            hint="add links between them",
        )


def _ordered(labels: list[str]) -> list[str]:
    if all(label.isascii() and label.isdecimal() for label in labels):
        return sorted(labels, key=_size)
    return sorted(labels)


def _size(label: str) -> tuple[int, str, str]:
    """Orders whole numbers by size, however many digits they have; 007 comes after 7."""
    digits = label.lstrip("0")
    return len(digits), digits, "" if label == digits else label
