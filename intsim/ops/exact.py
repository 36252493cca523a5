"""Exact integer matrix products through BLAS where a bound allows it."""

from __future__ import annotations

import numpy as np

from intsim.graph import IntArray

FLOAT32_EXACT = 2**24
FLOAT64_EXACT = 2**53


def exact_dtype(bound: int) -> type:
    """Narrowest carrier in which sums of products stay exact.

    `bound` is an upper bound of the sum of |products|, hence of every subset sum, in any order of addition. IEEE
    floats add integers exactly below 2**24 (float32) and 2**53 (float64), with or without fused multiply-add.
    """
    if bound < FLOAT32_EXACT:
        return np.float32
    if bound < FLOAT64_EXACT:
        return np.float64
    return np.int64


def absolute_bound(a_peak: int, w: IntArray) -> int:
    """Upper bound of sum |a*w| over the last axis of `w`, for |a| <= a_peak. Python integers: it can't overflow."""
    if w.size == 0:
        return 0
    sums = np.abs(w.astype(np.float64)).sum(axis=-1).max()
    return a_peak * (int(sums * (1 + 2**-40)) + 1)


def exact_matmul(a: IntArray, w: IntArray) -> IntArray:
    """`a @ w.T` for integer `a` (M, K) and `w` (N, K), exact, as int64 (M, N)."""
    peak = max(abs(int(a.min())), abs(int(a.max()))) if a.size else 0
    dtype = exact_dtype(absolute_bound(peak, w))
    return (a.astype(dtype) @ w.T.astype(dtype)).astype(np.int64)
