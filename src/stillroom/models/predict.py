"""Prediction: a model's logits and features for batches of images."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from stillroom.batch import Batch, Output
from stillroom.models.model_parts import PartsReader
from stillroom.models.output import evaluating, logits_of


def predict(
    model: nn.Module, batches: Iterable[Batch], autocast: AbstractContextManager[None] | None = None
) -> tuple[Tensor, Tensor]:
    """Run a model over batches in evaluation mode; afterwards every module's training flag is restored.

    Returns:
        Logits (N, C) in float32 and labels (N,), both on the model's device, without those of stand-ins.
    """
    logits, labels = [], []
    with evaluating(model), torch.no_grad(), autocast or nullcontext():
        for batch in batches:
            batch_logits = logits_of(
                model(batch.images)
            ).float()  # for stand-ins too: a sharded pass needs all processes
            if not batch.stand_in:
                logits.append(batch_logits)
                labels.append(batch.labels)
        return torch.cat(logits), torch.cat(labels)


def predict_batch(model: nn.Module, reader: PartsReader | None, batch: Batch) -> Output:
    """A model's output for a batch, and its logits for the strong view if there is one.

    Logits and features are float32 also under autocast, so that losses compute in float32.
    """
    logits = logits_of(model(batch.images)).float()
    parts = {} if reader is None else reader.read()
    if batch.strong is not None:
        parts["logits_strong"] = logits_of(model(batch.strong)).float()
        if reader is not None:
            reader.release()
    return Output(logits, parts)
