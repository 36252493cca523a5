"""Float work before the first quantizer and after the last accumulator."""

import numpy as np
import pytest
from onnx import TensorProto

import intsim
from intsim.verification.reference import Reference

from .build import CHANNELS_LAST, Net, check, halves

RNG = np.random.default_rng(6)


def test_image_prologue():
    """x / 255, mean and deviation, then the quantizer: values away from ties, where float64 decides as exactly."""
    net = Net()
    x = net.node("Div", net.input(1, 3, 4, 4), np.float32(255))
    x = net.node("Sub", x, np.float32([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1))
    x = net.node("Mul", x, np.float32([4.4, 4.5, 4.4]).reshape(1, 3, 1, 1))
    y = net.quant(x, 0.03, 0, 8)
    a = net.node("Conv", y, net.quant(halves(RNG, (2, 3, 3, 3))))
    model = net.model(net.quant(a, 0.5, 0, 8))
    run = check(model, {"x": np.float32(RNG.integers(0, 256, (1, 3, 4, 4)))}, 2)
    assert len(intsim.load(model).lowered.prologue.operations) == 3
    assert run.inputs[y].shape == (1, 3, 4, 4)


@pytest.mark.parametrize("last", [False, True])
def test_float_convolution_before_the_first_quantizer(last):
    net = Net()
    shape, w = ((1, 5, 5, 2), (3, 3, 3, 2)) if last else ((1, 2, 5, 5), (3, 2, 3, 3))
    domain = CHANNELS_LAST if last else ""
    x = net.node("Conv", net.input(*shape), np.float32(RNG.normal(size=w)), domain=domain, kernel_shape=[3, 3])
    y = net.quant(net.node("Relu", x), 0.11, 0, 4, signed=0)
    model = net.model(net.node("MatMul", y, net.quant(halves(RNG, (3, 2)))))
    check(model, {"x": np.float32(RNG.normal(size=shape))}, 2)


def test_prologue_with_batch_normalization_of_opset_9():
    net = Net(9)
    p = [np.float32([1.5, -2]), np.float32([0.1, 0.2]), np.float32([0.3, 0.4]), np.float32([1, 2])]
    y = net.quant(net.node("BatchNormalization", net.input(2, 2, 3, 3), *p), 0.11)
    check(net.model(y), {"x": np.float32(RNG.normal(size=(2, 2, 3, 3)))}, 2)


def epilogue(make, shape=(2, 6), least=2, kinds=None, opset=17):
    net = Net(opset)
    x = net.quant(net.input(*shape), 0.25, 0, 4)
    a = net.node("MatMul", x, net.quant(halves(RNG, (shape[-1], 4))))
    ends = make(net, a)
    ends = ends if isinstance(ends, list) else [ends]
    model = net.model(*ends, kinds=kinds(ends) if kinds else None)
    values = {"x": halves(RNG, shape)}
    return model, values, intsim.run(model, inputs=values), Reference(model).run(values)


def same(run, reference, names):
    for name in names:
        wanted = reference.value(name)
        assert run.outputs[name].shape == wanted.shape
        np.testing.assert_allclose(run.outputs[name].astype(np.float64), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("op", ["Softmax", "Sigmoid", "Tanh", "Exp", "LogSoftmax", "Erf"])
def test_functions(op):
    model, _, run, reference = epilogue(lambda n, a: n.node(op, a))
    same(run, reference, run.outputs)
    assert next(iter(run.outputs.values())).dtype == np.float32
    assert np.unique(next(iter(run.outputs.values()))).size > 2
    assert intsim.load(model).lowered.epilogue.names


def test_softmax_of_two_axes_before_opset_13():
    _, _, run, reference = epilogue(lambda n, a: n.node("Softmax", a, axis=1), (2, 3, 6), opset=11)
    same(run, reference, run.outputs)


def test_argmax():
    _model, _, run, reference = epilogue(
        lambda n, a: n.node("ArgMax", a, axis=1, keepdims=0), kinds=lambda e: {e[0]: TensorProto.INT64}
    )
    same(run, reference, run.outputs)
    assert next(iter(run.outputs.values())).dtype == np.int64


def test_scale_bias_and_unquantized_linear():
    def make(n, a):
        b = n.node("Add", n.node("Mul", a, np.float32([0.1, 0.2, 0.3, 0.4])), np.float32(0.7))
        return [b, n.node("Gemm", b, np.float32(RNG.normal(size=(4, 3))), np.float32([1, 2, 3])), n.node("Sigmoid", b)]

    model, _values, run, reference = epilogue(make)
    same(run, reference, run.outputs)
    lowered = intsim.load(model).lowered
    assert not {o.op for o in lowered.epilogue.operations} - {"Mul", "Add", "Gemm", "Sigmoid"}


def test_integers_behind_outputs():
    net = Net()
    y = net.quant(net.node("MatMul", net.quant(net.input(2, 6)), net.quant(halves(RNG, (6, 4)))), 0.75)
    z = net.node("Softmax", net.node("Transpose", y))
    model, values = net.model(y, z), {"x": halves(RNG, (2, 6))}
    run = intsim.run(model, inputs=values)
    np.testing.assert_array_equal(run.codes[y], Reference(model).run(values).codes[y])


def test_epilogue_that_reads_the_input():
    """A residual around the whole network, added in float."""
    net = Net()
    x = net.input(2, 6)
    y = net.quant(net.node("MatMul", net.quant(x), net.quant(halves(RNG, (6, 6)))), 0.75)
    z = net.node("Sigmoid", y)
    w = net.node("Add", z, x)
    model, values = net.model(w), {"x": halves(RNG, (2, 6))}
    same(intsim.run(model, inputs=values), Reference(model).run(values), [w])


def test_output_types():
    for kind, dtype in ((TensorProto.DOUBLE, np.float64), (TensorProto.FLOAT16, np.float16)):
        net = Net()
        y = net.node("Cast", net.quant(net.input(2, 6)), to=kind)
        assert intsim.run(net.model(y, kinds={y: kind}), inputs={"x": halves(RNG, (2, 6))}).outputs[y].dtype == dtype


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({}, "needs input 'x'"),
        ({"x": np.zeros((2, 6), np.float32), "z": 0}, "has no input 'z'"),
        ({"x": np.zeros((2, 5), np.float32)}, "shape"),
        ({"x": np.full((2, 6), np.nan, np.float32)}, "NaN"),
        ({"x": np.full((2, 6), np.inf)}, "NaN"),
        ({"x": np.full((2, 6), "a")}, "not numeric"),
        ({"x": np.full((2, 6), None)}, "not numeric"),
        ({"x": np.full((2, 6), 1j)}, "not numeric"),
        ({"x": [[1, 2], [3]]}, "input x: "),
    ],
)
def test_bad_inputs(inputs, text):
    net = Net()
    with pytest.raises(intsim.IntsimError, match=text) as error:
        intsim.run(net.model(net.quant(net.input(2, 6))), inputs=inputs)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("kind", "bad"), [(TensorProto.UINT8, 256), (TensorProto.INT8, -129), (TensorProto.INT4, 8)])
def test_integer_inputs_stay_in_their_type(kind, bad):
    net = Net(21)
    zero = net.const(0, kind=kind)
    y = net.node("DequantizeLinear", net.input(2, 2, kind=kind), np.float32(0.25), zero)
    model = net.model(net.quant(y))
    intsim.run(model, inputs={"x": np.zeros((2, 2), np.int64)})
    with pytest.raises(intsim.IntsimError, match="which intsim takes"):
        intsim.run(model, inputs={"x": np.full((2, 2), bad)})
    with pytest.raises(intsim.IntsimError, match="takes integers"):
        intsim.run(model, inputs={"x": np.zeros((2, 2))})


def with_shape(net, a, y):
    """A model whose output is the sum of `a` plus the shape of `y`."""
    total = net.node("ReduceSum", a, keepdims=0)
    return net.model(net.node("Add", total, net.node("Cast", net.node("Shape", y), to=TensorProto.FLOAT)))


@pytest.mark.parametrize("how", ["pads", "range", "reduced"])
def test_a_shape_that_numbers_decide_is_no_constant(how):
    """Shape of what an input's numbers pad, count or reduce: zeros, on which shapes are tried, tell nothing."""
    net = Net(18)
    a = net.quant(net.input(1, 4, 4), 0.25, 0, 4)
    n = net.node("Mod", net.input(6 if how == "pads" else 1, name="n", kind=TensorProto.INT64), np.array([9]))
    y = {
        "pads": lambda: net.node("Pad", net.node("Sin", "x"), n),
        "range": lambda: net.node("Range", np.array(0), net.node("Squeeze", n), np.array(1)),
        "reduced": lambda: net.node("ReduceSum", net.node("Sin", "x"), n, keepdims=0),
    }[how]()
    with pytest.raises(intsim.IntsimError, match=r"\(Shape\): the shape of .* is known at run time only") as error:
        intsim.load(with_shape(net, a, y))
    assert "\n" not in str(error.value)


def test_a_shape_made_of_shapes_is_known():
    """Numbers that come of shapes alone decide nothing new."""
    net = Net(18)
    a = net.quant(net.input(2, 4, 4), 0.25, 0, 4)
    sizes = net.node("Mod", net.node("Shape", net.node("Sin", "x")), np.array([3, 3, 3]))
    y = net.node("Tile", net.node("Sin", "x"), sizes)
    run = intsim.run(with_shape(net, a, y), inputs={"x": np.zeros((2, 4, 4), np.float32)})
    assert next(iter(run.outputs.values())).tolist() == [4, 4, 4]
