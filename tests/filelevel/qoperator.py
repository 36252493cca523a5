"""Networks of ONNX Runtime's operators on codes, with all their inputs, and what an oracle reads in them."""

import itertools
from fractions import Fraction

import numpy as np
from onnx import TensorProto, helper

from . import layer
from .generate import Draw, Network
from .numbers import rational, rounded
from .oracle import Oracle, raw, real_of

MICROSOFT = "com.microsoft"


def numbers(x, scale, zero):
    """(code - zero point) * scale of a tensor or a constant."""
    z, step = int(zero.codes.reshape(-1)[0]), scale.real.reshape(-1)[0]
    codes = np.broadcast_to(x.terms[0][0] if hasattr(x, "terms") else x.codes, x.shape)
    return np.array([(int(q) - z) * step for q in codes.reshape(-1)], object).reshape(x.shape)


class Codes(Oracle):
    """Numbers of codes, the operator in fractions, rounded half to even; its requantizer is exact on every machine."""

    def _saturated(self, node, y, scale, zero):
        step, z, kind = scale.real.reshape(-1)[0], int(zero.codes.reshape(-1)[0]), zero.kind
        codes = [min(max(rounded(v / step, "half_even") + z, kind[0]), kind[1]) for v in y.reshape(-1)]
        self.codes[node.name] = np.array(codes, object).reshape(y.shape)
        return raw(self.codes[node.name], kind)

    def _qlinearadd(self, node, at, *given):
        return self._saturated(node, numbers(*given[:3]) + numbers(*given[3:6]), *given[6:])

    def _qlinearmul(self, node, at, *given):
        return self._saturated(node, numbers(*given[:3]) * numbers(*given[3:6]), *given[6:])

    def _qlinearleakyrelu(self, node, at, x, scale, zero, *out):
        slope, reals = rational(np.float32(at["alpha"])), numbers(x, scale, zero)
        y = np.array([v if v >= 0 else slope * v for v in reals.reshape(-1)], object)
        return self._saturated(node, y.reshape(x.shape), *out)

    def _qlinearglobalaveragepool(self, node, at, x, scale, zero, *out):
        return self._averaged(node, numbers(x, scale, zero), x.shape[2:], *out)

    def _qlinearaveragepool(self, node, at, x, scale, zero, *out):
        return self._averaged(node, numbers(x, scale, zero), at["kernel_shape"], *out)

    def _averaged(self, node, reals, kernel, *out):
        y = np.empty((*reals.shape[:2], *(n - k + 1 for n, k in zip(reals.shape[2:], kernel, strict=True))), object)
        taps = list(itertools.product(*map(range, kernel)))
        for i in np.ndindex(*y.shape):
            cells = [reals[(*i[:2], *(p + t for p, t in zip(i[2:], tap, strict=True)))] for tap in taps]
            y[i] = sum(cells, Fraction(0)) / len(cells)
        return self._saturated(node, y, *out)

    def _qlinearconcat(self, node, at, scale, zero, *given):
        parts = [numbers(*given[i : i + 3]) for i in range(0, len(given), 3)]
        return self._saturated(node, np.concatenate(parts, at["axis"]), scale, zero)

    def _qgemm(self, node, at, a, a_scale, a_zero, b, b_scale, b_zero, c, *out):
        codes = b.codes.T if at.get("transB") else b.codes
        channels = codes.shape[1]
        scale = np.broadcast_to(a_scale.real.reshape(-1) * b_scale.real.reshape(-1), channels)
        zeros = [int(z) for z in np.broadcast_to(b_zero.codes.reshape(-1), channels)]
        alpha, whole = rational(np.float32(at.get("alpha", 1.0))), np.broadcast_to(c.codes.reshape(-1), channels)
        added = [int(n) * s * alpha for n, s in zip(whole, scale, strict=True)]
        taps = layer.matmul_taps(np.broadcast_to(a.terms[0][0], a.shape), codes)
        operands = layer.Operand([int(a_zero.codes.reshape(-1)[0])], a.kind), layer.Operand(zeros, b.kind)
        sums = self._layer(node, taps, *operands, scale, added, chain=False, alpha=alpha)
        return self._saturated(node, real_of(sums), *out) if out else sums


class CodesDraw(Draw):
    """One to three operators behind a quantizer of few levels; the last one may be a QGemm with a float output."""

    def __init__(self, rng):
        super().__init__(rng)
        self.style = "qlinear"

    def output(self, x, coarser=1.0):
        """Scale and zero point of an output."""
        scale, kind = self.scale(float(x["scale"]) * coarser), x["kind"]
        zero = kind(self.number(int(np.iinfo(kind).min) // 2, int(np.iinfo(kind).max) // 2))
        return {"kind": kind, "scale": scale, "s": self.constant(scale, "s"), "z": self.constant(zero, "z")}

    def made(self, op, inputs, out, shape, **attributes):
        """A node with its output."""
        self.notes.append(op)
        return {**out, "raw": self.node(op, inputs, MICROSOFT, **attributes), "shape": shape}

    def behind_codes(self, x):
        """One more operator behind x."""
        shape, own = x["shape"], [x["raw"], x["s"], x["z"]]
        forms = ["twice", "plus", "times", "leaky", "concat", "concat"]
        form = self.pick([*forms, *(["pool", "pool", "global"] if len(shape) > 2 else ["gemm"] * 3)])
        if form == "gemm":
            return self.gemm_of(x, own)
        out = self.output(x, self.pick([0.5, 1, 2, 2]))
        end = [out["s"], out["z"]]
        if form == "twice":
            return self.made("QLinearAdd", [*own, *own, *end], out, shape)
        if form in ("plus", "times"):
            codes = self.rng.integers(0, 100, (shape[1], *[1] * (len(shape) - 2))).astype(x["kind"])
            scale = self.scale(float(x["scale"]) if form == "plus" else 0.02)
            other = [self.constant(codes), self.constant(scale), self.constant(x["kind"](7))]
            sides = [*own, *other] if self.chance(0.5) else [*other, *own]
            return self.made("QLinearAdd" if form == "plus" else "QLinearMul", [*sides, *end], out, shape)
        if form == "leaky":
            return self.made("QLinearLeakyRelu", [*own, *end], out, shape, alpha=self.pick([0.25, 0.1, 1.5]))
        if form == "concat":
            return self.made("QLinearConcat", [*end, *own, *own], out, (shape[0], 2 * shape[1], *shape[2:]), axis=1)
        kernel = [self.number(1, min(2, n)) if form == "pool" else n for n in shape[2:]]
        after = (*shape[:2], *(n - k + 1 for n, k in zip(shape[2:], kernel, strict=True)))
        if form == "pool":
            return self.made("QLinearAveragePool", [*own, *end], out, after, kernel_shape=kernel)
        return self.made("QLinearGlobalAveragePool", [*own, *end], out, after)

    def gemm_of(self, x, own):
        """QGemm, per column or not."""
        rows, columns, turned = x["shape"][0], self.number(1, 3), self.number(0, 1)
        shape = (columns, x["shape"][1]) if turned else (x["shape"][1], columns)
        names, codes, scale, _ = self.weights(shape, 0 if turned else 1)
        c = self.rng.integers(-500, 500, self.pick([(), (columns,), (1, columns)]))
        inputs = [*own, *names, self.constant(np.asarray(c, np.int32))]
        at = {"transB": turned} | ({"alpha": self.pick([0.5, 1.7, -1.0])} if self.chance(0.4) else {})
        if self.chance(0.25):
            return self.made("QGemm", inputs, {**x, "s": None}, (rows, columns), **at)
        out = self.output({**x, "scale": float(x["scale"]) * float(max(scale))}, float(np.abs(codes).sum()))
        return self.made("QGemm", [*inputs, out["s"], out["z"]], out, (rows, columns), **at)

    def network(self):
        """The whole network."""
        elements = self.pick([2, 3, 4])
        inner, levels = self.shape(elements, self.chance(0.4)), {2: 8, 3: 4, 4: 4}[elements]
        kind = self.pick([np.uint8, np.int8])
        zero, scale = self.number(levels, 100), self.scale()
        first = zero - self.number(0, levels - 1)
        codes = np.array(list(itertools.product(range(first, first + levels), repeat=elements))).reshape(-1, *inner)
        ends = [self.constant(scale, "s"), self.constant(kind(zero), "z")]
        name = self.node("QuantizeLinear", ["input", *ends])
        x = {"kind": kind, "scale": scale, "s": ends[0], "z": ends[1], "raw": name, "shape": codes.shape}
        for _ in range(self.number(1, 3)):
            x = self.behind_codes(x)
            if x["s"] is None:
                break
        real = x["raw"] if x["s"] is None else self.node("DequantizeLinear", [x["raw"], x["s"], x["z"]])
        graph = helper.make_graph(
            self.nodes,
            "codes",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, list(codes.shape))],
            [helper.make_tensor_value_info(real, TensorProto.FLOAT, None)],
            self.initializers,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)], ir_version=9
        )
        data = ((codes - zero) * float(scale)).astype(np.float32)
        return Network(model, {"input": data}, True, False, self.grid, " ".join(self.notes))
