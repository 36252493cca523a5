"""Output folders: everything is written beside and moved in place when complete, so nothing is ever half there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from intsim.drafts import draft, public
from intsim.errors import IntsimError, writing


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """A temporary folder whose files replace those in `path` when the block ends well.

    Nothing is left behind when it doesn't. Raises IntsimError, before the block, if `path` can't be written.
    """
    if path.exists() and not path.is_dir():
        raise IntsimError(f"{path}: is a file; give a folder")
    with draft(path, folder=True) as made:
        yield made
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            for item in made.iterdir():
                os.replace(item, path / item.name)


@contextmanager
def file(path: Path) -> Iterator[Path]:
    """A temporary file that becomes `path` when the block ends well. Raises as `folder` does."""
    if path.is_dir():
        raise IntsimError(f"{path}: is a folder; give a file")
    with draft(path) as made:
        yield made
        with writing(path):
            public(made)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(made, path)


class _EnoughError(Exception):
    """Ends a block of which nothing is to be kept."""


def check(path: Path) -> None:
    """Raise IntsimError if a file can't be written there; writes nothing."""
    with suppress(_EnoughError), file(path):
        raise _EnoughError


def write_json(path: Path, content: Any) -> None:
    """Readable JSON with a final newline."""
    path.write_text(json.dumps(content, indent=1) + "\n")
