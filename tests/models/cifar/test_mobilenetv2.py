import torch

from stillroom.models import ZOO


def _reference(parts, x):
    x = parts.norm(parts.conv(x, "conv1.0", stride=2), "conv1.1").clamp(min=0)
    strides = {2: 2, 3: 2, 5: 2}
    for stage in range(7):
        block = 0
        while (name := f"blocks.{stage}.{block}.conv") + ".0" in parts:
            stride = strides.get(stage, 1) if block == 0 else 1
            y = parts.norm(parts.conv(x, f"{name}.0"), f"{name}.1").clamp(min=0)
            y = parts.conv(y, f"{name}.3", stride=stride, groups=y.shape[1])
            y = parts.norm(parts.conv(parts.norm(y, f"{name}.4").clamp(min=0), f"{name}.6"), f"{name}.7")
            x = x + y if stride == 1 and x.shape == y.shape else y
            block += 1
    return parts.head(parts.norm(parts.conv(x, "conv2.0"), "conv2.1").clamp(min=0), "classifier.0")


def test_logits_are_those_the_published_weights_were_trained_for(parts, lived_in, images):
    model = lived_in(ZOO["MobileNetV2"](7))
    torch.testing.assert_close(model(images), _reference(parts(model), images), rtol=1e-9, atol=1e-9)
