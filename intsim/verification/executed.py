"""A file as a runtime executes it: the graph that its optimizer makes of the file, read like any other.

A runtime fuses a quantizer with what stands in front of it, and moves or drops others, so that it may compute other
integers than the file means. Its own graph, taken here, holds exactly the quantizers that it executes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from intsim.errors import IntsimError
from intsim.frontend.reader import parameter_inputs, read
from intsim.inputs import Inputs, first_sample
from intsim.model import Model, load
from intsim.targets import Target
from intsim.verification.exact_file import needed_of
from intsim.verification.executors import GRAPH, Executor
from intsim.verification.standard import CUSTOM_DOMAINS

RUNTIMES = ("onnxruntime",)
"""Those that can be run here, and whose graphs can be taken, by the name that a target's `runtime` gives."""
KERNEL = re.compile(r"(node \S+) \(com\.microsoft\.\w+\): com\.microsoft\.\w+ is not supported; .*")
"""What a reader says of an operator that only its optimizer makes."""
SECONDS = 120.0
"""After which an optimizer is given up."""


def refuse_foreign(path: str, proto: onnx.ModelProto, runtime: str) -> None:
    """Raise IntsimError for operators that ONNX Runtime doesn't have; as a second opinion it gets them as floats."""
    node = next((n for n in proto.graph.node if n.domain in CUSTOM_DOMAINS), None)
    if node is not None:
        raise IntsimError(
            f"{path}: node {node.name or node.output[0]} ({node.op_type}): {runtime} has no operators of "
            f"{node.domain}; export the network as QCDQ"
        )


def load_executed(
    model: str | Path | onnx.ModelProto | Model,
    runtime: str = "onnxruntime",
    constants: Mapping[str, Any] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    ranges: Mapping[str, tuple[int, int]] | None = None,
) -> Model:
    """Read a model as `load` does, but the graph that a runtime executes instead of the one in the file.

    ONNX Runtime optimizes the file (level "extended") in a process of its own, as it does on x86-64, and executes
    nothing. What reports call the model says so.

    Args:
        model: path, ModelProto or what `load` returned; QCDQ or QOperator.
        runtime: "onnxruntime".
        constants, shapes, ranges: as `load` takes them.

    Raises:
        IntsimError: the file or the optimized graph can't be read, an operator that the runtime doesn't have, or a
            runtime that isn't known or installed, or fails.
    """
    if runtime not in RUNTIMES:
        raise IntsimError(f"no graph can be taken as {runtime!r} executes it; allowed: {', '.join(RUNTIMES)}")
    if not isinstance(model, str | Path | onnx.ModelProto | Model):
        raise IntsimError(
            f"model of type {type(model).__name__}; give a path, a ModelProto or what intsim.load returned"
        )
    if isinstance(model, Model) and model.islands:
        raise IntsimError(
            f"{model.path}: has float islands, and nothing is predicted of a runtime's own graph then; choose a target "
            "of registers (intsim targets)"
        )
    source = model.lowered.source if isinstance(model, Model) else read(model, constants, shapes)
    ranges = source.ranges if isinstance(model, Model) else ranges
    proto = needed_of(source)
    refuse_foreign(source.path, proto, runtime)
    fixed = {n: a for n, a in source.constants.items() if n not in {i.name for i in proto.graph.initializer}}
    given = {i.name for i in proto.graph.input}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in fixed.items() if n in given)
    for initializer in proto.graph.initializer:
        if initializer.data_location == onnx.TensorProto.EXTERNAL:  # the process has no file beside it
            initializer.CopyFrom(onnx.numpy_helper.from_array(source.constants[initializer.name], initializer.name))
    optimized = Executor(GRAPH, proto, {}, []).tensors(SECONDS, source.path, runtime)["model"]
    name = f"{source.path} as {runtime} executes it"
    try:
        loaded = load(onnx.load_from_string(optimized.tobytes()), ranges=ranges)
    except IntsimError as error:
        said = KERNEL.sub(r"\1: {} runs it in float32, or by a kernel that isn't predicted", str(error)).format(runtime)
        raise IntsimError(f"{name}: {said.removeprefix('<model>: ')}") from None
    loaded.lowered.source.path = name
    loaded.graph.executed_by, loaded.file = f"{runtime} {version(runtime)}", proto
    return loaded


def opened(
    model: str | Path | onnx.ModelProto | Model,
    inputs: Inputs | None = None,
    target: Target | None = None,
    ranges: Mapping[str, tuple[int, int]] | None = None,
) -> Model:
    """A loaded model; graph inputs that are parameters of an operator (scales, weights) are bound from `inputs`.

    `ranges` as `load` takes them, for a file that is yet to be loaded.

    For a target of a runtime that rewrites files it is the graph which that runtime executes.
    """
    by = None if target is None else target.rewriter
    if isinstance(model, Model):
        if by is None or model.graph.executed_by is not None:
            return model
        constants = None
    else:
        given = first_sample(inputs)
        names = parameter_inputs(model) if given and isinstance(model, str | Path | onnx.ModelProto) else set()
        constants = {n: np.asarray(v) for n, v in given.items() if n in names}
    if by is None:
        assert not isinstance(model, Model)
        return load(model, constants, ranges=ranges)
    return load_executed(model, by, constants, ranges=ranges)
