"""`certify` doubts itself: a lowering that misreads a file is disputed, whatever it misreads; the unreadable is said.

Each fault is planted in a handler of the front end, which then sees a node other than the file's. Everything behind it,
the proof included, is about the wrong graph, and holds.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from frontend.build import Net

import intsim
from intsim import cli
from intsim.errors import IntsimError
from intsim.frontend.reader import Operation
from intsim.frontend.registry import HANDLERS
from intsim.inputs import draw
from intsim.proofs import reading
from intsim.proofs.check import check
from intsim.report.certificate import sentence
from intsim.targets import Target
from intsim.verification.reference import ReferenceRun


def network() -> onnx.ModelProto:
    """A little of everything that is easily misread: padding, channels, biases, rounding, zero points, an open end."""
    rng = np.random.default_rng(0)
    net = Net()
    x = net.quant(net.input(2, 2, 5, 5), 0.25, 3, 6, signed=0, rounding_mode="FLOOR")
    w = net.quant(np.float32(rng.integers(-7, 8, (4, 2, 2, 3))), np.float32([1, 0.5, 1, 2]).reshape(4, 1, 1, 1), 0, 4)
    y = net.node("Conv", x, w, np.float32([3, -2.5, 40, 1]), kernel_shape=[2, 3], pads=[1, 0, 0, 2], strides=[1, 1])
    y = net.quant(net.node("Relu", y), np.float32([0.5, 0.75, 0.5, 1]).reshape(1, 4, 1, 1), 0, 6, signed=0, narrow=1)
    z = net.node("LeakyRelu", net.quant(net.node("Sub", y, np.float32(20)), 2, 0, 6), alpha=0.25)
    z = net.node("Add", y, net.quant(z, 1.5, 0, 6))
    z = net.node(
        "MaxPool",
        net.quant(net.node("Mul", z, np.float32(1.5)), 1.5, 0, 6),
        kernel_shape=[2, 2],
        strides=[2, 1],
        ceil_mode=1,
    )
    z = net.node("AveragePool", z, kernel_shape=[3, 2], strides=[1, 2], pads=[1, 0, 1, 0])
    z = net.quant(net.node("Relu", net.node("Sub", z, np.float32(6))), 0.5, 0, 8)
    z = net.node("Transpose", z, perm=[0, 2, 3, 1])
    z = net.node("Reshape", net.node("Concat", z, net.node("Neg", z), axis=1), np.int64([2, -1]))
    width = 2 * 3 * 2 * 4
    w = net.quant(np.float32(rng.integers(-7, 8, (width, width))), 1, 0, 4)
    z = net.node("Gemm", net.node("Clip", z, np.float32(-9), np.float32(30)), w, np.float32(rng.integers(-9, 9, width)),
                 transB=1, alpha=0.5)  # fmt: skip
    return net.model(net.node("Relu", z))


def without(*names: str) -> Callable[[Operation], Operation]:
    return lambda op: replace(op, attributes={k: v for k, v in op.attributes.items() if k not in names})


def with_(**values: object) -> Callable[[Operation], Operation]:
    return lambda op: replace(op, attributes={**op.attributes, **values})


def inputs(change: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Callable[[Operation], Operation]:
    return lambda op: replace(op, inputs=change(op.inputs))


FAULTS: dict[str, tuple[str, Callable[[Operation], Operation] | None]] = {
    "Relu dropped": ("Relu", None),
    "bias of a convolution dropped": ("Conv", inputs(lambda i: i[:2])),
    "bias of a Gemm dropped": ("Gemm", inputs(lambda i: i[:2])),
    "transB overlooked": ("Gemm", without("transB")),
    "alpha overlooked": ("Gemm", without("alpha")),
    "zero point taken from the bit width": ("Quant", inputs(lambda i: (*i[:2], i[3], i[3]))),
    "scale taken for the zero point": ("Quant", inputs(lambda i: (*i[:2], i[1], i[3]))),
    "rounding mode overlooked": ("Quant", without("rounding_mode")),
    "narrow overlooked": ("Quant", without("narrow")),
    "signed overlooked": ("Quant", with_(signed=1)),
    "pads the other way round": ("Conv", with_(pads=[0, 2, 1, 0])),
    "pads rotated": ("Conv", with_(pads=[0, 1, 2, 0])),
    "Sub with its operands exchanged": ("Sub", inputs(lambda i: i[::-1])),
    "slope of another activation": ("LeakyRelu", with_(alpha=0.125)),
    "one operand twice": ("Add", inputs(lambda i: (i[0], i[0]))),
    "ceil_mode's last row takes too much": ("MaxPool", with_(kernel_shape=[1, 2], ceil_mode=0)),
    "padding counted": ("AveragePool", with_(count_include_pad=1)),
    "a permutation with two axes exchanged": ("Transpose", with_(perm=[0, 3, 2, 1])),
    "parts in another order": ("Concat", inputs(lambda i: i[::-1])),
    "a sign lost": ("Neg", None),
    "a limit overlooked": ("Clip", inputs(lambda i: i[:2])),
    "a factor overlooked": ("Mul", None),
}


def plant(monkeypatch, op: str, misread: Callable[[Operation], Operation] | None) -> None:
    """The handler of `op` sees another node; None: it passes on its first input."""
    handler = HANDLERS[op]

    def wrong(context, node):
        return context.value(node.inputs[0]) if misread is None else handler(context, misread(node))

    monkeypatch.setitem(HANDLERS, op, wrong)


def test_what_is_read_right_is_certified():
    """Every quantizer and the open end, on every input."""
    model = intsim.load(network())
    found = intsim.certify(model)
    assert (found.verdict, found.reading.disagreement, found.reading.refused) == ("certified", None, "")
    assert found.reading.inputs == ["low", "high", "alternating", "drawn"]
    run = model.run(draw(model, 0), keep=True)
    quantized = [t for t in model.graph.tensors.values() if t.onnx and t.onnx.startswith("quant")]
    each = sum(run.tensors[t.name].size for t in quantized)
    assert len(quantized) == 6
    assert found.reading.elements >= 4 * (each + run.outputs[next(iter(run.outputs))].size)


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("chosen", ["exact", "wrap-32"])
def test_a_misread_file_is_disputed(name, chosen, monkeypatch):
    """The proof holds of the wrong graph, so that without the reading it is certified."""
    plant(monkeypatch, *FAULTS[name])
    try:
        model = intsim.load(network())
    except IntsimError:
        pytest.skip("the front end refuses what it reads")
    found = intsim.certify(model, chosen)
    assert found.obstacles == []
    assert found.verdict == "disputed"
    assert not found.holds
    first = found.reading.disagreement
    assert first is not None
    assert first.expected != first.got
    words = sentence(found)
    assert "\n" not in words
    assert f"{first.tensor} at {first.position}: the file gives {first.expected}, the graph {first.got}" in words
    assert check(json.loads(found.text()), model, {}).confirmed


def test_a_limit_that_no_input_shows(monkeypatch):
    """The greatest code is the file's; a graph that holds one more possible is seen without an input that makes it."""
    net = Net()
    x = net.quant(net.input(1, 8), 1, 0, 4, signed=0)
    y = net.node("MatMul", x, net.quant(np.float32([[1], [1], [1], [1], [-1], [-1], [-1], [-1]]), 1, 0, 2))
    model = net.model(net.quant(y, 1, 0, 5, signed=0, narrow=1))
    assert intsim.certify(intsim.load(model)).verdict == "certified"
    plant(monkeypatch, *FAULTS["narrow overlooked"])
    found = intsim.certify(intsim.load(model))
    assert found.verdict == "disputed"
    first = found.reading.disagreement
    assert first is not None
    assert (first.op, first.expected, first.got) == ("MatMul, greatest code", 30, 31)


def test_few_faults_are_refused_by_the_front_end(monkeypatch):
    """The table tests what it says."""
    refused = 0
    for op, misread in FAULTS.values():
        with monkeypatch.context() as patch:
            plant(patch, op, misread)
            try:
                intsim.load(network())
            except IntsimError:
                refused += 1
    assert refused <= 2


def test_a_forged_reading_is_noticed(monkeypatch):
    """The reading of one that reads right does not help a certificate of one that misreads."""
    right = intsim.certify(intsim.load(network()))
    plant(monkeypatch, *FAULTS["bias of a Gemm dropped"])
    model = intsim.load(network())
    wrong = intsim.certify(model)
    content = {**json.loads(wrong.text()), "verdict": "certified", "reading": json.loads(right.text())["reading"]}
    done = check(content, model, {})
    assert any(
        line.startswith("verdict: the file says certified, computed again disputed") for line in done.differences
    )


def test_exit_code_and_line(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    onnx.save(network(), "m.onnx")
    plant(monkeypatch, *FAULTS["zero point taken from the bit width"])
    monkeypatch.setattr(sys, "argv", ["intsim", "certify", "m.onnx", "-o", "c.json"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 1
    lines = " ".join(capfd.readouterr()[0].split())
    assert "verdict: disputed. The lowered graph is not what an independent reading of m.onnx says: Conv_" in lines
    assert "(input low)." in lines
    monkeypatch.setattr(sys, "argv", ["intsim", "certify", "--check", "c.json"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 0
    assert "confirmed: c.json (disputed)" in " ".join(capfd.readouterr()[0].split())


def test_what_the_evaluator_cannot_read_is_not_certified(monkeypatch):
    """Its reason is given; the proof of the graph alone isn't called certified."""

    def refuse(*args: object) -> None:
        raise IntsimError("m.onnx: node 'a' (Odd): operator Odd is unknown")

    monkeypatch.setattr(reading, "ExactFile", refuse)
    model = intsim.load(network())
    found = intsim.certify(model)
    assert (found.verdict, found.obstacles, found.reading.elements) == ("unread", [], 0)
    assert sentence(found) == (
        "The graph could not be compared with an independent reading of the file: m.onnx: node 'a' (Odd): operator Odd "
        "is unknown"
    )
    assert check(json.loads(found.text()), model, {}).confirmed
    assert intsim.certify(model, "saturate-8").verdict != "unread"


def test_nothing_compared_is_no_agreement(monkeypatch):
    """Were no tensor shown by the evaluator, nothing would be compared."""
    monkeypatch.setattr(
        reading, "expected_codes", lambda model, layer, truth, run, inexact: (run.tensors[layer.tensor], 0, False)
    )
    monkeypatch.setattr(ReferenceRun, "error", lambda self, name: np.full(self.value(name).shape, np.inf))
    found = intsim.certify(intsim.load(network()))
    assert found.verdict == "unread"
    assert "nothing that the reference evaluator shows is an integer of the graph" in found.reading.refused


def test_the_target_itself_is_compared(monkeypatch):
    """Where the proof holds the engine runs on the target: one that is wrong there is seen."""
    model = intsim.load(network())
    own = intsim.Model.run

    def wrong(self, given, target="exact", *args, **kwargs):
        run = own(self, given, target, *args, **kwargs)
        if isinstance(target, Target) and target.name == "wrap-32":
            run.tensors[self.graph.nodes[0].output] += 1
            run.tensors[self.graph.nodes[1].output] += 1
        return run

    monkeypatch.setattr(intsim.Model, "run", wrong)
    assert intsim.certify(model, "exact").verdict == "certified"
    assert intsim.certify(model, "wrap-32").verdict == "disputed"


def host_network() -> onnx.ModelProto:
    """Work of the host before the first quantizer, of which LogSoftmax has no exact form."""
    net = Net()
    x = net.node("LogSoftmax", net.node("Mul", net.input(1, 4), np.float32(0.3)))
    x = net.quant(x, 0.1, 0, 4)
    return net.model(net.quant(net.node("MatMul", x, net.quant(np.eye(4, dtype=np.float32), 1, 0, 2)), 0.25, 0, 4))


def test_host_work_before_the_first_quantizer():
    """No input is known for given codes: large real inputs instead, and what the host made is taken as given."""
    found = intsim.certify(intsim.load(host_network()))
    assert found.verdict == "certified"
    assert [name.removeprefix("far ") for name in found.reading.inputs] == ["low", "high", "alternating", "drawn"]
    assert "far high" in found.reading.inputs
    assert len(found.reading.cut) == 1
    assert f"given {found.reading.cut[0]} of the host." in sentence(found)
    net = Net()
    x = net.quant(net.node("Sqrt", net.input(1, 4)), 0.1, 0, 4)
    y = net.quant(net.node("MatMul", x, net.quant(np.eye(4, dtype=np.float32), 1, 0, 2)), 0.25, 0, 4)
    assert intsim.certify(intsim.load(net.model(y))).verdict in ("certified", "unread")


def test_near_ties_of_the_host_are_admitted():
    """Values a hair beside ties of the host's own quantizer: either code may be, and is counted."""
    net = Net()
    x = net.node("Mul", net.input(1, 8), np.float32(0.1))
    y = net.quant(x, np.float32(0.2), 0, 8)
    model = intsim.load(
        net.model(net.quant(net.node("MatMul", y, net.quant(np.eye(8, dtype=np.float32), 1, 0, 2)), 1, 0, 8))
    )
    found = intsim.certify(model)
    assert found.verdict == "certified"


def test_corners_are_codes():
    """All low, all high, in turn, over every input of the graph; wide integers at 32 bits."""
    net = Net()
    x = net.quant(net.input(1, 3), 0.5, 2, 5)
    model = intsim.load(net.model(net.quant(net.node("MatMul", x, net.quant(np.ones((3, 2)), 1, 0, 2)), 1, 0, 8)))
    made = [(name, model.integer_inputs(i)) for name, i, coded in reading.corners(model) if coded]
    codes = {name: next(iter(c.values())).tolist() for name, c in made}
    assert codes["low"] == [[-16, -16, -16]]
    assert codes["high"] == [[15, 15, 15]]
    assert codes["alternating"] == [[-16, 15, -16]]
