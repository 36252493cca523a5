"""The twins themselves: what they import, and sums worked out on paper."""

import ast
from collections import namedtuple
from pathlib import Path

from tests import twins

Stage = namedtuple("Stage", "sum bits overflow lanes")
Packing = namedtuple("Packing", "channels pixels bits correction")
ALLOWED = {"fractions", "itertools", "struct", "typing"}


def test_twins_share_nothing_with_the_package():
    """They import Python's own modules and each other."""
    files = [p for p in Path(__file__).parent.glob("*.py") if not p.name.startswith("test_")]
    assert len(files) >= 4
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {a.name.partition(".")[0] for a in node.names} <= ALLOWED, path.name
            elif isinstance(node, ast.ImportFrom) and node.level != 1:
                assert node.level == 0, path.name
                assert node.module.partition(".")[0] in ALLOWED, path.name


def test_the_machine_on_paper():
    """By hand: two lanes of pairs in 4 bits that saturate, then 8 bits."""
    machine = twins.Machine([Stage(2, 4, "saturate", 2), Stage(None, 8, "wrap", 1)])
    for value in (5, -1, 6, -8):
        machine.product(value)
    # lane 0: 5 + 6 saturates at 7; lane 1: -1 - 8 saturates at -8
    assert machine.registers == [[0, 0], [-1]]
    assert machine.events == [2, 0]
    machine.product(3)
    assert machine.copy().finish(bias=127) == (-127, [2, 1], [-9, -1], [11, 129])
    assert machine.registers == [[3, 0], [-1]]
    assert twins.accumulate([127 * 127] * 3, [Stage(None, 16, "wrap", 1)]).result == -17149


def test_two_products_in_one_multiplier_on_paper():
    """-3 below 5, 8 bits apart: the field above reads 4, one less, unless the borrow is repaid."""
    products = {(0, 0): [-3], (1, 0): [5]}
    stages = [Stage(1, 8, "wrap", 1), Stage(None, 16, "wrap", 1)]
    for correction, read in (("none", 4), ("borrow", 5)):
        sums = twins.accumulate_packed(products, stages, Packing((0, 8), (0,), 24, correction))
        assert sums[0, 0] == (-3, [0, 0], [-3, -3], [0, 0])
        assert sums[1, 0] == (read, [read == 4, 0], [0, 0], [5, read])
