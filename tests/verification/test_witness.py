"""A runtime that quantizes the network's input in float32, which its target does, too."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import intsim
from intsim.verification.processor import processor


@pytest.mark.skipif(processor() is None, reason="no target of ONNX Runtime is for this processor")
def test_codes_of_the_input_are_the_runtimes():
    """float32(x / s) lies at half a code where x / s does not; ONNX Runtime rounds that to the even one."""
    pytest.importorskip("onnxruntime")
    step = np.float32(0.1)
    halves = ((np.arange(120, dtype=np.float32) + np.float32(0.5)) * step).astype(np.float32)
    ties = np.float32(halves / step)
    values = halves[ties == np.floor(ties) + np.float32(0.5)]
    constants = {"s": step, "z": np.uint8(0), "c": np.uint8(7), "y_s": np.float32(0.05), "y_z": np.uint8(3)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="input"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["xf"]),
        helper.make_node("DequantizeLinear", ["c", "s", "z"], ["cf"]),
        helper.make_node("Add", ["xf", "cf"], ["f"]),
        helper.make_node("QuantizeLinear", ["f", "y_s", "y_z"], ["y"], name="sum"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, len(values)])
    y = helper.make_tensor_value_info("y", TensorProto.UINT8, [1, len(values)])
    held = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "input", [x], [y], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    told = intsim.witness_runtime(model, f"onnxruntime-{processor()}", {"x": values[None]})
    assert [(line.op, line.mismatches) for line in told.layers] == [("Quantize", 0), ("QLinearAdd", 0)]
    assert told.layers[0].inexact > 10
    assert told.holds
    verdict = intsim.verify(model, f"onnxruntime-{processor()}", {"x": values[None]}, references=False)
    first = verdict.layers[0]
    assert (first.op, first.mismatches, first.born) == ("Quantize", told.layers[0].inexact, told.layers[0].inexact)
    assert verdict.first_divergence["name"] == first.name


def network(kind, **about):
    """x through a layer of QDQ: its nodes, constants and the scale of its result."""
    step, wide = np.float32(2**-4), np.float32(16)
    zero, weight = about.get("zero", np.int8(0)), about.get("weight", np.full((2, 4, 3, 3), 100, np.int8))
    constants = {"s": step, "z": zero, "w": weight, "w_s": np.float32(2**-6), "y_s": wide, "y_z": zero}
    constants |= about.get("constants", {})
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "w_s"], ["wf"]),
        *about.get("more", []),
        helper.make_node(kind, ["xf", "wf", *about.get("inputs", [])], ["f"], name="layer"),
        helper.make_node("QuantizeLinear", ["f", "y_s", "y_z"], ["y_q"]),
        helper.make_node("DequantizeLinear", ["y_q", "y_s", "y_z"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 6, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    held = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "layer", [x], [y], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def test_signed_codes_are_made_unsigned():
    """ONNX Runtime on x86-64 turns s8 QDQ pairs into u8 ones, whose pairs of products saturate on AVX2.

    Measured: 128 instead of 448, on onnxruntime 1.31.1 under qemu-x86_64 -cpu Haswell.
    """
    pytest.importorskip("onnxruntime")
    model, loud = network("Conv"), {"x": np.full((1, 4, 6, 6), 127 / 16, np.float32)}
    assert np.unique(intsim.run(model, "exact", loud).outputs["y"]) == 448
    assert np.unique(intsim.run(model, "onnxruntime-avx2", loud).outputs["y"]) == 128
    assert intsim.certify(model, "onnxruntime-avx2").verdict == "refuted"
    assert not intsim.bounds(model, "onnxruntime-avx2").safe
    assert intsim.certify(model, "onnxruntime-vnni").verdict == "certified"
    vnni, avx2 = intsim.advise(model, loud, targets=["onnxruntime-vnni", "onnxruntime-avx2"]).runtimes
    assert (vnni.standing, avx2.standing) == ("exact here", "differs")


BIAS = helper.make_node("DequantizeLinear", ["b", "b_s"], ["bf"])
FLOAT = {
    "bias of another scale": network(
        "Conv",
        zero=np.uint8(3),
        more=[BIAS],
        inputs=["bf"],
        constants={"b": np.int32([5, 7]), "b_s": np.float32(0.3)},
    ),
    "transposed": network("ConvTranspose", zero=np.uint8(3), weight=np.ones((4, 2, 3, 3), np.int8)),
}


@pytest.mark.parametrize("name", FLOAT)
def test_what_stays_in_float32_is_refused(name):
    pytest.importorskip("onnxruntime")
    for target in ("onnxruntime-vnni", "onnxruntime-avx2"):
        with pytest.raises(intsim.IntsimError, match=rf"node layer: target {target}: not predicted: ONNX Runtime leav"):
            intsim.run(FLOAT[name], target)


def test_a_pair_of_quantizers_that_the_runtime_drops():
    """Q DQ Q DQ becomes one pair: other outputs than the file's, on whatever target."""
    pytest.importorskip("onnxruntime")
    constants = {"s": np.float32(0.1), "z": np.uint8(0), "t": np.float32(0.25), "y_z": np.uint8(0)}
    names = [("QuantizeLinear", ["x", "s", "z"]), ("DequantizeLinear", ["a", "s", "z"])]
    names += [("QuantizeLinear", ["b", "t", "y_z"]), ("DequantizeLinear", ["c", "t", "y_z"])]
    nodes = [helper.make_node(op, i, [o]) for (op, i), o in zip(names, ("a", "b", "c", "y"), strict=True)]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 64]) for n in "xy")
    held = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "pairs", [x], [y], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    given = {"x": (np.arange(64, dtype=np.float32) * np.float32(0.043))[None]}
    (line,) = intsim.advise(model, given, targets=["onnxruntime-vnni"]).runtimes
    assert line.standing == "differs"
    assert line.rewritten > 0
    assert "executes another graph" in line.remedy
