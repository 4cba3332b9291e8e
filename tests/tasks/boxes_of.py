"""Images with boxes for tests, drawn at random or written by hand."""

from __future__ import annotations

import torch
from torch import Tensor

from stillroom.boxes import Detections, ImageBoxes

SIDE = 300


def objects_of(*rows, crowd=(), size=(SIDE, SIDE)):
    """An image's objects from rows (label, left, top, right, bottom)."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    groups = torch.tensor([place in crowd for place in range(len(rows))], dtype=torch.bool)
    return ImageBoxes(table[:, 1:], table[:, 0].long(), groups, size)


def found_of(*rows):
    """An image's detections from rows (label, score, left, top, right, bottom), highest score first."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Detections(table[:, 2:], table[:, 1].contiguous(), table[:, 0].long())


def draw_images(count, classes, draw, most=8, detections=20, crowds=True, equal_scores=False):
    """Images whose detections are moved and relabelled objects, among others at random places."""
    objects, found = [], []
    for _ in range(count):
        number = int(torch.randint(0, most + 1, (), generator=draw))
        boxes, labels = _boxes(number, draw), torch.randint(0, classes, (number,), generator=draw)
        crowd = (torch.rand(number, generator=draw) < 0.15) & crowds
        objects.append(ImageBoxes(boxes, labels, crowd, (SIDE, SIDE)))
        wanted = int(torch.randint(0, detections + 1, (), generator=draw))
        found.append(_detections(wanted, boxes, labels, classes, draw, equal_scores))
    return objects, found


def _detections(wanted, boxes, labels, classes, draw, equal_scores):
    places, kinds = _boxes(wanted, draw), torch.randint(0, classes, (wanted,), generator=draw)
    if len(boxes):
        chosen = torch.randint(0, len(boxes), (wanted,), generator=draw)
        near = torch.rand(wanted, generator=draw) < 0.7
        moved = boxes[chosen] + torch.randn(wanted, 4, generator=draw) * 0.1 * _sides(boxes[chosen])
        moved[:, 2:] = torch.maximum(moved[:, 2:], moved[:, :2] + 1)
        places = torch.where(near[:, None], moved, places)
        right = near & (torch.rand(wanted, generator=draw) < 0.8)
        kinds = torch.where(right, labels[chosen], kinds)
    scores = torch.rand(wanted, generator=draw).sort(descending=True).values
    return Detections(places, (scores * 4).round() / 4 if equal_scores else scores, kinds)


def _boxes(count, draw) -> Tensor:
    corner = torch.rand(count, 2, generator=draw) * SIDE * 0.6
    return torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=draw) ** 2 * SIDE * 0.4], 1)


def _sides(boxes) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
