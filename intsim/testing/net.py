"""A builder of small ONNX graphs: one call a node, constants made on the way."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

QONNX = "qonnx.custom_op.general"
CHANNELS_LAST = "qonnx.custom_op.channels_last"


class Net:
    """An ONNX graph under construction. Methods add nodes and return the names of their outputs."""

    def __init__(self, opset: int = 17) -> None:
        """Start empty; `opset` is the version of ONNX's own operators."""
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.domains: set[str] = set()
        self.count = itertools.count()

    def input(self, *shape: int, name: str = "x", kind: int = TensorProto.FLOAT) -> str:
        """A graph input of a fixed shape; `kind` is an element type of TensorProto."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def const(self, array: Any, dtype: Any = None, kind: int | None = None) -> str:
        """A constant: float32 where `array` holds Python floats, int64 where it holds integers; `kind` packs int4."""
        name, array = f"c{next(self.count)}", np.asarray(array)
        if kind is not None:
            self.constants.append(helper.make_tensor(name, kind, array.shape, array.reshape(-1).tolist()))
            return name
        dtype = dtype if dtype is not None else np.float32 if array.dtype.kind == "f" else array.dtype
        self.constants.append(numpy_helper.from_array(array.astype(dtype), name))
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
        """The model; `outputs` are names of tensors, `kinds` their element types where not float."""
        ends = [helper.make_tensor_value_info(o, (kinds or {}).get(o, TensorProto.FLOAT), None) for o in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, ends, self.constants)
        imports = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(d, 1) for d in sorted(self.domains))]
        return helper.make_model(graph, opset_imports=imports, ir_version=10)
