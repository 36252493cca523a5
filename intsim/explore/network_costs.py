"""What a network costs on a machine, by its widths: products, registers, memories, requantizers, cells of an FPGA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from intsim.arithmetic.integers import bits_for
from intsim.dispatch import machine
from intsim.errors import IntsimError
from intsim.explore import cost as cells
from intsim.graph import IntegerGraph
from intsim.ops import OPS, Mac
from intsim.targets import Target

QUANTIZERS = ("fused", "requantize", "staircase", "table")
"""Nodes that make codes; others move or add them."""
FPGAS = ("xilinx", "ecp5", "ice40", "generic")


@dataclass(frozen=True)
class LayerWidths:
    """One multiply-accumulate layer.

    Attributes:
        products: multiply-accumulates of one sample.
        outputs: sums of one sample; `channels` of them have weights of their own.
        activation_bits, weight_bits: of the operands; of two tensors the second is the weight.
        weights: constant ones, 0 of two tensors.
        registers: bits of all registers of one channel; `accumulator_bits` of the last one, with its overflow rule.
        multiplier_bits: of the requantizer's fixed-point multiplier, 0 of others; it rounds `roundings` times.
    """

    name: str
    products: int
    outputs: int
    channels: int
    activation_bits: int
    weight_bits: int
    weights: int
    registers: int
    accumulator_bits: int
    overflow: str
    multiplier_bits: int
    roundings: int


@dataclass(frozen=True)
class NetworkWidths:
    """All layers, and the bits of all codes between them: elements times bits of what quantizers make."""

    layers: Sequence[LayerWidths]
    code_bits: int


def widths(graph: IntegerGraph, target: Target) -> NetworkWidths:
    """Of a network as a target runs it; registers of a layer without any are as wide as its sums."""
    runs = machine(graph, target)
    made = []
    for node in graph.nodes:
        op = OPS[node.op]
        if not isinstance(op, Mac):
            continue
        own, tensors = runs.arithmetic(node), [graph.tensors[n] for n in node.inputs]
        sums, constant = graph.tensors[node.output], len(tensors) == 1
        held = node.arrays["weight"] if constant else np.zeros(0, np.int64)
        ends = (int(held.min(initial=0)), int(held.max(initial=0))) if constant else (tensors[1].low, tensors[1].high)
        rows, channels = op.extent(node, *(t.shape for t in tensors))
        depth = op.weight_rows(node, held).shape[1] if constant else tensors[1].shape[-2]
        stages = own.stages
        least = bits_for(sums.low, sums.high)
        made.append(
            LayerWidths(
                node.shown,
                rows * channels * depth,
                rows * channels,
                channels,
                _least(tensors[0].low, tensors[0].high),
                _least(*ends),
                held.size,
                sum(s.bits * s.lanes for s in stages) if stages else least,
                stages[-1].bits if stages else least,
                stages[-1].overflow if stages else "wrap",
                getattr(own.requantize, "multiplier_bits", 0) or 0,
                1 + bool(getattr(own.requantize, "double_rounding", False)),
            )
        )
    makers = {*graph.inputs, *(n.output for n in graph.nodes if n.op in QUANTIZERS)}
    codes = [graph.tensors[name] for name in makers]
    return NetworkWidths(made, sum(prod(t.shape) * _least(t.low, t.high) for t in codes))


def _least(low: int, high: int) -> int:
    """Of a type that holds them, unsigned where none is below 0."""
    return max(1, high.bit_length()) if low >= 0 else bits_for(low, high)


def bops(net: NetworkWidths) -> float:
    """Bit operations: of each product activation bits times weight bits (qonnx.analysis.inference_cost, total_bops)."""
    return float(sum(x.products * x.activation_bits * x.weight_bits for x in net.layers))


def mac_bits(net: NetworkWidths) -> float:
    """Of each product the bits of the register that it is added to."""
    return float(sum(x.products * x.accumulator_bits for x in net.layers))


def register_bits(net: NetworkWidths) -> float:
    """Of all registers of all layers, where every channel has its own; what `bounds --propose` counts."""
    return float(sum(x.channels * x.registers for x in net.layers))


def weight_bits(net: NetworkWidths) -> float:
    """Memory of all constant weights (qonnx.analysis.inference_cost, total_mem_w_bits)."""
    return float(sum(x.weights * x.weight_bits for x in net.layers))


def activation_bits(net: NetworkWidths) -> float:
    """Memory of all codes that quantizers make, each kept once."""
    return float(net.code_bits)


def requantizer_bits(net: NetworkWidths) -> float:
    """Of each sum accumulator bits times multiplier bits: what bit operations are to a product."""
    return float(sum(x.outputs * x.accumulator_bits * x.multiplier_bits for x in net.layers))


def _cells(fpga: str, kind: str) -> Callable[[NetworkWidths], float]:
    def cost(net: NetworkWidths) -> float:
        total = 0
        for x in net.layers:
            a, w = (max(b, 6) for b in (x.activation_bits, x.weight_bits))
            total += getattr(cells.mac(fpga, a, w, max(x.accumulator_bits, 12), x.overflow), kind)
            if x.multiplier_bits:
                n = max(x.accumulator_bits, 16)
                total += getattr(cells.requantizer(fpga, n, x.multiplier_bits, x.roundings, True), kind)
        return float(total)

    cost.__doc__ = (
        f"{kind} of {fpga} for one MAC and one programmable requantizer a layer (docs/measured/hardware.md); "
        "operands below 6 bits and registers below 12 (16 in front of a requantizer) count as those, as there are no "
        "figures of narrower ones; wider ones than were mapped raise IntsimError."
    )
    return cost


COSTS: dict[str, Callable[[NetworkWidths], float]] = {
    **{f.__name__: f for f in (bops, mac_bits, register_bits, weight_bits, activation_bits, requantizer_bits)},
    **{f"luts-{fpga}": _cells(fpga, "luts") for fpga in FPGAS},
    **{f"dsps-{fpga}": _cells(fpga, "dsps") for fpga in FPGAS[:-1]},
}
"""By name."""


def read_costs(names: Sequence[str]) -> list[Callable[[NetworkWidths], float]]:
    """Several. Raises IntsimError for none, one twice, or an unknown one."""
    unknown = next((n for n in names if n not in COSTS), None)
    if unknown is not None or not names or len(set(names)) < len(names):
        what = "none" if not names else repr(unknown) if unknown is not None else "one twice"
        raise IntsimError(f"cost {what}; allowed: {', '.join(COSTS)}")
    return [COSTS[n] for n in names]
