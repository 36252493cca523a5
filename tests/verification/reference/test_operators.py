"""Every float operator of the table against ONNX Runtime and ONNX's own reference implementation."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from intsim.verification.reference import Reference
from intsim.verification.reference.integers import LOGIC
from intsim.verification.reference.operators import EPILOGUE, OPERATORS
from intsim.verification.reference.plain import PLAIN

from .twins import model, product_of

node = helper.make_node
rng = np.random.default_rng(11)


def signal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


IMAGE = signal(2, 4, 6, 5)
CASES: list[tuple] = []


def case(op, inputs, constants=(), opset=17, outputs=1, **attrs):
    """A node on runtime arrays `inputs` and constants (None: left out)."""
    CASES.append((op, inputs, constants, opset, outputs, attrs))


for options in product_of(group=[1, 2, 4], strides=[[1, 1], [2, 1]], pads=[[0, 0, 0, 0], [1, 2, 0, 1]]):
    case("Conv", [IMAGE], [signal(8, 4 // options["group"], 3, 2), signal(8)], **options)
case("Conv", [IMAGE], [signal(3, 4, 3, 3)], dilations=[2, 1], auto_pad="VALID")
case("Conv", [IMAGE], [signal(3, 4, 3, 2)], auto_pad="SAME_UPPER", strides=[2, 2])
case("Conv", [IMAGE], [signal(3, 4, 3, 2)], auto_pad="SAME_LOWER", strides=[1, 2])
case("Conv", [signal(2, 3, 9)], [signal(2, 3, 4)], strides=[2], pads=[1, 2])
case("Conv", [signal(1, 2, 4, 5, 3)], [signal(2, 1, 2, 3, 2)], group=2, pads=[1, 0, 1, 0, 1, 0])
for options in product_of(strides=[[1, 1], [2, 3]], pads=[[0, 0, 0, 0], [1, 0, 1, 1]], group=[1, 2]):
    case("ConvTranspose", [IMAGE], [signal(4, 3, 3, 2), signal(3 * options["group"])], **options)
case("ConvTranspose", [IMAGE], [signal(4, 2, 3, 3)], strides=[2, 2], output_padding=[1, 0], dilations=[1, 2])
case("ConvTranspose", [signal(1, 2, 3, 3)], [signal(2, 2, 3, 3)], strides=[3, 2], output_shape=[10, 8])
case("MatMul", [signal(2, 3, 4), signal(4, 5)])
case("MatMul", [signal(3), signal(2, 3, 4)])
case("MatMul", [signal(2, 1, 3, 4)], [signal(3, 4, 2)])
for options in product_of(transA=[0, 1], transB=[0, 1]):
    a, b = signal(3, 4), signal(4, 2)
    a, b = a.T.copy() if options["transA"] else a, b.T.copy() if options["transB"] else b
    case("Gemm", [a], [b, signal(2)], alpha=0.5, beta=0.25, **options)
case("Gemm", [signal(3, 4)], [signal(4, 2)])
for shape in ((2, 4, 6, 5), (2, 4, 3), (3, 4)):
    case(
        "BatchNormalization", [signal(*shape)], [signal(4), signal(4), signal(4), np.abs(signal(4)) + 0.1], epsilon=1e-3
    )
case("BatchNormalization", [IMAGE], [signal(4), signal(4), signal(4), np.abs(signal(4)) + 0.1], opset=9)
for op in ("Add", "Sub", "Mul", "Div", "Max", "Min"):
    case(op, [signal(2, 3), signal(2, 3)])
    case(op, [IMAGE], [signal(4, 1, 1)])
    case(op, [signal(3, 1)], [signal(2, 1, 4)])
case("Sum", [signal(2, 3), signal(3), signal(2, 1)])
case("Mean", [signal(2, 3), signal(2, 3), signal(2, 3)])
case("Max", [signal(2, 3), signal(3), signal(2, 1)])
for op in ("Neg", "Abs", "Relu", "LeakyRelu", "HardSigmoid", "HardSwish", "Identity", "Reciprocal"):
    case(op, [signal(3, 5) + (3 if op == "Reciprocal" else 0)])
case("LeakyRelu", [signal(3, 5)], alpha=0.3)
case("HardSigmoid", [signal(3, 5)], alpha=0.4, beta=0.3)
case("PRelu", [IMAGE], [signal(4, 1, 1)])
case("PRelu", [IMAGE], [signal(1)])
case("Clip", [signal(3, 5)], [np.float32(-0.5), np.float32(0.25)])
case("Clip", [signal(3, 5)], [None, np.float32(0.25)])
case("Clip", [signal(3, 5)], [np.float32(0), np.float32(3.4e38)])
case("Clip", [signal(3, 5)], [np.float32(-np.inf), np.float32(np.inf)])
case("Clip", [signal(3, 5)], opset=6, min=-0.25, max=0.5)
case("Clip", [signal(3, 5)])
case("Sqrt", [np.abs(signal(3))])
case("Pow", [signal(3, 2)], [np.float32(2)])
case("Pow", [signal(3, 2)], [np.float32(3)])
case("Pow", [np.abs(signal(3, 2))], [np.float32(0.5)])
case("Pow", [np.abs(signal(3, 2))], [np.float32(-0.5)])
case("Pow", [np.abs(signal(3, 2))], [np.float32(1.3)])
for op in ("Softmax", "LogSoftmax"):
    case(op, [signal(2, 3, 4)], axis=1)
    case(op, [signal(2, 3, 4)])
    case(op, [signal(2, 3)], opset=11)
case("LayerNormalization", [signal(2, 3, 4)], [signal(4), signal(4)])
case("LayerNormalization", [signal(2, 3, 4)], [signal(3, 4)], axis=1, epsilon=0.1)
case("RMSNormalization", [signal(2, 3, 4)], [signal(4)], opset=23)
case("RMSNormalization", [signal(2, 3, 4)], [signal(3, 4)], axis=1, epsilon=0.1, opset=23)
case("InstanceNormalization", [signal(2, 3, 4, 5)], [signal(3), signal(3)], epsilon=0.01)
case("GroupNormalization", [signal(2, 6, 4)], [signal(6), signal(6)], num_groups=2, opset=21)
case("GroupNormalization", [signal(2, 6, 4, 3)], [signal(3), signal(3)], num_groups=3, opset=18)
case("Einsum", [signal(2, 3, 4), signal(2, 5, 4)], equation="bid,bjd->jbi")
case("Einsum", [signal(2, 3, 4), signal(4, 5)], equation="...d, dj")
case("Einsum", [signal(2, 3, 4)], equation="abc->cab")
case("IsNaN", [signal(2, 3)])
for op in ("Sigmoid", "Tanh", "Exp", "Erf", "Elu", "Softplus", "Ceil", "Floor", "Round", "Sign"):
    case(op, [signal(3, 4)])
for op in ("Selu", "Celu", "ThresholdedRelu", "Softsign", "Sin", "Cos"):
    case(op, [signal(3, 4)])
case("Celu", [signal(3, 4)], alpha=0.4)
case("Elu", [signal(3, 4)], alpha=0.4)
case("Mish", [signal(3, 4)], opset=18)
case("Log", [np.abs(signal(3)) + 0.1])
case("Gelu", [signal(3, 4)], opset=20)
case("Gelu", [signal(3, 4)], opset=20, approximate="tanh")
case("ArgMax", [signal(3, 4)], axis=1, keepdims=0)
case("ArgMax", [signal(3, 4)])
for options in product_of(
    kernel_shape=[[3, 2]], strides=[[1, 1], [2, 2]], pads=[[0, 0, 0, 0], [1, 0, 1, 1]], ceil_mode=[0, 1]
):
    case("MaxPool", [IMAGE], **options)
    for counted in (0, 1):
        case("AveragePool", [IMAGE], opset=19, count_include_pad=counted, **options)
case("MaxPool", [IMAGE], kernel_shape=[2, 2], dilations=[2, 1])
case("MaxPool", [signal(1, 2, 7)], kernel_shape=[3], auto_pad="SAME_UPPER", strides=[2])
case("MaxPool", [signal(1, 2, 4, 4, 3)], kernel_shape=[2, 2, 2])
case("AveragePool", [signal(1, 2, 7)], kernel_shape=[3], auto_pad="SAME_LOWER", strides=[2])
case("AveragePool", [IMAGE], opset=19, kernel_shape=[2, 2], dilations=[2, 2])
case("GlobalAveragePool", [IMAGE])
case("GlobalMaxPool", [IMAGE])
for op in ("ReduceMean", "ReduceMax", "ReduceMin"):
    case(op, [IMAGE], axes=[1, -1])
    case(op, [IMAGE], axes=[2], keepdims=0)
    case(op, [IMAGE], [np.array([1, 3])], opset=18)
    case(op, [IMAGE])
case("ReduceSum", [IMAGE], axes=[1], opset=11)
case("ReduceSum", [IMAGE], [np.array([0, 2])], keepdims=0)
case("ReduceSum", [IMAGE])
case("ReduceSum", [IMAGE], [np.array([], np.int64)], noop_with_empty_axes=1)
case("Transpose", [IMAGE], perm=[0, 2, 3, 1])
case("Transpose", [signal(2, 3)])
case("Reshape", [IMAGE], [np.array([0, -1, 5])])
case("Flatten", [IMAGE])
case("Flatten", [IMAGE], axis=-1)
case("Squeeze", [signal(1, 3, 1)], [np.array([0])])
case("Squeeze", [signal(1, 3, 1)])
case("Squeeze", [signal(1, 3, 1)], opset=11, axes=[2])
case("Unsqueeze", [signal(2, 3)], [np.array([0, 3])])
case("Unsqueeze", [signal(2, 3)], opset=11, axes=[1])
case("Expand", [signal(3, 1)], [np.array([2, 1, 4])])
case("Tile", [signal(2, 3)], [np.array([2, 1])])
case("Gather", [IMAGE], [np.array([[0, -1], [2, 1]])], axis=1)
case("Gather", [signal(4)], [np.array(2)])
case("Slice", [IMAGE], [np.array([1, -1]), np.array([2**63 - 1, -(2**63)]), np.array([1, 3]), np.array([2, -2])])
case("Slice", [IMAGE], [np.array([0]), np.array([-1])])
case("Slice", [IMAGE], opset=9, starts=[1, 0], ends=[3, 1000], axes=[1, 2])
case("DepthToSpace", [signal(1, 8, 2, 3)], blocksize=2)
case("DepthToSpace", [signal(1, 8, 2, 3)], blocksize=2, mode="CRD")
case("SpaceToDepth", [signal(1, 3, 4, 6)], blocksize=2)
case("Concat", [signal(2, 3), signal(2, 1)], axis=-1)
case("Split", [signal(2, 6)], axis=1, outputs=3)
case("Split", [signal(2, 6)], [np.array([1, 5])], axis=1, outputs=2)
case("Split", [signal(2, 6)], axis=1, opset=11, split=[4, 2], outputs=2)
case("Split", [signal(7)], opset=18, num_outputs=3, outputs=3)
case("Pad", [signal(2, 3)], [np.array([1, 0, 0, 2])])
case("Pad", [signal(2, 3)], [np.array([1, 0, -1, 2]), np.float32(0.5)])
case("Pad", [signal(2, 3)], [np.array([1, 2, 1, 1])], mode="reflect")
case("Pad", [signal(2, 3)], [np.array([1, 2, 1, 1])], mode="edge")
case("Pad", [signal(2, 3)], [np.array([1, 2]), np.float32(0), np.array([1])], opset=18)
case("Pad", [signal(2, 3)], opset=10, pads=[0, 1, 0, 1], value=0.25)
case("Dropout", [signal(2, 3)])
case("Dropout", [signal(2, 3)], [np.float32(0.5), np.array(False)])
case("Dropout", [signal(2, 3)], opset=10, ratio=0.5)
case("Shape", [IMAGE])
case("Shape", [IMAGE], start=1, end=3)
case("ConstantOfShape", [], [np.array([2, 3])])
case("Cast", [signal(2, 3)], to=int(TensorProto.DOUBLE))
case("Cast", [], [np.array([1.7, -1.7, 3.0], np.float32)], to=int(TensorProto.INT64))
for op in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"):
    case(op, [], [np.array([1, 2, 3]), np.array([2, 2, 2])])
case("Where", [signal(3), signal(3)], [np.array([True, False, True])])
case("Constant", [], value_floats=[1.5, 2.5])
for mode in ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"):
    opset = 19 if mode == "half_pixel_symmetric" else 13
    for scale in (2.0, 1.5, 0.5, 0.75):
        sampled = {"coordinate_transformation_mode": mode, "opset": opset}
        factors = np.array([1, 1, scale, 2], np.float32)
        case("Resize", [IMAGE], [None, factors], mode="linear", **sampled)
        for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
            case("Resize", [IMAGE], [None, factors], mode="nearest", nearest_mode=nearest, **sampled)
case("Resize", [IMAGE], [None, None, np.array([2, 4, 3, 7])], mode="linear", opset=13)
case("Resize", [IMAGE], [None, None, np.array([3, 7])], mode="nearest", axes=[2, 3], opset=18)
case("Resize", [IMAGE], [np.array([1, 1, 2, 3], np.float32)], mode="nearest", opset=10)
case("Upsample", [IMAGE], [np.array([1, 1, 2, 3], np.float32)], mode="nearest", opset=9)
case("Upsample", [IMAGE], mode="nearest", opset=7, scales=[1.0, 1.0, 2.0, 2.0])


OUTPUT_TYPES = {
    **dict.fromkeys(["ArgMax", "Shape"], TensorProto.INT64),
    **dict.fromkeys(["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "IsNaN"], TensorProto.BOOL),
}


def onnx_is_wrong(op, opset, attrs, constants):
    """Where onnx.reference of ONNX 1.22 departs from the specification and from ONNX Runtime, or lacks the opset."""
    return (
        (op == "Conv" and "auto_pad" in attrs)  # pads by the kernel of the weights only if kernel_shape is there
        or (op == "ConvTranspose" and attrs.get("group", 1) > 1)
        or (op == "BatchNormalization" and opset == 9)  # ignores the epsilon
        or (op == "MaxPool" and attrs.get("pads") == [1, 0, 1, 1])  # mixes up ends and begins
        or (op == "Pad" and constants and (np.asarray(constants[0]) < 0).any())
        or (op == "Resize" and attrs.get("coordinate_transformation_mode") == "align_corners")  # rounds the length
        or op == "Upsample"
        or (op == "Resize" and opset == 10)
        or (op == "GroupNormalization" and opset == 18)  # has no implementation of it
    )


def build(op, inputs, constants, opset, outputs, attrs):
    names = [f"x{i}" for i in range(len(inputs))] + ["" if c is None else f"c{i}" for i, c in enumerate(constants)]
    if op == "Where":
        names = [names[2], names[0], names[1]]
    made = model(
        [node(op, names, [f"y{k}" for k in range(outputs)], **attrs)],
        [(f"x{i}", x.shape) for i, x in enumerate(inputs)],
        [(f"y{k}", None, OUTPUT_TYPES.get(op) if op != "Cast" else attrs["to"]) for k in range(outputs)],
        {f"c{i}": c for i, c in enumerate(constants) if c is not None},
        opset,
    )
    return made, {f"x{i}": x for i, x in enumerate(inputs)}


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda k: f"{CASES[k][0]}-{k}")
def test_against_both_witnesses(number):
    op, inputs, constants, opset, outputs, attrs = CASES[number]
    made, feeds = build(op, inputs, constants, opset, outputs, attrs)
    run = Reference(made).run(feeds)
    answers = [onnxruntime.InferenceSession(made.SerializeToString()).run(None, feeds)]
    if not onnx_is_wrong(op, opset, attrs, constants):
        answers.append(ReferenceEvaluator(made).run(None, feeds))
    for wants in answers:
        for k, want in enumerate(wants):
            value = run.value(f"y{k}")
            assert value.shape == np.shape(want)
            np.testing.assert_allclose(value, np.asarray(want, float), rtol=1e-5, atol=2e-6)
            if op not in EPILOGUE and op not in {"Softmax", "Sqrt", "Pow", *PLAIN}:
                assert (run.error(f"y{k}") <= 1e-13 * (1 + np.abs(value).max())).all()


def test_no_operator_of_the_table_is_left_out():
    tried = {c[0] for c in CASES} | {"DequantizeLinear", "HardTanh", *LOGIC}
    assert {o for o in OPERATORS if ":" not in o} == tried


def test_channels_last_operators_are_those_of_onnx_transposed():
    domain = "qonnx.custom_op.channels_last"
    x, w, bias = signal(2, 5, 6, 4), signal(8, 3, 3, 2), signal(8)
    nodes = [
        node(
            "Conv",
            ["x", "w", "b"],
            ["c"],
            domain=domain,
            kernel_shape=[3, 3],
            strides=[1, 2],
            pads=[1, 0, 1, 1],
            group=2,
        ),
        node("MaxPool", ["c"], ["p"], domain=domain, kernel_shape=[2, 2], strides=[2, 2]),
        node("BatchNormalization", ["p", *"gkmv"], ["y"], domain=domain, epsilon=1e-3),
    ]
    fixed = {"w": w, "b": bias, **{n: np.abs(signal(8)) + 0.5 for n in "gkmv"}}
    last = Reference(model(nodes, [("x", x.shape)], ["y"], fixed)).run({"x": x})
    for n in nodes:
        n.domain = ""
    first = model(nodes, [("x", [2, 4, 5, 6])], ["y"], {**fixed, "w": w.transpose(0, 3, 1, 2)})
    want = ReferenceEvaluator(first).run(None, {"x": x.transpose(0, 3, 1, 2)})[0]
    np.testing.assert_allclose(last.value("y"), want.transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-5)


def test_normalization_by_what_a_run_is_given():
    """Parameters that aren't constants: what was worked out for one run is not taken for the next."""
    made = model(
        [node("BatchNormalization", [*"xgkmv"], ["y"], epsilon=1e-3)],
        [(n, [1, 4] if n == "x" else [4]) for n in "xgkmv"],
        ["y"],
    )
    reference = Reference(made)
    for _ in range(3):
        given = {"x": signal(1, 4), **{n: np.abs(signal(4)) + 0.5 for n in "gkmv"}}
        want = ReferenceEvaluator(made).run(None, given)[0]
        np.testing.assert_allclose(reference.run(given).value("y"), want, rtol=1e-5, atol=1e-5)
