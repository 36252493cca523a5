"""ONNX Runtime's own operators on codes (com.microsoft): an operator of ONNX between two linear quantizations.

Read from the descriptions of the operators in onnxruntime's docs/ContribOperators.md: numbers are
(code - zero_point) * scale, what the operator makes of them is rounded half to even, and saturates.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from intsim.errors import IntsimError
from intsim.verification.reference.arithmetic import multiply, subtract
from intsim.verification.reference.call import Call
from intsim.verification.reference.movement import channels_first, channels_last
from intsim.verification.reference.operators import OPERATORS
from intsim.verification.reference.operators import QUANTIZERS as PLAIN
from intsim.verification.reference.quantize import Quantized
from intsim.verification.reference.quantizers import linear
from intsim.verification.reference.tensor import Tensor, constant

_DOMAIN = "com.microsoft:"


@dataclass(frozen=True)
class Inside:
    """The operator of ONNX inside a node: its `key`, its `call` on real numbers, what to do with its result.

    `shifts`: of each of its inputs the largest |zero_point * scale|, None for what is no dequantized tensor; `output`:
    where the node has the output's scale and zero point; `like`: an input of the output's type; `turned`: the node has
    its channels last.
    """

    key: str
    call: Call
    shifts: list[float | None]
    output: tuple[int, int]
    like: int
    turned: bool = False

    def made(self, result: Tensor) -> Tensor:
        """The operator's result in the node's own order of axes."""
        return channels_last(result) if self.turned else result


def _single(values: np.ndarray, what: str) -> np.ndarray:
    if values.size != 1:
        raise IntsimError(f"{what} has {values.size} values, the operator takes one")
    return values.reshape(())


def _numbers(call: Call, i: int, column: int | None = None) -> tuple[Tensor, float]:
    """(code - zero_point) * scale of the triple at input `i`, and its shift; `column`: the axis that may have many."""
    x, scale, zero = call.tensor(i), call.constants(i + 1, "the scale"), call.zero_point(i + 2)
    if x.kind != "i":
        raise IntsimError(f"input {i} is not a tensor of integers")
    if column is None:
        scale, zero = _single(scale, "the scale"), _single(zero, "the zero point")
    else:
        shape = tuple(-1 if a == column else 1 for a in range(len(x.shape)))
        scale, zero = (v.reshape(()) if v.size == 1 else v.reshape(shape) for v in (scale, zero))
    if any(s <= 0 for s in scale.flat):
        raise IntsimError("the scale has to be positive")
    real = multiply(subtract(x, constant(zero)) if any(zero.flat) else x, constant(scale))
    return replace(real, kind="f", type=""), float(max(scale.flat) * max(map(abs, zero.flat)))


def _of(call: Call, op: str, numbers: list[tuple[Tensor, float]], output: tuple[int, int], like: int = 0) -> Inside:
    real = replace(call, op=op, inputs=[t for t, _ in numbers], constant=False, decides=True)
    return Inside(op, real, [shift for _, shift in numbers], output, like)


def _one(call: Call) -> Inside:
    return _of(call, call.op.removeprefix("QLinear"), [_numbers(call, 0)], (3, 4))


def _two(call: Call) -> Inside:
    return _of(call, call.op.removeprefix("QLinear"), [_numbers(call, 0), _numbers(call, 3)], (6, 7))


def _pool(call: Call) -> Inside:
    if len(call.tensor(0).shape) < 3:
        raise IntsimError("there are no spatial axes")
    plain, last = _one(call), bool(call.attr("channels_last", 0))
    if not last:
        return plain
    first = [channels_first(t) for t in plain.call.inputs if t is not None]
    return replace(plain, call=replace(plain.call, inputs=list(first)), turned=True)


def _softmax(call: Call) -> Inside:
    if "opset" not in call.attrs:
        raise IntsimError("the attribute opset is missing")
    # its own description gives the axis the default -1, whatever the opset
    return _one(replace(call, opset=int(call.attrs["opset"]), attrs={"axis": -1, **call.attrs}))


def _concat(call: Call) -> Inside:
    if len(call.inputs) < 5 or (len(call.inputs) - 2) % 3:
        raise IntsimError("the inputs are not an output's scale and zero point, and triples")
    return _of(call, "Concat", [_numbers(call, i) for i in range(2, len(call.inputs), 3)], (0, 1), 2)


def _where(call: Call) -> Inside:
    inner = _of(call, "Where", [_numbers(call, 1), _numbers(call, 4)], (7, 8), 1)
    given: list[Tensor | None] = [call.tensor(0), *inner.call.inputs]
    return replace(inner, call=replace(inner.call, inputs=given), shifts=[None, *inner.shifts])


def _gemm(call: Call) -> Inside:
    """C is in units of alpha * a_scale * b_scale."""
    numbers = [_numbers(call, 0), _numbers(call, 3, 0 if call.attr("transB", 0) else 1)]
    c = call.optional(6)
    if c is not None:
        if c.kind != "i":
            raise IntsimError("C is not a tensor of integers")
        alpha = call.real("alpha", 1.0)
        unit = _single(call.constants(1, "the scale"), "the scale") * call.constants(4, "the scale").reshape(-1) * alpha
        numbers.append((replace(multiply(c, constant(np.asarray(unit, object))), kind="f", type=""), 0.0))
    inner = _of(call, "Gemm", numbers, (7, 8))
    return replace(inner, call=replace(inner.call, attrs={**call.attrs, "beta": 1.0}))


_OPENED: dict[str, Callable[[Call], Inside]] = {
    "QGemm": _gemm,
    "QLinearAdd": _two,
    "QLinearAveragePool": _pool,
    "QLinearConcat": _concat,
    "QLinearGlobalAveragePool": _pool,
    "QLinearLeakyRelu": _one,
    "QLinearMul": _two,
    "QLinearReduceMean": _one,
    "QLinearSigmoid": _one,
    "QLinearSoftmax": _softmax,
    "QLinearWhere": _where,
}


def inside(call: Call) -> Inside:
    """The operator in a node of `QLINEAR`, on real numbers."""
    return _OPENED[call.op](call)


def qlinear(call: Call) -> Quantized | Tensor:
    """The codes of a node; QGemm without an output scale has real numbers."""
    found = inside(call)
    made = OPERATORS[found.key](found.call)
    assert isinstance(made, Tensor)
    made = found.made(made)
    scale, zero = (call.optional(i) for i in found.output)
    if call.op == "QGemm" and scale is None and zero is None:
        return made
    if call.op == "QGemm" and (scale is None or zero is None):
        raise IntsimError("the output's scale or its zero point is missing")
    y_scale = _single(call.constants(found.output[0], "the output's scale"), "the output's scale")
    y_zero = np.asarray(Fraction(0), object) if zero is None else _single(zero.fractions(), "the output's zero point")
    return linear(made, y_scale, y_zero, (call.tensor(found.like) if zero is None else zero).type)


#: Keys of the operators that are read here.
QLINEAR = frozenset(_DOMAIN + name for name in _OPENED)

#: Every quantizer; QGemm among them, though without an output scale it has no codes.
QUANTIZERS: dict[str, Callable[[Call], Quantized | Tensor]] = {**PLAIN, **dict.fromkeys(sorted(QLINEAR), qlinear)}
