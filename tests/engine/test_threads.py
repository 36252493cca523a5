"""Processors, quotas, shares and threads."""

import os
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.engine import threads as module
from intsim.engine.threads import cpu_quota, each, set_threads, shares, threads, usable_cpus, using
from intsim.errors import IntsimError

V2 = "31 23 0:28 {shown} {mount} rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 {shown} {mount} rw,relatime - cgroup cgroup rw,{controllers}"


@pytest.fixture(autouse=True)
def default(monkeypatch):
    monkeypatch.delenv("INTSIM_THREADS", raising=False)
    yield
    set_threads(None)


def system(root: Path, groups: str, mounts: str, files: dict[str, str]) -> Path:
    """A root folder with /proc/self's two files and control groups."""
    for name, text in {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def v2(root: Path, path: str, shown: str = "/", **quotas: str) -> int | None:
    """Quota of a process in group `path`; `quotas` by folder, __ for /."""
    files = {f"sys/fs/cgroup/{k.replace('__', '/').strip('/')}/cpu.max": v for k, v in quotas.items()}
    mounts = "22 1 8:1 / / rw - ext4 /dev/a rw\n" + V2.format(shown=shown, mount="/sys/fs/cgroup")
    return cpu_quota(system(root, f"0::{path}", mounts, files))


def v1(root: Path, path: str, shown: str = "/", controllers: str = "cpu", **quotas: str) -> int | None:
    """The same in version 1, quotas as "QUOTA PERIOD"."""
    files = {}
    for key, text in quotas.items():
        folder = f"sys/fs/cgroup/cpu/{key.replace('__', '/').strip('/')}"
        for name, number in zip(("quota", "period"), text.split(), strict=False):
            files[f"{folder}/cpu.cfs_{name}_us"] = number
    mounts = V1.format(shown=shown, mount="/sys/fs/cgroup/cpu", controllers=controllers)
    return cpu_quota(system(root, f"5:memory:/m\n4:{controllers}:{path}\n1:name=systemd:/x", mounts, files))


def test_no_quota(tmp_path):
    assert cpu_quota(tmp_path) is None
    assert v2(tmp_path / "a", "/") is None
    assert v2(tmp_path / "b", "/", __="max 100000") is None
    assert v1(tmp_path / "c", "/", __="-1 100000") is None
    assert v1(tmp_path / "d", "/", __="200000") is None
    assert v2(tmp_path / "e", "/", __="what is this") is None
    assert v2(tmp_path / "f", "/", __="100000 0") is None


@pytest.mark.parametrize("version", [v1, v2])
def test_quota(tmp_path, version):
    assert version(tmp_path / "a", "/", __="400000 100000") == 4
    assert version(tmp_path / "b", "/", __="399999 100000") == 3
    assert version(tmp_path / "c", "/", __="50000 100000") == 1
    assert version(tmp_path / "d", "/", __="1000 100000") == 1
    # of the group and everything above it, the tightest
    assert version(tmp_path / "e", "/x/y", x__y="800000 100000", x="300000 100000", z="100000 100000") == 3
    assert version(tmp_path / "f", "/x/y", x__y="200000 100000", x="300000 100000") == 2
    assert version(tmp_path / "g", "/x/y", __="100000 50000", x__y="800000 100000") == 2


@pytest.mark.parametrize("version", [v1, v2])
def test_quota_in_a_container(tmp_path, version):
    # the mount shows the container's group as its root, the process lies in a group inside
    assert version(tmp_path / "a", "/docker/abc/in", "/docker/abc", __in="200000 100000") == 2
    assert version(tmp_path / "b", "/docker/abc/in", "/docker/abc", __="300000 100000") == 3
    # a group of the machine's that the mount does not show: what can be seen is the root of the mount
    assert version(tmp_path / "c", "/kube/pod", "/docker/abc", __="500000 100000") == 5
    assert version(tmp_path / "d", "/../other", "/", __="500000 100000") == 5


def test_quota_of_joined_controllers_and_hybrid_hosts(tmp_path):
    assert v1(tmp_path / "a", "/x", controllers="cpu,cpuacct", x="200000 100000") == 2
    assert v1(tmp_path / "b", "/x", controllers="cpuacct", x="200000 100000") is None
    mounts = V1.format(shown="/", mount="/cg/cpu", controllers="cpu") + "\n" + V2.format(shown="/", mount="/cg/a\\040b")
    files = {"cg/cpu/x/cpu.cfs_quota_us": "600000", "cg/cpu/x/cpu.cfs_period_us": "100000"}
    assert cpu_quota(system(tmp_path / "c", "1:cpu:/x\n0::/y", mounts, files)) == 6
    assert cpu_quota(system(tmp_path / "c", "1:cpu:/x\n0::/y", mounts, {"cg/a b/y/cpu.max": "200000 100000"})) == 2


def test_usable_cpus(monkeypatch):
    monkeypatch.setattr(module, "quota_here", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    assert usable_cpus() == threads() == 6
    monkeypatch.setattr(module, "quota_here", lambda: 3)
    assert usable_cpus() == 3
    monkeypatch.setattr(module, "quota_here", lambda: 64)
    assert usable_cpus() == 6
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus() == 1


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
