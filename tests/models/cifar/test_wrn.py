import pytest
import torch

from stillroom.models import ZOO, Tapped
from stillroom.models.cifar import WideResNet


def _reference(parts, x):
    x = parts.conv(x, "conv1")
    for stage in (1, 2, 3):
        block = 0
        while (name := f"block{stage}.layer.{block}") + ".conv1" in parts:
            stride = 2 if stage > 1 and block == 0 else 1
            a = parts.norm(x, f"{name}.bn1").clamp(min=0)
            y = parts.norm(parts.conv(a, f"{name}.conv1", stride=stride), f"{name}.bn2").clamp(min=0)
            y = parts.conv(y, f"{name}.conv2")
            projects = f"{name}.convShortcut" in parts
            x = y + (parts.conv(a, f"{name}.convShortcut", stride=stride) if projects else x)
            block += 1
    return parts.head(parts.norm(x, "bn1").clamp(min=0), "fc")


@pytest.mark.parametrize("name", ["wrn_16_1", "wrn_16_2"])
def test_logits_are_those_the_published_weights_were_trained_for(name, parts, lived_in, images):
    model = lived_in(ZOO[name](7))
    torch.testing.assert_close(model(images), _reference(parts(model), images), rtol=1e-9, atol=1e-9)


def test_stage_features_come_before_the_last_norm_and_activation(lived_in, images):
    model = lived_in(ZOO["wrn_16_2"](7))
    *_, last, pooled = Tapped(model, model.stages)(images).features
    assert last.min() < 0
    torch.testing.assert_close(model.bn1(last).clamp(min=0).mean(dim=(2, 3)), pooled)


@pytest.mark.parametrize("depth", [4, 15, 20])
def test_impossible_depth_is_refused(depth):
    with pytest.raises(ValueError, match=f"6n \\+ 4.*{depth}"):
        WideResNet(10, depth=depth)
