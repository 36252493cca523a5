"""Counterexamples run on the engine: what was predicted must come out; and a search of network inputs that go wrong.

The one file of `proofs/` that imports the engine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from intsim.engine.run import run_among, run_node
from intsim.errors import IntsimError
from intsim.frontend.parameters import ONNX_INTEGERS
from intsim.graph import IntArray, IntegerGraph, Node, Tensor
from intsim.inputs import Sample
from intsim.model import Model, Run
from intsim.ops import OPS, Mac
from intsim.proofs.certificate import Codes, Counterexample, NetworkRun
from intsim.proofs.counterexample import behind
from intsim.proofs.mac_layer import MacLayer
from intsim.targets import Target

Arrays = Mapping[str, IntArray]


def hashes(inputs: Sample) -> dict[str, str]:
    """SHA-256 of each array's little-endian bytes in C order."""
    found = {}
    for name, value in inputs.items():
        array = np.ascontiguousarray(value)
        found[name] = hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()
    return found


def chained(before: str, inputs: Sample) -> str:
    """SHA-256 of one input after another: `before` is that of those before it, empty for none."""
    found = hashlib.sha256(before.encode())
    for name, value in hashes(inputs).items():
        found.update(f"{name} {value}\n".encode())
    return found.hexdigest()


def local(
    graph: IntegerGraph, through: Sequence[Node], inputs: Arrays, target: Target
) -> list[tuple[IntArray, IntArray]]:
    """Of nodes run one after another, each one's output: exact, and on the target; both start from `inputs`."""
    right, mine = dict(inputs), dict(inputs)
    for node in through:
        right[node.output] = OPS[node.op].evaluate(node, *(right[i] for i in node.inputs))
        mine[node.output], _ = run_among(graph, node, mine, target)
    return [(right[n.output], mine[n.output]) for n in through]


def confirm(model: Model, target: Target, stated: Counterexample, sample: Sample | None = None) -> list[str]:
    """Run a counterexample; returns what does not come out as stated, one line each.

    `sample` are the network's inputs where the counterexample names a sample.
    """
    graph = model.graph
    try:
        nodes = _through(graph, stated)
        arrays = {n: c.array(_tensor(graph, n).shape) for n, c in stated.inputs.items()}
        for name, array in arrays.items():
            tensor = graph.tensors[name]
            if array.size and (int(array.min()) < tensor.low or int(array.max()) > tensor.high):
                return [f"input {name} leaves its proven range {tensor.low}..{tensor.high}"]
        wrong: list[str] = []
        if stated.level == "network":
            arrays, wrong = _network(model, target, stated, arrays, sample)
        missing = [i for i in nodes[0].inputs if i not in arrays]
        if missing:
            return [*wrong, f"input {missing[0]} is not given"]
        return wrong + _compare(graph, nodes, local(graph, nodes, arrays, target), stated, target)
    except (IntsimError, ValueError, OverflowError, IndexError) as error:
        return [f"can't be run: {' '.join(str(error).split())[:200]}"]


def _tensor(graph: IntegerGraph, name: str) -> Tensor:
    if name not in graph.tensors:
        raise IntsimError(f"the model has no integer tensor {name!r}")
    return graph.tensors[name]


def _through(graph: IntegerGraph, stated: Counterexample) -> list[Node]:
    """The nodes, each one reading the one before."""
    by_name = {n.name: n for n in graph.nodes}
    unknown = [n for n in stated.through if n not in by_name]
    if unknown or not stated.through:
        raise IntsimError(f"the model has no integer node {unknown[0] if unknown else ''!r}")
    nodes = [by_name[n] for n in stated.through]
    for before, after in pairwise(nodes):
        if after.inputs != (before.output,):
            raise IntsimError(f"node {after.name} doesn't read {before.output} alone")
    if nodes[-1].output != stated.tensor:
        raise IntsimError(f"node {nodes[-1].name} makes {nodes[-1].output}, not {stated.tensor}")
    return nodes


def _compare(
    graph: IntegerGraph,
    nodes: list[Node],
    made: list[tuple[IntArray, IntArray]],
    stated: Counterexample,
    target: Target,
) -> list[str]:
    at = tuple(stated.position)
    right, mine = made[-1]
    if len(at) != right.ndim or not all(0 <= p < s for p, s in zip(at, right.shape, strict=True)):
        return [f"position {stated.position} lies outside {stated.tensor} of shape {right.shape}"]
    found: dict[str, tuple[object, object]] = {
        "expected": (stated.expected, int(right[at])),
        "got": (stated.got, int(mine[at])),
    }
    if len(nodes) > 1:
        found["accumulators"] = (stated.accumulators, [int(made[-2][0][at]), int(made[-2][1][at])])
    after = behind(graph, nodes[-1]) if isinstance(OPS[nodes[-1].op], Mac) else None
    if after is not None and (codes := codes_behind(graph, after, right, mine, target)) is not None:
        pair = [int(c[at]) for c in codes]
        found["codes"] = (stated.codes, pair)
        found["masked"] = (stated.masked, pair[0] == pair[1])
    lines = [f"{what} is stated as {said}, the run gives {is_}" for what, (said, is_) in found.items() if said != is_]
    if int(right[at]) == int(mine[at]):
        lines.append(f"the integer at {stated.position} is not wrong: {int(right[at])}")
    return lines


def codes_behind(
    graph: IntegerGraph, after: Node, right: IntArray, mine: IntArray, target: Target
) -> tuple[IntArray, IntArray] | None:
    """Exact codes of right accumulators, the target's codes of its own; None where shapes differ, or it has none."""
    if graph.tensors[after.output].shape != right.shape:
        return None
    try:
        return OPS[after.op].evaluate(after, right), run_node(graph, after, [mine], target)[0]
    except IntsimError:  # its scheme refuses one of the wrong accumulators
        return None


def _network(
    model: Model, target: Target, stated: Counterexample, codes: Arrays, sample: Sample | None
) -> tuple[dict[str, IntArray], list[str]]:
    """Exact tensors of the whole network, and what of the statement about it does not hold."""
    said = stated.network
    if said is None:
        raise IntsimError("it names no network input")
    inputs = sample if said.sample is not None else real_inputs(model, codes)
    if inputs is None:
        raise IntsimError(
            f"sample {said.sample} is not given" if said.sample is not None else "no input gives its codes"
        )
    exact = model.run(inputs, "exact", keep=True)
    lines = []
    for name, array in codes.items():
        if not np.array_equal(exact.inputs.get(name, np.zeros(0)), array):
            lines.append(f"input {name}: the network input gives other codes")
    found = network_run(model, target, inputs, exact, said.sample)
    for what in ("sha256", "first_node", "outputs_differ"):
        if getattr(said, what) != getattr(found, what):
            lines.append(f"{what} is stated as {getattr(said, what)}, the run gives {getattr(found, what)}")
    return exact.tensors, lines


def network_run(model: Model, target: Target, inputs: Sample, exact: Run, sample: int | None) -> NetworkRun:
    """The whole network on the target against `exact`, which kept every tensor."""
    mine = model.run(inputs, target, keep=True)
    first = next(
        (n.name for n in model.graph.nodes if not np.array_equal(exact.tensors[n.output], mine.tensors[n.output])), ""
    )
    differ = any(not _same(exact.outputs[n], mine.outputs[n]) for n in exact.outputs)
    return NetworkRun(sample, hashes(inputs), first, differ)


def _same(a: NDArray, b: NDArray) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def real_inputs(model: Model, codes: Arrays) -> dict[str, NDArray] | None:
    """Network inputs whose integers are `codes`, by tensor; None where the host's prologue stands between.

    Sample that no given code depends on are 0, or what is nearest to it.
    """
    graph, source = model.graph, model.lowered.source
    out: dict[str, NDArray] = {}
    for name, (shape, element) in source.inputs.items():
        dtype = np.dtype(np.int64) if element in ONNX_INTEGERS else onnx.helper.tensor_dtype_to_np_dtype(element)
        info = graph.tensors.get(name)
        fill = min(max(0, info.low), info.high) if element in ONNX_INTEGERS and info is not None else 0
        out[name] = np.full(shape, fill, dtype)
        if name in codes and name in graph.inputs and element in ONNX_INTEGERS:
            out[name] = codes[name]
    for boundary in model.lowered.boundaries:
        if boundary.tensor in codes and boundary.host in source.inputs:
            info = graph.tensors[boundary.tensor]
            scale, offset = (np.asarray(v, np.float64) for v in (info.scale, info.offset))
            value = codes[boundary.tensor] * scale + offset
            out[boundary.host] = value.reshape(out[boundary.host].shape).astype(out[boundary.host].dtype)
    found = model.integer_inputs(out)
    return out if all(n in found and np.array_equal(found[n], c) for n, c in codes.items()) else None


def promoted(model: Model, target: Target, stated: Counterexample) -> Counterexample | None:
    """The same counterexample as a network input, where the layer reads the network's inputs; else None."""
    if stated.level != "layer" or any(n not in model.graph.inputs for n in stated.inputs):
        return None
    inputs = real_inputs(model, {n: c.array(model.graph.tensors[n].shape) for n, c in stated.inputs.items()})
    if inputs is None:
        return None
    try:
        network = network_run(model, target, inputs, model.run(inputs, "exact", keep=True), None)
    except IntsimError:  # a later layer has no result for what reaches it
        return None
    return Counterexample(**{**vars(stated), "level": "network", "network": network})


def search(
    model: Model,
    target: Target,
    inputs: Sample,
    number: int | None,
    nodes: Sequence[Node],
    macs: Mapping[str, MacLayer],
) -> dict[str, Counterexample]:
    """Of `nodes`, by name: those that make a wrong integer of what reaches them when the network runs on `inputs`."""
    graph = model.graph
    exact = model.run(inputs, "exact", keep=True)
    network: NetworkRun | None = None
    found: dict[str, Counterexample] = {}
    for node in nodes:
        arrays = [exact.tensors[i] for i in node.inputs]
        try:
            mine, _ = run_among(graph, node, exact.tensors, target)
            right = exact.tensors[node.output]
            if np.array_equal(right, mine):
                continue
            network = network or network_run(model, target, inputs, exact, number)
        except IntsimError:  # the target has no result for these integers, hence no wrong one
            continue
        found[node.name] = _first_wrong(graph, node, arrays, right, mine, target, macs.get(node.name), network)
    return found


def _first_wrong(
    graph: IntegerGraph,
    node: Node,
    arrays: list[IntArray],
    right: IntArray,
    mine: IntArray,
    target: Target,
    mac: MacLayer | None,
    network: NetworkRun | None,
) -> Counterexample:
    """The first wrong integer of a node, of accumulators the first whose code is wrong too; predicted as well."""
    wrong = right != mine
    after = behind(graph, node) if isinstance(OPS[node.op], Mac) else None
    codes = None if after is None else codes_behind(graph, after, right, mine, target)
    if codes is not None and (wrong & (codes[0] != codes[1])).any():
        wrong &= codes[0] != codes[1]
    at = tuple(int(i) for i in np.unravel_index(int(np.flatnonzero(wrong.reshape(-1))[0]), wrong.shape))
    expected, got = int(right[at]), int(mine[at])
    if mac is not None:
        predicted = mac.predict(arrays, *divmod(int(mac.output_numbers[at]), mac.channels))
        if predicted != (expected, got):
            raise RuntimeError(
                f"node {node.shown}: at {list(at)} the engine gives {got}, exact {expected}; "
                f"predicted were {predicted[1]}, exact {predicted[0]}"
            )
    pair = None if codes is None else [int(c[at]) for c in codes]
    accumulators = [int(arrays[0][at])] * 2 if node.op == "requantize" and arrays[0].shape == right.shape else None
    accumulators = accumulators if len(arrays) == 1 else None
    masked = pair is not None and pair[0] == pair[1]
    level: Literal["layer", "accumulator", "network"] = (
        "network" if network is not None else "layer" if mac is not None else "accumulator"
    )
    inputs = (
        {}
        if network is not None
        else {n: Codes.of(a, int(a.reshape(-1)[0])) for n, a in zip(node.inputs, arrays, strict=True)}
    )
    return Counterexample(
        level, [node.name], node.output, list(at), expected, got, accumulators, pair, masked, inputs, network
    )  # fmt: skip


def probe(graph: IntegerGraph, node: Node, target: Target, mac: MacLayer | None) -> Counterexample | None:
    """A wrong integer of one node on inputs drawn within their ranges: ends, then anything; None if all are right."""
    rng = np.random.default_rng(0)
    tensors = {n: graph.tensors[n] for n in node.inputs}
    for kind in range(8):
        given: dict[str, IntArray] = {}
        for name, tensor in tensors.items():
            ends = np.array([tensor.low, tensor.high])
            if kind < 2:
                given[name] = np.full(tensor.shape, ends[kind], np.int64)
            elif kind < 5:
                given[name] = rng.choice(ends, tensor.shape)
            else:
                given[name] = rng.integers(tensor.low, tensor.high, tensor.shape, endpoint=True)
        arrays = [given[n] for n in node.inputs]
        right = OPS[node.op].evaluate(node, *arrays)
        try:
            mine, _ = run_node(graph, node, arrays, target)
        except IntsimError:  # the target has no result for these integers, hence no wrong one
            continue
        if np.array_equal(right, mine):
            continue
        found = _first_wrong(graph, node, arrays, right, mine, target, mac, None)
        return found if mac is None else _smaller(graph, node, arrays, found, target, mac)
    return None


def _smaller(
    graph: IntegerGraph, node: Node, arrays: list[IntArray], found: Counterexample, target: Target, mac: MacLayer
) -> Counterexample:
    """The same counterexample with nothing but the activations that meet in the wrong sum and its neighbours'."""
    if len(arrays) > 1:
        return found
    at = tuple(found.position)
    kept = np.full(arrays[0].shape, mac.fill(0), np.int64)
    for taps, _ in mac.neighbours(*divmod(int(mac.output_numbers[at]), mac.channels)).values():
        inside = taps.at[taps.at >= 0]
        kept.reshape(-1)[inside] = arrays[0].reshape(-1)[inside]
    right, mine = OPS[node.op].evaluate(node, kept), run_node(graph, node, [kept], target)[0]
    if int(right[at]) == found.expected and int(mine[at]) == found.got:
        return Counterexample(**{**vars(found), "inputs": mac.stated([kept])})
    return found
