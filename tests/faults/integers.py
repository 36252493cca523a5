"""Faults in what integers of a file mean, and in the operators whose meaning changed between opsets."""

from __future__ import annotations

from .planting import Fault

FAULTS = (
    Fault(
        "integers-do-not-wrap",
        "a sum that leaves its integer type stays what it is in the integer graph",
        "wrapping",
        "out.append((at if out else None, s, b - turn * period))",
        "out.append((at if out else None, s, b))",
        "tests/frontend/test_integers.py::test_wrapping_pieces",
        slow=True,
    ),
    Fault(
        "host-divides-down",
        "integers are divided down instead of towards zero on the host",
        "Div._run",
        "((quotient < 0) & (a - quotient * b != 0)).astype",
        "((quotient < 0) & (a - quotient * b > abs(a))).astype",
        "tests/frontend/test_integers.py::test_division_rounds_as_onnx_says",
        slow=True,
    ),
    Fault(
        "clip-upper-bound-first",
        "a Clip on codes with its lower bound above the upper one gives the lower one",
        "_following_clip",
        "(min(max(end, edges[0]), edges[1]) for end in (kind.min, kind.max))",
        "(max(min(end, edges[1]), edges[0]) for end in (kind.min, kind.max))",
        "tests/frontend/test_integers.py::test_clip_of_codes_takes_the_lower_bound_first",
        slow=True,
    ),
    Fault(
        "resize-10-floor",
        "nearest Resize of opset 10 takes the sample before where an axis shrinks",
        "old_nearest_mode",
        '"ceil" if op == "Resize" and scale < 1 else "floor"',
        '"floor"',
        "tests/frontend/test_integers.py::test_resizes_of_old_opsets",
        slow=True,
    ),
    Fault(
        "sum-forgets-one",
        "Sum leaves its last operand out",
        "sum_",
        "places[1:]",
        "places[1:-1]",
        "tests/frontend/test_integers.py::test_sum",
        slow=True,
    ),
)
