"""Faults in what integers of a file mean, and in the operators whose meaning changed between opsets."""

from __future__ import annotations

from .planting import Fault

FAULTS = (
    Fault(
        "integers-do-not-wrap",
        "a sum that leaves its integer type stays what it is in the integer graph",
        "intsim/frontend/integers.py",
        "out.append((at if out else None, s, b - turn * period))",
        "out.append((at if out else None, s, b))",
        "tests/frontend/test_integers.py::test_wrapping_pieces",
    ),
    Fault(
        "host-divides-down",
        "integers are divided down instead of towards zero on the host",
        "intsim/frontend/host_operators.py",
        "(quotient < 0) & (a - quotient * b != 0)",
        "(quotient < 0) & (a - quotient * b > abs(a))",
        "tests/frontend/test_integers.py::test_division_rounds_as_onnx_says",
        slow=True,
    ),
    Fault(
        "clip-upper-bound-first",
        "a Clip on codes with its lower bound above the upper one gives the lower one",
        "intsim/frontend/qcdq.py",
        "(min(max(end, edges[0]), edges[1]) for end in",
        "(max(min(end, edges[1]), edges[0]) for end in",
        "tests/frontend/test_integers.py::test_clip_of_codes_takes_the_lower_bound_first",
        slow=True,
    ),
    Fault(
        "resize-10-floor",
        "nearest Resize of opset 10 takes the sample before where an axis shrinks",
        "intsim/frontend/interpolation.py",
        'return "ceil" if op == "Resize" and scale < 1 else "floor"',
        'return "floor"',
        "tests/frontend/test_integers.py::test_resizes_of_old_opsets",
        slow=True,
    ),
    Fault(
        "sum-forgets-one",
        "Sum leaves its last operand out",
        "intsim/frontend/elementwise.py",
        "for i in places[1:]:",
        "for i in places[1:-1]:",
        "tests/frontend/test_integers.py::test_sum",
        slow=True,
    ),
)
