"""Model probe: stages, final map, embedding and head of the zoo's, timm's, torchvision's and users' models."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stillroom.errors import InputError
from stillroom.models import FeatureTap, build_model
from stillroom.models.hooks import Point
from stillroom.models.model_parts import PARTS, PartsReader
from stillroom.models.probe import pair_levels, probe_model

IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def sides(offers):
    return [place.size for place in offers.stages]


@pytest.fixture
def build():
    def make(name, size=32):
        torch.manual_seed(0)
        return build_model(name, num_classes=5, image_size=size).eval()

    return make


@pytest.mark.parametrize("name", ["resnet20", "wrn_16_2", "vgg8", "MobileNetV2", "ShuffleV1", "ShuffleV2", "ResNet50"])
def test_the_zoos_stages_are_the_literatures_without_stem_and_vector(name, build):
    model = build(name)
    offers = probe_model(model, IMAGES)
    assert [place.point for place in offers.stages] == [Point(stage) for stage in model.stages[1:-1]]
    assert [place.point for place in offers.preact] == [Point(stage) for stage in model.preact_stages[1:-1]]
    assert not any(offers.lacks(part) for part in PARTS)


@pytest.mark.parametrize(
    "name",
    ["resnet20", "wrn_16_2", "vgg8", "MobileNetV2", "ShuffleV2", "timm:resnet18", "torchvision:mobilenet_v2",
     "timm:efficientnet_b0", "torchvision:shufflenet_v2_x0_5"],
)  # fmt: skip
def test_final_map_embedding_and_head_belong_together(name, build):
    model = build(name, 64)
    images = torch.randn(3, 3, 64, 64)
    reader = PartsReader(model, probe_model(model, images), ("final_map", "embedding", "head"))
    with torch.no_grad():
        logits = model(images)
    parts = reader.read()
    torch.testing.assert_close(parts["final_map"].mean((2, 3)), parts["embedding"])
    torch.testing.assert_close(parts["head"](parts["embedding"]), logits)
    assert parts["final_map"].shape[2] > 1


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("torchvision:resnet18", [32, 16, 8, 4, 2]),
        ("torchvision:mobilenet_v2", [32, 16, 8, 4, 2]),
        ("torchvision:densenet121", [32, 16, 8, 4, 2]),
        ("torchvision:convnext_tiny", [16, 8, 4, 2]),
        ("timm:swin_tiny_patch4_window7_224", [16, 8, 4, 2]),
        ("timm:convnext_atto", [16, 8, 4, 2]),
    ],
)
def test_other_models_give_the_last_map_of_each_size(name, sizes, build):
    model = build(name, 64)
    images = torch.randn(2, 3, 64, 64)
    offers = probe_model(model, images)
    assert sides(offers) == [(side, side) for side in sizes]
    reader = PartsReader(model, offers, ("maps",))
    with torch.no_grad():
        model(images)
    assert [tuple(found.shape[2:]) for found in reader.read()["maps"]] == sides(offers)


def test_a_strided_block_is_read_at_its_end_not_inside(build):
    model = build("torchvision:mobilenet_v2", 64)
    names = [place.point.module for place in probe_model(model, torch.randn(2, 3, 64, 64)).stages]
    assert names == ["features.1", "features.3", "features.6", "features.13", "features"]


@pytest.mark.parametrize(
    ("name", "part", "why"),
    [
        ("torchvision:vit_b_16", "maps", "no spatial maps"),
        ("torchvision:vit_b_16", "features", "names no stages"),
        ("timm:vit_tiny_patch16_224", "final_map", "global average"),
        ("torchvision:squeezenet1_1", "embedding", "one linear layer"),
        ("torchvision:mobilenet_v3_small", "final_map", "global average"),
    ],
)
def test_what_a_model_lacks_is_said_in_words(name, part, why, build):
    assert why in probe_model(build(name, 64), torch.randn(2, 3, 64, 64)).lacks(part)


class Own(nn.Module):
    """Somebody's model: its own names, pooling without a module, dropout before the head."""

    def __init__(self, stages=None):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, stride=2), nn.Conv2d(6, 7, 3, stride=2)
        self.dropout, self.out = nn.Dropout(0.5), nn.Linear(7, 4)
        if stages:
            self.stages = stages

    def forward(self, images):
        maps = self.second(F.relu(self.first(images)))
        return {"logits": self.out(self.dropout(maps.mean((2, 3))))}


def test_an_own_model_needs_no_preparation():
    model = Own().train()
    before = copy.deepcopy(model.state_dict())
    offers = probe_model(model, IMAGES)
    assert [place.point.module for place in offers.stages] == ["first", "second"]
    assert offers.head == "out"
    assert offers.final_map == Point("second")
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    torch.testing.assert_close(model.state_dict(), before)


def test_an_own_list_of_stages_is_taken_as_it_is():
    assert [p.point.module for p in probe_model(Own(stages=("second",)), IMAGES).stages] == ["second"]


@pytest.mark.parametrize("attribute", ["stages", "preact_stages"])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("first", "secnd"), r"Own\.{} names 'secnd', which is no submodule of it; did you mean second\?"),
        (["first", "secnd"], r"Own\.{} names 'secnd'"),
        (("",), r"Own\.{} names ''"),
        (("first", "unused"), r"Own\.{} names 'unused', which gives no tensor .* in a forward pass"),
    ],
)
def test_a_name_of_an_own_list_that_cannot_be_read_is_refused(attribute, names, message):
    model = Own(stages=("first", "second"))
    model.unused = torch.nn.ReLU()
    setattr(model, attribute, names)
    with pytest.raises(InputError, match=message.format(attribute)):
        probe_model(model, IMAGES)


def test_stages_before_and_after_their_activation_are_equally_many():
    model = Own(stages=("first", "second"))
    model.preact_stages = ("first",)
    with pytest.raises(InputError, match=r"Own\.preact_stages names 1 levels and there are 2 stages"):
        probe_model(model, IMAGES)


def test_levels_of_two_models_face_each_other(build):
    three, five = probe_model(build("resnet20"), IMAGES), probe_model(build("torchvision:resnet18"), IMAGES)
    short, cut = pair_levels(three, five)
    assert short == three
    assert [p.point.module for p in cut.stages] == [p.point.module for p in five.stages[-3:]]
    images = torch.randn(2, 3, 64, 64)
    transformer = probe_model(build("timm:vit_tiny_patch16_224", 64), images)
    spread, _ = pair_levels(transformer, three)
    assert [p.point.module for p in spread.stages] == ["blocks.3", "blocks.7", "blocks.11"]


def test_a_tap_may_read_what_a_module_is_given():
    model = Own()
    with FeatureTap(model, [Point("out", "input"), "second", Point("second", "input")]) as tap, torch.no_grad():
        model.eval()(IMAGES)
        vector, maps, before = tap.features()
    torch.testing.assert_close(vector, maps.mean((2, 3)))
    assert before.min() >= 0
    assert before.shape[1] == 6


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto"])
def test_a_headless_models_output_is_its_embedding(name):
    import timm

    extra = {"img_size": 32, "patch_size": 8} if name.startswith("vit") else {}
    model = timm.create_model(name, num_classes=0, **extra).eval()
    images = torch.randn(3, 3, 64, 64) if not extra else IMAGES
    offers = probe_model(model, images, headless=True)
    assert offers.lacks("embedding") == offers.lacks("features") == ""
    assert offers.lacks("head") == f"{type(model).__name__} has no classifier"
    reader = PartsReader(model, offers, ["embedding", "features"])
    output = model(images)
    parts = reader.read()
    reader.close()
    assert torch.equal(parts["embedding"], output)
    assert len(parts["features"]) == len(offers.stages) > 0
    assert (offers.final_map is not None) == (name == "resnet18")
    assert not model._forward_hooks


def test_a_headless_model_returns_one_vector_per_image():
    model = nn.Conv2d(3, 4, 3)
    with pytest.raises(InputError, match=r"Conv2d returns a tensor of shape \(3, 4, 30, 30\) .* one vector per image"):
        probe_model(model, IMAGES, headless=True)
