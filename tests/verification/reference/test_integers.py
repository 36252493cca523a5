"""Integer operators of the reference against Python's integers and ONNX's own reference implementation."""

import itertools

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from intsim.errors import IntsimError
from intsim.verification.reference import Reference
from intsim.verification.reference.integers import INTEGERS, LOGIC, cut

KINDS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"]


def reference(op, inputs, constants=(), opset=21, **attributes):
    """The reference of one node; the runtime inputs' types are the file's, whatever type the caller's arrays have."""
    names = [f"x{i}" for i in range(len(inputs))]
    fixed = [numpy_helper.from_array(c, f"c{i}") for i, c in enumerate(constants)]
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in zip(names, inputs, strict=True)
    ]
    node = helper.make_node(op, [*names, *(c.name for c in fixed)], ["y"], **attributes)
    graph = helper.make_graph(
        [node], "g", infos, [helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)], fixed
    )
    return Reference(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))


def evaluated(op, inputs, constants=(), opset=21, **attributes):
    """The exact integers that a node makes."""
    made = reference(op, inputs, constants, opset, **attributes)
    run = made.run({f"x{i}": a.astype(np.int64) for i, a in enumerate(inputs)})
    return [int(run.exact("y", i)) for i in range(run.value("y").size)]


def corners(kind):
    low, high = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
    return sorted({low, low + 1, -3 if low else 3, 0, 1, 7, high - 1, high})


def pairs(kind):
    both = list(itertools.product(corners(kind), repeat=2))
    return both, np.array([a for a, _ in both], kind), np.array([b for _, b in both], kind)


FORMULAS = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Max": max,
    "Min": min,
    "BitwiseAnd": lambda a, b: a & b,
    "BitwiseOr": lambda a, b: a | b,
    "BitwiseXor": lambda a, b: a ^ b,
}
ONE = {
    "Neg": lambda a: -a,
    "Abs": abs,
    "Relu": lambda a: max(a, 0),
    "Sign": lambda a: (a > 0) - (a < 0),
    "BitwiseNot": lambda a: ~a,
}


def low_bits(value, kind):
    bits = np.iinfo(kind).bits
    value &= (1 << bits) - 1
    return value - (1 << bits) if kind.startswith("i") and value >> (bits - 1) else value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", FORMULAS)
def test_two_operands_wrap(op, kind):
    both, a, b = pairs(kind)
    expected = [low_bits(FORMULAS[op](x, y), kind) for x, y in both]
    assert evaluated(op, [a, b]) == expected
    assert evaluated(op, [a], [b]) == expected
    assert evaluated(op, [a.reshape(-1, 1)], [b]) == [
        low_bits(FORMULAS[op](int(x), int(y)), kind) for x in a for y in b
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", ONE)
def test_one_operand_wraps(op, kind):
    values = corners(kind)
    assert evaluated(op, [np.array(values, kind)]) == [low_bits(ONE[op](v), kind) for v in values]


@pytest.mark.parametrize("kind", KINDS)
def test_quotients_and_remainders(kind):
    both, _, _ = pairs(kind)
    low = np.iinfo(kind).min
    both = [(x, y) for x, y in both if y != 0 and not (x == low < 0 and y == -1)]
    a, b = (np.array([p[i] for p in both], kind) for i in (0, 1))
    quotients = [abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1) for x, y in both]
    assert evaluated("Div", [a, b]) == quotients
    assert evaluated("Mod", [a, b]) == [x % y for x, y in both]
    assert evaluated("Mod", [a, b], fmod=1) == [x - q * y for (x, y), q in zip(both, quotients, strict=True)]


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32"])
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shifts(kind, direction):
    bits = np.iinfo(kind).bits
    both = list(itertools.product(corners(kind), [0, 1, bits - 1]))
    a, b = (np.array([p[i] for p in both], kind) for i in (0, 1))
    expected = [low_bits(x << s, kind) if direction == "LEFT" else x >> s for x, s in both]
    assert evaluated("BitShift", [a, b], direction=direction) == expected


def test_means_and_sums():
    x = np.array([[-7, 2, 0], [5, 5, 1]], np.int32)
    assert evaluated("ReduceMean", [x], [np.int64([1])]) == [-1, 3]
    assert evaluated("ReduceMean", [x], [np.int64([-2])], keepdims=0) == [-1, 3, 0]
    assert evaluated("ReduceMean", [x], opset=17, axes=[0, 1]) == [1]
    assert evaluated("ReduceSum", [x], [np.int64([0])]) == [-2, 7, 1]
    assert evaluated("Pow", [x], [np.int32(3)]) == [-343, 8, 0, 125, 125, 1]
    assert evaluated("Gemm", [x], [np.int32([[1], [2], [3]])], alpha=2.0) == [-6, 36]


def test_matmul_wraps():
    x = np.array([[2**31 - 1, 2]], np.int32)
    assert evaluated("MatMul", [x], [np.int32([[1], [1]])]) == [-(2**31) + 1]
    assert evaluated("MatMul", [x], [np.int32([[2**31 - 1], [-(2**31)]])]) == [1]


CASTS = [("int16", "int8"), ("int8", "uint8"), ("uint32", "int32"), ("int8", "int16"), ("int32", "uint16")]


@pytest.mark.parametrize(("source", "to"), CASTS)
def test_casts_keep_low_bits(source, to):
    values = corners(source)
    made = evaluated("Cast", [np.array(values, source)], to=getattr(TensorProto, to.upper()))
    assert made == [low_bits(v, to) for v in values]


def test_casts_of_reals_lose_their_fraction():
    x = np.float32([-1.75, -0.5, 0.5, 2.75])
    run = reference("Cast", [x], to=TensorProto.INT8).run({"x0": x})
    assert run.value("y").tolist() == [-1, 0, 0, 2]
    with pytest.raises(IntsimError, match="not defined"):
        reference("Cast", [x], to=TensorProto.UINT8).run({"x0": x})


UNDEFINED = {
    "over zero": ("Div", [np.int32([5])], [np.int32([0])], {}),
    "remainder": ("Mod", [np.int32([5])], [np.int32([0])], {}),
    "minimum over -1": ("Div", [np.int8([-128])], [np.int8([-1])], {}),
    "shift": ("BitShift", [np.uint8([1])], [np.uint8([8])], {"direction": "LEFT"}),
    "power": ("Pow", [np.int32([2**16])], [np.int32([2])], {}),
    "mean": ("ReduceMean", [np.int32([2**31 - 1, 1])], [np.int64([0])], {}),
    "sum": ("ReduceSum", [np.int32([2**31 - 1, 1])], [np.int64([0])], {}),
    "gemm": ("Gemm", [np.int32([[3]])], [np.int32([[3]])], {"alpha": 0.5}),
    "int32 of MatMulInteger": (
        "MatMulInteger",
        [np.full((1, 70000), 255, np.uint8)],
        [np.full((70000, 1), -128, np.int8)],
        {},
    ),
}


@pytest.mark.parametrize("what", UNDEFINED)
def test_what_onnx_leaves_open_has_no_value(what):
    op, inputs, constants, attributes = UNDEFINED[what]
    with pytest.raises(IntsimError, match=r"defined|exponents|does not say"):
        evaluated(op, inputs, constants, **attributes)


@pytest.mark.parametrize("op", LOGIC)
def test_logic(op):
    a, b = np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
    rule = {"And": a & b, "Or": a | b, "Xor": a ^ b, "Not": ~a}[op]
    made = reference(op, [a] if op == "Not" else [a, b]).run({"x0": a} if op == "Not" else {"x0": a, "x1": b})
    assert made.value("y").tolist() == rule.tolist()


def test_every_integer_operator_is_tried():
    tried = {*FORMULAS, *ONE, "Div", "Mod", "Pow", "BitShift", "Gemm", "MatMul", "ReduceMean", "ReduceSum"}
    assert set(INTEGERS) == tried


def test_uint64_beyond_int64_is_refused():
    with pytest.raises(IntsimError, match="beyond int64"):
        cut(np.array([2**63], object), "uint64")
