"""MultiThreshold, XnorPopcountMatMul and Im2Col, against qonnx and Python's integers."""

import numpy as np
import onnx
import pytest
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.custom_op.general.multithreshold import multithreshold
from qonnx.custom_op.general.xnorpopcount import xnorpopcountmatmul
from qonnx.transformation.bipolar_to_xnor import ConvertBipolarMatMulToXnorPopcount
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.lower_convs_to_matmul import LowerConvsToMatMul

import intsim
from intsim.verification.reference import Reference

from .build import QONNX, Net, check


def counted(x, thresholds, axis):
    """Number by number, as the operator is described: how many thresholds of its channel each one reaches."""
    out = np.empty(x.shape, np.int64)
    for at in np.ndindex(*x.shape):
        row = thresholds[at[axis] if len(thresholds) > 1 else 0]
        out[at] = sum(float(x[at]) >= float(t) for t in row)
    return out


LAYOUTS = [((2, 3), "", 1), ((2, 3), "NC", 1), ((1, 3, 4), "NCW", 1), ((1, 4, 3), "", 2), ((1, 3, 2, 2), "NCHW", 1)]
LAYOUTS += [((1, 2, 2, 3), "NHWC", 3), ((1, 3, 2, 2), "", 1)]


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(("shape", "layout", "axis"), LAYOUTS)
def test_thresholds_of_integers_and_of_inputs(shape, layout, axis, alone):
    """Of codes of a quantizer with ties at every threshold, and of a real input."""
    rng = np.random.default_rng(len(layout) + 7 * alone)
    first, second = (np.sort(rng.integers(-9, 10, (1 if alone else 3, n)) / 4).astype(np.float32) for n in (5, 3))
    at = {"out_dtype": "INT4", "data_layout": layout, "domain": QONNX}
    net = Net()
    a = net.node("MultiThreshold", net.input(*shape), first, out_scale=0.5, out_bias=-1.0, **at)
    b = net.node("MultiThreshold", net.node("Mul", a, np.float32(1.5)), second, **at)
    x = (rng.integers(-10, 11, shape) / 4).astype(np.float32)
    run = check(net.model(a, b), {"x": x}, least=2)
    wanted = counted(x, first, axis)
    np.testing.assert_array_equal(run.tensors[a], wanted)
    np.testing.assert_array_equal(run.tensors[b], counted((wanted * 0.5 - 1) * 1.5, second, axis))
    moved = multithreshold(x.swapaxes(axis, 1), first, 0.5, -1.0).swapaxes(axis, 1)
    np.testing.assert_array_equal(run.outputs[a], moved.astype(np.float32))


def test_thresholds_behind_a_falling_scale_and_several_at_one_place():
    net = Net()
    x = net.quant(net.input(2, 3), 0.5, bits=4)
    scaled = net.node("Mul", x, np.float32([[-1, 0.25, 2]]))
    limits = np.float32([[-1, -1, 0.1], [0, 0.3, 0.3], [-2, 1, 7]])
    y = net.node("MultiThreshold", scaled, limits, out_dtype="UINT2", domain=QONNX)
    inputs = {"x": np.float32([[-0.5, 0.5, 1], [1, 1.5, -3]])}
    run = check(net.model(y), inputs, least=1)
    np.testing.assert_array_equal(run.tensors[y], counted(inputs["x"] * np.float32([[-1, 0.25, 2]]), limits, 1))


def test_refused_thresholds():
    for limits, why in ((np.ones(3), "shape"), (np.ones((2, 3)), "channels")):
        net = Net()
        y = net.node("MultiThreshold", net.quant(net.input(2, 3)), limits.astype(np.float32), domain=QONNX)
        with pytest.raises(intsim.IntsimError, match=f"MultiThreshold.*{why}"):
            intsim.load(net.model(y))


@pytest.mark.parametrize("constant", [0, 1, 2])
def test_binary_products(constant):
    """`constant`: which operand is, 0 for the second, 1 for the first, 2 for none."""
    rng = np.random.default_rng(3)
    a, b = (rng.integers(0, 2, s).astype(np.float32) for s in ((4, 9), (9, 5)))
    net = Net()

    def bits(x):
        return net.quant(x, 1.0, bits=1, signed=0)

    given = {n: v for n, v, fixed in (("a", a, constant == 1), ("b", b, constant == 0)) if not fixed}
    sides = [bits(net.input(*given[n].shape, name=n)) if n in given else net.const(v) for n, v in (("a", a), ("b", b))]
    y = net.node("XnorPopcountMatMul", *sides, domain=QONNX)
    run = check(net.model(y), given, least=1)
    wanted = [[sum(p == q for p, q in zip(row, column, strict=True)) for column in b.T] for row in a]
    np.testing.assert_array_equal(run.outputs[y], np.float32(wanted))
    np.testing.assert_array_equal(run.outputs[y], xnorpopcountmatmul(a, b))


def test_more_than_bits_is_refused():
    net = Net()
    y = net.node(
        "XnorPopcountMatMul",
        net.quant(net.input(2, 3), 1.0, bits=2, signed=0),
        np.ones((3, 2), np.float32),
        domain=QONNX,
    )
    with pytest.raises(intsim.IntsimError, match="more than 0 and 1"):
        intsim.load(net.model(y))


def network():
    """Signs, a product of signs, and thresholds behind it: what FINN makes of a binary layer."""
    rng = np.random.default_rng(5)
    net = Net(opset=11)
    weights = net.const(rng.choice([-1.0, 1.0], (6, 3)).astype(np.float32))
    sign = {"out_dtype": "BIPOLAR", "out_scale": 2.0, "out_bias": -1.0, "domain": QONNX}
    a = net.node("MultiThreshold", net.input(4, 6), np.zeros((1, 1), np.float32), **sign)
    b = net.node("MatMul", a, weights)
    c = net.node("MultiThreshold", b, np.float32([[-3, 0, 2], [-2, 1, 4], [-6, 0, 6]]), out_dtype="UINT2", domain=QONNX)
    wrapped = ModelWrapper(onnx.shape_inference.infer_shapes(net.model(c)))
    for name, kind in ((a, "BIPOLAR"), (weights, "BIPOLAR"), (b, "INT4"), (c, "UINT2")):
        wrapped.set_tensor_datatype(name, DataType[kind])
    for name, shape in ((a, [4, 6]), (b, [4, 3]), (c, [4, 3])):
        wrapped.set_tensor_shape(name, shape)
    return wrapped


def test_qonnx_own_conversion_to_bits():
    """Before and after qonnx makes bits of the signs: its own execution, and the same codes."""
    before = network()
    after = before.transform(ConvertBipolarMatMulToXnorPopcount())
    assert "XnorPopcountMatMul" in {n.op_type for n in after.graph.node}
    x = {"x": np.random.default_rng(1).uniform(-1, 1, (4, 6)).astype(np.float32)}
    for model in (before, after):
        loaded = intsim.load(model.model)
        (made,) = loaded.run(x).outputs.values()
        np.testing.assert_array_equal(made, next(iter(execute_onnx(model, x).values())))
        assert intsim.verify(loaded, inputs=x, references=False).verdict == "exact"
        assert intsim.certify(loaded, "finn-mvau").verdict == "certified"
        assert Reference(model.model).run(x).codes


@pytest.mark.parametrize("group", [1, 4])
def test_convolutions_that_qonnx_lowers_to_products(group):
    """Im2Col, a matrix product, transpositions: the codes of the convolution, and those of qonnx's own execution."""
    rng = np.random.default_rng(group)
    net = Net(opset=11)
    at = {"out_dtype": "INT4", "out_bias": -2.0, "domain": QONNX}
    x = net.node("MultiThreshold", net.input(1, 4, 5, 6), np.float32([[-0.5, -0.25, 0, 0.5]]), **at)
    w = net.const(rng.integers(-3, 4, (4, 4 // group, 3, 2)).astype(np.float32))
    made = {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 1], "group": group}
    y = net.node("MultiThreshold", net.node("Conv", x, w, **made), np.float32([[-8, -1, 0, 3, 9]]), **at)
    wrapped = ModelWrapper(net.model(y)).transform(InferShapes())
    wrapped.set_tensor_datatype(x, DataType["INT4"])
    lowered = wrapped.transform(LowerConvsToMatMul())
    assert "Im2Col" in {n.op_type for n in lowered.graph.node}
    inputs = {"x": rng.uniform(-1, 1, (1, 4, 5, 6)).astype(np.float32)}
    results = [next(iter(intsim.run(m.model, inputs=inputs).outputs.values())) for m in (wrapped, lowered)]
    np.testing.assert_array_equal(*results)
    np.testing.assert_array_equal(results[0], next(iter(execute_onnx(lowered, inputs).values())))
    assert intsim.verify(lowered.model, inputs=inputs, references=False).verdict == "exact"


def test_windows_with_dilations_and_another_padding():
    rng = np.random.default_rng(2)
    net = Net()
    x = net.quant(net.input(2, 4, 5, 3), 0.5, bits=4)
    at = {"kernel_size": [2, 3], "stride": [1, 2], "dilations": [2, 1], "pad_amount": [0, 1, 1, 2], "pad_value": 1}
    y = net.node("Im2Col", x, input_shape="(2,4,5,3)", domain=QONNX, **at)
    check(net.model(y, net.quant(y, 0.25, bits=5)), {"x": rng.normal(size=(2, 4, 5, 3)).astype(np.float32)}, least=2)
