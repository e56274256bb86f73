"""NPZ files of others: headers are checked before room is made, nothing in them is executed."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from konsil.knowledge.data.arrays import Wanted, read_arrays, read_images
from konsil.protocol.errors import ConfigError

X = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def write(path, **arrays):
    np.savez(path, **{"x": X, "y": np.array([0, 1]), **arrays})
    return path


def write_raw(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def header(shape, descr="<f8", version=(1, 0)):
    stream = io.BytesIO()
    fields = {"descr": descr, "fortran_order": False, "shape": shape}
    if version == (1, 0):
        np.lib.format.write_array_header_1_0(stream, fields)
    else:
        np.lib.format.write_array_header_2_0(stream, fields)
    return stream.getvalue()


def test_wanted_arrays_are_read_as_written_and_others_not_at_all(tmp_path):
    path = write(tmp_path / "a.npz", other=np.array([1.5]), z=np.asfortranarray(X))
    found = read_arrays(path, {"x": Wanted("u"), "z": Wanted("u"), "w": Wanted("f", optional=True)})
    assert set(found) == {"x", "z"}
    assert np.array_equal(found["x"], X)
    assert np.array_equal(found["z"], X)


def test_a_small_file_cannot_ask_for_much_memory(tmp_path):
    huge = header((10**12, 10**3))
    path = write_raw(tmp_path / "a.npz", x=huge)
    assert path.stat().st_size < 1000
    with pytest.raises(ConfigError, match="need more than"):
        read_arrays(path, {"x": Wanted("f")})
    with pytest.raises(ConfigError, match="need more than 15 bytes"):
        read_arrays(write(tmp_path / "b.npz"), {"y": Wanted("i")}, most_bytes=15)


def test_the_bound_is_for_all_arrays_together(tmp_path):
    path = write(tmp_path / "a.npz", one=np.zeros(10), two=np.zeros(10))
    wanted = {"one": Wanted("f"), "two": Wanted("f")}
    assert len(read_arrays(path, wanted, most_bytes=160)) == 2
    with pytest.raises(ConfigError, match="more than 159 bytes"):
        read_arrays(path, wanted, most_bytes=159)


def test_objects_are_never_opened(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.array([{"a": 1}, None], dtype=object))
    for kinds in ("fiu", "O"):
        with pytest.raises(ConfigError):
            read_arrays(path, {"x": Wanted(kinds)})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"no array at all", "cannot read"),
        (b"", "cannot read"),
        (header((3,)) + b"1234", "cannot read"),
        (header((-3,)), "shape"),
        (header((2,), version=(2, 0)) + bytes(16), ""),
        (header((3,)).replace(b"\x01\x00", b"\x03\x00", 1), "NPY version"),
    ],
)
def test_a_damaged_array_is_one_clear_line(tmp_path, content, told):
    path = write_raw(tmp_path / "a.npz", x=content)
    if not told:
        assert read_arrays(path, {"x": Wanted("f")})["x"].tolist() == [0, 0]
        return
    with pytest.raises(ConfigError, match=told) as caught:
        read_arrays(path, {"x": Wanted("f")})
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.diagnostics()


def test_what_is_no_zip_or_is_cut_or_absent_is_named(tmp_path):
    whole = write(tmp_path / "a.npz").read_bytes()
    for name, content in (("text.npz", b"hello"), ("cut.npz", whole[:-30]), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=name):
            read_arrays(tmp_path / name, {"x": Wanted("u")})
    with pytest.raises(ConfigError, match=r"none\.npz"):
        read_arrays(tmp_path / "none.npz", {"x": Wanted("u")})


def test_a_flipped_bit_is_found(tmp_path):
    path = write(tmp_path / "a.npz", x=np.arange(1000, dtype=np.uint8).reshape(10, 10, 10))
    content = bytearray(path.read_bytes())
    content[600] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="CRC"):
        read_arrays(path, {"x": Wanted("u")})


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"z": Wanted("u")}, "no array `z`"),
        ({"x": Wanted("f")}, "holds uint8"),
        ({"x": Wanted("u", (None, 3))}, r"shape \(2, 3, 4\), not \(n, 3\)"),
        ({"x": Wanted("u", (None, 3, 5))}, r"not \(n, 3, 5\)"),
    ],
)
def test_another_type_or_shape_is_named(tmp_path, wanted, told):
    with pytest.raises(ConfigError, match=told):
        read_arrays(write(tmp_path / "a.npz"), wanted)


def test_own_images_in_grey_and_in_colour(tmp_path):
    grey = read_images(write(tmp_path / "ward.npz"), ("a", "b"))
    assert grey.shape == (1, 3, 4)
    assert np.array_equal(grey.inputs[:, 0], X.astype(np.float32) / np.float32(255))
    assert grey.patients == ("ward/row-0", "ward/row-1")
    assert grey.sites == ("ward", "ward")
    colour = np.random.default_rng(0).random((2, 5, 6, 3))
    path = write(tmp_path / "b.npz", x=colour, patient=np.array([7, 7]), site=np.array(["n", "s"]))
    last = read_images(path, ("a", "b"), channels_last=True)
    assert last.shape == (3, 5, 6)
    assert np.array_equal(last.inputs, colour.transpose(0, 3, 1, 2).astype(np.float32))
    assert last.patients == ("n/7", "s/7")
    assert read_images(path, ("a", "b")).shape == (5, 6, 3)


def test_own_images_with_masks(tmp_path):
    masks = np.random.default_rng(0).integers(0, 3, (2, 3, 4))
    found = read_images(write(tmp_path / "a.npz", y=masks), ("none", "one", "two"))
    assert found.masked
    assert np.array_equal(found.targets, masks)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"x": X[0]}, "`x` has the shape"),
        ({"x": np.zeros((2, 0, 4), np.uint8)}, "`x` has the shape"),
        ({"x": X.astype(np.uint16)}, "`x` holds uint16"),
        ({"x": X.astype(np.float64)}, "outside 0"),
        ({"y": np.array([0, 2])}, "no places in 2 classes"),
        ({"y": np.array([0, 1, 1])}, "do not belong together"),
        ({"y": np.array([0.0, 1.0])}, "`y` holds float64"),
        ({"patient": np.array(["a"])}, "1 values in `patient` for 2 images"),
    ],
)
def test_own_images_that_do_not_fit_are_named(tmp_path, changed, told):
    path = write(tmp_path / "a.npz", **changed)
    with pytest.raises(ConfigError, match=told) as caught:
        read_images(path, ("a", "b"))
    assert str(path) in caught.value.message
