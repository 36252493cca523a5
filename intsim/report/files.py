"""Output folders: everything is written beside and moved in place when complete, so nothing is ever half there."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from intsim.errors import IntsimError, writing
from intsim.report.text import printable
from intsim.verification.verdict import Verdict


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


def _ground(path: Path) -> Path:
    """The nearest folder above `path` that exists."""
    return next(p for p in path.absolute().parents if p.exists())


def write_json(path: Path, content: Any) -> None:
    """Readable JSON with a final newline."""
    path.write_text(json.dumps(content, indent=1) + "\n")


def write_junit(path: Path, verdict: Verdict) -> None:
    """One test case a layer, for continuous integration."""
    failed = [x for x in verdict.layers if x.mismatches or x.sum_mismatches or x.overflows]
    suite = ET.Element(
        "testsuite", name=f"intsim verify {verdict.target}", tests=str(len(verdict.layers)), failures=str(len(failed))
    )
    for layer in verdict.layers:
        case = ET.SubElement(suite, "testcase", classname=verdict.target, name=printable(layer.name))
        if layer in failed:
            counts = ", ".join(f"stage {s.stage}: {s.overflows} overflows" for s in layer.stages if s.overflows)
            text = f"{layer.mismatches} of {layer.elements} integers wrong, at most {layer.max_lsb} LSB; {counts}"
            ET.SubElement(case, "failure", message=text.rstrip("; "))
    ET.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
