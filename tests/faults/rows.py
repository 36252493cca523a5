"""Faults in Softmax and layer normalisation: tables, rounding, ranges, what verification admits."""

from .planting import Fault

FAULTS = (
    Fault(
        "softmax-table-not-rounded",
        "entries of the table of exponentials are cut off, so that shares are too small by some 2^-38 each",
        "falling_exponentials",
        "1 << (GUARD_BITS - 1)",
        "0",
        "tests/ops/test_rows.py::test_every_entry_of_a_table_is_rounded_correctly",
        slow=True,
    ),
    Fault(
        "layer-norm-last-digit",
        "a result whose last digit the reciprocal root leaves open is taken as it is",
        "LayerNorm.rows",
        "below + size",
        "below + (size >> 40)",
        "tests/ops/test_rows.py::test_results_that_the_reciprocal_root_leaves_open",
        slow=True,
    ),
    Fault(
        "softmax-without-the-maximum",
        "exponentials are taken from the first element of a row and not from its largest",
        "Softmax.rows",
        "x.max(axis=1, keepdims=True)",
        "np.maximum(x[:, :1], x)",
        "tests/ops/test_rows.py::test_softmax_of_all_short_rows",
        slow=True,
    ),
    Fault(
        "row-function-not-judged",
        "verification looks at the codes behind a Softmax only, not at its integers",
        "Inexact.right",
        "allowed + Fraction(ROOM)",
        "2**24 * (allowed + Fraction(ROOM))",
        "tests/frontend/test_rowwise.py::test_a_wrong_constant_diverges",
        slow=True,
    ),
    Fault(
        "layer-norm-epsilon-in-input-steps",
        "epsilon is divided by the scale once where the variance is in squares of steps",
        "layer_normalization",
        "rational_text(exact / scale**2)",
        "rational_text(exact / scale)",
        "tests/frontend/test_rowwise.py::test_layer_normalization",
        slow=True,
    ),
)
