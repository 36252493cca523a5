"""Float executors as second opinions: qonnx and ONNX Runtime, each in a process of its own with a time limit.

`answer` is what that process does; `intsim.verification.process` is how it is kept apart.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.verification.process import start
from intsim.verification.processor import processor
from intsim.verification.standard import CUSTOM_DOMAINS, refill, standard_model

FAMILIES = ("qonnx", "onnxruntime")
AS_IT_IS = "onnxruntime as it is"
"""A process of ONNX Runtime that optimizes nothing."""
GRAPH = "onnxruntime graph"
"""A process of ONNX Runtime that hands back the graph it would execute, and executes nothing."""
DOMAINS = ("", "ai.onnx", "com.microsoft", *CUSTOM_DOMAINS)
"""Whose operators an executor gets. qonnx imports the module that a domain names."""
MISSING = 'not installed (pip install "intsim[references]")'
OPENS_FILES = "GenericPartition"
"""An operator of qonnx that runs another file, which nobody has looked at."""
SAME = ("intsim", "numpy", "onnx")
"""Modules that a child must have from where its parent has them."""


@dataclass
class Execution:
    """Tensors of one executor by ONNX name; or, with `reason`, why there are none."""

    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)
    reason: str | None = None
    seconds: float = 0.0


class Executor:
    """A running executor process; `result` waits for it."""

    def __init__(
        self,
        kind: str,
        model: onnx.ModelProto,
        inputs: Mapping[str, NDArray[Any]],
        wanted: list[str],
        *,
        same_processor: bool = False,
    ) -> None:
        """Start `kind` on one set of inputs; `wanted` are the tensors to hand back.

        With `same_processor` it refuses to run on another processor: what an emulator starts is not emulated.

        Nothing is started for a model with a node of a foreign domain; `result` says so.
        """
        self.kind = kind
        self.started = time.monotonic()
        self.process: subprocess.Popen[bytes] | None = None
        self.refusal = foreign(model)
        if self.refusal is not None:
            return
        self.folder = tempfile.TemporaryDirectory(prefix="intsim-", ignore_cleanup_errors=True)
        self.answer = tempfile.TemporaryFile()  # noqa: SIM115 (closed by stop)
        with tempfile.TemporaryFile() as request:
            origins = {name: sys.modules[name].__file__ for name in SAME}
            kernels = processor() if same_processor else None
            about = json.dumps({"wanted": wanted, "inputs": list(inputs), "origins": origins, "processor": kernels})
            arrays = {f"i{i}": a for i, a in enumerate(inputs.values())}
            np.savez(request, allow_pickle=False, about=_packed(about.encode()),
                     model=_packed(model.SerializeToString()), **arrays)  # fmt: skip
            request.seek(0)
            try:
                self.process = start(kind, self.folder.name, request, self.answer)
            except OSError as error:
                self.refusal = f"could not be started: {error}"
                self.stop()

    def result(self, timeout: float) -> Execution:
        """Tensors, or the reason why there are none; at most `timeout` seconds after the start."""
        if self.process is None:
            return Execution(reason=self.refusal)
        left = max(timeout - (time.monotonic() - self.started), 0.01)
        try:
            _, errors = self.process.communicate(timeout=left)
        except subprocess.TimeoutExpired:
            self.stop()
            return Execution(reason=f"took longer than {timeout:g} s", seconds=timeout)
        seconds = time.monotonic() - self.started
        try:
            if self.process.returncode != 0:
                lines = [line.strip() for line in errors.decode(errors="replace").splitlines() if line.strip()]
                code = self.process.returncode
                ending = f"exit code {code}" if code > 0 else f"ended by signal {-code}"
                # an exception leaves with 1 and its text in the last line; what else ended it may have said nothing
                reason = lines[-1][:300] if lines and code == 1 else ending
                if reason == f"ModuleNotFoundError: No module named {self.kind.split()[0]!r}":
                    reason = MISSING
                return Execution(reason=reason, seconds=seconds)
            self.answer.seek(0)
            with np.load(self.answer, allow_pickle=False) as npz:
                names = json.loads(npz["names"].tobytes())
                tensors = {name: npz[f"o{i}"] for i, name in enumerate(names)}
            return Execution(tensors, None, seconds)
        finally:
            self.stop()

    def tensors(self, timeout: float, model: str, runtime: str) -> dict[str, NDArray[Any]]:
        """Tensors after at most `timeout` seconds; raises IntsimError with the reason why there are none."""
        try:
            outcome = self.result(timeout)
        finally:
            self.stop()
        if outcome.reason is not None:
            raise IntsimError(f"{model}: {runtime}: {outcome.reason}")
        return outcome.tensors

    def stop(self) -> None:
        """End the process and remove its files."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            self.process.communicate()
        if hasattr(self, "folder"):
            self.folder.cleanup()
            self.answer.close()


def _packed(content: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(content, np.uint8)


def foreign(model: onnx.ModelProto) -> str | None:
    """Why an executor doesn't get a model: a node, in whatever subgraph or function, of a domain that isn't known."""
    for node in _nodes(model.graph.node, *(f.node for f in model.functions)):
        name = node.name or (node.output[0] if node.output else "")
        if node.domain not in DOMAINS:
            return f"not run: node {name!r} ({node.op_type}) is of the unknown domain {node.domain!r}"
        if node.domain in CUSTOM_DOMAINS and node.op_type == OPENS_FILES:
            return f"not run: node {name!r} ({node.op_type}) opens another file"
    return None


def _nodes(*lists: Any) -> Iterator[onnx.NodeProto]:
    waiting = list(lists)
    while waiting:
        for node in waiting.pop():
            yield node
            for attribute in node.attribute:
                waiting += [graph.node for graph in (attribute.g, *attribute.graphs)]


def only_known_domains() -> None:
    """Let qonnx import modules of the known domains alone: it takes a node's domain for the name of a module."""
    from qonnx.custom_op import registry

    def import_module(name: str, package: str | None = None) -> Any:
        if name not in DOMAINS or not name.startswith("qonnx."):
            raise ModuleNotFoundError(f"domain {name!r} is not imported")
        return importlib.import_module(name)

    registry.importlib = SimpleNamespace(import_module=import_module)


def without_code(graph: onnx.GraphProto) -> None:
    """Leave of the quantization annotations what is a name: qonnx evaluates the others as Python expressions."""
    for annotation in graph.quantization_annotation:
        names = annotation.quant_parameter_tensor_names
        refill(names, [e for e in names if e.key == "finn_datatype"])


def by_qonnx(model: onnx.ModelProto, inputs: dict[str, NDArray[Any]], wanted: list[str]) -> dict[str, NDArray[Any]]:
    """Tensors as qonnx computes them in this process, without those that it has no value of; changes the model."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    only_known_domains()
    without_code(model.graph)
    for node in model.graph.node:
        if node.domain == "finn.custom_op.general":
            node.domain = "qonnx.custom_op.general"
    initialized = {i.name for i in model.graph.initializer}
    refill(model.graph.input, [i for i in model.graph.input if i.name not in initialized])
    wrapper = ModelWrapper(model).transform(InferShapes())
    context = execute_onnx(wrapper, inputs, return_full_exec_context=True)
    return {n: context[n] for n in wanted if context.get(n) is not None}


def by_onnxruntime(
    model: onnx.ModelProto, inputs: dict[str, NDArray[Any]], wanted: list[str], *, as_it_is: bool = False
) -> dict[str, NDArray[Any]]:
    """The same by ONNX Runtime; a graph of its own it runs `as_it_is`."""
    import onnxruntime

    model = standard_model(model)
    made = {o for n in model.graph.node for o in n.output}
    shown = [w for w in wanted if w in made]
    have = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in shown if n not in have)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if as_it_is:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results = session.run(shown, inputs)
    return dict(zip(shown, results, strict=True))


def graph_of_onnxruntime(
    model: onnx.ModelProto, inputs: dict[str, NDArray[Any]], wanted: list[str]
) -> dict[str, NDArray[Any]]:
    """The file of the graph that ONNX Runtime executes, as bytes under the name "model"; the working folder holds it.

    Level "extended" has all fusions of quantized patterns; the level above it only changes layouts.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.qdqisint8allowed", "0")  # as on x86-64, whatever this processor is
    options.optimized_model_filepath = written = str(Path("optimized.onnx").absolute())
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {"model": _packed(Path(written).read_bytes())}


EXECUTORS: dict[str, Callable[..., dict[str, NDArray[Any]]]] = {
    "qonnx": by_qonnx,
    "onnxruntime": by_onnxruntime,
    AS_IT_IS: partial(by_onnxruntime, as_it_is=True),
    GRAPH: graph_of_onnxruntime,
}
"""What a process does, by kind."""


def answer(kind: str, request: IO[bytes], result: IO[bytes]) -> None:
    """The child's work: read, run, write. Raises what an executor raises."""
    with np.load(request, allow_pickle=False) as npz:
        about = json.loads(npz["about"].tobytes())
        model = onnx.load_from_string(npz["model"].tobytes())
        inputs = {n: npz[f"i{i}"] for i, n in enumerate(about["inputs"])}
    for name, origin in about["origins"].items():
        here = sys.modules[name].__file__
        if here is None or origin is None or Path(here).resolve() != Path(origin).resolve():
            raise RuntimeError(f"the executor's process found {name} in {here}, not in {origin}")
    wants = about.get("processor")
    if wants is not None and wants != (has := processor()):
        raise RuntimeError(f"started on a processor with {wants}, its process runs on one with {has}")
    tensors = EXECUTORS[kind](model, inputs, about["wanted"])
    for name, array in tensors.items():
        if array.dtype.name in ("int4", "uint4", "int2", "uint2"):
            tensors[name] = array.astype(np.int8)
    names = _packed(json.dumps(list(tensors)).encode())
    np.savez(result, allow_pickle=False, names=names, **{f"o{i}": a for i, a in enumerate(tensors.values())})
