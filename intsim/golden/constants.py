"""What hardware holds of a requantizer: its constants as arrays, one row a cell, asked of the scheme itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.pieces import Formula
from intsim.arithmetic.requantizers.requantizer import Requantizer, Site
from intsim.golden.element import Element, Values
from intsim.graph import IntArray, Node, Tensor, rational_text
from intsim.ops.fused import ends
from intsim.ops.pieces import combined_range
from intsim.ops.requantize import accumulator
from intsim.targets import Target

Cells = Sequence[Mapping[str, Sequence[Any]]]
"""Of each cell, values by name."""
UNSAID = ("start", "bias", "constant")
"""Constants that aren't written where they say nothing: one piece, no bias, no constant piece."""


class Constants(NamedTuple):
    """Of one layer.

    `about` is what a manifest says of them; `arrays` are integers or floats by name, (cells, entries), or (cells,) of
    one entry; `sums` is what the requantizer multiplies where it adds several inputs, else None; `reach` its ends.
    """

    about: dict[str, Any]
    arrays: dict[str, tuple[Element, Values]]
    sums: IntArray | None = None
    reach: tuple[int, int] = (0, 0)


def of_requantizer(
    node: Node, arrays: list[IntArray], tensors: list[Tensor], target: Target, reach: tuple[int, int]
) -> Constants:
    """Of a requantize node on a target, whose accumulators are within `reach`.

    Raises IntsimError for a scale that the scheme doesn't take.
    """
    chosen, stages = target.requantize, target.stages
    sums, cells = accumulator(node, arrays, tensors, chosen)
    low, high = (min(reach[0], int(sums.min(initial=0))), max(reach[1], int(sums.max(initial=0))))
    held = [chosen.constants(f, stages, low, high) for f in cells]
    about = _about(chosen, cells, node.attributes["cells"])
    single = all(len(values) == 1 for cell in held for values in cell.values())
    kept = [{k: v for k, v in cell.items() if k not in UNSAID or _says(k, held, single)} for cell in held]
    about["register"] = _register(stages) if any("bias" in cell for cell in kept) else None
    made = _arrays(kept, about)
    if len(arrays) == 1:
        about["pieces"] = node.attributes["pieces"]
        return Constants(about, made)
    about["adds"] = "exactly" if chosen.adds_exactly else "one scale"
    coefficients = node.arrays["coefficients"]
    made["coefficient"] = _integers(coefficients.reshape(len(arrays), -1).T)
    if not chosen.adds_exactly:
        widest = max(max(abs(t.low), abs(t.high)) for t in tensors)
        shares = [chosen.shares([int(a) for a in column], widest) for column in made["coefficient"][1]]
        about["left_shift"] = shares[0][0]
        told = [_side_by_side([chosen.operand_constants(s) if s else {} for s in each]) for _, each, _ in shares]
        made |= {f"operand_{name}": value for name, value in _arrays(told, about, "operand_").items()}
    # rescaled inputs are added in 32 bits
    reach = combined_range(node, *tensors) if chosen.adds_exactly else (-(1 << 31), (1 << 31) - 1)
    return Constants(about, made, sums, reach)


def of_kernel(node: Node) -> Constants:
    """Of a kernel of a runtime (`intsim.ops.fused`)."""
    at = node.attributes
    chosen: Requantizer = at["requantizer"]
    about = _about(chosen, at["formulas"], at["cells"])
    about["sites"] = [_site(s) for s in at["sites"]]
    both = [ends(f) for f in at["formulas"]]
    if len(set(both)) == 1:
        about["low"], about["high"] = both[0]
    else:
        about["low"] = about["high"] = None
    told = [
        {name: list(value) if isinstance(value, tuple) else [value] for name, value in chosen.site_constants(s).items()}
        for s in at["sites"]
    ]
    made = _arrays(told, about)
    if len(set(both)) > 1:
        made |= {name: _integers(column) for name, column in zip(("low", "high"), np.array(both).T, strict=True)}
    return Constants(about, made)


def _about(chosen: Requantizer, cells: Sequence[Formula], shape: Sequence[int]) -> dict[str, Any]:
    first = cells[0]
    return {
        **{k: v for k, v in chosen.keys().items() if v not in (None, False)},
        "words": chosen.words(),
        "reads": chosen.reads,
        "model_rounding": str(first.rounding),
        "zero_point": first.zero,
        "low": first.low,
        "high": first.high,
        "cells": list(shape),
        "register": None,
        "rationals": {},
    }


def _register(stages: Sequence[Stage]) -> dict[str, Any] | None:
    return {"bits": stages[-1].bits, "overflow": stages[-1].overflow} if stages else None


def _says(name: str, held: Cells, single: bool) -> bool:
    return not single if name == "start" else any(any(cell.get(name, ())) for cell in held)


def _side_by_side(parts: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: [part.get(name, 0) for part in parts] for name in names}


def _arrays(cells: Cells, about: dict[str, Any], before: str = "") -> dict[str, tuple[Element, Values]]:
    """Constants by name; what is no number of 64 bits goes to the manifest, as text."""
    made = {}
    for name in dict.fromkeys(name for cell in cells for name in cell):
        size = max(len(cell.get(name, ())) for cell in cells)
        # the last entry again is the same function: the last one that is reached holds
        rows = [[*v, *[v[-1]] * (size - len(v))] for cell in cells for v in [list(cell.get(name, [0] * size))]]
        kinds = {type(v) for row in rows for v in row}
        if np.float32 in kinds or float in kinds:
            element = Element("f", 32 if np.float32 in kinds else 64)
            made[name] = element, _narrow(np.array(rows, element.dtype))
        elif Fraction in kinds or max(abs(int(v)) for row in rows for v in row) >= 1 << 63:
            about["rationals"][before + name] = [[rational_text(Fraction(v)) for v in row] for row in rows]
        else:
            made[name] = _integers(np.array(rows, np.int64))
    return made


def _integers(values: IntArray) -> tuple[Element, Values]:
    return Element.holding(int(values.min(initial=0)), int(values.max(initial=0))), _narrow(values)


def _narrow(values: Values) -> Values:
    """Without an axis of one entry."""
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _site(site: Site) -> dict[str, Any]:
    plain = {k: rational_text(v) if isinstance(v, Fraction) else v for k, v in site._asdict().items()}
    operands = [{"scale": rational_text(o.scale), "zero_point": o.zero, "sign": o.sign} for o in site.operands]
    return plain | {"operands": operands}


def products_about(node: Node, target: Target) -> dict[str, Any]:
    """Of a multiply-accumulate, its machine: order, registers, packing, place of the bias, padding."""
    packing = target.registers.packing
    return {
        "order": list(target.accumulate.order) if node.op != "matmul" else ["k"],
        "stages": [s.keys() for s in target.stages],
        "packing": None if packing is None else asdict(packing),
        "bias": target.accumulate.bias,
        "padding": target.accumulate.padding,
    }
