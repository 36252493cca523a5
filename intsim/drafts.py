"""What is written beside its place and moved there when complete, so that nothing is ever half there.

A draft is hidden, and locked by the process that writes it. One whose process was killed is no longer locked: the next
that writes to the same place removes it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from intsim.errors import IntsimError, writing

try:
    import fcntl
except ImportError:  # not on every system: nothing is locked there, and nothing removed
    fcntl = None  # type: ignore[assignment]

MARK = ".intsim-"
EXCHANGE = 2
"""RENAME_EXCHANGE of renameat2(2)."""
SYSTEM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.ENOENT, errno.EACCES, errno.EPERM)
"""What a file system says of a place where nothing more can be written."""


@contextmanager
def draft(path: Path, folder: bool = False) -> Iterator[Path]:
    """An empty hidden file or folder, beside `path` or in the nearest folder above it; gone after the block.

    Its name ends as that of `path` does. A file system that can't take more within the block is one line that names
    `path`. Raises IntsimError, before the block, if nothing can be written there.
    """
    with writing(path):
        ground = next(p for p in path.absolute().parents if p.exists())
        _clear(ground, path)
        prefix = f".{path.stem}{MARK}"
        if folder:
            made = Path(tempfile.mkdtemp(prefix=prefix, suffix=path.suffix, dir=ground))
            lock = os.open(made, os.O_RDONLY)
        else:
            lock, name = tempfile.mkstemp(prefix=prefix, suffix=path.suffix, dir=ground)
            made = Path(name)
        _locked(lock)
    try:
        yield made
    except OSError as error:
        if error.errno not in SYSTEM:
            raise
        raise IntsimError(f"{path}: can't be written: {error.strerror}") from error
    finally:
        os.close(lock)
        if folder:
            shutil.rmtree(made, ignore_errors=True)
        else:
            made.unlink(missing_ok=True)


def public(path: Path) -> None:
    """Give a draft the rights of what a program makes: temporary files are private, results are not."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, (0o777 if path.is_dir() else 0o666) & ~mask)


def swap(one: Path, other: Path) -> bool:
    """Exchange two folders of one file system in one step; False where the system can't."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here = ctypes.c_int(-100)  # AT_FDCWD
    done: int = rename(here, os.fsencode(one), here, os.fsencode(other), ctypes.c_uint(EXCHANGE))
    return done == 0


def _locked(handle: int) -> bool:
    """Lock an open file or folder for this process; False where another one holds it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _clear(ground: Path, path: Path) -> None:
    """Remove drafts of the same place whose process is gone."""
    form = re.compile(re.escape(f".{path.stem}{MARK}") + "[a-z0-9_]{8}" + re.escape(path.suffix))
    for found in ground.iterdir():
        if form.fullmatch(found.name) and not found.is_symlink():
            with suppress(OSError):
                handle = os.open(found, os.O_RDONLY)
                try:
                    if _locked(handle):
                        shutil.rmtree(found, ignore_errors=True) if found.is_dir() else found.unlink(missing_ok=True)
                finally:
                    os.close(handle)
