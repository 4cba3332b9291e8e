from __future__ import annotations

import torch
from torch import nn

from stillroom.models import ZOO
from stillroom.report.views.activation_maps import activation_maps
from tests.report.views.made import Looker


class Corner(nn.Module):
    """Sees the upper left quarter of the image only, for class 1; class 0 sees nothing."""

    def __init__(self, functional=False):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2, 2)
        self.functional = functional
        mask = torch.zeros(8, 8)
        mask[:4, :4] = 1
        self.register_buffer("mask", mask)
        with torch.no_grad():
            self.conv.weight.fill_(1.0)
            self.conv.bias.zero_()
            self.fc.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
        self.only_here = nn.Identity()

    def forward(self, images):
        seen = self.only_here(self.conv(images) * self.mask)
        return self.fc(seen.mean((2, 3)) if self.functional else self.pool(seen).flatten(1))


class Tokens(nn.Module):
    """A mean over tokens: there is no map."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 4)
        self.fc = nn.Linear(4, 2)

    def forward(self, images):
        return self.fc(self.embed(images[:, 0]).mean(1))


def bright(images=3):
    return torch.rand(images, 1, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.5


def test_a_model_that_looks_at_one_corner_lights_that_corner():
    for functional in (False, True):  # the map is what a pooling layer is given, or what the last layer gives
        maps, note = activation_maps(Corner(functional), bright(), torch.ones(3, dtype=torch.long))
        assert note == ""
        assert maps.shape == (3, 8, 8)
        assert (maps[:, :4, :4] > 0.3).all()
        assert maps[:, 4:].abs().max() == 0
        assert maps.amax((1, 2)).tolist() == [1, 1, 1]


def test_a_class_that_nothing_speaks_for_has_an_empty_map():
    maps, _ = activation_maps(Corner(), bright(), torch.zeros(3, dtype=torch.long))
    assert maps.abs().max() == 0


def test_more_images_than_a_batch_come_back_in_order():
    images = bright(40)
    classes = torch.ones(40, dtype=torch.long)
    maps, _ = activation_maps(Corner(), images, classes)
    alone, _ = activation_maps(Corner(), images[33:35], classes[:2])
    torch.testing.assert_close(maps[33:35], alone)


def test_a_model_of_the_zoo_has_maps_and_is_left_as_it_was():
    model = ZOO["resnet8"](10).train()
    maps, _ = activation_maps(model, torch.randn(2, 3, 32, 32), torch.tensor([1, 2]))
    assert maps.shape == (2, 8, 8)
    assert maps.isfinite().all()
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_frozen_models_have_maps_too():
    maps, _ = activation_maps(Looker().requires_grad_(False), bright(), torch.tensor([0, 1, 3]))
    assert maps.amax((1, 2)).gt(0).any()


def test_a_model_of_tokens_says_that_it_has_none():
    maps, note = activation_maps(Tokens(), bright(), torch.zeros(3, dtype=torch.long))
    assert maps is None
    assert "Tokens has no spatial map" in note
