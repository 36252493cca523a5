"""Checks of your own kernel, RTL simulation or exporter against intsim, with the smallest counterexample."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple, TypeVar

import numpy as np
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from intsim.arithmetic.accumulate import Accumulation
from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.pieces import Formula
from intsim.arithmetic.requantizers import Requantizer
from intsim.arithmetic.rounding import Rounding
from intsim.errors import IntsimError
from intsim.targets import Target
from intsim.testing.dots import BIAS, DotProduct, defined, dot_products
from intsim.testing.smallest import smallest
from intsim.testing.values import accumulators, scales, within

INT8 = IntegerType(8, True)
Case = TypeVar("Case")


class CounterexampleError(AssertionError):
    """A kernel and intsim disagree. The text is the smallest case found: operands, expected, got."""


class Checked(NamedTuple):
    """What a check that found nothing has compared: cases, and how many of them were of the difficult kind."""

    cases: int
    difficult: int


class Requantization(NamedTuple):
    """Parameters of one requantizer, as a kernel of its scheme takes them; what a scheme doesn't use is None.

    fixed-point, tosa: `multiplier` and `shift`, scale ~= multiplier * 2^-shift. shift: `shift`, scale = 2^-shift.
    float32: `factor`, a float32. exact, thresholds: `scale` itself and `rounding`.
    """

    scale: Fraction
    zero_point: int
    low: int
    high: int
    rounding: Rounding
    multiplier: int | None = None
    shift: int | None = None
    factor: np.float32 | None = None


DotKernel = Callable[[NDArray[Any], NDArray[Any], Any], Any]
RequantizeKernel = Callable[[NDArray[np.int64], Requantization], Any]


def check_dot_product(
    kernel: DotKernel,
    target: Target | str,
    max_examples: int = 500,
    max_terms: int = 256,
    activation: IntegerType | None = None,
    weight: IntegerType | None = None,
    bias: IntegerType | None = BIAS,
    seed: int | None = None,
) -> Checked:
    """Compare a dot product kernel with a target's registers, bit for bit.

    Args:
        kernel: called as `kernel(activation, weight, bias)` with the fields of a `DotProduct`; returns the accumulator.
            On a target with packing it returns an array (channels, pixels).
        target: a built-in name, a path, or a `Target`.
        max_examples: how many dot products to try.
        max_terms: most products of one sum.
        activation: values the kernel takes, if not all that the target does (default UINT8 where it takes any).
        weight: likewise (default INT8).
        bias: type of the bias; None for none (0).
        seed: None for the same cases each time, a number for others.

    Returns:
        Checked; difficult are those in which a register overflowed.

    Raises:
        CounterexampleError: they disagree.
        IntsimError: a target that can't be read, operands that don't fit int64.
    """
    machine = Target.load(target)
    strategy = dot_products(machine, max_terms, activation, weight, bias)

    def both(case: DotProduct) -> tuple[Accumulation, Any]:
        bias = case.bias if machine.registers.packing is None else np.asarray(case.bias)[:, None]
        wanted = defined(machine, case.activation, case.weight, bias)
        return wanted, kernel(case.activation.copy(), case.weight.copy(), case.bias)

    def fails(case: DotProduct) -> bool:
        try:
            wanted, got = both(case)
            return not _equal(got, wanted.result)
        except Exception:  # another mistake than the one that is made smaller
            return False

    wrong: list[DotProduct] = []

    def compare(case: DotProduct) -> int:
        wanted, got = both(case)
        if not _equal(got, wanted.result):
            wrong.append(case)
            raise CounterexampleError
        return bool(wanted.events.any())

    try:
        return search(strategy, compare, max_examples, seed)
    except CounterexampleError:
        case = smallest(wrong[-1], fails)  # which knows what a dot product is, as Hypothesis does not
        raise CounterexampleError(_dot_report(machine, case, *both(case))) from None


def check_requantizer(
    kernel: RequantizeKernel,
    requantizer: Requantizer | Target | str,
    max_examples: int = 500,
    accumulator_bits: int = 32,
    output: IntegerType = INT8,
    scale: st.SearchStrategy[Fraction] | None = None,
    zero_points: bool = True,
    rounding: Rounding | None = None,
    seed: int | None = None,
) -> Checked:
    """Compare a requantizer kernel with intsim's, bit for bit, on accumulators at ties, steps, ends and powers of two.

    Args:
        kernel: called as `kernel(accumulators, requantization)` with int64 (n,) and a `Requantization`; returns (n,)
            codes, zero point added and clipped.
        requantizer: a `Requantizer`, or a target whose own is meant.
        max_examples: how many sets of parameters to try, each with several accumulators.
        accumulator_bits: width of the signed accumulators.
        output: type of the codes.
        scale: scales to draw from; default: 2^-20..1, powers of two where the scheme takes no others.
        zero_points: False for 0 only.
        rounding: what the model asks for; None for all modes. A requantizer with a rounding of its own keeps that.
        seed: None for the same cases each time, a number for others.

    Returns:
        Checked; difficult are accumulators on an exact tie.

    Raises:
        CounterexampleError: they disagree.
    """
    if isinstance(requantizer, str):
        requantizer = Target.load(requantizer)
    chosen = requantizer.requantize if isinstance(requantizer, Target) else requantizer
    drawn = (
        scale
        if scale is not None
        else st.integers(0, 20).map(lambda n: Fraction(1, 1 << n))
        if chosen.powers_of_two
        else scales(Fraction(1, 1 << 20), Fraction(1))
    )

    @st.composite
    def cases(draw: Any) -> tuple[NDArray[np.int64], Requantization]:
        factor = draw(drawn)
        zero = draw(within(output.min, output.max)) if zero_points else 0
        mode = chosen.rounding or rounding or draw(st.sampled_from(list(Rounding)))
        values = draw(st.lists(accumulators(accumulator_bits, factor), min_size=1, max_size=8))
        try:
            told = chosen.channel(factor).told
            return np.array(values, np.int64), Requantization(factor, zero, output.min, output.max, mode, **told)
        except IntsimError:
            assume(False)  # a scale that the scheme doesn't take
            raise

    def compare(case: tuple[NDArray[np.int64], Requantization]) -> int:
        values, given_to = case
        try:
            wanted = chosen.codes(_formula(given_to), values)
        except IntsimError:
            assume(False)  # an accumulator that the scheme doesn't take
            raise
        got = kernel(values.copy(), given_to)
        if not _equal(got, wanted):
            raise CounterexampleError(_code_report(chosen, values, given_to, wanted, got))
        return sum((int(v) * given_to.scale).denominator == 2 for v in values)

    return search(cases(), compare, max_examples, seed)


def search(
    strategy: st.SearchStrategy[Case], compare: Callable[[Case], int], max_examples: int, seed: int | None
) -> Checked:
    """Call `compare` on drawn cases; the CounterexampleError that leaves is that of the smallest case.

    `compare` returns how difficult its case was, summed up in `Checked`.
    """
    cases = difficult = 0

    @settings(
        max_examples=max_examples,
        deadline=None,
        database=None,
        derandomize=seed is None,
        report_multiple_bugs=False,
        print_blob=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def holds(case: Case) -> None:
        nonlocal cases, difficult
        hard = compare(case)
        cases, difficult = cases + 1, difficult + int(hard)

    if seed is not None:
        from hypothesis import seed as seeded

        holds = seeded(seed)(holds)
    try:
        holds()
    except CounterexampleError as error:
        # without Hypothesis's own notes: they repeat the case as a call
        raise CounterexampleError(str(error)) from None
    return Checked(cases, difficult)


def _equal(got: Any, wanted: Any) -> bool:
    try:
        values = np.asarray(got)
    except ValueError:
        return False
    if values.dtype.kind not in "iuO" or (values.dtype == object and not isinstance(got, int)):
        raise IntsimError(f"the kernel returned {type(got).__name__} {got!r}; it must return integers")
    return values.shape == np.shape(wanted) and bool((values == wanted).all())


def _dot_report(machine: Target, case: DotProduct, wanted: Accumulation, got: Any) -> str:
    terms = case.activation.shape[-1]
    lines = [
        f"the kernel and target {machine.name} disagree on a dot product of {terms} terms",
        f"  activation  {_shown(case.activation)}",
        f"  weight      {_shown(case.weight)}",
        f"  bias        {_shown(case.bias)}",
        f"  expected    {_shown(wanted.result)}",
        f"  got         {_shown(got)}",
    ]
    for i, stage in enumerate(machine.stages):
        events = int(wanted.events[..., i].sum())
        low, high = int(wanted.low[..., i].min()), int(wanted.high[..., i].max())
        lines.append(f"  stage {i + 1:<5} {stage.bits} bits, {stage.overflow}: sums {low}..{high}, overflows {events}")
    return "\n".join(lines)


def _code_report(
    requantizer: Requantizer, values: NDArray[np.int64], given_to: Requantization, wanted: Any, got: Any
) -> str:
    lines = [f"the kernel and requantizer {requantizer.scheme} disagree", f"  accumulator {_shown(values)}"]
    for name, value in given_to._asdict().items():
        if value is not None:
            lines.append(f"  {name:<11} {value}")
    exact = [float(int(v) * given_to.scale) for v in values[:8]]
    lines += [f"  acc * scale {exact}", f"  expected    {_shown(wanted)}", f"  got         {_shown(got)}"]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    array = np.asarray(value)
    return str(value) if array.ndim == 0 else np.array2string(array, threshold=64, max_line_width=10_000)


def _formula(given_to: Requantization) -> Formula:
    pieces = [(None, given_to.scale, Fraction(0))]
    return Formula(pieces, given_to.rounding, given_to.zero_point, given_to.low, given_to.high)
