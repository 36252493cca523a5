"""ONNX's own node tests of operators on floats, between fine quantizers: an oracle for axes and formulas."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import intsim
from intsim.testing.net import QONNX
from intsim.verification.reference import Reference

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "node"
CASES = {
    "rms_normalization": 15,
    "group_normalization": 2,
    "instancenorm": 2,
    "layer_normalization": 15,
    "einsum_batch_matmul": 1,
    "einsum_inner_prod": 1,
    "einsum_transpose": 1,
    "gather_0": 1,
    "gather_1": 1,
    "gather_2d_indices": 1,
    "gather_negative_indices": 1,
    "where_example": 1,
    "softmax_axis": 3,
    "softmax_default_axis": 1,
}
PARAMETERS = {
    **dict.fromkeys(("RMSNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization"), (1, 2)),
    "Where": (0,),
    "Gather": (0,),
}
"""Inputs that have to be constants here."""
NAMES = sorted(
    p.name
    for p in FOLDER.iterdir()
    if any(p.name.startswith(f"test_{c}") for c in CASES) and "expanded" not in p.name and "mixed" not in p.name
)


def test_the_installed_package_has_the_tests():
    for family, least in CASES.items():
        assert sum(n.startswith(f"test_{family}") for n in NAMES) >= least, family


def arrays(folder, what, values):
    return {
        v.name: numpy_helper.to_array(onnx.load_tensor(str(folder / f"{what}_{i}.pb"))) for i, v in enumerate(values)
    }


def between_quantizers(model, inputs, result):
    """Data through Quant of 20 bits (of a Softmax 12), parameters as constants, Quant of 24 bits behind; all steps."""
    node, graph = model.graph.node[0], onnx.GraphProto()
    fixed = PARAMETERS.get(node.op_type, ())
    steps, number = [], iter(range(99))

    def constant(value):
        name = f"~{next(number)}"
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def quant(x, array, bits, out):
        step = np.float32(max(np.abs(array).max(), 1e-3) / (2 ** (bits - 1) - 2))
        steps.append(float(step))
        at = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND", "domain": QONNX}
        graph.node.append(helper.make_node("Quant", [x, constant(step), constant(0), constant(bits)], [out], **at))

    changed = onnx.NodeProto()
    changed.CopyFrom(node)
    del changed.output[1:]
    changed.output[0] = "~result"
    for i, (name, value) in enumerate(inputs.items()):
        if i in fixed and node.op_type == "Gather":
            graph.initializer.append(numpy_helper.from_array(value, name))
            quant(name, value, 16, f"{name}~q")
            changed.input[i] = f"{name}~q"
        elif i in fixed:
            graph.initializer.append(numpy_helper.from_array(value, name))
        elif value.dtype.kind == "f":
            graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))
            quant(name, value, 12 if node.op_type == "Softmax" else 20, f"{name}~q")
            changed.input[i] = f"{name}~q"
        else:
            graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, value.shape))
    graph.node.append(changed)
    quant("~result", result, 24, "~y")
    graph.output.append(helper.make_tensor_value_info("~y", TensorProto.FLOAT, result.shape))
    graph.name = "node"
    version = model.opset_import[0].version
    imports = [helper.make_opsetid("", version), helper.make_opsetid(QONNX, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10), steps


@pytest.mark.parametrize("case", NAMES)
def test_node(case):
    model = onnx.load(str(FOLDER / case / "model.onnx"))
    data = FOLDER / case / "test_data_set_0"
    inputs, wanted = (arrays(data, w, v) for w, v in (("input", model.graph.input), ("output", model.graph.output)))
    wanted = next(iter(wanted.values()))
    kinds = {"i": np.int64, "f": np.float32, "b": np.bool_}
    inputs = {n: v.astype(kinds[v.dtype.kind]) for n, v in inputs.items()}
    quantized, steps = between_quantizers(model, inputs, wanted)
    loaded = intsim.load(quantized)
    given = {n: inputs[n] for n in loaded.lowered.source.inputs}
    got = loaded.run(given).outputs["~y"]
    assert got.shape == wanted.shape
    slope = 50 * max(1, np.abs(wanted).max()) * max(inputs[n].size ** 0.5 for n in inputs)
    np.testing.assert_allclose(got, wanted, atol=2 * sum(steps) * slope, rtol=0)
    verdict = intsim.verify(loaded, inputs=given, references=False)
    assert verdict.verdict == "exact"
    assert np.abs(got - Reference(quantized).run(given).value("~y")).max() <= 2 * steps[-1]


def test_what_einsum_of_the_tests_is_refused():
    for case in ("batch_diagonal", "sum"):
        model = onnx.load(str(FOLDER / f"test_einsum_{case}" / "model.onnx"))
        data = FOLDER / f"test_einsum_{case}" / "test_data_set_0"
        inputs = {n: v.astype(np.float32) for n, v in arrays(data, "input", model.graph.input).items()}
        quantized, _ = between_quantizers(model, inputs, np.ones(()))
        with pytest.raises(intsim.IntsimError, match=r"Einsum.*(diagonal|two operands)"):
            intsim.load(quantized)
