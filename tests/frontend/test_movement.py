"""Data movement and resizing, against the reference."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import intsim

from .build import Net, check, halves

RNG = np.random.default_rng(5)
SHAPE = (2, 4, 4, 6)
SCALES = {
    "one": np.float32(0.25),
    "channel": np.float32([0.25, 0.5, 0.375, 1]).reshape(1, 4, 1, 1),
    "row": np.float32([0.25, 0.5, 0.375, 1]).reshape(1, 1, 4, 1),
}


def run(make, shape=SHAPE, scale="one", zero=0.0, opset=17, extra=()):
    """Move codes, and an activated accumulator with channel biases; quantize both again."""
    net = Net(opset)
    x = net.quant(net.input(*shape), SCALES[scale] if isinstance(scale, str) else scale, zero, 4, signed=int(zero == 0))
    bias = np.float32(RNG.integers(-4, 5, (1, shape[1], *[1] * (len(shape) - 2))) / 8)
    y = net.node("LeakyRelu", net.node("Add", x, bias), alpha=0.25)
    ends = []
    for v in (x, y):
        made = make(net, v)
        ends += made if isinstance(made, list) else [made]
    ends += [net.quant(e, 0.25, 0, 4, rounding_mode="HALF_UP") for e in ends]
    return check(net.model(*ends), {"x": halves(RNG, shape)}, 5)


MOVES = {
    "reshape": lambda n, v: n.node("Reshape", v, np.int64([0, 2, 2, -1])),
    "reshape to less": lambda n, v: n.node("Reshape", v, np.int64([-1])),
    "flatten": lambda n, v: [n.node("Flatten", v), n.node("Flatten", v, axis=0), n.node("Flatten", v, axis=-1)],
    "transpose": lambda n, v: [n.node("Transpose", v, perm=[0, 2, 3, 1]), n.node("Transpose", v)],
    "unsqueeze": lambda n, v: n.node("Squeeze", n.node("Unsqueeze", v, np.int64([0, -1])), np.int64([0])),
    "squeeze all": lambda n, v: n.node("Squeeze", n.node("Unsqueeze", v, np.int64([2, 4]))),
    "slice": lambda n, v: n.node("Slice", v, np.int64([1, 0]), np.int64([3, 100]), np.int64([1, -1]), np.int64([1, 2])),
    "slice back": lambda n, v: n.node(
        "Slice", v, np.int64([-1, 3]), np.int64([-(2**63) + 1, 0]), np.int64([3, 1]), np.int64([-2, -1])
    ),
    "slice to -1": lambda n, v: n.node("Slice", v, np.int64([0]), np.int64([-1]), np.int64([2])),
    "slice default axes": lambda n, v: n.node("Slice", v, np.int64([0, 1]), np.int64([1, 3])),
    "split": lambda n, v: n.node("Split", v, np.int64([1, 3]), axis=1, outputs=2),
    "split equal": lambda n, v: n.node("Split", v, axis=-1, outputs=3),
    "depth to space": lambda n, v: n.node("DepthToSpace", v, blocksize=2),
    "depth to space CRD": lambda n, v: n.node("DepthToSpace", v, blocksize=2, mode="CRD"),
    "space to depth": lambda n, v: n.node("SpaceToDepth", v, blocksize=2),
    "gather": lambda n, v: n.node("Gather", v, np.int64([[3, -4], [1, 1]]), axis=1),
    "gather one": lambda n, v: n.node("Gather", v, np.int64(-1), axis=2),
    "expand": lambda n, v: n.node("Expand", n.node("Unsqueeze", v, np.int64([1])), np.int64([3, 1, 2, 1, 4, 1])),
    "pad zero": lambda n, v: n.node("Pad", v, np.int64([0, 0, 1, 2, 0, 0, 0, 1])),
    "pad on the grid": lambda n, v: n.node("Pad", v, np.int64([0, 1, 1, 2, 0, 0, 0, 1]), np.float32(0.75)),
    "pad off the grid": lambda n, v: n.node("Pad", v, np.int64([1, 0, 1, 2, 0, 1, 0, 1]), np.float32(0.3)),
    "pad far": lambda n, v: n.node("Pad", v, np.int64([1, 0, 1, 2, 0, 1, 0, 1]), np.float32(-1000)),
    "pad reflect": lambda n, v: n.node("Pad", v, np.int64([0, 0, 2, 3, 0, 0, 1, 0]), mode="reflect"),
    "pad edge": lambda n, v: n.node("Pad", v, np.int64([0, 1, 2, 3, 0, 0, 1, 0]), mode="edge"),
    "pad negative": lambda n, v: n.node("Pad", v, np.int64([0, -1, 2, -3, 0, 0, -1, 1]), np.float32(0.25)),
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("zero", [0.0, 3.0])
def test_moves(move, scale, zero):
    run(MOVES[move], scale=scale, zero=zero)


def pick(n, v):
    return n.node("Gather", v, np.int64([0, 1, 3, 4, 5]), axis=3)


OLD = {
    "reshape": (5, lambda n, v: n.node("Reshape", v, np.int64([0, -1]))),
    "squeeze": (11, lambda n, v: n.node("Squeeze", n.node("Unsqueeze", v, axes=[0, 3]), axes=[0])),
    "slice": (9, lambda n, v: n.node("Slice", v, starts=[1, -3], ends=[4, 1000], axes=[1, 3])),
    "slice all axes": (9, lambda n, v: n.node("Slice", v, starts=[0, 1], ends=[2, -1])),
    "split": (11, lambda n, v: n.node("Split", v, axis=1, split=[1, 3], outputs=2)),
    "pad": (10, lambda n, v: n.node("Pad", v, pads=[0, 0, 1, 2, 0, 0, 0, 1], value=0.5)),
    "pad reflect": (10, lambda n, v: n.node("Pad", v, pads=[0, 0, 1, 2, 0, 0, 0, 1], mode="reflect")),
    "pad axes": (18, lambda n, v: n.node("Pad", v, np.int64([1, 2, 0, 1]), np.float32(0.5), np.int64([-1, 1]))),
    "split count": (18, lambda n, v: n.node("Split", pick(n, v), axis=3, num_outputs=3, outputs=3)),
    "upsample attribute": (7, lambda n, v: n.node("Upsample", v, scales=[1.0, 1.0, 2.0, 3.0])),
    "upsample": (9, lambda n, v: n.node("Upsample", v, np.float32([1, 1, 2, 1.5]))),
    "upsample linear": (9, lambda n, v: n.node("Upsample", v, np.float32([1, 1, 2, 4]), mode="linear")),
    "resize 10": (10, lambda n, v: n.node("Resize", v, np.float32([1, 1, 1.5, 0.5]))),
    "resize 10 uneven": (10, lambda n, v: n.node("Resize", v, np.float32([1, 1, 2.5, 1.75]))),
    "resize 10 linear": (10, lambda n, v: n.node("Resize", v, np.float32([1, 1, 1.5, 0.5]), mode="linear")),
    "resize axes": (18, lambda n, v: n.node("Resize", v, None, np.float32([2, 0.5]), axes=[3, 2])),
}


@pytest.mark.parametrize("move", OLD)
def test_other_opsets(move):
    opset, make = OLD[move]
    run(make, opset=opset, scale="channel", zero=3.0)


COORDINATES = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
FACTORS = [
    np.float32([1, 1, 2, 2]),
    np.float32([1, 1, 0.5, 1.5]),
    np.float32([1, 1, 0.3, 2.75]),
    np.float32([2, 1, 1, 1]),
]


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_resize_nearest(coordinates, nearest):
    for factors in FACTORS:
        attributes = {"mode": "nearest", "coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
        run(
            lambda n, v, f=factors, a=attributes: n.node("Resize", v, None, f, **a), opset=19, zero=3.0, scale="channel"
        )


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("scale", SCALES)
def test_resize_linear(coordinates, scale):
    attributes = {"mode": "linear", "coordinate_transformation_mode": coordinates}
    for factors in (FACTORS[0], FACTORS[1], np.float32([1, 1, 4, 0.25])):
        run(lambda n, v, f=factors: n.node("Resize", v, None, f, **attributes), opset=19, zero=3.0, scale=scale)
    for sizes in ([2, 4, 7, 5], [2, 4, 1, 1], [2, 4, 4, 13]):
        run(lambda n, v, s=sizes: n.node("Resize", v, None, None, np.int64(s), **attributes), opset=19, scale=scale)


def test_resize_of_one_axis_with_sizes():
    run(lambda n, v: n.node("Resize", v, None, None, np.int64([2, 4, 6, 9]), mode="nearest"))
    run(lambda n, v: n.node("Resize", v, None, np.float32([1, 1, 3]), mode="linear"), shape=(1, 4, 5), scale=0.25)


@pytest.mark.parametrize("axis", [1, 2, -1, 0])
@pytest.mark.parametrize(("first", "second"), [("one", "one"), ("one", "channel"), ("channel", "row")])
def test_concat(axis, first, second):
    """Codes side by side; then a quantizer, a convolution and a pool that need one grid."""
    net = Net()
    x = net.quant(net.input(*SHAPE), SCALES[first], 1.0, 4)
    y = net.quant("x", SCALES[second] * (1 if first == second else np.float32(1.5)), 0.0, 4)
    c = net.node("Concat", x, y, net.node("Relu", x), axis=axis)
    channels = 12 if axis == 1 else 4
    conv = net.node("Conv", c, net.quant(halves(RNG, (2, channels, 2, 2))))
    pool = net.node("MaxPool", c, kernel_shape=[2, 2])
    again = net.quant(c, 0.5, 0, 3)
    ends = [c, conv, pool, again, net.quant(conv, 0.75), net.node("GlobalAveragePool", c), net.node("Mul", c, again)]
    check(net.model(*ends), {"x": halves(RNG, SHAPE)}, 9)


def test_concat_of_residuals():
    net = Net()
    x = net.quant(net.input(*SHAPE), 0.25, 0, 4)
    a = net.node("Add", x, net.node("Relu", x))
    b = net.node("Mul", x, x)
    check(net.model(net.quant(net.node("Concat", a, b, axis=1), 0.75)), {"x": halves(RNG, SHAPE)}, 2)


def test_concat_of_quantized_weights():
    net = Net()
    w = net.node("Concat", net.quant(halves(RNG, (2, 3)), 0.5), net.quant(halves(RNG, (1, 3)), 0.25), axis=0)
    y = net.node("MatMul", net.quant(net.input(4, 3)), w)
    check(net.model(y), {"x": halves(RNG, (4, 3))}, 2)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("places", ["ctc", "tc", "ct", "tctt"])
def test_concat_of_tensors_and_constants(axis, places):
    """Quantized constants (a class token) and float ones; then a quantizer, a product, a pool and an output."""
    net = Net()
    shape = (2, 3, 4)
    x = net.quant(net.input(*shape), 0.25, 1.0, 4)
    tensors = iter([x, net.quant("x", 0.375, 0.0, 4), net.node("Relu", x)])
    constants = iter([net.quant(halves(RNG, shape), 0.5), np.float32(RNG.normal(size=shape))])
    c = net.node("Concat", *(next(tensors if p == "t" else constants) for p in places), axis=axis)
    last = 4 * len(places) if axis == -1 else 4
    product = net.node("MatMul", net.quant(c, 0.5, 0, 8), net.quant(halves(RNG, (last, 2))))
    ends = [c, net.quant(c, 0.75, 0, 4), net.node("ReduceMean", c, axes=[1]), net.quant(product, 0.75, 0, 8)]
    check(net.model(*ends), {"x": halves(RNG, shape)}, 5)


def test_concat_of_codes_and_a_constant_of_the_file():
    """Integers of the file beside integers of the file; what float32 makes of the constant is in no code."""
    net = Net()
    q = net.node("QuantizeLinear", net.input(2, 3), np.float32(0.5), np.int8(3))
    c = net.node("Concat", np.int8([[-128, 127]] * 2), q, axis=1)
    y = net.node("DequantizeLinear", c, np.float32(0.5), np.int8(3))
    run = check(net.model(net.quant(y, 0.75, 0, 9), c, kinds={c: TensorProto.INT8}), {"x": halves(RNG, (2, 3))}, 2)
    assert run.outputs[c][:, :2].tolist() == [[-128, 127]] * 2


@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 1), (4,), ()])
@pytest.mark.parametrize("sides", ["xy", "xc", "cx", "xx"])
def test_where(sides, shape):
    """A constant condition, broadcast; tensors of other scales and zero points, steps in front, a mask's number."""
    net = Net()
    condition = RNG.random(shape) < 0.5
    x = net.quant(net.input(2, 3, 4), np.float32([0.25, 0.5, 0.75]).reshape(3, 1), 2.0, 4)
    other = {"x": lambda: net.node("Relu", x), "c": lambda: np.float32(-1000)}
    other["y"] = lambda: net.quant(net.input(3, 4, name="y"), 0.375, 0, 4)
    operands = [x if s == "x" and i == sides.index("x") else other[s]() for i, s in enumerate(sides)]
    y = net.node("Where", condition, *operands)
    ends = [y, net.quant(y, 0.5, 0, 4), net.quant(net.node("Softmax", net.quant(y, 0.5, 0, 4)), 0.125, 0, 4)]
    check(net.model(*ends), {"x": halves(RNG, (2, 3, 4))} | ({"y": halves(RNG, (3, 4))} if "y" in sides else {}), 3)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_table(axis):
    """A constant table of quantized rows, read by integer codes; its scale differs from column to column."""
    net = Net()
    index = net.input(2, 3, kind=TensorProto.UINT8, name="i")
    shape = [4, 5, 6]
    shape[axis] = 256
    scale_shape = [1 if i == axis % 3 else s for i, s in enumerate(shape)]
    scale = np.float32(2.0 ** RNG.integers(-3, 1, scale_shape))
    table = net.quant(halves(RNG, shape), scale, 0, 4)
    y = net.node("Gather", table, index, axis=axis)
    check(net.model(net.quant(y, 0.3)), {"i": RNG.integers(0, 256, (2, 3)).astype(np.uint8)}, 1)


def test_table_of_powers_of_two_and_of_integers():
    for table in (np.float32(RNG.integers(-9, 9, (256, 4)) / 8), RNG.integers(-9, 9, (256, 4)).astype(np.int8)):
        net = Net()
        y = net.node("Gather", table, net.input(2, 3, kind=TensorProto.UINT8, name="i"))
        y = y if table.dtype == np.float32 else net.node("DequantizeLinear", y, np.float32(0.125), np.int8(1))
        w = net.quant(halves(RNG, (4, 2)))
        index = RNG.integers(0, 256, (2, 3)).astype(np.uint8)
        check(net.model(y, net.quant(net.node("MatMul", y, w), 0.75)), {"i": index}, 2)


def test_shape_arithmetic_is_folded():
    net = Net()
    x = net.quant(net.input(2, 4, 3, 5))
    shape = net.node("Shape", x)
    batch = net.node("Unsqueeze", net.node("Gather", shape, np.int64(0)), np.int64([0]))
    rest = net.node("Mul", net.node("Slice", shape, np.int64([2]), np.int64([4])), np.int64([2, 2]))
    y = net.node("Reshape", x, net.node("Concat", batch, np.int64([-1]), axis=0))
    z = net.node("Resize", x, None, None, net.node("Concat", net.node("Shape", x, start=0, end=2), rest, axis=0))
    check(net.model(net.quant(y, 0.5), net.quant(z, 0.5)), {"x": halves(RNG, (2, 4, 3, 5))}, 3)


def test_size_is_folded():
    net = Net()
    x = net.quant(net.input(2, 3))
    y = net.node("Reshape", x, net.node("Unsqueeze", net.node("Size", x), np.int64([0])))
    values = halves(RNG, (2, 3))
    run = intsim.run(net.model(x, y), inputs={"x": values})
    np.testing.assert_array_equal(run.outputs[y], run.outputs[x].reshape(-1))


def test_resize_sizes_are_rounded_in_float32():
    """10 * float32(0.7) is below 7 exactly, and 7 in float32, as ONNX's shape inference has it."""
    made = run(lambda n, v: n.node("Resize", v, None, np.float32([1, 1, 0.7]), mode="linear"), (1, 2, 10), opset=13)
    assert next(iter(made.outputs.values())).shape == (1, 2, 7)


def test_constants_made_by_nodes():
    net = Net()
    c = net.node("Constant", value=numpy_helper.from_array(np.float32([1, 2, 3])))
    f = net.node("Constant", value_float=0.5)
    v = net.node("Constant", value_floats=[1.0, -2.0, 4.0])
    k = net.node("ConstantOfShape", np.int64([2, 3]), value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.75]))
    y = net.node("Add", net.node("Mul", net.node("Add", net.node("Mul", net.quant(net.input(2, 3)), c), f), v), k)
    check(net.model(net.quant(y, 0.75, 0, 6)), {"x": halves(RNG, (2, 3))}, 2)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("repeats", [[1, 2, 1, 3], [2, 1, 3, 1], [1, 1, 1, 1]])
def test_tile(repeats, scale):
    run(lambda net, v: net.node("Tile", v, np.int64(repeats)), scale=scale)


def test_tile_of_another_rank_is_refused():
    net = Net()
    y = net.node("Tile", net.quant(net.input(2, 3)), np.int64([2]))
    with pytest.raises(intsim.IntsimError, match="repeats"):
        intsim.load(net.model(net.quant(y)))
