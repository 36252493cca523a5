"""A formula of one real variable as a list of functions, each of earlier ones: its values and slopes on an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from intsim.reals import slopes
from intsim.reals.interval import FUNCTIONS, Interval
from intsim.reals.slopes import Slope

SOURCE = "source"
"""The name of the variable itself."""


@dataclass(frozen=True)
class Term:
    """A function of `FUNCTIONS`, or `SOURCE`; `arguments` are positions in the formula, `parameters` exact numbers."""

    name: str
    arguments: tuple[int, ...] = ()
    parameters: tuple[Fraction | None, ...] = ()


@dataclass(frozen=True)
class Formula:
    """The last of its terms, each a function of earlier ones."""

    terms: Sequence[Term]

    def value(self, x: Interval, bits: int) -> Interval:
        """What contains the values on x.

        Raises `Unsettled` where x is too wide, or bits too few, ValueError and ZeroDivisionError where there may be no
        value, OverflowError beyond what is evaluated.
        """
        return self._values(x, bits)[-1]

    def slope(self, x: Interval, bits: int) -> Slope:
        """What contains all difference quotients on x; raises as `value` does."""
        values = self._values(x, bits)
        found: list[Slope] = []
        for term in self.terms:
            if term.name == SOURCE:
                found.append(slopes.SAME)
                continue
            own, inner = [values[i] for i in term.arguments], [found[i] for i in term.arguments]
            made = slopes.slope(term.name, bits, own, inner, term.parameters)
            found.append(slopes.trimmed(made, bits))
        return found[-1]

    def _values(self, x: Interval, bits: int) -> list[Interval]:
        values: list[Interval] = []
        for term in self.terms:
            if term.name == SOURCE:
                values.append(x)
            else:
                given = [values[i] for i in term.arguments]
                values.append(FUNCTIONS[term.name](bits, given, term.parameters).trimmed(bits))
        return values
