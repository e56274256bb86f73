"""Image folders: classes by sub-folder, masks by name; no file name appears in an error."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from konsil.knowledge.data.folders import Reading, read_classes, read_masks
from konsil.protocol.errors import ConfigError

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

SECRET = "mueller_hans"


def picture(path, values, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values, mode).save(path)
    return path


def grey(seed=0, side=8):
    return np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)


@pytest.fixture
def ward(tmp_path):
    for number, name in enumerate(("ill/p1_a.png", "ill/p1_b.png", "well/p2_a.png")):
        picture(tmp_path / name, grey(number))
    (tmp_path / "ill" / "notes.txt").write_text("no image")
    return tmp_path


def test_one_sub_folder_a_class_and_the_patient_by_a_pattern(ward):
    found = read_classes(ward, Reading(8, 8, patient=r"(p\d+)_.*", site="north"))
    assert found.classes == ("ill", "well")
    assert found.targets.tolist() == [0, 0, 1]
    assert found.patients == ("north/p1", "north/p1", "north/p2")
    assert found.sites == ("north",) * 3
    for number in range(3):
        assert np.array_equal(found.inputs[number, 0], grey(number) / np.float32(255))


def test_the_order_of_classes_is_the_consortium_s(ward):
    found = read_classes(ward, Reading(8, 8), ("well", "unknown", "ill"))
    assert found.classes == ("well", "unknown", "ill")
    assert found.targets.tolist() == [0, 2, 2]
    with pytest.raises(ConfigError, match="1 sub-folders are none of the classes"):
        read_classes(ward, Reading(8, 8), ("well", "unknown"))


def test_sizes_and_colours_become_one_shape(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (16, 8, 3), dtype=np.uint8)
    deep = np.full((4, 4), 65535 // 2, dtype=np.uint16)
    picture(tmp_path / "a" / "1.png", colour)
    picture(tmp_path / "a" / "2.png", deep)
    picture(tmp_path / "b" / "3.tif", grey())
    found = read_classes(tmp_path, Reading(4, 4, colour=True))
    assert found.inputs.shape == (3, 3, 4, 4)
    wanted = colour.transpose(2, 0, 1).reshape(3, 4, 4, 4, 2).mean(axis=(2, 4)) / 255
    assert np.allclose(found.inputs[0], wanted, atol=1e-5)
    assert np.allclose(found.inputs[1], 0.5, atol=1e-3)
    assert np.array_equal(found.inputs[2, 0], found.inputs[2, 2])
    assert read_classes(tmp_path, Reading(4, 4)).inputs.shape == (3, 1, 4, 4)


def test_jpeg_is_read_nearly_as_written(tmp_path):
    smooth = np.tile(np.linspace(0, 255, 32, dtype=np.uint8), (32, 1))
    picture(tmp_path / "a" / "1.jpg", smooth)
    picture(tmp_path / "b" / "1.JPEG", smooth)
    found = read_classes(tmp_path, Reading(32, 32))
    assert np.allclose(found.inputs[0, 0], smooth / 255, atol=0.03)
    assert len(found) == 2


@pytest.mark.parametrize("white", [1, 255])
def test_masks_are_paired_by_name(tmp_path, white):
    mask = (grey() > 127).astype(np.uint8)
    for number in (1, 2):
        picture(tmp_path / "images" / f"p{number}.png", grey(number))
        picture(tmp_path / "masks" / f"p{number}.png", mask * white)
    found = read_masks(tmp_path, Reading(8, 8), ("none", "lesion"))
    assert found.masked
    assert np.array_equal(found.targets[0], mask)
    assert found.patients == ("own/p1", "own/p2")
    small = read_masks(tmp_path, Reading(4, 4), ("none", "lesion"))
    assert np.unique(small.targets).tolist() == [0, 1]


def test_masks_hold_the_places_of_classes(tmp_path):
    mask = np.arange(64, dtype=np.uint8).reshape(8, 8) % 3
    picture(tmp_path / "images" / "p.png", grey())
    indexed = Image.fromarray(mask)
    indexed.putpalette([0, 0, 0, 250, 0, 0, 0, 250, 0])
    (tmp_path / "masks").mkdir()
    indexed.save(tmp_path / "masks" / "p.png")
    found = read_masks(tmp_path, Reading(8, 8), ("none", "one", "two"))
    assert np.array_equal(found.targets[0], mask)
    with pytest.raises(ConfigError, match="file 1 has the value 2, but 2 classes"):
        read_masks(tmp_path, Reading(8, 8), ("none", "one"))


def test_a_black_and_white_mask_is_two_classes(tmp_path):
    mask = grey() > 127
    picture(tmp_path / "images" / "p.png", grey())
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks" / "p.png")
    found = read_masks(tmp_path, Reading(8, 8), ("none", "lesion"))
    assert np.array_equal(found.targets[0], mask.astype(np.int64))


def test_unpaired_masks_are_refused(tmp_path):
    picture(tmp_path / "images" / "p.png", grey())
    picture(tmp_path / "masks" / "q.png", grey())
    with pytest.raises(ConfigError, match="1 images and 1 masks are not paired"):
        read_masks(tmp_path, Reading(8, 8), ("none", "lesion"))
    picture(tmp_path / "masks" / "p.png", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "masks" / "q.png").unlink()
    with pytest.raises(ConfigError, match="mask in colour"):
        read_masks(tmp_path, Reading(8, 8), ("none", "lesion"))


def damaged(folder, kind):
    path = folder / "ill" / f"{SECRET}.png"
    if kind == "text":
        path.write_bytes(b"no image at all")
    elif kind == "cut":
        picture(path, grey(side=64))
        path.write_bytes(path.read_bytes()[:-2000])
    elif kind == "gif":
        Image.fromarray(grey()).save(path, format="GIF")
    elif kind == "float":
        Image.fromarray(grey().astype(np.float32)).save(path, format="TIFF")
    elif kind == "pages":
        page = Image.fromarray(grey())
        page.save(path, format="TIFF", save_all=True, append_images=[page])


@pytest.mark.parametrize("kind", ["text", "cut", "gif", "float", "pages"])
def test_a_bad_file_is_counted_and_not_named(ward, kind):
    damaged(ward, kind)
    with pytest.raises(ConfigError, match=r"ill: file 1 ") as caught:
        read_classes(ward, Reading(8, 8))
    assert SECRET not in caught.value.diagnostics()
    assert caught.value.__cause__ is None


def test_a_file_of_too_many_pixels_is_not_unpacked(ward, monkeypatch):
    monkeypatch.setattr("konsil.knowledge.data.folders.MOST_PIXELS", 63)
    with pytest.raises(ConfigError, match="more than 63 pixels"):
        read_classes(ward, Reading(8, 8))


def test_a_name_that_does_not_fit_the_pattern_is_counted(ward):
    picture(ward / "ill" / f"{SECRET}.png", grey())
    with pytest.raises(ConfigError, match="file 1 does not fit") as caught:
        read_classes(ward, Reading(8, 8, patient=r"(p\d+)_.*"))
    assert SECRET not in caught.value.diagnostics()


@pytest.mark.parametrize("pattern", ["p", "(a)(b)", "("])
def test_a_pattern_marks_one_part(pattern):
    with pytest.raises(ConfigError, match="patient pattern"):
        Reading(8, 8, patient=pattern)


def test_folders_without_images_are_named(tmp_path):
    with pytest.raises(ConfigError, match="no image is there"):
        read_classes(tmp_path, Reading(8, 8), ("a", "b"))
    with pytest.raises(ConfigError, match="cannot read"):
        read_classes(tmp_path / "none", Reading(8, 8))
    with pytest.raises(ConfigError, match="height"):
        Reading(0, 8)


def test_without_pillow_one_line_says_what_to_install(ward, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ConfigError, match="need Pillow") as caught:
        read_classes(ward, Reading(8, 8))
    assert "konsil[imaging]" in caught.value.hint
