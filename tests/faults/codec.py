"""Faults in the codec in space and with a guide: a rounding, a window, a ramp."""

from .planting import Fault

FAULTS = (
    Fault(
        "guide-aims-low",
        "the position that a guide aims at is truncated, not rounded half up",
        "Decoder.aim",
        "code * self.position_max + (1 << (self.code_bits - 1))",
        "code * self.position_max",
        "tests/hilbert/test_guided_decoder.py::test_aim_covers_the_curve",
        slow=True,
    ),
    Fault(
        "window-one-too-wide",
        "the part of a segment within the window ends one position beyond it",
        "_part",
        "min(base + spacing, high)",
        "min(base + spacing, high + 1)",
        "tests/hilbert/test_guided_decoder.py::test_guided_codes_of_any_width_equal_the_twin",
        slow=True,
    ),
    Fault(
        "blend-never-trusts-the-curve",
        "the ramp's largest share is one unit short, so that the guide shows on the curve itself",
        "Decoder.blended",
        "np.clip(reach * reach - squared, 0, 1 << bits)",
        "np.clip(reach * reach - squared, 0, (1 << bits) - 1)",
        "tests/hilbert/test_blended.py::test_blended_positions_equal_python_integers",
        slow=True,
    ),
)
