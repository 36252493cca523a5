"""Figures of merit, and the zoo networks measured with them: ``python -m models.evaluate [NAME ...]``.

The functions take arrays, so the output of any executor can be judged: the command line runs the FP32 and the QCDQ
file through ONNX Runtime (graph optimizations off, so that the W8A8 file is evaluated as written), and a network that
has no QCDQ file through intsim; `models.disparity.disparity` turns codes into what the functions take.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import intsim
from intsim.errors import IntsimError
from models.disparity import OUTPUT_SCALE, ZOO, Network, disparity, float_disparity, read_network
from models.real_pair import real_pair
from models.stereo import Pair, generate, network_input, on_grid

TEST_PAIRS = 64
JUMP_ORDER = 3
"""Order of the curve whose edges set the jump threshold, for every network alike."""


def accuracy(predicted: ArrayLike, truth: ArrayLike, valid: ArrayLike) -> dict[str, float]:
    """Compare disparities with the ground truth over the valid pixels; arrays of one shape, in pixels.

    epe, epe_median: mean and median end-point error ``|predicted - truth|`` in pixels. bad3: share with an error above
    3 pixels. d1: share with an error above 3 pixels and above 5 % of the truth (KITTI 2015).
    """
    keep = np.asarray(valid, bool)
    actual = np.asarray(truth, np.float64)[keep]
    error = np.abs(np.asarray(predicted, np.float64)[keep] - actual)
    return {
        "epe": float(error.mean()),
        "epe_median": float(np.median(error)),
        "bad3": float((error > 3).mean()),
        "d1": float(((error > 3) & (error > 0.05 * np.abs(actual))).mean()),
    }


def quantization_error(quantized: ArrayLike, reference: ArrayLike, disparity_range: float) -> dict[str, float]:
    """Compare a quantized network's disparities with its own float version's; arrays of one shape, in pixels.

    mean, median: of ``|e|``, e = quantized - reference, in pixels. rmse: root mean square. robust_sd: 1.4826 times the
    median of ``|e - median(e)|``, blind to rare large errors. jump_rate: share with ``|e|`` above 1.5 edges of the
    order-3 Hilbert curve, ``1.5 / 63`` of the range; for a Hilbert network these are decoded to a wrong branch.
    """
    error = np.asarray(quantized, np.float64) - np.asarray(reference, np.float64)
    size = np.abs(error)
    return {
        "mean": float(size.mean()),
        "median": float(np.median(size)),
        "rmse": float(np.sqrt((error**2).mean())),
        "robust_sd": float(1.4826 * np.median(np.abs(error - np.median(error)))),
        "jump_rate": float((size > 1.5 * disparity_range / (4**JUMP_ORDER - 1)).mean()),
    }


def output_codes(output: NDArray[np.floating]) -> NDArray[np.int8]:
    """INT8 codes behind the float outputs of a fake-quantized network: ``output * 256``, exact or refused."""
    scaled = np.asarray(output, np.float64) / float(OUTPUT_SCALE)
    codes = np.rint(scaled)
    if not np.array_equal(codes, scaled) or codes.min() < -128 or codes.max() > 127:
        raise IntsimError("the outputs are not INT8 codes at scale 1/256")
    return codes.astype(np.int8)


def pair_input(pair: Pair) -> NDArray[np.float32]:
    """A pair as the ONNX files take it: ``(1, 33, H/2, W/2)`` float32 holding the codes 0..255."""
    return network_input(pair.left, pair.right)[None].astype(np.float32)


def run_onnx(path: Path, inputs: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Outputs of an ONNX file in ONNX Runtime on one thread, without graph optimizations, stacked over `inputs`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"codes": codes})[0] for codes in inputs])


def run_integers(path: Path, inputs: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Outputs of a quantized ONNX file as exact integers say, stacked over `inputs`."""
    model = intsim.load(path)
    return np.concatenate([next(iter(model.run({"codes": codes}).outputs.values())) for codes in inputs])


def parent(network: Network, folder: Path = ZOO) -> Network:
    """The network whose float version a quantized one is compared with: itself, or the one it was trained on from."""
    recipe = json.loads((folder / f"{network.name}.json").read_text()).get("training", {}).get("recipe", {})
    return read_network(recipe["quantization"]["start"]) if "quantization" in recipe else network


def evaluate(network: Network, pairs: list[Pair], folder: Path = ZOO) -> dict[str, dict[str, float]]:
    """FP32 and W8A8 accuracy over the valid pixels of `pairs`, and quantization error over all pixels."""
    inputs = [pair_input(pair) for pair in pairs]
    truth, valid = (np.stack([on_grid(getattr(pair, key)) for pair in pairs]) for key in ("disparity", "valid"))
    original = parent(network, folder)
    source = folder if original == network else ZOO
    floats = float_disparity(run_onnx(source / original.file("fp32").name, inputs), original)
    qcdq = folder / network.file("w8a8.qcdq").name
    output = run_onnx(qcdq, inputs) if qcdq.exists() else run_integers(folder / network.file("w8a8.qonnx").name, inputs)
    quantized = disparity(output_codes(output), network)
    return {
        "fp32": accuracy(floats, truth, valid),
        "w8a8": accuracy(quantized, truth, valid),
        "error": quantization_error(quantized, floats, network.disparity_range),
    }


def evaluate_all(network: Network, test_pairs: int = TEST_PAIRS, folder: Path = ZOO) -> dict[str, Any]:
    """`evaluate` on the first `test_pairs` of the test split and on the real pair, keyed by what was evaluated."""
    generated = [generate("test", i, network.height, network.width) for i in range(test_pairs)]
    real = real_pair(network.height, network.width)
    sets = {f"{test_pairs} generated test pairs": generated, real.name: [real]}
    return {name: evaluate(network, pairs, folder) for name, pairs in sets.items()}


def table(name: str, results: dict[str, Any]) -> str:
    """The results of one network as Markdown tables."""
    rows = [f"| {name} on | numbers | EPE mean px | EPE median px | > 3 px | D1 |", "|---|---|---|---|---|---|"]
    for title, result in results.items():
        for kind in ("fp32", "w8a8"):
            r = result[kind]
            figures = f"{r['epe']:.3f} | {r['epe_median']:.3f} | {r['bad3']:.2%} | {r['d1']:.2%}"
            rows.append(f"| {title} | {kind.upper()} | {figures} |")
    rows += ["", "| W8A8 minus FP32 on | mean px | median px | RMSE px | robust SD px | jumps |"]
    rows += ["|---|---|---|---|---|---|"]
    for title, result in results.items():
        e = result["error"]
        figures = f"{e['mean']:.4f} | {e['median']:.4f} | {e['rmse']:.4f} | {e['robust_sd']:.4f} | {e['jump_rate']:.3%}"
        rows.append(f"| {title} | {figures} |")
    return "\n".join(rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m models.evaluate", description=__doc__)
    parser.add_argument("networks", nargs="*", default=["dispnet", "h3dispnet"], metavar="NAME")
    parser.add_argument("--pairs", type=int, default=TEST_PAIRS, help="generated test pairs")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    arguments = parser.parse_args()
    try:
        results = {name: evaluate_all(read_network(name), arguments.pairs) for name in arguments.networks}
    except IntsimError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    if arguments.json:
        json.dump(results, sys.stdout, indent=2)
    else:
        print("\n\n".join(table(name, result) for name, result in results.items()))


if __name__ == "__main__":
    main()
