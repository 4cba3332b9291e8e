import pytest
import torch

from stillroom.models import ZOO
from stillroom.models.cifar import CifarResNet


def _reference(parts, x):
    x = parts.norm(parts.conv(x, "conv1"), "bn1").clamp(min=0)
    for stage in (1, 2, 3):
        block = 0
        while (name := f"layer{stage}.{block}") + ".conv1" in parts:
            stride = 2 if stage > 1 and block == 0 else 1
            y = parts.norm(parts.conv(x, f"{name}.conv1", stride=stride), f"{name}.bn1").clamp(min=0)
            y = parts.norm(parts.conv(y, f"{name}.conv2"), f"{name}.bn2")
            if f"{name}.downsample.0" in parts:
                x = parts.norm(parts.conv(x, f"{name}.downsample.0", stride=stride), f"{name}.downsample.1")
            x = (x + y).clamp(min=0)
            block += 1
    return parts.head(x, "fc")


@pytest.mark.parametrize("name", ["resnet14", "resnet8x4"])
def test_logits_are_those_the_published_weights_were_trained_for(name, parts, lived_in, images):
    model = lived_in(ZOO[name](7))
    torch.testing.assert_close(model(images), _reference(parts(model), images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("depth", [2, 9, 21])
def test_impossible_depth_is_refused(depth):
    with pytest.raises(ValueError, match=f"6n \\+ 2.*{depth}"):
        CifarResNet(10, depth=depth)


def test_convolutions_start_from_hes_normal_by_fan_out():
    torch.manual_seed(0)
    weight = ZOO["resnet8x4"](10).layer3[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.02)
