"""Integer decoder of Hilbert-curve outputs in 2 or 3 dimensions, centred on code 0, with or without a guide.

Lattice lines lie on integer codes, S apart and mirrored about the middle code, so a position along the curve is an
exact integer: nothing is scaled and nothing is divided. `scan.py` is the definition; `kernels.py` computes the same.

Source of the representation: arXiv 2405.14024 (ICML 2025). The third dimension and the guide are additions to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from intsim.errors import IntsimError
from intsim.hilbert.curve import Curve
from intsim.hilbert.fixed_point import CODE_BITS, _integers
from intsim.hilbert.near_items import boxes, near_items
from intsim.hilbert.scan import scan, segment_table

WEIGHT_SHIFTS = range(61)
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PointDecoder:
    """Decodes points of n-bit codes to exact positions along the curve, 0..position_max.

    Line i of each axis, i = 0..2**p - 1, is at signed code -(2**p - 1) S / 2 + S i; the unsigned code is that plus
    2**(n-1). The position v stands for q = v / position_max; vertex number i has v = i S. With S = 2**(n-p) in the
    plane this is `FixedPointDecoder.lattice_aligned` of n + p output bits.

    A *guide* is a code g of the same width and sign, of a plain scalar head. It aims at the position

        G = (u * position_max + 2**(n-1)) >> n,   u = g, or g + 2**(n-1) if signed: u / 2**n of the curve, half up.

    Args:
        order: p, 1..6 in the plane, 1..4 in space.
        dimensions: d, 2 or 3.
        spacing: S, codes between neighbouring lattice lines: even (else no line is at a code), at least 2, and the
            outer lines within the codes: (2**p - 1) S / 2 <= 2**(n-1) - 1.
        code_bits: n, 4..16.
        signed: whether codes are two's complement, -2**(n-1)..2**(n-1)-1, or unsigned, 0..2**n-1.

    Raises:
        IntsimError: a parameter out of its range.
    """

    order: int
    dimensions: int
    spacing: int
    code_bits: int = 8
    signed: bool = True

    def __post_init__(self) -> None:
        """Check every parameter."""
        curve = Curve(self.order, 0, self.dimensions)
        for name, value in (("spacing", self.spacing), ("code_bits", self.code_bits)):
            if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
                raise IntsimError(f"{name} is {value!r}: give an integer")
        if self.code_bits not in CODE_BITS:
            raise IntsimError(f"code_bits is {self.code_bits}: give one of {CODE_BITS.start}..{CODE_BITS.stop - 1}")
        if not isinstance(self.signed, bool | np.bool_):
            raise IntsimError(f"signed is {self.signed!r}: give True or False")
        largest = 2 * (((1 << self.code_bits - 1) - 1) // (curve.side - 1))
        largest -= largest % 2
        if largest < 2:
            raise IntsimError(
                f"order {self.order} has more lattice lines than {self.code_bits}-bit codes hold two apart: use wider "
                "codes or a lower order"
            )
        if self.spacing % 2 or not 2 <= self.spacing <= largest:
            raise IntsimError(
                f"spacing {self.spacing} does not fit order {self.order} and {self.code_bits}-bit codes: give an even "
                f"integer in 2..{largest}"
            )

    @cached_property
    def curve(self) -> Curve:
        """The polygon where the unsigned code c is the coordinate c / 2**n of the unit square: for the float codec."""
        return Curve(self.order, Fraction(self.first_line - self.lowest_code, 1 << self.code_bits), self.dimensions)

    @property
    def position_max(self) -> int:
        """Length of the curve in codes, (2**(d p) - 1) S: the position at q = 1."""
        return ((1 << self.dimensions * self.order) - 1) * self.spacing

    @property
    def output_scale(self) -> Fraction:
        """Q per position, exactly: 1 / position_max."""
        return Fraction(1, self.position_max)

    @property
    def lowest_code(self) -> int:
        """Smallest code: -2**(n-1) or 0."""
        return -(1 << (self.code_bits - 1)) if self.signed else 0

    @property
    def highest_code(self) -> int:
        """Largest code: 2**(n-1) - 1 or 2**n - 1."""
        return self.lowest_code + (1 << self.code_bits) - 1

    @property
    def first_line(self) -> int:
        """Code of lattice line 0, on every axis."""
        return self.lowest_code + (1 << (self.code_bits - 1)) - ((1 << self.order) - 1) * self.spacing // 2

    def __call__(
        self,
        codes: ArrayLike,
        *,
        guide: ArrayLike | None = None,
        window: int | None = None,
        weight_shift: int | None = None,
    ) -> Ints:
        """Positions along the curve: the first result of `nearest`, which explains the arguments."""
        return self.nearest(codes, guide=guide, window=window, weight_shift=weight_shift)[0]

    def nearest(
        self,
        codes: ArrayLike,
        *,
        guide: ArrayLike | None = None,
        window: int | None = None,
        weight_shift: int | None = None,
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
            (position, squared distance), int64 (...): 0..position_max, and squared codes.

        Raises:
            IntsimError: codes that are not integers, out of range or of another dimension; a bad window or shift, or
                one without a guide.
        """
        points, aim, width, shift = self._checked(codes, guide, window, weight_shift)
        shape, size = points.shape[:-1], points[..., 0].size
        position, squared = np.empty(size, np.int64), np.empty(size, np.int64)
        from intsim.hilbert import kernels

        place, line, pieces, segments = self._tables
        flat = np.ascontiguousarray(points.reshape(size, self.dimensions)).view(np.uint64)  # none is negative
        near = kernels.nearest_in_plane if self.dimensions == 2 else kernels.nearest_in_space
        near(flat, place, line, pieces, np.uint64((1 << self.order) - 1), position, squared)
        if aim is not None and (shift is not None or width < self.position_max):
            number = np.int64(-1 if shift is None else shift)
            step, aims = np.int64(self.spacing), np.ascontiguousarray(aim.ravel())
            kernels.guided(flat, place, segments, step, aims, np.int64(width), number, position, squared)
        return position.reshape(shape), squared.reshape(shape)

    def scanned(
        self,
        codes: ArrayLike,
        *,
        guide: ArrayLike | None = None,
        window: int | None = None,
        weight_shift: int | None = None,
    ) -> tuple[Ints, Ints]:
        """What `nearest` returns, by the definition: every segment looked at, in numpy. Slow."""
        points, aim, width, shift = self._checked(codes, guide, window, weight_shift)
        shape = points.shape[:-1]
        places = points.reshape(-1, self.dimensions).T + (self.lowest_code - self.first_line)
        aims = np.zeros(places.shape[1], np.int64) if aim is None else aim.ravel()
        low, high = np.maximum(aims - width, 0), np.minimum(aims + width, self.position_max)
        position, squared = scan(places, self.curve, self.spacing, low, high, aims, shift)
        return position.reshape(shape), squared.reshape(shape)

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
        """Whether a point lies within ``radius`` codes of the curve point it decodes to: bool (...).

        It compares squares. Segments that don't meet in a vertex are S apart, so two neighbouring codes that both are
        within S / 2 - 1 of the curve decode to the same segment or to segments that meet.

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
        """The decoded position near the curve, the guide's far from it, and without a jump between.

        With r2 the squared distance and v the position that `nearest` returns,

            share = min(max(far**2 - r2, 0), 2**m),   result = G + (((v - G) * share + 2**(m-1)) >> m):

        G from ``far`` on, v up to the squared distance far**2 - 2**m, and linear in the squared distance between. Two
        shifts and a multiplication. `intsim.hilbert.blend` of the squares is the same before rounding.

        Args:
            codes: as `nearest` takes them.
            guide: as `nearest` takes it.
            far: in codes, 1..S / 2, so that no branch jump is left; None for S / 2.
            ramp_bits: m, 0 <= m and 2**m <= far**2; None for the largest with 2**m <= 3/4 far**2, which trusts the
                curve alone up to half of ``far`` at least.
            window: as `nearest` takes it.
            weight_shift: likewise.

        Returns:
            int64 (...), 0..position_max.

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
        return np.asarray(aim + (((position - aim) * share + ((1 << bits) >> 1)) >> bits))

    def encode(self, position: ArrayLike) -> Ints:
        """Codes of the curve point at a position, exactly: decoding them gives the position again.

        Args:
            position: integer array (...), 0..position_max.

        Returns:
            int64 (..., d).

        Raises:
            IntsimError: positions that are not integers or out of range.
        """
        values = _integers(position, "position", 0, self.position_max)
        vertices = self.curve.vertices
        segment = np.minimum(values // self.spacing, len(vertices) - 2)  # the host's side: it may divide
        along = values - segment * self.spacing
        step = vertices[segment + 1] - vertices[segment]
        return np.asarray(vertices[segment] * self.spacing + step * along[..., None] + self.first_line)

    @cached_property
    def _tables(self) -> tuple[Ints, NDArray[np.uint64], Ints, Ints]:
        """What the kernels read: place and cell of each code, pieces of each cell, segments."""
        place: Ints = np.arange(1 << self.code_bits, dtype=np.int64) + (self.lowest_code - self.first_line)
        line = np.clip(place // self.spacing, 0, (1 << self.order) - 2).astype(np.uint64)
        pieces = boxes(near_items(self.order, self.dimensions), self.spacing)
        segments = [[*start, axis, sign, s] for s, (start, axis, sign) in enumerate(segment_table(self.curve))]
        return place, line, pieces, boxes(np.array(segments, np.int64), self.spacing)

    def _checked(
        self, codes: ArrayLike, guide: ArrayLike | None, window: Any, weight_shift: Any
    ) -> tuple[Ints, Ints | None, int, int | None]:
        """Codes counted from 0, positions aimed at, window, shift."""
        points = _integers(codes, "codes", self.lowest_code, self.highest_code) - self.lowest_code
        if points.ndim == 0 or points.shape[-1] != self.dimensions:
            raise IntsimError(f"codes have shape {points.shape}: the last axis holds {self.dimensions} coordinates")
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


def _at_least_zero(value: Any, name: str) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < 0:
        raise IntsimError(f"{name} is {value!r}: give an integer of at least 0")
    return int(value)
