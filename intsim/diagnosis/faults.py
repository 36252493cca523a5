"""The plausible mistakes: what an implementation of a layer may do instead of what its specification says.

Mistakes lie on axes, one choice of each makes a machine (`Hypothesis`): how the dump is laid out, what the multiplier
is fed, the bias and where it goes, the order of arrival, the registers, the requantizer, its scales, what is done with
codes. The specification is the first choice of every axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import permutations
from typing import Any, ClassVar, NamedTuple

import numpy as np

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.integers import wrap
from intsim.arithmetic.pieces import Formula
from intsim.arithmetic.registers import BiasPlace
from intsim.arithmetic.requantizers import Requantizer
from intsim.arithmetic.requantizers.exact import Exact
from intsim.arithmetic.requantizers.fixed_point import FixedPoint
from intsim.arithmetic.requantizers.float32 import Float32
from intsim.arithmetic.requantizers.requantizer import Multiplies, in_int64
from intsim.arithmetic.rounding import Rounding, round_divide
from intsim.diagnosis.layer import Back, Layer
from intsim.errors import IntsimError
from intsim.golden.layout import ORDERS, of_data, of_weights
from intsim.graph import IntArray, Node
from intsim.mac.operands import channel_zeros

SPECIFIED = ""
"""The name of the first choice of an axis."""
WIDTHS = range(4, 41)
"""Bits of registers that are tried."""
SIZES = (2, 3, 4, 8, 16)
"""Products that are added up first, and lanes."""
PLACES: dict[BiasPlace, str] = {
    "preload": "the bias is preloaded into the last register",
    "after": "the bias is added after the products",
    "requantizer": "the bias is added behind the registers",
}
REVERSED = "products arrive in reverse order"


class Order(NamedTuple):
    """In which products arrive: the axes of a kernel, the outermost first, and then which of them comes when."""

    axes: tuple[str, ...]
    turn: slice | IntArray


class Feed(NamedTuple):
    """What the multiplier is fed.

    `seen` is what it sees of each code, `move` another order of codes (samples, *shape); `edge` is how padding is made:
    "constant" of `pad`, "edge" or "reflect".
    """

    node: Node
    seen: Callable[[IntArray], IntArray]
    move: Callable[[IntArray], IntArray]
    w: IntArray
    pad: int
    edge: Any
    x_zero: int
    w_zero: IntArray  # (channels,)
    owed: bool


@dataclass(frozen=True, slots=True)
class Symmetric(Stage):
    """A register that saturates at the negative of its greatest value, one above the least that its bits hold."""

    @property
    def min(self) -> int:
        """Smallest value of the register."""
        return -self.max


@dataclass(frozen=True)
class Constants(FixedPoint):
    """A fixed-point multiplier with another rounding constant.

    Attributes:
        quarters: what is added before bits are cut off, in quarters of the unit that is kept: 2 is the half. Of two
            roundings that is the high product's.
        last: how the shift behind a high product rounds.
    """

    scheme: ClassVar[str] = ""  # no target has it
    quarters: int = 2
    last: Rounding = Rounding.HALF_AWAY

    def multiply(self, values: IntArray, scale: Fraction) -> IntArray:
        """The definition. Raises IntsimError as `FixedPoint` does."""
        told, bits = self.channel(scale).told, self.multiplier_bits or 32
        multiplier, shift = told["multiplier"], told["shift"]
        if not self.double_rounding:
            top, cut = multiplier << max(0, -shift), max(0, shift)
            return in_int64((values.astype(object) * top + (self.quarters << cut >> 2)) >> cut)
        if values.size and (values.min() < -(1 << 31) or values.max() >= 1 << 31):
            raise IntsimError("two roundings take 32-bit accumulators")
        left, right = max(0, bits - 1 - shift), max(0, shift - bits + 1)
        product = np.asarray(wrap(values << min(left, 32), 32)) * multiplier
        high = (product + (self.quarters << (bits - 1) >> 2)) >> (bits - 1)
        return np.asarray(round_divide(high, 1 << right, self.last))


@dataclass(frozen=True)
class Chain:
    """Registers, in words, and how far they are from those specified."""

    stages: tuple[Stage, ...]
    words: str
    cost: float


@dataclass(frozen=True)
class Rounder:
    """A requantizer, and how the exact one rounds; in words, and how far it is from the one specified."""

    requantizer: Requantizer
    rounding: Rounding | None
    words: str
    cost: float


@dataclass(frozen=True)
class Hypothesis:
    """A machine: the name of a choice on each axis; `chain` and `rounder` are the choices themselves."""

    reading: str
    operand: str
    bias: str
    place: BiasPlace
    order: str
    chain: Chain
    rounder: Rounder
    scale: str
    code: str
    specified_place: bool = True

    @property
    def changes(self) -> tuple[str, ...]:
        """In words, what differs from the specification."""
        place = SPECIFIED if self.specified_place else PLACES[self.place]
        front = self.reading, self.operand, self.bias, place, self.order, self.chain.words
        return tuple(t for t in (*front, self.rounder.words, self.scale, self.code) if t)

    @property
    def cost(self) -> float:
        """How far from the specification: about 1 a change."""
        axes = (self.reading, self.operand, self.bias, self.order, self.scale, self.code)
        return sum(map(bool, axes)) + (not self.specified_place) + self.chain.cost + self.rounder.cost


# What the multiplier is fed


def feeds(layer: Layer) -> dict[str, Feed]:
    """By what is wrong with them; those that a layer can't tell from the specified one are left out."""
    node, own = layer.node, layer.operands
    zero = channel_zeros(own.w_zero, layer.extent[1]) if not own.corrected else np.zeros(layer.extent[1], np.int64)
    w: IntArray = node.arrays["weight"] + own.w_shift
    specified = Feed(node, _shifted(own.x_shift), _unmoved, w, own.pad, "constant", own.x_zero, zero, own.owed)
    out = {SPECIFIED: specified}
    for words, feed in [*_zeros(layer, specified), *_types(layer, specified), *_layouts(layer, specified)]:
        out[words] = feed
    for words, feed in _windows(layer, specified):
        out[words] = feed
    return out


def _unmoved(codes: IntArray) -> IntArray:
    return codes


def _shifted(shift: int) -> Callable[[IntArray], IntArray]:
    return lambda codes: codes + shift


def _zeros(layer: Layer, feed: Feed) -> Iterator[tuple[str, Feed]]:
    zero, own, pads = layer.zero, layer.operands, layer.op.pads(layer.node)
    for factor, words in ((0, "is not taken off"), (-1, "is added, not taken off")):
        if not zero:
            break
        told = f"the activation's zero point {words}"
        if own.corrected:
            other = feed._replace(seen=_shifted(factor and zero), pad=zero * (1 - factor))
            yield told, other
            if pads:
                yield f"{told}, but for padding", feed._replace(seen=_shifted(factor and zero))
        else:
            yield told, feed._replace(x_zero=own.x_shift + factor * zero)
    if own.corrected and np.any(own.w_shift):
        yield "the weights' zero point is not taken off", feed._replace(w=layer.node.arrays["weight"])
    elif not own.corrected and layer.node.arrays.get("weight_zero") is not None:
        shifts = channel_zeros(np.asarray(own.w_shift), layer.extent[1])
        yield "the weights' zero point is not taken off", feed._replace(w_zero=np.array(shifts, np.int64))


def _types(layer: Layer, feed: Feed) -> Iterator[tuple[str, Feed]]:
    shift, kind, weights = layer.operands.x_shift, layer.element, layer.weight_element
    half, top = 1 << (kind.bits - 1), 1 << kind.bits

    def other(codes: IntArray) -> IntArray:
        seen = wrap(codes, kind.bits) if kind.kind == "u" else codes & (top - 1)
        return np.asarray(seen) + shift

    def narrow(codes: IntArray) -> IntArray:
        kept = codes & (half - 1) if kind.kind == "u" else wrap(codes, max(kind.bits - 1, 1))
        return np.asarray(kept) + shift

    if kind.bits > 1:
        yield f"activations are read as {'signed' if kind.kind == 'u' else 'unsigned'}", feed._replace(seen=other)
        yield "the activation's highest bit is lost", feed._replace(seen=narrow)
        yield "the activation's lowest bit is lost", feed._replace(seen=lambda codes: (codes & ~1) + shift)
    w, w_shift = layer.node.arrays["weight"], layer.operands.w_shift
    bits = weights.bits
    for words, codes in (
        (
            f"weights are read as {'unsigned' if weights.kind == 's' else 'signed'}",
            w & ((1 << bits) - 1) if weights.kind == "s" else wrap(w, bits),
        ),
        ("the weight's highest bit is lost", wrap(w, bits - 1) if weights.kind == "s" else w & ((1 << bits - 1) - 1)),
        ("the least weight is clipped to the negative of the greatest", np.maximum(w, -(1 << (bits - 1)) + 1)),
    ):
        if bits > 1 and not np.array_equal(codes, w):
            yield words, feed._replace(w=np.asarray(codes, np.int64) + w_shift)


def _layouts(layer: Layer, feed: Feed) -> Iterator[tuple[str, Feed]]:
    """Memories that are read in another order."""
    w, shape = feed.w, layer.shape
    convolution = layer.node.op != "matmul"
    spatial = tuple(range(2, w.ndim)) if convolution else ()
    turned: list[tuple[str, IntArray]] = []
    if convolution:
        turned.append(("the kernel is turned by 180 degrees", np.flip(w, spatial)))
        turned.append(("input channels of the weights are in reverse order", np.flip(w, 1)))
        turned.append(("output channels of the weights are in reverse order", np.flip(w, 0)))
        if len(spatial) == 2 and w.shape[2] == w.shape[3]:
            turned.append(("the kernel's rows and columns are swapped", w.swapaxes(2, 3)))
        for order in ORDERS:
            layout = of_weights(w.ndim, True, order)
            stored = layout.stored(w).reshape(-1)
            turned.append((f"weights stored as {' '.join(layout.axes)} are read as O I H W", stored.reshape(w.shape)))
            if layout.permutation != (*range(w.ndim),):
                places = layout.stored(np.arange(w.size).reshape(w.shape)).reshape(-1)
                back = np.empty_like(w).reshape(-1)
                back[places] = w.reshape(-1)
                words = f"weights stored as O I H W are read as {' '.join(layout.axes)}"
                turned.append((words, back.reshape(w.shape)))
    else:
        turned.append(("inputs of the weights are in reverse order", np.flip(w, -2)))
        turned.append(("outputs of the weights are in reverse order", np.flip(w, -1)))
        flat = w.reshape(*w.shape[:-2], -1)
        turned.append(
            (
                "weights stored as K N are read as N K",
                np.swapaxes(flat.reshape(*w.shape[:-2], *w.shape[:-3:-1]), -1, -2),
            )
        )
        turned.append(("weights stored as N K are read as K N", np.swapaxes(w, -1, -2).reshape(w.shape)))
    seen = [w]
    for words, other in turned:
        other = np.ascontiguousarray(other)
        if not any(np.array_equal(other, s) for s in seen):
            seen.append(other)
            yield words, feed._replace(w=other)
    for words, move in _moves(layer, shape, convolution):
        yield words, feed._replace(move=move)


def _moves(
    layer: Layer, shape: tuple[int, ...], convolution: bool
) -> Iterator[tuple[str, Callable[[IntArray], IntArray]]]:
    """Other orders of a sample's activations; arguments have one more first axis."""
    if not convolution:
        depth = shape[-1]
        for channels in [c for c in range(2, depth) if depth % c == 0]:
            inner = depth // channels

            def swapped(codes: IntArray, c: int = channels, p: int = inner) -> IntArray:
                return codes.reshape(*codes.shape[:-1], p, c).swapaxes(-1, -2).reshape(codes.shape)

            yield f"inputs arrive with {channels} channels innermost, {inner} positions outermost", swapped
        if depth > 1:
            yield "inputs arrive in reverse order", lambda codes: codes[..., ::-1]
        return
    if shape[1] > 1:
        yield "input channels are in reverse order", lambda codes: codes[:, :, ::-1]
    if len(shape) == 4 and shape[2] == shape[3] > 1:
        yield "rows and columns of the activations are swapped", lambda codes: codes.swapaxes(-1, -2)
    positions = math.prod(shape[2:])
    if shape[1] > 1 and positions > 1:

        def last_as_first(codes: IntArray) -> IntArray:
            return np.moveaxis(codes, 2, -1).reshape(codes.shape)

        def first_as_last(codes: IntArray) -> IntArray:
            stored = codes.reshape(*codes.shape[:2], *codes.shape[3:], codes.shape[2])
            return np.moveaxis(stored, -1, 2)

        yield "activations stored channels last are read channels first", last_as_first
        yield "activations stored channels first are read channels last", first_as_last


def _windows(layer: Layer, feed: Feed) -> Iterator[tuple[str, Feed]]:
    """Padding, and where windows begin."""
    node, own, zero = layer.node, layer.operands, layer.zero
    if node.op == "matmul":
        return
    pads = list(node.attributes["pads"])
    rank = len(pads) // 2
    if layer.op.pads(node):
        held = own.x_shift if not own.skipped else 0  # of the code 0
        if held != feed.pad:
            yield "padding is the code 0, not the zero point", feed._replace(pad=held, owed=False)
        if own.x_shift + zero != feed.pad:
            yield "padding makes products of the zero point", feed._replace(pad=own.x_shift + zero, owed=False)
        if node.op == "conv" and min(pads) >= 0:
            yield "padding repeats the edge", feed._replace(edge="edge", owed=False)
            if all(p < s for p, s in zip(pads, [*layer.shape[2:]] * 2, strict=True)):
                yield "padding mirrors the edge", feed._replace(edge="reflect", owed=False)
    swapped = pads[rank:] + pads[:rank]
    if node.op == "conv" and swapped != pads:
        yield "padding is on the other sides", feed._replace(node=_padded(node, swapped))
    names = ("row", "column") if rank == 2 else tuple(f"step along axis {i + 2}" for i in range(rank))
    for axis, name in enumerate(names):
        for by, words in ((1, "early"), (-1, "late")):
            moved = list(pads)
            moved[axis] += by
            moved[rank + axis] -= by
            yield f"windows begin one {name} {words}", feed._replace(node=_padded(node, moved))


def _padded(node: Node, pads: Sequence[int]) -> Node:
    return replace(node, attributes={**node.attributes, "pads": list(pads)})


# Bias and order


def biases(layer: Layer) -> dict[str, IntArray]:
    """(channels,) by what is wrong with it."""
    bias = layer.bias
    out = {SPECIFIED: bias}
    wide = bias << 1
    for words, other in (
        ("the bias is left out", np.zeros_like(bias)),
        ("the bias is added twice", wide),
        ("the bias is subtracted", -bias),
        ("the bias is that of the channel before", np.roll(bias, 1)),
        ("the bias is that of the next channel", np.roll(bias, -1)),
        ("biases are in reverse order", bias[::-1]),
        ("the bias wraps to 16 bits", np.asarray(wrap(bias, 16))),
        ("the bias wraps to 8 bits", np.asarray(wrap(bias, 8))),
        ("all channels have the first one's bias", np.full_like(bias, bias[0] if bias.size else 0)),
    ):
        if not any(np.array_equal(other, b) for b in out.values()):
            out[words] = np.ascontiguousarray(other)
    return out


def places(layer: Layer) -> list[BiasPlace]:
    """Where the bias may go, as specified first."""
    return [layer.place, *(p for p in PLACES if p != layer.place)] if layer.bias.any() else [layer.place]


def orders(layer: Layer) -> dict[str, Order]:
    """By name; as specified first."""
    out = {SPECIFIED: Order(layer.order, slice(None))}
    node = layer.node
    if node.op != "matmul":
        numbers = np.arange(node.arrays["weight"].size).reshape(node.arrays["weight"].shape)
        seen = [layer.op.weight_rows(node, numbers, layer.order)]
        for order in permutations(("kh", "kw", "cin")):
            rows = layer.op.weight_rows(node, numbers, order)
            if not any(np.array_equal(rows, s) for s in seen):
                seen.append(rows)
                out[f"products arrive {' '.join(order)}"] = Order(order, slice(None))
    for words, turn in _lanes(layer):
        out[words] = Order(layer.order, turn)
    out[REVERSED] = Order(layer.order, slice(None, None, -1))
    return out


def _lanes(layer: Layer) -> Iterator[tuple[str, IntArray]]:
    """Products of each turn of the lanes change places, as if the lanes did; where all lanes add up equally many."""
    lanes = layer.stages[0].lanes if layer.stages else 1
    depth = layer.depth
    if lanes == 1 or depth % lanes:
        return
    numbers = np.arange(depth).reshape(-1, lanes)
    seen: list[IntArray] = []
    for words, turn in (
        ("lanes are handed on in reverse order", numbers[:, ::-1]),
        ("neighbouring lanes change places", numbers.reshape(-1, 2)[:, ::-1] if lanes % 2 == 0 else numbers),
        ("lanes are handed on from the second on", np.roll(numbers, -1, axis=1)),
        ("lanes are handed on from the last on", np.roll(numbers, 1, axis=1)),
    ):
        if not any(np.array_equal(turn.reshape(-1), s) for s in [numbers.reshape(-1), *seen]):
            seen.append(turn.reshape(-1))
            yield words, turn.reshape(-1)


# Registers


def chains(layer: Layer) -> list[Chain]:
    """As specified first."""
    own = layer.stages
    out = [Chain(own, SPECIFIED, 0.0)]
    if own and own[0].drop:
        return [*out, *_resized(own)]
    last = own[-1] if own else Stage(None, 32, "wrap")
    out += _resized(own)
    for bits in WIDTHS:
        for rule in ("wrap", "saturate"):
            does = f"{bits} bits that {rule}"
            if len(own) != 1:
                out.append(Chain((Stage(None, bits, rule),), f"one register of {does}", 1.5 if own else 1.0))
            for size in SIZES:
                out.append(
                    Chain((Stage(size, bits, rule), last), f"{size} products at a time add up in {does} first", 2.0)
                )
                if size != 3:
                    out.append(Chain((Stage(None, bits, rule, size), last), f"{size} lanes of {does} first", 2.0))
    for i in range(len(own) - 1):
        out.append(Chain((*own[:i], *own[i + 1 :]), f"stage {i + 1} is missing", 1.0))
    if len(own) > 1:
        for size in SIZES:
            if own[0].sum is not None and size != own[0].sum:
                first = replace(own[0], sum=size)
                out.append(Chain((first, *own[1:]), f"stage 1 adds up {size} products at a time", 1.0))
    taps = layer.node.arrays["weight"].shape[1] if layer.node.op != "matmul" else 0
    if len(own) > 1 and own[0].sum is not None and own[0].restart is None and layer.order[-1] == "cin" and taps:
        out.append(Chain((replace(own[0], restart=taps), *own[1:]), "groups end at each tap of the kernel", 1.0))
    unique: dict[tuple[Stage, ...], Chain] = {}
    for chain in sorted(out, key=lambda c: c.cost):
        unique.setdefault(chain.stages, chain)
    return list(unique.values())


def _resized(own: tuple[Stage, ...]) -> Iterator[Chain]:
    """One stage of another width or rule."""
    for i, stage in enumerate(own):
        which = f"the register of stage {i + 1}" if len(own) > 1 else "the accumulator"
        for bits in WIDTHS:
            others = [replace(stage, bits=bits, overflow=rule) for rule in ("wrap", "saturate")]
            for other in [*others, Symmetric(**asdict(others[1]))]:
                if other == stage:
                    continue
                cost = 1.0 if bits == stage.bits or other.overflow == stage.overflow else 1.5
                cost += abs(bits - stage.bits) / 1000
                words = f"{which} {'wraps' if other.overflow == 'wrap' else 'saturates'} at {bits} bits"
                if isinstance(other, Symmetric):
                    words = f"{which} saturates symmetrically at {bits} bits: {other.min}..{other.max}"
                    cost += 0.1
                yield Chain((*own[:i], other, *own[i + 1 :]), words, cost)


# Requantizers


def rounders(layer: Layer) -> list[Rounder]:
    """As specified first; none but that where no requantizer reads the accumulators."""
    if layer.back is None:
        return [Rounder(Exact(), None, SPECIFIED, 0.0)]
    own = layer.back.requantizer
    told = own.multiplies
    specified = Rounder(Exact() if own.exact else own, None, SPECIFIED, 0.0)
    out = [specified]
    for other in FixedPoint.variants():
        how = other.multiplies
        assert how is not None
        wider = told is None or how.bits != told.bits
        turned = told is None or (how.twice, how.rounding) != (told.twice, told.rounding)
        words = f"a multiplier of {how.bits} bits" if wider else ""
        if turned:
            rounds = "that rounds twice" if how.twice else f"that rounds {how.rounding}"
            words = f"{words or 'a multiplier'} {rounds}"
        cost = (0.0 if told is None else 1.0) * (wider + turned) or 1.0
        cost += abs(how.bits - (told.bits if told else 32)) / 1000
        if other != own:
            out.append(Rounder(other, None, words, cost))
    out += [Rounder(other, None, words, 1.0) for words, other in _constants(told)]
    mode = layer.back.formulas[0].rounding
    for rounding in Rounding:
        if not (own.exact and rounding == mode):
            words = f"rounds {rounding}" if own.exact else f"multiplies exactly and rounds {rounding}"
            out.append(Rounder(Exact(), rounding, words, 1.0 if own.exact else 2.0))
    if Float32() != own:
        out.append(Rounder(Float32(), None, "multiplies in binary32", 1.5))
    return out


def _constants(told: Multiplies | None) -> Iterator[tuple[str, Constants]]:
    """The specified multiplier with a wrong rounding constant."""
    if told is None:
        return
    if told.twice:
        for quarters, words in ((1, "is half as large"), (4, "is twice as large"), (0, "is left out")):
            other = Constants(told.bits, None, True, quarters, told.rounding)
            yield f"the rounding constant of the high product {words}", other
        for last in (Rounding.HALF_UP, Rounding.FLOOR, Rounding.TOWARD_ZERO):
            if last != told.rounding:
                yield f"the second of two roundings rounds {last}", Constants(told.bits, None, True, 2, last)
    elif told.rounding.startswith("half"):
        for quarters, words in ((1, "half"), (4, "twice")):
            yield f"the rounding constant is {words} as large", Constants(told.bits, told.rounding, False, quarters)


SCALES: Mapping[str, Callable[[Sequence[Fraction]], list[Fraction]]] = {
    SPECIFIED: list,
    "scales are twice as large: the shift is one too small": lambda s: [2 * v for v in s],
    "scales are half as large: the shift is one too large": lambda s: [v / 2 for v in s],
    "all channels have the first one's scale": lambda s: [s[0]] * len(s),
    "the scale is that of the channel before": lambda s: [*s[-1:], *s[:-1]],
    "the scale is that of the next channel": lambda s: [*s[1:], *s[:1]],
    "scales are rounded to powers of two": lambda s: [_power(v) for v in s],
}
"""Of each channel the factor that multiplies accumulators."""


def _power(value: Fraction) -> Fraction:
    if not value:
        return value
    near = Fraction(2) ** round(math.log2(abs(value)))
    return near if value > 0 else -near


def scales(layer: Layer) -> dict[str, Back]:
    """What requantizes, by what is wrong with its scales; offsets change with them: they stay the same accumulators."""
    if layer.back is None:
        return {}
    own = layer.back
    out: dict[str, Back] = {}
    for words, change in SCALES.items():
        factors = [max((abs(s) for _, s, _ in f.pieces), default=Fraction(0)) for f in own.formulas]
        changed = change(factors)
        cells = tuple(
            replace(
                f,
                pieces=tuple((at, s * new / old, b * new / old) if s else (at, s, b) for at, s, b in f.pieces),
            )
            for f, old, new in zip(own.formulas, factors, changed, strict=True)
        )
        if not any(cells == b.formulas for b in out.values()):
            out[words] = replace(own, formulas=cells)
    return out


UNZEROED, TWICE = "the output's zero point is left out", "the output's zero point is added twice"
TAKEN_OFF = "the output's zero point is taken off"
LATE, WRAPS = "codes are clipped before the zero point is added", "codes wrap, they aren't clipped"
Codes = Callable[[IntArray, Formula, Back], IntArray]
"""Codes of what a requantizer makes without zero point and clip."""


def _wrapped(values: IntArray, back: Back) -> IntArray:
    kept = wrap(values, back.element.bits)
    return np.asarray(kept if back.element.kind == "s" else kept & ((1 << back.element.bits) - 1))


def _type(back: Back) -> tuple[int, int]:
    return back.element.ends


CODES: Mapping[str, Codes] = {
    SPECIFIED: lambda u, f, b: f.clip(u + f.zero),
    UNZEROED: lambda u, f, b: f.clip(u),
    TWICE: lambda u, f, b: f.clip(u + 2 * f.zero),
    TAKEN_OFF: lambda u, f, b: f.clip(u - f.zero),
    LATE: lambda u, f, b: _wrapped(f.clip(u) + f.zero, b),
    WRAPS: lambda u, f, b: _wrapped(u + f.zero, b),
    "codes are clipped to the whole type": lambda u, f, b: np.clip(u + f.zero, *_type(b)),
    "the least code is never made": lambda u, f, b: np.clip(u + f.zero, _low(f, b) + 1, _high(f, b)),
    "codes are clipped one below the greatest": lambda u, f, b: np.clip(u + f.zero, _low(f, b), _high(f, b) - 1),
    "codes are clipped at one bit fewer": lambda u, f, b: np.clip(
        u + f.zero, -(-_low(f, b) // 2) if _low(f, b) < 0 else _low(f, b), _high(f, b) // 2
    ),
}
"""By what is wrong. A Relu that is in pieces of the formula is not in the clip: `unbent` leaves it out."""
UNBENT = "the Relu is left out"


def unbent(formula: Formula) -> Formula:
    """Without its constant pieces."""
    sloped = [p for p in formula.pieces if p[1]]
    if len(formula.pieces) == 1 or len(sloped) != 1:
        return formula
    return replace(formula, pieces=((None, *sloped[0][1:]),))


def _low(formula: Formula, back: Back) -> int:
    return _type(back)[0] if formula.low is None else formula.low


def _high(formula: Formula, back: Back) -> int:
    return _type(back)[1] if formula.high is None else formula.high


def code_faults(layer: Layer) -> list[str]:
    """What may be wrong with codes, the specification first; what a layer can't tell from it is left out."""
    if layer.back is None:
        return [SPECIFIED]
    back = layer.back
    some = np.arange(2 * _type(back)[0] - 5, 2 * _type(back)[1] + 5)
    seen: list[IntArray] = []
    out = []
    for words, made in CODES.items():
        codes = np.stack([made(some, f, back) for f in back.formulas[:1]])
        if not any(np.array_equal(codes, s) for s in seen):
            seen.append(codes)
            out.append(words)
    if any(unbent(f) != f for f in back.formulas):
        out.append(UNBENT)
    return out


# How a dump is laid out


def readings(shape: Sequence[int], channels_first: bool) -> dict[str, Callable[[IntArray], IntArray]]:
    """What a machine may have written instead of a result (samples, *shape), by name; the same shape."""
    out: dict[str, Callable[[IntArray], IntArray]] = {SPECIFIED: lambda v: v}
    if not channels_first or len(shape) < 3:
        if shape and shape[-1] > 1:
            out["output channels are in reverse order"] = lambda v: v[..., ::-1]
        return out
    if shape[1] > 1:
        out["output channels are in reverse order"] = lambda v: v[:, :, ::-1]
    layout = of_data(len(shape), True, "NHWC")
    if shape[1] > 1 and math.prod(shape[2:]) > 1:
        last = (0, *(1 + i for i in layout.permutation))
        out["codes are written channels last"] = lambda v: v.transpose(last).reshape(v.shape)
    for axis, name in enumerate(("rows", "columns") if len(shape) == 4 else ()):
        if shape[2 + axis] > 1:
            out[f"output {name} are in reverse order"] = partial(np.flip, axis=3 + axis)
    if len(shape) == 4 and min(shape[2:]) > 1:
        out["output rows and columns are swapped"] = lambda v: v.swapaxes(3, 4).reshape(v.shape)
    return out
