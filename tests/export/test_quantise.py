from __future__ import annotations

import numpy as np
import onnx


def test_the_int8_file_computes_in_integers_and_keeps_its_logits_fine(made):
    graph = onnx.load(made("resnet8")[1].folder / "model-int8.onnx").graph
    assert {tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 4} == {onnx.TensorProto.INT8}
    assert next(node for node in graph.node if "logits" in node.output).op_type == "Gemm"


def test_the_int8_file_is_as_accurate_when_its_sums_are_not_cut_short(made):
    # Weights beyond 7 bits overflow 16-bit sums on processors without VNNI.
    graph = onnx.load(made("resnet8")[1].folder / "model-int8.onnx").graph
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8:
            assert np.abs(onnx.numpy_helper.to_array(tensor).astype(int)).max(initial=0) <= 64
