import pytest
import torch

from stillroom.models.demo_nets import large, medium, small


@pytest.mark.parametrize("build", [large, medium, small])
def test_a_demo_net_gives_logits_for_any_classes_channels_and_size(build):
    with torch.no_grad():
        assert build(7, 1)(torch.zeros(2, 1, 12, 20)).shape == (2, 7)
        assert build(100)(torch.zeros(1, 3, 32, 32)).shape == (1, 100)


def test_each_net_is_smaller_than_the_one_before():
    big, middle, little = (sum(p.numel() for p in build(100).parameters()) for build in (large, medium, small))
    assert 250_000 < big < 350_000
    assert big > 3 * middle > 6 * little


def test_the_stem_halves_the_image():
    model = small(10)
    shapes = []
    model.layer1.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape)))
    model(torch.zeros(1, 3, 32, 32))
    assert shapes == [(1, 8, 16, 16)]
