"""Whether a hardware requantizer equals the exact one on every accumulator that can reach it, cell by cell.

Nothing is sampled. For one input both are step functions, compared on whole intervals (`steps`), between the places
where a register or a shift wraps (`segments`), over the accumulators of the cell's channel (`reach`). For several
inputs every combination of codes is tried, up to 2^22 a cell. What is too large stays undecided and is never called
equal. docs/requantizers.md says what a certificate claims.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.pieces import Formula
from intsim.arithmetic.registers import BiasPlace
from intsim.arithmetic.requantizers import of_width
from intsim.arithmetic.requantizers.requantizer import CellFunction, Requantizer, Segment, StepLimitError
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError
from intsim.graph import IntArray, IntegerGraph, Node, Tensor
from intsim.ops import OPS
from intsim.ops.pieces import combine
from intsim.ops.requantize import EXACT, formulas, requantize
from intsim.proofs.reachable import Machine, cell_ranges
from intsim.proofs.segments import intervals, segments
from intsim.proofs.steps import Runs, differing

MOST_COMBINATIONS = 1 << 22
"""Most combinations of input codes tried for one cell of a node with several inputs."""
NEAREST = (Rounding.HALF_EVEN, Rounding.HALF_AWAY, Rounding.HALF_TOWARD_ZERO, Rounding.HALF_UP)
Verdict = Literal["equal", "differs", "undecided", "refused"]


@dataclass(frozen=True, slots=True)
class Difference:
    """Neighbouring accumulators `low`..`high` at which hardware isn't exact.

    kind "value": on all of them hardware minus exact lies in least..most and is never 0.
    kind "precondition": on all of them the scheme refuses the value; least and most are 0.
    kind "inputs" (nodes with several inputs): each of them is the exact sum of at least one combination of inputs for
    which hardware differs; over those combinations hardware minus exact lies in least..most and is never 0.
    """

    low: int
    high: int
    least: int
    most: int
    kind: Literal["value", "precondition", "inputs"] = "value"


@dataclass(frozen=True)
class CellCertificate:
    """One cell, by its row-major position, over the accumulators low..high.

    `differences` are all there are, ascending; `count` is the number of accumulators in them (of combinations of inputs
    where there are several). `reason` says why the cell is undecided, and is empty when it isn't.
    """

    cell: int
    low: int
    high: int
    differences: tuple[Difference, ...]
    count: int
    reason: str = ""


@dataclass(frozen=True)
class RequantizerCertificate:
    """One requantize node on one scheme.

    `equal` is True only if hardware equals exact in every cell on every accumulator of its range. `reason` is empty
    where every cell is decided; otherwise it says what kept it undecided, or what the scheme refused (`refused`; then
    there are no cells).
    """

    node: str
    source: str
    equal: bool
    cells: tuple[CellCertificate, ...]
    reason: str = ""
    refused: bool = False

    @property
    def verdict(self) -> Verdict:
        """One word; a difference found counts more than a cell left undecided."""
        if self.refused:
            return "refused"
        if any(cell.count for cell in self.cells):
            return "differs"
        return "equal" if self.equal else "undecided"

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers; a difference is [low, high, least, most] or, by kind, five items."""
        return {
            "node": self.node,
            "source": self.source,
            "verdict": self.verdict,
            "equal": self.equal,
            "reason": self.reason,
            "cells": [
                {
                    "cell": c.cell,
                    "low": c.low,
                    "high": c.high,
                    "count": c.count,
                    "reason": c.reason,
                    "differences": [_difference_json(d) for d in c.differences],
                }
                for c in self.cells
            ],
        }


def _difference_json(d: Difference) -> list[Any]:
    return [d.low, d.high, d.least, d.most, *([] if d.kind == "value" else [d.kind])]


def certify_requantizer(
    graph: IntegerGraph,
    node: Node,
    requantizer: Requantizer,
    stages: Sequence[Stage],
    bias: BiasPlace = "after",
    machine: Machine | None = None,
    runs: Node | None = None,
) -> RequantizerCertificate:
    """Compare a requantize node's scheme with exact semantics over every accumulator that can reach each cell.

    Args:
        graph: the graph that holds the node.
        node: a requantize node.
        requantizer: the hardware's.
        stages: the hardware's accumulator; empty for unbounded.
        bias: where it adds the bias of the layer in front.
        runs: what the hardware runs in the node's place, if that isn't the node (`intsim.dispatch`).
        machine: registers and place of the bias of each multiply-accumulate in front, where they aren't all these.

    Raises:
        IntsimError: not a requantize node.
    """
    given = machine or (lambda _: (stages, bias))
    return _certificate(graph, node, requantizer, stages, given, runs or node, any_will_do=False)


def multiplier_widths(
    graph: IntegerGraph, node: Node, requantizer: Requantizer, stages: Sequence[Stage] = ()
) -> tuple[int, ...]:
    """All multiplier widths 4..32, ascending, with which a fixed-point requantizer equals exact semantics on the node.

    The first is the smallest; a wider one may fail where a narrower holds. A requantizer whose width can be searched
    rounds as it does; otherwise the full product is rounded once, half up.
    """
    return tuple(
        bits
        for bits in range(4, 33)
        if _certificate(
            graph, node, of_width(requantizer, bits), stages, lambda _: (stages, "after"), node, any_will_do=True
        ).equal
    )


def _certificate(
    graph: IntegerGraph,
    node: Node,
    requantizer: Requantizer,
    stages: Sequence[Stage],
    machine: Machine,
    runs: Node,
    any_will_do: bool,
) -> RequantizerCertificate:
    if node.op == "table" and runs is not node:
        cells: tuple[CellCertificate, ...] = _tables(graph, node, runs)
        return RequantizerCertificate(node.name, node.shown, not any(c.count for c in cells), cells)
    if node.op != "requantize":
        raise IntsimError(f"node {node.shown}: is a {node.op}; certificates are for requantize nodes")
    source = node.shown
    tensors = [graph.tensors[i] for i in node.inputs]
    try:
        if len(node.inputs) > 1:
            cells = _several_inputs(node, tensors, requantizer, stages, runs, any_will_do)
        elif runs.op == "table":
            cells = _listed(node, cell_ranges(graph, node, machine), runs)
        elif runs.op == "fused":
            cells = _summed(node, cell_ranges(graph, node, machine), runs)
        else:
            cells = _one_input(node, cell_ranges(graph, node, machine), requantizer, stages, runs, any_will_do)
    except IntsimError as error:
        return RequantizerCertificate(node.name, source, False, (), str(error), refused=True)
    open_ = [c for c in cells if c.reason]
    reason = f"{len(open_)} of {len(cells)} cells undecided: {open_[0].reason}" if open_ else ""
    equal = not open_ and not any(c.count for c in cells)
    return RequantizerCertificate(node.name, source, equal, cells, reason)


def _one_input(
    node: Node,
    ranges: list[tuple[int, int]],
    requantizer: Requantizer,
    stages: Sequence[Stage],
    runs: Node,
    any_will_do: bool,
) -> tuple[CellCertificate, ...]:
    """Cells with equal pieces and ranges are decided once."""
    done: dict[Any, CellCertificate] = {}
    cells = []
    for index, (formula, own, reach) in enumerate(zip(formulas(node), formulas(runs), ranges, strict=True)):
        key = (formula, own, reach)
        if key not in done:
            done[key] = _cell(formula, own, reach, requantizer, stages, any_will_do)
        cells.append(replace(done[key], cell=index))
        if any_will_do and done[key].count:
            break
    return tuple(cells)


def _tables(graph: IntegerGraph, node: Node, runs: Node) -> tuple[CellCertificate, ...]:
    """A table of the file against that of the machine, at every code that can arrive."""
    tensor, low = graph.tensors[node.inputs[0]], int(node.attributes["low"])
    reach = tensor.low, tensor.high
    rows = (n.arrays["table"][:, tensor.low - low : tensor.high - low + 1] for n in (node, runs))
    return tuple(_apart(i, reach, exact, mine) for i, (exact, mine) in enumerate(zip(*rows, strict=True)))


def _listed(node: Node, ranges: list[tuple[int, int]], runs: Node) -> tuple[CellCertificate, ...]:
    """Exact codes against a machine's table, at every code that can arrive."""
    first, cells = int(runs.attributes["low"]), []
    for i, (formula, (low, high), row) in enumerate(zip(formulas(node), ranges, runs.arrays["table"], strict=True)):
        exact = EXACT.codes(formula, np.arange(low, high + 1))
        cells.append(_apart(i, (low, high), exact, row[low - first : high - first + 1]))
    return tuple(cells)


def _summed(node: Node, ranges: list[tuple[int, int]], runs: Node) -> tuple[CellCertificate, ...]:
    """Exact codes against those that a machine makes of the same sums; of elements in their order nothing is
    decided."""
    cells = []
    for i, (formula, (low, high)) in enumerate(zip(formulas(node), ranges, strict=True)):
        if runs.attributes["source"] is not None or high - low > MOST_COMBINATIONS:
            reason = f"{runs.attributes['requantizer'].scheme} adds floats in their order"
            if runs.attributes["source"] is None:
                reason = f"more than {MOST_COMBINATIONS} accumulators"
            cells.append(CellCertificate(i, low, high, (), 0, reason))
            continue
        acc = np.arange(low, high + 1)
        mine = OPS["fused"].evaluate(replace(runs, attributes={**runs.attributes, "output": list(acc.shape)}), acc)
        cells.append(_apart(i, (low, high), EXACT.codes(formula, acc), mine))
    return tuple(cells)


def _apart(cell: int, reach: tuple[int, int], exact: IntArray, mine: IntArray) -> CellCertificate:
    """All accumulators of a reach at which two lists of codes differ, neighbours together."""
    difference = mine - exact
    wrong = np.flatnonzero(difference)
    if not wrong.size:
        return CellCertificate(cell, *reach, (), 0)
    starts = np.flatnonzero(np.concatenate([[True], np.diff(wrong) > 1]))
    ends = np.append(starts[1:], wrong.size) - 1
    least, most = (f.reduceat(difference[wrong], starts) for f in (np.minimum, np.maximum))
    where = Runs(wrong[starts] + reach[0], wrong[ends] + reach[0], least, most)
    return CellCertificate(cell, *reach, tuple(_differences(where, "value")), int(wrong.size))


def _cell(
    formula: Formula,
    own: Formula,
    reach: tuple[int, int],
    requantizer: Requantizer,
    stages: Sequence[Stage],
    any_will_do: bool,
) -> CellCertificate:
    low, high = reach
    try:
        cut = segments(own, low, high, requantizer, stages)
        refused = [Difference(s.low, s.high, 0, 0, "precondition") for s in cut if not s.valid]
        hardware, exact = (r.prepared(f, stages, low, high) for r, f in ((requantizer, own), (EXACT, formula)))
        runs = _compare(formula, cut, hardware, exact, requantizer, any_will_do)
    except StepLimitError as limit:
        return CellCertificate(0, low, high, (), 0, str(limit))
    differences = _joined(refused) + _differences(runs, "value")
    differences.sort(key=lambda d: d.low)
    return CellCertificate(0, low, high, tuple(differences), sum(d.high - d.low + 1 for d in differences))


def _compare(
    formula: Formula,
    cut: list[Segment],
    hardware: CellFunction,
    exact: CellFunction,
    requantizer: Requantizer,
    any_will_do: bool,
) -> Runs:
    ends = np.array([v for s in cut if s.valid for v in (s.low, s.high)], np.int64)
    values = np.concatenate([hardware(ends), exact(ends)]) - formula.zero if ends.size else ends
    codes = (int(values.min()), int(values.max())) if values.size else (0, 0)
    nearest = formula.rounding in NEAREST and requantizer.rounding in (None, *NEAREST)
    return differing(hardware, exact, *intervals(cut, codes, not nearest), any_will_do)


def _differences(runs: Runs, kind: Literal["value", "inputs"]) -> list[Difference]:
    columns = [a.tolist() for a in (runs.low, runs.high, runs.least, runs.most)]
    return [Difference(low, high, least, most, kind) for low, high, least, most in zip(*columns, strict=True)]


def _joined(parts: list[Difference]) -> list[Difference]:
    """Neighbouring intervals as one."""
    out: list[Difference] = []
    for part in parts:
        if out and out[-1].high + 1 == part.low:
            out[-1] = replace(out[-1], high=part.high)
        else:
            out.append(part)
    return out


def _several_inputs(
    node: Node, tensors: list[Tensor], requantizer: Requantizer, stages: Sequence[Stage], runs: Node, any_will_do: bool
) -> tuple[CellCertificate, ...]:
    """Every combination of the inputs' codes; an input read twice has one code."""
    names = list(dict.fromkeys(node.inputs))
    reach = {name: (t.low, t.high) for name, t in zip(node.inputs, tensors, strict=True)}
    sizes = [reach[n][1] - reach[n][0] + 1 for n in names]
    grids = []
    if math.prod(sizes) <= MOST_COMBINATIONS:
        for i, name in enumerate(names):
            codes = np.arange(reach[name][0], reach[name][1] + 1)
            grids.append(codes.reshape([-1 if i == j else 1 for j in range(len(names))]))
    arrays = [grids[names.index(name)] for name in node.inputs] if grids else []
    given = node.attributes["pieces"]
    shape = tuple(node.attributes["cells"])
    coefficients = node.arrays["coefficients"]
    columns = np.broadcast_to(coefficients, (len(tensors), *shape)).reshape(len(tensors), -1)
    done: dict[Any, CellCertificate] = {}
    cells = []
    for index, formula in enumerate(formulas(node)):
        column = columns[:, index]
        key = (formula, tuple(column.tolist()))
        if key not in done:
            attributes = {**node.attributes, "cells": [1], "pieces": [given[index]]}
            single = replace(node, attributes=attributes, arrays={"coefficients": column.reshape(-1, 1)})
            done[key] = _combinations(single, arrays, tensors, requantizer, stages, runs)
        cells.append(replace(done[key], cell=index))
        if any_will_do and done[key].count:
            break
    return tuple(cells)


def on_hardware(
    single: Node,
    runs: Node,
    arrays: list[IntArray],
    tensors: list[Tensor],
    requantizer: Requantizer,
    stages: Sequence[Stage],
) -> IntArray:
    """Codes of one cell with several inputs, by the node alone or by the kernel that runs in its place."""
    if runs.op != "fused":
        return requantize(single, arrays, tensors, requantizer, stages)
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    return OPS["fused"].evaluate(replace(runs, attributes={**runs.attributes, "output": list(shape)}), *arrays)


def _combinations(
    single: Node,
    arrays: list[IntArray],
    tensors: list[Tensor],
    requantizer: Requantizer,
    stages: Sequence[Stage],
    runs: Node,
) -> CellCertificate:
    """One cell; no arrays: too many combinations."""
    if not arrays:
        corners = [
            [int(c) * edge for edge in (t.low, t.high)]
            for c, t in zip(single.arrays["coefficients"].reshape(-1), tensors, strict=True)
        ]
        low, high = sum(map(min, corners)), sum(map(max, corners))
        if requantizer == EXACT:  # nothing to try: it is what hardware is compared with
            return CellCertificate(0, low, high, (), 0)
        return CellCertificate(0, low, high, (), 0, f"more than {MOST_COMBINATIONS} combinations of its inputs' codes")
    exact = requantize(single, arrays, tensors, EXACT, ())
    hardware = on_hardware(single, runs, arrays, tensors, requantizer, stages)
    sums = np.broadcast_to(combine(single, *arrays), exact.shape)
    difference = (hardware - exact).reshape(-1)
    wrong = np.flatnonzero(difference)
    low, high = int(sums.min()), int(sums.max())
    if not wrong.size:
        return CellCertificate(0, low, high, (), 0)
    at, difference = sums.reshape(-1)[wrong], difference[wrong]
    order = np.argsort(at, kind="stable")
    at, difference = at[order], difference[order]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(at) > 1]))
    ends = np.append(starts[1:], at.size) - 1
    least, most = np.minimum.reduceat(difference, starts), np.maximum.reduceat(difference, starts)
    where = Runs(at[starts], at[ends], least, most)
    return CellCertificate(0, low, high, tuple(_differences(where, "inputs")), int(wrong.size))
