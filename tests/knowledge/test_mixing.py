"""The mixing kernel: exact, replayable, and unmoved by what has no weight."""

from __future__ import annotations

import hashlib
import json
import math
import struct
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.knowledge import mixing
from konsil.knowledge.mixing import UNIT_E9, Part, mix, quantise
from konsil.protocol.errors import LocalProtocolError, ManifestRefused, StorageError

GOLDEN = "5967b5d54e67aba976ff72c5c242fe9c3a0b7d03b01028b410f3b840e53bace2"


def payload(tensors: dict[str, tuple[str, np.ndarray]]) -> bytes:
    """Safetensors bytes of named arrays; written here so that the test needs no library."""
    header, data, begin = {}, b"", 0
    for name, (dtype, array) in tensors.items():
        raw = array.tobytes()
        offsets = [begin, begin + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
        data += raw
        begin += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def store(path, **arrays):
    kinds = {"f4": "F32", "f8": "F64", "f2": "F16", "i8": "I64", "u2": "BF16"}
    named = {name: (kinds[array.dtype.str[1:]], array) for name, array in arrays.items()}
    path.write_bytes(payload(named))
    return path


def values(path, dtype="<f4"):
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return np.frombuffer(raw[8 + length :], dtype)


def ramp(count: int, seed: int) -> np.ndarray:
    """Deterministic float32 values without any library's random numbers."""
    steps = (np.arange(count, dtype=np.int64) * 2654435761 + seed * 40503) % 65536
    return ((steps - 32768) / 4096).astype("<f4")


def test_golden_example_keeps_its_digest(tmp_path):
    for index in range(3):
        store(
            tmp_path / f"{index}.st",
            counter=np.array([7 + index], "<i8"),
            body=ramp(100_003, index).reshape(1, -1),
            head=ramp(5, 10 + index),
        )
    weights = quantise([0.5, 1 / 3, 1 / 6])
    parts = [Part(tmp_path / f"{i}.st", w) for i, w in enumerate(weights)]
    digest = mix(parts, tmp_path / "out.st", not_mixed=["head"])
    assert digest == hashlib.sha256((tmp_path / "out.st").read_bytes()).digest()
    assert digest.hex() == GOLDEN
    assert mix(parts, None, not_mixed=["head"]) == digest


def test_equals_the_sum_written_plainly(tmp_path):
    rows = [ramp(70_000, seed) for seed in range(4)]
    weights = quantise([0.4, 0.3, 0.2, 0.1])
    parts = [
        Part(store(tmp_path / f"{i}", x=row), w)
        for i, (row, w) in enumerate(zip(rows, weights, strict=True))
    ]
    mix(parts, tmp_path / "out")
    total = (weights[0] / 1e9) * rows[0].astype(np.float64)
    for weight, row in zip(weights[1:], rows[1:], strict=True):
        total = total + (weight / 1e9) * row.astype(np.float64)
    assert np.array_equal(values(tmp_path / "out"), total.astype("<f4"))


def test_integers_and_not_mixed_tensors_come_from_the_first_part(tmp_path):
    one = store(tmp_path / "1", n=np.array([3], "<i8"), w=ramp(4, 1), norm=ramp(3, 2))
    two = store(tmp_path / "2", n=np.array([9], "<i8"), w=ramp(4, 3), norm=ramp(3, 4))
    mix([Part(one, UNIT_E9 // 2), Part(two, UNIT_E9 // 2)], tmp_path / "out", not_mixed=["norm"])
    raw = (tmp_path / "out").read_bytes()
    assert np.frombuffer(raw[-3 * 4 - 4 * 4 - 8 : -28], "<i8")[0] == 3
    assert raw[-12:] == ramp(3, 2).tobytes()
    assert raw[-28:-12] == ((ramp(4, 1).astype("f8") + ramp(4, 3)) / 2).astype("<f4").tobytes()


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 3e38])
def test_a_part_without_weight_changes_not_one_bit(tmp_path, garbage):
    own = store(tmp_path / "own", x=ramp(9, 1))
    peer = store(tmp_path / "peer", x=ramp(9, 2))
    bad = store(tmp_path / "bad", x=np.full(9, garbage, "<f4"))
    parts = [Part(own, 600_000_000), Part(peer, 400_000_000)]
    without = mix(parts, tmp_path / "a")
    assert mix([*parts, Part(bad, 0)], tmp_path / "b") == without
    assert mix([parts[0], Part(bad, 0), parts[1]], tmp_path / "c") == without


def test_the_own_model_alone_is_copied_bit_for_bit(tmp_path):
    own = store(tmp_path / "own", x=np.array([0.0, -0.0, 1e-45, 3.4e38, 1.1], "<f4"))
    peer = store(tmp_path / "peer", x=ramp(5, 2))
    mix([Part(own, UNIT_E9), Part(peer, 0)], tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == own.read_bytes()


def test_the_same_tensors_in_another_order_mix_by_name(tmp_path):
    one = store(tmp_path / "1", a=ramp(40, 1), b=ramp(50, 2))
    two = store(tmp_path / "2", b=ramp(50, 2), a=ramp(40, 1))
    mix([Part(one, UNIT_E9 // 4), Part(two, 3 * UNIT_E9 // 4)], tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == one.read_bytes()


def exactly_rounded(value: float) -> int:
    """The bfloat16 bits nearest to a float64, ties to even, by exact fractions."""
    grid = [(Fraction(bits_to_float(b)), b) for b in range(0x3F00, 0x4100)]
    distance = [(abs(Fraction(value) - point), bits & 1, bits) for point, bits in grid]
    return min(distance)[2]


def bits_to_float(bits: int) -> float:
    return struct.unpack("<f", struct.pack("<I", bits << 16))[0]


@settings(max_examples=40, deadline=None)
@given(st.floats(0.6, 7.0))
def test_bfloat16_is_rounded_once(value):
    assert int(mixing._narrow_bfloat16(np.array([value]))[0]) == exactly_rounded(value)


def test_bfloat16_does_not_round_twice():
    midpoint = (Fraction(bits_to_float(0x3F80)) + Fraction(bits_to_float(0x3F81))) / 2
    just_above = math.nextafter(float(midpoint), 2.0)
    assert np.float32(just_above) == float(midpoint)
    assert int(mixing._narrow_bfloat16(np.array([just_above]))[0]) == 0x3F81
    assert int(mixing._narrow_bfloat16(np.array([float(midpoint)]))[0]) == 0x3F80


def test_bfloat16_edges():
    with np.errstate(over="ignore"):
        edges = mixing._narrow_bfloat16(
            np.array([0.0, -0.0, math.inf, -math.inf, math.nan, 1e300, -1e300])
        )
    assert edges.tolist() == [0, 0x8000, 0x7F80, 0xFF80, 0x7FC0, 0x7F80, 0xFF80]


@pytest.mark.parametrize("dtype", ["<f2", "<f8"])
def test_half_and_double_are_mixed_in_double(tmp_path, dtype):
    one = store(tmp_path / "1", x=ramp(999, 1).astype(dtype))
    two = store(tmp_path / "2", x=ramp(999, 2).astype(dtype))
    mix([Part(one, 700_000_000), Part(two, 300_000_000)], tmp_path / "out")
    wanted = 0.7 * ramp(999, 1).astype(dtype).astype("f8") + 0.3 * ramp(999, 2).astype(
        dtype
    ).astype("f8")
    assert np.array_equal(values(tmp_path / "out", dtype), wanted.astype(dtype))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_quantised_weights_sum_exactly(raw):
    total = sum(raw) or 1.0
    others = [weight / total * 0.9 for weight in raw]
    whole = quantise([1.0 - sum(others), *others])
    assert sum(whole) == UNIT_E9
    assert all(abs(w / 1e9 - o) <= 1e-9 for w, o in zip(whole[1:], others, strict=True))


@pytest.mark.parametrize("weights", [[], [0.5, 0.4], [math.nan, 1.0], [math.inf]])
def test_wrong_weights_are_our_bug(weights):
    with pytest.raises(LocalProtocolError, match="weights"):
        quantise(weights)


def test_refusals(tmp_path):
    own = store(tmp_path / "own", x=ramp(5, 1))
    other = store(tmp_path / "other", x=ramp(6, 1))
    half = UNIT_E9 // 2
    with pytest.raises(LocalProtocolError, match="sum to 500000000"):
        mix([Part(own, half)], tmp_path / "out")
    with pytest.raises(ManifestRefused, match="other has other tensors than"):
        mix([Part(own, half), Part(other, half)], tmp_path / "out")
    with pytest.raises(LocalProtocolError, match="not_mixed names 'y'"):
        mix([Part(own, UNIT_E9)], tmp_path / "out", not_mixed=["y"])
    (tmp_path / "torn").write_bytes(own.read_bytes()[:-1])
    with pytest.raises(ManifestRefused):
        mix([Part(tmp_path / "torn", UNIT_E9)], tmp_path / "out")
    with pytest.raises(StorageError, match="gone"):
        mix([Part(tmp_path / "gone", UNIT_E9)], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    mix([Part(own, UNIT_E9)], tmp_path / "out")
    with pytest.raises(StorageError, match="exists"):
        mix([Part(own, UNIT_E9)], tmp_path / "out")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ManifestRefused):
        mix([Part(tmp_path / "empty", UNIT_E9)], tmp_path / "out")


def test_memory_does_not_grow_with_the_model(tmp_path):
    rows = np.zeros(6_000_000, "<f4")
    for index in range(6):
        store(tmp_path / str(index), x=rows + index)
    program = (
        "import resource, sys; from pathlib import Path; import numpy;"
        "from konsil.knowledge.mixing import Part, mix, quantise;"
        f"home = Path({str(tmp_path)!r});"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "mix([Part(home / str(i), w) for i, w in enumerate(quantise([1/6] * 6))], home / 'out');"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "print(after - before, 'torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    grown, has_torch = answer.stdout.split()
    assert int(grown) < 3 * 24_000, "kilobytes resident: more than three models"
    assert has_torch == "False"


def test_vectors_count_as_the_models_that_they_make_of_the_base(tmp_path):
    base, own, step = ramp(5000, 1), ramp(5000, 2), ramp(5000, 3) / np.float32(1024)
    counter = np.array([7], dtype="<i8")
    parts = [
        Part(store(tmp_path / "own", w=own, steps=counter), 700_000_000),
        Part(store(tmp_path / "base", w=base, steps=counter), 300_000_000),
    ]
    vector = Part(store(tmp_path / "vector", w=step), 300_000_000)
    mix(parts, tmp_path / "out", vectors=[vector])
    exact = 0.7 * own.astype(float) + 0.3 * (base.astype(float) + step.astype(float))
    assert np.abs(values(tmp_path / "out")[:5000] - exact).max() < 1e-6
    silent = mix(parts, None, vectors=[Part(vector.path, 0)])
    assert silent == mix(parts, None)
    assert silent != mix(parts, None, vectors=[vector])


@pytest.mark.parametrize("odd", ["longer", "other", "whole"])
def test_a_vector_that_is_no_difference_of_these_models_is_refused(tmp_path, odd):
    counter = np.array([7], dtype="<i8")
    own = Part(store(tmp_path / "own", w=ramp(8, 1), steps=counter), UNIT_E9)
    held = {
        "longer": {"w": ramp(9, 2)},
        "other": {"v": ramp(8, 2)},
        "whole": {"w": ramp(8, 2), "steps": counter},
    }
    vector = Part(store(tmp_path / "vector", **held[odd]), 1)
    with pytest.raises(ManifestRefused, match="no difference of two models"):
        mix([own], None, vectors=[vector])


def test_what_is_not_mixed_is_not_in_a_vector(tmp_path):
    own = Part(store(tmp_path / "own", w=ramp(8, 1), running=ramp(8, 4)), UNIT_E9)
    vector = Part(store(tmp_path / "vector", w=ramp(8, 2)), 5_000_000)
    mix([own], tmp_path / "out", vectors=[vector], not_mixed=["running"])
    with pytest.raises(ManifestRefused, match="no difference"):
        mix([own], None, vectors=[vector])
    assert (values(tmp_path / "out")[8:] == ramp(8, 4)).all()
