"""A simulator without a compiler: Yosys's gates as one Python function on integers.

A net is an integer whose bits are the net's values in many rows at once where nothing is clocked; else it is one bit,
and the function is called once a cycle.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.rtl.design import Design, Words
from intsim.rtl.elaborate import netlist
from intsim.rtl.testbench import QUIET, RESET_CYCLES, accepts, drain, offers
from intsim.rtl.trace import Trace

GATES = {
    "$_NOT_": "M^{A}",
    "$_BUF_": "{A}",
    "$_AND_": "{A}&{B}",
    "$_NAND_": "M^({A}&{B})",
    "$_OR_": "{A}|{B}",
    "$_NOR_": "M^({A}|{B})",
    "$_XOR_": "{A}^{B}",
    "$_XNOR_": "M^{A}^{B}",
    "$_ANDNOT_": "{A}&(M^{B})",
    "$_ORNOT_": "{A}|(M^{B})",
    "$_MUX_": "({B}&{S})|({A}&(M^{S}))",
}
"""Of each gate, Y; M has a one in every row."""
Bits = NDArray[np.uint8]


class Gates:
    """A netlist that can be called: `step(inputs, state, M)` gives outputs and the next state.

    Inputs, outputs and state are lists of integers, one a bit, in the order of `inputs`, `outputs` (names of ports,
    their bits from the lowest) and of the flip-flops. A bit that Yosys says is undefined is 0.

    Raises:
        IntsimError: a latch, a clock that isn't the design's, a falling edge, a loop of gates.
    """

    def __init__(self, module: dict[str, Any], inputs: list[str], outputs: list[str]) -> None:
        """Put gates in an order in which each reads what is known, and compile them."""
        ports, made, flops = module["ports"], {}, []
        clock = ports["clk"]["bits"] if "clk" in ports else []
        for name, cell in module["cells"].items():
            kind, pins = cell["type"], {k: v[0] for k, v in cell["connections"].items()}
            if kind == "$_DFF_P_" and [pins["C"]] == clock:
                flops.append((pins["Q"], pins["D"]))
            elif kind in GATES:
                made[pins.pop("Y")] = kind, pins
            else:
                raise IntsimError(
                    f"cell {name} is a {kind}, which this simulator doesn't take: only gates, and registers on the "
                    "rising edge of the clock; use --simulator cxxrtl, icarus or verilator"
                )
        initial: dict[int | str, int] = {}
        for net in module["netnames"].values():
            values = reversed(net["attributes"].get("init", ""))
            initial |= {b: int(v == "1") for b, v in zip(net["bits"], values, strict=False)}
        self.initial = [initial.get(q, 0) for q, _ in flops]
        read = [b for n in inputs for b in ports[n]["bits"]]
        given = [b for n in outputs for b in ports[n]["bits"]]
        known = {*read, *(q for q, _ in flops), "0", "1", "x", "z"}
        lines = [f"[{','.join(map(_net, read))}]=I", f"[{','.join(_net(q) for q, _ in flops)}]=S"]
        # places behind a memory's last entry, which Yosys leaves without a driver
        beyond = {b for n, net in module["netnames"].items() if "$rdmux[" in n for b in net["bits"]} - known - {*made}
        if beyond:
            lines.append("=".join(map(_net, sorted(beyond))) + "=0")
            known |= beyond
        for net in _ordered(made, [*given, *(d for _, d in flops)], known):
            kind, pins = made[net]
            lines.append(f"{_net(net)}=" + GATES[kind].format(**{k: _net(v) for k, v in pins.items()}))
        result = f"return [{','.join(map(_net, given))}],[{','.join(_net(d) for _, d in flops)}]"
        names: dict[str, Any] = {}
        exec("def step(I,S,M):\n " + "\n ".join([*lines, result]), names)  # text made above, of gates and numbers alone
        self.step: Callable[[list[int], list[int], int], tuple[list[int], list[int]]] = names["step"]


def _net(bit: int | str) -> str:
    return {"1": "M", "0": "0", "x": "0", "z": "0"}[bit] if isinstance(bit, str) else f"n{bit}"


def _ordered(made: dict[Any, tuple[str, dict[str, Any]]], wanted: list[Any], known: set[Any]) -> list[Any]:
    """Nets that gates make, each behind those that its gate reads."""
    order: list[Any] = []
    done, open_ = set(known), set()
    stack = [(bit, False) for bit in reversed(wanted)]
    while stack:
        bit, ready = stack.pop()
        if ready:
            open_.discard(bit)
            if bit not in done:
                done.add(bit)
                order.append(bit)
        elif bit in open_:
            raise IntsimError(
                "the design has a loop of gates, which this simulator doesn't take; use --simulator icarus"
            )
        elif bit not in done:
            if bit not in made:
                done.add(bit)
                raise IntsimError("the design reads a net that nothing drives; Icarus shows it as x")
            open_.add(bit)
            stack.append((bit, True))
            stack += [(b, False) for b in made[bit][1].values() if b not in done]
    return order


def simulate(design: Design, folder: Path, vcd: Path | None) -> Trace:
    """Rows that come out; see `cosim`. Raises IntsimError for what `Gates` refuses, and for a waveform."""
    if vcd is not None:
        raise IntsimError(
            "the simulator netlist writes no waveform; use --simulator icarus, verilator or cxxrtl with --vcd"
        )
    module = netlist(design, folder)
    controls = [n for n in ("rst", "ivalid", "oready") if n in module["ports"]]
    answers = [n for n in ("iready", "ovalid") if n in module["ports"]]
    clocked = ["clk"] if "clk" in module["ports"] else []
    into = [f"i{k}" for k in range(len(design.driven))]
    out = [f"o{k}" for k in range(len(design.outputs))]
    gates = Gates(module, [*clocked, *controls, *into], [*answers, *out])
    rows = np.concatenate([_bits(design.vectors[p.name], p.bits) for p in design.driven], axis=1)
    if not design.clock:
        return _at_once(design, gates, rows)
    return _cycles(design, gates, rows, controls, answers)


def _at_once(design: Design, gates: Gates, rows: Bits) -> Trace:
    """All rows in one call."""
    count = len(rows)
    packed = np.packbits(rows, axis=0, bitorder="little")
    columns = [int.from_bytes(packed[:, k].tobytes(), "little") for k in range(packed.shape[1])]
    mask = (1 << count) - 1
    found, _ = gates.step(columns, [], mask)
    size = (count + 7) // 8
    raw = np.frombuffer(b"".join(v.to_bytes(size, "little") for v in found), np.uint8).reshape(len(found), size)
    bits = np.unpackbits(raw, axis=1, count=count, bitorder="little").T
    return Trace(np.arange(count), _words(design, bits), count)


def _cycles(design: Design, gates: Gates, rows: Bits, controls: list[str], answers: list[str]) -> Trace:
    """Row by row, as `Design` says."""
    data, state = rows.tolist(), gates.initial
    taken = given = quiet = 0
    pending, cycle = False, -(RESET_CYCLES if design.reset else 0)
    total_in, total_out = design.rows
    cycles, found = [], []
    while True:
        now = {"rst": int(cycle < 0), "oready": int(cycle >= 0 and accepts(cycle)), "ivalid": int(cycle >= 0)}
        if design.handshake:
            now["ivalid"] = int(cycle >= 0 and taken < total_in and (pending or offers(design, cycle)))
        row = data[min(taken, total_in - 1)]
        outputs, state = gates.step([0, *(now[n] for n in controls), *row], state, 1)
        if cycle >= 0:
            answer = {"iready": 1, "ovalid": 1} | dict(zip(answers, outputs, strict=False))
            quiet += 1
            if design.handshake:
                give = answer["ovalid"] and (now["oready"] or not design.ready[1])
                take = now["ivalid"] and answer["iready"]
                pending = bool(now["ivalid"] and not take)
            else:
                give, take = cycle >= design.latency, taken < total_in
            if give:
                cycles.append(cycle)
                found.append(outputs[len(answers) :])
                given, quiet = given + 1, 0
            if take:
                taken, quiet = taken + 1, 0
            done = given == total_out and (not design.handshake or (taken == total_in and quiet > drain(design)))
            if done or given > total_out or quiet > QUIET:
                break
        cycle += 1
    bits = np.array(found, np.uint8).reshape(len(found), sum(p.width for p in design.outputs))
    return Trace(np.array(cycles, np.int64), _words(design, bits), cycle + 1)


def _bits(words: Words, bits: int) -> Bits:
    """Elements as bits, lowest first: (rows, count * bits)."""
    spread = (words[:, :, None] >> np.arange(bits, dtype=np.uint64)) & np.uint64(1)
    return spread.astype(np.uint8).reshape(len(words), -1)


def _words(design: Design, bits: Bits) -> list[Words]:
    """Of each output its elements, from all outputs' bits."""
    words, start = [], 0
    for port in design.outputs:
        own = bits[:, start : start + port.width].reshape(len(bits), port.count, port.bits).astype(np.uint64)
        words.append((own << np.arange(port.bits, dtype=np.uint64)).sum(axis=2, dtype=np.uint64))
        start += port.width
    return words
