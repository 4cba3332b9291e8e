"""Logits and features of a model for batches of images."""

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
    """Run a model over batches in evaluation mode; the mode of each of its modules is put back afterwards.

    Returns:
        Logits (N, C) in float32 and labels (N,), both on the model's device; those of stand-ins are left out.
    """
    logits, labels = [], []
    with evaluating(model), torch.no_grad(), autocast or nullcontext():
        for batch in batches:
            said = logits_of(model(batch.images)).float()  # a stand-in too: processes may compute it together
            if not batch.stand_in:
                logits.append(said)
                labels.append(batch.labels)
        return torch.cat(logits), torch.cat(labels)


def predict_batch(model: nn.Module, reader: PartsReader | None, batch: Batch) -> Output:
    """What a model says about a batch, and about its strong view if it has one.

    Logits and features are float32 whatever the pass computes in, so that losses and their layers are.
    """
    logits = logits_of(model(batch.images)).float()
    parts = {} if reader is None else reader.read()
    if batch.strong is not None:
        parts["logits_strong"] = logits_of(model(batch.strong)).float()
        if reader is not None:
            reader.release()
    return Output(logits, parts)
