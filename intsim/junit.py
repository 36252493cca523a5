"""Test cases as JUnit XML, which continuous integration shows."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path


def write_junit(path: Path, suite: str, classname: str, cases: Sequence[tuple[str, str]]) -> None:
    """Write one suite; of each case its name and why it failed, "" where it didn't."""
    failed = sum(bool(why) for _, why in cases)
    root = ET.Element("testsuite", name=_legal(suite), tests=str(len(cases)), failures=str(failed))
    for name, why in cases:
        case = ET.SubElement(root, "testcase", classname=_legal(classname), name=_legal(name))
        if why:
            ET.SubElement(case, "failure", message=_legal(why))
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _legal(text: str) -> str:
    """Without control characters, of which XML can't hold most."""
    return "".join(c if c.isprintable() else "?" for c in text)
