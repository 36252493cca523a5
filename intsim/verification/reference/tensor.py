"""One tensor of the reference evaluator: exact integers on a rational grid, or float64 with an error bound.

A tensor is kept in one of two forms.

* **Grid**: value = n * s with `n` an array of integers (held in float32, float64 or int64, always exactly) and `s`
  an exact rational per tensor, channel or position. Nothing is rounded, so a rounding tie downstream is decided on
  integers.
* **Float**: value = v +- e, float64 each, the bound rigorous (Higham, "Accuracy and Stability of Numerical
  Algorithms", 2nd ed., section 3.1), with a function that works out any single element as an exact fraction.

Whether a rounding decision needs the exact element is for the quantizer to say; most never do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from intsim.errors import IntsimError
from intsim.verification.reference.rational import (
    SMALL,
    as_fractions,
    common_divisor,
    each,
    floats,
    full_rank,
    is_dyadic,
    multiples,
)

#: Integers up to here are exact in float64.
EXACT = 2.0**53
_EXACT32 = 2.0**24
#: Twice the unit roundoff of float64: one rounded operation, second-order terms included.
ROUNDOFF = 2.0**-52
# Magnitudes outside of this range could leave float64's normal range within a few products.
_SMALLEST, _LARGEST = 2.0**-300, 2.0**300
BLOCK, UNUSED = 1 << 15, 1 << 12
"""Numbers of an array that are looked at in one go, so that they stay in the cache; no number's exponent."""

Index = tuple[int, ...]


@dataclass(slots=True, eq=False)
class Tensor:
    """Values of one tensor; see the module docstring.

    `kind` is "f", "i" or "b": float, integer or bool in the file; `type` the name of the integer type, if known.
    """

    shape: Index
    kind: str
    n: np.ndarray | None = None
    s: np.ndarray | None = None
    bound: float = math.inf
    v: np.ndarray | None = None
    e: np.ndarray | None = None
    element: Callable[[int], Fraction] | None = None
    # why no element of this tensor is known exactly (a Softmax upstream), or ""
    poison: str = ""
    type: str = ""
    memo: dict[int, Fraction] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def on_grid(self) -> bool:
        """True where the tensor holds exact integers times rational scales."""
        return self.n is not None

    @property
    def exact(self) -> bool:
        """True where every element is known exactly without working it out."""
        return self.on_grid or self.e is None

    def integers(self) -> tuple[np.ndarray, np.ndarray]:
        """The grid: n and s, where there is one."""
        assert self.n is not None
        assert self.s is not None
        return self.n, self.s

    def held(self, bound: float) -> np.ndarray:
        """The integers n in the narrowest float type in which all integers up to `bound` are exact."""
        assert self.n is not None
        return self.n.astype(np.float32 if bound <= _EXACT32 else np.float64, copy=False)

    def approx(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Float64 values and their absolute error bounds (None: exact)."""
        if self.n is None or self.s is None:
            assert self.v is not None
            return self.v, self.e
        value = np.asarray(self.n.astype(np.float64) * floats(self.s))
        if self.bound <= EXACT and all(is_dyadic(s) and abs(s.numerator) * self.bound <= EXACT for s in self.s.flat):
            return value, None
        return value, np.abs(value) * (1.01 * ROUNDOFF)

    def bounded(self) -> tuple[np.ndarray, np.ndarray]:
        """The same; a single bound of 0 where all is exact."""
        v, e = self.approx()
        return v, np.zeros(()) if e is None else e

    def fraction(self, i: int) -> Fraction:
        """Element `i` (flat, C order) as an exact rational."""
        if self.poison:
            raise IntsimError(f"no exact value: {self.poison}")
        where = np.unravel_index(i, self.shape)
        if self.n is not None and self.s is not None:
            scale = self.s[tuple(0 if d == 1 else k for k, d in zip(where, self.s.shape, strict=True))]
            return int(self.n[where]) * scale
        assert self.v is not None
        if self.e is None or self.e[where] == 0:
            if math.isinf(self.v[where]):
                raise IntsimError("minus infinity of a mask is no number")
            return Fraction(float(self.v[where]))
        if i not in self.memo:
            assert self.element is not None
            self.memo[i] = self.element(i)
        return self.memo[i]

    def at(self, where: Index) -> Fraction:
        """The element at an index of a shape that this tensor broadcasts to."""
        own = where[len(where) - len(self.shape) :]
        kept = tuple(0 if d == 1 else k for k, d in zip(own, self.shape, strict=True))
        return self.fraction(int(np.ravel_multi_index(kept, self.shape)) if kept else 0)

    def along(self, axes: Sequence[int], where: Index) -> Iterator[Fraction]:
        """The elements at an index whose entries for `axes` are 0, and those behind it along these axes."""
        for step in np.ndindex(*(n if a in axes else 1 for a, n in enumerate(self.shape))):
            yield self.at(tuple(w + k for w, k in zip(where, step, strict=True)))

    def fractions(self) -> np.ndarray:
        """All elements as an object array of exact rationals; for small tensors (scales, bounds, weights)."""
        if self.n is not None and self.s is not None:
            return np.asarray(each(lambda n, s: int(n) * s, self.n.astype(object), self.s), object).reshape(self.shape)
        if self.e is None and self.v is not None:
            return as_fractions(self.v)
        return each(self.fraction, np.arange(self.size).reshape(self.shape))

    def whole(self, what: str) -> np.ndarray:
        """All elements as int64; raises IntsimError where `what` isn't made of integers known exactly."""
        if self.n is not None and self.s is not None and self.n.dtype == np.int64 and all(s == 1 for s in self.s.flat):
            return self.n
        if self.size > SMALL or not self.exact:
            raise IntsimError(f"{what} has to be a constant or computed from shapes")
        values = self.fractions()
        if any(f.denominator != 1 for f in values.flat):
            raise IntsimError(f"{what} has to hold integers")
        return each(int, values).astype(np.int64)


def grid(n: np.ndarray, s: np.ndarray | Fraction, bound: float | None = None, kind: str = "f") -> Tensor:
    """A tensor n * s; `s` is non-negative and broadcasts against `n`, `bound` >= max|n| (worked out if None)."""
    n = np.asarray(n)
    scale = np.asarray(s, object)
    if bound is None:
        bound = float(max(abs(float(n.max())), abs(float(n.min())))) if n.size else 0.0
    if bound > EXACT and n.dtype.kind == "f":
        raise IntsimError("integers beyond 2^53 are not held in float64")
    return Tensor(n.shape, kind, n=n, s=full_rank(scale, n.ndim), bound=bound)


def inexact(v: np.ndarray, e: np.ndarray | None, element: Callable[[int], Fraction], kind: str = "f") -> Tensor:
    """A tensor v +- e with the function that gives any element, by its flat index, exactly."""
    v = np.asarray(v, np.float64)
    if e is not None:
        e = np.broadcast_to(np.asarray(e, np.float64), v.shape)
        if np.isneginf(v).any():  # of a mask, whatever is added to it
            e = np.where(np.isneginf(v), 0.0, e)
    return Tensor(v.shape, kind, v=v, e=e, element=element)


def _smallest_bit(v: np.ndarray) -> int:
    """The exponent of the lowest bit that any of some finite numbers uses; `UNUSED` where all are 0."""
    mantissa, exponent = np.frexp(v)
    digits = np.abs(np.ldexp(mantissa, 53)).astype(np.int64)
    lowest = np.frexp((digits & -digits).astype(np.float64))[1] - 54 + exponent
    return int(lowest[digits != 0].min(initial=UNUSED))


def from_array(array: np.ndarray, what: str) -> Tensor:
    """An array of the file or of the caller, taken as the exact numbers that it holds.

    Floats become a grid with a power-of-two scale when max|x| is below 2^53 times the smallest bit in use.
    """
    if array.dtype.kind == "b":
        return grid(array.astype(np.float32), Fraction(1), 1.0, "b")
    if array.dtype.name in ("int2", "uint2", "int4", "uint4"):
        return replace(grid(array.astype(np.int64), Fraction(1), 16.0, "i"), type=array.dtype.name)
    if array.dtype.kind in "iu":
        if array.dtype.kind == "u" and array.size and array.max() > np.uint64(2**63 - 1):
            raise IntsimError(f"{what} holds integers beyond int64")
        return replace(grid(array.astype(np.int64), Fraction(1), kind="i"), type=array.dtype.name)
    v = array.astype(np.float64)
    size = np.abs(v)
    if not np.isfinite(v).all():
        return Tensor(v.shape, "f", v=v)
    if ((size > _LARGEST) | ((size < _SMALLEST) & (size > 0))).any():
        raise IntsimError(f"{what} holds magnitudes outside of 2^-300..2^300, which the reference does not evaluate")
    top = float(size.max()) if v.size else 0.0
    if top == 0.0:
        # a scale of 0 joins every grid
        return grid(np.zeros(v.shape, np.float32), Fraction(0), 0.0)
    flat = v.reshape(-1)
    step = min(_smallest_bit(flat[at : at + BLOCK]) for at in range(0, flat.size, BLOCK))
    if top * 2.0**-step > EXACT:
        return Tensor(v.shape, "f", v=v)
    n = np.ldexp(v, -step)
    bound = top * 2.0**-step
    return grid(n.astype(np.float32) if bound <= _EXACT32 else n, Fraction(2) ** step, bound)


def constant(values: np.ndarray | Fraction, kind: str = "f") -> Tensor:
    """Exact rationals as a tensor: the sign on the grid, the magnitude in the scale."""
    values = np.asarray(values, object)
    return grid(each(lambda f: (f > 0) - (f < 0), values).astype(np.float32), each(abs, values), 1.0, kind)


def zero_like(x: Tensor) -> Tensor:
    """One zero of the same scale as x where x has a single one, so that the scale stays single."""
    scale = x.s.reshape(()) if x.s is not None and x.s.size == 1 else Fraction(0)
    return grid(np.zeros((), np.float32), scale, 0.0, x.kind)


def exact_number(value: float) -> Fraction:
    """The float of an attribute as the rational that it is."""
    if not math.isfinite(value):
        raise IntsimError(f"{value} is not a finite number")
    return Fraction(value)


def position(i: int, shape: Index) -> Index:
    """The full index of a flat one."""
    return tuple(int(k) for k in np.unravel_index(i, shape))


def _compressed(index: np.ndarray) -> np.ndarray:
    """The index array with every axis along which it doesn't change cut to length 1."""
    for axis in range(index.ndim):
        if index.shape[axis] > 1:
            first = np.take(index, [0], axis)
            if (index == first).all():
                index = first
    return index


def move(tensors: list[Tensor], f: Callable[..., np.ndarray]) -> Tensor:
    """Rearrange elements: `f` takes one array per tensor and returns an array made of their elements only.

    Exact, whatever the scales are. `f` runs on the values and, where scales differ, on index arrays too.
    """
    return replace(_moved(tensors, f), kind=tensors[0].kind, type=tensors[0].type)


def _numbered(shapes: Sequence[Index]) -> list[np.ndarray]:
    """An array of each shape; all elements count on, from 0."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    return [np.arange(end - math.prod(shape), end).reshape(shape) for end, shape in zip(ends, shapes, strict=True)]


def _moved(tensors: list[Tensor], f: Callable[..., np.ndarray]) -> Tensor:
    if all(t.on_grid for t in tensors):
        n = np.asarray(f(*(t.n for t in tensors)))
        bound = max(t.bound for t in tensors)
        if bound > EXACT and n.dtype != np.int64:
            raise IntsimError("integers beyond 2^53 meet floats")
        scales = [t.integers()[1] for t in tensors]
        if all(s.size == 1 for s in scales) and len({s.item() for s in scales}) == 1:
            return grid(n, scales[0].reshape((1,) * n.ndim), bound)
        marks = zip(_numbered([s.shape for s in scales]), tensors, strict=True)
        table = np.concatenate([s.ravel() for s in scales])
        index = _compressed(np.asarray(f(*(np.broadcast_to(m, t.shape) for m, t in marks))))
        return grid(n, table[index].reshape(index.shape), bound)
    parts = [t.approx() for t in tensors]
    v = np.asarray(f(*(v for v, _ in parts)))
    e = None
    if any(error is not None for _, error in parts):
        e = np.asarray(f(*(np.zeros(v.shape) if error is None else np.array(error) for v, error in parts)))
    origin: list[np.ndarray] = []
    ends = np.cumsum([t.size for t in tensors])

    def element(i: int) -> Fraction:
        if not origin:
            origin.append(np.ravel(f(*_numbered([t.shape for t in tensors]))))
        source = int(origin[0][i])
        which = int(np.searchsorted(ends, source, side="right"))
        return tensors[which].fraction(source - int(ends[which]) + tensors[which].size)

    return inexact(v, e, element)


def uniform(t: Tensor, axes: tuple[int, ...]) -> Tensor | None:
    """The same tensor on a grid whose scale doesn't change along `axes`; None where 53 bits don't hold it."""
    if t.n is None or t.s is None:
        return None
    axes = tuple(a % t.n.ndim for a in axes)
    uneven = [a for a in axes if t.s.shape[a] > 1]
    if not uneven:
        return t
    if t.s.size > SMALL:
        return None
    s = common_divisor(t.s, axes=uneven)
    factor = multiples(t.s, s)
    bound = max(t.bound, 1.0) * float(max(factor.flat))
    if bound > EXACT:
        return None
    return grid(t.held(bound) * factor.astype(np.float32 if bound <= _EXACT32 else np.float64), s, bound, t.kind)
