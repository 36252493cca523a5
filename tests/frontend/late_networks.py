"""Networks whose numbers are moved, joined, pooled, masked and bent before a quantizer rounds them, drawn by seed.

    python -m tests.frontend.late_networks --first 0 --count 2000

Opsets 10 to 23, axes that count from the end, constants of every sign of zero and beyond all numbers, masks. Whatever
is accepted is compared with the reference, code by code, and every second one certified: a refusal is one line.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

import intsim
from intsim.errors import IntsimError
from intsim.ops import OPS
from intsim.ops.rows import RowFunction
from intsim.testing.net import Net
from intsim.verification.reference import Reference

f32 = np.float32
ODD = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 0.3, -0.7, 1e-3, 100.0, -100.0]
NASTY = [np.inf, -np.inf, np.nan, 1e30, -1e30, 3.4e38, -65504.0, 1e-40]


class Late:
    """A network grown step by step; `have` are its tensors and their shapes."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.opset = int(self.rng.choice([10, 11, 12, 13, 13, 15, 16, 17, 18, 19, 20, 21, 22, 23]))
        self.net = Net(self.opset)
        self.nchw = (
            int(self.rng.integers(1, 3)),
            int(self.rng.integers(1, 4)),
            int(self.rng.integers(2, 5)),
            int(self.rng.integers(2, 5)),
        )
        self.net.input(*self.nchw)
        self.onlyqdq = self.rng.random() < 0.6
        self.have = []  # (name, shape)
        self.add(self.quantized("x", self.nchw, allow_channel=False), self.nchw)

    def add(self, name, shape):
        self.have.append((name, tuple(int(s) for s in shape)))
        return name

    def ch(self, *v):
        return v[int(self.rng.integers(len(v)))]

    def p(self, q):
        return self.rng.random() < q

    def quantized(self, x, shape, allow_channel=True):
        s = self.ch(0.25, 0.1, 0.05, 0.3, 0.02, 0.5, 1.0, 0.0371)
        if self.onlyqdq or self.p(0.3):
            z = self.ch(np.uint8(0), np.uint8(128), np.int8(0), np.int8(-3), np.uint8(7), np.uint8(255), np.int8(-128))
            if allow_channel and self.opset >= 13 and len(shape) > 1 and self.p(0.15):
                axis = int(self.rng.integers(len(shape)))
                n = shape[axis]
                zz = np.full(n, z) if self.p(0.5) else np.arange(n).astype(z.dtype)
                return self.net.qdq(
                    x, f32(self.rng.choice([0.1, 0.25, 0.05], n)), zz, axis=self.ch(axis, axis - len(shape))
                )
            return self.net.qdq(x, s, z)
        sc = f32(s)
        if allow_channel and len(shape) > 1 and self.p(0.15):
            axis = int(self.rng.integers(len(shape)))
            sc = f32(self.rng.choice([0.1, 0.25, 0.05], [n if i == axis else 1 for i, n in enumerate(shape)]))
        return self.net.quant(
            x,
            sc,
            self.ch(0, 0, 1, -2, 0.5),
            int(self.rng.integers(2, 9)),
            signed=int(self.rng.integers(2)),
            narrow=int(self.rng.integers(2)),
            rounding_mode=self.ch("ROUND", "ROUND", "CEIL", "FLOOR", "HALF_UP"),
        )

    def const(self, shape, nasty=0.12):
        v = f32(self.rng.choice(ODD, shape))
        if self.p(nasty):
            v = np.array(v)
            flat = v.reshape(-1)
            flat[int(self.rng.integers(flat.size))] = f32(self.ch(*NASTY))
            v = flat.reshape(v.shape)
        return f32(v)

    def some_shape(self, shape):
        opts = [(), (1,), tuple(shape)]
        for a in range(len(shape)):
            opts.append(tuple(n if i == a else 1 for i, n in enumerate(shape)))
            opts.append(tuple(n if i >= a else 1 for i, n in enumerate(shape)))
            opts.append(tuple(shape[a:]))
        return opts[int(self.rng.integers(len(opts)))]

    def pick(self):
        # newest most often
        i = len(self.have) - 1 if self.p(0.6) else int(self.rng.integers(len(self.have)))
        return self.have[i]

    def n(self, op, *a, **k):
        return self.net.node(op, *a, **k)

    def ints(self, v):
        return np.asarray(v, np.int64)

    # steps
    def conv(self):
        x, s = self.pick()
        if len(s) != 4:
            return
        out = int(self.rng.integers(1, 5))
        k = self.ch(1, min(2, s[2], s[3]), min(3, s[2], s[3]))
        w = f32(self.rng.integers(-9, 10, (out, s[1], k, k)) / 8)
        sc = f32(self.rng.uniform(0.5, 1.5, (out, 1, 1, 1)) * 0.05) if self.p(0.5) else f32(0.0625)
        if self.onlyqdq:
            if self.opset >= 13 and sc.size > 1:
                w = self.net.qdq(self.net.const(w), sc.reshape(-1), np.zeros(out, np.int8), axis=0)
            else:
                w = self.net.qdq(self.net.const(w), f32(sc.reshape(-1)[0]), np.int8(0))
        else:
            w = self.net.quant(w, sc, 0, 6)
        b = [f32(self.rng.normal(0, 0.6, out))] if self.p(0.6) else []
        y = self.n("Conv", x, w, *b, pads=[k // 2] * 4)
        self.add(y, (s[0], out, s[2] + 2 * (k // 2) - k + 1, s[3] + 2 * (k // 2) - k + 1))

    def matmul(self):
        x, s = self.pick()
        if len(s) < 2:
            return
        out = int(self.rng.integers(1, 4))
        w = f32(self.rng.integers(-9, 10, (s[-1], out)) / 8)
        w = (
            self.net.qdq(self.net.const(w), f32(0.0625), np.int8(0))
            if self.onlyqdq
            else self.net.quant(w, f32(0.0625), 0, 6)
        )
        self.add(self.n("MatMul", x, w), (*s[:-1], out))

    def unary(self):
        x, s = self.pick()
        op = self.ch(
            "Relu",
            "Sigmoid",
            "Tanh",
            "Exp",
            "Sqrt",
            "Log",
            "Abs",
            "Neg",
            "Floor",
            "Ceil",
            "Round",
            "Sign",
            "Erf",
            "Softplus",
            "Softsign",
            "Reciprocal",
            "Sin",
            "Cos",
            "LeakyRelu",
            "Elu",
            "Selu",
            "Celu",
            "HardSigmoid",
            "ThresholdedRelu",
            "Identity",
            "Gelu",
            "Mish",
            "HardSwish",
            "Clip",
            "Clip",
            "Dropout",
            "Cast",
        )
        need = {"Gelu": 20, "Mish": 18, "HardSwish": 14, "Celu": 12, "Round": 11}
        if self.opset < need.get(op, 0):
            return
        k = {}
        ins = [x]
        if op in ("LeakyRelu", "Elu", "Celu", "ThresholdedRelu"):
            k = {"alpha": float(self.ch(0.1, 1.0, 0.5, -0.5, 2.0))}
        if op == "HardSigmoid":
            k = {"alpha": float(self.ch(0.2, 1 / 6, -0.3)), "beta": float(self.ch(0.5, 0.9))}
        if op == "Gelu":
            k = {"approximate": self.ch("none", "tanh")}
        if op == "Cast":
            k = {"to": TensorProto.FLOAT}
        if op == "Clip":
            lo, hi = self.ch(-1.0, -0.0, 0.3, None, -np.inf, 2.0), self.ch(1.0, 6.0, None, np.inf, -0.5)
            if self.opset < 11:
                k = {n: float(v) for n, v in (("min", lo), ("max", hi)) if v is not None}
            else:
                ins += [None if lo is None else f32(lo), None if hi is None else f32(hi)]
        y = self.n(op, *ins, **k)
        self.add(y, s)

    def act(self):
        x, s = self.pick()
        g = self.n(self.ch("Sigmoid", "Tanh", "Relu", "Erf", "Identity", "Exp"), x)
        self.add(self.n(self.ch("Mul", "Add", "Sub", "Max", "Min", "Div"), *self.ch((x, g), (g, x))), s)

    def constant(self):
        x, s = self.pick()
        op = self.ch("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu", "Add", "Mul")
        cs = self.some_shape(s)
        c = self.const(cs)
        if op == "Pow":
            c = f32(self.ch(2, 3, 0.5, 1, 0, -1, 2.0))
        if op == "PRelu":
            try:
                if np.broadcast_shapes(s, c.shape) != s:
                    return
            except ValueError:
                return
            self.add(self.n("PRelu", x, c), s)
            return
        a = (x, c) if op == "Pow" else self.ch((x, c), (c, x))
        self.add(self.n(op, *a), np.broadcast_shapes(s, np.shape(c)))

    def grow(self):
        x, s = self.pick()
        ax = self.ch(*range(len(s)))
        if s[ax] != 1:
            return
        c = self.const(tuple(3 if i == ax else 1 for i in range(len(s))))
        self.add(self.n(self.ch("Add", "Mul", "Max"), x, c), [3 if i == ax else n for i, n in enumerate(s)])

    def two(self):
        x, s = self.pick()
        y, t = self.have[int(self.rng.integers(len(self.have)))]
        try:
            shape = np.broadcast_shapes(s, t)
        except ValueError:
            return
        op = self.ch("Add", "Sub", "Mul", "Max", "Min", "Div", "Add", "Mean", "Sum")
        ins = [x, y]
        if op in ("Max", "Min", "Mean", "Sum") and self.p(0.4):
            ins.append(self.const(self.ch((), shape[-1:])))
            ins = [ins[i] for i in self.rng.permutation(len(ins))]
        self.add(self.n(op, *ins), shape)

    def mul_add_bn(self):
        x, s = self.pick()
        if len(s) < 2:
            return
        c = s[1]
        r = self.rng
        self.add(
            self.n(
                "BatchNormalization",
                x,
                f32(r.choice([-1, 0, 1, 0.5, -0.0, 2.0], c)),
                f32(r.normal(0, 1, c)),
                f32(r.normal(0, 1, c)),
                f32(r.uniform(0.2, 2, c)),
                epsilon=float(self.ch(1e-5, 0.0, 1e-3)),
            ),
            s,
        )

    def concat(self):
        x, s = self.pick()
        ax = int(self.rng.integers(len(s)))
        fits = [
            (n, t)
            for n, t in self.have
            if len(t) == len(s) and all(a == b for i, (a, b) in enumerate(zip(s, t, strict=True)) if i != ax)
        ]
        parts = [(x, s)] + [fits[int(self.rng.integers(len(fits)))] for _ in range(int(self.rng.integers(1, 3)))]
        if self.p(0.3):
            cs = tuple(int(self.rng.integers(1, 3)) if i == ax else n for i, n in enumerate(s))
            parts.append((self.const(cs, 0.2), cs))
        order = self.rng.permutation(len(parts))
        parts = [parts[i] for i in order]
        size = sum(t[ax] for _, t in parts)
        self.add(
            self.n("Concat", *[n for n, _ in parts], axis=self.ch(ax, ax - len(s))),
            [size if i == ax else n for i, n in enumerate(s)],
        )

    def transpose(self):
        x, s = self.pick()
        p = [int(v) for v in self.rng.permutation(len(s))]
        if self.p(0.15):
            self.add(self.n("Transpose", x), s[::-1])
            return
        self.add(self.n("Transpose", x, perm=p), [s[i] for i in p])

    def reshape(self):
        x, s = self.pick()
        total = int(np.prod(s))
        forms = [[0, -1], [-1], [total], [1, -1], [-1, s[-1]], [*s[::-1]], [0] * min(1, len(s)) + [-1]]
        if len(s) > 1:
            forms += [[0, 0, -1] if len(s) > 2 else [0, 0], [s[0], -1, 1]]
        form = self.ch(*forms)
        out = [s[i] if d == 0 and i < len(s) else d for i, d in enumerate(form)]
        if any(d == 0 for d in out):
            return
        if -1 in out:
            rest = int(np.prod([d for d in out if d != -1]))
            if total % rest:
                return
            out = [total // rest if d == -1 else d for d in out]
        if np.prod(out) != total:
            return
        self.add(self.n("Reshape", x, self.ints(form)), out)

    def flatten(self):
        x, s = self.pick()
        ax = int(self.rng.integers(-len(s), len(s) + 1)) if self.opset >= 11 else int(self.rng.integers(0, len(s) + 1))
        a = ax if ax >= 0 else ax + len(s)
        self.add(self.n("Flatten", x, axis=ax), [int(np.prod(s[:a])), int(np.prod(s[a:]))])

    def squeeze(self):
        x, s = self.pick()
        ones = [i for i, n in enumerate(s) if n == 1]
        if self.p(0.5) and ones and len(s) > 1:
            a = self.ch(*ones)
            v = a if self.opset < 11 else self.ch(a, a - len(s))
            y = self.n("Squeeze", x, self.ints([v])) if self.opset >= 13 else self.n("Squeeze", x, axes=[v])
            self.add(y, [n for i, n in enumerate(s) if i != a])
        elif len(s) < 5:
            a = int(self.rng.integers(len(s) + 1))
            v = a if self.opset < 11 else self.ch(a, a - len(s) - 1)
            y = self.n("Unsqueeze", x, self.ints([v])) if self.opset >= 13 else self.n("Unsqueeze", x, axes=[v])
            self.add(y, [*s[:a], 1, *s[a:]])

    def slice(self):
        x, s = self.pick()
        a = int(self.rng.integers(len(s)))
        n = s[a]
        start, end, step = (
            int(self.rng.integers(-n - 2, n + 2)),
            int(self.rng.integers(-n - 2, n + 3)),
            self.ch(1, 1, 2, -1, -2),
        )
        if self.p(0.2):
            end = self.ch(2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
        got = len(_slice(n, start, end, step))
        if got == 0:
            return
        self.add(
            self.n(
                "Slice", x, self.ints([start]), self.ints([end]), self.ints([self.ch(a, a - len(s))]), self.ints([step])
            ),
            [got if i == a else m for i, m in enumerate(s)],
        )

    def split(self):
        x, s = self.pick()
        a = int(self.rng.integers(len(s)))
        n = s[a]
        if n < 2:
            return
        k = int(self.rng.integers(1, n))
        v = self.ch(a, a - len(s)) if self.opset >= 11 else a
        outs = (
            self.n("Split", x, self.ints([k, n - k]), axis=v, outputs=2)
            if self.opset >= 13
            else self.n("Split", x, split=[k, n - k], axis=v, outputs=2)
        )
        for o, m in zip(outs, (k, n - k), strict=True):
            self.add(o, [m if i == a else q for i, q in enumerate(s)])

    def gather(self):
        x, s = self.pick()
        a = int(self.rng.integers(len(s)))
        n = s[a]
        ish = self.ch((), (2,), (1,), (3,), (2, 2))
        lo = -n if self.opset >= 11 else 0
        idx = self.rng.integers(lo, n, ish)
        shape = (*s[:a], *ish, *s[a + 1 :])
        if len(shape) > 5:
            return
        self.add(self.n("Gather", x, self.ints(idx), axis=self.ch(a, a - len(s))), shape)

    def pool(self):
        x, s = self.pick()
        if len(s) != 4:
            return
        op = self.ch("MaxPool", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")
        if op.startswith("Global"):
            self.add(self.n(op, x), (*s[:2], 1, 1))
            return
        k = [int(self.rng.integers(1, min(3, n) + 1)) for n in s[2:]]
        st = [int(self.rng.integers(1, 3)) for _ in k]
        pads = [int(self.rng.integers(0, kk)) for kk in k] + [int(self.rng.integers(0, kk)) for kk in k]
        at = {"kernel_shape": k, "strides": st, "pads": pads}
        ceil = int(self.p(0.3))
        if ceil:
            at["ceil_mode"] = 1
        if op == "AveragePool":
            at["count_include_pad"] = int(self.rng.integers(2))
        y = self.n(op, x, **at)
        out = []
        for i, n in enumerate(s[2:]):
            room = n + pads[i] + pads[2 + i] - k[i]
            o = (-(-room // st[i]) if ceil else room // st[i]) + 1
            if ceil and (o - 1) * st[i] >= n + pads[i]:
                o -= 1
            out.append(o)
        self.add(y, (*s[:2], *out))

    def reduce(self):
        x, s = self.pick()
        op = self.ch("ReduceMax", "ReduceMin", "ReduceMean", "ReduceSum")
        axes = sorted({int(self.rng.integers(len(s))) for _ in range(self.ch(1, 1, 2))})
        keep = int(self.rng.integers(2)) if len(axes) < len(s) else 1
        named = [self.ch(a, a - len(s)) if self.opset >= 11 else a for a in axes]
        at = {"keepdims": keep}
        byinput = self.opset >= (13 if op == "ReduceSum" else 18)
        y = self.n(op, x, self.ints(named), **at) if byinput else self.n(op, x, axes=named, **at)
        self.add(y, [1 if i in axes else n for i, n in enumerate(s) if keep or i not in axes])

    def where(self):
        x, s = self.pick()
        cond = self.rng.random(self.some_shape(s)) < 0.5
        fits = [(n, t) for n, t in self.have if t == s]
        other = self.ch(
            fits[int(self.rng.integers(len(fits)))][0],
            self.const(self.some_shape(s), 0.3),
            f32(self.ch(-np.inf, 0.0, -1e9, np.nan, np.inf, -0.0)),
        )
        a = self.ch((x, other), (other, x))
        self.add(self.n("Where", cond, *a), s)

    def mask(self):
        x, s = self.pick()
        v = self.ch(-np.inf, -1e9, -100.0, -3.4e38, -17.0, -20.0)
        m = np.where(self.rng.random(self.some_shape(s)) < 0.4, f32(v), f32(self.ch(0, 0, 0.5, -0.0)))
        y = self.n("Add", x, f32(m)) if self.p(0.6) else self.n("Sub", x, f32(-m))
        if self.p(0.5):
            y = self.n(self.ch("Mul", "Div"), y, f32(self.ch(0.5, 1.0, 0.125)))
        self.add(y, s)
        if self.p(0.6):
            self.softmax()

    def softmax(self):
        x, s = self.pick()
        a = int(self.rng.integers(len(s)))
        v = self.ch(a, a - len(s)) if self.opset >= 11 else a
        self.add(self.n("Softmax", x, axis=v), s)

    def norm(self):
        x, s = self.pick()
        kind = self.ch("ln", "ln", "in", "gn", "written", "rms")
        if kind == "ln" and self.opset >= 17:
            a = int(self.rng.integers(len(s)))
            sh = s[a:] if self.p(0.7) else s[-1:] if len(s[a:]) == 1 else s[a:]
            self.add(
                self.n(
                    "LayerNormalization",
                    x,
                    f32(self.rng.normal(1, 0.5, sh)),
                    f32(self.rng.normal(0, 1, sh)),
                    axis=self.ch(a, a - len(s)),
                    epsilon=float(self.ch(1e-5, 0.1)),
                ),
                s,
            )
        elif kind == "in" and len(s) >= 3:
            c = s[1]
            self.add(
                self.n(
                    "InstanceNormalization",
                    x,
                    f32(self.rng.normal(1, 0.5, c)),
                    f32(self.rng.normal(0, 1, c)),
                    epsilon=1e-3,
                ),
                s,
            )
        elif kind in ("written", "rms"):
            a = self.ch(-1, len(s) - 1) if self.opset >= 11 else len(s) - 1

            def mean(v):
                return (
                    self.n("ReduceMean", v, self.ints([a])) if self.opset >= 18 else self.n("ReduceMean", v, axes=[a])
                )

            d = self.n("Sub", x, mean(x)) if kind == "written" else x
            sq = self.n("Pow", d, f32(2)) if self.p(0.5) else self.n("Mul", d, d)
            r = self.n("Sqrt", self.n("Add", mean(sq), f32(self.ch(1e-5, 0.1))))
            y = self.n("Div", d, r) if self.p(0.6) else self.n("Mul", d, self.n("Reciprocal", r))
            self.add(y, s)

    def resize(self):
        x, s = self.pick()
        if len(s) != 4:
            return
        sc = f32([1, 1, *[self.ch(1, 2, 2, 0.5, 1.5) for _ in range(2)]])
        out = [int(np.floor(n * float(c))) for n, c in zip(s, sc, strict=True)]
        if min(out) < 1:
            return
        mode = self.ch("nearest", "nearest", "linear")
        if self.opset < 11:
            y = self.n("Resize", x, sc, mode=mode)
        else:
            at = {
                "mode": mode,
                "coordinate_transformation_mode": self.ch(
                    "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"
                ),
            }
            if mode == "nearest":
                at["nearest_mode"] = self.ch("round_prefer_floor", "floor", "ceil", "round_prefer_ceil")
            y = self.n("Resize", x, None if self.opset >= 13 else f32([]), sc, **at)
        self.add(y, out)

    def pad(self):
        x, s = self.pick()
        pads = [int(self.rng.integers(-1 if n > 2 else 0, 2)) for n in s] + [int(self.rng.integers(0, 2)) for n in s]
        mode = self.ch("constant", "constant", "edge", "reflect")
        if mode == "reflect":
            pads = [min(max(p, 0), s[i % len(s)] - 1) for i, p in enumerate(pads)]
        v = self.ch(None, 0.0, 0.7, -0.0, -np.inf, 1e30, np.nan)
        if self.opset < 11:
            at = {} if v is None else {"value": float(v)}
            y = self.n("Pad", x, pads=pads, mode=mode, **at)
        else:
            y = self.n("Pad", x, self.ints(pads), *([] if v is None or mode != "constant" else [f32(v)]), mode=mode)
        self.add(y, [n + pads[i] + pads[len(s) + i] for i, n in enumerate(s)])

    def expand(self):
        x, s = self.pick()
        if self.p(0.5):
            r = [self.ch(1, 1, 2) for _ in s]
            self.add(self.n("Tile", x, self.ints(r)), [a * b for a, b in zip(s, r, strict=True)])
        else:
            t = [2 if n == 1 and self.p(0.5) else self.ch(1, n) for n in s]
            t = self.ch(t, [2, *t] if len(t) < 5 else t, t[-1:])
            self.add(self.n("Expand", x, self.ints(t)), np.broadcast_shapes(s, tuple(t)))

    def einsum(self):
        x, s = self.pick()
        if self.opset < 12 or len(s) not in (2, 4):
            return
        if len(s) == 2:
            self.add(self.n("Einsum", x, equation="ij->ji"), s[::-1])
            return
        w = self.net.qdq(self.net.const(f32(self.rng.integers(-3, 4, (s[1], 3)) / 4)), f32(0.25), np.int8(0))
        form = self.ch("bdhw", "bhwd", "dbwh")
        sizes = {"b": s[0], "d": 3, "h": s[2], "w": s[3]}
        self.add(self.n("Einsum", x, w, equation=f"bchw,cd->{form}"), [sizes[c] for c in form])

    def shuffle(self):
        x, s = self.pick()
        if len(s) != 4:
            return
        if s[1] % 4 == 0 and self.p(0.7):
            self.add(
                self.n("DepthToSpace", x, blocksize=2, mode=self.ch("DCR", "CRD"))
                if self.opset >= 11
                else self.n("DepthToSpace", x, blocksize=2),
                (s[0], s[1] // 4, s[2] * 2, s[3] * 2),
            )
        elif s[2] % 2 == 0 and s[3] % 2 == 0:
            self.add(self.n("SpaceToDepth", x, blocksize=2), (s[0], s[1] * 4, s[2] // 2, s[3] // 2))

    def requant(self):
        x, s = self.pick()
        self.add(self.quantized(x, s), s)

    STEPS = (
        ["conv"] * 3
        + ["matmul"]
        + ["unary"] * 5
        + ["act"] * 2
        + ["constant"] * 3
        + ["grow"]
        + ["two"] * 2
        + ["mul_add_bn"]
        + ["concat"] * 5
        + ["transpose"] * 2
        + ["reshape"] * 2
        + ["flatten", "squeeze", "slice", "slice", "split", "gather", "gather"]
        + ["pool"] * 4
        + ["reduce"] * 3
        + ["where"] * 3
        + ["mask"] * 2
        + ["softmax", "norm"]
        + ["resize", "pad", "pad", "expand", "einsum", "shuffle"]
        + ["requant"] * 2
    )

    def made(self) -> tuple[onnx.ModelProto, list[dict[str, Any]]] | None:
        """The network behind a last quantizer, without what it doesn't need, and inputs; None if it has no input."""
        if self.p(0.8):
            self.conv()
        for _ in range(int(self.rng.integers(1, 7))):
            name = self.STEPS[int(self.rng.integers(len(self.STEPS)))]
            getattr(self, name)()
            if max(np.prod(s) for _, s in self.have) > 800 or max(len(s) for _, s in self.have) > 5:
                self.have = [h for h in self.have if np.prod(h[1]) <= 800 and len(h[1]) <= 5]
        x, s = self.have[-1]
        y = self.quantized(x, s)
        wanted = {y}
        kept = []
        for node in reversed(self.net.nodes):
            if wanted & set(node.output):
                kept.append(node)
                wanted |= set(node.input)
        self.net.nodes = kept[::-1]
        self.net.constants = [c for c in self.net.constants if c.name in wanted]
        if "x" not in wanted:
            return None
        m = self.net.model(y)
        scale = self.ch(0.5, 1.5, 4.0)
        values = self.rng.normal(0, scale, self.nchw).astype(f32)
        values2 = (self.rng.integers(-40, 41, self.nchw) / 16 + 0.00137).astype(f32)
        return m, [{"x": values}, {"x": values2}]


def _slice(n, start, end, step):
    """The places that ONNX's Slice takes of an axis."""
    start, end = (v + n if v < 0 else v for v in (start, end))
    if step > 0:
        return list(range(min(max(start, 0), n), min(max(end, 0), n), step))
    return list(range(min(max(start, 0), n - 1), min(max(end, -1), n - 1), step))


def judged(model: onnx.ModelProto, inputs: list[dict[str, np.ndarray]], counted: Counter[str]) -> str:
    """What became of a network: refused, unread (the reference can't), or equal; AssertionError where they differ.

    `counted` gets the operators of its integer graph.
    """
    try:
        loaded = intsim.load(model)
        runs = [loaded.run(given, keep=True) for given in inputs]
    except IntsimError as error:
        text = str(error)
        assert text.isprintable(), text
        return "refused"
    counted.update({n.op for n in loaded.graph.nodes})
    try:
        wanted = [Reference(model).run(given) for given in inputs]
    except IntsimError:
        return "unread"
    rows = any(isinstance(OPS[n.op], RowFunction) for n in loaded.graph.nodes)
    for given, run, reference in zip(inputs, runs, wanted, strict=True):
        for name, info in loaded.graph.tensors.items():
            made = run.tensors[name]
            assert made.shape == info.shape, name
            assert info.low <= made.min(), name
            assert made.max() <= info.high, name
            same = info.onnx not in reference.codes or np.array_equal(made, reference.codes[info.onnx])
            if not same and rows:  # a code next to a tie is off by what the row's integers are
                assert intsim.verify(model, inputs=given, references=False).verdict == "exact", name
                return "near a tie"
            assert same, f"codes of {name}"
        for name, made in run.outputs.items():
            np.testing.assert_allclose(made, reference.value(name), rtol=1e-5, atol=1e-5, err_msg=name)
    return "equal"


def certified(model: onnx.ModelProto) -> str:
    """The verdict; AssertionError where the two readings differ."""
    try:
        verdict = str(intsim.certify(model).verdict)
    except IntsimError:
        return "not certified"
    assert verdict != "disputed"
    return verdict


def campaign(first: int, count: int) -> Counter[str]:
    """Networks of these seeds: how many had which outcome, and which operators of the registry occurred."""
    counted: Counter[str] = Counter()
    for seed in range(first, first + count):
        network = Late(seed).made()
        if network is None:
            continue
        try:
            outcome = judged(*network, counted)
            counted[outcome] += 1
            if outcome != "refused" and seed % 2:
                verdict = certified(network[0])
                counted[verdict] += 1
                assert outcome != "unread" or verdict != "certified", "certified what the reference can't read"
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    return counted


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=2000)
    asked = parser.parse_args()
    for name, times in campaign(asked.first, asked.count).most_common():
        print(f"{times:7} {name}")
