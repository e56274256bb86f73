"""Sheets of answers: small, the same in meaning as the outputs, and refused for a stated reason."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from konsil.knowledge import pack
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.screen import screen
from konsil.knowledge.teaching import answers, generated
from konsil.protocol import tensors
from konsil.protocol.errors import TaskError

QUESTION = generated.gaussian(20, 4, ("a", "b", "c"), seed=1)


class Scaled(nn.Module):
    """A fixed linear map, to answer with values of any size."""

    def __init__(self, factor: float, outputs: int = 3) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(factor * torch.randn(4, outputs, generator=draw))

    def forward(self, inputs):
        return inputs @ self.weight


def test_a_sheet_says_what_the_model_says_within_half_precision():
    module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    sheet = answers.answered(module, QUESTION)
    module.eval()
    wanted = torch.softmax(module(QUESTION.inputs), dim=1)
    assert sheet["logits"].dtype == torch.float16
    found = torch.softmax(answers.logits(sheet), dim=1).float()
    assert torch.allclose(found, wanted, atol=1e-3)


def test_a_payload_is_two_bytes_a_class_and_row_and_a_header(tmp_path):
    module = Scaled(1.0)
    pack.save(answers.answered(module, QUESTION), tmp_path / "sheet")
    assert 20 * 3 * 2 < (tmp_path / "sheet").stat().st_size <= 20 * 3 * 2 + 128


@given(st.floats(-(2.0**100), 2.0**100, width=32))
@settings(max_examples=30, deadline=None)
def test_a_sheet_is_finite_whatever_the_size_of_finite_outputs(factor):
    outputs = Scaled(factor)(QUESTION.inputs)
    sheet = answers.answered(Scaled(factor), QUESTION)
    assert sheet.finite()
    assert float(sheet["logits"].abs().max()) <= answers.LARGEST
    best = sheet["logits"].amax(dim=1)
    chosen = outputs.argmax(dim=1)
    assert torch.equal(sheet["logits"][torch.arange(20), chosen], best)


@pytest.mark.parametrize(
    ("module", "told"),
    [(Scaled(float("nan")), "not finite"), (Scaled(1.0, outputs=2), r"\(20, 2\), not \(20, 3\)")],
)
def test_a_model_that_cannot_answer_is_told(module, told):
    with pytest.raises(TaskError, match=told):
        answers.answered(module, QUESTION)


def claim(dtype: str, shape: list[int], data: bytes) -> bytes:
    header = {"logits": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


HALF = torch.zeros(20, 3).half()
SPOILT = HALF.clone()
SPOILT[7, 1] = torch.nan
BOUNDLESS = HALF.clone()
BOUNDLESS[7, 1] = -torch.inf
BAD = [
    (b"", "payload"),
    (pack.to_bytes({"logits": HALF})[:-1], "payload"),
    (claim("F16", [20, 10**9], b"\0" * 120), "payload"),
    (claim("F16", [20, 3], b"\0" * 120).replace(b"[20, 3]", b"[10**9]"), "payload"),
    (pack.to_bytes({"answers": HALF}), "architecture"),
    (pack.to_bytes({"logits": HALF, "more": HALF.clone()}), "architecture"),
    (pack.to_bytes({"logits": HALF.float()}), "architecture"),
    (pack.to_bytes({"logits": HALF[:-1]}), "architecture"),
    (pack.to_bytes({"logits": HALF[:, :2]}), "architecture"),
    (pack.to_bytes({"logits": HALF.reshape(20, 3, 1)}), "architecture"),
    (pack.to_bytes({"logits": HALF.reshape(60)}), "architecture"),
    (pack.to_bytes({"logits": SPOILT}), "not_finite"),
    (pack.to_bytes({"logits": BOUNDLESS}), "not_finite"),
]


def form_of(sheet) -> bytes:
    data = pack.to_bytes(sheet)
    return tensors.architecture(tensors.read_table(data, len(data)))


@pytest.mark.parametrize(("data", "wanted"), BAD, ids=range(len(BAD)))
def test_a_bad_sheet_does_not_pass_the_screen(tmp_path, data, wanted):
    path = tmp_path / "sheet"
    path.write_bytes(data)
    form = form_of(answers.answered(Scaled(1.0), QUESTION))
    assert wanted in screen(path, form)
    pack.save(NamedTensors({"logits": HALF}), path)
    assert screen(path, form) == ()
