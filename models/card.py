"""Write the model card of zoo networks from their files: ``python -m models.card [NAME ...]``.

Every figure comes from the files beside the card: training facts from NAME.json, accuracy from running the ONNX files.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from intsim.errors import IntsimError
from models.disparity import ZOO, Network, read_network
from models.evaluate import TEST_PAIRS, evaluate_all, table

_CARD = """---
license: bsd-3-clause
pipeline_tag: depth-estimation
tags: [stereo, disparity, quantization, W8A8, QONNX, brevitas{tag}]
---

# {name}

{what}

{parameters:,} parameters. Input `codes`: `1 x 33 x {rows} x {columns}` float32 holding integers 0..255, made by
`models.stereo.network_input` from a rectified grey pair of {height} x {width} pixels. Output `output`, at half
resolution: {heads}, INT8 at scale 1/256;
`models.disparity.disparity` turns the codes into pixels.

| file | holds |
|---|---|
{files}
| `{name}.json` | what the host needs to know, and how the network was trained |

## Made by

    python -m models.train  models/recipes/{name}.toml
    python -m models.export models/recipes/{name}.toml
    python -m models.card   {name}

* Training: {steps} steps of {batch} pairs, seed {seed}, {minutes:.1f} minutes on {device}, one thread, other work
  beside it. The network of the last step, not of the best one. {training}
* Data: {train} procedural pairs of {data_height} x {data_width} pixels (`models.stereo`), no photograph. Training,
  validation and test share neither random stream nor texture.
* Validation on {validation} pairs: EPE mean {epe:.3f}, median {median:.3f} px.
* Quantization: Brevitas {weights}, activations UINT8 per tensor (99.999th percentile),
  biases INT32; calibrated and bias-corrected on training pairs.

## Measured

By {executor}. End-point errors over the pixels seen in both images (on the
photograph: where ground truth is known; its occlusions are not, so they count). W8A8 minus FP32 over all pixels.
Jumps: errors above 1.5 edges of the order-3 curve, {jump:.2f} px.

{table}

## Limits

* One seed, no error bars; a demonstration of quantization, not a competitive stereo method.
* Disparities 0 to {range} pixels only; grey, rectified pairs; half-resolution output.
* Evaluated on one photograph. It is fetched for evaluation (`models.real_pair`) and not part of this repository.
{limits}
"""

_PLAIN = (
    "A small stereo network: half-resolution U-Net with a matching-cost input and one head that predicts disparity."
)
_HILBERT = (
    "The twin of `dispnet` with two heads that predict a point on the order-{order} 2-D Hilbert curve instead of one\n"
    "number (Uss et al., ICML 2025, arXiv 2405.14024). Curve vertices lie {spacing} output codes apart, so that\n"
    "decoding needs no multiplier; {steps} positions along the curve share the disparity range."
)
_FILES = (
    "| `{name}_fp32.onnx` | the float network, batch normalization folded |\n"
    "| `{name}_w8a8.qonnx.onnx` | W8A8 with QONNX `Quant` nodes |\n"
    "| `{name}_w8a8.qcdq.onnx` | the same network with QuantizeLinear, Clip, DequantizeLinear |"
)
_AWARE_FILES = "| `{name}_w8a8.qonnx.onnx` | W8A8 with QONNX `Quant` nodes, weights stored as they are quantized |"
_POST_TRAINING = "post-training, weights INT8 per channel"
_RUNTIME = "ONNX Runtime on these files, graph optimizations off"
_EQUAL = "`dispnet` and `h3dispnet` had equal data, noise, steps\n  and schedule."
_AWARE = (
    "Its weights keep every sum of products inside {bits} bits ({method}; without the bias), so that a register of\n"
    "that width can't overflow, whatever the input: `intsim certify` proves it of the file. It was trained on from\n"
    "`{start}`, whose sums need up to 24 bits; FP32 below is that network."
)
_HILBERT_LIMIT = (
    "* Where the point lies between two branches of the curve, rounding can choose the wrong one: mean and RMSE of\n"
    "  the quantization error are dominated by these jumps, the median and robust SD do not see them."
)


def card(network: Network, document: dict[str, Any], results: dict[str, Any]) -> str:
    """Text of the model card; `document` is the network's JSON, `results` is `evaluate_all`'s."""
    training, recipe = document["training"], document["training"]["recipe"]
    _, epe, median = training["validation"][-1]
    order, steps = network.order, network.steps
    what = _HILBERT.format(order=order, spacing=1 << (8 - order), steps=steps + 1) if order else _PLAIN
    aware = recipe.get("quantization")
    if aware:
        method = {"a2q": "A2Q, arXiv 2308.13504", "a2q+": "A2Q+, arXiv 2401.10432"}[aware["weights"]]
        what += "\n\n" + _AWARE.format(bits=aware["accumulator_bits"], method=method, start=aware["start"])
    return _CARD.format(
        name=network.name,
        tag=(", hilbert-curve" if order else "") + (", A2Q" if aware else ", QCDQ"),
        what=what,
        files=(_AWARE_FILES if aware else _FILES).format(name=network.name),
        training="Quantized from its first step on." if aware else _EQUAL,
        weights=f"in training, weights INT8 per channel by {aware['weights'].upper()}" if aware else _POST_TRAINING,
        executor="intsim (W8A8) and ONNX Runtime (FP32)" if aware else _RUNTIME,
        rows=network.input_shape[2],
        columns=network.input_shape[3],
        height=network.height,
        width=network.width,
        heads="x and y of the point, minus 1/2" if order else "disparity over its range, minus 1/2",
        parameters=training["parameters"],
        steps=training["step"],
        batch=recipe["training"]["batch"],
        seed=recipe["training"]["seed"],
        minutes=training["seconds"] / 60,
        device=training["device"].upper(),
        train=recipe["data"]["train"],
        data_height=recipe["data"]["height"],
        data_width=recipe["data"]["width"],
        validation=recipe["data"]["validation"],
        epe=epe,
        median=median,
        jump=1.5 * network.disparity_range / 63,
        table=table(network.name, results),
        range=network.disparity_range,
        limits=_HILBERT_LIMIT if order else "* Its output has 256 levels; the finest step is 0.094 px.",
    )


def write_card(name: str, folder: Path = ZOO, pairs: int = TEST_PAIRS) -> Path:
    """Measure the network `name` of `folder` and write its card beside it; return the card's path."""
    network = read_network(folder / f"{name}.json")
    document = json.loads((folder / f"{name}.json").read_text())
    path = folder / f"{name}.md"
    path.write_text(card(network, document, evaluate_all(network, pairs, folder)))
    return path


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m models.card", description=__doc__)
    parser.add_argument("networks", nargs="*", default=["dispnet", "h3dispnet"], metavar="NAME")
    parser.add_argument("--pairs", type=int, default=TEST_PAIRS, help="generated test pairs")
    arguments = parser.parse_args()
    try:
        for name in arguments.networks:
            print(write_card(name, pairs=arguments.pairs))
    except IntsimError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
