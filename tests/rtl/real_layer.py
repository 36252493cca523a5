"""A layer of a network co-simulated on a photograph, tile by tile: convolve.sv and requantize.sv."""

import tempfile
from pathlib import Path

import numpy as np

import intsim
from intsim.rtl import cosim, kinds
from intsim.rtl.streaming import stream
from intsim.targets import Target
from models.evaluate import pair_input
from models.real_pair import real_pair
from models.stereo import Pair

ROOT = Path(__file__).resolve().parents[2]
MODEL, LAYER = ROOT / "models" / "zoo" / "h3dispnet_w8a8.qonnx.onnx", "enc0.1.conv"
TARGET = "tflite-single"
TILES = 4
SIMULATORS = ("cxxrtl", "verilator")


def tiles(height=96, width=144):
    """The pair cut into TILES x TILES, and its name."""
    pair = real_pair(TILES * height, TILES * width)
    cut = [
        (slice(y * height, (y + 1) * height), slice(x * width, (x + 1) * width))
        for y in range(TILES)
        for x in range(TILES)
    ]
    views = pair.left, pair.right, pair.disparity, pair.valid
    return [Pair(*(np.ascontiguousarray(v[at]) for v in views), pair.name) for at in cut], pair.name


def rows():
    """Of each simulator: what was simulated, and what it found."""
    model = intsim.load(str(MODEL))
    pairs, name = tiles()
    kind = stream(model, LAYER, Target.load(TARGET), [{"codes": pair_input(p)} for p in pairs], 24, 1, 0)
    with tempfile.TemporaryDirectory() as folder:
        kinds.emit(kind, Path(folder))
        for simulator in SIMULATORS:
            yield f"`{LAYER}` of `{MODEL.name}` on {name}, `{TARGET}`", cosim(folder, simulator)
