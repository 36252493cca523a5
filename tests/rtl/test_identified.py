"""A layer in hardware with a planted fault: `identify` reads the waveform of its simulation and names the fault."""

import numpy as np
import pytest
from diagnosis import cases

import intsim
from intsim.arithmetic.integers import IntegerType
from intsim.golden.manifest import Manifest
from intsim.rtl import cosim, kinds, layers, modules
from intsim.rtl.design import Design, write_hex

from .faults import FAULTS
from .simulators import needs

MODEL = cases.conv(channels=2, outputs=3, size=(5, 4), relu=False, zero=0, out_zero=90, scale=0.12)
TWICE = 'scheme = "fixed-point"\nmultiplier_bits = 16\ndouble_rounding = true'
LANES = '{ sum = "rest", bits = 20, overflow = "wrap", lanes = 2 }, { sum = "rest", bits = 14, overflow = "saturate" }'
LAYER = """\
module intsim_layer (
  input wire clk, input wire rst, input wire in_valid, input wire in_last, input wire [7:0] a, input wire [7:0] b,
  input wire signed [@BIAS@-1:0] bias, input wire [1:0] channel, output wire in_ready, output wire out_valid,
  output wire [7:0] code
);
  wire signed [@ACC@-1:0] acc;
  reg [1:0] held;
  always @(posedge clk) if (in_valid && in_ready) held <= channel;
  intsim_requantize back (.channel(held), .acc(acc), .code(code));
@SUM@
endmodule
"""
SUMS = {
    "dot": "  intsim_dot sum (clk, rst, in_valid, in_last, a, b, bias, in_ready, out_valid, acc);",
    "mac": """\
  reg begun, ended;
  intsim_mac sum (clk, in_valid && !begun, in_valid && begun, a, b, bias, acc);
  assign in_ready = begun;
  assign out_valid = ended;
  always @(posedge clk) begin
    begun <= !rst && in_valid ? !begun || !in_last : begun && !rst;
    ended <= !rst && in_valid && begun && in_last;
  end""",
}
MAP = """\
[vcd]
clock = "intsim_testbench.bench.clk"
valid = "intsim_testbench.bench.dut.out_valid"
data  = "intsim_testbench.bench.dut.code"
"""


def patches(folder):
    """Of each output of each sample, in the order of the dump: codes, weights, bias and channel."""
    manifest = Manifest.read(folder)
    read = {role: manifest.tensor(manifest.layers[0], role).read() for role in ("operand", "weight", "bias")}
    w, bias = np.moveaxis(read["weight"][0], 1, -1).reshape(3, -1), read["bias"][0]
    for image in np.pad(read["operand"][:, 0], ((0, 0), (0, 0), (1, 1), (1, 1))):
        for channel in range(len(w)):
            for row, column in np.ndindex(image.shape[1] - 2, image.shape[2] - 2):
                x = image[:, row : row + 3, column : column + 3].transpose(1, 2, 0)
                yield x.reshape(-1), w[channel], bias[channel], channel


def hardware(folder, golden, target, module):
    """The layer as hardware/rtl's modules compute it on golden operands; rows are products."""
    graph = intsim.load(MODEL).graph
    back = layers.requantize(graph, layers.layer(graph, "conv", "requantize"), target, 16, 0)
    types = IntegerType(8, False), IntegerType(8, True)
    front = kinds.dot(target, *types, 18, 1, 0) if module == "dot" else kinds.mac(target, *types, 1, 0)
    bits = {p.name: p.bits for p in (*front.design.inputs, *front.design.outputs)}
    top = LAYER.replace("@SUM@", SUMS[module])
    top = top.replace("@BIAS@", str(bits["bias"])).replace("@ACC@", str(bits["acc"]))
    texts = modules.sources(module) | modules.sources("requantize")
    texts |= {"front.sv": front.top, "back.sv": back.top, "layer.sv": top}
    for name, text in texts.items():
        (folder / name).write_text(text)
    rows = {n: [] for n in ("a", "b", "bias", "channel", "in_last")}
    for x, w, bias, channel in patches(golden):
        rows["a"].append(x)
        rows["b"].append(w)
        rows["bias"].append(np.full(len(x), bias))
        rows["channel"].append(np.full(len(x), channel))
        rows["in_last"].append(np.arange(len(x)) == len(x) - 1)
    widths = {"a": 8, "b": 8, "bias": bits["bias"], "channel": 2, "in_last": 1, "code": 8}
    values = {n: np.concatenate(v).astype(np.int64) for n, v in rows.items()} | {"code": cases.tensor(golden)}
    for name, numbers in values.items():
        write_hex(folder / f"{name}.hex", numbers.reshape(-1), widths[name])
    inputs = tuple(kinds.port(n, widths[n]) for n in rows)
    shakes = {"valid": ("in_valid", "out_valid"), "ready": ("in_ready", ""), "clock": "clk", "reset": "rst"}
    return Design(folder, "intsim_layer", tuple(texts), inputs, (kinds.port("code", 8),), **shakes)


ONE = '{ sum = "rest", bits = 14, overflow = "saturate" }'
NAMED = {
    "rounding constant": ("dot", {"requantize": TWICE}, "the rounding constant of the high product is half as large"),
    "sign bit": ("mac", {}, "weights are read as unsigned"),
    "saturation bound": ("dot", {"stages": ONE}, "the accumulator saturates symmetrically at 14 bits: -8191..8191"),
    "tie rule": ("dot", {"requantize": TWICE}, "the second of two roundings rounds half_up"),
    "lane order": ("dot", {"stages": LANES}, "lanes are handed on in reverse order"),
}


@needs("icarus")
@pytest.mark.parametrize("name", [pytest.param(f, marks=[pytest.mark.slow] * (f != "lane order")) for f in NAMED])
def test_each_is_named(tmp_path, name):
    """On operands that were constructed for the layer: nothing of the search made the dump."""
    pytest.importorskip("vcd")
    module, on, words = NAMED[name]
    target, golden = cases.target(**on), tmp_path / "golden"
    intsim.discriminate(MODEL, target, out=golden, layer="conv", count=16, formats=["npy"])
    design = hardware(tmp_path, golden, target, module)
    assert cosim(design, "icarus").holds
    fault = FAULTS[name]
    path = tmp_path / f"{fault.module}.sv"
    path.write_text(fault.planted(path.read_text()))
    assert not cosim(design, "icarus", tmp_path / "dump.vcd").holds
    (tmp_path / "map.toml").write_text(MAP)
    found = intsim.identify(golden, tmp_path / "dump.vcd", map=tmp_path / "map.toml")
    assert found.classes[0].changes == (words,), [c.changes for c in found.classes]
