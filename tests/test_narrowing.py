"""Networks with fewer bits: codes by Python's integers, files that other executors read, names, refusals."""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parent))

from frontend.build import Net

import intsim
from intsim.errors import IntsimError
from intsim.narrowing import Narrowing, narrow

ROOT = Path(__file__).resolve().parents[1]
ZOO = ROOT / "models" / "zoo"


def network(weights, weight_bits=8, activation_bits=8, signed=0, narrow_range=0, zero=0, scale=0.5):
    """x -> Quant -> MatMul with quantized weights -> Quant of 32 bits in steps of 2^-10."""
    net = Net()
    x = net.quant(net.input(1, len(weights)), scale, zero, activation_bits, signed=signed)
    w = net.quant(np.float32(weights).reshape(-1, 1) * np.float32(0.25), 0.25, 0, weight_bits, narrow=narrow_range)
    y = net.node("MatMul", x, w)
    net.nodes[-1].name = "layer"
    return net.model(net.quant(y, 2.0**-10, 0, 32))


def rounded(value: Fraction) -> int:
    return round(value)  # Python's is half to even


def coded(value: Fraction, low: int, high: int) -> int:
    return min(max(rounded(value), low), high)


@given(
    weights=st.lists(st.integers(-128, 127), min_size=2, max_size=6),
    x=st.lists(st.integers(-300, 600), min_size=6, max_size=6),
    bits=st.tuples(st.integers(2, 8), st.integers(1, 8)),
    zero=st.sampled_from([0, 1, 127, 128, 255]),
)
def test_codes_by_hand(weights, x, bits, zero):
    """What the narrowed file computes, from the definition in fractions: no code of the package but `run`."""
    model = network(weights, zero=zero)
    first = Narrowing(model).activations()[0].names[0]  # the result has one too
    made = narrow(model, bits[0], {first: bits[1]})
    inputs = np.float32(x[: len(weights)]).reshape(1, -1) / 4
    held = next(b for b in range(1, 9) if -(1 << (b - 1)) <= min(weights) and max(weights) < 1 << (b - 1))
    drop = max(0, held - bits[0])
    w_bits = min(held, bits[0])
    w = [coded(Fraction(v, 1 << drop), -(1 << (w_bits - 1)), (1 << (w_bits - 1)) - 1) for v in weights]
    less = 8 - bits[1]
    point = rounded(Fraction(zero, 1 << less))
    step = Fraction(1, 2) * (1 << less)
    codes = [coded(Fraction(float(v)) / step + point, 0, (1 << bits[1]) - 1) for v in inputs[0]]
    real = sum((c - point) * step * v * Fraction(1 << drop, 4) for c, v in zip(codes, w, strict=True))
    ran = intsim.run(made, inputs={intsim.load(made).lowered.boundaries[0].host: inputs})
    assert float(next(iter(ran.outputs.values())).item()) == float(real)


@pytest.mark.parametrize("name", ["h3dispnet_w8a8.qonnx.onnx", "h3dispnet_w8a8.qcdq.onnx", "dispnet_w8a8.qcdq.onnx"])
def test_other_executors_read_the_file(name):
    """qonnx and ONNX Runtime compute what intsim does of a file with codes of 5 and 6 bits."""
    pytest.importorskip("qonnx")
    made = narrow(ZOO / name, 5, 6)
    loaded = intsim.load(made)
    bits = {t.type.bits for t in loaded.graph.tensors.values() if t.type is not None}
    assert bits <= {6} or "qcdq" in name
    codes = [t for t in loaded.graph.tensors.values() if t.type is not None and not t.type.signed]
    assert codes
    assert all(t.low >= 0 and t.high < 64 for t in codes)
    assert all(abs(n.arrays["w"]).max() <= 16 for n in loaded.graph.nodes if "w" in n.arrays)
    assert intsim.verify(made, samples=1).verdict == "exact"


@pytest.mark.parametrize("mode", ["ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"])
@pytest.mark.parametrize("zero", [0, 3, 2.6, -1.3])
def test_weights_of_any_rounding_and_zero_point(mode, zero):
    """Codes of the written file by the definition; zero points that are no integers are taken as they are."""
    rng = np.random.default_rng(1)
    scale, point = np.float32(0.0371), Fraction(float(np.float32(zero)))
    net = Net()
    x = net.quant(net.input(1, 40), 0.5, 0, 8)
    w = net.quant(rng.uniform(-120, 120, (40, 1)).astype(np.float32) * scale, scale, zero, 8)
    (held,) = (a for a in net.nodes[-1].attribute if a.name == "rounding_mode")
    held.s = mode.encode()
    model = net.model(net.quant(net.node("MatMul", x, w), 2.0**-10, 0, 32))

    def codes(file):
        own = Narrowing(file)
        return own.values[own.weights()[0].quantizer.outputs[0]].codes.reshape(-1).tolist()

    new = rounded(point / 8)
    assert codes(narrow(model, 5)) == [coded((c - point) / 8 + new, -16, 15) for c in codes(model)]


def test_as_many_bits_as_there_are_change_nothing():
    model = network([1, -128, 77])
    same = narrow(model, 8, 32)
    assert [n.SerializeToString() for n in same.graph.node] == [n.SerializeToString() for n in model.graph.node]
    assert narrow(network([1, -3, 2]), 3).graph.node == network([1, -3, 2]).graph.node  # three bits hold them


def test_names_and_patterns():
    model = intsim.load(ZOO / "h3dispnet_w8a8.qonnx.onnx")
    own = Narrowing(model)
    names = [w.names[0] for w in own.weights()]
    assert "enc0.0.conv" in names
    made = Narrowing(narrow(model, {"enc0.*": 4, "enc1.0.conv": 5}))
    assert {w.names[0]: w.bits for w in made.weights()} == {
        w.names[0]: 4 if w.names[0].startswith("enc0.") else 5 if w.names[0] == "enc1.0.conv" else w.bits
        for w in own.weights()
    }
    assert {a.bits for a in made.activations()} == {8}
    fewer = Narrowing(narrow(model, activations={"input.Quant": 3}))
    assert [a.bits for a in fewer.activations()][:2] == [3, 8]


@pytest.mark.parametrize(
    ("weights", "activations", "words"),
    [
        (0, None, r"a width of 0 bits; allowed: 1\.\.32"),
        (True, None, "a width of True bits"),
        (33, None, "a width of 33 bits"),
        (None, {"no": 4}, r"no quantizer named no; there are Quant"),
        ({"head_*": 4}, None, r"no layer named head_\*; there are layer"),
        (1, None, "its codes are signed, which needs 2 bits at least, not 1"),
    ],
)
def test_what_can_not_be(weights, activations, words):
    with pytest.raises(IntsimError, match=words):
        narrow(network([1, -128, 77]), weights, activations)


def qdq(clip=None, kind=np.uint8, opset=13, after="DequantizeLinear"):
    """x -> QuantizeLinear [-> Clip] -> Reshape of codes -> DequantizeLinear -> MatMul with int8 weights."""
    scale, zero = numpy_helper.from_array(np.float32(0.5), "s"), numpy_helper.from_array(kind(3), "z")
    stored = [scale, zero, numpy_helper.from_array(np.int64([1, 4]), "shape")]
    stored += [
        numpy_helper.from_array(np.int8([[5], [-100], [3], [7]]), "w"),
        numpy_helper.from_array(np.float32(1), "sw"),
    ]
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "quantizer")]
    codes = "q"
    if clip is not None:
        stored += [numpy_helper.from_array(kind(v), n) for v, n in zip(clip, ("lo", "hi"), strict=True)]
        nodes.append(helper.make_node("Clip", ["q", "lo", "hi"], ["c"]))
        codes = "c"
    nodes.append(helper.make_node("Reshape", [codes, "shape"], ["r"]))
    nodes.append(helper.make_node(after, ["r", "s", "z"] if after == "DequantizeLinear" else ["r"], ["d"]))
    nodes.append(helper.make_node("DequantizeLinear", ["w", "sw"], ["dw"]))
    nodes.append(helper.make_node("MatMul", ["d", "dw"], ["y"], "layer"))
    graph = helper.make_graph(
        nodes,
        "qdq",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        stored,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("clip", [None, (0, 15), (2, 200), (9, 9)])
def test_clips_of_codes(clip):
    """Codes lie within what the old ends are without their last bits, in ONNX Runtime as well."""
    runtime = pytest.importorskip("onnxruntime")
    made = narrow(qdq(clip), activations=3)
    onnx.checker.check_model(made, full_check=True)
    low, high = clip or (0, 255)
    drop = max(0, high.bit_length() - 3)
    ends = {(t.low, t.high) for t in intsim.load(made).graph.tensors.values() if t.type is not None}
    assert ends == {(min(-(-low >> drop), high >> drop), high >> drop)}
    session = runtime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    for sample in np.random.default_rng(0).uniform(-40, 160, (50, 1, 4)).astype(np.float32):
        (want,) = session.run(None, {"x": sample})
        assert np.array_equal(intsim.run(made, inputs={"x": sample}).outputs["y"], want)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (qdq(opset=11), "opset 11 clips no integers"),
        (qdq(after="Cast"), "can't be"),
    ],
)
def test_files_that_can_not_be_narrowed(model, words):
    if words == "can't be":
        model.graph.node[2].attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
    with pytest.raises(IntsimError, match=words):
        narrow(model, activations=3)


def test_operators_with_scales_of_their_own():
    stored = {
        "s": np.float32(0.5), "z": np.uint8(3), "w": np.ones((4, 1), np.int8), "wz": np.int8(0),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearMatMul", ["q", "s", "z", "w", "s", "wz", "s", "z"], ["p"], "layer"),
        helper.make_node("DequantizeLinear", ["p", "s", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "qop",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(a, n) for n, a in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with pytest.raises(IntsimError, match=r"node layer \(QLinearMatMul\): QLinearMatMul holds its scales itself"):
        narrow(model, weights=4)
    with pytest.raises(IntsimError, match="its codes are read by node layer"):
        narrow(model, activations=4)
