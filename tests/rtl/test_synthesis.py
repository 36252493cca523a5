"""Areas: counts that follow from a design's own text, and what is refused."""

import numpy as np
import pytest

from intsim.arithmetic.integers import IntegerType
from intsim.errors import IntsimError
from intsim.hilbert import Decoder
from intsim.rtl import area, kinds
from intsim.rtl.tools import run
from intsim.targets import Target

from .report import table_luts
from .simulators import design, needs

pytestmark = needs("netlist")
S8 = IntegerType(8, True)
TOP = """module top(input clk, input [3:0] a, b, input signed [7:0] x, y, output reg [3:0] p, output reg [15:0] q);
  reg [3:0] r;
  always @(posedge clk) begin r <= a ^ b; p <= {3'd0, ^(r & a) & ^b}; q <= x * y; end
endmodule"""


def counted(folder, family):
    values = {
        "a": (np.zeros(1, int), 4),
        "b": (np.zeros(1, int), 4),
        "x": (np.zeros(1, int), 8),
        "y": (np.zeros(1, int), 8),
    }
    outputs = {"p": (np.zeros(1, int), 4), "q": (np.zeros(1, int), 16)}
    return area(design(folder, "mac", TOP, values, outputs, clock="clk", latency=2), family)


AMD = [pytest.param(name, marks=pytest.mark.slow) for name in ("ultrascale", "xilinx")]


@pytest.mark.parametrize("family", ["ice40", "ecp5", *AMD])
def test_what_a_small_design_must_have(tmp_path, family):
    """r needs a table a bit. p's one bit is a function of 12: eight inputs are one table more than four allow."""
    found = counted(tmp_path, family)
    assert found.dsps == 1
    assert 5 <= found.flip_flops <= 21  # a multiplier block may hold q
    assert 4 + 2 <= found.luts <= 4 + 6
    assert found.logic_depth in (2, 3)
    assert (found.rams, found.version) == (0, "0.70")


def test_gates_of_a_small_design(tmp_path):
    """Four bits of r, one of p, 16 of q; a product of 8 by 8 bits has 64 partial ones, and as many adders but 8."""
    found = counted(tmp_path, "generic")
    assert (found.flip_flops, found.dsps, found.rams, found.carries) == (21, 0, 0, 0)
    assert 64 + 56 * 2 < found.luts < 64 + 56 * 12
    assert found.logic_depth > 8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dsp48e2-int8", "dsp48e2-int4"])
def test_a_packed_multiplier_is_one_block(tmp_path, name):
    """Of 27 x 18 bits, as the target's slice has it."""
    own = Target.load(name)
    kinds.emit(kinds.dot(own, own.operands.activation, own.operands.weight, 9, 10, 0), tmp_path)
    assert area(tmp_path, "ultrascale").dsps == 1


def test_an_emitted_mac_has_one_multiplier_and_its_register(tmp_path):
    kinds.emit(kinds.mac(Target.load("saturate-24"), S8, S8, 10, 0), tmp_path)
    found = area(tmp_path, "ice40")
    assert (found.dsps, found.flip_flops, found.rams) == (1, 24, 0)
    assert found.design == "intsim_mac"


def test_a_decoder_has_no_multiplier(tmp_path):
    kinds.emit(kinds.hilbert(Decoder.lattice_aligned(1, None, 5, signed=True), False, 10, 0), tmp_path)
    found = area(tmp_path, "ice40")
    assert (found.dsps, found.flip_flops, found.rams) == (0, 0, 0)
    assert 20 < found.luts < 1000


@pytest.mark.slow
def test_a_decoder_is_a_twentieth_of_a_table_of_all_pairs(tmp_path):
    """Of order 3 with 8-bit codes, of the bits alone that the table holds, 64 in a lookup table."""
    kinds.emit(kinds.hilbert(Decoder.lattice_aligned(3, signed=True), False, 10, 0), tmp_path)
    assert 20 * area(tmp_path, "xilinx").luts < (1 << 16) * 11 // 64


def test_memories_in_lookup_tables():
    """One for 64 bits; 4 and a MUXF8; 16, four MUXF8 and one that makes one of four."""
    assert [table_luts(n, 1) for n in (64, 256, 1024, 1 << 16)] == [1, 4, 17, 1024 + 64 + 16 + 4 + 1]
    assert table_luts(1 << 16, 11) == 12199


def test_families(tmp_path):
    with pytest.raises(IntsimError, match="FPGA 'asic'; allowed: ecp5, generic, ice40, ultrascale, xilinx"):
        area(tmp_path, "asic")


def test_a_program_that_was_ended(tmp_path):
    with pytest.raises(IntsimError, match=r"^sh was ended by signal 9$"):
        run(["sh", "-c", "kill -9 $$"], tmp_path)
