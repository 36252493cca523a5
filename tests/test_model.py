"""A loaded model: inputs checked, prologue and epilogue around the integers, outputs in the file's types."""

import numpy as np
import onnx
import pytest
from frontend.build import Net
from onnx import TensorProto

import intsim
from intsim.verification.executed import opened


def small(kind: int = TensorProto.FLOAT, **kinds: int) -> onnx.ModelProto:
    net = Net()
    x = net.quant(net.input(1, 4, kind=kind), 0.25, 0, 8)
    w = net.quant(np.float32(np.arange(12).reshape(4, 3) - 6), 1, 0, 5)
    return net.model(net.quant(net.node("MatMul", x, w), 0.5, 0, 8))


X = np.float32([[1, -1, 0.5, 0.25]])


def test_run_on_anything_that_holds_a_model(tmp_path):
    onnx.save(small(), tmp_path / "m.onnx")
    runs = [
        intsim.run(m, inputs={"x": X})
        for m in (small(), tmp_path / "m.onnx", str(tmp_path / "m.onnx"), intsim.load(small()))
    ]
    # codes 4, -4, 2, 1 by columns of weights -6.., scale 0.25: sums by hand, then halves to even
    sums = np.array([4, -4, 2, 1]) @ (np.arange(12).reshape(4, 3) - 6)
    expected = np.clip(np.rint(sums * 0.25 / 0.5), -128, 127)
    for run in runs:
        (name,) = run.outputs
        assert run.codes[name].tolist() == [expected.tolist()]
        assert run.outputs[name].dtype == np.float32
        assert (run.outputs[name] == expected * 0.5).all()
        assert run.inputs[next(iter(run.inputs))].tolist() == [[4, -4, 2, 1]]


def test_keep_keeps_every_tensor():
    model = intsim.load(small())
    few, all_ = model.run({"x": X}), model.run({"x": X}, keep=True)
    assert set(all_.tensors) == set(model.graph.tensors)
    assert set(few.tensors) < set(all_.tensors)
    for name, value in few.tensors.items():
        np.testing.assert_array_equal(value, all_.tensors[name])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.int64, np.uint8, bool])
def test_real_inputs_of_any_numeric_type(dtype):
    values = np.array([[1, 0, 1, 1]]).astype(dtype)
    run = intsim.run(small(), inputs={"x": values})
    assert run.inputs[next(iter(run.inputs))].tolist() == [[4, 0, 4, 4]]
    assert intsim.run(small(), inputs={"x": values.tolist()}).inputs


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16])
def test_files_of_other_float_types(kind):
    run = intsim.run(small(kind), inputs={"x": X})
    assert run.inputs[next(iter(run.inputs))].tolist() == [[4, -4, 2, 1]]


def integers(kind: int, dtype) -> onnx.ModelProto:
    net = Net()
    x = net.node("DequantizeLinear", net.input(1, 4, kind=kind), np.float32(1), net.const(np.zeros((), dtype)))
    w = net.quant(np.ones((4, 1), np.float32), 1, 0, 3)
    return net.model(net.node("MatMul", x, w))


def test_integer_inputs():
    model = intsim.load(integers(TensorProto.INT8, np.int8))
    assert next(iter(model.run({"x": [[127, -128, 1, 0]]}).outputs.values())).tolist() == [[0]]
    for bad, word in (([[128, 0, 0, 0]], "-128..127"), ([[-129, 0, 0, 0]], "-128..127"), ([[1.5, 0, 0, 0]], "floats")):
        with pytest.raises(intsim.IntsimError, match=word):
            model.run({"x": np.array(bad)})
    with pytest.raises(intsim.IntsimError, match=r"0\.\.255"):
        intsim.load(integers(TensorProto.UINT8, np.uint8)).run({"x": np.array([[-1, 0, 0, 0]])})
    # what no int64 holds must not come back as something that fits
    with pytest.raises(intsim.IntsimError, match=r"-128\.\.127"):
        model.run({"x": np.array([[2**64 - 1, 0, 0, 0]], np.uint64)})


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "needs input 'x'"),
        ({"y": X}, "no input 'y' and needs input 'x'"),
        ({"x": X, "y": X}, "no input 'y'"),
        ({"x": X[0]}, r"shape \(4,\) given, the file needs \(1, 4\)"),
        ({"x": X + np.nan}, "NaN"),
        ({"x": X - np.inf}, "infinity"),
        ({"x": X.astype(complex)}, "not numeric"),
        ({"x": X.astype(str)}, "not numeric"),
        ({"x": X.astype(object)}, "not numeric"),
        ({"x": None}, "not numeric"),
        ({"x": [[1, 2], [3]]}, "input x"),
    ],
)
def test_wrong_inputs(inputs, words):
    with pytest.raises(intsim.IntsimError, match=words):
        intsim.run(small(), inputs=inputs)


def test_prologue_and_epilogue():
    """Host work before and after: an image scaled to -1..1, a Softmax at the end; listed by name."""
    net = Net()
    scaled = net.node("Div", net.node("Sub", net.input(1, 4), np.float32(128)), np.float32(127))
    x = net.quant(scaled, 2.0**-6, 0, 8)
    w = net.quant(np.float32(np.eye(4)), 1, 0, 2)
    y = net.node("Softmax", net.node("MatMul", x, w), axis=-1)
    model = intsim.load(net.model(y))
    assert [n.split("_")[0] for n in model.lowered.prologue.names] == ["Sub", "Div"]
    assert [n.split("_")[0] for n in model.lowered.epilogue.names] == ["Softmax"]
    pixels = np.float32([[0, 255, 128, 1]])
    run = model.run({"x": pixels})
    codes = np.rint((pixels.astype(np.float64) - 128) / 127 * 64)
    assert next(iter(run.inputs.values())).tolist() == codes.tolist()
    real = np.exp(codes / 64)
    np.testing.assert_allclose(run.outputs[y], real / real.sum(), rtol=1e-6)
    assert run.outputs[y].dtype == np.float32
    assert list(run.codes) == [net.nodes[-1].input[0]]


def test_parameters_as_inputs():
    """Scales and weights that the file leaves as inputs are bound from the inputs that are given."""
    proto = small()
    scale = proto.graph.node[0].input[1]
    kept = [i for i in proto.graph.initializer if i.name != scale]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    proto.graph.input.append(onnx.helper.make_tensor_value_info(scale, TensorProto.FLOAT, []))
    given = {"x": X, scale: np.float32(0.5)}
    assert intsim.run(proto, inputs=given).inputs[proto.graph.node[0].output[0]].tolist() == [[2, -2, 1, 0]]
    with pytest.raises(intsim.IntsimError, match="not a constant"):
        intsim.run(proto, inputs={"x": X})
    model = opened(proto, given)
    with pytest.raises(intsim.IntsimError, match=f"no input '{scale}'"):
        model.run({"x": X, scale: np.float32(0.25)})
    assert intsim.load(proto, constants={scale: np.float32(0.25)}).run({"x": X}).outputs


def test_shapes():
    proto = small()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    with pytest.raises(intsim.IntsimError, match="dynamic"):
        intsim.load(proto)
    run = intsim.load(proto, shapes={"x": (3, 4)}).run({"x": X.repeat(3, 0)})
    assert next(iter(run.outputs.values())).shape == (3, 3)
    for bad in ((3, 5), (3,), (0, 4), (-1, 4)):
        with pytest.raises(intsim.IntsimError, match="input x"):
            intsim.load(proto, shapes={"x": bad})


def test_output_types():
    """Outputs come back in the type that the file declares."""
    for kind, dtype in ((TensorProto.DOUBLE, np.float64), (TensorProto.FLOAT16, np.float16)):
        proto = small()
        proto.graph.output[0].type.tensor_type.elem_type = kind
        assert next(iter(intsim.run(proto, inputs={"x": X}).outputs.values())).dtype == dtype
    net = Net()
    q = net.node("QuantizeLinear", net.input(1, 4), np.float32(0.25), net.const(np.int8(3)))
    found = intsim.run(net.model(q, kinds={q: TensorProto.INT8}), inputs={"x": X})
    assert found.outputs[q].dtype == np.int8
    assert found.outputs[q].tolist() == [[7, -1, 5, 4]]
