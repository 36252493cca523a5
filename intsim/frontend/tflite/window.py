"""SAME and VALID: where windows lie, as tensorflow/lite/kernels/padding.h computes it."""

from __future__ import annotations

from collections.abc import Sequence

from intsim.frontend.tflite.network import Network, Unsupported
from intsim.frontend.tflite.schema import names

LONGEST = 1 << 16
"""Most elements that a window spans along an axis, or that a resize makes."""


def strides(net: Network) -> list[int]:
    """Strides along height and width."""
    step = [net.option("StrideH"), net.option("StrideW")]
    if min(step) < 1:
        raise Unsupported(f"its strides are {step}")
    return step


def _same(net: Network) -> bool:
    kind = names("Padding").get(net.option("Padding"))
    if kind not in ("SAME", "VALID"):
        raise Unsupported(f"its padding is {kind or net.option('Padding')}; SAME and VALID are supported")
    return kind == "SAME"


def output_size(
    net: Network, size: Sequence[int], kernel: Sequence[int], step: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    """Positions of the window along height and width."""
    same, out = _same(net), []
    for s, k, t, d in zip(size, kernel, step, dilation, strict=True):
        reach = d * (k - 1) + 1
        if max(reach, t) > LONGEST:
            raise Unsupported(f"its window spans {max(reach, t)} elements of an axis; {LONGEST} are supported")
        out.append((s + t - 1) // t if same else (s + t - reach) // t)
    if min(out) < 1:
        raise Unsupported(f"its window {list(kernel)} is larger than its input {list(size)}")
    return tuple(out)


def padding(
    net: Network, size: Sequence[int], kernel: Sequence[int], step: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """Rows and columns before, then behind; of an odd number the larger half lies behind."""
    before, behind = [], []
    out = output_size(net, size, kernel, step, dilation)
    for s, k, t, d, o in zip(size, kernel, step, dilation, out, strict=True):
        total = max((o - 1) * t + d * (k - 1) + 1 - s, 0) if _same(net) else 0
        before.append(total // 2)
        behind.append(total - total // 2)
    return before + behind
