"""The ONNX graph of a student, and the check that its logits agree with PyTorch's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.errors import InputError, first_line
from stillroom.export.onnx_session import INPUT, OUTPUT, quiet
from stillroom.models import logits_of

OPSET = 18  # quantisation a channel needs 13; 18 is what PyTorch's exporter writes without conversion
TOLERANCE = 1e-4  # largest difference of two logits, as a fraction of the largest logit
LEAST = 1e-5  # smallest tolerance, for logits near 0 as with random weights


@dataclass(frozen=True)
class Parity:
    """How close a graph's logits are to PyTorch's.

    Attributes:
        images: compared.
        difference: the largest between two logits.
        tolerance: what was allowed.
        ties: images with another predicted class, whose two logits PyTorch has equal within the tolerance.
    """

    images: int
    difference: float
    tolerance: float
    ties: int


class _Logits(nn.Module):
    """A classifier that returns its logits as a tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> logits (B, classes)."""
        return logits_of(self.model(images))


def write_graph(model: nn.Module, images: Tensor, path: Path, facts: dict[str, Any]) -> None:
    """Write a model as ONNX, for any number of images at once.

    Args:
        model: in evaluation mode, on the CPU.
        images: two or more images (B, C, H, W), normalised.
        path: the file.
        facts: stored in the file as JSON under ``stillroom``, for use without the other files.

    Raises:
        InputError: PyTorch's exporter cannot trace the model.
    """
    with exporting(model):
        program = torch.onnx.export(
            _Logits(model).eval(),
            (images,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
        assert program is not None
        proto = program.model_proto
        if not proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
            raise ValueError("it depends on the number of images")
        save_graph(proto, path, facts)


@contextmanager
def exporting(model: nn.Module) -> Iterator[None]:
    """Let PyTorch's exporter work quietly, and turn any error of it into one that says what to do.

    Args:
        model: what is exported, for the message.

    Raises:
        InputError: the block raised.
    """
    try:
        with quiet():
            yield
    except Exception as error:
        raise InputError(
            f"{type(model).__name__} cannot be written as ONNX ({first_line(error)}); give onnx=False (--no_onnx) for "
            "the PyTorch files alone"
        ) from error


def save_graph(proto: Any, path: Path, facts: dict[str, Any]) -> None:
    """Write a graph with facts about it, and without the exporter's notes.

    Args:
        proto: an ``onnx.ModelProto``; changed.
        path: the file.
        facts: stored in the file as JSON under ``stillroom``.
    """
    import onnx

    graph = proto.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]  # stack traces with paths of this machine
    onnx.helper.set_model_props(proto, {"stillroom": json.dumps(facts, ensure_ascii=False)})
    onnx.save_model(proto, str(path))


def check_parity(ours: Tensor, theirs: Tensor) -> Parity:
    """Compare a graph's logits with PyTorch's.

    Args:
        ours: PyTorch's, (N, C).
        theirs: the graph's, (N, C).

    Raises:
        InputError: they differ by more than the tolerance, or one of them is not finite.
    """
    tolerance = max(LEAST, TOLERANCE * float(ours.abs().max()))
    difference = float((ours - theirs).abs().max())
    # With all logits within the tolerance, only classes less than twice the tolerance apart can swap.
    swapped = ours.argmax(1) != theirs.argmax(1)
    if not difference <= tolerance:  # NaN, too
        raise InputError(
            f"the ONNX file differs from PyTorch: logits differ by up to {difference:.3g} where {tolerance:.3g} "
            f"is allowed, and {int(swapped.sum())} of {len(ours)} images get another class; nothing was written, "
            "give onnx=False (--no_onnx) for the PyTorch files alone"
        )
    return Parity(len(ours), difference, tolerance, int(swapped.sum()))
