"""Dumps of hidden machines: the true one is among those found, the simplest first; words, codes, files and refusals."""

import itertools
import json
import random
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from frontend.build import Net

import intsim
from intsim.diagnosis import faults
from intsim.diagnosis.identify import nearest
from intsim.diagnosis.machine import Stand, defined
from intsim.diagnosis.search import Search
from intsim.errors import IntsimError
from intsim.targets import Target

from . import cases


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """Vectors of a convolution, one sample."""
    return cases.vectors(tmp_path_factory.mktemp("conv") / "v", cases.conv(), cases.target())


def dumped(tmp_path, values):
    np.save(tmp_path / "dump.npy", values)
    return tmp_path / "dump.npy"


@pytest.mark.parametrize(
    ("words", "model", "on"),
    [
        ("the accumulator saturates at 16 bits", {}, {"stages": '{ sum = "rest", bits = 16, overflow = "saturate" }'}),
        pytest.param(
            "a multiplier that rounds floor",
            {},
            {"requantize": cases.REQUANTIZE.replace("half_up", "floor")},
            marks=pytest.mark.slow,
        ),
        ("the kernel is turned by 180 degrees", {"w": lambda w: w[:, :, ::-1, ::-1]}, {}),
        pytest.param("the bias is left out", {"b": lambda b: 0 * b}, {}, marks=pytest.mark.slow),
        pytest.param("the Relu is left out", {"relu": False}, {}, marks=pytest.mark.slow),
        ("the output's zero point is left out", {"out_zero": 0}, {}),
    ],
)
def test_a_mistake_is_named(tmp_path, golden, words, model, on):
    """The dump comes from another file or another target: nothing of the search made it."""
    wrong = cases.vectors(tmp_path / "w", cases.conv(**model), cases.target(**on))
    found = intsim.identify(golden, dumped(tmp_path, cases.tensor(wrong)[0]))
    assert found.mismatches > 0
    assert words in {c for k in found.classes for c in k.changes + sum(k.alternatives, ())}
    assert found.classes[0].changes == (words,)


def hidden(space, readings, rng):
    """A machine of one to three changes, without any of which it makes another dump."""
    axes = ("reading", "operand", "bias", "order", "chain", "rounder", "scale", "code")
    choices = {
        "reading": readings[1:],
        "operand": list(space.feeds)[1:],
        "bias": list(space.biases)[1:],
        "order": list(space.orders)[1:],
        "chain": space.chains[1:],
        "rounder": space.rounders[1:],
        "scale": list(space.scales)[1:],
        "code": space.code_faults[1:],
    }
    usable = [a for a in axes if choices[a]]
    return {a: rng.choice(choices[a]) for a in rng.sample(usable, rng.choice([1, 1, 2, 2, 3]))}


def made(space, stand, reads, shape, changes):
    machine = replace(space.specification, **changes)
    if not defined(space, machine):
        return machine, None
    rows = stand.results(machine).reshape(len(stand.codes), -1)
    flat = np.empty_like(rows)
    flat[:, space.layer.outputs.reshape(-1)] = rows
    return machine, np.ascontiguousarray(reads[machine.reading](flat.reshape(shape)))


def search(kind, first, machines, count, tmp_path):
    """Of so many hidden machines, whether each is among those found, whether a simpler one explains the dump as well,
    and what it changes."""
    folder = cases.vectors(tmp_path / "v", *kind, count)
    space, codes = cases.space(folder), cases.tensor(folder, "operand")
    layer = space.layer
    stand, shape = Stand(space, codes, np.arange(layer.extent[0])), (len(codes), *layer.result_shape)
    reads = faults.readings(layer.result_shape, layer.node.op != "matmul")
    numbers = np.arange(np.prod(shape)).reshape(shape)
    seen, seeds = [], itertools.count(first)
    while len(seen) < machines:
        changes = hidden(space, list(reads), random.Random(next(seeds)))
        machine, dump = made(space, stand, reads, shape, changes)
        fewer = [{k: v for k, v in changes.items() if k != left} for left in changes]
        if dump is None or any(np.array_equal(made(space, stand, reads, shape, f)[1], dump) for f in fewer):
            continue
        wanted = {}
        for name, reading in reads.items():
            values = np.empty(dump.size, np.int64)
            values[reading(numbers).reshape(-1)] = dump.reshape(-1)
            wanted[name] = values.reshape(len(codes), -1)[:, layer.outputs]
        found = Search(space, codes, wanted).run()
        simpler = bool(found) and len(found[0].changes) < len(machine.changes)
        seen.append((machine in found, simpler, machine.changes))
        for one in found[:3]:  # what is found makes the dump, by the definition of the machine
            again = made(space, stand, reads, shape, vars(one))[1]
            np.testing.assert_array_equal(again, dump)
    return seen


def test_two_mistakes_behind_the_registers_are_found(tmp_path, golden):
    """The last ones of their axes, of a layer that has more than 64 pairs of them."""
    space, codes = cases.space(golden), cases.tensor(golden, "operand")
    changes = {"scale": list(space.scales)[-1], "code": space.code_faults[-1]}
    assert len(space.scales) * len(space.code_faults) > 64
    stand = Stand(space, codes, np.arange(space.layer.extent[0]))
    machine = replace(space.specification, **changes)
    assert machine in Search(space, codes, {"": stand.results(machine)}).run()


def test_a_multiplier_that_is_off_by_a_tenth_is_found(tmp_path):
    """4 bits leave a scale 11 % too large."""
    model, coarse = cases.conv(scale=0.03, relu=False, out_zero=100), cases.REQUANTIZE.replace("32", "4")
    golden = cases.vectors(tmp_path / "v", model, cases.target())
    wrong = cases.vectors(tmp_path / "w", model, cases.target(requantize=coarse))
    found = intsim.identify(golden, dumped(tmp_path, cases.tensor(wrong)[0]))
    assert [c.changes for c in found.classes[:1]] == [("a multiplier of 4 bits",)]


def offset(add, scale):
    """A dense layer of six channels behind which a constant is added, far more than its sums."""
    rng, net = np.random.default_rng(4), Net(opset=17)
    x = net.qdq(net.input(1, 24), 2.0**-4, np.int8(0))
    w = np.clip(np.rint(rng.normal(0, 45, (24, 6))), -127, 127).astype(np.int8)
    y = net.node("MatMul", x, net.node("DequantizeLinear", net.const(w), np.float32(2.0**-7), net.const(np.int8(0))))
    net.nodes[-1].name = "dense"
    y = net.node("Mul", y, net.const(np.float32(1.5)))  # so that it isn't taken for the layer's bias
    return net.model(net.qdq(net.node("Add", y, net.const(np.float32(1.5 * add))), 1.5 * scale, np.int8(0)))


@pytest.mark.parametrize("rule", ["wrap", "saturate"])
@pytest.mark.parametrize("bits", [18, 17])
def test_an_offset_that_overflows_the_register_is_no_mistake(tmp_path, rule, bits):
    """The requantizer adds about 2^17 to sums of 2^14, in the last register."""
    on = cases.target(f'{{ sum = "rest", bits = {bits}, overflow = "{rule}" }}', operands=False)
    folder = cases.vectors(tmp_path / "v", offset(62.3, 2.0), on, 4, "dense")
    if rule == "wrap":
        assert len(np.unique(np.sign(cases.tensor(folder)))) == 2 or bits == 17
    found = intsim.identify(folder, dumped(tmp_path, cases.tensor(folder)))
    assert found.classes
    assert found.classes[0].changes == ()


def test_a_register_that_an_offset_overflows_is_found(tmp_path):
    golden = cases.vectors(tmp_path / "v", offset(62.3, 2.0), cases.target(operands=False), 4, "dense")
    on = cases.target('{ sum = "rest", bits = 18, overflow = "wrap" }', operands=False)
    wrong = cases.vectors(tmp_path / "w", offset(62.3, 2.0), on, 4, "dense")
    found = intsim.identify(golden, dumped(tmp_path, cases.tensor(wrong)))
    assert found.mismatches
    assert [c.changes for c in found.classes[:1]] == [("the accumulator wraps at 18 bits",)]


def test_a_coarse_multiplier_of_an_offset_is_found(tmp_path):
    """4 bits make 82 codes that are added 8 % fewer, of sums near 0 too."""
    coarse = cases.target(requantize=cases.REQUANTIZE.replace("32", "4"), operands=False)
    golden = cases.vectors(tmp_path / "v", offset(120.0, 1.468), cases.target(operands=False), 4, "dense")
    wrong = cases.vectors(tmp_path / "w", offset(120.0, 1.468), coarse, 4, "dense")
    found = intsim.identify(golden, dumped(tmp_path, cases.tensor(wrong)))
    assert [c.changes for c in found.classes[:1]] == [("a multiplier of 4 bits",)]


@pytest.mark.parametrize(
    "stages", [cases.STAGES, '{ sum = "rest", bits = 16, overflow = "wrap", lanes = 2 }, ' + cases.STAGES]
)
def test_matrices_of_a_batch(tmp_path, stages):
    """Each of two products an output; four weights a column in all."""
    net = Net(opset=17)
    w = net.const(np.int8([[[70, 50], [-50, 55]], [[60, -41], [-53, -17]]]))
    w = net.node("DequantizeLinear", w, np.float32(2.0**-7), net.const(np.int8(0)))
    y = net.node("MatMul", net.qdq(net.input(2, 1, 2), 2.0**-4, np.int8(0)), w)
    model = net.model(net.qdq(y, 2.0**-4, np.int8(0)))
    x = np.random.default_rng(0).uniform(-8, 7.9, (2, 1, 2)).astype(np.float32)
    folder = tmp_path / "v"
    intsim.vectors(model, cases.target(stages, operands=False), x, out=folder, formats=["npy"])
    found = intsim.identify(folder, dumped(tmp_path, cases.tensor(folder)))
    assert found.classes[0].changes == ()


@pytest.mark.parametrize("kind", ["conv", pytest.param("dense", marks=pytest.mark.slow)])
def test_hidden_machines_are_found(tmp_path, kind):
    case = {"conv": ((cases.conv(), cases.target()), 1), "dense": ((cases.dense(depth=64), SIGNED), 16)}[kind]
    seen = search(case[0], 0, 5, case[1], tmp_path)
    assert all(hit or simpler for hit, simpler, _ in seen), seen


SIGNED = Target.from_toml(
    'title = "t"\nsource = ["t"]\n[operands]\nactivation = "s8"\nweight = "s8"\n'
    f"[accumulate]\nstages = [{cases.STAGES}]\n[requantize]\n{cases.REQUANTIZE}\n"
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["conv", "dense"])
def test_thirty_hidden_machines(tmp_path, kind):
    case = {"conv": ((cases.conv(channels=16, outputs=16, size=(8, 8)), cases.target()), 1)}
    case["dense"] = (cases.dense(depth=256, outputs=32), SIGNED), 16
    seen = search(case[kind][0], 100, 30, case[kind][1], tmp_path)
    assert sum(hit or simpler for hit, simpler, _ in seen) >= 0.95 * len(seen), seen


def test_the_specification_is_known_from_dumps_that_tell_it_apart(tmp_path):
    """Operands that were asked for leave one class, which `next` narrows."""
    folder = cases.vectors(tmp_path / "v", cases.conv(), cases.target())
    first = intsim.identify(folder, dumped(tmp_path, cases.tensor(folder)[0]), next=(6, tmp_path / "next.npz"))
    assert first.answer == "several classes"
    assert first.classes[0].changes == ()
    assert not first.mismatches
    operands = np.load(tmp_path / "next.npz")["operand"]
    assert 1 <= len(operands) <= 6 == max(len(first.kinds), 6)
    intsim.vectors(cases.conv(), cases.target(), out=tmp_path / "w", layer=["conv"], operands=operands, formats=["npy"])
    second = intsim.identify(tmp_path / "w", dumped(tmp_path, cases.tensor(tmp_path / "w")))
    assert second.classes[0].changes == ()
    assert len(second.classes) < len(first.classes)


def test_accumulators_are_explained_without_requantizers(tmp_path, golden):
    wrong = cases.vectors(tmp_path / "w", cases.conv(), cases.target('{ sum = "rest", bits = 15, overflow = "wrap" }'))
    sums = cases.tensor(wrong, "accumulator")[0]
    found = intsim.identify(golden, dumped(tmp_path, sums), tensor="accumulator")
    assert found.classes[0].changes == ("the accumulator wraps at 15 bits",)
    content = tomllib.loads(found.classes[0].toml)
    assert content["accumulate"]["stages"][0]["bits"] == 15
    other = Target.from_toml(found.classes[0].toml)
    again = cases.vectors(tmp_path / "x", cases.conv(), other)
    np.testing.assert_array_equal(cases.tensor(again, "accumulator")[0], sums)


def test_what_no_machine_makes_has_a_nearest_one(tmp_path, golden):
    codes = cases.tensor(golden)[0].copy()
    codes[0, 2] ^= 3  # one channel is wrong
    found = intsim.identify(golden, dumped(tmp_path, codes))
    assert found.answer == "none"
    assert not found.classes
    assert found.nearest.changes == ()
    assert found.nearest.wrong_channels == (2,)
    assert found.nearest.mismatches == found.mismatches == codes[0, 2].size


def test_the_nearest_machine_is_nearer_than_the_specification(tmp_path):
    """Planted: another machine makes the first samples, and few of the rest."""
    space = cases.space(cases.vectors(tmp_path / "v", cases.dense(), SIGNED))
    rng, shape = np.random.default_rng(0), space.layer.shape
    codes = rng.integers(-128, 128, (16, *shape))
    codes[1:8] = 0
    stand, spec = Stand(space, codes, np.arange(1)), space.specification
    other = next(h for h in space.singles([""]) if h.chain.words == "the accumulator saturates at 12 bits")
    right, wrong = stand.results(spec), stand.results(other)
    assert (right[8:] != wrong[8:]).sum() > (right[0] != wrong[0]).sum() > 0
    dump = np.concatenate([wrong[:1], right[1:]])
    found = nearest(space, codes, {"": dump})
    assert (found.changes, found.mismatches) == ((), (right[0] != wrong[0]).sum())


def test_a_search_that_was_broken_off_names_no_single_machine(tmp_path, golden):
    found = intsim.identify(golden, dumped(tmp_path, cases.tensor(golden)[0]))
    alone = replace(found, classes=found.classes[:1], complete=True)
    assert alone.answer == "specification"
    assert replace(alone, complete=False).answer == "several classes"


def test_json_is_plain(tmp_path, golden):
    found = intsim.identify(golden, dumped(tmp_path, cases.tensor(golden)[0]))
    content = json.loads(json.dumps(found.to_json()))
    assert content["format"] == "intsim-identification-1"
    assert content["classes"][0]["changes"] == []


def test_refusals(tmp_path, golden):
    with pytest.raises(IntsimError, match=r"holds 300\.\.300, no codes of u8; give their type"):
        intsim.identify(golden, dumped(tmp_path, 300 + 0 * cases.tensor(golden)[0]))
    with pytest.raises(IntsimError, match="explains codes and accumulators, not operand"):
        intsim.identify(golden, golden / "00_conv" / "operand.npy", tensor="operand")
    model, packed = cases.dense(depth=8), "dsp48e2-int8"
    folder = tmp_path / "p"
    intsim.vectors(model, packed, out=folder, layer=["dense"], formats=["npy"])
    with pytest.raises(IntsimError, match="packed multipliers"):
        intsim.identify(folder, folder / "00_dense" / "output.npy")
