"""Certificates: against brute force over every input, for the zoo, and every field of a file against a change."""

import copy
import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend.build import QONNX, Net
from hypothesis import given, settings
from hypothesis import strategies as st

import intsim
from intsim.errors import IntsimError
from intsim.inputs import draw
from intsim.proofs import certify as checking
from intsim.proofs import check as checking_module
from intsim.proofs.certificate import FORMAT, Certificate, digest, text
from intsim.proofs.check import Check, check, read, sample_numbers
from intsim.proofs.replay import Replay, hashes, real_inputs
from intsim.proofs.subject import target_content, target_from
from intsim.targets import Target

pytestmark = pytest.mark.xdist_group("certify")  # what its tests share is made once

ZOO = Path(__file__).resolve().parents[2] / "models" / "zoo"
BAR = ("exact", "cpu-int32", "x86-vnni", "x86-avx2", "dsp48e2")
RNGS = st.integers(0, 2**32).map(np.random.default_rng)
EXACT = 'scheme = "exact"'
SCHEMES = [
    EXACT,
    'scheme = "fixed-point"\nmultiplier_bits = 4\nrounding = "half_up"',
    'scheme = "fixed-point"\nmultiplier_bits = 6\nrounding = "floor"',
    'scheme = "fixed-point"\nmultiplier_bits = 32\ndouble_rounding = true',
    'scheme = "float32"',
]


def target(stages: str, requantize: str = EXACT, bias: str = "after", operands: str = "") -> Target:
    text = f'title = "t"\nsource = ["s"]\n{operands}\n[accumulate]\nstages = [{stages}]\nbias = "{bias}"\n'
    return Target.from_toml(text + f"[requantize]\n{requantize}\n", "own")


def stage(rng, last: bool) -> str:
    count = '"rest"' if last else rng.integers(1, 4)
    lanes = "" if last else f", lanes = {rng.integers(1, 3)}"
    return f'{{ sum = {count}, bits = {rng.integers(2, 10)}, overflow = "{rng.choice(["wrap", "saturate"])}"{lanes} }}'


def tiny(rng, layers: int, rows: int, codes: int, depth: int) -> onnx.ModelProto:
    """Fully connected layers of 4-bit weights, quantized to `codes` bits, as Brevitas exports them."""
    net = Net()
    x = net.quant(net.input(rows, depth), 1, 0, codes, signed=0)
    for _ in range(layers):
        w = net.quant(np.float32(rng.integers(-7, 8, (depth, depth))), 1, 0, 4)
        y = net.node("Gemm", x, w, np.float32(rng.integers(-9, 10, depth)))
        y = net.node("Relu", y) if rng.integers(0, 2) else y
        x = net.quant(y, float(rng.choice([1, 3, 5.5, 8])), 0, codes, signed=int(rng.integers(0, 2)))
    return net.model(x)


def wrong_somewhere(model: intsim.Model, chosen: Target, codes: int, depth: int) -> bool:
    """Every network input, one a row."""
    inputs = {"x": np.array(list(itertools.product(range(2**codes), repeat=depth)), np.float32)}
    exact, mine = (model.run(inputs, t, keep=True).tensors for t in ("exact", chosen))
    return any(not np.array_equal(exact[n], mine[n]) for n in exact)


@settings(max_examples=settings().max_examples * 2)
@given(RNGS, st.integers(1, 3), st.integers(1, 3), st.integers(1, 2))
def test_one_layer_is_certified_if_and_only_if_no_input_is_wrong(rng, registers, depth, codes):
    """User targets that wrap and saturate, in groups and lanes, with an exact requantizer; all inputs are tried."""
    chosen = target(
        ", ".join(stage(rng, i == registers - 1) for i in range(registers)), bias=rng.choice(["after", "preload"])
    )
    model = intsim.load(tiny(rng, 1, (2**codes) ** depth, codes, depth))
    found = intsim.certify(model, chosen)
    wrong = wrong_somewhere(model, chosen, codes, depth)
    assert found.holds == (not wrong)
    assert found.verdict == ("refuted" if wrong else "certified")


@given(RNGS, st.integers(1, 2), st.sampled_from(SCHEMES), st.integers(1, 3))
def test_what_is_certified_has_no_wrong_input(rng, registers, scheme, layers):
    """Networks of several layers and any requantizer: brute force never contradicts a verdict."""
    chosen = target(
        ", ".join(stage(rng, i == registers - 1) for i in range(registers)).replace(
            "bits = ", "bits = 1" if rng.integers(0, 2) else "bits = "
        ),
        scheme,
    )
    model = intsim.load(tiny(rng, layers, 64, 2, 3))
    try:
        found = intsim.certify(model, chosen, samples=1, seed=0)
    except IntsimError:
        return
    wrong = wrong_somewhere(model, chosen, 2, 3)
    if wrong:
        assert found.verdict in ("refuted", "open")
    else:
        assert found.verdict in ("certified", "open", "undecided")
    for obstacle in found.obstacles:
        for stated in obstacle.counterexamples:
            number = stated.network.sample if stated.network else None
            sample = None if number is None else found.arrays[number]
            assert Replay(model, chosen).confirm(stated, sample) == []


@given(RNGS, st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.sampled_from(["Conv", "ConvTranspose"]))
def test_padding_does_not_hide_an_input(rng, registers, width, kernel, op):
    """Convolutions with padding, kernels as large as the input or larger among them, on every input there is."""
    chosen = target(", ".join(stage(rng, i == registers - 1) for i in range(registers)))
    net = Net()
    count = 4**width
    x = net.quant(net.input(count, 1, 1, width), 1, float(rng.integers(0, 4)), 2, signed=0)
    w = net.quant(np.float32(rng.integers(-7, 8, (1, 1, 1, kernel))), 1, 0, 4)
    begin, end = (int(p) for p in rng.integers(0, 3, 2))
    if op == "Conv" and begin + end + width < kernel:
        begin = kernel
    how = {"pads": [0, begin, 0, end]} if op == "Conv" else {"strides": [1, 2]}
    model = intsim.load(net.model(net.node(op, x, w, kernel_shape=[1, kernel], **how)))
    boundary = model.lowered.boundaries[0]
    codes = np.array(list(itertools.product(range(4), repeat=width))).reshape(count, 1, 1, width)
    inputs = real_inputs(model, {boundary.tensor: codes})
    exact, mine = (model.run(inputs, t, keep=True).tensors for t in ("exact", chosen))
    wrong = any(not np.array_equal(exact[n], mine[n]) for n in exact)
    found = intsim.certify(model, chosen)
    assert found.verdict == ("refuted" if wrong else "certified")


def seesaw() -> onnx.ModelProto:
    """100 x + 100 y - 100 of bits x, y: 200 on the way, 100 at most at the end."""
    net = Net()
    x = net.quant(net.input(1, 2), 1, 0, 1, signed=0)
    w = net.quant(np.float32([[100], [100]]), 1, 0, 8)
    return net.model(net.quant(net.node("Gemm", x, w, np.float32([-100])), 1, 0, 8))


def test_wrapping_back_is_no_obstacle():
    """Certified on a register of 8 bits that wraps, not on one that clips, nor on 7 bits."""
    one = '{{ sum = "rest", bits = {}, overflow = "{}" }}'
    wraps, clips, narrow = (
        intsim.certify(seesaw(), target(one.format(*how))) for how in ((8, "wrap"), (8, "saturate"), (7, "wrap"))
    )
    assert (wraps.verdict, wraps.layers[0].safe_channels, wraps.layers[0].wraps_back) == ("certified", 0, [0])
    assert (clips.verdict, clips.layers[0].wrong, clips.layers[0].wraps_back) == ("refuted", [0], [])
    assert (narrow.verdict, narrow.layers[0].wrong) == ("refuted", [0])
    (stated,) = clips.obstacles[0].counterexamples
    assert (stated.expected, stated.got) == (100, 27)
    assert (wraps.layers[0].stages[0].high, wraps.layers[0].stages[0].required_bits) == (200, 9)
    assert intsim.certify(seesaw(), target(one.format(9, "saturate"))).layers[0].safe_channels == 1


def never_both(rows):
    """Codes x and max(0, 15 - x), never both 15, times 7: a second layer that saturates at 8 bits on 30 of them."""
    net = Net()
    x = net.quant(net.input(rows, 1), 1, 0, 4, signed=0)
    w = net.quant(np.float32([[1, -1]]), 1, 0, 2)
    y = net.quant(net.node("Relu", net.node("Gemm", x, w, np.float32([0, 15]))), 1, 0, 4, signed=0)
    z = net.node("MatMul", y, net.quant(np.float32([[7], [7]]), 1, 0, 4))
    return intsim.load(net.model(net.quant(z, 1, 0, 8, signed=0)))


EIGHT = '{ sum = "rest", bits = 8, overflow = "saturate" }'  # 7 x 15 = 105 fits, 7 x 30 = 210 doesn't


def test_open_is_a_layer_that_nothing_is_known_to_reach():
    """The second layer saturates on codes that the first one never makes together: open, whatever is searched."""
    model, chosen = never_both(4), target(EIGHT)
    found = intsim.certify(model, chosen, samples=16, seed=0)
    assert (found.verdict, found.search["samples"], found.search["seed"]) == ("open", 16, 0)
    (obstacle,) = found.obstacles
    (stated,) = obstacle.counterexamples
    assert (stated.level, stated.expected, stated.got) == ("layer", 210, 127)
    for value in range(16):
        ran = model.run({"x": np.full((4, 1), value, np.float32)}, chosen)
        assert not any(e.any() for e in ran.overflows.values())
    assert found.layers[0].holds


def test_few_inputs_are_all_tried():
    """Sixteen inputs, none of which gets there; one bit less, and one does, which no sample was needed for."""
    model = never_both(1)
    found = intsim.certify(model, target(EIGHT))
    (obstacle,) = found.obstacles
    assert (found.verdict, obstacle.status) == ("certified", "certified")
    assert obstacle.reason.endswith("on none of the network's 16 inputs, which were all tried")
    assert found.layers[1].wrong == [0]
    found = intsim.certify(model, target(EIGHT.replace("8", "7")))
    second = found.obstacles[-1]
    assert (found.verdict, second.status, second.name) == ("refuted", "refuted", found.layers[1].name)
    stated = second.counterexamples[-1]
    assert (stated.level, stated.network.sample, stated.expected, stated.got) == ("network", None, 105, 63)
    assert Replay(model, target(EIGHT.replace("8", "7"))).confirm(stated) == []


def test_all_inputs_are_tried_on_both_signs_of_a_bipolar_quantizer():
    """-1 and 1 are its codes; 0, which lies between them, would overflow nothing and is no code."""
    net = Net()
    x = net.node("BipolarQuant", net.input(1, 2), np.float32(1), domain=QONNX)
    y = net.node("MatMul", x, net.quant(np.float32([[3, 1], [3, -1]]), 1, 0, 4))
    y = net.node("MatMul", net.quant(y, 1, 0, 4), net.quant(np.float32([[1], [3]]), 1, 0, 4))
    model = intsim.load(net.model(net.quant(y, 1, 0, 8)))
    # 6 + 0, 0 + 6: never 6 + 6
    found = intsim.certify(model, target('{ sum = "rest", bits = 4, overflow = "saturate" }'))
    assert found.verdict == "certified"
    assert found.obstacles[0].reason.endswith("none of the network's 4 inputs, which were all tried")


def test_samples_refute_what_lies_deep():
    """The second layer goes wrong; a drawn input shows it, and the certificate names and keeps it."""
    net = Net()
    x = net.quant(net.input(1, 4), 1, 0, 8, signed=0)
    y = net.quant(net.node("MatMul", x, net.quant(np.float32(np.eye(4)), 1, 0, 2)), 1, 0, 8, signed=0)
    z = net.quant(net.node("MatMul", y, net.quant(np.full((4, 2), 127, np.float32), 1, 0, 8)), 512, 0, 8, signed=0)
    model = intsim.load(net.model(z))
    without = intsim.certify(model, "x86-avx2")
    assert (without.verdict, [o.status for o in without.obstacles]) == ("open", ["open"])
    found = intsim.certify(model, "x86-avx2", samples=9, seed=3)
    assert (found.verdict, found.search["samples"]) == ("refuted", 1)
    (obstacle,) = found.obstacles
    layer, network = obstacle.counterexamples
    assert (layer.level, network.level, network.network.sample) == ("layer", "network", 0)
    assert network.network.outputs_differ
    assert network.network.sha256 == hashes(draw(model, 3))
    np.testing.assert_array_equal(found.arrays[0]["x"], draw(model, 3)["x"])
    ran = model.run(draw(model, 3), "x86-avx2", keep=True)
    assert ran.tensors[network.tensor][tuple(network.position)] == network.got != network.expected


@pytest.mark.parametrize("target", ["fixed-point-4", "fixed-point-8", "saturate-8", "wrap-9", "exact"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_tensor_times_itself(bits, target):
    """Its operands can't be chosen apart: what is shown runs, and what is certified holds for every input of 2 bits."""
    net = Net()
    z = net.quant(net.input(1, 2, 2), 1.0, 0, bits)
    model = intsim.load(net.model(net.quant(net.node("MatMul", z, z), 1.5, 0, bits)))
    found = intsim.certify(model, target, samples=2)
    if target == "exact":
        assert found.verdict == "certified"
    if bits == 2:
        every = [np.float32(v).reshape(1, 2, 2) for v in itertools.product(range(-2, 2), repeat=4)]
        right = [next(iter(intsim.run(model, "exact", x).outputs.values())) for x in every]
        got = [next(iter(intsim.run(model, target, x).outputs.values())) for x in every]
        wrong = any(not np.array_equal(a, b) for a, b in zip(right, got, strict=True))
        assert found.verdict != ("certified" if wrong else "refuted")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_sum_of_tensors(scheme):
    """A residual addition of two scales, against all pairs of codes."""
    net = Net()
    a = net.quant(net.input(256, 1, name="a"), 0.5, 0, 4, signed=0)
    b = net.quant(net.input(256, 1, name="b"), 0.3, 0, 4)
    model = intsim.load(net.model(net.quant(net.node("Add", a, b), 0.7, 0, 4)))
    chosen = target('{ sum = "rest", bits = 32, overflow = "wrap" }', scheme)
    pairs = np.array(list(itertools.product(range(16), range(-8, 8))))
    inputs = {"a": np.float32(pairs[:, :1] * 0.5), "b": np.float32(pairs[:, 1:] * 0.3)}
    exact, mine = (model.run(inputs, t, keep=True).tensors for t in ("exact", chosen))
    wrong = any(not np.array_equal(exact[n], mine[n]) for n in exact)
    found = intsim.certify(model, chosen)
    assert found.holds == (not wrong)
    for obstacle in found.obstacles:
        (stated,) = obstacle.counterexamples
        assert (stated.level, obstacle.status) == ("accumulator", "open")
        assert len(stated.inputs) == 2
        assert Replay(model, chosen).confirm(stated) == []
    if wrong:
        assert intsim.certify(model, chosen, [inputs]).verdict == "refuted"


def test_host_work_is_outside():
    """A prologue between the file's input and the integers: named, and no network input is made up through it."""
    net = Net()
    x = net.node("Sigmoid", net.input(1, 2))
    x = net.quant(x, 1 / 255, 0, 8, signed=0)
    y = net.node("MatMul", x, net.quant(np.full((2, 1), 127, np.float32), 1, 0, 8))
    model = intsim.load(net.model(net.node("Softmax", net.quant(y, 0.5, 0, 8, signed=0))))
    found = intsim.certify(model, "x86-avx2")
    assert (len(found.host["prologue"]), len(found.host["epilogue"])) == (1, 1)
    assert (found.verdict, found.obstacles[0].counterexamples[0].level) == ("open", "layer")
    loud = {"x": np.full((1, 2), 9, np.float32)}
    assert intsim.certify(model, "x86-avx2", [loud]).verdict == "refuted"
    assert intsim.certify(model, "x86-vnni").holds


def test_qcdq():
    """The same statement about a file in the other format, with zero points on both sides."""
    net = Net()
    x = net.qdq(net.input(1, 4), 1, np.uint8(100))
    w = net.node("DequantizeLinear", np.full((4, 2), 100, np.int8), np.float32(1), np.int8(-20))
    model = intsim.load(net.model(net.qdq(net.node("MatMul", x, w), 512, np.uint8(3))))
    assert intsim.certify(model, "cpu-int32").layers[0].safe_channels == 2
    found = intsim.certify(model, "x86-avx2")
    assert found.verdict == "refuted"
    (stated,) = found.obstacles[0].counterexamples
    # raw codes meet in the multiplier: 255 x 100 twice
    assert stated.expected - stated.got == 2 * 255 * 100 - 32767


def test_a_layer_that_does_not_fit_is_a_refusal():
    net = Net()
    x = net.quant(net.input(1, 3), 1, 0, 12)
    y = net.node("MatMul", x, net.quant(np.ones((3, 1), np.float32), 1, 0, 8))
    with pytest.raises(IntsimError, match=r"MatMul.*u8"):
        intsim.certify(net.model(y), "x86-avx2")


def test_a_packed_multiplier_borrows():
    """Two INT8 products in one DSP48E2, uncorrected: a negative lower field takes 1 from the upper one."""
    net = Net()
    x = net.quant(net.input(1, 3), 1, 0, 4)
    w = net.quant(np.float32([[1, 2], [-3, 4], [5, -6]]), 1, 0, 4)
    model = intsim.load(net.model(net.node("MatMul", x, w)))
    for name, verdict in (("dsp48e2-int8-raw", "refuted"), ("dsp48e2-int8", "certified")):
        found = intsim.certify(model, name, samples=4, seed=0)
        assert found.verdict == verdict
    (obstacle,) = intsim.certify(model, "dsp48e2-int8-raw").obstacles
    (stated,) = obstacle.counterexamples
    assert stated.position[1] == 1
    assert stated.got == stated.expected - 1


# --- the file ---


def small() -> onnx.ModelProto:
    """Two layers, of which the second is reached by samples only; zero points and a bias."""
    net = Net()
    x = net.quant(net.input(1, 4), 1, 0, 8, signed=0)
    y = net.quant(net.node("MatMul", x, net.quant(np.float32(np.eye(4)), 1, 0, 2)), 1, 0, 8, signed=0)
    w = net.quant(np.full((4, 2), 127, np.float32), 1, 0, 8)
    z = net.quant(net.node("Gemm", y, w, np.float32([3, -4])), 300, 0, 8, signed=0)
    return net.model(z)


OWN = target(
    '{ sum = 2, bits = 16, overflow = "saturate" }, { sum = "rest", bits = 24, overflow = "wrap" }',
    'scheme = "fixed-point"\nmultiplier_bits = 6\nrounding = "half_up"',
    operands='[operands]\nactivation = "u8"\nweight = "s8"',
)


@pytest.fixture(scope="module")
def certified(tmp_path_factory) -> tuple[intsim.Model, Certificate, dict]:
    path = tmp_path_factory.mktemp("certify") / "m.onnx"
    onnx.save(small(), path)
    model = intsim.load(path)
    found = intsim.certify(model, OWN, samples=2, seed=7, multipliers=True)
    return model, found, json.loads(found.text())


def again(model: intsim.Model, found: Certificate, content: dict) -> Check:
    return check(content, model, found.arrays, lambda seed: draw(model, seed))


def test_a_file_is_confirmed(certified):
    model, found, content = certified
    assert content["format"] == FORMAT
    assert (content["verdict"], sample_numbers(content)) == ("refuted", [0])
    done = again(model, found, content)
    assert (done.confirmed, done.differences, done.notes) == (True, [], [])
    assert done.counterexamples == sum(len(o["counterexamples"]) for o in content["obstacles"]) >= 3
    assert target_from(content["target"]) == OWN


def test_the_same_model_and_target_give_the_same_bytes(certified):
    model, found, _ = certified
    assert intsim.certify(intsim.load(model.path), OWN, samples=2, seed=7, multipliers=True).text() == found.text()


def test_a_file_can_be_read_by_people(certified):
    """A list of numbers a line, and the JSON that it was."""
    _, found, content = certified
    assert content == json.loads(json.dumps(found.to_json()))
    assert all(len(line) < 200 or "[" in line for line in found.text().split("\n"))
    strange = {"a b": ["x [\n1, 2]", [1, 2], [], [[3, -4], [5]], "[ 1,  2 ]"]}
    assert json.loads(text(strange)) == strange


def leaves(value, path=()):
    """Every number, text and truth value of a document, with its path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from leaves(item, (*path, i))
    else:
        yield path, value


def flipped(value):
    """Another value of the same type, near by."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return 0 if value is None else ("1" if value[:1] == "0" else "0") + value[1:]


def changed(content: dict, path: tuple, repaired: bool) -> dict:
    other = copy.deepcopy(content)
    place = other
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = flipped(place[path[-1]])
    return {**other, "digest": digest(other)} if repaired and path != ("digest",) else other


def noticed(model, found, content) -> bool:
    """By a difference, a note or a refusal."""
    try:
        done = again(model, found, content)
    except IntsimError:
        return True
    return bool(done.differences or done.notes)


def paths(content: dict) -> list[tuple]:
    """All fields; of long lists of numbers the first, the last and one between."""
    found = []
    for path, _ in leaves(content):
        if isinstance(path[-1], int) and path[-1] > 3 and path[-1] % 7:
            continue
        found.append(path)
    return found


CLAIMS = ("verdict", "layers", "requantizers", "obstacles", "host", "model", "target", "multipliers")


PARTS = 18


@pytest.mark.parametrize("part", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in range(1, PARTS))])
def test_every_changed_field_is_noticed(certified, tmp_path, monkeypatch, part):
    """Without and with a digest that was put right; the latter for everything that the model can contradict."""
    model, found, content = certified
    known: dict = {}

    def remembered(loaded, chosen, samples, *rest):
        """What a target and samples prove doesn't depend on the file: it is computed once for each."""
        samples = list(samples)
        key = (chosen, chosen.name, tuple((n, *hashes(s).values()) for n, s in samples), *rest[:-1])
        if key not in known:
            known[key] = checking.prove(loaded, chosen, samples, *rest)
        return known[key]

    monkeypatch.setattr(checking_module, "prove", remembered)
    for path in paths(content)[part::PARTS]:
        assert noticed_in_file(tmp_path, model, found, changed(content, path, False)), path
        if path[0] in CLAIMS and path[:2] not in (("target", "name"),):
            assert noticed_in_file(tmp_path, model, found, changed(content, path, True)), path


def noticed_in_file(folder, model, found, content) -> bool:
    path = folder / "c.json"
    path.write_text(text(content))
    try:
        return noticed(model, found, read(path))
    except IntsimError:
        return True


@pytest.mark.parametrize("path", [("search", "sha256"), ("search", "samples"), ("search", "seed")])
def test_samples_are_checked_too(certified, path):
    """Fewer samples than were needed, another seed; with the digest put right."""
    model, found, content = certified
    for value in (-1, 0, 8, "7", 2.0):
        other = copy.deepcopy(content)
        other["search"][path[1]] = value
        other["digest"] = digest(other)
        assert noticed(model, found, other), value


def test_removed_and_added_parts_are_noticed(certified):
    model, found, content = certified
    for key in ("layers", "requantizers", "obstacles"):
        other = copy.deepcopy(content)
        other[key] = other[key][:-1]
        other["digest"] = digest(other)
        assert again(model, found, other).differences
    other = copy.deepcopy(content)
    other["layers"][0]["more"] = 1
    other["digest"] = digest(other)
    with pytest.raises(IntsimError, match=r"damaged: layers\[0\].more: "):
        again(model, found, other)


def test_damaged_files_and_other_models_are_refused(certified, tmp_path):
    _, found, content = certified
    path = tmp_path / "c.json"
    for damaged in (b"", b"{", b"[]", b"{}", b"\xff\xfe", found.text().encode()[:-40]):
        path.write_bytes(damaged)
        with pytest.raises(IntsimError, match="not a certificate, or damaged"):
            read(path)
    path.write_text(json.dumps({**content, "format": "intsim-certificate-9"}))
    with pytest.raises(IntsimError, match=r"intsim-certificate-9.*is not intsim-certificate-3"):
        read(path)
    for key in content:
        if key not in ("format",):
            path.write_text(json.dumps({k: v for k, v in content.items() if k != key}))
            with pytest.raises(IntsimError, match=f"damaged: {key}"):
                read(path)
    with pytest.raises(IntsimError, match="can't be read"):
        read(tmp_path / "none.json")
    onnx.save(seesaw(), tmp_path / "other.onnx")
    with pytest.raises(IntsimError, match="not the model of the certificate"):
        again(intsim.load(tmp_path / "other.onnx"), found, content)


def test_a_missing_sample_is_asked_for(certified):
    model, _, content = certified
    given = {**content, "search": {**content["search"], "seed": None}}
    with pytest.raises(IntsimError, match=r"sample 0 of the certificate is missing.*\.npz"):
        check({**given, "digest": digest(given)}, model, {})


@pytest.mark.parametrize("name", Target.names())
def test_targets_survive_a_certificate(name):
    loaded = Target.load(name)
    assert target_from(json.loads(json.dumps(target_content(loaded)))) == loaded


# --- the zoo ---


def bar(name: str, chosen: str) -> None:
    """A certificate, or counterexamples that show the predicted wrong integers when they run."""
    model = intsim.load(ZOO / f"{name}_w8a8.qonnx.onnx")
    found = intsim.certify(model, chosen, samples=1, seed=0)
    if chosen in ("exact", "x86-vnni", "dsp48e2"):
        assert (found.verdict, found.obstacles) == ("certified", [])
        assert all(layer.safe_channels == layer.channels for layer in found.layers)
        assert all(r.equal for r in found.requantizers)
        return
    assert found.verdict == "refuted"
    kind = {"x86-avx2": "registers", "cpu-int32": "requantizer"}[chosen]
    assert {o.kind for o in found.obstacles} == {kind}
    assert len(found.obstacles) == len(found.layers)
    loaded = Target.load(chosen)
    for obstacle in found.obstacles:
        assert obstacle.status in ("open", "refuted")
        for stated in obstacle.counterexamples:
            assert stated.level in ("layer", "network")
            assert stated.expected != stated.got
            if stated.level == "layer":
                assert Replay(model, loaded).confirm(stated) == []


@pytest.mark.parametrize("chosen", [pytest.param("x86-vnni", marks=pytest.mark.slow), "x86-avx2"])
def test_zoo(chosen):
    bar("dispnet", chosen)


@pytest.mark.slow
@pytest.mark.parametrize("chosen", BAR)
@pytest.mark.parametrize("name", ["dispnet", "h3dispnet"])
def test_zoo_on_every_target(name, chosen):
    bar(name, chosen)
