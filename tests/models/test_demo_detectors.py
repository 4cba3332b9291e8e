import pytest
import torch
from torch import nn

from stillroom.boxes import ImageBoxes
from stillroom.models.demo_detectors import large_detector, small_detector
from stillroom.models.detectors import check_two_stage
from stillroom.tasks.region_step import detect, pyramid, train_pass


def multiplications(model, images):
    """Of convolutions and linear layers."""
    found = []

    def count(module, inputs, output):
        found.append(module.weight[0].numel() * output.numel())

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    detect(model.eval(), images, [tuple(images.shape[-2:])])
    return sum(found)


@pytest.mark.parametrize("build", [large_detector, small_detector])
def test_a_demo_detector_trains_on_images_of_any_size(build):
    torch.manual_seed(0)
    model = build(4)
    check_two_stage(model)
    images = torch.randn(2, 3, 64, 96)
    levels = pyramid(model, images)
    assert [tuple(level.shape[-2:]) for level in levels.values()] == [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    objects = ImageBoxes(torch.tensor([[4.0, 4, 20, 30]]), torch.tensor([2]), torch.tensor([False]), (64, 96))
    found = train_pass(model, images, (objects, objects), torch.tensor([[1, 2], [3, 4]]))
    assert found.logits.shape[1] == 4
    assert 3 in found.labels
    sum(found.losses.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_the_small_one_costs_less_than_a_third_of_the_large_one():
    torch.manual_seed(0)
    images = torch.randn(1, 3, 128, 128)
    assert multiplications(small_detector(17), images) < multiplications(large_detector(17), images) / 3
