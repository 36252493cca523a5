"""A graph as a target runs it: of each node the arithmetic that its rules choose, and the constants its kernels have.

A kernel of a library is a multiply-accumulate with the requantizer behind it, or a pool, a sum, a product or a
concatenation with it; in the graph these are several nodes. A requantizer is asked for by the operator whose result it
takes, so that both are of one kernel. Movement of codes between them (reshape, transpose) belongs to neither.

Where a scheme makes its constants of scales apart, or computes from codes or elements instead of exact sums, the node
is exchanged for one that says so: a requantizer with other constants, a table of codes, or a `fused` node that reads
what the operator in front reads. All other nodes stay, and every tensor keeps its name.
"""

from __future__ import annotations

import math
import operator
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

from intsim.arithmetic.accumulate import Stage, restarted, with_lsb
from intsim.arithmetic.binary32 import nearest, quotient
from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.pieces import Formula
from intsim.arithmetic.requantizers.requantizer import Operand, Requantizer, Site, listed
from intsim.arithmetic.rounding import Rounding, round_fraction
from intsim.errors import IntsimError
from intsim.graph import LIMIT, IntArray, IntegerGraph, Node, Rationals, Tensor
from intsim.ops import LAYER_ENDS, OPS, Mac
from intsim.ops.fused import clipped, ends
from intsim.ops.pieces import pieces_json
from intsim.ops.pool import SumPool
from intsim.ops.requantize import formulas
from intsim.ops.table import MOST_CODES
from intsim.reals.interval import FUNCTIONS, exactly
from intsim.targets import Target
from intsim.targets.rules import Facts

MOVES = ("reshape", "transpose", "gather")
"""What may lie between an operator and its requantizer."""
SOURCES = {
    "sum_pool": "average_pool",
    "reduce_sum": "reduce",
    "mul": "mul",
    "concat": "concat",
    "interpolate": "resize",
    "softmax": "softmax",
    "layer_norm": "layer_norm",
}
"""Operators by the node whose integers a requantizer takes."""
GLOBAL = ("GlobalAveragePool", "QLinearGlobalAveragePool")
ALONE = {"Sigmoid": "sigmoid", "Tanh": "tanh", "HardSwish": "hard_swish"}
"""Functions of tables that kernels compute of codes alone, as `intsim.reals` has them."""
STAIRS = (
    "is a function of sums that no quantizer rounded, which no such kernel computes; put a quantizer in front of it"
)
MOVED = "is moved in front of its requantizer; such a kernel is one piece"
CONSTANTS = "adds or multiplies by constants in front of its quantizer, which no such kernel does"
CLAMPED = "a Relu or Clip in front of its quantizer cuts its codes, with which it runs in float32"
MOST_ENTRIES = 1 << 26
"""Most entries of the tables of one node (512 MiB)."""
MOST_MACHINES = 4
"""Machines of a graph that are kept."""


Tensors = Mapping[str, Tensor]


@dataclass
class Machine:
    """A graph on a target: `graph` is what runs; `own` and `exchanged` are of nodes whose arithmetic or place differs.

    Nodes, of this graph and of the one it is made of, go by their outputs.
    """

    graph: IntegerGraph
    target: Target
    own: dict[str, Target] = field(default_factory=dict)
    exchanged: dict[str, Node] = field(default_factory=dict)

    def arithmetic(self, node: Node) -> Target:
        """The target's arithmetic for a node, as a target without rules."""
        return self.own.get(node.output, self.target)

    def node(self, node: Node) -> Node:
        """What runs in a node's place."""
        return self.exchanged.get(node.output, node)


_Kept = OrderedDict[tuple[Target, str], tuple[list[object], Machine]]
_machines: dict[int, tuple[weakref.ref[IntegerGraph], _Kept]] = {}


def machine(graph: IntegerGraph, target: Target) -> Machine:
    """A graph as a target runs it, kept while its nodes and tensors are the same ones.

    Raises:
        IntsimError: the target refuses a node; one line that names both. Or it is of a runtime that rewrites files, and
            the graph is the file's.
    """
    if target.when:
        _check_executed(graph, target)
    own = bool(target.stages) and (isinstance(target.stages[0].restart, str) or target.stages[0].lsb is not None)
    if not target.when and not own and not _exchanges(target.requantize):
        return Machine(graph, target)
    number = id(graph)
    if number not in _machines or _machines[number][0]() is not graph:
        _machines[number] = weakref.ref(graph, lambda _: _machines.pop(number, None)), OrderedDict()
    kept, key = _machines[number][1], (target, target.name)
    parts: list[object] = [*graph.nodes, *graph.tensors.values()]
    if key not in kept or len(kept[key][0]) != len(parts) or not all(map(operator.is_, kept[key][0], parts)):
        kept[key] = parts, _machine(graph, target)
    kept.move_to_end(key)
    while len(kept) > MOST_MACHINES:
        kept.popitem(last=False)
    return kept[key][1]


def _check_executed(graph: IntegerGraph, target: Target) -> None:
    """Raise IntsimError for a graph that isn't the runtime's own, of the version that the target predicts."""
    if target.runtime is None or not target.runtime.rewrites:
        return
    by, version = target.runtime.name, target.runtime.version
    if graph.executed_by is None:
        raise IntsimError(
            f"target {target.name}: {by} rewrites a file when it loads it, and only its own graph is predicted; read "
            f"that one (--as {by}, intsim.load_executed)"
        )
    if graph.executed_by != f"{by} {version}":
        raise IntsimError(
            f"target {target.name}: predicts {by} {version}, and the graph is that of {graph.executed_by}; pip install "
            f"{by}=={version}"
        )


def arithmetic(target: Target, graph: IntegerGraph, node: Node) -> Target:
    """The target's arithmetic for a node of a graph, as a target without rules. Raises IntsimError as `machine`
    does."""
    return machine(graph, target).arithmetic(node)


def _exchanges(requantizer: Requantizer) -> bool:
    return requantizer.converts or requantizer.reads != "sum"


def _machine(graph: IntegerGraph, target: Target) -> Machine:
    makers = {n.output: n for n in graph.nodes}
    read = dict(graph.tensors)  # of integers that were moved without their scale, those that were moved
    for node in graph.nodes:
        moved = graph.tensors[node.output]
        bare = moved.scale.size == 1 and moved.scale.item() == 1 and not moved.offset.any()
        if node.op in MOVES and len(node.inputs) == 1 and bare and not node.attributes.get("renamed"):
            read[node.output] = read[node.inputs[0]]
    made = IntegerGraph(graph.name, {n: graph.tensors[n] for n in graph.inputs}, [], graph.inputs, graph.outputs)
    own: dict[str, Target] = {}
    exchanged: dict[str, Node] = {}
    for filed in graph.nodes:
        node, chosen = filed, target.plain
        if target.runtime is not None and target.runtime.even_ends and "even_ends" in node.attributes:
            node = _with_even_ends(node)
        runs = node
        if isinstance(OPS[node.op], Mac) or node.op in LAYER_ENDS:
            own_kernel = isinstance(OPS[node.op], Mac) or "operation" in node.attributes
            source = node if own_kernel else _source(graph, makers, node)
            try:
                facts = _facts(graph, node, source)
                chosen = _resolved(graph, source, target.of(facts))
                if target.others == "refused" and node.op == "requantize":
                    _check_ends(graph, node)
                    if isinstance(OPS[source.op], Mac):
                        _check_scales(graph, read, node, source)
                if node.op in LAYER_ENDS and _exchanges(chosen.requantize):
                    _check(read, node, source, facts, chosen.requantize)
                    _check_unmoved(makers, node, source, chosen.requantize)
                    runs = _exchanged(graph, read, node, source, chosen.requantize)
            except IntsimError as error:
                raise IntsimError(f"node {node.shown}: target {target.name}: {error}") from None
            own[node.output] = chosen
        if runs is not filed:
            exchanged[node.output] = runs
        made.add(runs, _described(graph, made, runs, chosen))
    return Machine(made, target.plain, own, exchanged)


def _with_even_ends(node: Node) -> Node:
    """A node that clips codes with the ends that a fused activation has where they are rounded half to even."""
    low, high = node.attributes["even_ends"]
    if node.op == "requantize":
        return replace(node, attributes={**node.attributes, "low": low, "high": high})
    inside = [[low, "1/1", "0/1"], [high, "0/1", f"{high}/1"]] if low < high else []
    pieces = [[[None, "0/1", f"{low}/1"], *inside]] * len(node.attributes["pieces"])
    return replace(node, attributes={**node.attributes, "pieces": pieces, "machine": True})


def _resolved(graph: IntegerGraph, node: Node, chosen: Target) -> Target:
    """With the places at which groups restart as numbers of the layer's products, and an LSB as bits of them."""
    if not chosen.stages or not isinstance(OPS[node.op], Mac):
        return chosen
    stages = chosen.stages
    if isinstance(stages[0].restart, str):
        stages = _restarted(graph, node, stages)
    if stages[0].lsb is not None:
        stages = with_lsb(stages, _unit(graph.tensors[node.output]))
    if stages is chosen.stages:
        return chosen
    return chosen.model_copy(update={"accumulate": chosen.accumulate.model_copy(update={"stages": stages})})


def _unit(sums: Tensor) -> int:
    """Of a layer whose sums are multiples of 2^n: n. Raises IntsimError for another layer."""
    scales = set(sums.scale.reshape(-1).tolist())
    if len(scales) > 1:
        raise IntsimError(
            "its products have scales of their own for each channel, which registers with an lsb do not; quantize "
            "weights with one scale a tensor"
        )
    scale = Fraction(scales.pop())
    top, bottom = scale.numerator, scale.denominator
    if scale <= 0 or top & (top - 1) or bottom & (bottom - 1):
        raise IntsimError(
            f"its products' LSB is {float(scale):.6g}, no power of two, which registers with an lsb can't be compared "
            "with; quantize with scales that are powers of two"
        )
    if any(sums.offset.reshape(-1)):
        raise IntsimError(
            f"its bias is no multiple of its products' LSB {float(scale):.6g}, and only such a one is cast to a "
            "register with an lsb; quantize the bias with that scale or a greater one"
        )
    return top.bit_length() - bottom.bit_length()


def _restarted(graph: IntegerGraph, node: Node, stages: Sequence[Stage]) -> tuple[Stage, ...]:
    weight = node.arrays.get("weight")
    depth = graph.tensors[node.inputs[0]].shape[-1]
    channels = depth
    if weight is not None and node.op != "matmul":
        channels, depth = weight.shape[1], prod(weight.shape[1:])
    return restarted(stages, channels, depth)


def _described(graph: IntegerGraph, made: IntegerGraph, node: Node, chosen: Target) -> Tensor:
    """A tensor with the range of the codes that the target can make, where that isn't the range of exact ones."""
    before = graph.tensors[node.output]
    inputs = [made.tensors[i] for i in node.inputs]
    if node.op == "requantize" and not chosen.requantize.exact:
        low, high = node.attributes["low"], node.attributes["high"]
        low, high = before.low if low is None else low, before.high if high is None else high
    elif node.op == "fused" or node.attributes.get("machine") or any(t is not graph.tensors[t.name] for t in inputs):
        try:
            low, high = OPS[node.op].value_range(node, *inputs)
        except IntsimError:  # it says nothing of codes that exact arithmetic never makes
            low, high = -LIMIT, LIMIT
    else:
        return before
    return before if (low, high) == (before.low, before.high) else replace(before, low=low, high=high)


def _source(graph: IntegerGraph, makers: dict[str, Node], node: Node) -> Node:
    """The operator whose integers a requantizer takes; the node itself where these are codes or it has several.

    A concatenation of codes of one scale only moves them: what quantizes behind it is a kernel of its own.
    """
    if node.op != "requantize" or len(node.inputs) != 1:
        return node
    maker = makers.get(node.inputs[0])
    while maker is not None and maker.op in MOVES and len(maker.inputs) == 1:
        maker = makers.get(maker.inputs[0])
    if maker is not None and maker.op == "concat":
        joined = graph.tensors[maker.output]
        if joined.scale.size == 1 and joined.offset.size == 1:
            return node
    return maker if maker is not None and (isinstance(OPS[maker.op], Mac) or maker.op in SOURCES) else node


def _facts(graph: IntegerGraph, node: Node, source: Node) -> Facts:
    """What rules ask of a multiply-accumulate, a requantizer or a table."""
    layer = tuple(dict.fromkeys(n for x in (source, node) for n in (x.shown, x.source, x.module, x.name) if n))
    activation = _name(graph.tensors[source.inputs[0]].type) if source.inputs else None
    output = None if isinstance(OPS[node.op], Mac) else _name(graph.tensors[node.output].type)
    same: dict[str, Any] = {"activation": activation, "output": output, "layer": layer}
    if source.op == "matmul":
        constant = len(source.inputs) == 1
        weight = _weight(source) if constant else _name(graph.tensors[source.inputs[1]].type)
        depth = graph.tensors[source.inputs[0]].shape[-1]
        named = "dense" if constant else "matmul"
        same["weight_zero"] = "weight_zero" in source.arrays
        return Facts(named, source.source_op, weight=weight, channels=depth, depth=depth, **same)
    if isinstance(OPS[source.op], Mac):
        shape, groups = source.arrays["weight"].shape, source.attributes.get("groups", 1)
        channels = graph.tensors[source.output].shape[1]
        op = "conv_transpose" if source.op == "conv_transpose" else "conv"
        if op == "conv" and shape[1] == 1 and (groups > 1 or channels == 1):
            op = "depthwise"
        more = {
            "weight": _weight(source),
            "weight_zero": "weight_zero" in source.arrays,
            "channels": graph.tensors[source.inputs[0]].shape[1],
            "multiplier": channels // groups,
            "grouped": groups > 1,
            "depth": prod(shape[1:]),
        }
        return Facts(op, source.source_op, **more, **_window(graph, source), **same)
    if source is not node:
        op = "global_average_pool" if source.source_op in GLOBAL else SOURCES[source.op]
        if op == "reduce":
            axes, rank = list(source.attributes["axes"]), len(graph.tensors[source.inputs[0]].shape)
            same["whole"] = rank > 2 and axes == list(range(2, rank)) and node.inputs[0] == source.output
        return Facts(op, source.source_op or None, **_window(graph, source), **same)
    if "operation" in node.attributes:
        kernel = node.source_op if node.source_op.startswith("QLinear") else node.attributes["operation"]["op"]
        return Facts(_two_sided(node) or node.op, kernel, **same)
    if node.op == "table":
        kernel = node.source_op if node.source_op.startswith("QLinear") else _function(node)
        return Facts("table", kernel or None, **same)
    if node.op == "staircase":
        return Facts("staircase", _function(node) or None, **same)
    if len(node.inputs) > 1:
        return Facts("add", node.source_op or None, **same)
    bent = any(sum(1 for _, scale, _ in pieces if Fraction(scale)) > 1 for pieces in node.attributes["pieces"])
    return Facts("leaky_relu" if bent else "requantize", node.source_op or None, **same)


def _function(node: Node) -> str:
    """The file's operator behind a table; of several, that of its quantizer."""
    functions = node.attributes.get("functions", [])
    return functions[0] if len(functions) == 1 else node.source_op


def _two_sided(node: Node) -> str | None:
    """What rules call a sum or product of codes and constant codes; None for another operator or a float constant."""
    about = node.attributes["operation"]
    if not all("codes" in o for o in about["operands"]):
        return None
    return {"Add": "add", "Sub": "add", "Mul": "mul"}.get(about["op"])


def _window(graph: IntegerGraph, node: Node) -> dict[str, Any]:
    """Kernel, stride, dilation and padding of a window, if the node has one."""
    at = node.attributes
    if "strides" not in at:
        return {}
    kernel = node.arrays["weight"].shape[2:] if node.op != "sum_pool" else tuple(at["kernel"])
    dilations, pads = at.get("dilations", [1] * len(kernel)), at["pads"]
    half = [d * (k - 1) // 2 for k, d in zip(kernel, dilations, strict=True)] * 2
    return {
        "padded": _padding(list(pads), half),
        "kernel": "x".join(map(str, kernel)),
        "stride": "x".join(map(str, at["strides"])),
        "dilation": "x".join(map(str, dilations)),
        "whole": not any(pads) and tuple(kernel) == tuple(graph.tensors[node.inputs[0]].shape[2:]),
    }


def _padding(pads: list[int], half: list[int]) -> str:
    """As `Facts.padded` says it."""
    rank = len(pads) // 2
    if not any(pads):
        return "no"
    return "half" if pads == half else "uneven" if pads[:rank] != pads[rank:] else "other"


def _weight(node: Node) -> str | None:
    return _name(IntegerType(**node.attributes["weight_type"])) if "weight_type" in node.attributes else None


def _name(kind: IntegerType | None) -> str | None:
    """As rules write it."""
    return None if kind is None else f"{'s' if kind.signed else 'u'}{kind.bits}"


def _check(read: Tensors, node: Node, source: Node, facts: Facts, requantizer: Requantizer) -> None:
    """Raise IntsimError where a scheme of operators is asked for another one, or for integers that are no codes."""
    if not requantizer.operators:
        return
    if facts.op not in requantizer.operators:
        raise IntsimError(f"scheme {requantizer.scheme} computes {listed(requantizer.operators)}, not {facts.op}")
    inputs = (source.inputs if source is not node else node.inputs)[: 1 if isinstance(OPS[source.op], Mac) else None]
    if any(read[i].type is None for i in inputs):
        raise IntsimError(f"reads integers that no quantizer made; scheme {requantizer.scheme} takes codes")


def _check_ends(graph: IntegerGraph, node: Node) -> None:
    """Raise IntsimError where a Relu or Clip ends at half a code: libraries make its ends codes in their own ways."""
    if "operation" in node.attributes:  # whose kernels compute the Clip itself
        return
    scale = graph.tensors[node.output].scale
    for formula, index in zip(formulas(node), np.ndindex(*node.attributes["cells"]), strict=True):
        for constant in {c for _, slope, c in formula.pieces if c and not slope}:
            step = _at(scale, index, node, graph)
            ratio = quotient(nearest(constant * step), step)
            inside = Fraction(float(np.float32(ratio + np.float32(formula.zero))))
            codes = {round_fraction(constant, formula.rounding) + formula.zero}
            codes.add(round_fraction(Fraction(float(ratio)), Rounding.HALF_AWAY) + formula.zero)
            codes.add(round_fraction(inside, Rounding.HALF_EVEN))
            if len({int(formula.clip(np.array([code]))[0]) for code in codes}) > 1:
                raise IntsimError(
                    "a Clip in front of its quantizer ends at half a code, which each kernel rounds in its own way; "
                    "move the end"
                )


def _check_scales(graph: IntegerGraph, read: Tensors, node: Node, source: Node) -> None:
    """Raise IntsimError where constants stand in front of a multiply-accumulate or behind it.

    One in front is part of the weights' scale, which is no float32 then, as a kernel's is, but by chance.
    """
    for formula, index in zip(formulas(node), np.ndindex(*node.attributes["cells"]), strict=True):
        site = _site(graph, read, node, source, formula, index)
        weight = site.unit / site.operands[0].scale
        if Fraction(float(nearest(weight))) != weight:
            raise IntsimError("a constant multiplies its activations or its weights, which no such kernel does")
        _check_plain(graph, read, node, formula, site, index)


def _check_unmoved(makers: dict[str, Node], node: Node, source: Node, requantizer: Requantizer) -> None:
    """Raise IntsimError where the file moves what an operator makes in front of its quantizer: these are two kernels.

    A node of the file may end with a movement of its own (a mean without the axes that it takes); a kernel that reads
    elements makes them in their order, so that only shapes may change.
    """
    if source is node or requantizer.reads == "sum":
        return
    before = makers[node.inputs[0]]
    while before is not source:
        own = before.source in (source.source, node.source)
        if not own or (requantizer.reads == "elements" and before.op != "reshape"):
            raise IntsimError(MOVED)
        before = makers[before.inputs[0]]


def _exchanged(graph: IntegerGraph, read: Tensors, node: Node, source: Node, requantizer: Requantizer) -> Node:
    """What runs in the place of a requantizer or a table; raises IntsimError where the scheme has no such kernel."""
    if requantizer.reads in ("codes", "floats") and _runs_whole(node, requantizer):
        return _of_operation(graph, node, requantizer)
    if node.op == "staircase":
        if requantizer.reads != "sum":
            raise IntsimError(STAIRS)
        return node
    if node.op == "table":
        if requantizer.reads not in ("table", "floats"):
            return node
        return _table(graph, node, [None], [_site(graph, read, node, node, None, ())], requantizer)
    if isinstance(OPS[source.op], Mac) and requantizer.takes_bias and requantizer.reads == "codes":
        node = _by_channel(graph, node, source)
    cells = tuple(node.attributes["cells"])
    own = formulas(node)
    sites = [_site(graph, read, node, source, f, index) for f, index in zip(own, np.ndindex(*cells), strict=True)]
    if requantizer.reads != "sum":
        for f, s, index in zip(own, sites, np.ndindex(*cells), strict=True):
            _check_plain(graph, read, node, f, s, index)
            _check_operands(graph, read, source, s)
            requantizer.suits(s)
            if not requantizer.clamps and ends(f) != (f.low, f.high):
                raise IntsimError(CLAMPED)
    if requantizer.reads == "sum":
        if len(node.inputs) > 1:
            raise IntsimError(f"adds tensors, which {requantizer.summary} does not; name add in a rule")
        converted = [requantizer.converted(f, s) for f, s in zip(own, sites, strict=True)]
        zeros = {f.zero for f in converted}
        if len(zeros) != 1:
            raise IntsimError("its channels have zero points of their own, which no such kernel has")
        changes = {"pieces": pieces_json([list(f.pieces) for f in converted]), "zero": zeros.pop()}
        return replace(node, attributes={**node.attributes, **changes})
    if requantizer.reads == "table":
        raise IntsimError(f"scheme {requantizer.scheme} computes tables of functions, not a requantizer")
    small = _codes(graph, node) is not None and not isinstance(OPS[source.op], Mac)
    if requantizer.reads == "codes" and len(node.inputs) == 1 and small:
        return _table(graph, node, own, sites, requantizer)
    whole = len(set(zip(own, sites, strict=True))) == 1
    if not whole and (requantizer.reads == "elements" or len(node.inputs) > 1):
        raise IntsimError(f"has parameters of its own for each channel; scheme {requantizer.scheme} takes one scale")
    reads = None if requantizer.reads == "codes" else source
    if source.op == "softmax":
        _check_softmax(source, read[source.inputs[0]])
    if requantizer.reads == "elements" and (source is node or len(source.inputs) != 1):
        raise IntsimError(f"scheme {requantizer.scheme} computes {' and '.join(requantizer.operators)} only")
    at = {
        "requantizer": requantizer,
        "source": reads,
        "formulas": own[:1] if whole else own,
        "sites": sites[:1] if whole else sites,
        "cells": list(cells),
        "output": list(graph.tensors[node.output].shape),
        "low": node.attributes["low"],
        "high": node.attributes["high"],
    }
    inputs = node.inputs if reads is None else reads.inputs
    return replace(node, op="fused", inputs=inputs, attributes=at, arrays={})


def _by_channel(graph: IntegerGraph, node: Node, source: Node) -> Node:
    """The requantizer of a layer with a cell for each channel, each of which has a bias of its own."""
    if node.inputs != (source.output,):
        raise IntsimError(MOVED)
    shape, cells = graph.tensors[source.output].shape, node.attributes["cells"]
    axis = len(shape) - 1 if source.op == "matmul" else 1
    wanted = [size if i == axis else 1 for i, size in enumerate(shape)]
    if "bias" not in source.arrays or list(cells) == wanted:
        return node
    if prod(cells) != 1:
        raise IntsimError("has scales along another axis than its channels")
    return replace(
        node, attributes={**node.attributes, "cells": wanted, "pieces": node.attributes["pieces"] * shape[axis]}
    )


def _codes(graph: IntegerGraph, node: Node) -> tuple[int, int] | None:
    """Ends of the integers that arrive, if a table may list them."""
    tensor = graph.tensors[node.inputs[0]]
    low, high = (tensor.low, tensor.high) if tensor.type is None else (tensor.type.min, tensor.type.max)
    low, high = min(low, tensor.low), max(high, tensor.high)
    return (low, high) if high - low < MOST_CODES else None


def _table(
    graph: IntegerGraph,
    node: Node,
    own: Sequence[Formula | None],
    sites: list[Site],
    requantizer: Requantizer,
) -> Node:
    """A table of what the machine makes of each code."""
    if node.op == "table":
        low, count = int(node.attributes["low"]), node.arrays["table"].shape[1]
        codes = np.arange(low, low + count)
        if len(node.arrays["table"]) != 1:
            raise IntsimError(f"has tables of its own for each channel; scheme {requantizer.scheme} makes one")
        function = _function(node)
        kind = graph.tensors[node.output].type
        if kind is None:
            raise IntsimError("makes no codes of a declared type")
        if function in ALONE:
            _check_alone(node, codes, function, sites[0])
        entries = np.clip(requantizer.of_table(codes, function, sites[0]), kind.min, kind.max)[None]
        return replace(node, attributes={**node.attributes, "machine": True}, arrays={**node.arrays, "table": entries})
    reach = _codes(graph, node)
    assert reach is not None
    codes = np.arange(reach[0], reach[1] + 1)
    done: dict[Any, Any] = {}
    for key in zip(own, sites, strict=True):
        if key not in done:
            formula, site = key
            assert formula is not None
            done[key] = clipped(requantizer.of_codes([codes], site), formula)
    table = np.stack([done[key] for key in zip(own, sites, strict=True)])
    at = {"low": reach[0], "cells": node.attributes["cells"], "functions": [requantizer.scheme], "machine": True}
    return replace(node, op="table", attributes=at, arrays={"table": table})


def _runs_whole(node: Node, requantizer: Requantizer) -> bool:
    """Whether a kernel computes the file's operator with its constants as the file has them."""
    return "operation" in node.attributes and (requantizer.reads == "floats" or _two_sided(node) is not None)


def _of_operation(graph: IntegerGraph, node: Node, requantizer: Requantizer) -> Node:
    """A table of what a kernel makes of each code and the constant of each cell."""
    about, out, reach, cells = (
        node.attributes["operation"],
        graph.tensors[node.output],
        _codes(graph, node),
        node.attributes["cells"],
    )
    if about["cut"] and not requantizer.clamps:
        raise IntsimError(CLAMPED)
    types = [o["type"] for o in about["operands"] if "type" in o]
    types += [{"bits": out.type.bits, "signed": out.type.signed}] if out.type is not None else []
    if any(t != types[0] for t in types):
        raise IntsimError("its operands and its result are of different types, which no such kernel takes")
    if reach is None or prod(cells) * (reach[1] - reach[0] + 1) > MOST_ENTRIES:
        raise IntsimError("has more constants and codes than a table may list")
    codes = np.arange(reach[0], reach[1] + 1)[None]
    constants = np.broadcast_to(node.arrays.get("constant", np.zeros(1, np.int64)), cells)
    distinct, row = np.unique(constants, return_inverse=True)
    operands: list[Any] = []
    sides: list[Operand] = []
    for i, o in enumerate(about["operands"]):
        scale, zero = o.get("codes", ("1/1", 0))
        sides.append(Operand(Fraction(scale), zero, -1 if i and about["op"] == "Sub" else 1))
        own = codes if i == about["tensor"] else distinct[:, None]
        operands.append(own if "codes" in o else own.astype(np.int32).view(np.float32))
    shapes = [tuple(o["shape"]) for o in about["operands"]]
    site = Site(
        tuple(sides),
        math.prod((s.scale for s in sides), start=Fraction(1)),
        Fraction(0),
        Fraction(about["result"][0]),
        about["result"][1],
        signed=out.type is not None and out.type.signed,
        still=_still(shapes) if len(shapes) > 1 else 1,
    )
    requantizer.suits(site)
    if requantizer.reads == "floats":
        table = requantizer.of_operator(about["op"], operands, about.get("parameters", ()), site)
    elif about["op"] == "Mul":
        (a, b), (left, right) = operands, sides
        table = requantizer.of_codes([(a - left.zero) * (b - right.zero)], site)
    else:
        table = requantizer.of_codes(operands, site)
    table = np.clip(np.broadcast_to(table, (len(distinct), codes.size)), *about["ends"])[row.reshape(-1)]
    at = {"low": reach[0], "cells": cells, "functions": [requantizer.scheme], "machine": True}
    return replace(node, op="table", attributes=at, arrays={"table": table})


def _check_alone(node: Node, codes: IntArray, function: str, site: Site) -> None:
    """Raise IntsimError where a table is not of that function alone: a constant in front of it is in its entries."""
    (operand,), table = site.operands, node.arrays["table"][0]
    for code, entry in zip(codes.tolist(), table.tolist(), strict=True):
        y = FUNCTIONS[ALONE[function]](64, [exactly(operand.scale * (code - operand.zero))], ())
        ends = [round_fraction(v / site.step, Rounding.HALF_EVEN) + site.zero for v in y]
        if entry not in np.clip(ends, table.min(), table.max()):
            raise IntsimError(f"is a table of more than {function}; quantize what stands in front of it")


def _site(
    graph: IntegerGraph, read: Tensors, node: Node, source: Node, formula: Formula | None, index: tuple[int, ...]
) -> Site:
    """What a kernel is given of one cell."""
    out, acc = graph.tensors[node.output], read[node.inputs[0]]
    if any(read[i] is not graph.tensors[i] and read[i].scale.size > 1 for i in node.inputs):
        raise IntsimError("reads moved integers with scales of their own for each channel")
    step = _at(out.scale, index, node, graph)
    zero = -_at(out.offset, index, node, graph) / step
    if zero.denominator != 1:
        raise IntsimError("its zero point is no integer")
    tensors = [read[i] for i in (node.inputs if source.op == "concat" else source.inputs)]
    operands = tuple(
        Operand(s := _at(t.scale, index, node, graph), _zero(_at(t.offset, index, node, graph), s)) for t in tensors
    )
    if formula is not None and len(node.inputs) > 1:
        operands = tuple(
            o._replace(sign=1 if int(_cell_value(c, index, node)) * formula.pieces[-1][1] >= 0 else -1)
            for o, c in zip(operands, node.arrays["coefficients"], strict=True)
        )
    still = _still([read[i].shape for i in node.inputs[:2]]) if len(node.inputs) > 1 else 1
    unit, slope = _at(acc.scale, index, node, graph), Fraction(0)
    bias, elements, stored = 0, 1, source.arrays.get("bias")
    if isinstance(OPS[source.op], Mac) and stored is not None and stored.size == prod(node.attributes["cells"]):
        bias = int(stored.reshape(node.attributes["cells"])[index])
    if source.op == "sum_pool":
        elements = _pooled(source, graph.tensors[source.inputs[0]].shape)
    if source.op == "reduce_sum":
        elements = prod(graph.tensors[source.inputs[0]].shape[a] for a in source.attributes["axes"])
    if formula is not None and source is node:
        scales = [s for _, s, _ in formula.pieces if s]
        slope = scales[0] / scales[-1] if len(scales) == 2 else slope
    signed = out.type is not None and out.type.signed
    origin = -_at(acc.offset, index, node, graph) / unit
    return Site(operands, unit, origin, step, int(zero), bias, elements, slope, signed, acc.scale.size == 1, still)


def _check_softmax(node: Node, x: Tensor) -> None:
    """Raise IntsimError for a factor in front of a softmax, which is in its table and in no scale."""
    if "mask" in node.arrays:
        raise IntsimError("has a mask in front of its softmax, which no such kernel does")
    table = node.arrays["table"]
    step = float(x.scale.reshape(-1)[0])
    if len(table) > 1 and table[1] > 1 and not 0.999 < math.log(int(table[0]) / int(table[1])) / step < 1.001:
        raise IntsimError("multiplies by a constant in front of its softmax, which no such kernel does")


def _check_operands(graph: IntegerGraph, read: Tensors, source: Node, site: Site) -> None:
    """Raise IntsimError where an operator reads numbers that aren't those of its codes: constants stand in front."""
    if source.op == "concat":
        axis, start = source.attributes["axis"], 0
        joined = graph.tensors[source.output]
        meanings = [np.broadcast_to(v, joined.shape) for v in (joined.scale, joined.offset)]
        for part in (read[i] for i in source.inputs):
            end = start + part.shape[axis]
            mine = [v.take(range(start, end), axis=axis) for v in meanings]
            if not all(np.all(m == v) for m, v in zip(mine, (part.scale, part.offset), strict=True)):
                raise IntsimError(CONSTANTS)
            start = end
        return
    if source.op not in ("sum_pool", "reduce_sum", "mul"):
        return
    scale, zeros = prod((o.scale for o in site.operands), start=Fraction(1)), [o.zero for o in site.operands]
    if source.op == "mul":
        same = site.unit == scale and list(source.attributes["zero_points"]) == zeros
    elif source.op == "reduce_sum":
        same = site.unit * site.elements == scale and site.origin == zeros[0] * site.elements
    else:
        same = scale / site.unit == _divisor(graph, source) and source.attributes["zero_point"] == zeros[0]
    if not same:
        raise IntsimError("sums up, and the scheme averages" if source.source_op == "ReduceSum" else CONSTANTS)


def _divisor(graph: IntegerGraph, pool: Node) -> int:
    """What a pool's weighted sums are divided by."""
    weight = pool.arrays["weight"]
    if pool.attributes.get("include_pad"):
        return int(weight.flat[0]) * prod(pool.attributes["kernel"])
    whole = replace(pool, attributes={**pool.attributes, "zero_point": 0})
    shape = graph.tensors[pool.inputs[0]].shape
    return int(SumPool().evaluate(whole, np.ones((1, 1, *shape[2:]), np.int64)).flat[0])


def _pooled(pool: Node, shape: tuple[int, ...]) -> int:
    """Elements by which kernels divide a window's sum; 0 where that is how many of them are no padding."""
    size = prod(pool.attributes["kernel"])
    if pool.attributes.get("include_pad"):
        return size
    whole = replace(pool, attributes={**pool.attributes, "zero_point": 0}, arrays={"weight": np.ones(1, np.int64)})
    inside = SumPool().evaluate(whole, np.ones((1, 1, *shape[2:]), np.int64))
    return size if (inside == size).all() else 0


def _still(shapes: Sequence[tuple[int, ...]]) -> int:
    """Which of two operands is broadcast along the innermost axis that isn't 1 in both; the first without such an axis.

    Axes that one of them lacks count for nothing, but where it has none at all.
    """
    rank = max(map(len, shapes))
    left, right = ((1,) * (rank - len(s)) + tuple(s) for s in shapes)
    for x, y in list(zip(reversed(left), reversed(right), strict=True))[: max(1, min(map(len, shapes)))]:
        if x != 1 or y != 1:
            return 1 if x == y or y == 1 else 0
    return 0


def _check_plain(
    graph: IntegerGraph, read: Tensors, node: Node, formula: Formula, site: Site, index: tuple[int, ...]
) -> None:
    """Raise IntsimError where something stands between the operator and its quantizer that no kernel computes.

    Constant pieces (a Relu, a Clip) and the one of a LeakyRelu's negative side may.
    """
    tensors = [read[i] for i in node.inputs]
    weights = node.arrays.get("coefficients", np.ones((len(tensors), 1), np.int64))
    factors = [_cell_value(np.asarray(w), index, node) for w in weights]
    slopes = [_at(t.scale, index, node, graph) / site.step for t in tensors]
    for _, scale, constant in formula.pieces:
        bend = abs(scale * factors[0]) / slopes[0] if site.slope and scale else Fraction(1)
        bend = -bend if site.slope < 0 and bend == abs(site.slope) else bend
        signs = [o.sign for o in site.operands] if len(tensors) > 1 else [1]
        wanted = [bend * s * sign for s, sign in zip(slopes, signs, strict=True)]
        shift = sum(
            (sign * _at(t.offset, index, node, graph) for t, sign in zip(tensors, signs, strict=True)), Fraction(0)
        )
        right = [
            f * scale for f in factors
        ] == wanted and constant + formula.zero == bend * shift / site.step + site.zero
        if scale and not right:
            raise IntsimError(CONSTANTS)


def _cell_value(values: IntArray, index: tuple[int, ...], node: Node) -> int:
    """The coefficient of a cell."""
    cells = tuple(node.attributes["cells"])
    return int(np.broadcast_to(values if cells else values.reshape(()), cells)[index])


def _zero(offset: Fraction, scale: Fraction) -> int:
    zero = -offset / scale
    if zero.denominator != 1:
        raise IntsimError("a zero point of its operands is no integer")
    return int(zero)


def _at(values: Rationals, index: tuple[int, ...], node: Node, graph: IntegerGraph) -> Fraction:
    """The parameter of a cell; parameters broadcast against the tensor as cells do."""
    if values.size == 1:
        return Fraction(values.reshape(-1)[0])
    shape = tuple(node.attributes["cells"]) if "cells" in node.attributes else ()
    rank = max(len(shape), values.ndim)
    full = (0,) * (rank - len(index)) + tuple(index)
    own = (1,) * (rank - values.ndim) + values.shape
    cells = (1,) * (rank - len(shape)) + shape
    if any(size > 1 and c == 1 for size, c in zip(own, cells, strict=True)):
        raise IntsimError("an operand has scales of its own for each channel where its quantizer has one")
    return Fraction(values.reshape(own)[tuple(i if size > 1 else 0 for i, size in zip(full, own, strict=True))])
