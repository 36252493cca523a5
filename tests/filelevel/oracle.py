"""What a file computes on a machine: the ONNX protobuf, node by node, in Python integers and Fractions.

Constants are taken from the initializers as they stand; a float is the rational that it is. Real numbers between two
quantizers are `Real`: a sum of integer tensors times rationals, an offset, and the steps that follow.
"""

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import reduce

import numpy as np
import onnx

from . import layer
from .machine import EXACT
from .numbers import Refused, rational, rounded
from .requantizer import LEFT, is_exact, operand, unclipped

KINDS = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
}
ROUNDING = {
    "ROUND": "half_even",
    "HALF_EVEN": "half_even",
    "CEIL": "ceil",
    "FLOOR": "floor",
    "UP": "away",
    "DOWN": "toward_zero",
    "HALF_UP": "half_away",
    "HALF_DOWN": "half_toward_zero",
}
MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Cast")


def fractions(array):
    """An array of floats or integers as Fractions."""
    values = np.asarray(array)
    known = {v: rational(v) for v in set(values.reshape(-1).tolist())}
    return np.array([known[v] for v in values.reshape(-1).tolist()], object).reshape(values.shape)


@dataclass
class Known:
    """A constant: exact values, and the codes behind them where a quantizer made it."""

    real: np.ndarray
    codes: np.ndarray | None = None
    scale: np.ndarray | None = None
    zero: np.ndarray | None = None
    kind: tuple | None = None

    @property
    def shape(self):
        return self.real.shape


@dataclass
class Real:
    """`steps(sum of scale * integers + offset)`; parameters broadcast against `shape`.

    terms: (integers, scale, widest), the last the greatest magnitude a quantizer's codes can have, None for a sum of
    products. `kind` is the declared range of the codes of a single quantized tensor.
    """

    shape: tuple
    terms: list
    offset: np.ndarray
    steps: list = field(default_factory=list)
    kind: tuple | None = None


class Oracle:
    """One network on one machine.

    Args:
        model: ModelProto.
        machine: see `machine.machine`; by default exact semantics of the file.
    """

    def __init__(self, model, machine=EXACT):
        self.graph, self.machine = model.graph, machine
        self.constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        self.readers = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.results = {o.name for o in self.graph.output}

    def run(self, inputs):
        """Run: fills `values`, `layers` by node name, `codes` by a quantizer's node name, `outputs` as Fractions."""
        self.values = {
            n: Known(fractions(a), kind=KINDS.get(a.dtype.name), codes=_integers(a)) for n, a in self.constants.items()
        }
        self.layers, self.codes, self.absorbed = {}, {}, set()
        for info in self.graph.input:
            if info.name not in self.constants:
                self.values[info.name] = Known(fractions(inputs[info.name]))
        self.real_inputs = {info.name for info in self.graph.input}
        for node in self.graph.node:
            at = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            given = [self.values[n] if n else None for n in node.input]
            self.values[node.output[0]] = getattr(self, f"_{node.op_type.lower()}")(node, at, *given)
        self.outputs = {n: real_of(self.values[n]) for n in self.results}
        return self

    # Quantizers

    def _requantized(self, node, x, scale, before, after, mode, low, high):
        """Codes: clip(round(x / scale + before) + after)."""
        if isinstance(x, Known):
            q = np.empty(x.shape, object)
            s, z = (np.broadcast_to(np.asarray(v, object), x.shape) for v in (scale, before))
            known = {}
            for i in np.ndindex(*x.shape):
                key = (x.real[i], s[i], z[i])
                if key not in known:
                    known[key] = min(max(rounded(key[0] / key[1] + key[2], mode) + after, low), high)
                q[i] = known[key]
        else:
            steps = [*x.steps, ("affine", 1 / np.asarray(scale, object), np.asarray(before, object))]
            q = self._codes_of(x, steps, mode, after, low, high)
        self.codes[node.name] = q
        return q

    def _codes_of(self, x, steps, mode, after, low, high):
        parameters = [s for _, s, _ in x.terms] + [x.offset] + [v for _, *vs in steps for v in vs if v is not None]
        cells = np.broadcast_shapes(*(np.shape(p) for p in parameters))
        spread = [np.broadcast_to(np.asarray(p, object), cells).reshape(-1) for p in parameters]
        index = np.broadcast_to(np.arange(math.prod(cells)).reshape(cells), x.shape)
        integers = [np.broadcast_to(q, x.shape) for q, _, _ in x.terms]
        known, out = {}, np.empty(x.shape, object)
        for i in np.ndindex(*x.shape):
            key = (index[i], *(q[i] for q in integers))
            if key not in known:
                at = iter(p[key[0]] for p in spread)
                scales, offset = [next(at) for _ in x.terms], next(at)
                own = [(kind, *(None if v is None else next(at) for v in vs)) for kind, *vs in steps]
                value = self._code(key[1:], scales, offset, own, [w for _, _, w in x.terms], mode) + after
                known[key] = min(max(value, low), high)
            out[i] = known[key]
        return out

    def _code(self, values, scales, offset, steps, widest, mode):
        """Before zero point and clip."""
        form, stages = self.machine.requantize, self.machine.stages
        if len(values) == 1:
            return unclipped(form, stages, values[0], *line(values[0], scales[0], offset, steps), mode)
        grid = reduce(common, scales)
        factors = [int(s / grid) for s in scales]
        if is_exact(form) or form["scheme"] == "shift":
            acc = sum(f * v for f, v in zip(factors, values, strict=True))
            return unclipped(form, stages, acc, *line(acc, grid, offset, steps), mode)
        if None in widest:
            raise NotImplementedError("a sum of products and another tensor, brought to one scale")
        left = min(LEFT, 30 - max(widest).bit_length() - (len(values) - 1).bit_length())
        twice = 2 * max(abs(f) for f in factors)
        unit = Fraction(twice, 2**left)
        total = sum(
            operand(form, v * 2**left, Fraction(f, twice)) if f else 0 for f, v in zip(factors, values, strict=True)
        )
        scale, rest = line(math.floor(total * unit), grid, offset, steps)  # pieces begin at whole numbers of the grid
        return unclipped(form, stages, total, scale * unit, rest, mode)

    def _quantizelinear(self, node, at, x, scale, zero=None):
        kind = KINDS["uint8"] if zero is None else zero.kind
        z = 0 if zero is None else int(zero.codes.reshape(-1)[0])
        s = along(scale.real, x.shape, at.get("axis", 1))
        q = self._requantized(node, x, s, Fraction(0), z, "half_even", *kind)
        return (
            Known(as_fractions(q), q, kind=kind)
            if isinstance(x, Known) and node.input[0] not in self.real_inputs
            else raw(q, kind)
        )

    def _dequantizelinear(self, node, at, x, scale, zero=None):
        s = along(scale.real, x.shape, at.get("axis", 1))
        z = np.asarray(Fraction(0), object) if zero is None else along(zero.real, x.shape, at.get("axis", 1))
        if isinstance(x, Known):
            return Known((x.real - z) * s, x.codes, s, z, x.kind)
        return Real(x.shape, [(x.terms[0][0], s, x.terms[0][2])], np.asarray(-z * s, object), [], x.kind)

    def _quant(self, node, at, x, scale, zero, bits):
        n, signed, narrow = int(bits.real.reshape(-1)[0]), at.get("signed", 1), at.get("narrow", 0)
        kind = (-(2 ** (n - 1)) + narrow, 2 ** (n - 1) - 1) if signed else (0, 2**n - 1 - narrow)
        mode = ROUNDING[at.get("rounding_mode", b"ROUND").decode()]
        q = self._requantized(node, x, scale.real, zero.real, 0, mode, *kind)
        s, z = scale.real, zero.real
        if isinstance(x, Known) and node.input[0] not in self.real_inputs:
            real = (as_fractions(q) - z) * s
            return Known(np.asarray(real, object), q, np.asarray(s, object), np.asarray(z, object), kind)
        return Real(q.shape, [(q, s, max(map(abs, kind)))], np.asarray(-z * s, object), [], kind)

    # Multiply-accumulates

    def _layer(self, node, taps, x, w, scale, constant, chain=True, alpha=Fraction(1)):
        """Run a layer. `scale`: one value or one a channel; `constant`: what the file adds for each channel."""
        channels = len(taps.columns)
        scales = [alpha * s for s in np.broadcast_to(np.asarray(scale, object).reshape(-1), (channels,))]
        sign = 1
        if chain:
            sign, constant = self._constants_behind(node, taps, list(constant))
        scales = [sign * s for s in scales]
        bias = [rounded(b / s, "half_even") for b, s in zip(constant, scales, strict=True)]
        rest = [b - n * s for b, n, s in zip(constant, bias, scales, strict=True)]
        seen = layer.run(taps, x, w, bias, self.machine)
        seen.rest = [r / s for r, s in zip(rest, scales, strict=True)]
        self.layers[node.name] = seen
        shape = [1] * len(taps.shape)
        shape[taps.channel_axis] = channels
        offset, factor = np.empty(channels, object), np.empty(channels, object)
        offset[:], factor[:] = rest, scales
        return Real(taps.shape, [(seen.result, factor.reshape(shape), None)], offset.reshape(shape))

    def _constants_behind(self, node, taps, constant):
        """Constants of one value a channel that Adds and Subs right behind a layer add to its result, and its sign."""
        channel = np.broadcast_to(
            np.arange(taps.shape[taps.channel_axis]).reshape(
                [-1 if i == taps.channel_axis else 1 for i in range(len(taps.shape))]
            ),
            taps.shape,
        )
        sign, name = 1, node.output[0]
        while name not in self.results and len(self.readers.get(name, [])) == 1:
            reader = self.readers[name][0]
            at = {a.name: onnx.helper.get_attribute_value(a) for a in reader.attribute}
            if reader.op_type in MOVES and reader.input[0] == name:
                channel = self._moved(reader, at, channel)
            elif reader.op_type in ("Add", "Sub"):
                other = [n for n in reader.input if n != name]
                known = self._folded(other[0]) if len(other) == 1 else None
                if known is None or np.broadcast_shapes(known.shape, channel.shape) != channel.shape:
                    break
                added = np.broadcast_to(known.real, channel.shape)
                by_channel = {}
                for i in np.ndindex(*channel.shape):
                    by_channel.setdefault(int(channel[i]), set()).add(added[i])
                if any(len(v) > 1 for v in by_channel.values()):
                    break
                once = [by_channel[c].pop() for c in range(len(constant))]
                if reader.op_type == "Add":
                    constant = [a + b for a, b in zip(constant, once, strict=True)]
                elif reader.input[0] == name:
                    constant = [a - b for a, b in zip(constant, once, strict=True)]
                else:
                    constant, sign = [b - a for a, b in zip(constant, once, strict=True)], -sign
                self.absorbed.add(reader.name)
            else:
                break
            name = reader.output[0]
        return sign, constant

    def _folded(self, name):
        """A constant, computed from initializers alone, whether its nodes have run or not."""
        if name in self.real_inputs:
            return None
        if name in self.values:
            found = self.values[name]
            return found if isinstance(found, Known) else None
        for node in self.graph.node:
            if name in node.output:
                given = [self._folded(n) if n else None for n in node.input]
                if node.op_type not in ("DequantizeLinear", "Quant", *MOVES) or any(g is None for g in given):
                    return None
                at = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
                return getattr(self, f"_{node.op_type.lower()}")(node, at, *given)
        return None

    def _activation(self, x):
        """(codes, one scale, Operand) of a quantized tensor."""
        assert len(x.terms) == 1, "a layer reads one quantized tensor"
        assert not x.steps, "a layer reads one quantized tensor"
        q, s, _ = x.terms[0]
        scale = s.reshape(-1)[0]
        zero = -np.asarray(x.offset, object).reshape(-1)[0] / scale
        assert zero.denominator == 1
        return np.broadcast_to(q, x.shape), scale, layer.Operand([int(zero)], x.kind)

    def _weights(self, w, axis):
        """(codes, a scale a channel, Operand) of a quantized constant."""
        channels = w.shape[axis]
        scale = np.asarray(Fraction(1) if w.scale is None else w.scale, object)
        zero = np.asarray(Fraction(0) if w.zero is None else w.zero, object)
        flat = [np.moveaxis(np.broadcast_to(v, w.shape), axis, 0).reshape(channels, -1)[:, 0] for v in (scale, zero)]
        return w.codes, flat[0], layer.Operand([int(z) for z in flat[1]], w.kind)

    def _conv(self, node, at, x, w, bias=None):
        q, s, xo = self._activation(x)
        codes, ws, wo = self._weights(w, 0)
        taps = self._conv_taps(at, q, codes)
        added = [Fraction(0)] * len(codes) if bias is None else list(bias.real)
        return self._layer(node, taps, xo, wo, s * ws, added)

    def _conv_taps(self, at, q, codes):
        rank = codes.ndim - 2
        return layer.conv_taps(
            q,
            codes,
            at.get("strides", [1] * rank),
            at.get("dilations", [1] * rank),
            at.get("pads", [0] * 2 * rank),
            at.get("group", 1),
            self.machine.order,
        )

    def _convtranspose(self, node, at, x, w, bias=None):
        """As a convolution of the input with zero points between its samples; group 1."""
        assert at.get("group", 1) == 1
        q, s, xo = self._activation(x)
        codes, ws, wo = self._weights(w, 1)
        rank = codes.ndim - 2
        kernel = codes.shape[2:]
        strides, pads = at.get("strides", [1] * rank), at.get("pads", [0] * 2 * rank)
        dilations, extra = at.get("dilations", [1] * rank), at.get("output_padding", [0] * rank)
        size = [(n - 1) * t + 1 for n, t in zip(q.shape[2:], strides, strict=True)]
        wide = np.full((*q.shape[:2], *size), xo.zeros[0], object)
        wide[(slice(None), slice(None), *(slice(None, None, t) for t in strides))] = q
        turned = np.swapaxes(codes, 0, 1)[(slice(None), slice(None), *[slice(None, None, -1)] * rank)]
        reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        begins = [r - p for r, p in zip(reach, pads[:rank], strict=True)]
        stops = [r - p + e for r, p, e in zip(reach, pads[rank:], extra, strict=True)]
        taps = layer.conv_taps(wide, turned, [1] * rank, dilations, [*begins, *stops], 1, self.machine.order)
        added = [Fraction(0)] * codes.shape[1] if bias is None else list(bias.real)
        return self._layer(node, taps, xo, wo, s * ws, added)

    def _convinteger(self, node, at, x, w, x_zero=None, w_zero=None):
        q, kind = np.broadcast_to(x.terms[0][0], x.shape), x.kind
        zeros = [0] * len(w.codes) if w_zero is None else [int(z) for z in np.broadcast_to(w_zero.codes, len(w.codes))]
        xo = layer.Operand([0 if x_zero is None else int(x_zero.codes.reshape(-1)[0])], kind)
        taps = self._conv_taps(at, q, w.codes)
        none = [Fraction(0)] * len(w.codes)
        return self._layer(node, taps, xo, layer.Operand(zeros, w.kind), Fraction(1), none)

    def _qlinearconv(self, node, at, x, xs, xz, w, ws, wz, ys, yz, bias=None):
        channels = len(w.codes)
        scale = np.broadcast_to(xs.real.reshape(-1) * ws.real.reshape(-1), channels)
        codes = [0] * channels if bias is None else [int(v) for v in bias.codes]
        zeros = [int(z) for z in np.broadcast_to(wz.codes.reshape(-1), channels)]
        taps = self._conv_taps(at, np.broadcast_to(x.terms[0][0], x.shape), w.codes)
        added = [b * s for b, s in zip(codes, scale, strict=True)]
        xo, wo = layer.Operand([int(xz.codes.reshape(-1)[0])], x.kind), layer.Operand(zeros, w.kind)
        return self._stored(node, self._layer(node, taps, xo, wo, scale, added, chain=False), ys, yz)

    def _qlinearmatmul(self, node, at, x, xs, xz, w, ws, wz, ys, yz):
        channels = w.shape[-1]
        scale = np.broadcast_to(xs.real.reshape(-1) * ws.real.reshape(-1), channels)
        zeros = [int(z) for z in np.broadcast_to(wz.codes.reshape(-1), channels)]
        taps = layer.matmul_taps(np.broadcast_to(x.terms[0][0], x.shape), w.codes)
        xo, wo = layer.Operand([int(xz.codes.reshape(-1)[0])], x.kind), layer.Operand(zeros, w.kind)
        none = [Fraction(0)] * channels
        return self._stored(node, self._layer(node, taps, xo, wo, scale, none, chain=False), ys, yz)

    def _stored(self, node, sums, scale, zero):
        """The output stage of a QLinear operator."""
        z = int(zero.codes.reshape(-1)[0])
        return raw(
            self._requantized(node, sums, scale.real.reshape(()), Fraction(0), z, "half_even", *zero.kind), zero.kind
        )

    def _matmulinteger(self, node, at, x, w, x_zero=None, w_zero=None):
        channels = w.shape[-1]
        zeros = [0] * channels if w_zero is None else [int(z) for z in np.broadcast_to(w_zero.codes, channels)]
        xo = layer.Operand([0 if x_zero is None else int(x_zero.codes.reshape(-1)[0])], x.kind)
        taps = layer.matmul_taps(np.broadcast_to(x.terms[0][0], x.shape), w.codes)
        return self._layer(node, taps, xo, layer.Operand(zeros, w.kind), Fraction(1), [Fraction(0)] * channels)

    def _matmul(self, node, at, x, w):
        q, s, xo = self._activation(x)
        codes, ws, wo = self._weights(w, w.real.ndim - 1)
        return self._layer(node, layer.matmul_taps(q, codes), xo, wo, s * ws, [Fraction(0)] * w.shape[-1])

    def _gemm(self, node, at, x, w, c=None):
        q, s, xo = self._activation(x)
        alpha, beta = (rational(np.float32(at.get(k, 1.0))) for k in ("alpha", "beta"))
        if at.get("transA"):
            q = q.T
        axis = 0 if at.get("transB") else 1
        codes, ws, wo = self._weights(w, axis)
        codes = codes.T if at.get("transB") else codes
        channels = codes.shape[1]
        added = [Fraction(0)] * channels
        if c is not None:
            rows = np.broadcast_to(c.real, (q.shape[0], channels)) * beta
            assert (rows == rows[0]).all(), "one value a channel"
            added = list(rows[0])
        return self._layer(node, layer.matmul_taps(q, codes), xo, wo, s * ws, added, alpha=alpha)

    # Between quantizers

    def _add(self, node, at, x, y, sign=1):
        if node.name in self.absorbed:
            return x if isinstance(x, Real) else y
        if isinstance(x, Known) and isinstance(y, Known):
            return Known(x.real + sign * y.real)
        if isinstance(y, Known):
            return affine(x, np.asarray(Fraction(1), object), sign * y.real, y.shape)
        if isinstance(x, Known):
            return affine(y, np.asarray(Fraction(sign), object), x.real, x.shape)
        shape = np.broadcast_shapes(x.shape, y.shape)
        assert not x.steps, "steps in front of a sum"
        assert not y.steps, "steps in front of a sum"
        terms = []
        for side, factor in ((x, 1), (y, sign)):
            for q, s, widest in side.terms:
                same = [i for i, (other, _, _) in enumerate(terms) if other is q]
                if same:
                    terms[same[0]] = (q, terms[same[0]][1] + factor * s, widest)
                else:
                    terms.append((q, factor * s, widest))
        return Real(shape, terms, np.asarray(x.offset + sign * y.offset, object))

    def _sub(self, node, at, x, y):
        return self._add(node, at, x, y, -1)

    def _mul(self, node, at, x, y):
        real, known = (x, y) if isinstance(y, Known) else (y, x)
        return affine(real, known.real, np.asarray(Fraction(0), object), known.shape)

    def _relu(self, node, at, x):
        return replace(x, steps=[*x.steps, ("clamp", np.asarray(Fraction(0), object), None)], kind=None)

    def _leakyrelu(self, node, at, x):
        slope = np.asarray(rational(np.float32(at.get("alpha", 0.01))), object)
        return replace(x, steps=[*x.steps, ("leaky", slope)], kind=None)

    def _clip(self, node, at, x, low=None, high=None):
        edges = [None if e is None else e.real.reshape(()) for e in (low, high)]
        if x.kind is not None and getattr(x, "steps", None) == [] and self._is_raw(x):
            (q, one, widest), (a, b) = x.terms[0], edges
            q = np.vectorize(lambda v: max(v, int(a[()])) if a is not None else v, otypes=[object])(q)
            q = np.vectorize(lambda v: min(v, int(b[()])) if b is not None else v, otypes=[object])(q)
            maker = next(n for n in self.graph.node if node.input[0] in n.output)
            self.codes[maker.name] = q  # one quantizer with its Clip
            return Real(x.shape, [(q, one, widest)], x.offset, [], x.kind)
        return replace(x, steps=[*x.steps, ("clamp", *edges)], kind=None)

    @staticmethod
    def _is_raw(x):
        return np.size(x.terms[0][1]) == 1 and np.asarray(x.terms[0][1]).reshape(-1)[0] == 1 and not np.any(x.offset)

    def _batchnormalization(self, node, at, x, gamma, beta, mean, variance):
        epsilon = float(np.float32(at.get("epsilon", 1e-5)))
        root = [rational(1.0 / math.sqrt(float(v) + epsilon)) for v in variance.real]
        a = np.array([r * g for r, g in zip(root, gamma.real, strict=True)], object)
        b = np.array([t - m * f for t, m, f in zip(beta.real, mean.real, a, strict=True)], object)
        shape = [-1 if i == 1 else 1 for i in range(len(x.shape))]
        return affine(x, a.reshape(shape), b.reshape(shape), x.shape)

    def _moved(self, node, at, array):
        """Data movement of an array of any type."""
        if node.op_type in ("Identity", "Cast"):
            return array
        if node.op_type == "Transpose":
            return array.transpose(at.get("perm"))
        if node.op_type == "Reshape":
            shape = [int(v) for v in self.constants[node.input[1]]]
            return array.reshape([array.shape[i] if v == 0 else v for i, v in enumerate(shape)])
        axes = sorted(int(v) % (array.ndim + (node.op_type == "Unsqueeze")) for v in self.constants[node.input[1]])
        return np.squeeze(array, tuple(axes)) if node.op_type == "Squeeze" else np.expand_dims(array, tuple(axes))

    def _reshape(self, node, at, x, *_):
        if isinstance(x, Known):
            return replace(
                x,
                real=self._moved(node, at, x.real),
                codes=None if x.codes is None else self._moved(node, at, x.codes),
            )

        def moved(p):
            if p is None:
                return None
            one = np.size(p) == 1
            return np.reshape(p, ()) if one else self._moved(node, at, np.broadcast_to(p, x.shape))

        terms = [(self._moved(node, at, np.broadcast_to(q, x.shape)), moved(s), w) for q, s, w in x.terms]
        return Real(
            terms[0][0].shape,
            terms,
            moved(x.offset),
            [(kind, *(moved(v) for v in vs)) for kind, *vs in x.steps],
            x.kind,
        )

    _transpose = _squeeze = _unsqueeze = _identity = _cast = _reshape


def _integers(array):
    """Integer initializers as Python integers."""
    if array.dtype.kind not in "iu":
        return None
    return np.array([int(v) for v in array.reshape(-1)], object).reshape(array.shape)


def as_fractions(q):
    """Integers as Fractions."""
    return np.array([Fraction(v) for v in q.reshape(-1)], object).reshape(q.shape)


def raw(q, kind):
    """A tensor of the file that holds the codes themselves."""
    zero, one = (np.asarray(Fraction(v), object) for v in (0, 1))
    return Real(q.shape, [(q, one, max(map(abs, kind)))], zero, [], kind)


def along(values, shape, axis):
    """A scale or zero point of one value, or one for each index of an axis, so that it broadcasts."""
    if values.size == 1:
        return values.reshape(())
    return values.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])


def affine(x, a, b, other):
    """`a * x + b`."""
    shape = np.broadcast_shapes(x.shape, other)
    if x.steps:
        return Real(shape, x.terms, x.offset, [*x.steps, ("affine", a, b)])
    return Real(shape, [(q, s * a, w) for q, s, w in x.terms], np.asarray(x.offset * a + b, object))


def line(acc, scale, offset, steps):
    """The piece (S, B) of a piecewise linear function on which an integer lies."""
    s, b = scale, offset
    for kind, *values in steps:
        value = s * acc + b
        if kind == "affine":
            s, b = values[0] * s, values[0] * b + values[1]
        elif kind == "leaky":
            if value < 0:
                s, b = values[0] * s, values[0] * b
        else:
            low, high = values
            if low is not None and value < low:
                s, b, value = Fraction(0), low, low
            if high is not None and value >= high:
                s, b = Fraction(0), high
    return s, b


def common(a, b):
    """The greatest positive rational of which both are whole multiples."""
    return Fraction(math.gcd(a.numerator * b.denominator, b.numerator * a.denominator), a.denominator * b.denominator)


def real_of(x):
    """Exact values of a tensor."""
    if isinstance(x, Known):
        return x.real
    total = np.broadcast_to(np.asarray(x.offset, object), x.shape)
    for q, s, _ in x.terms:
        total = total + q * s
    for kind, *values in x.steps:
        if kind == "affine":
            total = total * values[0] + values[1]
        elif kind == "leaky":
            total = np.where(total < 0, total * values[0], total)
        else:
            total = total if values[0] is None else np.maximum(total, values[0])
            total = total if values[1] is None else np.minimum(total, values[1])
    return np.broadcast_to(total, x.shape)


__all__ = ["Known", "Oracle", "Real", "Refused"]
