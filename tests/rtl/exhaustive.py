"""`python -m tests.rtl.exhaustive [WINDOW [WEIGHT_SHIFT]]`: guided Hilbert decoders on all 2^24 codes x, y, guide.

As text these would be gigabytes of vectors, so a loop in C++ around Yosys's CXXRTL makes the codes; what comes out is
held against `Decoder` in binary.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from intsim.hilbert import Decoder
from intsim.rtl import kinds
from intsim.rtl.design import Design
from intsim.rtl.elaborate import elaborate
from intsim.rtl.tools import package, run

RADIUS = 20
LOOP = """\
#include "design.cc"
#include <cstdint>
#include <cstdio>
template <size_t N> uint32_t *in(cxxrtl::value<N> &v) { return v.data; }
template <size_t N> uint32_t *in(cxxrtl::wire<N> &w) { return w.next.data; }
template <size_t N> uint32_t out(cxxrtl::value<N> &v) { return v.data[0]; }
template <size_t N> uint32_t out(cxxrtl::wire<N> &w) { return w.curr.data[0]; }
int main() {
  cxxrtl_design::p_intsim__wrapper top;
  FILE *result = std::fopen("out.bin", "wb");
  auto edge = [&] { in(top.p_clk)[0] = 1; top.step(); in(top.p_clk)[0] = 0; };
  in(top.p_rst)[0] = 1; top.step(); edge(); in(top.p_rst)[0] = 0;
  in(top.p_oready)[0] = 1;
  uint32_t taken = 0, given = 0;
  for (long cycle = 0; given < 1u << 24 && cycle < 1l << 33; cycle++) {
    in(top.p_ivalid)[0] = taken < 1u << 24;
    in(top.p_i0)[0] = taken >> 16 & 255; in(top.p_i1)[0] = taken >> 8 & 255; in(top.p_i2)[0] = taken & 255;
    top.step();
    if (out(top.p_ovalid)) {
      uint32_t row[2] = {out(top.p_o0), out(top.p_o1) << 1 | out(top.p_o2)};
      std::fwrite(row, 8, 1, result);
      given++;
    }
    taken += taken < 1u << 24 && out(top.p_iready);
    edge();
  }
  return std::fclose(result);
}
"""


def mismatches(order, window, weight_shift):
    """Rows that are wrong in place, squared distance or confidence, and how long the simulation took, in seconds."""
    decoder = Decoder.lattice_aligned(order)
    how = {"window": window, "weight_shift": weight_shift}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds.emit(kinds.hilbert(decoder, False, 16, 0, guided=True, radius=RADIUS, pipelined=True, **how), folder)
        elaborate(Design.load(folder), folder, [f"write_cxxrtl -g0 {folder / 'design.cc'}"])
        (folder / "main.cc").write_text(LOOP)
        headers = f"{package('pyosys')}/share/include/backends/cxxrtl/runtime"
        run(["g++", "-std=c++17", "-O2", "-w", "-I", headers, "-o", "simulation", "main.cc"], folder)
        start = time.perf_counter()
        run([folder / "simulation"], folder)
        took = time.perf_counter() - start
        rows = np.fromfile(folder / "out.bin", np.uint32).reshape(256, 256, 256, 2)
    wrong = 0
    y, guide = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    for x in range(256):
        points = np.stack([np.full_like(y, x), y], axis=-1)
        place, squared = decoder.nearest(points, guide=guide, **how)
        told = squared * 2 + (squared <= RADIUS * RADIUS)
        wrong += int(((rows[x, ..., 0] != place) | (rows[x, ..., 1] != told)).sum())
    return wrong, took


def main():
    window, shift = (*(int(w) for w in sys.argv[1:]), None, None)[:2] if len(sys.argv) > 1 else (100, 6)
    for order in (1, 2, 3, 4):
        wrong, took = mismatches(order, window, shift)
        said = f"order {order}, window {window}, weight shift {shift}"
        print(f"{said}: {wrong} of {1 << 24} wrong, {took:.0f} s", flush=True)


if __name__ == "__main__":
    main()
