"""Error of every quantized tensor against the float network: ``python -m models.layer_errors RUN``.

The same input goes through the folded float network and through the lowered network as integers; each tensor that a
quantizer makes is compared with the float network's activation at the same place. Errors are those that have
accumulated from the input to there, not those of one layer alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import nn

import intsim
from intsim.errors import IntsimError
from models.batches import load_pairs
from models.disparity import described
from models.networks import DispNet, fold
from models.stereo import network_input

PAIRS = 8


@dataclass(frozen=True)
class LayerError:
    """One quantized tensor: float activation x, integer run's value v = codes * scale + offset, over all inputs.

    name: of the module. type: of the codes, such as ``INT8``. step: the scale. rms: of x. error: RMS of ``v - x`` over
    RMS of x. rounding: the same if x itself had been rounded to the codes. largest: of ``|v - x|``. signal: RMS of x
    over RMS of ``v - x``, in dB. saturated: share of values at an end of the codes, but for a ReLU's zeros.
    """

    name: str
    type: str
    step: float
    rms: float
    error: float
    rounding: float
    largest: float
    saturated: float

    @property
    def signal(self) -> float:
        """Signal-to-noise ratio in dB."""
        return float("inf") if self.error == 0 else -20 * float(np.log10(self.error))


def layer_errors(folded: DispNet, model: intsim.Model, inputs: NDArray[Any], target: str = "exact") -> list[LayerError]:
    """Errors of all tensors that quantizers make, in the order of the graph.

    `model` is the lowered network that `folded` became; `inputs` are codes ``(n, channels, H, W)``, 0..255.

    Raises:
        IntsimError: no quantizer of the model belongs to a module of the network.
    """
    places = quantized_tensors(folded, model)
    sums: dict[str, NDArray[np.float64]] = {name: np.zeros(5) for name in places}
    largest = dict.fromkeys(places, 0.0)
    for image in inputs:
        wanted = activations(folded, image[None], places)
        ran = model.run({model_input(model): image[None].astype(np.float32)}, target, keep=True, counts=False)
        for name, tensor in places.items():
            info, kind = model.graph.tensors[tensor], model.graph.tensors[tensor].type
            assert kind is not None
            scale, offset = np.asarray(info.scale, np.float64), np.asarray(info.offset, np.float64)
            x = wanted[name].astype(np.float64)
            code = ran.tensors[tensor].astype(np.float64)
            difference = (code * scale + offset).reshape(x.shape) - x
            rounded = np.clip(np.rint((x - offset) / scale), kind.min, kind.max) * scale + offset - x
            ends = (code == kind.max) | ((code == kind.min) if kind.min else False)
            sums[name] += [x.size, (x**2).sum(), (difference**2).sum(), (rounded**2).sum(), ends.sum()]
            largest[name] = max(largest[name], float(np.abs(difference).max()))
    rows = []
    for name, tensor in places.items():
        count, square, error, rounding, ends = sums[name]
        step = float(max(np.asarray(model.graph.tensors[tensor].scale, np.float64).reshape(-1)))
        error, rounding = (float(np.sqrt(part / max(square, 1e-300))) for part in (error, rounding))
        rms, codes = float(np.sqrt(square / count)), str(model.graph.tensors[tensor].type)
        rows.append(LayerError(name, codes, step, rms, error, rounding, largest[name], float(ends / count)))
    return rows


def model_input(model: intsim.Model) -> str:
    """The file's only input."""
    (name,) = model.lowered.source.inputs
    return name


def quantized_tensors(network: DispNet, model: intsim.Model) -> dict[str, str]:
    """Module of the float network to the integer tensor that stands for its output."""
    modules = dict(network.named_modules())
    outputs = {}
    for node in model.graph.nodes:
        name = node.source.removesuffix(".Quant")
        name = f"outputs.{name[5:]}" if name.startswith("head_") else name
        if node.source.endswith(".Quant") and name in modules and model.graph.tensors[node.output].type is not None:
            outputs[name] = node.output
    if not outputs:
        raise IntsimError(f"{model.path}: none of its quantizers is called like a module of the network")
    return outputs


def activations(network: nn.Module, codes: NDArray[Any], names: Mapping[str, object]) -> dict[str, NDArray[np.float32]]:
    """Outputs of the named modules for input codes ``(N, channels, H, W)``."""
    outputs: dict[str, NDArray[np.float32]] = {}

    def keep(name: str) -> Any:
        return lambda module, given, output: outputs.__setitem__(name, output.detach().numpy().copy())

    hooks = [module.register_forward_hook(keep(n)) for n, module in network.named_modules() if n in names]
    try:
        with torch.no_grad():
            network(torch.from_numpy(np.asarray(codes)).float())
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


def table(rows: list[LayerError], title: str) -> Table:
    """The errors as a table: columns as of `LayerError`, but step and saturated (at ends) have shorter heads."""
    drawn = Table(title=title, title_justify="left", header_style="bold")
    drawn.add_column("tensor", no_wrap=True)
    drawn.add_column("codes")
    heads = "step", "RMS", "error", "rounding", "SNR dB", "max error", "at ends"
    for head in heads:
        drawn.add_column(head, justify="right")
    for r in rows:
        figures = (f"{r.step:.3g}", f"{r.rms:.3g}", f"{r.error:.2%}", f"{r.rounding:.2%}", f"{r.signal:.1f}")
        drawn.add_row(r.name, r.type, *figures, f"{r.largest:.3g}", f"{r.saturated:.2%}")
    return drawn


def measured(run: str, out: Path, pairs: int = PAIRS, target: str = "exact") -> list[LayerError]:
    """Layer errors of a finished run on validation pairs; its QONNX file is made if `out`/exports has none.

    Raises:
        IntsimError: there is no such run, or it isn't finished.
    """
    from models.checkpoint import load_checkpoint  # Brevitas is slow to import
    from models.quantize import quantize
    from models.study.outputs import calibration, exported

    trained, record = load_checkpoint(out / "checkpoints" / f"{run}.pt")
    recipe = record["recipe"]
    network = described(recipe)
    folded = fold(trained)
    path = out / "exports" / f"{run}.qonnx.onnx"
    if path.is_file():
        model = intsim.load(path)
    else:
        model = exported(quantize(folded, calibration(recipe, network)), network, record, path.parent)
    held_out = load_pairs("validation", pairs, network.height, network.width, recipe["data"]["scenes"])
    codes = network_input(held_out["left"], held_out["right"])[:, : network.channels]
    return layer_errors(folded, model, codes, target)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m models.layer_errors", description=__doc__)
    parser.add_argument("run", help="a run's name, such as dpt_p3_s0")
    parser.add_argument("--out", type=Path, default=Path("out/study"), help="folder with checkpoints and exports")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="validation pairs")
    parser.add_argument("--target", default="exact")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        rows = measured(arguments.run, arguments.out, arguments.pairs, arguments.target)
    except IntsimError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    Console().print(table(rows, f"{arguments.run} on {arguments.target}, {arguments.pairs} pairs"))


if __name__ == "__main__":
    main()
