"""Quantisation of a graph to 8-bit integers, calibrated on training images."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from stillroom.batch import Batch
from stillroom.errors import InputError, first_line
from stillroom.export.onnx_session import INPUT, OUTPUT, quiet

CALIBRATION = 512  # images, more than the ranges of activations need to settle


def write_int8(graph: Path, path: Path, batches: Iterable[Batch], images: int = CALIBRATION) -> int:
    """Quantise weights (a channel each) and activations (a tensor each) to 8 bits, in QDQ form.

    Activations are unsigned and weights signed, which onnxruntime computes fastest on x86. Processors without VNNI add
    two such products in 16 bits; weights keep to 7 bits so that this cannot overflow and results are the same
    everywhere. The logits stay float: in 256 steps, two classes would often be equal.

    Args:
        graph: the float model.
        path: the int8 model.
        batches: training images without augmentation, for the range of every activation.
        images: how many of them to use, at most.

    Returns:
        How many were used.

    Raises:
        InputError: onnxruntime cannot quantise this model.
    """
    reader = _Reader(batches, images)
    quantise_graph(graph, path, reader)
    try:
        _free_logits(path)
    except Exception as error:
        raise _refusal(error) from error
    return reader.seen


def quantise_graph(graph: Path, path: Path, reader: Any, operators: Sequence[str] | None = None) -> None:
    """Quantise a graph as :func:`write_int8` describes, its outputs included.

    Args:
        graph: the float model.
        path: the int8 model.
        reader: has ``get_next``, as onnxruntime's ``CalibrationDataReader``.
        operators: kinds of operators to quantise; None is all that onnxruntime can.

    Raises:
        InputError: onnxruntime cannot quantise this model.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        with quiet(), tempfile.TemporaryDirectory() as aside:
            ready = Path(aside) / "ready.onnx"
            quant_pre_process(graph, ready, skip_symbolic_shape=True)  # folds constants
            quantize_static(
                ready,
                path,
                reader,
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=operators,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
    except Exception as error:
        raise _refusal(error) from error


def _refusal(error: Exception) -> InputError:
    return InputError(f"onnxruntime cannot quantise this model ({first_line(error)}); give int8=False (--no_int8)")


def _free_logits(path: Path) -> None:
    """Remove the quantisation of the graph's output."""
    import onnx

    model = onnx.load_model(str(path))
    nodes = model.graph.node
    makers = {name: node for node in nodes for name in node.output}
    back = makers[OUTPUT]
    forth = makers.get(back.input[0])
    if back.op_type != "DequantizeLinear" or forth is None or forth.op_type != "QuantizeLinear":
        return
    maker = makers[forth.input[0]]
    maker.output[list(maker.output).index(forth.input[0])] = OUTPUT
    nodes.remove(back)
    nodes.remove(forth)
    onnx.save_model(model, str(path))


class _Reader:
    """The calibration reader of onnxruntime: batches until there are enough images."""

    def __init__(self, batches: Iterable[Batch], images: int) -> None:
        self.seen = 0
        self._batches: Iterator[Batch] = itertools.chain(batches)
        self._images = images

    def get_next(self) -> dict[str, Any] | None:
        """The next batch by the name of the graph's input; None at the end."""
        if self.seen >= self._images:
            return None
        batch = next(self._batches, None)
        if batch is None:
            return None
        images = batch.images[: self._images - self.seen]
        self.seen += len(images)
        return {INPUT: images.contiguous().numpy()}
