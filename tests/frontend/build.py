"""A builder of small ONNX graphs, and the check that what is lowered from one computes what the reference does."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import intsim
from intsim.frontend.expression import Expr
from intsim.graph import IntegerGraph
from intsim.verify.reference import Reference

QONNX = "qonnx.custom_op.general"
CHANNELS_LAST = "qonnx.custom_op.channels_last"


class Net:
    """An ONNX graph under construction. Methods add nodes and return the names of their outputs."""

    def __init__(self, opset: int = 17) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.domains: set[str] = set()
        self.count = itertools.count()

    def input(self, *shape: int, name: str = "x", kind: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def const(self, array: Any, dtype: Any = None, kind: int | None = None) -> str:
        """A constant: float32 where `array` holds Python floats, int64 where it holds integers; `kind` packs int4."""
        name = f"c{next(self.count)}"
        if kind is not None:
            array = np.asarray(array)
            self.constants.append(helper.make_tensor(name, kind, array.shape, array.reshape(-1).tolist()))
            return name
        array = np.asarray(array)
        array = array.astype(dtype if dtype is not None else np.float32 if array.dtype.kind == "f" else array.dtype)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, *inputs: Any, domain: str = "", outputs: int = 1, **attributes: Any) -> Any:
        """Inputs are tensor names, None (absent) or arrays, which become constants."""
        names = [i if isinstance(i, str) else "" if i is None else self.const(i) for i in inputs]
        made = [f"{op.lower()}{next(self.count)}" for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, names, made, name=f"{op}_{made[0]}", domain=domain, **attributes))
        if domain:
            self.domains.add(domain)
        return made[0] if outputs == 1 else made

    def quant(
        self,
        x: Any,
        scale: Any = 0.25,
        zero: Any = 0.0,
        bits: Any = 4,
        domain: str = QONNX,
        op: str = "Quant",
        **at: Any,
    ) -> str:
        """QONNX Quant; attributes signed, narrow, rounding_mode."""
        at = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND", **at}
        return self.node(op, x, np.float32(scale), np.float32(zero), np.float32(bits), domain=domain, **at)

    def qdq(self, x: Any, scale: Any, zero: Any, clip: tuple[Any, Any] | None = None, **at: Any) -> str:
        """QuantizeLinear, Clip if `clip` is given, DequantizeLinear; `zero` is a typed array or a constant's name."""
        s, z = self.const(np.float32(scale)), zero if isinstance(zero, str) else self.const(zero)
        q = self.node("QuantizeLinear", x, s, z, **at)
        if clip is not None:
            q = self.node("Clip", q, *clip)
        return self.node("DequantizeLinear", q, s, z, **at)

    def model(self, *outputs: str, kinds: dict[str, int] | None = None) -> onnx.ModelProto:
        ends = [helper.make_tensor_value_info(o, (kinds or {}).get(o, TensorProto.FLOAT), None) for o in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, ends, self.constants)
        imports = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(d, 1) for d in sorted(self.domains))]
        return helper.make_model(graph, opset_imports=imports, ir_version=10)


def exact_value(expr: Expr, tensors: dict[str, np.ndarray], index: tuple[int, ...]) -> Fraction:
    """One element of an expression, written out."""

    def at(parameter: Any) -> Fraction:
        return np.broadcast_to(np.asarray(parameter, object), expr.shape)[index] if expr.shape else parameter.item()

    total = at(expr.offset)
    for name, scale in expr.terms:
        total += at(scale) * int(np.broadcast_to(tensors[name], expr.shape)[index])
    for step in expr.steps:
        v = [None if e is None else at(e) for e in step.values]
        if step.kind == "affine":
            total = total * v[0] + v[1]
        elif step.kind == "leaky":
            total = total * v[0] if total < 0 else total
        else:
            total = total if v[0] is None else max(total, v[0])
            total = total if v[1] is None else min(total, v[1])
    return Fraction(total)


def check(model: onnx.ModelProto, inputs: dict[str, np.ndarray], least: int = 1) -> intsim.Run:
    """Lower, run on `exact`, compare every quantizer's codes and every integer output with the reference.

    At least `least` tensors must have been compared. Also: ranges enclose every value, and the graph survives a file.
    """
    loaded = intsim.load(model)
    run = loaded.run(inputs, keep=True)
    reference = Reference(model).run(inputs)
    compared = 0
    graph: IntegerGraph = loaded.graph
    for name, info in graph.tensors.items():
        value = run.tensors[name]
        assert value.dtype == np.int64
        assert value.shape == info.shape, name
        assert info.low <= value.min(), name
        assert value.max() <= info.high, name
        if info.type is not None:
            assert info.type.contains(int(value.min()), int(value.max())), name
        if info.onnx in reference.codes:
            np.testing.assert_array_equal(value, reference.codes[info.onnx], err_msg=f"codes of {name}")
            compared += 1
    for name, value in loaded.lowered.outputs.items():
        if isinstance(value, Expr):
            assert value.shape == reference.value(name).shape
            for flat, index in enumerate(np.ndindex(*value.shape)):
                assert exact_value(value, run.tensors, index) == reference.exact(name, flat), (name, index)
            compared += 1
        tolerance = np.abs(reference.value(name)) * 1e-5 + 1e-5
        assert (np.abs(run.outputs[name].astype(np.float64) - reference.value(name)) <= tolerance).all(), name
        assert run.outputs[name].shape == reference.value(name).shape
    assert compared >= least, f"only {compared} tensors were compared"
    with TemporaryDirectory() as folder:
        graph.save(Path(folder) / "graph")
        assert IntegerGraph.load(Path(folder) / "graph") == graph
    return run


def halves(rng: np.random.Generator, shape: Sequence[int], scale: float = 0.25, reach: int = 12) -> np.ndarray:
    """Float32 values on half steps of a power-of-two `scale`, so that every other one is a rounding tie."""
    return (rng.integers(-2 * reach, 2 * reach + 1, tuple(shape)) * (scale / 2)).astype(np.float32)
