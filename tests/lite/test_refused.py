"""What a .tflite file may not hold: one line that names file, operator and tensor."""

import contextlib
import random
import sys

import numpy as np
import pytest

import intsim
from intsim.frontend.tflite import schema
from tests.lite.build import SAME, VALID, Net
from tests.lite.cases import CASES


def network(**changes):
    """A convolution whose parts can be changed."""
    c = {"x": {}, "w": {}, "b": {}, "y": {}, "options": {}, "kind": "CONV_2D", "table": "Conv2DOptions", **changes}
    net = Net()
    x = net.tensor(**{"name": "x", "shape": [1, 4, 4, 2], "scale": 0.1, "zero": 3, **c["x"]})
    weight = np.ones((3, 2, 2, 2), int)
    w = net.tensor(**{"name": "w", "shape": [3, 2, 2, 2], "data": weight, "scale": [0.1, 0.2, 0.3], **c["w"]})
    b = net.tensor(**{"name": "b", "shape": [3], "dtype": "int32", "data": [1, 2, 3], **c["b"]})
    y = net.tensor(**{"name": "y", "shape": [1, 3, 3, 3], "scale": 0.2, "zero": 0, **c["y"]})
    options = {"Padding": VALID, "StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
    net.operator(c["kind"], [x, w, b], y, c["table"], **({**options, **c["options"]} if c["table"] else {}))
    net.inputs, net.outputs = [x], [y]
    return net


def chain(kind, table=None, shape=(1, 4), out=None, constants=(), custom=None, **options):
    """One operator on a small tensor."""
    net = Net()
    x = net.tensor("x", shape, scale=0.1, zero=3)
    y = net.tensor("y", out or shape, scale=0.1, zero=3)
    net.operator(kind, [x, *(net.constant(f"c{i}", c) for i, c in enumerate(constants))], y, table, custom, **options)
    net.inputs, net.outputs = [x], [y]
    return net


REFUSED = {
    "weights and a float": (network(x={"scale": None, "dtype": "float32"}), "its tensor x is float32, in the middle"),
    "float result": (network(y={"scale": None, "dtype": "float32"}), "its tensor y is float32, in the middle"),
    "float weights": (network(w={"dtype": "float32", "scale": None}), "weights w are float32, not quantized"),
    "weights from the data": (network(w={"data": None}), "weights w are computed at run time"),
    "no scale": (network(x={"scale": None}), "its tensor x is int8 without a scale"),
    "scale of zero": (network(y={"scale": 0.0}), "tensor y: its scale is not a positive number"),
    "scale NaN": (network(x={"scale": float("nan")}), "tensor x: its scale is not a positive number"),
    "zero point": (network(x={"zero": 300}), "tensor x: its zero point is outside of INT8"),
    "16 bits with zero point": (network(x={"dtype": "int16", "zero": 3}), "int16 tensor x has zero point 3"),
    "weights with zero point": (network(w={"zero": 1}), "weights w have a zero point"),
    "scales of another axis": (
        network(w={"shape": [3, 2, 3, 2], "data": np.ones((3, 2, 3, 2)), "axis": 2}, y={"shape": [1, 3, 2, 3]}),
        "have scales along axis 2; output channels are 0",
    ),
    "scales too many": (network(w={"scale": [0.1, 0.2]}), "has 2 scales for axis 0 of shape [3, 2, 2, 2]"),
    "activations by channel": (network(x={"scale": [0.1, 0.2], "axis": 3}), "has a scale for each channel"),
    "bias of floats": (network(b={"dtype": "float32"}), "bias b is not a constant of 32 or 64 bits"),
    "bias too long": (network(b={"shape": [4], "data": [1] * 4}), "bias b has shape [4], it has 3 output channels"),
    "bias with zero point": (network(b={"scale": 0.1, "zero": 1}), "bias b has a zero point"),
    "unsigned with signed": (network(x={"dtype": "uint8"}), "weights w are int8, its input uint8"),
    "another shape": (network(y={"shape": [1, 4, 4, 3]}), "it makes y of shape [1, 3, 3, 3], the file declares"),
    "stride of zero": (network(options={"StrideH": 0}), "its strides are [0, 1]"),
    "no such padding": (network(options={"Padding": 7}), "its padding is 7"),
    "activation": (network(options={"FusedActivationFunction": 4}), "its fused activation TANH is not supported"),
    "no options": (network(table=None), "has no Conv2DOptions"),
    "window too large": (network(options={"DilationHFactor": 9}), "its window [2, 2] is larger than its input [4, 4]"),
    "window without end": (network(options={"DilationHFactor": 1 << 30}), "its window spans 1073741825 elements"),
    "empty shape": (network(x={"shape": [1, 0, 4, 2]}), "tensor x: dynamic or empty shape [1, 0, 4, 2]"),
    "open shape": (network(x={"shape": [1, -1, 4, 2]}), "tensor x: dynamic or empty shape [1, -1, 4, 2]"),
    "enormous": (network(y={"shape": [1 << 15] * 2}), "has more than the 268435456 elements"),
    "variable": (network(x={"IsVariable": True}), "tensor x: is a variable"),
    "sparse": (network(w={"Sparsity": 1}), "tensor w: is stored sparse"),
    "half floats": (network(w={"kind": 1, "data": bytes(48), "scale": None}), "constants of type FLOAT16"),
    "unknown": (chain("FLOOR"), "node 0:y (FLOOR): FLOOR is not supported"),
    "custom": (chain("CUSTOM", custom="Hartley"), "node 0:y (CUSTOM Hartley): CUSTOM Hartley is not supported"),
    "shape of the data": (chain("RESHAPE", constants=()), ""),
    "reshape": (chain("RESHAPE", constants=[[3, -1]]), "its shape [3, -1] doesn't hold the elements of [1, 4]"),
    "transpose": (chain("TRANSPOSE", constants=[[0, 0]]), "its permutation [0, 0] doesn't fit 2 axes"),
    "mean": (chain("MEAN", "ReducerOptions", constants=[[5]]), "its axes [5] are outside of 2 axes"),
    "concatenation": (
        chain("CONCATENATION", "ConcatenationOptions", Axis=1, FusedActivationFunction=1),
        "it has a fused activation, with which TensorFlow Lite refuses it; put a RELU behind it",
    ),
    "pads": (chain("PAD", constants=[[[1, 1]]]), "its paddings [1, 1] don't fit 2 axes"),
    "slice": (chain("SLICE", constants=[[0, 3], [1, 2]]), "leave its input's shape [1, 4]"),
    "ellipsis": (
        chain("STRIDED_SLICE", "StridedSliceOptions", constants=[[0], [1], [1]], EllipsisMask=1),
        "its ellipsis, its new axes or its offset are not supported",
    ),
    "split": (
        chain("SPLIT_V", "SplitVOptions", constants=[[3], np.array(1)], NumSplits=1),
        "it splits 4 elements of axis 1 into 1 parts of sizes [3]",
    ),
    "softmax": (chain("SOFTMAX", "SoftmaxOptions", Beta=-1.0), "its beta -1"),
    "resize": (
        chain("RESIZE_BILINEAR", "ResizeBilinearOptions", (1, 2, 2, 1), (1, 4, 4, 1), [[4, 4]], None,
              AlignCorners=1, HalfPixelCenters=1),
        "which exclude each other",
    ),
    "resize without end": (
        chain("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions", (1, 2, 2, 1), (1, 4, 4, 1), [[1 << 30, 1]]),
        "its size [1073741824, 1] is not a height and a width of 1 to 65536",
    ),
    "scale so small that 6 has no code": (
        network(y={"scale": 1e-38, "zero": 0}, options={"FusedActivationFunction": 3}),
        "the bound 6 of its activation is no code of y",
    ),
    "average of a matrix": (
        chain("AVERAGE_POOL_2D", "Pool2DOptions", StrideH=1, StrideW=1, FilterHeight=1, FilterWidth=1, Padding=SAME),
        "its input x has shape [1, 4], not N, H, W, C",
    ),
}  # fmt: skip
REFUSED.pop("shape of the data")


def refusal(tmp_path, data):
    path = tmp_path / "m.tflite"
    path.write_bytes(data)
    with pytest.raises(intsim.IntsimError) as caught:
        intsim.load(path)
    text = str(caught.value)
    assert text.isprintable()
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_why(name, tmp_path):
    net, words = REFUSED[name]
    assert words in refusal(tmp_path, net.bytes())


def test_the_network_that_is_changed_is_fine(tmp_path):
    (tmp_path / "m.tflite").write_bytes(network().bytes())
    intsim.load(tmp_path / "m.tflite")


def test_several_refusals_are_one_line(tmp_path):
    net = chain("FLOOR")
    z = net.tensor("z", [1, 4], scale=0.1)
    net.operator("CEIL", [net.outputs[0]], z)
    net.outputs = [z]
    assert refusal(tmp_path, net.bytes()) == (
        "node 0:y (FLOOR): FLOOR is not supported; node 1:z (CEIL): CEIL is not supported"
    )


def test_whole_files_that_are_refused(tmp_path):
    assert "holds 2 subgraphs; one is supported" in refusal(tmp_path, network().bytes(subgraphs=2))
    assert "has version 2 of the .tflite schema" in refusal(tmp_path, network().bytes(version=2))
    net = network()
    net.outputs = []
    assert refusal(tmp_path, net.bytes()) == "the graph has no output"
    net = network()
    net.outputs = [net.inputs[0]]
    assert refusal(tmp_path, net.bytes()) == "output x is made by no operator"


def test_without_the_package_the_line_says_what_to_install(tmp_path, monkeypatch):
    schema.package.cache_clear()
    monkeypatch.setitem(sys.modules, "tflite", None)
    try:
        assert refusal(tmp_path, network().bytes()) == schema.INSTALL
    finally:
        schema.package.cache_clear()


def damaged(data, rng):
    """The bytes, cut short, or with some of them changed."""
    kind = rng.randrange(4)
    if kind == 0:
        return data[: rng.randrange(8, len(data))]
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        at = rng.randrange(8 if kind == 1 else 0, len(out))
        out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        if kind == 3:
            at = rng.randrange(0, len(out) - 4) & ~3
            out[at : at + 4] = rng.randrange(1 << 32).to_bytes(4, "little")
    out[4:8] = b"TFL3"
    return bytes(out)


@pytest.mark.parametrize("name", ["conv", "depthwise", "fully_connected", "strided_slice", "split", "add", "mean"])
def test_damaged_bytes_end_in_one_line(name, tmp_path):
    """A file that is still read is one whose damage doesn't matter, or changes numbers alone."""
    data = CASES[name](np.random.default_rng(5), "int8").bytes()
    rng, lines = random.Random(name), 0
    path = tmp_path / "m.tflite"
    for _ in range(150):
        path.write_bytes(damaged(data, rng))
        with contextlib.suppress(intsim.IntsimError):
            intsim.load(path)
            continue
        refusal(tmp_path, path.read_bytes())
        lines += 1
    assert lines > 60
