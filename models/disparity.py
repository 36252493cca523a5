"""What a network's output means: from INT8 output codes, or float outputs, to disparity in pixels.

The output quantizer of both networks has the constant scale 2**-8, so code c stands for ``c / 256 + 1/2`` of the unit
interval. The plain network's one code is the disparity itself, in 1/256 of the range. The Hilbert network's two or
three codes are a point; its curve's vertices sit on every 2**(8 - order)-th code (order 1: 224 codes apart), symmetric
about 0, so decoding needs shifts and additions only (`intsim.hilbert.Decoder`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.hilbert import Decoder, decode_points, encode
from models.stereo import DISPARITY_RANGE, INPUT_CHANNELS

ZOO = Path(__file__).parent / "zoo"
"""Where the exported networks lie: NAME.json, NAME.md, NAME_fp32.onnx, NAME_w8a8.qonnx.onnx, NAME_w8a8.qcdq.onnx."""

CHANNELS = {"cost-volume": INPUT_CHANNELS, "concat": 8}
"""Input channels by what a network is given; the images themselves are the first 8 of `models.stereo.network_input`."""

OUTPUT_BITS = 8
OUTPUT_SCALE = Fraction(1, 256)


@dataclass(frozen=True)
class Network:
    """What the host must know about one exported network.

    name: the files' stem. order: 0 for the plain head, 1..4 for a Hilbert head. height, width: of the image pair in
    pixels, multiples of 16; the network's input is ``(1, channels, height/2, width/2)``. disparity_range: pixels that
    q = 1 stands for. dimensions: of the curve, 2 or 3. guide: whether a last head predicts q itself, to choose the
    branch. inputs: ``cost-volume``, 33 channels, or ``concat``, the 8 channels of the two images alone.
    """

    name: str
    order: int
    height: int
    width: int
    disparity_range: int = DISPARITY_RANGE
    dimensions: int = 2
    guide: bool = False
    inputs: str = "cost-volume"

    def __post_init__(self) -> None:
        """Refuse what no network of this zoo can have."""
        if self.order not in range(5):
            raise IntsimError(f"{self.name}: order is {self.order}; it must be 0 (plain) or 1 to 4")
        if self.inputs not in CHANNELS:
            raise IntsimError(f"{self.name}: inputs {self.inputs!r}; take one of {', '.join(CHANNELS)}")
        if self.dimensions not in (2, 3) or (self.guide and not self.order):
            raise IntsimError(f"{self.name}: a curve has 2 or 3 dimensions, and only a Hilbert head can have a guide")
        if self.height <= 0 or self.width <= 0 or self.height % 16 or self.width % 16:
            raise IntsimError(f"{self.name}: {self.height} x {self.width} pixels; both must be multiples of 16")

    @property
    def heads(self) -> int:
        """Output channels: 1 plain, 2 or 3 Hilbert, one more with a guide."""
        return self.dimensions + self.guide if self.order else 1

    @property
    def spacing(self) -> int:
        """Output codes between neighbouring vertices of the curve: 224 for order 1, 2**(8 - order) above."""
        return 224 if self.order == 1 else 1 << (OUTPUT_BITS - self.order)

    @property
    def segments(self) -> int:
        """Edges of the curve: 3, 15, 63, 255 in 2 dimensions, 7, 63, 511, 4095 in 3."""
        return (1 << self.dimensions * self.order) - 1

    @property
    def inset(self) -> Fraction:
        """Free border around the curve in the unit square or cube; codes keep that clear of saturation."""
        return Fraction((1 << OUTPUT_BITS) - ((1 << self.order) - 1) * self.spacing, 2 << OUTPUT_BITS)

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        return CHANNELS[self.inputs]

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of the ONNX input."""
        return (1, self.channels, self.height // 2, self.width // 2)

    @property
    def steps(self) -> int:
        """Output codes along the whole range: 256 plain, segments * spacing Hilbert."""
        return self.segments * self.spacing if self.order else 1 << OUTPUT_BITS

    def file(self, kind: str) -> Path:
        """Path of one file in the zoo; `kind` is ``fp32``, ``w8a8.qonnx`` or ``w8a8.qcdq``."""
        return ZOO / f"{self.name}_{kind}.onnx"

    def document(self) -> dict[str, object]:
        """The JSON beside the ONNX files."""
        output = {"bits": OUTPUT_BITS, "signed": True, "scale": "1/256", "offset": "1/2", "channels": self.heads}
        curve = {"inset": str(self.inset), "spacing": self.spacing} if self.order else None
        shape = list(self.input_shape)
        return {**asdict(self), "input": {"shape": shape, "codes": "0..255"}, "output": output, "curve": curve}


def described(recipe: dict[str, Any], height: int | None = None, width: int | None = None) -> Network:
    """What a recipe trains (`models.recipe`), for its own or another size of the image pair."""
    network, data = recipe["network"], recipe["data"]
    return Network(
        recipe["name"],
        network["order"],
        height or data["height"],
        width or data["width"],
        dimensions=network["dimensions"],
        guide=network["guide"],
        inputs=network["inputs"],
    )


def read_network(name: str | Path) -> Network:
    """Metadata of a zoo network, by its name (``h3dispnet``) or the path of its JSON file."""
    path = Path(name) if str(name).endswith(".json") else ZOO / f"{name}.json"
    try:
        document = json.loads(path.read_text())
        needed = {key: document[key] for key in ("name", "order", "height", "width", "disparity_range")}
        added = {key: document[key] for key in ("dimensions", "guide", "inputs") if key in document}
        return Network(**needed, **added)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, IntsimError):
            raise
        raise IntsimError(f"{path}: not the metadata of a zoo network ({error}); export it again") from None


def target(disparity: NDArray[np.floating], network: Network) -> NDArray[np.float32]:
    """What the network should output for a disparity in pixels: ``(..., H, W) -> (..., heads, H, W)`` float32."""
    q = np.clip(disparity.astype(np.float64) / network.disparity_range, 0, 1)
    parts: tuple[NDArray[np.float64], ...] = (q,)
    if network.order:
        parts = (
            *encode(q, network.order, network.inset, dimensions=network.dimensions),
            *((q,) if network.guide else ()),
        )
    return np.stack([part - 0.5 for part in parts], -3).astype(np.float32)


def float_disparity(output: NDArray[np.floating], network: Network) -> NDArray[np.float64]:
    """Disparity in pixels from float outputs: ``(..., heads, H, W) -> (..., H, W)``, in [0, disparity_range].

    The closest point of the curve; a guide is not looked at.
    """
    point = np.moveaxis(np.asarray(output, np.float64), -3, -1) + 0.5
    if network.order:
        q = decode_points(point[..., : network.dimensions], network.order, network.inset)
    else:
        q = np.clip(point[..., 0], 0.0, 1.0)
    return np.asarray(q * network.disparity_range, np.float64)


def disparity(codes: NDArray[np.integer], network: Network) -> NDArray[np.float64]:
    """Disparity in pixels from the INT8 output codes: ``(..., heads, H, W) -> (..., H, W)``.

    Integers up to one last multiplication by ``disparity_range / steps``; a guide is not looked at.

    Raises:
        IntsimError: another number of heads, or values that are not INT8 codes.
    """
    array = np.asarray(codes)
    if array.ndim < 3 or array.shape[-3] != network.heads:
        raise IntsimError(f"{network.name}: output codes of shape {array.shape}; expected (..., {network.heads}, H, W)")
    if array.dtype.kind not in "iu" or (array.size and (array.min() < -128 or array.max() > 127)):
        raise IntsimError(f"{network.name}: the output codes must be integers in [-128, 127], not {array.dtype}")
    if not network.order:
        position: NDArray[np.integer] = array[..., 0, :, :].astype(np.int64) + (1 << (OUTPUT_BITS - 1))
    elif network.dimensions == 2:
        # Two 8-bit codes have one table of all answers, which is how the paper decodes, too.
        codes = array.astype(np.intp)
        position = position_table(network).take((codes[..., 0, :, :] << OUTPUT_BITS) + codes[..., 1, :, :])
    else:
        position = decoder(network)(np.moveaxis(array, -3, -1)[..., : network.dimensions])
    return np.asarray(position * (network.disparity_range / network.steps), np.float64)


@cache
def decoder(network: Network) -> Decoder:
    """The integer decoder of a Hilbert network's output codes; its output is the exact position along the curve."""
    size = {"code_bits": OUTPUT_BITS, "dimensions": network.dimensions}
    return Decoder.lattice_aligned(network.order, network.spacing, **size, signed=True)


@cache
def position_table(network: Network) -> NDArray[np.int32]:
    """Position of every pair of codes in the plane, by ``x * 256 + y``; negative places count from the end."""
    codes = np.arange(1 << 2 * OUTPUT_BITS)
    codes = np.where(codes >= codes.size // 2 - 128, codes - codes.size, codes)  # place x * 256 + y, from -32 896 on
    x, y = (codes + 128) >> OUTPUT_BITS, ((codes + 128) & 255) - 128
    table = decoder(network)(np.stack([x, y], -1)).astype(np.int32)
    table.setflags(write=False)
    return table
