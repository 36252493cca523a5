"""A folder of vectors: written beside its place and moved there when complete; no other folder is ever replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from intsim.budget import contents
from intsim.drafts import draft, public, swap
from intsim.errors import IntsimError, writing

MANIFEST = "manifest.json"
FORMAT = "intsim-vectors-1"


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `path` when the block ends well, and is gone when it doesn't.

    Raises:
        IntsimError: before the block, if `path` is anything but new, empty or vectors of before, or can't be written.
    """
    with writing(path):
        refuse_foreign(path)
    with draft(path, folder=True) as made:
        yield made
        with writing(path):
            public(made)
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                os.replace(made, path)
            elif not swap(made, path):  # in two steps where the system has no single one
                with draft(path, folder=True) as old:
                    os.replace(path, old / "before")
                    try:
                        os.replace(made, path)
                    except BaseException:
                        os.replace(old / "before", path)
                        raise


def refuse_foreign(path: Path) -> None:
    """Raise IntsimError for what is there and isn't vectors."""
    if path.exists() and not path.is_dir():
        raise IntsimError(f"{path}: is a file; give a folder")
    if path.is_dir() and any(path.iterdir()):
        try:
            read_manifest(path)
        except IntsimError:
            raise IntsimError(f"{path}: holds files that intsim vectors did not write; give a new folder") from None


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a folder of vectors. Raises IntsimError where there is none, or another document."""
    try:
        content = json.loads(contents(path / MANIFEST))
    except IntsimError as error:
        raise IntsimError(f"{error}; give a folder that intsim vectors wrote") from None
    except (ValueError, RecursionError):
        raise IntsimError(f"{path / MANIFEST}: not JSON; give a folder that intsim vectors wrote") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise IntsimError(f"{path / MANIFEST}: is not {FORMAT}; give a folder that intsim vectors wrote")
    return content
