"""What parts of an accelerator take of an FPGA: formulas, linear in a few terms of widths, fitted to mapped modules.

`cost.json` holds the figures that Yosys gave, the coefficients that least squares makes of them, and the version of
Yosys. `python -m tests.rtl.report` writes it, and docs/measured/hardware.md with the residuals. Estimates are of counts
before packing and placement, each module by itself; they say nothing of clock frequency. Outside of the widths that
were mapped there is none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cache
from math import log2
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from intsim.errors import IntsimError

FILE = Path(__file__).with_name("cost.json")
KINDS = ("luts", "carries", "flip_flops", "dsps")
MULTIPLIERS = {"ecp5": ((18, 17), (18, 17)), "ice40": ((16, 16), (16, 16)), "xilinx": ((25, 24), (18, 17))}
"""Of each operand of one DSP its bits where it is signed, and of the unsigned pieces below; `generic` has none."""
ROUNDINGS = {1: "single", 2: "double"}
ROOM = 16
"""Cells that count as one error does of a small part: the fit weighs a difference by 1 / (measured + ROOM)."""


class Cost(NamedTuple):
    """Estimated cells of one part, integers and none below 0.

    Attributes:
        luts: lookup tables of whatever width (4 inputs on ECP5 and iCE40, up to 6 on xilinx); of `generic` gates of two
            inputs, multiplexers among them.
        carries: CCU2C of ECP5, which takes the place of two lookup tables; SB_CARRY of iCE40, which lies beside one;
            CARRY4 of xilinx, four bits.
        flip_flops: bits. dsps: multiplier blocks.
    """

    luts: int
    carries: int
    flip_flops: int
    dsps: int


class Part(NamedTuple):
    """What a formula is of.

    Attributes:
        ranges: of each argument, in which it was mapped; bits, or a number of levels.
        terms: from the arguments the terms that coefficients are of, the first 1.
        operands: from the variant and the arguments the bits of the two operands that are multiplied, if any.
    """

    ranges: dict[str, tuple[int, int]]
    terms: Callable[..., tuple[float, ...]]
    operands: Callable[..., tuple[int, int]] | None = None


PARTS = {
    "mac": Part(
        {"activation_bits": (6, 16), "weight_bits": (6, 16), "accumulator_bits": (12, 40)},
        lambda a, b, n: (1, n, a + b, a * b, n * (n > 32)),  # the adder in a block of ice40 has 32 bits
        lambda _, a, b, n: (a, b),
    ),
    "requantizer": Part(
        {"accumulator_bits": (16, 32), "multiplier_bits": (4, 32)},
        lambda n, m: (1, n, m, n * m),
        lambda variant, n, m: (32 if variant == "double ports" else n, m),  # shifted to the left in 32 bits
    ),
    "shift": Part({"accumulator_bits": (16, 32)}, lambda n: (1, n)),
    "threshold": Part({"levels": (1, 255), "accumulator_bits": (16, 32)}, lambda k, n: (1, k, k * n, k * log2(k))),
}
"""Parts and their formulas."""


class Figure(NamedTuple):
    """One module as it was mapped.

    Attributes:
        part: of PARTS; variant: which of its formulas it is of; fpga: the family.
        arguments: in the order of the part's ranges.
        held_out: whether the fit doesn't see it.
        cells: in the order of KINDS.
    """

    part: str
    variant: str
    fpga: str
    arguments: tuple[int, ...]
    held_out: bool
    cells: tuple[int, ...]


def blocks(fpga: str, left: int, right: int) -> int:
    """DSPs that a signed product of operands of these bits is cut into; 0 of `generic`."""
    if fpga not in MULTIPLIERS:
        return 0
    ways = [(left, right), (right, left)]
    return min(_pieces(x, *MULTIPLIERS[fpga][0]) * _pieces(y, *MULTIPLIERS[fpga][1]) for x, y in ways)


def _pieces(bits: int, most: int, lower: int) -> int:
    """Of a signed operand, the uppermost of them signed."""
    return 1 + max(0, -(-(bits - most) // lower))


def _terms(part: str, variant: str, fpga: str, kind: str, arguments: tuple[int, ...]) -> tuple[float, ...]:
    operands = PARTS[part].operands
    if kind == "dsps":
        return (blocks(fpga, *operands(variant, *arguments)) if operands else 0,)
    return PARTS[part].terms(*arguments)


def fit(figures: Iterable[Figure]) -> dict[str, list[float]]:
    """Coefficients by "part variant fpga kind", of figures that aren't held out.

    Least squares of differences that are weighed by 1 / (measured + ROOM), so that small parts count as large ones do.
    """
    groups: dict[str, list[tuple[tuple[float, ...], int]]] = {}
    for figure in figures:
        if not figure.held_out:
            for kind, cells in zip(KINDS, figure.cells, strict=True):
                terms = _terms(figure.part, figure.variant, figure.fpga, kind, figure.arguments)
                groups.setdefault(_key(figure.part, figure.variant, figure.fpga, kind), []).append((terms, cells))
    made = {}
    for key, points in groups.items():
        matrix, counts = np.array([terms for terms, _ in points], float), np.array([cells for _, cells in points])
        weight = 1 / (counts + ROOM)
        solved = np.linalg.lstsq(matrix * weight[:, None], counts * weight, rcond=None)[0]
        made[key] = [float(c) for c in solved.round(6)]
    return made


def _key(part: str, variant: str, fpga: str, kind: str) -> str:
    return " ".join((part, *variant.split(), fpga, kind))


def predict(fits: dict[str, list[float]], part: str, variant: str, fpga: str, arguments: tuple[int, ...]) -> Cost:
    """The formulas' values, rounded, none below 0."""
    values = []
    for kind in KINDS:
        value = np.dot(fits[_key(part, variant, fpga, kind)], _terms(part, variant, fpga, kind, arguments))
        values.append(max(0, round(float(value))))
    return Cost(*values)


@cache
def stored() -> tuple[str, tuple[Figure, ...], dict[str, list[float]]]:
    """What `cost.json` holds: the version of Yosys, the figures, the coefficients."""
    content: dict[str, Any] = json.loads(FILE.read_text(encoding="ascii"))
    figures = (Figure(p, v, f, tuple(a), h, tuple(c)) for p, v, f, a, h, c in content["figures"])
    return content["yosys"], tuple(figures), content["fits"]


def store(version: str, figures: Iterable[Figure]) -> None:
    """Write `cost.json` anew, of a figure a line."""
    figures = list(figures)
    rows = ",\n".join("  " + json.dumps(f) for f in figures)
    fits = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in fit(figures).items())
    text = f'{{\n "yosys": {json.dumps(version)},\n "figures": [\n{rows}\n ],\n "fits": {{\n{fits}\n }}\n}}\n'
    FILE.write_text(text, encoding="ascii")
    stored.cache_clear()


def _estimate(part: str, variant: str, fpga: str, **arguments: int) -> Cost:
    families = sorted({f.fpga for f in stored()[1]})
    if fpga not in families:
        raise IntsimError(f"FPGA {fpga!r}; there are figures of {', '.join(families)}")
    for (name, (low, high)), value in zip(PARTS[part].ranges.items(), arguments.values(), strict=True):
        if not low <= value <= high:
            raise IntsimError(f"{part}: {name} is {value}; there are figures of {low}..{high}")
    return predict(stored()[2], part, variant, fpga, tuple(arguments.values()))


def mac(fpga: str, activation_bits: int, weight_bits: int, accumulator_bits: int, overflow: str) -> Cost:
    """Cells of `mac.sv`: one multiplier of signed operands, one register, its bias preloaded.

    Args:
        fpga: "ecp5", "generic", "ice40" or "xilinx".
        activation_bits, weight_bits: 6..16. accumulator_bits: 12..40.
        overflow: "wrap" or "saturate".

    Raises:
        IntsimError: an FPGA or a rule without figures, widths outside of those ranges.
    """
    if overflow not in ("wrap", "saturate"):
        raise IntsimError(f"overflow is {overflow!r}; allowed: wrap, saturate")
    widths = dict(activation_bits=activation_bits, weight_bits=weight_bits, accumulator_bits=accumulator_bits)
    return _estimate("mac", overflow, fpga, **widths)


def requantizer(fpga: str, accumulator_bits: int, multiplier_bits: int, roundings: int, programmable: bool) -> Cost:
    """Cells of `requantize.sv` to a signed code of 8 bits, combinational.

    Args:
        fpga: "ecp5", "generic", "ice40" or "xilinx".
        accumulator_bits: 16..32.
        multiplier_bits: 4..32 with the sign; 0 where there is none and a shift alone rounds, half up.
        roundings: 1 (of the product, half up) or 2 (gemmlowp's; a shift by 32 bits before them where programmable).
        programmable: multiplier, shifts, bias and zero point are ports; else constants of one channel.

    Raises:
        IntsimError: an FPGA without figures, another number of roundings, widths outside of those ranges.
    """
    constants = "ports" if programmable else "constants"
    if roundings not in ROUNDINGS:
        raise IntsimError(f"roundings is {roundings!r}; allowed: 1, 2")
    if not multiplier_bits:
        if roundings != 1:
            raise IntsimError("a shift alone rounds once; give roundings 1, or multiplier_bits")
        return _estimate("shift", constants, fpga, accumulator_bits=accumulator_bits)
    widths = dict(accumulator_bits=accumulator_bits, multiplier_bits=multiplier_bits)
    return _estimate("requantizer", f"{ROUNDINGS[roundings]} {constants}", fpga, **widths)


def threshold(fpga: str, levels: int, accumulator_bits: int) -> Cost:
    """Cells of `threshold.sv` with constant thresholds, combinational.

    Args:
        fpga: "ecp5", "generic", "ice40" or "xilinx".
        levels: thresholds of the channel, 1..255: a code of B bits has 2^B - 1. accumulator_bits: 16..32.

    Raises:
        IntsimError: an FPGA without figures, arguments outside of those ranges.
    """
    return _estimate("threshold", "constants", fpga, levels=levels, accumulator_bits=accumulator_bits)
