"""Damaged, hostile and merely wrong input: one line on standard error, exit code 2, nothing written, no delay."""

import json
import os
import pickle
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend.build import QONNX, Net
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import intsim
from intsim import cli

SECONDS = 5
SMALL = settings().max_examples * 4


def net() -> onnx.ModelProto:
    """Quant, Conv with quantized weights and bias, Relu, Quant: every tensor has a plain name."""
    scalars = {"sx": 0.25, "sw": 0.5, "sy": 1.5, "z": 0.0, "bits": 4.0}
    weight = (np.arange(36).reshape(2, 2, 3, 3) % 7 - 3).astype(np.float32) * np.float32(0.5)
    arrays = {**{k: np.float32(v) for k, v in scalars.items()}, "w": weight, "b": np.float32([1, -2])}

    def quant(name, x, scale, y):
        at = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
        return helper.make_node("Quant", [x, scale, "z", "bits"], [y], name=name, domain=QONNX, **at)

    nodes = [
        quant("quant_x", "x", "sx", "qx"),
        quant("quant_w", "w", "sw", "qw"),
        helper.make_node("Conv", ["qx", "qw", "b"], ["acc"], name="conv", kernel_shape=[3, 3], strides=[1, 1]),
        helper.make_node("Relu", ["acc"], ["r"], name="relu"),
        quant("quant_y", "r", "sy", "y"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 3, 3])],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(QONNX, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


VALID = net().SerializeToString()


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name == name)


def constant(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(i for i in model.graph.initializer if i.name == name)


def put(model: onnx.ModelProto, name: str, array: object) -> None:
    """Replace an initializer, or add one."""
    made = numpy_helper.from_array(np.asarray(array), name)
    found = [i for i in model.graph.initializer if i.name == name]
    found[0].CopyFrom(made) if found else model.graph.initializer.append(made)


def drop(model: onnx.ModelProto, name: str) -> None:
    model.graph.initializer.remove(constant(model, name))


def set_attribute(model: onnx.ModelProto, name: str, key: str, value: object = None) -> None:
    """Set a node's attribute; None removes it."""
    found = node(model, name)
    for attribute in [a for a in found.attribute if a.name == key]:
        found.attribute.remove(attribute)
    if value is not None:
        found.attribute.append(helper.make_attribute(key, value))


def insert(
    model: onnx.ModelProto, before: str, op: str, *extra: str, name: str = "bad", domain: str = "", **at
) -> None:
    """A node of kind `op` between input 0 of node `before` and what made it."""
    reader = node(model, before)
    made = helper.make_node(op, [reader.input[0], *extra], ["made"], name=name, domain=domain, **at)
    reader.input[0] = "made"
    model.graph.node.insert(list(model.graph.node).index(reader), made)


def dims(model: onnx.ModelProto, *shape: int | str | None) -> None:
    """Declare the input's shape; None is a dimension without value."""
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))


def command(*args: object) -> tuple[int, str, str]:
    """The command line in this process: exit code, standard output, standard error."""
    import contextlib
    import io

    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["intsim", *map(str, args)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as left:
            cli.main()
    finally:
        sys.argv = before
    return int(left.value.code or 0), out.getvalue(), err.getvalue()


def files(folder: Path) -> dict[str, int]:
    """Everything in a folder, with sizes."""
    return {str(p.relative_to(folder)): p.stat().st_size if p.is_file() else -1 for p in sorted(folder.rglob("*"))}


def refused(folder: Path, args: list[object], *words: str) -> str:
    """Run; exit code 2, one line that holds `words`, folder unchanged, quickly. Returns the line."""
    before, began = files(folder), time.monotonic()
    code, out, err = command(*args)
    assert time.monotonic() - began < SECONDS
    check(code, out, err, *words)
    assert files(folder) == before, "something was written"
    return err


def check(code: int, out: str, err: str, *words: str) -> None:
    assert code == 2, (code, out, err)
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.endswith("\n"), err
    assert err.startswith("intsim: "), err
    assert "internal error" not in err, err
    assert "Traceback" not in err
    assert len(err) < 1200, err
    for word in words:
        assert word in err, (word, err)


# --- files that hold no model ------------------------------------------------------------------------------------


def tensor_file() -> bytes:
    return numpy_helper.from_array(np.arange(100, dtype=np.float32), "t").SerializeToString()


BYTES = {
    "empty": (b"", "is empty"),
    "random": (np.random.default_rng(0).bytes(5000), "ONNX"),
    "zeros": (bytes(1000), "ONNX"),
    "text": (b"this is not a model, only a line of text\n" * 10, "ONNX"),
    "json": (json.dumps({"model": [1, 2, 3]}).encode(), "ONNX"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(50), "ONNX"),
    "tensor": (tensor_file(), "ONNX"),
    "pickle": (pickle.dumps({"a": 1}), "ONNX"),
    "no graph": (onnx.ModelProto(ir_version=8, producer_name="p").SerializeToString(), "holds no graph"),
    "empty graph": (helper.make_model(helper.make_graph([], "g", [], [])).SerializeToString(), "holds no graph"),
    "half": (VALID[: len(VALID) // 2], "truncated"),
    "all but a byte": (VALID[:-1], "truncated"),
}


@pytest.mark.parametrize("case", BYTES)
def test_not_a_model(tmp_path, case):
    data, words = BYTES[case]
    (tmp_path / "m.onnx").write_bytes(data)
    refused(tmp_path, ["lower", tmp_path / "m.onnx", "-o", tmp_path / "out"], "m.onnx", words)


def test_missing_file_and_folder(tmp_path):
    refused(tmp_path, ["lower", tmp_path / "no.onnx", "-o", tmp_path / "out"], "no.onnx", "No such file")
    refused(tmp_path, ["inspect", tmp_path], tmp_path.name, "directory")
    refused(tmp_path, ["inspect", ""], "")
    refused(tmp_path, ["inspect", tmp_path / "a\nb.onnx"], "can't be read")
    refused(tmp_path, ["inspect", "a\0b"], "can't be read")


def message(path: Path) -> str | None:
    """Why a model is refused, None if it isn't; whatever else is raised ends the test."""
    try:
        intsim.load(path)
    except intsim.IntsimError as error:
        return str(error)
    return None


def test_every_truncation(tmp_path):
    """A cut file is refused, or (cut between fields) still a model that says what it lacks; nothing else is raised."""
    path = tmp_path / "cut.onnx"
    accepted = 0
    for end in range(1, len(VALID)):
        path.write_bytes(VALID[:end])
        text = message(path)
        accepted += text is None
        if text is not None:
            assert "cut.onnx" in text
            assert "\n" not in text
    assert accepted < 10
    for end in range(1, len(VALID), 150):
        path.write_bytes(VALID[:end])
        refused(tmp_path, ["lower", path, "-o", tmp_path / "out"], "cut.onnx")


def test_the_undamaged_model_works(tmp_path):
    (tmp_path / "m.onnx").write_bytes(VALID)
    code, _, err = command("lower", tmp_path / "m.onnx", "-o", tmp_path / "new" / "out")
    assert (code, err) == (0, "")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["out"]


# --- models that are wrong ---------------------------------------------------------------------------------------


def cyclic(m):
    node(m, "relu").input[0] = "y"


def twice(m):
    node(m, "relu").output[0] = "acc"


def name_of_input(m):
    node(m, "relu").output[0] = "x"
    node(m, "quant_y").input[0] = "x"


def same_initializers(m):
    m.graph.initializer.append(constant(m, "w"))


def same_inputs(m):
    m.graph.input.append(m.graph.input[0])


def same_outputs(m):
    m.graph.output.append(m.graph.output[0])


def short_data(m):
    constant(m, "w").raw_data = constant(m, "w").raw_data[:-5]


def long_data(m):
    constant(m, "w").raw_data += b"1234"


def negative_dims(m):
    constant(m, "w").dims[0] = -2


def huge_dims(m):
    constant(m, "w").dims[0] = 1 << 60


def unknown_type(m):
    constant(m, "w").data_type = 99


def external(location):
    def change(m):
        tensor = constant(m, "w")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.append(onnx.StringStringEntryProto(key="location", value=location))

    return change


def sparse(m):
    values, index = numpy_helper.from_array(np.float32([1]), "sp"), numpy_helper.from_array(np.int64([0]), "i")
    m.graph.sparse_initializer.append(helper.make_sparse_tensor(values, index, [4]))


def spoiled(name, value):
    def change(m):
        array = numpy_helper.to_array(constant(m, name)).copy()
        array.reshape(-1)[0] = value
        put(m, name, array)

    return change


def given_scale(value):
    return lambda m: put(m, "sy", np.float32(value))


def computed_scale(m):
    node(m, "quant_y").input[1] = "acc"


def input_scale(m):
    drop(m, "sy")
    m.graph.input.append(helper.make_tensor_value_info("sy", TensorProto.FLOAT, []))


def own_bits(value):
    def change(m):
        put(m, "bits_y", np.float32(value))
        node(m, "quant_y").input[3] = "bits_y"

    return change


def branch(m):
    inner = helper.make_graph([helper.make_node("Identity", ["acc"], ["i"])], "inner", [], [])
    put(m, "flag", np.array(True))
    made = helper.make_node("If", ["flag"], ["made"], name="bad", then_branch=inner, else_branch=inner)
    m.graph.node.insert(3, made)
    node(m, "relu").input[0] = "made"


def loop(m):
    body = helper.make_graph([], "body", [], [])
    put(m, "n", np.int64(1 << 60))
    put(m, "flag", np.array(True))
    m.graph.node.insert(3, helper.make_node("Loop", ["n", "flag", "acc"], ["made"], name="bad", body=body))
    node(m, "relu").input[0] = "made"


def constant_bomb(m):
    put(m, "shape", np.int64([1 << 40]))
    m.graph.node.insert(0, helper.make_node("ConstantOfShape", ["shape"], ["made"], name="bad"))
    node(m, "conv").input[2] = "made"


def tile_bomb(m):
    put(m, "repeats", np.int64([1 << 40]))
    m.graph.node.insert(0, helper.make_node("Tile", ["b", "repeats"], ["made"], name="bad"))
    node(m, "conv").input[2] = "made"


def range_bomb(m):
    for n, v in (("r0", 0), ("r1", 1 << 40), ("r2", 1)):
        put(m, n, np.int64(v))
    m.graph.node.insert(0, helper.make_node("Range", ["r0", "r1", "r2"], ["made"], name="bad"))
    node(m, "conv").input[2] = "made"


def pad_bomb(m, count=1 << 31):
    put(m, "pads", np.int64([0, 0, count, count, 0, 0, count, count]))
    insert(m, "conv", "Pad", "pads")


def constant_pad_bomb(m):
    put(m, "pads", np.int64([1 << 31, 1 << 31]))
    m.graph.node.insert(0, helper.make_node("Pad", ["b", "pads"], ["made"], name="bad"))
    node(m, "conv").input[2] = "made"


def edge_pad_bomb(m):
    pad_bomb(m)
    set_attribute(m, "bad", "mode", "edge")


def host_pad_bomb(m):
    put(m, "pads", np.int64([0, 0, 1 << 31, 0, 0, 0, 1 << 31, 0]))
    insert(m, "quant_x", "Pad", "pads")


def resize_bomb(m):
    put(m, "scales", np.float32([1, 1, 1e9, 1e9]))
    insert(m, "conv", "Resize", "", "scales", mode="nearest")


def large_resize(m):
    put(m, "scales", np.float32([1, 1, 1e5, 1e5]))
    insert(m, "conv", "Resize", "", "scales", mode="nearest")


def linear_resize(m):
    put(m, "scales", np.float32([1, 1, 1e5, 1e5]))
    insert(m, "conv", "Resize", "", "scales", mode="linear")


def host_resize(m):
    put(m, "scales", np.float32([1, 1, 1e5, 1e5]))
    insert(m, "quant_x", "Resize", "", "scales", mode="nearest")


def expand_bomb(m):
    put(m, "shape", np.int64([1 << 20, 1 << 20, 1, 2, 3, 3]))
    insert(m, "relu", "Expand", "shape")


def conv_pads(m):
    set_attribute(m, "conv", "pads", [1 << 40] * 4)


def reshape(*shape):
    def change(m):
        put(m, "shape", np.int64(shape))
        insert(m, "relu", "Reshape", "shape")

    return change


def attribute(name, key, value=None):
    return lambda m: set_attribute(m, name, key, value)


def inserted(op, *extra, **at):
    return lambda m: insert(m, "relu", op, *extra, **at)


def opset(version):
    def change(m):
        del m.opset_import[:]
        m.opset_import.extend([helper.make_opsetid("", version), helper.make_opsetid(QONNX, 1)])

    return change


def input_of(kind):
    def change(m):
        m.graph.input[0].type.tensor_type.elem_type = kind

    return change


def no_input_type(m):
    m.graph.input[0].ClearField("type")


def sequence_input(m):
    m.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, [1, 2, 5, 5]))


def unquantized(m):
    del m.graph.node[:]
    m.graph.node.append(helper.make_node("Relu", ["x"], ["y"], name="relu"))


def independent(m):
    put(m, "one", np.float32([1, 2]))
    m.graph.node.append(helper.make_node("Relu", ["one"], ["lonely"], name="lone"))
    m.graph.output.append(helper.make_tensor_value_info("lonely", TensorProto.FLOAT, [2]))


def independent_host(m):
    m.graph.node.append(helper.make_node("Abs", ["x"], ["lonely"], name="lone"))
    m.graph.output.append(helper.make_tensor_value_info("lonely", TensorProto.FLOAT, [1, 2, 5, 5]))


def no_outputs(m):
    del m.graph.output[:]


def string_constant(m):
    m.graph.initializer.append(helper.make_tensor("s", TensorProto.STRING, [2], [b"a", b"b"]))
    node(m, "conv").input[2] = "s"


def complex_constant(m):
    put(m, "b", np.complex64([1, 2]))


def strange_attribute(m):
    """An attribute without value and type."""
    set_attribute(m, "conv", "strides")
    node(m, "conv").attribute.append(onnx.AttributeProto(name="strides"))


def unnamed_cycle(m):
    cyclic(m)
    node(m, "relu").name = ""


def deep(m):
    """A float chain long enough to exhaust a recursive walk."""
    last = "y"
    for i in range(3000):
        m.graph.node.append(helper.make_node("Foo", [last], [f"d{i}"], name=f"foo{i}"))
        last = f"d{i}"
    m.graph.node.append(helper.make_node("Quant", [last, "sy", "z", "bits"], ["end"], name="last", domain=QONNX))
    m.graph.output[0].name = "end"


MODELS = {
    "missing initializer": (lambda m: drop(m, "w"), "quant_w", "input w"),
    "undefined input": (lambda m: node(m, "relu").input.__setitem__(0, "ghost"), "relu", "ghost"),
    "too few inputs": (lambda m: node(m, "quant_y").input.__delitem__(slice(1, None)), "quant_y", "scale"),
    "no inputs": (lambda m: node(m, "relu").input.__delitem__(slice(0, None)), "relu"),
    "no outputs of a node": (lambda m: node(m, "relu").output.__delitem__(0), "r "),
    "cycle": (cyclic, "relu", "cycle"),
    "cycle without a name": (unnamed_cycle, "cycle"),
    "self loop": (lambda m: node(m, "relu").input.__setitem__(0, "r"), "relu", "cycle"),
    "made twice": (twice, "relu", "acc is made twice"),
    "made and input": (name_of_input, "relu", "x is made twice"),
    "two initializers of a name": (same_initializers, "w", "twice"),
    "two inputs of a name": (same_inputs, "x", "twice"),
    "two outputs of a name": (same_outputs, "y", "twice"),
    "output by nobody": (lambda m: setattr(m.graph.output[0], "name", "nobody"), "nobody", "made by no node"),
    "no graph outputs": (no_outputs, "no output"),
    "short raw_data": (short_data, "initializer w"),
    "long raw_data": (long_data, "initializer w"),
    "negative dims": (negative_dims, "initializer w"),
    "huge dims": (huge_dims, "initializer w"),
    "unknown data type": (unknown_type, "initializer w"),
    "external data missing": (external("w.bin"), "initializer w"),
    "external data escapes": (external("../../../etc/passwd"), "initializer w"),
    "external data absolute": (external("/etc/passwd"), "initializer w"),
    "external data nowhere": (external(""), "initializer w"),
    "sparse": (sparse, "sparse"),
    "NaN weight": (spoiled("w", np.nan), "initializer w", "NaN"),
    "inf bias": (spoiled("b", np.inf), "initializer b", "infinity"),
    "string constant": (string_constant, "initializer s", "not numeric"),
    "complex constant": (complex_constant, "initializer b", "not numeric"),
    "NaN scale": (given_scale(np.nan), "sy", "NaN"),
    "zero scale": (given_scale(0), "quant_y", "zero or negative"),
    "negative scale": (given_scale(-1.5), "quant_y", "zero or negative"),
    "empty scale": (given_scale([]), "quant_y", "scale"),
    "scale of wrong length": (given_scale([[[[1.0]], [[2.0]], [[3.0]]]]), "quant_y", "scale"),
    "scale of too many axes": (given_scale(np.ones((2, 1, 2, 3, 3))), "quant_y", "scale"),
    "computed scale": (computed_scale, "quant_y", "scale (acc) is not a constant"),
    "scale as input": (input_scale, "quant_y", "not a constant"),
    "200 bits": (own_bits(200), "quant_y", "200"),
    "0 bits": (own_bits(0), "quant_y", "bit width 0"),
    "negative bits": (own_bits(-3), "quant_y", "bit width -3"),
    "fractional bits": (own_bits(3.5), "quant_y", "3.5"),
    "several bits": (own_bits([3, 4]), "quant_y", "bit width"),
    "no bits": (own_bits([]), "quant_y", "bit width"),
    "empty zero point": (lambda m: put(m, "z", np.zeros(0, np.float32)), "quant_x", "zero point"),
    "unknown rounding mode": (attribute("quant_y", "rounding_mode", "STOCHASTIC"), "quant_y", "STOCHASTIC"),
    "unknown operator": (inserted("Frobnicate"), "bad", "Frobnicate"),
    "unknown domain": (inserted("Relu", domain="com.example"), "bad", "com.example"),
    "operator of another domain": (lambda m: setattr(node(m, "conv"), "domain", "com.example"), "conv", "com.example"),
    "If": (branch, "bad", "If"),
    "Loop": (loop, "bad", "Loop"),
    "deep chain": (deep, "Foo"),
    "symbolic shape": (lambda m: dims(m, "batch", 2, 5, 5), "input x", "[batch, 2, 5, 5]", "--shape"),
    "open shape": (lambda m: dims(m, None, 2, 5, 5), "input x", "[?, 2, 5, 5]", "--shape"),
    "zero dimension": (lambda m: dims(m, 0, 2, 5, 5), "input x", "--shape"),
    "negative dimension": (lambda m: dims(m, -1, 2, 5, 5), "input x", "--shape"),
    "huge shape": (lambda m: dims(m, 10**6, 2, 10**6, 5), "input x", "not usable"),
    "huge dimension": (lambda m: dims(m, 1, 2, 2**62, 2**62), "input x", "not usable"),
    "no shape": (lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"), "input x", "--shape"),
    "no type": (no_input_type, "input x"),
    "sequence input": (sequence_input, "input x"),
    "string input": (input_of(TensorProto.STRING), "input x", "type"),
    "complex input": (input_of(TensorProto.COMPLEX64), "input x", "type"),
    "unknown input type": (input_of(77), "input x", "type"),
    "rank 1 input": (lambda m: dims(m, 50), "conv"),
    "rank 0 input": (lambda m: dims(m), "conv"),
    "ConstantOfShape bomb": (constant_bomb, "bad", "1099511627776"),
    "Tile bomb": (tile_bomb, "bad", "elements"),
    "Range bomb": (range_bomb, "bad", "elements"),
    "Expand bomb": (expand_bomb, "bad", "elements"),
    "Pad bomb": (pad_bomb, "bad", "elements"),
    "Pad of a constant": (constant_pad_bomb, "bad", "elements"),
    "edge Pad bomb": (edge_pad_bomb, "bad", "elements"),
    "Pad before the quantizer": (host_pad_bomb, "bad", "elements"),
    "Conv pads bomb": (conv_pads, "conv", "elements"),
    "Resize by 1e9": (resize_bomb, "bad", "1000000000"),
    "Resize by 1e5 twice": (large_resize, "bad", "elements"),
    "linear Resize": (linear_resize, "bad", "elements"),
    "Resize before the quantizer": (host_resize, "bad", "elements"),
    "Reshape to wrong size": (reshape(1, 7), "bad", "18 elements"),
    "Reshape with two -1": (reshape(-1, -1), "bad", "18 elements"),
    "Reshape to nothing": (reshape(0, 0, 0, 0, 0), "bad", "doesn't have"),
    "Reshape to negative": (reshape(-2, -9), "bad", "18 elements"),
    "kernel larger than input": (lambda m: dims(m, 1, 2, 2, 2), "conv"),
    "kernel_shape not the weights'": (attribute("conv", "kernel_shape", [5, 5]), "conv", "kernel_shape"),
    "dilated kernel larger than input": (attribute("conv", "dilations", [9, 9]), "conv"),
    "stride 0": (attribute("conv", "strides", [0, 1]), "conv", "strides"),
    "negative stride": (attribute("conv", "strides", [-1, 1]), "conv", "strides"),
    "strides of wrong length": (attribute("conv", "strides", [1]), "conv", "strides"),
    "strides a float": (attribute("conv", "strides", 1.5), "conv"),
    "strides a text": (attribute("conv", "strides", "one"), "conv"),
    "pads of wrong length": (attribute("conv", "pads", [1, 1, 1]), "conv", "pads"),
    "auto_pad unknown": (attribute("conv", "auto_pad", "SAME_SIDEWAYS"), "conv", "SAME_SIDEWAYS"),
    "group mismatch": (attribute("conv", "group", 3), "conv", "groups"),
    "group 0": (attribute("conv", "group", 0), "conv", "group"),
    "negative group": (attribute("conv", "group", -2), "conv", "group"),
    "channel mismatch": (lambda m: put(m, "w", np.ones((2, 3, 3, 3), np.float32)), "conv", "channels"),
    "bias of wrong length": (lambda m: put(m, "b", np.float32([1, 2, 3])), "conv", "bias"),
    "weights of rank 1": (lambda m: put(m, "w", np.float32([1, 2])), "conv"),
    "empty weights": (lambda m: put(m, "w", np.zeros((0, 2, 3, 3), np.float32)), "conv"),
    "no weight": (lambda m: node(m, "conv").input.__delitem__(slice(1, None)), "conv"),
    "attribute of unknown type": (strange_attribute, "conv", "strides"),
    "pool without kernel_shape": (inserted("MaxPool"), "bad", "kernel_shape"),
    "pool with a huge kernel": (inserted("MaxPool", kernel_shape=[1 << 40, 1]), "bad"),
    "concat without axis": (inserted("Concat"), "bad", "axis"),
    "axis out of range": (inserted("Concat", axis=7), "bad", "axis"),
    "split axis out of range": (inserted("Split", axis=9), "bad", "axis"),
    "flatten axis out of range": (inserted("Flatten", axis=9), "bad", "axis"),
    "perm out of range": (inserted("Transpose", perm=[0, 1, 2, 9]), "bad", "perm"),
    "perm too short": (inserted("Transpose", perm=[0, 1]), "bad", "perm"),
    "perm repeated": (inserted("Transpose", perm=[0, 1, 1, 2]), "bad", "perm"),
    "DepthToSpace without blocksize": (inserted("DepthToSpace"), "bad", "blocksize"),
    "float function between quantizers": (inserted("LogSoftmax"), "bad", "LogSoftmax"),
    "opset missing": (lambda m: m.opset_import.__delitem__(slice(0, None)), "opset"),
    "opset 0": (opset(0), "opset"),
    "opset -1": (opset(-1), "opset"),
    "opset 999": (opset(999), "opset 999"),
    "no quantizer": (unquantized, "nothing here is integer"),
    "constant output": (independent, "lonely", "doesn't depend"),
    "float output": (independent_host, "lonely", "doesn't depend"),
}


@pytest.mark.parametrize("case", MODELS)
def test_wrong_model(tmp_path, case):
    change, *words = MODELS[case]
    model = net()
    change(model)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "secret").write_bytes(bytes(144))
    refused(tmp_path, ["lower", tmp_path / "m.onnx", "-o", tmp_path / "out"], "m.onnx", *words)


@pytest.mark.parametrize(
    "change",
    [
        opset(9),
        lambda m: setattr(m, "ir_version", 99),
        lambda m: m.ClearField("ir_version"),
        input_of(TensorProto.DOUBLE),
        input_of(TensorProto.FLOAT16),
        lambda m: put(m, "z", np.float32(0.375)),
        given_scale([[[[1.0]], [[2.0]]]]),
        lambda m: m.graph.output[0].ClearField("type"),
    ],
    ids=["opset-9", "ir-99", "ir-none", "float64", "float16", "fractional-zero", "channel-scale", "untyped-output"],
)
def test_unusual_but_right(tmp_path, change):
    model = net()
    change(model)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    code, out, err = command("verify", tmp_path / "m.onnx", "--no-references", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["verdict"] == "exact"


def test_float64_and_float16_constants(tmp_path):
    for dtype in (np.float64, np.float16):
        model = net()
        for name in [i.name for i in model.graph.initializer]:
            put(model, name, numpy_helper.to_array(constant(model, name)).astype(dtype))
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        code, _, err = command("verify", tmp_path / "m.onnx", "--no-references", "--json")
        assert (code, err) == (0, "")


# --- inputs, options, outputs -------------------------------------------------------------------------------------

X = np.zeros((1, 2, 5, 5), np.float32)
INPUTS = {
    "wrong name": ({"q": X}, "'q'", "x"),
    "name of a constant": ({"x": X, "sx": np.float32(1)}, "'sx'"),
    "wrong shape": ({"x": X[:, :1]}, "input x", "(1, 1, 5, 5)", "(1, 2, 5, 5)"),
    "wrong rank": ({"x": X[0, 0]}, "input x", "(5, 5)"),
    "empty": ({"x": X[:0]}, "input x"),
    "complex": ({"x": X.astype(np.complex64)}, "input x", "complex64"),
    "text": ({"x": np.full(X.shape, "a")}, "input x", "not numeric"),
    "dates": ({"x": np.full(X.shape, np.datetime64("2020"))}, "input x", "not numeric"),
    "NaN": ({"x": np.where(np.arange(50).reshape(X.shape) == 7, np.nan, X)}, "input x", "NaN"),
    "inf": ({"x": X + np.inf}, "input x", "infinity"),
    "missing": ({}, "needs input 'x'"),
    "one too many": ({"x": X, "y": X}, "'y'"),
    "batches of two lengths": ({"x": X[None].repeat(2, 0), "y": X}, "'y'"),
}


@pytest.mark.parametrize("verb", ["run", "verify"])
@pytest.mark.parametrize("case", INPUTS)
def test_wrong_inputs(tmp_path, verb, case):
    arrays, *words = INPUTS[case]
    (tmp_path / "m.onnx").write_bytes(VALID)
    np.savez(tmp_path / "i.npz", **arrays)
    out = tmp_path / "new" / "out.npz"
    refused(tmp_path, [verb, tmp_path / "m.onnx", "-i", tmp_path / "i.npz", "-o", out], *words)


def test_damaged_input_files(tmp_path):
    (tmp_path / "m.onnx").write_bytes(VALID)
    np.savez(tmp_path / "good.npz", x=X)
    good = (tmp_path / "good.npz").read_bytes()
    np.save(tmp_path / "object.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.savez(tmp_path / "object.npz", x=np.array([{"a": 1}], object))
    np.save(tmp_path / "good.npy", X)
    npy = (tmp_path / "good.npy").read_bytes()
    damaged = {
        "cut.npz": good[: len(good) // 2],
        "short.npz": good[:-30],
        "no.npz": b"PK but not a zip",
        "empty.npz": b"",
        "cut.npy": npy[:-7],
        "head.npy": npy[:20],
        "text.npy": b"1 2 3\n",
        "pickle.npy": pickle.dumps(X),
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
    for name in [*damaged, "object.npy", "object.npz", "absent.npz"]:
        for verb in ("run", "verify"):
            refused(tmp_path, [verb, tmp_path / "m.onnx", "-i", tmp_path / name, "-o", tmp_path / "out"], name)
    for name in ("good.npy", "good.npz"):
        assert command("run", tmp_path / "m.onnx", "-i", tmp_path / name)[0] == 0


def test_huge_array_in_a_small_file(tmp_path):
    """A header that promises 10^12 numbers is refused, not allocated."""
    (tmp_path / "m.onnx").write_bytes(VALID)
    with (tmp_path / "i.npy").open("wb") as file:
        head = {"descr": "<f4", "fortran_order": False, "shape": (10**12,)}
        np.lib.format.write_array_header_1_0(file, head)
        file.write(bytes(200))
    refused(tmp_path, ["run", tmp_path / "m.onnx", "-i", tmp_path / "i.npy"], "i.npy")


def test_one_array_for_two_inputs(tmp_path):
    two = Net()
    y = two.node("Add", two.quant(two.input(1, 2, name="a")), two.quant(two.input(1, 2, name="b")))
    (tmp_path / "m.onnx").write_bytes(two.model(two.quant(y)).SerializeToString())
    np.save(tmp_path / "i.npy", X[0, 0, :1, :2])
    refused(tmp_path, ["run", tmp_path / "m.onnx", "-i", tmp_path / "i.npy"], "i.npy", "a, b", "npz")
    np.savez(tmp_path / "i.npz", a=np.zeros((3, 2), np.float32), b=np.zeros((4, 2), np.float32))
    refused(tmp_path, ["run", tmp_path / "m.onnx", "-i", tmp_path / "i.npz"], "samples")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--shape", "x"], ["--shape x", "NAME=1,3,32,32"]),
        (["--shape", "x=1,2,a"], ["--shape x=1,2,a", "NAME=1,3,32,32"]),
        (["--shape", "x="], ["--shape x=", "NAME=1,3,32,32"]),
        (["--shape", "=1,2,5,5"], ["input"]),
        (["--shape", "y=1,2,5,5"], ["no input named 'y'", "x"]),
        (["--shape", "x=1,2,6,6"], ["input x", "doesn't fit"]),
        (["--shape", "x=1,2,5"], ["input x", "doesn't fit"]),
        (["--shape", "x=1,2,-5,5"], ["input x"]),
        (["--target", "pdp-11"], ["unknown target 'pdp-11'", "x86-avx2"]),
        (["--target", "none.toml"], ["none.toml", "No such file"]),
        (["--target", "bad.toml"], ["bad.toml", "not TOML"]),
        (["--target", "wrong.toml"], ["wrong.toml", "unknown key name"]),
        (["--target", "."], ["'.'"]),
        (["--constants", "none.npz"], ["none.npz"]),
        (["--constants", "bad.toml"], ["bad.toml", ".npz"]),
        (["--constants", "q.npz"], ["q", "no input named"]),
        (["--samples", "0"], ["--samples"]),
        (["--samples", "many"], ["--samples"]),
        (["--samples", "99999999999999999999"], ["--samples"]),
        (["--seed", "-1"], ["--seed"]),
        (["--frobnicate"], ["--frobnicate"]),
        (["--reference-timeout", "0"], ["--reference-timeout"]),
        (["--reference-timeout", "nan"], ["--reference-timeout"]),
        (["--inputs"], ["--inputs"]),
        (["extra"], ["extra"]),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) and v and v[0].startswith("-") else "",
)
def test_wrong_options(tmp_path, monkeypatch, args, words):
    monkeypatch.chdir(tmp_path)
    Path("m.onnx").write_bytes(VALID)
    Path("bad.toml").write_text("title = [")
    Path("wrong.toml").write_text("name = 3\n")
    np.savez("q.npz", q=X)
    refused(tmp_path, ["verify", "m.onnx", "-o", "out", "--no-references", *args], *words)


def test_wrong_verbs(tmp_path):
    refused(tmp_path, ["frobnicate"], "frobnicate")
    refused(tmp_path, ["verify"], "MODEL")
    refused(tmp_path, ["lower", "m.onnx"], "--out")
    refused(tmp_path, ["targets", "pdp-11"], "pdp-11")
    refused(tmp_path, ["--frobnicate"], "--frobnicate")


def test_outputs_that_can_not_be_written(tmp_path):
    (tmp_path / "m.onnx").write_bytes(VALID)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.npz").mkdir()
    m = tmp_path / "m.onnx"
    for verb in ("lower", "verify"):
        refused(tmp_path, [verb, m, "-o", tmp_path / "file"], "file", "is a file")
    for verb in ("lower", "verify", "run"):
        refused(tmp_path, [verb, m, "-o", tmp_path / "file" / "deep" / "out"], "can't be written")
        refused(tmp_path, [verb, m, "-o", "/proc/nowhere/out"], "/proc/nowhere", "can't be written")
        refused(tmp_path, [verb, m, "-o", "/dev/null/out"], "/dev/null", "can't be written")
    refused(tmp_path, ["run", m, "-o", tmp_path / "folder.npz"], "folder.npz", "is a folder")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failure_leaves_no_folders(tmp_path):
    """A target that refuses a layer while it runs leaves neither parents nor drafts."""
    (tmp_path / "m.onnx").write_bytes(VALID)
    (tmp_path / "t.toml").write_text(
        'title = "t"\nsource = ["s"]\noperands = { activation = "u2", weight = "s2" }\n'
        'accumulate.stages = [{ sum = "rest", bits = 32, overflow = "wrap" }]\nrequantize.scheme = "exact"\n'
    )
    for verb in ("run", "verify"):
        out = tmp_path / "new" / "deeper" / "out"
        refused(tmp_path, [verb, tmp_path / "m.onnx", "-t", tmp_path / "t.toml", "-o", out], "conv", "u2")


# --- as another process ------------------------------------------------------------------------------------------


def limited() -> None:
    """At most 3 GiB of address space: a bomb that goes off ends in a MemoryError, not in this machine."""
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))


def process(*args: object) -> tuple[int, str, str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "intsim.cli", *map(str, args)],
        capture_output=True, text=True, timeout=60, env=env, preexec_fn=limited, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


LONG = ("empty graph", "Pad before the quantizer", "linear Resize", "huge dims")


@pytest.mark.parametrize(
    "case", ["half", "cycle", "Tile bomb", *(pytest.param(c, marks=pytest.mark.slow) for c in LONG)]
)
def test_as_a_process(tmp_path, case):
    """The whole program, with little memory."""
    if case in BYTES:
        data, *words = BYTES[case]
    else:
        change, *words = MODELS[case]
        model = net()
        change(model)
        data = model.SerializeToString()
    (tmp_path / "m.onnx").write_bytes(data)
    check(*process("lower", tmp_path / "m.onnx", "-o", tmp_path / "out"), "m.onnx", *words)
    assert files(tmp_path) == {"m.onnx": len(data)}


def test_usage_error_of_a_process(tmp_path):
    check(*process("verify", tmp_path / "m.onnx", "--samples", 0), "--samples")


# --- fuzz --------------------------------------------------------------------------------------------------------

edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "delete", "insert", "copy"]),
        st.integers(0, len(VALID) - 1),
        st.integers(0, 255),
        st.integers(1, 8),
    ),
    min_size=1,
    max_size=3,
)


def mutated(data: bytes, changes: list[tuple[str, int, int, int]]) -> bytes:
    for kind, at, value, length in changes:
        if kind == "flip":
            data = data[:at] + bytes([data[at] ^ (1 << value % 8)]) + data[at + 1 :] if at < len(data) else data
        elif kind == "set":
            data = data[:at] + bytes([value]) + data[at + 1 :]
        elif kind == "delete":
            data = data[:at] + data[at + length :]
        elif kind == "insert":
            data = data[:at] + bytes([value]) * length + data[at:]
        else:
            data = data[:at] + data[value : value + length] + data[at + length :]
    return data


@settings(max_examples=SMALL)
@given(edits)
def test_damaged_bytes(tmp_path_factory, changes):
    """A damaged model loads and (unless it has become large) runs, or is refused: no other exception, no delay."""
    path = tmp_path_factory.getbasetemp() / "fuzz.onnx"
    path.write_bytes(mutated(VALID, changes))
    began, text = time.monotonic(), ""
    try:
        model = intsim.load(path)
        if all(np.prod(t.shape) < 1e5 for t in model.graph.tensors.values()):
            model.run({n: np.zeros(s, np.int64) for n, (s, _) in model.lowered.source.inputs.items()})
    except intsim.IntsimError as error:
        text = str(error)
    assert "\n" not in text
    assert time.monotonic() - began < SECONDS


def test_every_flipped_bit(tmp_path):
    """Every third bit of the file flipped, one at a time."""
    path = tmp_path / "fuzz.onnx"
    for at in range(len(VALID)):
        for bit in range(at % 3, 8, 3):
            path.write_bytes(VALID[:at] + bytes([VALID[at] ^ (1 << bit)]) + VALID[at + 1 :])
            assert "\n" not in (message(path) or "")
