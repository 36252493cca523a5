"""Rules of a target: which kernel runs a layer, in every verb; wrong rules; groups that restart."""

from fractions import Fraction

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import intsim
from intsim import cli
from intsim.arithmetic.accumulate import Stage, accumulate_telemetry, check_stages, restarted
from intsim.arithmetic.binary32 import fma, nearest
from intsim.dispatch import arithmetic
from intsim.errors import IntsimError
from intsim.ops import OPS, Mac
from intsim.targets import Target
from intsim.targets.rules import Facts, When
from tests import twins
from tests.frontend.build import Net

PAIRS = (Stage(2, 16, "saturate"), Stage(None, 32, "wrap"))
MACHINE = """
title = "A library with a depthwise kernel of its own"
source = ["by hand"]
[operands]
activation = "u8"
weight = "s8"
[accumulate]
stages = [{ sum = 4, bits = 32, overflow = "wrap" }, { sum = "rest", bits = 32, overflow = "wrap" }]
[requantize]
scheme = "float32"
scale_roundings = 2
[[when]]
op = "depthwise"
activation = "u8"
[when.accumulate]
stages = [{ sum = 2, bits = 16, overflow = "saturate" }, { sum = "rest", bits = 32, overflow = "wrap" }]
[[when]]
layer = "head*"
operands = "any"
accumulate = { stages = [{ sum = "rest", bits = 18, overflow = "wrap" }] }
requantize = { scheme = "exact" }
"""
"""Sums are exact but in depthwise layers, whose pairs saturate, and in the head, which wraps."""
SX, SW, SY = (np.float32(v) for v in (0.037, 0.0042, 0.11))


def network(seed: int = 0) -> onnx.ModelProto:
    """A 3 x 3 convolution, a depthwise one and a 1 x 1 one called head, in QDQ, weights over the whole INT8 range."""
    rng = np.random.default_rng(seed)
    nodes, constants = [], []

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def quantized(x: str, scale: np.float32, zero: int) -> str:
        pair = constant(f"{x}.s", scale), constant(f"{x}.z", np.uint8(zero))
        nodes.append(helper.make_node("QuantizeLinear", [x, *pair], [f"{x}.q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{x}.q", *pair], [f"{x}.d"]))
        return f"{x}.d"

    def conv(name: str, x: str, shape: tuple[int, ...], groups: int, zero: int) -> str:
        codes = rng.choice(np.array([-127, 127, 126, -3, 90], np.int8), shape)
        w = constant(f"{name}.w", codes), constant(f"{name}.ws", SW), constant(f"{name}.wz", np.int8(0))
        nodes.append(helper.make_node("DequantizeLinear", w, [f"{name}.wd"]))
        pads = [shape[2] // 2] * 4
        nodes.append(helper.make_node("Conv", [x, f"{name}.wd"], [f"{name}.y"], name=name, group=groups, pads=pads))
        return quantized(f"{name}.y", SY * np.float32(5), zero)

    x = quantized("x", SX, 3)
    x = conv("body", x, (8, 4, 3, 3), 1, 120)
    x = conv("deep", x, (8, 1, 3, 3), 8, 100)
    out = conv("head", x, (2, 8, 1, 1), 1, 128)
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 4, 6, 6]), (out, [1, 2, 6, 6]))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def written_out(run: intsim.Run, model: intsim.Model, chosen: dict) -> None:
    """Every layer's sums and codes by the dumb twin, from its own inputs."""
    graph = model.graph
    for node in graph.nodes:
        if node.op == "conv":
            stages, raw = chosen[node.source]
            x, weight, zero = run.tensors[node.inputs[0]][0], node.arrays["weight"], node.attributes["zero_point"]
            pads, groups = node.attributes["pads"][0], node.attributes["groups"]
            x = np.pad(x, ((0, 0), (pads, pads), (pads, pads)), constant_values=zero) - (0 if raw else zero)
            out, per = run.tensors[node.output][0], weight.shape[1]
            for o, i, j in np.ndindex(out.shape):
                first = o // (weight.shape[0] // groups) * per
                taps = [(a, b, c) for a in range(weight.shape[2]) for b in range(weight.shape[3]) for c in range(per)]
                products = [int(x[first + c, i + a, j + b] * weight[o, c, a, b]) for a, b, c in taps]
                late = -zero * int(weight[o].sum()) if raw else None
                assert out[o, i, j] == twins.accumulate(products, stages, bias=late).result, (node.source, o, i, j)


def test_rules_decide_each_layer():
    model, target = intsim.load(network()), Target.from_toml(MACHINE, "own")
    x = np.random.default_rng(1).normal(3, 3, (1, 4, 6, 6)).astype(np.float32)
    run = model.run({"x": x}, target, keep=True)
    exact = (Stage(None, 32, "wrap"),)
    chosen = {"body": (exact, True), "deep": (PAIRS, True), "head": ((Stage(None, 18, "wrap"),), False)}
    written_out(run, model, chosen)
    layers = {n.source: run.overflows[n.name] for n in model.graph.nodes if n.op == "conv"}
    assert {k: v.shape[1] for k, v in layers.items()} == {"body": 2, "deep": 2, "head": 1}
    assert layers["deep"].sum() > 0
    assert not layers["body"].any()
    for node in model.graph.nodes:
        if node.op == "requantize" and node.name != "head":
            maker = model.graph.producer(node.inputs[0])
            if maker is None or maker.source == "head":
                continue
            step = model.graph.tensors[node.output].scale.item()
            factor = np.float32(
                np.float32(np.float32(model.graph.tensors[maker.inputs[0]].scale.item()) * SW) / np.float32(step)
            )
            wanted = [
                twins.onnxruntime(int(a), float(factor), node.attributes["zero"], 0, 255)
                for a in run.tensors[node.inputs[0]].reshape(-1)
            ]
            assert run.tensors[node.output].reshape(-1).tolist() == wanted


def test_rules_in_every_verb(tmp_path, capsys, monkeypatch):
    def main(arguments: list[str]) -> int:
        monkeypatch.setattr("sys.argv", ["intsim", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return int(left.value.code or 0)

    onnx.save(network(), tmp_path / "net.onnx")
    (tmp_path / "own.toml").write_text(MACHINE)
    where, on = str(tmp_path / "net.onnx"), ["-t", str(tmp_path / "own.toml")]
    for verb, more, status in (
        ("run", ["-o", str(tmp_path / "run.npz")], None),
        ("verify", ["--no-references"], 1),
        ("bounds", ["--witness", str(tmp_path / "witnesses")], 1),
        ("telemetry", [], None),
        ("certify", [], 1),
        ("sweep", ["-a", "12:14", "-o", str(tmp_path / "sweep")], None),
    ):
        code = main([verb, where, *on, *more])
        said = capsys.readouterr()
        assert code == status or (status is None and code in (0, 1)), (verb, code, said)
        assert "Traceback" not in said.err
    proven = intsim.bounds(where, tmp_path / "own.toml")
    assert {x.name: [s.bits for s in x.stages] for x in proven.layers} == {
        "body": [32, 32],
        "deep": [16, 32],
        "head": [18],
    }
    assert {x.name: x.safe for x in proven.layers} == {"body": True, "deep": False, "head": True}
    verdict = intsim.verify(where, tmp_path / "own.toml", references=False)
    assert verdict.first_divergence["name"] == "deep"
    assert verdict.first_divergence["blame"] == "overflow"
    assert main(["targets", str(tmp_path / "own.toml")]) == 0
    said = capsys.readouterr().out
    assert "depthwise, activation u8:" in said
    assert "layer head*:" in said


def test_a_rule_can_refuse_and_others_can_be_refused():
    model = intsim.load(network())
    refusing = MACHINE.replace('layer = "head*"\n', 'layer = "head*"\nrefused = "the library runs it in float"\n')
    for line in ('operands = "any"\n', 'requantize = { scheme = "exact" }\n'):
        refusing = refusing.replace(line, "")
    refusing = refusing.replace('accumulate = { stages = [{ sum = "rest", bits = 18, overflow = "wrap" }] }\n', "")
    x = np.zeros((1, 4, 6, 6), np.float32)
    with pytest.raises(IntsimError, match=r"^node head: target own: not predicted: the library runs it in float$"):
        model.run({"x": x}, Target.from_toml(refusing, "own"))
    closed = MACHINE.replace("[operands]", 'others = "refused"\n[operands]')
    for verb in (
        lambda t: model.run({"x": x}, t),
        lambda t: intsim.bounds(model, t),
        lambda t: intsim.certify(model, t),
    ):
        with pytest.raises(IntsimError, match=r"^node \S+: target own: has no rule for \w+.*; add one, or choose"):
            verb(Target.from_toml(closed, "own"))


WRONG = [
    ('op = "depthwise"', 'op = "deepwise"', "rule 1: op"),
    ('op = "depthwise"', 'ops = "depthwise"', "rule 1: unknown key ops; allowed: op, function, activation"),
    ('activation = "u8"\n[when', 'activation = "u40"\n[when', "rule 1: activation"),
    ("bits = 16", "bits = 65", "rule 1: accumulate.stages, stage 1: bits is 65; allowed: 1..64"),
    ('sum = "rest", bits = 18', "sum = 3, bits = 18", "rule 2: accumulate.stages, stage 1: sum is 3; the last stage"),
    ('{ scheme = "exact" }', '{ scheme = "exacter" }', "rule 2: requantize.scheme is 'exacter'; allowed"),
    ('operands = "any"', 'operands = "all"', "rule 2: operands is 'all'; allowed"),
    ("scale_roundings = 2", "scale_roundings = 4", "requantize.scale_roundings is 4; allowed: 1..2"),
    ('layer = "head*"', 'layer = "head*"\nrefused = "no"', "rule 2: refused is given beside tables"),
    ('layer = "head*"', 'padded = "some"', "rule 2: padded is 'some'; allowed: true, false, \"half\""),
    ('layer = "head*"', "padded = 1", "rule 2: padded is 1; allowed: true, false"),
    (
        'layer = "head*"',
        "depth = [50, 2]",
        "rule 2: depth is [50, 2]; allowed: [least, greatest] number of products, the",
    ),
    ('layer = "head*"', 'output = "int8"', "rule 2: output"),
    (
        "[when.accumulate]\nstages = [{ sum = 2, bits = 16,",
        '[when.accumulate]\norder = "cin kh kw"\nstages = [{ sum = 2, restart = "tap", bits = 16,',
        'rule 1: accumulate.stages, stage 1: restart is "tap" with order "cin kh kw", in which the products of a',
    ),
    ('layer = "head*"', "multiple_of = 1", "rule 2: multiple_of is 1; allowed: 2..65536"),
    ('layer = "head*"', 'kernel = "3by3"', "rule 2: kernel"),
    ("[operands]", 'others = "maybe"\n[operands]', 'others is \'maybe\'; allowed: "own", "refused"'),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG)
def test_wrong_rules_get_one_line(old, new, message):
    assert old in MACHINE
    with pytest.raises(IntsimError) as error:
        Target.from_toml(MACHINE.replace(old, new), "own")
    assert str(error.value).startswith(f"target own: {message}"), str(error.value)
    assert "\n" not in str(error.value)


def test_others_are_refused_by_rules_only():
    text = MACHINE[: MACHINE.index("[[when]]")].replace("[operands]", 'others = "refused"\n[operands]')
    with pytest.raises(IntsimError, match=r'^target own: others is "refused" without rules, which refuses nothing'):
        Target.from_toml(text, "own")


def test_a_rule_shows_its_own_order():
    text = MACHINE.replace("[when.accumulate]\n", '[when.accumulate]\norder = "cin kh kw"\n')
    assert "  order       cin kh kw\n" in Target.from_toml(text, "own").describe()
    assert Target.from_toml(MACHINE, "own").describe().count("order") == 2  # of the target, and of trying rules


CODES = """
[[when]]
op = ["conv", "depthwise"]
output = "s8"
refused = "it makes no s8 codes"
[[when]]
padded = "uneven"
refused = "it pads evenly"
[[when]]
weight_zero = true
refused = "its weights are centred"
"""


@pytest.mark.parametrize(
    ("zero", "out", "pads", "why"),
    [
        (0, np.uint8, [1] * 4, None),
        (0, np.int8, [1] * 4, "it makes no s8 codes"),
        (0, np.uint8, [0, 1, 1, 1], "it pads evenly"),
        (0, np.uint8, [2] * 4, None),
        (3, np.uint8, [1] * 4, "its weights are centred"),
    ],
)
def test_rules_ask_for_codes_pads_and_zero_points(zero, out, pads, why):
    """PyTorch's backends take what the first of these is, and nothing else."""
    net, rng = Net(17), np.random.default_rng(0)
    codes = rng.integers(-90, 90, (4, 2, 3, 3)).astype(np.int8)
    w = net.node("DequantizeLinear", codes, np.float32(0.01), np.int8(zero))
    v = net.node("Conv", net.qdq(net.input(1, 2, 5, 5), 0.05, np.uint8(3)), w, pads=pads)
    y = net.node("QuantizeLinear", v, np.float32(0.3), out(10))
    kind = TensorProto.UINT8 if out is np.uint8 else TensorProto.INT8
    model, feeds = intsim.load(net.model(y, kinds={y: kind})), {"x": np.ones((1, 2, 5, 5), np.float32)}
    targets = [Target.from_toml(MACHINE[: MACHINE.index("[[when]]")] + CODES, "own")]
    targets += ["onednn-vnni", "onednn-avx2", *(["fbgemm-vnni", "fbgemm-avx2", "qnnpack"] if not zero else [])]
    for target in targets:
        if why is None:
            model.run(feeds, target)
            continue
        text = f"not predicted: {why}" if target is targets[0] else "target .*: (not predicted|has no rule)"
        with pytest.raises(IntsimError, match=text):
            model.run(feeds, target)


@pytest.mark.parametrize("engine", ["fbgemm-vnni", "onednn-vnni", "qnnpack"])
@pytest.mark.parametrize(("activation", "weight"), [(np.int8, np.int8), (np.uint8, np.uint8)])
def test_torch_takes_u8_activations_and_s8_weights(engine, activation, weight):
    """torch.ops.quantized.conv2d refuses other types in every engine."""
    net = Net(17)
    w = net.node("DequantizeLinear", np.ones((4, 2, 3, 3), weight), np.float32(0.01), weight(0))
    v = net.node("Conv", net.qdq(net.input(1, 2, 5, 5), 0.05, activation(3)), w)
    y = net.node("QuantizeLinear", v, np.float32(0.3), activation(10))
    kind = TensorProto.UINT8 if activation is np.uint8 else TensorProto.INT8
    with pytest.raises(IntsimError, match="has no rule for conv"):
        intsim.load(net.model(y, kinds={y: kind})).run({"x": np.ones((1, 2, 5, 5), np.float32)}, engine)


@pytest.mark.parametrize(
    ("kernel", "pads", "dilation", "held"),
    [(3, 1, 1, "half"), (4, 1, 1, "half"), (3, 1, 2, "other"), (3, 2, 2, "half"), (1, 0, 1, "no")],
)
def test_padding_by_half_the_kernel(kernel, pads, dilation, held):
    """As docs/targets.md has it: floor(dilation (kernel - 1) / 2), and not none; depthwise layers are in groups."""
    net = Net(17)
    x = net.input(1, 4, 9, 9, kind=TensorProto.UINT8)
    w = np.ones((4, 1, kernel, kernel), np.int8)
    y = net.node("ConvInteger", x, w, group=4, pads=[pads] * 4, dilations=[dilation] * 2)
    model = intsim.load(net.model(y, kinds={y: TensorProto.INT32}))
    base = MACHINE[: MACHINE.index("[[when]]")]
    rules = {'padded = "half"': held == "half", "padded = false": held == "no", "grouped = true": True}
    for rule, holds in rules.items():
        target = Target.from_toml(f'{base}[[when]]\n{rule}\nrefused = "found"\n', "own")
        if not holds:
            model.run({"x": np.ones((1, 4, 9, 9), np.uint8)}, target)
            continue
        with pytest.raises(IntsimError, match="not predicted: found"):
            model.run({"x": np.ones((1, 4, 9, 9), np.uint8)}, target)


def test_rules_count_as_content():
    one = Target.from_toml(MACHINE, "one")
    assert one != Target.from_toml(MACHINE.replace("bits = 18", "bits = 19"), "one")
    assert one == Target.from_toml(MACHINE, "two")
    assert one.plain.when == ()
    assert one.plain != one


CHAINS = st.tuples(
    st.integers(1, 4), st.integers(4, 10), st.sampled_from(["wrap", "saturate"]), st.integers(1, 3), st.integers(1, 9)
)


@given(CHAINS, st.lists(st.integers(-200, 200), max_size=24))
def test_groups_restart(chain, products):
    group, bits, rule, lanes, restart = chain
    stages = (Stage(group, bits, rule, lanes, restart), Stage(None, 24, "wrap"))
    found = accumulate_telemetry(np.array([products], np.int64), stages)
    defined = twins.accumulate(products, stages)
    assert (found.result.item(), found.events[0].tolist()) == (defined.result, defined.events)


def test_where_groups_restart():
    """By hand: three channels a tap, two taps; pairs end at the tap, so 100 + 100 of different taps aren't added in 8
    bits."""
    pairs = Stage(2, 8, "saturate", 1, "tap"), Stage(None, 32, "wrap")
    chain = restarted(pairs, 3, 6)
    assert chain[0].restart == 3
    assert accumulate_telemetry(np.array([[0, 0, 100, 100, 0, 0]]), chain).result.item() == 200
    assert (
        accumulate_telemetry(np.array([[0, 0, 100, 100, 0, 0]]), (Stage(2, 8, "saturate"), pairs[1])).result.item()
        == 127
    )
    assert restarted((Stage(2, 8, "wrap", 1, "half"), pairs[1]), 7, 257)[0].restart == 129
    with pytest.raises(IntsimError, match="stage 2: restart is for the first stage"):
        check_stages([Stage(2, 8, "wrap"), Stage(2, 8, "wrap", 1, 4), Stage(None, 8, "wrap")])


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**60), max_value=2.0**60)


@given(FLOATS, FLOATS, FLOATS)
def test_fused_multiply_add(a, b, c):
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    assert fma(np.float32([a]), np.float32(b), np.float32(c))[0] == nearest(exact)


@given(st.integers(1, 2**24 - 1), st.integers(-149, 100))
def test_fused_multiply_add_at_ties(m, e):
    """Sums that lie on a tie of binary32 but for a last bit far below it."""
    a, c = np.float32(m), np.ldexp(np.float32(1), -40)
    for sign in (1, -1):
        exact = Fraction(int(m)) * Fraction(float(np.float32(1.5))) + sign * Fraction(float(c))
        assert fma(np.float32([a]), np.float32(1.5), np.float32(sign * c))[0] == nearest(exact)


def test_a_copy_derives_its_own():
    """Fields of a copy count, not what was derived from those of its model before."""
    target = Target.load("onnxruntime-vnni")
    assert target.plain.when == ()
    assert target.arithmetics
    assert hash(target)
    other = Target.load("wrap-8")
    copied = target.model_copy(update={"accumulate": other.accumulate, "when": target.when[:1]})
    assert copied.plain.accumulate == other.accumulate
    assert len(copied.arithmetics) == 1
    assert hash(copied) == hash(Target.model_validate(copied.model_dump())) != hash(target)
    changed = target.changed(lambda t: t.model_copy(update={"requantize": other.requantize}))
    assert {t.requantize for t in (changed.plain, *changed.arithmetics)} == {other.requantize}


@pytest.mark.parametrize(
    ("sizes", "held", "not_held"),
    [
        ("3x3", ["3x3"], ["3x5", "3", "3x3x3"]),
        ("*", ["3", "11"], ["3x3"]),
        (["*", "3x*"], ["7", "3x1"], ["1x3", "3x3x3"]),
        ("*x*x3", ["1x2x3"], ["1x2x4", "2x3"]),
    ],
)
def test_sizes(sizes, held, not_held):
    rule = When.model_validate({"op": "conv", "kernel": sizes})
    assert all(rule.holds(Facts("conv", kernel=kernel)) for kernel in held)
    assert not any(rule.holds(Facts("conv", kernel=kernel)) for kernel in (*not_held, None))


@pytest.mark.parametrize(("channels", "held"), [(16, True), (12, False), (24, True), (4, False)])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_multiple_of_counts_input_channels(channels, held, multiplier):
    """FBGEMM's depthwise kernel: eight channels of the input at a time, however many each makes."""
    net = Net()
    x = net.quant(net.input(1, channels, 5, 5), 1, 0, 8, signed=0)
    w = net.quant(np.ones((channels * multiplier, 1, 3, 3), np.float32), 1, 0, 8, narrow=1)
    y = net.quant(net.node("Conv", x, w, group=channels, pads=[1] * 4), 1, 0, 8, signed=0)
    graph = intsim.load(net.model(y)).graph
    (node,) = (n for n in graph.nodes if isinstance(OPS[n.op], Mac))
    assert (arithmetic(Target.load("fbgemm-vnni"), graph, node).stages[0].overflow == "saturate") == held


def test_the_first_rule_that_holds_decides():
    text = MACHINE.partition("[[when]]")[0]
    for bits, kernel in ((17, "3x3"), (18, "*x*")):
        text += f'[[when]]\nop = "conv"\nkernel = "{kernel}"\n'
        text += f'accumulate = {{ stages = [{{ sum = "rest", bits = {bits}, overflow = "wrap" }}] }}\n'
    target = Target.from_toml(text, "own")
    chosen = {kernel: target.of(Facts("conv", kernel=kernel)).stages[0].bits for kernel in ("3x3", "1x1")}
    assert chosen == {"3x3": 17, "1x1": 18}
