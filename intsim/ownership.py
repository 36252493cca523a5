"""Whom a folder belongs to: machine code is only read from where nobody else can have put it.

The rules are those of ssh for its keys. Every folder on the way, symbolic links included, belongs to root or to the
user, and others can't write there, unless it is a folder like /tmp where each may remove only what is his (the sticky
bit). The last folder and the file can be written by nobody else at all. Systems without such owners and modes (Windows)
are not judged.
"""

from __future__ import annotations

import os
import stat
from functools import cache
from pathlib import Path

MOST_LINKS = 40


@cache
def ours(folder: Path) -> bool:
    """Whether an existing folder is the user's or root's and only they can change what lies there.

    Looked at once a process. False for a relative path: that is another folder wherever one works.
    """
    return _judged(folder, last=True)


def may_make(folder: Path) -> bool:
    """Whether a folder that doesn't exist yet would be `ours`: judged by what exists of its path."""
    return _judged(folder, last=False)


def only_ours(found: os.stat_result) -> bool:
    """Whether an open file or folder belongs to the user or to root, and nobody else can write to it."""
    return not hasattr(os, "getuid") or (_owned(found) and not _open_to_others(found))


def _judged(path: Path, last: bool) -> bool:
    if not hasattr(os, "getuid"):
        return path.is_absolute()
    try:
        return path.is_absolute() and _safe(path, last, MOST_LINKS)
    except OSError:
        return False


def _safe(path: Path, last: bool, links: int) -> bool:
    """Every part of an absolute path from the root on; with `last` the end as a folder that only the user writes to."""
    walked, rest = Path(path.anchor), list(path.parts[1:])
    while True:
        found = os.lstat(walked)
        if stat.S_ISLNK(found.st_mode):
            if not _owned(found) or links == 0:
                return False
            return _safe(walked.parent / os.readlink(walked) / Path(*rest), last, links - 1)
        if not (stat.S_ISDIR(found.st_mode) and _owned(found)):
            return False
        final = last and not rest
        if _open_to_others(found) and (final or not found.st_mode & stat.S_ISVTX):
            return False
        if not rest:
            return True
        walked = walked.parent if rest[0] == os.pardir else walked / rest[0]
        rest.pop(0)
        if not last and not os.path.lexists(walked):
            return True


def _owned(found: os.stat_result) -> bool:
    return found.st_uid in (0, os.getuid())


def _open_to_others(found: os.stat_result) -> bool:
    if found.st_mode & stat.S_IWOTH:
        return True
    return bool(found.st_mode & stat.S_IWGRP) and not private_group(found.st_gid)


@cache
def private_group(group: int) -> bool:
    """Whether a group is the user's alone, as systems with a umask of 002 make one for each: it bears his name."""
    if group == 0:
        return False
    try:
        import grp
        import pwd

        me, found = pwd.getpwuid(os.getuid()), grp.getgrgid(group)
    except (ImportError, KeyError):
        return False
    return me.pw_gid == group and found.gr_name == me.pw_name and set(found.gr_mem) <= {me.pw_name}
