"""ONNX tools of the export: the packages that it needs, quiet exporters, and the logits of a session."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from stillroom.batch import Batch
from stillroom.errors import InputError, first_line
from stillroom.extras import require

NEEDED = ("onnx", "onnxruntime", "onnxscript", "scipy")
INPUT, OUTPUT = "images", "logits"


def require_onnx() -> None:
    """Refuse to begin without the packages that ONNX needs.

    Raises:
        InputError: naming those that are missing, and the command that installs them.
    """
    try:
        require("onnx=True", "export", NEEDED)
    except InputError as error:
        raise InputError(f"{error}, or give onnx=False (--no_onnx) for the PyTorch files alone") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings of the exporter and the quantiser, which are for developers of models."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def session_logits(session: Any, batches: Iterable[Batch]) -> Tensor:
    """The logits of an onnxruntime session, (N, C), float32.

    Raises:
        InputError: onnxruntime cannot run the model.
    """
    try:
        found = [session.run([OUTPUT], {INPUT: batch.images.contiguous().numpy()})[0] for batch in batches]
    except Exception as error:  # its errors have no other common class
        raise InputError(
            f"onnxruntime cannot run the ONNX file ({first_line(error)}); give onnx=False (--no_onnx) for the PyTorch "
            "files alone"
        ) from error
    return torch.cat([torch.from_numpy(logits) for logits in found])
