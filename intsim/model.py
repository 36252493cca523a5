"""A lowered model that can be run: real inputs in, integers inside, the file's outputs out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from intsim.engine.threads import using
from intsim.errors import IntsimError
from intsim.frontend.codes import quantize_constant
from intsim.frontend.context import Boundary
from intsim.frontend.expression import Expr, is_codes
from intsim.frontend.lower import LoweredModel
from intsim.frontend.lower import load as lower
from intsim.frontend.parameters import ONNX_INTEGERS
from intsim.frontend.reader import parameter_inputs
from intsim.graph import IntArray, IntegerGraph
from intsim.notebook import Shown
from intsim.targets import Target

if TYPE_CHECKING:
    from intsim.engine.program.program import LayerProfile
    from intsim.engine.run import GraphRun, Progress

Inputs = Mapping[str, Any]


@dataclass
class Run(Shown):
    """One run. `outputs` are the file's outputs in the file's types; `codes` the integers behind them.

    `tensors` holds integer tensors by name (all of them when asked for), `overflows` events as an int64 array
    (channels, stages) for each multiply-accumulate node, `inputs` the integer codes that went in, `given` the same in
    narrower types, `live_bytes` the most that tensors took at once, as planned (0: nothing was planned).
    """

    outputs: dict[str, NDArray[Any]]
    codes: dict[str, IntArray]
    tensors: dict[str, IntArray]
    overflows: dict[str, IntArray]
    given: dict[str, NDArray[Any]]
    live_bytes: int = 0

    @cached_property
    def inputs(self) -> dict[str, IntArray]:
        """Integer codes for each input of the integer graph."""
        return {n: a.astype(np.int64) for n, a in self.given.items()}


@dataclass
class Model(Shown):
    """A quantized network as integers. Made by `load`."""

    lowered: LoweredModel

    @property
    def path(self) -> str:
        """Where it came from."""
        return self.lowered.path

    @property
    def graph(self) -> IntegerGraph:
        """The integer graph."""
        return self.lowered.graph

    @property
    def quantizer_names(self) -> dict[str, str]:
        """Integer graph input to the name of the quantizer node that makes it."""
        return {b.tensor: b.source for b in self.lowered.boundaries}

    def check_inputs(self, inputs: Inputs) -> dict[str, NDArray[Any]]:
        """Inputs as arrays of the file's shapes; raises IntsimError for wrong names, shapes, types or values."""
        wanted, constants = self.lowered.source.inputs, self.lowered.source.constants
        bound = {n: constants[n] for n in self._declared & constants.keys()}
        unknown = [n for n, a in inputs.items() if n not in wanted and not (n in bound and np.array_equal(a, bound[n]))]
        missing = [n for n in wanted if n not in inputs]
        if unknown or missing:
            what = [f"has no input {n!r}" for n in unknown[:1]] + [f"needs input {n!r}" for n in missing[:1]]
            raise IntsimError(f"{self.path}: {' and '.join(what)}; its inputs are {', '.join(wanted)}")
        return {n: self._checked(n, inputs[n]) for n in wanted}

    @cached_property
    def _declared(self) -> set[str]:
        """Names of the file's graph inputs, those that became constants included."""
        return {i.name for i in self.lowered.source.proto.graph.input}

    def _checked(self, name: str, value: Any) -> NDArray[Any]:
        shape, element = self.lowered.source.inputs[name]
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise IntsimError(f"{self.path}: input {name}: not an array: its rows differ in length") from error
        if array.dtype.kind not in "fiub" and array.dtype.name not in ("int4", "uint4", "int2", "uint2", "bfloat16"):
            raise IntsimError(f"{self.path}: input {name}: type {array.dtype} is not numeric")
        if array.shape != shape:
            raise IntsimError(f"{self.path}: input {name}: shape {array.shape} given, the file needs {shape}")
        if element in ONNX_INTEGERS:
            info = self.graph.tensors.get(name)
            if array.dtype.kind == "f":
                raise IntsimError(f"{self.path}: input {name}: floats given, the file takes integers")
            codes = array.astype(np.int64)
            # a uint64 above 2**63 must not come back as a negative code
            seen = array if array.dtype.kind == "u" else codes
            if info is not None and seen.size and (int(seen.min()) < info.low or int(seen.max()) > info.high):
                raise IntsimError(
                    f"{self.path}: input {name}: values leave {info.low}..{info.high}, which intsim takes"
                )
            return codes
        floats = array if array.dtype.kind == "f" else array.astype(np.float64)
        if not np.isfinite(floats).all():
            raise IntsimError(f"{self.path}: input {name}: holds NaN or infinity")
        return array

    def integer_inputs(self, inputs: Inputs) -> dict[str, IntArray]:
        """Codes for the integer graph: the prologue in float64, then the first quantizers."""
        return {n: a.astype(np.int64) for n, a in self.narrow_inputs(inputs).items()}

    def narrow_inputs(self, inputs: Inputs) -> dict[str, NDArray[Any]]:
        """The same codes, those of 8 bits in a type of 8 bits."""
        arrays = self.check_inputs(inputs)
        # without work of its own the prologue would only widen them to float64, which changes no code
        host = self.lowered.prologue.run(arrays) if self.lowered.prologue.operations else arrays
        codes = {b.tensor: quantize_boundary(b, host[b.host]) for b in self.lowered.boundaries}
        return {n: codes[n] if n in codes else arrays[n] for n in self.graph.inputs}

    def real(self, value: Expr, tensors: Mapping[str, IntArray]) -> NDArray[np.float64]:
        """An expression's value in float64."""
        total = np.asarray(value.offset, np.float64)
        for name, scale in value.terms:
            total = total + tensors[name].astype(np.float64) * np.asarray(scale, np.float64)
        for step in value.steps:
            edges: list[Any] = [None if v is None else np.asarray(v, np.float64) for v in step.values]
            if step.kind == "affine":
                total = total * edges[0] + edges[1]
            elif step.kind == "leaky":
                total = np.where(total < 0, total * edges[0], total)
            else:
                total = np.clip(total, edges[0], edges[1])
        return np.broadcast_to(total, value.shape)

    def value(self, value: Expr, tensors: Mapping[str, IntArray]) -> NDArray[Any]:
        """The integers themselves where they are the value, else the value in float64."""
        if is_codes(value):
            return np.broadcast_to(tensors[value.terms[0][0]], value.shape)
        return self.real(value, tensors)

    def _fitting(self, name: str, array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An output in the file's integer type; raises IntsimError for numbers that it doesn't hold."""
        with np.errstate(invalid="ignore"):
            out = array.astype(dtype)
        if not (out.astype(object) == array.astype(object)).all():
            raise IntsimError(f"{self.path}: output {name}: the file declares {dtype}, which doesn't hold its numbers")
        return out

    def finish(self, inputs: Inputs, run: GraphRun) -> tuple[dict[str, NDArray[Any]], dict[str, IntArray]]:
        """The file's outputs, through the epilogue, and the integers behind each."""
        ends = {n: self.value(e, run.tensors) for n, e in self.lowered.ends.items()}
        given = {n: np.asarray(inputs[n]) for n in self.lowered.epilogue.inputs if n not in ends}
        host = self.lowered.epilogue.run({**ends, **given}) if self.lowered.epilogue.wanted else {}
        outputs, codes = {}, {}
        for name, element in self.lowered.source.outputs.items():
            value = self.lowered.outputs[name]
            array = ends[name] if isinstance(value, Expr) else host[name]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(element) if element else np.dtype(np.float32)
            if isinstance(value, Expr) and len(value.terms) == 1 and not value.steps:
                codes[name] = run.tensors[value.terms[0][0]]
            outputs[name] = self._fitting(name, array, dtype) if element in ONNX_INTEGERS else array.astype(dtype)
        for name, end in self.lowered.ends.items():
            if len(end.terms) == 1:
                codes.setdefault(name, run.tensors[end.terms[0][0]])
        return outputs, codes

    def run(
        self,
        inputs: Inputs,
        target: str | Path | Target = "exact",
        keep: bool = False,
        progress: Progress | None = None,
        counts: bool = True,
        threads: int | None = None,
        profile: list[LayerProfile] | None = None,
        overflow_check: bool = True,
    ) -> Run:
        """Run on a target; see `intsim.run`. `progress` gets a line of text before each step, `profile` its record."""
        from intsim.engine.run import run_graph  # the compiler comes with it: not needed to read or prove a model

        chosen = target if isinstance(target, Target) else Target.load(target)
        codes = self.narrow_inputs(inputs)
        with using(threads):
            ran = run_graph(
                self.graph, codes, chosen, keep, progress, counts=counts, profile=profile, overflow_check=overflow_check
            )
        outputs, ends = self.finish(inputs, ran)
        return Run(outputs, ends, ran.tensors, ran.events, codes, ran.live_bytes)


def quantize_boundary(boundary: Boundary, value: NDArray[Any]) -> NDArray[Any]:
    """Integer codes of a host value, decided exactly from its float64; uint8 or int8 if the range allows."""
    if boundary.bipolar:
        codes = quantize_constant(value, boundary.scale, boundary.before, 0, "floor", -1, 0)
        return np.where(codes >= 0, 1, -1).astype(np.int64)
    b = boundary
    kind = np.uint8 if b.low >= 0 and b.high <= 255 else np.int8 if b.low >= -128 and b.high <= 127 else np.int64
    return quantize_constant(value, b.scale, b.before, b.after, b.rounding, b.low, b.high, kind).reshape(value.shape)


def load(
    model: str | Path | onnx.ModelProto,
    constants: Inputs | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Model:
    """Read a quantized ONNX model (QONNX, QCDQ or QOperator) and lower it to integers.

    Args:
        model: path or ModelProto.
        constants: arrays for graph inputs that must be known beforehand, such as a scale or weights given as input.
        shapes: shapes for inputs whose shape the file leaves open.

    Raises:
        IntsimError: the file can't be read, or some node can't be integer-only; one line names file and nodes.
    """
    return Model(lower(model, constants, shapes))


def opened(model: str | Path | onnx.ModelProto | Model, inputs: Inputs | None = None) -> Model:
    """A loaded model; graph inputs that are parameters of an operator (scales, weights) are bound from `inputs`."""
    if isinstance(model, Model):
        return model
    names = parameter_inputs(model) if inputs else set()
    return load(model, {n: np.asarray(v) for n, v in (inputs or {}).items() if n in names})


def run(
    model: str | Path | onnx.ModelProto | Model,
    inputs: Inputs,
    target: str | Path | Target = "exact",
    keep: bool = False,
    counts: bool = True,
    threads: int | None = None,
) -> Run:
    """Run a model as integers on a target.

    Args:
        model: path, ModelProto or what `load` returned.
        inputs: one array for each graph input, in the file's shapes: real values for float inputs, codes for integer
            inputs. Scales, zero points and weights that the file leaves as inputs may be among them.
        target: a built-in name, a TOML file or a `Target`.
        keep: keep every integer tensor, not only those behind the outputs.
        counts: count overflow events. Without, `overflows` holds 1 where a register overflowed at all, else 0, and
            some layers run faster.
        threads: how many to use; None for the default (INTSIM_THREADS, else all processors that may be used). The
            result does not depend on it.

    Raises:
        IntsimError: inputs that don't fit the model, or a layer that doesn't fit the target.
    """
    return opened(model, inputs).run(inputs, target, keep, counts=counts, threads=threads)
