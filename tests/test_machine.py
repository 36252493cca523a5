"""What of the machine this process may use: processors and memory."""

import os
from pathlib import Path

import pytest

from intsim import machine as module
from intsim.machine import cpu_quota, memory_limit, usable_cpus, usable_memory

V2 = "31 23 0:28 {shown} {mount} rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 {shown} {mount} rw,relatime - cgroup cgroup rw,{controllers}"


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
    assert usable_cpus() == 6
    monkeypatch.setattr(module, "quota_here", lambda: 3)
    assert usable_cpus() == 3
    monkeypatch.setattr(module, "quota_here", lambda: 64)
    assert usable_cpus() == 6
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus() == 1


@pytest.mark.parametrize(
    ("controllers", "file", "groups"),
    [("memory", "memory.limit_in_bytes", "3:memory:/a/b"), ("", "memory.max", "0::/a/b")],
)
def test_memory_limit(tmp_path, controllers, file, groups):
    mounts = (V1 if controllers else V2).format(shown="/", mount="/cg", controllers=controllers)
    inside = {f"cg/a/b/{file}": "3000000000", f"cg/a/{file}": "2000000000", f"cg/{file}": "9"}
    assert memory_limit(system(tmp_path / "a", groups, mounts, inside)) == 9
    del inside[f"cg/{file}"]
    assert memory_limit(system(tmp_path / "b", groups, mounts, inside)) == 2000000000
    assert memory_limit(system(tmp_path / "c", groups, mounts, {f"cg/a/b/{file}": "max"})) is None
    assert memory_limit(tmp_path) is None


def test_usable_memory(monkeypatch):
    for limit, own, least in ((None, -1, 1 << 40), (5 << 30, -1, 5 << 30), (5 << 30, 3 << 30, 3 << 30)):
        usable_memory.cache_clear()
        monkeypatch.setattr(os, "sysconf", lambda name: 1 << 20)
        monkeypatch.setattr(module, "memory_limit", lambda limit=limit: limit)
        monkeypatch.setattr(module.resource, "getrlimit", lambda kind, own=own: (own, module.resource.RLIM_INFINITY))
        assert usable_memory() == least
    usable_memory.cache_clear()
