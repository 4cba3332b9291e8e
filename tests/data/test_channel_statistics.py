import numpy as np
import pytest
import torch

from stillroom.data import channel_statistics


@pytest.mark.parametrize("shape", [(1, 3, 5, 4), (700, 3, 9, 8), (300, 1, 2, 2)])
def test_equals_numpy(shape):
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = channel_statistics(images)
    reference = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean, reference.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, reference.std((0, 2, 3)), rtol=1e-12)


def test_constant_channel_can_be_divided_by():
    images = torch.full((4, 2, 3, 3), 255, dtype=torch.uint8)
    images[0, 1] = 0
    mean, std = channel_statistics(images)
    assert mean == (1.0, 0.75)
    assert std[0] == 1.0
    assert std[1] == pytest.approx(0.4330127)
