"""The 2D Hilbert-curve output representation: the curve, its float reference codec and its fixed-point decoder.

Source: "Predicting High-precision Depth on Low-Precision Devices Using 2D Hilbert Curves", ICML 2025, arXiv 2405.14024.
"""

from intsim.hilbert.curve import Curve
from intsim.hilbert.fixed_point import FixedPointDecoder
from intsim.hilbert.reference import decode, encode

__all__ = ["Curve", "FixedPointDecoder", "decode", "encode"]
