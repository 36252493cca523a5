"""Random networks of ONNX integer operators with what they make, in Python integers: a dumb twin of the host and graph.

It takes nothing from the package but `Net`, which writes the ONNX file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import onnx
from onnx import TensorProto

from .build import Net

KINDS = {k: getattr(TensorProto, k.upper()) for k in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")}
SMALL = ("int8", "uint8", "int16", "uint16")


class UndefinedError(Exception):
    """ONNX doesn't say what comes out."""


def each(f, *arrays):
    """f of every element, as Python integers; an object array."""
    arrays = np.broadcast_arrays(*arrays)
    out = np.empty(arrays[0].shape, object)
    for i in np.ndindex(*out.shape):
        out[i] = f(*(int(a[i]) for a in arrays))
    return out


def bounds(kind):
    """Smallest and largest integer of a type."""
    return int(np.iinfo(kind).min), int(np.iinfo(kind).max)


def wrap(values, kind):
    """The low bits."""
    low, high = bounds(kind)
    return each(lambda v: (v - low) % (high - low + 1) + low, values)


def truncated(a, b):
    """a / b towards zero."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


BINARY = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": truncated,
    "Mod": lambda a, b: a % b,
    "fmod": lambda a, b: a - truncated(a, b) * b,
    "Max": max,
    "Min": min,
    "BitwiseAnd": lambda a, b: a & b,
    "BitwiseOr": lambda a, b: a | b,
    "BitwiseXor": lambda a, b: a ^ b,
    "LEFT": lambda a, b: a << b,
    "RIGHT": lambda a, b: a >> b,
}
UNARY = {
    "Neg": lambda a: -a,
    "Abs": abs,
    "Relu": lambda a: max(a, 0),
    "Sign": lambda a: (a > 0) - (a < 0),
    "BitwiseNot": lambda a: ~a,
}
OPERATORS = [
    *("Add", "Sub", "Mul", "Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "BitwiseAnd", "BitwiseOr", "BitwiseXor"),
    *("BitShift", *UNARY, "Clip", "Cast", "ReduceSum", "ReduceMean", "ReduceMax", "Transpose", "Reshape", "Pad"),
]


@dataclass
class Drawn:
    """A network, its inputs and its result: `expected` None where ONNX leaves it open, exact rationals else."""

    seed: int
    opset: int
    words: list[str] = field(default_factory=list)
    model: onnx.ModelProto | None = None
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    output: str = ""
    expected: np.ndarray | None = None
    ending: str = ""

    def __post_init__(self):
        """Draw it."""
        self.rng = np.random.default_rng(self.seed)
        self.net = Net(self.opset)
        self.kind = str(self.rng.choice(list(KINDS)))
        shape = tuple(int(v) for v in self.rng.integers(1, 4, self.rng.integers(0, 5)))
        self.inputs["x"] = self.draw(shape, self.rng.random() < 0.8)
        self.now, self.value = self.net.input(*shape, kind=KINDS[self.kind]), each(int, self.inputs["x"])
        self.other = None
        if self.rng.random() < 0.3:
            self.inputs["y"] = self.draw(shape, self.rng.random() < 0.5)
            name = self.net.input(*shape, name="y", kind=KINDS[self.kind])
            self.other = name, self.kind, each(int, self.inputs["y"])
        try:
            while len(self.words) < self.rng.integers(1, 6):
                op = str(self.rng.choice(OPERATORS))
                if self.fits(op):
                    self.words.append(op)
                    self.step(op)
            self.end()
        except UndefinedError:
            self.output = self.now
            self.model = self.net.model(self.now, kinds={self.now: KINDS[self.kind]})

    def draw(self, shape, wild):
        """Integers of the current type: small ones, or all of it with its corners."""
        low, high = bounds(self.kind) if self.kind != "int64" else (-(2**40), 2**40)
        if not wild:
            return np.array(self.rng.integers(max(low, -5), 9, shape), self.kind)
        corners = np.array([low, high, low + 1, high - 1, 0, 1, 3], self.kind)
        either = self.rng.integers(low, high, shape, endpoint=True).astype(self.kind), self.rng.choice(corners, shape)
        return np.array(np.where(self.rng.random(shape) < 0.5, *either), self.kind)

    def fits(self, op):
        """Whether ONNX has this operator for the type in this opset."""
        signed, wide = self.kind.startswith("int"), self.kind not in SMALL
        if op in ("Add", "Sub", "Mul", "Div"):
            return wide or self.opset >= 14
        if op.startswith("Bitwise"):
            return self.opset >= 18
        if op in ("Neg", "Relu"):
            return signed and (op == "Neg" or self.opset >= 14)
        if op.startswith("Reduce"):
            return wide and self.value.ndim > 0
        return {"BitShift": not signed, "Pad": self.value.ndim > 0}.get(op, True)

    def operand(self, op):
        """A second operand: the other input, or a constant that broadcasts, maybe to more axes."""
        if self.other and self.other[1] == self.kind and self.other[2].shape == self.value.shape and op != "BitShift":
            return self.other[0], self.other[2]
        form = self.rng.integers(0, 4)
        shape = () if form == 0 else tuple(s if self.rng.random() < 0.5 else 1 for s in self.value.shape)
        shape = (2, *self.value.shape) if form == 3 and self.value.ndim < 4 else shape
        c = self.draw(shape, self.rng.random() < 0.4)
        if op == "BitShift":
            bits = np.iinfo(self.kind).bits
            c = np.array(self.rng.integers(0, bits + (self.rng.random() < 0.1), shape), self.kind)
        if op in ("Div", "Mod") and self.rng.random() < 0.9:
            c = np.array(np.where(c == 0, 3, c), self.kind)
        return self.net.const(c), each(int, c)

    def step(self, op):
        """One more node."""
        at, low_high = {}, bounds(self.kind)
        if op in UNARY:
            self.now, self.value = self.net.node(op, self.now), wrap(each(UNARY[op], self.value), self.kind)
        elif op in ("Transpose", "Reshape"):
            self.now = self.net.node(op, self.now, *([np.int64([-1])] if op == "Reshape" else []))
            self.value = self.value.reshape(-1) if op == "Reshape" else self.value.T
        elif op == "Cast":
            self.kind = str(self.rng.choice(list(KINDS)))
            self.now, self.value = self.net.node(op, self.now, to=KINDS[self.kind]), wrap(self.value, self.kind)
        elif op == "Clip":
            low, high = (np.array(v) for v in self.draw((2,), self.rng.random() < 0.3))
            self.now = self.net.node(op, self.now, low, high)
            self.value = each(lambda v: min(max(v, int(low)), int(high)), self.value)
        elif op == "Pad":
            pads, fill = self.rng.integers(0, 2, (2, self.value.ndim)), self.draw((), False)
            self.now = self.net.node(op, self.now, np.int64(pads.reshape(-1)), fill)
            self.value = np.pad(self.value, pads.T.tolist(), constant_values=int(fill))
        elif op.startswith("Reduce"):
            self.reduce(op)
        else:
            name, other = self.operand(op)
            first = self.rng.random() < 0.3 and op != "BitShift"
            a, b = (other, self.value) if first else (self.value, other)
            form = op
            if op == "Mod":
                at["fmod"] = int(self.rng.integers(0, 2))
                form = "fmod" if at["fmod"] else op
            elif op == "BitShift":
                form = at["direction"] = str(self.rng.choice(["LEFT", "RIGHT"]))
            self.now = self.net.node(op, *((name, self.now) if first else (self.now, name)), **at)
            if op in ("Div", "Mod") and (np.broadcast_arrays(a, b)[1] == 0).any():
                raise UndefinedError
            if op == "BitShift" and (b >= np.iinfo(self.kind).bits).any():
                raise UndefinedError
            exact = each(BINARY[form], a, b)
            if op == "Div" and (exact > low_high[1]).any():
                raise UndefinedError
            self.value = wrap(exact, self.kind)

    def reduce(self, op):
        """Along one axis, from either end."""
        axis, keep = int(self.rng.integers(-self.value.ndim, self.value.ndim)), int(self.rng.integers(0, 2))
        if self.opset >= 18 or op == "ReduceSum":
            self.now = self.net.node(op, self.now, np.int64([axis]), keepdims=keep)
        else:
            self.now = self.net.node(op, self.now, axes=[axis], keepdims=keep)
        count = self.value.shape[axis]
        how = {"axis": axis, "keepdims": bool(keep)}
        if op == "ReduceMax":
            self.value = np.asarray(self.value.max(**how), object)
            return
        total = np.asarray(self.value.sum(**how), object)
        low, high = bounds(self.kind)
        if not low <= total.min() <= total.max() <= high:
            raise UndefinedError  # ONNX Runtime saturates, numpy wraps
        self.value = each(lambda s: truncated(s, count if op == "ReduceMean" else 1), total)

    def end(self):
        """The integers themselves, dequantized, or dequantized and quantized again."""
        narrow = self.kind in SMALL[:2] or (self.kind in SMALL and self.opset >= 21) or self.kind == "int32"
        self.ending = str(self.rng.choice(["integers", "real", "codes"])) if narrow else "integers"
        kinds = {self.now: KINDS[self.kind]}
        self.expected = self.value
        if self.ending != "integers":
            scale = np.float32(self.rng.choice([0.5, 0.25, 0.1]))
            self.now = self.net.node("DequantizeLinear", self.now, scale)
            real = [Fraction(v) * Fraction(float(scale)) for v in self.value.flat]
            if self.ending == "codes":
                self.now = self.net.node("QuantizeLinear", self.now, np.float32(1), np.int8(0))
                kinds, real = {self.now: TensorProto.INT8}, [min(max(round(v), -128), 127) for v in real]
            flat = np.empty(len(real), object)
            flat[:] = real
            self.expected = flat.reshape(self.value.shape)
        self.output, self.model = self.now, self.net.model(self.now, kinds=kinds)
