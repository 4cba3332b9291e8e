"""Linear probe: a linear classifier on frozen features of other data, by logistic regression or the published schedule.

The published schedule is that in which the transfer test of "Contrastive Representation Distillation" (Tian et al.,
ICLR 2020) is repeated: SGD with a learning rate of 0.1, divided by 10 at epochs 30, 60 and 90. Public codes differ.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # C of logistic regression, from the simplest classifier on
HELD_OUT = 0.2  # fraction of the training images on which C is chosen
ITERATIONS = 200  # of L-BFGS; more change hardly a decision
MOST_CHOOSING = 10_000  # images with which C is chosen; more take long and choose no better
EPOCHS, MILESTONES = 100, (30, 60, 90)
BATCH, RATE, MOMENTUM = 64, 0.1, 0.9


@dataclass(frozen=True)
class FrozenFeatures:
    """Features of labelled images.

    Attributes:
        features: (N, D), float32, on the CPU.
        labels: (N,), int64.
    """

    features: Tensor
    labels: Tensor


def logistic_probe(train: FrozenFeatures, test: FrozenFeatures, seed: int) -> tuple[float, float]:
    """Accuracy of logistic regression on features that are standardised by those of the training images.

    Args:
        train: of the training images.
        test: of the test images.
        seed: draws the slice of the training images on which the inverse strength of regularisation is chosen.

    Returns:
        The accuracy on the test images in percent, and the chosen ``C`` of scikit-learn.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train.features.numpy())
    inputs, targets = scaler.transform(train.features.numpy()), train.labels.numpy()
    order = np.random.default_rng(seed).permutation(len(targets))[:MOST_CHOOSING]
    whole = np.bincount(targets[order]).min(initial=2, where=np.bincount(targets[order]) > 0) >= 2
    fitted, held = train_test_split(
        order, test_size=HELD_OUT, random_state=seed, stratify=targets[order] if whole else None
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(max_iter=ITERATIONS, warm_start=True)
        scores = [
            model.set_params(C=strength).fit(inputs[fitted], targets[fitted]).score(inputs[held], targets[held])
            for strength in STRENGTHS
        ]
        best = STRENGTHS[int(np.argmax(scores))]  # the simplest of equals
        model = LogisticRegression(max_iter=ITERATIONS, C=best).fit(inputs, targets)
    return 100 * float(model.score(scaler.transform(test.features.numpy()), test.labels.numpy())), best


def published_probe(train: FrozenFeatures, test: FrozenFeatures, classes: int, seed: int) -> float:
    """Accuracy of a linear layer trained on the features by the published schedule, in percent.

    Args:
        train: of the training images.
        test: of the test images.
        classes: number of classes.
        seed: draws the order of the images.
    """
    generator = torch.Generator().manual_seed(seed)
    layer = torch.nn.Linear(train.features.shape[1], classes)
    torch.nn.init.zeros_(layer.weight)  # the problem is convex: where it begins does not matter
    torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=RATE, momentum=MOMENTUM)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(MILESTONES))
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(train.labels), generator=generator), BATCH):
            optimizer.zero_grad()
            F.cross_entropy(layer(train.features[rows]), train.labels[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    with torch.no_grad():
        return 100 * float((layer(test.features).argmax(1) == test.labels).double().mean())
