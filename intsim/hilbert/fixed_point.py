"""Fixed-point decoder of the Hilbert-curve output representation: two integer codes in, one integer out.

The definition is the closest point of the whole curve to the point the two codes stand for, in exact arithmetic; of
several closest points the one with the lowest q; its place along the curve is rounded half up to the output's LSB.
`FixedPointDecoder` computes just that, for every input, with integers only and without division.

Source of the representation: arXiv 2405.14024 (ICML 2025), equation 1. The paper tabulates it; here it is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import gcd, prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from intsim.errors import IntsimError
from intsim.hilbert.cell import below, candidates, choose, closest, square_by_shifts
from intsim.hilbert.curve import Curve, vertex_index
from intsim.hilbert.near_items import boxes, near_items
from intsim.hilbert.scaling import MultiplyShift

CODE_BITS = range(4, 17)
OUTPUT_BITS = range(4, 25)
MANY = 512
"""From so many points on, decoding is compiled."""


@dataclass(frozen=True)
class FixedPointDecoder:
    """Decodes pairs of n-bit codes to B-bit integers; make one with `inset` or `lattice_aligned`.

    An unsigned code c stands for the coordinate c / codes_per_unit of the unit square, a signed code for that of
    c + 2**(n - 1). The output v stands for q = v * output_scale, 0 <= v <= output_max < 2**B.

    In *sub-units* a lattice edge is ``spacing`` long and the coordinate of code c is ``stride * c - offset`` from the
    lower-left vertex, both exactly; the length of the curve is (4**p - 1) * spacing.

    Args:
        curve: the polygon in the unit square.
        code_bits: n, 4..16.
        output_bits: B, 4..24.
        signed: whether codes are two's complement, -2**(n-1)..2**(n-1)-1, or unsigned, 0..2**n-1.
        codes_per_unit: codes along the side of the unit square.
        stride: sub-units a code; 1 in the lattice-aligned decoder.
        offset: sub-units from code 0 to the lower-left vertex.
        spacing: S, sub-units an edge.
        log2_spacing: log2(S) in the lattice-aligned decoder, which does not multiply; None in the general one.
        output_max: the output at q = 1.
    """

    curve: Curve
    code_bits: int
    output_bits: int
    signed: bool
    codes_per_unit: int
    stride: int
    offset: int
    spacing: int
    log2_spacing: int | None
    output_max: int
    _scaling: MultiplyShift | None = field(repr=False)

    @classmethod
    def inset(
        cls,
        order: int,
        inset: float | Fraction = 0.1,
        code_bits: int = 8,
        output_bits: int = 16,
        signed: bool = False,
    ) -> FixedPointDecoder:
        """The general decoder: any inset k; code c is the coordinate c / (2**n - 1), output v is q = v / (2**B - 1).

        It multiplies: by constants, two squares, and one multiply-shift.

        Raises:
            IntsimError: a bad order, inset or width; an edge shorter than one code, where rounding to codes would no
                longer tell neighbouring branches apart; or an inset whose denominator leads past 64-bit integers.
        """
        curve = Curve(order, inset)
        _check_widths(code_bits, output_bits, signed)
        units = (1 << code_bits) - 1
        k, cells = curve.exact_inset, curve.side - 1
        # In lattice units a code c lies at (c / units - k) / h, h = (1 - 2k) / cells; cleared of denominators:
        stride = k.denominator * cells
        offset = k.numerator * units * cells
        spacing = units * (k.denominator - 2 * k.numerator)
        common = gcd(stride, offset, spacing)
        stride, offset, spacing = stride // common, offset // common, spacing // common
        if spacing < stride:
            raise IntsimError(
                f"order {order} with inset {curve.inset} puts {code_bits}-bit codes further apart than lattice points: "
                "use wider codes or a lower order"
            )
        output_max = (1 << output_bits) - 1
        if spacing >= 1 << 30 or stride * units * output_max >= 1 << 61:
            raise IntsimError(
                f"inset {curve.exact_inset} with {code_bits}-bit codes and {output_bits}-bit outputs needs more than "
                "64-bit integers: give an inset with a smaller denominator"
            )
        length = curve.segments * spacing
        scaling = MultiplyShift.exact(Fraction(output_max, length), length)
        return cls(
            curve, code_bits, output_bits, bool(signed), units, stride, offset, spacing, None, output_max, scaling
        )

    @classmethod
    def lattice_aligned(
        cls,
        order: int,
        code_bits: int = 8,
        output_bits: int = 16,
        signed: bool = False,
        log2_spacing: int | None = None,
    ) -> FixedPointDecoder:
        """The decoder without multiplications: lattice points are integer codes, a power of two S = 2**s apart.

        The lattice is centred on code 2**(n-1) (signed code 0): its first line is at code
        2**(n-1) - (2**p - 1) * 2**(s-1), which is S / 2 for the largest spacing. Code c is the coordinate c / 2**n, so
        `curve` has the inset k = (first line) / 2**n, which is 2**-(p+1) for the largest spacing.

        Vertex d decodes to d * 2**(B - 2p), so output_max = (4**p - 1) * 2**(B - 2p): the position along the curve is
        shifted left, or right with rounding half up, and never scaled.

        Args:
            order: p, 1..6.
            code_bits: n.
            output_bits: B, at least 2p so that vertices have different outputs.
            signed: whether codes are two's complement.
            log2_spacing: s, 1..n-p; None for the largest, n - p.

        Raises:
            IntsimError: a bad order, width or spacing; or no spacing of at least two codes fits (n <= p).
        """
        order = Curve(order).order
        _check_widths(code_bits, output_bits, signed)
        largest = code_bits - order
        if largest < 1:
            raise IntsimError(
                f"order {order} leaves lattice points of {code_bits}-bit codes less than two codes apart: use at least "
                f"{order + 1}-bit codes or a lower order"
            )
        s = largest if log2_spacing is None else log2_spacing
        if isinstance(s, bool | np.bool_) or not isinstance(s, int | np.integer) or not 1 <= s <= largest:
            raise IntsimError(
                f"log2_spacing {s!r} does not fit order {order} and {code_bits}-bit codes: give an integer in "
                f"1..{largest} or None"
            )
        if output_bits < 2 * order:
            raise IntsimError(
                f"{output_bits} output bits can't tell the {4**order} vertices of order {order} apart: "
                f"give at least {2 * order}"
            )
        s = int(s)
        units = 1 << code_bits
        offset = (units >> 1) - (((1 << order) - 1) << (s - 1))
        curve = Curve(order, Fraction(offset, units))
        output_max = curve.segments << (output_bits - 2 * order)
        return cls(curve, code_bits, output_bits, bool(signed), units, 1, offset, 1 << s, s, output_max, None)

    @property
    def output_scale(self) -> Fraction:
        """Q per output LSB, exactly: 1 / output_max."""
        return Fraction(1, self.output_max)

    @property
    def position_max(self) -> int:
        """Length of the curve in sub-units, (4**p - 1) * spacing: the position at q = 1."""
        return self.curve.segments * self.spacing

    @property
    def lowest_code(self) -> int:
        """Smallest input code: -2**(n-1) or 0."""
        return -(1 << (self.code_bits - 1)) if self.signed else 0

    @property
    def highest_code(self) -> int:
        """Largest input code: 2**(n-1) - 1 or 2**n - 1."""
        return self.lowest_code + (1 << self.code_bits) - 1

    def __call__(self, x_codes: ArrayLike, y_codes: ArrayLike) -> NDArray[np.int64]:
        """Decode arrays of codes.

        Args:
            x_codes: integer array of any shape, each in lowest_code..highest_code.
            y_codes: likewise, broadcastable against x_codes.

        Returns:
            int64 array of the broadcast shape, 0..output_max.

        Raises:
            IntsimError: codes that are not integers or out of range, or shapes that don't broadcast.
        """
        return np.asarray(self._to_output(self.position(x_codes, y_codes)))

    def position(self, x_codes: ArrayLike, y_codes: ArrayLike) -> NDArray[np.int64]:
        """Exact place along the curve before rounding, in sub-units: int64, 0..position_max; q = it / position_max.

        Takes and raises what decoding does.
        """
        x, y = self._checked_codes(x_codes, y_codes)
        shape = np.broadcast_shapes(x.shape, y.shape)
        if prod(shape) >= MANY and self._tables is not None:
            return self._compiled(x, y, shape)
        return np.asarray(closest(self._candidates(x, y, self._tabled_vertex))[1])

    def ties(self, x_codes: ArrayLike, y_codes: ArrayLike) -> NDArray[np.bool_]:
        """Where two or more different curve points are exactly closest, so that the lowest q was chosen: bool array.

        Takes and raises what decoding does.
        """
        found = self._candidates(*self._checked_codes(x_codes, y_codes), self._tabled_vertex)
        best_squared, best = closest(found)
        tied = np.zeros(np.shape(best), bool)
        for squared, position in found:
            tied |= (squared == best_squared) & (position != best)
        return tied

    def datapath(self, x: Any, y: Any) -> Any:
        """The decoder's arithmetic on any one integer-like value a code, as hardware would do it, without a table.

        It asks of the values + - << >> & | ^ ~ and unary minus, with Python integers as constants; the general
        decoder also multiplies. No comparison, division, table or branch on a value occurs. Codes are not checked.

        Args:
            x: code in lowest_code..highest_code.
            y: likewise.

        Returns:
            The output, 0..output_max, of the same kind.
        """
        order = self.curve.order
        found = self._candidates(x, y, lambda column, row: vertex_index(column, row, order))
        return self._to_output(closest(found)[1])

    def codes(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Quantize points of the unit square to codes: float64 product with codes_per_unit, half to even, clipped.

        Args:
            x: real array; points outside the unit square go to the first or last code.
            y: real array, quantized on its own.

        Returns:
            Two int64 arrays of codes.

        Raises:
            IntsimError: values that are NaN or not real.
        """
        return self._quantized(x, "x"), self._quantized(y, "y")

    def encode(self, output: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Codes of the curve point at q = output / output_max: exact, then rounded half to even.

        This is the host's side and divides. Decoding the codes gives ``output`` again up to the rounding of the codes.

        Args:
            output: integer array, 0..output_max.

        Returns:
            (x, y), int64 arrays of codes.

        Raises:
            IntsimError: values that are not integers or are out of range.
        """
        values = _integers(output, "output", 0, self.output_max)
        place = values * self.curve.segments
        segment = np.minimum(place // self.output_max, self.curve.segments - 1)
        along = place - segment * self.output_max
        start, step = self.curve.vertices[segment], np.diff(self.curve.vertices, axis=0)[segment]
        lattice = start * self.output_max + step * along[..., None]  # lattice units, times output_max
        codes = _divide_half_even(lattice * self.spacing + self.offset * self.output_max, self.stride * self.output_max)
        codes += self.lowest_code
        return codes[..., 0], codes[..., 1]

    @cached_property
    def _tables(self) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]] | None:
        """What the kernel reads: place and cell of each code, pieces of each cell; None where its words are too narrow.

        It packs a squared distance and a position into one word.
        """
        place = self.stride * np.arange(1 << self.code_bits, dtype=np.int64) - self.offset
        span = int(np.abs(place).max()) + (self.curve.side - 1) * self.spacing
        if self.position_max >= 1 << 25 or 2 * span * span >= 1 << 36:
            return None
        line = np.clip(place // self.spacing, 0, self.curve.side - 2).astype(np.uint64)
        return place, line, boxes(near_items(self.curve.order, 2), self.spacing)

    def _compiled(self, x: NDArray[np.int64], y: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Positions by the kernel, which equals `datapath` before its rounding to outputs."""
        from intsim.hilbert.kernels import nearest_in_plane

        assert self._tables is not None
        codes = np.empty((*shape, 2), np.int64)
        codes[..., 0], codes[..., 1] = x, y
        codes -= self.lowest_code
        position, squared = np.empty(prod(shape), np.int64), np.empty(prod(shape), np.int64)
        cells = np.uint64(self.curve.side - 1)
        nearest_in_plane(codes.reshape(-1, 2).view(np.uint64), *self._tables, cells, position, squared)
        return position.reshape(shape)

    def _candidates(self, x: Any, y: Any, vertex: Callable[[Any, Any], Any]) -> list[tuple[Any, Any]]:
        """Clamp to the lattice, find the cell, and list the four candidates of that cell."""
        i, a = self._cell(x)
        j, b = self._cell(y)
        return candidates(i, j, a, b, self.spacing, vertex, self._square, self._times_spacing)

    def _cell(self, code: Any) -> tuple[Any, Any]:
        """Split one coordinate into the lattice line below it, 0..2**p - 1, and the sub-units above that line."""
        scaled = code if self.stride == 1 and self.log2_spacing is not None else code * self.stride
        place = scaled - (self.offset + self.lowest_code * self.stride)
        place = place & ~below(place, 0)
        end = (self.curve.side - 1) * self.spacing
        place = choose(below(end, place), end, place)
        if self.log2_spacing is not None:
            return place >> self.log2_spacing, place & (self.spacing - 1)
        # Restoring division by the constant S, one compare and subtract for each of the p quotient bits.
        line = place ^ place
        for bit in reversed(range(self.curve.order)):
            step = self.spacing << bit
            fits = ~below(place, step)
            place = place - (step & fits)
            line = line | ((1 << bit) & fits)
        return line, place

    def _square(self, value: Any) -> Any:
        return value * value if self.log2_spacing is None else square_by_shifts(value, self.log2_spacing)

    def _times_spacing(self, value: Any) -> Any:
        return value * self.spacing if self.log2_spacing is None else value << self.log2_spacing

    def _to_output(self, position: Any) -> Any:
        """Round a position, 0..position_max, half up to the output's LSB."""
        if self._scaling is not None:
            return self._scaling(position)
        surplus = 2 * self.curve.order + (self.log2_spacing or 0) - self.output_bits
        if surplus <= 0:
            return position << -surplus
        return (position + (1 << (surplus - 1))) >> surplus

    def _tabled_vertex(self, column: Any, row: Any) -> Any:
        last = self.curve.side - 1
        return self.curve.index_table[column & last, row & last]

    def _checked_codes(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        px = _integers(x, "x code", self.lowest_code, self.highest_code)
        py = _integers(y, "y code", self.lowest_code, self.highest_code)
        try:
            np.broadcast_shapes(px.shape, py.shape)
        except ValueError:
            raise IntsimError(
                f"x codes of shape {px.shape} and y codes of shape {py.shape} don't broadcast: give equal shapes"
            ) from None
        return px, py

    def _quantized(self, values: ArrayLike, name: str) -> NDArray[np.int64]:
        array = np.asarray(values)
        if array.dtype.kind not in "fiu" or np.isnan(array).any():
            raise IntsimError(f"{name} holds values that are not real numbers: mask NaN out first")
        code = np.clip(np.rint(array.astype(np.float64) * self.codes_per_unit), 0, (1 << self.code_bits) - 1)
        return code.astype(np.int64) + self.lowest_code


def _check_widths(code_bits: Any, output_bits: Any, signed: Any) -> None:
    for name, value, allowed in (("code_bits", code_bits, CODE_BITS), ("output_bits", output_bits, OUTPUT_BITS)):
        integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not integer or value not in allowed:
            raise IntsimError(f"{name} is {value!r}: give an integer in {allowed.start}..{allowed.stop - 1}")
    if not isinstance(signed, bool | np.bool_):
        raise IntsimError(f"signed is {signed!r}: give True or False")


def _integers(values: ArrayLike, name: str, lowest: int, highest: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" and array.size:
        raise IntsimError(f"{name} values have dtype {array.dtype}: give an integer array")
    if array.size and (array.min() < lowest or array.max() > highest):
        raise IntsimError(f"{name} values span [{array.min()}, {array.max()}]: they must lie in [{lowest}, {highest}]")
    return array.astype(np.int64)


def _divide_half_even(numerator: NDArray[np.int64], denominator: int) -> NDArray[np.int64]:
    quotient, rest = np.divmod(numerator, denominator)
    up = (2 * rest > denominator) | ((2 * rest == denominator) & (quotient & 1 == 1))
    return quotient + up
