"""Does a target compute exactly what the file says, for every input? A certificate, or what stands between.

The statement about the lowered graph is proven node by node: if each node, given right integers within their proven
ranges, makes right ones, all of them do, whatever the network's input. Only multiply-accumulates (registers) and
requantizers can differ on a target. That the graph is what the file means is not proven but tried, by a second reading
of the file (`reading`). docs/certify.md says what is proven by what, and what is not claimed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import intsim
from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.integers import bits_for
from intsim.arithmetic.registers import BiasPlace
from intsim.dispatch import arithmetic, machine
from intsim.errors import IntsimError
from intsim.graph import IntegerGraph, Node
from intsim.inputs import Inputs, Sample, samples_of
from intsim.model import Model, opened
from intsim.ops import OPS, Mac
from intsim.proofs.certificate import (
    STATUSES,
    CellClaim,
    Certificate,
    Codes,
    Counterexample,
    LayerClaim,
    Obstacle,
    RequantizerClaim,
    StageClaim,
)
from intsim.proofs.counterexample import RequantizeNode, behind, code_counterexample, sum_counterexample
from intsim.proofs.mac_layer import MacLayer
from intsim.proofs.reading import read_again
from intsim.proofs.replay import chained, confirm, probe, promoted, real_inputs, search
from intsim.proofs.requantizers import CellCertificate, certify_requantizer, multiplier_widths
from intsim.proofs.subject import check_name, check_subject, identity, target_content
from intsim.proofs.wrong_sums import WrongSum, wrong_sums
from intsim.targets import Target

Progress = Callable[[str], None]
MOST_INPUTS = 1024
"""Inputs of a network up to which all of them are tried where the proof leaves something open."""


def certify(
    model: str | Path | onnx.ModelProto | Model,
    target: str | Path | Target = "exact",
    inputs: Inputs | None = None,
    samples: int | None = None,
    seed: int = 0,
    *,
    multipliers: bool = False,
    progress: Progress | None = None,
) -> Certificate:
    """Prove that a model's integers on a target are exact for every input, or find what stands between.

    Args:
        model: path, ModelProto or what `load` returned.
        target: a built-in name, a TOML file or a `Target`.
        inputs: as `run` takes them: one sample or many, in which refutations are searched.
        samples: how many samples to draw for that where no inputs are given; none if None. Only as many are made as
            are needed.
        seed: seed of the first drawn sample; kept in the certificate.
        multipliers: also give the multiplier widths with which each requantizer is exact.
        progress: called with the name of each layer.

    Raises:
        IntsimError: a bad model, target or inputs, a model without a layer to prove, a node that does not fit the
            target, or a target that is called like a built-in one and is another.
    """
    loaded, chosen = opened(model, inputs), Target.load(target)
    check_name(chosen)
    data = samples_of(loaded, inputs, samples, seed, least=0)
    return prove(loaded, chosen, enumerate(data), int(seed) if inputs is None else None, multipliers, progress)


def prove(
    loaded: Model,
    chosen: Target,
    samples: Iterable[tuple[int, Sample]],
    seed: int | None = None,
    multipliers: bool = False,
    progress: Progress | None = None,
) -> Certificate:
    """What `certify` does, with samples that carry their numbers."""
    graph = loaded.graph
    check_subject(loaded)
    layers, requantizers, macs, wrong = claims(graph, chosen, multipliers, progress)
    obstacles: list[Obstacle] = []
    sums, codes = {c.node: c for c in layers}, {c.node: c for c in requantizers}
    for node in graph.nodes:
        if node.name in sums and not sums[node.name].holds:
            mac = macs[node.name]
            obstacles.append(_sums_obstacle(loaded, chosen, mac, sums[node.name], wrong[node.name]))
        elif (claim := codes.get(node.name)) is not None and (claim.undecided or any(_within(graph, node, claim))):
            maker = graph.producer(node.inputs[0]) if len(node.inputs) == 1 else None
            obstacles.append(_codes_obstacle(loaded, chosen, node, claim, macs.get(maker.name) if maker else None))
    searched, arrays, seen = _refute(loaded, chosen, obstacles, macs, samples)
    _exhaust(loaded, chosen, obstacles, macs)
    stands = {o.status for o in obstacles} - {"certified"}
    # where the proof holds the target itself is compared with the file, else what it was to equal
    reading = read_again(loaded, Target.load("exact") if stands else chosen, progress)
    said = {reading.status, *stands}
    verdict = next(s for s in STATUSES if s in said)
    return Certificate(
        intsim.__version__,
        identity(loaded),
        target_content(chosen),
        verdict,
        {"samples": searched, "seed": seed if searched else None, "sha256": seen},
        reading,
        {"prologue": loaded.lowered.prologue.names, "epilogue": loaded.lowered.epilogue.names},
        layers,
        requantizers,
        obstacles,
        multipliers,
        arrays,
    )


Wrong = dict[int, WrongSum]


def claims(
    graph: IntegerGraph, target: Target, multipliers: bool = False, progress: Progress | None = None
) -> tuple[list[LayerClaim], list[RequantizerClaim], dict[str, MacLayer], dict[str, Wrong]]:
    """What can be said of every node, and the layers and wrong sums of the multiply-accumulates by name.

    No counterexample is run here: a node that the target refuses, wherever it stands, is found before.
    """
    layers: list[LayerClaim] = []
    requantizers: list[RequantizerClaim] = []
    macs: dict[str, MacLayer] = {}
    wrong: dict[str, Wrong] = {}
    for node in graph.nodes:
        if progress is not None:
            progress(node.shown)
        if isinstance(OPS[node.op], Mac):
            mac = macs[node.name] = MacLayer(graph, node, arithmetic(target, graph, node).registers)
            layer, wrong[node.name] = layer_claim(mac)
            layers.append(layer)
        elif node.op == "requantize" or (node.op == "table" and machine(graph, target).node(node) is not node):
            requantizers.append(requantizer_claim(graph, node, target, multipliers))
    return layers, requantizers, macs, wrong


def layer_claim(mac: MacLayer) -> tuple[LayerClaim, Wrong]:
    """What can be said of the sums of one multiply-accumulate, and a wrong sum for each channel that has one."""
    node, op, sums = mac.node, mac.op, mac.plan.sums
    low, high = op.channel_ranges(node, *mac.tensors)
    stages: list[StageClaim] = []
    safe = np.ones(mac.channels, bool)
    exact = np.zeros(mac.channels, bool)
    if sums is not None:
        for i, stage in enumerate(mac.registers.stages):
            least, most = int(sums.low[i].min()), int(sums.high[i].max())
            fits = _by_channel(mac, sums.safe[i])
            register = i + 1, stage.bits, stage.overflow, stage.lanes
            stages.append(StageClaim(*register, least, most, bits_for(least, most), int((~fits).sum())))
        safe = _by_channel(mac, sums.all_safe)
        exact = ~safe & _by_channel(mac, sums.all_exact)
    left = np.flatnonzero(~safe & ~exact).tolist()
    found = wrong_sums(mac, left)
    wrong = sorted(found.wrong)
    return (
        LayerClaim(
            node.name,
            node.shown,
            node.kind,
            node.output,
            [[t.low, t.high] for t in mac.tensors],
            mac.depth,
            mac.channels,
            min(low),
            max(high),
            stages,
            int(safe.sum()),
            np.flatnonzero(exact).tolist(),
            sorted(found.tried),
            wrong,
            sorted(set(left) - found.tried - set(wrong)),
            node.origin["node"],
            node.module,
        ),
        found.wrong,
    )


def _by_channel(mac: MacLayer, rows: np.ndarray) -> np.ndarray:
    """Of every matrix of a batch."""
    return np.asarray(np.asarray(rows, bool).reshape(-1, mac.channels).all(axis=0))


def requantizer_claim(graph: IntegerGraph, node: Node, target: Target, multipliers: bool = False) -> RequantizerClaim:
    """What can be said of one requantizer; raises IntsimError when the target's scheme refuses the node."""
    on = machine(graph, target)
    own = on.arithmetic(node)

    def registers(mac: Node) -> tuple[Sequence[Stage], BiasPlace]:
        of = on.arithmetic(mac)
        return of.stages, of.accumulate.bias

    found = certify_requantizer(graph, node, own.requantize, own.stages, own.accumulate.bias, registers, on.node(node))
    if found.refused:
        raise IntsimError(f"node {found.source}: target {target.name}: {found.reason}")
    swept = multipliers and node.op == "requantize"
    widths = list(multiplier_widths(graph, node, own.requantize, own.stages)) if swept else None
    equal = {"equal": True, "differs": False}.get(found.verdict)
    cells = [_cell(c) for c in found.cells]
    return RequantizerClaim(
        node.name, found.source, list(node.inputs), equal, cells, widths, node.origin["node"], node.module
    )


def _cell(found: CellCertificate) -> CellClaim:
    wrong = [v for d in found.differences if d.kind != "precondition" for v in (d.low, d.high, d.least, d.most)]
    refused = [v for d in found.differences if d.kind == "precondition" for v in (d.low, d.high)]
    return CellClaim(found.cell, found.low, found.high, found.count, wrong, refused, found.reason)


def _sums_obstacle(
    model: Model, target: Target, mac: MacLayer, layer: LayerClaim, wrong: Mapping[int, WrongSum]
) -> Obstacle:
    after = behind(mac.graph, mac.node)
    requantizer = None if after is None else _requantizer_of(mac.graph, after, target)
    found = sum_counterexample(mac, dict(wrong), requantizer) if wrong else probe(mac.graph, mac.node, target, mac)
    unsure = f"; of {len(layer.undecided)} more nothing is known" if wrong and layer.undecided else ""
    reason = f"sums of {len(wrong)} of {layer.channels} channels can come out wrong{unsure}"
    if not wrong:
        reason = f"registers of {len(layer.undecided)} of {layer.channels} channels may overflow" + (
            ", and some sum comes out wrong" if found else "; no wrong sum was found"
        )
    return _obstacle(model, target, "registers", mac.node, layer.name, reason, found)


def _codes_obstacle(
    model: Model, target: Target, node: Node, claim: RequantizerClaim, mac: MacLayer | None
) -> Obstacle:
    cells = [c for c in _within(model.graph, node, claim) if c.wrong_intervals]
    requantizer = _requantizer_of(model.graph, node, target)
    found = code_counterexample(cells, requantizer, mac) if cells else probe(model.graph, node, target, None)
    parts = []
    if claim.count and len(claim.reads) > 1:
        parts.append(f"{claim.count} combinations of its inputs give a wrong code")
    elif claim.count:
        parts.append(f"{claim.count} of {claim.reachable} accumulators give a wrong code or none")
    if claim.undecided:
        parts.append(f"{len(claim.undecided)} of {len(claim.cells)} cells undecided: {claim.undecided[0].reason}")
    return _obstacle(model, target, "requantizer", node, claim.name, "; ".join(parts), found)


def _requantizer_of(graph: IntegerGraph, node: Node, target: Target) -> RequantizeNode:
    on = machine(graph, target)
    own = on.arithmetic(node)
    return RequantizeNode(graph, node, own.requantize, own.stages, on.node(node))


def _within(graph: IntegerGraph, node: Node, claim: RequantizerClaim) -> list[CellClaim]:
    """Cells with wrong codes of accumulators that exact semantics can make.

    Where a layer's sums don't fit the last register, a claim is about all that this register can hold. What it holds
    besides right sums is that layer's obstacle, not the requantizer's.
    """
    if len(claim.reads) > 1:
        return [c for c in claim.cells if c.count]
    tensor = graph.tensors[node.inputs[0]]
    low, high = tensor.low, tensor.high
    cells = []
    for cell in claim.cells:
        quads = zip(*(cell.wrong_intervals[i::4] for i in range(4)), strict=True)
        wrong = [v for a, b, *gap in quads if a <= high and b >= low for v in (max(a, low), min(b, high), *gap)]
        pairs = zip(cell.refused_intervals[::2], cell.refused_intervals[1::2], strict=True)
        refused = [v for a, b in pairs if a <= high and b >= low for v in (max(a, low), min(b, high))]
        if wrong or refused:
            cells.append(replace(cell, wrong_intervals=wrong, refused_intervals=refused))
    return cells


def _obstacle(
    model: Model, target: Target, kind: Any, node: Node, name: str, reason: str, found: Counterexample | None
) -> Obstacle:
    """With the counterexample that was constructed, as a network input if it is one; it must run as predicted."""
    if found is None:
        return Obstacle(kind, node.name, name, "undecided", reason)
    found = promoted(model, target, found) or found
    wrong = confirm(model, target, found)
    if wrong:
        raise RuntimeError(f"node {name}: a counterexample does not run as predicted: {wrong[0]}")
    return Obstacle(kind, node.name, name, "refuted" if found.level == "network" else "open", reason, [found])


def _refute(
    model: Model,
    target: Target,
    obstacles: list[Obstacle],
    macs: Mapping[str, MacLayer],
    samples: Iterable[tuple[int, Sample]],
) -> tuple[int, dict[int, dict[str, np.ndarray]], str]:
    """Search samples until every obstacle is refuted; changes `obstacles`.

    Returns how many were searched, those that refute, and the hash of all.
    """
    by_name = {n.name: n for n in model.graph.nodes}
    used: dict[int, dict[str, np.ndarray]] = {}
    count, seen = 0, ""
    waiting = [o for o in obstacles if o.status != "refuted"]
    if not waiting:
        return count, used, seen
    for number, inputs in samples:
        count, seen = count + 1, chained(seen, inputs)
        found = search(model, target, inputs, number, [by_name[o.node] for o in waiting], macs)
        for i, obstacle in enumerate(obstacles):
            if obstacle.node in found and obstacle in waiting:
                more = [*obstacle.counterexamples, found[obstacle.node]]
                obstacles[i] = replace(obstacle, status="refuted", counterexamples=more)
                used[number] = {n: np.asarray(v) for n, v in inputs.items()}
        waiting = [o for o in obstacles if o.status != "refuted"]
        if not waiting:
            break
    return count, used, seen


def _exhaust(model: Model, target: Target, obstacles: list[Obstacle], macs: Mapping[str, MacLayer]) -> None:
    """Try every input of a network that has few; changes `obstacles`: each is refuted, or stands no longer.

    Nothing is said where the host stands in front of the codes, or where the target has no result for an input.
    """
    graph = model.graph
    by_name = {n.name: n for n in graph.nodes}
    found: dict[str, Counterexample] = {}
    count = 0
    if all(o.status == "refuted" for o in obstacles):
        return
    for codes in _every_input(model):
        inputs = real_inputs(model, codes)
        if inputs is None:
            return
        try:
            exact, mine = (model.run(inputs, t, keep=True).tensors for t in ("exact", target))
        except IntsimError:
            return
        count += 1
        if all(np.array_equal(exact[n], mine[n]) for n in graph.tensors):
            continue
        left = [by_name[o.node] for o in obstacles if o.status != "refuted" and o.node not in found]
        given = {n: Codes.of(a, int(a.reshape(-1)[0])) for n, a in codes.items()}
        wrong = search(model, target, inputs, None, left, macs)
        found |= {name: replace(stated, inputs=given) for name, stated in wrong.items()}
    if not count:
        return
    for i, obstacle in enumerate(obstacles):
        if obstacle.node in found:
            more = [*obstacle.counterexamples, found[obstacle.node]]
            obstacles[i] = replace(obstacle, status="refuted", counterexamples=more)
        elif obstacle.status != "refuted":
            reason = f"{obstacle.reason}; on none of the network's {count} inputs, which were all tried"
            obstacles[i] = replace(obstacle, status="certified", reason=reason)


def _every_input(model: Model) -> Iterator[dict[str, np.ndarray]]:
    """All codes of the graph's inputs; nothing if they are more than `MOST_INPUTS`."""
    graph, signs = model.graph, {b.tensor for b in model.lowered.boundaries if b.quantizer.bipolar}
    tensors = [graph.tensors[n] for n in graph.inputs]
    choices = [(-1, 1) if t.name in signs else range(t.low, t.high + 1) for t in tensors]
    sizes = [math.prod(t.shape) for t in tensors]
    if sum(size * math.log2(len(c)) for size, c in zip(sizes, choices, strict=True)) > math.log2(MOST_INPUTS):
        return
    every = itertools.product(*(c for size, c in zip(sizes, choices, strict=True) for _ in range(size)))
    for values in every:
        parts = np.split(np.array(values, np.int64), np.cumsum(sizes)[:-1])
        yield {t.name: part.reshape(t.shape) for t, part in zip(tensors, parts, strict=True)}
