"""One node as the operators of the reference see it: inputs, attributes, and where the opset moved them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from intsim.errors import IntsimError
from intsim.verification.reference.rational import SMALL
from intsim.verification.reference.tensor import Tensor, exact_number

FLOATS = ("float", "double", "float16", "bfloat16")


@dataclass(frozen=True)
class Call:
    """A node about to be evaluated; `label` names it in messages, `outputs` is how many of its outputs are used.

    `constant` is True where no input depends on the data, `decides` where a quantizer depends on the result.
    `kept` is what the node's other runs left for it: of the same parameters, which it has to compare.
    """

    op: str
    label: str
    opset: int
    attrs: dict[str, Any]
    inputs: list[Tensor | None]
    outputs: int = 1
    constant: bool = False
    decides: bool = False
    kept: dict[str, Any] = field(default_factory=dict)

    def tensor(self, i: int) -> Tensor:
        """Input `i`, which has to be there."""
        given = self.optional(i)
        if given is None:
            raise IntsimError(f"input {i} is missing")
        return given

    def optional(self, i: int) -> Tensor | None:
        """Input `i` or None."""
        return self.inputs[i] if i < len(self.inputs) else None

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute or its default."""
        return self.attrs.get(name, default)

    def real(self, name: str, default: float) -> Fraction:
        """A float attribute or its default as the rational that its float32 is."""
        return exact_number(float(np.float32(self.attr(name, default))))

    def integers(self, name: str, i: int, default: Any = None) -> list[int] | Any:
        """A list of integers from attribute `name` (older opsets) or else from input `i`."""
        if name in self.attrs:
            value = self.attrs[name]
            return [int(v) for v in value] if isinstance(value, Sequence) else [int(value)]
        given = self.optional(i)
        return default if given is None else [int(v) for v in np.ravel(given.whole(f"input {i} ({name})"))]

    def constants(self, i: int, what: str) -> np.ndarray:
        """Input `i` as exact Fractions: a scale, a zero point."""
        given = self.optional(i)
        if given is None:
            raise IntsimError(f"{what} is missing")
        if given.size > SMALL:
            raise IntsimError(f"{what} has {given.size} elements, more than {SMALL}")
        return given.fractions()

    def zero_point(self, i: int) -> np.ndarray:
        """Input `i` as exact Fractions, 0 where it is absent."""
        given = self.optional(i)
        return np.asarray(Fraction(0), object) if given is None else given.fractions()


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """All attributes as Python values: str for bytes, numpy arrays for tensors."""
    out: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif isinstance(value, onnx.TensorProto):
            value = numpy_helper.to_array(value)
        out[attribute.name] = value
    return out


def row_axes(call: Call, rank: int) -> tuple[int, ...]:
    """The axes of one row of a Softmax: `axis`, or before opset 13 all from `axis` on."""
    old = call.opset < 13
    axis = int(call.attr("axis", 1 if old else -1))
    if not -rank <= axis < max(rank, 1):
        raise IntsimError(f"axis {axis} is outside of {rank} axes")
    return tuple(range(axis % rank, rank)) if old else (axis % rank,)


def sized(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape that a node asks for; raises IntsimError where a tensor of that shape is beyond 2^28 elements."""
    if math.prod(shape) > 1 << 28 or min(shape, default=0) < 0:
        raise IntsimError(f"a tensor of shape {list(shape)} is not evaluated")
    return tuple(shape)


def type_name(element: int) -> str:
    """The name of an ONNX element type: "float", "int8"."""
    return onnx.TensorProto.DataType.Name(element).lower()


def integer_range(type_name: str) -> tuple[int, int]:
    """Lowest and highest value of an ONNX integer type, such as "int8" or "uint4"."""
    unsigned = type_name.startswith("uint")
    digits = type_name.removeprefix("uint" if unsigned else "int")
    if not type_name.startswith(("int", "uint")) or not digits.isdigit():
        raise IntsimError(f"{type_name or 'the zero point'} is not an integer type")
    bits = int(digits)
    return (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def window(call: Call, extent: Sequence[int], kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and pads (begins, then ends) of a convolution or pooling node, auto_pad resolved."""
    rank = len(extent)
    strides = list(call.attr("strides", [1] * rank))
    dilations = list(call.attr("dilations", [1] * rank))
    pads = list(call.attr("pads", [0] * 2 * rank))
    if not len(strides) == len(dilations) == len(kernel) == len(pads) // 2 == rank or min(strides + dilations) < 1:
        raise IntsimError(f"kernel, strides, dilations or pads do not fit {rank} spatial dimensions")
    auto = call.attr("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        return strides, dilations, pads
    if auto == "VALID":
        return strides, dilations, [0] * 2 * rank
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise IntsimError(f"auto_pad {auto!r} is unknown")
    begins, ends = [], []
    for n, k, s, d in zip(extent, kernel, strides, dilations, strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        small, large = total // 2, total - total // 2
        begins.append(small if auto == "SAME_UPPER" else large)
        ends.append(large if auto == "SAME_UPPER" else small)
    return strides, dilations, begins + ends
