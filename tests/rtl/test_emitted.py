"""What `emit` writes: the same bytes each time, and modules that compute what targets and layers say."""

import subprocess
from fractions import Fraction

import numpy as np
import pytest

import intsim
from intsim.arithmetic.accumulate import Stage, accumulate
from intsim.arithmetic.integers import IntegerType
from intsim.errors import IntsimError
from intsim.graph import IntegerGraph, Node, Tensor, rationals
from intsim.ops.pieces import pieces_json
from intsim.rtl import cosim, kinds, layers
from intsim.targets import Target

from .simulators import each, needs

DIGITS = "examples/digits.onnx"
S8, U8 = IntegerType(8, True), IntegerType(8, False)


def emitted(folder, kind):
    kinds.emit(kind, folder)
    return folder


def chain(stages, bias="after", requantize='scheme = "exact"'):
    """A target with these registers."""
    text = f'title = "t"\nsource = ["s"]\n[accumulate]\nstages = [{", ".join(stages)}]\nbias = "{bias}"\n[requantize]\n'
    return Target.from_toml(text + requantize)


def drawn_chain(number):
    """Registers of all kinds, narrow enough to overflow."""
    generator = np.random.default_rng(number)

    def stage(total, lanes, extra=""):
        rule, bits = generator.choice(["wrap", "saturate"]), int(generator.integers(12, 20))
        return f'{{ sum = {total}, bits = {bits}, overflow = "{rule}", lanes = {lanes}{extra} }}'

    if number % 4 == 3:
        mode = generator.choice(["half_even", "half_away", "floor", "half_up", "toward_zero"])
        first = [stage(1, 1, f', drop = {int(generator.integers(1, 9))}, rounding = "{mode}"')]
    else:
        first = [
            stage(int(generator.integers(1, 5)), int(generator.integers(1, 6)), ", restart = 7" if number % 2 else "")
        ]
        first += [stage(int(generator.integers(1, 4)), int(generator.integers(1, 5)))] if number % 3 else []
    rest = [stage('"rest"', int(generator.integers(1, 4)))] if number % 5 else []
    return chain([*first, *rest, stage('"rest"', 1)], ["after", "preload", "requantizer"][number % 3])


@needs("icarus")
@pytest.mark.parametrize("number", range(20))
def test_registers_of_all_kinds(tmp_path, number):
    target = drawn_chain(number)
    found = cosim(emitted(tmp_path, kinds.dot(target, S8, S8, 40, 600, number)), "icarus")
    assert found.holds, (target.stages, found.words())
    assert found.vectors >= 15


@pytest.mark.parametrize("simulator", each("netlist", "icarus"))
@pytest.mark.parametrize("name", ["x86-avx2", "hifi-56"])
def test_targets_of_the_library(tmp_path, simulator, name):
    found = cosim(emitted(tmp_path, kinds.dot(Target.load(name), U8, S8, 24, 300, 0)), simulator)
    assert found.holds, found.words()


@pytest.mark.slow
@pytest.mark.parametrize("simulator", each("cxxrtl", "icarus", "verilator"))
@pytest.mark.parametrize("name", ["ruy-neon", "arm-neon-int8", "cpu-int32", "x86-vnni-saturating", "saturate-12"])
def test_targets_of_the_library_elsewhere(tmp_path, simulator, name):
    found = cosim(emitted(tmp_path, kinds.dot(Target.load(name), U8, S8, 64, 20_000, 0)), simulator)
    assert found.holds, found.words()


PACKED = ("dsp48e2-int8", "dsp48e2-int8-raw", "dsp48e2-int4", "dsp48e2-int4-raw")


def packed(target, depth, rows, seed=0):
    own = target.operands
    return kinds.dot(target, own.activation if own else S8, own.weight if own else S8, depth, rows, seed)


@pytest.mark.parametrize("simulator", each("netlist", "icarus"))
@pytest.mark.parametrize("name", PACKED)
def test_packed_multipliers_of_the_library(tmp_path, simulator, name):
    found = cosim(emitted(tmp_path, packed(Target.load(name), 30, 400)), simulator)
    assert found.holds, found.words()
    assert found.vectors >= 10


@pytest.mark.slow
@pytest.mark.parametrize("simulator", each("cxxrtl", "icarus", "verilator"))
@pytest.mark.parametrize("name", PACKED)
def test_packed_multipliers_of_the_library_elsewhere(tmp_path, simulator, name):
    found = cosim(emitted(tmp_path, packed(Target.load(name), 64, 20_000)), simulator)
    assert found.holds, found.words()


def test_vectors_of_packed_multipliers_show_the_borrow():
    """Without correction some sums are short by one a group, in upper fields only; the lowest is right."""
    corrected, raw = (packed(Target.load(name), 30, 400).vectors for name in PACKED[:2])
    assert all((corrected[k] == raw[k]).all() for k in ("a", "b", "bias", "in_last"))
    short = corrected["acc"] - raw["acc"]
    assert (short[:, 0] == 0).all()
    assert short.max() >= 2
    assert short.min() == 0
    end = int(np.flatnonzero(corrected["in_last"])[0]) + 1
    sums = corrected["a"][:end].T @ corrected["b"][:end] + corrected["bias"][0]
    register = Stage(None, 32, "wrap")
    assert (corrected["acc"][0] == [accumulate(sums[:, c], [register])[0] for c in range(2)]).all()


def drawn_packing(number):
    """Fields of all widths, which overflow; registers behind them of all kinds."""
    generator = np.random.default_rng(number)
    channels, pixels, step = (int(generator.integers(*ends)) for ends in ((1, 4), (1, 3), (6, 11)))
    apart = [step, step * channels] if generator.integers(0, 2) else [step * pixels, step]
    at = [[k * apart[0] for k in range(channels)], [k * apart[1] for k in range(pixels)]]
    wide = step * channels * pixels + int(generator.integers(0, 5))
    group = generator.choice(["1", "3", "4"] if number % 2 else ["2", '"rest"'])
    stages = [f'{{ sum = {group}, bits = {int(generator.integers(4, step + 1))}, overflow = "wrap" }}']
    if number % 2:
        bits, lanes = int(generator.integers(6, 17)), 1 + number % 3
        stages.append(f'{{ sum = 2, bits = {bits}, overflow = "saturate", lanes = {lanes} }}')
    stages.append(f'{{ sum = "rest", bits = {int(generator.integers(9, 21))}, overflow = "saturate" }}')
    correction = generator.choice(["none", "borrow"])
    packing = f'channels = {at[0]}\npixels = {at[1]}\nbits = {wide}\ncorrection = "{correction}"\n'
    tables = f'scheme = "exact"\n[accumulate.packing]\n{packing}'
    return chain(stages, ["after", "preload", "requantizer"][number % 3], tables)


@needs("icarus")
@pytest.mark.parametrize("number", range(12))
def test_packed_multipliers_of_all_kinds(tmp_path, number):
    target = drawn_packing(number)
    types = IntegerType(2 + number % 4, bool(number & 1)), IntegerType(2 + number % 3, bool(number & 2))
    found = cosim(emitted(tmp_path, kinds.dot(target, *types, 20, 300, number)), "icarus")
    assert found.holds, (target, found.words())


@needs("icarus")
@pytest.mark.parametrize("channels", [(0, 60), (0, 3, 62)])
def test_packed_operands_that_reach_out_of_the_register(tmp_path, channels):
    tables = f'scheme = "exact"\n[accumulate.packing]\nchannels = {list(channels)}\nbits = 64\ncorrection = "borrow"\n'
    stages = ['{ sum = 3, bits = 2, overflow = "wrap" }', '{ sum = "rest", bits = 12, overflow = "wrap" }']
    found = cosim(emitted(tmp_path, kinds.dot(chain(stages, requantize=tables), U8, S8, 9, 300, 0)), "icarus")
    assert found.holds, found.words()


@pytest.mark.parametrize("simulator", each("netlist", "icarus"))
@pytest.mark.parametrize(("name", "types"), [("saturate-16", (U8, S8)), ("wrap-14", (S8, S8))])
def test_mac(tmp_path, simulator, name, types):
    kind = kinds.mac(Target.load(name), *types, 800, 0)
    rails = Target.load(name).stages[-1]
    found = cosim(emitted(tmp_path, kind), simulator)
    assert found.holds, found.words()
    assert {rails.min, rails.max} <= set(kind.vectors["acc"].tolist()) or name == "wrap-14"


@needs("icarus")
@pytest.mark.parametrize("name", ["wrap-64", "saturate-64"])
def test_the_widest_registers_and_products(tmp_path, name):
    wide = IntegerType(32, True)
    for kind in (kinds.mac(Target.load(name), wide, wide, 300, 0), kinds.dot(Target.load(name), wide, wide, 9, 300, 0)):
        folder = tmp_path / kind.module
        folder.mkdir()
        found = cosim(emitted(folder, kind), "icarus")
        assert found.holds, found.words()
    with pytest.raises(IntsimError, match="products of UINT32 and UINT32 leave 64 bits"):
        kinds.mac(Target.load(name), IntegerType(32, False), IntegerType(32, False), 300, 0)


def one_layer(pieces, low=-2000, high=2000, ends=(0, 15), zero=0, rounding="half_even"):
    """A graph of one requantizer, a channel a list of pieces."""
    cells = [[(at, Fraction(s), Fraction(b)) for at, s, b in cell] for cell in pieces]
    attributes = {"pieces": pieces_json(cells), "cells": [1, len(cells)], "rounding": rounding, "zero": zero}
    attributes |= {"low": ends[0], "high": ends[1]}
    tensors = {"x": Tensor("x", (1, len(cells)), low, high, rationals(1), rationals(0))}
    graph = IntegerGraph("g", tensors, [], ["x"], ["y"])
    node = Node("requantize", "n", ("x",), "y", attributes)
    graph.add(node, Tensor("y", (1, len(cells)), *ends, rationals(1), rationals(0)))
    return graph, node


PIECES = [
    [(None, 0, 0), (3, "7/300", "1/3")],
    [(None, "-1/97", 5)],
    [(None, "1/50", -2), (-100, "1/200", 4), (900, 0, "13/2")],
]


def requantizer(text):
    return chain(['{ sum = "rest", bits = 13, overflow = "saturate" }'], requantize=text)


SCHEMES = [
    'scheme = "fixed-point"\nmultiplier_bits = 8\nrounding = "half_away"',
    'scheme = "fixed-point"\nmultiplier_bits = 12\ndouble_rounding = true',
    'scheme = "ruy"',
]


@needs("icarus")
@pytest.mark.parametrize("scheme", [*SCHEMES, 'scheme = "tosa"\nmultiplier_bits = 32'])
def test_requantizers_of_a_layer(tmp_path, scheme):
    pieces = PIECES if "tosa" not in scheme else [PIECES[0], PIECES[2]]
    graph, node = one_layer(pieces, zero=1)
    kind = layers.requantize(graph, node, requantizer(scheme), 900, 0)
    found = cosim(emitted(tmp_path, kind), "icarus")
    assert found.holds, found.words()
    assert {0, 15} < set(kind.vectors["code"].tolist())
    assert set(kind.vectors["acc"].tolist()) >= {-4096, 4095}


@needs("icarus")
def test_shifts_of_a_layer(tmp_path):
    graph, node = one_layer([[(None, "1/64", "1/8")], [(None, "-1/4", 0)], [(None, 2, 0)]], ends=(-8, 7))
    scheme = 'scheme = "shift"\nrounding = "half_up"'
    found = cosim(emitted(tmp_path, layers.requantize(graph, node, requantizer(scheme), 900, 0)), "icarus")
    assert found.holds, found.words()


@pytest.mark.parametrize("simulator", each("netlist", "icarus"))
def test_thresholds_of_a_layer(tmp_path, simulator):
    graph, node = one_layer(PIECES, zero=1)
    kind = layers.threshold(graph, node, Target.load("exact"), 900, 0)
    found = cosim(emitted(tmp_path, kind), simulator)
    assert found.holds, found.words()


def test_thresholds_hold_the_bias_that_no_register_does():
    """As FINN's do: a register's value and the layer's bias make the code of their sum."""
    graph = intsim.load(DIGITS).graph
    node, target = layers.layer(graph, "/conv2/Conv", "requantize"), Target.load("finn-mvau")
    columns = layers.threshold(graph, node, target, 800, 0).vectors
    bias = graph.producer(node.inputs[0]).arrays["bias"]
    assert len(set(bias.tolist())) > 10
    formulas = intsim.ops.requantize.formulas(node)
    for channel, acc, code in zip(*(columns[n].tolist() for n in ("channel", "acc", "code")), strict=True):
        assert target.requantize.codes(formulas[channel], np.array([acc + bias[channel]]))[0] == code


@pytest.mark.parametrize("simulator", each("netlist", "icarus"))
def test_tables_of_a_layer(tmp_path, simulator):
    entries = np.random.default_rng(0).integers(-8, 8, (3, 40))
    graph = IntegerGraph("g", {"x": Tensor("x", (1, 3), -20, 19, rationals(1), rationals(0))}, [], ["x"], ["y"])
    node = Node("table", "n", ("x",), "y", {"low": -20, "cells": [1, 3]}, {"table": entries})
    graph.add(node, Tensor("y", (1, 3), -8, 7, rationals(1), rationals(0)))
    kind = layers.table(graph, layers.layer(graph, "n", "table"), Target.load("exact"), 4096, 0)
    assert len(kind.vectors["x"]) == 120
    found = cosim(emitted(tmp_path, kind), simulator)
    assert found.holds, found.words()


def test_a_layer_of_a_network_whose_vectors_are_the_engine_s(tmp_path):
    """The constants are those of a network's file, by the name of the convolution."""
    graph = intsim.load(DIGITS).graph
    node = layers.layer(graph, "/conv2/Conv", "requantize")
    target = Target.load("tflite-single")
    kind = layers.requantize(graph, node, target, 1600, 3)
    columns = kind.vectors
    assert set(columns["channel"].tolist()) == set(range(16))
    ops = intsim.ops.requantize.requantize
    for channel in range(16):
        own = columns["channel"] == channel
        acc = np.zeros((1, 16, 1, int(own.sum())), np.int64)
        acc[0, channel, 0] = columns["acc"][own]
        wanted = ops(node, [acc], [graph.tensors[node.inputs[0]]], target.requantize, target.stages)
        assert (wanted[0, channel, 0] == columns["code"][own]).all()


@needs("icarus")
def test_files_are_the_same_bytes_and_the_script_runs(tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        names = kinds.emit(kinds.mac(Target.load("wrap-16"), S8, S8, 100, 5), folder)
    assert names == sorted(p.name for p in folders[0].iterdir())
    assert [p.read_bytes() for p in sorted(folders[0].iterdir())] == [
        p.read_bytes() for p in sorted(folders[1].iterdir())
    ]
    done = subprocess.run(["sh", folders[0] / "run.sh"], capture_output=True, text=True)
    assert (done.returncode, done.stdout[:20]) == (0, "PASS: 0 mismatches i")
    lines = (folders[0] / "acc.hex").read_text().splitlines()
    lines[7] = "0000" if lines[7] != "0000" else "0001"
    (folders[0] / "acc.hex").write_text("\n".join(lines) + "\n")
    done = subprocess.run(["sh", folders[0] / "run.sh"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "FIRST differs 8 acc 7 " in done.stdout
    assert "FAIL: 1 mismatches" in done.stdout


def refusal(call, *arguments):
    with pytest.raises(IntsimError) as caught:
        call(*arguments)
    return str(caught.value)


def test_what_has_no_module_is_refused():
    graph, node = one_layer(PIECES)
    digits = intsim.load(DIGITS).graph
    assert "has no registers" in refusal(kinds.mac, Target.load("exact"), S8, S8, 10, 0)
    assert "depends on the layer" in refusal(kinds.mac, Target.load("onnxruntime-avx2"), S8, S8, 10, 0)
    assert 'restart at "tap"' in refusal(
        kinds.dot,
        chain(
            [
                '{ sum = 2, bits = 16, overflow = "wrap", restart = "tap" }',
                '{ sum = "rest", bits = 32, overflow = "wrap" }',
            ]
        ),
        S8,
        S8,
        4,
        10,
        0,
    )
    assert "emit the kind threshold" in refusal(layers.requantize, graph, node, Target.load("wrap-16"), 10, 0)
    assert "has no module; those of fixed-point" in refusal(
        layers.requantize, graph, node, requantizer('scheme = "float32"'), 10, 0
    )
    assert "counts no thresholds" in refusal(layers.threshold, graph, node, Target.load("tflite-single"), 10, 0)
    assert "no table node of that name; there are: none" in refusal(layers.layer, graph, "n", "table")
    assert "there are: /relu1/act_quant/export_handler/Quant, " in refusal(layers.layer, digits, "conv9", "requantize")
    unclipped, bare = one_layer(PIECES, ends=(0, 15))
    bare.attributes["high"] = None
    assert "aren't clipped" in refusal(layers.threshold, unclipped, bare, Target.load("exact"), 10, 0)
