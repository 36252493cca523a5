"""Gather from a quantized table at integers of an input: what these are assumed to be, and what is checked."""

import json

import numpy as np
import pytest
from onnx import TensorProto
from typer.testing import CliRunner

import intsim
from intsim.cli import app
from intsim.errors import IntsimError
from intsim.inputs import draw

from .build import Net, check

RNG = np.random.default_rng(4)
TABLE = RNG.normal(0, 1, (10, 6)).astype(np.float32)
KINDS = {"int64": TensorProto.INT64, "int32": TensorProto.INT32, "uint8": TensorProto.UINT8}


def embedding(kind="int64", between=(), form="qcdq", by_entry=False, table=TABLE, axis=0, shape=(2, 5)):
    """ids, a quantized table, a matrix product, a quantizer."""
    net = Net(18)
    x = net.input(*shape, name="ids", kind=KINDS[kind])
    for op, more, attributes in between:
        x = net.node(op, x, *more, **attributes)
    if kind == "uint8":
        x = net.node("Cast", x, to=TensorProto.INT64)
    scale = np.float32(RNG.uniform(0.01, 0.02, (len(table), 1))) if by_entry else np.float32(0.02)
    if form == "qonnx":
        fixed = net.quant(net.const(table), scale, 0, 8)
    else:
        codes = np.clip(np.round(table / scale), -128, 127).astype(np.int8)
        zero = np.zeros(len(table) if by_entry else (), np.int8)
        fixed = net.node("DequantizeLinear", codes, scale.reshape(-1) if by_entry else scale, zero, axis=0)
    y = net.node("Gather", fixed, x, axis=axis)
    y = net.qdq(y, 0.02, np.int8(1)) if by_entry else y
    y = net.node("MatMul", y, net.quant(net.const(RNG.normal(0, 1, (6, 3))), 0.1, 0, 4)) if axis == 0 else y
    return net.model(net.qdq(y, 0.1, np.int8(0)))


@pytest.mark.parametrize("form", ["qcdq", "qonnx"])
@pytest.mark.parametrize("by_entry", [False, True], ids=["one scale", "a scale an entry"])
@pytest.mark.parametrize("kind", KINDS)
def test_positions_are_those_of_the_table(kind, by_entry, form):
    model = embedding(kind, form=form, by_entry=by_entry)
    loaded = intsim.load(model)
    low, high = loaded.lowered.source.ranges["ids"]
    assert (low, high) == (0 if kind == "uint8" else -10, 9)
    ids = np.arange(low, low + 10).reshape(2, 5)
    check(model, {"ids": ids})
    drawn = np.concatenate([draw(loaded, seed)["ids"].reshape(-1) for seed in range(20)])
    assert low <= drawn.min() <= drawn.max() <= high
    assert {low, high} <= set(drawn.tolist())
    verdict = intsim.verify(loaded, samples=2, references=False)
    assert verdict.verdict == "exact"


def test_a_negative_position_counts_from_the_end():
    model = embedding()
    ids = np.arange(10).reshape(2, 5)
    front, back = (intsim.run(model, inputs={"ids": i}) for i in (ids, ids - 10))
    np.testing.assert_array_equal(*(next(iter(r.outputs.values())) for r in (front, back)))


BETWEEN = {
    "cast": [("Cast", (), {"to": TensorProto.INT32})],
    "reshape": [("Reshape", (np.int64([10]),), {})],
    "both": [("Unsqueeze", (np.int64([0]),), {}), ("Identity", (), {}), ("Cast", (), {"to": TensorProto.INT64})],
}


@pytest.mark.parametrize("between", BETWEEN)
def test_what_hands_on_every_position(between):
    model = embedding(between=BETWEEN[between])
    assert intsim.load(model).lowered.source.ranges == {"ids": (-10, 9)}
    check(model, {"ids": np.arange(-5, 5).reshape(2, 5)})


def test_another_axis_and_two_tables():
    model = embedding(axis=1)
    assert intsim.load(model).lowered.source.ranges == {"ids": (-6, 5)}
    check(model, {"ids": np.arange(-4, 6).reshape(2, 5)})
    net = Net()
    ids = net.input(4, name="ids", kind=TensorProto.INT64)
    parts = [net.node("Gather", net.quant(net.const(TABLE[:n]), 0.02, 0, 8), ids) for n in (10, 7)]
    model = net.model(net.quant(net.node("Add", *parts), 0.05, 0, 8))
    assert intsim.load(model).lowered.source.ranges == {"ids": (-7, 6)}
    check(model, {"ids": np.array([0, 6, -7, 3])})


@pytest.mark.parametrize("one", ["Slice", "Cast"])
def test_integers_that_may_be_no_position_are_not_narrowed(one):
    """Of a part of them nothing is known of the others; a Cast to fewer bits makes other integers."""
    if one == "Slice":
        between = [("Slice", (np.int64([0]), np.int64([1]), np.int64([0])), {})]
    else:
        between = [("Cast", (), {"to": TensorProto.INT8})]
    table = RNG.normal(0, 1, (200, 6)).astype(np.float32)
    model = embedding(between=between, table=table)
    if one == "Cast":
        with pytest.raises(IntsimError, match="wraps around int8"):
            intsim.load(model)
        ids = np.array([[0, 127, 128, -1, 300]] * 2)
        codes = [
            next(iter(intsim.load(model, ranges={"ids": (-300, 300)}).run({"ids": i}).outputs.values()))
            for i in (ids, ids.astype(np.int8).astype(np.int64))
        ]
        np.testing.assert_array_equal(*codes)
        return
    with pytest.raises(IntsimError, match=r"--range ids=0:199"):
        intsim.load(model)
    loaded = intsim.load(model, ranges={"ids": (0, 199)})
    assert loaded.run({"ids": np.full((2, 5), 199)}).outputs


def test_a_given_range_is_checked_and_assumed():
    model = embedding()
    loaded = intsim.load(model, ranges={"ids": (2, 4)})
    assert {n: (t.low, t.high) for n, t in loaded.graph.tensors.items() if n == "ids"} == {"ids": (2, 4)}
    ids = np.full((2, 5), 3)
    ids[1, 2] = 5
    with pytest.raises(IntsimError, match=r"input ids: 5 at \[1, 2\] leaves 2\.\.4; --range"):
        loaded.run({"ids": ids})
    whole, part = (intsim.bounds(m, "x86-vnni").layers[0] for m in (intsim.load(model), loaded))
    assert part.high <= whole.high
    assert intsim.certify(loaded).model["input_ranges"] == {"ids": [2, 4]}
    for ranges, text in (
        ({"x": (0, 1)}, r"no input named 'x' to give a range; its inputs are ids"),
        ({"ids": (3, 2)}, r"3\.\.2 is no range of int64"),
        ({"ids": (0, 1 << 62)}, r"is no range of int64"),
        ({"ids": (0, 20)}, r"positions reach 0\.\.20, its table has 10 entries; .*--range ids=0:9"),
    ):
        with pytest.raises(IntsimError, match=text):
            intsim.load(model, ranges=ranges)
    net = Net()
    real = net.model(net.quant(net.input(2), 0.1, 0, 8))
    with pytest.raises(IntsimError, match="a range is for integers, it is float"):
        intsim.load(real, ranges={"x": (0, 1)})


def test_scales_of_entries_without_a_common_step_are_refused():
    net = Net()
    ids = net.input(4, name="ids", kind=TensorProto.INT64)
    scale = np.float32([[1e-30], [1.7]])
    table = net.node("DequantizeLinear", np.int8([[1, 2], [3, 4]]), scale.reshape(-1), np.zeros(2, np.int8), axis=0)
    with pytest.raises(IntsimError, match="in steps of all of them its integers need"):
        intsim.load(net.model(net.quant(net.node("Gather", table, ids), 0.05, 0, 8)))


def test_the_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokens.onnx").write_bytes(embedding().SerializeToString())
    np.savez(tmp_path / "ids.npz", ids=np.array([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]))

    def called(*words):
        done = CliRunner().invoke(app, [*words])
        return done.exit_code, done.stdout, done.exception

    code, text, _ = called("inspect", "tokens.onnx", "--range", "ids=0:9", "--json")
    assert code == 0
    assert json.loads(text)["input_ranges"] == {"ids": [0, 9]}
    assert called("run", "tokens.onnx", "--range", "ids=0:9", "-i", "ids.npz")[0] == 0
    assert called("certify", "tokens.onnx", "--range", "ids=0:9", "-o", "made.json")[0] == 0
    code, text, _ = called("certify", "--check", "made.json", "--json")
    assert code == 0, text
    assert json.loads((tmp_path / "made.json").read_text())["model"]["input_ranges"] == {"ids": [0, 9]}
    code, _, error = called("run", "tokens.onnx", "--range", "ids=0:8", "-i", "ids.npz")
    assert isinstance(error, IntsimError)
    assert "input ids: 9 at [1, 4] leaves 0..8" in str(error)
    for text in ("ids=0", "ids=0:x", "ids"):
        assert "--range" in str(called("run", "tokens.onnx", "--range", text)[2])
