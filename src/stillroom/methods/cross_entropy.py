"""Cross-entropy with the labels: of labelled images only, of mixed images, smoothed, and weighted by class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from stillroom.batch import Mixture


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    labelled: Tensor | None = None,
    *,
    mixture: Mixture | None = None,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Compute the mean cross-entropy over labelled images.

    The loss of a mixed image with labels y and z and the fraction f is f CE(y) + (1 - f) CE(z). A label that is not
    known contributes nothing.

    Args:
        logits: (B, C), floating.
        target: labels (B,), int64; -1 for an image without a label, with ``labelled`` only.
        labelled: the number by which the sum is divided, > 0; None takes the mean over all images.
        mixture: the second images in mixed images; None where none is mixed.
        label_smoothing: in [0, 1), as in ``torch.nn.functional.cross_entropy``.
        class_weights: (C,), factors on the losses of images, by label. The sum is not divided by them.

    Returns:
        A scalar; 0 with a zero gradient if no image has a label.

    Example:
        >>> logits = torch.tensor([[1.0, 1.0], [0.0, 9.0]])
        >>> cross_entropy(logits, torch.tensor([0, -1]), torch.tensor(1.0))
        tensor(0.6931)
        >>> mixture = Mixture(torch.tensor([1, 1]), torch.tensor([0.5, 0.75]))
        >>> cross_entropy(logits, torch.tensor([0, 0]), mixture=mixture)
        tensor(3.7217)
    """
    if mixture is None and class_weights is None:
        if labelled is None:
            return F.cross_entropy(logits, target, label_smoothing=label_smoothing)
        total = F.cross_entropy(logits, target, ignore_index=-1, reduction="sum", label_smoothing=label_smoothing)
        return total / labelled

    def rows(labels: Tensor) -> Tensor:
        found = F.cross_entropy(logits, labels, ignore_index=-1, reduction="none", label_smoothing=label_smoothing)
        return found if class_weights is None else found * class_weights[labels.clamp_min(0)]

    losses = rows(target) if mixture is None else mixed_rows(rows(target), rows(mixture.labels), mixture)
    return losses.mean() if labelled is None else losses.sum() / labelled


def mixed_rows(first: Tensor, second: Tensor, mixture: Mixture) -> Tensor:
    """Mix the losses (B,) of the first and of the second labels by the fractions of the images."""
    return mixture.fraction * first + (1 - mixture.fraction) * second


def balanced_class_weights(labels: Tensor, classes: int) -> Tensor:
    """Return weights with which every class that occurs has the same weight in total, and images 1 on average.

    Args:
        labels: int64 (N,), of the training images; -1 for an image without a label.
        classes: number of classes.

    Returns:
        float32 (classes,): N / (K n) for a class with n of the N labelled images, K of the classes occur. 0 for the
        others.

    Example:
        >>> balanced_class_weights(torch.tensor([0, 0, 0, 2, -1]), 3)
        tensor([0.6667, 0.0000, 2.0000])
    """
    counts = torch.bincount(labels[labels >= 0], minlength=classes)
    weights = counts.sum() / ((counts > 0).sum() * counts.clamp_min(1))
    return weights.float() * (counts > 0)
