"""Gaussian noise on features, in training only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from intsim.errors import IntsimError


class FeatureNoise(nn.Module):
    """Add Gaussian noise of standard deviation `sigma` in training; do nothing in evaluation.

    Placed before the heads it makes them indifferent to errors of that size, such as those that quantization makes
    (arXiv 2405.14024, section 3; there sigma = 0.02).

    Raises:
        IntsimError: sigma is negative or not finite.
    """

    def __init__(self, sigma: float) -> None:
        """Set the standard deviation."""
        super().__init__()
        if not 0 <= sigma < float("inf"):
            raise IntsimError(f"noise of standard deviation {sigma}; give a finite number, 0 for none")
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x + sigma * N(0, 1)`` in training, ``x`` in evaluation; any shape and float dtype."""
        if not self.training or self.sigma == 0:
            return x
        # Drawn in float32 and plain order: several times as fast on a CPU as drawing bfloat16 in channels-last order.
        return x + (self.sigma * torch.randn(x.shape, device=x.device)).to(x.dtype)

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"sigma={self.sigma}"
