"""Failures of `intsim.assertions` in pytest: the line of the test and what is asserted, without intsim's own frames.

pytest loads it by the entry point `pytest11`, in every run where intsim is installed, so it imports nothing.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

ASSERTIONS = Path(__file__).with_name("assertions.py")
"""Whose failures are shortened."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show a failure in the short style, unless the user asks for another one."""
    report = yield
    found = call.excinfo
    if found is None or item.config.getoption("tbstyle") != "auto" or not isinstance(found.value, AssertionError):
        return report
    if Path(found.traceback[-1].path) == ASSERTIONS:
        shown = found.getrepr(style="short", tbfilter=lambda e: e.traceback.cut(path=item.path).filter(e))
        if shown.reprcrash is not None:  # the summary at pytest's end repeats all of it where CI is set
            shown.reprcrash.message = shown.reprcrash.message.split("\n", 1)[0]
        report.longrepr = shown
    return report
