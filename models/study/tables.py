"""Cells and tables of the page: what was measured of one network in one way, over its seeds, as Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from models.study.records import PLAIN_DECODER, Entry, Records, Run

BAR = {"robust_sd": 5.0, "mean": 2.5, "rmse": 2.5}
"""By how much a network's quantization error should be below the plain network's; fixed beforehand."""
NOTHING = "–"


@dataclass(frozen=True)
class Figure:
    """How a metric is shown: its key, heading, digits behind the point, and what it is multiplied by."""

    key: str
    title: str
    digits: int
    factor: float = 1.0


ACCURACY = (
    Figure("abs_rel", "Abs Rel %", 2, 100),
    Figure("rmse", "RMSE px", 3),
    Figure("s_c", "S_C", 3),
    Figure("epe", "EPE px", 3),
    Figure("d1", "D1 %", 2, 100),
)
EPE = ACCURACY[3]
ERROR = (
    Figure("mean", "mean px", 4),
    Figure("rmse", "RMSE px", 4),
    Figure("robust_sd", "robust SD px", 4),
    Figure("median", "median px", 4),
    Figure("jump_rate", "jumps %", 3, 100),
    Figure("effective_bits", "bits (robust SD)", 2),
    Figure("effective_bits_rmse", "bits (RMSE)", 2),
)
RATIO = tuple(
    Figure(key, f"÷ {title}", 2) for key, title in (("robust_sd", "robust SD"), ("mean", "mean"), ("rmse", "RMSE"))
)


@dataclass(frozen=True)
class Measured:
    """One network's runs (its seeds) as they were run and decoded on one set."""

    records: Records
    runs: tuple[Run, ...]
    where: str
    precision: str = "w8a8"
    target: str | None = "exact"
    decoder: str = PLAIN_DECODER

    def seeds(self) -> list[tuple[Run, Entry]]:
        """The seeds that were measured in this way."""
        entries = [(r, r.entry(self.where, self.precision, self.target, self.decoder)) for r in self.runs]
        return [(run, entry) for run, entry in entries if entry is not None]

    def accuracy(self, key: str) -> list[float]:
        """A metric against the ground truth, by seed."""
        return [entry.accuracy.get(key, math.nan) for _, entry in self.seeds()]

    def error(self, key: str) -> list[float]:
        """A metric of the quantization error, by seed."""
        return [entry.error.get(key, math.nan) for _, entry in self.seeds() if entry.error]

    def ratio(self, key: str) -> list[float]:
        """The plain network's error over this one's, by seed, where both were measured in the same way."""
        ratios = []
        for run, entry in self.seeds():
            way = (self.where, self.precision, self.target)
            plain = self.records.plain(run, partial(_measured, way=way))
            base = plain and plain.entry(*way)
            if run.order and base and base.error and entry.error:
                above, below = base.error.get(key, math.nan), entry.error.get(key, math.nan)
                ratios.append(above / below if below else math.nan)
        return ratios

    def holds(self, always: bool) -> bool:
        """Whether the bar is reached in all its figures: for every seed, or for their mean."""
        return all(_reaches(self.ratio(key), least, always) for key, least in BAR.items())


def _measured(run: Run, way: tuple[str, str, str | None]) -> bool:
    return run.entry(*way) is not None


def _reaches(ratios: list[float], least: float, always: bool) -> bool:
    return bool(ratios) and (all(r >= least for r in ratios) if always else statistics.fmean(ratios) >= least)


def number(value: float, digits: int) -> str:
    """A number with `digits` behind the point; a dash if it is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else NOTHING


def deviation(values: Sequence[float], figure: Figure) -> str:
    """Mean ± standard deviation (of the sample); the value alone if there is one."""
    values = [value * figure.factor for value in values]
    if not values or not all(map(math.isfinite, values)):
        return NOTHING
    mean = number(statistics.fmean(values), figure.digits)
    return f"{mean} ± {number(statistics.stdev(values), figure.digits)}" if len(values) > 1 else mean


def span(values: Sequence[float], figure: Figure) -> str:
    """Mean (least..largest); the value alone if there is one."""
    values = [value * figure.factor for value in values]
    if not values or not all(map(math.isfinite, values)):
        return NOTHING
    mean, low, high = (number(value, figure.digits) for value in (statistics.fmean(values), min(values), max(values)))
    return f"{mean} ({low}..{high})" if len(values) > 1 else mean


def ratio_cell(measured: Measured, figure: Figure) -> str:
    """The ratio with its span; ✓ if every seed reaches the bar, (✓) if only their mean does."""
    ratios, least = measured.ratio(figure.key), BAR.get(figure.key, math.inf)
    mark = " ✓" if _reaches(ratios, least, True) else " (✓)" if _reaches(ratios, least, False) else ""
    return span(ratios, figure) + mark


Column = tuple[str, Callable[[Measured], str]]
Row = tuple[Sequence[str], Measured]


def seeds() -> list[Column]:
    """How many seeds a row is made of."""
    return [("seeds", lambda m: str(len(m.seeds())))]


def accuracies(figures: Iterable[Figure] = ACCURACY) -> list[Column]:
    """Columns of metrics against the ground truth."""

    def cell(figure: Figure, measured: Measured) -> str:
        return deviation(measured.accuracy(figure.key), figure)

    return [(figure.title, partial(cell, figure)) for figure in figures]


def floats(figures: Iterable[Figure] = (EPE,)) -> list[Column]:
    """The same of the float network, decoded alike."""

    def cell(figure: Figure, measured: Measured) -> str:
        return deviation(replace(measured, precision="fp32", target=None).accuracy(figure.key), figure)

    return [(f"FP32 {figure.title}", partial(cell, figure)) for figure in figures]


def errors(*keys: str) -> list[Column]:
    """Columns of the quantization error; all without a key."""

    def cell(figure: Figure, measured: Measured) -> str:
        return span(measured.error(figure.key), figure)

    return [(figure.title, partial(cell, figure)) for figure in ERROR if not keys or figure.key in keys]


def ratios(figures: Iterable[Figure] = RATIO) -> list[Column]:
    """Columns of the plain network's error over this one's."""

    def cell(figure: Figure, measured: Measured) -> str:
        return ratio_cell(measured, figure)

    return [(figure.title, partial(cell, figure)) for figure in figures]


def table(labels: Sequence[str], rows: Iterable[Row], columns: Sequence[Column]) -> str:
    """Rows that have at least one seed; empty where none has."""
    lines = [[*names, *(cell(measured) for _, cell in columns)] for names, measured in rows if measured.seeds()]
    return markdown([*labels, *(title for title, _ in columns)], lines)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; empty without rows."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(c) for c in line)} |" for line in lines) if rows else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def verdict(rows: Iterable[Row], what: str = "The bar") -> str:
    """One sentence: for which networks the bar holds."""
    judged = [(" ".join(names), measured) for names, measured in rows if any(measured.ratio(key) for key in BAR)]
    if not judged:
        return ""
    always = [name for name, measured in judged if measured.holds(True)]
    mean = [name for name, measured in judged if measured.holds(False) and name not in always]
    counts = " or ".join(str(count) for count in sorted({len(m.ratio("mean")) for _, m in judged}))
    parts = [f"holds on every seed ({counts}) for {', '.join(always)}"] if always else []
    if mean:
        parts.append(f"holds on the mean over seeds, though not on every seed, for {', '.join(mean)}")
    stated = "; it ".join(parts)
    return f"{what} {stated or f'holds for none of the {len(judged)} compared'}."
