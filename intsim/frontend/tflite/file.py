"""A .tflite file as plain data: tensors, operators with their options, inputs and outputs. Every number is checked."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from intsim.errors import IntsimError
from intsim.frontend.names import Fresh
from intsim.frontend.tflite.schema import OPTIONAL, OPTIONS, TYPES, names, package
from intsim.graph import MOST_ELEMENTS

MAGIC = b"TFL3"
"""At byte 4 of every .tflite file."""
DAMAGED = "is a damaged or truncated TensorFlow Lite file"
ACTIVATIONS = ("INT8", "UINT8", "INT16")
"""Types of quantized activations."""


@dataclass(frozen=True)
class FileTensor:
    """A tensor of the file.

    `kind` is the schema's element type; `scales` (float32) and `zeros` (int64) have one value, or one for each index of
    `axis`, and are empty for a tensor that isn't quantized. `data` holds a constant, None for what is computed.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    kind: str
    scales: np.ndarray
    zeros: np.ndarray
    axis: int
    data: np.ndarray | None

    @property
    def quantized(self) -> bool:
        """Whether it has a scale."""
        return self.scales.size > 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """numpy's type of its elements; int8 for nibbles."""
        return TYPES.get(self.kind, np.dtype(np.int8))

    def same_codes(self, other: FileTensor) -> bool:
        """Whether codes of one mean the same real numbers as codes of the other."""
        return (
            self.kind == other.kind
            and np.array_equal(self.scales, other.scales)
            and np.array_equal(self.zeros, other.zeros)
        )


@dataclass(frozen=True)
class FileOperator:
    """An operator of the file: its name in the schema, its place, tensor numbers (-1: left out), its options."""

    index: int
    kind: str
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TfliteFile:
    """What a .tflite file holds; `inputs` and `outputs` are tensor numbers."""

    path: str
    tensors: list[FileTensor]
    operators: list[FileOperator]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    sha256: str


def parse(path: str, data: bytes) -> TfliteFile:
    """Read the bytes of a .tflite file.

    Raises IntsimError, one line, for damaged files and for what no graph here can hold: several subgraphs, variables,
    sparse tensors, types without arithmetic, scales that aren't positive numbers.
    """
    try:
        schema = package()
    except IntsimError as error:
        raise IntsimError(f"{path}: {error}") from error
    try:
        model = schema.Model.GetRootAs(data, 0)
        return _model(path, data, model)
    except IntsimError:
        raise
    except Exception as error:  # flatbuffers checks nothing: damaged bytes end in a dozen kinds of error
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise IntsimError(f"{path}: {DAMAGED} ({reason})") from error


def _vector(count: int, item: Any, data: bytes) -> list[Any]:
    if count * 4 > len(data):
        raise ValueError(f"a list of {count} entries in a file of {len(data)} bytes")
    return [item(i) for i in range(count)]


def _numbers(values: Any) -> tuple[int, ...]:
    return tuple(int(v) for v in np.atleast_1d(values)) if not isinstance(values, int) else ()


def _model(path: str, data: bytes, model: Any) -> TfliteFile:
    if model.Version() != 3:
        raise IntsimError(f"{path}: has version {model.Version()} of the .tflite schema; 3 is the one that is read")
    if model.SubgraphsLength() != 1:
        what = f"holds {model.SubgraphsLength()} subgraphs"
        raise IntsimError(f"{path}: {what}; one is supported (no control flow, one signature)")
    graph = model.Subgraphs(0)
    buffers = _vector(model.BuffersLength(), model.Buffers, data)
    fresh = Fresh([""])
    raw = _vector(graph.TensorsLength(), graph.Tensors, data)
    tensors = [_tensor(path, i, t, buffers, fresh) for i, t in enumerate(raw)]
    codes = _vector(model.OperatorCodesLength(), model.OperatorCodes, data)
    kinds = [_kind(c) for c in codes]
    operators = []
    for i, op in enumerate(_vector(graph.OperatorsLength(), graph.Operators, data)):
        kind = kinds[op.OpcodeIndex()]
        inputs, outputs = _numbers(op.InputsAsNumpy()), _numbers(op.OutputsAsNumpy())
        if any(not -1 <= t < len(tensors) for t in inputs) or any(not 0 <= t < len(tensors) for t in outputs):
            raise ValueError(f"operator {i} reads or makes a tensor that isn't there")
        name = f"{i}:{tensors[outputs[0]].name}" if outputs else str(i)
        operators.append(FileOperator(i, kind, name, inputs, outputs, _options(path, name, kind, op)))
    ends = _numbers(graph.InputsAsNumpy()), _numbers(graph.OutputsAsNumpy())
    if any(not 0 <= t < len(tensors) for t in (*ends[0], *ends[1])):
        raise ValueError("an input or output of the graph is a tensor that isn't there")
    if not ends[1]:
        raise IntsimError(f"{path}: the graph has no output")
    if len(set(ends[0])) < len(ends[0]) or len(set(ends[1])) < len(ends[1]):
        raise IntsimError(f"{path}: one tensor is an input or output of the graph twice")
    return TfliteFile(path, tensors, operators, *ends, hashlib.sha256(data).hexdigest())


def _kind(code: Any) -> str:
    # codes up to 127 are in the old field of one byte too; readers take the larger (schema.fbs, OperatorCode)
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    if names("BuiltinOperator").get(number) == "CUSTOM":
        return f"CUSTOM {(code.CustomCode() or b'').decode()}".strip()
    return names("BuiltinOperator").get(number, f"operator {number}")


def _options(path: str, name: str, kind: str, op: Any) -> dict[str, Any]:
    if kind not in OPTIONS:
        return {}
    table, fields = OPTIONS[kind]
    held = op.BuiltinOptions()
    if held is None or names("BuiltinOptions").get(op.BuiltinOptionsType()) != table:
        if kind in OPTIONAL and op.BuiltinOptionsType() == 0:
            return {f.removesuffix("AsNumpy"): () if f.endswith("AsNumpy") else 0 for f in fields}
        raise IntsimError(f"{path}: node {name} ({kind}): has no {table}; the file is damaged")
    read = getattr(package(), table)()
    read.Init(held.Bytes, held.Pos)
    out = {}
    for f in fields:
        value = getattr(read, f)()
        out[f.removesuffix("AsNumpy")] = _numbers(value) if f.endswith("AsNumpy") else value
    return out


def _tensor(path: str, index: int, tensor: Any, buffers: list[Any], fresh: Fresh) -> FileTensor:
    own = (tensor.Name() or b"").decode()
    name = fresh(own or f"tensor{index}")
    where = f"{path}: tensor {name}"
    kind = names("TensorType")[tensor.Type()]
    if tensor.IsVariable():
        raise IntsimError(f"{where}: is a variable, kept from run to run; only stateless graphs are supported")
    if tensor.Sparsity() is not None:
        raise IntsimError(f"{where}: is stored sparse, which is not supported; convert without sparsity")
    shape = _numbers(tensor.ShapeAsNumpy())
    if any(s <= 0 for s in shape):
        raise IntsimError(f"{where}: dynamic or empty shape {list(shape)}; convert the network with fixed shapes")
    if math.prod(shape) > MOST_ELEMENTS:
        raise IntsimError(f"{where}: shape {list(shape)} has more than the {MOST_ELEMENTS} elements of one tensor")
    scales, zeros, axis = _quantization(where, tensor.Quantization(), shape, kind)
    return FileTensor(index, name, shape, kind, scales, zeros, axis, _data(where, tensor, buffers, shape, kind))


def _quantization(where: str, q: Any, shape: tuple[int, ...], kind: str) -> tuple[np.ndarray, np.ndarray, int]:
    none = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    if q is None or not q.ScaleLength():
        return none
    if q.DetailsType():
        raise IntsimError(f"{where}: has a custom or blockwise quantization, which is not supported")
    scales = np.array(q.ScaleAsNumpy(), np.float32)
    zeros = np.zeros(1, np.int64) if not q.ZeroPointLength() else np.array(q.ZeroPointAsNumpy(), np.int64)
    axis = int(q.QuantizedDimension()) if scales.size > 1 else 0
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        raise IntsimError(f"{where}: its scale is not a positive number")
    if scales.size > 1 and not (0 <= axis < len(shape) and shape[axis] == scales.size):
        raise IntsimError(f"{where}: has {scales.size} scales for axis {axis} of shape {list(shape)}")
    if zeros.size not in (1, scales.size):
        raise IntsimError(f"{where}: has {zeros.size} zero points for {scales.size} scales")
    zeros = np.broadcast_to(zeros, scales.shape).copy()
    limits = np.iinfo(TYPES[kind]) if kind in TYPES and TYPES[kind].kind in "iu" else None
    if limits is not None and (zeros.min() < limits.min or zeros.max() > limits.max):
        raise IntsimError(f"{where}: its zero point is outside of {kind}")
    return scales, zeros, axis


def _data(where: str, tensor: Any, buffers: list[Any], shape: tuple[int, ...], kind: str) -> np.ndarray | None:
    if not 0 <= tensor.Buffer() < len(buffers):
        raise ValueError(f"tensor {tensor.Buffer()} has a buffer that isn't there")
    buffer = buffers[tensor.Buffer()]
    if buffer.Offset() > 1:
        raise IntsimError(f"{where}: its data lies behind the flatbuffer (a file above 2 GB), which is not supported")
    if not buffer.DataLength():
        return None
    held = np.asarray(buffer.DataAsNumpy(), np.uint8)
    if kind == "INT4":
        nibbles = np.stack([held & 15, held >> 4], axis=-1).reshape(-1).astype(np.int8)
        if held.size != -(-math.prod(shape) // 2):
            raise ValueError(f"{where} has {held.size} bytes for shape {list(shape)} of INT4")
        return ((nibbles ^ 8) - 8)[: math.prod(shape)].reshape(shape)
    if kind not in TYPES:
        raise IntsimError(f"{where}: constants of type {kind} are not supported")
    dtype = TYPES[kind].newbyteorder("<")
    if held.size != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{where} has {held.size} bytes for shape {list(shape)} of {kind}")
    return held.view(dtype).reshape(shape).astype(TYPES[kind])
