"""A layer as its golden vectors describe it: window, codes, weights, registers and requantizer of the specification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from intsim.arithmetic.accumulate import Stage, read_stages
from intsim.arithmetic.pieces import Formula
from intsim.arithmetic.registers import BiasPlace
from intsim.arithmetic.requantizers import Requantizer, read_requantizer
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError
from intsim.golden.element import Element
from intsim.golden.manifest import Manifest
from intsim.graph import IntArray, Node
from intsim.mac.operands import Operands
from intsim.ops import OPS, Mac

OPERATORS = ("conv", "conv_transpose", "matmul")


@dataclass(frozen=True)
class Back:
    """What makes codes of a layer's accumulators: a requantizer, the formula of each cell, the codes' type."""

    requantizer: Requantizer
    formulas: tuple[Formula, ...]
    per_channel: bool
    element: Element

    def formula(self, channel: int) -> Formula:
        """Of an output channel."""
        return self.formulas[channel if self.per_channel else 0]


@dataclass(frozen=True)
class Layer:
    """One multiply-accumulate layer with constant weights.

    Attributes:
        name: the layer's.
        node: operator and window; its arrays are codes of the file.
        shape: of the operand of one sample; `element`: the type of its codes.
        weight_element: of weight codes.
        operands: what the multiplier sees of them.
        stages, order, place: registers, order of arrival, where the bias goes.
        back: None where no requantizer reads the accumulators.
    """

    name: str
    node: Node
    shape: tuple[int, ...]
    element: Element
    weight_element: Element
    operands: Operands
    stages: tuple[Stage, ...]
    order: tuple[str, ...]
    place: BiasPlace
    back: Back | None

    @property
    def op(self) -> Mac:
        """The operator."""
        op = OPS[self.node.op]
        assert isinstance(op, Mac)
        return op

    @cached_property
    def extent(self) -> tuple[int, int]:
        """Rows and channels of its outputs."""
        return self.op.extent(self.node, self.shape)

    @cached_property
    def depth(self) -> int:
        """Products of an output; a batch of weight matrices has no more."""
        return int(self.op.weight_rows(self.node, self.node.arrays["weight"], self.order).shape[1])

    @property
    def bias(self) -> IntArray:
        """(channels,); zeros where it has none."""
        return np.asarray(self.node.arrays.get("bias", np.zeros(self.extent[1], np.int64)))

    @property
    def zero(self) -> int:
        """The activation's zero point."""
        return self.op.zero_points(self.node)[0]

    @cached_property
    def outputs(self) -> IntArray:
        """(rows, channels): the place of each output in the flattened result."""
        rows, channels = self.extent
        numbers = self.op.fold(self.node, np.arange(rows * channels).reshape(rows, channels), self.shape).reshape(-1)
        places = np.empty_like(numbers)
        places[numbers] = np.arange(numbers.size)
        return places.reshape(rows, channels)

    @property
    def result_shape(self) -> tuple[int, ...]:
        """Of one sample's result."""
        return tuple(self.op.shape(self.node, self.shape))


def read_layer(manifest: Manifest, name: str) -> Layer:
    """A layer of vectors.

    Raises:
        IntsimError: a layer of another kind than those whose machines are known; files that can't be read.
    """
    about = manifest.layer(name)
    where = f"{manifest.folder}: layer {about['name']}"
    products = about["products"]
    if products is None or about["operator"] not in OPERATORS:
        raise IntsimError(f"{where} adds up no products ({about['op']}); give a convolution or a matrix product")
    roles = manifest.roles(about)
    if "weight" not in roles:
        raise IntsimError(f"{where} multiplies two tensors; give a layer with constant weights")
    if products["packing"] is not None:
        raise IntsimError(f"{where} has packed multipliers, whose mistakes aren't in the space that is searched")
    operand = manifest.tensor(about, "operand")
    node = _node(manifest, about, operand.shape)
    if products["weight_shift"] is not None:
        shift: Any = products["weight_shift"]
    else:
        shift = manifest.tensor(about, "weight_shift").read()[0].reshape(-1, *[1] * (node.arrays["weight"].ndim - 1))
    x_shift, x_zero = products["activation_shift"], products["activation_zero"]
    zeros = np.asarray(node.arrays.get("weight_zero", np.zeros((), np.int64)))
    corrected = x_zero == 0 and not np.any(zeros + shift)
    operands = Operands(x_shift, shift, x_zero, zeros + shift, corrected, products["padding"] == "skipped")
    return Layer(
        about["name"],
        node,
        operand.shape,
        operand.element,
        manifest.tensor(about, "weight").element,
        operands,
        read_stages(products["stages"]),
        tuple(products["order"]) if about["operator"] != "matmul" else ("kh", "kw", "cin"),
        products["bias"],
        _back(manifest, about, where),
    )


def _node(manifest: Manifest, about: dict[str, Any], shape: Sequence[int]) -> Node:
    """The operator with its window and its constants, as a graph has it."""
    arrays = {"weight": manifest.tensor(about, "weight").read()[0]}
    for role in ("bias", "weight_zero"):
        if role in manifest.roles(about):
            arrays[role] = manifest.tensor(about, role).read()[0]
    if "weight_zero" in arrays and about["operator"] != "matmul":
        arrays["weight_zero"] = arrays["weight_zero"].reshape(-1, *[1] * (arrays["weight"].ndim - 1))
    products, at = about["products"], dict(about["attributes"])
    at |= {k: v for k, v in (about["window"] or {}).items() if k != "kernel"}
    at["zero_point"] = products["activation_zero"] - products["activation_shift"]
    return Node(about["operator"], about["name"], ("x",), "y", at, arrays)


def _back(manifest: Manifest, about: dict[str, Any], where: str) -> Back | None:
    told = about["requantizer"]
    if told is None:
        return None
    if told["reads"] != "sum" or told.get("pieces") is None:
        raise IntsimError(f"{where}: scheme {told['scheme']} computes from more than a sum; give another layer")
    known = ("scheme", "multiplier_bits", "rounding", "double_rounding", "scale_roundings")
    requantizer = read_requantizer({k: told[k] for k in known if k in told})
    rest = Rounding(told["model_rounding"]), told["zero_point"], told["low"], told["high"]
    cells = tuple(
        Formula(tuple((start, Fraction(s), Fraction(b)) for start, s, b in cell), *rest) for cell in told["pieces"]
    )
    element = manifest.tensor(about, "output").element
    return Back(requantizer, cells, len(cells) > 1, element)
