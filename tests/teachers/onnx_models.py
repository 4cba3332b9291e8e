"""Small ONNX files for tests."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from stillroom.export.onnx_graph import write_graph
from tests.conftest import tiny_model

FLOAT, HALF, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
FACTS = {"classes": ["ant", "bee", "cat", "dog"], "mean": list(MEAN), "std": list(STD)}


def torch_and_onnx(path: Path, facts: dict | None = None) -> nn.Module:
    """A network with random weights and its export, as ``stillroom export`` writes it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = tiny_model().eval()
        write_graph(model, torch.zeros(2, 3, 8, 8), path, FACTS if facts is None else facts)
    return model


def write_onnx(path: Path, *, batch="n", shape=(3, 8, 8), kind=FLOAT, outputs=("logits",), scale=1.0) -> Path:
    """A file whose prediction is a function of the mean of each channel.

    Args:
        path: the file.
        batch: a number, or a text for any number of images.
        shape: of an image.
        kind: of the input and of the scores.
        outputs: from logits, probabilities, classes, scores, label and other.
        scale: factor on the logits; another one is another teacher.
    """
    channels_last = shape[0] != 3
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["means"], keepdims=0),
        helper.make_node("Mul", ["means", "scale"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("TopK", ["probabilities", "k"], ["scores", "classes"], axis=1),
        helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
        helper.make_node("Neg", ["logits"], ["other"]),
    ]
    constants = [
        helper.make_tensor("axes", INT64, [2], [1, 2] if channels_last else [2, 3]),
        helper.make_tensor("scale", kind, [3], [scale, 2 * scale, 3 * scale]),
        helper.make_tensor("k", INT64, [1], [2]),
    ]
    sides = {"label": [batch], "classes": [batch, 2], "scores": [batch, 2]}
    kinds = {"label": INT64, "classes": INT64}
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("images", kind, [batch, *shape])],
        [helper.make_tensor_value_info(o, kinds.get(o, kind), sides.get(o, [batch, 3])) for o in outputs],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save_model(model, str(path))
    return path
