"""What an output is worth: metrics of one sample, built in or the user's own function."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError

Outputs = Mapping[str, NDArray[Any]]
Function = Callable[[Outputs, Outputs, Any], float]
OWN_MODULE = "intsim_metric_"
"""How the modules of files of the user's own are called."""
NORMAL_95 = 1.959964
"""Standard errors on either side of a mean that hold 95 % of a normal distribution."""
D1_PIXELS, D1_SHARE = 3.0, 0.05
"""An outlier of the KITTI stereo benchmark: off by more than both, in pixels and as a share of the truth."""


@dataclass(frozen=True)
class Metric:
    """A number for each sample.

    Attributes:
        name: as it was asked for.
        function: of (outputs, references, labels): what the target makes, what exact arithmetic makes, arrays by the
            names of the file's outputs in its own units, and the sample's label, None where there are none.
        labels: whether it needs labels; `references`: whether it looks at exact arithmetic.
        version: what tells functions of one name apart: SHA-256 of the file of the user's own, "" of others.
        greater: whether more of it is better.
    """

    name: str
    function: Function
    labels: bool = False
    references: bool = True
    version: str = ""
    greater: bool = False

    def __call__(self, outputs: Outputs, references: Outputs, label: Any) -> float:
        """Of one sample. Raises IntsimError where the function fails, or returns no number."""
        try:
            value = self.function(outputs, references, label)
            number = float(np.asarray(value, np.float64).reshape(()))
        except IntsimError:
            raise
        except Exception as error:  # the user's own function raises what it likes
            what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise IntsimError(f"metric {self.name}: {what}") from error
        return number


@dataclass(frozen=True)
class MetricResult:
    """A metric over all samples.

    Attributes:
        name: of the metric.
        mean: over samples with a finite value; None where there is none.
        low, high: of the 95 % interval of that mean, normal; None of less than two.
        median: likewise.
        samples: with a finite value; `infinite`: with another one, as an SQNR without noise, or none.
    """

    name: str
    mean: float | None
    low: float | None
    high: float | None
    median: float | None
    samples: int
    infinite: int

    @classmethod
    def of(cls, name: str, values: Sequence[float]) -> MetricResult:
        """From the values of the samples; sums are exact, so their order doesn't matter."""
        finite = [v for v in values if math.isfinite(v)]
        n = len(finite)
        if not n:
            return cls(name, None, None, None, None, 0, len(values))
        mean, middle = math.fsum(finite) / n, float(np.median(finite))
        if n == 1:
            return cls(name, mean, None, None, middle, n, len(values) - n)
        reach = NORMAL_95 * math.sqrt(math.fsum((v - mean) ** 2 for v in finite) / (n - 1) / n)
        return cls(name, mean, mean - reach, mean + reach, middle, n, len(values) - n)


def _only(arrays: Outputs) -> NDArray[Any]:
    if len(arrays) != 1:
        raise IntsimError(f"it is of one output, the file has {', '.join(arrays)}; write a function of your own")
    return next(iter(arrays.values()))


def _flat(arrays: Outputs) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(a, np.float64).reshape(-1) for a in arrays.values()])


def _decibels(signal: float, noise: float) -> float:
    return np.inf if noise == 0 else -np.inf if signal == 0 else 10 * float(np.log10(signal / noise))


def mae(outputs: Outputs, references: Outputs, label: Any) -> float:
    """Mean absolute difference of all outputs from exact arithmetic, in the file's units."""
    return float(np.abs(_flat(outputs) - _flat(references)).mean())


def sqnr(outputs: Outputs, references: Outputs, label: Any) -> float:
    """Power of the exact outputs over that of the difference, in dB; inf where there is none."""
    exact = _flat(references)
    return _decibels(float((exact**2).sum()), float(((_flat(outputs) - exact) ** 2).sum()))


def psnr(outputs: Outputs, references: Outputs, label: Any) -> float:
    """Squared range of the exact outputs over the mean squared difference, in dB; inf where there is none."""
    exact = _flat(references)
    return _decibels(float(np.ptp(exact)) ** 2, float(((_flat(outputs) - exact) ** 2).mean()))


def agreement(outputs: Outputs, references: Outputs, label: Any) -> float:
    """1 where the greatest output is the one that is greatest in exact arithmetic, else 0; the first of equals."""
    return float(np.argmax(_only(outputs)) == np.argmax(_only(references)))


def top1(outputs: Outputs, references: Outputs, label: Any) -> float:
    """1 where the greatest output is the label's, a class number, else 0; the first of equals."""
    return float(np.argmax(_only(outputs)) == int(np.asarray(label).reshape(())))


def _errors(outputs: Outputs, label: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Absolute differences from a label of the output's size, and the label, where it is a number."""
    got, truth = _flat({"": _only(outputs)}), np.asarray(label, np.float64).reshape(-1)
    if got.size != truth.size:
        raise IntsimError(f"labels of {truth.size} elements for an output of {got.size}")
    known = np.isfinite(truth)
    return np.abs(got[known] - truth[known]), truth[known]


def epe(outputs: Outputs, references: Outputs, label: Any) -> float:
    """Mean absolute difference from a label of the output's size, where that is finite: the end-point error."""
    off = _errors(outputs, label)[0]
    return float(off.mean()) if off.size else np.nan


def d1(outputs: Outputs, references: Outputs, label: Any) -> float:
    """Share of elements off by more than 3 and more than 5 % of the label (KITTI 2015), where that is finite."""
    off, truth = _errors(outputs, label)
    return float(((off > D1_PIXELS) & (off > D1_SHARE * np.abs(truth))).mean()) if off.size else np.nan


BUILT_IN = {
    "mae": Metric("mae", mae),
    "sqnr": Metric("sqnr", sqnr, greater=True),
    "psnr": Metric("psnr", psnr, greater=True),
    "agreement": Metric("agreement", agreement, greater=True),
    "top1": Metric("top1", top1, labels=True, references=False, greater=True),
    "epe": Metric("epe", epe, labels=True, references=False),
    "d1": Metric("d1", d1, labels=True, references=False),
}


def read_metric(text: str) -> Metric:
    """A metric by name, `FILE.py:FUNCTION`, or `MODULE:FUNCTION` of an installed module.

    The user's own is called as `Metric.function` and may use labels or not.

    Raises:
        IntsimError: no such metric, file, module or function, or a file that fails when it is read.
    """
    if text in BUILT_IN:
        return BUILT_IN[text]
    source, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier():
        raise IntsimError(f"metric {text!r}: allowed: {', '.join(BUILT_IN)}, FILE.py:FUNCTION, MODULE:FUNCTION")
    version = ""
    try:
        if source.endswith(".py"):
            version = hashlib.sha256(Path(source).read_bytes()).hexdigest()
            spec = importlib.util.spec_from_file_location(f"{OWN_MODULE}{version[:16]}", source)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(source)
    except Exception as error:  # a file of the user's own raises what it likes
        what = getattr(error, "strerror", None) or " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise IntsimError(f"metric {text}: {source} can't be read: {what}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise IntsimError(f"metric {text}: {source} has no function {name}")
    return Metric(text, function, version=version)


def read_metrics(given: Sequence[str | Metric], labels: bool) -> list[Metric]:
    """Several, each once. Raises IntsimError as `read_metric`, and for one that needs labels where there are none."""
    metrics = [m if isinstance(m, Metric) else read_metric(m) for m in given]
    names = [m.name for m in metrics]
    twice = [n for n in names if names.count(n) > 1]
    if twice:
        raise IntsimError(f"metric {twice[0]} is given twice")
    lacking = [m.name for m in metrics if m.labels and not labels]
    if lacking:
        raise IntsimError(f"metric {lacking[0]} needs labels; give --labels FILE.npy, one row a sample")
    return metrics


def labels_of(labels: str | Path | NDArray[Any] | None, samples: int) -> NDArray[Any] | None:
    """Labels of a file or an array, a row a sample; None of None. Raises IntsimError for another number of rows."""
    if isinstance(labels, str | Path):
        return read_labels(str(labels), samples)
    if labels is not None and len(labels) != samples:
        raise IntsimError(f"{len(labels)} labels for {samples} samples")
    return labels


def read_labels(path: str, samples: int | None = None) -> NDArray[Any]:
    """Labels of a .npy file, a row a sample, read as they are needed.

    Raises:
        IntsimError: no such file, or another number of rows than `samples`.
    """
    try:
        labels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise IntsimError(f"{path}: not a readable .npy file: {what}") from None
    if not isinstance(labels, np.ndarray) or labels.ndim == 0 or labels.dtype.kind not in "fiub":
        raise IntsimError(f"{path}: labels are one array of numbers, a row a sample")
    if samples is not None and len(labels) != samples:
        raise IntsimError(f"{path}: {len(labels)} labels for {samples} samples")
    return labels
