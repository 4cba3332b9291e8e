"""Reading features, maps, embedding and head out of a model's forward passes."""

from __future__ import annotations

import pytest
import torch

from stillroom.models import ZOO, build_model
from stillroom.models.hooks import Point
from stillroom.models.model_parts import PARTS, ModelParts, PartsReader, Place
from stillroom.models.probe import probe_model

IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def build():
    def make(name, size=32):
        torch.manual_seed(0)
        return build_model(name, num_classes=5, image_size=size).eval()

    return make


def test_channels_last_maps_come_channels_first(build):
    model = build("timm:swin_tiny_patch4_window7_224", 64)
    images = torch.randn(2, 3, 64, 64)
    reader = PartsReader(model, probe_model(model, images), ("maps",))
    with torch.no_grad():
        model(images)
        expected = model.forward_intermediates(images, intermediates_only=True, norm=False)
    for ours, theirs in zip(reader.read()["maps"], expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_gradient_flows_through_every_part():
    model = ZOO["resnet8"](4)
    reader = PartsReader(model, probe_model(model, IMAGES), PARTS)
    model(IMAGES)
    parts = reader.read()
    tensors = [*parts["features"], *parts["maps"], *parts["preact_maps"], parts["embedding"], parts["final_map"]]
    for tensor in tensors:
        (gradient,) = torch.autograd.grad(tensor.square().sum(), model.conv1.weight, retain_graph=True)
        assert gradient.abs().max() > 0


def test_a_vision_transformers_tokens_become_the_maps_timm_makes_of_them(build):
    model = build("timm:vit_tiny_patch16_224", 64)
    images = torch.randn(2, 3, 64, 64)
    reader = PartsReader(model, probe_model(model, images), ("maps", "features", "embedding"))
    with torch.no_grad():
        logits = model(images)
        expected = model.forward_intermediates(images, intermediates_only=True, norm=False)
    parts = reader.read()
    for ours, theirs in zip(parts["maps"], expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert parts["features"][0].shape == (2, 17, 192)
    torch.testing.assert_close(model.head(parts["embedding"]), logits)


def test_a_compiled_model_is_read_as_an_eager_one():
    model = ZOO["resnet8"](4).eval()
    offers = probe_model(model, IMAGES)
    reader = PartsReader(model, offers, PARTS)
    model(IMAGES)
    eager = reader.read()
    torch.compile(model, backend="aot_eager")(IMAGES)
    compiled = reader.read()
    for part in ("maps", "preact_maps", "features"):
        torch.testing.assert_close(compiled[part], eager[part])
    torch.testing.assert_close(compiled["final_map"], eager["final_map"])


def test_parts_are_float32_under_autocast_and_read_once():
    model = ZOO["resnet8"](4).eval()
    reader = PartsReader(model, probe_model(model, IMAGES), ("embedding", "maps", "head"))
    with torch.autocast("cpu", torch.bfloat16):
        model(IMAGES)
    parts = reader.read()
    assert set(parts) == {"embedding", "maps", "head"}
    assert {tensor.dtype for tensor in (parts["embedding"], *parts["maps"])} == {torch.float32}
    assert parts["head"] is model.fc
    reader.close()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_stage_that_is_no_map_is_named_with_its_shape():
    vector = Place(Point("body"), (7,), "other")
    offers = ModelParts("Own", (vector,), (vector,), "", None)
    assert offers.lacks("maps") == "Own returns [7] per sample at body, not a map (C, H, W)"
    assert offers.lacks("features") == ""
    assert offers.lacks("head") == "Own does not end in one linear layer"


def test_tokens_become_a_map_without_their_prefix():
    place = Place(Point("body"), (7, 2), "tokens", (2, 3), prefix=1)
    tokens = torch.arange(14.0).reshape(1, 7, 2)
    assert place.size == (2, 3)
    assert place.as_map(tokens).tolist() == [[[[2, 4, 6], [8, 10, 12]], [[3, 5, 7], [9, 11, 13]]]]
