"""Matrix products through a target's registers, rows of activations and weights in order of arrival."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Stage, accumulate_telemetry, check_stages
from intsim.arithmetic.integers import as_integers
from intsim.engine.registers.plan import SLACK, RegisterPlan, largest_magnitude, register_plan
from intsim.engine.registers.rounded import rounded_matmul
from intsim.engine.registers.vectors import Mode
from intsim.errors import IntsimError

INT64_MAX = (1 << 63) - 1


class RegisterSums(NamedTuple):
    """Result and telemetry of a product, telemetry summed up over the M rows."""

    out: NDArray[np.int64]  # (M, N) value of the last register
    events: NDArray[np.int64]  # (N, stages) additions whose true sum left the register
    low: NDArray[np.int64]  # (N, stages) smallest true sum in the register's LSB, never above 0; saturated to int64
    high: NDArray[np.int64]  # (N, stages) largest true sum, never below 0; saturated to int64


def register_matmul(
    a: Any, w: Any, stages: Sequence[Stage], start: Any = None, bias: Any = None, mode: Mode = "extremes"
) -> RegisterSums:
    """Return a @ w.T accumulated through the registers, addition by addition.

    Args:
        a: (M, K) integers, e.g. the im2col of the activations; K in order of arrival.
        w: (N, K) integers, one row an output channel, K in the same order.
        stages: 1 or more; see `arithmetic.accumulate.check_stages`.
        start: (N,) bias preloaded into the last register, or None.
        bias: (N,) bias added into the last register after everything else, or None.
        mode: "extremes"; or "counted", which is several times as fast: low and high are 0; or "touched": events are 1
            where there is any.

    Returns:
        RegisterSums. Exactly what `arithmetic.accumulate.accumulate_telemetry` says for the products a[m, k] * w[n, k].

    Raises:
        IntsimError: shapes that do not match, non-integers, no stages, or products beyond int64.
    """
    stages = check_stages(stages)
    if not stages:
        raise IntsimError("register_matmul takes one stage or more, got none")
    activation, weight, added, _ = checked_operands(a, w, start, bias)
    given = (start is not None, bias is not None)
    if activation.size == 0 or weight.shape[0] == 0:
        sums = without_products(activation.shape[0], added, given, stages)
        return sums if mode != "touched" else sums._replace(events=np.minimum(sums.events, 1))
    first, late = (term if there else None for term, there in zip(added, given, strict=True))
    if stages[0].drop:
        chain = partial(register_matmul, mode=mode)
        told = RegisterSums(*rounded_matmul(activation, weight, stages, first, late, mode == "extremes", chain))
        return told if mode != "touched" else told._replace(events=np.minimum(told.events, 1))
    turned = activation.shape[0] < weight.shape[0]  # few positions: channels lie in the lanes instead
    fixed, moving = (activation, weight) if turned else (weight, activation)
    data, pitch = _planes(moving, mode)
    span = (int(moving.min()), int(moving.max()))
    offsets = np.arange(fixed.shape[1], dtype=np.int64) * pitch
    plan = register_plan(offsets, fixed, stages, span, first, late, mode, by_position=turned)
    out: NDArray[Any] = np.zeros((fixed.shape[0], moving.shape[0]), plan.dtype)
    seen = plan.run(data, (1, moving.shape[0], moving.shape[0]), out)
    low, high = seen[1:] if mode == "extremes" else (np.zeros_like(seen[0]), np.zeros_like(seen[0]))
    return RegisterSums((out if turned else out.T).astype(np.int64), seen[0], low, high)


class ColumnMatmul:
    """A product of few rows with constant weights: columns of the result lie in the lanes, weights are laid out once.

    Args:
        weights: (N, K) as the multiplier sees them, K in order of arrival, K at least 1.
        rows: M, how many rows of activations a run has.
        span: least and largest activation.
        stages, start, late: as `register_matmul` takes them.
    """

    def __init__(
        self, weights: NDArray[Any], rows: int, span: tuple[int, int], stages: Sequence[Stage], start: Any, late: Any
    ) -> None:
        """Lay the weights out."""
        self.columns, depth = weights.shape
        self.data, pitch = _planes(weights, "counted")
        ends = (int(weights.min()), int(weights.max()))
        offsets = np.arange(depth, dtype=np.int64) * pitch
        any_row = np.repeat(np.array(span, np.int64)[:, None], depth, axis=1)
        self.arguments = (offsets, np.zeros((rows, depth), np.int64), stages, ends, start, late)
        self.any_row, self.plans = any_row, dict[str, RegisterPlan]()

    def run(self, a: NDArray[Any], counts: bool) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Accumulators (M, N) of activations (M, K) within the span; events (N, stages), 1 for any if not counted."""
        plan = self._plan("counted" if counts else "touched").of(a)
        out: NDArray[Any] = np.empty((len(a), self.columns), plan.dtype)
        return out, plan.run(self.data, (1, self.columns, self.columns), out)[0]

    @property
    def narrow(self) -> bool:
        """Whether lanes have 16 bits: no other way over the products is quicker."""
        return self._plan("touched").shape.bits == 16

    def _plan(self, mode: Mode) -> RegisterPlan:
        if mode not in self.plans:
            self.plans[mode] = register_plan(*self.arguments, mode, by_position=True, among=self.any_row)
        return self.plans[mode]


def _planes(rows: NDArray[Any], mode: Mode) -> tuple[NDArray[Any], int]:
    """(M, K) as K planes of M elements each, in the narrowest type, and how far apart they are."""
    least, most = int(rows.min()), int(rows.max())
    kinds = (np.int64,) if mode == "extremes" else (np.uint8, np.int8, np.int16, np.int32, np.int64)
    kind = next(k for k in kinds if np.iinfo(k).min <= least and most <= np.iinfo(k).max)
    pitch = -(-rows.shape[0] // 64) * 64
    data = np.zeros(rows.shape[1] * pitch + SLACK, kind)
    planes = data[: rows.shape[1] * pitch].reshape(rows.shape[1], pitch)
    planes[:, : rows.shape[0]] = rows.astype(kind).T  # turning what is narrow already moves less memory
    return data, pitch


def checked_operands(
    a: Any, w: Any, start: Any, bias: Any
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64], int]:
    """Activations (M, K), weights (N, K), constants (2, N) and the largest magnitude a register adds; or IntsimError.

    Operands keep their dtype: a panel of uint8 is read eight times faster than one of int64.
    """
    activation, weight = _integers(a, "activations"), _integers(w, "weights")
    if activation.ndim != 2 or weight.ndim != 2 or activation.shape[1] != weight.shape[1]:
        raise IntsimError(f"activations {activation.shape} and weights {weight.shape} must be (M, K) and (N, K)")
    channels = weight.shape[0]
    constants = np.stack([_per_channel(start, channels, "start"), _per_channel(bias, channels, "bias")])
    largest_activation, largest_weight = largest_magnitude(activation), largest_magnitude(weight)
    product = largest_activation * largest_weight
    if product > INT64_MAX:
        raise IntsimError(f"products up to {product} do not fit int64")
    # operands count: they are cast to the lane as well
    return activation, weight, constants, max(product, largest_magnitude(constants), largest_activation, largest_weight)


def without_products(
    pixels: int, constants: NDArray[np.int64], given: tuple[bool, bool], stages: Sequence[Stage]
) -> RegisterSums:
    """No pixels, or registers that see no product: nothing to do fast."""
    nothing = np.zeros((constants.shape[1], 0), np.int64)
    empty = accumulate_telemetry(nothing, stages, constants[0], constants[1] if given[1] else None)
    out = np.broadcast_to(empty.result, (pixels, constants.shape[1])).copy()
    factors = (pixels, pixels > 0, pixels > 0)
    return RegisterSums(out, *(t * factor for t, factor in zip(empty[1:], factors, strict=True)))


def _integers(x: Any, what: str) -> NDArray[Any]:
    array = np.asarray(x)
    if array.dtype.kind not in "iu" or array.dtype == np.uint64:
        array = as_integers(array, what)
    if array.dtype == object:
        raise IntsimError(f"{what}: register_matmul takes integer arrays, not object arrays")
    return array


def _per_channel(values: Any, channels: int, what: str) -> NDArray[np.int64]:
    array = np.zeros(channels, np.int64) if values is None else _integers(values, what)
    if array.shape != (channels,):
        raise IntsimError(f"{what} has shape {array.shape}; it must be ({channels},), one value a channel")
    return array
