"""Logit fingerprint: a teacher's logits, or embeddings, on a few training images, which identify the teacher."""

from __future__ import annotations

import torch
from torch import Tensor

from stillroom.data import DataSet
from stillroom.data.source import Source
from stillroom.teachers.teacher import Teacher

IMAGES, NUMBERS = 8, 4
# Fraction of the largest value. Another processor or bfloat16 weights stay well below it; another teacher exceeds it.
TOLERANCE = 0.03

Probe = list[list[float]]


def probe(teacher: Teacher, data: DataSet) -> Probe:
    """Compute a teacher's fingerprint on evenly spaced training images, without augmentation, in float32.

    Each number is a sum of an image's logits with fixed random signs, so it depends on every class; of a teacher of
    embeddings likewise of the embedding.

    Args:
        teacher: predicts the data's classes, or gives embeddings.
        data: the images.

    Returns:
        Four numbers per image, each with six digits.
    """
    images = probed_images(data)
    loader = images.loader(batch_size=len(images), input_format=data.input_format, shuffle=False)
    with torch.random.fork_rng(devices=[]):
        output = teacher.predict(next(loader.epoch(0)))
    return summed(output.parts["embedding"] if teacher.offers == "embedding" else output.logits)


def probed_images(data: DataSet) -> Source:
    """A few evenly spaced training images."""
    train = data.train
    return train.at(torch.linspace(0, len(train) - 1, min(IMAGES, len(train))).round().long())


def summed(values: Tensor) -> Probe:
    """Four sums with fixed random signs of each row of (N, width), each with six digits."""
    values = values.double().cpu()
    width = values.shape[1]
    signs = 2 * torch.randint(0, 2, (width, NUMBERS), generator=torch.Generator().manual_seed(0)).double() - 1
    return [[float(f"{value:.6g}") for value in row] for row in (values @ signs / width**0.5).tolist()]


def difference(recorded: object, current: Probe) -> str:
    """Describe the difference between a recorded and a new fingerprint; empty for the same teacher.

    Args:
        recorded: the recorded fingerprint, as read from a file.
        current: the fingerprint of the current teacher.
    """
    if not current:
        return ""
    try:
        old, new = (torch.tensor(values, dtype=torch.float64) for values in (recorded, current))
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return "its recorded fingerprint cannot be read"
    if old.shape != new.shape:
        return "its recorded fingerprint has another shape"
    largest = float(torch.maximum(old.abs(), new.abs()).max())
    far = float((old - new).abs().max())
    if torch.allclose(old, new, rtol=0.0, atol=TOLERANCE * largest, equal_nan=True):
        return ""
    return f"its outputs on {len(current)} training images differ by up to {100 * far / largest:.3g} % of the largest"
