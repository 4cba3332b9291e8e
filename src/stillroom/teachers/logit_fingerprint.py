"""What a teacher says about a few training images, in a few numbers: by these it is recognised."""

from __future__ import annotations

import torch
from torch import nn

from stillroom.data import DataSet, ImageSet, MemoryLoader
from stillroom.models import logits_of
from stillroom.models.output import evaluating

IMAGES, NUMBERS = 8, 4
# Of the largest number. Another processor, or weights in bfloat16 on it, stay well below; another teacher does not.
TOLERANCE = 0.03

Probe = list[list[float]]


def probe(teacher: nn.Module, data: DataSet) -> Probe:
    """Ask a teacher about training images that are spread over the set, without augmentation, in float32.

    The logits of an image are added up with fixed random signs, so that every class counts in every number.

    Args:
        teacher: on the CPU.
        data: with the mean and standard deviation that the teacher is used with.

    Returns:
        Four numbers an image, with six digits.
    """
    train = data.train
    places = torch.linspace(0, len(train) - 1, min(IMAGES, len(train))).round().long()
    some = ImageSet(train.images[places], train.labels[places], train.ids[places], train.classes)
    loader = MemoryLoader(some, batch_size=len(places), mean=data.mean, std=data.std, shuffle=False)
    with torch.random.fork_rng(devices=[]), evaluating(teacher), torch.no_grad():
        logits = logits_of(teacher(next(loader.epoch(0)).images)).double().cpu()
    classes = logits.shape[1]
    signs = 2 * torch.randint(0, 2, (classes, NUMBERS), generator=torch.Generator().manual_seed(0)).double() - 1
    return [[float(f"{value:.6g}") for value in row] for row in (logits @ signs / classes**0.5).tolist()]


def difference(there: object, now: Probe) -> str:
    """How far what a teacher says now is from what was recorded, in words; empty for the same teacher.

    Args:
        there: a probe as it was read from a file.
        now: of the teacher at hand.
    """
    if not now:
        return ""
    try:
        recorded, asked = (torch.tensor(values, dtype=torch.float64) for values in (there, now))
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return "no probe can be read there"
    if recorded.shape != asked.shape:
        return "the probe there is of another shape"
    largest = float(torch.maximum(recorded.abs(), asked.abs()).max())
    far = float((recorded - asked).abs().max())
    if torch.allclose(recorded, asked, rtol=0.0, atol=TOLERANCE * largest, equal_nan=True):
        return ""
    return f"its logits about {len(now)} training images differ by up to {100 * far / largest:.3g} % of the largest"
