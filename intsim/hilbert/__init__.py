"""The Hilbert-curve output representation: the curve, its float reference codec and its integer decoder.

Source: "Predicting High-precision Depth on Low-Precision Devices Using 2D Hilbert Curves", ICML 2025, arXiv 2405.14024.
Three dimensions and the guide are additions to it.
"""

from intsim.hilbert.curve import Curve
from intsim.hilbert.decoder import Decoder
from intsim.hilbert.guided import blend, decode_points
from intsim.hilbert.reference import decode, encode

__all__ = ["Curve", "Decoder", "blend", "decode", "decode_points", "encode"]
