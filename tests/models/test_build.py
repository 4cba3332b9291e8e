import subprocess
import sys

import pytest
import torch
import torchvision
from torch import nn

from stillroom.errors import InputError
from stillroom.models import ZOO, build_model, check_output, save_weights


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
        ("efficientnet_lite0", "efficientnet-lite0"),
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


OWN = """
from torch import nn

def two(num_classes=2):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))

def required(num_classes):
    return two(num_classes)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_heads_for_test.py").write_text(OWN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "own_heads_for_test"
    sys.modules.pop("own_heads_for_test", None)


@pytest.mark.parametrize(
    "name", ["resnet8", "timm:test_vit", "torchvision:squeezenet1_1", "own_heads_for_test:required"]
)
def test_without_a_number_the_classes_are_those_of_the_checkpoint(name, own, tmp_path):
    path = tmp_path / "w.safetensors"
    trained = build_model(name, num_classes=17)
    save_weights(trained, path)
    model = build_model(name, num_classes=None, checkpoint=path, image_size=160)
    assert check_output(model, None, 3, 160) == 17
    expected = trained.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_looking_for_the_classes_of_a_checkpoint_draws_no_random_numbers(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(ZOO["resnet8"](17), path)
    states = []
    for options in ({"num_classes": 17}, {"num_classes": None, "checkpoint": path}):
        torch.manual_seed(3)
        build_model("resnet8", **options)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_without_a_number_published_weights_keep_their_head(monkeypatch):
    published = torchvision.models.get_model("shufflenet_v2_x0_5", weights=None)
    monkeypatch.setattr(torchvision.models, "get_model", lambda _name, **_arguments: published)
    model = build_model("torchvision:shufflenet_v2_x0_5", num_classes=None, pretrained=True, image_size=32)
    assert model.fc.out_features == 1000
    assert build_model("efficientnet-lite0", num_classes=None, image_size=32).num_classes == 1000


def test_without_a_number_a_function_uses_its_default_and_a_module_its_own_classes(own):
    assert build_model(f"{own}:two", num_classes=None, image_size=4)[2].out_features == 2
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    assert build_model(module, num_classes=None, image_size=2) is module
    with pytest.raises(InputError, match=r"required called with no arguments fails: .*num_classes"):
        build_model(f"{own}:required", num_classes=None)


def test_without_a_number_and_without_classes_the_reason_is_said(tmp_path):
    with pytest.raises(InputError, match=r"resnet8 has no published weights.*give num_classes"):
        build_model("resnet8", num_classes=None)
    with torch.device("meta"), pytest.raises(InputError, match=r"backbone without a classifier; give num_classes"):
        build_model("timm:eva02_tiny_patch14_224", num_classes=None)
    path = tmp_path / "w.pth"
    torch.save({k: v for k, v in ZOO["resnet8"](10).state_dict().items() if not k.startswith("fc.")}, path)
    with pytest.raises(InputError, match=r"has no head for resnet8.*give num_classes"):
        build_model("resnet8", num_classes=None, checkpoint=path)


def test_a_checkpoint_of_another_class_count_gets_a_new_head_on_request(tmp_path):
    path = tmp_path / "w.safetensors"
    trained = ZOO["resnet8"](10)
    save_weights(trained, path)
    model = build_model("resnet8", num_classes=3, checkpoint=path, new_head=True, image_size=32)
    assert torch.equal(model.conv1.weight, trained.conv1.weight)
    assert model.fc.out_features == 3


def test_a_checkpoint_for_efficientnet_lite0_requires_no_package(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    tuned = build_model("efficientnet-lite0", num_classes=4)
    save_weights(tuned, path)
    monkeypatch.setattr("stillroom.extras.find_spec", lambda _name: None)
    model = build_model("efficientnet-lite0", num_classes=None, checkpoint=path)
    assert torch.equal(model.classifier.weight, tuned.classifier.weight)


def test_a_detector_is_no_classifier():
    with pytest.raises(InputError, match="fasterrcnn_resnet18_fpn is a detector; it requires data with boxes"):
        build_model("fasterrcnn_resnet18_fpn", num_classes=3)
