"""Functions in plain float64: of constants, rounded once, and of what no quantizer reads."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from intsim.verification.reference.call import Call, row_axes


def values(call: Call, i: int = 0) -> np.ndarray:
    """Float64 values of an input."""
    return call.tensor(i).approx()[0]


def softmax(call: Call) -> np.ndarray:
    """Softmax and LogSoftmax."""
    v = values(call)
    axes = row_axes(call, v.ndim)
    v = v - v.max(axis=axes, keepdims=True)
    if call.op == "LogSoftmax":
        return v - np.log(np.exp(v).sum(axis=axes, keepdims=True))
    return np.exp(v) / np.exp(v).sum(axis=axes, keepdims=True)


def _argmax(call: Call) -> np.ndarray:
    axis = call.attr("axis", 0)
    out = np.argmax(values(call), axis=axis)
    return np.expand_dims(out, axis) if call.attr("keepdims", 1) else out


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _gelu(call: Call) -> np.ndarray:
    v = values(call)
    if call.attr("approximate", "none") == "tanh":
        return 0.5 * v * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))
    return 0.5 * v * (1 + _erf(v / math.sqrt(2)))


def _elu(call: Call) -> np.ndarray:
    v, selu = values(call), call.op == "Selu"
    alpha = call.attr("alpha", 1.67326319217681884765625 if selu else 1.0)
    gamma = call.attr("gamma", 1.05070102214813232421875) if selu else 1.0
    rate = 1 / alpha if call.op == "Celu" else 1.0
    return gamma * np.where(v > 0, v, alpha * np.expm1(np.minimum(v, 0) * rate))


#: Functions with irrational values, in plain float64: of constants (rounded once), or after the last quantizer.
EPILOGUE: dict[str, Callable[[Call], np.ndarray]] = {"LogSoftmax": softmax, "ArgMax": _argmax}

#: The same of functions that are exact before a quantizer.
PLAIN: dict[str, Callable[[Call], np.ndarray]] = {
    "Sigmoid": lambda call: 1 / (1 + np.exp(-values(call))),
    "Tanh": lambda call: np.tanh(values(call)),
    "Exp": lambda call: np.exp(values(call)),
    "Log": lambda call: np.log(values(call)),
    "Erf": lambda call: _erf(values(call)),
    "Gelu": _gelu,
    "Elu": _elu,
    "Softplus": lambda call: np.logaddexp(0, values(call)),
    "Ceil": lambda call: np.ceil(values(call)),
    "Floor": lambda call: np.floor(values(call)),
    "Round": lambda call: np.rint(values(call)),
    "Sign": lambda call: np.sign(values(call)),
    "Sin": lambda call: np.sin(values(call)),
    "Cos": lambda call: np.cos(values(call)),
    "Softsign": lambda call: values(call) / (1 + np.abs(values(call))),
    "Mish": lambda call: values(call) * np.tanh(np.logaddexp(0, values(call))),
    "Selu": _elu,
    "Celu": _elu,
    "ThresholdedRelu": lambda call: np.where(values(call) > call.attr("alpha", 1.0), values(call), 0.0),
}
