"""ONNX's own node tests for integer operators, through `intsim.run`: every output bit for bit, type and shape too."""

from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

import intsim

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "node"
FAMILIES = ("qlinearconv", "qlinearmatmul_", "convinteger_", "matmulinteger", "quantizelinear", "dequantizelinear")
FLOATS = ("e4m3", "e5m2", "float4", "float8")
CASES = sorted(
    p.name
    for p in FOLDER.iterdir()
    if p.name.startswith(tuple(f"test_{f}" for f in FAMILIES)) and not any(f in p.name for f in FLOATS)
)


def test_the_installed_package_has_the_tests():
    """An empty parametrization would pass silently."""
    assert len(CASES) >= 30
    for family in FAMILIES:
        assert any(c.startswith(f"test_{family}") for c in CASES), family


def tensors(folder, what, values):
    """The test's inputs or outputs, by the names the graph gives them."""
    return {
        value.name: numpy_helper.to_array(onnx.load_tensor(str(folder / f"{what}_{i}.pb")))
        for i, value in enumerate(values)
    }


@pytest.mark.parametrize("case", CASES)
def test_node(case):
    model = onnx.load(str(FOLDER / case / "model.onnx"))
    data = FOLDER / case / "test_data_set_0"
    inputs, wanted = (tensors(data, w, v) for w, v in (("input", model.graph.input), ("output", model.graph.output)))
    run = intsim.run(model, inputs=inputs)
    assert run.outputs.keys() == wanted.keys()
    for name, value in wanted.items():
        assert run.outputs[name].dtype == value.dtype
        assert run.outputs[name].shape == value.shape
        assert run.outputs[name].tobytes() == value.tobytes(), name
