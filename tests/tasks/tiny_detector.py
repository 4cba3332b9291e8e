"""A Faster R-CNN of a few thousand parameters, and boxes for it."""

from collections import OrderedDict

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from stillroom.boxes import ImageBoxes

SIDE = 64


class TwoLevels(nn.Module):
    """Maps at strides 4 and 8 with 8 channels."""

    out_channels = 8

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU())
        self.stage = nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, x):
        fine = self.stem(x)
        return OrderedDict([("0", fine), ("1", self.stage(fine))])


def tiny_detector(classes=3, **options):
    """Random weights of seed 0; 12 anchors and 8 proposals an image are sampled."""
    torch.manual_seed(0)
    model = FasterRCNN(
        TwoLevels(),
        rpn_anchor_generator=AnchorGenerator(((8,), (16,)), ((0.5, 1.0, 2.0),) * 2),
        rpn_pre_nms_top_n_train=50,
        rpn_post_nms_top_n_train=20,
        rpn_pre_nms_top_n_test=50,
        rpn_post_nms_top_n_test=20,
        rpn_batch_size_per_image=12,
        box_roi_pool=MultiScaleRoIAlign(["0", "1"], 3, 2),
        box_head=TwoMLPHead(8 * 9, 16),
        box_predictor=FastRCNNPredictor(16, classes + 1),
        box_batch_size_per_image=8,
        box_score_thresh=0.0,
        **options,
    )
    # An identity: images in these tests are as a loader makes them.
    model.transform = GeneralizedRCNNTransform(SIDE, SIDE, [0.0] * 3, [1.0] * 3)
    return model


def boxes(*objects, size=(SIDE, SIDE), crowd=()):
    """Objects as (left, top, right, bottom, label)."""
    table = torch.tensor(objects, dtype=torch.float32).reshape(-1, 5)
    is_crowd = torch.zeros(len(table), dtype=torch.bool)
    is_crowd[list(crowd)] = True
    return ImageBoxes(table[:, :4], table[:, 4].long(), is_crowd, size)


def two_classes(num_classes):
    """As the name of a model: two classes and background."""
    return tiny_detector(classes=num_classes - 1)
