"""The tree against its definition (RFC 6962 §2.1) and against foreign proof vectors."""

from __future__ import annotations

import base64
import json
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import merkle
from konsil.protocol.errors import LocalProtocolError, ManifestRefused

LEAVES = [merkle.leaf_hash(bytes([index])) for index in range(70)]


def definition(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = definition(leaves[:split]), definition(leaves[split:])
    return sha256(b"\x01" + left + right).digest()


def test_leaf_and_node_are_separated_by_a_prefix():
    assert merkle.leaf_hash(b"") == sha256(b"\x00").digest()
    assert merkle.node_hash(b"a", b"b") == sha256(b"\x01ab").digest()


def test_root_equals_the_definition_at_every_size():
    tree = merkle.Tree(LEAVES)
    for size in range(len(LEAVES) + 1):
        expected = definition(LEAVES[:size])
        assert merkle.root_of(LEAVES[:size]) == expected
        assert tree.root(size) == expected
        assert merkle.Tree(LEAVES[:size]).root() == expected


def test_the_right_edge_alone_has_the_root_of_the_tree():
    tree, peaks = merkle.Tree(LEAVES), merkle.Peaks()
    for size in range(len(LEAVES)):
        assert peaks.root() == tree.root(size)
        begun = merkle.Peaks((at[0], tree.node(*at)) for at in merkle.cover(0, size))
        assert begun.root() == tree.root(size)
        for one in (peaks, begun):
            one.push(LEAVES[size])
            assert one.root() == tree.root(size + 1)


def test_append_tells_the_index_and_the_tree_its_size():
    tree = merkle.Tree()
    assert [tree.append(leaf) for leaf in LEAVES[:5]] == [0, 1, 2, 3, 4]
    assert tree.size == 5


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.data())
def test_every_proof_verifies_and_no_other_statement_does(size, data):
    tree = merkle.Tree(LEAVES[:size])
    root = tree.root()
    index = data.draw(st.integers(0, size - 1))
    proof = tree.inclusion(index)
    merkle.verify_inclusion(LEAVES[index], index, size, proof, root)
    other = data.draw(st.integers(0, size + 2).filter(lambda value: value != index))
    with pytest.raises(ManifestRefused):
        merkle.verify_inclusion(LEAVES[index], other, size, proof, root)
    with pytest.raises(ManifestRefused):
        merkle.verify_inclusion(LEAVES[index], index, size, [*proof, root], root)
    with pytest.raises(ManifestRefused):
        merkle.verify_inclusion(merkle.leaf_hash(b"x"), index, size, proof, root)

    old = data.draw(st.integers(1, size))
    consistency = tree.consistency(old)
    merkle.verify_consistency(old, size, consistency, tree.root(old), root)
    with pytest.raises(ManifestRefused):
        merkle.verify_consistency(old, size, consistency, merkle.leaf_hash(b"x"), root)
    with pytest.raises(ManifestRefused):
        merkle.verify_consistency(old, size, [*consistency, root], tree.root(old), root)
    if consistency:
        with pytest.raises(ManifestRefused):
            merkle.verify_consistency(old, size, consistency[:-1], tree.root(old), root)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 70), st.data())
def test_one_flipped_bit_of_a_proof_is_refused(size, data):
    tree = merkle.Tree(LEAVES[:size])
    index = data.draw(st.integers(0, size - 1))
    proof = tree.inclusion(index)
    place = data.draw(st.integers(0, len(proof) - 1))
    bit = data.draw(st.integers(0, 255))
    flipped = bytearray(proof[place])
    flipped[bit // 8] ^= 1 << bit % 8
    proof[place] = bytes(flipped)
    with pytest.raises(ManifestRefused):
        merkle.verify_inclusion(LEAVES[index], index, size, proof, tree.root())


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_hash_of_another_length_is_refused(size):
    tree = merkle.Tree(LEAVES[:3])
    proof = tree.inclusion(1)
    with pytest.raises(ManifestRefused, match="32 bytes"):
        merkle.verify_inclusion(LEAVES[1], 1, 3, [proof[0], bytes(size)], tree.root())
    with pytest.raises(ManifestRefused, match="32 bytes"):
        merkle.verify_inclusion(bytes(size), 1, 3, proof, tree.root())
    with pytest.raises(ManifestRefused, match="32 bytes"):
        merkle.verify_consistency(2, 3, tree.consistency(2), bytes(size), tree.root())
    with pytest.raises(LocalProtocolError):
        tree.append(bytes(size))
    with pytest.raises(LocalProtocolError):
        merkle.root_of([bytes(size)])


def test_an_inner_node_is_no_leaf():
    tree = merkle.Tree(LEAVES[:4])
    inner = tree.node(1, 0)
    with pytest.raises(ManifestRefused):
        merkle.verify_inclusion(inner, 0, 4, [tree.node(1, 1)], tree.root())


def test_nothing_is_proven_from_an_empty_tree():
    tree = merkle.Tree(LEAVES[:4])
    with pytest.raises(ManifestRefused):
        merkle.verify_consistency(0, 4, [], merkle.EMPTY_ROOT, tree.root())
    with pytest.raises(LocalProtocolError):
        tree.consistency(0)


def test_asking_beyond_the_tree_is_our_bug():
    tree = merkle.Tree(LEAVES[:4])
    for ask in (
        lambda: tree.inclusion(4),
        lambda: tree.inclusion(0, 5),
        lambda: tree.consistency(5, 4),
        lambda: tree.consistency(1, 5),
        lambda: tree.root(5),
    ):
        with pytest.raises(LocalProtocolError):
            ask()


def vectors(data_folder, name):
    folder = data_folder / "merkle_vectors"
    if not folder.is_dir():
        pytest.skip(f"no proof vectors: {folder} is missing")
    return json.loads((folder / f"{name}.json").read_text())


def decoded(case, *names):
    return [base64.b64decode(case[name]) for name in names]


def test_foreign_inclusion_vectors(data_folder):
    cases = vectors(data_folder, "inclusion")
    for case in cases:
        root, leaf = decoded(case, "root", "leafHash")
        proof = [base64.b64decode(item) for item in case["proof"] or []]
        check = (leaf, case["leafIdx"], case["treeSize"], proof, root)
        if case["wantErr"]:
            with pytest.raises(ManifestRefused):
                merkle.verify_inclusion(*check)
        else:
            merkle.verify_inclusion(*check)
    assert {case["wantErr"] for case in cases} == {True, False}


def test_foreign_consistency_vectors(data_folder):
    agreed = short = 0
    for case in vectors(data_folder, "consistency"):
        old, new = decoded(case, "root1", "root2")
        proof = [base64.b64decode(item) for item in case["proof"] or []]
        check = (case["size1"], case["size2"], proof, old, new)
        if case["wantErr"]:
            with pytest.raises(ManifestRefused):
                merkle.verify_consistency(*check)
        elif {len(old), len(new)} != {32}:
            with pytest.raises(ManifestRefused, match="32 bytes"):
                merkle.verify_consistency(*check)
            short += 1
            continue
        else:
            merkle.verify_consistency(*check)
        agreed += 1
    assert short == 1, "exactly one vector has dummy roots, which our 32-byte rule refuses"
    assert agreed > 90
