"""A self-checking testbench for event-driven simulators, and the module that adapts a design to the others.

What a cycle is, is said in `Design`. Offered rows pause and the output side isn't ready in some cycles, so that
handshakes are tried: `offers` and `accepts` are that pattern, which every simulator follows.
"""

from __future__ import annotations

from intsim.rtl.design import Design, Port

RESET_CYCLES = 2
QUIET = 100_000
"""Cycles without a row taken or given after which a design is taken to have stopped."""
DRAIN = 64
"""Cycles that are looked at behind the last row, for outputs too many."""


def offers(design: Design, cycle: int) -> bool:
    """Whether a row may begin to be offered in a cycle; one that wasn't taken stays. Without a port that says so rows
    follow each other."""
    return not design.valid[0] or cycle % 7 != 3


def accepts(cycle: int) -> bool:
    """Whether the output side is ready in a cycle."""
    return cycle % 5 != 2


def drain(design: Design) -> int:
    """Quiet cycles behind the last row that must pass; -1: none, of a design that can't be told that rows are over."""
    return DRAIN if design.valid[0] else -1


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
    """A module `intsim_wrapper` whose ports have names of its own: clk, rst (active high), i0, o0, ...."""
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
    return "module intsim_wrapper (\n" + ",\n".join(ports) + "\n);\n" + instance(design, nets) + "endmodule\n"


BENCH = """\
// Made by intsim: drives @TOP@ with its vectors and compares what comes out.
// The first mismatch is shown, then PASS or FAIL. +vcd=FILE writes a waveform.
module intsim_bench (input wire clk);
  localparam integer IN = @IN@, OUT = @OUT@;
@DECLARED@
  reg rst, ivalid, oready;
  wire iready, ovalid;
@TIED@
  integer cycle, taken, given, wrong, quiet, k;
  reg shown, pending, started;  // a design sees no edge before the first cycle
  reg [8*256-1:0] vcd;
@DUT@
  initial begin
@READ@
    started = 0; cycle = @FIRST@ - 1;
    taken = 0; given = 0; wrong = 0; quiet = 0; shown = 0; pending = 0; rst = 0; ivalid = 0; oready = 0;
@ZERO@
    if ($value$plusargs("vcd=%s", vcd)) begin $dumpfile(vcd); $dumpvars(0, intsim_bench); end
  end
  task finish; begin
    if (given < OUT) begin
      wrong = wrong + (OUT - given) * @ELEMENTS@;
      if (!shown) $display("FIRST missing %0d @LEAD@ %0d - -", cycle, given * @COUNT@);
    end
    $display("%s: %0d mismatches in %0d rows, %0d cycles", wrong == 0 ? "PASS" : "FAIL", wrong, OUT, cycle + 1);
    $finish;
  end endtask
  task compare; begin
    if (given >= OUT) begin
      if (!shown) $display("FIRST extra %0d @LEAD@ %0d - -", cycle, given * @COUNT@);
      shown = 1; wrong = wrong + 1; finish;
    end else begin
@COMPARED@
      given = given + 1; quiet = 0;
    end
  end endtask
  always @(negedge clk) begin
    started = 1; cycle = cycle + 1;
    rst = cycle < 0;
    ivalid = @OFFERED@;
    oready = cycle >= 0 && cycle % 5 != 2;
@DRIVEN@
  end
  always @(posedge clk) if (cycle >= 0) begin
    quiet = quiet + 1;
@EDGE@
  end
endmodule
`ifndef VERILATOR
module intsim_testbench;
  reg clk;
  initial clk = 1'b1;
  always #1 clk = !clk;
  intsim_bench bench (.clk(clk));
endmodule
`endif
"""
SHAKES = f"""\
    if (@READY@ovalid !== 1'b0) compare;
    pending = ivalid && iready !== 1'b1;
    if (ivalid && !pending) begin taken = taken + 1; quiet = 0; end
    if (quiet > ((taken == IN && given == OUT) ? @DRAIN@ : {QUIET})) finish;"""
COUNTS = """\
    if (cycle >= @LATENCY@) compare;
    if (taken < IN) taken = taken + 1;
    if (given == OUT) finish;"""
COMPARE = """\
      for (k = 0; k < @COUNT@; k = k + 1) if (@PART@ !== v_@NAME@[given*@COUNT@+k]) begin
        if (!shown) $display("FIRST differs %0d @NAME@ %0d %h %h", cycle, given * @COUNT@ + k,
                             v_@NAME@[given*@COUNT@+k], @PART@);
        shown = 1; wrong = wrong + 1;
      end"""
DRIVE = "    for (k = 0; k < @COUNT@; k = k + 1) @PART@ = v_@NAME@[(taken < IN ? taken : IN - 1) * @COUNT@ + k];"


def testbench(design: Design) -> str:
    """The text of modules `intsim_bench`, clocked from outside, and, but for Verilator, `intsim_testbench`, which
    clocks it."""
    into, out = control(design)
    nets = {name: own for name, own in (*into, *out)}
    if design.clock:
        nets[design.clock] = "clk && started"
    if design.reset.startswith("!"):
        nets[design.reset[1:]] = "!rst"
    nets |= {p.name: f"p_{p.name}" if p.file else f"{p.width}'d{p.value}" for p in (*design.inputs, *design.outputs)}
    declared = []
    for ports, size, kind in ((design.driven, "IN", "reg"), (design.outputs, "OUT", "wire")):
        declared += [f"  reg [{p.bits - 1}:0] v_{p.name}[0:{size}*{p.count}-1];" for p in ports]
        declared += [f"  {kind} [{p.width - 1}:0] p_{p.name};" for p in ports]
    ties = (("iready", design.ready[0]), ("ovalid", design.valid[1]))
    pauses = " && (pending || cycle % 7 != 3)" if design.valid[0] else ""
    rows_in, rows_out = design.rows
    lead = design.outputs[0]
    return _filled(
        BENCH,
        TOP=design.top,
        IN=rows_in,
        OUT=rows_out,
        DECLARED="\n".join(declared),
        TIED="\n".join(f"  assign {own} = 1'b1;" for own, port in ties if not port),
        DUT=instance(design, nets).rstrip("\n"),
        READ="\n".join(f'    $readmemh("{p.file}", v_{p.name});' for p in (*design.driven, *design.outputs)),
        FIRST=-RESET_CYCLES if design.reset else 0,
        ZERO="\n".join(f"    p_{p.name} = 0;" for p in design.driven),
        ELEMENTS=sum(p.count for p in design.outputs),
        LEAD=lead.name,
        COUNT=lead.count,
        COMPARED="\n".join(_of_port(COMPARE, p) for p in design.outputs),
        OFFERED="cycle >= 0" + (" && taken < IN" + pauses if design.handshake else ""),
        DRIVEN="\n".join(_of_port(DRIVE, p) for p in design.driven),
        EDGE=_filled(SHAKES, READY="oready && " if design.ready[1] else "", DRAIN=drain(design))
        if design.handshake
        else _filled(COUNTS, LATENCY=design.latency),
    )


def _of_port(text: str, port: Port) -> str:
    part = f"p_{port.name}[{port.bits}*k+:{port.bits}]" if port.count > 1 else f"p_{port.name}"
    return _filled(text, COUNT=port.count, NAME=port.name, PART=part)


def _filled(text: str, **words: object) -> str:
    """A text with words in the place of their marks; a line that is nothing but an empty word is left out."""
    for mark, word in words.items():
        text = text.replace(f"@{mark}@\n", f"{word}\n" if str(word) else "").replace(f"@{mark}@", str(word))
    return text
