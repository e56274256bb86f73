"""Tensor tables: what safetensors writes is read, and nothing that lies about its size."""

import hashlib
import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol.errors import LimitExceeded, ManifestRefused, RemoteError
from konsil.protocol.limits import GIB, MIB, Limits
from konsil.protocol.tensors import (
    DTYPE_BYTES,
    TensorSpec,
    architecture,
    header_length,
    read_table,
)


def payload(header, data=b""):
    """A payload with this header (an object, or the very text) in front of the data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode("utf-8")
    return len(text).to_bytes(8, "little") + text + data


def entry(begin, end, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def read(header, data_bytes=0, **limits):
    head = payload(header)
    return read_table(head, len(head) + data_bytes, limits=Limits(**limits))


GOOD = {"b": entry(0, 8, [2]), "a": entry(8, 24, [2, 2]), "c": entry(24, 26, [2], "U8")}


def test_a_table_lists_the_tensors_in_the_order_of_their_data():
    table = read(GOOD, 26)
    assert [spec.name for spec in table.tensors] == ["b", "a", "c"]
    assert table.tensors[1] == TensorSpec(name="a", dtype="F32", shape=(2, 2), begin=8, end=24)
    assert table.payload_bytes == 8 + table.header_bytes + 26
    assert table.header_bytes == len(json.dumps(GOOD))


def test_scalars_empty_tensors_and_padding():
    header = {"s": entry(0, 4, []), "e": entry(4, 4, [3, 0]), "f": entry(4, 8, [1, 1])}
    text = json.dumps(header).encode("ascii") + b"   "
    assert [spec.name for spec in read(text, 8).tensors] == ["s", "e", "f"]
    assert read({}, 0).tensors == ()


def test_the_head_may_be_longer_than_the_header():
    data = payload(GOOD, bytes(26))
    assert read_table(data, len(data)) == read(GOOD, 26)


def test_what_the_library_writes_is_read():
    library = pytest.importorskip("safetensors.numpy")
    numpy = pytest.importorskip("numpy")
    arrays = {
        "weight": numpy.zeros((3, 2), numpy.float32),
        "a.count": numpy.zeros((), numpy.int64),
        "flag": numpy.zeros(3, numpy.bool_),
        "empty": numpy.zeros((0, 4), numpy.float64),
        "half": numpy.zeros(5, numpy.float16),
    }
    data = library.save(arrays)
    table = read_table(data[: 8 + header_length(data)], len(data))
    assert {spec.name: spec.shape for spec in table.tensors} == {
        name: array.shape for name, array in arrays.items()
    }
    assert all(spec.end - spec.begin == arrays[spec.name].nbytes for spec in table.tensors)
    marked = library.save(arrays, metadata={"from": "us"})
    with pytest.raises(ManifestRefused, match="metadata"):
        read_table(marked, len(marked))


@pytest.mark.parametrize(
    ("header", "data_bytes", "reason"),
    [
        ({"__metadata__": {}, **GOOD}, 26, "metadata"),
        (GOOD, 25, "cover 26 of 25"),
        (GOOD, 27, "cover 26 of 27"),
        ({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, 12, "overlaps"),
        ({"a": entry(0, 8, [2]), "b": entry(0, 8, [2])}, 8, "overlaps"),
        ({"a": entry(0, 8, [2]), "b": entry(12, 20, [2])}, 20, "gap"),
        ({"a": entry(4, 12, [2])}, 12, "gap"),
        ({"a": entry(8, 0, [2])}, 8, "claims -8 bytes"),
        ({"a": entry(0, 12, [2])}, 12, "claims 12 bytes; its shape has 8"),
        ({"a": entry(0, 8, [2], "F33")}, 8, "unknown dtype"),
        ({"a": entry(0, 8, [2], "f32")}, 8, "unknown dtype"),
        ({"a": entry(0, 8, [-2])}, 8, r"\.shape\[0\]"),
        ({"a": entry(-8, 0, [2])}, 0, "data_offsets"),
        ({"a": entry(0, 0, [2**62, 4])}, 0, r"\$\[...\].shape"),
        ({"a": entry(0, 0, [2**64])}, 0, r"\$\[...\].shape"),
        ({"a": entry(0, 0, [10**40])}, 0, r"\$\[...\].shape"),
        ({"a": entry(0, 0, [2**32, 2**32])}, 0, "its shape has"),
        ({"a": entry(0, 8, [True])}, 8, "shape"),
        ({"a": entry(0, 8, [2.0])}, 8, "not an integer"),
        ({"a": entry(0, 8, "2")}, 8, "shape"),
        ({"a": {"dtype": "F32", "shape": [2]}}, 8, "data_offsets"),
        ({"a": {**entry(0, 8, [2]), "extra": 1}}, 8, "extra"),
        ({"a": {**entry(0, 8, [2]), "data_offsets": [0, 8, 9]}}, 8, "data_offsets"),
        ({"a": 1}, 0, "header"),
        ({"": entry(0, 8, [2])}, 8, "no name"),
        ({"a\nb": entry(0, 8, [2])}, 8, "no name"),
        ({"\ud800": entry(0, 8, [2])}, 8, "no name"),
        ({"e\u0301": entry(0, 8, [2])}, 8, "no name"),
        ({"é" * 129: entry(0, 8, [2])}, 8, "no name"),
        (b"", 0, "one JSON object"),
        (b"[]", 0, "one JSON object"),
        (b" {}", 0, "one JSON object"),
        (b"{}\n", 0, "one JSON object"),
        (b"{}x{}", 0, "not JSON"),
        (b'{"a":NaN}', 0, "not an integer"),
        (b'{"\xff":1}', 0, "not JSON"),
        (b'{"a":1,"a":1}', 0, "twice"),
        (b'{"a":{"dtype":"F32","dtype":"F32"}}', 0, "twice"),
        (b'{"a":{"dtype":"F32","shape":[%s],"data_offsets":[0,8]}}' % (b"9" * 5000), 8, "not JSON"),
        (b'{"a":' + b"[" * 20_000 + b"}", 0, "not JSON"),
    ],
)
def test_lies_are_refused(header, data_bytes, reason):
    with pytest.raises(ManifestRefused, match=reason):
        read(header, data_bytes)


def test_a_refusal_never_repeats_control_characters():
    loud = {"a": {**entry(0, 8, [2]), "\x1b[2J" + "x" * 9999: 1}}
    with pytest.raises(ManifestRefused) as refused:
        read(loud, 8)
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 300


def test_a_payload_that_ends_early_is_refused():
    data = payload(GOOD, bytes(26))
    with pytest.raises(ManifestRefused, match="no header"):
        read_table(b"\x00" * 7, 7)
    with pytest.raises(ManifestRefused, match="inside its header"):
        read_table(data[:20], len(data))
    with pytest.raises(ManifestRefused, match="inside its header"):
        read_table(data, 20)


def test_limits():
    with pytest.raises(LimitExceeded, match="tensor header of 18446744073709551615"):
        header_length(b"\xff" * 8)
    with pytest.raises(LimitExceeded, match="tensor header"):
        read(GOOD, 26, tensor_header_bytes=20)
    with pytest.raises(LimitExceeded, match="payload of"):
        read(GOOD, 26, payload_bytes=30)
    with pytest.raises(LimitExceeded, match="payload of"):
        read_table(payload(GOOD), 4 * GIB + 1)
    with pytest.raises(LimitExceeded, match="2 tensors"):
        read(GOOD, 26, tensors=2)
    assert len(read(GOOD, 26, tensors=3).tensors) == 3
    with pytest.raises(LimitExceeded, match="9 dimensions"):
        read({"a": entry(0, 4, [1] * 9)}, 4)
    assert read({"a": entry(0, 4, [1] * 8)}, 4).tensors[0].shape == (1,) * 8
    with pytest.raises(ManifestRefused, match="no name"):
        read({"abc": entry(0, 4, [1])}, 4, tensor_name_bytes=2)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * MIB,
        b'{"a":' + b"[" * (MIB - 6) + b"}",
        b'{"a":[' + b"1," * (MIB // 2 - 8) + b"1]}",
        b'{"a":' * (MIB // 5 - 1) + b"1}",
        b'{"a":[' + b"{}," * (MIB // 3 - 8) + b"1]}",
    ],
)
def test_no_header_allocates_beyond_the_limits(text):
    head = payload(text)
    tracemalloc.start()
    try:
        with pytest.raises(RemoteError):
            read_table(head, len(head))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * MIB


def test_architecture_is_names_dtypes_and_shapes():
    one = read(GOOD, 26)
    moved = {"c": entry(0, 2, [2], "U8"), "a": entry(2, 18, [2, 2]), "b": entry(18, 26, [2])}
    assert architecture(read(moved, 26)) == architecture(one)
    different = [
        {**GOOD, "d": entry(26, 26, [0])},
        {"x": GOOD["b"], "a": GOOD["a"], "c": GOOD["c"]},
        {**GOOD, "b": entry(0, 8, [2], "I32")},
        {**GOOD, "a": entry(8, 24, [4])},
        {**GOOD, "a": entry(8, 24, [2, 2, 1])},
    ]
    digests = {architecture(read(header, 26)) for header in different}
    assert len(digests | {architecture(one)}) == 6
    # The rows as another writer of MessagePack has them, each behind its length.
    rows = [
        b"\x93\xa1a\xa3F32\x92\x02\x02",
        b"\x93\xa1b\xa3F32\x91\x02",
        b"\x93\xa1c\xa2U8\x91\x02",
    ]
    parts = b"".join(len(row).to_bytes(8, "big") + row for row in rows)
    assert architecture(one) == hashlib.sha256(b"konsil architecture\n" + parts).digest()


SHAPES = st.dictionaries(
    st.text("abc.0", min_size=1, max_size=4),
    st.tuples(st.sampled_from(sorted(DTYPE_BYTES)), st.lists(st.integers(0, 4), max_size=3)),
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.randoms())
def test_any_contiguous_order_is_read_and_any_other_size_refused(shapes, order):
    names = list(shapes)
    order.shuffle(names)
    header, reached = {}, 0
    for name in names:
        dtype, shape = shapes[name]
        size = DTYPE_BYTES[dtype]
        for length in shape:
            size *= length
        header[name] = entry(reached, reached + size, shape, dtype)
        reached += size
    order.shuffle(names)
    header = {name: header[name] for name in names}
    table = read(header, reached)
    assert {spec.name: (spec.dtype, list(spec.shape)) for spec in table.tensors} == shapes
    with pytest.raises(ManifestRefused):
        read(header, reached + 1)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_header_does_anything_but_be_read_or_refused(draw):
    text = bytearray(json.dumps(GOOD).encode("ascii"))
    for _ in range(draw.draw(st.integers(1, 3))):
        text[draw.draw(st.integers(0, len(text) - 1))] = draw.draw(st.integers(0, 255))
    try:
        table = read(bytes(text), 26)
    except RemoteError:
        return
    assert sum(spec.end - spec.begin for spec in table.tensors) == 26
