import pytest
import torch
from torch import nn
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn, fasterrcnn_resnet50_fpn
from torchvision.ops import FrozenBatchNorm2d

from stillroom.models.detector_architectures import BUILDERS, freeze


@pytest.mark.parametrize(
    ("name", "builder"),
    [
        ("fasterrcnn_resnet50_fpn", fasterrcnn_resnet50_fpn),
        ("fasterrcnn_mobilenet_v3_large_fpn", fasterrcnn_mobilenet_v3_large_fpn),
    ],
)
def test_weights_of_torchvision_fit_the_architecture_of_its_name(name, builder):
    with torch.device("meta"):
        ours = BUILDERS[name][1](3, None)
        theirs = builder(weights=None, weights_backbone=None, num_classes=3)
    assert {key: value.shape for key, value in ours.state_dict().items()} == {
        key: value.shape for key, value in theirs.state_dict().items()
    }
    assert ours.rpn.score_thresh == theirs.rpn.score_thresh
    assert ours.rpn.anchor_generator.sizes == theirs.rpn.anchor_generator.sizes


@pytest.mark.parametrize("name", ["fasterrcnn_resnet18_fpn", "fasterrcnn_mobilenetv2_fpn"])
def test_the_levels_are_p2_to_p6(name):
    with torch.device("meta"):
        model = BUILDERS[name][1](3, None)
        levels = model.backbone(torch.zeros(1, 3, 64, 128))
    assert [tuple(level.shape[-2:]) for level in levels.values()] == [(16, 32), (8, 16), (4, 8), (2, 4), (1, 2)]


def test_freezing_keeps_the_outputs_and_the_first_layers():
    torch.manual_seed(0)
    model = BUILDERS["fasterrcnn_mobilenetv2_fpn"][1](2, None)
    body = model.backbone.body.eval()
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)
    images = torch.randn(1, 3, 64, 64)
    expected = body(images)["1"]
    freeze(model, "fasterrcnn_mobilenetv2_fpn")
    torch.testing.assert_close(body(images)["1"], expected)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in body.modules())
    assert any(isinstance(module, FrozenBatchNorm2d) for module in body.modules())
    trained = {name.partition(".")[0] for name, parameter in body.named_parameters() if parameter.requires_grad}
    assert trained == {str(block) for block in range(4, 18)}
