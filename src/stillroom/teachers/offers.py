"""Offers: turn probabilities, top-k probabilities and labels into logits."""

from __future__ import annotations

import torch
from torch import Tensor

from stillroom.errors import InputError
from stillroom.teachers.teacher import Offer

SUM_TOLERANCE = 0.02  # of a row of probabilities; half precision and rounding stay below it
# The gap between the logit of a label and the others. bfloat16 and float16 hold it, and its softmax is one-hot in
# float32 up to a temperature of 8 and 20,000 classes: exp(-256 / 8) * 20,000 < 2^-24.
ONE_HOT_GAP = 256.0


def one_hot_logits(labels: Tensor, class_count: int) -> Tensor:
    """Turn labels into logits: 0 for the label and -256 for each other class.

    Args:
        labels: int64 (N,), in [0, class_count); -1 for a label that is no class of the data, whose logits are all -256.
        class_count: the number of classes.

    Returns:
        float32 (N, class_count).
    """
    hot = labels[:, None] == torch.arange(class_count, device=labels.device)
    return (hot.float() - 1) * ONE_HOT_GAP


def log_probabilities(probabilities: Tensor) -> Tensor:
    """Turn probabilities into logits, up to a constant per row: their logarithm.

    Args:
        probabilities: (N, classes); values below 1.2e-38 count as 1.2e-38, so that every logit is finite.

    Returns:
        float32 (N, classes).
    """
    return probabilities.float().clamp_min(torch.finfo(torch.float32).tiny).log()


def top_k_logits(classes: Tensor, probabilities: Tensor, class_count: int) -> Tensor:
    """Turn the probabilities of the top k classes into logits. The rest of the mass is spread evenly over the others.

    Args:
        classes: int64 (N, k), in [0, class_count), each once in a row.
        probabilities: (N, k), of these classes.
        class_count: the number of classes.

    Returns:
        float32 (N, class_count).
    """
    scores = probabilities.float()
    rest = (1 - scores.sum(1, keepdim=True)).clamp_min(0) / max(1, class_count - classes.shape[1])
    return log_probabilities(rest.expand(-1, class_count).scatter(1, classes, scores))


def as_logits(offer: Offer, raw: Tensor) -> Tensor:
    """Turn what a network returns for each class into logits.

    Args:
        offer: what ``raw`` holds. Logits stay as they are.
        raw: (N, classes): logits; probabilities; for top-k probabilities with 0 at the classes that are not given; for
            labels scores, of which the largest counts.

    Returns:
        float32 (N, classes).
    """
    if offer == "logits":
        return raw.float()
    if offer == "probabilities":
        return log_probabilities(raw)
    if offer == "labels":
        return one_hot_logits(raw.argmax(1), raw.shape[1])
    given = raw.float()
    others = given == 0
    rest = (1 - given.sum(1, keepdim=True)).clamp_min(0) / others.sum(1, keepdim=True).clamp_min(1)
    return log_probabilities(torch.where(others, rest, given))


def check_probabilities(values: Tensor, offer: Offer, source: str) -> None:
    """Refuse values that are no probabilities; meant for the first batch, because it waits for the device.

    Args:
        values: (B, C), or (B, k) for top-k.
        offer: "probabilities", whose rows add up to 1, or "top-k", whose rows add up to at most 1.
        source: the teacher as the user names it, for the message.

    Raises:
        InputError: a value is below 0, or a row adds up to something else.
    """
    rows, low = values.float().sum(1), float(values.min())
    wrong = (rows - 1).abs() if offer == "probabilities" else rows - 1
    row = int(wrong.argmax())
    if low < 0 or not bool((wrong <= SUM_TOLERANCE).all()):
        raise InputError(
            f"{source}: its output is no {offer if offer == 'probabilities' else 'top-k probabilities'} (the smallest "
            f"value is {low:.3g}, a row adds up to {float(rows[row]):.3g}); give teacher_output=logits if it is logits"
        )
