"""Operators that only move codes, or pick among them. Where scales differ on the way, codes are rounded anew."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from intsim.frontend.tflite.elementwise import inner_layout, layout_of
from intsim.frontend.tflite.file import FileTensor
from intsim.frontend.tflite.network import Network, Unsupported
from intsim.frontend.tflite.registry import translates

NCHW = (0, 3, 1, 2)
"""Which axis of N, H, W, C stands where, channels first."""


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front; refused outside of -rank..rank-1."""
    if not -rank <= axis < rank:
        raise Unsupported(f"its axis {axis} is outside of {rank} axes")
    return axis % rank


def carry(
    net: Network,
    op: str,
    x: FileTensor,
    operands: list[str],
    shape: tuple[int, ...],
    inner: bool = False,
    **attributes: Any,
) -> None:
    """Move codes by one node, whose first input they are; by their real numbers where the output has another scale."""
    y = net.activation(net.output())
    if net.activation(x).same_codes(y):
        net.move(op, [net.codes(x, inner), *operands], shape, inner, **attributes)
    else:
        net.quantize(net.node(op, [net.real(x, inner), *operands], **attributes), shape, inner)


def integers(net: Network, what: str, values: Any) -> str:
    """A constant list of integers."""
    return net.constant(what, np.array(values, np.int64))


def _reshape(net: Network, x: FileTensor, shape: tuple[int, ...]) -> None:
    if math.prod(shape) != math.prod(x.shape):
        raise Unsupported(f"its shape {list(shape)} doesn't hold the elements of {list(x.shape)}")
    carry(net, "Reshape", x, [integers(net, "shape", shape)], shape)


@translates("RESHAPE")
def reshape(net: Network) -> None:
    """The shape is a constant input, or an option, or what the file declares; -1 stands for what is left."""
    x = net.activation(net.tensor(0))
    wanted = net.numbers(1, "shape") if net.given(1) else list(net.option("NewShape"))
    if not wanted and net.output().shape:
        wanted = list(net.output().shape)
    known = math.prod(v for v in wanted if v != -1)
    if wanted.count(-1) > 1 or known < 1 or math.prod(x.shape) % known:
        raise Unsupported(f"its shape {wanted} doesn't hold the elements of {list(x.shape)}")
    _reshape(net, x, tuple(math.prod(x.shape) // known if v == -1 else v for v in wanted))


@translates("SQUEEZE")
def squeeze(net: Network) -> None:
    """Without the named axes of size one; without all of them if none is named."""
    x = net.activation(net.tensor(0))
    named = {axis_of(a, len(x.shape)) for a in net.option("SqueezeDims")}
    gone = named or {a for a, s in enumerate(x.shape) if s == 1}
    if any(x.shape[a] != 1 for a in gone):
        raise Unsupported(f"it squeezes axes {sorted(gone)} of {list(x.shape)} that are not one")
    _reshape(net, x, tuple(s for a, s in enumerate(x.shape) if a not in gone))


@translates("EXPAND_DIMS")
def expand_dims(net: Network) -> None:
    """One more axis of size one."""
    x, axes = net.activation(net.tensor(0)), net.numbers(1, "axis")
    if len(axes) != 1:
        raise Unsupported(f"its axis is {axes}")
    axis = axis_of(axes[0], len(x.shape) + 1)
    _reshape(net, x, (*x.shape[:axis], 1, *x.shape[axis:]))


@translates("TRANSPOSE")
def transpose(net: Network) -> None:
    """Axes in another order."""
    x, perm = net.activation(net.tensor(0)), net.numbers(1, "permutation")
    if sorted(a % len(perm) for a in perm) != list(range(len(x.shape))):
        raise Unsupported(f"its permutation {perm} doesn't fit {len(x.shape)} axes")
    perm = [a % len(perm) for a in perm]
    carry(net, "Transpose", x, [], tuple(x.shape[a] for a in perm), perm=perm)


@translates("PAD", "PADV2")
def pad(net: Network) -> None:
    """Padding with the code of zero; PADV2 with a constant code of its own."""
    x, pads = net.activation(net.tensor(0)), net.numbers(1, "paddings")
    rank = len(x.shape)
    if len(pads) != 2 * rank or min(pads, default=0) < 0:
        raise Unsupported(f"its paddings {pads} don't fit {rank} axes")
    pairs = [tuple(pads[2 * a : 2 * a + 2]) for a in range(rank)]
    shape = tuple(s + sum(p) for s, p in zip(x.shape, pairs, strict=True))
    inner = layout_of(net, x)
    if inner:
        pairs = [pairs[a] for a in NCHW]
    code = int(x.zeros[0])
    if net.given(2):
        value = net.tensor(2)
        if value.data is None or value.data.size != 1 or not value.same_codes(x):
            raise Unsupported(f"its value {value.name} is not a constant code of its input's scale")
        code = int(value.data.reshape(()))
    y = net.activation(net.output())
    fill: np.ndarray = np.array(code, x.dtype)
    if not x.same_codes(y):
        if code != x.zeros[0]:
            raise Unsupported("its output has another scale than its input; PADV2 pads with a code of both")
        fill = np.array(0, np.float32)
    operands = [integers(net, "pads", [*(b for b, _ in pairs), *(e for _, e in pairs)]), net.constant("fill", fill)]
    carry(net, "Pad", x, operands, shape, inner)


@translates("CONCATENATION")
def concatenation(net: Network) -> None:
    """Codes side by side; those of another scale than the output's are rounded anew."""
    assert net.at is not None
    parts = [net.activation(net.tensor(i)) for i in range(len(net.at.inputs))]
    if not parts:
        raise Unsupported("it has no inputs")
    y = net.activation(net.output())
    rank = len(parts[0].shape)
    axis = axis_of(net.option("Axis"), rank)
    rests = {(*p.shape[:axis], *p.shape[axis + 1 :]) for p in parts if len(p.shape) == rank}
    if len(rests) != 1 or any(len(p.shape) != rank for p in parts):
        raise Unsupported(f"its inputs have shapes {[list(p.shape) for p in parts]}, which don't fit axis {axis}")
    shape = (*parts[0].shape[:axis], sum(p.shape[axis] for p in parts), *parts[0].shape[axis + 1 :])
    inner = rank == 4 and inner_layout(net, parts)
    at = NCHW.index(axis) if inner else axis
    if net.option("FusedActivationFunction"):
        raise Unsupported("it has a fused activation, with which TensorFlow Lite refuses it; put a RELU behind it")
    if not all(p.same_codes(y) for p in parts):
        net.quantize(net.node("Concat", [net.real(p, inner) for p in parts], axis=at), shape, inner)
    else:
        net.move("Concat", [net.codes(p, inner) for p in parts], shape, inner, axis=at)


@translates("SPLIT", "SPLIT_V")
def split(net: Network) -> None:
    """Parts along an axis, equal ones or (SPLIT_V) of given sizes; all have the input's scale."""
    assert net.at is not None
    vector = net.at.kind == "SPLIT_V"
    x = net.activation(net.tensor(0 if vector else 1))
    axes = net.numbers(2 if vector else 0, "axis")
    outs = [net.activation(net.output(i)) for i in range(len(net.at.outputs))]
    if len(axes) != 1 or not outs:
        raise Unsupported(f"it splits along {axes} into {len(outs)} parts")
    axis = axis_of(axes[0], len(x.shape))
    size = x.shape[axis]
    sizes = net.numbers(1, "sizes") if vector else [size // len(outs)] * len(outs)
    if sizes.count(-1) == 1:
        sizes = [size - sum(sizes) - 1 if s == -1 else s for s in sizes]
    if len(sizes) != len(outs) or sum(sizes) != size or min(sizes) < 1:
        raise Unsupported(f"it splits {size} elements of axis {axis} into {len(outs)} parts of sizes {sizes}")
    if not all(x.same_codes(y) for y in outs):
        raise Unsupported("its outputs have other scales than its input")
    inner = layout_of(net, x)
    at = NCHW.index(axis) if inner else axis
    for y, s in zip(outs, sizes, strict=True):
        net.check_shape(y, (*x.shape[:axis], s, *x.shape[axis + 1 :]))
    names = [net.name(y, inner) for y in outs]
    net.nodes("Split", [net.codes(x, inner), integers(net, "sizes", sizes)], names, axis=at)
    for y, name in zip(outs, names, strict=True):
        net.made(y, name, inner)
