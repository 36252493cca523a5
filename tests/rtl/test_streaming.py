"""Layers that stream, against the network that they are of: windows, groups, orders, registers, several images."""

import numpy as np
import pytest
from frontend.build import Net

import intsim
from intsim.errors import IntsimError
from intsim.rtl import cosim, kinds
from intsim.rtl.streaming import stream
from intsim.rtl.tools import run, verilator_root
from intsim.targets import Target

from .simulators import each, needs

SATURATING = 'sum = "rest", bits = 13, overflow = "saturate"'
FIXED = 'scheme = "fixed-point"\nmultiplier_bits = 12\nrounding = "half_up"'


def target(stages="{ " + SATURATING + " }", requantize=FIXED, bias="preload", order="kh kw cin", operands=""):
    text = f'title = "t"\nsource = ["test"]\n{operands}[accumulate]\nstages = [{stages}]\nbias = "{bias}"\n'
    return Target.from_toml(text + f'order = "{order}"\n[requantize]\n{requantize}\n')


U8S8 = '[operands]\nactivation = "u8"\nweight = "s8"\n'
MACHINES = {
    "preload": target(),
    "after": target(bias="after"),
    "in the requantizer": target(bias="requantizer", requantize='scheme = "exact"'),
    "pairs and lanes": target('{ sum = 2, bits = 16, overflow = "saturate" }, { sum = "rest", bits = 24, '
                              'overflow = "wrap", lanes = 4 }, { sum = "rest", bits = 20, overflow = "saturate" }'),
    "channels outside": target(order="cin kw kh"),
    "zero points behind": target(bias="after", operands=U8S8),
    "restart": target('{ sum = 2, bits = 12, overflow = "wrap", restart = 5 }, '
                      '{ sum = "rest", bits = 20, overflow = "wrap" }'),
    "twice": target(requantize='scheme = "fixed-point"\nmultiplier_bits = 16\ndouble_rounding = true'),
}  # fmt: skip


def conv(shape=(1, 3, 6, 5), kernel=(4, 3, 3, 3), seed=0, zero=7, kind=np.uint8, end=True, bias=True, **window):
    """QDQ convolution `conv`, a scale a channel."""
    rng, net = np.random.default_rng(seed), Net(opset=17)
    x = net.qdq(net.input(*shape), 0.05, kind(zero))
    w = rng.integers(-127, 128, kernel).astype(np.int8)
    outputs = kernel[0]
    step = rng.uniform(0.0005, 0.002, outputs).astype(np.float32)
    wq = net.node("DequantizeLinear", net.const(w), net.const(step), net.const(np.zeros(outputs, np.int8)), axis=0)
    b = net.const(rng.integers(-3000, 3000, outputs).astype(np.int32))
    more = [net.node("DequantizeLinear", b, net.const(np.float32(0.05) * step), axis=0)] if bias else []
    y = net.node("Conv", x, wq, *more, kernel_shape=list(kernel[2:]), **window)
    net.nodes[-1].name = "conv"
    return net.model(net.qdq(y, 0.09, np.int8(-3)) if end else y)


def dense(shape=(3, 10), outputs=6):
    rng, net = np.random.default_rng(1), Net(opset=17)
    x = net.qdq(net.input(*shape), 2.0**-4, np.int8(0))
    w = net.node("DequantizeLinear", net.const(rng.integers(-127, 128, (shape[-1], outputs)).astype(np.int8)),
                 net.const(np.float32(2.0**-7)), net.const(np.int8(0)))  # fmt: skip
    y = net.node("MatMul", x, w)
    net.nodes[-1].name = "conv"
    return net.model(net.qdq(y, 2.0**-1, np.int8(0)))


NETWORKS = {
    "plain": conv(bias=False),
    "padded": conv(pads=[1, 1, 1, 1]),
    "padded on one side": conv(pads=[2, 0, 0, 1], seed=1),
    "strides": conv((1, 2, 9, 8), (4, 2, 3, 2), strides=[3, 2], pads=[1, 1, 0, 0]),
    "rows that nothing reads": conv((1, 2, 8, 7), (2, 2, 1, 1), strides=[3, 3]),
    "dilations": conv((1, 2, 9, 7), (4, 2, 3, 2), dilations=[2, 3], pads=[2, 1, 2, 1]),
    "groups": conv((1, 4, 5, 5), (6, 2, 3, 3), group=2, pads=[1, 1, 1, 1]),
    "depthwise": conv((1, 5, 5, 4), (5, 1, 3, 3), group=5, pads=[1, 1, 1, 1]),
    "as large as the image": conv((1, 3, 4, 4), (8, 3, 4, 4)),
    "larger than the image": conv((1, 2, 3, 3), (4, 2, 5, 5), pads=[2, 2, 2, 2]),
    "a line": conv((1, 3, 12), (4, 3, 5), strides=[2], pads=[2, 1], dilations=[2]),
    "a batch": conv((2, 2, 5, 5), (4, 2, 3, 3), pads=[0, 1, 1, 0]),
    "signed": conv(kind=np.int8, zero=-9, pads=[1, 1, 1, 1]),
    "without codes": conv(end=False, pads=[1, 1, 1, 1]),
    "dense": dense(),
    "dense of a batch": dense((2, 3, 10)),
    "dense, as many rows as columns": dense((1, 7, 7), 7),
    "padding beyond the kernel": conv((1, 2, 6, 5), (4, 2, 2, 2), pads=[3, 2, 4, 3]),
    "padding beyond the line buffer": conv((1, 2, 9, 8), (2, 2, 1, 1), pads=[5, 0, 4, 1]),
    "strides over padding alone": conv((1, 2, 4, 4), (2, 2, 2, 2), pads=[7, 5, 4, 6], strides=[3, 2], dilations=[2, 1]),
    "padding alone at the end": conv((2, 2, 5, 4), (2, 2, 2, 2), pads=[0, 0, 4, 3]),
    "a line with padding alone at its end": conv((1, 2, 20), (4, 2, 1), pads=[0, 5]),
}


def built(folder, network, machine, pe=None, vectors=150):
    kind = stream(intsim.load(network), "conv", machine, None, pe, vectors, 0)
    kinds.emit(kind, folder)
    return kind


def pairs():
    """Each network on one machine and each machine on one network."""
    some = list(MACHINES)
    for i, name in enumerate(NETWORKS):
        machine = some[i % len(some)]
        if name == "without codes" and machine == "in the requantizer":
            machine = "preload"
        yield name, machine
    yield from (("padded", m) for m in MACHINES)


@needs("icarus")
@pytest.mark.parametrize(("network", "machine"), list(dict.fromkeys(pairs())))
def test_every_code_and_sum(tmp_path, network, machine):
    kind = built(tmp_path, NETWORKS[network], MACHINES[machine])
    found = cosim(tmp_path, "icarus")
    assert found.holds, found.words()
    assert found.vectors == len(kind.vectors["out_acc"]) >= 150
    assert len(set(kind.vectors["out_acc"].tolist())) > 20


@pytest.mark.slow
@pytest.mark.parametrize("simulator", each("icarus", "cxxrtl"))
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_machine_on_every_network(tmp_path, network, machine, simulator):
    if (network, machine) == ("without codes", "in the requantizer"):
        pytest.skip("no requantizer holds its bias")
    if simulator == "cxxrtl" and list(MACHINES).index(machine) % 4 != list(NETWORKS).index(network) % 4:
        pytest.skip("a quarter of them: each takes seconds to compile")
    built(tmp_path, NETWORKS[network], MACHINES[machine])
    found = cosim(tmp_path, simulator)
    assert found.holds, found.words()


@pytest.mark.parametrize("simulator", each("netlist", "cxxrtl"))
def test_elsewhere(tmp_path, simulator):
    built(tmp_path, conv((1, 2, 4, 3), (2, 2, 2, 2), pads=[1, 1, 0, 0]), MACHINES["pairs and lanes"], vectors=30)
    found = cosim(tmp_path, simulator)
    assert found.holds, found.words()


@needs("icarus")
@pytest.mark.parametrize("pe", [1, 2, 3, 6])
def test_channels_at_once_change_nothing_but_the_time(tmp_path, pe):
    kind = built(tmp_path, conv((1, 2, 5, 5), (6, 2, 3, 3)), MACHINES["preload"], pe)
    found = cosim(tmp_path, "icarus")
    assert found.holds, found.words()
    positions = len(kind.vectors["out_acc"]) // 6
    assert 18 * 6 / pe * positions < found.cycles < 30 * 6 / pe * positions + 200


@needs("icarus")
def test_exact_codes_of_sums_without_a_bound_and_of_the_library(tmp_path):
    for name in ("exact", "x86-avx2", "tflite-single", "finn-mvau", "cmsis-nn"):
        folder = tmp_path / name
        folder.mkdir()
        built(folder, NETWORKS["signed" if name == "cmsis-nn" else "padded"], Target.load(name))
        found = cosim(folder, "icarus")
        assert found.holds, (name, found.words())


@needs("verilator")
@pytest.mark.parametrize("machine", ["exact", "tflite-single", "finn-mvau"])
def test_verilator_has_nothing_to_say_of_what_is_emitted(tmp_path, machine):
    kind = built(tmp_path, NETWORKS["depthwise"], Target.load(machine))
    root = verilator_root()
    command = [root / "bin" / "verilator_bin", "--lint-only", "-Wall", "--top-module", kind.design.top]
    said = run([*command, *kind.design.sources], tmp_path, extra={"VERILATOR_ROOT": str(root)})
    assert "%" not in said, said


def leaving(top):
    """Sums of two products, which leave more slowly than they are made; `top` rows of padding."""
    return conv((1, 1, 6, 5), (8, 1, 2, 1), pads=[top, 0, 1, 1])


@needs("icarus")
@pytest.mark.parametrize(
    ("old", "new", "network"),
    [
        ("row < 0 ||", "1'b0 ||", leaving(1)),
        ("base_slot - S'(ROWS - STRIDE_H)", "base_slot - S'(ROWS - STRIDE_H - 1)", leaving(1)),
        ("rows < base_row + R'(ROWS)", "rows < base_row + R'(ROWS + 1)", leaving(1)),
        (
            "rows > base_row + R'(REACH_H)",
            "rows >= base_row + R'(REACH_H)",
            conv((1, 4, 6, 9), (1, 4, 2, 1), strides=[1, 4]),
        ),
        ("held && !(held_last && count != 0)", "held", leaving(0)),
        ("(rows != 0 && rows > base_row + R'(REACH_H))", "rows > base_row + R'(REACH_H)", leaving(3)),
        ("(rows == 0 || rows < base_row + R'(ROWS))", "rows < base_row + R'(ROWS)", leaving(4)),
    ],
)
def test_mistakes_in_it_are_found(tmp_path, old, new, network):
    built(tmp_path, network, MACHINES["preload"])
    path = tmp_path / "convolve.sv"
    text = path.read_text()
    assert text.count(old) == 1
    assert cosim(tmp_path, "icarus").holds
    path.write_text(text.replace(old, new))
    found = cosim(tmp_path, "icarus")
    assert not found.holds
    assert " of layer conv: " in found.words()


REFUSED = [
    (conv(), "preload", 3, "3 channels at once don't divide the 4 of a group; give 2"),
    (conv((1, 2, 3, 3, 3), (2, 2, 2, 2, 2)), "preload", None, "a convolution of 3 dimensions; the module has two"),
    (conv(end=False), "in the requantizer", None, "its bias is of a requantizer that it doesn't have"),
]


@pytest.mark.parametrize(("network", "machine", "pe", "words"), REFUSED)
def test_what_has_no_module(tmp_path, network, machine, pe, words):
    with pytest.raises(IntsimError, match=words):
        built(tmp_path, network, MACHINES[machine], pe)


OWN_LSB = (
    '{ sum = 1, bits = 20, overflow = "wrap", lsb = -3, rounding = "floor" }, '
    '{ sum = "rest", bits = 20, overflow = "wrap" }'
)


@pytest.mark.parametrize(
    ("network", "machine"), [("dense", target(OWN_LSB, 'scheme = "exact"')), ("plain", Target.load("dsp48e2-int8"))]
)
def test_machines_without_a_module(tmp_path, network, machine):
    with pytest.raises(IntsimError, match=r"of their own have no|have no layer; choose another"):
        built(tmp_path, NETWORKS[network], machine)


@needs("icarus")
@pytest.mark.parametrize(("low", "values", "elements"), [(-128, 256, 4), (0, 200, 3), (-5, 16, 1)])
def test_embedding(tmp_path, low, values, elements):
    table = np.random.default_rng(3).integers(low, 128, (values, elements))
    kind = kinds.embedding(table, 1000, 0)
    kinds.emit(kind, tmp_path)
    found = cosim(tmp_path, "icarus")
    assert found.holds, found.words()
    assert (found.vectors, kind.vectors["y"].tolist()) == (values, table.tolist())


@pytest.mark.parametrize(
    "entries", [np.zeros((1, 3), int), np.zeros((4, 3)), np.zeros(4, int), np.full((2, 1), 1 << 40)]
)
def test_other_tables_are_refused(entries):
    with pytest.raises(IntsimError, match="an embedding of"):
        kinds.embedding(entries, 10, 0)
