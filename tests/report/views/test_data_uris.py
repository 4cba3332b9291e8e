from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from stillroom.report.views.data_uris import cam_uri, heat_uri, image_uri, photo_uri, scale_uri
from tests.report.views.pngs import read_png


@pytest.mark.parametrize("channels", [1, 3])
def test_a_small_image_comes_back_as_it_was(channels):
    image = torch.arange(channels * 20, dtype=torch.uint8).reshape(channels, 4, 5)
    got = read_png(image_uri(image))
    np.testing.assert_array_equal(got.transpose(2, 0, 1), image.expand(3, 4, 5).numpy())


def test_a_large_image_is_reduced_and_keeps_its_shape():
    assert read_png(image_uri(torch.zeros(3, 200, 400, dtype=torch.uint8))).shape == (48, 96, 3)


def test_images_with_other_channels_become_grey():
    assert (read_png(image_uri(torch.full((5, 4, 4), 77, dtype=torch.uint8))) == 77).all()


def test_a_heat_map_has_the_colours_of_its_scale():
    scale = read_png(scale_uri())[0]
    got = read_png(heat_uri(torch.tensor([[0.0, 0.5], [1.0, 7.0]]), 1.0))
    assert (got[0, 0] == scale[0]).all()
    assert np.abs(got[0, 1].astype(int) - scale[128]).max() <= 2
    assert (got[1, 0] == scale[255]).all()
    assert (got[1, 1] == scale[255]).all()


def test_a_heat_map_without_differences_is_all_of_the_lowest_colour():
    assert (read_png(heat_uri(torch.zeros(3, 3), 0.0)) == read_png(scale_uri())[0, 0]).all()


def test_an_overlay_is_clear_where_the_map_is_0_and_strong_where_it_is_1():
    activation = torch.zeros(8, 8)
    activation[0, 0] = 1.0
    opacity = read_png(cam_uri(activation), "RGBA")[..., 3]
    assert opacity[0, 0] > 190
    assert opacity[16:, 16:].max() == 0


def test_a_photo_is_reduced_and_far_smaller_than_without_loss():
    image = torch.randint(0, 256, (3, 300, 600), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    uri = photo_uri(image, 200)
    assert Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size == (200, 100)
    assert len(uri) < len(image_uri(image, 200)) / 2
