import subprocess
import sys

import pytest
import torch
from torch import nn

from stillroom.errors import InputError
from stillroom.models import ZOO, build_model, save_weights


def test_zoo_names_build_for_the_users_data():
    model = build_model("resnet8", num_classes=7, in_channels=1, image_size=28)
    assert model.training
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 7)


def test_a_module_comes_back_as_it_is():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).eval()
    assert build_model(model, num_classes=4, image_size=2) is model
    assert not model.training


def test_a_module_with_other_classes_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    with pytest.raises(InputError, match=r"\(2, 4\).*expected \(2, 10\)"):
        build_model(model, num_classes=10, image_size=2)


def test_a_checkpoint_is_loaded(tmp_path):
    path = tmp_path / "teacher.safetensors"
    teacher = ZOO["resnet8"](10)
    save_weights(teacher, path)
    loaded = build_model("resnet8", num_classes=10, checkpoint=path)
    assert torch.equal(loaded.fc.weight, teacher.fc.weight)
    fresh = ZOO["resnet8"](10)
    assert build_model(fresh, num_classes=10, checkpoint=str(path)) is fresh
    assert torch.equal(fresh.fc.weight, teacher.fc.weight)


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("resnt20", "resnet20"),
        ("wrn-40-2", "wrn_40_2"),
        ("mobilenetv2", "MobileNetV2"),
        ("ShuffleNetV2", "ShuffleV2"),
        ("resnet18", "timm:resnet18 or torchvision:resnet18 or ResNet18"),
        ("convnext_tiny", "timm:convnext_tiny or torchvision:convnext_tiny"),
        ("vit_b_16", "torchvision:vit_b_16"),
        ("timm:resnet1", "timm:resnet18"),
        ("torchvision:resnet19", "torchvision:resnet18"),
        ("no such thing at all", "stillroom list models"),
    ],
)
def test_unknown_names_suggest_known_ones(name, suggested):
    with pytest.raises(InputError) as caught:
        build_model(name, num_classes=10)
    assert suggested in str(caught.value)
    assert "\n" not in str(caught.value)


def test_detectors_are_no_classifiers():
    with pytest.raises(InputError, match="torchvision has no model"):
        build_model("torchvision:fasterrcnn_resnet50_fpn", num_classes=10)


@pytest.mark.parametrize(
    "options",
    [{"num_classes": 0}, {"num_classes": 10, "in_channels": 0}, {"num_classes": 10, "image_size": -1}],
)
def test_impossible_numbers_are_refused_by_name(options):
    name, value = list(options.items())[-1]
    with pytest.raises(InputError, match=f"{name} must be at least 1, got {value}"):
        build_model("resnet8", **options)


def test_weights_that_do_not_exist_are_not_promised(tmp_path):
    with pytest.raises(InputError, match="no published weights for resnet8; give checkpoint=FILE"):
        build_model("resnet8", num_classes=10, pretrained=True)
    with pytest.raises(InputError, match="no published weights for Identity"):
        build_model(nn.Identity(), num_classes=10, pretrained=True)
    with pytest.raises(InputError, match="give one of them"):
        build_model("timm:test_vit", num_classes=10, pretrained=True, checkpoint=tmp_path / "w")


def test_the_zoo_needs_no_other_library():
    """Importing timm or torchvision takes seconds; a zoo model must not."""
    code = (
        "import sys; from stillroom.models import build_model, describe_models;"
        "build_model('resnet8', num_classes=10, image_size=32); describe_models();"
        "sys.exit(any(name in sys.modules for name in ('timm', 'torchvision', 'safetensors')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
