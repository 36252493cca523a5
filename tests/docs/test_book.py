"""The book builds without a warning, and what its pages and the README name is there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .pages import DOCS, ROOT, pages

PATHS = re.compile(r"`((?:intsim|tests|models|hardware|bench|docs|examples)/[\w./-]*)`")
REPOSITORY = "https://github.com/intsim/intsim/blob/main/"


def test_the_book_builds_without_a_warning(tmp_path):
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "book")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    commands = (tmp_path / "book" / "cli" / "index.html").read_text()
    assert all(f"intsim {verb}" in commands for verb in ("verify", "bounds", "certify", "sweep", "run"))
    python = (tmp_path / "book" / "api" / "index.html").read_text()
    assert all(f'id="intsim.{name}"' in python for name in ("verify", "certify", "testing.check_dot_product", "nn"))


def test_files_that_pages_name_exist():
    gone = [
        f"{page.relative_to(ROOT)}: {path}"
        for page in pages()
        if page.parent.name != "measured"  # made by programs, with a test of each
        for path in PATHS.findall(page.read_text())
        if not (ROOT / path).exists() and not path.startswith("docs/images")
    ]
    assert not gone


def test_the_readme_holds_on_a_package_index():
    """Links and pictures are absolute there, and those into the repository lead to files that exist."""
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert all(link.startswith("https://") for link in links)
    inside = [link.removeprefix(REPOSITORY) for link in links if link.startswith(REPOSITORY)]
    pictures = re.findall(r"https://raw.githubusercontent.com/intsim/intsim/main/([\w./-]+)", text)
    assert not [path for path in [*inside, *pictures] if not (ROOT / path).exists()]
    book = re.findall(r"https://intsim\.github\.io/intsim/([\w/-]*)", text)
    assert all((DOCS / (Path(page or "index").as_posix().rstrip("/") + ".md")).is_file() for page in book)


def test_every_page_has_one_place():
    nav = (ROOT / "mkdocs.yml").read_text().split("\nnav:")[1]
    pages = re.findall(r"- (\S+\.md)$", nav, re.MULTILINE)
    assert sorted(pages) == sorted(str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md"))
