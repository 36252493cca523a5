"""The result of a verification: what is compared, what differs, and why. The JSON is the contract."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

BLAMES = ("float_rounding", "int32_wrap", "pool_divisor", "resize_pixel", "executor", "requantizer", "overflow")
"""The executor's rounding, what it is shown to compute otherwise, what isn't explained; then the target's two."""


@dataclass
class LayerVerdict:
    """One layer of the target against exact semantics.

    `mismatches` counts wrong outputs of the layer, `accumulator_mismatches` wrong sums before its requantizer (which a
    clip may hide). `born` counts mismatches that exact arithmetic on the target's own inputs of this layer doesn't
    share. `host_ties` counts codes that float64 on the host leaves open between neighbours, `near_ties` those that the
    proven error of a Softmax or layer normalisation does. `overflows` maps a stage to its events, `overflow_channels` a
    stage to its channels with events.
    """

    name: str
    op: str
    tensor: str
    elements: int = 0
    mismatches: int = 0
    max_lsb: int = 0
    accumulator_mismatches: int = 0
    born: int = 0
    host_ties: int = 0
    near_ties: int = 0
    overflows: dict[str, int] = field(default_factory=dict)
    overflow_channels: dict[str, dict[int, int]] = field(default_factory=dict)


@dataclass
class ReferenceVerdict:
    """A float executor against the target, every quantizer judged on the inputs the executor itself had there.

    `mismatches` is the sum of `blame`. `result` compares the final outputs end to end. With `reason` the executor gave
    nothing: missing, failed or out of time.
    """

    compared: int = 0
    mismatches: int = 0
    max_lsb: int = 0
    blame: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BLAMES, 0))
    off_grid: int = 0
    result: dict[str, Any] = field(default_factory=lambda: {"compared": 0, "mismatches": 0, "max_lsb": 0})
    first_divergence: dict[str, Any] | None = None
    reason: str | None = None
    seconds: float = 0.0

    def count(self, elements: int, mismatches: int, max_lsb: int) -> None:
        """Add what one tensor showed."""
        self.compared += elements
        self.mismatches += mismatches
        self.max_lsb = max(self.max_lsb, max_lsb)


@dataclass
class Verdict:
    """What `intsim.verification` returns. `to_json` gives the documented form."""

    model: str
    target: str
    verdict: str = "exact"
    samples: int = 0
    seed: int | None = None
    layers: list[LayerVerdict] = field(default_factory=list)
    references: dict[str, ReferenceVerdict] = field(default_factory=dict)
    first_divergence: dict[str, Any] | None = None
    host: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def overflows(self) -> int:
        """All overflow events."""
        return sum(sum(layer.overflows.values()) for layer in self.layers)

    @property
    def holds(self) -> bool:
        """Exact, and no register overflowed."""
        return self.verdict == "exact" and self.overflows == 0

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers."""
        return asdict(self)
