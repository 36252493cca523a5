"""Integer arithmetic without graphs: integer types, rounding, accumulator stages, requantizers."""

from intsim.arithmetic.accumulate import Stage, accumulate, accumulate_telemetry, check_stages
from intsim.arithmetic.integers import IntegerType, bits_for, saturate, wrap
from intsim.arithmetic.packing import Packing, accumulate_packed, check_packing
from intsim.arithmetic.requantizers.exact import exact_requantize
from intsim.arithmetic.requantizers.fixed_point import (
    multiply_high_double_rounding,
    multiply_single_rounding,
    quantize_multiplier,
)
from intsim.arithmetic.requantizers.float32 import float32_requantize, float32_scale
from intsim.arithmetic.requantizers.shift import power_of_two_shift, shift_requantize
from intsim.arithmetic.rounding import Rounding, round_divide, round_fraction

__all__ = [
    "IntegerType",
    "Packing",
    "Rounding",
    "Stage",
    "accumulate",
    "accumulate_packed",
    "accumulate_telemetry",
    "bits_for",
    "check_packing",
    "check_stages",
    "exact_requantize",
    "float32_requantize",
    "float32_scale",
    "multiply_high_double_rounding",
    "multiply_single_rounding",
    "power_of_two_shift",
    "quantize_multiplier",
    "round_divide",
    "round_fraction",
    "saturate",
    "shift_requantize",
    "wrap",
]
