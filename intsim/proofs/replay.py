"""Counterexamples run on the engine: what was predicted must come out; and a search of network inputs that go wrong.

The one file of `proofs/` that imports the engine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from intsim.dispatch import machine
from intsim.engine.run import run_alone, run_among, run_node
from intsim.errors import IntsimError
from intsim.frontend.parameters import ONNX_INTEGERS
from intsim.graph import IntArray, Node
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
    arrays = {name: np.ascontiguousarray(value) for name, value in inputs.items()}
    little = {name: a.astype(a.dtype.newbyteorder("<")).tobytes() for name, a in arrays.items()}
    return {name: hashlib.sha256(data).hexdigest() for name, data in little.items()}


def chained(before: str, inputs: Sample) -> str:
    """SHA-256 of one input after another: `before` is that of those before it, empty for none."""
    lines = "".join(f"{name} {value}\n" for name, value in hashes(inputs).items())
    return hashlib.sha256((before + lines).encode()).hexdigest()


def real_inputs(model: Model, codes: Arrays) -> dict[str, NDArray] | None:
    """Network inputs whose integers are `codes`, by tensor; None where the host's prologue or an island is between.

    Inputs that no given code depends on are 0, or what is nearest to it.
    """
    graph, source = model.graph, model.lowered.source
    if model.islands:
        return None
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
    reached = model.integer_inputs(out)
    return out if all(n in reached and np.array_equal(reached[n], c) for n, c in codes.items()) else None


def _otherwise(said: Mapping[str, object], run: Mapping[str, object]) -> list[str]:
    """A line for everything that a run gives and that is stated otherwise."""
    return [f"{k} is stated as {said[k]}, the run gives {value}" for k, value in run.items() if said[k] != value]


def _cell(node: Node, at: tuple[int, ...]) -> Node:
    """The requantizer of one input's element `at` alone."""
    cells = tuple(node.attributes["cells"])
    index = tuple(0 if size == 1 else p for size, p in zip(cells, at[len(at) - len(cells) :], strict=True))
    which = int(np.ravel_multi_index(index, cells)) if cells else 0
    own = {k: [node.attributes[k][which]] for k in ("pieces", "roundings") if node.attributes.get(k)}
    block: Any = (slice(None), *index)
    arrays = {k: a if a.ndim < 2 else a[block].reshape(-1, *[1] * len(cells)) for k, a in node.arrays.items()}
    return replace(node, attributes={**node.attributes, **own, "cells": [1] * len(cells)}, arrays=arrays)


class Replay:
    """Runs a model and its nodes, exact and on a target; `macs` are its multiply-accumulates by node, to predict."""

    def __init__(self, model: Model, target: Target, macs: Mapping[str, MacLayer] | None = None) -> None:
        """Nothing runs yet."""
        self.model, self.target, self.macs = model, target, macs or {}
        self.graph = model.graph
        self.nodes = {n.name: n for n in self.graph.nodes}

    def confirm(self, stated: Counterexample, sample: Sample | None = None) -> list[str]:
        """Run a counterexample; returns what does not come out as stated, one line each.

        `sample` are the network's inputs where the counterexample names a sample.
        """
        try:
            nodes = self._through(stated)
            arrays: dict[str, IntArray] = {}
            for name, codes in stated.inputs.items():
                if name not in self.graph.tensors:
                    raise IntsimError(f"the model has no integer tensor {name!r}")
                tensor = self.graph.tensors[name]
                array = arrays[name] = codes.array(tensor.shape)
                if array.size and (int(array.min()) < tensor.low or int(array.max()) > tensor.high):
                    return [f"input {name} leaves its proven range {tensor.low}..{tensor.high}"]
            lines: list[str] = []
            if stated.level == "network":
                arrays, lines = self._network(stated, arrays, sample)
            missing = [i for i in nodes[0].inputs if i not in arrays]
            if missing:
                return [*lines, f"input {missing[0]} is not given"]
            return lines + self._compare(nodes, arrays, stated)
        except (IntsimError, ValueError, OverflowError, IndexError) as error:
            return [f"can't be run: {' '.join(str(error).split())[:200]}"]

    def _through(self, stated: Counterexample) -> list[Node]:
        """The nodes, each one reading the one before."""
        unknown = [n for n in stated.through if n not in self.nodes]
        if unknown or not stated.through:
            raise IntsimError(f"the model has no integer node {unknown[0] if unknown else ''!r}")
        nodes = [self.nodes[n] for n in stated.through]
        for before, after in pairwise(nodes):
            if after.inputs != (before.output,):
                raise IntsimError(f"node {after.name} doesn't read {before.output} alone")
        if nodes[-1].output != stated.tensor:
            raise IntsimError(f"node {nodes[-1].name} makes {nodes[-1].output}, not {stated.tensor}")
        return nodes

    def _compare(self, nodes: list[Node], inputs: Arrays, stated: Counterexample) -> list[str]:
        """Run `nodes` one after another, exact and on the target, both from `inputs`."""
        exact, got = dict(inputs), dict(inputs)
        for node in nodes:
            exact[node.output] = OPS[node.op].evaluate(node, *(exact[i] for i in node.inputs))
            got[node.output] = run_among(self.graph, node, got, self.target)[0]
        at = tuple(stated.position)
        right, mine = exact[stated.tensor], got[stated.tensor]
        if len(at) != right.ndim or not all(0 <= p < s for p, s in zip(at, right.shape, strict=True)):
            return [f"position {stated.position} lies outside {stated.tensor} of shape {right.shape}"]
        run: dict[str, object] = {"expected": int(right[at]), "got": int(mine[at])}
        if len(nodes) > 1:
            sums = nodes[-2].output
            run["accumulators"] = [int(exact[sums][at]), int(got[sums][at])]
        pair = self._pair_behind(nodes[-1], at, right, mine)
        if pair is not None:
            run |= {"codes": pair, "masked": pair[0] == pair[1]}
        lines = _otherwise(vars(stated), run)
        if int(right[at]) == int(mine[at]):
            lines.append(f"the integer at {stated.position} is not wrong: {int(right[at])}")
        return lines

    def on_target(self, node: Node, arrays: list[IntArray]) -> IntArray:
        """What a node makes on the target; raises IntsimError where that has no result."""
        return run_node(self.graph, node, arrays, self.target)[0]

    def _pair_behind(self, node: Node, at: tuple[int, ...], right: IntArray, mine: IntArray) -> list[int] | None:
        """`_codes_behind` of one accumulator; by the cell that it is in alone, where the target runs cells apart."""
        after = behind(self.graph, node) if isinstance(OPS[node.op], Mac) else None
        if after is None:
            return None
        runs = machine(self.graph, self.target)
        own = runs.node(after)
        if own.op != "requantize" or own.inputs != after.inputs or len(after.attributes["cells"]) > len(at):
            codes = self._codes_behind(node, right, mine)
            return None if codes is None else [int(c[at]) for c in codes]
        if self.graph.tensors[after.output].shape != self.graph.tensors[node.output].shape:
            return None
        one = [array[at].reshape((1,) * len(at)) for array in (right, mine)]
        try:
            exact = OPS[after.op].evaluate(_cell(after, at), one[0])
            got = run_alone(runs.graph, _cell(own, at), [one[1]], runs.arithmetic(after))[0]
        except IntsimError:  # its scheme refuses the wrong accumulator
            return None
        return [int(exact.item()), int(got.item())]

    def _codes_behind(self, node: Node, right: IntArray, mine: IntArray) -> tuple[IntArray, IntArray] | None:
        """Exact codes of a layer's right accumulators, or of a block of them, and the target's codes of its own.

        None where no requantizer reads them alone, shapes differ, or the target has none.
        """
        after = behind(self.graph, node) if isinstance(OPS[node.op], Mac) else None
        if after is None or self.graph.tensors[after.output].shape != self.graph.tensors[node.output].shape:
            return None
        try:
            return OPS[after.op].evaluate(after, right), self.on_target(after, [mine])
        except IntsimError:  # its scheme refuses one of the wrong accumulators
            return None

    def _network(
        self, stated: Counterexample, codes: Arrays, sample: Sample | None
    ) -> tuple[dict[str, IntArray], list[str]]:
        """Exact tensors of the whole network, and what of the statement about it does not hold."""
        said = stated.network
        if said is None:
            raise IntsimError("it names no network input")
        inputs = sample if said.sample is not None else real_inputs(self.model, codes)
        if inputs is None:
            raise IntsimError(
                f"sample {said.sample} is not given" if said.sample is not None else "no input gives its codes"
            )
        exact = self.model.run(inputs, "exact", keep=True)
        lines = [
            f"input {name}: the network input gives other codes"
            for name, array in codes.items()
            if not np.array_equal(exact.inputs.get(name, np.zeros(0)), array)
        ]
        return exact.tensors, lines + _otherwise(vars(said), vars(self._network_run(inputs, exact, said.sample)))

    def _network_run(self, inputs: Sample, exact: Run, sample: int | None) -> NetworkRun:
        """The whole network on the target against `exact`, which kept every tensor."""
        mine = self.model.run(inputs, self.target, keep=True)
        apart = [n for n in self.graph.nodes if not np.array_equal(exact.tensors[n.output], mine.tensors[n.output])]
        differ = any(
            not np.array_equal(a, mine.outputs[n], equal_nan=a.dtype.kind == "f") for n, a in exact.outputs.items()
        )
        return NetworkRun(sample, hashes(inputs), apart[0].name if apart else "", differ)

    def promoted(self, stated: Counterexample) -> Counterexample | None:
        """The same counterexample as a network input, where the layer reads the network's inputs; else None."""
        if stated.level != "layer" or any(n not in self.graph.inputs for n in stated.inputs):
            return None
        codes = {n: c.array(self.graph.tensors[n].shape) for n, c in stated.inputs.items()}
        inputs = real_inputs(self.model, codes)
        if inputs is None:
            return None
        try:
            network = self._network_run(inputs, self.model.run(inputs, "exact", keep=True), None)
        except IntsimError:  # a later layer has no result for what reaches it
            return None
        return replace(stated, level="network", network=network)

    def search(self, inputs: Sample, number: int | None, names: Collection[str]) -> dict[str, Counterexample]:
        """Of nodes, by name: those that make a wrong integer of what reaches them when the network runs on `inputs`."""
        exact = self.model.run(inputs, "exact", keep=True)
        network: NetworkRun | None = None
        wrong: dict[str, Counterexample] = {}
        for name in names:
            node = self.nodes[name]
            arrays = [exact.tensors[i] for i in node.inputs]
            try:
                mine = run_among(self.graph, node, exact.tensors, self.target)[0]
                right = exact.tensors[node.output]
                if np.array_equal(right, mine):
                    continue
                network = network or self._network_run(inputs, exact, number)
            except IntsimError:  # the target has no result for these integers, hence no wrong one
                continue
            wrong[name] = self._first_wrong(node, arrays, right, mine, network)
        return wrong

    def _first_wrong(
        self, node: Node, arrays: list[IntArray], right: IntArray, mine: IntArray, network: NetworkRun | None = None
    ) -> Counterexample:
        """The first wrong integer of a node, of accumulators the first whose code is wrong too; predicted as well."""
        wrong = right != mine
        codes = self._codes_behind(node, right, mine)
        if codes is not None and (wrong & (codes[0] != codes[1])).any():
            wrong &= codes[0] != codes[1]
        at = tuple(int(i) for i in np.unravel_index(int(np.flatnonzero(wrong)[0]), wrong.shape))
        expected, got = int(right[at]), int(mine[at])
        mac = self.macs.get(node.name)
        if mac is not None:
            predicted = mac.predict(arrays, *mac.row_and_channel(at))
            if predicted != (expected, got):
                raise RuntimeError(
                    f"node {node.shown}: at {list(at)} the engine gives {got}, exact {expected}; "
                    f"predicted were {predicted[1]}, exact {predicted[0]}"
                )
        pair = None if codes is None else [int(c[at]) for c in codes]
        single = node.op == "requantize" and len(arrays) == 1 and arrays[0].shape == right.shape
        return Counterexample(
            "network" if network is not None else "layer" if mac is not None else "accumulator",
            [node.name],
            node.output,
            list(at),
            expected,
            got,
            [int(arrays[0][at])] * 2 if single else None,
            pair,
            pair is not None and pair[0] == pair[1],
            {} if network is not None else {n: Codes.of(a) for n, a in zip(node.inputs, arrays, strict=True)},
            network,
        )

    def probe(self, node: Node) -> Counterexample | None:
        """A wrong integer of a node on inputs drawn within their ranges: ends, then anything; None if all are right."""
        rng = np.random.default_rng(0)
        tensors = {n: self.graph.tensors[n] for n in node.inputs}
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
                mine = self.on_target(node, arrays)
            except IntsimError:  # the target has no result for these integers, hence no wrong one
                continue
            if not np.array_equal(right, mine):
                return self._smaller(node, arrays, self._first_wrong(node, arrays, right, mine))
        return None

    def _smaller(self, node: Node, arrays: list[IntArray], stated: Counterexample) -> Counterexample:
        """The same counterexample with nothing but the activations that meet in the wrong sum and its neighbours'."""
        mac = self.macs.get(node.name)
        if mac is None or len(arrays) > 1:
            return stated
        at = tuple(stated.position)
        kept = np.full(arrays[0].shape, mac.fill(0), np.int64)
        for output in mac.neighbours(*mac.row_and_channel(at)).values():
            taps = mac.taps(*output).at
            inside = taps[taps >= 0]
            kept.reshape(-1)[inside] = arrays[0].reshape(-1)[inside]
        right, mine = OPS[node.op].evaluate(node, kept), self.on_target(node, [kept])
        if int(right[at]) == stated.expected and int(mine[at]) == stated.got:
            return replace(stated, inputs=mac.stated([kept]))
        return stated
