"""Float islands: integers between floats, against ONNX Runtime and Python's integers."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import intsim
from intsim.assertions import assert_certified, assert_exact, assert_no_overflow
from intsim.frontend.host_operators import DynamicQuantizeLinear
from intsim.inputs import draw

from .build import Net
from .islands_networks import NETWORKS, dynamic

SUMS = ("ConvInteger", "MatMulInteger")


def theirs(model, inputs):
    """What ONNX Runtime makes of every dynamic quantizer and every integer sum, and of the outputs."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.value_info[:]
    kept = {o.name for o in shown.graph.output}
    names = [o for n in model.graph.node if n.op_type in (*SUMS, "DynamicQuantizeLinear") for o in n.output]
    shown.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in kept)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in shown.graph.output], session.run(None, inputs), strict=True))


def twin(node, held):
    """A node of `SUMS` in Python's integers: each product of a code and a weight, both less their zero points."""
    at = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    x, w = (held[n].astype(object) for n in node.input[:2])
    zx, zw = (held[n].astype(object) if n else np.array(0, object) for n in [*node.input, "", ""][2:4])
    if node.op_type == "MatMulInteger":
        return np.matmul(x - (zx[:, None] if zx.ndim == 1 and zx.size > 1 else zx.reshape(())), w - zw)
    w = w - zw.reshape(-1, 1, 1, 1)
    pads, strides, group = at.get("pads", [0] * 4), at.get("strides", [1, 1]), at.get("group", 1)
    x = np.pad(x - zx.reshape(()), [(0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])])
    rows, columns = ((x.shape[2 + i] - w.shape[2 + i]) // strides[i] + 1 for i in range(2))
    out = np.empty((x.shape[0], w.shape[0], rows, columns), object)
    for n, o, i, j in np.ndindex(*out.shape):
        first = o // (w.shape[0] // group) * w.shape[1]
        top, left = i * strides[0], j * strides[1]
        seen = x[n, first : first + w.shape[1], top : top + w.shape[2], left : left + w.shape[3]]
        out[n, o, i, j] = (seen * w[o]).sum()
    return out


def compared(model, inputs):
    """How many sums there are, and how many of them had ONNX Runtime's codes, whose integers then must be its own."""
    loaded = intsim.load(model, islands=True)
    run = loaded.run(inputs, keep=True)
    found = theirs(model, inputs)
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type in SUMS]
    agree = 0
    for node in nodes:
        mine = run.tensors[loaded.lowered.codes[node.output[0]]]
        np.testing.assert_array_equal(mine, twin(node, {**constants, **run.islands}))
        given = [n for n in node.input if n in run.islands]
        if all(np.array_equal(run.islands[n], found[n]) for n in given):
            np.testing.assert_array_equal(mine, found[node.output[0]])
            agree += 1
    for name, value in run.outputs.items():
        assert value.dtype == found[name].dtype
        np.testing.assert_allclose(value, found[name], atol=0.05 * np.abs(found[name]).max())
    return len(nodes), agree


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_the_dynamic_quantizer(name):
    model = dynamic(name)
    sums, agree = compared(model, draw(intsim.load(model, islands=True), 5))
    assert sums >= 2
    assert agree >= 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_more_of_them(name, per_channel, seed):
    signed = name in ("mlp", "bert", "gpt")
    model = dynamic(name, per_channel, signed, seed)
    loaded = intsim.load(model, islands=True)
    found = [compared(model, draw(loaded, s)) for s in range(4)]
    assert sum(agree for _, agree in found) > sum(sums for sums, _ in found) / 2


def test_refused_unless_asked_for():
    with pytest.raises(intsim.IntsimError, match=r"dynamic quantization.*--islands"):
        intsim.load(dynamic("mlp"))


def test_verdicts_are_hybrid():
    loaded = intsim.load(dynamic("mlp"), islands=True)
    found = intsim.verify(loaded, "exact", samples=2, reference_timeout=600)
    assert (found.verdict, found.holds) == ("hybrid", True)
    assert sum(x.elements for x in found.layers) > 0
    assert not any(x.mismatches for x in found.layers)
    heard = found.references["onnxruntime"]
    assert heard.reason is None
    assert heard.judged > 0
    assert heard.mismatches == 0  # its sums are those of its own codes
    assert set(found.to_json()["host"]) == {"prologue", "islands", "epilogue", "cut"}
    made = intsim.certify(loaded, "x86-vnni")
    assert (made.verdict, made.holds, made.obstacles) == ("hybrid", True, [])
    assert made.reading.elements > 0
    assert json.loads(made.text())["host"]["islands"]
    for check in (assert_exact, assert_certified):
        with pytest.raises(AssertionError, match="hybrid"):
            check(loaded, "exact")
    assert_no_overflow(loaded, "cpu-int32")


def test_an_overflow_is_counted_and_found():
    """Registers see the codes: 10 products of up to 255 * 128 don't fit 16 bits."""
    loaded = intsim.load(dynamic("mlp"), islands=True)
    assert not intsim.bounds(loaded, "wrap-16").safe
    made = intsim.certify(loaded, "wrap-16", samples=4)
    assert made.verdict in ("open", "refuted")
    found = intsim.verify(loaded, "wrap-16", samples=2, references=False)
    assert found.overflows > 0
    if found.verdict == "diverges":
        assert found.first_divergence["blame"] == "overflow"
    seen = intsim.telemetry(loaded, "wrap-16", samples=2)
    assert seen.overflows == found.overflows


def zero_net(op, x, w, zx, zw, **at):
    """A node of `SUMS` whose input's zero point is an input of the file."""
    net = Net(opset=13)
    kind = {"uint8": TensorProto.UINT8, "int8": TensorProto.INT8}[x.dtype.name]
    net.input(*x.shape, name="x", kind=kind)
    net.input(*zx.shape, name="z", kind=kind)
    y = net.node(op, "x", net.const(w, w.dtype), "z", None if zw is None else net.const(zw, zw.dtype), **at)
    return net.model(y, kinds={y: TensorProto.INT32})


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize("weights", [np.uint8, np.int8])
@pytest.mark.parametrize(
    ("shape", "rows", "columns"), [((3, 5), 1, 1), ((3, 5), 3, 4), ((2, 3, 5), 1, 4), ((5,), 1, 1), ((1, 5), 0, 0)]
)
def test_matmul_with_a_zero_point_of_run_time(kind, weights, shape, rows, columns):
    """Without islands, too: the zero point is an input of integers."""
    rng = np.random.default_rng(rows + 10 * columns)

    def codes(dtype, *size):
        return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, size, endpoint=True).astype(dtype)

    x, w = codes(kind, *shape), codes(weights, 5, 4)
    zx = codes(kind, *([rows] if rows > 1 else [] if rows else [1]))
    zw = codes(weights, *([columns] if columns > 1 else [])) if columns else None
    model = zero_net("MatMulInteger", x, w, zx, zw)
    run = intsim.run(model, inputs={"x": x, "z": zx}, keep=True)
    laid = zx[:, None] if zx.size > 1 else zx.reshape(())
    wanted = np.matmul(
        x.astype(object) - laid.astype(object), w.astype(object) - (0 if zw is None else zw.astype(object))
    )
    (made,) = run.outputs.values()
    assert made.dtype == np.int32
    np.testing.assert_array_equal(made, wanted)
    assert intsim.verify(model, inputs={"x": x, "z": zx}, references=False).verdict == "exact"


@pytest.mark.parametrize("group", [1, 2])
def test_convolution_pads_with_the_zero_point_of_run_time(group):
    """Padding adds nothing, whatever the zero point is: it is not what a border's sums are less by."""
    rng = np.random.default_rng(7)
    x, w = (
        rng.integers(0, 256, (2, 4, 5, 4)).astype(np.uint8),
        rng.integers(0, 256, (6, 4 // group, 3, 2)).astype(np.uint8),
    )
    zx, zw = np.array(131, np.uint8), rng.integers(0, 256, 6).astype(np.uint8)
    at = {"pads": [1, 0, 2, 1], "strides": [2, 1], "group": group}
    model = zero_net("ConvInteger", x, w, zx, zw, **at)
    (made,) = intsim.run(model, inputs={"x": x, "z": zx}).outputs.values()
    (node,) = model.graph.node
    held = {"x": x, "z": zx, **{i.name: numpy_helper.to_array(i) for i in model.graph.initializer}}
    np.testing.assert_array_equal(made, twin(node, held))
    assert intsim.certify(model, "exact").verdict == "certified"  # integers from end to end


def test_both_operands_are_codes_of_run_time():
    net = Net(opset=13)
    a, b = net.input(3, 4, name="a"), net.input(4, 2, name="b")
    (ca, sa, za), (cb, sb, zb) = (net.node("DynamicQuantizeLinear", v, outputs=3) for v in (a, b))
    sums = net.node("Cast", net.node("MatMulInteger", ca, cb, za, zb), to=TensorProto.FLOAT)
    model = net.model(net.node("Mul", sums, net.node("Mul", sa, sb)))
    rng = np.random.default_rng(2)
    inputs = {n: rng.normal(size=s).astype(np.float32) for n, s in (("a", (3, 4)), ("b", (4, 2)))}
    assert compared(model, inputs) == (1, 1)


def reference_scale(x):
    """ONNX's text, in exact arithmetic rounded to float32 where the formula has an operation."""
    low, high = np.float32(min(0, x.min())), np.float32(max(0, x.max()))
    scale = np.float32((np.float64(high) - np.float64(low)).astype(np.float32) / 255.0) if high > low else np.float32(1)
    zero = int(np.clip(np.rint(-low / scale), 0, 255))
    codes = [int(min(max(int(np.rint(np.float32(v) / scale)) + zero, 0), 255)) for v in x.reshape(-1)]
    return scale, zero, np.array(codes).reshape(x.shape)


KINDS = {
    "both signs": lambda x: x,
    "shifted": lambda x: x + np.float32(1.5),
    "positive": np.abs,
    "negative": lambda x: -np.abs(x),
    "zeros": np.zeros_like,
    "constant": lambda x: np.full_like(x, -3.5),
    "ties": lambda x: np.round(x * 8) / 8,
}


@pytest.mark.parametrize("kind", KINDS)
def test_dynamic_quantizer_is_onnx_runtimes(kind):
    """And ONNX's formula, on ten tensors of sizes far apart."""
    rng = np.random.default_rng(4)
    net = Net(opset=13)
    made = net.node("DynamicQuantizeLinear", net.input(3, 50), outputs=3)
    model = net.model(*made, kinds={made[0]: TensorProto.UINT8, made[2]: TensorProto.UINT8})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for _ in range(10):
        x = KINDS[kind](rng.normal(size=(3, 50)).astype(np.float32)) * np.float32(10.0 ** rng.integers(-20, 20))
        mine = DynamicQuantizeLinear._run(None, x)
        for a, b in zip(mine, session.run(None, {"x": x}), strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            np.testing.assert_array_equal(a, b)
        scale, zero, codes = reference_scale(x)
        assert (scale, zero) == (mine[1], mine[2])
        np.testing.assert_array_equal(codes, mine[0])


def test_numbers_that_have_no_scale_are_refused():
    net = Net(opset=13)
    codes, _, zero = net.node("DynamicQuantizeLinear", net.node("Mul", net.input(1, 4), np.float32(1e38)), outputs=3)
    sums = net.node("MatMulInteger", codes, net.const(np.eye(4, 2), np.int8), zero)
    loaded = intsim.load(net.model(sums, kinds={sums: TensorProto.INT32}), islands=True)
    with pytest.raises(intsim.IntsimError, match="beyond float32"):
        loaded.run({"x": np.array([[9, -9, 0, 0]], np.float32)})


def partly():
    """A convolution between quantizers, a float one, and another between quantizers."""
    rng = np.random.default_rng(4)
    net = Net()
    x = net.quant(net.input(1, 2, 5, 5), 0.125, bits=6)
    x = net.node("Relu", net.node("Conv", x, net.quant(rng.normal(size=(3, 2, 3, 3)).astype(np.float32), 0.0625)))
    x = net.node("Conv", x, rng.normal(size=(4, 3, 1, 1)).astype(np.float32))
    x = net.quant(net.node("InstanceNormalization", x, np.ones(4, np.float32), np.zeros(4, np.float32)), 0.25)
    return net.model(net.node("Conv", x, net.quant(rng.normal(size=(2, 4, 2, 2)).astype(np.float32), 0.125)))


def test_partly_quantized_network():
    model = partly()
    with pytest.raises(intsim.IntsimError):
        intsim.load(model)
    loaded = intsim.load(model, islands=True)
    assert [n.op for n in loaded.graph.nodes].count("conv") == 2
    found = intsim.verify(loaded, samples=2, references=False)
    assert (found.verdict, found.overflows) == ("hybrid", 0)
    assert intsim.certify(loaded, "x86-vnni").verdict == "hybrid"


def test_islands_change_nothing_where_there_are_none():
    net = Net()
    x = net.quant(net.node("Mul", net.input(1, 6), np.float32(0.3)), 0.125, bits=6)
    model = net.model(net.node("Sigmoid", net.node("MatMul", x, net.quant(np.eye(6, 3, dtype=np.float32), 0.25))))
    plain, asked = intsim.load(model), intsim.load(model, islands=True)
    assert plain.graph.nodes == asked.graph.nodes
    assert not asked.islands
    inputs = draw(plain, 0)
    for name, value in plain.run(inputs).outputs.items():
        np.testing.assert_array_equal(value, asked.run(inputs).outputs[name])
    assert intsim.certify(asked).verdict == "certified"


def test_nothing_integer_is_refused():
    net = Net()
    model = net.model(net.node("Relu", net.input(1, 4)))
    with pytest.raises(intsim.IntsimError, match="nothing here is integer"):
        intsim.load(model, islands=True)


def test_what_keeps_codes_is_refused():
    loaded = intsim.load(dynamic("mlp"), islands=True)
    with pytest.raises(intsim.IntsimError, match="float islands"):
        intsim.sweep(loaded, "wrap-16", accumulator=[16])
