"""A dense layer of da4ml, as Verilog, on golden vectors of that layer.

`python da4ml_dense.py [SIMULATOR]`. da4ml makes adders of a matrix of constants, without a multiplier. Needs da4ml and
Icarus, or another simulator of `intsim cosim` (of this many adders cxxrtl's compiler takes minutes).
"""

import json
import sys
from pathlib import Path

import numpy as np
from da4ml.codegen import VerilogModel
from da4ml.trace import FixedVariableArray, HWConfig, comb_trace, to_pipeline
from da4ml.types import minimal_kif

import intsim
from intsim.rtl import cosim, write_hex

MODEL = Path(__file__).with_name("digits.onnx")
LAYER = "/classify/Gemm"
ADDERS_A_STAGE = 5


def main(simulator="icarus"):
    """0 if every accumulator of 40 drawn images is as intsim says."""
    made = intsim.vectors(MODEL, "exact", samples=40, layer=[LAYER], formats=["npy"], out="golden")
    (layer,) = made.manifest["layers"]
    golden = {t["role"]: np.load(Path("golden") / t["files"]["npy"]) for t in layer["tensors"]}
    weight, depth = golden["weight"].astype(np.float64), len(golden["weight"])

    codes = FixedVariableArray.from_kif(*np.array([[0], [8], [0]]).repeat(depth, 1), HWConfig(1, -1, -1))  # u8
    pipeline = to_pipeline(comb_trace(codes, codes @ weight + golden["bias"]), ADDERS_A_STAGE, verbose=False)
    VerilogModel(pipeline, "dense", "verilog", print_latency=False).write()

    parts = np.array([minimal_kif(interval) for interval in pipeline.out_qint])  # bits of signs, integers, fractions
    bits = int(parts.max(axis=0).sum())  # of each sum of the wrapper
    write_hex("codes.hex", golden["operand"].reshape(-1), 8)
    write_hex("sums.hex", golden["accumulator"].reshape(-1), bits)
    sources = json.dumps([str(file) for file in sorted(Path("verilog/src").rglob("*.v"))])
    Path("dense.toml").write_text(f"""\
top     = "dense_wrapper"
sources = {sources}
clock   = "clk"
latency = {len(pipeline.solutions) + 1}
[inputs]
model_inp = {{ file = "codes.hex", bits = 8, count = {depth} }}
[outputs]
model_out = {{ file = "sums.hex", bits = {bits}, count = {weight.shape[1]}, signed = true }}
""")
    found = cosim("dense.toml", simulator)
    print(f"{depth} x {weight.shape[1]} in {len(pipeline.solutions)} stages, {found.vectors} rows: ", end="")
    print("as expected" if found.holds else found.words())
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
