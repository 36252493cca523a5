"""Targets whose registers have an LSB of their own: networks in every verb, and what is refused of one."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import intsim
from intsim import cli
from intsim.dispatch import arithmetic
from intsim.errors import IntsimError
from intsim.explore.configuration import configured
from intsim.targets import Target
from tests import twins

MACHINE = """
title = "hls4ml: ap_fixed<12, 6, AP_RND, AP_SAT>"
source = ["by hand"]
[accumulate]
stages = [
  {{ sum = 1, bits = {bits}, overflow = "{rule}", lsb = {lsb}, rounding = "{rounding}" }},
  {{ sum = "rest", bits = {bits}, overflow = "{rule}" }},
]
bias = "{bias}"
[requantize]
scheme = "exact"
"""


def machine(lsb=-6, bits=12, rule="saturate", rounding="half_up", bias="preload", name="own"):
    return Target.from_toml(MACHINE.format(lsb=lsb, bits=bits, rule=rule, rounding=rounding, bias=bias), name)


def network(sx=2.0**-4, sw=2.0**-6, sb=2.0**-5, head=2.0**-5, per_channel=False, seed=0):
    """A 3 x 2 convolution of 3 channels to 4 with a bias, then a 1 x 1 one called head, whose products' LSB is 2^-7."""
    rng = np.random.default_rng(seed)
    nodes, constants = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def quantized(x, scale):
        pair = constant(f"{x}.s", np.float32(scale)), constant(f"{x}.z", np.int8(0))
        nodes.append(helper.make_node("QuantizeLinear", [x, *pair], [f"{x}.q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{x}.q", *pair], [f"{x}.d"]))
        return f"{x}.d"

    def conv(name, x, shape, scale, pads):
        codes = rng.integers(-128, 128, shape).astype(np.int8)
        scales = np.float32(scale) * (2.0 ** np.arange(shape[0]) if per_channel else np.float32(1))
        w = [constant(f"{name}.w", codes), constant(f"{name}.ws", scales.astype(np.float32))]
        w.append(constant(f"{name}.wz", np.zeros(scales.shape, np.int8)))
        nodes.append(helper.make_node("DequantizeLinear", w, [f"{name}.wd"], axis=0))
        bias = constant(f"{name}.b", (rng.integers(-128, 128, shape[0]) * sb).astype(np.float32))
        nodes.append(helper.make_node("Conv", [x, f"{name}.wd", bias], [f"{name}.y"], name=name, pads=pads))
        return quantized(f"{name}.y", 2.0**-2)

    x = conv("body", quantized("x", sx), (4, 3, 3, 2), sw, [1, 0, 1, 1])
    out = conv("head", x, (2, 4, 1, 1), head, [0] * 4)
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3, 5, 4]), (out, [1, 2, 5, 4]))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


class Below:
    """A stage as the twin reads it, whose register may have bits below a product's."""

    def __init__(self, stage, drop=0):
        self.sum, self.bits, self.overflow, self.lanes = stage.sum, stage.bits, stage.overflow, stage.lanes
        self.drop, self.rounding = drop, stage.rounding


def by_hand(run, model, target, places):
    """Every layer's sums by the dumb twin, from its own inputs and the file's fraction bits; how many are exact."""
    exact = 0
    for node in model.graph.nodes:
        if node.op != "conv":
            continue
        drop = target.stages[0].lsb - places[node.source]
        stages = [Below(s, drop if i == 0 else 0) for i, s in enumerate(target.stages)]
        x, weight, pads = run.tensors[node.inputs[0]][0], node.arrays["weight"], node.attributes["pads"]
        x = np.pad(x, ((0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
        out = run.tensors[node.output][0]
        for o, i, j in np.ndindex(out.shape):
            window = x[:, i : i + weight.shape[2], j : j + weight.shape[3]]
            products = (window * weight[o]).transpose(1, 2, 0).reshape(-1).tolist()
            bias = int(node.arrays["bias"][o])
            when = {"preload": (bias, None), "after": (None, bias)}[target.accumulate.bias]
            wanted = twins.accumulate(products, stages, *when).result
            assert out[o, i, j] == wanted, (node.source, o, i, j)
            exact += wanted == sum(products) + bias
    return exact


PLACES = {"body": -10, "head": -7}
CASES = [
    {"lsb": -6},
    {"lsb": -6, "rounding": "floor", "rule": "wrap", "bias": "after"},
    {"lsb": -5, "rounding": "half_even", "bits": 11, "rule": "wrap"},
    {"lsb": -4, "rounding": "toward_zero", "bits": 9},
    {"lsb": -9, "rounding": "floor", "bits": 14, "rule": "wrap"},
]
"""The last one's registers are finer than the head's products by two bits."""


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_network_is_the_dumb_twin(case):
    model, target = intsim.load(network()), machine(**case)
    rng = np.random.default_rng(1)
    for _ in range(3):
        x = rng.normal(0, 3, (1, 3, 5, 4)).astype(np.float32)
        run = model.run({"x": x}, target, keep=True)
        exact = by_hand(run, model, target, PLACES)
        assert exact < 120  # sums in all
    own = {n.source: arithmetic(target, model.graph, n) for n in model.graph.nodes if n.op == "conv"}
    lost = {name: max(target.stages[0].lsb - place, 0) for name, place in PLACES.items()}
    assert {name: t.stages[0].drop for name, t in own.items()} == lost


def test_without_dropped_bits_it_is_the_plain_register():
    model, x = intsim.load(network()), {"x": np.random.default_rng(1).normal(0, 3, (1, 3, 5, 4)).astype(np.float32)}
    plain = model.run(x, "hls4ml-14", keep=True).tensors
    own = model.run(x, machine(lsb=-10, bits=14, rule="wrap"), keep=True).tensors
    body = next(n for n in model.graph.nodes if n.source == "body")
    assert np.array_equal(plain[body.output], own[body.output])
    once = model.run(x, "wrap-14", keep=True).tensors
    assert all(np.array_equal(plain[n], once[n]) for n in plain)


def test_registers_wide_enough_are_proven_not_to_overflow_but_not_exact():
    model, target = intsim.load(network()), machine(bits=40)
    proven = intsim.bounds(model, target)
    assert proven.safe
    claim = intsim.certify(model, target, samples=2)
    assert claim.verdict == "refuted"
    assert all(x.safe_channels == 0 for x in claim.layers)
    assert {s.unsafe_channels for x in claim.layers for s in x.stages} == {0}
    fine = intsim.certify(model, machine(lsb=-12, bits=40, rule="wrap"))
    assert fine.verdict == "certified"
    verdict = intsim.verify(model, target, references=False)
    assert verdict.first_divergence["blame"] == "rounding"
    assert verdict.first_divergence["overflowed_stages"] == []
    seen = intsim.telemetry(model, target, samples=2)
    for layer, bound in zip(seen.layers, proven.layers, strict=True):
        for stage, wanted in zip(layer.stages, bound.stages, strict=True):
            assert stage.overflows.sum() == 0
            assert wanted.low <= stage.low.min()
            assert stage.high.max() <= wanted.high


def test_weights_that_lose_nothing_are_proven_exact():
    """Multiples of 16 have no product with one of the four bits that are dropped; then wide registers are exact."""
    model = intsim.load(network())
    for node in model.graph.nodes:
        if node.op == "conv":
            node.arrays["weight"] &= ~15
            node.arrays["bias"] &= ~15
    assert all(x.holds for x in intsim.certify(model, machine(bits=40)).layers)
    assert not all(x.holds for x in intsim.certify(model, machine(bits=40, lsb=-5)).layers)


def test_sweeps_compute_what_runs_compute():
    """With and without overflow, where nothing overflows too: rounded sums are none that telemetry tells."""
    model, target = intsim.load(network()), machine(bits=20, rounding="half_even")
    data = [{"x": np.random.default_rng(i).normal(0, 3, (1, 3, 5, 4)).astype(np.float32)} for i in range(2)]
    exact = [model.run(x, keep=True).tensors for x in data]
    swept = intsim.sweep(model, target, data, accumulator=[10, 14, 40])
    assert len(swept.rows) == 6
    for row in swept.rows:
        runs = [model.run(x, configured(target, 1, row.configuration), keep=True) for x in data]
        for line in row.layers:
            sums = next(n.output for n in model.graph.nodes if n.op == "conv" and n.shown == line.name)
            codes = next(n.output for n in model.graph.nodes if n.inputs == (sums,))
            for tensor, counted in ((sums, line.sum_mismatches), (codes, line.mismatches)):
                assert counted == sum(
                    int((run.tensors[tensor] != e[tensor]).sum()) for run, e in zip(runs, exact, strict=True)
                )
        assert not (row.configuration.accumulator == 40 and not row.observed)
        assert row.observed == (not any(e[:, 1].any() for run in runs for e in run.overflows.values()))
    with pytest.raises(IntsimError, match="round products to an LSB of their own"):
        intsim.sweep(model, target, data, multiplier=[16])


def test_every_verb_takes_it(tmp_path, capsys, monkeypatch):
    def main(arguments):
        monkeypatch.setattr("sys.argv", ["intsim", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return int(left.value.code or 0), said.out + said.err

    onnx.save(network(), tmp_path / "net.onnx")
    (tmp_path / "own.toml").write_text(
        MACHINE.format(lsb=-6, bits=40, rule="saturate", rounding="half_up", bias="preload")
    )
    where, on = str(tmp_path / "net.onnx"), ["-t", str(tmp_path / "own.toml")]
    assert main(["run", where, *on, "-o", str(tmp_path / "run.npz")])[0] == 0
    code, said = main(["verify", where, *on, "--no-references"])
    assert (code, "blame: rounding" in said, "registers of" in said, "report this" in said) == (1, True, True, False)
    assert main(["bounds", where, *on, "--witness", str(tmp_path / "witnesses")])[0] == 0
    assert main(["telemetry", where, *on])[0] == 0
    code, said = main(["certify", where, *on, "-n", "2", "--out", str(tmp_path / "proof.json")])
    assert (code, "report this" in said) == (1, False)
    assert (
        json.loads((tmp_path / "proof.json").read_text())["target"]["content"]["accumulate"]["stages"][0]["lsb"] == -6
    )
    assert main(["certify", where, "--check", str(tmp_path / "proof.json")])[0] == 0
    code, said = main(["targets", str(tmp_path / "own.toml")])
    assert "cast to multiples of 2^-6, rounded half_up; so is all that is added below" in " ".join(said.split())


REFUSED = [
    ({"sx": 0.1}, {}, "its products' LSB is 0.0015625, no power of two"),
    ({"sb": 2.0**-12}, {}, "its bias is no multiple of its products' LSB 0.000976562"),
    ({"per_channel": True}, {}, "its products have scales of their own for each channel"),
    ({}, {"lsb": 60, "rule": "wrap"}, "its products' LSB is 2^-10, so that 12 bits"),
    ({}, {"lsb": -9, "bits": 14}, "its products' LSB is 2^-7, coarser than the register's 2^-9"),
    ({}, {"lsb": -20, "bits": 12, "rule": "wrap"}, "its products' LSB is 2^-7, above all 12 bits of a register"),
]


@pytest.mark.parametrize(("net", "own", "message"), REFUSED)
def test_layers_that_such_registers_cannot_take(net, own, message):
    model, target = intsim.load(network(**net)), machine(**own)
    for verb in (intsim.bounds, intsim.certify, lambda m, t: m.run({"x": np.zeros((1, 3, 5, 4), np.float32)}, t)):
        with pytest.raises(IntsimError) as error:
            verb(model, target)
        assert str(error.value).startswith(("node body: target own: ", "node head: target own: ")), str(error.value)
        assert message in str(error.value)
        assert "\n" not in str(error.value)


WRONG = [
    ("lsb = -6,", "lsb = -65,", "accumulate.stages, stage 1: lsb is -65; allowed: -64..64"),
    ('rounding = "half_up"', 'rounding = "nearest"', "accumulate.stages, stage 1: rounding is 'nearest'; allowed: "),
    (', rounding = "half_up"', "", "accumulate.stages, stage 1: rounding is missing; allowed: "),
    ("lsb = -6,", "", "accumulate.stages, stage 1: rounding belongs to lsb or drop"),
    ("sum = 1,", "sum = 2,", "accumulate.stages, stage 1: lsb and drop are for the first stage"),
    ("lsb = -6,", "lsb = -6, drop = 2,", "accumulate.stages, stage 1: lsb and drop say the same in two ways"),
    ('scheme = "exact"', 'scheme = "ruy"', "accumulate.stages, stage 1: lsb and drop are beside an exact requantizer"),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG)
def test_wrong_files_get_one_line(old, new, message):
    text = MACHINE.format(lsb=-6, bits=12, rule="wrap", rounding="half_up", bias="after")
    assert old in text
    with pytest.raises(IntsimError) as error:
        Target.from_toml(text.replace(old, new), "own")
    assert str(error.value).startswith(f"target own: {message}"), str(error.value)
    assert "\n" not in str(error.value)


def test_content_is_what_the_file_says():
    one = machine()
    assert one != machine(lsb=-7)
    assert Target.from_content(one.model_dump(mode="json", exclude_none=True), "again", "again") == one
    assert "lsb" not in Target.load("wrap-12").model_dump_json()
