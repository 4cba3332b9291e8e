import pytest
import torch

from stillroom.models import ZOO


def _reference(parts, x):
    x = parts.norm(parts.conv(x, "conv1"), "bn1").clamp(min=0)
    for stage in (1, 2, 3, 4):
        block = 0
        while (name := f"layer{stage}.{block}") + ".conv1" in parts:
            stride = 2 if stage > 1 and block == 0 else 1
            deep = f"{name}.conv3" in parts  # a bottleneck strides in its second convolution
            first, second = (1, stride) if deep else (stride, 1)
            y = parts.norm(parts.conv(x, f"{name}.conv1", stride=first), f"{name}.bn1").clamp(min=0)
            y = parts.norm(parts.conv(y, f"{name}.conv2", stride=second), f"{name}.bn2")
            if deep:
                y = parts.norm(parts.conv(y.clamp(min=0), f"{name}.conv3"), f"{name}.bn3")
            if f"{name}.shortcut.0" in parts:
                x = parts.norm(parts.conv(x, f"{name}.shortcut.0", stride=stride), f"{name}.shortcut.1")
            x = (x + y).clamp(min=0)
            block += 1
    return parts.head(x, "linear")


@pytest.mark.parametrize("name", ["ResNet18", "ResNet50"])
def test_logits_are_those_the_published_weights_were_trained_for(name, parts, lived_in, images):
    model = lived_in(ZOO[name](7))
    small = images[:, :, :16, :16]
    torch.testing.assert_close(model(small), _reference(parts(model), small), rtol=1e-9, atol=1e-9)
