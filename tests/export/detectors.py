"""A small detector with random weights that finds many objects, and images for it."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from stillroom.models.demo_detectors import small_detector

CLASSES = ("a", "b", "c")
IMAGE_SIZE, MAX_SIZE = 64, 107
# Height and width: as the example, turned, larger, long; 31 x 200 comes out a pixel short where scales are float32.
SIZES = ((64, 80), (80, 64), (150, 200), (31, 200))


def draw_pixels(sizes=SIZES):
    """Smooth noise, (3, H, W) in [0, 1], of each size."""
    draw = torch.Generator().manual_seed(0)
    noise = [torch.rand(1, 3, height // 8, width // 8, generator=draw) for height, width in sizes]
    return [F.interpolate(one, size=size, mode="bilinear")[0] for one, size in zip(noise, sizes, strict=True)]


def busy_detector():
    """Random weights, scaled so that the scores of regions differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = small_detector(len(CLASSES) + 1)
        images = (torch.stack(draw_pixels(((64, 64),) * 4)) - 0.45) / 0.225
        with torch.no_grad():
            for _ in range(30):
                model.backbone(images)  # statistics of batch norm
            model.roi_heads.box_predictor.cls_score.weight.mul_(30)
            model.rpn.head.cls_logits.weight.mul_(20)
    model.roi_heads.score_thresh = 0.75  # nothing in an image of one grey has more
    return model.eval()
