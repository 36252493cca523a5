"""Tiny networks written as ONNX protobufs, with all their inputs.

One to three layers, one to four input codes of few bits: the batch holds every input there is, or a part where there
are too many. Every constant is in an initializer; nothing of intsim is used.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import product

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MOST = [27, 27, 64, 64, 64, 256]
"""How many inputs a network may have."""
QONNX = "qonnx.custom_op.general"


@dataclass
class Network:
    """A model, its inputs by name (the batch is all of them, or some), and what was drawn for it."""

    model: onnx.ModelProto
    inputs: dict
    complete: bool
    exact_biases: bool
    grid: bool
    note: str


class Draw:
    """Builds one network; `rng` decides."""

    def __init__(self, rng, exact=False):
        self.rng, self.exact = rng, exact
        self.nodes, self.initializers, self.outputs = [], [], []
        self.count = 0
        self.grid = self.chance(0.35)  # all scales are powers of two
        self.style = self.pick(["qcdq", "qcdq", "qonnx", "qonnx", "qlinear", "integer"])
        self.notes = [self.style]

    # Small things

    def chance(self, p):
        return bool(self.rng.random() < p)

    def pick(self, options):
        return options[int(self.rng.integers(len(options)))]

    def number(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def fresh(self, stem):
        self.count += 1
        return f"{stem}{self.count}"

    def constant(self, array, stem="c"):
        name = self.fresh(stem)
        self.initializers.append(numpy_helper.from_array(np.array(array), name))
        return name

    def node(self, op, inputs, domain="", **attributes):
        name = self.fresh(op.lower())
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name, domain=domain, **attributes))
        return f"{name}_out"

    def scale(self, about=None):
        """A float32 near `about`."""
        value = float(about) if about else float(2.0 ** self.rng.uniform(-6, 1))
        if self.grid:
            return np.float32(2.0 ** np.round(np.log2(value)))
        return np.float32(value * self.rng.uniform(0.7, 1.4))

    # Activations: (name, shape, codes' least and greatest, scale as Fraction, zero point, raw name or None)

    def quantize(self, name, levels, scale=None, output=False):
        """A quantizer, and what makes reals of its codes; returns a dictionary that describes the tensor."""
        scale = self.scale() if scale is None else scale
        if self.style == "qonnx":
            bits = self.number(2, 4) if levels is None else max(2, (levels - 1).bit_length())
            if levels is None and self.chance(0.25):
                bits = self.number(5, 8)
            signed, narrow = self.number(0, 1), self.number(0, 1)
            low = -(2 ** (bits - 1)) + narrow if signed else 0
            high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
            zero = self.number(low, high) if self.chance(0.3) else 0
            mode = self.pick(["ROUND"] * 4 + ["FLOOR", "CEIL", "UP", "DOWN", "HALF_UP", "HALF_DOWN"])
            inputs = [name, *(self.constant(np.float32(v), "q") for v in (scale, zero, bits))]
            out = self.node("Quant", inputs, QONNX, signed=signed, narrow=narrow, rounding_mode=mode)
            return {"name": out, "low": low, "high": high, "scale": scale, "zero": zero, "raw": None}
        kind = self.pick([np.uint8, np.int8])
        low, high = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
        zero = kind(self.number(low, high) if self.chance(0.4) else (0 if low < 0 or self.chance(0.5) else 128))
        s, z = self.constant(scale, "s"), self.constant(zero, "z")
        out = self.node("QuantizeLinear", [name, s, z])
        if levels is not None or self.chance(0.3):
            count = levels or self.number(2, 16)
            low = min(max(int(zero) - self.number(0, count - 1), low), high - count + 1)
            high = low + count - 1
            out = self.node("Clip", [out, self.constant(kind(low)), self.constant(kind(high))])
        back = (
            out if self.style in ("qlinear", "integer") and not output else self.node("DequantizeLinear", [out, s, z])
        )
        return {"name": back, "low": low, "high": high, "scale": scale, "zero": int(zero), "raw": out, "s": s, "z": z}

    def real(self, x):
        """The name of a tensor's real values."""
        if x["raw"] is not None and x["name"] == x["raw"]:
            x = {**x, "name": self.node("DequantizeLinear", [x["raw"], x["s"], x["z"]])}
        return x["name"]

    def weights(self, shape, axis, forbid_zero=False):
        """Quantized weights: (input names, codes, scale a channel as float32, zero a channel)."""
        channels = shape[axis]
        per_channel = self.chance(0.4)
        count = channels if per_channel else 1
        base = 2.0 ** self.rng.uniform(-6, 0)
        scale = np.array([self.scale(base) for _ in range(count)], np.float32)
        bits = self.pick([2, 3, 4, 4, 4, 8])
        placed = [-1 if i == axis else 1 for i in range(len(shape))]
        if self.style == "qonnx":
            narrow = self.number(0, 1)
            codes = self.rng.integers(-(2 ** (bits - 1)) + narrow, 2 ** (bits - 1), shape)
            zero = np.float32(0)
            wide = scale.reshape(placed) if per_channel else scale.reshape(())
            floats = (codes * wide.astype(np.float64)).astype(np.float32)
            inputs = [
                self.constant(floats, "w"),
                self.constant(wide),
                self.constant(zero),
                self.constant(np.float32(bits)),
            ]
            name = self.node("Quant", inputs, QONNX, signed=1, narrow=narrow, rounding_mode="ROUND")
            return [name], codes, np.broadcast_to(scale, channels), [name]
        signed = self.chance(0.7)
        kind = np.int8 if signed else np.uint8
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        codes = self.rng.integers(low, high + 1, shape).astype(kind)
        zero = (
            np.zeros(count, kind)
            if signed and self.chance(0.7)
            else self.rng.integers(low, high + 1, count).astype(kind)
        )
        if not per_channel:
            scale, zero = scale.reshape(()), zero.reshape(())
        names = [self.constant(codes, "w"), self.constant(scale, "ws"), self.constant(zero, "wz")]
        real = None
        if self.style not in ("qlinear", "integer"):
            real = self.node("DequantizeLinear", names, axis=axis)
        return (
            names,
            codes.astype(np.int64) - np.broadcast_to(zero.astype(np.int64), channels).reshape(placed),
            np.broadcast_to(scale, channels),
            [real],
        )

    # Biases

    def lsb(self, x_scale, w_scale):
        """The accumulator's unit of each channel."""
        return [Fraction(float(x_scale)) * Fraction(float(s)) for s in w_scale]

    def bias(self, units, reach):
        """A bias of one value a channel: its float32 values, or the name of one that is dequantized."""
        size = reach * 2.0 ** self.rng.uniform(-3, 1)
        codes = np.array([round(self.rng.uniform(-size, size)) for _ in units], np.int64)
        form = "exact" if self.exact else self.pick(["float", "float", "int32", "exact", "quant"])
        exact = np.array([np.float32(c * float(u)) for c, u in zip(codes, units, strict=True)], np.float32)
        whole = all((Fraction(float(v)) / u).denominator == 1 for v, u in zip(exact, units, strict=True))
        if form == "exact":
            if whole:
                return exact
            if self.exact:
                return None
            form = "float"
        if form == "float":
            return np.array(
                [(c + self.rng.uniform(-0.5, 0.5)) * float(u) for c, u in zip(codes, units, strict=True)], np.float32
            )
        scales = np.array([abs(np.float32(float(u))) for u in units], np.float32)
        if form == "int32" or self.style != "qonnx":
            stored = self.constant(codes.astype(np.int32), "b")
            return self.node("DequantizeLinear", [stored, self.constant(scales, "bs")], axis=0)
        floats = (codes * scales.astype(np.float64)).astype(np.float32)
        inputs = [
            self.constant(floats, "b"),
            self.constant(scales, "bs"),
            self.constant(np.float32(0)),
            self.constant(np.float32(32)),
        ]
        return self.node("Quant", inputs, QONNX, signed=1, narrow=0, rounding_mode="ROUND")

    def added(self, name, bias, shape, axis):
        """`bias` (array or name, one value a channel) added to a tensor whose channels lie on `axis`."""
        rank = len(shape)
        if isinstance(bias, str):
            if axis == rank - 1:
                value = bias
            else:
                target = np.array([1 if i != axis else shape[axis] for i in range(rank)][axis:], np.int64)
                value = self.node("Reshape", [bias, self.constant(target)])
        else:
            lead = self.number(0, axis) if axis < rank else 0
            value = self.constant(bias.reshape([1] * lead + [shape[axis]] + [1] * (rank - 1 - axis)), "b")
            if bias.size and (bias == bias[0]).all() and self.chance(0.3):
                value = self.constant(bias[0])
        form = self.pick(["xc", "cx", "sub", "csub"])
        self.notes.append(form)
        if form == "csub":
            return self.node("Sub", [value, name])
        if form == "sub":
            return self.node("Sub", [name, value])
        return self.node("Add", [name, value] if form == "xc" else [value, name])

    # Layers

    def layer(self, x, shape):
        """A multiply-accumulate and what follows up to the next quantizer: (name of reals, shape, unit, reach)."""
        image = len(shape) > 2
        kind = self.pick(["conv", "conv", "conv", "convt"] if image else ["gemm", "gemm", "matmul", "matmul"])
        if kind == "convt" and self.style in ("qlinear", "integer"):
            kind = "conv"
        made = {"conv": self.conv, "convt": self.conv_transpose, "gemm": self.gemm, "matmul": self.matmul}[kind](
            x, shape
        )
        self.notes.append(kind)
        return made

    def conv(self, x, shape):
        c, size = shape[1], shape[2:]
        rank = len(size)
        groups = self.pick([g for g in (1, 1, c) if c % g == 0])
        out = groups * self.number(1, 2) if groups > 1 else self.number(1, 3)
        pads = [self.number(0, 1) for _ in range(2 * rank)] if self.chance(0.5) else [0] * 2 * rank
        kernel = [self.number(1, min(3, size[i] + pads[i] + pads[rank + i])) for i in range(rank)]
        strides = [self.number(1, 2) for _ in range(rank)]
        names, codes, scale, real = self.weights((out, c // groups, *kernel), 0)
        units = self.lsb(x["scale"], scale)
        reach = self.reach(x, codes, 0)
        at = {"strides": strides, "pads": pads, "group": groups, "kernel_shape": kernel}
        after = tuple((size[i] + pads[i] + pads[rank + i] - kernel[i]) // strides[i] + 1 for i in range(rank))
        shape = (shape[0], out, *after)
        if self.style == "qlinear":
            stored = []
            if self.chance(0.7):
                wide = reach * 2.0 ** self.rng.uniform(-3, 1)
                stored = [
                    self.constant(np.array([self.rng.uniform(-wide, wide) for _ in range(out)]).astype(np.int32), "b")
                ]
            return self.stored("QLinearConv", x, names, stored, shape, units, reach, at)
        if self.style == "integer":
            return self.scaled("ConvInteger", x, names, shape, units, reach, 1, at)
        inputs = [x["name"], *real]
        if self.chance(0.5):
            bias = self.bias(units, reach)
            if bias is not None:
                inputs.append(bias if isinstance(bias, str) else self.constant(bias, "b"))
        return self.behind(self.node("Conv", inputs, **at), shape, units, reach, 1)

    def conv_transpose(self, x, shape):
        c, size = shape[1], shape[2:]
        rank = len(size)
        out = self.number(1, 2)
        kernel, strides = [self.number(1, 2) for _ in range(rank)], [self.number(1, 2) for _ in range(rank)]
        _, codes, scale, real = self.weights((c, out, *kernel), 1)
        units, reach = self.lsb(x["scale"], scale), self.reach(x, codes, 1)
        after = tuple((size[i] - 1) * strides[i] + kernel[i] for i in range(rank))
        inputs = [x["name"], *real]
        bias = self.bias(units, reach) if self.chance(0.5) else None
        if bias is not None:
            inputs.append(bias if isinstance(bias, str) else self.constant(bias, "b"))
        name = self.node("ConvTranspose", inputs, strides=strides, kernel_shape=kernel)
        return self.behind(name, (shape[0], out, *after), units, reach, 1)

    def gemm(self, x, shape):
        out, turned = self.number(1, 3), self.number(0, 1)
        if self.style in ("qlinear", "integer"):
            return self.matmul(x, shape)
        _, codes, scale, real = self.weights((out, shape[1]) if turned else (shape[1], out), 0 if turned else 1)
        at = {"transB": turned}
        alpha = beta = Fraction(1)
        if self.chance(0.3):
            at["alpha"] = float(np.float32(self.pick([0.5, 2.0, -1.0, 0.3, 1.7])))
            alpha = Fraction(float(np.float32(at["alpha"])))
        if self.chance(0.3):
            at["beta"] = float(np.float32(self.pick([0.5, -1.0, 2.0])))
        units, reach = [u * alpha for u in self.lsb(x["scale"], scale)], self.reach(x, codes, 0 if turned else 1)
        inputs = [x["name"], *real]
        bias = self.bias(units, reach) if self.chance(0.6) else None
        if bias is not None:
            if not isinstance(bias, str):
                bias = self.constant(self.pick([bias, bias.reshape(1, -1)]), "b")
            inputs.append(bias)
        if self.exact and beta != 1:
            at.pop("beta", None)
        if self.exact and "beta" in at and abs(at["beta"]) < 1:
            at.pop("beta")
        return self.behind(self.node("Gemm", inputs, **at), (shape[0], out), units, reach, 1)

    def matmul(self, x, shape):
        out = self.number(1, 3)
        names, codes, scale, real = self.weights((shape[1], out), 1)
        units, reach = self.lsb(x["scale"], scale), self.reach(x, codes, 1)
        shape = (shape[0], out)
        if self.style == "qlinear":
            return self.stored("QLinearMatMul", x, names, [], shape, units, reach, {})
        if self.style == "integer":
            return self.scaled("MatMulInteger", x, names, shape, units, reach, 1, {})
        return self.behind(self.node("MatMul", [x["name"], *real]), shape, units, reach, 1)

    def stored(self, op, x, names, bias, shape, units, reach, at):
        """QLinearConv, QLinearMatMul: with its own output quantizer."""
        kind = self.pick([np.uint8, np.int8])
        levels = self.pick([4, 16, 256])
        scale = self.scale(float(max(abs(u) for u in units)) * reach * 2 / levels)
        zero = kind(self.number(int(np.iinfo(kind).min) // 2, int(np.iinfo(kind).max) // 2))
        s, z = self.constant(scale, "s"), self.constant(zero, "z")
        inputs = [x["raw"], x["s"], x["z"], names[0], names[1], names[2], s, z, *bias]
        out = self.node(op, inputs, **at)
        info = np.iinfo(kind)
        made = {"name": out, "low": int(info.min), "high": int(info.max), "scale": scale, "zero": int(zero), "raw": out}
        return {**made, "s": s, "z": z}, shape, None, None

    def scaled(self, op, x, names, shape, units, reach, axis, at):
        """ConvInteger, MatMulInteger: int32 sums, an integer bias perhaps, then a Cast and a product with the scale."""
        out = self.node(op, [x["raw"], names[0], x["z"], names[2]], **at)
        if self.chance(0.4) and not self.exact:
            codes = np.array([self.rng.uniform(-reach, reach) for _ in units]).astype(np.int32)
            value = codes.reshape([-1] + [1] * (len(shape) - 1 - axis))
            out = self.node(
                "Add", [out, self.constant(value, "b")] if self.chance(0.5) else [self.constant(value, "b"), out]
            )
        out = self.node("Cast", [out], to=TensorProto.FLOAT)
        placed = [-1 if i == axis else 1 for i in range(len(shape))]
        factors = np.array([np.float32(float(u)) for u in units], np.float32)
        out = self.node("Mul", [out, self.constant(factors.reshape(placed))])
        return self.behind(out, shape, units, reach, axis, constants=0.4)

    def reach(self, x, codes, axis):
        """About how far a sum goes, in LSBs."""
        most = max(abs(x["low"] - x["zero"]), abs(x["high"] - x["zero"]), 1)
        rows = np.abs(np.moveaxis(codes, axis, 0).reshape(codes.shape[axis], -1)).sum(axis=1)
        return float(max(rows.max(), 1) * most)

    def behind(self, name, shape, units, reach, axis, constants=0.5):
        """What stands between a layer and its quantizer: moves, constants, BatchNormalization, a nonlinearity."""
        if self.chance(0.1):
            self.outputs.append((name, shape))
            self.notes.append("result is an output")
        if self.chance(0.12) and len(shape) == 3 and shape[2] == 1:
            name, shape = self.node("Squeeze", [name, self.constant(np.array([2], np.int64))]), shape[:2]
        elif self.chance(0.12):
            name = (
                self.node("Identity", [name]) if self.chance(0.5) else self.node("Cast", [name], to=TensorProto.FLOAT)
            )
        turned = len(shape) == 2 and self.chance(0.15)
        if turned:
            name, shape, axis = self.node("Transpose", [name], perm=[1, 0]), shape[::-1], 0
        for _ in range(0 if self.exact else 2):
            if self.chance(constants):
                bias = self.bias(units, reach)
                if bias is not None:
                    name = self.added(name, bias, shape, axis)
                    constants /= 2
        if turned:
            name, shape, axis = self.node("Transpose", [name], perm=[1, 0]), shape[::-1], 1
        if self.chance(0.15) and not self.exact:
            name = self.node("Mul", [name, self.constant(np.float32(self.pick([0.5, 2.0, 0.7, -1.0])))])
        if self.chance(0.2) and axis == 1 and not self.grid:
            draw = lambda low, high: self.constant(self.rng.uniform(low, high, shape[1]).astype(np.float32), "bn")  # noqa: E731
            reals = float(max(abs(u) for u in units)) * reach
            name = self.node(
                "BatchNormalization", [name, draw(-1, 2), draw(-reals, reals), draw(-reals, reals), draw(0.3, 2)]
            )
            self.notes.append("bn")
        form = self.pick(["none", "none", "relu", "relu", "leaky", "clip"])
        if form == "relu":
            name = self.node("Relu", [name])
        elif form == "leaky":
            name = self.node("LeakyRelu", [name], alpha=self.pick([0.25, 0.1, 0.5]))
        elif form == "clip":
            top = float(max(abs(u) for u in units)) * reach
            edges = [
                self.constant(np.float32(v)) for v in (-top * self.rng.uniform(0, 1), top * self.rng.uniform(0.1, 1))
            ]
            name = self.node("Clip", [name, *edges])
        self.plain = form == "none"
        return name, shape, units, reach

    def network(self):
        """The whole network."""
        image = self.chance(0.55)
        complete = self.chance(0.8)
        if complete:
            levels = self.pick([2, 3, 4, 4, 8])
            if self.style == "qonnx":
                levels = self.pick([4, 4, 8])
            most = self.pick(MOST)
            levels = min(levels, most)
            elements = max(n for n in (1, 2, 3, 4) if levels**n <= most)
            elements = self.number(1, elements)
        else:
            levels, elements = None, self.number(3, 12)
        inner = self.shape(elements, image)
        x = self.quantize("input", levels if complete else None)
        count = x["high"] - x["low"] + 1
        if count**elements <= max(MOST):
            codes, complete = list(product(range(x["low"], x["high"] + 1), repeat=elements)), True
        else:
            complete = False
            ends = [[v] * elements for v in (x["low"], x["high"])]
            codes = ends + self.rng.integers(x["low"], x["high"] + 1, (20, elements)).tolist()
        codes = np.array(codes).reshape(-1, *inner)
        data = ((codes - x["zero"]) * float(x["scale"])).astype(np.float32)
        shape = codes.shape
        name = None
        for i in range(self.pick([1, 1, 2, 2, 3])):
            if i and len(shape) > 2 and self.chance(0.3):
                flat = (shape[0], int(np.prod(shape[1:])))
                target = self.constant(np.array([0, -1] if self.chance(0.5) else flat, np.int64))
                moved = self.node("Reshape", [x["name"], target])
                x = {
                    **x,
                    "name": moved,
                    "raw": moved if x["raw"] == x["name"] else None if x["raw"] is None else x["raw"],
                }
                if x["raw"] is not None and x["raw"] != moved:
                    x["raw"] = None
                shape = flat
            before, before_shape = x, shape
            made, shape, units, reach = self.layer(x, shape)
            if units is None:
                x = made
                continue
            name = made
            about = float(max(abs(u) for u in units)) * reach
            if self.chance(0.12) and i:
                break  # the file ends in reals
            x = self.quantize(name, None, self.scale(about * 2.0 ** self.rng.uniform(-5, 0.5)))
            name = None
            if (shape == before_shape and self.chance(0.5)) or self.chance(0.1):
                self.notes.append("residual")
                other = before if shape == before_shape else x
                sides = [self.real(x), self.real(other)]
                total = self.node(self.pick(["Add", "Add", "Sub"]) if other is not x else "Add", sides)
                if self.chance(0.4):
                    total = self.node("Relu", [total])
                x = self.quantize(total, None, self.scale(float(x["scale"]) * 2.0 ** self.rng.uniform(-1, 2)))
        final = name if name is not None else self.real(x)
        self.outputs.append((final, shape))
        graph = helper.make_graph(
            self.nodes,
            "tiny",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, list(codes.shape))],
            [
                helper.make_tensor_value_info(n, self.element(n), None)
                for n in dict.fromkeys(n for n, _ in self.outputs)
            ],
            self.initializers,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(QONNX, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        return Network(model, {"input": data}, complete, self.exact, self.grid, " ".join(self.notes))

    def element(self, name):
        """The element type of an output."""
        (node,) = [n for n in self.nodes if name in n.output]
        integer = node.op_type in ("ConvInteger", "MatMulInteger")
        return TensorProto.INT32 if integer else TensorProto.FLOAT

    def shape(self, elements, image):
        """Axes of one input."""
        if not image:
            return (elements,)
        options = []
        for c in (1, 2, 3, 4):
            if elements % c == 0:
                rest = elements // c
                options.append((c, rest))
                options += [(c, a, rest // a) for a in (1, 2, 3) if rest % a == 0]
        return self.pick(options)


def network(seed, exact=False):
    """The network of a seed; `exact` draws biases of whole LSBs only."""
    return Draw(np.random.default_rng(seed), exact).network()
