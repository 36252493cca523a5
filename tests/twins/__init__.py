"""The dumb twins: what integers a network gives, once more, in Python integers, as slowly and plainly as can be.

They share no code with the package: nothing here imports it (`test_twins.py`). Stages, packings and requantizers are
any objects with the attributes that their pages name (docs/targets.md, docs/requantizers.md). `tests/filelevel` has a
second spelling of its own, so that a mistake in this one is seen.
"""

from .registers import Machine, Sums, accumulate, accumulate_packed, fits, kept, saturate, wrap
from .requantizers import (
    apply_scale,
    divide_by_pot,
    gemmlowp,
    high_mul,
    onnxruntime,
    quantize_multiplier,
    requantized,
    tflite,
)
from .rounding import float32, round_divide, round_fraction

__all__ = [
    "Machine",
    "Sums",
    "accumulate",
    "accumulate_packed",
    "apply_scale",
    "divide_by_pot",
    "fits",
    "float32",
    "gemmlowp",
    "high_mul",
    "kept",
    "onnxruntime",
    "quantize_multiplier",
    "requantized",
    "round_divide",
    "round_fraction",
    "saturate",
    "tflite",
    "wrap",
]
