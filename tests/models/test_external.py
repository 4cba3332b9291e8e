from urllib.error import URLError

import pytest
import timm
import torch
import torchvision
from torch import nn

from stillroom.errors import InputError
from stillroom.models import build_model
from stillroom.models.external import replace_heads


@pytest.mark.parametrize(
    ("spec", "channels", "size"),
    [
        ("timm:test_resnet", 3, 32),
        ("timm:test_vit", 1, 32),
        ("timm:test_efficientnet.r160_in1k", 4, 48),
        ("torchvision:resnet18", 3, 32),
        ("torchvision:squeezenet1_1", 1, 32),
        ("torchvision:mobilenet_v3_small", 4, 40),
    ],
)
def test_models_are_built_for_the_users_data(spec, channels, size):
    model = build_model(spec, num_classes=7, in_channels=channels, image_size=size)
    images = torch.randn(3, channels, size, size)
    assert model.eval()(images).shape == (3, 7)


def test_transformers_are_built_for_the_image_size():
    assert build_model("timm:test_vit", num_classes=4, image_size=64).patch_embed.img_size == (64, 64)
    with torch.device("meta"):
        vit = build_model("torchvision:vit_b_32", num_classes=4, image_size=64)
    assert vit.image_size == 64


def test_logits_are_checked_for_models_that_return_more():
    """GoogLeNet answers with an object while training and with a tensor in evaluation."""
    with torch.device("meta"):
        model = build_model("torchvision:googlenet", num_classes=6, image_size=64)
    assert model.training


def test_a_size_the_model_cannot_take_is_told_by_its_own_words():
    with pytest.raises(InputError, match=r"AlexNet fails on images of shape \(2, 3, 32, 32\).*too small"):
        build_model("torchvision:alexnet", num_classes=10, image_size=32)


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("resnet18", ["fc"]),
        ("squeezenet1_0", ["classifier.1"]),
        ("googlenet", ["aux1.fc2", "aux2.fc2", "fc"]),
        ("vgg11", ["classifier.6"]),
        ("densenet121", ["classifier"]),
        ("vit_b_32", ["heads.head"]),
        ("swin_t", ["head"]),
        ("efficientnet_b0", ["classifier.1"]),
    ],
)
def test_heads_are_swapped_and_nothing_else(name, heads):
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None)
        before = dict(model.named_modules())
        replace_heads(model, 1000, 12)
    changed = [path for path, module in model.named_modules() if module is not before[path]]
    assert changed == heads
    for path in heads:
        head = model.get_submodule(path)
        assert (head.out_features if isinstance(head, nn.Linear) else head.out_channels) == 12


@pytest.mark.parametrize(("classes", "swapped"), [(5, True), (1000, False)])
def test_pretrained_torchvision_weights_keep_their_body(classes, swapped, monkeypatch):
    torch.manual_seed(0)
    published = torchvision.models.get_model("shufflenet_v2_x0_5", weights=None)
    asked = []

    def fetch(name, **arguments):
        asked.append((name, arguments))
        return published

    head, stem = published.fc, published.conv1[0].weight.clone()
    monkeypatch.setattr(torchvision.models, "get_model", fetch)
    model = build_model("torchvision:shufflenet_v2_x0_5", num_classes=classes, image_size=32, pretrained=True)
    assert asked == [("shufflenet_v2_x0_5", {"weights": "DEFAULT"})]
    assert (model.fc is not head) == swapped
    assert torch.equal(model.conv1[0].weight, stem)


def test_pretrained_timm_gets_classes_and_channels(monkeypatch):
    asked = {}

    def create(name, **arguments):
        asked.update(arguments, name=name)
        model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 5))
        model.pretrained_cfg = {"num_classes": known}
        return model

    monkeypatch.setattr(timm, "create_model", create)
    for known in (5, 1000):
        model = build_model("timm:resnet18", num_classes=5, in_channels=1, pretrained=True)
        assert asked == {"name": "resnet18", "num_classes": 5, "in_chans": 1, "pretrained": True}
        assert bool(model[2].weight.any()) == (known == 5)  # a new head starts with zeros


@pytest.mark.parametrize("source", ["timm", "torchvision"])
def test_weights_that_cannot_be_fetched_name_the_way_out(source, monkeypatch):
    def offline(*_arguments, **_options):
        raise URLError("Name or service not known")

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr(torchvision.models, "get_model", offline)
    with pytest.raises(InputError, match=rf"{source}:resnet18 .*not known.*checkpoint=FILE") as caught:
        build_model(f"{source}:resnet18", num_classes=10, pretrained=True)
    assert "\n" not in str(caught.value)


def test_pretrained_torchvision_refuses_other_channels():
    with pytest.raises(InputError, match=r"3 channels, not 1.*timm"):
        build_model("torchvision:resnet18", num_classes=10, in_channels=1, pretrained=True)
