"""Faults in the search of machines: what a machine makes, what is proved alike, what operands aim at."""

from .planting import Fault

FAULTS = (
    Fault(
        "diagnosis-saturates-one-high",
        "a hypothesis saturates one above the greatest value of its register",
        "diagnosis.kernels._fit",
        "min(max(value, saturates - 1 - top), top - 1)",
        "min(max(value, saturates - 1 - top), top)",
        "tests/diagnosis/test_machines.py::test_compiled_chains_are_the_definition",
        slow=True,
    ),
    Fault(
        "diagnosis-window-other-way",
        "windows that begin early begin late",
        "diagnosis.faults._windows",
        "moved[axis] += by",
        "moved[axis] -= by",
        "tests/diagnosis/test_machines.py::test_mistakes_of_operands_are_those_of_another_file",
        slow=True,
    ),
    Fault(
        "diagnosis-register-of-the-bias",
        "a saturation counts as hidden although the requantizer adds its bias in the narrow register",
        "diagnosis.classes.hidden",
        "ends[0] == ends[1] or mine is None or theirs is None or not np.array_equal(mine, theirs)",
        "ends[0] == ends[1] or mine is None or theirs is None",
        "tests/diagnosis/test_classes.py::test_what_is_proved_alike_is_alike_for_every_input",
        slow=True,
    ),
    Fault(
        "diagnosis-aims-beside",
        "operands that aim at an accumulator forget the bias",
        "diagnosis.patterns.code_aims",
        "acc - added(space, c)",
        "acc",
        "tests/diagnosis/test_discriminate.py::test_sixteen_operands_show_what_can_be_shown",
        slow=True,
    ),
    Fault(
        "diagnosis-kernel-not-turned",
        "a kernel that is turned by 180 degrees is turned along its rows alone",
        "diagnosis.faults._layouts",
        "np.flip(w, spatial)",
        "np.flip(w, spatial[:1])",
        "tests/diagnosis/test_machines.py::test_mistakes_of_operands_are_those_of_another_file",
        slow=True,
    ),
)
