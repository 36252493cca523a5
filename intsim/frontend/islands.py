"""Float islands: a file whose integers are interrupted by floats, as integer parts with host work between.

All integer parts together are one integer graph. What an island hands on (codes, or floats that a quantizer reads) is
an input of that graph, any integer of its type, so that bounds and certificates need to know nothing of islands. To
run, the graph is cut into parts: host work, the quantizers behind it, and the integer nodes that this makes ready.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from intsim.errors import IntsimError
from intsim.frontend.context import Boundary
from intsim.frontend.expression import Const, Expr, Fixed, Value
from intsim.frontend.host import HostProgram, constant_array
from intsim.frontend.operators import on_host
from intsim.frontend.reader import Operation, SourceModel
from intsim.graph import IntegerGraph, Node

Key = tuple[bool, str]
"""A tensor: whether it is one of the integer graph, and its name."""


@dataclass
class Part:
    """Host work, then integers: `host` makes what `boundaries` quantize, and `graph` runs on their codes.

    `host` reads the file's inputs, tensors of earlier programs, and what integers of earlier parts stand for. Inputs of
    `graph` are codes of `boundaries`, integer inputs of the file, and tensors of earlier parts.
    """

    host: HostProgram
    boundaries: list[Boundary]
    graph: IntegerGraph


@dataclass
class Needs:
    """What outputs need of a lowering: tensors of the host and of the integer graph, and where the one becomes the
    other.

    `producer` finds the node of an integer tensor, `end` makes of an expression that the host reads the one that is
    kept (`Lowering.end`); `ends` are those, by their name in the file.
    """

    model: SourceModel
    values: Mapping[str, Value]
    boundaries: Mapping[str, Boundary]
    producer: Callable[[str], Node | None]
    end: Callable[[str, Expr], Expr]
    ends: dict[str, Expr] = field(default_factory=dict)
    found: set[Key] = field(default_factory=set)

    def find(self, wanted: Iterable[str]) -> None:
        """Follow tensors of the file back to its inputs."""
        waiting: list[Key] = [(False, name) for name in wanted]
        while waiting:
            key = waiting.pop()
            if key not in self.found:
                self.found.add(key)
                waiting += [before for before, _ in self.before(key)]

    def before(self, key: Key) -> list[tuple[Key, int]]:
        """What a tensor is made of; each with 1 where integers end between, else 0."""
        whole, name = key
        if whole:
            node = self.producer(name)
            if node is not None:
                return [((True, i), 0) for i in node.inputs]
            return [((False, self.boundaries[name].host), 0)] if name in self.boundaries else []
        value = self.values.get(name)
        if isinstance(value, Const | Fixed):
            return []
        if isinstance(value, Expr):
            if name not in self.ends:
                self.ends[name] = self.end(name, value)
            return [((True, tensor), 1) for tensor, _ in self.ends[name].terms]
        maker = self.model.makers.get(name)
        return [((False, i), 0) for i in maker.inputs if i] if maker is not None else []

    def numbers(self) -> dict[Key, int]:
        """The part in which each tensor is made: one more where integers end on the way."""
        numbers: dict[Key, int] = {}
        for start in self.found:
            waiting = [start]
            while waiting:
                key = waiting[-1]
                before = [] if key in numbers else self.before(key)
                missing = [k for k, _ in before if k not in numbers]
                if missing:
                    waiting += missing
                    continue
                numbers.setdefault(key, max((numbers[k] + ended for k, ended in before), default=0))
                waiting.pop()
        return numbers


def cut(graph: IntegerGraph, needs: Needs, outputs: Iterable[str], types: Mapping[str, int]) -> list[Part]:
    """The parts of a graph that holds nothing but what `needs` found; the last one has host work only.

    `outputs` are the file's that the host makes, `types` element types of its tensors.

    Raises:
        IntsimError: an operator that the host doesn't have.
    """
    numbers = needs.numbers()
    count = 2 + max((number for (whole, _), number in numbers.items() if whole), default=0)
    operations: list[list[Operation]] = [[] for _ in range(count)]
    for op in needs.model.operations:
        made = [numbers[False, o] for o in op.outputs if (False, o) in needs.found and o not in needs.ends]
        if made:
            if not on_host(op.op, op.domain):
                raise IntsimError(f"{needs.model.path}: {op.label}: {op.op} is not supported on the host")
            operations[made[0]].append(op)
    kept = {t: b for t, b in needs.boundaries.items() if (True, t) in numbers}
    programs = _programs(operations, needs, [*outputs, *(b.host for b in kept.values())], types)
    graphs = _graphs(graph, needs, {name: number for (whole, name), number in numbers.items() if whole}, count)
    parts = [Part(program, [], own) for program, own in zip(programs, graphs, strict=True)]
    for tensor, boundary in kept.items():
        parts[numbers[True, tensor]].boundaries.append(boundary)
    return parts


def _programs(
    operations: list[list[Operation]], needs: Needs, wanted: list[str], types: Mapping[str, int]
) -> list[HostProgram]:
    """One program for each list of operations, which wants what later ones, the outputs and quantizers read."""
    model = needs.model
    homes = {o: i for i, ops in enumerate(operations) for op in ops for o in op.outputs if o}
    read: list[dict[str, None]] = [dict.fromkeys(n for op in ops for n in op.inputs if n) for ops in operations]
    used: list[dict[str, None]] = [{} for _ in operations]
    for name in wanted:
        if name in homes:
            used[homes[name]][name] = None
    for i, names in enumerate(read):
        for name in names:
            if homes.get(name, i) != i:
                used[homes[name]][name] = None
    programs: list[HostProgram] = []
    for i, ops in enumerate(operations):
        inputs: dict[str, tuple[int, ...]] = {}
        constants = {}
        for name in read[i]:
            value = needs.values.get(name)
            if name in needs.ends:
                inputs[name] = needs.ends[name].shape
            elif isinstance(value, Const | Fixed):
                constants[name] = constant_array(value, types.get(name))
            elif name not in homes:
                inputs[name] = model.inputs[name][0]
            elif homes[name] != i:
                inputs[name] = programs[homes[name]].shape(name)
        program = HostProgram(model.path, model.opset, inputs, constants, ops, list(used[i]), types, as_written=True)
        program.check()
        programs.append(program)
    return programs


def _graphs(graph: IntegerGraph, needs: Needs, numbers: Mapping[str, int], count: int) -> list[IntegerGraph]:
    """The nodes of each part; its outputs are what other parts and the host read."""
    graphs = [IntegerGraph(graph.name) for _ in range(count)]
    handed = dict.fromkeys(t for e in needs.ends.values() for t, _ in e.terms)
    for name in graph.inputs:
        own = graphs[numbers[name]]
        own.inputs.append(name)
        own.tensors[name] = graph.tensors[name]
    for node in graph.nodes:
        own = graphs[numbers[node.output]]
        for name in node.inputs:
            if name not in own.tensors:  # made in an earlier part
                own.inputs.append(name)
                own.tensors[name] = graph.tensors[name]
                handed[name] = None
        own.add(node, graph.tensors[node.output])
    for name in handed:
        graphs[numbers[name]].outputs.append(name)
    return graphs
