"""Named tensors: an algebra that never writes to its operands; payloads that are checked."""

from __future__ import annotations

import subprocess
import sys

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from konsil.knowledge import pack
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.screen import screen
from konsil.protocol import tensors
from konsil.protocol.errors import LocalProtocolError, ManifestRefused, StorageError


def model(seed: int) -> NamedTensors:
    draw = torch.Generator().manual_seed(seed)
    return NamedTensors(
        {
            "w": torch.randn(3, 4, generator=draw, dtype=torch.float64),
            "b": torch.randn(3, generator=draw, dtype=torch.float64),
            "count": torch.tensor(seed),
        }
    )


def close(one: NamedTensors, other: NamedTensors) -> bool:
    return all(torch.allclose(one[n], other[n]) for n in ("w", "b"))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.integers(0, 99), st.floats(-3, 3))
def test_laws_of_the_algebra(i, j, factor):
    a, b = model(i), model(j)
    assert close(a - b + b, a)
    assert close(a + b, b + a)
    assert close((a + b) * factor, a * factor + factor * b)
    assert a.distance(b) == pytest.approx((a - b).norm())
    assert a.dot(b) == pytest.approx(b.dot(a))
    assert a.norm() ** 2 == pytest.approx(a.dot(a))


def test_counters_are_carried_from_the_left():
    mixed = model(3) * 0.5 + model(8)
    assert int(mixed["count"]) == 3
    assert model(1).distance(NamedTensors({**model(1), "count": torch.tensor(9)})) == 0.0


def test_operations_leave_their_operands_alone():
    a, b = model(1), model(2)
    before = pack.to_bytes(a)
    _ = a + b, a - b, 3 * a, a.map(torch.abs), a.norm(), a.select(["w"])
    assert pack.to_bytes(a) == before


def test_select_keeps_the_order_and_names_what_is_missing():
    assert list(model(1).select({"count", "w"})) == ["w", "count"]
    with pytest.raises(LocalProtocolError, match="'x'"):
        model(1).select(["w", "x"])


def test_models_of_other_names_or_shapes_do_not_mix():
    with pytest.raises(LocalProtocolError, match="'b'"):
        model(1) + model(1).select(["w", "count"])
    with pytest.raises(LocalProtocolError, match="shapes"):
        model(1) - NamedTensors({**model(1), "b": torch.zeros(4)})


def test_finite_and_size():
    assert model(1).finite()
    assert not NamedTensors({"x": torch.tensor([1.0, float("nan")])}).finite()
    assert model(1).elements() == 16
    assert repr(model(1)) == "NamedTensors(3 tensors, 16 elements)"


def test_a_module_never_shares_memory_with_the_tensors():
    module = nn.Linear(2, 2)
    start = NamedTensors.of(module)
    before = pack.to_bytes(start)
    start.load_into(module)
    with torch.no_grad():
        module.weight.add_(1.0)
    assert pack.to_bytes(start) == before
    assert NamedTensors.of(module).distance(start) == pytest.approx(2.0)


def test_pack_is_reproducible_and_reads_back(tmp_path):
    one = model(4)
    shuffled = NamedTensors({name: one[name] for name in ("count", "b", "w")})
    assert pack.to_bytes(one) == pack.to_bytes(shuffled)
    digest = pack.save(one, tmp_path / "m")
    assert digest == pack.save(pack.load(tmp_path / "m"), tmp_path / "n")
    assert all(torch.equal(pack.load(tmp_path / "m")[name], one[name]) for name in one)


def test_pack_refuses_what_its_table_refuses(tmp_path):
    safetensors.torch.save_file({"x": torch.ones(2)}, tmp_path / "m", metadata={"a": "b"})
    with pytest.raises(ManifestRefused, match="metadata"):
        pack.load(tmp_path / "m")
    pack.save({"x": torch.ones(2)}, tmp_path / "n")
    (tmp_path / "torn").write_bytes((tmp_path / "n").read_bytes()[:-1])
    with pytest.raises(ManifestRefused):
        pack.load(tmp_path / "torn")
    with pytest.raises(StorageError, match="gone"):
        pack.load(tmp_path / "gone")
    with pytest.raises(StorageError, match="write"):
        pack.save({"x": torch.ones(2)}, tmp_path / "no" / "folder")


def test_a_header_that_only_the_library_refuses_is_refused_too(tmp_path):
    pack.save({"x": torch.ones(3)}, tmp_path / "m")
    raw = (tmp_path / "m").read_bytes()
    forged = raw.replace(b'"F32"', b'"U16"').replace(b"[3]", b"[6]")
    (tmp_path / "odd").write_bytes(forged)
    assert pack.read_table(tmp_path / "odd").tensors[0].dtype == "U16"
    assert pack.load(tmp_path / "odd")["x"].shape == (6,)


def architecture(path) -> bytes:
    return tensors.architecture(pack.read_table(path))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_screen_finds_one_value_that_is_not_finite(tmp_path, dtype, bad):
    values = torch.full((300_000,), torch.finfo(dtype).max, dtype=dtype)
    pack.save({"n": torch.tensor([7]), "x": values}, tmp_path / "good")
    assert screen(tmp_path / "good", architecture(tmp_path / "good")) == ()
    values[299_999] = bad
    pack.save({"n": torch.tensor([7]), "x": values}, tmp_path / "bad")
    assert screen(tmp_path / "bad", architecture(tmp_path / "bad")) == ("not_finite",)


def test_screen_names_every_other_fault(tmp_path):
    pack.save({"x": torch.ones(2)}, tmp_path / "m")
    pack.save({"x": torch.ones(3)}, tmp_path / "other")
    assert screen(tmp_path / "m", architecture(tmp_path / "other")) == ("architecture",)
    (tmp_path / "torn").write_bytes((tmp_path / "m").read_bytes()[:-3])
    assert screen(tmp_path / "torn", architecture(tmp_path / "m")) == ("payload",)
    assert screen(tmp_path / "gone", architecture(tmp_path / "m")) == ("payload",)
    pack.save({"x": torch.ones(2).to(torch.float8_e4m3fn)}, tmp_path / "eight")
    assert screen(tmp_path / "eight", architecture(tmp_path / "eight")) == ("dtype",)


def test_screen_task_and_mixing_do_not_import_torch():
    program = (
        "import sys, konsil.knowledge.screen, konsil.knowledge.mixing, konsil.knowledge.task,"
        "konsil.knowledge; print('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert answer.stdout.strip() == b"False"
