"""The suite must notice: every planted fault turns the test that the catalogue names red, and nothing else does."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from .catalogue import FAULTS
from .planting import ROOT, Fault, in_copy, plant, run_tests, why_not_red
from .report import PAGE, page

ROOMS = sorted({str(Path(f.test.split("::")[0]).parent) for f in FAULTS})


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


def test_the_catalogue_is_in_order() -> None:
    assert len({f.name for f in FAULTS}) == len(FAULTS) >= 20
    assert len({(f.file, f.old, f.new) for f in FAULTS}) == len(FAULTS)
    assert sum(not f.slow for f in FAULTS) >= 14
    for fault in FAULTS:
        assert (ROOT / fault.file).read_text().count(fault.old) == 1, fault.name
        assert (ROOT / fault.test.split("::")[0]).is_file(), fault.name


@pytest.mark.parametrize("room", [pytest.param(r, marks=[pytest.mark.slow] * (r != "tests/arithmetic")) for r in ROOMS])
def test_without_a_fault_the_same_tests_are_green(room: str, home: Path) -> None:
    """The control: in a copy nothing was planted in, all tests of the catalogue pass."""
    tests = sorted({f.test for f in FAULTS if str(Path(f.test.split("::")[0]).parent) == room})
    with in_copy(home) as folder:
        outcome = run_tests(folder, *tests)
    assert outcome.code == 0, outcome.text
    for test in tests:
        ran = [how for name, how in outcome.tests.items() if name == test or name.startswith((test + "[", test + "::"))]
        assert ran, test
        assert all(how == ("call", None) for how in ran), test


@pytest.mark.parametrize("fault", [pytest.param(f, id=f.name, marks=[pytest.mark.slow] * f.slow) for f in FAULTS])
def test_a_planted_fault_turns_its_test_red(fault: Fault, home: Path) -> None:
    with in_copy(home) as folder:
        plant(folder, fault)
        outcome = run_tests(folder, fault.test)
    assert why_not_red(outcome) is None, f"{fault.name}: {why_not_red(outcome)}\n{outcome.text}"


HARMLESS = Fault(
    "a-comment",
    "nothing",
    "intsim/arithmetic/rounding.py",
    "    # floor(x) >= 0 exactly when x >= 0, so",
    "    # and so",
    "tests/arithmetic/test_rounding.py::test_mode_names",
)


def test_what_is_no_fault_is_not_red(home: Path) -> None:
    with in_copy(home) as folder:
        plant(folder, HARMLESS)
        assert "passed" in str(why_not_red(run_tests(folder, HARMLESS.test)))


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        (
            "intsim/arithmetic/rounding.py",
            "        return Rounding(mode)",
            "        return Rounding(moode)",
            "NameError",
        ),
        ("intsim/errors.py", "class IntsimError", "clas IntsimError", "exit code 4"),
        ("tests/arithmetic/test_rounding.py", "def test_exhaustively", "def exhaustively", "exit code 4"),
    ],
)
def test_what_only_breaks_the_program_is_not_red(file: str, old: str, new: str, reason: str, home: Path) -> None:
    """A crash, a package that can't be imported or a test that isn't there prove nothing."""
    fault = replace(HARMLESS, file=file, old=old, new=new, test="tests/arithmetic/test_rounding.py::test_exhaustively")
    with in_copy(home) as folder:
        plant(folder, fault)
        assert reason in str(why_not_red(run_tests(folder, fault.test)))


def test_another_package_than_the_copy_is_refused(home: Path) -> None:
    with in_copy(home) as folder:
        (folder / "intsim").rename(folder / "elsewhere")
        (folder / "intsim").symlink_to(folder / "elsewhere")
        assert "exit code 4" in str(why_not_red(run_tests(folder, HARMLESS.test)))


@pytest.mark.parametrize("old", ["no such text", "tie"])
def test_a_fault_whose_text_is_not_there_once_is_refused(old: str, home: Path) -> None:
    with in_copy(home) as folder, pytest.raises(AssertionError, match="not once"):
        plant(folder, replace(HARMLESS, old=old))


def test_the_page_is_that_of_the_catalogue() -> None:
    """docs/measured/faults.md is written by `python -m tests.faults.report`; only the seconds may differ."""

    def without_seconds(text: str) -> str:
        return re.sub(r"\d+\.\d", "", text)

    assert without_seconds((ROOT / PAGE).read_text()) == without_seconds(
        page(dict.fromkeys((f.name for f in FAULTS), 0.0))
    )
