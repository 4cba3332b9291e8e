import pytest
import torch
from torch.nn import functional as F

from stillroom.models import ZOO, Tapped


def _reference(parts, x):
    size = x.shape[-1]
    for block in range(5):
        layer = 0
        while f"block{block}.{layer}" in parts:
            x = parts.norm(parts.conv(x, f"block{block}.{layer}"), f"block{block}.{layer + 1}").clamp(min=0)
            layer += 3
        if block < 3 or (block == 3 and size == 64):
            x = F.max_pool2d(x, 2)
    return parts.head(x, "classifier")


@pytest.mark.parametrize(("name", "size"), [("vgg8", 32), ("vgg11", 32), ("vgg8", 64)])
def test_logits_are_those_the_published_weights_were_trained_for(name, size, parts, lived_in):
    model = lived_in(ZOO[name](7))
    images = torch.randn(1, 3, size, size, dtype=torch.float64)
    torch.testing.assert_close(model(images), _reference(parts(model), images), rtol=1e-9, atol=1e-9)


def test_preactivations_become_the_features():
    model = ZOO["vgg8"](10).eval()
    images = torch.randn(1, 3, 32, 32)
    features = Tapped(model, model.stages)(images).features
    before = Tapped(model, model.preact_stages)(images).features
    for raw, feature in zip(before[1:5], features[1:5], strict=True):
        assert raw.min() < 0
        torch.testing.assert_close(raw.clamp(min=0), feature)


def test_head_starts_small():
    head = ZOO["vgg8"](100).classifier
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert head.bias.abs().max() == 0
