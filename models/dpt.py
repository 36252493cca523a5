"""A small vision transformer for disparity: convolutional stem, attention on a coarse grid, a decoder with skips.

After Ranftl et al., "Vision Transformers for Dense Prediction" (ICCV 2021), made small and made for integers: tokens
come from a convolutional stem, the maps that the decoder adds are outputs of ReLUs (so that they can share one unsigned
quantizer), and between any two operators stands an ``Identity`` where `models.quantize_dpt` puts a quantizer. Input,
output, noise and heads are those of `models.networks.DispNet`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from intsim.errors import IntsimError
from models.networks import Block, DispNet, Scale

DEPTH = 3
"""Transformer blocks; the decoder reads the tokens after the second and after the last."""

HEAD_WIDTH = 16
"""Channels of one attention head."""

GRID = (8, 16)
"""Tokens of a pair of 64 x 128 pixels; on other grids the positional embedding is interpolated."""


class Attention(nn.Module):
    """Multi-head attention of tokens ``(N, T, width)`` on themselves."""

    def __init__(self, width: int) -> None:
        """Make an untrained layer of ``width / HEAD_WIDTH`` heads."""
        super().__init__()
        self.heads = width // HEAD_WIDTH
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.factor: nn.Module = Scale(HEAD_WIDTH**-0.5)
        self.query_point, self.key_point, self.value_point = (nn.Identity() for _ in range(3))
        self.scores = nn.Identity()
        self.softmax = nn.Softmax(-1)
        self.shares = nn.Identity()
        self.mixed = nn.Identity()
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        query = self._split(self.query_point(self.factor(self.query(x))))
        key = self._split(self.key_point(self.key(x)))
        value = self._split(self.value_point(self.value(x)))
        shares = self.shares(self.softmax(self.scores(query @ key.transpose(-1, -2))))
        return self.project(self.mixed((shares @ value).transpose(1, 2).reshape(x.shape)))

    def _split(self, x: Tensor) -> Tensor:
        """``(N, T, width) -> (N, heads, T, HEAD_WIDTH)``."""
        n, t, _ = x.shape
        return x.reshape(n, t, self.heads, HEAD_WIDTH).transpose(1, 2)


class TransformerBlock(nn.Module):
    """Pre-norm transformer block on tokens ``(N, T, width)``: attention, then an MLP of twice the width with GELU."""

    def __init__(self, width: int) -> None:
        """Make an untrained block."""
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm1_point, self.norm2_point = nn.Identity(), nn.Identity()
        self.attention = Attention(width)
        self.expand, self.reduce = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.hidden = nn.Identity()
        self.gelu = nn.GELU()
        self.active = nn.Identity()
        self.branch1, self.branch2 = nn.Identity(), nn.Identity()
        self.sum1, self.sum2 = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Apply both residual branches."""
        x = self.sum1(_sum(x, self.branch1(self.attention(self.norm1_point(self.norm1(x))))))
        hidden = self.hidden(self.expand(self.norm2_point(self.norm2(x))))
        return self.sum2(_sum(x, self.branch2(self.reduce(self.active(self.gelu(hidden))))))


class DPT(DispNet):
    """Disparity transformer; arguments, input and output as of `DispNet`.

    `widths` are three: channels on the full and on the half grid, and of a token (a multiple of 16).
    """

    first, last = "stem0", "fuse0"
    opset = 17  # from which on a layer norm is one operator

    def _make_trunk(self, channels: int) -> None:
        if len(self.widths) != 3 or self.widths[2] % HEAD_WIDTH:
            raise IntsimError(f"widths are {self.widths}; a transformer takes three, the last a multiple of 16")
        w0, w1, w2 = self.widths
        self.stem0 = Block(channels, w0)
        self.stem1 = nn.Sequential(Block(w0, w1, stride=2), Block(w1, w1))
        self.embed = nn.Conv2d(w1, w2, 3, 2, 1)
        self.embed_point, self.position_point, self.tokens = (nn.Identity() for _ in range(3))
        self.position = nn.Parameter(0.02 * torch.randn(1, w2, *GRID))
        self.layers = nn.ModuleList(TransformerBlock(w2) for _ in range(DEPTH))
        self.coarse = nn.Sequential(Block(w2, w1, kernel=1), Block(w1, w1))
        self.middle = Block(w2, w1, kernel=1)
        self.fused1, self.fused0 = nn.Identity(), nn.Identity()
        self.fuse1 = nn.Sequential(Block(w1, w1), Block(w1, w0, kernel=1))
        self.fuse0 = Block(w0, w0)

    def trunk(self, x: Tensor) -> Tensor:
        """Everything before the heads: ``(N, channels, H, W) -> (N, widths[0], H, W)``; H, W multiples of 4."""
        s0 = self.stem0(x)
        s1 = self.stem1(s0)
        embedded = self.embed_point(self.embed(s1))
        n, width, height, length = embedded.shape
        tokens = self.tokens(_sum(embedded, self.position_point(self.position_on(height, length))))
        tokens = tokens.permute(0, 2, 3, 1).reshape(n, height * length, width)
        after = []
        for layer in self.layers:
            tokens = layer(tokens)
            after.append(tokens.reshape(n, height, length, width).permute(0, 3, 1, 2))
        coarse, middle = self.coarse(after[-1]), self.middle(after[1])
        f1 = self.fuse1(self.fused1(_sum(_upsample(coarse), _upsample(middle), s1)))
        return self.noise(self.fuse0(self.fused0(_sum(_upsample(f1), s0))))

    def fold_constants(self) -> None:
        """Fold attention's factor into the queries' weights, in place."""
        for module in self.modules():
            if isinstance(module, Attention) and isinstance(module.factor, Scale):
                for parameter in (module.query.weight, module.query.bias):
                    parameter.data = (parameter.data.double() * module.factor.factor).float()
                module.factor = nn.Identity()

    def position_on(self, height: int, width: int) -> Tensor:
        """The positional embedding ``(1, widths[2], height, width)`` on a grid of tokens."""
        if tuple(self.position.shape[-2:]) == (height, width):
            return self.position
        position = functional.interpolate(self.position, (height, width), mode="bilinear", align_corners=False)
        if torch.onnx.is_in_onnx_export():  # shapes are fixed there: the file gets the result as a constant
            return torch.from_numpy(position.detach().numpy())
        return position


def _sum(*parts: Tensor) -> Tensor:
    """Sum of plain tensors: Brevitas wraps them, and adds wrapped ones only if they share a scale."""
    first, *others = (getattr(part, "value", part) for part in parts)
    for other in others:
        first = first + other
    return first


def _upsample(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
