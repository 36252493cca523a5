"""A real function behind a quantizer, between two numbers: where it has which code.

Runs of one code are proven: by an enclosure of the function on all of a run, or by an enclosure of its difference
quotients, which shows that it is monotone there, and the same code at both ends. What lies between two runs is narrow,
and nothing is said of it: whoever asks for a number in it decides that number alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from intsim.reals.elementary import ONE, ZERO
from intsim.reals.formula import Formula
from intsim.reals.interval import Interval, Unsettled, exactly

BITS = (64, 192, 576, 1728, 4096)
"""Precisions that are tried, one after another."""
BEYOND_BITS = BITS[:3]
"""Those tried where nothing can arrive."""
MOST_EVALUATIONS = 1 << 18
"""Most evaluations of a formula in one search, as a rule."""
DIGITS = 256
"""Bits of an evaluation that counts once."""
MOST_UNDECIDED = 64
"""Most numbers of one search that no precision decides: a function that has come to its limit, where codes change."""
FINER = 1 << 12
"""How many times narrower than the spacing of the numbers that are asked for a gap becomes."""
NO_VALUE = (ValueError, ZeroDivisionError, OverflowError)


class Run(NamedTuple):
    """All real numbers from `low` to `high`, both included, have this code."""

    low: Fraction
    high: Fraction
    code: int


class Undecided(ArithmeticError):  # noqa: N818 - it says what happened
    """A value closer than 2^-4096 to where rounding changes, and not known to be rational."""


class TooMany(ArithmeticError):  # noqa: N818 - it says what happened
    """A search that would take more than `MOST_EVALUATIONS`."""


class TooClose(ArithmeticError):  # noqa: N818 - it says what happened
    """A search that met more than `MOST_UNDECIDED` numbers that can't be decided."""


def decided(
    formula: Formula,
    x: Fraction,
    code: Callable[[Fraction], int],
    precisions: Sequence[int] = BITS,
    tried: Callable[[int], None] = lambda bits: None,
) -> int:
    """The code at a number; raises `Undecided`, and where there is no value what `Formula.value` does.

    `tried` is told each precision.
    """
    for bits in precisions:
        tried(bits)
        try:
            bounds = formula.value(exactly(x), bits)
        except Unsettled:
            continue
        least, most = code(bounds.low), code(bounds.high)
        if least == most:
            return least
    raise Undecided


class _Point(NamedTuple):
    x: Fraction
    y: Fraction
    code: int


@dataclass
class _Search:
    formula: Formula
    code: Callable[[Fraction], int]
    edge: Callable[[int], Fraction]
    width: Fraction
    most: int
    beyond: bool = False
    downwards: bool = False
    found: list[Run] = field(default_factory=list)
    evaluations: int = 0
    undecided: int = 0

    def evaluated(self, bits: int = BITS[0]) -> None:
        """One of many digits counts as several: it takes as long."""
        self.evaluations += max(1, bits // DIGITS)
        if self.evaluations > self.most:
            raise TooMany

    def between(self, low: Fraction, high: Fraction) -> None:
        """Append the runs within low..high."""
        waiting = [(low, high)]
        while waiting:
            low, high = waiting.pop()
            split = self._one(Interval(low, high))
            if split is not None:
                halves = [(split, high), (low, split)]
                waiting += halves[::-1] if self.downwards else halves

    def _one(self, x: Interval) -> Fraction | None:
        """Runs of an interval, or where to split it."""
        self.evaluated()
        middle = None if x.high - x.low <= self.width else self._short((x.low + x.high) / 2)
        try:
            y = self.formula.value(x, BITS[0])
        except Unsettled:
            return middle
        except NO_VALUE:
            # without a value at both ends, none is looked for between
            return None if all(self._point(v) is None for v in x) else middle
        least, most = self.code(y.low), self.code(y.high)
        if least == most:
            self.found.append(Run(*x, least))
            return None
        if middle is None:
            return None
        low, high = self.formula.slope(x, BITS[0])
        if low < 0 < high:
            return middle
        ends = [self._point(v) for v in x]
        if ends[0] is None or ends[1] is None:
            return middle
        self._monotone(ends[0], ends[1])
        return None

    def _point(self, x: Fraction) -> _Point | None:
        """The function there; None where it has no value or can't be decided."""
        try:
            code = decided(self.formula, x, self.code, BEYOND_BITS if self.beyond else BITS, self.evaluated)
            y = self.formula.value(exactly(x), BITS[1])
        except Undecided:
            self.undecided += 1
            if self.undecided > MOST_UNDECIDED:
                raise TooClose from None
            return None
        except (*NO_VALUE, Unsettled):
            return None
        return _Point(x, (y.low + y.high) / 2, code)

    def _monotone(self, low: _Point, high: _Point) -> None:
        """Runs between two points between which the function is monotone."""
        start, waiting = low, [(low, high)]
        while waiting:
            low, high = waiting.pop()
            if low.code == high.code:
                continue
            if high.x - low.x > self.width:
                found = self._point(self._crossing(low, high)) or self._point(self._short((low.x + high.x) / 2))
                if found is not None:
                    waiting += [(found, high), (low, found)]
                    continue
            self.found.append(Run(start.x, low.x, low.code))
            start = high
        self.found.append(Run(start.x, high.x, high.code))

    def _crossing(self, low: _Point, high: _Point) -> Fraction:
        """Where the line between two points comes to the middle one of the edges between their codes.

        A little beyond it, towards the end that is further away, so that the edge is closed in from both sides.
        """
        span = high.x - low.x
        edge = self.edge((low.code + high.code + 1) // 2)
        share = float(min(max((edge - low.y) / (high.y - low.y), ZERO), ONE)) if high.y != low.y else 0.5
        nudge = max(float(self.width / span) / 3, min(abs(share), abs(1 - share)) / 64)
        share += nudge if share < 0.5 else -nudge
        share = min(max(share, 1 / 256), 255 / 256)
        return self._short(low.x + Fraction(share) * span)

    def _short(self, x: Fraction) -> Fraction:
        """A number beside x of few digits."""
        shift = 12 + max(0, self.width.denominator.bit_length() - self.width.numerator.bit_length())
        return Fraction(round(x * (1 << shift)), 1 << shift)


def runs(
    formula: Formula,
    code: Callable[[Fraction], int],
    edge: Callable[[int], Fraction],
    low: Fraction,
    high: Fraction,
    spacing: Fraction,
) -> list[Run]:
    """Runs of one code from `low` to `high`, ascending and apart.

    Args:
        formula: the function.
        code: the quantizer, which never falls.
        edge: about where a code begins; it makes the search short, nothing else.
        low, high: ends.
        spacing: of the numbers that will be asked for, above zero.

    Returns:
        Proven runs. Gaps between them are narrower than `spacing` / `FINER`, but where the function has no value.

    Raises:
        TooMany: the function has too many steps.
        TooClose: it stays too close to where codes change.
    """
    search = _Search(formula, code, edge, spacing / FINER, MOST_EVALUATIONS)
    search.between(low, high)
    return _joined(search.found)


def runs_beyond(
    formula: Formula,
    code: Callable[[Fraction], int],
    edge: Callable[[int], Fraction],
    ends: tuple[Fraction, Fraction],
    spacing: Fraction,
    most: int,
    downwards: bool,
) -> list[Run]:
    """Runs where nothing is asked for as a rule: none where they take more than `most` evaluations.

    The search begins at the lower end, `downwards` at the upper one, and ends where the function stays too close to
    where codes change. Other arguments as of `runs`.
    """
    search = _Search(formula, code, edge, spacing / FINER, most, True, downwards)
    try:
        search.between(*ends)
    except TooMany:
        return []
    except TooClose:
        pass
    return _joined(sorted(search.found))


def _joined(found: Sequence[Run]) -> list[Run]:
    """Neighbours of one code as one run."""
    joined: list[Run] = []
    for run in found:
        if joined and joined[-1].code == run.code and joined[-1].high == run.low:
            joined[-1] = joined[-1]._replace(high=run.high)
        else:
            joined.append(run)
    return joined
