"""Dumb twins of the reference evaluator: every operator once more, element by element, in Fractions."""

import itertools
import math
from fractions import Fraction

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from intsim.verification.reference.tensor import Tensor, grid, inexact


def repeatable(max_examples=100):
    """The same examples on each run, whatever the machine's speed."""
    return settings(max_examples=max_examples, derandomize=True, deadline=None, database=None)


def exactly(array):
    """Any array of numbers as an object array of Fractions."""
    array = np.asarray(array)
    out = np.empty(array.shape, object)
    for i in np.ndindex(*array.shape):
        value = array[i]
        out[i] = (
            value if isinstance(value, Fraction) else Fraction(value.item() if isinstance(value, np.generic) else value)
        )
    return out


# Scales that make exact ties with each other: equal, ratio 2, 3/2, 3, and two that are none of these.
BASE = Fraction(float(np.float32(0.1)))
TYING_SCALES = [BASE, BASE * 2, BASE / 2, BASE / 4, BASE * Fraction(3, 2), BASE * 3, Fraction(1), Fraction(1, 4)]
scales = st.sampled_from([*TYING_SCALES, Fraction(float(np.float32(0.0337))), Fraction(float(np.float32(7.77)))])
# integers weighted to powers of two and their neighbours
codes = st.integers(-128, 127) | st.sampled_from(
    [s * (2**k + d) for k in range(8) for s in (1, -1) for d in (-1, 0, 1)]
)
modes = st.sampled_from(["ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"])


def dress(values, form, rng):
    """The Fractions `values` as a Tensor: on a grid, as bare float64, or as float64 within a bound."""
    values = np.asarray(values, object)
    if form == "grid":
        common = math.lcm(1, *(f.denominator for f in values.flat))
        n = exactly(values * common).astype(np.float64)
        if not np.abs(n).max(initial=0) <= 2.0**53:
            form = "bound"
        else:
            return grid(n, Fraction(1, common))
    v = np.vectorize(float, otypes=[np.float64])(values) if values.size else np.zeros(values.shape)
    if form == "exact" and all(Fraction(a) == b for a, b in zip(v.flat, values.flat, strict=True)):
        return Tensor(v.shape, "f", v=v)
    off = v + rng.choice([-1, 0, 1], v.shape) * np.abs(v) * 2.0**-40
    # the bound is a little more than how far off the value is, as from float arithmetic
    e = np.array([float(abs(Fraction(a) - b)) for a, b in zip(off.flat, values.flat, strict=True)]).reshape(v.shape)
    e = np.where(e > 0, e * (1 + 1e-9) + 1e-300, rng.choice([0.0, 1e-13], v.shape) * (np.abs(v) > 0))
    exact = np.array([Fraction(a) == b for a, b in zip(off.flat, values.flat, strict=True)]).reshape(v.shape)
    e = np.where((e == 0) & ~exact, 1e-13, e)
    return inexact(off, e, lambda i: values.flat[i])


forms = st.sampled_from(["grid", "exact", "bound"])
seeds = st.integers(0, 2**32 - 1)


def draw_values(rng, shape, scale, low=-20, high=21):
    """Random multiples of a scale as Fractions."""
    return exactly(rng.integers(low, high, shape)) * scale


def check(tensor, expected):
    """Every element exact, every float64 value within its bound."""
    expected = np.asarray(expected, object)
    assert tensor.shape == expected.shape
    v, e = tensor.approx()
    e = np.zeros(v.shape) if e is None else e
    for i, want in enumerate(expected.flat):
        where = np.unravel_index(i, expected.shape)
        assert tensor.fraction(i) == want
        assert abs(Fraction(float(v[where])) - want) <= (
            Fraction(float(e[where])) if np.isfinite(e[where]) else want + 1
        )


def twin_round(x, mode):
    """QONNX's rounding modes as its formulas read, on a Fraction."""
    sign, size = (x > 0) - (x < 0), abs(x)
    return {
        "ROUND": lambda: round(x),
        "HALF_EVEN": lambda: round(x),
        "CEIL": lambda: math.ceil(x),
        "FLOOR": lambda: math.floor(x),
        "UP": lambda: sign * math.ceil(size),
        "DOWN": lambda: sign * math.floor(size),
        "HALF_UP": lambda: sign * math.floor(size + Fraction(1, 2)),
        "HALF_DOWN": lambda: sign * math.ceil(size - Fraction(1, 2)),
    }[mode]()


def twin_range(bits, signed, narrow):
    low = -(2 ** (bits - 1)) + narrow if signed else 0
    return low, (2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow)


def twin_quant(x, scale, zero, bits, signed=True, narrow=False, mode="ROUND"):
    """QONNX Quant on Fractions, clamping before rounding as written; returns the codes."""
    x, scale, zero = np.broadcast_arrays(np.asarray(x, object), np.asarray(scale, object), np.asarray(zero, object))
    low, high = twin_range(bits, signed, narrow)
    out = np.empty(x.shape, object)
    for i in np.ndindex(*x.shape):
        y = x[i] / scale[i] + zero[i]
        if bits == 1 and signed:
            out[i] = 1 if y >= 0 else -1
        else:
            out[i] = twin_round(max(min(y, Fraction(high)), Fraction(low)), mode)
    return out


def twin_conv(x, w, strides, dilations, pads, group, outside=0):
    """Convolution by its definition: every output a sum over the kernel."""
    rank = x.ndim - 2
    size = [
        (x.shape[2 + k] + pads[k] + pads[k + rank] - dilations[k] * (w.shape[2 + k] - 1) - 1) // strides[k] + 1
        for k in range(rank)
    ]
    out = np.empty((x.shape[0], w.shape[0], *size), object)
    for n, o, *p in np.ndindex(*out.shape):
        total = Fraction(0)
        first = o // (w.shape[0] // group) * w.shape[1]
        for c, *t in np.ndindex(*w.shape[1:]):
            at = [p[k] * strides[k] + t[k] * dilations[k] - pads[k] for k in range(rank)]
            inside = all(0 <= a < x.shape[2 + k] for k, a in enumerate(at))
            total += (x[(n, first + c, *at)] if inside else outside) * w[(o, c, *t)]
        out[(n, o, *p)] = total
    return out


def twin_conv_transpose(x, w, strides, dilations, pads, group, output_padding):
    """Transposed convolution by its definition: every input scatters the kernel."""
    rank = x.ndim - 2
    size = [
        (x.shape[2 + k] - 1) * strides[k]
        + dilations[k] * (w.shape[2 + k] - 1)
        + 1
        + output_padding[k]
        - pads[k]
        - pads[k + rank]
        for k in range(rank)
    ]
    out = np.full((x.shape[0], w.shape[1] * group, *size), Fraction(0), object)
    each = x.shape[1] // group
    for n, c, *p in np.ndindex(*x.shape):
        for o, *t in np.ndindex(*w.shape[1:]):
            at = [p[k] * strides[k] + t[k] * dilations[k] - pads[k] for k in range(rank)]
            if all(0 <= a < s for a, s in zip(at, size, strict=True)):
                out[(n, c // each * w.shape[1] + o, *at)] += x[(n, c, *p)] * w[(c, o, *t)]
    return out


def twin_matmul(a, b):
    """Rank 2 or more on both sides."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = np.broadcast_to(a, (*batch, *a.shape[-2:])), np.broadcast_to(b, (*batch, *b.shape[-2:]))
    out = np.empty((*batch, a.shape[-2], b.shape[-1]), object)
    for *k, i, j in np.ndindex(*out.shape):
        out[(*k, i, j)] = sum((a[(*k, i, m)] * b[(*k, m, j)] for m in range(a.shape[-1])), Fraction(0))
    return out


def model(nodes, inputs, outputs, initializers=(), opset=17):
    """An ONNX model; inputs and outputs are names or (name, shape) or (name, shape, type)."""

    def info(item):
        name, shape, kind = (item, None, None) if isinstance(item, str) else (*item, None)[:3]
        return helper.make_tensor_value_info(name, kind or TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        list(nodes),
        "g",
        [info(i) for i in inputs],
        [info(o) for o in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in dict(initializers).items()],
    )
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("qonnx.custom_op.general", 1)]
    domains.append(helper.make_opsetid("qonnx.custom_op.channels_last", 1))
    made = helper.make_model(graph, opset_imports=domains)
    made.ir_version = 10 if opset >= 13 else 8
    return made


def quant_node(inputs, output, **attrs):
    """A QONNX Quant node on tensor names."""
    attrs = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND", **attrs}
    return helper.make_node("Quant", list(inputs), [output], name=output, domain="qonnx.custom_op.general", **attrs)


def as_float32(values):
    return np.vectorize(float, otypes=[np.float32])(np.asarray(values, object))


def product_of(**options):
    """All combinations of named options, as dicts."""
    return [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]
