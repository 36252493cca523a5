"""A second reading of .tflite files: the flatbuffer evaluated as it is written, in exact arithmetic.

It shares no code with the translation to ONNX, the lowering or the engine: layouts, padding, scales, biases and fused
activations are read here a second time, and every code is rounded from an exact rational (or 60 decimal digits).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.verification.tflite.flatbuffer import Flat
from intsim.verification.tflite.kernels import KERNELS, Call
from intsim.verification.tflite.numbers import clipped, fraction, half_even

__all__ = ["Reading"]


class _Defaults:
    """Options that the file leaves out: each is 0, as the schema has it."""

    def __getattr__(self, name: str) -> Any:
        return lambda: 0


class Reading:
    """A .tflite file, evaluated operator by operator. `tensors` are the file's, by their numbers."""

    def __init__(self, data: bytes) -> None:
        """Read the file's bytes; they were read without complaint before."""
        import tflite  # here: an optional package of nearly 200 modules

        model = tflite.Model.GetRootAs(data, 0)
        self._graph = model.Subgraphs(0)
        self._schema = tflite
        codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
        names = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}
        self._kinds = [names[max(c.BuiltinCode(), c.DeprecatedBuiltinCode())] for c in codes]
        self._tables = {v: k for k, v in vars(tflite.BuiltinOptions).items() if isinstance(v, int)}
        self.tensors = [Flat(self._graph.Tensors(i), model.Buffers) for i in range(self._graph.TensorsLength())]
        self.operators = [self._graph.Operators(i) for i in range(self._graph.OperatorsLength())]
        wanted = {self._graph.Outputs(i) for i in range(self._graph.OutputsLength())}
        self._needed: set[int] = set()
        for position in reversed(range(len(self.operators))):
            op = self.operators[position]
            if any(op.Outputs(i) in wanted for i in range(op.OutputsLength())):
                self._needed.add(position)
                wanted.update(op.Inputs(i) for i in range(op.InputsLength()))

    def kind(self, position: int) -> str:
        """The operator at a position of the file."""
        return self._kinds[self.operators[position].OpcodeIndex()]

    def steps(self, inputs: Sequence[NDArray[Any]]) -> Any:
        """Evaluate in the file's order; yields (operator's number, tensor's number, codes) for each tensor of codes.

        `inputs` are arrays for the graph's inputs, in order. What the caller sends back replaces the codes further on.
        """
        values: dict[int, NDArray[Any]] = {i: t.data for i, t in enumerate(self.tensors) if t.data is not None}
        given = [self._graph.Inputs(i) for i in range(self._graph.InputsLength())]
        values |= dict(zip(given, inputs, strict=True))
        for position, op in enumerate(self.operators):
            outs = [op.Outputs(i) for i in range(op.OutputsLength())]
            kind = self.kind(position)
            if kind == "DEQUANTIZE" or position not in self._needed:
                continue
            made = self._made(op, kind, values, outs)
            for number, codes in zip(outs, made, strict=True):
                if codes.shape != self.tensors[number].shape:
                    raise IntsimError(f"{kind} makes {codes.shape}, the file says {self.tensors[number].shape}")
                values[number] = codes
                if self.tensors[number].scales:
                    replaced = yield position, number, codes
                    values[number] = codes if replaced is None else replaced

    def _made(self, op: Any, kind: str, values: dict[int, NDArray[Any]], outs: list[int]) -> list[NDArray[Any]]:
        ins = [op.Inputs(i) for i in range(op.InputsLength())]
        if kind == "QUANTIZE" and self.tensors[ins[0]].type == 0:
            return [self._quantized(values[ins[0]], self.tensors[outs[0]])]
        options: Any = _Defaults()
        if op.BuiltinOptions() is not None:
            options = getattr(self._schema, self._tables[op.BuiltinOptionsType()])()
            options.Init(op.BuiltinOptions().Bytes, op.BuiltinOptions().Pos)
        call = Call(
            kind,
            [None if i < 0 else self.tensors[i] for i in ins],
            [None if i < 0 else values[i] for i in ins],
            [self.tensors[i] for i in outs],
            options,
        )
        made = KERNELS[kind](call)
        return made if isinstance(made, list) else [made]

    def _quantized(self, real: NDArray[Any], out: Flat) -> NDArray[np.int64]:
        values, inverse = np.unique(np.asarray(real), return_inverse=True)
        scale: Fraction = out.scale
        codes = [clipped(half_even(fraction(v) / scale) + out.zero, out.limits) for v in values]
        return np.array(codes, np.int64)[inverse.reshape(-1)].reshape(np.shape(real))
