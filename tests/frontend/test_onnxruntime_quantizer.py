"""QCDQ files as ONNX Runtime's own quantizer writes them."""

import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import intsim


class Calibration(CalibrationDataReader):
    def __init__(self):
        rng = np.random.default_rng(5)
        self.data = iter([{"x": rng.normal(size=(1, 3, 16, 16)).astype(np.float32)} for _ in range(4)])

    def get_next(self):
        return next(self.data, None)


@pytest.fixture(scope="module")
def float_model(tmp_path_factory):
    rng = np.random.default_rng(3)

    def weight(name, *shape):
        fan_in = np.prod(shape[1:]) if len(shape) > 1 else 1
        return numpy_helper.from_array((rng.normal(size=shape) / np.sqrt(fan_in)).astype(np.float32), name)

    def node(op, inputs, output, **attributes):
        return helper.make_node(op, inputs, [output], name=f"{output}_{op}", **attributes)

    nodes = [
        node("Conv", ["x", "w1", "b1"], "c1", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], "r1"),
        node("MaxPool", ["r1"], "p1", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p1", "w2", "b2"], "c2", pads=[1, 1, 1, 1], group=8),
        node("Add", ["c2", "p1"], "a1"),
        node("LeakyRelu", ["a1"], "l1", alpha=0.1),
        node("Concat", ["l1", "p1"], "cat", axis=1),
        node("ConvTranspose", ["cat", "w3", "b3"], "t1", strides=[2, 2], kernel_shape=[2, 2]),
        node("AveragePool", ["t1"], "ap", kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["ap"], "g"),
        node("Flatten", ["g"], "f"),
        node("Gemm", ["f", "w4", "b4"], "y", transB=1),
    ]
    weights = [
        weight(f"{kind}{i}", *(shape if kind == "w" else shape_of_bias))
        for i, (shape, shape_of_bias) in enumerate(
            [((8, 3, 3, 3), (8,)), ((8, 1, 3, 3), (8,)), ((16, 6, 2, 2), (6,)), ((5, 6), (5,))], 1
        )
        for kind in "wb"
    ]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        weights,
    )
    path = tmp_path_factory.mktemp("float") / "float.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("per_channel", "activation"),
    [
        *[(False, "QUInt8"), (True, "QInt8")],
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [(False, "QInt8"), (True, "QUInt8")]),
    ],
)
def test_a_statically_quantized_file_is_exact(float_model, tmp_path, activation, per_channel):
    path = tmp_path / "quantized.onnx"
    logging.disable(logging.WARNING)
    try:
        quantize_static(
            float_model,
            path,
            Calibration(),
            quant_format=QuantFormat.QDQ,
            per_channel=per_channel,
            activation_type=QuantType[activation],
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.disable(logging.NOTSET)
    verdict = intsim.verify(path, samples=1, seed=1)
    assert verdict.verdict == "exact"
    for executor in verdict.references.values():
        assert executor.reason is None
        assert executor.judged > 5000
        # averages of equal scales end in exact ties, which float32 decides by chance
        assert executor.mismatches == executor.blame["float_rounding"] == sum(executor.blame.values())
    saturating = intsim.verify(path, "x86-avx2", samples=1, seed=1)
    assert saturating.overflows > 0
    assert saturating.first_divergence["blame"] == "overflow"
    for executor in saturating.references.values():
        assert executor.blame["overflow"] > 0
        assert executor.mismatches == sum(executor.blame.values())
    vnni = intsim.verify(path, "x86-vnni", samples=1, seed=1, references=False)
    assert vnni.holds
