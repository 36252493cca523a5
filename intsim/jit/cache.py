"""Machine code on disk: one file for each kernel, types and processor, named by its content's origin.

Numba's own files share an index for each function, numbered; two processes that compile different types at once can
swap numbers, and then one type's code runs on another's arrays. Here a file's name is a digest of all that its content
depends on, and it appears whole or not at all. Only files and folders that nobody but the user or root can have written
are read (`intsim.ownership`). No failure of reading or writing is an error: the kernel is compiled.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import stat
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import caching
from numba.core.serialize import dumps

from intsim.ownership import may_make, only_ours, ours

PACKAGE = Path(__file__).resolve().parents[1]
IMPORTS = re.compile(rb"^from intsim((?:\.\w+)*) import (\([^)]*\)|.*)$", re.MULTILINE)


class ReadOnly(caching.InTreeCacheLocator):
    """Beside the source, where nothing can be written: what was compiled before is still of use."""

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> Any:
        """Never fails for functions of a file."""
        return cls(function, file) if os.path.exists(file) else None


def _guarded(locator: Any) -> Any:
    """One of Numba's ways to find a folder, without folders that others can write to or that depend on where one is."""

    class Guarded(locator):
        def ensure_cache_path(self) -> None:
            folder = Path(self.get_cache_path())
            if not folder.exists():
                if not may_make(folder):
                    raise OSError(f"{folder} can be replaced by others")
                folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            if not ours(folder):
                raise OSError(f"others can write to {folder}")
            super().ensure_cache_path()

    return Guarded


class Locations(caching.CompileResultCacheImpl):
    """Folders that Numba tries, in its order."""

    _locator_classes = [*map(_guarded, caching.CompileResultCacheImpl._locator_classes), ReadOnly]  # noqa: RUF012


class KernelCache(caching.FunctionCache):
    """A dispatcher's cache. Raises RuntimeError when Numba knows no folder for the function."""

    _impl_class = Locations

    def __init__(self, function: Callable[..., Any]) -> None:
        """Nothing is read yet."""
        super().__init__(function)
        file = Path(function.__code__.co_filename)
        folder = Path(self._cache_path)
        others = [file.parent / "__pycache__"]
        if numba.config.CACHE_DIR:
            given = Path(caching.UserProvidedCacheLocator(function, str(file)).get_cache_path())
            others = [] if given == folder else [given, *others]
        self._cache_file = KernelFiles(folder, others, file, self._impl.filename_base)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Compile result of one signature, or None."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # damaged files make pickle and LLVM raise many kinds
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compile result; where that fails the next process compiles again."""
        with suppress(Exception):  # a full disk, what can't be pickled, a Numba made differently
            super().save_overload(sig, data)


class KernelFiles:
    """Files of one function: `intsim-SOURCES.FUNCTION.DIGEST.nbc`."""

    def __init__(self, folder: Path, others: Sequence[Path], source: Path, base: str) -> None:
        """`folder` is read and written, `others` are only read: they may be full of what was compiled elsewhere."""
        self.folder, self.others, self.base = folder, others, base
        self.stamp = stamp(source)

    def name(self, key: Any) -> str:
        """File name for Numba's key: signature, processor, and bytecode of the function."""
        versions = numba.__version__, llvmlite.__version__
        digest = hashlib.sha256(repr((key, versions)).encode()).hexdigest()
        return f"intsim-{self.stamp}.{self.base}.{digest[:32]}.nbc"

    def load(self, key: Any) -> Any:
        """What was saved under `key`, or None."""
        for folder in (self.folder, *self.others):
            if not ours(folder):
                continue
            with (
                suppress(FileNotFoundError, NotADirectoryError, PermissionError),
                open(folder / self.name(key), "rb") as file,
            ):
                if not only_ours(os.fstat(file.fileno())):
                    continue
                saved, data = pickle.loads(file.read())
                if saved == key:
                    return data
        return None

    def save(self, key: Any, data: Any) -> None:
        """Write the file, whole; then remove those of earlier sources."""
        if not ours(self.folder):
            return
        path = self.folder / self.name(key)
        temporary = path.with_name(f"{uuid.uuid4().hex}.tmp")
        content = dumps((key, data))
        try:
            temporary.write_bytes(content)
            temporary.chmod(temporary.stat().st_mode & ~(stat.S_IWGRP | stat.S_IWOTH))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        for other in self.folder.glob(f"intsim-*.{self.base}.*.nbc"):
            if not other.name.startswith(f"intsim-{self.stamp}."):
                other.unlink(missing_ok=True)

    def flush(self) -> None:
        """Forget everything of this function."""
        for path in self.folder.glob(f"intsim-{self.stamp}.{self.base}.*.nbc"):
            path.unlink(missing_ok=True)


@cache
def stamp(source: Path) -> str:
    """Digest of a source file and of all files of intsim that it imports at its beginning, theirs included."""
    contents: dict[Path, bytes] = {}
    _reached(source, contents)
    whole = hashlib.sha256()
    for path in sorted(contents):
        whole.update(hashlib.sha256(contents[path]).digest())
    return whole.hexdigest()[:16]


def _reached(path: Path, contents: dict[Path, bytes]) -> None:
    if path in contents:
        return
    try:
        contents[path] = path.read_bytes()
    except OSError:
        return
    for module, names in IMPORTS.findall(contents[path]):
        base = PACKAGE.joinpath(*module.decode().split(".")[1:])
        inner = [base / name for name in re.findall(r"\w+", names.decode(errors="replace"))]
        for imported in (base, *inner):
            _reached(imported.with_suffix(".py"), contents)
            _reached(imported / "__init__.py", contents)


def writable_folder(source: Path) -> Path | None:
    """Where code of kernels of a source file is kept; None if nowhere."""
    for locator in Locations._locator_classes[:-1]:
        with suppress(Exception):
            located = locator.from_function(writable_folder, str(source))
            if located is not None:
                return Path(located.get_cache_path())
    return None
