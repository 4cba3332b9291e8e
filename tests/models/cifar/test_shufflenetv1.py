import torch
from torch.nn import functional as F

from stillroom.models import ZOO


def _shuffle(x, groups):
    """Channel by channel: the i-th of group g goes to place i * groups + g."""
    size = x.shape[1] // groups
    out = torch.empty_like(x)
    for g in range(groups):
        for i in range(size):
            out[:, i * groups + g] = x[:, g * size + i]
    return out


def _reference(parts, x):
    x = parts.norm(parts.conv(x, "conv1"), "bn1").clamp(min=0)
    for stage in (1, 2, 3):
        block = 0
        while (name := f"layer{stage}.{block}") + ".conv1" in parts:
            groups = 1 if x.shape[1] == 24 else 3
            y = parts.norm(parts.conv(x, f"{name}.conv1", groups=groups), f"{name}.bn1").clamp(min=0)
            y = _shuffle(y, groups)
            y = parts.conv(y, f"{name}.conv2", stride=2 if block == 0 else 1, groups=y.shape[1])
            y = parts.conv(parts.norm(y, f"{name}.bn2").clamp(min=0), f"{name}.conv3", groups=3)
            y = parts.norm(y, f"{name}.bn3")
            joined = torch.cat([y, F.avg_pool2d(x, 3, 2, 1)], 1) if block == 0 else y + x
            x = joined.clamp(min=0)
            block += 1
    return parts.head(x, "linear")


def test_logits_are_those_the_published_weights_were_trained_for(parts, lived_in, images):
    model = lived_in(ZOO["ShuffleV1"](7))
    torch.testing.assert_close(model(images), _reference(parts(model), images), rtol=1e-9, atol=1e-9)
