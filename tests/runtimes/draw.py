"""Random quantized layers and networks, and the ONNX files that hold them.

A `Case` is one layer: its constants and its activations as arrays of codes, scales (float32) and zero points under
fixed names, and its attributes. Of each operand `t` there are `t`, `t_scale`, `t_zero_point`; the output is `y`.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

U8, S8 = np.dtype(np.uint8), np.dtype(np.int8)
MS = "com.microsoft"


@dataclass(frozen=True)
class Case:
    """One layer; `feeds` names the arrays that are inputs at run time, all others are constants of the file."""

    op: str
    arrays: dict[str, np.ndarray]
    feeds: tuple[str, ...] = ("x",)
    attributes: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name):
        return self.arrays[name]

    def get(self, name):
        return self.arrays.get(name)


@dataclass(frozen=True)
class Network:
    """Layers in order: (layer, name in the network of each feed, name of its output); `feeds` are the inputs."""

    layers: tuple[tuple[Case, dict[str, str], str], ...]
    feeds: dict[str, np.ndarray]

    @property
    def output(self):
        return self.layers[-1][2]


# numbers


def codes(rng, dtype, shape):
    """Codes over the whole range; one draw in three is mostly of its ends."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    drawn = np.asarray(rng.integers(low, high + 1, size=shape))
    if rng.integers(3) == 0:
        drawn = np.where(rng.random(shape) < 0.6, rng.choice([low, high], size=shape), drawn)
    return drawn.astype(dtype)


def scale(rng, about=0.02):
    """A float32 scale near `about`: any mantissa, a power of two, or a short decimal."""
    value = about * 2 ** rng.uniform(-1, 1)
    kind = rng.integers(4)
    if kind == 0:
        value = 2.0 ** np.round(np.log2(value))
    elif kind == 1:
        value = float(f"{value:.1e}")
    return np.float32(value)


def scales(rng, count, about=0.02):
    return np.array([scale(rng, about) for _ in range(count)], dtype=np.float32)


def zero_point(rng, dtype):
    """A zero point anywhere in the range, often at an end or in the middle."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return np.dtype(dtype).type(rng.choice([low, (low + high + 1) // 2, high, rng.integers(low, high + 1)]))


def operand(rng, name, dtype, shape, about=0.02):
    return {
        name: codes(rng, dtype, shape),
        f"{name}_scale": scale(rng, about),
        f"{name}_zero_point": zero_point(rng, dtype),
    }


def result(rng, dtype, about):
    return {"y_scale": scale(rng, about), "y_zero_point": zero_point(rng, dtype)}


def simple_ratio(rng, arrays, name):
    """One time in four, the output's scale is a simple multiple of an operand's: values at half a code, exactly."""
    if rng.integers(4) == 0:
        arrays["y_scale"] = arrays[f"{name}_scale"] * np.float32(rng.choice([0.5, 1, 2, 4, 1.5, 6]))


def spread(x, w, terms):
    """Standard deviation of a sum of `terms` products."""
    return float(np.sqrt(terms) * np.std(x.astype(float)) * np.sqrt(np.mean(w.astype(float) ** 2)) + 1)


def output_step(rng, step, units):
    """Scale of an output that counts about `units` of the accumulator's scale `step`: one in three makes ties likely.

    Where it is an even multiple of the accumulator's scale many sums lie at half a code, in exact arithmetic; in
    float32 they fall on either side, by the order of the multiplications.
    """
    if rng.integers(3):
        return scale(rng, step * units)
    return np.float32(step) * np.float32(2 * max(1, round(units / 2 * 2 ** rng.uniform(-1, 1))))


# layers

OPERANDS = {"u8s8": (U8, S8), "s8s8": (S8, S8), "u8u8": (U8, U8)}


def conv(
    rng, kind="u8s8", rank=2, style=None, size=12, kernel=None, bias=None, w_zero=None, symmetric_pads=False, **fixed
):
    """A convolution: style "plain", "depthwise", "multiplier" (two outputs a channel), "grouped" or "pointwise"."""
    xtype, wtype = OPERANDS[kind]
    style = style or rng.choice(["plain", "plain", "depthwise", "grouped", "pointwise", "multiplier"])
    if style == "plain" or style == "pointwise":
        group, cin, cout = 1, int(rng.integers(1, 20)), int(rng.integers(1, 40))
        if rng.integers(3) == 0:  # what packed kernels like
            cin, cout = 4 * int(rng.integers(1, 6)), 8 * int(rng.integers(2, 5))
    elif style == "grouped":
        group = int(rng.integers(2, 5))
        each = int(rng.choice([1, 2, 3, 4, 5, 8, 16]))
        cin, cout = group * each, group * int(rng.choice([each, 1, 2, 3, 4, 8, 16]))
    else:
        group = int(rng.choice([1, 3, 7, 8, 16, 24, 32, 40, 48, 33]))
        cin, cout = group, group * (2 if style == "multiplier" else 1)
    cin, cout, group = fixed.get("cin", cin), fixed.get("cout", cout), fixed.get("group", group)
    if kernel is None:
        kernel = (
            [int(rng.choice([1, 2, 3, 3, 5]))] * rank if rng.integers(2) else [int(k) for k in rng.integers(1, 5, rank)]
        )
        if style == "pointwise":
            kernel = [1] * rank
        elif style in ("depthwise", "multiplier"):
            kernel = [int(rng.choice([3, 5, 7]) if rank < 3 else 3)] * rank
    strides = fixed.get("strides", [int(s) for s in rng.choice([1, 1, 2], rank)])
    dilations = fixed.get("dilations", [int(d) for d in rng.choice([1, 1, 1, 2], rank)])
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    begin = [int(rng.integers(0, r + 1)) for r in reach]
    end = begin if symmetric_pads or rng.integers(2) else [int(rng.integers(0, r + 1)) for r in reach]
    if rng.integers(3) == 0 and not symmetric_pads:
        begin = end = [0] * rank
    pads = fixed.get("pads", begin + list(end))
    shape = [max(r + 1, int(rng.integers(max(2, size // 2), size + 1))) for r in reach]
    batch = fixed.get("batch", int(rng.integers(1, 4)))
    arrays = operand(rng, "x", xtype, [batch, cin, *shape])
    w = codes(rng, wtype, [cout, cin // group, *kernel])
    per_channel = bool(rng.integers(2))
    arrays["w"] = w
    arrays["w_scale"] = scales(rng, cout) if per_channel else scale(rng)
    if w_zero is None:
        w_zero = 0 if wtype == S8 else int(rng.choice([0, 128, 255, rng.integers(256)]))
    arrays["w_zero_point"] = np.full(cout if per_channel else (), w_zero, dtype=wtype)
    terms = w[0].size
    accumulator = spread(arrays["x"], w.astype(int) - w_zero, terms)
    step = float(arrays["x_scale"]) * float(np.mean(arrays["w_scale"]))
    if per_channel and rng.integers(2):
        step = float(arrays["x_scale"] * rng.choice(arrays["w_scale"]))
    arrays |= result(rng, xtype, 1)
    arrays["y_scale"] = output_step(rng, step, accumulator / rng.uniform(20, 90))
    if bias is None:
        bias = bool(rng.integers(2))
    if bias:
        arrays["bias"] = np.round(rng.normal(0, accumulator, cout)).astype(np.int32)
    return Case(
        "conv",
        arrays,
        ("x",),
        dict(kernel_shape=list(kernel), strides=strides, pads=pads, dilations=dilations, group=group),
    )


def matmul(rng, kind="u8s8", k=None, rows=None, columns=None, constant=True, batch=None, w_zero=None):
    """A product of matrices; b has a scale a column or one."""
    atype, btype = OPERANDS[kind]
    k = k or int(rng.choice([1, 2, 3, 5, 8, 17, 33, 64, 129, 257, 300]))
    rows = rows or int(rng.integers(1, 40))
    columns = columns or int(rng.integers(1, 50))
    lead = [] if batch is None else list(batch)
    arrays = operand(rng, "a", atype, [*lead, rows, k])
    b = codes(rng, btype, [k, columns])
    per_column = bool(rng.integers(2))
    if w_zero is None:
        w_zero = 0 if btype == S8 else int(rng.choice([0, 128, 255, rng.integers(256)]))
    arrays |= {"b": b, "b_scale": scales(rng, columns) if per_column else scale(rng)}
    arrays["b_zero_point"] = np.full(columns if per_column else (), w_zero, dtype=btype)
    step = float(arrays["a_scale"]) * float(np.mean(arrays["b_scale"]))
    if per_column and rng.integers(2):
        step = float(arrays["a_scale"] * rng.choice(arrays["b_scale"]))
    arrays |= result(rng, atype, 1)
    arrays["y_scale"] = output_step(rng, step, spread(arrays["a"], b.astype(int) - w_zero, k) / rng.uniform(20, 90))
    return Case("matmul", arrays, ("a",) if constant else ("a", "b"))


def gemm(rng, kind="u8s8", **sizes):
    """QGemm: alpha, bias of several shapes, either operand transposed."""
    base = matmul(rng, kind, **sizes)
    arrays = dict(base.arrays)
    rows, columns = arrays["a"].shape[-2], arrays["b"].shape[-1]
    attributes = dict(
        alpha=float(np.float32(rng.choice([1.0, 1.0, 0.5, 0.3, 1.7]))),
        transA=int(rng.integers(2)),
        transB=int(rng.integers(2)),
    )
    shape = [(columns,), (1, columns), (rows, 1), (rows, columns), (1,), None][rng.integers(6)]
    if shape is not None:
        accumulator = spread(arrays["a"], arrays["b"], arrays["a"].shape[-1])
        arrays["bias"] = np.round(rng.normal(0, accumulator, shape)).astype(np.int32)
    if attributes["transA"]:
        arrays["a"] = np.ascontiguousarray(arrays["a"].T)
    if attributes["transB"]:
        arrays["b"] = np.ascontiguousarray(arrays["b"].T)
    return Case("gemm", arrays, ("a",), attributes)


def shapes_that_broadcast(rng):
    """Two shapes of up to five axes, either of which may be the one that is broadcast."""
    rank = int(rng.integers(1, 6))
    full = [int(n) for n in rng.integers(1, 12 if rank < 5 else 6, rank)]
    kinds = ["same", "scalar", "no axes", "row", "channel", "cross", "long", "whole", "columns"]
    kind = kinds[rng.integers(len(kinds))]
    if kind == "long":
        full = [int(rng.integers(1, 300))]
    axis = int(rng.integers(rank))
    pairs = {
        "scalar": ([1] * int(rng.integers(1, rank + 1)), full),
        "no axes": ([], full),
        "row": (full[-1:], full),
        "channel": ([n if a == axis else 1 for a, n in enumerate(full)], full),
        "cross": ([n if a % 2 else 1 for a, n in enumerate(full)], [1 if a % 2 else n for a, n in enumerate(full)]),
        "whole": (full[1:], full),
        "columns": ([1] * axis, [*full[: rank - axis], *[1] * axis]),
    }
    left, right = pairs.get(kind, (full, full))
    return (right, left) if rng.integers(2) else (left, right)


def binary(rng, op, dtype, constant=None, shapes=None):
    """An addition or a multiplication, with broadcasting; `constant` "a" or "b": that operand is one, "" none is."""
    left, right = shapes or shapes_that_broadcast(rng)
    arrays = operand(rng, "a", dtype, left) | operand(rng, "b", dtype, right)
    wide = [float(np.float32(arrays[f"{t}_scale"])) * 128 for t in "ab"]
    about = max(wide) / 128 if op == "add" else wide[0] * wide[1] / 128
    arrays |= result(rng, dtype, about * float(rng.choice([0.5, 1, 1, 2])))
    if rng.integers(5) == 0:  # ties
        arrays["a_scale"] = arrays["b_scale"] = np.float32(0.5)
        arrays["y_scale"] = np.float32(1.0 if op == "add" else 32.0)
    if constant is None:
        constant = str(rng.choice(["", "", "a", "b"]))
    return Case(op, arrays, tuple(t for t in "ab" if t != constant))


def in_float(rng, op, dtype):
    """An operator that a QDQ file leaves in float32: with a float constant, one of codes, parameters, or nothing."""
    case = table(rng, op, dtype, size=int(rng.integers(1, 300)))
    arrays, attributes = dict(case.arrays), {}
    arrays |= result(rng, dtype, float(arrays["x_scale"]) * float(rng.choice([0.5, 1, 1, 2])))
    simple_ratio(rng, arrays, "x")
    if op in ("sub", "div", "square"):
        number = np.float32(2 if op == "square" else rng.choice([0.5, -0.75, 1 / 3, 3, rng.normal()]))
        shape = [[], [1], arrays["x"].shape][rng.integers(3)]
        arrays["c"] = np.full(shape, number, np.float32)
        if op != "square" and rng.integers(2):
            arrays["c"] *= np.float32(1) + rng.integers(4, size=shape).astype(np.float32) / 4
        if rng.integers(2):
            zero = zero_point(rng, dtype)
            high = zero < np.iinfo(dtype).max
            arrays["c"] = np.full(shape, int(zero) + (1 if high else -1), dtype)
            arrays |= {"c_scale": np.abs(number), "c_zero_point": zero}
            if not high and op == "square":
                arrays["c"], arrays["c_zero_point"] = np.full(shape, 1, dtype), dtype.type(0)
    if op == "square":
        arrays["y_scale"] = np.float32(arrays["y_scale"] * arrays["x_scale"] * 64)
    if op == "clip":
        low, high = sorted(rng.normal(size=2) * 64 * float(arrays["x_scale"]))
        attributes = dict(low=float(np.float32(low)), high=float(np.float32(high)))
        if rng.integers(2):  # an end at half a code
            attributes["high"] = float(np.float32(arrays["y_scale"] * np.float32(rng.integers(2, 40) + 0.5)))
    if op == "hard_sigmoid":
        attributes = dict(alpha=float(np.float32(rng.choice([1 / 6, 0.2, 0.3]))), beta=0.5)
        arrays["y_scale"] = scale(rng, 1 / 256)
    left = op in ("sub",) and bool(rng.integers(2))
    return Case(op, arrays, ("x",), attributes | ({"left": 1} if left else {}))


def concat(rng, dtype):
    """Two or three tensors side by side; now and then one of them has the output's scale."""
    parts = int(rng.integers(2, 4))
    axis = int(rng.integers(4))
    shape = [int(n) for n in rng.integers(1, 9, 4)]
    arrays = result(rng, dtype, 0.03)
    for i in range(parts):
        shape[axis] = int(rng.integers(1, 9))
        arrays |= operand(rng, f"x{i}", dtype, shape)
        if rng.integers(4) == 0:
            arrays |= {f"x{i}_scale": arrays["y_scale"], f"x{i}_zero_point": arrays["y_zero_point"]}
    simple_ratio(rng, arrays, "x0")
    return Case("concat", arrays, tuple(f"x{i}" for i in range(parts)), dict(axis=axis))


def average_pool(rng, dtype, rank=2, size=12, whole=False):
    """Windows of 1 to 5, or one over the whole image; now and then rounded up at the end."""
    shape = [int(n) for n in rng.integers(3, size + 1, rank)]
    kernel = shape if whole else [int(rng.integers(1, min(n, 5) + 1)) for n in shape]
    pads = [0] * (2 * rank) if whole or rng.integers(2) else [int(rng.integers(0, k)) for k in kernel * 2]
    strides = [int(s) for s in rng.choice([1, 2], rank)]
    arrays = operand(rng, "x", dtype, [int(rng.integers(1, 4)), int(rng.integers(1, 12)), *shape])
    arrays |= result(rng, dtype, float(arrays["x_scale"]) * float(rng.choice([0.3, 0.5, 1, 2])))
    simple_ratio(rng, arrays, "x")
    at = dict(
        kernel_shape=kernel,
        strides=strides,
        pads=pads,
        count_include_pad=int(rng.integers(2)),
        ceil_mode=int(rng.integers(2)),
    )
    return Case("average_pool", arrays, ("x",), at)


def global_average_pool(rng, dtype, rank=2, size=12):
    shape = [int(n) for n in rng.integers(1, size + 1, rank)]
    arrays = operand(rng, "x", dtype, [int(rng.integers(1, 4)), int(rng.integers(1, 40)), *shape])
    arrays |= result(rng, dtype, float(arrays["x_scale"]) * float(rng.choice([0.1, 0.3, 0.5, 1])))
    simple_ratio(rng, arrays, "x")
    return Case("global_average_pool", arrays)


def table(rng, op, dtype, size=300):
    """An elementwise function; every code occurs."""
    about = 0.02 * float(rng.choice([0.1, 1, 4]))
    arrays = operand(rng, "x", dtype, [size], about)
    low = np.iinfo(dtype).min
    arrays["x"] = np.concatenate([np.arange(low, low + 256), arrays["x"]]).astype(dtype)
    attributes: dict[str, Any] = {}
    if op == "leaky_relu":
        attributes["alpha"] = float(np.float32(rng.choice([0.01, 0.1, 0.25, 0.5, 1 / 3, 2.0])))
        arrays |= result(rng, dtype, float(arrays["x_scale"]) * float(rng.choice([0.5, 1, 1, 2])))
        simple_ratio(rng, arrays, "x")
    else:
        arrays |= result(rng, dtype, float(rng.choice([1 / 256, 1 / 128, 1 / 1000])))
    return Case(op, arrays, ("x",), attributes)


def softmax(rng, dtype):
    shape = [int(n) for n in rng.integers(1, 9, 3)]
    axis = int(rng.integers(3))
    shape[axis] = int(rng.choice([1, 2, 3, 10, 60, 300]))
    arrays = operand(rng, "x", dtype, shape, 0.05 * float(rng.choice([0.1, 1, 4])))
    one = np.float32(rng.choice([1 / 256, 1 / 255, 1 / 128, 0.003, 0.0077]))
    arrays |= {"y_scale": one, "y_zero_point": zero_point(rng, dtype)}
    if rng.integers(2):
        arrays["y_zero_point"] = np.dtype(dtype).type(np.iinfo(dtype).min)
    return Case("softmax", arrays, ("x",), dict(axis=axis, opset=13))


def enlarged(rng, case, codes_):
    """The same layer on more inputs, until its output has about so many codes, where one of its axes allows that.

    That axis is the first of images, tables and sequences, rows of a matrix, and of a sum or product the first that
    both operands share or that a fed one has alone; constants of an operand grow with it.
    """
    arrays = dict(case.arrays)
    shapes = [arrays[name].shape for name in case.feeds]
    size = int(sum(np.prod(shape) for shape in shapes))
    if case.op in ("add", "mul"):
        size = int(np.prod(np.broadcast_shapes(arrays["a"].shape, arrays["b"].shape)))
    elif case.op in ("conv", "matmul"):
        x, w = arrays[case.feeds[0]], arrays["w" if case.op == "conv" else "b"]
        outputs = w.shape[0] / x.shape[1] if case.op == "conv" else w.shape[-1] / x.shape[-1]
        size = int(x.size * outputs / np.prod(case.attributes.get("strides", [1])))
    times = codes_ // max(size, 1)
    if times < 2 or min(map(len, shapes)) == 0:
        return case
    grown = {name: 0 for name in case.feeds}
    if case.op == "matmul":
        if arrays["b"].ndim > 2 or arrays["a"].ndim > 2:
            return case
        grown = {"a": arrays["a"].ndim - 2}
    elif case.op in ("concat", "softmax") and case.attributes["axis"] == 0:
        return case
    elif case.op in ("add", "mul"):
        rank = max(arrays[name].ndim for name in "ab")
        first = {name: arrays[name].shape[0] for name in "ab" if arrays[name].ndim == rank}
        most = max(first.values())
        grown = {name: 0 for name, count in first.items() if count == most}
        if most == 1:
            grown = {name: 0 for name in grown if name in case.feeds}
    elif "c" in arrays and arrays["c"].ndim == arrays["x"].ndim and arrays["c"].size > 1:
        arrays["c"] = np.concatenate([arrays["c"]] * times)
    for name, axis in grown.items():
        shape = list(arrays[name].shape)
        shape[axis] *= times - 1
        arrays[name] = np.concatenate([arrays[name], codes(rng, arrays[name].dtype, shape)], axis=axis)
    return Case(case.op, arrays, case.feeds, case.attributes)


# networks


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    scale: np.float32
    zero: Any

    def as_operand(self, name):
        return {f"{name}_scale": self.scale, f"{name}_zero_point": self.zero}


def network(rng, kind="u8s8", depth=7, size=12):
    """Layers one behind the other, with additions, products and concatenations of earlier tensors, to a softmax."""
    dtype, wtype = OPERANDS[kind]
    batch, channels = int(rng.integers(1, 3)), int(rng.integers(3, 10))
    first = _Tensor("input", (batch, channels, size, size), scale(rng), zero_point(rng, dtype))
    feeds, layers, known = {"input": codes(rng, dtype, first.shape)}, [], [first]

    def add_layer(op, arrays, inputs, shape, step, attributes=None):
        name = f"t{len(layers)}"
        arrays = arrays | {
            "y_scale": np.float32(step),
            "y_zero_point": np.dtype(dtype).type(rng.integers(*limits_inside(dtype))),
        }
        for feed, tensor in inputs.items():
            arrays |= tensor.as_operand(feed)
        case = Case(op, arrays, tuple(inputs), attributes or {})
        layers.append((case, {feed: tensor.name for feed, tensor in inputs.items()}, name))
        known.append(_Tensor(name, tuple(shape), arrays["y_scale"], arrays["y_zero_point"]))

    def convolution(x, kernel, cout, group=1):
        cin, pad = x.shape[1], kernel // 2
        w = codes(rng, wtype, [cout, cin // group, kernel, kernel])
        w_zero = 0 if wtype == S8 else int(rng.integers(100, 156))
        per_channel = bool(rng.integers(2))
        w_scale = scales(rng, cout) if per_channel else scale(rng)
        spread_of_sum = 60 * float(np.sqrt(w[0].size * np.mean((w.astype(float) - w_zero) ** 2)))
        arrays = {"w": w, "w_scale": w_scale, "w_zero_point": np.full(cout if per_channel else (), w_zero, dtype=wtype)}
        if rng.integers(2):
            arrays["bias"] = np.round(rng.normal(0, spread_of_sum / 2, cout)).astype(np.int32)
        step = output_step(rng, float(x.scale) * float(np.mean(w_scale)), spread_of_sum / 50)
        at = dict(kernel_shape=[kernel] * 2, strides=[1, 1], pads=[pad] * 4, dilations=[1, 1], group=group)
        add_layer("conv", arrays, {"x": x}, (x.shape[0], cout, *x.shape[2:]), step, at)

    for _ in range(depth):
        x = known[-1]
        other = known[rng.integers(len(known))]
        op = ["conv", "conv", "depthwise", "add", "mul", "concat", "average_pool", "leaky_relu", "sigmoid"][
            rng.integers(9)
        ]
        if op == "conv":
            convolution(x, int(rng.choice([1, 3])), int(rng.integers(2, 24)))
        elif op == "depthwise":
            convolution(x, int(rng.choice([3, 5])), x.shape[1], x.shape[1])
        elif op in ("add", "mul") and rng.integers(2):
            shape = [[], [x.shape[1], 1, 1], x.shape][rng.integers(3)]
            side, fed = ("a", "b") if rng.integers(2) else ("b", "a")
            constant = operand(rng, side, dtype, shape)
            step = float(constant[f"{side}_scale"])
            step = max(float(x.scale), step) * 1.3 if op == "add" else float(x.scale) * step * 60
            add_layer(op, constant, {fed: x}, x.shape, step)
        elif op in ("add", "mul"):
            if other.shape != x.shape:
                other = x
            step = max(x.scale, other.scale) * 1.3 if op == "add" else x.scale * other.scale * 60
            add_layer(op, {}, {"a": x, "b": other}, x.shape, step)
        elif op == "concat":
            if other.shape[2:] == x.shape[2:]:
                shape = (batch, x.shape[1] + other.shape[1], *x.shape[2:])
                add_layer(op, {}, {"x0": x, "x1": other}, shape, max(x.scale, other.scale), dict(axis=1))
        elif op == "average_pool":
            at = dict(kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1], count_include_pad=int(rng.integers(2)))
            add_layer(op, {}, {"x": x}, x.shape, x.scale * 0.5, at)
        else:
            at = dict(alpha=float(np.float32(0.1))) if op == "leaky_relu" else {}
            add_layer(op, {}, {"x": x}, x.shape, x.scale * 0.8 if op == "leaky_relu" else 1 / 256, at)
    x = known[-1]
    add_layer("global_average_pool", {}, {"x": x}, (*x.shape[:2], 1, 1), x.scale * 0.3)
    add_layer("softmax", {}, {"x": known[-1]}, known[-1].shape, 1 / 256, dict(axis=1, opset=13))
    return Network(tuple(layers), feeds)


def limits_inside(dtype):
    """Zero points near the middle of the range, so that a deep network's codes don't pile up at an end."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return low + 96, high - 95


# PyTorch takes uint8 activations, int8 weights, equal pads at both ends and a float bias


def with_float_bias(rng, case, left, right):
    """The same layer with a bias of floats, some of them multiples of the accumulator's scale."""
    step = case[f"{left}_scale"] * case[f"{right}_scale"]
    count = case["w"].shape[0] if right == "w" else case["b"].shape[1]
    arrays = {n: a for n, a in case.arrays.items() if n != "bias"}
    kind = rng.integers(4)
    if kind:
        units = rng.normal(0, 2000, count)
        units = {1: np.round(units), 2: np.round(units) + 0.5, 3: units}[int(kind)]
        arrays["bias"] = (units * step).astype(np.float32)
    return Case(case.op, arrays, case.feeds, case.attributes)


def torch_conv(rng, **fixed):
    fixed.setdefault("w_zero", int(rng.choice([0, 0, 0, 5, -128])))
    return with_float_bias(rng, conv(rng, symmetric_pads=True, bias=False, **fixed), "x", "w")


def torch_depthwise(rng, rank=2, channels=None, **fixed):
    """A depthwise convolution near to what FBGEMM's own kernel takes."""
    kernel = [int(rng.choice([3, 5, 7]))] * 2
    if rank == 3:
        kernel = [3, *([int(rng.choice([3, 5]))] * 2)]
    if rng.integers(6) == 0:
        kernel[-1] = int(rng.choice([1, 3, 4, 5]))
    pads = [(k - 1) // 2 for k in kernel]
    if rng.integers(4) == 0:
        pads[rng.integers(rank)] = int(rng.integers(0, 3))
    channels = channels or int(rng.choice([8, 16, 24, 32, 40, 64, 104, 12, 20, 33]))
    stride = int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))
    dilation = int(rng.choice([1, 2], p=[0.85, 0.15]))
    fixed |= dict(strides=[stride] * rank, dilations=[dilation] * rank, pads=pads * 2, group=channels, cin=channels)
    fixed["cout"] = channels * int(rng.choice([1, 1, 2]))
    fixed.setdefault("w_zero", int(rng.choice([0, 0, 0, 5])))
    return with_float_bias(rng, conv(rng, style="depthwise", rank=rank, kernel=kernel, bias=False, **fixed), "x", "w")


def torch_network(rng, w_zero=None, depth=6, size=16):
    """Convolutions one behind the other, most of them padded by half their kernel, as PyTorch takes them."""
    batch, channels = int(rng.integers(1, 3)), int(rng.integers(3, 33))
    first = operand(rng, "x", U8, [batch, channels, size, size])
    feeds, layers = {"input": first.pop("x")}, []
    given, shape = first, feeds["input"].shape
    for i in range(depth):
        kernel, depthwise = int(rng.choice([1, 3, 3, 5])), rng.integers(3) == 0
        fixed: dict[str, Any] = dict(cin=shape[1], batch=1, strides=[1, 1], dilations=[1, 1], pads=[kernel // 2] * 4)
        fixed |= dict(group=shape[1] if depthwise else 1, cout=shape[1] if depthwise else 8 * int(rng.integers(1, 5)))
        style = "depthwise" if depthwise else "plain"
        zero = int(rng.choice([0, 0, 5])) if w_zero is None else w_zero
        case = torch_conv(rng, style=style, kernel=[kernel] * 2, w_zero=zero, **fixed)
        arrays = {n: a for n, a in case.arrays.items() if n not in ("x", "bias")} | given
        step = float(arrays["x_scale"]) * float(np.mean(arrays["w_scale"]))
        spread_of_sum = 50 * float(np.sqrt(case["w"][0].size * np.mean((case["w"].astype(float) - zero) ** 2)))
        arrays["y_scale"] = output_step(rng, step, spread_of_sum / 50)
        arrays["y_zero_point"] = U8.type(rng.integers(*limits_inside(U8)))
        whole = Case("conv", arrays | {"x": feeds["input"]}, ("x",), case.attributes)
        arrays = {n: a for n, a in with_float_bias(rng, whole, "x", "w").arrays.items() if n != "x"}
        layers.append((Case("conv", arrays, ("x",), case.attributes), {"x": f"t{i - 1}" if i else "input"}, f"t{i}"))
        given = {"x_scale": arrays["y_scale"], "x_zero_point": arrays["y_zero_point"]}
        shape = (batch, len(case["w"]), *shape[2:])
    return Network(tuple(layers), feeds)


def torch_linear(rng, **fixed):
    fixed.setdefault("w_zero", int(rng.choice([0, 0, 0, 5, -128])))
    return with_float_bias(rng, matmul(rng, **fixed), "a", "b")


def torch_binary(rng, op):
    """Two operands of one shape, also with channels last; half of the sums and products lie near half a code."""
    last = bool(rng.integers(2))
    size = (
        [2, int(rng.integers(1, 40)), *(int(n) for n in rng.integers(1, 8, 2))] if last else [int(rng.integers(1, 700))]
    )
    case = binary(rng, op, U8, shapes=(size, size))
    arrays = dict(case.arrays)
    if rng.integers(2):
        if op == "add":
            arrays["b_scale"] = arrays["a_scale"] * np.float32(rng.choice([1, 2, 0.5, 1.5]))
            arrays["y_scale"] = arrays["a_scale"] * np.float32(2 * rng.integers(1, 4))
        else:
            arrays["y_scale"] = arrays["a_scale"] * arrays["b_scale"] * np.float32(2 * rng.integers(10, 60))
    return Case(op, arrays, ("a", "b"), {"channels_last": int(last)})


def torch_concat(rng):
    """A concatenation; half of them of channels that lie last, in numbers around those that vectors hold."""
    if rng.integers(2):
        return concat(rng, U8)
    sizes = [int(n) for n in rng.integers(1, 8, 2)]
    arrays = result(rng, U8, 0.03)
    for i in range(int(rng.integers(2, 4))):
        channels = int(rng.choice([1, 3, 7, 8, 9, 15, 31, 32, 33, 64, 70, 130]))
        arrays |= operand(rng, f"x{i}", U8, [2, channels, *sizes])
    simple_ratio(rng, arrays, "x0")
    feeds = tuple(name for name in arrays if name.startswith("x") and "_" not in name)
    return Case("concat", arrays, feeds, dict(axis=1, channels_last=1))


def torch_average_pool(rng, include=None):
    """avg_pool2d: at most half of a window is padding, and the output's scale is the input's; no windows of one."""
    case = average_pool(rng, U8)
    while max(case.attributes["kernel_shape"]) == 1:
        case = average_pool(rng, U8)
    kernel = case.attributes["kernel_shape"]
    pads = [int(rng.integers(0, k // 2 + 1)) for k in kernel] * 2
    arrays = case.arrays | {"y_scale": case["x_scale"], "y_zero_point": case["x_zero_point"]}
    counted = int(rng.integers(2)) if include is None else include
    return Case(
        "average_pool", arrays, ("x",), case.attributes | dict(pads=pads, ceil_mode=0, count_include_pad=counted)
    )


# files

QOPERATOR = {
    "conv": ("QLinearConv", ""),
    "matmul": ("QLinearMatMul", ""),
    "gemm": ("QGemm", MS),
    "add": ("QLinearAdd", MS),
    "mul": ("QLinearMul", MS),
    "concat": ("QLinearConcat", MS),
    "average_pool": ("QLinearAveragePool", MS),
    "global_average_pool": ("QLinearGlobalAveragePool", MS),
    "leaky_relu": ("QLinearLeakyRelu", MS),
    "sigmoid": ("QLinearSigmoid", MS),
    "softmax": ("QLinearSoftmax", MS),
}
FLOAT = {
    "conv": "Conv",
    "matmul": "MatMul",
    "gemm": "Gemm",
    "add": "Add",
    "mul": "Mul",
    "concat": "Concat",
    "average_pool": "AveragePool",
    "global_average_pool": "GlobalAveragePool",
    "leaky_relu": "LeakyRelu",
    "sigmoid": "Sigmoid",
    "softmax": "Softmax",
    "sub": "Sub",
    "div": "Div",
    "square": "Pow",
    "clip": "Clip",
    "hard_sigmoid": "HardSigmoid",
    "hard_swish": "HardSwish",
}


def operands(case):
    """Names of the operands in the order in which the operator takes them; those without a scale are floats."""
    if case.op == "concat":
        return [name for name in case.feeds]
    if "c" in case.arrays:
        return ["c", "x"] if case.attributes.get("left") else ["x", "c"]
    return {"conv": ["x", "w"], "matmul": ["a", "b"], "gemm": ["a", "b"], "add": ["a", "b"], "mul": ["a", "b"]}.get(
        case.op, ["x"]
    )


def _attributes(case, fused):
    kept = {name: value for name, value in case.attributes.items() if name not in ("left", "low", "high")}
    if not fused:
        kept.pop("opset", None)
    elif case.op == "global_average_pool":
        kept["channels_last"] = 0
    return kept


class _Graph:
    def __init__(self):
        self.nodes, self.initializers, self.inputs = [], [], []

    def constant(self, name, array):
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def input(self, name, array):
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(array.shape)))
        return name

    def node(self, op, inputs, output, domain="", **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], name=output + "_" + op, domain=domain, **attributes))

    def model(self, outputs):
        graph = helper.make_graph(self.nodes, "drawn", self.inputs, outputs, self.initializers)
        opsets = [helper.make_opsetid("", 19), helper.make_opsetid(MS, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def _place(graph, case, names, output, fused):
    """Put a layer into a graph; names: tensor of each feed."""
    for name, array in case.arrays.items():
        if name not in case.feeds:
            graph.constant(f"{output}.{name}", array)

    def tensor(name):
        return names.get(name, f"{output}.{name}")

    def parameters(name):
        return [f"{output}.{name}_scale", f"{output}.{name}_zero_point"]

    if fused:
        op, domain = QOPERATOR[case.op]
        triples = [t for name in operands(case) for t in (tensor(name), *parameters(name))]
        if case.op == "concat":
            inputs = [*parameters("y"), *triples]
        elif case.op == "gemm":
            inputs = [*triples, f"{output}.bias" if "bias" in case.arrays else "", *parameters("y")]
        else:
            inputs = [*triples, *parameters("y")]
            if case.op == "conv" and "bias" in case.arrays:
                inputs.append(f"{output}.bias")
        graph.node(op, inputs, output, domain, **_attributes(case, True))
        return
    floats = []
    for name in operands(case):
        if f"{name}_scale" not in case.arrays:
            floats.append(tensor(name))
            continue
        axis = {"w": 0, "b": 1}.get(name, 0) if case.arrays[f"{name}_scale"].ndim else None
        if case.op == "gemm" and name == "b" and case.attributes["transB"]:
            axis = 0 if axis is not None else None
        extra = {} if axis is None else {"axis": axis}
        graph.node("DequantizeLinear", [tensor(name), *parameters(name)], f"{output}.{name}.float", **extra)
        floats.append(f"{output}.{name}.float")
    if "bias" in case.arrays and case.arrays["bias"].dtype.kind == "f":
        floats.append(f"{output}.bias")
    elif "bias" in case.arrays:
        left, right = operands(case)
        step = case.arrays[f"{left}_scale"] * case.arrays[f"{right}_scale"]
        graph.constant(f"{output}.bias_scale", np.asarray(step, dtype=np.float32))
        graph.constant(f"{output}.bias_zero", np.zeros_like(step, dtype=np.int32))
        extra = {"axis": 0} if step.ndim else {}
        graph.node(
            "DequantizeLinear",
            [f"{output}.bias", f"{output}.bias_scale", f"{output}.bias_zero"],
            f"{output}.bias.float",
            **extra,
        )
        floats.append(f"{output}.bias.float")
    for end in ("low", "high"):
        if end in case.attributes:
            floats.append(graph.constant(f"{output}.{end}", np.float32(case.attributes[end])))
    behind = [floats.pop()] if case.op == "matmul" and len(floats) > 2 else []
    graph.node(FLOAT[case.op], floats, f"{output}.{'sums' if behind else 'float'}", **_attributes(case, False))
    if behind:
        graph.node("Add", [f"{output}.sums", *behind], f"{output}.float")
    graph.node("QuantizeLinear", [f"{output}.float", *parameters("y")], output)


def model(drawn, form="qoperator", every_tensor=False):
    """The ONNX model of a case or a network: form "qoperator" or "qdq"; `every_tensor`: all codes are graph outputs."""
    network = (
        drawn
        if isinstance(drawn, Network)
        else Network(((drawn, {n: n for n in drawn.feeds}, "y"),), {n: drawn[n] for n in drawn.feeds})
    )
    graph = _Graph()
    for name, array in network.feeds.items():
        graph.input(name, array)
    for case, names, output in network.layers:
        _place(graph, case, names, output, form == "qoperator")
    shown = [output for _, _, output in network.layers] if every_tensor else [network.output]
    types = {output: case["y_zero_point"].dtype for case, _, output in network.layers}
    values = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(types[name]), None) for name in shown]
    return graph.model(values)


def network_feeds(drawn):
    return drawn.feeds if isinstance(drawn, Network) else {name: drawn[name] for name in drawn.feeds}
