"""com.microsoft's operators on codes, against the same written out here in Python integers, fractions and decimals."""

import decimal
import itertools
import math
from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

import intsim
from intsim.frontend.reader import parameter_inputs
from intsim.verification.causes import Causes
from intsim.verification.reference import Reference

from .build import Net

MICROSOFT = "com.microsoft"
KINDS = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8}
BOTH = [np.uint8, np.int8]


def fraction(value):
    """A float32 as the rational that it is."""
    return Fraction(float(np.float32(value)))


def codes(seed, kind, *shape):
    """Codes of which a quarter are the type's ends."""
    rng, info = np.random.default_rng(seed), np.iinfo(kind)
    drawn = rng.integers(info.min, info.max + 1, shape)
    ends = rng.choice([info.min, info.max], shape)
    return np.where(rng.random(shape) < 0.25, ends, drawn).astype(kind)


def real(x, scale, zero):
    """(code - zero point) * scale, an object array of fractions."""
    out = np.empty(x.shape, object)
    for i in np.ndindex(*x.shape):
        out[i] = (int(x[i]) - int(zero)) * fraction(scale)
    return out


def quantized(y, scale, zero, kind):
    """Nearest integer to y / scale, a tie to the even one, and then the zero point; saturated."""
    info, out = np.iinfo(kind), np.empty(np.shape(y), object)
    for i in np.ndindex(*np.shape(y)):
        ratio = y[i] / fraction(scale)
        below = math.floor(ratio)
        rest = ratio - below
        whole = below + (1 if rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2) else 0)
        out[i] = min(max(whole + int(zero), int(info.min)), int(info.max))
    return out


def model(op, kinds, shapes, arguments, out_kind, **attributes):
    """One node. `arguments`: `xi` stand for tensors x0, x1, ..., None for what is absent, others are constants."""
    net = Net(13)
    for i, (kind, shape) in enumerate(zip(kinds, shapes, strict=True)):
        net.input(*shape, name=f"x{i}", kind=KINDS[kind])
    y = net.node(op, *arguments, domain=MICROSOFT, **attributes)
    net.nodes[-1].name = "the_node"
    return net.model(y, kinds={y: out_kind if isinstance(out_kind, int) else KINDS[out_kind]}), y


def run(made, name, inputs, wanted, ties=0):
    """The file's codes by the integer graph and by the reference; `ties`: how many either may leave open."""
    loaded = intsim.load(made)
    got = loaded.run(inputs).outputs[name]
    np.testing.assert_array_equal(got.astype(object), wanted, err_msg="the integer graph")
    truth = Reference(made).run(inputs)
    np.testing.assert_array_equal(truth.codes[name].astype(object), wanted, err_msg="the reference")
    last = [n for n in loaded.graph.nodes if n.op != "transpose"][-1]
    assert {(n.source, n.source_op) for n in loaded.graph.nodes} == {("the_node", made.graph.node[-1].op_type)}
    assert last.op in ("requantize", "table")
    return loaded


def runtime(made, inputs):
    """ONNX Runtime's codes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def beside(got, wanted, kind, room=0.02):
    """Codes of a float kernel: nearly all exact, the others one beside it."""
    apart = np.abs(got.astype(np.int64) - wanted.astype(np.int64))
    assert got.dtype == kind
    assert apart.max(initial=0) <= 1
    assert (apart > 0).mean() <= room


# Sums and products


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    "shapes", [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (3, 1)), ((4,), (2, 1, 1)), ((1, 1), (2, 3)), ((5,), ())]
)
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_two_tensors(op, kind, shapes):
    a, b = codes(1, kind, *shapes[0]), codes(2, kind, *shapes[1])
    za, zb, zc = kind(17), kind(101), kind(60)
    sa, sb, sc = np.float32(0.031), np.float32(0.0173), np.float32(0.05 if op == "QLinearAdd" else 0.031)
    args = ["x0", sa, za, "x1", sb, zb, sc, zc]
    made, y = model(op, [kind, kind], shapes, args, kind)
    x, z = np.broadcast_arrays(real(a, sa, za), real(b, sb, zb))
    wanted = quantized(x + z if op == "QLinearAdd" else x * z, sc, zc, kind)
    run(made, y, {"x0": a, "x1": b}, wanted)
    beside(runtime(made, {"x0": a, "x1": b}), wanted, kind)


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("first", [True, False])
def test_a_tensor_and_a_constant(op, first):
    a, b = codes(3, np.uint8, 2, 3, 4), codes(4, np.uint8, 3, 1)
    args = ["x0", np.float32(0.03), np.uint8(9), b, np.float32(0.07), np.uint8(130)]
    args = [*(args if first else args[3:] + args[:3]), np.float32(0.09), np.uint8(77)]
    made, y = model(op, [np.uint8], [a.shape], args, np.uint8)
    x, z = np.broadcast_arrays(real(a, 0.03, 9), real(b, 0.07, 130))
    wanted = quantized(x + z if op == "QLinearAdd" else x * z, 0.09, 77, np.uint8)
    run(made, y, {"x0": a}, wanted)
    beside(runtime(made, {"x0": a}), wanted, np.uint8)


@pytest.mark.parametrize("kind", BOTH)
def test_missing_zero_points_are_zero(kind):
    a, b = codes(5, kind, 300), codes(6, kind, 300)
    for op in ("QLinearAdd", "QLinearMul"):
        made, y = model(op, [kind] * 2, [(300,)] * 2, ["x0", np.float32(0.5), None, "x1", np.float32(0.25), None,
                                                     np.float32(0.75)], kind)  # fmt: skip
        x, z = real(a, 0.5, 0), real(b, 0.25, 0)
        run(made, y, {"x0": a, "x1": b}, quantized(x + z if op == "QLinearAdd" else x * z, 0.75, 0, kind))


def test_ties_of_a_sum_go_to_the_even_quotient_before_the_zero_point():
    """Half of a and b: with an odd zero point the even quotient is an odd code. 1.5 is 2 and then 5."""
    a, b = (np.repeat(np.arange(16, dtype=np.uint8), 16), np.tile(np.arange(16, dtype=np.uint8), 16))
    args = ["x0", np.float32(0.5), np.uint8(0), "x1", np.float32(0.5), np.uint8(0), np.float32(1), np.uint8(3)]
    made, y = model("QLinearAdd", [np.uint8] * 2, [(256,)] * 2, args, np.uint8)
    wanted = np.array([round(Fraction(int(p) + int(q), 2)) + 3 for p, q in zip(a, b, strict=True)], object)
    assert wanted[3] == 5
    run(made, y, {"x0": a, "x1": b}, wanted)


def test_a_tensor_and_itself():
    a = np.arange(256, dtype=np.uint8)
    for op in ("QLinearAdd", "QLinearMul"):
        args = ["x0", np.float32(0.02), np.uint8(100), "x0", np.float32(0.02), np.uint8(100)]
        made, y = model(op, [np.uint8], [(256,)], [*args, np.float32(0.03), np.uint8(40)], np.uint8)
        x = real(a, 0.02, 100)
        run(made, y, {"x0": a}, quantized(x + x if op == "QLinearAdd" else x * x, 0.03, 40, np.uint8))


# Functions of one tensor


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("alpha", [None, 0.25, 0.1, 1.5, -0.5, 0.0])
def test_leaky_relu(kind, alpha):
    info = np.iinfo(kind)
    a = np.arange(info.min, info.max + 1).astype(kind)
    at = {} if alpha is None else {"alpha": alpha}
    args = ["x0", np.float32(0.04), kind(30), np.float32(0.037), kind(50)]
    made, y = model("QLinearLeakyRelu", [kind], [(256,)], args, kind, **at)
    slope = fraction(0.01 if alpha is None else alpha)
    wanted = quantized(np.array([v if v >= 0 else slope * v for v in real(a, 0.04, 30)]), 0.037, 50, kind)
    run(made, y, {"x0": a}, wanted)
    beside(runtime(made, {"x0": a}), wanted, kind)


def nearest(value, zero, kind):
    """A decimal that is no tie, rounded, with the zero point, saturated."""
    whole = value.to_integral_value(decimal.ROUND_HALF_EVEN)
    assert abs(abs(value - whole) - decimal.Decimal("0.5")) > decimal.Decimal("1e-40") or value == whole
    return min(max(int(whole) + int(zero), int(np.iinfo(kind).min)), int(np.iinfo(kind).max))


def decimal_of(value):
    return decimal.Decimal(value.numerator) / decimal.Decimal(value.denominator)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("scale", "zero", "out", "end"), [(0.05, 40, 1 / 256, 0), (0.11, 0, 0.004, -100), (2, 3, 1, 1)]
)
def test_sigmoid(kind, scale, zero, out, end):
    end = kind(end % 128)
    info = np.iinfo(kind)
    a = np.arange(info.min, info.max + 1).astype(kind)
    args = ["x0", np.float32(scale), kind(zero), np.float32(out), end]
    made, y = model("QLinearSigmoid", [kind], [(256,)], args, kind)
    wanted = []
    with decimal.localcontext() as context:
        context.prec = 80
        for v in real(a, scale, zero):
            share = decimal.Decimal(1) / (1 + (-decimal_of(v)).exp())
            # at zero it is a half: the quotient may be a tie
            if v == 0:
                wanted.append(int(quantized(np.array([Fraction(1, 2)]), out, end, kind)[0]))
            else:
                wanted.append(nearest(share / decimal_of(fraction(out)), end, kind))
    wanted = np.array(wanted, object)
    loaded = run(made, y, {"x0": a}, wanted)
    assert [n.op for n in loaded.graph.nodes] == ["table"]
    beside(runtime(made, {"x0": a}), wanted, kind)


# Pools and means


def pooled(x, kernel, strides, pads, ceil, count_pad):
    """AveragePool of (N, C, *spatial) fractions, window by window, as ONNX describes it."""
    rank = len(kernel)
    places = []
    for k in range(rank):
        size, room = x.shape[2 + k], x.shape[2 + k] + pads[k] + pads[rank + k] - kernel[k]
        count = (-(-room // strides[k]) if ceil else room // strides[k]) + 1
        while ceil and (count - 1) * strides[k] >= size + pads[k]:
            count -= 1
        places.append(count)
    out = np.empty((*x.shape[:2], *places), object)
    for n, c in itertools.product(range(x.shape[0]), range(x.shape[1])):
        for at in itertools.product(*(range(p) for p in places)):
            total, inside, counted = Fraction(0), 0, 0
            for tap in itertools.product(*(range(k) for k in kernel)):
                where = [p * s + t - b for p, s, t, b in zip(at, strides, tap, pads[:rank], strict=True)]
                if all(0 <= w < m for w, m in zip(where, x.shape[2:], strict=True)):
                    total += x[(n, c, *where)]
                    inside += 1
                low, high = [-p for p in pads[:rank]], [m + p for m, p in zip(x.shape[2:], pads[rank:], strict=True)]
                counted += all(lo <= w < hi for w, lo, hi in zip(where, low, high, strict=True))
            out[(n, c, *at)] = total / (counted if count_pad else inside)
    return out


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize(
    ("shape", "kernel", "strides", "pads", "ceil", "count"),
    [
        ((2, 3, 9), [3], [2], [0, 0], 0, 0),
        ((1, 3, 8, 7), [2, 2], [2, 2], [0, 0, 0, 0], 0, 0),
        ((1, 2, 7, 6), [3, 2], [2, 1], [1, 0, 1, 1], 0, 0),
        ((1, 2, 7, 6), [3, 2], [2, 1], [1, 0, 1, 1], 0, 1),
        ((1, 2, 6, 6), [3, 3], [2, 2], [0, 0, 0, 0], 1, 0),
        ((1, 2, 6, 5), [3, 3], [2, 2], [1, 1, 1, 1], 1, 1),
        ((1, 1, 4, 3, 5), [2, 2, 3], [1, 1, 2], [0, 0, 1, 0, 1, 1], 0, 0),
    ],
)
def test_average_pool(kind, last, shape, kernel, strides, pads, ceil, count):
    a = codes(7, kind, *shape)
    at = {"kernel_shape": kernel, "strides": strides, "pads": pads, "ceil_mode": ceil, "count_include_pad": count}
    args = ["x0", np.float32(0.05), kind(12), np.float32(0.043), kind(90)]
    given = np.ascontiguousarray(np.moveaxis(a, 1, -1)) if last else a
    made, y = model("QLinearAveragePool", [kind], [given.shape], args, kind, channels_last=last, **at)
    means = pooled(real(a, 0.05, 12), kernel, strides, pads, ceil, count)
    wanted = quantized(means, 0.043, 90, kind)
    wanted = np.moveaxis(wanted, 1, -1) if last else wanted
    run(made, y, {"x0": given}, wanted)
    theirs = runtime(made, {"x0": given})
    if not (ceil and count):  # ONNX Runtime divides by the whole kernel there
        beside(theirs, wanted, kind, room=0.1)


def test_average_pool_pads_by_itself():
    a = codes(8, np.uint8, 1, 2, 5, 6)
    for auto, pads in (("SAME_UPPER", [0, 0, 1, 1]), ("SAME_LOWER", [1, 1, 0, 0]), ("VALID", [0, 0, 0, 0])):
        args = ["x0", np.float32(0.05), None, np.float32(0.05), np.uint8(3)]
        made, y = model("QLinearAveragePool", [np.uint8], [a.shape], args, np.uint8, kernel_shape=[2, 2], auto_pad=auto)
        run(made, y, {"x0": a}, quantized(pooled(real(a, 0.05, 0), [2, 2], [1, 1], pads, 0, 0), 0.05, 3, np.uint8))


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 5, 4, 6), (1, 1, 3, 3), (1, 2, 2, 3, 2)])
def test_global_average_pool(kind, last, shape):
    a = codes(9, kind, *shape)
    args = ["x0", np.float32(0.05), kind(100), np.float32(0.013), kind(64)]
    given = np.ascontiguousarray(np.moveaxis(a, 1, -1)) if last else a
    made, y = model("QLinearGlobalAveragePool", [kind], [given.shape], args, kind, channels_last=last)
    x, out = real(a, 0.05, 100), np.empty((*shape[:2], *[1] * (len(shape) - 2)), object)
    for i in np.ndindex(*shape[:2]):
        out[i] = sum(x[i].reshape(-1), Fraction(0)) / x[i].size
    wanted = quantized(out, 0.013, 64, kind)
    wanted = np.moveaxis(wanted, 1, -1) if last else wanted
    run(made, y, {"x0": given}, wanted)
    beside(runtime(made, {"x0": given}), wanted, kind, room=0.2)


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axes", [[1], [-1], [0, 2], [0, 1, 2]])
def test_reduce_mean(axes, keep):
    a = codes(10, np.int8, 2, 3, 5)
    args = ["x0", np.float32(0.05), np.int8(-100), np.float32(0.03), np.int8(7)]
    made, y = model("QLinearReduceMean", [np.int8], [a.shape], args, np.int8, axes=axes, keepdims=keep)
    x, full = real(a, 0.05, -100), [i % 3 for i in axes]
    kept = [range(n) if i not in full else [slice(None)] for i, n in enumerate(a.shape)]
    out = np.empty([1 if i in full else n for i, n in enumerate(a.shape)], object)
    for at in itertools.product(*kept):
        cells = np.asarray(x[tuple(at)], object).reshape(-1)
        out[tuple(0 if isinstance(k, slice) else k for k in at)] = sum(cells, Fraction(0)) / len(cells)
    out = out if keep else out.reshape([n for i, n in enumerate(a.shape) if i not in full])
    run(made, y, {"x0": a}, quantized(out, 0.03, 7, np.int8))


# Rows


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(("opset", "axis"), [(13, None), (13, 1), (17, -3), (12, None), (12, 2), (11, -1), (11, 0)])
def test_softmax(kind, opset, axis):
    shape = (2, 3, 4)
    a = codes(11, kind, *shape)
    at = {"opset": opset} if axis is None else {"opset": opset, "axis": axis}
    zero = kind(0 if kind is np.uint8 else -128)
    args = ["x0", np.float32(0.02), kind(33), np.float32(1 / 256), zero]
    made, y = model("QLinearSoftmax", [kind], [shape], args, kind, **at)
    first = (-1 if axis is None else axis) % 3  # in the schema, not Softmax's own 1 before opset 13
    along = set(range(first, 3)) if opset < 13 else {first}
    x, wanted = real(a, 0.02, 33), np.empty(shape, object)
    with decimal.localcontext() as context:
        context.prec = 80
        for i in np.ndindex(*shape):
            row = x[tuple(slice(None) if k in along else n for k, n in enumerate(i))].reshape(-1)
            share = decimal_of(x[i]).exp() / sum(decimal_of(v).exp() for v in row)
            wanted[i] = nearest(share * 256, zero, kind)
    run(made, y, {"x0": a}, wanted)
    theirs = runtime(made, {"x0": a})
    beside(theirs, wanted, kind, room=0.3)


def test_softmax_of_equal_codes_is_a_tie_or_its_share():
    """1 / 2 in steps of 1 / 3 is 1.5: to the even 2; 1 / 4 in steps of 1 / 2 is 0.5: to 0."""
    for n, scale, code in ((2, Fraction(1, 3), 2), (4, Fraction(1, 2), 0)):
        a = np.full((1, n), 5, np.uint8)
        args = ["x0", np.float32(0.1), np.uint8(0), np.float32(scale), np.uint8(0)]
        made, y = model("QLinearSoftmax", [np.uint8], [a.shape], args, np.uint8, opset=13)
        truth = Reference(made).run({"x0": a}).codes[y]
        exact = Fraction(1, n) / fraction(scale)
        assert set(truth.reshape(-1).tolist()) == {round(exact)}
        assert abs(exact - code) <= Fraction(1, 2) + Fraction(1, 10**6)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat(kind, axis):
    sizes = [1, 3, 2]
    shapes = [[n if k == axis % 3 else m for k, m in enumerate((2, 3, 4))] for n in sizes]
    tensors = [codes(12 + i, kind, *s) for i, s in enumerate(shapes)]
    parameters = [(0.05, 10), (0.1, 0), (0.031, 77)]
    args = [np.float32(0.05), kind(10)]
    for i, (s, z) in enumerate(parameters):
        args += [f"x{i}", np.float32(s), kind(z)]
    made, y = model("QLinearConcat", [kind] * 3, shapes, args, kind, axis=axis)
    parts = [quantized(real(x, *p), 0.05, 10, kind) for x, p in zip(tensors, parameters, strict=True)]
    assert (parts[0] == tensors[0]).all()
    wanted = np.concatenate(parts, axis)
    inputs = {f"x{i}": x for i, x in enumerate(tensors)}
    run(made, y, inputs, wanted)
    beside(runtime(made, inputs), wanted, kind, room=0.5)  # twice the scale: every other code is a tie


@pytest.mark.parametrize("constant", [False, True])
def test_where(constant):
    a, b = codes(15, np.uint8, 2, 3, 4), codes(16, np.uint8, 4)
    condition = np.random.default_rng(1).random((3, 1)) < 0.5
    assert condition.any()
    assert not condition.all()
    args = [condition, "x0", np.float32(0.05), np.uint8(10), b if constant else "x1", np.float32(0.021), np.uint8(90)]
    kinds = [np.uint8] if constant else [np.uint8] * 2
    shapes = [a.shape] if constant else [a.shape, b.shape]
    made, y = model("QLinearWhere", kinds, shapes, [*args, np.float32(0.043), np.uint8(20)], np.uint8)
    c, x, z = np.broadcast_arrays(condition, real(a, 0.05, 10), real(b, 0.021, 90))
    wanted = quantized(np.where(c, x, z), 0.043, 20, np.uint8)
    inputs = {"x0": a} if constant else {"x0": a, "x1": b}
    run(made, y, inputs, wanted)
    beside(runtime(made, inputs), wanted, np.uint8)


# Gemm


def gemm(a, b, c, scales, zeros, alpha):
    """alpha s_a s_b (sum (a - z_a) (b - z_b) + c) of (M, K) and (K, N), one s_b and z_b a column."""
    out = np.empty((a.shape[0], b.shape[1]), object)
    for m, n in np.ndindex(*out.shape):
        total = sum((int(a[m, k]) - int(zeros[0])) * (int(b[k, n]) - int(zeros[1][n])) for k in range(a.shape[1]))
        out[m, n] = alpha * fraction(scales[0]) * fraction(scales[1][n]) * (total + int(c[m, n]))
    return out


C_SHAPES = [None, (), (1,), (4,), (1, 4), (3, 1), (3, 4)]


@pytest.mark.parametrize("kinds", [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)])
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize(("turn_a", "turn_b", "alpha"), [(0, 0, None), (0, 1, 0.5), (1, 1, 1.7), (1, 0, -1.0)])
def test_qgemm(kinds, columns, turn_a, turn_b, alpha):
    first, second = kinds
    a, b = codes(20, first, 3, 5), codes(21, second, 5, 4)
    count = 4 if columns else 1
    sb, zb = np.float32([0.01, 0.03, 0.007, 0.02][:count]), codes(22, second, count)
    wide = [np.broadcast_to(v, 4) for v in (sb, zb)]
    if not columns:
        sb, zb = sb[0], zb[0]
    for i, shape in enumerate(C_SHAPES):
        c = None if shape is None else np.random.default_rng(i).integers(-9000, 9000, shape).astype(np.int32)
        args = ["x0", np.float32(0.05), first(70), b.T.copy() if turn_b else b, np.asarray(sb), np.asarray(zb), c]
        at = {"transA": turn_a, "transB": turn_b} | ({} if alpha is None else {"alpha": alpha})
        given = np.ascontiguousarray(a.T) if turn_a else a
        full = np.zeros((3, 4), int) if c is None else np.broadcast_to(c, (3, 4))
        y = gemm(a, b, full, (0.05, wide[0]), (70, wide[1]), fraction(1 if alpha is None else alpha))
        made, name = model("QGemm", [first], [given.shape], [*args, np.float32(0.9), first(60)], first, **at)
        run(made, name, {"x0": given}, quantized(y, 0.9, 60, first))
        beside(runtime(made, {"x0": given}), quantized(y, 0.9, 60, first), first)
        # without an output scale: the number itself
        made, name = model("QGemm", [first], [given.shape], args, TensorProto.FLOAT, **at)
        out = intsim.run(made, inputs={"x0": given}).outputs[name]
        assert out.astype(object).tolist() == [[float(np.float32(float(v))) for v in row] for row in y]
        truth = Reference(made).run({"x0": given})
        assert all(truth.exact(name, k) == v for k, v in enumerate(y.reshape(-1)))
        np.testing.assert_allclose(runtime(made, {"x0": given}), y.astype(np.float64), rtol=1e-5, atol=1e-5)


def test_qgemm_of_two_tensors():
    a, b = codes(23, np.uint8, 3, 5), codes(24, np.int8, 4, 5)
    c = np.array([100, -4000, 77, 0], np.int32)
    args = ["x0", np.float32(0.05), np.uint8(70), "x1", np.float32(0.02), np.int8(-9), c, np.float32(0.3), np.uint8(9)]
    made, y = model("QGemm", [np.uint8, np.int8], [a.shape, b.shape], args, np.uint8, transB=1)
    real_ = gemm(a, b.T, np.broadcast_to(c, (3, 4)), (0.05, [0.02] * 4), (70, [-9] * 4), 1)
    run(made, y, {"x0": a, "x1": b}, quantized(real_, 0.3, 9, np.uint8))


# The same nodes as between QuantizeLinear and DequantizeLinear


def pair(op, attributes, shapes, inner=None):
    """A network of the operator, and the same as DequantizeLinear, operator, QuantizeLinear."""
    scales, zeros = [np.float32(0.05), np.float32(0.03)], [np.uint8(9), np.uint8(77)]
    out = (np.float32(0.07), np.uint8(30))
    nets = []
    for fused in (True, False):
        net = Net(17)
        names = [net.input(*s, name=f"x{i}", kind=TensorProto.UINT8) for i, s in enumerate(shapes)]
        triples = [v for n, s, z in zip(names, scales, zeros, strict=False) for v in (n, s, z)]
        if fused:
            args = [*out, *triples] if op == "QLinearConcat" else [*triples, *out]
            y = net.node(op, *args, domain=MICROSOFT, **attributes)
        else:
            real_ = [net.node("DequantizeLinear", *triples[i : i + 3]) for i in range(0, len(triples), 3)]
            kept = {k: v for k, v in attributes.items() if k not in ("opset", "channels_last")}
            y = net.node("QuantizeLinear", net.node(op.removeprefix("QLinear"), *real_, **kept), *out)
        nets.append(net.model(y, kinds={y: TensorProto.UINT8}))
    return nets


@pytest.mark.parametrize(
    ("op", "attributes", "count"),
    [
        ("QLinearAdd", {}, 2),
        ("QLinearMul", {}, 2),
        ("QLinearConcat", {"axis": 1}, 2),
        ("QLinearLeakyRelu", {"alpha": 0.2}, 1),
        ("QLinearSigmoid", {}, 1),
        ("QLinearAveragePool", {"kernel_shape": [2, 2]}, 1),
        ("QLinearGlobalAveragePool", {}, 1),
        ("QLinearSoftmax", {"axis": 1, "opset": 17}, 1),
        ("QLinearReduceMean", {"axes": [1], "keepdims": 1}, 1),
    ],
)
def test_the_nodes_are_those_of_the_qdq_form(op, attributes, count):
    fused, apart = (intsim.load(m).graph for m in pair(op, attributes, [(1, 2, 4, 4)] * count))
    assert [n.op for n in fused.nodes] == [n.op for n in apart.nodes]
    for mine, theirs in zip(fused.nodes, apart.nodes, strict=True):
        assert mine.attributes == theirs.attributes
        assert mine.arrays.keys() == theirs.arrays.keys()
        assert all((mine.arrays[k] == theirs.arrays[k]).all() for k in mine.arrays)
        ranges = [(g.tensors[n.output].low, g.tensors[n.output].high) for g, n in ((fused, mine), (apart, theirs))]
        assert ranges[0] == ranges[1]
        assert mine.source_op == op


def test_verify_names_the_nodes_of_the_file():
    a = np.arange(256, dtype=np.uint8)
    args = ["x0", np.float32(0.05), np.uint8(9), np.float32(0.004), np.uint8(0)]
    made, _ = model("QLinearSigmoid", [np.uint8], [(256,)], args, np.uint8)
    verdict = intsim.verify(made, inputs={"x0": a}, references=False)
    assert verdict.verdict == "exact"
    assert [(v.name, v.op) for v in verdict.layers] == [("x0", "Input"), ("the_node", "QLinearSigmoid")]


# What ONNX Runtime does otherwise, and why `verify` says so


def blamed(made, inputs):
    report = intsim.verify(made, inputs=inputs).references["onnxruntime"]
    assert report.reason is None
    return {k: v for k, v in report.blame.items() if v}


def test_ties_behind_an_odd_zero_point_are_rounding():
    a, b = (np.repeat(np.arange(16, dtype=np.uint8), 16), np.tile(np.arange(16, dtype=np.uint8), 16))
    args = ["x0", np.float32(0.5), np.uint8(0), "x1", np.float32(0.5), np.uint8(0), np.float32(1), np.uint8(3)]
    made, _ = model("QLinearAdd", [np.uint8] * 2, [(256,)] * 2, args, np.uint8)
    assert blamed(made, {"x0": a, "x1": b}) == {"float_rounding": 128}


FUZZED = {
    "QLinearAdd": ({}, 2),
    "QLinearMul": ({}, 2),
    "QLinearConcat": ({"axis": 1}, 2),
    "QLinearLeakyRelu": ({"alpha": 0.3}, 1),
    "QLinearSigmoid": ({}, 1),
    "QLinearAveragePool": ({"kernel_shape": [2, 3], "pads": [1, 1, 0, 1]}, 1),
    "QLinearGlobalAveragePool": ({}, 1),
}


@pytest.mark.parametrize("op", FUZZED)
def test_what_float_kernels_make_of_ties_is_rounding(op):
    """Scales whose ratios are ties or a last place beside one; every code that isn't exact has the one cause."""
    attributes, count = FUZZED[op]
    rng, apart = np.random.default_rng(41), 0
    for seed in range(25):
        kind = BOTH[seed % 2]
        shape = (2, 8, 6, 7)
        base = np.float32(2.0 ** rng.uniform(-8, 0))
        scales = [np.float32(base * f) for f in rng.choice([1, 0.5, 2, 0.25, 3, 0.7], count + 1)]
        if op == "QLinearMul":
            scales[-1] = np.float32(scales[0] * scales[1] * rng.choice([2, 4, 20]))
        scales[-1] = np.float32(1 / 256) if op == "QLinearSigmoid" else scales[-1]
        zeros = codes(seed, kind, count + 1)
        tensors = {f"x{i}": codes(100 * seed + i, kind, *shape) for i in range(count)}
        triples = [v for i in range(count) for v in (f"x{i}", scales[i], zeros[i])]
        out = [scales[-1], zeros[-1]]
        args = [*out, *triples] if op == "QLinearConcat" else [*triples, *out]
        made, y = model(op, [kind] * count, [shape] * count, args, kind, **attributes)
        found = Reference(made).run(tensors, {y: runtime(made, tensors)})
        had = found.given_codes[y].astype(np.int64)
        causes = Causes(made).of_codes(found, y, had)
        assert set(causes[had != found.codes[y]].tolist()) <= {"float_rounding"}, (seed, scales, zeros)
        apart += int((had != found.codes[y]).sum())
    if op in ("QLinearAdd", "QLinearConcat", "QLinearAveragePool"):  # those that add the zero point before they round
        assert apart > 20


def test_the_pools_divisor_in_ceil_mode_is_named():
    """With count_include_pad ONNX Runtime divides by the whole kernel, also where ceil_mode reaches beyond the pads."""
    a = codes(30, np.uint8, 1, 2, 6, 5)
    args = ["x0", np.float32(0.05), np.uint8(0), np.float32(0.05), np.uint8(0)]
    at = {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "count_include_pad": 1}
    made, _ = model("QLinearAveragePool", [np.uint8], [a.shape], args, np.uint8, **at)
    assert set(blamed(made, {"x0": a})) == {"pool_divisor"}


def test_a_wrapped_sum_of_qgemm_is_named():
    """C near the end of int32; exact semantics saturate, ONNX Runtime's sum wraps."""
    a, c = np.array([[0], [1], [2]], np.uint8), np.array([2**31 - 2, -5], np.int32)
    args = ["x0", np.float32(1), np.uint8(0), np.array([[1, 3]], np.int8), np.float32(1), np.int8(0), c]
    made, y = model("QGemm", [np.uint8], [(3, 1)], [*args, np.float32(2**24), np.uint8(100)], np.uint8, alpha=0.5)
    real_ = gemm(a, args[3], np.broadcast_to(c, (3, 2)), (1, [1, 1]), (0, [0, 0]), Fraction(1, 2))
    wanted = quantized(real_, 2**24, 100, np.uint8)
    run(made, y, {"x0": a}, wanted)
    assert runtime(made, {"x0": a}).tolist() == [[164, 100], [164, 100], [36, 100]]
    assert blamed(made, {"x0": a}) == {"int32_wrap": 1}


def test_qgemm_that_ends_a_file_in_floats_is_judged():
    a, b = codes(31, np.uint8, 3, 5), codes(32, np.int8, 5, 4)
    c = np.array([100, -4000, 77, 0], np.int32)
    args = ["x0", np.float32(0.051), np.uint8(70), b, np.float32([0.01, 0.03, 0.007, 0.02]), np.int8([0, 1, 2, 3]), c]
    made, _ = model("QGemm", [np.uint8], [a.shape], args, TensorProto.FLOAT, alpha=0.7)
    verdict = intsim.verify(made, inputs={"x0": a})
    assert verdict.verdict == "exact"
    assert [(v.name, v.op) for v in verdict.layers] == [("x0", "Input"), ("the_node", "QGemm")]
    assert verdict.references["onnxruntime"].judged == 12
    assert not verdict.references["onnxruntime"].blame["executor"]


def test_parameters_may_be_inputs_that_are_held_constant():
    """As other operators: scales and zero points of the file's inputs are found, and given when it is loaded."""
    net = Net(13)
    for name, kind in (("x0", TensorProto.UINT8), ("s", TensorProto.FLOAT), ("z", TensorProto.UINT8)):
        net.input(*((4,) if name == "x0" else ()), name=name, kind=kind)
    y = net.node("QLinearSigmoid", "x0", "s", "z", "s", "z", domain=MICROSOFT)
    made = net.model(y, kinds={y: TensorProto.UINT8})
    assert parameter_inputs(made) == {"s", "z"}
    loaded = intsim.load(made, constants={"s": np.float32(0.01), "z": np.uint8(3)})
    assert loaded.run({"x0": np.uint8([3, 3, 3, 3])}).outputs[y].tolist() == [53] * 4


def test_a_wrong_kernel_stays_unexplained():
    """ONNX Runtime's softmax multiplies by the whole part of 1 / y_scale: here by 1 in place of 1.43."""
    a = np.array([[4, 0]], np.uint8)
    args = ["x0", np.float32(0.1), np.uint8(0), np.float32(0.7), np.uint8(0)]
    made, y = model("QLinearSoftmax", [np.uint8], [(1, 2)], args, np.uint8, opset=13)
    # the shares are 0.599 and 0.401, which is 0.855 and 0.573 steps
    assert intsim.run(made, inputs={"x0": a}).outputs[y].tolist() == [[1, 1]]
    assert runtime(made, {"x0": a}).tolist() == [[1, 0]]
    assert blamed(made, {"x0": a}) == {"executor": 1}


# Refusals


def message(made):
    with pytest.raises(intsim.IntsimError) as error:
        intsim.load(made)
    assert "node the_node" in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


S, Z = np.float32(0.5), np.uint8(3)
REFUSED = {
    "scales for channels": ("QLinearAdd", ["x0", np.float32([1, 2]), Z, "x1", S, Z, S, Z], {}, "has 2 values"),
    "zero points for channels": ("QLinearAdd", ["x0", S, np.uint8([1, 2]), "x1", S, Z, S, Z], {}, "has 2 values"),
    "a signed zero point": ("QLinearAdd", ["x0", S, np.int8(3), "x1", S, Z, S, Z], {}, "is uint8, its zero point int8"),
    "another output": ("QLinearAdd", ["x0", S, Z, "x1", S, Z, S, np.int8(3)], {}, "its output's zero point int8"),
    "no output scale": ("QLinearAdd", ["x0", S, Z, "x1", S, Z], {}, "has no output scale"),
    "a scale of zero": ("QLinearMul", ["x0", np.float32(0), Z, "x1", S, Z, S, Z], {}, "zero or negative"),
    "constants alone": ("QLinearAdd", [np.uint8([1]), S, Z, np.uint8([2]), S, Z, S, Z], {}, "constants"),
    "no opset": ("QLinearSoftmax", ["x0", S, Z, S, Z], {}, "no attribute opset"),
    "dilations": ("QLinearAveragePool", ["x0", S, Z, S, Z], {"kernel_shape": [1], "dilations": [2]}, "dilations"),
    "a scale of int64": (
        "QLinearAdd",
        ["x0", np.int64(1), Z, "x1", S, Z, S, Z],
        {},
        "int64; QLinearAdd takes float",
    ),
    "beta": (
        "QGemm",
        ["x0", S, Z, np.uint8([[1], [2]]), S, Z],
        {"beta": 1.0},
        "beta, which QGemm doesn't",
    ),
    "more inputs": ("QLinearMul", ["x0", S, Z, "x1", S, Z, S, Z, Z], {}, "it has 9 inputs; QLinearMul takes 8 at most"),
    "no inputs": ("QLinearAdd", [], {}, "has no scale"),
    "an axis twice": ("QLinearReduceMean", ["x0", S, Z, S, Z], {"axes": [1, -1]}, "its axes [1, 1] name one twice"),
    "no spatial axes": ("QLinearGlobalAveragePool", ["x0", S, Z, S, Z], {}, "no spatial axes"),
    "half a triple": ("QLinearConcat", [S, Z, "x0", S, Z, "x1", S], {"axis": 0}, "7 inputs"),
    "no axis": ("QLinearConcat", [S, Z, "x0", S, Z], {}, "no axis"),
    "a computed condition": ("QLinearWhere", ["x0", "x0", S, Z, "x1", S, Z, S, Z], {}, "condition is not a constant"),
    "half an output": ("QGemm", ["x0", S, Z, np.uint8([[1], [2]]), S, Z, None, S], {}, "one of output scale and"),
    "float bias": ("QGemm", ["x0", S, Z, np.uint8([[1], [2]]), S, Z, np.float32([1])], {}, "C (c"),
    "too many columns": ("QGemm", ["x0", S, Z, np.uint8([[1], [2]]), np.float32([1, 2]), Z], {}, "1 columns and 2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case):
    op, args, at, text = REFUSED[case]
    made, _ = model(op, [np.uint8] * 2, [(2, 2)] * 2, args, np.uint8, **at)
    assert text in message(made)


@pytest.mark.parametrize("kind", [np.float64, np.float16])
@pytest.mark.parametrize(("op", "at"), [("QLinearMul", 0), ("QLinearMul", 4), ("QGemm", 3)])
def test_scales_of_other_float_types_are_refused(op, at, kind):
    """ONNX Runtime takes float alone."""
    args = {"QLinearMul": ["x0", S, Z, "x1", S, Z, S, Z], "QGemm": ["x0", S, Z, np.uint8([[1], [2]]), S, Z, None, S, Z]}
    made, _ = model(op, [np.uint8] * 2, [(2, 2)] * 2, args[op], np.uint8)
    scale = made.graph.initializer[at]
    scale.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale).astype(kind), scale.name))
    assert f"is {np.dtype(kind).name}; {op} takes float" in message(made)


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_version_of_the_domain_is_refused(version):
    made, _ = model("QLinearAdd", [np.uint8] * 2, [(2, 2)] * 2, ["x0", S, Z, "x1", S, Z, S, Z], np.uint8)
    next(o for o in made.opset_import if o.domain == MICROSOFT).version = version
    assert f"imports com.microsoft in version {version}; ONNX Runtime has version 1" in message(made)
    with pytest.raises(Exception, match=r"com\.microsoft|model_load_utils"):
        runtime(made, {f"x{i}": np.ones((2, 2), np.uint8) for i in range(2)})


def test_a_float_input_is_refused():
    net = Net(13)
    x = net.input(2, 2)
    y = net.node("QLinearSigmoid", x, S, Z, S, Z, domain=MICROSOFT)
    net.nodes[-1].name = "the_node"
    assert "float" in message(net.model(y, kinds={y: TensorProto.UINT8}))
