"""Float executors as second opinions: qonnx and ONNX Runtime, each in a process of its own with a time limit.

`main` is what that process runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

FAMILIES = ("qonnx", "onnxruntime")
CHILD = "import sys; from intsim.verify.executors import main; main(*sys.argv[1:])"


@dataclass
class Execution:
    """Tensors of one executor by ONNX name; or, with `reason`, why there are none."""

    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)
    reason: str | None = None
    seconds: float = 0.0


class Executor:
    """A running executor process; `result` waits for it."""

    def __init__(
        self, kind: str, model: onnx.ModelProto, inputs: Mapping[str, NDArray[Any]], wanted: list[str]
    ) -> None:
        """Start `kind` on one set of inputs; `wanted` are the tensors to hand back."""
        self.kind = kind
        self.folder = tempfile.TemporaryDirectory(prefix="intsim-")
        root = Path(self.folder.name)
        (root / "model.onnx").write_bytes(model.SerializeToString())
        (root / "wanted.json").write_text(json.dumps(wanted))
        np.savez(root / "inputs.npz", allow_pickle=False, **{f"i{i}": a for i, a in enumerate(inputs.values())})
        (root / "names.json").write_text(json.dumps(list(inputs)))
        command = [sys.executable, "-W", "ignore", "-c", CHILD, kind, str(root)]
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
        )

    def result(self, timeout: float) -> Execution:
        """Tensors, or the reason why there are none; at most `timeout` seconds after the start."""
        left = max(timeout - (time.monotonic() - self.started), 0.01)
        try:
            _, errors = self.process.communicate(timeout=left)
        except subprocess.TimeoutExpired:
            self.stop()
            return Execution(reason=f"took longer than {timeout:g} s", seconds=timeout)
        seconds = time.monotonic() - self.started
        root = Path(self.folder.name)
        if self.process.returncode != 0:
            lines = [line.strip() for line in errors.decode(errors="replace").splitlines() if line.strip()]
            code = self.process.returncode
            ending = f"exit code {code}" if code > 0 else f"ended by signal {-code}"
            # an exception leaves with 1 and its text in the last line; what else ended it may have said nothing of it
            reason = lines[-1][:300] if lines and code == 1 else ending
            self.folder.cleanup()
            return Execution(reason=reason, seconds=seconds)
        names = json.loads((root / "out.json").read_text())
        with np.load(root / "out.npz", allow_pickle=False) as npz:
            tensors = {name: npz[f"o{i}"] for i, name in enumerate(names) if f"o{i}" in npz.files}
        self.folder.cleanup()
        return Execution(tensors, None, seconds)

    def stop(self) -> None:
        """End the process and remove its files."""
        self.process.kill()
        self.process.communicate()
        self.folder.cleanup()


def _qonnx(model: onnx.ModelProto, inputs: dict[str, NDArray[Any]], wanted: list[str]) -> dict[str, NDArray[Any]]:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    for node in model.graph.node:
        if node.domain == "finn.custom_op.general":
            node.domain = "qonnx.custom_op.general"
    initialized = {i.name for i in model.graph.initializer}
    kept = [i for i in model.graph.input if i.name not in initialized]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    wrapper = ModelWrapper(model).transform(InferShapes())
    context = execute_onnx(wrapper, inputs, return_full_exec_context=True)
    return {n: context[n] for n in wanted if context.get(n) is not None}


def _onnxruntime(model: onnx.ModelProto, inputs: dict[str, NDArray[Any]], wanted: list[str]) -> dict[str, NDArray[Any]]:
    import onnxruntime

    from intsim.verify.standard import standard_model

    model = standard_model(model)
    made = {o for n in model.graph.node for o in n.output}
    shown = [w for w in wanted if w in made]
    have = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in shown if n not in have)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results = session.run(shown, inputs)
    return dict(zip(shown, results, strict=True))


def main(kind: str, folder: str) -> None:
    """The child process: read, run, write."""
    root = Path(folder)
    model = onnx.load(root / "model.onnx")
    wanted = json.loads((root / "wanted.json").read_text())
    names = json.loads((root / "names.json").read_text())
    with np.load(root / "inputs.npz", allow_pickle=False) as npz:
        inputs = {n: npz[f"i{i}"] for i, n in enumerate(names)}
    tensors = {"qonnx": _qonnx, "onnxruntime": _onnxruntime}[kind](model, inputs, wanted)
    found = {
        n: a if a.dtype.name not in ("int4", "uint4", "int2", "uint2") else a.astype(np.int8)
        for n, a in tensors.items()
    }
    np.savez(root / "out.npz", allow_pickle=False, **{f"o{i}": a for i, a in enumerate(found.values())})
    (root / "out.json").write_text(json.dumps(list(found)))
