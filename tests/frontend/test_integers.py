"""ONNX integers: they wrap, divide and remain as ONNX says, in the graph, on the host and in folded constants."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

import intsim
from intsim.frontend.integers import wrapping
from intsim.verification.reference import Reference

from .build import Net, check, halves
from .integer_networks import KINDS, Drawn, each, truncated, wrap

RNG = np.random.default_rng(10)
ALL = np.arange(-128, 128).astype(np.int8)


def session(model):
    """ONNX Runtime, unoptimized; None where it has no kernel for the type."""
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:
        return None


def same(array, expected):
    """The exact numbers, in the array's own type."""
    wanted = np.array([array.dtype.type(float(v) if array.dtype.kind == "f" else int(v)) for v in expected.flat])
    return array.shape == expected.shape and (array.reshape(-1) == wanted).all()


@pytest.mark.parametrize("first", range(0, 400, 50))
def test_random_networks_of_integers(first):
    """Graph and host against Python's integers, the reference too; ONNX Runtime where it has kernels."""
    ran = runtime = 0
    for seed in range(first, first + 50):
        drawn = Drawn(seed, [13, 15, 18, 21][seed % 4])
        tag = f"seed {seed}: {drawn.words}"
        try:
            model = intsim.load(drawn.model)
            got = model.run(drawn.inputs).outputs[drawn.output]
        except intsim.IntsimError as error:
            refusal = str(error)
        else:
            refusal = ""
        if refusal:
            # what ends in a quantizer must stay integers, which not all functions of 32 bits do
            assert drawn.expected is None or drawn.ending == "codes", (tag, refusal)
            continue
        assert drawn.expected is not None, f"{tag}: accepted what ONNX leaves open"
        assert same(got, drawn.expected), (tag, got, drawn.expected)
        ran += 1
        reference = Reference(drawn.model).run(drawn.inputs)
        exact = [reference.exact(drawn.output, i) for i in range(drawn.expected.size)]
        assert exact == list(drawn.expected.flat), tag
        assert intsim.verify(model, inputs=drawn.inputs, references=False).verdict == "exact", tag
        # ONNX Runtime's sums of integers are inexact on the way
        if drawn.ending == "integers" and "ReduceSum" not in drawn.words and (judge := session(drawn.model)):
            assert same(judge.run(None, drawn.inputs)[0], drawn.expected), f"{tag}: ONNX Runtime differs"
            runtime += 1
    assert ran > 30
    assert runtime > 10


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
def test_constants_fold_as_the_graph_computes(op, name):
    """The same arithmetic on constants, on an input, and behind a shape."""
    low, high = int(np.iinfo(name).min), int(np.iinfo(name).max)
    a, b = np.array([low, high, 3, high - 1], name), np.array([high, 2, 5, 3], name)
    expected = wrap(each({"Add": int.__add__, "Sub": int.__sub__, "Mul": int.__mul__}[op], a, b), name)
    net = Net(21)
    folded = net.node(op, a, b)
    zero = net.node("Sub", x := net.input(4, kind=KINDS[name]), x)
    y = net.node("Add", folded, zero)
    bits = np.iinfo(name).bits
    value = np.array([0, 1, 2, 3], name)
    if bits < 64:
        out = intsim.run(net.model(y, kinds={y: KINDS[name]}), inputs={"x": value}).outputs[y]
        assert out.tolist() == expected.tolist()
    live = Net(21)
    y = live.node(op, live.input(4, kind=KINDS[name]), b)
    out = intsim.run(live.model(y, kinds={y: KINDS[name]}), inputs={"x": a if bits < 64 else value}).outputs[y]
    wanted = (
        expected
        if bits < 64
        else wrap(each({"Add": int.__add__, "Sub": int.__sub__, "Mul": int.__mul__}[op], value, b), name)
    )
    assert out.tolist() == wanted.tolist()


def test_wrapping_pieces():
    """Every accumulator of random integer pieces, against the remainder itself."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        starts = sorted(set(rng.integers(-300, 300, rng.integers(0, 4)).tolist()))
        pieces = [(s, int(rng.integers(-9, 10)), int(rng.integers(-900, 900))) for s in [None, *starts]]
        made = wrapping(pieces, (-256, 255), (-128, 127) if seed % 2 else (0, 255))

        def value(which, x):
            _, s, b = [p for p in which if p[0] is None or p[0] <= x][-1]
            return s * x + b

        for x in range(-256, 256):
            low = -128 if seed % 2 else 0
            assert value(made, x) == (value(pieces, x) - low) % 256 + low, (seed, x)
    assert wrapping([(None, 300, 0)], (0, 1000), (0, 255)) is None


def behind_a_quantizer(make, zero=20, scale=0.1, opset=21, shape=(1, 4, 2, 2), clip=None):
    """Codes, what `make` does to them, and DequantizeLinear: (model, output)."""
    net = Net(opset)
    s, z = net.const(np.float32(scale)), net.const(np.int8(zero))
    q = net.node("QuantizeLinear", net.input(*shape), s, z)
    y = net.node("DequantizeLinear", make(net, q), s, z)
    return net.model(y), y


CODES = {
    "relu": (lambda n, q: n.node("Relu", q), lambda q: np.maximum(q, 0)),
    "neg": (lambda n, q: n.node("Neg", q), lambda q: -q),
    "abs": (lambda n, q: n.node("Abs", q), np.abs),
    "max": (lambda n, q: n.node("Max", q, np.int8(5)), lambda q: np.maximum(q, 5)),
    "min of three": (lambda n, q: n.node("Min", np.int8(5), q, np.int8(3)), lambda q: np.minimum(q, 3)),
    "max of two": (lambda n, q: n.node("Max", q, n.node("Neg", q)), lambda q: np.maximum(q, -q)),
    "pad": (
        lambda n, q: n.node("Pad", q, np.int64([0, 0, 1, 0, 0, 0, 0, 1]), np.int8(20)),
        lambda q: np.pad(q, [(0, 0), (0, 0), (1, 0), (0, 1)], constant_values=20),
    ),
    "resize": (
        lambda n, q: n.node("Resize", q, None, np.float32([1, 1, 2, 2]), coordinate_transformation_mode="asymmetric"),
        lambda q: q.repeat(2, 2).repeat(2, 3),
    ),
    "cast there and back": (
        lambda n, q: n.node("Cast", n.node("Cast", q, to=TensorProto.INT32), to=TensorProto.INT8),
        lambda q: q,
    ),
    "cast of itself": (lambda n, q: n.node("Cast", q, to=TensorProto.INT8), lambda q: q),
    "mod": (lambda n, q: n.node("Mod", q, np.int8(-7)), lambda q: np.mod(q, np.int8(-7))),
    "clip, lower above upper": (lambda n, q: n.node("Clip", q, np.int8(7), np.int8(-3)), lambda q: q * 0 - np.int8(3)),
    "add that wraps": (lambda n, q: n.node("Add", q, np.int8(100)), lambda q: q + np.int8(100)),
    "where and equal": (
        lambda n, q: n.node("Cast", n.node("Equal", q, np.int8(4)), to=TensorProto.INT8),
        lambda q: (q == 4).astype(np.int8),
    ),
}


@pytest.mark.parametrize("what", CODES)
@pytest.mark.parametrize("again", [False, True])
def test_operators_on_codes(what, again):
    """Between the last QuantizeLinear and its DequantizeLinear, and in the middle of the graph."""
    make, twin = CODES[what]
    model, y = behind_a_quantizer(make)
    if again:
        s, z = (model.graph.node[0].input[i] for i in (1, 2))
        model.graph.node.append(onnx.helper.make_node("QuantizeLinear", [y, s, z], ["again"], name="again"))
        model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("again", TensorProto.INT8, None))
    x = (RNG.integers(-400, 400, (1, 4, 2, 2)) / 25).astype(np.float32)
    codes = Reference(model).run({"x": x}).codes[model.graph.node[0].output[0]].astype(np.int8)
    with np.errstate(over="ignore"):
        expected = twin(codes)
    run = intsim.run(model, inputs={"x": x})
    if again:
        np.testing.assert_array_equal(run.outputs["again"], expected)
    else:
        real = (expected.astype(np.float64) - 20) * np.float64(np.float32(0.1))
        np.testing.assert_array_equal(run.outputs[y], real.astype(np.float32))
    assert intsim.verify(model, inputs={"x": x}, references=False).verdict == "exact"


CASTS = [
    TensorProto.UINT8,
    TensorProto.INT4,
    TensorProto.UINT4,
    TensorProto.INT16,
    TensorProto.BOOL,
    TensorProto.UINT32,
]


@pytest.mark.parametrize("to", CASTS)
@pytest.mark.parametrize("inside", [False, True])
def test_casts_keep_low_bits(to, inside):
    net = Net(21)
    x = net.input(256, kind=TensorProto.INT8)
    y = net.node("Cast", net.node("Cast", x, to=to), to=TensorProto.FLOAT)
    y = net.node("QuantizeLinear", y, np.float32(1), np.int16(0)) if inside else y
    bits = {TensorProto.UINT8: 8, TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.INT16: 16}.get(to, 32)
    expected = ALL.astype(np.int64) & ((1 << bits) - 1)
    if to in (TensorProto.INT4, TensorProto.INT16):
        expected = np.where(expected >> (bits - 1), expected - (1 << bits), expected)
    expected = (ALL != 0).astype(np.int64) if to == TensorProto.BOOL else expected
    expected = np.clip(expected, -(2**15), 2**15 - 1) if inside else expected
    model = net.model(y, kinds={y: TensorProto.INT16} if inside else None)
    np.testing.assert_array_equal(
        intsim.run(model, inputs={"x": ALL}).outputs[y], expected if inside else np.float32(expected)
    )
    np.testing.assert_array_equal(Reference(model).run({"x": ALL}).value(y), expected)


@pytest.mark.parametrize("op", ["Div", "Mod", "fmod"])
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("name", ["int8", "int32", "int64"])
def test_division_rounds_as_onnx_says(op, swap, name):
    """Every pair of signs; with 32 bits and two tensors on the host."""
    a = np.repeat(np.array([-128, -7, -4, -1, 0, 1, 6, 127], name), 6)
    b = np.tile(np.array([-5, -2, 3, 4, 2, 127], name), 8)
    a, b = (b, np.where(a == 0, 9, a).astype(name)) if swap else (a, b)
    at = {} if op == "Div" else {"fmod": int(op == "fmod")}
    rule = {"Div": truncated, "Mod": lambda x, y: x % y, "fmod": lambda x, y: x - truncated(x, y) * y}[op]
    expected = each(rule, a, b)
    net = Net(21)
    x = net.input(48, kind=KINDS[name])
    one = net.node("Div" if op == "Div" else "Mod", x, b, **at)
    two = net.node("Div" if op == "Div" else "Mod", x, net.input(48, name="y", kind=KINDS[name]), **at)
    model = net.model(one, two, kinds={one: KINDS[name], two: KINDS[name]})
    run = intsim.run(model, inputs={"x": a, "y": b})
    reference = Reference(model).run({"x": a, "y": b})
    for y in (one, two):
        assert run.outputs[y].tolist() == expected.tolist()
        assert reference.value(y).tolist() == expected.tolist()


REFUSED = {
    "division by zero": (lambda n, x: n.node("Div", x, np.int32(0)), "zero"),
    "remainder of zero": (lambda n, x: n.node("Mod", x, np.int32(0)), "zero"),
    "over -1": (lambda n, x: n.node("Div", x, np.int32(-1)), "-2147483648 is divided by -1"),
    "shift": (
        lambda n, x: n.node("BitShift", n.node("Cast", x, to=TensorProto.UINT32), np.uint32(32), direction="LEFT"),
        "shifts 32 bits by 32",
    ),
    "power": (lambda n, x: n.node("Pow", x, np.int32(2)), "leaves int32"),
    "negative power": (lambda n, x: n.node("Pow", x, np.int32(-2)), "exponents"),
    "mean": (lambda n, x: n.node("ReduceMean", x, np.int64([0])), "sum"),
    "average pool": (
        lambda n, x: n.node("GlobalAveragePool", n.node("Reshape", x, np.int64([1, 1, -1]))),
        "int32, which ONNX's GlobalAveragePool doesn't take",
    ),
    "softmax": (lambda n, x: n.node("Softmax", x), "doesn't take"),
    "two types": (lambda n, x: n.node("Add", x, np.int64(1)), "mixes int32 with int64"),
    "integers and floats": (lambda n, x: n.node("Mul", x, np.float32(0.5)), "mixes int32 with float"),
    "interpolated": (
        lambda n, x: n.node("Resize", x, None, np.float32([1.5]), mode="linear"),
        "interpolated|isn't whole",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_onnx_leaves_open_is_refused(what):
    make, text = REFUSED[what]
    net = Net(21)
    y = make(net, net.input(4, kind=TensorProto.INT32))
    x = np.array([-(2**31), 2**31 - 1, -(2**31), 5], np.int32)
    kind = TensorProto.UINT32 if what == "shift" else TensorProto.INT32
    with pytest.raises(intsim.IntsimError, match=text) as error:
        intsim.run(net.model(y, kinds={y: kind}), inputs={"x": x[:4] if what != "mean" else x[[0, 2, 3, 3]]})
    assert "\n" not in str(error.value)
    assert "node " in str(error.value)


def test_a_float_that_no_integer_holds_is_not_cast():
    net = Net(21)
    x = net.node("Relu", net.node("DequantizeLinear", net.input(3, kind=TensorProto.INT16), np.float32(0.75)))
    y = net.node("Cast", net.node("Exp", x), to=TensorProto.INT32)
    model = net.model(y, kinds={y: TensorProto.INT32})
    assert intsim.run(model, inputs={"x": np.int16([-1, 2, 4])}).outputs[y].tolist() == [1, 4, 20]
    with pytest.raises(intsim.IntsimError, match="doesn't fit int32"):
        intsim.run(model, inputs={"x": np.int16([0, 0, 100])})


def test_an_output_declared_as_another_type_is_refused():
    net = Net(21)
    y = net.node("DequantizeLinear", net.input(3, kind=TensorProto.INT8), np.float32(0.75))
    with pytest.raises(intsim.IntsimError, match="is declared int8, but what makes it makes float"):
        intsim.load(net.model(y, kinds={y: TensorProto.INT8}))


def test_sums_beyond_int32_are_refused():
    net = Net(21)
    a = net.input(1, 70000, kind=TensorProto.INT8)
    y = net.node("MatMulInteger", a, np.full((70000, 1), -128, np.int8), np.int8(127))
    with pytest.raises(intsim.IntsimError, match=r"its sums reach 0\.\.2284800000, more than int32 holds"):
        intsim.load(net.model(y, kinds={y: TensorProto.INT32}))


@pytest.mark.parametrize("a", [(5,), (3, 5), (2, 3, 5)])
@pytest.mark.parametrize("b", [(5,), (5, 4), (2, 5, 4)])
@pytest.mark.parametrize("side", ["right", "left", "none"])
def test_matmul_integer_of_any_rank(a, b, side):
    """numpy.matmul's rules for operands of one axis, a constant on either side or none."""
    net = Net(21)
    left, right = RNG.integers(0, 256, a).astype(np.uint8), RNG.integers(-128, 128, b).astype(np.int8)
    names = [left if side == "left" else net.input(*a, name="a", kind=TensorProto.UINT8)]
    names.append(right if side == "right" else net.input(*b, name="b", kind=TensorProto.INT8))
    y = net.node("MatMulInteger", *names, np.uint8(3), np.int8([-7]))
    inputs = {n: v for n, v in (("a", left), ("b", right)) if n in {i.name for i in net.inputs}}
    model = net.model(y, kinds={y: TensorProto.INT32})
    expected = np.matmul(left.astype(np.int64) - 3, right.astype(np.int64) + 7)
    out = check(model, inputs).outputs[y]
    assert out.shape == expected.shape
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("form", [(), (1,)])
@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 3)])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_zero_point_in_any_shape(form, shape, axis):
    """Scale and zero point without axes or with one: at the input, in the middle, on a constant."""
    net = Net(21)
    s, z = net.const(np.full(form, 0.3, np.float32)), net.const(np.full(form, 5, np.int8))
    first = net.node("QuantizeLinear", net.input(*shape), s, z, axis=axis)
    y = net.node("DequantizeLinear", first, s, z, axis=axis)
    w = net.node(
        "DequantizeLinear", net.node("QuantizeLinear", np.asarray(halves(RNG, shape)), s, z, axis=axis), s, z, axis=axis
    )
    again = net.node("QuantizeLinear", net.node("Add", y, w), s, z, axis=axis)
    model = net.model(first, again, kinds=dict.fromkeys((first, again), TensorProto.INT8))
    check(model, {"x": np.asarray(halves(RNG, shape))}, 2)


@pytest.mark.parametrize("zero", [np.int8([3]), np.int8([3, 5])])
@pytest.mark.parametrize("ends", [(7, -3), (-3, 7), (100, -128), (-128, -128)])
@pytest.mark.parametrize("before", [False, True])
def test_clip_of_codes_takes_the_lower_bound_first(zero, ends, before):
    """At the input and behind an accumulator, with one zero point and with one a channel."""
    net, scale = Net(21), np.full(zero.shape, 0.5, np.float32)
    x = net.input(3, 2)
    x = net.quant(net.node("MatMul", net.quant(x), net.quant(halves(RNG, (2, 2)))), 0.3) if before else x
    q = net.node("QuantizeLinear", x, scale, zero)
    y = net.node("Clip", q, np.int8(ends[0]), np.int8(ends[1]))
    model = net.model(y, net.node("DequantizeLinear", y, scale, zero), kinds={y: TensorProto.INT8})
    out = check(model, {"x": halves(RNG, (3, 2)) * 4}, 2).outputs[y]
    assert out.max() <= ends[1]
    assert ends[0] <= ends[1] or (out == ends[1]).all()


@pytest.mark.parametrize("opset", [6, 10, 11, 13])
@pytest.mark.parametrize("ends", [(0.5, -0.25), (-0.25, 0.5)])
@pytest.mark.parametrize("tail", [False, True])
def test_clip_of_reals_takes_the_lower_bound_first(opset, ends, tail):
    """As attributes and as inputs, before a quantizer and on the host."""
    net = Net(opset)
    y = net.quant(net.input(2, 4))
    y = net.node("Sigmoid", y) if tail else y
    y = (
        net.node("Clip", y, **dict(zip(("min", "max"), ends, strict=True)))
        if opset < 11
        else net.node("Clip", y, *np.float32(ends))
    )
    y = y if tail else net.quant(y, 0.125)
    x = halves(RNG, (2, 4))
    out = intsim.run(net.model(y), inputs={"x": x}).outputs[y]
    np.testing.assert_allclose(out, Reference(net.model(y)).run({"x": x}).value(y), rtol=1e-6)
    assert ends[0] < ends[1] or (out == np.float32(-0.25)).all()


RESIZES = {
    "down": (10, "Resize", [1, 1, 1, 0.6], "nearest", lambda x: x[..., [0, 2]]),
    "down by 3/4": (10, "Resize", [1, 1, 1, 0.75], "nearest", lambda x: x[..., [0, 2, 3]]),
    "down and up": (10, "Resize", [1, 1, 1.5, 0.5], "nearest", lambda x: x[..., [0, 0, 1], :][..., [0, 2]]),
    "up": (10, "Resize", [1, 1, 2, 1.5], "nearest", lambda x: x.repeat(2, 2)[..., [0, 0, 1, 2, 2, 3]]),
    "linear": (
        10,
        "Resize",
        [1, 1, 1, 2],
        "linear",
        lambda x: np.stack([x, (x + x[..., [1, 2, 3, 3]]) / 2], -1).reshape(1, 2, 2, 8),
    ),
    "upsample": (9, "Upsample", [1, 1, 2, 1.5], "nearest", lambda x: x.repeat(2, 2)[..., [0, 0, 1, 2, 2, 3]]),
    "upsample linear": (
        9,
        "Upsample",
        [1, 1, 1, 2],
        "linear",
        lambda x: np.stack([x, (x + x[..., [1, 2, 3, 3]]) / 2], -1).reshape(1, 2, 2, 8),
    ),
    "upsample 7": (7, "Upsample", [1, 1, 1, 1.5], "nearest", lambda x: x[..., [0, 0, 1, 2, 2, 3]]),
}


@pytest.mark.parametrize("what", RESIZES)
@pytest.mark.parametrize("place", ["quantizer", "graph", "host"])
def test_resizes_of_old_opsets(what, place):
    """Resize of opset 10 looks ahead where an axis shrinks; in the graph, at its end, and behind a function."""
    opset, op, scales, mode, twin = RESIZES[what]
    net = Net(opset)
    x = halves(RNG, (1, 2, 2, 4))
    q = net.quant(net.input(1, 2, 2, 4), 0.125, 0, 8)
    q = net.node("Exp", q) if place == "host" else q
    if opset == 7:
        y = net.node(op, q, scales=[float(s) for s in scales], mode=mode)
    else:
        y = net.node(op, q, np.float32(scales), mode=mode)
    y = net.quant(y, 0.0625, 0, 9) if place == "quantizer" else y
    expected = twin(np.exp(x.astype(np.float64)) if place == "host" else x.astype(np.float64))
    run = intsim.run(net.model(y), inputs={"x": x})
    np.testing.assert_allclose(run.outputs[y], expected, rtol=1e-6)
    np.testing.assert_allclose(Reference(net.model(y)).run({"x": x}).value(y), expected, rtol=1e-6)


@pytest.mark.parametrize("opset", [6, 8, 13])
@pytest.mark.parametrize("operands", [1, 2, 3, 4])
def test_sum(opset, operands):
    """One operand, the same twice, another one, a constant."""
    net = Net(opset)
    x = net.quant(net.input(2, 3))
    names = [x, x, net.quant(net.node("Neg", x), 0.3), np.float32([0.5, 1, -2])][:operands]
    y = net.node("Sum", *(names if operands < 4 or opset > 7 else names[:3]))
    tail = net.node("Sum", *([names[-1]] if operands == 4 and opset > 7 else []), net.node("Exp", x), x)
    model = net.model(y, net.quant(y, 0.3, 1, 8), tail)
    check(model, {"x": halves(RNG, (2, 3))}, 2)


@pytest.mark.parametrize("opset", [1, 6, 8, 13, 22])
@pytest.mark.parametrize("operands", [1, 2, 3, 4])
def test_mean(opset, operands):
    """One operand, the same twice, another one, a constant; between quantizers, and behind the last one."""
    net = Net(opset)
    x = net.quant(net.input(2, 3))
    other = net.quant(net.node("Relu", x) if opset > 5 else x, 0.3)
    names = [x, x, other, np.float32([0.5, 1, -2]) if opset > 7 else np.float32([[0.5, 1, -2], [3, 0, 1]])][:operands]
    y = net.node("Mean", *names)
    tail = net.node("Mean", names[-1], net.node("Exp", x), x)
    values = halves(RNG, (2, 3))
    model = net.model(y, net.quant(y, 0.3, 1, 8), tail)
    check(model, {"x": values}, 2)
    assert intsim.verify(model, inputs={"x": values}, references=False).verdict == "exact"


def test_means_broadcast_from_opset_8_on():
    for shapes in (((1, 3), (2, 1)), ((3,), (2, 3)), ((2, 3), ())):
        net = Net(8)
        x, z = (net.quant(net.input(*shape, name=name)) for name, shape in zip("xz", shapes, strict=True))
        y = net.node("Mean", x, z, np.float32([[1], [0.5]]))
        model = net.model(net.quant(y, 0.125, 0, 8), net.node("Mean", net.node("Exp", x), z))
        check(model, {n: halves(RNG, s) for n, s in zip("xz", shapes, strict=True)}, 1)
    net = Net(7)
    y = net.node("Mean", net.quant(net.input(2, 3)), net.quant(net.input(3, name="z")))
    with pytest.raises(intsim.IntsimError, match="from opset 8 on"):
        intsim.load(net.model(net.quant(y, 0.125, 0, 8)))


def test_a_mean_of_functions_is_a_table():
    net = Net(13)
    x = net.quant(net.input(2, 40), 0.125, 0, 8)
    y = net.node("Mean", net.node("Sigmoid", x), net.node("Tanh", x), x, np.float32(0.25))
    model = net.model(net.quant(y, 0.03125, 0, 8))
    assert "table" in {n.op for n in intsim.load(model).graph.nodes}
    check(model, {"x": np.linspace(-9, 9, 80, dtype=np.float32).reshape(2, 40)}, 2)


def test_a_mean_has_the_multiply_accumulates_constant_in_its_bias():
    net = Net(13)
    x = net.quant(net.input(2, 3), 1, 0, 8)
    product = net.node("MatMul", x, net.quant(np.float32([[1, -2], [3, 1], [2, 2]]), 1, 0, 4))
    model = net.model(net.quant(net.node("Mean", product, np.float32([3, -5])), 0.5, 0, 8))
    graph = intsim.load(model).graph
    assert graph.nodes[0].arrays["bias"].tolist() == [3, -5]
    check(model, {"x": halves(RNG, (2, 3))}, 2)


def test_means_of_constants_and_of_integers():
    net = Net(13)
    x = net.quant(net.input(2, 2))
    shift = net.node("Mean", np.float32([1, 2]), np.float32([[2], [5]]))
    check(net.model(net.quant(net.node("Add", x, shift), 0.125, 0, 8)), {"x": halves(RNG, (2, 2))}, 2)
    net = Net(13)
    q = net.node("QuantizeLinear", net.input(2, 2), np.float32(1), np.int8(0))
    with pytest.raises(intsim.IntsimError, match="int8, which ONNX's Mean doesn't take"):
        intsim.load(net.model(net.node("Mean", q, q)))


def test_hard_tanh():
    net = Net()
    x = net.quant(net.input(2, 4), 0.25, 0, 6)
    y = net.quant(net.node("HardTanh", x, min_val=-0.3, max_val=0.7), 0.125, 0, 8)
    z = net.node("HardTanh", net.node("Exp", x))
    model = net.model(y, z, net.node("HardTanh", x))
    values = halves(RNG, (2, 4))
    check(model, {"x": values}, 3)
    assert intsim.verify(model, inputs={"x": values}, references=False).verdict == "exact"


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_axis_of_opset_6(op, axis):
    """A constant laid along an axis, which a later opset would lay along the last one; on the host it is refused."""
    net = Net(6)
    x = net.quant(net.input(3, 3, 3))
    y = net.node(op, x, np.float32([1, 2, 4]), axis=axis, broadcast=1)
    check(net.model(net.quant(y, 0.3, 0, 8)), {"x": halves(RNG, (3, 3, 3))}, 2)
    tail = net.node(op, net.node("Exp", x), np.float32([1, 2, 4]), axis=axis, broadcast=1)
    with pytest.raises(intsim.IntsimError, match="of opset 6"):
        intsim.load(net.model(tail))
