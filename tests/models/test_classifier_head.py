from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from stillroom.models import build_model
from stillroom.models.classifier_head import head_classes, head_names, last_layers
from tests.conftest import tiny_model

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet8", ("fc",)),
        ("torchvision:mobilenet_v3_small", ("classifier.3",)),
        ("timm:test_vit", ("head",)),
        ("timm:test_efficientnet", ("classifier",)),
        ("timm:test_convnext", ("head.fc",)),
    ],
)
def test_the_last_layer_of_a_model_is_its_head(name, head):
    assert head_names(build_model(name, num_classes=4, image_size=32), IMAGES) == head


def test_a_head_of_two_layers_is_found_although_neither_computes_the_logits_alone():
    model = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=4, img_size=32)
    assert head_names(model, IMAGES) == ("head", "head_dist")


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet8", ("fc",)),
        ("torchvision:squeezenet1_1", ("classifier.1",)),
        ("timm:test_convnext", ("head.fc",)),
        ("timm:deit_tiny_distilled_patch16_224", ("head", "head_dist")),
    ],
)
def test_heads_and_their_classes_are_found_without_images(name, head):
    with torch.device("meta"):
        model = build_model(name, num_classes=7)
    assert last_layers(model) == head
    assert head_classes(model) == 7
    other = {f"{head[0]}.weight": torch.zeros(9, 4)}
    assert head_classes(model, other) == 9
    assert head_classes(model, {}) is None


def test_a_timm_model_without_a_classifier_has_no_head():
    assert last_layers(timm.create_model("test_vit", num_classes=0)) == ()


def test_names_hold_inside_a_wrapper():
    assert head_names(nn.DataParallel(tiny_model()), IMAGES) == ("6",)


def test_a_model_without_a_linear_head_has_none():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert head_names(model, IMAGES) == ()
