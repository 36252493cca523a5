"""Faults in numbers on a grid: how they come there, and how far they are said to be off."""

from .planting import Fault

FAULTS = (
    Fault(
        "grid-slope-not-counted",
        "how far a slope was rounded doesn't count for how far the numbers of a grid are off",
        "_rounded",
        "abs(s / unit - round(s / unit)) * most",
        "0 * most",
        "tests/frontend/test_grids.py::test_the_nearest_of_a_grid",
        slow=True,
    ),
    Fault(
        "grid-cut-off",
        "numbers of a grid are cut off instead of rounded",
        "_rounded",
        "round(b / unit) + half",
        "round(b / unit)",
        "tests/frontend/test_grids.py::test_the_nearest_of_a_grid",
        slow=True,
    ),
    Fault(
        "grid-carry-lost",
        "a product in two limbs loses what the lower one carries of the summand",
        "_shifted",
        "(acc & low) * s + (b & low)",
        "(acc & low) * s",
        "tests/ops/test_grid.py::test_two_limbs",
        slow=True,
    ),
    Fault(
        "grid-product-of-one",
        "a product is off by what the worse of its operands is off by",
        "_passed",
        "x * off_y + y * off_x + off_x * off_y",
        "max(x * off_y, y * off_x)",
        "tests/ops/test_grid.py::test_what_becomes_of_numbers_that_are_off[product]",
    ),
    Fault(
        "grid-sum-of-one",
        "a sum of several numbers is off by no more than one of them",
        "_passed",
        "errors[0] * math.prod((tensors[0].shape[a] for a in node.attributes['axes']))",
        "errors[0]",
        "tests/ops/test_grid.py::test_what_becomes_of_numbers_that_are_off[sum]",
    ),
    Fault(
        "grid-jump-overlooked",
        "a line so short that no integer lies on it is as flat as its neighbours",
        "steepest",
        "slope * distance if jump <= slope else jump * distance.__ceil__()",
        "slope * distance",
        "tests/ops/test_grid.py::test_a_line_too_short_for_an_integer",
    ),
    Fault(
        "grid-however-coarse",
        "a quantizer finer than what is known of its numbers is taken",
        "Context.count",
        "on_grid and node.op == 'requantize'",
        "False",
        "tests/frontend/test_grids.py::test_a_quantizer_finer_than_any_grid_is_refused",
    ),
    Fault(
        "grid-joined-by-one-distance",
        "numbers on a grid and exact ones side by side are off by as many steps, of whatever size",
        "concat",
        "any((n in context.gridded for p in tensors for n, _ in p.terms))",
        "False",
        "tests/frontend/test_grids.py::test_joined_numbers_are_off_by_steps_of_their_own",
    ),
)
