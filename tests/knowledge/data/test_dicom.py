"""DICOM: grey values as on the screen, patients only as keyed hashes, and clear refusals."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from konsil.knowledge.data import dicom
from konsil.protocol.errors import ConfigError

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")

from pydicom.dataset import FileDataset, FileMetaDataset  # noqa: E402
from pydicom.uid import (  # noqa: E402
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

SALT = b"sixteen secret bytes"
NAME, NUMBER = "Mueller^Hans", "PID-4711"
VALUES = np.arange(64, dtype=np.uint16).reshape(8, 8) * 10


def reading(**settings):
    return dicom.Reading(**{"height": 8, "width": 8, "salt": SALT, **settings})


def write(path, values=VALUES, syntax=ExplicitVRLittleEndian, patient=NUMBER, **elements):
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax if syntax != RLELossless else ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID = meta.MediaStorageSOPClassUID
    file.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    file.PatientName, file.PatientID = NAME, patient
    file.Rows, file.Columns = values.shape[:2]
    file.SamplesPerPixel = 3 if values.ndim == 3 else 1
    file.PhotometricInterpretation = "RGB" if values.ndim == 3 else "MONOCHROME2"
    if values.ndim == 3:
        file.PlanarConfiguration = 0
    file.BitsAllocated = file.BitsStored = 8 * values.dtype.itemsize
    file.HighBit = file.BitsStored - 1
    file.PixelRepresentation = int(values.dtype.kind == "i")
    file.PixelData = values.tobytes()
    for key, value in elements.items():
        setattr(file, key, value)
    if syntax == RLELossless:
        file.compress(RLELossless)
    if syntax.is_compressed and syntax not in (RLELossless, DeflatedExplicitVRLittleEndian):
        file.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 something compressed"])
        file["PixelData"].is_undefined_length = True
    file.save_as(path, enforce_file_format=True)
    return path


def read(folder, *classes, **settings):
    return dicom.read(folder, reading(**settings), classes)


def one(folder, **settings):
    return read(folder, "ill", "well", **settings).inputs[0, 0]


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
    ],
)
def test_a_folder_is_read_whatever_its_encoding(tmp_path, syntax):
    write(tmp_path / "ill" / "IM1", syntax=syntax)
    write(tmp_path / "well" / "IM1.dcm", syntax=syntax, patient="PID-2")
    write(tmp_path / "well" / "IM2.dcm", syntax=syntax)
    found = read(tmp_path, site="north")
    assert found.classes == ("ill", "well")
    assert found.targets.tolist() == [0, 1, 1]
    assert found.sites == ("north",) * 3
    assert np.allclose(found.inputs[0, 0], VALUES / 630, atol=1e-6)
    assert found.patients[0] == found.patients[2] != found.patients[1]


def test_a_patient_is_known_by_a_keyed_hash_only(tmp_path):
    write(tmp_path / "ill" / "1.dcm")
    (name,) = read(tmp_path, "ill", "well").patients
    assert name == dicom.pseudonym(NUMBER, SALT)
    assert len(bytes.fromhex(name)) == 16
    (other,) = read(tmp_path, "ill", "well", salt=b"another salt of a hospital").patients
    assert other != name
    assert NUMBER not in name + other
    with pytest.raises(ConfigError, match="salt of 15 bytes"):
        reading(salt=b"x" * 15)


def test_values_are_rescaled_and_cut_to_the_window(tmp_path):
    write(tmp_path / "ill" / "1.dcm", RescaleSlope="2", RescaleIntercept="-1000")
    wanted = np.clip((VALUES * 2.0 - 1000 + 500) / 600, 0, 1)
    assert np.allclose(one(tmp_path, window=(-500.0, 100.0)), wanted, atol=1e-6)
    assert np.allclose(one(tmp_path), VALUES / 630, atol=1e-6)


def test_signed_values_of_a_ct_are_hounsfield_units(tmp_path):
    write(tmp_path / "ill" / "1.dcm", values=(VALUES.astype(np.int16) - 300))
    wanted = np.clip((VALUES.astype(float) - 300 + 100) / 300, 0, 1)
    assert np.allclose(one(tmp_path, window=(-100.0, 200.0)), wanted, atol=1e-6)


def test_the_file_s_own_window_is_used_without_another(tmp_path):
    write(tmp_path / "ill" / "1.dcm", WindowCenter=["300", "10"], WindowWidth=["201", "5"])
    wanted = np.clip((VALUES - 199.5) / 200, 0, 1)
    assert np.allclose(one(tmp_path), wanted, atol=1e-6)
    write(tmp_path / "ill" / "1.dcm", WindowCenter="300", WindowWidth="0")
    assert np.allclose(one(tmp_path), VALUES / 630, atol=1e-6)


def test_monochrome1_is_turned_so_that_bright_is_bright(tmp_path):
    write(tmp_path / "ill" / "1.dcm", PhotometricInterpretation="MONOCHROME1")
    assert np.allclose(one(tmp_path), 1 - VALUES / 630, atol=1e-6)


def test_an_even_image_and_another_size(tmp_path):
    write(tmp_path / "ill" / "1.dcm", values=np.full((6, 10), 7, np.uint16))
    assert one(tmp_path, height=3, width=5).tolist() == [[0.0] * 5] * 3


def test_a_compression_without_a_decoder_is_refused(tmp_path):
    write(tmp_path / "ill" / "1.dcm", syntax=JPEGLSLossless)
    if pydicom.pixels.get_decoder(JPEGLSLossless).is_available:
        pytest.skip("a decoder of JPEG-LS is installed")
    with pytest.raises(ConfigError, match="file 1 is compressed as JPEG-LS") as caught:
        read(tmp_path, "ill", "well")
    assert "decompress" in caught.value.hint


@pytest.mark.parametrize(
    ("elements", "told"),
    [
        ({"patient": ""}, "names no patient"),
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"values": np.zeros((8, 8, 3), np.uint8)}, "not grey"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "not grey"),
        ({"BitsAllocated": 1}, "bits"),
        ({"Rows": 60000, "Columns": 60000}, "more than"),
        ({"Rows": 0}, "no pixels"),
        ({"Rows": 9}, "cannot be read as DICOM"),
    ],
)
def test_what_is_no_single_grey_image_of_a_patient_is_refused(tmp_path, elements, told):
    write(tmp_path / "ill" / f"{NUMBER}.dcm", **elements)
    with pytest.raises(ConfigError, match=told) as caught:
        read(tmp_path, "ill", "well")
    assert "ill: file 1" in caught.value.message
    assert NUMBER not in caught.value.diagnostics()
    assert NAME not in caught.value.diagnostics()
    assert caught.value.__cause__ is None


def test_a_file_that_is_no_dicom_or_cut_off_is_counted(tmp_path):
    path = write(tmp_path / "ill" / "1.dcm")
    for content in (b"hello", path.read_bytes()[:-40], path.read_bytes()[:200], b""):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="ill: file 1 "):
            read(tmp_path, "ill", "well")


def test_classes_are_fixed_by_the_consortium(tmp_path):
    write(tmp_path / "ill" / "1.dcm")
    assert read(tmp_path, "well", "ill").targets.tolist() == [1]
    with pytest.raises(ConfigError, match="1 sub-folders are none"):
        read(tmp_path, "well", "sick")
    with pytest.raises(ConfigError, match="no DICOM file"):
        read(tmp_path / "ill", "well", "ill")
    with pytest.raises(ConfigError, match="cannot read"):
        read(tmp_path / "none")


@pytest.mark.parametrize("wrong", [{"height": 0}, {"window": (5.0, 5.0)}])
def test_impossible_readings_are_refused(wrong):
    with pytest.raises(ConfigError):
        reading(**wrong)


def test_without_pydicom_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ConfigError, match="need pydicom") as caught:
        read(tmp_path)
    assert "konsil[imaging]" in caught.value.hint
