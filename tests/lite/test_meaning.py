"""What a .tflite file means, on numbers worked out by hand: layouts, padding, biases, scales, clamps, names."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import intsim
from intsim import cli
from tests.lite.build import ACT, SAME, VALID, Net


def loaded(net, tmp_path, name="m"):
    path = tmp_path / f"{name}.tflite"
    path.write_bytes(net.bytes())
    return intsim.load(path)


def conv_net(x_shape, weight, bias=None, out=None, padding=VALID, stride=(1, 1), x=(1.0, 0), y=(1.0, 0), scales=1.0,
             dilation=(1, 1), activation="none", dtype="int8", bias_type="int32", depthwise=0, kind=None):  # fmt: skip
    net = Net()
    a = net.tensor("image", x_shape, dtype, scale=x[0], zero=x[1])
    w = net.tensor("kernel", np.shape(weight), "int8", weight, scales, 0, 3 if depthwise else 0, kind=kind)
    inputs = [a, w]
    if bias is not None:
        # a scale far off: kernels add a bias as it is
        inputs.append(net.tensor("bias", np.shape(bias), bias_type, bias, np.float32(0.3), 0))
    b = net.tensor("features", out, dtype, scale=y[0], zero=y[1])
    more = {"DepthMultiplier": depthwise} if depthwise else {}
    net.operator("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", inputs, b,
                 "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions", Padding=padding, StrideH=stride[0],
                 StrideW=stride[1], DilationHFactor=dilation[0], DilationWFactor=dilation[1],
                 FusedActivationFunction=ACT[activation], **more)  # fmt: skip
    net.inputs, net.outputs = [a], [b]
    return net


def test_height_width_and_channels_are_where_the_file_has_them(tmp_path):
    # one output channel that takes channel 2 of the pixel one below and two to the right
    weight = np.zeros((1, 2, 3, 3), int)
    weight[0, 1, 2, 2] = 1
    model = loaded(conv_net([1, 3, 4, 3], weight, out=[1, 2, 2, 1]), tmp_path)
    x = np.arange(36).reshape(1, 3, 4, 3)
    y = intsim.run(model, inputs={"image": x}).outputs["features"]
    assert y.dtype == np.int8
    np.testing.assert_array_equal(y[0, :, :, 0], x[0, 1:, 2:, 2])


@pytest.mark.parametrize(("size", "expected"), [(4, [3, 5, 7, 4]), (5, [3, 7, 5])])
def test_same_padding_puts_the_odd_row_behind(size, expected, tmp_path):
    # kernel 2: one column is added, behind; stride 2 on 5: (3 - 1) * 2 + 2 - 5 = 1, behind
    stride = 1 if size == 4 else 2
    net = conv_net([1, 1, size, 1], [[[[1], [1]]]], out=[1, 1, len(expected), 1], padding=SAME, stride=(1, stride))
    y = intsim.run(loaded(net, tmp_path), inputs={"image": np.arange(1, size + 1).reshape(1, 1, size, 1)})
    assert y.outputs["features"].reshape(-1).tolist() == expected


def test_padding_means_the_real_number_zero(tmp_path):
    # the code 10 means 0; the sums of what lies inside are (12 - 10) and (12 - 10) + (13 - 10)
    net = conv_net([1, 1, 2, 1], [[[[1], [1], [1]]]], out=[1, 1, 2, 1], padding=SAME, x=(1.0, 10), y=(1.0, 5))
    y = intsim.run(loaded(net, tmp_path), inputs={"image": np.array([12, 13]).reshape(1, 1, 2, 1)})
    assert y.outputs["features"].reshape(-1).tolist() == [10, 10]


def test_scales_belong_to_output_channels(tmp_path):
    net = conv_net([1, 1, 1, 1], np.full((3, 1, 1, 1), 4), out=[1, 1, 1, 3], scales=[0.5, 1.0, 0.25], x=(1.0, 0))
    y = intsim.run(loaded(net, tmp_path), inputs={"image": np.full((1, 1, 1, 1), 6)})
    assert y.outputs["features"].reshape(-1).tolist() == [12, 24, 6]


def test_depthwise_channels_of_one_input_channel_lie_together(tmp_path):
    weight = np.array([1, 2, 10, 20]).reshape(1, 1, 1, 4)
    net = conv_net([1, 1, 1, 2], weight, out=[1, 1, 1, 4], depthwise=2, scales=[1.0, 1.0, 1.0, 0.5])
    y = intsim.run(loaded(net, tmp_path), inputs={"image": np.array([3, 5]).reshape(1, 1, 1, 2)})
    assert y.outputs["features"].reshape(-1).tolist() == [3, 6, 50, 50]


def test_a_bias_is_the_integer_of_the_file(tmp_path):
    """Its scale, float32(sx sw), is no exact product, and codes above 2^24 would be rounded by it."""
    bias = [2**30 + 1, -(2**31), 2**31 - 1]
    x, scales = (0.1, 3), np.float32([0.0123, 0.37, 1e-5])
    net = conv_net([1, 2, 2, 1], np.ones((3, 1, 1, 1), int), bias, [1, 2, 2, 3], x=x, scales=scales)
    node = next(n for n in loaded(net, tmp_path).graph.nodes if n.op == "conv")
    assert node.arrays["bias"].tolist() == bias
    tensor = loaded(net, tmp_path).graph.tensors[node.output]
    assert all(v == 0 for v in tensor.offset.reshape(-1))


def test_a_bias_of_64_bits_is_the_integer_of_the_file(tmp_path):
    bias = [2**40 + 7, -(2**45) - 1, 5]
    net = conv_net([1, 2, 2, 1], np.ones((3, 1, 1, 1), int), bias, [1, 2, 2, 3], dtype="int16", bias_type="int64",
                   x=(0.001, 0), scales=np.float32([0.0123, 0.37, 1e-5]))  # fmt: skip
    node = next(n for n in loaded(net, tmp_path).graph.nodes if n.op == "conv")
    assert node.arrays["bias"].tolist() == bias


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("none", [-125, -1, 3, 127]),
        ("relu", [3, 3, 3, 127]),
        ("relu6", [3, 3, 3, 27]),
        ("relu_n1_to_1", [-1, -1, 3, 7]),
    ],
)
def test_fused_activations_clamp_codes(activation, expected, tmp_path):
    # y = x, scale 1/4, zero point 3: the codes of 0, 6, -1 and 1 are 3, 27, -1 and 7
    net = conv_net([1, 1, 4, 1], [[[[1]]]], out=[1, 1, 4, 1], x=(0.25, 0), y=(0.25, 3), activation=activation)
    y = intsim.run(loaded(net, tmp_path), inputs={"image": np.array([-128, -4, 0, 127]).reshape(1, 1, 4, 1)})
    assert y.outputs["features"].reshape(-1).tolist() == expected


def test_the_bound_of_an_activation_is_rounded_as_kernels_do(tmp_path):
    # float32(0.8) is a little more than 0.8, but 6 / 0.8 in float32 is 7.5; halves go away from zero
    for scale, bound in ((0.8, 8), (4.0, 2)):
        net = conv_net([1, 1, 1, 1], [[[[1]]]], out=[1, 1, 1, 1], x=(scale, 0), y=(scale, 0), activation="relu6")
        y = intsim.run(loaded(net, tmp_path), inputs={"image": np.full((1, 1, 1, 1), 100)})
        assert y.outputs["features"].item() == bound


def test_nibbles_are_weights_of_four_bits(tmp_path):
    packed = bytes([0x21 | 0, 0x0F])  # low half first: 1, 2, -1
    net = Net()
    x = net.tensor("x", [1, 3], scale=1.0)
    w = net.tensor("w", [1, 3], "int8", packed, 1.0, 0, kind=17)
    y = net.tensor("y", [1, 1], scale=1.0)
    net.operator("FULLY_CONNECTED", [x, w, -1], y, "FullyConnectedOptions")
    net.inputs, net.outputs = [x], [y]
    model = loaded(net, tmp_path)
    assert intsim.run(model, inputs={"x": np.array([[5, 7, 11]])}).outputs["y"].item() == 5 + 14 - 11
    node = next(n for n in model.graph.nodes if n.op == "matmul")
    assert node.attributes["weight_type"]["bits"] == 4


def test_names_and_operators_are_those_of_the_file(tmp_path):
    net = conv_net([1, 3, 3, 1], np.ones((2, 1, 1, 1), int), out=[1, 3, 3, 2], activation="relu", y=(1.0, 3))
    b = net.tensor("flat", [1, 18], scale=1.0, zero=3)
    net.operator("RESHAPE", [net.outputs[0], net.constant("shape", [1, 18])], b)
    net.outputs = [b]
    model = loaded(net, tmp_path)
    assert {(n.source, n.source_op) for n in model.graph.nodes} == {
        ("0:features", "CONV_2D"),
        ("1:flat", "RESHAPE"),
    }
    assert list(model.lowered.source.outputs) == ["flat"]
    assert list(model.lowered.source.inputs) == ["image"]
    codes = next(t for t in model.graph.tensors.values() if t.onnx == "features~nchw")
    assert (codes.shape, codes.low, codes.high) == ((1, 2, 3, 3), 3, 127)


def test_tensors_of_one_name_are_told_apart(tmp_path):
    net = Net()
    x = net.tensor("t", [2, 2], scale=1.0)
    y = net.tensor("t", [2, 2], scale=0.5)
    z = net.tensor("", [2, 2], scale=0.25)
    net.operator("QUANTIZE", [x], y)
    net.operator("QUANTIZE", [y], z)
    net.inputs, net.outputs = [x], [z]
    model = loaded(net, tmp_path)
    out = intsim.run(model, inputs={"t": np.array([[1, 2], [-3, 40]])}).outputs
    assert {k: v.tolist() for k, v in out.items()} == {"tensor2": [[4, 8], [-12, 127]]}


def test_what_no_output_needs_is_not_read(tmp_path):
    net = conv_net([1, 1, 1, 1], [[[[1]]]], out=[1, 1, 1, 1])
    net.operator("FLOOR", [net.inputs[0]], net.tensor("aside", [1, 1, 1, 1], scale=1.0))
    assert len(loaded(net, tmp_path).graph.nodes) > 0


def test_a_shape_worked_out_from_shapes_is_known(tmp_path):
    """Keras' Flatten: SHAPE, its first element, packed with -1, as the shape of a RESHAPE."""
    net = Net()
    x = net.tensor("x", [1, 2, 3, 2], scale=0.5)
    s, n, p = net.tensor("s", [4], "int32"), net.tensor("n", [], "int32"), net.tensor("p", [2], "int32")
    y = net.tensor("y", [1, 12], scale=0.5)
    net.operator("SHAPE", [x], s)
    ends = [net.constant(name, [v]) for name, v in (("b", 0), ("e", 1), ("st", 1))]
    net.operator("STRIDED_SLICE", [s, *ends], n, "StridedSliceOptions", ShrinkAxisMask=1)
    rest = net.tensor("rest", [], "int32", np.array(-1))
    net.operator("PACK", [n, rest], p, "PackOptions", ValuesCount=2, Axis=0)
    net.operator("RESHAPE", [x, p], y)
    net.inputs, net.outputs = [x], [y]
    x = np.arange(12).reshape(1, 2, 3, 2)
    assert intsim.run(loaded(net, tmp_path), inputs={"x": x}).outputs["y"].reshape(-1).tolist() == list(range(12))


def test_concatenation_rounds_codes_of_other_scales(tmp_path):
    net = Net()
    a = net.tensor("a", [1, 2], scale=1.0, zero=1)
    b = net.tensor("b", [1, 2], scale=0.5, zero=-1)
    y = net.tensor("y", [1, 4], scale=2.0, zero=0)
    net.operator("CONCATENATION", [a, b], y, "ConcatenationOptions", Axis=1)
    net.inputs, net.outputs = [a, b], [y]
    given = {"a": np.array([[2, 5]]), "b": np.array([[3, 9]])}
    # (2 - 1) / 2 = 0.5 and (3 + 1) / 4 = 1, (9 + 1) / 4 = 2.5: halves go to the even code
    assert intsim.run(loaded(net, tmp_path), inputs=given).outputs["y"].tolist() == [[0, 2, 1, 2]]


def test_verify_says_what_it_compared(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = conv_net([1, 4, 4, 2], np.ones((2, 3, 3, 2), int), [5, -7], [1, 4, 4, 2], SAME, scales=0.01)
    loaded(net, tmp_path)
    monkeypatch.setattr("sys.argv", ["intsim", "verify", "m.tflite", "--samples", "2", "--no-references", "--json"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["file"] == {"tensors": 2, "elements": 64, "mismatches": 0, "near_ties": 0}
    assert verdict["verdict"] == "exact"


def test_options_that_are_left_out_are_zero(tmp_path):
    net = Net()
    x = net.tensor("x", [1, 2, 2, 1], scale=0.5)
    up = net.tensor("up", [1, 4, 4, 1], scale=0.5)
    y = net.tensor("y", [1, 4, 4, 1], scale=1.0)
    net.operator("RESIZE_NEAREST_NEIGHBOR", [x, net.constant("size", [4, 4])], up)
    net.operator("ADD", [up, up], y)
    net.inputs, net.outputs = [x], [y]
    model = loaded(net, tmp_path)
    given = np.array([1, 2, 3, -4]).reshape(1, 2, 2, 1)
    out = intsim.run(model, inputs={"x": given}).outputs["y"]
    np.testing.assert_array_equal(out, given.repeat(2, 1).repeat(2, 2))
    assert intsim.verify(model, references=False).file.elements == 32


def test_verify_notices_a_wrong_lowering(tmp_path):
    """The second reading is worth something: a bias off by one is found, and blamed on the lowering."""
    net = conv_net([1, 2, 2, 1], np.ones((1, 1, 1, 1), int), [3], [1, 2, 2, 1])
    model = loaded(net, tmp_path)
    node = next(n for n in model.graph.nodes if n.op == "conv")
    node.arrays["bias"][0] += 1
    verdict = intsim.verify(model, references=False)
    assert (verdict.verdict, verdict.file.mismatches) == ("diverges", 4)
    assert verdict.first_divergence["blame"] == "lowering"
    assert verdict.first_divergence["op"] == "CONV_2D"


def test_certify_notices_a_wrong_lowering(tmp_path):
    net = conv_net([1, 2, 2, 1], np.ones((1, 1, 1, 1), int), [3], [1, 2, 2, 1])
    certificate = intsim.certify(loaded(net, tmp_path), "cpu-int32")
    assert certificate.verdict == "certified"
    assert certificate.reading.elements == 4 * (4 + 4 + 4)
    model = loaded(net, tmp_path)
    held = next(i for i in model.lowered.source.proto.graph.initializer if i.name.endswith("~bias"))
    held.CopyFrom(numpy_helper.from_array(np.int32([4]), held.name))
    translated = intsim.load(model.lowered.source.proto)
    translated.lowered.source.path = model.path
    certificate = intsim.certify(translated, "cpu-int32")
    assert certificate.verdict == "disputed"
    assert certificate.reading.disagreement.name == "0:features"


def test_the_onnx_form_is_a_file_of_its_own(tmp_path):
    model = loaded(conv_net([1, 2, 2, 1], [[[[3]]]], [3], [1, 2, 2, 1]), tmp_path)
    onnx.save(model.lowered.source.proto, tmp_path / "m.onnx")
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    verdict = intsim.verify(tmp_path / "m.onnx", references=False)
    assert (verdict.verdict, verdict.file) == ("exact", None)
    x = {"image": np.array([1, 2, 3, -4]).reshape(1, 2, 2, 1)}
    ours, theirs = (intsim.run(m, inputs=x).outputs["features"] for m in (model, model.lowered.source.proto))
    np.testing.assert_array_equal(ours, theirs)


def test_verify_wants_the_file_that_was_loaded(tmp_path):
    model = loaded(conv_net([1, 1, 1, 1], [[[[1]]]], out=[1, 1, 1, 1]), tmp_path)
    loaded(conv_net([1, 1, 1, 1], [[[[2]]]], out=[1, 1, 1, 1]), tmp_path)
    with pytest.raises(intsim.IntsimError, match=r"m\.tflite: has changed since it was loaded"):
        intsim.verify(model, references=False)
