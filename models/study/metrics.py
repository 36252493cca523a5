"""Figures of merit of the study, fixed before any of its networks was measured; float64 throughout.

What `models.evaluate` measures of every zoo network is taken from there; depth, structure and bits come in addition.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from intsim.errors import IntsimError
from models import evaluate
from models.stereo import DISPARITY_RANGE

WINDOW = 4
"""Side of the windows of the structural similarity, in pixels."""
SMALLEST = DISPARITY_RANGE / 256
"""Smallest disparity that has a depth, in pixels: one step of a plain 8-bit output, for every network alike."""


def accuracy(predicted: ArrayLike, truth: ArrayLike, valid: ArrayLike, smallest: float = SMALLEST) -> dict[str, float]:
    """Compare disparity maps with the ground truth over the valid pixels; arrays ``(..., H, W)``, in pixels.

    epe, epe_median, bad3, d1: see `models.evaluate.accuracy`. rmse: root of the mean squared error, in pixels.
    abs_rel: mean of ``|1/d - 1/d*| d*``, the relative error of depth, which is a constant over disparity; focal length
    and baseline cancel. Both disparities are raised to `smallest` first, where depth would grow without bound. s_c: see
    `s_c`. All are NaN where no pixel is valid.

    Raises:
        IntsimError: shapes differ.
    """
    keep = np.asarray(valid, bool)
    estimate, actual = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if not estimate.shape == actual.shape == keep.shape or estimate.ndim < 2:
        raise IntsimError(f"accuracy takes maps of one shape, not {estimate.shape}, {actual.shape} and {keep.shape}")
    if not keep.any():
        return dict.fromkeys((*evaluate.accuracy([0.0], [0.0], [True]), "rmse", "abs_rel", "s_c"), math.nan)
    near, goal = (np.maximum(array[keep], smallest) for array in (estimate, actual))
    return {
        **evaluate.accuracy(estimate, actual, keep),
        "rmse": float(np.sqrt(((estimate[keep] - actual[keep]) ** 2).mean())),
        "abs_rel": float((np.abs(1 / near - 1 / goal) * goal).mean()),
        "s_c": s_c(estimate, actual, keep),
    }


def s_c(predicted: ArrayLike, truth: ArrayLike, valid: ArrayLike) -> float:
    """Structural similarity of two disparity maps, at most 1; arrays ``(..., H, W)``, `valid` bool.

    The mean cosine similarity of the 15 coefficients that the DCT of a 4 x 4 window has besides DC, over all windows at
    every pixel. The paper says that zero coefficients are discarded; that is read as DC, as a coefficient that is zero
    in both maps changes no cosine. The DCT is orthonormal, hence the cosine is computed as that of the windows less
    their means, the correlation of their pixels. Windows with an invalid pixel or a constant truth are left out, so
    all networks are judged on the same windows; a constant prediction of a truth that is not constant counts 0. Gives
    NaN where no window is left.
    """
    keep = np.asarray(valid, bool)
    if min(keep.shape[-2:]) < WINDOW:
        return math.nan
    actual, estimate = _windows(np.asarray(truth, np.float64)), _windows(np.asarray(predicted, np.float64))
    used = _windows(keep).all((-2, -1)) & (np.ptp(actual, (-2, -1)) > 0)
    if not used.any():
        return math.nan
    wanted, got = actual[used].reshape(-1, WINDOW**2), estimate[used].reshape(-1, WINDOW**2)
    cosine = (_unit(wanted) * _unit(got)).sum(1)
    return float(np.clip(cosine, -1, 1).mean())


def _unit(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Windows ``(N, 16)`` less their means, scaled to length 1; 0 where a window is constant."""
    rest = np.where(np.ptp(windows, 1, keepdims=True) > 0, windows - windows.mean(1, keepdims=True), 0.0)
    largest = np.abs(rest).max(1, keepdims=True)  # squares of what is tiny would vanish
    rest = rest / np.where(largest > 0, largest, 1.0)
    return rest / np.maximum(np.sqrt((rest**2).sum(1, keepdims=True)), 1.0)


def _windows(maps: NDArray[np.generic]) -> NDArray[np.generic]:
    return sliding_window_view(maps, (WINDOW, WINDOW), (-2, -1))


def error(quantized: ArrayLike, reference: ArrayLike, disparity_range: float = DISPARITY_RANGE) -> dict[str, float]:
    """Compare a quantized network's disparities with its own float ones; arrays of one shape, in pixels.

    mean, median, rmse, robust_sd, jump_rate: see `models.evaluate.quantization_error`; the jump threshold is 1.5 edges
    of the 2-D curve of order 3, whatever the network. effective_bits: ``log2(range / (sqrt(12) robust_sd))``, the width
    of the uniform quantizer of the range whose error has this standard deviation; effective_bits_rmse: the same of
    rmse, which sees jumps. Infinite where there is no error. Of a uniform error robust_sd is 1.28 standard deviations:
    an exact 8-bit output has 8 effective bits by rmse and 7.64 by robust SD. All are NaN where there are no pixels.

    Raises:
        IntsimError: shapes differ.
    """
    first, second = np.asarray(quantized, np.float64), np.asarray(reference, np.float64)
    if first.shape != second.shape:
        raise IntsimError(f"error takes arrays of one shape, not {first.shape} and {second.shape}")
    if not first.size:
        keys = evaluate.quantization_error([0.0], [0.0], disparity_range)
        return dict.fromkeys((*keys, "effective_bits", "effective_bits_rmse"), math.nan)
    estimate = evaluate.quantization_error(first, second, disparity_range)
    bits = {"effective_bits": estimate["robust_sd"], "effective_bits_rmse": estimate["rmse"]}
    return {**estimate, **{key: _bits(disparity_range, sd) for key, sd in bits.items()}}


def _bits(disparity_range: float, sd: float) -> float:
    return math.log2(disparity_range / (math.sqrt(12) * sd)) if sd else math.inf
