"""Integer decoder of Hilbert-curve outputs: codes of a point of the plane or of space in, a place on the curve out.

The definition is the closest point of the whole curve to the point the codes stand for, in exact arithmetic; of several
closest points the one with the lowest q. A second, coarse opinion on q, the *guide*, may restrict or weigh the search.
`scan.py` is that definition, `kernels.py` computes the same compiled, and `Decoder.datapath` as hardware would do it.

Source of the representation: arXiv 2405.14024 (ICML 2025), equation 1. The paper tabulates it; here it is computed. The
third dimension and the guide are additions to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from intsim.errors import IntsimError
from intsim.hilbert.cell import below, candidates, choose, closest, square_by_shifts
from intsim.hilbert.curve import Curve, is_integer, vertex_index
from intsim.hilbert.near_items import boxes, near_items
from intsim.hilbert.scaling import MultiplyShift
from intsim.hilbert.scan import scan, segment_table

CODE_BITS = range(4, 17)
OUTPUT_BITS = range(4, 25)
WEIGHT_SHIFTS = range(61)
Ints = NDArray[np.int64]
Guide = ArrayLike | None


@dataclass(frozen=True)
class Decoder:
    """Decodes points of n-bit codes to integers along the curve; make one with `inset` or `lattice_aligned`.

    An unsigned code c stands for the coordinate c / codes_per_unit of the unit square or cube, a signed code for that
    of c + 2**(n - 1). The output v stands for q = v * output_scale, 0 <= v <= output_max.

    In *sub-units* a lattice edge is ``spacing`` long and the coordinate of unsigned code c is ``stride * c - offset``
    from vertex 0, both exactly. A *position* is a length along the curve in sub-units, 0..position_max; it is the
    output itself where there are no ``output_bits``, and is rounded half up to an output where there are.

    A *guide* is a code g of the same width and sign, of a plain scalar head. It aims at the position

        G = (u * position_max + 2**(n-1)) >> n,   u = g, or g + 2**(n-1) if signed: u / 2**n of the curve, half up.

    Args:
        curve: the polygon in the unit square or cube.
        code_bits: n, 4..16.
        output_bits: B, 4..24: outputs lie below 2**B; None where they are positions.
        signed: whether codes are two's complement, -2**(n-1)..2**(n-1)-1, or unsigned, 0..2**n-1.
        codes_per_unit: codes along the side of the unit square.
        stride: sub-units a code; 1 in the lattice-aligned decoder.
        offset: sub-units from unsigned code 0 to vertex 0, on every axis.
        spacing: S, sub-units an edge.
        output_max: the output at q = 1.
    """

    curve: Curve
    code_bits: int
    output_bits: int | None
    signed: bool
    codes_per_unit: int
    stride: int
    offset: int
    spacing: int
    output_max: int

    @classmethod
    def inset(
        cls,
        order: int,
        inset: float | Fraction = 0.1,
        code_bits: int = 8,
        output_bits: int | None = 16,
        signed: bool = False,
        dimensions: int = 2,
    ) -> Decoder:
        """The general decoder: any inset k; code c is the coordinate c / (2**n - 1), output v is q = v / (2**B - 1).

        It multiplies: by constants, two squares, and one multiply-shift.

        Raises:
            IntsimError: a bad order, inset or width; an edge shorter than one code, where rounding to codes would no
                longer tell neighbouring branches apart; or an inset whose denominator leads past 64-bit integers.
        """
        curve = Curve(order, inset, dimensions)
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
        output_max = curve.segments * spacing if output_bits is None else (1 << output_bits) - 1
        if spacing >= 1 << 30 or stride * units * output_max >= 1 << 61:
            raise IntsimError(
                f"inset {k} with {code_bits}-bit codes and {output_bits}-bit outputs needs more than 64-bit integers: "
                "give an inset with a smaller denominator"
            )
        return cls(curve, code_bits, output_bits, bool(signed), units, stride, offset, spacing, output_max)

    @classmethod
    def lattice_aligned(
        cls,
        order: int,
        spacing: int | None = None,
        code_bits: int = 8,
        output_bits: int | None = None,
        signed: bool = False,
        dimensions: int = 2,
    ) -> Decoder:
        """The decoder whose lattice lines are integer codes, S apart and mirrored about the middle code.

        Line i of each axis, i = 0..2**p - 1, is at signed code -(2**p - 1) S / 2 + S i; the unsigned code is that plus
        2**(n-1). Code c is the coordinate c / 2**n, so `curve` has the inset k = (unsigned code of line 0) / 2**n.
        Positions are lengths in codes. With S a power of two nothing is multiplied.

        With d the dimensions, vertex number v decodes to v * S, or, where there are output bits, to v * 2**(B - dp), so
        that output_max = (2**(dp) - 1) * 2**(B - dp).

        Args:
            order: p, 1..6 in the plane, 1..4 in space.
            spacing: S, codes between neighbouring lattice lines: even (else no line is at a code), at least 2, and the
                outer lines within the codes: (2**p - 1) S / 2 <= 2**(n-1) - 1. None for 2**(n-p).
            code_bits: n.
            output_bits: B, at least dp so that vertices have different outputs; None for positions.
            signed: whether codes are two's complement.
            dimensions: d, 2 or 3.

        Raises:
            IntsimError: a bad order, width or spacing; or no spacing fits (n <= p).
        """
        curve = Curve(order, 0, dimensions)
        _check_widths(code_bits, output_bits, signed)
        largest = 2 * (((1 << code_bits - 1) - 1) // (curve.side - 1))
        if largest < 2:
            raise IntsimError(
                f"order {order} leaves lattice points of {code_bits}-bit codes less than two codes apart: use wider "
                f"codes (at least {order + 1}-bit codes) or a lower order"
            )
        s = 1 << (code_bits - curve.order) if spacing is None else spacing
        if not is_integer(s) or s % 2 or not 2 <= s <= largest:
            raise IntsimError(
                f"spacing {s!r} does not fit order {order} and {code_bits}-bit codes: give an even integer in "
                f"2..{largest} or None"
            )
        s, index_bits = int(s), curve.dimensions * curve.order
        if output_bits is not None and output_bits < index_bits:
            raise IntsimError(
                f"{output_bits} output bits can't tell the {1 << index_bits} vertices of order {order} apart: "
                f"give at least {index_bits}"
            )
        units = 1 << code_bits
        offset = (units - (curve.side - 1) * s) // 2
        curve = Curve(order, Fraction(offset, units), dimensions)
        output_max = curve.segments * s if output_bits is None else curve.segments << (output_bits - index_bits)
        return cls(curve, code_bits, output_bits, bool(signed), units, 1, offset, s, output_max)

    @property
    def output_scale(self) -> Fraction:
        """Q per output LSB, exactly: 1 / output_max."""
        return Fraction(1, self.output_max)

    @property
    def position_max(self) -> int:
        """Length of the curve in sub-units, (2**(dp) - 1) * spacing: the position at q = 1."""
        return self.curve.segments * self.spacing

    @property
    def lowest_code(self) -> int:
        """Smallest code: -2**(n-1) or 0."""
        return -(1 << (self.code_bits - 1)) if self.signed else 0

    @property
    def highest_code(self) -> int:
        """Largest code: 2**(n-1) - 1 or 2**n - 1."""
        return self.lowest_code + (1 << self.code_bits) - 1

    def __call__(
        self, codes: ArrayLike, *, guide: Guide = None, window: int | None = None, weight_shift: int | None = None
    ) -> Ints:
        """Decode points to outputs, int64 (...), 0..output_max; `nearest` explains arguments and errors."""
        return np.asarray(self._to_output(self.position(codes, guide=guide, window=window, weight_shift=weight_shift)))

    def position(
        self, codes: ArrayLike, *, guide: Guide = None, window: int | None = None, weight_shift: int | None = None
    ) -> Ints:
        """Exact place along the curve before rounding: int64 (...), 0..position_max; q = it / position_max.

        Takes and raises what `nearest` does, but for decoders too fine for distances.
        """
        if guide is None and window is None and weight_shift is None and not self.fits_kernels:
            points = self._checked_points(codes)
            squared, position = self._feet(points)
            closest_ones = np.where(squared == squared.min(axis=-1, keepdims=True), position, self.position_max)
            return np.asarray(closest_ones.min(axis=-1).reshape(points.shape[:-1]))
        return self.nearest(codes, guide=guide, window=window, weight_shift=weight_shift)[0]

    def nearest(
        self, codes: ArrayLike, *, guide: Guide = None, window: int | None = None, weight_shift: int | None = None
    ) -> tuple[Ints, Ints]:
        """Decode points: where on the curve, and how far from the point.

        Without window and weight it is the closest point of the whole curve. With a window w it is the closest point of
        the curve's part with G - w <= position <= G + w. With a weight shift k the feet of all segments compete (the
        closest point of each, of its part within the window if there is one) and the one with the least

            squared distance + ((position - G)**2 >> k)

        wins. Of equals the lowest position wins.

        Args:
            codes: integer array (..., d), lowest_code..highest_code.
            guide: integer array that broadcasts to (...), codes of the same range.
            window: w >= 0, in positions; None for the whole curve.
            weight_shift: k, 0..60; None for the distance alone. It is `decode_points` with the weight 2**-k.

        Returns:
            (position, squared distance), int64 (...): 0..position_max, and squared sub-units.

        Raises:
            IntsimError: codes that are not integers, out of range or of another dimension; a bad window or shift, or
                one without a guide; or a decoder of insets so fine that positions leave 25 bits or squares 36.
        """
        points, aim, width, shift = self._checked(codes, guide, window, weight_shift)
        shape, size = points.shape[:-1], points[..., 0].size
        position, squared = np.empty(size, np.int64), np.empty(size, np.int64)
        from intsim.hilbert import kernels

        place, line, pieces = self._tables
        flat = np.ascontiguousarray(points.reshape(size, points.shape[-1])).view(np.uint64)  # none is negative
        near = kernels.nearest_in_plane if self.curve.dimensions == 2 else kernels.nearest_in_space
        near(flat, place, line, pieces, np.uint64(self.curve.side - 1), position, squared)
        if aim is not None and (shift is not None or width < self.position_max):
            number = np.int64(-1 if shift is None else shift)
            step, aims = np.int64(self.spacing), np.ascontiguousarray(aim.ravel())
            kernels.guided(flat, place, self._segments, step, aims, np.int64(width), number, position, squared)
        return position.reshape(shape), squared.reshape(shape)

    def scanned(
        self, codes: ArrayLike, *, guide: Guide = None, window: int | None = None, weight_shift: int | None = None
    ) -> tuple[Ints, Ints]:
        """What `nearest` returns, by the definition: every segment looked at, in numpy. Slow."""
        points, aim, width, shift = self._checked(codes, guide, window, weight_shift)
        shape = points.shape[:-1]
        places = self.stride * points.reshape(-1, self.curve.dimensions).T - self.offset
        aims = np.zeros(places.shape[1], np.int64) if aim is None else aim.ravel()
        low, high = np.maximum(aims - width, 0), np.minimum(aims + width, self.position_max)
        position, squared = scan(places, self.curve, self.spacing, low, high, aims, shift)
        return position.reshape(shape), squared.reshape(shape)

    def ties(self, codes: ArrayLike) -> NDArray[np.bool_]:
        """Where two or more different curve points are exactly closest, so that the lowest q was chosen: bool (...).

        Args:
            codes: as `nearest` takes them.
        """
        points = self._checked_points(codes)
        squared, position = self._feet(points)
        nearest = squared == squared.min(axis=-1, keepdims=True)
        low = np.where(nearest, position, self.position_max).min(axis=-1)
        return np.asarray((np.where(nearest, position, 0).max(axis=-1) != low).reshape(points.shape[:-1]))

    def aim(self, guide: ArrayLike) -> Ints:
        """Position G that guide codes aim at: int64, 0..position_max, of the guide's shape.

        Raises:
            IntsimError: codes that are not integers or out of range.
        """
        code = _integers(guide, "guide", self.lowest_code, self.highest_code) - self.lowest_code
        return np.asarray((code * self.position_max + (1 << (self.code_bits - 1))) >> self.code_bits)

    def confident(
        self,
        codes: ArrayLike,
        radius: int,
        *,
        guide: ArrayLike | None = None,
        window: int | None = None,
        weight_shift: int | None = None,
    ) -> NDArray[np.bool_]:
        """Whether a point lies within ``radius`` sub-units of the curve point it decodes to: bool (...).

        It compares squares. Segments that don't meet in a vertex are S apart, so two neighbouring codes that both are
        within (S - stride) / 2 of the curve, less than that, decode to the same segment or to segments that meet.

        Raises:
            IntsimError: what `nearest` raises, or a radius that is not an integer of at least 0.
        """
        radius = _at_least_zero(radius, "radius")
        squared = self.nearest(codes, guide=guide, window=window, weight_shift=weight_shift)[1]
        return np.asarray(squared <= radius * radius)

    def blended(
        self,
        codes: ArrayLike,
        guide: ArrayLike,
        *,
        far: int | None = None,
        ramp_bits: int | None = None,
        window: int | None = None,
        weight_shift: int | None = None,
    ) -> Ints:
        """The decoded output near the curve, the guide's far from it, and without a jump between.

        With r2 the squared distance and v the position that `nearest` returns,

            share = min(max(far**2 - r2, 0), 2**m),   position = G + (((v - G) * share + 2**(m-1)) >> m):

        G from ``far`` on, v up to the squared distance far**2 - 2**m, and linear in the squared distance between. Two
        shifts and a multiplication. `intsim.hilbert.blend` of the squares is the same before rounding.

        Args:
            codes: as `nearest` takes them.
            guide: as `nearest` takes it.
            far: in sub-units, 1..S / 2, so that no branch jump is left; None for S / 2.
            ramp_bits: m, 0 <= m and 2**m <= far**2; None for the largest with 2**m <= 3/4 far**2, which trusts the
                curve alone up to half of ``far`` at least.
            window: as `nearest` takes it.
            weight_shift: likewise.

        Returns:
            int64 (...), 0..output_max.

        Raises:
            IntsimError: what `nearest` raises, or a bad far or ramp.
        """
        most = self.spacing // 2
        reach = most if far is None else _at_least_zero(far, "far")
        if not 1 <= reach <= most:
            raise IntsimError(f"far is {far}: give 1..{most}, half the spacing at most")
        bits = max((3 * reach * reach // 4).bit_length() - 1, 0) if ramp_bits is None else ramp_bits
        if 1 << _at_least_zero(bits, "ramp_bits") > reach * reach:
            raise IntsimError(f"ramp_bits is {bits}: 2**ramp_bits must not exceed far**2 = {reach * reach}")
        position, squared = self.nearest(codes, guide=guide, window=window, weight_shift=weight_shift)
        aim = self.aim(guide)
        share = np.clip(reach * reach - squared, 0, 1 << bits)
        return np.asarray(self._to_output(aim + (((position - aim) * share + ((1 << bits) >> 1)) >> bits)))

    def datapath(self, x: Any, y: Any) -> Any:
        """The plane's decoder on any one integer-like value a code, as hardware would do it, without a table or guide.

        It asks of the values + - << >> & | ^ ~ and unary minus, with Python integers as constants; where the spacing is
        no power of two it also multiplies. No comparison, division, table or branch on a value occurs. Codes are not
        checked.

        Args:
            x: code in lowest_code..highest_code.
            y: likewise.

        Returns:
            The output, 0..output_max, of the same kind.
        """
        if self.curve.dimensions != 2:
            raise IntsimError("a point of space has three codes: use intsim.hilbert.datapath.scan_datapath")
        order, shift = self.curve.order, self._log2_spacing
        i, a = self._cell(x)
        j, b = self._cell(y)
        options = candidates(
            *(i, j, a, b, self.spacing),
            lambda column, row: vertex_index(column, row, order),
            lambda v: v * v if shift is None else square_by_shifts(v, shift),
            lambda v: v * self.spacing if shift is None else v << shift,
        )
        return self._to_output(closest(options)[1])

    def codes(self, points: ArrayLike) -> Ints:
        """Quantize coordinates of the unit square or cube: float64 product with codes_per_unit, half to even, clipped.

        Args:
            points: real array of any shape; what lies outside goes to the first or last code.

        Returns:
            int64 array of that shape.

        Raises:
            IntsimError: values that are NaN or not real.
        """
        array = np.asarray(points)
        if array.dtype.kind not in "fiu" or np.isnan(array).any():
            raise IntsimError("points hold values that are not real numbers: mask NaN out first")
        code = np.clip(np.rint(array.astype(np.float64) * self.codes_per_unit), 0, (1 << self.code_bits) - 1)
        return np.asarray(code.astype(np.int64) + self.lowest_code)

    def encode(self, output: ArrayLike) -> Ints:
        """Codes of the curve point at q = output / output_max: exact, then rounded half to even.

        This is the host's side and divides. Decoding the codes gives ``output`` again up to the rounding of the codes;
        where outputs are positions of a lattice-aligned decoder nothing is rounded.

        Args:
            output: integer array (...), 0..output_max.

        Returns:
            int64 (..., d).

        Raises:
            IntsimError: values that are not integers or are out of range.
        """
        values = _integers(output, "output", 0, self.output_max)
        scaled = values * self.curve.segments
        segment = np.minimum(scaled // self.output_max, self.curve.segments - 1)
        along = scaled - segment * self.output_max
        start, step = self.curve.vertices[segment], np.diff(self.curve.vertices, axis=0)[segment]
        lattice = start * self.output_max + step * along[..., None]  # lattice units, times output_max
        codes = _divide_half_even(lattice * self.spacing + self.offset * self.output_max, self.stride * self.output_max)
        return np.asarray(codes + self.lowest_code)

    @cached_property
    def _tables(self) -> tuple[Ints, NDArray[np.uint64], Ints]:
        """What the kernels read: place and cell of each code, pieces of each cell."""
        place: Ints = self.stride * np.arange(1 << self.code_bits, dtype=np.int64) - self.offset
        line = np.clip(place // self.spacing, 0, self.curve.side - 2).astype(np.uint64)
        return place, line, boxes(near_items(self.curve.order, self.curve.dimensions), self.spacing)

    @cached_property
    def _segments(self) -> Ints:
        """All segments as boxes."""
        segments = [[*start, axis, sign, s] for s, (start, axis, sign) in enumerate(segment_table(self.curve))]
        return boxes(np.array(segments, np.int64), self.spacing)

    @property
    def fits_kernels(self) -> bool:
        """Whether a squared distance and a position fit the one word that the kernels pack them into."""
        outside = max(self.offset, self.stride * ((1 << self.code_bits) - 1) - self.offset - self._end, 0)
        return self.position_max < 1 << 25 and self.curve.dimensions * (outside + self.spacing) ** 2 < 1 << 36

    @property
    def _end(self) -> int:
        """Place of the last lattice line."""
        return (self.curve.side - 1) * self.spacing

    def _feet(self, points: Ints) -> tuple[Ints, Ints]:
        """(squared distance, position) of the closest point of each piece that can be closest: int64 (n, 2**d).

        Points outside the lattice are moved onto its border, which changes no closest point but all distances.
        """
        d, (place, line, pieces) = self.curve.dimensions, self._tables
        flat = points.reshape(-1, d)
        cell = np.ravel_multi_index(tuple(line.astype(np.int64)[flat].T), (self.curve.side - 1,) * d)
        places, near = np.clip(place, 0, self._end)[flat][:, None], pieces[cell]
        feet = np.clip(places, near[..., :d], near[..., 3 : 3 + d])
        return ((places - feet) ** 2).sum(axis=-1), near[..., 6] + near[..., 7] * feet.sum(axis=-1)

    @property
    def _log2_spacing(self) -> int | None:
        """log2(S) where that is an integer."""
        return self.spacing.bit_length() - 1 if self.spacing.bit_count() == 1 else None

    def _cell(self, code: Any) -> tuple[Any, Any]:
        """Split one coordinate into the lattice line below it, 0..2**p - 1, and the sub-units above that line."""
        scaled = code if self.stride == 1 else code * self.stride
        place = scaled - (self.offset + self.lowest_code * self.stride)
        place = place & ~below(place, 0)
        place = choose(below(self._end, place), self._end, place)
        if self._log2_spacing is not None:
            return place >> self._log2_spacing, place & (self.spacing - 1)
        # Restoring division by the constant S, one compare and subtract for each of the p quotient bits.
        line = place ^ place
        for bit in reversed(range(self.curve.order)):
            step = self.spacing << bit
            fits = ~below(place, step)
            place = place - (step & fits)
            line = line | ((1 << bit) & fits)
        return line, place

    @cached_property
    def _scaling(self) -> MultiplyShift | int:
        """From positions to outputs: how many bits to the right, or a multiply-shift where it is no power of two."""
        factor = Fraction(self.output_max, self.position_max)
        if factor.numerator.bit_count() == factor.denominator.bit_count() == 1:
            return factor.denominator.bit_length() - factor.numerator.bit_length()
        return MultiplyShift.exact(factor, self.position_max)

    def _to_output(self, position: Any) -> Any:
        """Round a position, 0..position_max, half up to the output's LSB."""
        surplus = self._scaling
        if isinstance(surplus, MultiplyShift):
            return surplus(position)
        if surplus <= 0:
            return position << -surplus
        return (position + (1 << (surplus - 1))) >> surplus

    def _checked_points(self, codes: ArrayLike) -> Ints:
        """Codes (..., d) counted from 0."""
        points = _integers(codes, "codes", self.lowest_code, self.highest_code) - self.lowest_code
        if points.ndim == 0 or points.shape[-1] != self.curve.dimensions:
            raise IntsimError(
                f"codes have shape {points.shape}: the last axis holds {self.curve.dimensions} coordinates"
            )
        return points

    def _checked(
        self, codes: ArrayLike, guide: Guide, window: Any, weight_shift: Any
    ) -> tuple[Ints, Ints | None, int, int | None]:
        """Codes counted from 0, positions aimed at, window, shift."""
        if not self.fits_kernels:
            raise IntsimError(
                f"sub-units of 1/{self.spacing} edge are too fine for distances and guides: give narrower codes or an "
                "inset with a smaller denominator"
            )
        points = self._checked_points(codes)
        width = self.position_max if window is None else _at_least_zero(window, "window")
        if weight_shift is not None and _at_least_zero(weight_shift, "weight_shift") not in WEIGHT_SHIFTS:
            raise IntsimError(f"weight_shift is {weight_shift}: give 0..{WEIGHT_SHIFTS.stop - 1} or None")
        if guide is None:
            if window is not None or weight_shift is not None:
                raise IntsimError("a window or a weight needs a guide: give guide=")
            return points, None, width, weight_shift
        try:
            aim = np.broadcast_to(self.aim(guide), points.shape[:-1])
        except ValueError:
            raise IntsimError(f"guide of shape {np.shape(guide)} does not fit codes of shape {points.shape}") from None
        return points, aim, min(width, self.position_max), weight_shift


def _check_widths(code_bits: Any, output_bits: Any, signed: Any) -> None:
    for name, value, allowed in (("code_bits", code_bits, CODE_BITS), ("output_bits", output_bits, OUTPUT_BITS)):
        if not (value is None and name == "output_bits") and (not is_integer(value) or value not in allowed):
            raise IntsimError(f"{name} is {value!r}: give an integer in {allowed.start}..{allowed.stop - 1}")
    if not isinstance(signed, bool | np.bool_):
        raise IntsimError(f"signed is {signed!r}: give True or False")


def _integers(values: ArrayLike, name: str, lowest: int, highest: int) -> Ints:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" and array.size:
        raise IntsimError(f"{name} values have dtype {array.dtype}: give an integer array")
    if array.size and (array.min() < lowest or array.max() > highest):
        raise IntsimError(f"{name} values span [{array.min()}, {array.max()}]: they must lie in [{lowest}, {highest}]")
    return array.astype(np.int64)


def _at_least_zero(value: Any, name: str) -> int:
    if not is_integer(value) or value < 0:
        raise IntsimError(f"{name} is {value!r}: give an integer of at least 0")
    return int(value)


def _divide_half_even(numerator: Ints, denominator: int) -> Ints:
    quotient, rest = np.divmod(numerator, denominator)
    up = (2 * rest > denominator) | ((2 * rest == denominator) & (quotient & 1 == 1))
    return quotient + up
