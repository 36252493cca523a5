"""QOperator files as ONNX Runtime's own quantizer writes them: three networks in three formats."""

import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import intsim

SIDE = 16


class Calibration(CalibrationDataReader):
    def __init__(self):
        rng = np.random.default_rng(5)
        self.data = iter([{"x": rng.normal(size=(1, 3, SIDE, SIDE)).astype(np.float32)} for _ in range(4)])

    def get_next(self):
        return next(self.data, None)


class Floats:
    """A float network: layers with random weights, one call a node."""

    def __init__(self, seed):
        self.rng, self.nodes, self.weights = np.random.default_rng(seed), [], []

    def constant(self, array):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op, *inputs, **attributes):
        out = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [out], name=f"{out}_node", **attributes))
        return out

    def drawn(self, *shape):
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 4
        return self.constant((self.rng.normal(size=shape) / np.sqrt(fan_in)).astype(np.float32))

    def conv(self, x, before, after, kernel, stride=1, group=1):
        pad = kernel // 2
        shape = (after, before // group, kernel, kernel)
        at = {"strides": [stride] * 2, "pads": [pad] * 4, "group": group, "kernel_shape": [kernel] * 2}
        return self.node("Conv", x, self.drawn(*shape), self.drawn(after), **at)

    def gemm(self, x, before, after):
        return self.node("Gemm", x, self.drawn(after, before), self.drawn(after), transB=1)

    def saved(self, out, path):
        graph = helper.make_graph(
            self.nodes,
            "floats",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
            [helper.make_tensor_value_info(out, TensorProto.FLOAT, None)],
            self.weights,
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def residual(net):
    """A residual block, a strided layer, the mean of all positions, a classifier."""
    x = net.node("Relu", net.conv("x", 3, 8, 3))
    y = net.conv(net.node("Relu", net.conv(x, 8, 8, 3)), 8, 8, 3)
    x = net.node("Relu", net.node("Add", x, y))
    x = net.node("Relu", net.conv(x, 8, 12, 3, stride=2))
    return net.gemm(net.node("Flatten", net.node("GlobalAveragePool", x)), 12, 5)


def inverted(net):
    """Two inverted residuals: a wide 1x1 layer, depthwise, a narrow 1x1 layer without an activation."""
    edges = [net.constant(np.float32(v)) for v in (0, 6)]
    x = net.node("Clip", net.conv("x", 3, 6, 3, stride=2), *edges)
    for _ in range(2):
        y = net.node("Clip", net.conv(x, 6, 18, 1), *edges)
        y = net.node("Clip", net.conv(y, 18, 18, 3, group=18), *edges)
        x = net.node("Add", x, net.conv(y, 18, 6, 1))
    x = net.node("Mul", x, net.node("Sigmoid", net.conv(net.node("GlobalAveragePool", x), 6, 6, 1)))
    return net.gemm(net.node("Flatten", net.node("GlobalAveragePool", x)), 6, 5)


def unet(net):
    """Down by an average, up by nearest pixels, a concatenation; a sigmoid gate and a softmax over channels."""
    top = net.node("LeakyRelu", net.conv("x", 3, 6, 3), alpha=0.1)
    low = net.node("AveragePool", top, kernel_shape=[2, 2], strides=[2, 2])
    low = net.node("LeakyRelu", net.conv(low, 6, 8, 3), alpha=0.1)
    scales = net.constant(np.float32([1, 1, 2, 2]))
    up = net.node("Resize", low, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric",
                  nearest_mode="floor")  # fmt: skip
    x = net.conv(net.node("Concat", top, up, axis=1), 14, 6, 3)
    x = net.node("Mul", x, net.node("Sigmoid", x))
    return net.node("Softmax", net.conv(x, 6, 4, 1), axis=1)


NETWORKS = {"residual": residual, "inverted": inverted, "unet": unet}
FORMATS = {
    "u8u8": ("QUInt8", "QUInt8", False),
    "u8s8 per channel": ("QUInt8", "QInt8", True),
    "s8s8": ("QInt8", "QInt8", False),
}
HOLDS = {
    "residual": {"QLinearAdd", "QLinearGlobalAveragePool", "QGemm"},
    "inverted": {"QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearGlobalAveragePool", "QGemm"},
    "unet": {"QLinearAveragePool", "QLinearConcat", "QLinearLeakyRelu", "QLinearSigmoid", "QLinearMul",
             "QLinearSoftmax"},
}  # fmt: skip


def quantized(network, kind, folder):
    """The path of a network's file in that format."""
    activation, weight, per_channel = FORMATS[kind]
    net, source, path = Floats(3), folder / "float.onnx", folder / "quantized.onnx"
    net.saved(NETWORKS[network](net), source)
    logging.disable(logging.WARNING)
    try:
        quantize_static(
            source,
            path,
            Calibration(),
            quant_format=QuantFormat.QOperator,
            per_channel=per_channel,
            activation_type=QuantType[activation],
            weight_type=QuantType[weight],
        )
    finally:
        logging.disable(logging.NOTSET)
    return path


@pytest.mark.parametrize(
    ("network", "kind"),
    [
        # each network and each format every day, all pairs in the long suite
        pytest.param(network, kind, marks=[pytest.mark.slow] * (i != j))
        for i, network in enumerate(NETWORKS)
        for j, kind in enumerate(FORMATS)
    ],
)
def test_a_statically_quantized_file_is_exact(network, kind, tmp_path):
    path = quantized(network, kind, tmp_path)
    nodes = {n.name: n for n in onnx.load(path).graph.node}
    own = {n.op_type for n in nodes.values() if n.domain == "com.microsoft"}
    assert own == HOLDS[network]
    loaded = intsim.load(path)
    assert not loaded.lowered.prologue.operations
    for node in loaded.graph.nodes:
        assert nodes[node.source].op_type == node.source_op
    assert own <= {n.source_op for n in loaded.graph.nodes}
    verdict = intsim.verify(path, samples=1, seed=1)
    assert verdict.verdict == "exact"
    assert verdict.first_divergence is None
    report = verdict.references["onnxruntime"]
    assert report.reason is None
    assert report.judged > 2000
    # ties that a float kernel decides by chance, at most
    assert report.mismatches == report.blame["float_rounding"] == sum(report.blame.values())
