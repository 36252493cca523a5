"""A small disparity network, and its twin that predicts a point on a 2-D Hilbert curve instead of a number.

Both are the same half-resolution U-Net; they differ in the last convolution only. The plain network has one head,
the Hilbert network two or three identical ones, for x, y (and z). Following Uss et al., "Predicting High-precision
Depth on Low-Precision Devices Using 2D Hilbert Curves" (ICML 2025), Gaussian noise is added to the features before the
heads in training; here the plain network gets it too, so that the heads are the only difference.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from intsim.errors import IntsimError
from intsim.nn import FeatureNoise, HilbertHead, PixelEmbedding
from models.stereo import INPUT_CHANNELS

INPUT_SCALE = 1 / 256
"""What one input code is worth inside the network; a power of two, so folding it into a weight is exact."""


class Scale(nn.Module):
    """Multiply by a constant, ``(...) -> (...)``."""

    def __init__(self, factor: float) -> None:
        """Set the constant."""
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x * factor``."""
        return x * self.factor


class Block(nn.Module):
    """Convolution, 3x3 or `kernel`, batch normalization, ReLU: ``(N, inputs, H, W) -> (N, outputs, H/stride, ...)``."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> None:
        """Make the three layers, untrained."""
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.relu: nn.Module = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the three in order."""
        return self.relu(self.norm(self.conv(x)))


def _stage(inputs: int, outputs: int, stride: int = 1, blocks: int = 2) -> nn.Sequential:
    return nn.Sequential(
        *(Block(inputs if i == 0 else outputs, outputs, stride if i == 0 else 1) for i in range(blocks))
    )


class DispNet(nn.Module):
    """Disparity U-Net with a plain head (`order` 0) or a Hilbert head (`order` 1 to 4, in 2 or 3 `dimensions`).

    Input ``(N, channels, H, W)`` float, the codes 0..255 of `models.stereo.network_input`; H and W are multiples of 8.
    Output ``(N, C, H, W)``: C = 1, ``q - 1/2`` with q the disparity over `models.stereo.DISPARITY_RANGE`; or a channel
    for each coordinate, ``(x - 1/2, y - 1/2)`` of the point that stands for q on the curve of that order; with `guide`
    a last channel ``q - 1/2``. Nominally within [-1/2, 1/2], not clipped.
    """

    first = "enc0.0"
    """The block that reads the input."""

    last = "dec0.0"
    """The block that the heads read."""

    opset = 13
    """Of the ONNX files that it is exported to."""

    def __init__(
        self,
        order: int = 0,
        widths: tuple[int, ...] = (24, 48, 64, 96),
        noise: float = 0.1,
        dimensions: int = 2,
        guide: bool = False,
        channels: int = INPUT_CHANNELS,
        embedding: int = 0,
    ) -> None:
        """Make an untrained network.

        widths: channel counts, finest level first. noise: standard deviation of the feature noise. channels: of the
        input. embedding: entries a pixel of a `PixelEmbedding` in front of the first convolution; 0 for none.
        """
        super().__init__()
        if order not in range(5):
            raise IntsimError(f"order is {order}; take 0 (plain) or a Hilbert order 1 to 4")
        self.order, self.widths = order, tuple(widths)
        self.input: nn.Module = PixelEmbedding(embedding) if embedding else Scale(INPUT_SCALE)
        self._make_trunk(channels * max(embedding, 1))
        self.noise: nn.Module = FeatureNoise(noise)
        self.heads = HilbertHead(widths[0], order, dimensions, guide)
        self.outputs = nn.ModuleDict({name: nn.Identity() for name in self.heads})

    def _make_trunk(self, channels: int) -> None:
        """Make what `trunk` uses; `channels` are those behind `input`."""
        w0, w1, w2, w3 = self.widths
        self.enc0 = _stage(channels, w0)
        self.enc1 = _stage(w0, w1, stride=2)
        self.enc2 = _stage(w1, w2, stride=2)
        self.enc3 = _stage(w2, w3, stride=2)
        self.dec2 = _stage(w3 + w2, w2, blocks=1)
        self.dec1 = _stage(w2 + w1, w1, blocks=1)
        self.dec0 = _stage(w1 + w0, w0, blocks=1)

    def forward(self, codes: Tensor) -> Tensor:
        """Return the head outputs, in the order x, y; shapes in the class docstring."""
        features = self.trunk(self.input(codes))
        outputs = [self.outputs[name](head(features)) for name, head in self.heads.items()]
        return torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0]

    def trunk(self, x: Tensor) -> Tensor:
        """Everything before the heads: ``(N, channels, H, W) -> (N, widths[0], H, W)``."""
        e0 = self.enc0(x)
        e1 = self.enc1(e0)
        e2 = self.enc2(e1)
        d2 = self.dec2(torch.cat([_upsample(self.enc3(e2)), e2], 1))
        d1 = self.dec1(torch.cat([_upsample(d2), e1], 1))
        return self.noise(self.dec0(torch.cat([_upsample(d1), e0], 1)))

    def fold_constants(self) -> None:
        """Fold constant factors between layers into weights, in place; there are none here."""

    def blocks(self) -> dict[str, Block]:
        """Every `Block` by its readable name, such as ``enc1.0``."""
        return {name: module for name, module in self.named_modules() if isinstance(module, Block)}


def _upsample(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def fold(network: DispNet) -> DispNet:
    """A copy for inference: batch normalization and the input scale folded into the convolutions, no noise.

    The folding is done in float64 and rounded once to float32.
    """
    folded = copy.deepcopy(network).cpu().float().eval()
    for name, block in folded.blocks().items():
        fold_block(name, block, INPUT_SCALE if name == network.first and isinstance(network.input, Scale) else 1.0)
    if isinstance(folded.input, Scale):
        folded.input = nn.Identity()
    folded.noise = nn.Identity()
    folded.fold_constants()
    return folded.eval()


def fold_block(name: str, block: Block, factor: float = 1.0) -> None:
    """Fold a block's batch normalization, and a `factor` of its input, into its convolution.

    Raises:
        IntsimError: it has none (any more); `name` is named.
    """
    norm, old = block.norm, block.conv
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_var is None or norm.running_mean is None:
        raise IntsimError(f"{name} has no batch normalization to fold; fold the trained network once")
    gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    size, padding = old.kernel_size[0], old.padding[0]
    conv = nn.Conv2d(old.in_channels, old.out_channels, size, old.stride, int(padding))
    conv.weight.data = (old.weight.double() * gain[:, None, None, None] * factor).float()
    assert conv.bias is not None
    conv.bias.data = (norm.bias.double() - norm.running_mean.double() * gain).float()
    block.conv, block.norm = conv, nn.Identity()
