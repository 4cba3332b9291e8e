"""Scale decoupled distillation by its definition: every cell, every region, every sample."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def pooled(cells: list[list[Tensor]], grid: int) -> list[list[Tensor]]:
    """Average a rectangle of D-vectors over grid x grid cells, which overlap or repeat where it does not divide."""
    height, width = len(cells), len(cells[0])
    result = []
    for i in range(grid):
        line = []
        for j in range(grid):
            total, count = torch.zeros_like(cells[0][0]), 0
            for y in range(math.floor(i * height / grid), math.ceil((i + 1) * height / grid)):
                for x in range(math.floor(j * width / grid), math.ceil((j + 1) * width / grid)):
                    total, count = total + cells[y][x], count + 1
            line.append(total / count)
        result.append(line)
    return result


def region_logits(final_map: Tensor, weight: Tensor, bias: Tensor | None, grids: tuple[int, ...]) -> Tensor:
    """(B, C, N): each grid's cells row by row, through the linear layer."""
    batch, _, height, width = final_map.shape
    samples = []
    for b in range(batch):
        finest = pooled([[final_map[b, :, y, x] for x in range(width)] for y in range(height)], grids[-1])
        regions = []
        for grid in grids:
            for line in pooled(finest, grid):
                for cell in line:
                    logits = [sum(w * v for w, v in zip(weights, cell, strict=True)) for weights in weight]
                    if bias is not None:
                        logits = [logit + one for logit, one in zip(logits, bias, strict=True)]
                    regions.append(torch.stack(logits))
        samples.append(torch.stack(regions, 1))
    return torch.stack(samples)


def sdd(
    student_regions: Tensor,
    teacher_regions: Tensor,
    target: Tensor,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    weight: float,
) -> Tensor:
    """The mean over regions and samples; ``loss`` takes one sample's (1, C) logits and (1,) label."""
    batch, _, count = student_regions.shape
    total = torch.zeros((), dtype=torch.float64)
    for b in range(batch):
        whole_is_right = largest(teacher_regions[b, :, 0]) == int(target[b])
        for n in range(count):
            one = loss(student_regions[b : b + 1, :, n], teacher_regions[b : b + 1, :, n], target[b : b + 1])
            region_is_right = largest(teacher_regions[b, :, n]) == int(target[b])
            if whole_is_right != region_is_right:
                one = weight * one
            total = total + one
    return total / (batch * count)


def largest(logits: Tensor) -> int:
    """The class of the largest logit."""
    best = 0
    for c in range(len(logits)):
        if logits[c].item() > logits[best].item():
            best = c
    return best
