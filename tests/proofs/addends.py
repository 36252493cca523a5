"""Small multiply-accumulate layers of every kind, and their addends once more, in Python loops over the definition."""

import itertools

import numpy as np

from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.registers import Registers
from intsim.graph import IntegerGraph, Node, Tensor, rationals

CORRECTED, RAW = (None, None), (IntegerType(8, False), IntegerType(8, True))
RANGES = [(-8, 7), (0, 15), (0, 255), (-128, 127), (3, 7), (-9, -2), (5, 5), (0, 0), (-1, 0), (-1, 1)]


def registers(raw=False, preload=False, order=("kh", "kw", "cin"), stages=()):
    return Registers(stages, order, "preload" if preload else "after", *(RAW if raw else CORRECTED))


def graph(op, shape, low, high, arrays, second=None, **attributes):
    """One node; `second` = (shape, low, high) of a second tensor."""
    made = IntegerGraph("g", inputs=["x"])
    made.tensors["x"] = Tensor("x", tuple(shape), low, high, rationals(1), rationals(0))
    names = ["x"]
    if second is not None:
        made.tensors["w"] = Tensor("w", tuple(second[0]), *second[1:], rationals(1), rationals(0))
        names.append("w")
    arrays = {k: np.asarray(v, np.int64) for k, v in arrays.items()}
    made.nodes.append(Node(op, "n", tuple(names), "y", attributes, arrays))
    return made


def draw(rng, tiny=False):
    """A random layer: dense, batched, of two tensors, or a convolution of either direction, with zero points."""
    low, high = RANGES[rng.integers(len(RANGES))]
    if tiny:
        low = int(rng.integers(-3, 4))
        high = low + int(rng.integers(0, 3))
    zero = int(rng.choice([0, 0, low, high, rng.integers(-4, 5)]))
    peak = 3 if tiny else 128
    kind = rng.choice(["matmul", "batched", "two", "conv", "conv", "conv_transpose"])
    depth = int(rng.integers(1, 3 if tiny else 7))

    def weight(*shape):
        return rng.integers(-peak, peak, shape) if rng.random() < 0.8 else rng.integers(0, 2, shape)

    def extras(channels, *ones):
        made = {}
        if rng.random() < 0.5:
            made["bias"] = rng.integers(-9, 10, channels) * int(rng.choice([1, 1, 1 if tiny else 1000]))
        if rng.random() < 0.5:
            made["weight_zero"] = rng.integers(-2, 3, channels).reshape(ones)
        return made

    if kind == "two":
        w_low, w_high = [(-8, 7), (0, 3), (2, 4), (-5, -2)][rng.integers(4)]
        if tiny:
            w_low, w_high = w_low // 2, w_low // 2 + int(rng.integers(0, 3))
            depth = min(depth, 2)
        arrays = {"weight_zero": rng.integers(-1, 2)} if rng.random() < 0.5 else {}
        lead = () if tiny else (2,)
        second = ((*lead, depth, 1 if tiny else 2), w_low, w_high)
        return graph("matmul", (*lead, 1, depth), low, high, arrays, second, zero_point=zero)
    channels = int(rng.integers(1, 3))
    if kind == "matmul":
        arrays = {"weight": weight(depth, channels), **extras(channels, 1, -1)}
        return graph("matmul", (1, depth), low, high, arrays, zero_point=zero)
    if kind == "batched":
        many, lines = int(rng.integers(1, 4)), 1 if tiny else 2
        x = [(lines, depth), (1, lines, depth), (many, lines, depth), (2, 1, lines, depth)][
            rng.integers(2 if tiny else 4)
        ]
        return graph("matmul", x, low, high, {"weight": weight(many, depth, channels)}, zero_point=zero)
    return draw_conv(rng, kind, low, high, zero, weight, extras, tiny)


def draw_conv(rng, kind, low, high, zero, weight, extras, tiny):
    """Groups, strides, dilations, uneven padding, kernels as large as the input."""
    rank = 1 if tiny else int(rng.integers(1, 3))
    groups = 1 if tiny else int(rng.integers(1, 3))
    cin, per_group = (1, 1) if tiny else (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    size = [int(rng.integers(1, 4 if tiny else 5)) for _ in range(rank)]
    attributes = {"strides": [1] * rank, "dilations": [1] * rank, "groups": groups, "zero_point": zero}
    stuffed = size
    if kind == "conv_transpose":
        attributes["insert"] = [int(rng.integers(1, 4)) for _ in range(rank)]
        stuffed = [(s - 1) * i + 1 for s, i in zip(size, attributes["insert"], strict=True)]
    else:
        attributes["strides"] = [int(rng.integers(1, 3)) for _ in range(rank)]
        attributes["dilations"] = [int(rng.integers(1, 3)) for _ in range(rank)]
    kernel = [int(rng.integers(1, 4)) for _ in range(rank)]
    pads = [int(rng.integers(0, 3)) for _ in range(2 * rank)]
    for a in range(rank):
        short = attributes["dilations"][a] * (kernel[a] - 1) + 1 - stuffed[a] - pads[a] - pads[rank + a]
        pads[a] += max(short, 0)
    attributes["pads"] = pads
    out = groups * per_group
    arrays = {"weight": weight(out, cin, *kernel), **extras(out, -1, *[1] * (rank + 1))}
    return graph(kind, (1, groups * cin, *size), low, high, arrays, **attributes)


def pairs(node, inputs, position, order=("kh", "kw", "cin")):
    """(activation, weight) codes of one output element in the order of arrival; None for an activation is padding."""
    if node.op == "matmul":
        x, w = inputs[0], inputs[1] if len(inputs) > 1 else node.arrays["weight"]
        lead = np.broadcast_shapes(x.shape[:-2], w.shape[:-2])
        x, w = np.broadcast_to(x, (*lead, *x.shape[-2:])), np.broadcast_to(w, (*lead, *w.shape[-2:]))
        *batch, row, column = position
        return [(int(x[(*batch, row, k)]), int(w[(*batch, k, column)])) for k in range(x.shape[-1])]
    x, weight, at = inputs[0], node.arrays["weight"], node.attributes
    n, o, *where = position
    cin, kernel = weight.shape[1], weight.shape[2:]
    group = o // (weight.shape[0] // at["groups"])
    insert = at.get("insert", [1] * len(kernel))
    tokens = ("cin", "kh", "kw") if len(kernel) == 2 else ("cin", "kw")
    sizes = dict(zip(tokens, (cin, *kernel), strict=True))
    found = []
    arrival = [t for t in order if t in tokens]
    for index in itertools.product(*(range(sizes[t]) for t in arrival)):
        tap = dict(zip(arrival, index, strict=True))
        spatial = []
        for a, token in enumerate(tokens[1:]):
            c = where[a] * at["strides"][a] + tap[token] * at["dilations"][a] - at["pads"][a]
            inside = 0 <= c <= (x.shape[2 + a] - 1) * insert[a] and c % insert[a] == 0
            spatial.append(c // insert[a] if inside else None)
        w = int(weight[(o, tap["cin"], *(tap[t] for t in tokens[1:]))])
        real = None not in spatial
        found.append((int(x[(n, group * cin + tap["cin"], *spatial)]) if real else None, w))
    return found


def addends(node, inputs, position, made, machine):
    """Products, preloaded bias, late addend of one output element. `made` is the graph."""
    channel = position[-1] if node.op == "matmul" else position[1]
    zx = node.attributes["zero_point"]
    zeros = node.arrays.get("weight_zero", np.zeros((), np.int64)).reshape(-1)
    zw = int(zeros[channel if len(zeros) > 1 else 0])
    codes = [(zx if x is None else x, w) for x, w in pairs(node, inputs, position, machine.order)]
    bias = int(node.arrays["bias"][channel]) if "bias" in node.arrays else None
    true = [(x - zx) * (w - zw) for x, w in codes]
    products = true
    if machine.activation is not None:
        shift = 128 if made.tensors["x"].low < 0 else 0
        products = [(x + shift) * w for x, w in codes]
    preload = [] if bias is None or machine.bias != "preload" else [bias]
    late = sum(true) - sum(products) + (0 if bias is None or machine.bias != "after" else bias)
    return products, preload, late
