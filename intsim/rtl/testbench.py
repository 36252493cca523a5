"""A self-checking testbench for event-driven simulators, and the module that adapts a design to the others.

What a cycle is, is said in `Design`. Offered rows pause and the output side isn't ready in some cycles, so that
handshakes are tried: `offers` and `accepts` are that pattern, which every simulator follows.
"""

from __future__ import annotations

from intsim.rtl.design import Design, Port

RESET_CYCLES = 2
QUIET = 10_000
"""Cycles without a row taken or given after which a design is taken to have stopped."""
DRAIN = 64
"""Cycles that are looked at behind the last row, for outputs too many."""


def offers(cycle: int) -> bool:
    """Whether a row may begin to be offered in a cycle; one that wasn't taken stays."""
    return cycle % 7 != 3


def accepts(cycle: int) -> bool:
    """Whether the output side is ready in a cycle."""
    return cycle % 5 != 2


def instance(design: Design, nets: dict[str, str]) -> str:
    """The design as an instance `dut`, its ports joined to nets."""
    parameters = ",\n".join(f"    .{k}({_literal(v)})" for k, v in design.parameters.items())
    ports = ",\n".join(f"    .{k}({v})" for k, v in nets.items())
    head = f" #(\n{parameters}\n  )" if parameters else ""
    return f"  {design.top}{head} dut (\n{ports}\n  );\n"


def _literal(value: int | str) -> str:
    return str(value) if isinstance(value, int) else f'"{value}"'


def control(design: Design) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Ports that the clock, the reset and handshakes have, of each side, with the names that simulators use."""
    into = [(design.clock, "clk"), (design.reset.lstrip("!"), "rst"), (design.valid[0], "ivalid")]
    into.append((design.ready[1], "oready"))
    out = [(design.ready[0], "iready"), (design.valid[1], "ovalid")]
    return [x for x in into if x[0]], [x for x in out if x[0]]


def wrapper(design: Design) -> str:
    """A module `wrapper` whose ports have names of their own: clk, rst (active high), i0.., o0.. and handshakes."""
    into, out = control(design)
    nets = {name: own for name, own in (*into, *out)}
    if design.reset.startswith("!"):
        nets[design.reset[1:]] = "!rst"
    ports = [f"  input wire {own}" for _, own in into]
    ports += [f"  output wire {own}" for _, own in out]
    for number, port in enumerate(design.driven):
        ports.append(f"  input wire [{port.width - 1}:0] i{number}")
        nets[port.name] = f"i{number}"
    for number, port in enumerate(design.outputs):
        ports.append(f"  output wire [{port.width - 1}:0] o{number}")
        nets[port.name] = f"o{number}"
    nets |= {p.name: f"{p.width}'d{p.value}" for p in design.inputs if not p.file}
    return "module wrapper (\n" + ",\n".join(ports) + "\n);\n" + instance(design, nets) + "endmodule\n"


def testbench(design: Design) -> str:
    """The text of modules `bench`, clocked from outside, and, but for Verilator, `testbench`, which clocks it."""
    rows_in, rows_out = design.rows
    into, out = control(design)
    nets = {name: own for name, own in (*into, *out)}
    if design.reset:
        nets[design.reset.lstrip("!")] = "!rst" if design.reset.startswith("!") else "rst"
    text = [
        f"// Made by intsim: drives {design.top} with its vectors and compares what comes out.",
        "// The first mismatch is shown, then PASS or FAIL. +vcd=FILE writes a waveform.",
        "module bench (input wire clk);",
        f"  localparam integer IN = {rows_in}, OUT = {rows_out};",
    ]
    for port in (*design.driven, *design.outputs):
        text.append(f"  reg [{port.bits - 1}:0] v_{port.name}[0:{'IN' if port in design.driven else 'OUT'}*{port.count}-1];")
    for port in design.driven:
        text.append(f"  reg [{port.width - 1}:0] p_{port.name};")
        nets[port.name] = f"p_{port.name}"
    for port in design.outputs:
        text.append(f"  wire [{port.width - 1}:0] p_{port.name};")
        nets[port.name] = f"p_{port.name}"
    nets |= {p.name: f"{p.width}'d{p.value}" for p in design.inputs if not p.file}
    text += ["  reg rst, ivalid, oready;", "  wire iready, ovalid;"]
    for own, there in (("iready", design.ready[0]), ("ovalid", design.valid[1])):
        if not there:
            text.append(f"  assign {own} = 1'b1;")
    text += [
        "  integer cycle, taken, given, wrong, quiet, k;",
        "  reg shown, pending;",
        "  reg [8*256-1:0] vcd;",
        instance(design, nets).rstrip("\n"),
        "  initial begin",
        *(f'    $readmemh("{p.file}", v_{p.name});' for p in (*design.driven, *design.outputs)),
        f"    cycle = {-RESET_CYCLES if design.reset else 0} - 1;",
        "    taken = 0; given = 0; wrong = 0; quiet = 0; shown = 0; pending = 0; rst = 0; ivalid = 0; oready = 0;",
        *(f"    p_{p.name} = 0;" for p in design.driven),
        '    if ($value$plusargs("vcd=%s", vcd)) begin $dumpfile(vcd); $dumpvars(0, bench); end',
        "  end",
        "  task finish; begin",
        '    if (given < OUT) begin',
        f"      wrong = wrong + (OUT - given) * {sum(p.count for p in design.outputs)};",
        f'      if (!shown) $display("FIRST missing %0d {design.outputs[0].name} %0d - -", cycle, given * {design.outputs[0].count});',
        "    end",
        '    $display("%s: %0d mismatches in %0d rows, %0d cycles", wrong == 0 ? "PASS" : "FAIL", wrong, OUT, cycle + 1);',
        "    $finish;",
        "  end endtask",
        "  task compare; begin",
        "    if (given >= OUT) begin",
        f'      if (!shown) $display("FIRST extra %0d {design.outputs[0].name} %0d - -", cycle, given * {design.outputs[0].count});',
        "      shown = 1; wrong = wrong + 1; finish;",
        "    end else begin",
        *_comparisons(design),
        "      given = given + 1; quiet = 0;",
        "    end",
        "  end endtask",
        "  always @(negedge clk) begin",
        "    cycle = cycle + 1;",
        f"    rst = cycle < 0;",
        f"    ivalid = cycle >= 0 && taken < IN && (pending || cycle % 7 != 3);" if design.handshake else "    ivalid = cycle >= 0;",
        "    oready = cycle >= 0 && cycle % 5 != 2;",
        *(_driven(p) for p in design.driven),
        "  end",
        "  always @(posedge clk) if (cycle >= 0) begin",
        "    quiet = quiet + 1;",
    ]
    if design.handshake:
        oready = "oready && " if design.ready[1] else ""
        text += [
            f"    if ({oready}ovalid !== 1'b0) compare;",
            "    pending = ivalid && iready !== 1'b1;",
            "    if (ivalid && !pending) begin taken = taken + 1; quiet = 0; end",
            f"    if (quiet > ((taken == IN && given == OUT) ? {DRAIN} : {QUIET})) finish;",
        ]
    else:
        text += [
            f"    if (cycle >= {design.latency}) compare;",
            "    if (taken < IN) taken = taken + 1;",
            "    if (given == OUT) finish;",
        ]
    text += [
        "  end",
        "endmodule",
        "`ifndef VERILATOR",
        "module testbench;",
        "  reg clk;",
        "  initial clk = 1'b1;",
        "  always #1 clk = !clk;",
        "  bench bench (.clk(clk));",
        "endmodule",
        "`endif",
    ]
    return "\n".join(text) + "\n"


def _driven(port: Port) -> str:
    part = f"p_{port.name}[{port.bits}*k+:{port.bits}]" if port.count > 1 else f"p_{port.name}"
    row = f"{part} = v_{port.name}[(taken < IN ? taken : IN - 1) * {port.count} + k];"
    return f"    for (k = 0; k < {port.count}; k = k + 1) {row}"


def _comparisons(design: Design) -> list[str]:
    lines = []
    for port in design.outputs:
        part = f"p_{port.name}[{port.bits}*k+:{port.bits}]" if port.count > 1 else f"p_{port.name}"
        there = f"v_{port.name}[given*{port.count}+k]"
        lines += [
            f"      for (k = 0; k < {port.count}; k = k + 1) if ({part} !== {there}) begin",
            f'        if (!shown) $display("FIRST differs %0d {port.name} %0d %h %h", cycle, given * {port.count} + k, {there}, {part});',
            "        shown = 1; wrong = wrong + 1;",
            "      end",
        ]
    return lines
