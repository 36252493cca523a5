"""A runtime that quantizes the network's input otherwise: its codes are what layers behind are predicted on."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import intsim
from intsim.verification.processor import processor


@pytest.mark.skipif(processor() is None, reason="no target of ONNX Runtime is for this processor")
def test_codes_of_the_input_are_the_runtimes():
    """float32(x / s) lies at half a code where x / s does not; ONNX Runtime rounds that to the even one."""
    pytest.importorskip("onnxruntime")
    step = np.float32(0.1)
    halves = ((np.arange(120, dtype=np.float32) + np.float32(0.5)) * step).astype(np.float32)
    ties = np.float32(halves / step)
    values = halves[ties == np.floor(ties) + np.float32(0.5)]
    constants = {"s": step, "z": np.uint8(0), "c": np.uint8(7), "y_s": np.float32(0.05), "y_z": np.uint8(3)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="input"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["xf"]),
        helper.make_node("DequantizeLinear", ["c", "s", "z"], ["cf"]),
        helper.make_node("Add", ["xf", "cf"], ["f"]),
        helper.make_node("QuantizeLinear", ["f", "y_s", "y_z"], ["y"], name="sum"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, len(values)])
    y = helper.make_tensor_value_info("y", TensorProto.UINT8, [1, len(values)])
    held = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "input", [x], [y], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    told = intsim.witness_runtime(model, f"onnxruntime-{processor()}", {"x": values[None]})
    wrong = {line.name: line.mismatches for line in told.layers}
    assert wrong.pop("input") > 10
    assert wrong == {"sum": 0}
    assert not told.holds
