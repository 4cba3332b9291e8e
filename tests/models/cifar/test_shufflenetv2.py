import torch

from stillroom.models import ZOO, Tapped


def _interleave(left, right):
    return torch.stack([left, right], dim=2).flatten(1, 2)


def _reference(parts, x):
    def unit(y, name, i, **options):
        return parts.norm(parts.conv(y, f"{name}.conv{i}", **options), f"{name}.bn{i}")

    x = parts.norm(parts.conv(x, "conv1"), "bn1").clamp(min=0)
    for stage in (1, 2, 3):
        name = f"layer{stage}.0"
        left = unit(unit(x, name, 1, stride=2, groups=x.shape[1]), name, 2).clamp(min=0)
        right = unit(x, name, 3).clamp(min=0)
        right = unit(unit(right, name, 4, stride=2, groups=right.shape[1]), name, 5).clamp(min=0)
        x = _interleave(left, right)
        block = 1
        while (name := f"layer{stage}.{block}") + ".conv1" in parts:
            half = x.shape[1] // 2
            kept, y = x[:, :half], x[:, half:]
            y = unit(unit(y, name, 1).clamp(min=0), name, 2, groups=half)
            x = _interleave(kept, unit(y, name, 3).clamp(min=0))
            block += 1
    return parts.head(parts.norm(parts.conv(x, "conv2"), "bn2").clamp(min=0), "linear")


def test_logits_are_those_the_published_weights_were_trained_for(parts, lived_in, images):
    model = lived_in(ZOO["ShuffleV2"](7))
    torch.testing.assert_close(model(images), _reference(parts(model), images), rtol=1e-9, atol=1e-9)


def test_preactivation_holds_both_halves_before_the_shuffle(lived_in, images):
    model = lived_in(ZOO["ShuffleV2"](7))
    before = Tapped(model, model.preact_stages)(images).features[1]
    after = Tapped(model, model.stages)(images).features[1]
    kept, made = before.chunk(2, dim=1)
    assert made.min() < 0
    torch.testing.assert_close(_interleave(kept, made.clamp(min=0)), after)
