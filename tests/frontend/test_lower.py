"""What can't be integer-only is refused: one IntsimError, one line, every node named. And what the lowering drops."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import intsim

from .build import CHANNELS_LAST, QONNX, Net, check, halves

RNG = np.random.default_rng(7)


def refused(model, *texts, **options):
    with pytest.raises(intsim.IntsimError) as error:
        intsim.load(model, **options)
    message = str(error.value)
    assert "\n" not in message
    for text in texts:
        assert text in message, message
    return message


def test_every_node_is_named_once():
    net = Net()
    x = net.quant(net.input(2, 4))
    ops = ["Hardmax", "LogSoftmax", "Acosh", "Asin", "Tan", "LpNormalization"]
    made = [net.node(op, x) for op in ops]
    behind = net.node("Relu", made[0])  # silent: its input was refused
    free = net.node("MatMul", x, np.float32(RNG.normal(size=(4, 4))))
    ends = [net.quant(y) for y in [*made, behind, free]]
    message = refused(net.model(*ends), *[f"node {op}_{m} ({op})" for op, m in zip(ops, made, strict=True)], "MatMul_")
    assert message.count("node ") == len(ops) + 1
    assert "Relu" not in message


def between(make, *shape, zero=0.0, opset=17, inputs=None):
    """A model in which `make` stands between two quantizers."""
    net = Net(opset)
    x = net.quant(net.input(*(shape or (1, 4, 4, 4))), 0.25, zero)
    return net.model(net.quant(make(net, x)))


W = np.float32(RNG.normal(size=(4, 4, 1, 1)))
CASES = {
    "float weights": (lambda n, x: n.node("Conv", x, W), "floats that no quantizer"),
    "float Gemm": (
        lambda n, x: n.node("Gemm", n.node("Flatten", x), np.float32(RNG.normal(size=(64, 2)))),
        "floats that",
    ),
    "run-time weights": (
        lambda n, x: n.node("ConvTranspose", x, n.quant(n.input(4, 4, 1, 1, name="w"))),
        "computed at run time",
    ),
    "float plus integers": (
        lambda n, x: n.node("Add", x, n.input(1, 4, 4, 4, name="y")),
        "mixes integers with a float",
    ),
    "float times integers": (lambda n, x: n.node("MatMul", x, n.input(1, 4, 4, 4, name="y")), "mixes integers"),
    "division": (lambda n, x: n.node("Div", x, n.quant("x", 0.5)), "divides by a tensor"),
    "by zero": (lambda n, x: n.node("Div", x, np.float32(0)), "divides by zero"),
    "reciprocal": (lambda n, x: n.node("Div", np.float32(1), x), "at code 0, where it reads 0: division by zero"),
    "cubic": (lambda n, x: n.node("Resize", x, None, np.float32([1, 1, 2, 2]), mode="cubic"), "mode cubic"),
    "crop": (
        lambda n, x: n.node(
            "Resize",
            x,
            np.float32([0] * 4 + [1] * 4),
            np.float32([1, 1, 2, 2]),
            coordinate_transformation_mode="tf_crop_and_resize",
        ),
        "tf_crop_and_resize",
    ),
    "aspect": (
        lambda n, x: n.node("Resize", x, None, None, np.int64([1, 4, 6, 9]), keep_aspect_ratio_policy="not_larger"),
        "keep_aspect_ratio_policy",
    ),
    "antialias": (
        lambda n, x: n.node("Resize", x, None, np.float32([1, 1, 0.5, 0.5]), mode="linear", antialias=1),
        "antialias",
    ),
    "training": (lambda n, x: n.node("BatchNormalization", x, *[np.float32([1] * 4)] * 4, training_mode=1), "training"),
    "variance": (lambda n, x: n.node("BatchNormalization", x, *[np.float32([-1] * 4)] * 4), "variance"),
    "channels": (lambda n, x: n.node("BatchNormalization", x, *[np.float32([1] * 3)] * 4), "channels"),
    "shape": (lambda n, x: n.node("Reshape", x, np.int64([7, -1])), "doesn't hold"),
    "two -1": (lambda n, x: n.node("Reshape", x, np.int64([-1, -1])), "doesn't hold"),
    "dynamic shape": (
        lambda n, x: n.node("Reshape", x, n.input(2, name="s", kind=TensorProto.INT64)),
        "not a constant",
    ),
    "perm": (lambda n, x: n.node("Transpose", x, perm=[0, 1, 1, 2]), "perm"),
    "axis": (lambda n, x: n.node("Squeeze", x, np.int64([1])), "not one"),
    "step": (lambda n, x: n.node("Slice", x, np.int64([0]), np.int64([2]), np.int64([1]), np.int64([0])), "zero"),
    "empty": (lambda n, x: n.node("Slice", x, np.int64([3]), np.int64([2]), np.int64([1])), "empty"),
    "parts": (lambda n, x: n.node("Split", x, np.int64([1, 1]), axis=1, outputs=2)[0], "add up"),
    "positions": (lambda n, x: n.node("Gather", x, np.int64([4]), axis=1), "positions"),
    "fit": (lambda n, x: n.node("Concat", x, n.node("Flatten", x), axis=1), "fit together"),
    "indices": (lambda n, x: n.node("MaxPool", x, kernel_shape=[2, 2], outputs=2)[0], ""),
    "kernel": (lambda n, x: n.node("MaxPool", x, kernel_shape=[2]), "kernel_shape"),
    "no kernel": (lambda n, x: n.node("MaxPool", x), "kernel_shape"),
    "large window": (lambda n, x: n.node("MaxPool", x, kernel_shape=[5, 5]), "larger than"),
    "large kernel": (lambda n, x: n.node("Conv", x, n.quant(np.ones((2, 4, 5, 5), np.float32))), "larger than"),
    "groups": (lambda n, x: n.node("Conv", x, n.quant(np.ones((3, 2, 1, 1), np.float32)), group=2), "groups"),
    "zero groups": (lambda n, x: n.node("Conv", x, n.quant(np.ones((3, 2, 1, 1), np.float32)), group=0), "groups"),
    "strides": (lambda n, x: n.node("Conv", x, n.quant(np.ones((3, 4, 1, 1), np.float32)), strides=[0, 1]), "strides"),
    "rank": (lambda n, x: n.node("Conv", x, n.quant(np.ones((3, 4, 1), np.float32))), "shape"),
    "negative pads": (
        lambda n, x: n.node("Conv", x, n.quant(np.ones((3, 4, 1, 1), np.float32)), pads=[-1, 0, 0, 0]),
        "negative",
    ),
    "inner sizes": (lambda n, x: n.node("MatMul", x, n.quant(np.ones((3, 4), np.float32))), "inner sizes"),
    "no input": (lambda n, x: n.node("Relu"), ""),
    "absent input": (lambda n, x: n.node("Add", x, None), ""),
    "broadcast": (lambda n, x: n.node("Add", x, np.ones(3, np.float32)), "broadcast"),
    "bias": (lambda n, x: n.node("Conv", x, n.quant(W), np.zeros(3, np.float32)), "bias"),
    "Gemm bias": (
        lambda n, x: n.node(
            "Gemm", n.node("Flatten", x), n.quant(np.ones((64, 2), np.float32)), np.zeros(3, np.float32)
        ),
        "broadcast",
    ),
    "PRelu": (lambda n, x: n.node("PRelu", x, np.ones(3, np.float32)), ""),
    "padded away": (lambda n, x: n.node("AveragePool", x, kernel_shape=[1, 1], pads=[1, 1, 1, 1]), "padding alone"),
    "unknown": (lambda n, x: n.node("Frobnicate", x), "Frobnicate is no operator of ONNX"),
    "other domain": (lambda n, x: n.node("Relu", x, domain="my.ops"), "my.ops"),
    "channels-last pool": (
        lambda n, x: n.node("AveragePool", x, kernel_shape=[2, 2], domain=CHANNELS_LAST),
        "channels_last",
    ),
    "microsoft": (
        lambda n, x: n.node("FusedConv", x, domain="com.microsoft"),
        "com.microsoft.FusedConv is not",
    ),
    "if": (
        lambda n, x: n.node(
            "If", x, then_branch=helper.make_graph([], "t", [], []), else_branch=helper.make_graph([], "e", [], [])
        ),
        "If is not supported",
    ),
    "loop": (lambda n, x: n.node("GRU", x, x, x), "GRU is not supported between quantizers"),
    "cast": (lambda n, x: n.node("Cast", n.node("Cast", x, to=TensorProto.INT8), to=1), "casts real values"),
    "integer division by zero": (
        lambda n, x: n.node(
            "Cast", n.node("Div", n.node("QuantizeLinear", x, np.float32(1), np.int8(0)), np.int8(0)), to=1
        ),
        "divided by zero",
    ),
    "pad value": (lambda n, x: n.node("Pad", x, np.int64([0] * 7 + [1]), n.input(name="p")), ""),
    "pad mode": (lambda n, x: n.node("Pad", x, np.int64([0] * 7 + [1]), mode="mirror"), "mirror"),
    "pads": (lambda n, x: n.node("Pad", x, np.int64([0, 1])), "pads"),
    "slopes": (lambda n, x: n.node("PRelu", x, n.quant("x")), "slopes"),
    "blocksize": (lambda n, x: n.node("DepthToSpace", x, blocksize=3), "blocksize"),
    "no blocksize": (lambda n, x: n.node("DepthToSpace", x), "attributes"),
    "table": (
        lambda n, x: n.node("Gather", x, n.node("QuantizeLinear", "x", np.float32(1), np.int8(0))),
        "positions that are not constant",
    ),
    "real positions": (lambda n, x: n.node("Gather", n.quant(np.ones((256, 2), np.float32)), x), "not integers"),
    "wide": (
        lambda n, x: n.node("Mul", n.node("Mul", *[n.quant("x", 0.25, 0, 32)] * 2), n.quant("x", 0.25, 0, 32)),
        "known to within",
    ),
    "far scales": (lambda n, x: n.quant(n.node("Add", x, n.quant("x", 1e-30)), 1e-30, 0, 32), "bits"),
    "scale": (
        lambda n, x: (
            n.quant(x, n.input(name="s"))
            if False
            else n.node("Quant", x, n.input(name="s"), np.float32(0), np.float32(4), domain=QONNX)
        ),
        "not a constant",
    ),
    "qlinear of floats": (
        lambda n, x: n.node(
            "QLinearConv",
            "x",
            np.float32(1),
            np.int8(0),
            np.int8(W),
            np.float32(1),
            np.int8(0),
            np.float32(1),
            np.int8(0),
        ),
        "no quantizer made an integer",
    ),
    "qlinear matmul of floats": (
        lambda n, x: n.node(
            "QLinearMatMul", "x", np.float32(1), np.int8(0), x, np.float32(1), np.int8(0), np.float32(1), np.int8(0)
        ),
        "no quantizer made an integer",
    ),
    "integer conv of floats": (lambda n, x: n.node("ConvInteger", x, W), "not an integer"),
    "dequantize a float": (
        lambda n, x: n.node("DequantizeLinear", "x", np.float32(1), np.int8(0)),
        "not an integer tensor",
    ),
    "run-time shape": (
        lambda n, x: n.node("Expand", x, n.input(4, name="s", kind=TensorProto.INT64)),
        "not a constant",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refusals(case):
    make, text = CASES[case]
    message = refused(between(make), text)
    assert "node " in message


QUANTIZERS = {
    "zero scale": ({"scale": 0.0}, "zero or negative"),
    "negative scale": ({"scale": -0.5}, "zero or negative"),
    "NaN scale": ({"scale": np.nan}, "NaN"),
    "infinite scale": ({"scale": np.inf}, "NaN or infinity"),
    "NaN zero point": ({"zero": np.nan}, "NaN"),
    "wide": ({"bits": 200}, "between 1 and 32"),
    "no bits": ({"bits": 0}, "between 1 and 32"),
    "fractional bits": ({"bits": 3.5}, "not one integer"),
    "negative bits": ({"bits": -4}, "between 1 and 32"),
    "two widths": ({"bits": [4, 8]}, "not one integer"),
    "mode": ({"rounding_mode": "STOCHASTIC"}, "STOCHASTIC"),
    "channels": ({"scale": np.ones((1, 3, 1, 1))}, "doesn't fit"),
    "larger": ({"scale": np.ones((4, 3, 4, 4, 4))}, "doesn't fit"),
    "zero points": ({"zero": np.ones((1, 3, 1, 1))}, "doesn't fit"),
}


@pytest.mark.parametrize("case", QUANTIZERS)
@pytest.mark.parametrize("where", ["input", "activation", "weight"])
def test_quantizers_that_make_no_sense(case, where):
    parameters, text = QUANTIZERS[case]
    net = Net()
    x = net.input(1, 4, 4, 4)
    if where == "input":
        y = net.quant(x, **parameters)
    elif where == "activation":
        y = net.quant(net.node("Relu", net.quant(x)), **parameters)
    else:
        y = net.node("Conv", net.quant(x), net.quant(W, **parameters))
    refused(net.model(y), text)


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_quantizer_with_a_missing_parameter(missing):
    net = Net()
    args = [net.input(2, 2), np.float32(1), np.float32(0), np.float32(4)][:missing]
    refused(net.model(net.node("Quant", *args, domain=QONNX)), "has no")


LINEAR = {
    "zero scale": ([np.float32(0), np.int8(0)], {}, "zero or negative"),
    "float8": ([np.float32(1), "f8"], {}, "FLOAT8E4M3FN"),
    "axis": ([np.ones(4, np.float32), np.zeros(4, np.int8)], {"axis": 7}, "axis"),
    "count": ([np.ones(3, np.float32), np.zeros(3, np.int8)], {"axis": 1}, "scale has 3"),
    "block": ([np.ones(2, np.float32), np.zeros(2, np.int8)], {"block_size": 2}, "rank"),
    "dtype": ([np.float32(1)], {"output_dtype": TensorProto.FLOAT8E5M2}, "not an integer type"),
}


@pytest.mark.parametrize("case", LINEAR)
def test_quantize_linear_that_makes_no_sense(case):
    args, attributes, text = LINEAR[case]
    net = Net(21)
    args = [net.const(0.0, kind=TensorProto.FLOAT8E4M3FN) if isinstance(a, str) else np.asarray(a) for a in args]
    refused(net.model(net.node("QuantizeLinear", net.input(2, 4), *args, **attributes)), text)


def test_nothing_quantized():
    net = Net()
    refused(net.model(net.node("Relu", net.input(2, 2))), "nothing here is integer")


def test_output_that_depends_on_no_quantizer():
    net = Net()
    x = net.input(2, 2)
    y = net.quant(x)
    refused(net.model(y, net.node("Relu", x)), "doesn't depend on any quantized tensor")
    refused(net.model(y, net.quant(np.ones(3, np.float32))), "doesn't depend on any quantized tensor")


def test_float_model_with_one_quantizer_names_the_others():
    """Weights that lie on a power-of-two grid of 16 bits are integers; others are not."""
    net = Net()
    y = net.node("MatMul", net.quant(net.input(2, 4)), np.float32(RNG.normal(size=(4, 2))))
    run = intsim.run(net.model(y), inputs={"x": halves(RNG, (2, 4))})  # nothing behind it: a float epilogue
    assert run.outputs[y].shape == (2, 2)
    refused(net.model(net.quant(y)), "MatMul")


def test_unread_nodes_are_dropped():
    net = Net()
    x = net.quant(net.input(2, 4))
    net.quant(net.node("Relu", x))
    net.quant(net.input(2, 4, name="unused"))
    y = net.quant(x, 0.5)
    loaded = intsim.load(net.model(y))
    assert [n.output for n in loaded.graph.nodes] == [y]
    assert loaded.graph.inputs == [x]
    values = halves(RNG, (2, 4))
    check(net.model(y), {"x": values, "unused": values}, 2)


def test_the_same_tensor_as_two_outputs_and_as_input_of_all():
    net = Net()
    x = net.quant(net.input(2, 4))
    y = net.node("Identity", x)
    check(net.model(x, y, net.node("Relu", x)), {"x": halves(RNG, (2, 4))}, 3)


def test_an_input_that_is_an_output():
    net = Net()
    x = net.input(2, 4, kind=TensorProto.INT8)
    y = net.node("DequantizeLinear", x, np.float32(0.5), np.int8(1))
    run = intsim.run(net.model(x, y, kinds={x: TensorProto.INT8}), inputs={"x": np.int8([[1, 2, 3, 4]] * 2)})
    np.testing.assert_array_equal(run.outputs[x], [[1, 2, 3, 4]] * 2)
    np.testing.assert_array_equal(run.outputs[y], [[0, 0.5, 1, 1.5]] * 2)


def test_node_order_does_not_matter():
    net = Net()
    x = net.quant(net.input(2, 4))
    y = net.quant(net.node("MatMul", x, net.quant(halves(RNG, (4, 3)))), 0.75)
    model = net.model(y)
    values = {"x": halves(RNG, (2, 4))}
    wanted = check(model, values, 2).outputs[y]
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    np.testing.assert_array_equal(intsim.run(model, inputs=values).outputs[y], wanted)


def test_names_that_collide_with_made_ones():
    """ONNX tensors called like the ones the lowering invents."""
    net = Net()
    x = net.quant(net.input(2, 4))
    net.nodes[-1].output[0] = "a"
    net.nodes.append(helper.make_node("Relu", ["a"], ["a~exact"]))
    net.nodes.append(helper.make_node("Add", ["a~exact", "a"], ["a#2"]))
    net.nodes.append(helper.make_node("Mul", ["a#2", "a#2"], ["a~exact#2"]))
    assert x
    y = net.quant("a~exact#2", 0.75, 0, 6)
    check(net.model(y, "a~exact", "a#2"), {"x": halves(RNG, (2, 4))}, 3)


def test_shapes_of_open_inputs():
    net = Net()
    y = net.quant(net.input(1, 4))
    model = net.model(y)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    refused(model, "dynamic shape", "--shape")
    refused(model, "doesn't fit", shapes={"x": (2, 5)})
    refused(model, "no input named", shapes={"y": (2, 5)})
    assert intsim.load(model, shapes={"x": (3, 4)}).graph.tensors[y].shape == (3, 4)


@pytest.mark.parametrize("cut", [0, 1, 10, 100, -1])
def test_damaged_files(tmp_path, cut):
    net = Net()
    data = net.model(net.quant(net.input(2, 4))).SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[:cut] if cut >= 0 else bytes(reversed(data)))
    with pytest.raises(intsim.IntsimError, match=r"cut\.onnx") as error:
        intsim.load(path)
    assert "\n" not in str(error.value)


def refusal(model):
    """Whether a model is refused, in one line."""
    try:
        intsim.load(model)
    except intsim.IntsimError as error:
        return str(error).isprintable()
    return False


def test_every_byte_flipped_is_a_model_or_an_error():
    """No byte of a small file can make the reader raise anything else."""
    net = Net()
    a = net.node("Conv", net.quant(net.input(1, 2, 3, 3)), net.quant(halves(RNG, (2, 2, 2, 2))), pads=[1, 0, 1, 0])
    data = net.model(net.quant(net.node("Relu", a))).SerializeToString()
    rng = np.random.default_rng(0)
    errors = 0
    for position in range(len(data)):
        broken = bytearray(data)
        broken[position] ^= int(rng.integers(1, 256))
        try:
            model = onnx.ModelProto.FromString(bytes(broken))
        except Exception:  # protobuf's own refusal
            continue
        errors += refusal(model)
    assert errors > len(data) // 10


@pytest.mark.parametrize("what", ["cycle", "twice", "undefined", "output", "initializer"])
def test_malformed_graphs(what):
    net = Net()
    x = net.quant(net.input(2, 4))
    y = net.node("Relu", x)
    model = net.model(net.quant(y))
    nodes = model.graph.node
    text = {"cycle": "cycle", "twice": "made twice", "undefined": "neither", "output": "made by no node"}.get(
        what, "decoded"
    )
    if what == "cycle":
        nodes[0].input[0] = y
    elif what == "twice":
        nodes[1].output[0] = x
    elif what == "undefined":
        nodes[1].input[0] = "nowhere"
    elif what == "output":
        model.graph.output[0].name = "nowhere"
    else:
        model.graph.initializer[0].raw_data = b"abc"
    refused(model, text)
