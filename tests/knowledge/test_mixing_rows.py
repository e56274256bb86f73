"""Many mixes in memory: bit for bit what the kernel writes to files."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.knowledge import mixing
from konsil.knowledge.mixing import UNIT_E9, Part, mix, mix_rows
from konsil.protocol.errors import LocalProtocolError

ODD = np.array([-0.0, 0.0, np.inf, -np.inf, 1e-45, 3.4e38, -1.5], dtype=np.float32)


def one_by_one(folder, rows, parts, weights):
    """The same mixes, each from payloads on disk."""
    found = []
    for number, (chosen, shares) in enumerate(zip(parts.tolist(), weights.tolist(), strict=True)):
        sources = []
        for place, (row, weight) in enumerate(zip(chosen, shares, strict=True)):
            path = folder / f"{number}-{place}"
            path.write_bytes(safetensors.numpy.save({"row": rows[row]}))
            sources.append(Part(path, weight))
        out = folder / f"{number}-out"
        mix(sources, out)
        found.append(safetensors.numpy.load_file(out)["row"])
    return np.array(found)


def drawn(random, mixes, columns):
    """Weights that sum to one, many of them 0, sometimes the first as well."""
    cuts = np.sort(random.integers(0, UNIT_E9, (mixes, columns - 1), endpoint=True), axis=1)
    cuts[:, ::2] = cuts[:, ::2] * random.integers(0, 2, cuts[:, ::2].shape)
    edges = np.concatenate(
        [np.zeros((mixes, 1)), np.sort(cuts, 1), np.full((mixes, 1), UNIT_E9)], 1
    )
    return random.permuted(np.diff(edges.astype(np.int64), axis=1), axis=1)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 5), st.integers(1, 40))
def test_rows_are_mixed_to_the_bit(tmp_path_factory, seed, mixes, columns, width):
    random = np.random.default_rng(seed)
    rows = random.standard_normal((7, width)).astype(np.float32)
    rows[random.random(rows.shape) < 0.2] = random.choice(ODD)
    parts, weights = random.integers(0, 7, (mixes, columns)), drawn(random, mixes, columns)
    expected = one_by_one(tmp_path_factory.mktemp("rows"), rows, parts, weights)
    mixed = mix_rows(rows, parts, weights)
    # The bits of a NaN are those of the machine.
    both = [np.where(np.isnan(one), 0, one.view(np.uint32)) for one in (mixed, expected)]
    assert np.array_equal(*both)
    assert np.array_equal(np.isnan(mixed), np.isnan(expected))


@pytest.mark.parametrize("width", [mixing.BLOCK_ELEMENTS // 4 - 1, mixing.BLOCK_ELEMENTS + 3])
def test_blocks_make_no_difference(tmp_path, width):
    random = np.random.default_rng(5)
    rows = random.standard_normal((6, width)).astype(np.float32)
    parts = random.integers(0, 6, (9, 3))
    weights = np.tile([[500_000_000, 300_000_001, 199_999_999]], (9, 1))
    assert np.array_equal(
        mix_rows(rows, parts, weights), one_by_one(tmp_path, rows, parts, weights)
    )


def test_a_part_without_weight_is_not_read():
    rows = np.array([[-0.0, 1.0], [np.nan, np.inf]], dtype=np.float32)
    mixed = mix_rows(rows, np.array([[0, 1], [1, 0]]), np.array([[UNIT_E9, 0], [0, UNIT_E9]]))
    assert np.signbit(mixed[:, 0]).all()
    assert mixed.tolist() == [[0.0, 1.0], [0.0, 1.0]]


def test_no_mixes_are_no_rows():
    none = np.zeros((0, 3), dtype=np.int64)
    assert mix_rows(np.ones((2, 5), dtype=np.float32), none, none).shape == (0, 5)


@pytest.mark.parametrize("weights", [[UNIT_E9 - 1, 0], [UNIT_E9 + 1, -1], [0, 0]])
def test_weights_that_are_no_mix_are_refused(weights):
    with pytest.raises(LocalProtocolError, match="do not sum to"):
        mix_rows(np.ones((2, 2), dtype=np.float32), np.array([[0, 1]]), np.array([weights]))
