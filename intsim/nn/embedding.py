"""Pixel embedding: a first layer without arithmetic, one table read per pixel and channel.

Source: Tokunaga et al., "Pixel Embedding: Fully Quantized Convolutional Neural Network with Differentiable Lookup
Table", arXiv 2407.16174. The paper's body is not public in full; shared table, initialization and quantizer are choices
made here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from intsim.errors import IntsimError

LEVELS = 256
"""Rows of the table: one for each value of an 8-bit pixel."""


class PixelEmbedding(nn.Module):
    """Replace every 8-bit value by a row of a trainable table: ``(N, C, H, W) -> (N, C * width, H, W)``.

    One table of 256 rows serves all C channels; channel ``c * width + k`` of the result is entry k of the row that
    channel c names. `quantizer` rounds the table to few bits; it must pass gradients straight through (a Brevitas
    ``QuantIdentity`` does). As the table alone is quantized, inference needs ONE integer table, 256 x width.

    The table begins as `width` triangle waves of the value, of 1/2, 1, 2, ... periods: coarse to fine, each of them
    within [0, 1], so that few bits an entry together tell all values apart.

    Raises:
        IntsimError: width outside 1..16.
    """

    def __init__(self, width: int, quantizer: nn.Module | None = None) -> None:
        """Make the table."""
        super().__init__()
        if not 1 <= width <= 16:
            raise IntsimError(f"an embedding of width {width}; give 1 to 16")
        value = torch.arange(LEVELS) / (LEVELS - 1)
        waves = [2 * (value * 2**k / 2 - torch.round(value * 2**k / 2)).abs() for k in range(width)]
        self.table = nn.Parameter(torch.stack(waves, 1))
        self.quantizer: nn.Module = quantizer or nn.Identity()

    def forward(self, codes: Tensor) -> Tensor:
        """Rows for `codes`, any real dtype that holds whole numbers 0..255."""
        n, channels, *grid = codes.shape
        table = self.quantizer(self.table)
        table = getattr(table, "value", table)  # Brevitas may wrap the tensor
        rows = nn.functional.embedding(codes.long(), table)  # N C ... width
        order = [0, 1, rows.dim() - 1, *range(2, rows.dim() - 1)]
        return rows.permute(order).reshape(n, channels * table.shape[1], *grid)

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"{LEVELS} rows of {self.table.shape[1]}, {math.prod(self.table.shape)} entries"
