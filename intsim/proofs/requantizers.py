"""Whether a hardware requantizer equals the exact one on every accumulator that can reach it, cell by cell.

Nothing is sampled. For one input both are step functions, compared on whole intervals (`steps`), between the places
where a register or a shift wraps (`segments`), over the accumulators of the cell's channel (`reachable`). For several
inputs every combination of codes is tried, up to 2^22 a cell. What is too large stays undecided and is never called
equal. docs/requantizers.md says what a certificate claims.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.pieces import Formula
from intsim.arithmetic.registers import BiasPlace
from intsim.arithmetic.requantizers import of_width
from intsim.arithmetic.requantizers.requantizer import Requantizer, StepLimitError
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError
from intsim.graph import IntArray, IntegerGraph, Node, Tensor
from intsim.ops import OPS
from intsim.ops.pieces import cell_views, combine, combined_range
from intsim.ops.requantize import EXACT, formulas, requantize
from intsim.proofs.reachable import Machine, cell_ranges
from intsim.proofs.segments import intervals, segments
from intsim.proofs.steps import Runs, differing, merged

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
                    "differences": [
                        [d.low, d.high, d.least, d.most, *([] if d.kind == "value" else [d.kind])]
                        for d in c.differences
                    ],
                }
                for c in self.cells
            ],
        }


@dataclass(frozen=True)
class RequantizeNode:
    """A requantize node on a machine: its requantizer, and the registers before it (empty: unbounded).

    `runs` is what the machine runs in its place (`intsim.dispatch`): a requantizer with other constants, a table, or
    a kernel that reads codes or elements. None: the node itself.
    """

    graph: IntegerGraph
    node: Node
    requantizer: Requantizer
    stages: tuple[Stage, ...]
    runs: Node | None = None

    @property
    def mine(self) -> Node:
        """What the machine runs."""
        return self.runs or self.node

    @property
    def ordered(self) -> bool:
        """Whether the machine's kernel depends on the order of what the operator in front reads."""
        return self.mine.op == "fused" and self.mine.attributes["source"] is not None

    @property
    def tensors(self) -> list[Tensor]:
        """Its inputs."""
        return [self.graph.tensors[i] for i in self.node.inputs]

    @property
    def elementwise(self) -> bool:
        """Whether the output has the first input's shape."""
        return self.tensors[0].shape == self.graph.tensors[self.node.output].shape

    def cells(self) -> list[tuple[slice, ...]]:
        """Index of each cell in the output."""
        return list(cell_views(tuple(self.node.attributes["cells"]), len(self.graph.tensors[self.node.output].shape)))

    def cell_at(self, position: Sequence[int]) -> int:
        """The cell that holds an output element."""
        for cell, view in enumerate(self.cells()):
            if all(s == slice(None) or s.start == p for s, p in zip(view, position, strict=True)):
                return cell
        raise AssertionError("cells cover the tensor")

    def functions(self, cell: int) -> tuple[Callable[[int], int], Callable[[int], int]]:
        """Of one input: exact code and the machine's of an accumulator."""
        if self.ordered:
            raise IntsimError(f"node {self.node.shown}: runs in one piece with what is in front")
        return (
            lambda acc: int(self.exact(cell, np.array([acc], np.int64))[0]),
            lambda acc: int(self.codes(cell, np.array([acc], np.int64))[0]),
        )

    def exact(self, cell: int, acc: IntArray) -> IntArray:
        """Exact codes of accumulators of one cell."""
        if self.node.op == "table":
            return _entries(self.node, cell, acc)
        return EXACT.codes(formulas(self.node)[cell], acc)

    def codes(self, cell: int, acc: IntArray) -> IntArray:
        """The machine's."""
        if self.mine.op == "table":
            return _entries(self.mine, cell, acc)
        if self.mine.op == "fused":
            return _fused(self.mine, [acc], cell)
        return self.requantizer.codes(formulas(self.mine)[cell], acc, self.stages)

    def combinations(self) -> list[IntArray] | None:
        """Every combination of the inputs' codes, an array an input, to be broadcast; None: they are too many.

        An input read twice has one code.
        """
        tensors = {t.name: t for t in self.tensors}
        if math.prod(t.high - t.low + 1 for t in tensors.values()) > MOST_COMBINATIONS:
            return None
        grids = np.ix_(*(np.arange(t.low, t.high + 1) for t in tensors.values()))
        return [dict(zip(tensors, grids, strict=True))[name] for name in self.node.inputs]

    def coefficients(self) -> IntArray:
        """Of several inputs: (inputs, cells)."""
        cells = self.node.attributes["cells"]
        columns = np.broadcast_to(self.node.arrays["coefficients"], (len(self.node.inputs), *cells))
        return columns.reshape(len(self.node.inputs), -1)

    def single(self, cell: int) -> Node:
        """Of several inputs: a node of this one cell."""
        attributes = {**self.node.attributes, "cells": [1], "pieces": [self.node.attributes["pieces"][cell]]}
        return replace(self.node, attributes=attributes, arrays={"coefficients": self.coefficients()[:, cell, None]})

    def compared(self, cell: int, arrays: list[IntArray]) -> tuple[IntArray, IntArray, IntArray]:
        """Of one cell on several inputs: exact sums, exact codes and the machine's, of one shape."""
        single = self.single(cell)
        exact = requantize(single, arrays, self.tensors, EXACT, ())
        if self.mine.op == "fused":
            codes = _fused(self.mine, arrays)
        else:
            codes = requantize(single, arrays, self.tensors, self.requantizer, self.stages)
        return np.broadcast_to(combine(single, *arrays), exact.shape), exact, codes


def _entries(node: Node, cell: int, codes: IntArray) -> IntArray:
    """A table's entries; beyond its ends it reads them."""
    row = node.arrays["table"][cell]
    return row[np.clip(codes - int(node.attributes["low"]), 0, row.size - 1)]


def _fused(node: Node, arrays: list[IntArray], cell: int = 0) -> IntArray:
    """What a kernel makes of arrays of any shape, as those of one cell."""
    shape, at = list(np.broadcast_shapes(*(a.shape for a in arrays))), node.attributes
    own = cell if len(at["sites"]) > 1 else 0
    one = {"output": shape, "formulas": [at["formulas"][own]], "sites": [at["sites"][own]], "cells": [1]}
    return OPS["fused"].evaluate(replace(node, attributes={**at, **one}), *arrays)


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
        machine: registers and place of the bias of each multiply-accumulate in front, where they aren't all these.
        runs: what the hardware runs in the node's place, if that isn't the node (`RequantizeNode.runs`).

    Raises:
        IntsimError: not a requantize node.
    """
    asked = RequantizeNode(graph, node, requantizer, tuple(stages), runs)
    return _certificate(asked, machine or (lambda _: (stages, bias)))


def multiplier_widths(
    graph: IntegerGraph, node: Node, requantizer: Requantizer, stages: Sequence[Stage] = ()
) -> tuple[int, ...]:
    """All multiplier widths 4..32, ascending, with which a fixed-point requantizer equals exact semantics on the node.

    The first is the smallest; a wider one may fail where a narrower holds. A requantizer whose width can be searched
    rounds as it does; otherwise the full product is rounded once, half up.
    """

    def plain(_: Node) -> tuple[Sequence[Stage], BiasPlace]:
        return stages, "after"

    return tuple(
        bits
        for bits in range(4, 33)
        if _certificate(RequantizeNode(graph, node, of_width(requantizer, bits), tuple(stages)), plain, True).equal
    )


def _certificate(asked: RequantizeNode, machine: Machine, any_will_do: bool = False) -> RequantizerCertificate:
    node = asked.node
    if node.op != "requantize" and (node.op != "table" or asked.runs is None):
        raise IntsimError(f"node {node.shown}: is a {node.op}; certificates are for requantize nodes")
    try:
        cells = _cells(asked, machine, any_will_do)
    except IntsimError as error:
        return RequantizerCertificate(node.name, node.shown, False, (), str(error), refused=True)
    open_ = [c for c in cells if c.reason]
    reason = f"{len(open_)} of {len(cells)} cells undecided: {open_[0].reason}" if open_ else ""
    equal = not open_ and not any(c.count for c in cells)
    return RequantizerCertificate(node.name, node.shown, equal, cells, reason)


def _cells(asked: RequantizeNode, machine: Machine, any_will_do: bool) -> tuple[CellCertificate, ...]:
    """Cells with equal pieces and ranges (with several inputs: coefficients) are decided once."""
    if asked.node.op == "table":
        (tensor,) = asked.tensors
        count = len(asked.node.arrays["table"])
        return tuple(_listed(asked, cell, (tensor.low, tensor.high)) for cell in range(count))
    several = len(asked.node.inputs) > 1
    arrays = asked.combinations() if several else None
    ranges: Sequence[Any] = (
        [tuple(column) for column in asked.coefficients().T.tolist()]
        if several
        else cell_ranges(asked.graph, asked.node, machine)
    )
    done: dict[Any, CellCertificate] = {}
    cells = []
    own = formulas(asked.mine if asked.mine.op == "requantize" else asked.node)
    for index, key in enumerate(zip(formulas(asked.node), own, ranges, strict=True)):
        if asked.mine.op != "requantize" and not several:  # sites of cells may differ where their formulas don't
            cells.append(_listed(asked, index, key[2]))
            continue
        if key not in done:
            done[key] = _combined(asked, index, arrays) if several else _cell(asked, *key, any_will_do)
        cells.append(replace(done[key], cell=index))
        if any_will_do and done[key].count:
            break
    return tuple(cells)


def _listed(asked: RequantizeNode, cell: int, reach: tuple[int, int]) -> CellCertificate:
    """One cell of a table, or of a kernel that reads sums: every integer that can arrive is tried."""
    low, high = reach
    if asked.ordered:
        what = asked.mine.attributes["requantizer"].scheme
        return CellCertificate(cell, low, high, (), 0, f"{what} depends on the order of what is summed")
    if high - low >= MOST_COMBINATIONS:
        return CellCertificate(cell, low, high, (), 0, f"more than {MOST_COMBINATIONS} accumulators")
    acc = np.arange(low, high + 1)
    gap = asked.codes(cell, acc) - asked.exact(cell, acc)
    runs = merged(acc[gap != 0], acc[gap != 0], gap[gap != 0])
    return CellCertificate(cell, low, high, tuple(_differences(runs, "value")), int(np.count_nonzero(gap)))


def _cell(
    asked: RequantizeNode, formula: Formula, own: Formula, reach: tuple[int, int], any_will_do: bool
) -> CellCertificate:
    """One cell of a node with one input; `own` is the machine's formula."""
    low, high = reach
    requantizer, stages = asked.requantizer, asked.stages
    if requantizer == EXACT and own == formula:
        return CellCertificate(0, low, high, (), 0)  # one function
    try:
        cut = segments(own, low, high, requantizer, stages)
        hardware, exact = (r.prepared(f, stages, low, high) for r, f in ((requantizer, own), (EXACT, formula)))
        ends = np.array([v for s in cut if s.valid for v in (s.low, s.high)], np.int64)
        values = np.concatenate([hardware(ends), exact(ends)]) - formula.zero if ends.size else ends
        codes = (int(values.min()), int(values.max())) if values.size else (0, 0)
        nearest = formula.rounding in NEAREST and requantizer.rounding in (None, *NEAREST)
        runs = differing(hardware, exact, *intervals(cut, codes, not nearest), any_will_do)
    except StepLimitError as limit:
        return CellCertificate(0, low, high, (), 0, str(limit))
    refused = np.array([(s.low, s.high, 0) for s in cut if not s.valid], object).reshape(-1, 3)
    differences = _differences(merged(*refused.T), "precondition") + _differences(runs, "value")
    differences.sort(key=lambda d: d.low)
    return CellCertificate(0, low, high, tuple(differences), sum(d.high - d.low + 1 for d in differences))


def _differences(runs: Runs, kind: Literal["value", "precondition", "inputs"]) -> list[Difference]:
    columns = [a.tolist() for a in (runs.low, runs.high, runs.least, runs.most)]
    return [Difference(low, high, least, most, kind) for low, high, least, most in zip(*columns, strict=True)]


def _combined(asked: RequantizeNode, cell: int, arrays: list[IntArray] | None) -> CellCertificate:
    """One cell of a node with several inputs; no arrays: too many combinations."""
    if arrays is None:
        low, high = combined_range(asked.single(cell), *asked.tensors)
        exact = asked.requantizer == EXACT  # nothing to try: it is what hardware is compared with
        reason = "" if exact else f"more than {MOST_COMBINATIONS} combinations of its inputs' codes"
        return CellCertificate(0, low, high, (), 0, reason)
    sums, right, codes = asked.compared(cell, arrays)
    wrong = codes != right
    runs = merged(sums[wrong], sums[wrong], (codes - right)[wrong])
    differences = tuple(_differences(runs, "inputs"))
    return CellCertificate(0, int(sums.min()), int(sums.max()), differences, int(np.count_nonzero(wrong)))
