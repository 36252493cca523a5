"""The contestants that live in this environment: intsim on its targets, ONNX Runtime and qonnx.

`prepare(network)` does what is done once (reading, planning, building a session) and returns a run: no arguments,
(output array, overflow events or None). All take the file's float inputs and give its float outputs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import onnx
from numpy.typing import NDArray

from bench.networks import Network

Answer = tuple[NDArray[Any], int | None]
Run = Callable[[], Answer]


@dataclass(frozen=True)
class Contestant:
    """`kind` is exact, target, checked or peer; `overflow_check` marks what the checked path is compared with."""

    name: str
    kind: str
    prepare: Callable[[Network], Run]


_models: dict[str, Any] = {}
_read: list[Network] = []


def loaded(network: Network, user: str = "") -> Any:
    """The network in intsim, read once for each user: what intsim keeps for one target must not crowd out another's."""
    import intsim

    if not _read or _read[0] is not network:
        _models.clear()
        _read[:] = [network]
    if user not in _models:
        _models[user] = intsim.load(network.qonnx)
    return _models[user]


@cache
def options() -> set[str]:
    """Keyword arguments of `Model.run`."""
    from intsim.model import Model

    return set(inspect.signature(Model.run).parameters)


def check_options(asked: Iterable[str]) -> None:
    """Raise LookupError where this version of intsim lacks an option."""
    missing = sorted(set(asked) - options())
    if missing:
        raise LookupError(f"this intsim has no option {', '.join(missing)}")


def intsim_run(target: str, **asked: Any) -> Callable[[Network], Run]:
    """intsim on a target."""

    def prepare(network: Network) -> Run:
        check_options(asked)
        from intsim import Target

        model, machine = loaded(network, target), Target.load(target)

        def run() -> Answer:
            ran = model.run(network.inputs, machine, **asked)
            return next(iter(ran.outputs.values())), sum(int(e.sum()) for e in ran.overflows.values())

        return run

    return prepare


def session(model: onnx.ModelProto, level: str, threads: int = 1) -> Any:
    """An ONNX Runtime session; `level` is BASIC or ALL."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    settings.log_severity_level = 3
    settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def onnxruntime_run(form: str, level: str, threads: int = 1) -> Callable[[Network], Run]:
    """ONNX Runtime on a form of the network."""

    def prepare(network: Network) -> Run:
        made = session(getattr(network, form), level, threads)

        def run() -> Answer:
            return made.run(None, network.inputs)[0], None

        return run

    return prepare


def qonnx_run(network: Network) -> Run:
    """qonnx's `execute_onnx` on the cleaned-up model. It makes a session a node and gives it all cores: here, one."""
    import onnxruntime
    from qonnx.core import onnx_exec
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.util.cleanup import cleanup_model

    class OneThread:
        """onnxruntime with sessions of one thread."""

        @staticmethod
        def InferenceSession(model: bytes) -> Any:  # noqa: N802
            settings = onnxruntime.SessionOptions()
            settings.intra_op_num_threads = settings.inter_op_num_threads = 1
            settings.log_severity_level = 3
            return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])

    onnx_exec.rt = OneThread
    copy = onnx.ModelProto()
    copy.CopyFrom(network.qonnx)
    wrapper = cleanup_model(ModelWrapper(copy))  # which renames the inputs
    inputs = dict(zip((i.name for i in wrapper.graph.input), network.inputs.values(), strict=True))

    def run() -> Answer:
        return next(iter(onnx_exec.execute_onnx(wrapper, inputs).values())), None

    return run


@lru_cache(maxsize=2)
def peak_bits(network: Network) -> int:
    """Bits that hold every partial sum which the network's own input makes."""
    import intsim

    found = intsim.telemetry(loaded(network), inputs=network.inputs)
    return max(max(stage.channel_bits) for layer in found.layers for stage in layer.stages)


def checked_target(network: Network, headroom: int = 2) -> str:
    """A saturating accumulator with `headroom` bits above the real peak."""
    return f"saturate-{peak_bits(network) + headroom}"


def checked_run(network: Network, **asked: Any) -> Run:
    """intsim where overflow can't be excluded for every input, and doesn't happen on this one."""
    check_options([*asked, "profile"])
    return intsim_run(checked_target(network), **asked)(network)


def checked_layers(network: Network) -> int:
    """Layers of the checked run that the overflow check spares from stepping through registers."""
    layers: list[Any] = []
    target = checked_target(network)
    loaded(network, target).run(network.inputs, target, counts=False, profile=layers)
    return sum(layer.kernel.startswith("checked") for layer in layers)


LANES = ("x86-avx2", "saturate-16", "saturate-18", "saturate-20", "saturate-24", "wrap-16")
PROVEN = ("saturate-31", "saturate-32", "saturate-40", "x86-vnni")
"""Registers that hold any sum of these networks: there is nothing to count."""
QUICK = ("x86-avx2", "saturate-16", "saturate-18", "wrap-16")
CHECKED = "intsim checked, 2 bits above the peak"
STEPWISE = "intsim stepwise, 2 bits above the peak"
"""The same registers without the overflow check; what is proven for every input stays so."""


def contestants(quick: bool = False) -> list[Contestant]:
    """All of them, quick ones fewer."""
    found = [
        Contestant("ORT fully fused int8", "peer", onnxruntime_run("fused", "ALL")),
        Contestant("ORT QCDQ, all optimisations", "peer", onnxruntime_run("qcdq", "ALL")),
        Contestant("ORT QCDQ, basic (float)", "peer", onnxruntime_run("qcdq", "BASIC")),
        Contestant("qonnx execute_onnx", "peer", qonnx_run),
        Contestant("intsim exact", "exact", intsim_run("exact")),
    ]
    for target in QUICK if quick else LANES:
        found.append(Contestant(f"intsim {target}, no counts", "target", intsim_run(target, counts=False)))
        found.append(Contestant(f"intsim {target}, counts", "target", intsim_run(target)))
    found += [Contestant(f"intsim {target}", "target", intsim_run(target)) for target in (() if quick else PROVEN)]
    found.append(Contestant(CHECKED, "checked", lambda n: checked_run(n, counts=False)))
    found.append(Contestant(STEPWISE, "checked", lambda n: checked_run(n, counts=False, overflow_check=False)))
    return found
