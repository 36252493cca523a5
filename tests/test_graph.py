"""The integer graph: its file form, its equality, and what a damaged file does."""

import json
import zipfile
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.arithmetic.integers import IntegerType
from intsim.errors import IntsimError
from intsim.graph import LIMIT, IntegerGraph, Node, Tensor, rationals


def graph():
    made = IntegerGraph("net", inputs=["x"])
    kind = IntegerType(4, True, True)
    made.tensors["x"] = Tensor(
        "x", (1, 2), -7, 7, rationals(Fraction(1, 3)), rationals([[1, Fraction(-2, 7)]]), kind, "in"
    )
    weight = np.arange(6).reshape(2, 3)
    made.add(
        Node(
            "matmul",
            "m",
            ("x",),
            "m",
            {"zero_point": 3, "list": [1, [2, None]], "text": "1/3"},
            {"weight": weight},
            "a",
            "b",
        ),
        Tensor("m", (1, 3), -LIMIT, LIMIT, rationals(0.1), rationals(0)),
    )
    made.add(
        Node("affine", "y", ("m", "m"), "y", {}, {"coefficients": np.ones((2, 1), np.int64)}),
        replace(made.tensors["m"], name="y"),
    )
    made.outputs = ["y", "x"]
    return made


def round_trip(made, folder):
    made.save(folder / "g")
    return IntegerGraph.load(folder / "g")


def test_round_trip_is_equal(tmp_path):
    again = round_trip(graph(), tmp_path)
    assert again == graph()
    assert again.tensors["x"].scale[0] == Fraction(1, 3)
    assert again.tensors["m"].scale[0] == Fraction(0.1)
    assert again.tensors["m"].low == -LIMIT
    assert again.nodes[0].inputs == ("x",)
    assert again.nodes[0].arrays["weight"].dtype == np.int64
    assert again.tensors["x"].type == IntegerType(4, True, True)


def test_names_that_files_dislike(tmp_path):
    made = graph()
    name = "a/b:c\\ \"'\n\u2603.npz"
    made.add(
        Node("affine", name, ("m",), name, {"k": name}, {"0:w:1": np.zeros((0, 3), np.int64)}),
        replace(made.tensors["m"], name=name),
    )
    assert round_trip(made, tmp_path) == made


@given(st.lists(st.tuples(st.fractions(), st.fractions()), min_size=1, max_size=5), st.integers(-LIMIT, LIMIT))
def test_any_rational_survives(tmp_path_factory, pairs, low):
    made = graph()
    scale, offset = rationals([p[0] for p in pairs]), rationals([p[1] for p in pairs]).reshape(1, -1)
    made.tensors["x"] = replace(made.tensors["x"], scale=scale, offset=offset, low=low)
    assert round_trip(made, tmp_path_factory.mktemp("g")) == made


TENSOR_CHANGES = {
    "name": "other",
    "shape": (2, 1),
    "low": -6,
    "high": 6,
    "scale": rationals(Fraction(1, 4)),
    "onnx": None,
    "offset": rationals([[1, 0]]),
    "type": IntegerType(4, True),
}
NODE_CHANGES = {
    "op": "conv",
    "name": "n",
    "inputs": ("m",),
    "output": "o",
    "source": "c",
    "source_op": "d",
    "attributes": {"zero_point": 4},
    "arrays": {"weight": np.arange(6).reshape(3, 2)},
}


@pytest.mark.parametrize("field", TENSOR_CHANGES)
def test_a_changed_tensor_is_unequal(field):
    made, other = graph(), graph()
    other.tensors["x"] = replace(other.tensors["x"], **{field: TENSOR_CHANGES[field]})
    assert made.tensors["x"] != other.tensors["x"]
    assert made != other


@pytest.mark.parametrize("field", NODE_CHANGES)
def test_a_changed_node_is_unequal(field):
    made, other = graph(), graph()
    other.nodes[0] = replace(other.nodes[0], **{field: NODE_CHANGES[field]})
    assert made.nodes[0] != other.nodes[0]
    assert made != other


def test_a_changed_weight_or_list_is_unequal():
    for change in (
        lambda g: g.nodes[0].arrays["weight"].__setitem__((1, 2), 6),
        lambda g: g.nodes[0].arrays.update(more=np.zeros(1, np.int64)),
        lambda g: g.nodes.reverse(),
        lambda g: g.inputs.append("m"),
        lambda g: g.outputs.reverse(),
        lambda g: setattr(g, "name", "n"),
        lambda g: g.tensors.pop("y"),
    ):
        other = graph()
        change(other)
        assert other != graph()
    assert graph().nodes[0] != "a node"
    assert graph().tensors["x"] != "a tensor"


def test_scale_shape_counts():
    a = Tensor("t", (1, 1), 0, 1, rationals(1), rationals(0))
    assert a != replace(a, scale=rationals([[1]]))


def damaged(tmp_path, change=None, text=None):
    graph().save(tmp_path / "g")
    path = tmp_path / "g.json"
    document = json.loads(path.read_text())
    if change is not None:
        change(document)
        text = json.dumps(document)
    path.write_text(text)
    with pytest.raises(IntsimError, match=r"g\.json") as error:
        IntegerGraph.load(tmp_path / "g")
    assert "\n" not in str(error.value)


CHANGES = {
    "format": lambda d: d.update(format="other"),
    "no format": lambda d: d.pop("format"),
    "no tensors": lambda d: d.pop("tensors"),
    "tensors a number": lambda d: d.update(tensors=3),
    "tensors of text": lambda d: d.update(tensors=["x"]),
    "no scale": lambda d: d["tensors"][0].pop("scale"),
    "scale a word": lambda d: d["tensors"][0]["scale"].update(values=["word"]),
    "scale by zero": lambda d: d["tensors"][0]["scale"].update(values=["1/0"]),
    "scale none": lambda d: d["tensors"][0]["scale"].update(values=[None]),
    "scale shape": lambda d: d["tensors"][0]["scale"].update(shape=[7]),
    "low text": lambda d: d["tensors"][0].update(low="-7"),
    "low fraction": lambda d: d["tensors"][0].update(low=0.5),
    "too wide": lambda d: d["tensors"][0].update(high=1 << 70),
    "type": lambda d: d["tensors"][0].update(type={"bits": 4, "sign": True}),
    "impossible type": lambda d: d["tensors"][0].update(type={"bits": 400, "signed": True, "narrow": False}),
    "type a number": lambda d: d["tensors"][0].update(type=4),
    "shape text": lambda d: d["tensors"][0].update(shape="12"),
    "shape null": lambda d: d["tensors"][0].update(shape=None),
    "node key": lambda d: d["nodes"][0].update(more=1),
    "no node inputs": lambda d: d["nodes"][0].pop("inputs"),
    "node inputs null": lambda d: d["nodes"][0].update(inputs=None),
    "node a list": lambda d: d.update(nodes=[[]]),
    "undefined input": lambda d: d["nodes"][0].update(inputs=["nowhere"]),
    "undefined output": lambda d: d["nodes"][0].update(output="nowhere"),
    "undefined graph input": lambda d: d.update(inputs=["nowhere"]),
    "undefined graph output": lambda d: d.update(outputs=["nowhere"]),
    "order": lambda d: d["nodes"].reverse(),
    "inputs a number": lambda d: d.update(inputs=1),
    "attributes a list": lambda d: d["nodes"][0].update(attributes=[]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_damaged_documents(tmp_path, change):
    damaged(tmp_path, CHANGES[change])


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"text"', "{}", "\x00\xff", "[" * 100_000])
def test_files_that_are_not_documents(tmp_path, text):
    damaged(tmp_path, text=text)


def test_a_document_that_is_not_utf8(tmp_path):
    graph().save(tmp_path / "g")
    (tmp_path / "g.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(IntsimError, match=r"g\.json"):
        IntegerGraph.load(tmp_path / "g")


def test_missing_files(tmp_path):
    with pytest.raises(IntsimError, match=r"g\.json"):
        IntegerGraph.load(tmp_path / "g")
    graph().save(tmp_path / "g")
    (tmp_path / "g.npz").unlink()
    with pytest.raises(IntsimError, match=r"g\.json"):
        IntegerGraph.load(tmp_path / "g")


@pytest.mark.parametrize("cut", [0, 1, 20, 200, -30])
def test_truncated_arrays(tmp_path, cut):
    graph().save(tmp_path / "g")
    path = tmp_path / "g.npz"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(IntsimError, match=r"g\.json"):
        IntegerGraph.load(tmp_path / "g")


def test_every_flipped_byte_of_the_arrays(tmp_path):
    graph().save(tmp_path / "g")
    path = tmp_path / "g.npz"
    data = path.read_bytes()
    errors = 0
    for position in range(len(data)):
        broken = bytearray(data)
        broken[position] ^= 0x55
        path.write_bytes(broken)
        try:
            IntegerGraph.load(tmp_path / "g")
        except IntsimError:
            errors += 1
    assert errors > len(data) // 3


def test_arrays_that_are_missing_pickled_or_not_integers(tmp_path):
    for arrays in (
        {},
        {"0:weight": np.array([{}], object)},
        {"0:weight": np.ones((2, 3)), "1:coefficients": np.ones((2, 1))},
    ):
        graph().save(tmp_path / "g")
        np.savez(tmp_path / "g.npz", **arrays)
        with pytest.raises(IntsimError, match=r"g\.json"):
            IntegerGraph.load(tmp_path / "g")
    with zipfile.ZipFile(tmp_path / "g.npz", "w") as file:
        file.writestr("0:weight.npy", b"nothing")
    with pytest.raises(IntsimError, match=r"g\.json"):
        IntegerGraph.load(tmp_path / "g")


def test_range_limits():
    with pytest.raises(IntsimError, match="65 bits"):
        Tensor("t", (1,), 0, 1 << 63, rationals(1), rationals(0))
    with pytest.raises(IntsimError, match="64"):
        Tensor("t", (1,), -(1 << 63), 0, rationals(1), rationals(0))


def test_producers_and_consumers():
    made = graph()
    assert made.producer("x") is None
    assert made.producer("m") is made.nodes[0]
    assert made.consumers() == {"x": [made.nodes[0]], "m": [made.nodes[1]], "y": []}
    with pytest.raises(IntsimError, match="made twice"):
        made.add(made.nodes[0], made.tensors["m"])


def test_rationals():
    assert rationals(np.float32(0.1))[0] == Fraction(13421773, 134217728)
    assert rationals([[1, 2.5], [Fraction(1, 3), np.int8(-4)]])[1, 1] == -4
    assert rationals(np.float64(0.1))[0] == Fraction(0.1)
    assert rationals(np.uint64(2**64 - 1))[0] == 2**64 - 1
    assert rationals(3).shape == (1,)
