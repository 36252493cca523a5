"""Threads and shares."""

import os
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.engine.threads import each, set_threads, shares, threads, using
from intsim.errors import IntsimError
from intsim.machine import usable_cpus


@pytest.fixture(autouse=True)
def default(monkeypatch):
    monkeypatch.delenv("INTSIM_THREADS", raising=False)
    set_threads(None)
    yield
    set_threads(None)


def test_threads_are_chosen(monkeypatch):
    monkeypatch.setenv("INTSIM_THREADS", " 3 ")
    assert threads() == 3
    set_threads(5)
    assert threads() == 5
    set_threads(None)
    monkeypatch.setenv("INTSIM_THREADS", "")
    assert threads() == usable_cpus()


def test_threads_for_a_block():
    set_threads(5)
    elsewhere = []
    with using(2):
        other = threading.Thread(target=lambda: elsewhere.append(threads()))
        other.start()
        other.join()
        assert (threads(), len(shares(100))) == (2, 2)
        with using(None):
            assert threads() == 2
        with using(3):
            assert threads() == 3
        assert threads() == 2
    assert (threads(), elsewhere) == (5, [5])
    with pytest.raises(IntsimError, match="threads '0'"), using(0):
        pass
    assert threads() == 5


@pytest.mark.parametrize("bad", ["0", "-1", "x", "1.5", "1025", "\x1b", "²", "9" * 5000])
def test_bad_environment(monkeypatch, bad):
    monkeypatch.setenv("INTSIM_THREADS", bad)
    with pytest.raises(IntsimError, match=r"INTSIM_THREADS .*: give a number of threads from 1 to 1024") as told:
        threads()
    assert len(str(told.value)) < 200
    assert str(told.value).isprintable()


@pytest.mark.parametrize("bad", [0, -1, 1025, 1.5, "2", True, 1 << 70])
def test_bad_threads(bad):
    with pytest.raises(IntsimError, match="give a number of threads from 1 to 1024"):
        set_threads(bad)


@given(count=st.integers(0, 5000), grain=st.integers(1, 600), wanted=st.integers(1, 40))
def test_shares(count, grain, wanted):
    set_threads(wanted)
    parts = shares(count, grain)
    assert [i for start, stop in parts for i in range(start, stop)] == list(range(count))
    assert len(parts) == (min(wanted, max(count // grain, 1)) if count else 0)
    sizes = [stop - start for start, stop in parts]
    if len(parts) > 1:
        assert min(sizes) >= grain
        assert all(start % grain == 0 for start, _ in parts)
        assert max(sizes) - min(sizes) <= 2 * grain
    if grain == 1 and parts:
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each(count):
    set_threads(count)
    assert each(lambda x: x * x, range(50)) == [x * x for x in range(50)]
    assert each(abs, []) == []
    assert each(abs, [-1]) == [1]


def test_each_uses_all_threads():
    set_threads(3)
    together = threading.Barrier(3)
    each(lambda _: together.wait(20), range(3))
    set_threads(1)
    assert set(each(lambda _: threading.get_ident(), range(5))) == {threading.get_ident()}


def test_each_grows_and_shrinks():
    for count in (2, 6, 3, 8, 1, 2):
        set_threads(count)
        together = threading.Barrier(count)
        idents = each(lambda _, b=together: (b.wait(20), threading.get_ident())[1], range(count))
        assert len(set(idents)) == count


def test_nested_calls_run_where_they_are():
    set_threads(4)
    together = threading.Barrier(2)

    def outer(_):
        together.wait(20)
        inner = each(lambda _: (time.sleep(0.01), threading.get_ident())[1], range(4))
        return set(inner) == {threading.get_ident()}

    assert each(outer, range(2)) == [True, True]
    # and afterwards the caller shares its work again
    each(lambda _: together.wait(20), range(2))


def test_the_earliest_exception_is_raised_when_all_have_stopped():
    set_threads(2)
    together, ended, begun = threading.Barrier(2), [], []

    def part(index):
        begun.append(index)
        if index < 2:
            together.wait(20)
        if index == 0:
            time.sleep(0.05)
            ended.append(index)
            raise KeyError("first")
        raise ValueError("second")

    with pytest.raises(KeyError, match="first"):
        each(part, range(50))
    assert ended == [0]
    assert sorted(begun) == [0, 1]
    set_threads(1)
    with pytest.raises(ZeroDivisionError):
        each(lambda x: 1 // x, [1, 0, 2])


def test_an_interrupt_leaves_no_part_behind():
    set_threads(2)
    together, late = threading.Barrier(2), []

    def part(index):
        together.wait(20)
        if index == 0:
            raise KeyboardInterrupt
        time.sleep(0.05)
        late.append(index)

    with pytest.raises(KeyboardInterrupt):
        each(part, range(2))
    assert late == [1]


def test_each_from_several_threads():
    set_threads(3)
    results: dict[int, list[int]] = {}

    def caller(number):
        for _ in range(20):
            results[number] = each(lambda x: x + number, range(20))

    callers = [threading.Thread(target=caller, args=(n,)) for n in range(6)]
    for one in callers:
        one.start()
    for one in callers:
        one.join(60)
    assert results == {n: [x + n for x in range(20)] for n in range(6)}


def test_parts_see_the_settings_of_their_caller():
    set_threads(2)
    together = threading.Barrier(2)

    def part(_):
        together.wait(20)
        return np.float64(1) / np.zeros(1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with np.errstate(all="ignore"):
            assert [float(v[0]) for v in each(part, range(2))] == [np.inf, np.inf]


def test_without_threads_the_caller_does_it_all(monkeypatch):
    set_threads(4)

    def refused(*args):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refused)
    assert each(lambda x: x + 1, range(9)) == list(range(1, 10))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork():
    """A child made while threads exist and one works has a pool of its own."""
    set_threads(2)
    each(lambda _: None, range(4))

    def part(index):
        if index:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        try:
            together = threading.Barrier(2)
            each(lambda _: together.wait(10), range(2))
            os._exit(7)
        finally:
            os._exit(1)

    assert each(part, range(2)) == [7, None]
