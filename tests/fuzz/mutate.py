"""Structured mutations, decided by a numpy generator: of ONNX models, of trees (TOML, JSON), of .npz, of bytes."""

import copy
import io

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

NUMBERS = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, -1e-38, 3.4e38, -3.4e38, 1e-300, 2.0**31, -(2.0**31), 65504.0, 1 / 3]
ODD = [float("nan"), float("inf"), float("-inf")]
INTEGERS = [0, 1, -1, 2, 7, 8, 127, 128, 255, 256, -128, 1 << 15, 1 << 31, -(1 << 31), (1 << 63) - 1, -(1 << 63), 40]
OPERATORS = [
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Conv",
    "ConvTranspose",
    "MatMul",
    "Gemm",
    "Relu",
    "LeakyRelu",
    "Clip",
    "Concat",
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Pad",
    "Resize",
    "Slice",
    "Split",
    "Gather",
    "Expand",
    "Tile",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "ReduceMean",
    "ReduceSum",
    "Softmax",
    "Gelu",
    "Sigmoid",
    "Tanh",
    "Exp",
    "Erf",
    "Sqrt",
    "Pow",
    "Max",
    "Min",
    "Where",
    "Cast",
    "Identity",
    "Shape",
    "ConstantOfShape",
    "LayerNormalization",
    "BatchNormalization",
    "Quant",
    "BipolarQuant",
    "Trunc",
    "QuantizeLinear",
    "DequantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeLinear",
    "NonZero",
    "Loop",
    "TopK",
    "Einsum",
    "LSTM",
]
ATTRIBUTES = [
    "axis",
    "axes",
    "group",
    "strides",
    "pads",
    "dilations",
    "kernel_shape",
    "auto_pad",
    "ceil_mode",
    "count_include_pad",
    "keepdims",
    "alpha",
    "rounding_mode",
    "signed",
    "narrow",
    "to",
    "perm",
    "mode",
    "transA",
    "transB",
    "transB",
    "block_size",
    "epsilon",
    "approximate",
    "output_padding",
]
TYPES = ["float32", "float64", "float16", "int8", "uint8", "int32", "int64", "bool"]
DOMAINS = ["", "ai.onnx", "com.microsoft", "qonnx.custom_op.general", "onnx.brevitas", "com.evil"]


def pick(rng, items):
    return items[int(rng.integers(len(items)))]


def _names(graph):
    made = [o for n in graph.node for o in n.output]
    return [i.name for i in graph.input] + [i.name for i in graph.initializer] + made


def rewire(rng, model):
    """An input of a node becomes another tensor, or nothing."""
    node = pick(rng, model.graph.node)
    if node.input:
        node.input[int(rng.integers(len(node.input)))] = pick(rng, [*_names(model.graph), ""])


def swap_inputs(rng, model):
    node = pick(rng, model.graph.node)
    if len(node.input) > 1:
        a, b = rng.integers(len(node.input), size=2)
        node.input[a], node.input[b] = node.input[b], node.input[a]


def shorten(rng, model):
    node = pick(rng, model.graph.node)
    if node.input:
        del node.input[int(rng.integers(len(node.input))) :]


def lengthen(rng, model):
    pick(rng, model.graph.node).input.append(pick(rng, _names(model.graph)))


def rename_operator(rng, model):
    pick(rng, model.graph.node).op_type = pick(rng, OPERATORS)


def other_domain(rng, model):
    pick(rng, model.graph.node).domain = pick(rng, DOMAINS)


def drop_node(rng, model):
    del model.graph.node[int(rng.integers(len(model.graph.node)))]


def insert_node(rng, model):
    """A node between a tensor and its reader."""
    reader = pick(rng, model.graph.node)
    if reader.input:
        at = int(rng.integers(len(reader.input)))
        extra = [pick(rng, _names(model.graph)) for _ in range(int(rng.integers(3)))]
        made = helper.make_node(
            pick(rng, OPERATORS), [reader.input[at], *extra], ["fuzzed"], domain=pick(rng, DOMAINS[:4])
        )
        reader.input[at] = "fuzzed"
        model.graph.node.insert(list(model.graph.node).index(reader), made)


def double_node(rng, model):
    """A chain of one node after itself, some times."""
    node = pick(rng, model.graph.node)
    if not node.output:
        return
    name = node.output[0]
    for reader in model.graph.node:
        for i, read in enumerate(reader.input):
            if read == name:
                reader.input[i] = "again3"
    for i in range(4):
        made = copy.deepcopy(node)
        made.name = f"again{i}"
        if made.input:
            made.input[0] = name if i == 0 else f"again{i - 1}"
        made.output[0] = f"again{i}"
        model.graph.node.append(made)


def change_attribute(rng, model):
    node = pick(rng, model.graph.node)
    if node.attribute and rng.random() < 0.7:
        attribute = pick(rng, node.attribute)
        if rng.random() < 0.2:
            node.attribute.remove(attribute)
        elif attribute.ints:
            attribute.ints[int(rng.integers(len(attribute.ints)))] = pick(rng, INTEGERS)
        elif attribute.s:
            attribute.s = pick(rng, [b"", b"FLOOR", b"ROUND", b"SAME_UPPER", b"nearest", b"\xff", b"linear", b"tanh"])
        elif rng.random() < 0.5:
            attribute.i = pick(rng, INTEGERS)
        else:
            attribute.f = pick(rng, NUMBERS + ODD)
        return
    value = pick(rng, [pick(rng, INTEGERS), [pick(rng, INTEGERS) for _ in range(int(rng.integers(1, 5)))], 0.5, "x"])
    node.attribute.append(helper.make_attribute(pick(rng, ATTRIBUTES), value))


def change_constant(rng, model):
    """Values, shape or type of an initializer."""
    held = pick(rng, model.graph.initializer)
    array = np.array(numpy_helper.to_array(held))
    way = int(rng.integers(6))
    if way == 0 and array.size:
        kind = array.dtype.kind
        flat = array.reshape(-1)
        with np.errstate(all="ignore"):
            flat[int(rng.integers(flat.size))] = (
                pick(rng, NUMBERS + ODD) if kind == "f" else np.int64(pick(rng, INTEGERS)).astype(array.dtype)
            )
    elif way == 1:
        array = array.reshape(-1)
    elif way == 2:
        array = array.reshape((1,) * int(rng.integers(1, 5)) + array.shape)
    elif way == 3 and array.size:
        array = np.repeat(array[None], int(rng.integers(0, 4)), axis=0)
    elif way == 4:
        with np.errstate(all="ignore"):
            array = array.astype(
                pick(rng, ["float32", "float64", "float16", "int8", "uint8", "int32", "int64", "bool"])
            )
    else:
        array = np.zeros((0,) * max(array.ndim, 1), array.dtype)
    held.CopyFrom(numpy_helper.from_array(array, held.name))


def lie_about_dims(rng, model):
    held = pick(rng, model.graph.initializer)
    held.dims.append(pick(rng, [0, 2, -1, 1 << 20, 1 << 40]))


def change_input(rng, model):
    given = pick(rng, model.graph.input).type.tensor_type
    if given.shape.dim and rng.random() < 0.7:
        given.shape.dim[int(rng.integers(len(given.shape.dim)))].dim_value = pick(rng, [0, 1, 2, 3, 17, -1, 1 << 20])
    else:
        given.elem_type = pick(rng, [0, TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8, TensorProto.STRING, 99])


def change_output(rng, model):
    model.graph.output[0].name = pick(rng, _names(model.graph))


def change_opset(rng, model):
    pick(rng, model.opset_import).version = pick(rng, [0, 1, 6, 9, 11, 13, 17, 20, 22, 25, 99])


MODEL = (rewire, swap_inputs, shorten, lengthen, rename_operator, other_domain, drop_node, insert_node, double_node)
MODEL += (change_attribute, change_attribute, change_constant, change_constant, change_constant, lie_about_dims)
MODEL += (change_input, change_output, change_opset)


def mutant(rng, model: ModelProto) -> ModelProto:
    """A model with one to three changes."""
    made = copy.deepcopy(model)
    for _ in range(int(rng.integers(1, 4))):
        if not made.graph.node:
            break
        pick(rng, MODEL)(rng, made)
    return made


LEAVES = [None, True, False, "", "x", "1/0", "9" * 400, 0, -1, 1 << 70, 1e400, [], {}, [[]], "\x00", "exact"]


def paths(tree, at=()):
    """Where a tree has something."""
    yield at
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield from paths(value, (*at, key))


def tree_mutant(rng, tree):
    """A tree of dicts and lists with one to three places changed, gone, copied or new."""
    made = copy.deepcopy(tree)
    for _ in range(int(rng.integers(1, 4))):
        places = [p for p in paths(made) if p]
        if not places:
            break
        *above, key = pick(rng, places)
        holder = made
        for part in above:
            holder = holder[part]
        way = int(rng.integers(5))
        if way == 0:
            del holder[key]
        elif way == 1:
            other = made
            for part in pick(rng, places):
                other = other[part] if isinstance(other, dict | list) and _has(other, part) else other
            holder[key] = copy.deepcopy(other)
        elif way == 2 and isinstance(holder, dict):
            holder[pick(rng, ["", "x", "bits", "low", "format", "\u202e"])] = pick(rng, LEAVES)
        elif way == 3 and isinstance(holder[key], int) and not isinstance(holder[key], bool):
            holder[key] += pick(rng, [1, -1, 1 << 20])
        else:
            holder[key] = pick(rng, LEAVES)
    return made


def _has(holder, key):
    return key in holder if isinstance(holder, dict) else isinstance(key, int) and key < len(holder)


def bytes_mutant(rng, data: bytes) -> bytes:
    """Bytes with some changed, gone, doubled or new."""
    made = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at, length = int(rng.integers(len(made) + 1)), int(rng.integers(1, 9))
        way = int(rng.integers(5))
        if way == 0 and at < len(made):
            made[at] ^= 1 << int(rng.integers(8))
        elif way == 1:
            del made[at : at + length]
        elif way == 2:
            made[at:at] = bytes(rng.integers(0, 256, length, dtype=np.uint8))
        elif way == 3:
            made[at:at] = made[:length]
        else:
            del made[at:]
    return bytes(made)


def arrays_mutant(rng, arrays) -> bytes:
    """An .npz of arrays of which one has another name, shape, type or value; or its bytes are changed."""
    made = dict(arrays)
    name = pick(rng, list(made))
    array, way = np.array(made.pop(name)), int(rng.integers(6))
    if way == 0:
        made[pick(rng, ["", "y", "../x", "x" * 300])] = array
    elif way == 1:
        made[name] = array.reshape(-1)
    elif way == 2:
        kind = pick(rng, ["float16", "float64", "longdouble", "complex64", "int8", "uint64", "bool", "S4", "U2"])
        with np.errstate(all="ignore"):
            made[name] = array.astype(kind)
    elif way == 3 and array.size:
        array.reshape(-1)[0] = pick(rng, NUMBERS + ODD)
        made[name] = array
    elif way == 4:
        made[name] = array[..., :0]
    else:
        made[name] = np.full(array.shape, np.longdouble("1e4000"))
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **made)
    return file.getvalue() if rng.random() < 0.8 else bytes_mutant(rng, file.getvalue())
