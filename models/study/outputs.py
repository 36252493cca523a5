"""What a run's network puts out: in float, with quantized weights only, and as integers on targets; kept as .npz.

Decoding and statistics come afterwards (`models.study.measure`), so that they can be repeated in seconds.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import intsim
from models.accumulator_aware import store_integers
from models.batches import CALIBRATION_PAIRS, calibration_batches
from models.checkpoint import load_checkpoint
from models.disparity import OUTPUT_SCALE, Network, described
from models.export import export
from models.finetune import trained_network
from models.networks import DispNet, fold
from models.quantize import quantize
from models.real_pair import real_pairs
from models.schemes import Scheme
from models.stereo import Split, generate, network_input, on_grid
from models.study.runs import OUT, checkpoint, recipe_of, split

TARGETS = ("exact", "x86-avx2", "hexagon-hvx", "saturate-20", "saturate-16", "fixed-point-8")
"""The definition; pairs saturated to 16 bits; HVX; narrow accumulators; requantizers with 8-bit multipliers."""
PAIRS: dict[Split, int] = {"validation": 64, "test": 128}
COMPARED = ("p0", "p3", "c1")
SCHEMES = (
    Scheme(per_channel=False),
    Scheme(power_of_two=True),
    Scheme(weight_bits=4),
    Scheme(weight_bits=4, activation_bits=4),
)
"""Quantized after training, besides W8A8 per channel: the first seed of `COMPARED` only."""
SHIFTS = "rtl-shift"
"""Target for networks whose scales are powers of two: every requantizer is a shift."""

Arrays = dict[str, NDArray[Any]]


def outputs(run: str, out: Path = OUT, note: Callable[[str], None] = lambda line: None) -> Path:
    """Make (or find) the .npz of a finished run; return its path.

    Keys: SET/disparity and SET/valid ``(n, H/2, W/2)``, SET/fp32 and SET/PRECISION-cpu float32 ``(n, heads, H/2,
    W/2)``, SET/PRECISION/TARGET int8 likewise; SET is validation, test, motorcycle or aloe. The precision of a float
    run is w8a8, quantized after training, and for seed 0 those of `SCHEMES` besides; that of a quantized run is its
    own, and fp32 is then the float network it began with. The QONNX file and its JSON are left in folder ``exports``.
    """
    path = out / "outputs" / f"{run}.npz"
    if path.exists():
        return path
    recipe = recipe_of(run)
    network = described(recipe)
    trained, record = load_checkpoint(checkpoint(run, out))
    sets = dict(evaluation_sets(network, recipe["data"]["scenes"]))
    arrays: Arrays = {}
    for name, (_, truth, valid) in sets.items():
        arrays[f"{name}/disparity"], arrays[f"{name}/valid"] = truth, valid
    if "quantization" in recipe:
        scheme = Scheme.of(recipe["quantization"])
        folded, versions = trained_network(Path(recipe["quantization"]["start"]), recipe["network"]), {}
        store_integers(trained, torch.zeros(network.input_shape))
        versions[scheme] = trained
    else:
        folded, batches = fold(trained), calibration(recipe, network)
        note("quantizing")
        versions = {scheme: quantize(folded, batches, scheme) for scheme in _schemes(recipe, run)}
    for name, (codes, _, _) in sets.items():
        arrays[f"{name}/fp32"] = run_torch(folded, codes)
    for scheme, quantized in versions.items():
        first = scheme is next(iter(versions))
        targets = TARGETS if first else ("exact",)
        if scheme.power_of_two:
            targets = (*targets, SHIFTS)
        model = exported(quantized, network, record, out / "exports" if first else None)
        for target in targets:
            note(f"{scheme.name} {target}")
            for name, (codes, _, _) in sets.items():
                arrays[f"{name}/{scheme.name}/{target}"] = run_integers(model, codes, target)
        if first and "quantization" not in recipe:
            mixed = weights_only(folded, quantized)
            for name, (codes, _, _) in sets.items():
                arrays[f"{name}/{scheme.name}-cpu"] = run_torch(mixed, codes)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        part = Path(scratch) / path.name
        np.savez_compressed(part, allow_pickle=False, **arrays)
        part.replace(path)
    return path


def _schemes(recipe: dict[str, Any], run: str) -> tuple[Scheme, ...]:
    """W8A8, and for the first seed of a convolutional network of the grid the other ways to quantize after training."""
    name, seed = split(run)
    return (Scheme(), *SCHEMES) if seed == 0 and name in COMPARED else (Scheme(),)


def exported(quantized: DispNet, network: Network, record: dict[str, Any], folder: Path | None) -> intsim.Model:
    """Export to QONNX and load in intsim; keep RUN.qonnx.onnx and RUN.json in `folder`, unless it is None."""
    with tempfile.TemporaryDirectory() as scratch:
        made, document = export(None, quantized, network, record, Path(scratch))
        if folder is None:
            return intsim.load(made)
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / f"{network.name}.qonnx.onnx"
        shutil.copyfile(document, folder / document.name)
        shutil.copyfile(made, kept)
    return intsim.load(kept)


def calibration(recipe: dict[str, Any], network: Network) -> list[torch.Tensor]:
    """Input codes of the first training pairs, of the kind that the recipe trains on, in batches."""
    options = {"scenes": recipe["data"]["scenes"], "channels": network.channels}
    return list(calibration_batches(network.height, network.width, CALIBRATION_PAIRS, **options))


def evaluation_sets(
    network: Network, scenes: str = "hard"
) -> Iterator[tuple[str, tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]]:
    """Name, and input codes ``(n, channels, H/2, W/2)`` uint8, disparity and valid ``(n, H/2, W/2)`` of each set."""
    size = network.height, network.width
    hard = scenes == "hard"
    sets = [(name, [generate(name, i, *size, hard=hard) for i in range(count)]) for name, count in PAIRS.items()]
    for name, pairs in [*sets, *((pair.name.split()[0].lower(), [pair]) for pair in real_pairs(*size))]:
        codes = np.stack([network_input(pair.left, pair.right)[: network.channels] for pair in pairs])
        truth, valid = (np.stack([on_grid(getattr(p, key)) for p in pairs]) for key in ("disparity", "valid"))
        yield name, (codes, truth, valid)


def run_torch(network: nn.Module, codes: NDArray[np.uint8], batch: int = 16) -> NDArray[np.float32]:
    """Float outputs of a PyTorch network in evaluation mode."""
    with torch.no_grad():
        parts = [network(torch.from_numpy(codes[i : i + batch]).float()) for i in range(0, len(codes), batch)]
    return np.asarray(torch.cat(parts).numpy(), np.float32)


def run_integers(model: intsim.Model, codes: NDArray[np.uint8], target: str) -> NDArray[np.int8]:
    """INT8 output codes of a lowered network on a target, one pair at a time."""
    results = [model.run({"codes": c[None].astype(np.float32)}, target, counts=False) for c in codes]
    values = np.concatenate([next(iter(result.outputs.values())) for result in results])
    return np.asarray(np.rint(values / float(OUTPUT_SCALE)), np.int8)


def weights_only(folded: DispNet, quantized: DispNet) -> DispNet:
    """The float network with the quantized network's weights and biases: the paper's "W8A8 on CPU"."""
    network = copy.deepcopy(folded)
    sources = dict(quantized.named_modules())
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            source: Any = sources[name]
            layer.weight.data = source.quant_weight().value.detach().clone()
            layer.bias.data = source.bias.detach().clone()
    return network
