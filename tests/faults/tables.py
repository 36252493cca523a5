"""Faults in tables of elementwise functions: bounds, formulas, positions."""

from .planting import Fault

FAULTS = (
    Fault(
        "erf-truncation-not-counted",
        "the error function's upper bound lies below it, so that a table's entry next to a tie may be one LSB off",
        "erf_bounds",
        "_bounds(total, total + slack, width)",
        "_bounds(total, total, width)",
        "tests/reals/test_elementary.py::test_bounds_enclose_and_are_close[erf]",
        slow=True,
    ),
    Fault(
        "celu-rate",
        "Celu's exponential takes x where x / alpha is meant",
        "elu",
        '1 / alpha if node.op == "Celu" else Fraction(1)',
        "Fraction(1)",
        "tests/frontend/test_tables.py::test_every_code_of_qcdq[Celu]",
        slow=True,
    ),
    Fault(
        "table-wraps-around",
        "a code below the table, brought by an overflow, reads an entry from its end",
        "Table.evaluate",
        'np.clip(arrays[0] - node.attributes["low"], 0, table.shape[1] - 1)',
        '(arrays[0] - node.attributes["low"]) % table.shape[1]',
        "tests/ops/test_table.py::test_codes_outside_read_the_nearest_end",
        slow=True,
    ),
    Fault(
        "constant-on-the-other-side",
        "a kernel gets a constant operand in the place of the codes",
        "_of_operation",
        'own = codes if i == about["tensor"] else distinct[:, None]',
        "own = codes if i == 0 else distinct[:, None]",
        "tests/runtimes/test_single.py::test_predicted",
        slow=True,
    ),
    Fault(
        "relu-taken-for-a-clip-of-codes",
        "a Relu that cuts codes is taken into a kernel that has none",
        "_of_operation",
        'about["cut"] and not requantizer.clamps',
        'about["cut"] and not requantizer.reads',
        "tests/runtimes/test_single.py::test_a_relu_that_cuts_codes_is_no_kernel",
        slow=True,
    ),
)
