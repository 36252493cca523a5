"""Write a module with its parameters, its vectors, and all that is needed to simulate it.

Every kind makes a `Kind`: the text of its top module, what its ports are, and vectors, of which the outputs are what
intsim's definitions say. Files are the same bytes whenever the arguments are the same.
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
from intsim.rtl.vectors import Integers, drawn, packed
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
BIAS_MODES = {"requantizer": 0, "preload": 1, "after": 2}
"""Of dot.sv, by where a target adds the bias."""
SCANNED_ORDER = 2
"""Highest order of which all segments are looked at at once: 15; of order 3 it would be 63."""


class Kind(NamedTuple):
    """What is written: `module` of hardware/rtl, `top` the text of its wrapper, `design` without vectors, and these.

    `tables` are files that modules read, values and their bits; `parts` texts of modules that the wrapper has besides.
    """

    module: str
    top: str
    design: Design
    vectors: dict[str, Any]
    tables: Mapping[str, tuple[Any, int]] = MappingProxyType({})
    parts: Mapping[str, str] = MappingProxyType({})


def emit(kind: Kind, folder: Path) -> list[str]:
    """Write a kind's files; their names.

    The top module and what it is made of, a file of vectors a port, `cosim.toml`, `testbench.sv`, `run.sh` for Icarus.
    """
    design = replace(kind.design, folder=folder)
    texts = {**kind.parts, f"{design.top}.sv": kind.top, "cosim.toml": design.toml()}
    texts |= {name: modules.source(Path(name).stem) for name in design.sources if name not in texts}
    for port in (*design.driven, *design.outputs):
        write_hex(folder / port.file, kind.vectors[port.name], port.bits)
    for name, (values, bits) in kind.tables.items():
        write_hex(folder / name, values, bits)
    texts["testbench.sv"] = testbench(design)
    texts["run.sh"] = SCRIPT.format(top=design.top, files=" ".join(design.sources))
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return sorted([*texts, *(p.file for p in (*design.driven, *design.outputs)), *kind.tables])


def _design(module: str, ports: Sequence[Port], outputs: Sequence[Port], **more: Any) -> Design:
    files = (*modules.sources(module), f"intsim_{module}.sv")
    return Design(Path(), f"intsim_{module}", files, tuple(ports), tuple(outputs), **more)


def port(name: str, bits: int, signed: bool = False, count: int = 1) -> Port:
    """A port with a file of its name."""
    return Port(name, bits, count, signed, f"{name}.hex")


def wrapped(
    module: str,
    parameters: dict[str, Any],
    inputs: Iterable[tuple[str, int]],
    outputs: Iterable[tuple[str, int]],
    tied: Mapping[str, str] = MappingProxyType({}),
    unread: Mapping[str, int] = MappingProxyType({}),
) -> str:
    """A module `intsim_MODULE` that is the module with parameters; ports with their widths, of width 0 a single bit.

    `tied`: other inputs of the module, and what they are joined to; `unread`: its other outputs.
    """
    declared = [f"  input  wire {_range(w)}{n}" for n, w in inputs] + [
        f"  output wire {_range(w)}{n}" for n, w in outputs
    ]
    given = ",\n".join(f"      .{k}({v})" for k, v in parameters.items())
    nets = {n: n for n, _ in (*inputs, *outputs)} | dict(tied) | {n: f"unread_{n}" for n in unread}
    wires = [f"  wire {_range(w)}unread_{n};\n" for n, w in unread.items()]
    if wires:
        wires.append(f"  wire unused = &{{1'b0, {', '.join(f'unread_{n}' for n in unread)}}};\n")
    joined = ",\n".join(f"      .{n}({net})" for n, net in nets.items())
    return (
        f"// Made by intsim: {module}.sv with its parameters.\nmodule intsim_{module} (\n"
        + ",\n".join(declared)
        + f"\n);\n{''.join(wires)}  {module} #(\n{given}\n  ) made (\n{joined}\n  );\nendmodule\n"
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
    acc = last.bits + drop
    parameters = of_dot(stages, activation, weight, bias_bits, mode)
    ports = [port("in_last", 1), port("a", activation.bits, activation.signed), port("b", weight.bits, weight.signed)]
    ports.append(port("bias", bias_bits, True))
    return _with_handshake("dot", parameters, ports, port("acc", acc, True), columns)


def of_dot(
    stages: Sequence[Stage], activation: IntegerType, weight: IntegerType, bias_bits: int, mode: int
) -> dict[str, Any]:
    """Parameters of dot.sv for registers, operands, and a bias added as `mode` of BIAS_MODES says."""
    drop = stages[0].drop
    return {
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
        "WIDE": max(*(s.bits for s in stages), activation.bits + weight.bits + 2),
        "ACC": stages[-1].bits + drop,
    }


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


def hilbert(
    decoder: Decoder,
    table: bool,
    vectors: int,
    seed: int,
    *,
    guided: bool = False,
    window: int | None = None,
    weight_shift: int | None = None,
    radius: int | None = None,
    pipelined: bool = False,
) -> Kind:
    """A lattice-aligned decoder of the plane whose spacing is 2^(n-p), as gates or as a table of all pairs of codes.

    With a guide orders 1 and 2 look at all segments at once, higher ones at a segment a cycle. All codes are tried
    where there are no more than `vectors`, else that many.

    Args:
        decoder: tells order, codes and outputs.
        table: a table; it takes none of what follows.
        vectors: rows, at most.
        seed: of drawn codes.
        guided: a third input, the guide's code, with a window or a weight or both.
        window: as `Decoder.nearest` takes it.
        weight_shift: likewise.
        radius: ports `squared` and `confident` too: the squared distance, and whether it is at most radius^2.
        pipelined: registers on the way, with valid and ready on both sides.

    Raises:
        IntsimError: another decoder; a table of more than 2^20 entries, or of anything but places; a window or a weight
            without a guide or the other way round, or one that isn't what it should be; a guide of order 3 and up
            without `pipelined`.
    """
    n, p = decoder.code_bits, decoder.curve.order
    if decoder != Decoder.lattice_aligned(p, None, n, decoder.output_bits, decoder.signed):
        raise IntsimError("the Hilbert modules are for lattice-aligned decoders of the plane with a spacing of 2^(n-p)")
    if table and n > 10:
        raise IntsimError(
            f"a table of all pairs of {n}-bit codes has 2^{2 * n} entries; emit the decoder, without --lookup"
        )
    if table and (guided or radius is not None or pipelined):
        raise IntsimError("--lookup is a table of places: it takes no --guide, --confidence or --pipelined")
    if guided != (window is not None or weight_shift is not None):
        raise IntsimError("--guide needs --window or --weight-shift or both, and they need it")
    walked = guided and p > SCANNED_ORDER
    if walked and not pipelined:
        raise IntsimError(f"with a guide a decoder of order {p} takes a cycle for each segment: give --pipelined too")
    out = decoder.output_bits or n + p
    codes = _codes(decoder, 3 if guided else 2, vectors, seed)
    names = ["x", "y", "guide"][: len(codes)]
    how: dict[str, Any] = {}
    if guided:
        how = {"guide": codes[2], "window": window, "weight_shift": weight_shift}
    points = np.stack(codes[:2], axis=-1)
    columns = {**dict(zip(names, codes, strict=True)), "place": decoder(points, **how)}
    ports, outputs = [port(name, n, decoder.signed) for name in names], [port("place", out)]
    if table:
        parameters: dict[str, Any] = {"CODE": n, "OUT": out, "FILE": f'"{TABLE_FILE}"'}
        text = wrapped("hilbert_table", parameters, [("clk", 0), ("x", n), ("y", n)], [("place", out)])
        every = np.arange(1 << n)
        every = every - ((every >> n - 1) << n if decoder.signed else 0)
        entries = decoder(np.stack(np.meshgrid(every, every, indexing="ij"), axis=-1))
        design = _design("hilbert_table", ports, outputs, clock="clk", latency=1)
        return Kind("hilbert_table", text, design, columns, {TABLE_FILE: (entries, out)})
    parameters = {"ORDER": p, "CODE": n, "SIGNED": int(decoder.signed), "OUT": out}
    if guided:
        parameters["WINDOW"] = -1 if window is None else min(window, decoder.position_max)
        parameters["WEIGHT"] = -1 if weight_shift is None else weight_shift
    squared = 2 * n + 1 if guided else 2 * (n - p)
    unread = {"squared": squared, "confident": 0}
    if radius is not None:
        columns["squared"] = decoder.nearest(points, **how)[1]
        columns["confident"] = decoder.confident(points, radius, **how).astype(np.int64)
        outputs += [port("squared", squared), port("confident", 1)]
        parameters["RADIUS"] = min(radius, 2 << n)  # no point is as far as that
        unread = {}
    module = "hilbert_walk" if walked else "hilbert_scan" if guided else "hilbert_decode"
    if not walked:
        parameters["STAGES"] = 0 if not pipelined else 3 if guided else 4
    inputs = [(p.name, p.width) for p in ports]
    results = [(p.name, p.width) for p in outputs]
    tied: dict[str, str] = {}
    if pipelined:
        inputs = [("clk", 0), ("rst", 0), ("in_valid", 0), ("out_ready", 0), *inputs]
        results = [("in_ready", 0), ("out_valid", 0), *results]
        shaken = {"valid": ("in_valid", "out_valid"), "ready": ("in_ready", "out_ready")}
        design = _design(module, ports, outputs, clock="clk", reset="rst", **shaken)
    else:
        tied = {"clk": "1'b0", "rst": "1'b0", "in_valid": "1'b1", "out_ready": "1'b1"}
        unread |= {"in_ready": 0, "out_valid": 0}
        design = _design(module, ports, outputs)
    return Kind(module, wrapped(module, parameters, inputs, results, tied, unread), design, columns)


def _codes(decoder: Decoder, count: int, vectors: int, seed: int) -> list[Integers]:
    """`count` codes of `vectors` rows, x, y and the guide; all there are where these are no more.

    Of drawn ones every other row is near the curve, and its guide near the row's place.
    """
    n = decoder.code_bits
    if 1 << count * n <= vectors:
        every = np.arange(1 << count * n)
        return [(every >> n * k & (1 << n) - 1) + decoder.lowest_code for k in reversed(range(count))]
    generator = np.random.default_rng(seed)
    ends = decoder.lowest_code, decoder.highest_code
    columns = [drawn(generator, *ends, vectors) for _ in range(count)]
    places = generator.integers(0, decoder.output_max, vectors, endpoint=True)
    scale = places * (1 << n) // decoder.output_max + decoder.lowest_code
    close = [*decoder.encode(places).T, scale][:count]
    noise = generator.integers(-decoder.spacing // 2, decoder.spacing // 2, (count, vectors), endpoint=True)
    near = np.arange(vectors) % 2 == 1
    return [np.where(near, np.clip(c + e, *ends), d) for c, e, d in zip(close, noise, columns, strict=True)]


def embedding(entries: Any, vectors: int, seed: int) -> Kind:
    """A pixel embedding (arXiv 2407.16174): a vector of codes for each value of a pixel, in one word of a table.

    Rows are all values where there are no more than `vectors`, else that many.

    Args:
        entries: integers (values, elements), 2..65536 values of 1..4096 elements within 32 bits.

    Raises:
        IntsimError: another array.
    """
    table = np.asarray(entries)
    if (
        table.dtype.kind not in "iu"
        or table.ndim != 2
        or not 2 <= len(table) <= 1 << 16
        or not 0 < table.shape[1] <= 4096
    ):
        raise IntsimError(
            f"an embedding of type {table.dtype} and shape {table.shape}; give integers of shape (values, elements), "
            "2..65536 values of 1..4096 elements"
        )
    low, high = int(table.min()), int(table.max())
    if max(-low, high) >> 32:
        raise IntsimError(f"an embedding of {low}..{high}; its elements have 32 bits at most")
    bits = max(1, high.bit_length()) if low >= 0 else smallest(low, high)
    into, count = (len(table) - 1).bit_length(), table.shape[1]
    values = np.arange(len(table))
    if len(table) > vectors:
        values = np.random.default_rng(seed).choice(values, vectors)
    text = wrapped(
        "lookup", {"IN": into, "OUT": bits * count, "FILE": f'"{TABLE_FILE}"'}, [("x", into)], [("y", bits * count)]
    )
    design = _design("lookup", [port("x", into)], [replace(port("y", bits, low < 0), count=count)])
    words = packed(np.resize(table, (1 << into, count)), bits)
    return Kind("lookup", text, design, {"x": values, "y": table[values]}, {TABLE_FILE: (words, bits * count)})


def smallest(*values: int) -> int:
    """Bits of the narrowest two's complement that holds all, at least 2."""
    return max(2, *(v.bit_length() + 1 if v >= 0 else (-v - 1).bit_length() + 1 for v in values))


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
    check_registers(target.name, stages)
    return stages


def check_registers(target: str, stages: Sequence[Stage]) -> None:
    """Raise IntsimError for registers that the modules don't take."""
    if min(s.bits for s in stages) < 2:
        raise IntsimError(f"target {target} has a register of one bit; the modules take 2 bits and more")


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
