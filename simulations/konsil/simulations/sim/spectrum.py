"""Spectrum: how fast models that are mixed over a graph come to agree.

W has the Metropolis weight of every link that daemons use, and on its diagonal what is left to
one. A round x → W x keeps the mean where W is symmetric, and what the nodes differ by shrinks by
the second largest modulus ρ of W's eigenvalues: the spectral gap is 1 - ρ (Xiao and Boyd,
"Fast linear iterations for distributed averaging", 2004).

Where the graph changes, the squared disagreement shrinks on average by the second largest
eigenvalue of E[Wᵀ W] (Boyd, Ghosh, Prabhakar, Shah, "Randomized gossip algorithms", 2006), whose
square root takes the place of ρ. Our changing kinds treat all nodes alike, so that E[Wᵀ W] has
only one eigenvalue beside that of the mean, and it is the mean of its diagonal there.

Only honest, complete mixing is described: no trust, no faults.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge.split import random_source
from konsil.trust.fixed import UNIT_E9
from konsil.trust.weights import metropolis_e9

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt
    from scipy.sparse import csr_array

    from konsil.simulations.sim.graphs import Graphs
    from konsil.simulations.sim.links import Links

    Vector = npt.NDArray[np.float64]

SAMPLE = 10
"""Graphs that stand for all of those that a changing topology may show."""

_DENSE_NODES = 500
"""Up to here all eigenvalues and directions are looked at."""
_DIRECTIONS = 32
"""Above, so many random ones where the graph changes."""
_LONGEST = 32
"""A graph that stays for more rounds is taken to stay for these."""
_SHRINKS_BY = 1000
_BASIS = 40
_RESTARTS = 40
_SHIFT = 1e-6
_NOTHING = 1e-9


def metropolis(links: Links) -> csr_array:
    """W, (nodes × nodes), sparse: every row sums to one; symmetric where the links are."""
    from scipy.sparse import csr_array

    degrees = links.degrees
    weights = metropolis_e9(degrees[links.receiver], degrees[links.sender]) / UNIT_E9
    own = 1 - np.bincount(links.receiver, weights=weights, minlength=links.nodes)
    every = np.arange(links.nodes)
    places = (np.r_[links.receiver, every], np.r_[links.sender, every])
    return csr_array((np.r_[weights, own], places), shape=(links.nodes, links.nodes))


def spectral_gap(links: Links) -> float:
    """1 - ρ of one undirected graph, in [0, 1]; 0 where it is not connected."""
    matrix = metropolis(links)
    if links.nodes <= _DENSE_NODES:
        values = np.linalg.eigvalsh(matrix.toarray())
        return _gap(max(abs(values[0]), abs(values[-2])))
    return _gap(_second_modulus(matrix))


def mean_gap(rounds: Iterable[Links], lasts: int = 1) -> float:
    """1 - the root mean square contraction in a round, over these graphs and all directions.

    Each graph stays for `lasts` rounds. Links may be directed; the nodes' own mean may move
    then, and disagreement is that with it.
    """
    power = min(lasts, _LONGEST)
    shrunk = [_shrunk(metropolis(links), power) for links in rounds]
    return _gap(float(np.mean(shrunk)) ** (0.5 / power))


def gap_of(graphs: Graphs) -> float:
    """The spectral gap of a topology, fixed or changing."""
    if graphs.lasts is None:
        return spectral_gap(graphs.at(1))
    return mean_gap([graphs.at(1 + at * graphs.lasts) for at in range(SAMPLE)], graphs.lasts)


def mixing_rounds(gap: float) -> float:
    """Rounds until disagreement is a thousandth: ``ln 1000 / ln(1 / (1 - gap))``, at least one.

    Boyd, Ghosh, Prabhakar and Shah (2006) show that the averaging time is this, up to a constant
    factor. Infinite where the gap is 0.

    >>> round(mixing_rounds(0.1), 1), mixing_rounds(1.0), mixing_rounds(0.0)
    (65.6, 1.0, inf)
    """
    if gap <= 0:
        return math.inf
    if gap >= 1 - 1 / _SHRINKS_BY:
        return 1.0
    return -math.log(_SHRINKS_BY) / math.log1p(-gap)


def _gap(modulus: float) -> float:
    return min(max(1 - float(modulus), 0.0), 1.0)


def _shrunk(matrix: csr_array, power: int) -> float:
    """Share of the squared disagreement that is left after `power` rounds of one graph."""
    nodes = matrix.shape[0]
    if nodes <= _DENSE_NODES:
        values = np.eye(nodes)
    else:
        values = random_source("directions").standard_normal((nodes, _DIRECTIONS))
    values = values - values.mean(axis=0)
    before = np.square(values).sum()
    for _ in range(power):
        values = matrix @ values
    return float(np.square(values - values.mean(axis=0)).sum() / before)


def _largest(operator: Callable[[Vector], Vector], nodes: int) -> float:
    """The eigenvalue of the largest modulus of a symmetric operator (Lanczos)."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    if np.linalg.norm(operator(_start(nodes))) < _NOTHING:
        return 0.0
    [value] = eigsh(
        LinearOperator((nodes, nodes), matvec=operator, dtype=np.float64),
        k=1, which="LM", v0=_start(nodes), ncv=_BASIS, maxiter=_RESTARTS, tol=1e-9,
        return_eigenvectors=False,
    )  # fmt: skip
    return float(value)


def _second_modulus(matrix: csr_array) -> float:
    """By Lanczos; where that converges slowly, the graph is easy to cut, and thus to factor.

    Then only the upper end is looked at. The lower one is not as far out, for by Gershgorin no
    eigenvalue is below 2 min W_ii - 1, unless a node has more links than twice the inverse gap.
    """
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    nodes = matrix.shape[0]
    try:
        return abs(_largest(lambda values: matrix @ values - values.mean(), nodes))
    except ArpackNoConvergence:
        values = eigsh(
            matrix.tocsc(), k=2, sigma=1 + _SHIFT, v0=_start(nodes), return_eigenvectors=False
        )
        return float(min(values))


def _start(nodes: int) -> Vector:
    return random_source("spectral gap").standard_normal(nodes)
