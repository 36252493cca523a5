"""The result of a verification: what is compared, what differs, and why. The JSON is the contract."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from intsim.graph import without_module
from intsim.notebook import Shown

FORMAT = "intsim-verdict-1"
BLAMES = ("float_rounding", "int32_wrap", "pool_divisor", "resize_pixel", "executor", "requantizer", "overflow")
"""The executor's rounding, what it is shown to compute otherwise, what isn't explained; then the target's two."""


@dataclass
class StageVerdict:
    """Overflows of one register of a layer: in all, and of each channel that has some. Stages count from 1."""

    stage: int
    bits: int
    overflow: str
    overflows: int = 0
    overflow_channels: dict[int, int] = field(default_factory=dict)


@dataclass
class LayerVerdict:
    """One layer of the target against exact semantics.

    `mismatches` counts wrong outputs of the layer, `sum_mismatches` wrong sums before its requantizer (which a clip may
    hide). `born` counts mismatches that exact arithmetic on the target's own inputs of this layer doesn't share.
    `host_ties` counts codes that float64 on the host leaves open between neighbours, `near_ties` those that the proven
    error of a Softmax or layer normalisation does. `stages` are the target's registers, none where nothing is summed.
    """

    name: str
    op: str
    tensor: str
    elements: int = 0
    mismatches: int = 0
    max_lsb: int = 0
    sum_mismatches: int = 0
    born: int = 0
    host_ties: int = 0
    near_ties: int = 0
    stages: list[StageVerdict] = field(default_factory=list)
    node: str | None = None
    module: str | None = None

    @property
    def overflows(self) -> int:
        """Overflows of all its registers."""
        return sum(stage.overflows for stage in self.stages)


@dataclass
class ReferenceVerdict:
    """A float executor against the target, every quantizer judged on the inputs the executor itself had there.

    `judged` integers, of which `mismatches` are not the target's: the sum of `blame`. `result` compares the final
    outputs end to end. With `reason` the executor gave nothing: missing, failed or out of time.
    """

    judged: int = 0
    mismatches: int = 0
    max_lsb: int = 0
    blame: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BLAMES, 0))
    off_grid: int = 0
    result: dict[str, Any] = field(default_factory=lambda: {"judged": 0, "mismatches": 0, "max_lsb": 0})
    first_divergence: dict[str, Any] | None = None
    reason: str | None = None
    seconds: float = 0.0

    def count(self, elements: int, mismatches: int, max_lsb: int) -> None:
        """Add what one tensor showed."""
        self.judged += elements
        self.mismatches += mismatches
        self.max_lsb = max(self.max_lsb, max_lsb)


@dataclass
class FileVerdict:
    """The second reading of a .tflite file against `exact`.

    `tensors` and `elements` count what was compared, `mismatches` codes that differ, `near_ties` those behind a Softmax
    that its proven error leaves open.
    """

    tensors: int = 0
    elements: int = 0
    mismatches: int = 0
    near_ties: int = 0


@dataclass
class Verdict(Shown):
    """What `intsim.verification` returns. `to_json` gives the documented form; `predicts` is the target's runtime."""

    model: str
    target: str
    verdict: str = "exact"
    samples: int = 0
    seed: int | None = None
    layers: list[LayerVerdict] = field(default_factory=list)
    references: dict[str, ReferenceVerdict] = field(default_factory=dict)
    file: FileVerdict | None = None
    first_divergence: dict[str, Any] | None = None
    host: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0
    predicts: str | None = None

    @property
    def overflows(self) -> int:
        """Overflows of all layers."""
        return sum(layer.overflows for layer in self.layers)

    @property
    def holds(self) -> bool:
        """Exact, or `hybrid`: exact between float islands; and no register overflowed."""
        return self.verdict in ("exact", "hybrid") and self.overflows == 0

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers."""
        layers = [{**without_module(asdict(layer)), "overflows": layer.overflows} for layer in self.layers]
        held = {k: v for k, v in asdict(self).items() if k != "file" or v is not None}
        return {"format": FORMAT, **held, "overflows": self.overflows, "layers": layers}
