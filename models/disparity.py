"""What a network's output means: from INT8 output codes, or float outputs, to disparity in pixels.

The output quantizer of both networks has the constant scale 2**-8, so code c stands for ``c / 256 + 1/2`` of the unit
interval. The plain network's one code is the disparity itself, in 1/256 of the range. The Hilbert network's two codes
are a point; its curve's vertices sit on every 2**(8 - order)-th code, symmetric about 0, so decoding needs shifts and
additions only (`intsim.hilbert.FixedPointDecoder.lattice_aligned`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.hilbert import FixedPointDecoder, decode, encode
from models.stereo import DISPARITY_RANGE, INPUT_CHANNELS

ZOO = Path(__file__).parent / "zoo"
"""Where the exported networks lie: NAME.json, NAME.md, NAME_fp32.onnx, NAME_w8a8.qonnx.onnx, NAME_w8a8.qcdq.onnx."""

OUTPUT_BITS = 8
OUTPUT_SCALE = Fraction(1, 256)


@dataclass(frozen=True)
class Network:
    """What the host must know about one exported network.

    name: the files' stem. order: 0 for the plain head, 1..4 for a Hilbert head. height, width: of the image pair in
    pixels, multiples of 16; the network's input is ``(1, 33, height/2, width/2)``. disparity_range: pixels that q = 1
    stands for.
    """

    name: str
    order: int
    height: int
    width: int
    disparity_range: int = DISPARITY_RANGE

    def __post_init__(self) -> None:
        """Refuse what no network of this zoo can have."""
        if self.order not in range(5):
            raise IntsimError(f"{self.name}: order is {self.order}; it must be 0 (plain) or 1 to 4")
        if self.height <= 0 or self.width <= 0 or self.height % 16 or self.width % 16:
            raise IntsimError(f"{self.name}: {self.height} x {self.width} pixels; both must be multiples of 16")

    @property
    def heads(self) -> int:
        """Output channels: 1 plain, 2 Hilbert."""
        return 2 if self.order else 1

    @property
    def inset(self) -> Fraction:
        """Free border around the curve in the unit square: half an edge, so that codes keep clear of saturation."""
        return Fraction(1, 2 ** (self.order + 1))

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of the ONNX input."""
        return (1, INPUT_CHANNELS, self.height // 2, self.width // 2)

    @property
    def steps(self) -> int:
        """Output codes along the whole range: 256 plain, (4**order - 1) * 2**(8 - order) Hilbert."""
        return (4**self.order - 1) << (OUTPUT_BITS - self.order) if self.order else 1 << OUTPUT_BITS

    def file(self, kind: str) -> Path:
        """Path of one file in the zoo; `kind` is ``fp32``, ``w8a8.qonnx`` or ``w8a8.qcdq``."""
        return ZOO / f"{self.name}_{kind}.onnx"

    def document(self) -> dict[str, object]:
        """The JSON beside the ONNX files."""
        output = {"bits": OUTPUT_BITS, "signed": True, "scale": "1/256", "offset": "1/2", "channels": self.heads}
        curve = {"inset": str(self.inset), "log2_spacing": OUTPUT_BITS - self.order} if self.order else None
        shape = list(self.input_shape)
        return {**asdict(self), "input": {"shape": shape, "codes": "0..255"}, "output": output, "curve": curve}


def read_network(name: str | Path) -> Network:
    """Metadata of a zoo network, by its name (``h3dispnet``) or the path of its JSON file."""
    path = Path(name) if str(name).endswith(".json") else ZOO / f"{name}.json"
    try:
        document = json.loads(path.read_text())
        return Network(**{key: document[key] for key in ("name", "order", "height", "width", "disparity_range")})
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, IntsimError):
            raise
        raise IntsimError(f"{path}: not the metadata of a zoo network ({error}); export it again") from None


def target(disparity: NDArray[np.floating], network: Network) -> NDArray[np.float32]:
    """What the network should output for a disparity in pixels: ``(..., H, W) -> (..., heads, H, W)`` float32."""
    q = np.clip(disparity.astype(np.float64) / network.disparity_range, 0, 1)
    parts = encode(q, network.order, network.inset) if network.order else (q,)
    return np.stack([part - 0.5 for part in parts], -3).astype(np.float32)


def float_disparity(output: NDArray[np.floating], network: Network) -> NDArray[np.float64]:
    """Disparity in pixels from float outputs: ``(..., heads, H, W) -> (..., H, W)``, in [0, disparity_range]."""
    point = np.moveaxis(np.asarray(output, np.float64), -3, 0) + 0.5
    q = decode(point[0], point[1], network.order, network.inset) if network.order else np.clip(point[0], 0.0, 1.0)
    return np.asarray(q * network.disparity_range, np.float64)


def disparity(codes: NDArray[np.integer], network: Network) -> NDArray[np.float64]:
    """Disparity in pixels from the INT8 output codes: ``(..., heads, H, W) -> (..., H, W)``.

    Integers up to one last multiplication by ``disparity_range / steps``.

    Raises:
        IntsimError: another number of heads, or values that are not INT8 codes.
    """
    array = np.asarray(codes)
    if array.ndim < 3 or array.shape[-3] != network.heads:
        raise IntsimError(f"{network.name}: output codes of shape {array.shape}; expected (..., {network.heads}, H, W)")
    if array.dtype.kind not in "iu" or (array.size and (array.min() < -128 or array.max() > 127)):
        raise IntsimError(f"{network.name}: the output codes must be integers in [-128, 127], not {array.dtype}")
    parts = np.moveaxis(array, -3, 0)
    if network.order:
        position = lattice_decoder(network.order)(parts[0], parts[1])
    else:
        position = parts[0].astype(np.int64) + (1 << (OUTPUT_BITS - 1))
    return np.asarray(position * (network.disparity_range / network.steps), np.float64)


def lattice_decoder(order: int) -> FixedPointDecoder:
    """The decoder of the Hilbert networks' output codes: 8 + order bits, so that every position is exact."""
    return FixedPointDecoder.lattice_aligned(order, OUTPUT_BITS, OUTPUT_BITS + order, signed=True)
