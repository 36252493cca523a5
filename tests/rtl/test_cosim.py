"""Designs of users: other names, latency, handshakes, widths; and what is said of those that don't fit."""

import numpy as np
import pytest

from intsim.errors import IntsimError
from intsim.rtl import Design, cosim
from intsim.rtl import cosimulation as module
from intsim.rtl.design import write_hex

from .simulators import each, needs

PIPELINE = """
module scaler #(parameter FACTOR = 3) (input wire ck, input wire nrst, input wire signed [15:0] d_in,
                                       output wire [11:0] d_out);
  reg signed [15:0] one, two; reg [11:0] three;
  always @(posedge ck or negedge nrst)
    if (!nrst) begin one <= 0; two <= 0; three <= 0; end
    else begin one <= d_in * FACTOR; two <= one + 1; three <= two[15:4]; end
  assign d_out = three;
endmodule
"""
SCALER = """
top        = "scaler"
sources    = ["scaler.v"]
parameters = { FACTOR = 5 }
clock      = "ck"
reset      = "!nrst"
latency    = 3
inputs.d_in   = { file = "x.hex", bits = 16 }
outputs.d_out = { file = "y.hex", bits = 12, signed = true }
"""
PAIRS = """
module pairs (input wire clk, input wire rst, input wire s_valid, output wire s_ready, input wire [31:0] s_data,
              output reg m_valid, input wire m_ready, output reg [17:0] m_data);
  // adds the four bytes of two words, lowest byte first, in two fields of nine bits
  reg half; reg [17:0] sums;
  wire [17:0] now = {9'(s_data[31:24]) + 9'(s_data[23:16]), 9'(s_data[15:8]) + 9'(s_data[7:0])};
  assign s_ready = !m_valid || m_ready;
  always @(posedge clk)
    if (rst) begin half <= 0; m_valid <= 0; end
    else begin
      if (m_ready) m_valid <= 0;
      if (s_valid && s_ready) begin
        half <= !half; sums <= now;
        if (half) begin m_valid <= 1; m_data <= {now[17:9] ^ sums[17:9], now[8:0] ^ sums[8:0]}; end
      end
    end
endmodule
"""
STREAM = """
top     = "pairs"
sources = ["pairs.sv"]
clock   = "clk"
reset   = "rst"
valid   = ["s_valid", "m_valid"]
ready   = ["s_ready", "m_ready"]
[inputs]
s_data = { file = "bytes.hex", bits = 8, count = 4 }
[outputs]
m_data = { file = "sums.hex", bits = 9, count = 2 }
"""


def scaler(folder, text=SCALER):
    x = np.random.default_rng(0).integers(-32768, 32768, 200)
    write_hex(folder / "x.hex", x, 16)
    write_hex(folder / "y.hex", (x * 5 + 1) >> 4, 12)
    (folder / "scaler.v").write_text(PIPELINE)
    (folder / "design.toml").write_text(text)
    return folder / "design.toml"


def stream(folder):
    data = np.random.default_rng(1).integers(0, 256, (120, 4))
    sums = np.stack([data[:, 0] + data[:, 1], data[:, 2] + data[:, 3]], axis=1)
    write_hex(folder / "bytes.hex", data, 8)
    write_hex(folder / "sums.hex", sums[::2] ^ sums[1::2], 9)
    (folder / "pairs.sv").write_text(PAIRS)
    (folder / "cosim.toml").write_text(STREAM)
    return folder


ALL = each("netlist", "icarus", "cxxrtl")
TWO = each("netlist", "icarus")


def stream_cycles(words):
    """In which cycles the sums come out: the pattern of offers and pauses, and the module, once more."""
    came, cycle, taken, offered, full = [], 0, 0, False, False
    while len(came) < words // 2:
        offered = taken < words and (offered or cycle % 7 != 3)
        ready = cycle % 5 != 2
        took = offered and (not full or ready)
        if full and ready:
            came.append(cycle)
            full = False
        if took:
            taken, offered = taken + 1, False
            full = taken % 2 == 0
        cycle += 1
    return came


@pytest.mark.parametrize("simulator", ALL)
def test_latency_three_and_other_names(tmp_path, simulator):
    found = cosim(scaler(tmp_path), simulator)
    assert (found.design, found.mismatches, found.vectors, found.cycles) == ("scaler", 0, 200, 203)


@pytest.mark.parametrize("simulator", ALL)
def test_valid_ready_and_rows_of_several_elements(tmp_path, simulator):
    """All simulators pause in the same cycles, so they end in the same one."""
    found = cosim(stream(tmp_path), simulator)
    assert (found.mismatches, found.vectors, found.cycles) == (0, 60, stream_cycles(120)[-1] + 66)


EVERY_THIRD = """
module third (input wire clk, input wire rst, input wire [7:0] x, output wire valid, output wire [9:0] y);
  reg [1:0] n; reg [9:0] sum;
  assign valid = n == 2; assign y = sum + x;
  always @(posedge clk) if (rst || valid) begin n <= 0; sum <= 0; end else begin n <= n + 1; sum <= y; end
endmodule
"""


@pytest.mark.parametrize("simulator", ALL)
def test_a_stream_that_only_its_output_interrupts(tmp_path, simulator):
    x = np.random.default_rng(2).integers(0, 256, (50, 3))
    write_hex(tmp_path / "x.hex", x, 8)
    write_hex(tmp_path / "y.hex", x.sum(axis=1), 10)
    (tmp_path / "third.v").write_text(EVERY_THIRD)
    text = 'top = "third"\nsources = ["third.v"]\nclock = "clk"\nreset = "rst"\nvalid = ["", "valid"]\n'
    text += 'inputs.x = { file = "x.hex", bits = 8 }\noutputs.y = { file = "y.hex", bits = 10 }\n'
    (tmp_path / "cosim.toml").write_text(text)
    found = cosim(tmp_path, simulator)
    assert (found.mismatches, found.vectors, found.cycles) == (0, 50, 150)


@pytest.mark.slow
@needs("verilator")
def test_verilator(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert cosim(scaler(tmp_path / "a"), "verilator").cycles == 203
    found = cosim(stream(tmp_path / "b"), "verilator", vcd=tmp_path / "waves.vcd")
    assert (found.mismatches, found.cycles) == (0, stream_cycles(120)[-1] + 66)
    assert (tmp_path / "waves.vcd").read_text().count("$var") > 5


def change(path, number, text):
    lines = path.read_text().splitlines()
    lines[number] = text
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("simulator", ALL)
def test_the_first_of_several_wrong_elements(tmp_path, simulator):
    stream(tmp_path)
    real = int((tmp_path / "sums.hex").read_text().splitlines()[51], 16)
    change(tmp_path / "sums.hex", 51, f"{real ^ 1:x}")
    change(tmp_path / "sums.hex", 90, "1ff")
    found = cosim(tmp_path, simulator)
    first = found.first
    assert (found.mismatches, first.how, first.port, first.element) == (2, "differs", "m_data", 51)
    assert (first.expected, first.got, first.cycle) == (real ^ 1, real, stream_cycles(120)[25])


@pytest.mark.parametrize("simulator", TWO)
def test_signs_of_what_is_shown(tmp_path, simulator):
    path = scaler(tmp_path)
    lines = (tmp_path / "y.hex").read_text().splitlines()
    place = next(n for n, line in enumerate(lines) if int(line, 16) > 0x800)
    change(tmp_path / "y.hex", place, "001")
    first = cosim(path, simulator).first
    assert (first.element, first.expected, first.got) == (place, 1, int(lines[place], 16) - 4096)
    assert first.cycle == place + 3


@pytest.mark.parametrize("simulator", TWO)
@pytest.mark.parametrize("more", [-2, 2])
def test_rows_that_are_missing_or_too_many(tmp_path, simulator, more):
    """Rows of two elements: two lines are one."""
    stream(tmp_path)
    lines = (tmp_path / "sums.hex").read_text().splitlines()
    (tmp_path / "sums.hex").write_text("\n".join(lines[:more] if more < 0 else [*lines, "0", "0"]) + "\n")
    found = cosim(tmp_path, simulator)
    kind, count = ("extra", 1) if more < 0 else ("missing", 2)
    assert (found.mismatches, found.first.how, found.first.element) == (count, kind, 118 if more < 0 else 120)


@needs("icarus")
def test_undefined_bits_are_no_match(tmp_path):
    path = scaler(tmp_path)
    (tmp_path / "scaler.v").write_text(PIPELINE.replace("two[15:4]", "{two[15:5], 1'bx}"))
    found = cosim(path, "icarus")
    assert "x" in found.first.got.lower()
    assert found.mismatches == 200


@needs("icarus")
def test_a_waveform(tmp_path):
    path = scaler(tmp_path)
    assert "there is no folder" in refusal(path, "icarus", tmp_path / "no" / "a.vcd")
    cosim(path, "icarus", vcd=tmp_path / "a.vcd")
    assert "d_out" in (tmp_path / "a.vcd").read_text()


def refusal(*arguments):
    with pytest.raises(IntsimError) as caught:
        cosim(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("simulator", TWO)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bits = 16", "bits = 8"),
        ("d_in  ", "din  "),
        ("inputs.d_in", "inputs.more = { value = 1, bits = 1 }\ninputs.d_in"),
    ],
)
def test_ports_that_do_not_fit(tmp_path, simulator, old, new):
    text = SCALER.replace(old, new)
    path = scaler(tmp_path, text)
    write_hex(tmp_path / "x.hex", np.zeros(200, int), 8)
    assert "port" in refusal(path, simulator)


@pytest.mark.parametrize("simulator", each("netlist", "icarus"))
def test_an_input_that_the_file_leaves_out(tmp_path, simulator):
    path = scaler(tmp_path)
    (tmp_path / "scaler.v").write_text(PIPELINE.replace("input wire nrst,", "input wire nrst, input wire enable,"))
    assert "enable" in refusal(path, simulator)


@pytest.mark.parametrize("simulator", TWO)
def test_errors_of_the_source(tmp_path, simulator):
    path = scaler(tmp_path)
    (tmp_path / "scaler.v").write_text("module scaler(;")
    assert "scaler.v:1" in refusal(path, simulator)


@needs("netlist")
def test_what_the_netlist_simulator_does_not_take(tmp_path):
    path = scaler(tmp_path)
    (tmp_path / "scaler.v").write_text(PIPELINE.replace("posedge ck or negedge nrst", "negedge ck"))
    assert "use --simulator cxxrtl" in refusal(path, "netlist")
    assert "writes no waveform" in refusal(path, "netlist", tmp_path / "a.vcd")


BAD = {
    "unknown key 'latenzy'": ("latency ", "latenzy "),
    "latency is -1; allowed: 0..65536": ("latency    = 3", "latency    = -1"),
    "top is missing": ('top        = "scaler"', ""),
    "top is 'a b'; allowed: a Verilog name": ('top        = "scaler"', 'top = "a b"'),
    "sources is": ('["scaler.v"]', '["a b.v; rm"]'),
    "sources is ['-o']": ('["scaler.v"]', '["-o"]'),
    "parameters is": ("FACTOR = 5", "FACTOR = 1.5"),
    "latency is given without clock": ('clock      = "ck"\nreset      = "!nrst"', ""),
    "give one of them": ("latency    = 3", 'latency = 3\nvalid = ["a", "b"]'),
    "port d_in is named twice": ('clock      = "ck"', 'clock = "d_in"'),
    "inputs.d_in.bits is missing": (", bits = 16", ""),
    "inputs.d_in: give a file of vectors, or a value": ('file = "x.hex", bits = 16', "bits = 16"),
    "outputs.d_out: file is missing": ('file = "y.hex"', "value = 3"),
    "no input has a file": ('file = "x.hex"', "value = 3"),
    "not TOML": ("{ FACTOR = 5 }", "{"),
}


@pytest.mark.parametrize("text", BAD)
def test_files_that_are_no_design(tmp_path, text):
    old, new = BAD[text]
    assert old in SCALER
    said = refusal(scaler(tmp_path, SCALER.replace(old, new)))
    assert text in said
    assert said.startswith(str(tmp_path / "design.toml"))


def test_vectors_that_are_none(tmp_path):
    path = scaler(tmp_path)
    change(tmp_path / "x.hex", 6, "1ffff")
    assert "x.hex, line 7: '1ffff' is no hexadecimal number of 16 bits" in refusal(path)
    change(tmp_path / "x.hex", 6, "0\n0")
    assert "port d_in has 201 rows of vectors, port d_out 200" in refusal(path)
    (tmp_path / "x.hex").unlink()
    assert "x.hex: can't be read: No such file" in refusal(path)
    assert "can't be read" in refusal(tmp_path / "nothing")


def test_what_is_written_is_read(tmp_path):
    for path in (scaler(tmp_path), stream(tmp_path)):
        design = Design.load(path)
        (tmp_path / "again.toml").write_text(design.toml())
        assert Design.load(tmp_path / "again.toml") == design
        assert len(design.toml().splitlines()) <= 12


def test_missing_tools_are_named_with_what_installs_them(tmp_path, monkeypatch):
    monkeypatch.setattr("intsim.rtl.tools.package", lambda name: None)
    monkeypatch.setattr("intsim.rtl.tools.shutil.which", lambda name: None)
    path = scaler(tmp_path)
    assert refusal(path) == "no simulator is installed: pip install 'intsim[rtl]'"
    assert refusal(path, "netlist") == "yosys is not installed: pip install 'intsim[rtl]'"
    assert "iverilog is not installed: apt-get install" in refusal(path, "icarus")
    assert "allowed: cxxrtl, icarus, netlist, verilator" in refusal(path, "vcs")


def test_the_first_simulator_that_is_there(monkeypatch):
    there = {"iverilog", "yosys"}
    monkeypatch.setattr(module, "missing", lambda tool: tool not in there)
    assert module.chosen(None) == "icarus"
    there.add("g++")
    assert module.chosen(None) == "cxxrtl"
    assert module.chosen("netlist") == "netlist"


@needs("icarus")
def test_a_report_for_continuous_integration(tmp_path):
    found = cosim(scaler(tmp_path), "icarus")
    found.write_junit(tmp_path / "a.xml")
    assert 'failures="0"' in (tmp_path / "a.xml").read_text()
    change(tmp_path / "y.hex", 4, "7ff")
    cosim(tmp_path / "design.toml", "icarus").write_junit(tmp_path / "a.xml")
    assert "1 mismatches; first: cycle 7, port d_out, element 4: expected 2047" in (tmp_path / "a.xml").read_text()
