"""What one evaluation of the reference found: codes, scales, values, bounds, exact elements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import TypeVar

import numpy as np

from intsim.errors import IntsimError
from intsim.verification.reference.quantize import Quantized
from intsim.verification.reference.tensor import Tensor

T = TypeVar("T")


class _View(Mapping[str, T]):
    """One property of every quantizer, worked out when asked for."""

    def __init__(self, quantized: dict[str, Quantized], read: Callable[[Quantized], T]) -> None:
        self._quantized, self._read = quantized, read

    def __getitem__(self, name: str) -> T:
        return self._read(self._quantized[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._quantized)

    def __len__(self) -> int:
        return len(self._quantized)


class ReferenceRun:
    """Results of `Reference.run`, by tensor name.

    Attributes:
        codes: int64 array for the output of every quantizer node, from that node's own inputs.
        scale: its scale, an object array of Fractions that broadcasts against the codes.
        zero_point: its zero point, the same.
        ties: how many of its elements float64 could not decide, so that exact arithmetic did.
        single: how many of these were worked out one by one, through the graph.
        given_codes: for every quantizer in `given`, the codes (integer-valued floats) that its array was snapped to.
        off_grid: for every quantizer in `given`, the indices (k, rank) of elements that were no code.
        tensors: every tensor as the evaluator holds it; where `given` replaced one, the replacement.
        quantized: every quantizer's full result.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        """Results that are yet to come, beside the tensors known before the first node."""
        self.tensors = tensors
        self.quantized: dict[str, Quantized] = {}
        self.given_codes: dict[str, np.ndarray] = {}
        self.off_grid: dict[str, np.ndarray] = {}
        self.codes: Mapping[str, np.ndarray] = _View(self.quantized, lambda q: q.codes.astype(np.int64))
        self.scale: Mapping[str, np.ndarray] = _View(self.quantized, lambda q: q.scale)
        self.zero_point: Mapping[str, np.ndarray] = _View(self.quantized, lambda q: q.zero_point)
        self.ties: Mapping[str, int] = _View(self.quantized, lambda q: q.undecided)
        self.single: Mapping[str, int] = _View(self.quantized, lambda q: q.fractions)

    def _tensor(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise IntsimError(f"{name!r} is not a tensor of the graph")
        return self.tensors[name]

    def value(self, name: str) -> np.ndarray:
        """A tensor in float64, within `error` of its exact value."""
        return self._tensor(name).approx()[0]

    def error(self, name: str) -> np.ndarray:
        """The absolute error bound of `value`, element by element; inf after an operator without an exact form."""
        v, e = self._tensor(name).bounded()
        return np.array(np.broadcast_to(e, v.shape))

    def exact(self, name: str, index: int | tuple[int, ...]) -> Fraction:
        """One element (flat or full index) as the rational that it is."""
        tensor = self._tensor(name)
        return tensor.fraction(_flat(index, tensor.shape))

    def unrounded(self, name: str, index: int | tuple[int, ...]) -> Fraction:
        """What a quantizer rounds and clamps for one element: x / scale + zero_point, exactly."""
        quantized = self.quantized.get(name)
        if quantized is None:
            raise IntsimError(f"{name!r} is not the output of a quantizer")
        return quantized.unrounded(_flat(index, quantized.codes.shape))


def _flat(index: int | tuple[int, ...], shape: tuple[int, ...]) -> int:
    if isinstance(index, tuple):
        return int(np.ravel_multi_index(index, shape)) if shape else 0
    return int(index)
