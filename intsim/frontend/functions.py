"""Functions that a file defines itself: every call replaced by the nodes of its body, as ONNX defines it."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto, helper

from intsim.errors import IntsimError
from intsim.frontend.decode import needed_nodes
from intsim.frontend.names import Fresh, names_of
from intsim.frontend.operators import ROWS, STANDARD

MOST_NODES = 1 << 17
"""Nodes of all bodies together, written out."""

MOST_DEEP = 100
"""Calls within one another."""

Key = tuple[str, str, str]


def inlined(path: str, proto: ModelProto) -> ModelProto:
    """A copy without functions, of the nodes that an output needs; the same object where there are no functions.

    Raises IntsimError for functions that call themselves or become too many nodes, for one with the name of an
    operator that this room reads (ONNX leaves open which of the two is meant), and for one whose opset gives a node of
    it another meaning than the file's.
    """
    if not proto.functions:
        return proto
    out = ModelProto()
    out.CopyFrom(proto)
    writer = _Writer(path, proto)
    del out.graph.node[:]
    out.graph.node.extend(writer.written(needed_nodes(path, proto.graph), ()))
    del out.functions[:]
    return out


class _Writer:
    """Calls of one file, written out."""

    def __init__(self, path: str, proto: ModelProto) -> None:
        self.path = path
        self.functions: dict[Key, FunctionProto] = {}
        for f in proto.functions:
            if _key(f.domain, f.name, f.overload) in self.functions:
                raise IntsimError(f"{path}: function {_said(f)}: is there twice")
            self.functions[_key(f.domain, f.name, f.overload)] = f
        self.opset = _standard_opset(proto.opset_import)
        self.fresh = Fresh(names_of(proto.graph))
        self.count = 0

    def written(self, nodes: Iterable[NodeProto], inside: tuple[Key, ...]) -> Iterable[NodeProto]:
        """The nodes, calls replaced; `inside` are the functions around them."""
        for node in nodes:
            key = _key(node.domain, node.op_type, node.overload)
            if key not in self.functions:
                self.count += bool(inside)
                if self.count > MOST_NODES:
                    raise IntsimError(f"{self.path}: its functions are more than {MOST_NODES} nodes when written out")
                yield node
                continue
            f = self.functions[key]
            if key[0] in STANDARD or key[:2] in ROWS:
                raise IntsimError(
                    f"{self.path}: function {_said(f)}: has the name of an operator that is not the file's own; "
                    "give it a domain of its own"
                )
            if key in inside:
                raise IntsimError(f"{self.path}: function {_said(f)}: calls itself")
            if len(inside) >= MOST_DEEP:
                raise IntsimError(f"{self.path}: function {_said(f)}: is {MOST_DEEP} calls deep")
            self._check_opset(f)
            yield from self.written(self._body(node, f), (*inside, key))

    def _check_opset(self, f: FunctionProto) -> None:
        """A body's standard operators must mean in the file's opset what they mean in its own."""
        own = _standard_opset(f.opset_import)
        for node in f.node:
            if node.domain in STANDARD and own != self.opset and _version(node, own) != _version(node, self.opset):
                raise IntsimError(
                    f"{self.path}: function {_said(f)}: its {node.op_type} is of opset {own}, the file imports opset "
                    f"{self.opset}; bring both to one opset"
                )

    def _body(self, call: NodeProto, f: FunctionProto) -> list[NodeProto]:
        """A function's nodes with the tensors and attributes of one call."""
        if len(call.input) > len(f.input) or len(call.output) > len(f.output):
            raise IntsimError(
                f"{self.path}: node {call.name or call.op_type}: has more inputs or outputs than {_said(f)}"
            )
        stem = call.name or f"{f.name}_{next((o for o in call.output if o), '')}"
        given = {a.name: a for a in f.attribute_proto} | {a.name: a for a in call.attribute}
        tensors = {"": "", **dict.fromkeys(f.input, ""), **dict(zip(f.input, call.input, strict=False))}
        ends = {formal: actual for formal, actual in zip(f.output, call.output, strict=False) if actual}
        made: set[str] = set()
        for node in f.node:
            for output in node.output:
                if output and output not in made:
                    made.add(output)
                    straight = output in ends and output not in f.input
                    tensors[output] = ends[output] if straight else self.fresh(f"{stem}.{output}")
        nodes = [self._node(node, stem, tensors, given) for node in f.node]
        for formal, actual in zip(f.output, call.output, strict=False):
            if actual and tensors.get(formal, "") != actual:
                # an output that is an input, or that is listed twice
                source = tensors.get(formal, "")
                nodes.append(helper.make_node("Identity", [source], [actual], name=self.fresh(f"{stem}.{formal}")))
        return nodes

    def _node(self, node: NodeProto, stem: str, tensors: dict[str, str], given: dict[str, AttributeProto]) -> NodeProto:
        out = NodeProto()
        out.CopyFrom(node)
        out.name = self.fresh(f"{stem}.{node.name or node.op_type}")
        del out.input[:], out.output[:], out.attribute[:]
        out.input.extend(tensors[n] if n in tensors else self.fresh(f"{stem}.{n}") for n in node.input)
        out.output.extend(tensors[n] for n in node.output)
        for attribute in node.attribute:
            source = given.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
            if source is not None:
                copy = out.attribute.add()
                copy.CopyFrom(source)
                copy.name = attribute.name
        return out


def _key(domain: str, name: str, overload: str) -> Key:
    return "" if domain in STANDARD else domain, name, overload


def _said(f: FunctionProto) -> str:
    return f"{f.domain}.{f.name}"


def _standard_opset(imports: Iterable[onnx.OperatorSetIdProto]) -> int:
    return next((o.version for o in imports if o.domain in STANDARD), 0)


def _version(node: NodeProto, opset: int) -> int:
    """The opset in which an operator got the meaning that it has in `opset`; 0 if it isn't there."""
    try:
        return int(onnx.defs.get_schema(node.op_type, opset, "").since_version)
    except onnx.defs.SchemaError:
        return 0
