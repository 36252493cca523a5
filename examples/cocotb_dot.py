"""cocotb drives an emitted module, the dot product of AVX2, with the vectors that were emitted with it.

`python cocotb_dot.py`. Needs cocotb 2 and Icarus. A pair of codes is taken at a rising edge with valid and ready.
"""

import os
import sys
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from cocotb_tools.runner import get_results, get_runner

from intsim import Target
from intsim.arithmetic.integers import IntegerType
from intsim.rtl import emit, kinds


def vectors(port):
    """What a file for $readmemh holds, a row a line; golden vectors begin with a comment."""
    lines = Path(os.environ["VECTORS"], f"{port}.hex").read_text().splitlines()
    return [int(line, 16) for line in lines if not line.startswith("//")]


async def clock(dut, sums):
    """A cycle; in its second half the registers hold still, and a sum that has come is noted."""
    await FallingEdge(dut.clk)
    if dut.out_valid.value == 1:
        sums.append(dut.acc.value.to_unsigned())


@cocotb.test(timeout_time=10, timeout_unit="us")
async def every_sum_is_as_expected(dut):
    """All rows of the inputs, in their order."""
    sums, expected = [], vectors("acc")
    dut.rst.value, dut.in_valid.value = 1, 0
    Clock(dut.clk, 2, "ns").start()
    for _ in range(2):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    for a, b, bias, last in zip(*map(vectors, ("a", "b", "bias", "in_last")), strict=True):
        while not dut.in_ready.value:
            await clock(dut, sums)
        dut.in_valid.value, dut.a.value, dut.b.value, dut.bias.value, dut.in_last.value = 1, a, b, bias, last
        await clock(dut, sums)
        dut.in_valid.value = 0
    while len(sums) < len(expected):
        await clock(dut, sums)
    assert sums == expected


def main():
    """Emit the module, build it, run the test above; 0 if every sum is as expected."""
    folder = Path("avx2").resolve()
    folder.mkdir(exist_ok=True)
    kind = kinds.dot(Target.load("x86-avx2"), IntegerType(8, False), IntegerType(8, True), 18, 300, seed=0)
    files = emit(kind, folder)
    runner, top = get_runner("icarus"), kind.design.top
    sources = [folder / name for name in files if name.endswith(".sv") and name != "testbench.sv"]
    runner.build(sources=sources, hdl_toplevel=top, timescale=("1ns", "1ps"), build_dir="cocotb")
    results = runner.test(hdl_toplevel=top, test_module="cocotb_dot", extra_env={"VECTORS": str(folder)})
    tests, failed = get_results(results)
    print(f"{tests} test of {len(kind.vectors['acc'])} sums, {failed} failed")
    return 1 if failed or not tests else 0


if __name__ == "__main__":
    sys.exit(main())
