"""Does a target compute exactly what the file says, for every input? A certificate, or what stands between.

The statement about the lowered graph is proven node by node: if each node, given right integers within their proven
ranges, makes right ones, all of them do, whatever the network's input. Only multiply-accumulates (registers) and
requantizers can differ on a target. That the graph is what the file means is not proven but tried, by a second reading
of the file (`reading`). docs/certify.md says what is proven by what, and what is not claimed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import intsim
from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.registers import BiasPlace
from intsim.dispatch import machine
from intsim.errors import IntsimError
from intsim.graph import IntegerGraph, Node
from intsim.inputs import Inputs, Sample, samples_of
from intsim.model import Model
from intsim.ops import OPS, Mac
from intsim.proofs.bounds import by_channel, stage_bounds
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
    Status,
)
from intsim.proofs.counterexample import behind, code_counterexample, sum_counterexample
from intsim.proofs.mac_layer import MacLayer
from intsim.proofs.reading import read_again
from intsim.proofs.replay import Replay, chained, real_inputs
from intsim.proofs.requantizers import CellCertificate, RequantizeNode, certify_requantizer, multiplier_widths
from intsim.proofs.subject import check_name, check_subject, identity, target_content
from intsim.proofs.wrong_sums import WrongSum, wrong_sums
from intsim.targets import Target
from intsim.verification.executed import opened

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
    chosen = Target.load(target)
    loaded = opened(model, inputs, chosen)
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
    replay = Replay(loaded, chosen, macs)
    obstacles: list[Obstacle] = []
    sums, codes = {c.node: c for c in layers}, {c.node: c for c in requantizers}
    for node in graph.nodes:
        if node.name in sums and not sums[node.name].holds:
            obstacles.append(_sums_obstacle(replay, node, sums[node.name], wrong[node.name]))
        elif (claim := codes.get(node.name)) is not None and (claim.undecided or any(_within(graph, node, claim))):
            obstacles.append(_codes_obstacle(replay, node, claim))
    searched, arrays, seen = _refute(replay, obstacles, samples)
    _exhaust(replay, obstacles)
    stands = {o.status for o in obstacles} - {"certified"}
    # where the proof holds the target itself is compared with the file, else what it was to equal
    reading = read_again(loaded, Target.load("exact") if stands else chosen, progress)
    said = {reading.status, *stands}
    if loaded.islands:
        said.add("hybrid")
    return Certificate(
        intsim.__version__,
        identity(loaded),
        target_content(chosen),
        next(s for s in STATUSES if s in said),
        {"samples": searched, "seed": seed if searched else None, "sha256": seen},
        reading,
        loaded.lowered.host,
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
    on = machine(graph, target)
    for node in graph.nodes:
        if progress is not None:
            progress(node.shown)
        if isinstance(OPS[node.op], Mac):
            mac = macs[node.name] = MacLayer(graph, node, on.arithmetic(node).registers)
            layer, wrong[node.name] = layer_claim(mac)
            layers.append(layer)
        elif node.op == "requantize" or (node.op == "table" and on.node(node) is not node):
            requantizers.append(requantizer_claim(graph, node, target, multipliers))
    return layers, requantizers, macs, wrong


def layer_claim(mac: MacLayer) -> tuple[LayerClaim, Wrong]:
    """What can be said of the sums of one multiply-accumulate, and a wrong sum for each channel that has one."""
    node, sums = mac.node, mac.plan.sums
    low, high = mac.op.channel_ranges(node, *mac.tensors)
    safe, exact = np.ones(mac.channels, bool), np.zeros(mac.channels, bool)
    if sums is not None:
        safe, exact = by_channel(sums.all_safe, mac.channels), by_channel(sums.all_exact, mac.channels)
    bounds = zip(stage_bounds(sums, mac.registers.stages, mac.channels), mac.registers.stages, strict=True)
    left = np.flatnonzero(~safe & ~exact).tolist()
    verdicts = wrong_sums(mac, left)
    claim = LayerClaim(
        node.name,
        node.shown,
        node.kind,
        node.output,
        [[t.low, t.high] for t in mac.tensors],
        mac.depth,
        mac.channels,
        min(low),
        max(high),
        [StageClaim(lanes=stage.lanes, **vars(bound)) for bound, stage in bounds],
        int(safe.sum()),
        np.flatnonzero(exact & ~safe).tolist(),
        sorted(verdicts.tried),
        sorted(verdicts.wrong),
        sorted(set(left) - verdicts.tried - set(verdicts.wrong)),
        node.origin["node"],
        node.module,
    )
    return claim, verdicts.wrong


def requantizer_claim(graph: IntegerGraph, node: Node, target: Target, multipliers: bool = False) -> RequantizerClaim:
    """What can be said of one requantizer; raises IntsimError when the target's scheme refuses the node."""
    on = machine(graph, target)
    own, runs = on.arithmetic(node), on.node(node)

    def registers(mac: Node) -> tuple[Sequence[Stage], BiasPlace]:
        of = on.arithmetic(mac)
        return of.stages, of.accumulate.bias

    mine = None if runs is node else runs
    proven = certify_requantizer(graph, node, own.requantize, own.stages, own.accumulate.bias, registers, mine)
    if proven.refused:
        raise IntsimError(f"node {proven.source}: target {target.name}: {proven.reason}")
    swept = multipliers and node.op == "requantize"
    widths = list(multiplier_widths(graph, node, own.requantize, own.stages)) if swept else None
    equal = {"equal": True, "differs": False}.get(proven.verdict)
    cells = [_cell(c) for c in proven.cells]
    return RequantizerClaim(
        node.name, proven.source, list(node.inputs), equal, cells, widths, node.origin["node"], node.module
    )


def _cell(proven: CellCertificate) -> CellClaim:
    wrong = [v for d in proven.differences if d.kind != "precondition" for v in (d.low, d.high, d.least, d.most)]
    refused = [v for d in proven.differences if d.kind == "precondition" for v in (d.low, d.high)]
    return CellClaim(proven.cell, proven.low, proven.high, proven.count, wrong, refused, proven.reason)


def _sums_obstacle(replay: Replay, node: Node, layer: LayerClaim, wrong: Wrong) -> Obstacle:
    after = behind(replay.graph, node)
    requantizer = None if after is None else _on_target(replay, after)
    stated = sum_counterexample(replay.macs[node.name], wrong, requantizer) if wrong else replay.probe(node)
    unsure = f"; of {len(layer.undecided)} more nothing is known" if wrong and layer.undecided else ""
    reason = f"sums of {len(wrong)} of {layer.channels} channels can come out wrong{unsure}"
    if not wrong:
        stages = replay.macs[node.name].registers.stages
        may = "may overflow or round products" if stages and stages[0].drop else "may overflow"
        reason = f"registers of {len(layer.undecided)} of {layer.channels} channels {may}" + (
            ", and some sum comes out wrong" if stated else "; no wrong sum was found"
        )
    return _obstacle(replay, "registers", layer, reason, stated)


def _codes_obstacle(replay: Replay, node: Node, claim: RequantizerClaim) -> Obstacle:
    cells = [c for c in _within(replay.graph, node, claim) if c.wrong_intervals]
    maker = replay.graph.producer(node.inputs[0]) if len(node.inputs) == 1 else None
    mac = replay.macs.get(maker.name) if maker else None
    stated = code_counterexample(cells, _on_target(replay, node), mac) if cells else replay.probe(node)
    parts = []
    if claim.count and len(claim.reads) > 1:
        parts.append(f"{claim.count} combinations of its inputs give a wrong code")
    elif claim.count:
        parts.append(f"{claim.count} of {claim.reachable} accumulators give a wrong code or none")
    if claim.undecided:
        parts.append(f"{len(claim.undecided)} of {len(claim.cells)} cells undecided: {claim.undecided[0].reason}")
    return _obstacle(replay, "requantizer", claim, "; ".join(parts), stated)


def _on_target(replay: Replay, node: Node) -> RequantizeNode:
    on = machine(replay.graph, replay.target)
    own, runs = on.arithmetic(node), on.node(node)
    return RequantizeNode(replay.graph, node, own.requantize, own.stages, None if runs is node else runs)


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
    replay: Replay, kind: Any, claim: LayerClaim | RequantizerClaim, reason: str, stated: Counterexample | None
) -> Obstacle:
    """With the counterexample that was constructed, as a network input if it is one; it must run as predicted."""
    if stated is None:
        return Obstacle(kind, claim.node, claim.name, "undecided", reason)
    stated = replay.promoted(stated) or stated
    wrong = replay.confirm(stated)
    if wrong:
        raise RuntimeError(f"node {claim.name}: a counterexample does not run as predicted: {wrong[0]}")
    status: Status = "refuted" if stated.level == "network" else "open"
    return Obstacle(kind, claim.node, claim.name, status, reason, [stated])


def _refuted(obstacle: Obstacle, stated: Counterexample) -> Obstacle:
    return replace(obstacle, status="refuted", counterexamples=[*obstacle.counterexamples, stated])


def _refute(
    replay: Replay, obstacles: list[Obstacle], samples: Iterable[tuple[int, Sample]]
) -> tuple[int, dict[int, dict[str, np.ndarray]], str]:
    """Search samples until every obstacle is refuted; changes `obstacles`.

    Returns how many were searched, those that refute, and the hash of all.
    """
    used: dict[int, dict[str, np.ndarray]] = {}
    count, seen = 0, ""
    waiting = {o.node: i for i, o in enumerate(obstacles) if o.status != "refuted"}
    for number, inputs in samples if waiting else ():
        count, seen = count + 1, chained(seen, inputs)
        for name, stated in replay.search(inputs, number, waiting).items():
            index = waiting.pop(name)
            obstacles[index] = _refuted(obstacles[index], stated)
            used[number] = {n: np.asarray(v) for n, v in inputs.items()}
        if not waiting:
            break
    return count, used, seen


def _exhaust(replay: Replay, obstacles: list[Obstacle]) -> None:
    """Try every input of a network that has few; changes `obstacles`: each is refuted, or stands no longer.

    Nothing is said where the host stands in front of the codes, or where the target has no result for an input.
    """
    model = replay.model
    waiting = [o.node for o in obstacles if o.status != "refuted" and not model.islands]
    wrong: dict[str, Counterexample] = {}
    count = 0
    for codes in _every_input(model) if waiting else ():
        inputs = real_inputs(model, codes)
        if inputs is None:
            return
        try:
            exact, mine = (model.run(inputs, t, keep=True).tensors for t in ("exact", replay.target))
        except IntsimError:
            return
        count += 1
        if all(np.array_equal(exact[n], mine[n]) for n in replay.graph.tensors):
            continue
        given = {n: Codes.of(a) for n, a in codes.items()}
        stated = replay.search(inputs, None, [n for n in waiting if n not in wrong])
        wrong |= {name: replace(c, inputs=given) for name, c in stated.items()}
    for i, obstacle in enumerate(obstacles):
        if obstacle.node in wrong:
            obstacles[i] = _refuted(obstacle, wrong[obstacle.node])
        elif count and obstacle.status != "refuted":
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
