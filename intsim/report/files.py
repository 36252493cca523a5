"""Output folders: everything is written beside and moved in place when complete, so nothing is ever half there."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from intsim.errors import IntsimError, writing


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """A temporary folder whose files replace those in `path` when the block ends well.

    Nothing is left behind when it doesn't. Raises IntsimError, before the block, if `path` can't be written.
    """
    with writing(path):
        if path.exists() and not path.is_dir():
            raise IntsimError(f"{path}: is a file; give a folder")
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=_ground(path)))
    try:
        yield draft
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            for item in draft.iterdir():
                os.replace(item, path / item.name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def file(path: Path) -> Iterator[Path]:
    """A temporary file that becomes `path` when the block ends well. Raises as `folder` does."""
    with writing(path):
        if path.is_dir():
            raise IntsimError(f"{path}: is a folder; give a file")
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=_ground(path))
        os.close(handle)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)  # temporary files are private, results are not
    draft = Path(name)
    try:
        yield draft
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


class _EnoughError(Exception):
    """Ends a block of which nothing is to be kept."""


def check(path: Path) -> None:
    """Raise IntsimError if a file can't be written there; writes nothing."""
    with suppress(_EnoughError), file(path):
        raise _EnoughError


def _ground(path: Path) -> Path:
    """The nearest folder above `path` that exists."""
    return next(p for p in path.absolute().parents if p.exists())


def write_json(path: Path, content: Any) -> None:
    """Readable JSON with a final newline."""
    path.write_text(json.dumps(content, indent=1) + "\n")
