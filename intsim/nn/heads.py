"""Output heads: one convolution a coordinate, side by side on the same features."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from intsim.errors import IntsimError


def head_names(order: int, dimensions: int = 2, guide: bool = False) -> tuple[str, ...]:
    """Names of the heads in their order: ``q`` alone (order 0), or ``x``, ``y``(, ``z``)(, ``guide``).

    Raises:
        IntsimError: an order below 0, dimensions other than 2 and 3, or a guide beside the plain head.
    """
    if order < 0 or dimensions not in (2, 3):
        raise IntsimError(f"order {order} in {dimensions} dimensions: give an order of 0 or more in 2 or 3 dimensions")
    if order == 0:
        if guide:
            raise IntsimError("a plain head (order 0) is its own guide: leave the guide out")
        return ("q",)
    return (*"xyz"[:dimensions], *(("guide",) if guide else ()))


class HilbertHead(nn.ModuleDict):
    """Identical heads that predict the coordinates of a point on a Hilbert curve, each ``c - 1/2``, c in [0, 1].

    ``(N, features, ...) -> (N, heads, ...)``. With `guide` a last head predicts the number itself, ``q - 1/2``: coarse,
    but without branches, so that a decoder can use it to choose the branch. Order 0 is the plain head, ``q - 1/2``.
    Nothing clips the outputs; the quantizer behind does. Each head is a module of the dict, so that each can be
    quantized on its own.

    Raises:
        IntsimError: see `head_names`.
    """

    def __init__(
        self,
        features: int,
        order: int,
        dimensions: int = 2,
        guide: bool = False,
        make: Callable[[int], nn.Module] | None = None,
    ) -> None:
        """Make the heads; `make(features)` makes one of them, by default a 3x3 convolution to one channel."""
        make = make or (lambda width: nn.Conv2d(width, 1, 3, padding=1))
        super().__init__({name: make(features) for name in head_names(order, dimensions, guide)})

    def forward(self, features: Tensor) -> Tensor:
        """All heads on the same features, concatenated along axis 1."""
        outputs = [head(features) for head in self.values()]
        return torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0]
