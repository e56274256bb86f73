"""Image networks: names, any size, seeded starts, and what of them may be mixed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from konsil.knowledge.imaging.networks import Design, design, network
from konsil.knowledge.judge import local_names
from konsil.knowledge.task import Task
from konsil.protocol.errors import ConfigError


def made(model: str, tmp_path, *, channels=3, classes=2, masks=False, settings=None):
    make = network(
        model, shape=(channels, 6, 6), classes=classes, masks=masks, search=tmp_path,
        settings=settings,
    )  # fmt: skip
    torch.manual_seed(1)
    return make()


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (28, 28), (33, 64)])
@pytest.mark.parametrize("model", ["cnn", "cnn:4", "unet", "unet:4-6-8-10"])
def test_any_size_and_any_channels_give_an_answer_of_the_right_shape(model, size, tmp_path):
    masks = model.startswith("unet")
    for channels, classes in ((1, 2), (4, 5)):
        module = made(model, tmp_path, channels=channels, classes=classes, masks=masks)
        outputs = module(torch.rand(2, channels, *size))
        assert outputs.shape == (2, classes, *(size if masks else ()))
        assert torch.isfinite(outputs).all()


def test_a_perceptron_sees_all_pixels_of_one_size(tmp_path):
    module = made("mlp:5", tmp_path, channels=2, classes=3)
    assert module(torch.rand(4, 2, 6, 6)).shape == (4, 3)
    assert sum(weight.numel() for weight in module.parameters()) == 5 * (2 * 36 + 1) + 3 * 6
    with pytest.raises(ConfigError, match="is not known"):
        made("mlp:5", tmp_path, masks=True)


def test_the_small_unet_has_thirty_thousand_weights(tmp_path):
    module = made("unet", tmp_path, masks=True)
    assert sum(weight.numel() for weight in module.parameters()) == 29_930


@pytest.mark.parametrize("model", ["cnn", "unet"])
def test_starts_depend_on_torch_random_numbers_alone(model, tmp_path):
    masks = model == "unet"
    one, other = (made(model, tmp_path, masks=masks).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    torch.manual_seed(2)
    third = network(model, shape=(3, 6, 6), classes=2, masks=masks, search=tmp_path)().state_dict()
    assert any(not torch.equal(one[name], third[name]) for name in one)


@pytest.mark.parametrize("model", ["cnn", "unet"])
def test_group_norm_mixes_whole_and_batch_norm_stays_at_home(model, tmp_path):
    masks = model == "unet"
    plain, batch = made(model, tmp_path, masks=masks), made(f"{model}-bn", tmp_path, masks=masks)
    task = object.__new__(Task)
    object.__setattr__(task, "local", ())
    assert local_names(task, plain) == ()
    fixed = local_names(task, batch)
    assert any(name.endswith("running_var") for name in fixed)
    assert "head.weight" not in fixed


def test_group_norm_does_not_care_about_gain(tmp_path):
    """What makes models of unlike scanners comparable: the first block divides by the spread."""
    module = made("cnn", tmp_path).eval()
    images = torch.rand(3, 3, 16, 16)
    assert torch.allclose(module(images), module(images * 20), atol=1e-3)


def test_names():
    assert design("unet-bn:8-16") == Design("unet", (8, 16), "batch")
    for wrong in ("cnn:", "cnn:0", "cnn:8-x", "cnn:8--8", "vgg", ""):
        assert design(wrong) is None


@pytest.mark.parametrize(
    ("model", "masks", "said"),
    [
        ("cnn", True, "does not answer with masks"),
        ("unet", False, "does not answer with classes"),
        ("vgg", False, "'vgg' is not known"),
        ("cnn:x", False, "'cnn:x' is not known"),
        ("absent_module:net", False, r"model: cannot load 'absent_module'"),
        ("torch.nn:Linear", False, "cannot be made"),
        ("builtins:dict", False, "made dict, no module"),
    ],
)
def test_a_wrong_model_is_named(model, masks, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        made(model, tmp_path, masks=masks)


def test_any_other_network_by_its_factory(tmp_path):
    settings = {"in_features": 3, "out_features": 2}
    module = made("torch.nn:Linear", tmp_path, settings=settings)
    assert isinstance(module, nn.Linear)
    (tmp_path / "own_nets.py").write_text(
        "from torch import nn\ndef net(width=4): return nn.Conv2d(3, width, 1)\n"
    )
    assert made("own_nets:net", tmp_path).out_channels == 4
    with pytest.raises(ConfigError, match="say nothing to model = 'cnn'"):
        made("cnn", tmp_path, settings=settings)


def test_a_monai_network_by_its_factory(tmp_path):
    pytest.importorskip("monai", reason="MONAI is not installed")
    settings = {
        "spatial_dims": 2, "in_channels": 3, "out_channels": 2, "channels": (4, 8),
        "strides": (2,),
    }  # fmt: skip
    module = made("monai.networks.nets:UNet", tmp_path, masks=True, settings=settings)
    assert module(torch.rand(1, 3, 16, 16)).shape == (1, 2, 16, 16)
