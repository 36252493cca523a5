"""How many processors the control groups (cgroups) of Linux let a process use.

Version 2 has `cpu.max`, "QUOTA PERIOD" in microseconds or "max PERIOD"; version 1 has `cpu.cfs_quota_us`, negative for
no limit, and `cpu.cfs_period_us`. A group is bound by its parents' quotas too. See cgroup-v1 and
cgroup-v2 in the admin guide of Linux, and proc(5) for /proc/self/cgroup and /proc/self/mountinfo.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def cpu_quota(root: Path = Path("/")) -> int | None:
    """Whole processors of the tightest quota, at least 1; None without one. `root` stands for / in tests."""
    found = [quota for folder, version in _folders(root) if (quota := _quota(folder, version)) is not None]
    return max(1, int(min(found))) if found else None


def _folders(root: Path) -> Iterator[tuple[Path, int]]:
    """Folders of this process's groups that may hold a processor quota, from the groups up, with the version."""
    groups: dict[int, PurePosixPath] = {}
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            groups[2] = PurePosixPath(path)
        elif "cpu" in controllers.split(","):
            groups[1] = PurePosixPath(path)
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        version = 2 if kind[0] == "cgroup2" else 1
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2") or version not in groups:
            continue
        if version == 1 and "cpu" not in kind[2].split(","):
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


def _quota(folder: Path, version: int) -> float | None:
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
