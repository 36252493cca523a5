"""Refusals are true, one line, and say what to do: never "no integer form" where there is one."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import intsim
from frontend.build import QONNX, Net
from intsim.frontend.reader import read
from intsim.frontend.refusals import MOST_SAID, summary


def refusal(model) -> str:
    """One line that names the file."""
    with pytest.raises(intsim.IntsimError) as error:
        intsim.load(model)
    text = str(error.value)
    assert text.isprintable()
    assert "no exact integer form" not in text
    assert text.startswith("<model>: " if isinstance(model, onnx.ModelProto) else f"{model}: ")
    return text


def archive() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as z:
        z.writestr("model/data.pkl", pickle.dumps({"w": [1.0]}))
    return held.getvalue()


OTHER_FILES = {
    "pt": (archive(), ["zip archive", "torch.save", "brevitas.export"]),
    "old.pt": (pickle.dumps({"w": [1.0]}, protocol=2), ["pickle", "brevitas.export"]),
    "new.pkl": (pickle.dumps({"w": [1.0]}, protocol=5), ["pickle", "brevitas.export"]),
    "tflite": (b"\x1c\x00\x00\x00TFL3\x14\x00\x20\x00" + bytes(200), ["version 0 of the .tflite schema"]),
    "h5": (b"\x89HDF\r\n\x1a\n" + bytes(100), ["HDF5"]),
    "gguf": (b"GGUF" + bytes(100), ["GGUF"]),
    "txt": (b"only a line of text\n" * 9, ["not an ONNX file"]),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_files_of_other_kinds(tmp_path, kind):
    data, words = OTHER_FILES[kind]
    path = tmp_path / f"m.{kind}"
    path.write_bytes(data)
    text = refusal(path)
    for word in words:
        assert word in text
    with pytest.raises(intsim.IntsimError):  # the name decides nothing
        read(path.rename(tmp_path / "m.onnx"))


def test_an_onnx_file_that_holds_such_bytes_is_one(tmp_path):
    """Bytes 4 to 8 of a file whose producer is called so."""
    net = Net()
    model = net.model(net.quant(net.input(1, 4)))
    model.ClearField("ir_version")
    model.producer_name = "TFL3"
    path = tmp_path / "m.tflite"
    path.write_bytes(b"\x08\x09" + model.SerializeToString())
    assert path.read_bytes()[4:8] == b"TFL3"
    intsim.load(path)


def dynamic(net):
    q, s, z = net.node("DynamicQuantizeLinear", net.input(2, 4), outputs=3)
    y = net.node("MatMulInteger", q, np.int8(np.ones((4, 3))), z)
    return net.node("Mul", net.node("Cast", y, to=TensorProto.FLOAT), s)


def weight_only(net):
    w = net.node("DequantizeLinear", np.int8(np.ones((4, 3))), np.float32(0.5), np.int8(0))
    return net.node("MatMul", net.input(2, 4), w)


def weight_only_qonnx(net):
    return net.node("Relu", net.node("Gemm", net.input(2, 4), net.quant(np.ones((4, 3), np.float32))))


def packed_weights(net):
    at = {"K": 32, "N": 2, "bits": 4, "block_size": 32}
    packed, scales = np.uint8(np.ones((2, 1, 16))), np.float32([1, 1])
    return net.node("MatMulNBits", net.input(2, 32), packed, scales, domain="com.microsoft", **at)


def lstm(net):
    return net.node("QuantLSTMCell", net.quant(net.input(2, 4)), domain=QONNX)


WHOLE = {
    dynamic: ["(DynamicQuantizeLinear): DynamicQuantizeLinear is not supported", "calibration", "--islands"],
    weight_only: ["node MatMul_", "only its weights are integers", "quantize the activations too"],
    weight_only_qonnx: ["node Gemm_", "only its weights are integers", "quantize the activations too"],
    packed_weights: ["com.microsoft.MatMulNBits is not supported", "weight-only", "quantize the activations too"],
    lstm: ["(QuantLSTMCell): has 1 inputs, not the 48"],
}


@pytest.mark.parametrize("make", WHOLE)
def test_networks_of_another_kind(make):
    net = Net()
    text = refusal(net.model(make(net)))
    for word in WHOLE[make]:
        assert word in text


def two(net):
    return net.quant(net.input(2, 4)), net.quant(net.input(2, 4, name="second"), 0.25)


BETWEEN = {
    "ReduceProd": lambda n, x, y: n.node("ReduceProd", x, axes=[1]),
    "TopK": lambda n, x, y: n.node("TopK", x, np.int64([2]), outputs=2)[0],
}


@pytest.mark.parametrize("op", BETWEEN)
def test_operators_that_are_not_there_yet(op):
    net = Net()
    text = refusal(net.model(net.quant(BETWEEN[op](net, *two(net)))))
    assert f"node {op}_" in text
    assert f"({op}): {op} is not supported between quantizers" in text


def test_where_needs_a_constant_condition():
    net = Net()
    x, y = two(net)
    condition = net.input(2, 4, name="c", kind=TensorProto.BOOL)
    assert "(Where): its condition is not a constant" in refusal(
        net.model(net.quant(net.node("Where", condition, x, y)))
    )


def test_a_function_that_meets_another_tensor_needs_a_quantizer_and_has_one_then():
    """The advice is followed."""
    net = Net()
    x, y = two(net)
    x = net.node("Mul", x, x)  # an accumulator: no table of its function stands on a grid
    assert "put a quantizer behind Erf" in refusal(net.model(net.quant(net.node("Mul", net.node("Erf", x), y))))
    net = Net()
    x, y = two(net)
    x = net.node("Mul", x, x)
    intsim.load(net.model(net.quant(net.node("Mul", net.quant(net.node("Erf", x)), y))))


def test_what_takes_codes_to_the_host_is_named_not_the_dequantizer():
    net = Net()
    q = net.node("QuantizeLinear", net.input(1, 4), np.float32(0.5), np.int8(0))
    c = net.node("TopK", q, np.int64([2]), outputs=2)[0]
    x = net.node("DequantizeLinear", net.node("Identity", c), np.float32(0.5), np.int8(0))
    text = refusal(net.model(net.quant(x)))
    assert "node TopK_" in text
    assert "(TopK): TopK is not supported between quantizers" in text


def test_positions_that_can_leave_a_table():
    """ONNX's positions are int32 or int64: no advice to take another type, but to say what they can be."""
    net = Net()
    table = net.quant(np.float32(np.ones((10, 4))))
    ids = net.input(3, name="ids", kind=TensorProto.INT64)
    y = net.node("Gather", table, net.node("Add", ids, np.int32(2).astype(np.int64)))
    text = refusal(net.model(net.quant(y)))
    assert "its table has 10 entries; say what the input can hold (--range ids=LOW:HIGH)" in text
    assert intsim.load(net.model(net.quant(y)), ranges={"ids": (0, 7)}).run({"ids": np.int64([0, 3, 7])}).outputs


def test_shapes_behind_the_last_quantizer_are_measured():
    """Also of tensors that the host makes of integers."""
    net = Net()
    x = net.quant(net.input(2, 6))
    y = net.node("Exp", net.node("LogSoftmax", x))
    shape = net.node(
        "Concat", net.node("Slice", net.node("Shape", y), np.int64([0]), np.int64([1])), np.int64([2, 3]), axis=0
    )
    out = intsim.run(net.model(net.node("Reshape", y, shape)), inputs={"x": np.zeros((2, 6), np.float32)}).outputs
    assert next(iter(out.values())).shape == (2, 2, 3)


def test_many_refusals_are_one_line():
    """The same of one operator once, advice once, the rest counted."""
    text = summary([(f"n{i}", "a.B", "a.B is not supported; do this") for i in range(5)])
    assert text == "node n0 (a.B) and 4 more: a.B is not supported; do this"
    text = summary([("n", "A", "A is not supported; do this"), ("m", "B", "B is not supported; do this")])
    assert text == "node n (A): A is not supported; do this; node m (B): B is not supported"
    text = summary([(f"n{i}", f"o{i}", f"o{i} is not supported") for i in range(MOST_SAID + 3)])
    assert text.endswith("; and 3 more nodes")
    assert summary([("n", "A", "its bias is odd"), ("n", "A", "its bias is odd")]) == "node n (A): its bias is odd"


@pytest.mark.parametrize(
    ("op", "extra", "attributes", "text"),
    [
        ("Add", (np.float32(1), np.float32(2)), {}, r"\(Add\): it has 3 inputs, ONNX's Add takes 2"),
        ("Relu", (np.float32(1),), {}, r"\(Relu\): it has 2 inputs, ONNX's Relu takes 1"),
        ("Mul", (), {}, r"\(Mul\): it has 1 inputs, ONNX's Mul takes 2"),
        ("Conv", ("",), {}, r"\(Conv\): its input W is left out, which ONNX's Conv needs"),
        ("Clip", (np.zeros(0, np.float32),), {}, r"\(Clip\): its bound holds no number"),
        (
            "BatchNormalization",
            (np.ones((3, 1), np.float32), *[np.ones(3, np.float32)] * 3),
            {},
            r"shape \(3, 1\) for 3",
        ),
        ("BatchNormalization", (np.ones(1, np.float32), *[np.ones(3, np.float32)] * 3), {}, r"shape \(1,\) for 3"),
    ],
)
def test_what_onnx_gives_no_meaning_to(op, extra, attributes, text):
    """Executors read such nodes each in its own way, if at all."""
    net = Net(17)
    y = net.node(op, net.quant(net.input(1, 3, 4, 4), 0.5, 0, 4), *extra, **attributes)
    with pytest.raises(intsim.IntsimError, match=text):
        intsim.load(net.model(net.quant(y, 1, 0, 8)))
