"""The oracle's own numbers against the format, against each other, and against published examples."""

from fractions import Fraction

import numpy as np
import pytest

from .machine import Register, dot, machine, packed, shift, text_of
from .numbers import Refused, float32, held, is_float32, rounded, width
from .requantizer import multiplier, scaled, unclipped

NAMES = ["half_even", "half_away", "half_toward_zero", "half_up", "floor", "ceil", "away", "toward_zero"]


@pytest.mark.parametrize(
    ("mode", "expected"),
    list(
        zip(
            NAMES,
            [
                [-2, -2, -2, -1, 0, 0, 1, 2, 2, 2],
                [-3, -2, -2, -1, -1, 1, 1, 2, 2, 3],
                [-2, -2, -1, -1, 0, 0, 1, 1, 2, 2],
                [-2, -2, -1, -1, 0, 1, 1, 2, 2, 3],
                [-3, -2, -2, -1, -1, 0, 1, 1, 2, 2],
                [-2, -2, -1, -1, 0, 1, 1, 2, 2, 3],
                [-3, -2, -2, -1, -1, 1, 1, 2, 2, 3],
                [-2, -2, -1, -1, 0, 0, 1, 1, 2, 2],
            ],
            strict=True,
        )
    ),
)
def test_rounding_of_halves(mode, expected):
    halves = [Fraction(n, 2) for n in (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5)]
    assert [rounded(x, mode) for x in halves] == expected
    assert [rounded(Fraction(n, 4), mode) for n in (5, 7)] == (
        [1, 1] if mode in ("floor", "toward_zero") else [2, 2] if mode in ("ceil", "away") else [1, 2]
    )


def test_float32_is_the_format():
    rng = np.random.default_rng(0)
    for _ in range(500):
        x = Fraction(float(rng.normal() * 2.0 ** rng.integers(-60, 60)))
        found = float32(x)
        assert is_float32(found)
        assert found == Fraction(float(np.float32(float(x))))


def test_registers():
    assert [held(200, 8, "wrap"), held(-200, 8, "wrap"), held(200, 8, "saturate"), held(-129, 8, "saturate")] == [
        -56,
        56,
        127,
        -128,
    ]
    assert [width(0), width(-1), width(1), width(-128, 127), width(128), width(-129)] == [1, 1, 2, 8, 9, 9]


def test_published_dot_products():
    """oneDNN's example, the documented orders of saturating sums, and one wide product with a borrow."""
    avx2 = machine(text_of("x86-avx2")).stages
    found = dot([255 * 127] * 2, avx2)
    assert (found.result, found.events) == (32767, [1, 0, 0])
    one = (Register(None, 8, "saturate", 1),)
    assert [dot(v, one).result for v in ([100, 100, -100], [100, -100, 100])] == [27, 100]
    lanes = (Register(2, 16, "wrap", 2), Register(None, 32, "wrap", 1))
    assert dot([1, 10, 100, 1000, 5], lanes).highs == [1010, 1116]
    stages = (Register(7, 18, "wrap", 1), Register(None, 32, "wrap", 1))
    table = {"channels": [0, 18], "pixels": [0], "bits": 48}
    for correction, upper in (("none", 4), ("borrow", 5)):
        two = packed([[[-1]], [[5]]], stages, {**table, "correction": correction}, [[[]], [[]]], [[[]], [[]]])
        assert (two[0, 0].result, two[1, 0].result) == (-1, upper)
        assert two[1, 0].events == [int(upper == 4), 0]


def test_families_and_operands():
    assert machine(text_of("wrap-12")).stages == (Register(None, 12, "wrap", 1),)
    assert machine(text_of("fixed-point-9")).requantize["multiplier_bits"] == 9
    assert [shift((0, 255), [], o) for o in ((False, 8), (True, 8))] == [0, -128]
    assert [shift((-128, 127), [], o) for o in ((False, 8), (True, 8), (True, 9))] == [128, 0, 0]
    with pytest.raises(Refused):
        shift((0, 255), [], (True, 7))


def test_requantizers():
    assert multiplier(Fraction(2, 107), 8) == (77, 12)
    half_up = {"scheme": "fixed-point", "multiplier_bits": 8, "rounding": "half_up"}
    assert scaled(half_up, 80, Fraction(2, 107)) == 2  # the documented crossing of a tie
    assert unclipped({"scheme": "exact"}, (), 80, Fraction(2, 107), Fraction(0), "half_even") == 1
    shifted = {"scheme": "shift", "rounding": "half_up"}
    stage = (Register(None, 8, "saturate", 1),)
    # 2.5 LSBs are 2, to even; the sum saturates again
    assert unclipped(shifted, stage, 127, Fraction(1, 4), Fraction(5, 8), "half_even") == 32
    assert unclipped(shifted, stage, 3, Fraction(1, 4), Fraction(5, 8), "half_even") == 1
    with pytest.raises(Refused):
        scaled(shifted, 1, Fraction(1, 3))
    with pytest.raises(Refused):
        scaled({"scheme": "tosa"}, 1, Fraction(-1, 3))
