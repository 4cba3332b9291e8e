"""Small Faster R-CNNs that train in minutes on a CPU: teacher and student of ``stillroom demo --task detection``.

They are made for objects of 10 to 40 pixels in images of about 128. Use them as
``stillroom.models.demo_detectors:large_detector`` and ``:small_detector``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import Conv2dNormActivation, MultiScaleRoIAlign

_SIDE = 128  # of the images, in pixels
_POOLED = 5  # height and width of a pooled region


def large_detector(num_classes: int) -> FasterRCNN:
    """Stages of 32, 64, 96 and 128 channels, pyramid of 48.

    Args:
        num_classes: with background, as torchvision counts.
    """
    return _detector(num_classes, stem=16, widths=(32, 64, 96, 128), pyramid=48, hidden=192)


def small_detector(num_classes: int) -> FasterRCNN:
    """Stages of 16, 24, 32 and 48 channels, pyramid of 24: a quarter of the large one's multiplications.

    Args:
        num_classes: with background, as torchvision counts.
    """
    return _detector(num_classes, stem=8, widths=(16, 24, 32, 48), pyramid=24, hidden=96)


def _detector(num_classes: int, stem: int, widths: Sequence[int], pyramid: int, hidden: int) -> FasterRCNN:
    """A detector with levels at strides 4 to 32, and 64 by pooling.

    Args:
        num_classes: with background.
        stem: channels at stride 2.
        widths: channels of each stage.
        pyramid: channels of each level.
        hidden: width of the region head.
    """
    stages = OrderedDict(stem=_conv(3, stem, 2))
    before = stem
    for number, width in enumerate(widths, 2):
        stages[f"stage{number}"] = nn.Sequential(_conv(before, width, 2), _conv(width, width, 1))
        before = width
    levels = [str(number) for number in range(len(widths))]
    names = {f"stage{number + 2}": level for number, level in enumerate(levels)}
    backbone = BackboneWithFPN(nn.Sequential(stages), names, list(widths), pyramid)
    return FasterRCNN(
        backbone,
        min_size=_SIDE,
        max_size=_SIDE * 5 // 3,
        rpn_anchor_generator=AnchorGenerator(((14,), (28,), (56,), (112,), (224,)), ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=100,
        rpn_pre_nms_top_n_test=200,
        rpn_post_nms_top_n_train=60,
        rpn_post_nms_top_n_test=100,
        rpn_fg_iou_thresh=0.6,
        rpn_batch_size_per_image=64,
        box_roi_pool=MultiScaleRoIAlign(levels, _POOLED, 1, canonical_scale=2 * 28, canonical_level=4),
        box_head=TwoMLPHead(pyramid * _POOLED**2, hidden),
        box_predictor=FastRCNNPredictor(hidden, num_classes),
        box_batch_size_per_image=32,
        box_positive_fraction=0.5,
    )


def _conv(before: int, after: int, stride: int) -> nn.Module:
    return Conv2dNormActivation(before, after, 3, stride)
