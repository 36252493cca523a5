"""What a requantizer scheme has to say of itself: the one object that all of intsim asks.

A scheme replaces `S * acc + B` and its rounding (docs/requantizers.md); pieces, zero point and clip stay those of the
node. A scheme is one file with one subclass of `Requantizer`, a frozen dataclass whose fields are its keys in a target
file. It says

* `scheme`, its name in target files; `takes`, the keys it uses; `check`, which of their values belong together;
* `words`, what `intsim targets NAME` prints;
* `channel`, of one scale: the constants that a kernel is told, and where it is monotone or has no result;
* `multiply`, the definition: biased accumulators of one scale to integers.

That is enough where a bias is added into the last register and accumulators are then multiplied. Other schemes
override `apply`, or `codes` and `prepared`, and say by `exact`, `takes_bias` and `adds_exactly` what holds of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.binary32 import Floats
from intsim.arithmetic.integers import saturate, wrap
from intsim.arithmetic.keys import Key, check, integer, one_of, optional, read
from intsim.arithmetic.pieces import Formula, Integers, apply_pieces
from intsim.arithmetic.rounding import Rounding, round_fraction
from intsim.errors import IntsimError

WIDE = 1 << 61
"""An accumulator or a bias beyond which their sum is not left to int64."""
LARGEST = 1 << 62
"""Results beyond int64 are saturated here; any clip to 62 bits or fewer gives the same."""
ADD_LEFT_SHIFT = 20
"""TFLite reference Add: both operands are shifted left by 20 before their multipliers (kernels/add.cc, int8)."""
MOST_BREAKS = 1 << 16
"""Most accumulators of one piece at which a register or a left shift wraps."""
WRAPS = f"a register or a left shift wraps at more than {MOST_BREAKS} accumulators"
KEYS = {
    "multiplier_bits": optional(integer(4, 32)),
    "rounding": optional(one_of(list(Rounding))),
    "double_rounding": Key(lambda v: type(v) is bool, "true, false"),
}
"""What the keys that schemes share take."""
CellFunction = Callable[[Integers], Integers]
"""Accumulators of one cell, any shape, to its output codes, same shape, clipped."""


class StepLimitError(Exception):
    """A function has more steps than are looked at; the caller says undecided."""


@dataclass(frozen=True)
class Channel:
    """A requantizer's constants for one scale.

    Attributes:
        scale: what it multiplies biased accumulators by, as nearly as a rational says it. Guides searches for steps;
            nothing is decided by it.
        limits: least and greatest biased accumulator that it takes; None: all.
        period: before biased accumulators `period / 2` modulo `period` it starts again at its least value, as a left
            shift does that wraps; between them it is monotone. 0: it is monotone everywhere.
        told: what a kernel of the scheme is told, by name: "multiplier", "shift", "factor" (docs/testing.md).
    """

    scale: Fraction
    limits: tuple[int, int] | None = None
    period: int = 0
    told: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Segment:
    """Accumulators low..high of one piece: a requantizer is monotone there, or (`valid` False) has no result.

    `lines` are the `(scale, offset)` that the exact formula and, last, the requantizer follow there, closely enough to
    guess where steps are; nothing is decided by them.
    """

    low: int
    high: int
    valid: bool
    lines: tuple[tuple[Fraction, Fraction], ...]


class Operand(NamedTuple):
    """Scale and zero point of codes that an operator reads; `sign` -1 where it subtracts them."""

    scale: Fraction
    zero: int
    sign: int = 1


class Site(NamedTuple):
    """What a kernel of a runtime is given beside the accumulators of one cell.

    Attributes:
        operands: of the operator, in its order.
        unit: the real number that one LSB of the accumulator stands for.
        origin: the accumulator that stands for 0; a rational, as a bias may have a rest.
        step: scale of the output; zero: its zero point.
        bias: in LSBs, what accumulators hold that no register does (bias "requantizer").
        elements: of a window or a reduction; 0 where padding doesn't count, so that it depends on the position.
        slope: of a LeakyRelu, what it multiplies negative numbers by; 0 elsewhere.
        signed: whether output codes are; per_tensor: whether all channels have one weight scale.
        still: of an operator with two operands, which one is broadcast along the innermost axis that isn't 1 in both,
            else 1; 0 where there is no such axis.
    """

    operands: tuple[Operand, ...]
    unit: Fraction
    origin: Fraction
    step: Fraction
    zero: int
    bias: int = 0
    elements: int = 1
    slope: Fraction = Fraction(0)
    signed: bool = False
    per_tensor: bool = False
    still: int = 1


Reads = Literal["sum", "codes", "elements", "table", "floats"]
"""What a scheme computes from: accumulators; the codes of one or two tensors; the elements that a window or a row
holds, one after another; the codes of a tensor and the function of a table."""


class Multiplies(NamedTuple):
    """A scheme as an integer multiplier with a shift: its bits, whether it rounds twice, how it rounds last."""

    bits: int
    twice: bool
    rounding: Rounding


@dataclass(frozen=True)
class Requantizer:
    """A machine's requantizer. Keys that a scheme doesn't use are None or False.

    `multiplier_bits`: width of the multiplier with its sign, 4..32. `rounding`: of its one rounding. `double_rounding`:
    the high product is rounded, and then the shift.

    Raises:
        IntsimError: a value or a combination of keys that the scheme doesn't take; one line that names the key.
    """

    multiplier_bits: int | None = None
    rounding: Rounding | None = None
    double_rounding: bool = False

    scheme: ClassVar[str] = ""
    takes: ClassVar[tuple[str, ...]] = ()
    """Keys that it uses, of those that schemes share."""
    exact: ClassVar[bool] = False
    """Whether its codes are those of the exact formula, by construction."""
    takes_bias: ClassVar[bool] = False
    """Whether it has room for a layer's bias that no register holds, and for what is left of one in whole LSBs."""
    adds_exactly: ClassVar[bool] = False
    """Whether several inputs are added as integers on one grid; otherwise each is brought to one scale first."""
    powers_of_two: ClassVar[bool] = False
    """Whether it takes scales that are powers of two only."""
    reads: ClassVar[Reads] = "sum"
    """What it computes from."""
    operators: ClassVar[tuple[str, ...]] = ()
    """Of a scheme that doesn't read sums: the operators that it computes, as rules name them."""

    clamps: ClassVar[bool] = True
    """Of a scheme of operators: whether its kernels end with the Relu or Clip in front of the quantizer."""

    @property
    def converts(self) -> bool:
        """Whether its constants are made from scales apart (`converted`), not from their exact ratio."""
        return False

    def converted(self, formula: Formula, site: Site) -> Formula:
        """The formula with the constants that the machine has instead. Raises IntsimError where it has none such."""
        return formula

    def suits(self, site: Site) -> None:
        """Raise IntsimError for scales with which no such kernel runs, or with which nobody says what it makes."""

    def of_codes(self, operands: Sequence[Integers], site: Site) -> Integers:
        """Output codes of the operands' codes, not clipped, for schemes that read codes."""
        raise NotImplementedError

    def of_elements(self, elements: Sequence[tuple[Integers, NDArray[np.bool_] | None]], site: Site) -> Integers:
        """Output codes, not clipped, for schemes that read elements: codes, and where they are no padding (None: all).

        Of a window or reduction the result has the shape of an element; of a row it has one more axis, the first.
        """
        raise NotImplementedError

    def of_table(self, codes: Integers, function: str, site: Site) -> Integers:
        """Output codes, not clipped, of a function of codes by the name of the file's operator, for schemes of
        tables."""
        raise NotImplementedError

    def of_operator(
        self, name: str, operands: Sequence[Integers | Floats], parameters: Sequence[float | None], site: Site
    ) -> Integers:
        """Output codes, not clipped, of the file's operator `name`, for schemes that read floats.

        Operands broadcast: codes with `site.operands`, or constants, float32; `parameters` are the operator's own.
        """
        raise NotImplementedError

    def __post_init__(self) -> None:
        """Refuse values that no scheme takes, keys that this one doesn't use, and what `check` refuses."""
        bits, mode, twice = self.multiplier_bits, self.rounding, self.double_rounding
        check(KEYS, vars(self))
        if mode is not None:
            object.__setattr__(self, "rounding", Rounding(mode))
        for key, given in (("multiplier_bits", bits is not None), ("double_rounding", twice)):
            if given and key not in self.takes:
                those = listed(c.scheme for c in schemes() if key in c.takes)
                raise IntsimError(f'{key} is for schemes {those} only, not "{self.scheme}"; remove it')
        if mode is not None and "rounding" not in self.takes:
            raise IntsimError(f'rounding is given, but scheme "{self.scheme}" fixes it; remove it')
        self.check()

    def need(self, key: str) -> None:
        """Raise IntsimError where a key is missing that the scheme can't do without."""
        if getattr(self, key) is None:
            raise IntsimError(f'{key} is missing for scheme "{self.scheme}"; allowed: {KEYS[key].allowed}')

    def check(self) -> None:
        """Raise IntsimError for keys of this scheme that don't belong together."""

    @classmethod
    def read(cls, keys: dict[str, Any]) -> Self:
        """The requantizer of a target file's keys, without `scheme`; raises IntsimError as the class does."""
        return read(cls, KEYS, keys, "requantize.", "scheme")

    def keys(self) -> dict[str, Any]:
        """What `read` reads, and `scheme`, as plain values."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"scheme": self.scheme, **{k: str(v) if isinstance(v, Rounding) else v for k, v in own.items()}}

    @classmethod
    def variants(cls) -> tuple[Self, ...]:
        """Requantizers of the scheme for tests, with all values of its keys, the usual ones first."""
        return (cls(),)

    def with_width(self, bits: int) -> Self | None:
        """The same with a multiplier of that width, 4..32; None for a scheme whose width isn't searched."""
        return None

    @property
    def summary(self) -> str:
        """A few words: the scheme and how it rounds."""
        return self.scheme

    @property
    def multiplies(self) -> Multiplies | None:
        """As an integer multiplier with a shift; None for another machine."""
        return None

    def words(self) -> str:
        """What it computes, in a line of at most 108 characters."""
        raise NotImplementedError

    def channel(self, scale: Fraction) -> Channel:
        """Its constants for a scale other than 0. Raises IntsimError for one that it doesn't take."""
        raise NotImplementedError

    def multiply(self, values: Integers, scale: Fraction) -> Integers:
        """Biased accumulators (int64, or Python integers beyond) times the scale, rounded; int64, within +-2^62.

        Raises IntsimError for a scale or a value that it doesn't take.
        """
        raise NotImplementedError

    def apply(
        self, acc: Integers, scale: Fraction, offset: Fraction, rounding: Rounding, stages: Sequence[Stage] = ()
    ) -> Integers:
        """What it makes of `S * acc + B`, zero point and clip left out.

        Args:
            acc: int64, any shape.
            scale: S. 0 needs no multiplier: the offset, rounded as the requantizer or else the model says.
            offset: B, in codes.
            rounding: what the model asks for.
            stages: the accumulator's registers, into the last of which the bias is added; empty for unbounded.

        Returns:
            int64, acc's shape. Raises IntsimError as `multiply` does.
        """
        if scale == 0:
            return np.full(acc.shape, round_fraction(offset, self.rounding or rounding), np.int64)
        return self.multiply(biased(acc, scale, offset, stages), scale)

    def unclipped(self, formula: Formula, acc: Integers, stages: Sequence[Stage] = ()) -> Integers:
        """Codes of one cell's accumulators before the clip, zero point included; int64, acc's shape."""
        codes = apply_pieces(formula.pieces, acc, lambda a, s, b: self.apply(a, s, b, formula.rounding, stages))
        return codes + formula.zero

    def codes(self, formula: Formula, acc: Integers, stages: Sequence[Stage] = ()) -> Integers:
        """Codes of one cell's accumulators, clipped; int64, acc's shape. Raises IntsimError as `apply` does."""
        return formula.clip(self.unclipped(formula, acc, stages))

    def prepared(self, formula: Formula, stages: Sequence[Stage], low: int, high: int) -> CellFunction:
        """`codes` for accumulators within low..high, with whatever can be made once for all of them."""
        return partial(self._codes_of, formula, stages)

    def _codes_of(self, formula: Formula, stages: Sequence[Stage], acc: Integers) -> Integers:
        return self.codes(formula, acc, stages)

    def operand(self, values: Integers, scale: Fraction) -> Integers:
        """One operand of a sum, shifted left, times its share of the common scale."""
        return self.multiply(values, scale)

    def shares(self, factors: Sequence[int], widest: int) -> tuple[int, list[Fraction], Fraction]:
        """Of inputs that are brought to one scale: their left shift, what each is multiplied by, the unit of the sum.

        Args:
            factors: their integer coefficients a_i, not all 0.
            widest: greatest magnitude that an input may have; it chooses the left shift.

        Raises:
            IntsimError: inputs too wide for a 32-bit sum.
        """
        left = min(ADD_LEFT_SHIFT, 30 - widest.bit_length() - (len(factors) - 1).bit_length())
        if left < 0:
            raise IntsimError(
                f"adds tensors of {widest.bit_length() + 1} bits; its rescaling takes 32-bit values; "
                "quantize the inputs"
            )
        twice = 2 * max(abs(f) for f in factors)
        return left, [Fraction(f, twice) for f in factors], Fraction(twice, 1 << left)

    def added(self, arrays: Sequence[Integers], factors: Sequence[int], widest: int) -> tuple[Integers, Fraction]:
        """The sum of several inputs brought to one scale, as TFLite's Add does it, and its unit.

        Each input, shifted left, is multiplied by `a_i / (2 max a)`; the sum's unit is `2 max a / 2**left`.

        Args:
            arrays: the inputs of one cell, int64, of one shape.
            factors: as `shares` takes them, and `widest` too. Raises as that does.
        """
        left, shares, unit = self.shares(factors, widest)
        parts = [self.operand(x << left, share) for x, share in zip(arrays, shares, strict=True)]
        return sum(parts[1:], parts[0]), unit

    def constants(self, formula: Formula, stages: Sequence[Stage], low: int, high: int) -> dict[str, list[Any]]:
        """What hardware holds of one cell, for accumulators low..high: by name, an entry a piece.

        `start` is the first accumulator of a piece, `bias` what is added to accumulators, into the last register;
        then what `channel` tells. `constant` is added to what is made of that: of a piece of scale 0, whose other
        constants are 0, all of its code but the zero point. Integers, floats of 32 or 64 bits, or rationals.

        Raises:
            IntsimError: a scale that it doesn't take.
        """
        pieces: list[dict[str, Any]] = []
        for start, scale, offset in formula.pieces:
            first, own = low if start is None else start, {"start": 0, "bias": 0, "constant": 0}
            if scale:
                own |= self.told(scale) | ({"bias": bias_in_accumulator(scale, offset)} if offset else {})
            else:
                own["constant"] = round_fraction(offset, self.rounding or formula.rounding)
            pieces.append(own | {"start": first})
        names = dict.fromkeys(name for piece in pieces for name in piece)
        return {name: [piece.get(name, 0) for piece in pieces] for name in names}

    def told(self, scale: Fraction) -> dict[str, Any]:
        """Constants of a scale other than 0, as `constants` says them. Raises IntsimError as `channel` does."""
        return self.channel(scale).told

    def operand_constants(self, scale: Fraction) -> dict[str, Any]:
        """Constants of a share of a common scale (`operand`) other than 0. Raises IntsimError as `channel` does."""
        return self.told(scale)

    def site_constants(self, site: Site) -> dict[str, Any]:
        """Of a scheme that reads codes or elements: the constants it makes of a site, by name, where it names any.

        Integers or floats of 32 bits; a tuple has one for each operand.
        """
        return {}

    def segments(
        self, first: int, last: int, scale: Fraction, offset: Fraction, stages: Sequence[Stage]
    ) -> Iterator[Segment]:
        """The accumulators first..last of one piece, cut where its function may not be monotone.

        A scheme is a chain of monotone functions of the accumulator, but where the register wraps that takes the bias
        (it starts again at its least value, at every accumulator where `acc + b` reaches `2^(bits-1)` modulo
        `2^bits`; saturation is monotone), and where `channel` says so of what comes behind. A scale of 0 is a constant.

        Yields:
            Segments, ascending, without gaps.

        Raises:
            IntsimError: a scale that the scheme refuses.
            StepLimitError: more than 2^16 cuts.
        """
        if scale == 0:
            yield Segment(first, last, True, ((scale, offset),))
            return
        bias = bias_in_accumulator(scale, offset) if offset else 0
        register = partial(_held, bias=bias, stages=stages if offset else ())
        channel = self.channel(scale)
        period = 0 if not offset or not stages or stages[-1].overflow == "saturate" else 1 << stages[-1].bits
        count = 0
        for a, b in _cut(first, last, bias, period):
            # without a wrap between them, register(acc) - acc is one number, but where it saturates
            shift = bias if not period else register(a) - a
            lines = (scale, offset), (channel.scale, channel.scale * shift)
            for c, d in _cut(a, b, shift, channel.period):
                for part in _within(c, d, register, channel.limits, lines):
                    yield part
                    count += 1
            if count > MOST_BREAKS:
                raise StepLimitError(WRAPS)


@dataclass(frozen=True)
class RoundedScale(Requantizer):
    """A scheme whose factor is of the exact ratio of scales (`scale_roundings` 1), or of their product rounded (2)."""

    scale_roundings: int = 1

    def __post_init__(self) -> None:
        """Refuse other numbers of roundings."""
        check({"scale_roundings": integer(1, 2)}, vars(self))
        super().__post_init__()

    @classmethod
    def variants(cls) -> tuple[Self, ...]:
        """Both."""
        return cls(), cls(scale_roundings=2)

    def keys(self) -> dict[str, Any]:
        """Without `scale_roundings` where it is 1."""
        return {k: v for k, v in super().keys().items() if (k, v) != ("scale_roundings", 1)}

    @property
    def converts(self) -> bool:
        """Where the product of the scales is rounded."""
        return self.scale_roundings == 2


@dataclass(frozen=True)
class OperatorKernel(Requantizer):
    """A scheme of whole operators, which has no accumulator to multiply: it computes from what they read."""

    def channel(self, scale: Fraction) -> NoReturn:
        """Refuses: there is no multiplier."""
        raise IntsimError(f"scheme {self.scheme} computes {' and '.join(self.operators)}, and has no multiplier")

    def multiply(self, values: Integers, scale: Fraction) -> Integers:
        """Refuses likewise."""
        self.channel(scale)


def schemes() -> list[type[Requantizer]]:
    """The classes with a name that are loaded, by name."""
    found, classes = [], [Requantizer]
    while classes:
        classes += (here := classes.pop()).__subclasses__()
        found += [here] if here.scheme else []
    return sorted(found, key=lambda c: c.scheme)


def listed(names: Iterator[str] | Sequence[str]) -> str:
    """`"a", "b" and "c"`."""
    *before, last = [f'"{name}"' for name in names]
    return f"{', '.join(before)} and {last}" if before else last


def with_factor(formula: Formula, site: Site, factor: Fraction) -> Formula:
    """A formula whose accumulators are multiplied by a machine's `factor` instead of `unit / step`, the zero point
    apart.

    Raises:
        IntsimError: something else than that ratio multiplies accumulators: the machine has no such kernel.
    """
    ratio, pieces = site.unit / site.step, []
    apart = site.zero if formula.zero == 0 else 0
    for start, scale, offset in formula.pieces:
        if scale not in (0, ratio):
            raise IntsimError(
                f"multiplies accumulators by {float(scale):g}, not by the ratio {float(ratio):g} of its scales: the "
                "machine has no such kernel; quantize in front of what stands between"
            )
        pieces.append((start, factor if scale else scale, offset - apart))
    return replace(formula, pieces=tuple(pieces), zero=formula.zero + apart)


def bias_in_accumulator(scale: Fraction, offset: Fraction) -> int:
    """The offset in LSBs of the accumulator, rounded to the nearest, as a kernel stores its bias; scale is not 0."""
    return round_fraction(offset / scale, Rounding.HALF_EVEN)


def biased(acc: Integers, scale: Fraction, offset: Fraction, stages: Sequence[Stage]) -> Integers:
    """`acc` plus the bias, what a kernel multiplies.

    The sum goes back into the last register, by its rule. Where next to nothing multiplies the accumulator (a dead
    channel of a BatchNormalization) the offset may need more than 64 bits: then Python integers carry it.
    """
    if not offset:
        return acc
    bias = bias_in_accumulator(scale, offset)
    fits = abs(bias) < WIDE and (not acc.size or max(-int(acc.min()), int(acc.max())) < WIDE)
    total = acc + bias if fits else acc.astype(object) + bias
    return np.asarray(_last(total, stages)).astype(np.int64) if stages else total


def _held(acc: int, bias: int, stages: Sequence[Stage]) -> int:
    """One biased accumulator."""
    return int(_last(acc + bias, stages)) if stages else acc + bias


def _last(total: Any, stages: Sequence[Stage]) -> Any:
    """What the last register makes of a sum."""
    return (wrap if stages[-1].overflow == "wrap" else saturate)(total, stages[-1].bits)


def in_int64(values: Integers) -> Integers:
    """Results beyond int64, as Python integers, saturated to +-2^62."""
    return values if values.dtype != object else np.clip(values, -LARGEST, LARGEST).astype(np.int64)


def _cut(first: int, last: int, shift: int, period: int) -> Iterator[tuple[int, int]]:
    """first..last, cut before each n where `n + shift` is period / 2 modulo period; a period of 0 cuts nothing."""
    if not period:
        yield first, last
        return
    half = period >> 1
    before, after = ((n + shift + half) // period for n in (first, last))
    if after - before > MOST_BREAKS:
        raise StepLimitError(WRAPS)
    start = first
    for n in range(before + 1, after + 1):
        yield start, n * period - half - shift - 1
        start = n * period - half - shift
    yield start, last


def _within(
    first: int,
    last: int,
    register: Callable[[int], int],
    limits: tuple[int, int] | None,
    lines: tuple[tuple[Fraction, Fraction], ...],
) -> list[Segment]:
    """A monotone interval, cut where the biased accumulator leaves what the scheme takes."""
    if limits is None:
        return [Segment(first, last, True, lines)]
    begin = _first(first, last, lambda acc: register(acc) >= limits[0])
    end = _first(begin, last, lambda acc: register(acc) > limits[1])
    parts = [(first, begin - 1, False), (begin, end - 1, True), (end, last, False)]
    return [Segment(a, b, valid, lines) for a, b, valid in parts if a <= b]


def _first(first: int, last: int, holds: Callable[[int], bool]) -> int:
    """The least integer of first..last for which a monotone condition holds; last + 1 if for none."""
    low, high = first, last + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
