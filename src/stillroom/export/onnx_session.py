"""ONNX tools of the export: the packages that it needs, quiet exporters, and the outputs of a session."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
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
    return torch.cat([run_session(session, [OUTPUT], batch.images)[0] for batch in batches])


def run_session(session: Any, outputs: Sequence[str], images: Tensor) -> list[Tensor]:
    """Run an onnxruntime session on images.

    Args:
        session: of a graph whose input is named :data:`INPUT`.
        outputs: names of the outputs that are wanted.
        images: (B, C, H, W), on the CPU.

    Returns:
        The outputs, in this order.

    Raises:
        InputError: onnxruntime cannot run the graph.
    """
    try:
        found = session.run(list(outputs), {INPUT: images.contiguous().numpy()})
    except Exception as error:  # its errors have no other common class
        raise InputError(
            f"onnxruntime cannot run the ONNX file ({first_line(error)}); give onnx=False (--no_onnx) for the PyTorch "
            "files alone"
        ) from error
    return [torch.from_numpy(values) for values in found]
