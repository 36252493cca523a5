"""Layers of two-byte activations: a layer for the high bytes and one for the low, 256 of the one and one of the other.

A byte is what the instructions multiply, so 16-bit activations take two layers of bytes with the same weights. Both
sums fit 32 bits where this is used; together they may take more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.engine.exact.conv import NO_WORDS, Weights, WordConv, window
from intsim.engine.exact.layout import Buffer, Layout, maps, pack
from intsim.engine.exact.matmul import WordMatmul
from intsim.engine.program.analysis import INT32, byte_shift, byte_weights, inside, narrowest, safe
from intsim.engine.program.arrays import formula_or_filter
from intsim.engine.program.builder import ProgramBuilder, Source
from intsim.engine.program.program import Action, Frame, OnBuffers, Step
from intsim.engine.requantize.kernels import Combination
from intsim.engine.requantize.node import cell_layout
from intsim.graph import IntArray, Node
from intsim.ops import OPS, Mac

UNITS = 256, 1
"""Of the sums of high and low bytes."""
Sums = NDArray[np.int32]


@dataclass(frozen=True)
class Halves:
    """Layer of two bytes: weights as `analysis.byte_weights`, and of the high and the low byte its zero and bias."""

    weight: Weights
    shift: int  # makes unsigned numbers of the activations
    zeros: tuple[int, int]
    biases: tuple[IntArray, IntArray]  # (channels,)


def halves(builder: ProgramBuilder, node: Node, axis: int) -> Halves | None:
    """A layer in halves; None where activations are bytes or take more than two, or a half more than 32 bits.

    `axis` of the weights is that of the output channels.
    """
    op = OPS[node.op]
    assert isinstance(op, Mac)
    held = builder.analysis.holds[node.inputs[0]]
    shift = 0 if inside(held, (0, 0xFFFF)) else 0x8000 if inside(held, (-0x8000, 0x7FFF)) else None
    weight = byte_weights(node, op)
    proven = builder.analysis.sound[node.output] and safe(builder.analysis.plans[node.output])
    if weight is None or shift is None or byte_shift(held) is not None or not proven:
        return None
    bias = node.arrays.get("bias", np.zeros(weight.shape[axis], np.int64))
    biases = bias >> 8, bias & 255
    others = tuple(a for a in range(weight.ndim) if a != axis)
    most = 255 * int(np.abs(weight).sum(axis=others).max()) + int(np.abs(biases[0]).max()) + 255
    zero = op.zero_points(node)[0] + shift
    if most >= 1 << 31 or (op.pads(node) and not 0 <= zero <= 0xFFFF):
        return None
    return Halves(weight, shift, (zero >> 8, zero & 255), biases)


def bytes_of(codes: NDArray[Any], shift: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """High and low bytes of codes plus a shift of 0 or 2^15."""
    numbers = codes.astype(np.uint16) ^ np.uint16(shift)  # modulo 2^16 the top bit is what 2^15 changes
    return (numbers >> 8).astype(np.uint8), numbers.astype(np.uint8)


def conv(builder: ProgramBuilder, node: Node) -> bool:
    """A convolution, and in the same step the requantizer that alone reads it."""
    x, y = (builder.graph.tensors[n] for n in (node.inputs[0], node.output))
    spatial = window(node, x.shape, y.shape)
    if spatial is None or 0 in x.shape or 0 in y.shape:
        return False
    parts = halves(builder, node, 0)
    if parts is None:
        return False
    weight = parts.weight.reshape(*parts.weight.shape[:2], *spatial.kernel)
    sources = []
    for zero, bias in zip(parts.zeros, parts.biases, strict=True):
        one = WordConv(weight, bias, spatial, zero & 255, zero, builder.dot)
        top, left, bottom, right = (max(0, b) for b in ((0, 0, 0, 0) if one.strided else one.border))
        plain = Layout.plain(x.shape, 0)
        bordered = replace(plain, top=top, left=left, bottom=bottom, right=right, pad=one.pad)
        sources.append(Source(builder, one, builder.new_buffer(bordered)))
    builder.as_array(x.name)
    shape = maps(y.shape)
    bounds = [source.bind(shape) for source in sources]

    def bind(buffers: list[Buffer]) -> Callable[[NDArray[Any]], list[Sums]]:
        fillings = [source.filling(buffers) for source in sources]

        def sums(codes: NDArray[Any]) -> list[Sums]:
            made = []
            for source, filling, bound, part in zip(
                sources, fillings, bounds, bytes_of(codes, parts.shift), strict=True
            ):
                pack(part, buffers[source.view.buffer], source.view)
                for work in filling:
                    work.call.run()
                out = np.empty(math.prod(shape), np.int32)
                for one in bound:
                    one.run(source.buffer(buffers), NO_WORDS, out)
                made.append(out)
            return made

        return sums

    _add(builder, node, f"words {builder.dot.name}, bytes apart", bind, [b for s in sources for b in s.buffers])
    return True


def matmul(builder: ProgramBuilder, node: Node) -> bool:
    """A product with constant weights, and in the same step the requantizer that alone reads it."""
    x, y = (builder.graph.tensors[n] for n in (node.inputs[0], node.output))
    if "weight" not in node.arrays or node.arrays["weight"].ndim != 2 or 0 in x.shape or 0 in y.shape:
        return False
    parts = halves(builder, node, 1)
    if parts is None:
        return False
    total = parts.weight.sum(axis=0)
    products = [
        WordMatmul(parts.weight, bias - zero * total, builder.dot)
        for zero, bias in zip(parts.zeros, parts.biases, strict=True)
    ]
    builder.as_array(x.name)

    def sums(codes: NDArray[Any]) -> list[Sums]:
        rows = codes.reshape(-1, x.shape[-1])
        return [p.run(half, 0) for p, half in zip(products, bytes_of(rows, parts.shift), strict=True)]

    _add(builder, node, f"rows {builder.dot.name}, bytes apart", lambda _: sums, [])
    return True


def _add(
    builder: ProgramBuilder,
    node: Node,
    kernel: str,
    bind: Callable[[list[Buffer]], Callable[[NDArray[Any]], list[Sums]]],
    buffers: list[int],
) -> None:
    """A step that adds up the sums of both bytes: accumulators, or codes where a requantizer alone reads them."""
    x, y, events = node.inputs[0], builder.graph.tensors[node.output], {node.name: builder.no_events(node)}
    reader, rule, layout = builder.sole_requantizer(node), None, None
    if reader is not None and inside(builder.analysis.holds[reader.output], INT32):
        rule, layout = formula_or_filter(builder, reader), cell_layout(y.shape, reader.attributes["cells"])
    combination = None
    if rule is not None and layout is not None:
        combination = Combination(np.repeat(np.array(UNITS, np.int64)[:, None], layout[1], axis=1), rule)
    else:
        reader = None
    made = node.output if reader is None else reader.output
    kind = narrowest(builder.analysis.holds[made])

    def on_buffers(memory: list[Buffer]) -> list[Action]:
        sums = bind(memory)

        def action(frame: Frame) -> None:
            high, low = sums(frame.arrays[x])
            if combination is None or layout is None:
                frame.arrays[made] = (UNITS[0] * high.astype(np.int64) + low).astype(kind).reshape(y.shape)
                return
            given, out = [s.reshape(layout) for s in (high, low)], np.empty(layout, kind)
            combination.run(given, out)
            frame.arrays[made] = out.reshape(y.shape)

        return [action]

    nodes = (node,) if reader is None else (node, reader)
    why = "no register can overflow" if builder.arithmetic(node).stages else "exact sums"
    where = OnBuffers(on_buffers)
    builder.add(Step(nodes, kernel, why, where, arrays=(x,), buffers=tuple(buffers), made=(made,), events=events))
    if reader is not None:
        builder.fused.add(made)
