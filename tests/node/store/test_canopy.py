"""A tree whose leaves lie in a file gives the roots and proofs of one that is all in memory."""

from __future__ import annotations

import random

from konsil.node.store.canopy import Canopy
from konsil.protocol import merkle

LEAVES = [random.Random(n).randbytes(32) for n in range(1_500)]
SIZES = (1, 2, 255, 256, 257, 511, 512, 700, 1_024, 1_300, 1_500)


def grown(size):
    stored = list(LEAVES[:size])
    canopy = Canopy(lambda group: stored[256 * group : 256 * (group + 1)])
    for leaf in stored:
        canopy.append(leaf)
    return canopy


def test_every_root_and_proof_is_that_of_the_whole_tree():
    whole, canopy = merkle.Tree(LEAVES), grown(1_500)
    for old in SIZES:
        assert canopy.root(old) == whole.root(old)
        for size in (size for size in SIZES if size >= old):
            proof = merkle.consistency_proof(canopy, old, size)
            assert proof == whole.consistency(old, size)


def test_what_is_cut_off_leaves_the_tree_that_was_there_before():
    for size in (0, *SIZES):
        canopy = grown(1_500)
        canopy.root(1_400)
        canopy.cut(size)
        assert (canopy.size, canopy.root(size)) == (size, merkle.root_of(LEAVES[:size]))
        for leaf in LEAVES[size:1_500]:
            canopy.append(leaf)
        assert canopy.root(1_500) == merkle.root_of(LEAVES)
