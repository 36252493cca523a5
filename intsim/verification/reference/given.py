"""Another executor's tensors snapped to the codes they stand for."""

from dataclasses import replace
from fractions import Fraction

import numpy as np

from intsim.errors import IntsimError
from intsim.verification.reference.quantize import Quantized, on_codes
from intsim.verification.reference.rational import floats, full_rank
from intsim.verification.reference.tensor import Tensor, grid


def snap(array: np.ndarray, q: Quantized) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """The codes that an executor's output of quantizer `q` stands for, as a tensor, and what was no code.

    An element is off the grid when it lies further from (code - zero_point) * scale than two roundings in the
    array's own float type explain (a subtraction and a multiplication, on numbers of that size), or when its code is
    outside of the quantizer's range; it is snapped to the nearest code all the same.

    Returns:
        The tensor that flows on, its codes (integer-valued floats), and the indices (k, rank) of what was no code.
    """
    if array.shape != q.codes.shape:
        raise IntsimError(f"the given array has shape {array.shape}, not {q.codes.shape}")
    numbers = array.astype(np.float64)
    if q.integer:
        codes = np.rint(numbers)
        off = array != codes
    else:
        scale, zero = (full_rank(floats(a), array.ndim) for a in (q.scale, q.zero_point))
        broken = ~np.isfinite(numbers)
        reached = np.where(broken, 0.0, numbers) / scale + zero
        codes = np.where(reached >= 0, 1.0, -1.0) if q.bipolar else np.rint(reached)
        precision = float(np.finfo(array.dtype if array.dtype.kind == "f" else np.float32).eps)
        room = 2 * precision * (np.abs(codes) + np.abs(zero))
        off = broken | (np.abs(reached - codes) > room)
    inside = np.clip(codes, full_rank(q.low, array.ndim), full_rank(q.high, array.ndim))
    off = off | (inside != codes)
    if q.integer:
        flows: Tensor = replace(grid(inside, Fraction(1), kind="i"), type=q.tensor.type)
    else:
        flows = on_codes(inside, q.scale, q.zero_point)
    return flows, inside, np.argwhere(off)
