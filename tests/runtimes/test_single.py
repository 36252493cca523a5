"""What stands between codes and their quantizer in a QDQ file: predicted as ONNX Runtime runs it, or refused.

Each body is run by ONNX Runtime itself. What is predicted has its codes; what is refused is no kernel of codes there,
which the model as it runs says, or an operator whose float32 result its standard doesn't fix.
"""

import functools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import intsim
from intsim.errors import IntsimError
from intsim.graph import IntegerGraph
from intsim.targets import Target

from . import formulas, runtimes
from .test_formulas import needs

pytestmark = pytest.mark.xdist_group("runtimes")
U8 = np.uint8
CODES = np.arange(256, dtype=U8).reshape(4, 64)
ROWS = np.random.default_rng(0).permutation(CODES.reshape(-1)).reshape(4, 64)
ONE = {"c": U8(37), "c_scale": np.float32(0.02), "c_zero": U8(5)}
WHOLE = ONE | {"c": ROWS}
HALF = {"k": np.float32(0.5)}
DQ = ("DequantizeLinear", ["c", "c_scale", "c_zero"], "cf")


def op(kind, *inputs):
    """A body of one operator."""
    return [(kind, list(inputs), "yf")]


def two(kind, first, then, second=()):
    """A body of two."""
    return [(kind, list(first), "m"), (then, ["m", *second], "yf")]


FLOAT, NONE, CONSTANTS = "leaves it in float32", "has no rule for", "adds or multiplies by constants"
SIX = {"low": np.float32(0), "high": np.float32(6)}
PREDICTED = {
    "sum": ([DQ, *op("Add", "xf", "cf")], ONE, {}),
    "sum, the constant left": ([DQ, *op("Add", "cf", "xf")], WHOLE, {}),
    "sum of what was moved": ([DQ, *two("Transpose", ["xf"], "Add", ["cf"])], WHOLE | {"c": ROWS.T.copy()}, {}),
    "Relu at the lowest code": ([DQ, *two("Add", ["xf", "cf"], "Relu")], WHOLE, {"y_zero": U8(0)}),
    "Clip at the ends": ([DQ, *two("Add", ["xf", "cf"], "Clip", ["low", "high"])], ONE | SIX,
                         {"y_zero": U8(0), "y_scale": np.float32(6 / 255)}),
    "product": ([DQ, *op("Mul", "xf", "cf")], WHOLE, {}),
    "product by nothing": ([DQ, *op("Mul", "xf", "cf")], ONE | {"c": U8(5)}, {}),
    "difference": ([DQ, *op("Sub", "xf", "cf")], WHOLE, {}),
    "quotient": ([DQ, *op("Div", "xf", "cf")], ONE, {}),
    "Relu alone": (op("Relu", "xf"), {}, {}),
    "hard swish": (op("HardSwish", "xf"), {}, {}),
    "sigmoid": (op("Sigmoid", "xf"), {}, {"y_scale": np.float32(1 / 256), "y_zero": U8(0)}),
}  # fmt: skip
REFUSED = {
    "Relu inside the codes": ([DQ, *two("Add", ["xf", "cf"], "Relu")], WHOLE, {}, FLOAT),
    "Relu behind a product": ([DQ, *two("Mul", ["xf", "cf"], "Relu")], ONE, {}, FLOAT),
    "Relu behind a sum of tensors": (two("Add", ["xf", "x2f"], "Relu"), {}, {}, FLOAT),
    "a constant of another type": ([DQ, *op("Add", "xf", "cf")],
                                   ONE | {"c": np.int8(3), "c_zero": np.int8(0)}, {}, FLOAT),
    "a float constant": (op("Add", "xf", "k"), HALF, {}, NONE),
    "two sums": ([DQ, *two("Add", ["xf", "cf"], "Add", ["cf"])], ONE, {}, CONSTANTS),
    "a product in front of a sigmoid": ([DQ, *two("Mul", ["xf", "cf"], "Sigmoid")], ONE,
                                        {"y_scale": np.float32(1 / 256)}, NONE),
    "a product in front of a hard swish": (two("Mul", ["xf", "k"], "HardSwish"), HALF, {}, NONE),
    "a cube": (op("Pow", "xf", "k"), {"k": np.float32(3)}, {}, "another power than 2"),
}  # fmt: skip


def model(body, constants, quantizers):
    """DequantizeLinear, the body from xf to yf, QuantizeLinear; x2 is a second tensor."""
    given = {"x_scale": np.float32(0.013), "x_zero": U8(120), "y_scale": np.float32(0.02), "y_zero": U8(100)}
    nodes = [helper.make_node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["xf"])]
    names = ["x"]
    if any("x2f" in inputs for _, inputs, _ in body):
        nodes.append(helper.make_node("DequantizeLinear", ["x2", "x_scale", "x_zero"], ["x2f"]))
        names.append("x2")
    nodes += [helper.make_node(kind, inputs, [output]) for kind, inputs, output in body]
    nodes.append(helper.make_node("QuantizeLinear", ["yf", "y_scale", "y_zero"], ["y"]))
    held = [numpy_helper.from_array(np.asarray(a), n) for n, a in (given | constants | quantizers).items()]
    inputs = [helper.make_tensor_value_info(n, TensorProto.UINT8, [4, 64]) for n in names]
    out = helper.make_tensor_value_info("y", TensorProto.UINT8, None)
    graph = helper.make_graph(nodes, "one", inputs, [out], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def feeds(file):
    return {i.name: CODES if i.name == "x" else ROWS for i in file.graph.input}


@functools.cache
def answers():
    """ONNX Runtime's codes of every body, from one process."""
    needs("onnxruntime")
    jobs = []
    for body, constants, quantizers, *_ in [*PREDICTED.values(), *REFUSED.values()]:
        file = model(body, constants, quantizers)
        jobs.append({"library": "ort", "model": file.SerializeToString(), "feeds": feeds(file)})
    return dict(zip([*PREDICTED, *REFUSED], runtimes.answer(jobs), strict=True))


@pytest.mark.parametrize("name", PREDICTED)
def test_predicted(name):
    file = model(*PREDICTED[name])
    run = runtimes.executed(file).run(feeds(file), "onnxruntime-vnni")
    assert np.array_equal(run.outputs["y"], answers()[name]["y"])


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    """By both targets, in one line that names the node."""
    *drawn, reason = REFUSED[name]
    file = model(*drawn)
    for target in ("onnxruntime-vnni", "onnxruntime-avx2"):
        with pytest.raises(IntsimError, match=rf"^node \S+: target {target}: .*{reason}") as error:
            runtimes.executed(file).run(feeds(file), target)
        assert "\n" not in str(error.value)


def test_the_refusals_are_true(tmp_path):
    """Nothing that is refused runs as one kernel of codes."""
    needs("onnxruntime")
    jobs, paths = [], []
    for i, (*drawn, _) in enumerate(REFUSED.values()):
        file = model(*drawn)
        paths.append(tmp_path / f"{i}.onnx")
        jobs.append({"library": "ort", "model": file.SerializeToString(), "feeds": feeds(file)})
        jobs[-1]["optimized"] = str(paths[-1])
    for name, path, answer in zip(REFUSED, paths, runtimes.answer(jobs), strict=True):
        assert not isinstance(answer, str), (name, answer)
        run = [node.op_type for node in onnx.load(path).graph.node]
        assert run[-1] == "QuantizeLinear", (name, run)


def test_the_kernel_is_not_exact_arithmetic():
    """Ties fall otherwise: a target that ran constants exactly would be wrong here."""
    constants = ONE | {"c_scale": np.float32(0.5), "c_zero": U8(128), "c": ROWS}
    half = {"x_scale": np.float32(0.5), "x_zero": U8(128), "y_scale": np.float32(1), "y_zero": U8(101)}
    file = model([DQ, *op("Add", "xf", "cf")], constants, half)
    loaded = runtimes.executed(file)
    exact, machine = (loaded.run(feeds(file), target).outputs["y"] for target in ("exact", "onnxruntime-vnni"))
    assert (exact != machine).mean() > 0.1
    arrays = {"a": CODES, "b": ROWS, "a_scale": half["x_scale"], "a_zero_point": U8(128), "b_scale": half["x_scale"]}
    arrays |= {"b_zero_point": U8(128), "y_scale": half["y_scale"], "y_zero_point": half["y_zero"]}
    assert np.array_equal(machine, formulas.ort_add(arrays, runtimes.NATIVE))


def test_a_graph_keeps_the_constant(tmp_path):
    """Stored, loaded and run again; a sum of tensors has nothing of it."""
    loaded = intsim.load(model([DQ, *op("Sub", "cf", "xf")], WHOLE, {}))
    (node,) = loaded.graph.nodes
    about = node.attributes["operation"]
    assert about["op"] == "Sub"
    assert about["tensor"] == 1
    assert np.array_equal(node.arrays["constant"], ROWS)
    loaded.graph.save(tmp_path / "graph")
    assert IntegerGraph.load(tmp_path / "graph").nodes == loaded.graph.nodes
    both = intsim.load(model(op("Add", "xf", "x2f"), {}, {}))
    assert all("operation" not in n.attributes and "constant" not in n.arrays for n in both.graph.nodes)


def test_a_relu_that_cuts_codes_is_no_kernel():
    """Of a machine that takes files as they stand, and has ONNX Runtime's kernel of sums."""
    text = 'title = "own"\nsource = ["by hand"]\n[accumulate]\nstages = []\n[requantize]\nscheme = "exact"\n'
    own = Target.from_toml(text + '[[when]]\nop = "add"\nrequantize = { scheme = "qlinear-add" }\n', "own")
    for name, cut in (("Relu inside the codes", True), ("sum", False)):
        file = model(*(REFUSED if cut else PREDICTED)[name][:3])
        if not cut:
            assert np.array_equal(intsim.load(file).run(feeds(file), own).outputs["y"], answers()[name]["y"])
            continue
        with pytest.raises(IntsimError, match="a Relu or Clip in front of its quantizer cuts its codes"):
            intsim.load(file).run(feeds(file), own)
