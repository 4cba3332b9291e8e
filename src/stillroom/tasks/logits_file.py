"""Logits file: a classifier's predictions on the validation images, with labels and sample ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stillroom.data.source import UNKNOWN, Source
from stillroom.models.weight_files import read_safetensors
from stillroom.reading import UnreadableError

FORMAT = "2"


@dataclass(frozen=True)
class Predictions:
    """A model's predictions on every validation image, in the data set's order.

    Attributes:
        logits: (N, C), float32, on the CPU.
        labels: (N,), int64, on the CPU; all -1 where the validation images have no labels.
        ids: (N,), int64, the sample ids, on the CPU.
    """

    logits: Tensor
    labels: Tensor
    ids: Tensor

    @property
    def correct(self) -> Tensor:
        """Whether the label has the largest logit, (N,), bool."""
        return self.logits.argmax(1) == self.labels


def rounded(logits: Tensor) -> Tensor:
    """Logits in half precision on the CPU, without a change of the predicted class; as they are where it cannot be.

    Rounding makes close logits equal. Where the largest has an equal, it is raised to the next half number.

    Args:
        logits: (N, C), float32, on any device.
    """
    predicted = logits.topk(min(5, logits.shape[1]), dim=1).indices[:, 0].cpu().numpy()  # as accuracy takes it
    half = logits.half().cpu().numpy()
    rows = np.flatnonzero((half == half.max(1, keepdims=True)).sum(1) > 1)
    half[rows, predicted[rows]] = np.nextafter(half[rows, predicted[rows]], np.float16(np.inf))
    return torch.from_numpy(half) if np.isfinite(half).all() else logits.cpu()


def file_content(images: Source, logits: Tensor) -> bytes:
    """The content of the file.

    Args:
        images: the validation images.
        logits: (N, C), in their order.
    """
    from safetensors.torch import save

    return save({"logits": rounded(logits), "labels": images.labels, "ids": images.ids}, {"format": FORMAT})


def content_size(images: int, classes: int) -> int:
    """About the bytes of the file: logits in half precision, and a label and an id for each image."""
    return images * (2 * classes + 16)


def read_logits(path: Path, config: Mapping[str, Any]) -> Predictions:
    """The predictions in a file.

    Raises:
        OSError: it is missing or closed.
        UnreadableError: it is damaged, or does not fit the run.
    """
    tensors, facts = read_safetensors(path)
    if facts.get("format") != FORMAT:
        raise UnreadableError(path, f"its format is {facts.get('format')}, not {FORMAT}")
    images, classes = config["val_images"], len(config["classes"])
    wanted = {"logits": (images, classes), "labels": (images,), "ids": (images,)}
    for name, shape in wanted.items():
        found = tensors.get(name)
        kinds = (torch.float16, torch.float32) if name == "logits" else (torch.int64,)
        if found is None or found.shape != shape or found.dtype not in kinds:
            raise UnreadableError(path, f"it has no {name} of shape {shape}")
    labels = tensors["labels"]
    if images and not 0 <= int(labels.min()) <= int(labels.max()) < classes and not bool((labels == UNKNOWN).all()):
        raise UnreadableError(path, f"its labels are not those of {classes} classes")
    return Predictions(tensors["logits"].float(), labels, tensors["ids"])
