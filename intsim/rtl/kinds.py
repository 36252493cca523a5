"""Write a module with its parameters, its vectors, and all that is needed to simulate it.

Every kind makes a `Kind`: the text of `top.sv`, what its ports are, and vectors, of which the outputs are what intsim's
definitions say. Files are the same bytes whenever the arguments are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from intsim.arithmetic.accumulate import Stage, accumulate, check_stages
from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.packing import Packing, accumulate_packed, check_packing
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError
from intsim.hilbert import Decoder
from intsim.rtl import modules
from intsim.rtl.design import Design, Port, write_hex
from intsim.rtl.testbench import testbench
from intsim.rtl.vectors import Integers, drawn
from intsim.targets import Target

SCRIPT = """\
#!/bin/sh
# Simulate {top} with Icarus: prints PASS or FAIL.
cd "$(dirname "$0")" || exit 2
iverilog -g2012 -s intsim_testbench -o simulation {files} testbench.sv || exit 2
vvp -n simulation | tee result.txt
grep -q ^PASS result.txt
"""
TABLE_FILE = "table.hex"


class Kind(NamedTuple):
    """What is written: `module` of hardware/rtl, `top` the text of its wrapper, `design` without vectors, and these."""

    module: str
    top: str
    design: Design
    vectors: dict[str, Any]
    tables: Mapping[str, tuple[Any, int]] = MappingProxyType({})


def emit(kind: Kind, folder: Path) -> list[str]:
    """Write a kind's files; their names.

    `top.sv` and what it is made of, a file of vectors a port, `cosim.toml`, `testbench.sv` and `run.sh` for Icarus.
    """
    design = replace(kind.design, folder=folder)
    texts = modules.sources(kind.module) | {"top.sv": kind.top, "cosim.toml": design.toml()}
    for port in (*design.driven, *design.outputs):
        write_hex(folder / port.file, kind.vectors[port.name], port.bits)
    for name, (values, bits) in kind.tables.items():
        write_hex(folder / name, values, bits)
    texts["testbench.sv"] = testbench(design)
    texts["run.sh"] = SCRIPT.format(top=design.top, files=" ".join(design.sources))
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="ascii", newline="\n")
    return sorted([*texts, *(p.file for p in (*design.driven, *design.outputs)), *kind.tables])


def _design(module: str, ports: Sequence[Port], outputs: Sequence[Port], **more: Any) -> Design:
    files = (*modules.sources(module), "top.sv")
    return Design(Path(), f"intsim_{module}", files, tuple(ports), tuple(outputs), **more)


def port(name: str, bits: int, signed: bool = False, count: int = 1) -> Port:
    """A port with a file of its name."""
    return Port(name, bits, count, signed, f"{name}.hex")


def wrapped(
    module: str, parameters: dict[str, Any], inputs: Iterable[tuple[str, int]], outputs: Iterable[tuple[str, int]]
) -> str:
    """A module `intsim_MODULE` that is the module with parameters; ports with their widths, of width 0 a single bit."""
    declared = [f"  input  wire {_range(w)}{n}" for n, w in inputs] + [
        f"  output wire {_range(w)}{n}" for n, w in outputs
    ]
    given = ",\n".join(f"      .{k}({v})" for k, v in parameters.items())
    joined = ",\n".join(f"      .{n}({n})" for n, _ in (*inputs, *outputs))
    return (
        f"// Made by intsim: {module}.sv with its parameters.\nmodule intsim_{module} (\n"
        + ",\n".join(declared)
        + f"\n);\n  {module} #(\n{given}\n  ) made (\n{joined}\n  );\nendmodule\n"
    )


def _range(width: int) -> str:
    return f"[{width - 1}:0] " if width else ""


def mac(target: Target, activation: IntegerType, weight: IntegerType, vectors: int, seed: int) -> Kind:
    """A multiply-accumulate whose register is a target's last one; sums of up to 64 products, the bias preloaded.

    Raises:
        IntsimError: a target without a register, or one of a single bit.
    """
    last = _registers(target)[-1]
    stage = Stage(None, last.bits, last.overflow)
    generator = np.random.default_rng(seed)
    bias_bits = max(last.bits, 2)
    columns: dict[str, list[Integers]] = {n: [] for n in ("clear", "enable", "a", "b", "bias", "acc")}
    count = 0
    while count < vectors:
        depth = int(generator.integers(1, 65))
        a, b = _operands(generator, activation, weight, depth)
        bias = drawn(generator, stage.min, stage.max, 1)
        enable = generator.integers(0, 8, depth) > 0
        products = a * b * enable
        sums = [accumulate(products[:k], [stage], bias[0])[0] for k in range(depth + 1)]
        columns["clear"].append(np.eye(1, depth + 1, dtype=np.int64)[0])
        columns["enable"].append(np.concatenate([[1], enable]))
        columns["a"].append(np.concatenate([a[:1], a]))
        columns["b"].append(np.concatenate([b[:1], b]))
        columns["bias"].append(np.repeat(bias, depth + 1))
        columns["acc"].append(np.array(sums))
        count += depth + 1
    parameters = {
        "A": activation.bits,
        "A_SIGNED": int(activation.signed),
        "B": weight.bits,
        "B_SIGNED": int(weight.signed),
        "ACC": last.bits,
        "SATURATE": int(last.overflow == "saturate"),
        "BIAS": bias_bits,
    }
    inputs = [("clk", 0), ("clear", 0), ("enable", 0), ("a", activation.bits), ("b", weight.bits), ("bias", bias_bits)]
    ports = [port("clear", 1), port("enable", 1), port("a", activation.bits, activation.signed)]
    ports += [port("b", weight.bits, weight.signed), port("bias", bias_bits, True)]
    design = _design("mac", ports, [port("acc", last.bits, True)], clock="clk", latency=1)
    text = wrapped("mac", parameters, inputs, [("acc", last.bits)])
    return Kind("mac", text, design, {k: np.concatenate(v) for k, v in columns.items()})


def dot(target: Target, activation: IntegerType, weight: IntegerType, depth: int, vectors: int, seed: int) -> Kind:
    """A dot product of up to `depth` products through a target's registers, its bias where the target adds it; where
    multipliers are packed, one of each channel and position at once.

    Raises:
        IntsimError: no registers, or such as need a layer: an LSB of their own, a place to restart.
    """
    stages = _registers(target)
    if isinstance(stages[0].restart, str):
        raise IntsimError(
            f'target {target.name}: its groups restart at "{stages[0].restart}", which depends on a layer'
        )
    if target.accumulate.packing is not None:
        return _packed_dot(target, target.accumulate.packing, activation, weight, depth, vectors, seed)
    check_stages(stages)
    mode = BIAS_MODES[target.accumulate.bias]
    drop, last = stages[0].drop, stages[-1]
    bias_bits = min(last.bits + drop, 64)
    generator = np.random.default_rng(seed)
    columns: dict[str, list[Integers]] = {n: [] for n in ("in_last", "a", "b", "bias", "acc")}
    count = 0
    while count < vectors:
        length = depth if len(columns["a"]) % 2 == 0 else int(generator.integers(1, depth, endpoint=True))
        a, b = _operands(generator, activation, weight, length)
        bias = drawn(generator, -(1 << bias_bits - 1), (1 << bias_bits - 1) - 1, 1)
        start, after = bias[0] if mode == 1 else 0, bias[0] if mode == 2 else None
        columns["in_last"].append(np.eye(1, length, length - 1, dtype=np.int64)[0])
        columns["a"].append(a)
        columns["b"].append(b)
        columns["bias"].append(np.repeat(bias, length))
        columns["acc"].append(np.atleast_1d(accumulate(a * b, stages, start, after)[0]))
        count += length
    widest = max(s.bits for s in stages)
    acc = last.bits + drop
    parameters = {
        "A": activation.bits,
        "A_SIGNED": int(activation.signed),
        "B": weight.bits,
        "B_SIGNED": int(weight.signed),
        **_chain(stages),
        "RESTART": stages[0].restart or 0,
        "BIAS": bias_bits,
        "BIAS_MODE": mode,
        "DROP": drop,
        "ROUNDING": mode_number(stages[0].rounding) if drop else 4,
        "WIDE": max(widest, activation.bits + weight.bits + 2),
        "ACC": acc,
    }
    ports = [port("in_last", 1), port("a", activation.bits, activation.signed), port("b", weight.bits, weight.signed)]
    ports.append(port("bias", bias_bits, True))
    return _with_handshake("dot", parameters, ports, port("acc", acc, True), columns)


BIAS_MODES = {"requantizer": 0, "preload": 1, "after": 2}


def _chain(stages: Sequence[Stage]) -> dict[str, Any]:
    """What chain.sv is told of stages."""
    return {
        "STAGES": len(stages),
        "BITS": _vector([s.bits for s in stages]),
        "SUM": _vector([s.sum or 0 for s in stages]),
        "LANES": _vector([s.lanes for s in stages]),
        "SATURATE": f"{len(stages)}'b" + "".join(str(int(s.overflow == "saturate")) for s in reversed(stages)),
    }


def _with_handshake(
    module: str, parameters: dict[str, Any], ports: Sequence[Port], result: Port, columns: dict[str, list[Integers]]
) -> Kind:
    """A module that takes a row a cycle until in_last, and then hands on one."""
    inputs = [("clk", 0), ("rst", 0), ("in_valid", 0), ("in_last", 0), *((p.name, p.width) for p in ports[1:])]
    more = {"clock": "clk", "reset": "rst", "valid": ("in_valid", "out_valid"), "ready": ("in_ready", "")}
    text = wrapped(module, parameters, inputs, [("in_ready", 0), ("out_valid", 0), (result.name, result.width)])
    vectors = {k: np.concatenate(v) for k, v in columns.items()}
    return Kind(module, text, _design(module, ports, [result], **more), vectors)


def _packed_dot(
    target: Target,
    packing: Packing,
    activation: IntegerType,
    weight: IntegerType,
    depth: int,
    vectors: int,
    seed: int,
) -> Kind:
    """A dot product of each channel and position of a packed multiplier, their biases by channel."""
    first, *rest = check_packing(packing, target.stages)
    channels, pixels = len(packing.channels), len(packing.pixels)
    last, mode = rest[-1], BIAS_MODES[target.accumulate.bias]
    generator = np.random.default_rng(seed)
    columns: dict[str, list[Integers]] = {n: [] for n in ("in_last", "a", "b", "bias", "acc")}
    count = 0
    while count < vectors:
        length = depth if len(columns["a"]) % 2 == 0 else int(generator.integers(1, depth, endpoint=True))
        a, b = _operands(generator, activation, weight, length * max(channels, pixels))
        a, b = a[: length * pixels].reshape(length, 1, pixels), b[: length * channels].reshape(length, channels, 1)
        bias = drawn(generator, -(1 << last.bits - 1), (1 << last.bits - 1) - 1, channels)
        start, after = bias[:, None] if mode == 1 else 0, bias[:, None] if mode == 2 else None
        columns["in_last"].append(np.eye(1, length, length - 1, dtype=np.int64)[0])
        columns["a"].append(a[:, 0])
        columns["b"].append(b[:, :, 0])
        columns["bias"].append(np.tile(bias, (length, 1)))
        products = np.moveaxis(a * b, 0, -1)
        columns["acc"].append(accumulate_packed(products, target.stages, packing, start, after)[0].reshape(1, -1))
        count += length
    parameters = {
        "A": activation.bits,
        "A_SIGNED": int(activation.signed),
        "B": weight.bits,
        "B_SIGNED": int(weight.signed),
        "PIXELS": pixels,
        "CHANNELS": channels,
        "PIXEL_AT": _vector(packing.pixels),
        "CHANNEL_AT": _vector(packing.channels),
        "PACKED_A": packed_bits(activation, packing.pixels, packing.bits),
        "PACKED_B": packed_bits(weight, packing.channels, packing.bits),
        "WIDE": packing.bits,
        "FIELD": first.bits,
        "BORROW": int(packing.correction == "borrow"),
        "GROUP": first.sum or 0,
        **_chain(rest),
        "BIAS": last.bits,
        "BIAS_MODE": mode,
        "VALUE": max(first.bits + 1, *(s.bits for s in rest)),
        "ACC": last.bits,
    }
    ports = [port("in_last", 1), port("a", activation.bits, activation.signed, pixels)]
    ports += [port("b", weight.bits, weight.signed, channels), port("bias", last.bits, True, channels)]
    return _with_handshake("packed_dot", parameters, ports, port("acc", last.bits, True, channels * pixels), columns)


def packed_bits(operand: IntegerType, offsets: Sequence[int], most: int) -> int:
    """Bits of the two's complement that holds any operands packed at these offsets, or `most`, if those are fewer."""
    ones = sum(1 << offset for offset in offsets)
    ends = (operand.min * ones, operand.max * ones)
    return min(max(1 + (end if end >= 0 else ~end).bit_length() for end in ends), most)


def hilbert(decoder: Decoder, table: bool, vectors: int, seed: int) -> Kind:
    """A lattice-aligned decoder of the plane whose spacing is 2^(n-p), as gates or as a table of all pairs of codes.

    All pairs are tried where there are no more than `vectors`, else that many.

    Raises:
        IntsimError: another decoder; a table of more than 2^20 entries.
    """
    n, p = decoder.code_bits, decoder.curve.order
    if decoder != Decoder.lattice_aligned(p, None, n, decoder.output_bits, decoder.signed):
        raise IntsimError("the Hilbert modules are for lattice-aligned decoders of the plane with a spacing of 2^(n-p)")
    if table and n > 10:
        raise IntsimError(
            f"a table of all pairs of {n}-bit codes has 2^{2 * n} entries; emit the decoder, without --lookup"
        )
    out = decoder.output_bits or n + p
    if 1 << 2 * n <= vectors:
        pairs = np.stack(np.divmod(np.arange(1 << 2 * n), 1 << n), axis=-1) + decoder.lowest_code
    else:
        generator = np.random.default_rng(seed)
        ends = decoder.lowest_code, decoder.highest_code
        pairs = np.stack([drawn(generator, *ends, vectors) for _ in range(2)], axis=-1)
    ports = [port("x", n, decoder.signed), port("y", n, decoder.signed)]
    columns = {"x": pairs[:, 0], "y": pairs[:, 1], "place": decoder(pairs)}
    if not table:
        parameters: dict[str, Any] = {"ORDER": p, "CODE": n, "SIGNED": int(decoder.signed), "OUT": out}
        text = wrapped("hilbert_decode", parameters, [("x", n), ("y", n)], [("place", out)])
        return Kind("hilbert_decode", text, _design("hilbert_decode", ports, [port("place", out)]), columns)
    parameters = {"CODE": n, "OUT": out, "FILE": f'"{TABLE_FILE}"'}
    text = wrapped("hilbert_table", parameters, [("clk", 0), ("x", n), ("y", n)], [("place", out)])
    codes = np.arange(1 << n)
    codes = codes - ((codes >> n - 1) << n if decoder.signed else 0)
    entries = decoder(np.stack(np.meshgrid(codes, codes, indexing="ij"), axis=-1))
    design = _design("hilbert_table", ports, [port("place", out)], clock="clk", latency=1)
    return Kind("hilbert_table", text, design, columns, {TABLE_FILE: (entries, out)})


def _registers(target: Target) -> tuple[Stage, ...]:
    if target.when:
        raise IntsimError(
            f"target {target.name} has rules: which registers it has depends on the layer; give one without"
        )
    stages = target.stages
    if not stages:
        raise IntsimError(
            f"target {target.name} has no registers, its sums are unbounded; give one that has, e.g. wrap-32"
        )
    if min(s.bits for s in stages) < 2:
        raise IntsimError(f"target {target.name} has a register of one bit; the modules take 2 bits and more")
    return stages


def _operands(
    generator: np.random.Generator, activation: IntegerType, weight: IntegerType, count: int
) -> tuple[Integers, Integers]:
    """Operands of products; now and then all at one end, so that registers overflow.

    Raises:
        IntsimError: types whose products leave the 64 bits that intsim carries.
    """
    if max(abs(x * y) for x in (activation.min, activation.max) for y in (weight.min, weight.max)) >= 1 << 63:
        raise IntsimError(f"products of {activation} and {weight} leave 64 bits; give narrower types")
    a, b = (drawn(generator, t.min, t.max, count) for t in (activation, weight))
    if generator.integers(0, 3) == 0:
        a[:] = generator.choice([activation.min, activation.max])
        b[:] = generator.choice([weight.min, weight.max])
    return a, b


def _vector(values: Sequence[int]) -> str:
    return "{" + ", ".join(f"32'd{v}" for v in reversed(values)) + "}"


def mode_number(rounding: Any) -> int:
    """Of a rounding mode, what round_shift.sv calls it."""
    return list(Rounding).index(Rounding(rounding))
