"""The verbs `emit` and `cosim`: what they write and print, and their exit codes."""

import json
import sys
from pathlib import Path

import pytest

from intsim import cli
from intsim.rtl.design import Design
from intsim.rtl.tools import run, verilator_root

from .simulators import needs

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits.onnx"


@pytest.fixture
def called(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["intsim", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return (end.value.code or 0, *capsys.readouterr())

    return call


KINDS = {
    "mac": ("-t", "wrap-16", "--activation", "u4", "--weight", "s3"),
    "dot": ("-t", "x86-avx2", "--depth", 9),
    "requantize": (DIGITS, "--layer", "/conv1/Conv", "-t", "tflite-single"),
    "hilbert": ("--order", 1, "--code-bits", 4, "--lookup"),
    "threshold": (DIGITS, "--layer", "/conv1/Conv", "-t", "exact"),
    "layer": (DIGITS, "--layer", "/conv2/Conv", "-t", "saturate-16", "--pe", 4),
    "hilbert, sure": ("--order", 2, "--confidence", 9, "--unsigned", "--output-bits", 7),
    "hilbert, in cycles": ("--code-bits", 6, "--pipelined"),
    "hilbert, guided": ("--order", 1, "--guide", "--weight-shift", 3, "--confidence", 12),
    "hilbert, walked": ("--guide", "--window", 50, "--pipelined", "--confidence", 12),
}


@needs("icarus")
@pytest.mark.parametrize("kind", KINDS)
def test_emitted_and_simulated(called, kind):
    code, out, err = called("emit", kind.split(",")[0], *KINDS[kind], "-n", 200, "-o", "made", "--json")
    assert (code, err) == (0, "")
    written = json.loads(out)
    assert sorted(written["files"]) == sorted(str(p) for p in Path("made").iterdir())
    assert written["vectors"] >= 100
    code, out, err = called("cosim", "made", "-s", "icarus")
    assert (code, err) == (0, "")
    assert out.endswith("verdict: as expected\n")


@needs("icarus")
def test_a_wrong_element(called):
    assert called("emit", "mac", "-t", "wrap-16", "-n", 50, "-o", "made")[0] == 0
    lines = Path("made/acc.hex").read_text().splitlines()
    Path("made/acc.hex").write_text("\n".join([*lines[:-1], f"{int(lines[-1], 16) ^ 1:x}"]) + "\n")
    code, out, err = called("cosim", "made/cosim.toml", "-s", "icarus", "--json", "--junit", "a.xml", "--vcd", "a.vcd")
    found = json.loads(out)
    assert (code, err, found["mismatches"]) == (1, "", 1)
    assert found["first"]["element"] == len(lines) - 1 == found["vectors"] - 1
    assert found["first"]["expected"] ^ 1 == found["first"]["got"]
    assert 'failures="1"' in Path("a.xml").read_text()
    assert Path("a.vcd").stat().st_size > 1000


@needs("netlist")
def test_area(called):
    assert called("emit", "mac", "-t", "wrap-16", "-n", 20, "-o", "made")[0] == 0
    code, out, err = called("area", "made", "--fpga", "generic")
    assert (code, err) == (0, "")
    assert out.startswith("intsim_mac on generic, mapped by Yosys ")
    assert out.split("\n")[1].startswith("gates  flip flops  DSPs")


REFUSED = {
    ("emit", "adder", "-o", "x"): "emit adder: no such kind; there are mac, dot,",
    ("emit", "mac"): "emit mac: give the folder to write, -o DIR",
    ("emit", "mac", "-o", "x"): "target exact has no registers",
    ("emit", "mac", "m.onnx", "-o", "x"): "emit mac: takes no model and no layer",
    ("emit", "mac", "-t", "wrap-16", "--weight", "s99", "-o", "x"): "type 's99'; allowed: s1..s32, u1..u32",
    ("emit", "table", "-o", "x"): "emit table: give a network's file, and the layer",
    ("emit", "hilbert", "--order", "9", "-o", "x"): "Hilbert order 9 is out of range",
    (
        "emit",
        "hilbert",
        "--window",
        "3",
        "-o",
        "x",
    ): "--guide needs --window or --weight-shift or both",
    ("emit", "hilbert", "--guide", "--window", "3", "-o", "x"): "with a guide a decoder of order 3 takes a cycle",
    ("emit", "hilbert", "--confidence", "-1", "-o", "x"): "radius is -1: give an integer of at least 0",
    ("cosim", "nowhere"): "nowhere: can't be read",
}


@pytest.mark.parametrize("words", REFUSED)
def test_refusals_are_one_line(called, words):
    code, out, err = called(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"intsim: {REFUSED[words]}")
    assert err.count("\n") == 1
    assert not Path("x").exists()


LINTED = KINDS | {
    "dot, packed": ("-t", "dsp48e2-int4"),
    "hilbert": (),
    "hilbert, scanned": ("--order", 2, "--guide", "--window", 9),
}


@needs("verilator")
@pytest.mark.parametrize("name", LINTED)
def test_verilator_has_nothing_to_say_of_what_is_emitted(called, name):
    assert called("emit", name.split(",")[0], *LINTED[name], "-n", 30, "-o", "made")[0] == 0
    made, root = Design.load(Path("made")), verilator_root()
    command = [root / "bin" / "verilator_bin", "--lint-only", "-Wall", "--top-module", made.top, *made.sources]
    said = run(command, made.folder, extra={"VERILATOR_ROOT": str(root)})
    assert "%" not in said, said
