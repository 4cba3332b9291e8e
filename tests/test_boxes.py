"""Boxes of one image."""

from __future__ import annotations

import torch

from stillroom.boxes import Detections, ImageBoxes


def test_an_image_may_have_no_object():
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
    assert len(ImageBoxes(*nothing, torch.zeros(0, dtype=torch.bool), (8, 8))) == 0
    assert len(Detections(torch.zeros(2, 4), torch.ones(2), torch.tensor([0, 1]))) == 2
