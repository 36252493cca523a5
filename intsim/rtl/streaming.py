"""A whole layer that streams: line buffer, multiply-accumulates and requantizer, on what a network gives it."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from intsim.arithmetic.accumulate import Stage, check_stages
from intsim.arithmetic.integers import IntegerType
from intsim.dispatch import Machine, machine
from intsim.errors import IntsimError
from intsim.golden.layers import Layer, chosen, layers
from intsim.golden.vectors import steps
from intsim.graph import IntArray, IntegerGraph, Node
from intsim.inputs import Inputs, samples_of
from intsim.mac.operands import Operands
from intsim.mac.plan import Plan, plan
from intsim.model import Model
from intsim.ops import OPS, Mac
from intsim.ops.conv import kernel_axes
from intsim.rtl import modules
from intsim.rtl.design import MOST_ELEMENTS, Design, Port
from intsim.rtl.kinds import BIAS_MODES, Kind, check_registers, of_dot, port, smallest
from intsim.rtl.layers import requantize, threshold
from intsim.rtl.vectors import packed
from intsim.targets import Target

MOST_PE = 8
"""Channels that are added at once unless it is said."""
AXES = (2, 0, 1)
"""What convolve.sv calls the axes input channel, kernel row, kernel column."""
WEIGHTS_FILE, BIAS_FILE = "weights.hex", "bias.hex"


class Window(NamedTuple):
    """A layer as convolve.sv has it: a matrix product is a window of one place over a line of rows."""

    shape: tuple[int, int, int]  # channels, rows, columns of an image
    out: tuple[int, int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int]  # top, left
    groups: int
    order: tuple[int, ...]


def stream(
    model: Model, name: str, target: Target, inputs: Inputs | None, pe: int | None, vectors: int, seed: int
) -> Kind:
    """A layer of a model on a target, codes in and codes out, one a cycle at most, both in the order NHWC.

    Rows are what the layer reads and makes when the network runs on `inputs`, else on samples that are drawn until
    there are `vectors` rows of outputs.

    Args:
        pe: output channels that are added at once, a divisor of those of a group.

    Raises:
        IntsimError: a layer that isn't a convolution of at most two dimensions or a matrix product with constant
            weights next to its requantizer; what the target does with it has no module; a bad `pe`.
    """
    runs = machine(model.graph, target)
    of = chosen(layers(runs.graph, model.graph), [name], model.path)
    if len(of) > 1:
        raise IntsimError(f"{model.path}: {len(of)} layers bear the name {name}: {', '.join(x.name for x in of)}")
    head, end = of[0].head, of[0].end if len(of[0].nodes) > 1 else None
    op = OPS[head.op]
    if not isinstance(op, Mac) or head.op == "conv_transpose" or len(head.inputs) > 1:
        raise IntsimError(
            f"layer {name} is a {of[0].op}; the module is of convolutions and matrix products with constant weights"
        )
    own = runs.arithmetic(head)
    tensor = model.graph.tensors[head.inputs[0]]
    window = _window(head, op, tensor.shape, own.accumulate.order)
    step = _engines(head, window, pe)
    back = None if end is None else _requantizer(model, end, own, target, seed)
    acc = smallest(*_ends(runs.graph, head, own)) if back is None else _port(back, "acc").bits
    planned = plan(head, op, [tensor], own.registers)
    weights = op.weight_rows(head, head.arrays["weight"] + planned.operands.w_shift, own.accumulate.order)
    stages, mode, added = _sums(head, op, own, planned, weights, acc)
    reads = _range(tensor.low, tensor.high) if tensor.type is None else tensor.type
    a, b = _operand_types(own, planned.operands, (tensor.low, tensor.high), weights)
    bias_bits = max(2, smallest(*added.tolist()))
    parameters: dict[str, Any] = {
        "CODE": reads.bits,
        "CODE_SIGNED": int(reads.signed),
        "SHIFT": planned.operands.x_shift,
        "PAD": planned.operands.pad,
        **_geometry(window, step),
        "WEIGHTS": f'"{WEIGHTS_FILE}"',
        "BIAS_FILE": f'"{BIAS_FILE}"',
        **{k: v for k, v in of_dot(stages, a, b, bias_bits, mode).items() if k not in ("DROP", "ROUNDING")},
    }
    folds = len(weights) // step
    words = packed(weights.reshape(folds, step, -1).transpose(0, 2, 1).reshape(-1, step), b.bits)
    tables = {WEIGHTS_FILE: (words, b.bits * step)}
    if mode:
        tables[BIAS_FILE] = (packed(added.reshape(folds, step), bias_bits), bias_bits * step)
    outputs = [port("out_acc", acc, True)]
    sources, parts = list(modules.sources("convolve")), {}
    if back is not None:
        code = _port(back, "code")
        outputs.insert(0, port("out_code", code.bits, code.signed))
        sources += [s for s in back.design.sources if s not in sources]
        parts[f"{back.design.top}.sv"] = back.top
    design = Design(
        Path(),
        "intsim_layer",
        (*sources, "intsim_layer.sv"),
        (port("in_code", reads.bits, reads.signed),),
        tuple(outputs),
        clock="clk",
        reset="rst",
        valid=("in_valid", "out_valid"),
        ready=("in_ready", "out_ready"),
        layer=of[0].name,
    )
    columns = _columns(model, runs, of[0], window, inputs, vectors, seed)
    if planned.behind is not None and own.stages:
        if back is None:
            raise IntsimError(f"layer {name}: its bias is of a requantizer that it doesn't have")
        columns["out_acc"] -= np.resize(planned.behind, columns["out_acc"].shape)  # in the requantizer's constants
    return Kind("convolve", _top(back, parameters, reads.bits, acc, window), design, columns, tables, parts)


def _requantizer(model: Model, node: Node, own: Target, target: Target, seed: int) -> Kind:
    of_file = model.graph.producer(node.output)
    assert of_file is not None
    return (threshold if own.requantize.exact else requantize)(model.graph, of_file, target, 1, seed)


def _ends(graph: IntegerGraph, head: Node, own: Target) -> tuple[int, int]:
    """The least and the greatest accumulator that can arrive."""
    if own.stages:
        return own.stages[-1].min, own.stages[-1].max
    return graph.tensors[head.output].low, graph.tensors[head.output].high


def _port(kind: Kind, name: str) -> Port:
    return next(p for p in (*kind.design.inputs, *kind.design.outputs) if p.name == name)


def _window(node: Node, op: Mac, shape: Sequence[int], order: tuple[str, ...]) -> Window:
    weight, at = node.arrays["weight"], node.attributes
    if node.op == "matmul":
        if weight.ndim != 2:
            raise IntsimError(f"node {node.shown}: a matrix for each batch, which no module multiplies")
        rows = prod(shape[:-1])
        return Window((shape[-1], 1, rows), (weight.shape[1], 1, rows), (1, 1), (1, 1), (1, 1), (0, 0), 1, (0, 1, 2))
    rank = weight.ndim - 2
    if rank > 2:
        raise IntsimError(f"node {node.shown}: a convolution of {rank} dimensions; the module has two")
    if min(at["pads"]) < 0:
        raise IntsimError(f"node {node.shown}: its padding cuts the image, which the module can't")

    def both(values: Sequence[int], missing: int) -> tuple[int, int]:
        pair = (*[missing] * (2 - rank), *values[:rank])
        return pair[0], pair[1]

    size, made = both(shape[2:], 1), both(op.shape(node, tuple(shape))[2:], 1)
    axes = [AXES[a if a == 0 or rank == 2 else 2] for a in kernel_axes(order, rank)]
    return Window(
        (shape[1], *size),
        (weight.shape[0], *made),
        both(weight.shape[2:], 1),
        both(at["strides"], 1),
        both(at["dilations"], 1),
        both(at["pads"], 0),
        at["groups"],
        (*(a for a in (0, 1, 2) if a not in axes), *axes),
    )


def _engines(node: Node, window: Window, pe: int | None) -> int:
    own = window.out[0] // window.groups
    if pe is None:
        return max(d for d in range(1, MOST_PE + 1) if own % d == 0)
    if pe < 1 or own % pe:
        near = max(gcd(own, d) for d in range(1, max(1, pe) + 1))
        raise IntsimError(f"node {node.shown}: {pe} channels at once don't divide the {own} of a group; give {near}")
    return pe


def _sums(
    node: Node, op: Mac, own: Target, planned: Plan, weights: IntArray, acc: int
) -> tuple[tuple[Stage, ...], int, IntArray]:
    """Registers, and what is added to the sums of the channels, and when, as dot.sv says it."""
    operands, none = planned.operands, np.zeros(len(weights), np.int64)
    late = planned.late(weights)
    if operands.depends_on_data():
        raise IntsimError(f"node {node.shown}: zero points of its weights need the sum of its codes; no module has it")
    if operands.owed and op.pads(node):
        raise IntsimError(f"node {node.shown}: padding that makes no products is paid back; no module does that")
    if not own.stages:  # unbounded: a register that holds every sum that can arrive, whatever it holds between
        terms = [t for t in (planned.preload, late, planned.behind) if t is not None]
        return (Stage(None, acc, "wrap"),), BIAS_MODES["preload"], np.asarray(sum(terms, none))
    if own.registers.packing is not None:
        raise IntsimError(f"target {own.name}: packed multipliers have no layer; choose another target")
    if own.stages[0].drop:
        raise IntsimError(f"target {own.name}: registers with an LSB of their own have no layer; choose another target")
    check_registers(own.name, own.stages)
    check_stages(own.stages)
    if planned.preload is not None and late is not None:
        raise IntsimError(f"node {node.shown}: the target adds to its sums before and behind; the module does one")
    if planned.preload is not None:
        return own.stages, BIAS_MODES["preload"], planned.preload
    return own.stages, BIAS_MODES["requantizer" if late is None else "after"], none if late is None else late


def _operand_types(
    own: Target, operands: Operands, codes: tuple[int, int], weights: IntArray
) -> tuple[IntegerType, IntegerType]:
    given = own.operands
    if given is not None and given.activation is not None and given.weight is not None:
        return given.activation, given.weight
    ends = [c + operands.x_shift for c in codes]
    return _range(*ends, operands.pad), _range(int(weights.min()), int(weights.max()))


def _range(*values: int) -> IntegerType:
    """The narrowest type that holds all."""
    signed = min(values) < 0
    return IntegerType(smallest(*values) if signed else max(1, max(values).bit_length()), signed)


def _geometry(window: Window, pe: int) -> dict[str, Any]:
    order = ", ".join(f"2'd{a}" for a in window.order)
    (cin, h, w), (cout, oh, ow) = window.shape, window.out
    said = {"H": h, "W": w, "CIN": cin, "COUT": cout, "OH": oh, "OW": ow}
    pairs = {"KERNEL": window.kernel, "STRIDE": window.strides, "DILATION": window.dilations}
    said |= {f"{name}_{axis}": pair[i] for name, pair in pairs.items() for i, axis in enumerate("HW")}
    said |= {"PAD_TOP": window.pads[0], "PAD_LEFT": window.pads[1], "GROUPS": window.groups}
    return {**said, "ORDER": f"{{{order}}}", "PE": pe}


def _columns(
    model: Model, runs: Machine, of: Layer, window: Window, inputs: Inputs | None, vectors: int, seed: int
) -> dict[str, IntArray]:
    """Rows of the ports, NHWC."""
    count = None if inputs is not None else -(-vectors // prod(window.out))
    made: dict[str, list[IntArray]] = {}
    for step in steps(model, runs, [of], samples_of(model, inputs, count, seed), None):
        if step.node is of.head:
            made.setdefault("in_code", []).append(_streamed(step.arrays[0], of.head))
        made.setdefault("out_acc" if step.node is of.head else "out_code", []).append(_streamed(step.out, of.head))
    columns = {k: np.concatenate(v) for k, v in made.items()}
    if max(map(len, columns.values())) > MOST_ELEMENTS:
        raise IntsimError(f"layer {of.name}: more than {MOST_ELEMENTS} codes; give fewer inputs")
    return columns


def _streamed(values: IntArray, node: Node) -> IntArray:
    """Images with their channels first of all, or rows of a matrix."""
    return values.reshape(-1) if node.op == "matmul" else np.moveaxis(values, 1, -1).reshape(-1)


def _top(back: Kind | None, parameters: dict[str, Any], bits: int, acc: int, window: Window) -> str:
    """The module `intsim_layer`: convolve.sv, and the requantizer behind it, if there is one, without a cycle more."""
    wide = max(1, (window.out[0] - 1).bit_length())
    given = ",\n".join(f"      .{k}({v})" for k, v in parameters.items())
    declared = made = ""
    if back is not None:
        channel = ".channel(channel), " if any(p.name == "channel" for p in back.design.inputs) else ""
        declared = f"  output wire [{_port(back, 'code').bits - 1}:0] out_code,\n"
        made = f"  {back.design.top} back ({channel}.acc(acc), .code(out_code));\n"
    return f"""\
// Made by intsim: convolve.sv with the constants of a layer{", and its requantizer behind it" if made else ""}.
// Codes are taken and given with valid and ready, image after image, channels first, then columns, then rows.
module intsim_layer (
  input  wire clk,
  input  wire rst,
  input  wire in_valid,
  output wire in_ready,
  input  wire [{bits - 1}:0] in_code,
  output wire out_valid,
  input  wire out_ready,
{declared}  output wire [{acc - 1}:0] out_acc
);
  wire [{wide - 1}:0] channel;
  wire signed [{acc - 1}:0] acc;
  convolve #(
{given}
  ) convolution (
      .clk(clk),
      .rst(rst),
      .in_valid(in_valid),
      .in_ready(in_ready),
      .in_code(in_code),
      .out_valid(out_valid),
      .out_ready(out_ready),
      .out_channel(channel),
      .out_acc(acc)
  );
{made}  assign out_acc = acc;
  wire unused = &{{1'b0, channel}};
endmodule
"""
