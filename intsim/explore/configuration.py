"""What a sweep varies: one register's width and overflow rule, the requantizer's multiplier, the network's own codes,
the target, the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, TypeVar

from intsim.arithmetic.accumulate import Overflow, Stage
from intsim.arithmetic.requantizers import of_width
from intsim.errors import IntsimError
from intsim.targets import Target

ACCUMULATORS, MULTIPLIERS, CODES = (1, 64), (4, 32), (1, 32)
"""Least and greatest width of a register, of a fixed-point multiplier, of weights and activations."""
RULES: tuple[Overflow, ...] = ("wrap", "saturate")
T = TypeVar("T")


@dataclass(frozen=True)
class Configuration:
    """A point of a sweep; None leaves the target, or the network, as it is.

    `target` and `model` are names and files as they were given; None: the sweep's own.
    """

    accumulator: int | None = None
    overflow: Overflow | None = None
    multiplier: int | None = None
    weights: int | None = None
    activations: int | None = None
    target: str | None = None
    model: str | None = None

    def __str__(self) -> str:
        """In words."""
        parts = [] if self.model is None else [self.model]
        parts += [] if self.target is None else [f"on {self.target}"]
        parts += [] if self.accumulator is None else [f"{self.accumulator}-bit {self.overflow}"]
        widths = {"multiplier": self.multiplier, "weights": self.weights, "activations": self.activations}
        parts += [f"{bits}-bit {what}" for what, bits in widths.items() if bits is not None]
        return ", ".join(parts) or "the target as it is"

    @property
    def setting(self) -> Configuration:
        """The same whatever the register."""
        return replace(self, accumulator=None, overflow=None)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def configurations(
    accumulators: Sequence[int],
    rules: Sequence[Overflow],
    multipliers: Sequence[int],
    grid: bool = False,
    weights: Sequence[int] = (),
    activations: Sequence[int] = (),
    targets: Sequence[str] = (),
    models: Sequence[str] = (),
) -> list[Configuration]:
    """The points of a sweep: for each model and target one axis after the other, or with `grid` their product.

    Raises IntsimError for widths out of range, unknown rules, or nothing to vary.
    """
    for what, widths, (low, high) in (
        ("accumulator", accumulators, ACCUMULATORS),
        ("multiplier", multipliers, MULTIPLIERS),
        ("weights", weights, CODES),
        ("activations", activations, CODES),
    ):
        wrong = [w for w in widths if isinstance(w, bool) or not isinstance(w, int) or not low <= w <= high]
        if wrong:
            raise IntsimError(f"sweep: {what} width {wrong[0]!r}; allowed: {low}..{high}")
    wrong_rules = [r for r in rules if r not in RULES]
    if wrong_rules or (accumulators and not rules):
        given = repr(wrong_rules[0]) if wrong_rules else "none"
        raise IntsimError(f"sweep: overflow rule {given}; allowed: {', '.join(RULES)}")
    axes = (accumulators, multipliers, weights, activations)
    if not any((*axes, targets, models)):
        raise IntsimError("sweep: nothing to vary; give widths of accumulators, multipliers, weights or activations")
    if grid and sum(map(bool, axes)) < 2:
        raise IntsimError("sweep: a grid needs two kinds of widths at least, as accumulators and multipliers")
    # the register last: what is known of all its widths is known by one pass
    grids = [axes] if grid else [tuple(a if i == j else () for j, a in enumerate(axes)) for i in range(4) if axes[i]]
    made = []
    for model, target in product(_or_none(models), _or_none(targets)):
        for registers, factors, *codes in grids or [((), (), (), ())]:
            pairs: list[tuple[int | None, Overflow | None]] = [
                (n, r) for r in dict.fromkeys(rules) for n in dict.fromkeys(registers)
            ]
            for w, a, m in product(*map(_or_none, (*codes, factors))):
                made += [Configuration(n, rule, m, w, a, target, model) for n, rule in pairs or [(None, None)]]
    return made


def _or_none(values: Sequence[T]) -> list[T | None]:
    """Each value once; None where there is none."""
    return list(dict.fromkeys(values)) or [None]


def checked_stage(target: Target, stage: int | None) -> int:
    """The swept stage's index, from its number 1.. or None for the last one; 0 where the target is unbounded.

    Raises IntsimError for a stage that the target lacks, or one whose width its packing fixes.
    """
    count = max(len(target.stages), 1)
    if stage is None:
        return count - 1
    if isinstance(stage, bool) or not isinstance(stage, int) or not 1 <= stage <= count:
        raise IntsimError(f"sweep: stage {stage!r}; target {target.name} has stages 1..{count}")
    if stage == 1 and target.registers.packing is not None:
        raise IntsimError(f"sweep: the width of stage 1 of {target.name} is given by its packing; choose another stage")
    return stage - 1


def configured(target: Target, stage: int, configuration: Configuration) -> Target:
    """The target with its stage (index) and its requantizer as the configuration says.

    An unbounded target gets one register. The requantizer is the target's own if its width can be searched, else
    fixed-point, rounded once, `half_up`. Rules of the target change likewise: the stage of the same number where they
    have it, the last one for the last.
    """
    return target.changed(lambda own: _configured(own, swept_stage(target, own, stage), configuration))


def swept_stage(target: Target, own: Target, stage: int) -> int | None:
    """The index in the arithmetic of a rule of the stage that is swept in the target; None if it has none such."""
    count = max(len(own.stages), 1)
    if stage == max(len(target.stages), 1) - 1:
        return count - 1
    return stage if stage < count else None


def _configured(target: Target, stage: int | None, configuration: Configuration) -> Target:
    changes: dict[str, Any] = {}
    if configuration.accumulator is not None and stage is not None:
        stages = list(target.stages) or [Stage(None, 64, "wrap")]
        rule = configuration.overflow or stages[stage].overflow
        stages[stage] = replace(stages[stage], bits=configuration.accumulator, overflow=rule)
        changes["accumulate"] = target.accumulate.model_copy(update={"stages": tuple(stages)})
    if configuration.multiplier is not None and target.stages and target.stages[0].rounding is not None:
        raise IntsimError(
            f"sweep: registers of {target.name} round products to an LSB of their own, which is computed beside an "
            "exact requantizer only; sweep accumulator widths"
        )
    made = target.model_copy(update=changes)
    return made if configuration.multiplier is None else with_multiplier(made, configuration.multiplier)


def with_multiplier(own: Target, bits: int) -> Target:
    """An arithmetic whose requantizer is a fixed-point one of this width, where it reads sums."""
    if own.requantize.reads != "sum":
        return own
    changes: dict[str, Any] = {"requantize": of_width(own.requantize, bits)}
    if own.accumulate.bias == "requantizer":  # a multiplier has no room for it
        changes["accumulate"] = own.accumulate.model_copy(update={"bias": "after"})
    return own.model_copy(update=changes)


def requantizer_in_words(target: Target) -> str:
    """How the requantizers of a multiplier sweep round."""
    own, swept = target.requantize, of_width(target.requantize, MULTIPLIERS[1])
    if type(own) is type(swept):
        return swept.summary
    moved = ", the bias in the last register" if target.accumulate.bias == "requantizer" else ""
    return f"{swept.summary}{moved} ({target.name} has scheme {own.scheme} itself)"


def unbounded(target: Target) -> Target:
    """The target with a plain sum instead of its registers."""
    nothing = {"stages": (), "packing": None}
    return target.changed(lambda t: t.model_copy(update={"accumulate": t.accumulate.model_copy(update=nothing)}))
