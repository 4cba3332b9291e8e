from __future__ import annotations

import json

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.data import ImageNetInfo
from torch import nn

from stillroom.input_format import InputFormat
from stillroom.models import build_model, published_classes, published_crop_fraction, published_input

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5,) * 3, (0.5,) * 3)


def built(name, **options):
    with torch.device("meta"):
        return build_model(name, **{"num_classes": 1000} | options)


@pytest.mark.parametrize(
    ("name", "fraction"),
    [
        ("timm:resnet50.tv_in1k", 0.875),
        ("timm:resnet50.a1_in1k", 0.95),
        ("efficientnet-lite0", 0.875),
        ("torchvision:resnet34", 224 / 256),
        ("torchvision:resnet50", 224 / 232),
        ("mine.nets:build", None),
    ],
)
def test_a_published_model_says_how_much_of_an_image_its_evaluation_shows(name, fraction):
    model = nn.Linear(2, 1000) if name == "mine.nets:build" else built(name)
    assert published_crop_fraction(name, model) == fraction


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("timm:resnet18", InputFormat(*IMAGENET, (224, 224), "bicubic")),
        ("timm:resnet18.tv_in1k", InputFormat(*IMAGENET, (224, 224), "bilinear")),
        ("timm:test_vit", InputFormat(*HALF, (160, 160), "bicubic")),
        ("efficientnet-lite0", InputFormat(*HALF, (224, 224), "bicubic")),
        ("torchvision:resnet18", InputFormat(*IMAGENET, (224, 224), "bilinear")),
        ("torchvision:efficientnet_v2_s", InputFormat(*IMAGENET, (384, 384), "bilinear")),
        ("resnet8", None),
        ("mine.nets:build", None),
    ],
)
def test_a_published_model_says_how_it_takes_images(name, expected):
    model = nn.Linear(2, 1000) if name == "mine.nets:build" else built(name)
    assert published_input(name, model) == expected


def test_weights_from_a_file_have_the_same_format(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(timm.create_model("test_resnet", num_classes=1000).state_dict(), path)
    model = build_model("timm:test_resnet", num_classes=None, checkpoint=path)
    assert published_input("timm:test_resnet", model) == InputFormat(*HALF, (160, 160), "bilinear")
    assert published_classes("timm:test_resnet", model) == tuple(ImageNetInfo().label_names())


def test_of_one_channel_the_format_is_the_mean_over_the_colours():
    format_of_grey = published_input("timm:resnet18", built("timm:resnet18", in_channels=1))
    assert format_of_grey.mean == pytest.approx((0.449,), abs=1e-6)
    assert format_of_grey.std == pytest.approx((0.226,), abs=1e-6)
    assert published_input("timm:resnet18", built("timm:resnet18", in_channels=4)) is None


@pytest.mark.parametrize("name", ["timm:test_vit", "torchvision:resnet18", "efficientnet-lite0"])
def test_the_classes_of_imagenet_are_wordnet_ids(name):
    classes = published_classes(name, built(name))
    assert len(classes) == 1000
    assert (classes[0], classes[281]) == ("n01440764", "n02123045")  # tench, tabby


@pytest.mark.parametrize("name", ["timm:test_vit", "torchvision:resnet18"])
def test_a_head_of_ones_own_does_not_have_the_published_classes(name):
    assert published_classes(name, built(name, num_classes=200)) is None


def test_models_without_published_weights_have_no_classes():
    assert published_classes("resnet8", built("resnet8")) is None


def test_torchvision_lists_the_classes_in_timms_order():
    """The words are the same but for two: crane (the bird and the machine), and maillot, which occurs twice."""
    words = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]
    described = ImageNetInfo().label_descriptions()
    differ = [word for word, words_of in zip(words, described, strict=True) if word not in words_of.split(", ")]
    assert differ == ["crane bird", "maillot tank suit"]


@pytest.fixture
def folder(tmp_path):
    """A model as the hub stores it, with class names of its own."""
    config = {
        "architecture": "test_resnet",
        "num_classes": 3,
        "pretrained_cfg": {
            "mean": [0.1, 0.2, 0.3],
            "std": [0.4, 0.5, 0.6],
            "input_size": [3, 96, 64],
            "interpolation": "bilinear",
            "num_classes": 3,
            "first_conv": "conv1.0",
            "classifier": "fc",
        },
        "label_names": ["cat", "dog", "fox"],
    }
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    model = timm.create_model("test_resnet", num_classes=3)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    return tmp_path, model


def test_a_model_of_a_hub_brings_its_own_classes_and_format(folder):
    path, stored = folder
    name = f"timm:local-dir:{path}"
    model = build_model(name, num_classes=None, pretrained=True)
    assert torch.equal(model.fc.weight, stored.fc.weight)
    assert published_classes(name, model) == ("cat", "dog", "fox")
    assert published_input(name, model) == InputFormat((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (96, 64), "bilinear")
