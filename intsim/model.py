"""A lowered model that can be run: real inputs in, integers inside, the file's outputs out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from intsim.engine.threads import using
from intsim.errors import IntsimError
from intsim.frontend.codes import quantize_input
from intsim.frontend.context import Boundary
from intsim.frontend.expression import Expr, is_codes
from intsim.frontend.lower import LoweredModel
from intsim.frontend.lower import load as lower
from intsim.frontend.parameters import ONNX_INTEGERS
from intsim.graph import IntArray, IntegerGraph
from intsim.inputs import Sample, checked
from intsim.notebook import Shown
from intsim.targets import Target

if TYPE_CHECKING:
    from intsim.engine.program.program import LayerProfile
    from intsim.engine.run import GraphRun, Progress


@dataclass
class Run(Shown):
    """What `intsim.run` returns.

    `outputs` are the file's outputs in the file's types; `codes` the integers behind them. `tensors` holds integer
    tensors by name (all of them when asked for), `overflows` events as an int64 array (channels, stages) for each
    multiply-accumulate node, `inputs` the integer codes that went in, `given` the same in narrower types, `live_bytes`
    the most that tensors took at once, as planned (0: nothing was planned). `islands`: of a model with float islands,
    what the host gave to integers, by name in the file. Of several samples every array has one more leading axis, but
    for `overflows`, which are added up.
    """

    outputs: dict[str, NDArray[Any]]
    codes: dict[str, IntArray]
    tensors: dict[str, IntArray]
    overflows: dict[str, IntArray]
    given: dict[str, NDArray[Any]]
    live_bytes: int = 0
    islands: dict[str, NDArray[Any]] = field(default_factory=dict)

    @cached_property
    def inputs(self) -> dict[str, IntArray]:
        """Integer codes for each input of the integer graph."""
        return {n: a.astype(np.int64) for n, a in self.given.items()}


@dataclass
class Model(Shown):
    """A quantized network as integers. Made by `load`.

    `file` is what a runtime was given, of a model that is the graph which it executes (`load_executed`).
    """

    lowered: LoweredModel
    file: onnx.ModelProto | None = None

    @property
    def path(self) -> str:
        """Where it came from."""
        return self.lowered.path

    @property
    def graph(self) -> IntegerGraph:
        """The integer graph."""
        return self.lowered.graph

    @property
    def islands(self) -> bool:
        """Whether floats run on the host between its integers: then nothing is said of the whole."""
        return bool(self.lowered.parts)

    def check_whole(self, what: str) -> None:
        """Raise IntsimError for a model with float islands, whose later codes depend on what a target makes."""
        if self.islands:
            raise IntsimError(
                f"{self.path}: {what} of a model with float islands is not supported: it keeps codes while the target "
                "changes, and behind an island codes depend on it; give it a network without islands"
            )

    def integer_inputs(self, inputs: Sample, target: Target | None = None) -> dict[str, IntArray]:
        """Codes for the integer graph: the prologue in float64, then the first quantizers, exact or as a target's
        runtime has them. With float islands they are those that a run on the target (else `exact`) makes."""
        return {n: a.astype(np.int64) for n, a in self.narrow_inputs(inputs, target).items()}

    def narrow_inputs(self, inputs: Sample, target: Target | None = None) -> dict[str, NDArray[Any]]:
        """The same codes, those of 8 bits in a type of 8 bits."""
        if self.islands:
            return self.run(inputs, "exact" if target is None else target).given
        of = quantize_boundary if target is None or target.rewriter is None else quantize_in_float32
        arrays = checked(self, inputs)
        # without work of its own the prologue would only widen them to float64, which changes no code
        host = self.lowered.prologue.run(arrays) if self.lowered.prologue.operations else arrays
        codes = {b.tensor: of(b, host[b.host]) for b in self.lowered.boundaries}
        return {n: codes[n] if n in codes else arrays[n] for n in self.graph.inputs}

    def real(self, value: Expr, tensors: Mapping[str, IntArray]) -> NDArray[np.float64]:
        """An expression's value in float64."""
        total, scales, steps = _in_float64(value)
        for (name, _), scale in zip(value.terms, scales, strict=True):
            total = total + tensors[name].astype(np.float64) * scale
        for kind, edges in steps:
            if kind == "affine":
                total = total * edges[0] + edges[1]
            elif kind == "leaky":
                total = np.where(total < 0, total * edges[0], total)
            else:
                total = np.clip(total, edges[0], edges[1])
        return total if total.shape == value.shape else np.broadcast_to(total, value.shape)

    def value(self, value: Expr, tensors: Mapping[str, IntArray]) -> NDArray[Any]:
        """The integers themselves where they are the value, else the value in float64."""
        if is_codes(value):
            codes = tensors[value.terms[0][0]]
            return codes if codes.shape == value.shape else np.broadcast_to(codes, value.shape)
        return self.real(value, tensors)

    def _fitting(self, name: str, array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An output in the file's integer type; raises IntsimError for numbers that it doesn't hold."""
        with np.errstate(invalid="ignore"):
            out = array.astype(dtype)
        if not (out.astype(object) == array.astype(object)).all():
            raise IntsimError(f"{self.path}: output {name}: the file declares {dtype}, which doesn't hold its numbers")
        return out

    def finish(self, inputs: Sample, run: GraphRun) -> tuple[dict[str, NDArray[Any]], dict[str, IntArray]]:
        """The file's outputs, through the epilogue, and the integers behind each."""
        ends = {n: self.value(e, run.tensors) for n, e in self.lowered.ends.items()}
        given = {n: np.asarray(inputs[n]) for n in self.lowered.epilogue.inputs if n not in ends}
        host = self.lowered.epilogue.run({**ends, **given}) if self.lowered.epilogue.wanted else {}
        return self._ended(ends, host, run.tensors)

    def _ended(
        self, ends: Mapping[str, NDArray[Any]], host: Mapping[str, NDArray[Any]], tensors: Mapping[str, IntArray]
    ) -> tuple[dict[str, NDArray[Any]], dict[str, IntArray]]:
        """The file's outputs of what integers stand for and of the host's tensors, and the integers behind each."""
        outputs = {}
        for name, integer, dtype in self._outputs:
            array = ends[name] if name in ends else host[name]
            outputs[name] = self._fitting(name, array, dtype) if integer else array.astype(dtype)
        return outputs, {name: tensors[tensor] for name, tensor in self._codes}

    @cached_property
    def _outputs(self) -> list[tuple[str, bool, np.dtype[Any]]]:
        """Name, whether the file declares integers, and their type."""
        return [(name, e in ONNX_INTEGERS, _dtype(e)) for name, e in self.lowered.source.outputs.items()]

    @cached_property
    def _codes(self) -> list[tuple[str, str]]:
        """Tensors of the file, and the integer tensor behind each."""
        held = {n: v.tensor for n, v in self.lowered.outputs.items() if isinstance(v, Expr) and v.linear}
        ends = {n: e.tensor for n, e in self.lowered.ends.items() if len(e.terms) == 1 and n not in held}
        return list({**held, **ends}.items())

    def _through_islands(self, inputs: Sample, target: Target, keep: bool, **options: Any) -> Run:
        """Part after part: host work, quantizers, integers on the target."""
        from intsim.engine.run import run_graph

        given = checked(self, inputs)
        host: dict[str, NDArray[Any]] = dict(given)
        ends: dict[str, NDArray[Any]] = {}
        ran = Run({}, {}, {}, {}, {})

        def held(name: str) -> NDArray[Any]:
            if name in self.lowered.ends and name not in ends:
                ends[name] = self.value(self.lowered.ends[name], ran.tensors)
            return ends[name] if name in ends else host[name]

        for part in self.lowered.parts:
            host |= part.host.run({n: held(n) for n in part.host.inputs}) if part.host.wanted else {}
            for boundary in part.boundaries:
                ran.islands[boundary.host] = value = np.asarray(held(boundary.host))
                ran.given[boundary.tensor] = quantize_boundary(boundary, value)
            ran.given.update({n: given[n] for n in part.graph.inputs if n in given and n not in ran.given})
            codes = {n: ran.given[n] if n in ran.given else ran.tensors[n] for n in part.graph.inputs}
            if not part.graph.nodes:
                ran.tensors.update({n: np.asarray(c).astype(np.int64) for n, c in codes.items()})
            else:
                made = run_graph(part.graph, codes, target, keep, **options)
                ran.tensors.update(made.tensors)
                ran.overflows.update(made.events)
                ran.live_bytes = max(ran.live_bytes, made.live_bytes)
        for name in self.lowered.ends:
            held(name)
        ran.outputs, ran.codes = self._ended(ends, host, ran.tensors)
        return ran

    def run(
        self,
        inputs: Sample,
        target: str | Path | Target = "exact",
        keep: bool = False,
        progress: Progress | None = None,
        counts: bool = True,
        threads: int | None = None,
        profile: list[LayerProfile] | None = None,
        overflow_check: bool = True,
    ) -> Run:
        """Run one sample on a target; see `intsim.run`.

        `progress` gets a line of text before each step, `profile` its record.
        """
        from intsim.engine.run import run_graph  # the compiler comes with it: not needed to read or prove a model

        chosen = Target.load(target)
        if self.islands:
            asked: dict[str, Any] = {"progress": progress, "counts": counts, "profile": profile}
            with using(threads):
                return self._through_islands(inputs, chosen, keep, overflow_check=overflow_check, **asked)
        codes = self.narrow_inputs(inputs, chosen)
        with using(threads):
            ran = run_graph(
                self.graph, codes, chosen, keep, progress, counts=counts, profile=profile, overflow_check=overflow_check
            )
        outputs, ends = self.finish(inputs, ran)
        return Run(outputs, ends, ran.tensors, ran.events, codes, ran.live_bytes)


def _in_float64(value: Expr) -> tuple[Any, list[Any], list[tuple[str, list[Any]]]]:
    """An expression's offset, the scale of each term, and its steps, kept with it."""
    if "in_float64" not in vars(value):
        steps = [(s.kind, [None if v is None else np.asarray(v, np.float64) for v in s.values]) for s in value.steps]
        scales = [np.asarray(scale, np.float64) for _, scale in value.terms]
        vars(value)["in_float64"] = np.asarray(value.offset, np.float64), scales, steps
    made: tuple[Any, list[Any], list[tuple[str, list[Any]]]] = vars(value)["in_float64"]
    return made


@cache
def _dtype(element: int) -> np.dtype[Any]:
    """Of an ONNX element type; float32 where a file says none."""
    return onnx.helper.tensor_dtype_to_np_dtype(element) if element else np.dtype(np.float32)


def quantize_boundary(boundary: Boundary, value: NDArray[Any]) -> NDArray[Any]:
    """Integer codes of a host value, decided exactly from its float64; uint8 or int8 if the range allows."""
    assert boundary.quantizer.bounds is not None
    return quantize_input(value, boundary.quantizer, _narrow(*boundary.quantizer.bounds)).reshape(value.shape)


def _narrow(low: int, high: int) -> type[np.integer[Any]]:
    """uint8 or int8 if it holds a range, else int64."""
    return np.uint8 if low >= 0 and high <= 255 else np.int8 if low >= -128 and high <= 127 else np.int64


def quantize_in_float32(boundary: Boundary, value: NDArray[Any]) -> NDArray[Any]:
    """The same as ONNX Runtime's QuantizeLinear: `rint(f(x / scale)) + zero`, f being one rounding to binary32.

    Source: microsoft/onnxruntime 1.31.1, onnxruntime/core/mlas/lib/quantize.cpp (MlasQuantizeLinear).
    """
    quantizer = boundary.quantizer
    by_thresholds = quantizer.thresholds is not None
    if (
        by_thresholds
        or any(v != 0 for v in quantizer.before.reshape(-1))
        or quantizer.rounding != "half_even"
        or quantizer.bipolar
    ):
        return quantize_boundary(boundary, value)
    assert quantizer.bounds is not None
    low, high = (bound - quantizer.after for bound in quantizer.bounds)
    with np.errstate(all="ignore"):
        scaled = np.asarray(value, np.float32) / np.asarray(quantizer.scale, np.float64).astype(np.float32)
    codes = np.rint(np.clip(scaled, low, high)).astype(np.int64) + quantizer.after
    return codes.astype(_narrow(*quantizer.bounds)).reshape(value.shape)


def load(
    model: str | Path | onnx.ModelProto,
    constants: Mapping[str, Any] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    ranges: Mapping[str, tuple[int, int]] | None = None,
    *,
    islands: bool = False,
) -> Model:
    """Read a quantized ONNX model (QONNX, QCDQ or QOperator) or TensorFlow Lite file and lower it to integers.

    Args:
        model: path (ONNX or .tflite) or ModelProto.
        constants: arrays for graph inputs that must be known beforehand, such as a scale or weights given as input.
        shapes: shapes for inputs whose shape the file leaves open.
        ranges: the least and the greatest integer that an integer input can hold, both inclusive. Of inputs that it
            leaves out, those that are positions of constant tables (Gather) hold these, -size to size - 1; all others
            what their type holds. Proofs assume it, and every sample is checked.
        islands: run what can't be integers between integers on the host, in the file's float types (docs/islands.md).
            Nothing is said of the whole then: its verdict is `hybrid` at best.

    Raises:
        IntsimError: the file can't be read, or some node can't be integer-only; one line names file and nodes.
    """
    if not isinstance(model, str | Path | onnx.ModelProto):
        kind = type(model).__name__
        raise IntsimError(f"model of type {kind}; give a path, a ModelProto or what intsim.load returned")
    return Model(lower(model, constants, shapes, ranges, islands))
