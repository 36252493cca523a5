"""Write a trained network into the zoo: ``python -m models.export models/recipes/h3dispnet.toml``.

Reads the checkpoint that `models.train` left, folds and quantizes it, and writes the float network (FP32 ONNX), the
W8A8 network twice (QONNX and QCDQ) and their metadata (JSON). ONNX shapes are fixed; ``--shape H W`` chooses another
size of the image pair.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from brevitas.export import export_onnx_qcdq, export_qonnx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.infer_shapes import InferShapes

from intsim.errors import IntsimError
from models.accumulator_aware import store_integers
from models.batches import calibration_batches
from models.checkpoint import load_checkpoint
from models.disparity import ZOO, Network, described
from models.networks import DispNet, fold
from models.quantize import quantize
from models.recipe import read_recipe

DEMO_SHAPE = (96, 144)
"""Pixels of the image pair the zoo's files are made for."""

OPSET = DispNet.opset

_PLUMBING = {"act_quant", "activation_impl", "export_handler"}
_SHORTER = (
    (r"^(\w+)\.\1\.", r"\1."),  # enc0.enc0.1.conv: the container repeats itself
    (r"^([qxyz]|guide)\.", r"head_\1."),
    (r"\.(Conv|Relu)$", ""),
    (r"(weight|bias)_quant", r"\1"),
)


def export(
    folded: DispNet | None,
    quantized: DispNet,
    network: Network,
    record: dict[str, Any],
    folder: Path,
    qcdq: bool = True,
) -> list[Path]:
    """Write the three ONNX files and the JSON of `network` into `folder`, all or none; return their paths.

    `record` says how the network was trained and goes into the JSON. Without `folded` (accumulator-aware networks,
    which never were float, and whose quantizers have no QCDQ form) or without `qcdq` only the QONNX file and the JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    codes = torch.zeros(network.input_shape)
    options: dict[str, Any] = {"input_names": ["codes"], "output_names": ["output"], "opset_version": quantized.opset}
    options["dynamo"] = False
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        paths = [Path(scratch) / network.file("w8a8.qonnx").name]
        # Copies, because an export that fails leaves the module in Brevitas' export mode.
        export_qonnx(copy.deepcopy(quantized), args=codes, export_path=str(paths[0]), **options)
        if folded is not None and qcdq:
            paths += [Path(scratch) / network.file(kind).name for kind in ("fp32", "w8a8.qcdq")]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # the TorchScript exporter is what Brevitas needs
                torch.onnx.export(folded, (codes,), str(paths[1]), **options)
            export_onnx_qcdq(copy.deepcopy(quantized), args=codes, export_path=str(paths[2]), **options)
        for path in paths:
            tidy(path)
        paths.append(Path(scratch) / f"{network.name}.json")
        paths[-1].write_text(_json({**network.document(), "training": record}))
        return [path.replace(folder / path.name) for path in paths]


def _json(document: dict[str, Any]) -> str:
    """Indented JSON with every list of plain values on one line."""
    text = json.dumps(document, indent=2)
    return re.sub(r"\[\s+([^][{}]*?)\s+\]", lambda match: f"[{' '.join(match[1].split())}]", text) + "\n"


def tidy(path: Path) -> None:
    """Check a fresh export; no weights among the graph's inputs, every tensor's shape stated, readable node names."""
    model = ModelWrapper(onnx.load(path)).transform(InferShapes()).model
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initializers]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    name_nodes(model.graph)
    onnx.checker.check_model(model)
    if model.ir_version > 13:
        raise RuntimeError(f"{path}: IR version {model.ir_version} is newer than the tools read")
    onnx.save(model, path)


def name_nodes(graph: onnx.GraphProto) -> None:
    """Name nodes by module and operator: ``enc0.0.conv.weight.Quant``, ``enc0.0.relu``, ``dec2.concat``, ``head_x``."""
    consumer = {name: node for node in graph.node for name in node.input}
    seen: dict[str, int] = {}
    for node in reversed(graph.node):  # users first: what is nobody's module is named after its user
        name = ".".join(part for part in node.name.split("/") if part and part not in _PLUMBING)
        for old, new in _SHORTER:
            name = re.sub(old, new, name)
        if node.op_type in {"Resize", "Concat", "Constant"}:
            user = consumer.get(node.output[0])
            name = f"{user.name.split('.')[0] if user else 'output'}.{node.op_type.lower()}"
        seen[name] = seen.get(name, 0) + 1
        node.name = name if seen[name] == 1 else f"{name}.{seen[name]}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m models.export", description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--checkpoints", type=Path, default=Path("out/models"))
    parser.add_argument("--out", type=Path, default=ZOO)
    parser.add_argument("--shape", type=int, nargs=2, default=DEMO_SHAPE, metavar=("H", "W"))
    arguments = parser.parse_args()
    try:
        recipe = read_recipe(arguments.recipe)
        network = described(recipe, *arguments.shape)
        trained, record = load_checkpoint(arguments.checkpoints / f"{recipe['name']}.pt")
    except IntsimError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    torch.set_num_threads(1)
    folded, quantized = None, trained
    if "quantization" in recipe:
        store_integers(quantized, torch.zeros(network.input_shape))
    else:
        folded = fold(trained)
        quantized = quantize(folded, calibration_batches(recipe["data"]["height"], recipe["data"]["width"]))
    for path in export(folded, quantized, network, record, arguments.out):
        print(path)


if __name__ == "__main__":
    main()
