"""Yosys's CXXRTL: the design as C++, compiled and run on vectors in binary files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from intsim.rtl.design import Design, Port, Words
from intsim.rtl.elaborate import elaborate
from intsim.rtl.testbench import QUIET, RESET_CYCLES, control, drain
from intsim.rtl.tools import need, package, run
from intsim.rtl.trace import Trace

HARNESS = """\
#include "design.cc"
#ifdef VCD
#include <cxxrtl/cxxrtl_vcd.h>
#endif
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <vector>
template <size_t N> uint32_t *in(cxxrtl::value<N> &v) { return v.data; }
template <size_t N> uint32_t *in(cxxrtl::wire<N> &w) { return w.next.data; }
template <size_t N> uint32_t *out(cxxrtl::value<N> &v) { return v.data; }
template <size_t N> uint32_t *out(cxxrtl::wire<N> &w) { return w.curr.data; }
static std::vector<uint32_t> rows;
int main() {
  cxxrtl_design::p_intsim__wrapper top;
  long cycle = -RESET, taken = 0, given = 0, quiet = 0;
  bool pending = false;
  std::ifstream file("in.bin", std::ios::binary);
  rows.resize((size_t)ROWS_IN * CHUNKS_IN);
  file.read((char *)rows.data(), rows.size() * 4);
  FILE *result = std::fopen("out.bin", "wb");
#ifdef VCD
  std::ofstream waves("out.vcd");
  cxxrtl::vcd_writer vcd;
  cxxrtl::debug_items items;
  top.debug_info(&items, nullptr, "");
  vcd.timescale(1, "ns");
  vcd.add(items);
  uint64_t time = 0;
#define SHOW vcd.sample(time++); waves << vcd.buffer; vcd.buffer.clear();
#else
#define SHOW
#endif
  for (;; cycle++) {
    bool run = cycle >= 0, oready = run && cycle % 5 != 2, ovalid = true, iready = true;
    bool ivalid = run && (!HANDSHAKE || (taken < ROWS_IN && (pending || !PAUSES || cycle % 7 != 3)));
    const uint32_t *row = rows.data() + (taken < ROWS_IN ? taken : ROWS_IN - 1) * CHUNKS_IN;
    DRIVE
    top.step();
    SHOW
    ANSWER
    bool give = run && (HANDSHAKE ? ovalid && (oready || !OREADY) : cycle >= LATENCY);
    bool take = run && (HANDSHAKE ? ivalid && iready : taken < ROWS_IN);
    pending = ivalid && !take;
    if (run) quiet++;
    if (give) {
      int64_t at = cycle;
      std::fwrite(&at, 8, 1, result);
      GIVE
      given++;
      quiet = 0;
    }
    if (take) taken++, quiet = 0;
    bool done = given == ROWS_OUT && (!HANDSHAKE || (taken == ROWS_IN && quiet > DRAIN));
    if (run && (done || given > ROWS_OUT || quiet > QUIET)) break;
    EDGE
  }
  std::printf("%ld\\n", cycle + 1);
  return std::fclose(result);
}
"""
OPTIMIZE = "-O1"


def simulate(design: Design, folder: Path, vcd: Path | None) -> Trace:
    """Rows that come out; see `cosim`. Raises IntsimError for what Yosys or the compiler refuses."""
    need("yosys", "g++")
    elaborate(design, folder, [f"write_cxxrtl {'' if vcd else '-g0 '}{folder / 'design.cc'}"])
    into, out = control(design)
    rows_in, rows_out = design.rows
    numbers = {
        "RESET": RESET_CYCLES if design.reset else 0,
        "ROWS_IN": rows_in,
        "ROWS_OUT": rows_out,
        "CHUNKS_IN": sum(map(_chunks, design.driven)),
        "LATENCY": design.latency,
        "HANDSHAKE": int(design.handshake),
        "OREADY": int(bool(design.ready[1])),
        "DRAIN": drain(design),
        "PAUSES": int(bool(design.valid[0])),
        "QUIET": QUIET,
    }
    source = {"rst": "!run", "ivalid": "ivalid", "oready": "oready"}
    drive = [f"in(top.p_{own})[0] = {source[own]};" for _, own in into if own in source]
    start = 0
    for number, port in enumerate(design.driven):
        drive.append(f"std::memcpy(in(top.p_i{number}), row + {start}, {4 * _chunks(port)});")
        start += _chunks(port)
    edge = "in(top.p_clk)[0] = 1; top.step(); SHOW in(top.p_clk)[0] = 0;" if design.clock else ""
    text = {
        "DRIVE": " ".join(drive),
        "ANSWER": " ".join(f"{own} = out(top.p_{own})[0];" for _, own in out),
        "GIVE": " ".join(
            f"std::fwrite(out(top.p_o{number}), 4, {_chunks(port)}, result);"
            for number, port in enumerate(design.outputs)
        ),
        "EDGE": edge,
    }
    code = HARNESS
    for name, words in text.items():
        code = code.replace(f"    {name}\n", f"    {words}\n").replace(f"      {name}\n", f"      {words}\n")
    defines = "".join(f"#define {k} {v}\n" for k, v in numbers.items()) + ("#define VCD\n" if vcd else "")
    (folder / "main.cc").write_text(defines + code)
    (folder / "in.bin").write_bytes(
        np.concatenate([_packed(design.vectors[p.name], p) for p in design.driven], axis=1).tobytes()
    )
    headers = str(package("pyosys")) + "/share/include/backends/cxxrtl/runtime"
    run(["g++", "-std=c++17", OPTIMIZE, "-w", "-I", headers, "-o", "simulation", "main.cc"], folder)
    ran = int(run([folder / "simulation"], folder))
    if vcd is not None:
        vcd.write_bytes((folder / "out.vcd").read_bytes())
    raw = np.frombuffer((folder / "out.bin").read_bytes(), np.uint32)
    raw = raw.reshape(-1, 2 + sum(map(_chunks, design.outputs)))
    cycles = np.ascontiguousarray(raw[:, :2]).view(np.int64).reshape(-1)
    outputs, start = [], 2
    for port in design.outputs:
        outputs.append(_unpacked(raw[:, start : start + _chunks(port)], port))
        start += _chunks(port)
    return Trace(cycles, outputs, ran)


def _chunks(port: Port) -> int:
    return (port.width + 31) // 32


def _packed(words: Words, port: Port) -> np.ndarray[tuple[int, int], np.dtype[np.uint32]]:
    """Rows as 32-bit chunks, lowest first."""
    spread = (words[:, :, None] >> np.arange(port.bits, dtype=np.uint64)) & np.uint64(1)
    bits = np.zeros((len(words), 32 * _chunks(port)), np.uint8)
    bits[:, : port.width] = spread.reshape(len(words), -1)
    return np.packbits(bits, axis=1, bitorder="little").view("<u4")


def _unpacked(chunks: np.ndarray[tuple[int, int], np.dtype[np.uint32]], port: Port) -> Words:
    raw = np.ascontiguousarray(chunks).view(np.uint8)
    bits = np.unpackbits(raw, axis=1, count=port.width, bitorder="little")
    own = bits.reshape(len(bits), port.count, port.bits).astype(np.uint64)
    return np.asarray((own << np.arange(port.bits, dtype=np.uint64)).sum(axis=2, dtype=np.uint64))
