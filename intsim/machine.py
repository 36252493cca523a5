"""The machine that intsim runs on, or its part of it: how many processors and how much memory it may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

try:
    import resource
except ImportError:  # not on every system
    resource = None  # type: ignore[assignment]

DEFAULT_MEMORY = 8 << 30
"""Bytes, where the system doesn't say how many it has."""


def usable_cpus() -> int:
    """Processors that this process may use: its affinity, and the quota of its control groups; at least 1."""
    try:
        count = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on every system
        count = os.cpu_count() or 1
    return max(1, min(count, quota_here() or count))


def cpu_quota(root: Path = Path("/")) -> int | None:
    """Whole processors that Linux's control groups allow, at least 1; None without a quota. `root` is / but in tests.

    Version 2 has `cpu.max`, "QUOTA PERIOD" in microseconds or "max PERIOD"; version 1 has `cpu.cfs_quota_us`, negative
    for no limit, and `cpu.cfs_period_us`. A group is bound by its parents' quotas too. See cgroup-v1 and cgroup-v2 in
    the admin guide of Linux, and proc(5) for /proc/self/cgroup and /proc/self/mountinfo.
    """
    quotas = [
        quota for folder, version in _folders(root, "cpu") if (quota := _group_quota(folder, version)) is not None
    ]
    return max(1, int(min(quotas))) if quotas else None


quota_here = cache(cpu_quota)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes of memory that Linux's control groups allow this process; None without a limit. `root` is / but in tests.

    Version 2 has `memory.max`, a number of bytes or "max"; version 1 has `memory.limit_in_bytes`, a huge number for no
    limit. A group is bound by its parents' limits too.
    """
    names = {1: "memory.limit_in_bytes", 2: "memory.max"}
    words = [w for folder, version in _folders(root, "memory") for w in _lines(folder / names[version])[:1]]
    return min((int(w) for w in words if w.isdecimal()), default=None)


@cache
def usable_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or what its control groups and its own limits allow."""
    limits = [memory_limit()]
    try:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):  # not on every system
        limits.append(DEFAULT_MEMORY)
    if resource is not None:
        limits += [n for n in resource.getrlimit(resource.RLIMIT_AS) if n != resource.RLIM_INFINITY]
    return min(n for n in limits if n is not None)


def _folders(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Folders of this process's groups that may hold a controller's limits, from the groups up, with the version."""
    groups: dict[int, PurePosixPath] = {}
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            groups[2] = PurePosixPath(path)
        elif controller in controllers.split(","):
            groups[1] = PurePosixPath(path)
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        version = 2 if kind[0] == "cgroup2" else 1
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2") or version not in groups:
            continue
        if version == 1 and controller not in kind[2].split(","):
            continue
        # the mount may show only a part of the tree: in a container often just the container's own group
        shown, mount = PurePosixPath(_plain(fields[3])), root / _plain(fields[4]).lstrip("/")
        group = groups[version]
        inner = group.relative_to(shown) if group.is_relative_to(shown) and ".." not in group.parts else PurePosixPath()
        yield from ((mount / part, version) for part in (inner, *inner.parents))


def _plain(text: str) -> str:
    """A path of mountinfo without its octal escapes."""
    for code in ("040", "011", "012", "134"):
        text = text.replace(f"\\{code}", chr(int(code, 8)))
    return text


def _group_quota(folder: Path, version: int) -> float | None:
    """Processors that one group may use; None if it has no limit."""
    if version == 2:
        words = " ".join(_lines(folder / "cpu.max")).split()
    else:
        words = [w for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us") for w in _lines(folder / name)]
    if len(words) != 2 or not all(word.isdecimal() for word in words):
        return None
    quota, period = map(int, words)
    return quota / period if period else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
