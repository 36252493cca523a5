"""Dot products for a machine: operands as its multiplier takes them, a bias, and what the definition says of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Accumulation, accumulate_telemetry
from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.packing import accumulate_packed
from intsim.arithmetic.registers import Registers
from intsim.errors import IntsimError
from intsim.targets import Target
from intsim.testing.values import array_type, integers_of, weighted

BIAS = IntegerType(32, True)


class DotProduct(NamedTuple):
    """One dot product, or the several that a packed multiplier computes at once.

    `activation` and `weight` are (K,), in order of arrival, in the smallest NumPy types that hold the operands; `bias`
    is a Python int. On a target with packing they are (pixels, K), (channels, K) and an int64 array (channels,).
    """

    activation: NDArray[Any]
    weight: NDArray[Any]
    bias: Any


def path(machine: Target | Registers) -> Registers:
    """The multiply-accumulate path of a target."""
    return machine.registers if isinstance(machine, Target) else machine


def operand_types(
    machine: Target | Registers, activation: IntegerType | None = None, weight: IntegerType | None = None
) -> tuple[IntegerType, IntegerType]:
    """What the multiplier takes: as asked for, else as the target says, else UINT8 activations and INT8 weights."""
    given = path(machine)
    kinds = (
        activation or given.activation or IntegerType(8, False),
        weight or given.weight or IntegerType(8, True),
    )
    if sum(kind.bits for kind in kinds) > 63:
        raise IntsimError(f"operands {kinds[0]} x {kinds[1]}: products need more than 63 bits; choose narrower ones")
    return kinds


def defined(machine: Target | Registers, activation: Any, weight: Any, bias: Any = None) -> Accumulation:
    """What a machine's registers hold after a dot product: the definition, with overflow events and extremes.

    Args:
        machine: a target, or its registers; their order of arrival is that of the terms.
        activation: (..., K) integers; with packing (..., pixels, K).
        weight: broadcasts with activation; with packing (..., channels, K).
        bias: broadcasts to the result's shape; None for no bias. Preloaded, added last, or added to the result where
            the machine has it behind its registers.

    Returns:
        Accumulation of shape (...); with packing (..., channels, pixels). No stages: a plain sum, no telemetry.
    """
    registers = path(machine)
    a, w = np.asarray(activation).astype(np.int64), np.asarray(weight).astype(np.int64)
    start = bias if registers.bias == "preload" and bias is not None else 0
    late = bias if registers.bias == "after" else None
    if registers.packing is None:
        sums = accumulate_telemetry(a * w, registers.stages, start, late)
    else:
        products = w[..., :, None, :] * a[..., None, :, :]
        sums = accumulate_packed(products, registers.stages, registers.packing, start, late)
    if registers.bias == "requantizer" and bias is not None:
        return sums._replace(result=sums.result + np.asarray(bias, np.int64))
    return sums


@st.composite
def dot_products(
    draw: Any,
    machine: Target | Registers,
    max_terms: int = 256,
    activation: IntegerType | None = None,
    weight: IntegerType | None = None,
    bias: IntegerType | None = BIAS,
) -> DotProduct:
    """Dot products that a machine's multiplier takes: runs of boundary-weighted operands, and a boundary-weighted bias.

    Args:
        machine: a target, or its registers.
        max_terms: most products of one sum.
        activation: values to draw from, if not all that the machine takes.
        weight: likewise.
        bias: type of the bias; None for none (0).

    Raises:
        IntsimError: operands whose products don't fit int64.
    """
    registers = path(machine)
    kinds = operand_types(machine, activation, weight)
    packing = registers.packing
    sides = (1, 1) if packing is None else (len(packing.pixels), len(packing.channels))
    values = [st.lists(integers_of(k), min_size=n, max_size=n) for k, n in zip(kinds, sides, strict=True)]
    runs = draw(st.lists(st.tuples(*values, _repeats(registers, max_terms)), max_size=8))
    a, w = (
        np.array([v for run in runs for v in [run[i]] * run[2]], np.int64).reshape(-1, sides[i]).T[:, :max_terms]
        for i in range(2)
    )
    seed = draw(st.one_of(st.none(), st.integers(0, (1 << 32) - 1)))
    if seed is not None:
        rng = np.random.default_rng(seed)
        more = draw(st.integers(0, max_terms - a.shape[1]))
        a, w = (
            # cut from the whole, so that fewer terms are the first ones of more
            np.concatenate([x, weighted(rng, kind, (n, max_terms))[:, :more]], axis=1)
            for x, kind, n in zip((a, w), kinds, sides, strict=True)
        )
    a, w = a.astype(array_type(kinds[0])), w.astype(array_type(kinds[1]))
    biases = [0] * sides[1] if bias is None else draw(st.lists(integers_of(bias), min_size=sides[1], max_size=sides[1]))
    if packing is None:
        return DotProduct(a[0], w[0], biases[0])
    return DotProduct(a, w, np.array(biases, np.int64))


def _repeats(registers: Registers, max_terms: int) -> st.SearchStrategy[int]:
    """How often a pair of operands comes in a row: once, about as often as fills a group, or any number."""
    full, groups = 1, set()
    for stage in registers.stages:
        if stage.sum is None:
            groups.add(full * stage.lanes)
            break
        full *= stage.sum * stage.lanes
        groups.add(full)
    near = sorted({n + step for n in groups for step in (-1, 0, 1) if 1 <= n + step <= max_terms} | {1})
    return st.one_of(st.just(1), st.sampled_from(near), st.integers(1, max(max_terms, 1)))
