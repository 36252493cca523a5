"""The order of elements in files: which axis of a tensor comes first, by the conventions of those who read them.

| order | activations of convolutions and pools | weights of convolutions | weights of dense layers |
|---|---|---|---|
| NCHW | as in ONNX: channels before positions | O I H W | K N, inputs before outputs |
| NHWC | channels last | O H W I | K N |
| hls4ml | channels last, as Keras | H W I O | K N |
| finn | channels last, each position's channels from a new word on | (H W I) O, the matrix MW x MH | K N |

Sources: hls4ml, docs/frontend/pytorch.rst (channels-last convention of Keras); FINN,
transformation/streamline lowering of convolutions (weights [OFM][IFM][kH][kW] to [kH*kW*IFM][OFM], activations NHWC)
and custom_op/fpgadataflow/matrixvectoractivation.py (folded inputs: MW // SIMD words of SIMD elements) with
util/data_packing.py, npy_to_rtlsim_input (the first element in the lowest bits).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Order = Literal["NCHW", "NHWC", "finn", "hls4ml"]
ORDERS: tuple[str, ...] = get_args(Order)
POSITIONS = {3: "L", 4: "HW", 5: "DHW"}
"""Axes of positions by a tensor's rank."""


@dataclass(frozen=True)
class Layout:
    """How a tensor is stored.

    Attributes:
        axes: names of the axes as they are stored, one letter each; empty where they have none.
        permutation: axis i of what is stored is axis `permutation[i]` of the tensor.
        joined: whether all axes but the last are one in the stored shape.
    """

    axes: str
    permutation: tuple[int, ...]
    joined: bool = False

    def stored(self, array: NDArray[Any]) -> NDArray[Any]:
        """A tensor as it is stored."""
        out = array.transpose(self.permutation)
        return np.ascontiguousarray(out.reshape(-1, out.shape[-1]) if self.joined else out)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of a tensor as it is stored."""
        moved = tuple(shape[i] for i in self.permutation)
        return (int(np.prod(moved[:-1], dtype=np.int64)), moved[-1]) if self.joined else moved

    def place(self, index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The position in a tensor of that shape of what is stored at a place, counted through."""
        moved = np.unravel_index(index, [shape[i] for i in self.permutation])
        out = [0] * len(shape)
        for axis, at in zip(self.permutation, moved, strict=True):
            out[axis] = int(at)
        return tuple(out)


def of_data(rank: int, channels_first: bool, order: str) -> Layout:
    """Of codes, accumulators and registers; `channels_first` where axis 1 holds channels and positions follow."""
    if not channels_first or rank not in POSITIONS:
        return Layout({1: "C", 2: "NC", 3: "NTC"}.get(rank, ""), (*range(rank),))
    if order == "NCHW":
        return Layout("NC" + POSITIONS[rank], (*range(rank),))
    return Layout("N" + POSITIONS[rank] + "C", (0, *range(2, rank), 1))


def of_weights(rank: int, convolution: bool, order: str) -> Layout:
    """Of a convolution's (O, I, positions), else of a matrix (..., K, N)."""
    if not convolution or rank not in POSITIONS:
        return Layout("KN" if rank == 2 else "", (*range(rank),))
    where = POSITIONS[rank]
    if order == "NCHW":
        return Layout("OI" + where, (*range(rank),))
    if order == "NHWC":
        return Layout("O" + where + "I", (0, *range(2, rank), 1))
    return Layout(where + "IO", (*range(2, rank), 1, 0), joined=order == "finn")


def as_is(rank: int) -> Layout:
    """Of constants, in the tensor's own order."""
    return Layout("", (*range(rank),))
