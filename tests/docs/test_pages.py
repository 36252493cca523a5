"""The code of the book and of the README runs, and prints what is shown."""

import pytest

from .pages import DOCS, LANGUAGES, ROOT, Block, Shown, blocks, earlier, last_file, matches, pages, run_page
from .refresh import renewed

WITH_CODE = [p for p in pages() if any(b.language in LANGUAGES for b in blocks(p.read_text()))]
MOST_LEFT_OUT = 8
LONG = (
    "tutorial",
    "bounds",
    "certify",
    "own-kernel",
    "before-synthesis",
    "widths",
    "requantizers",
    "sweep",
    "telemetry",
    "runtimes",
)
"""Pages that take more than 15 seconds, beside the README: left to the long suite."""


@pytest.mark.xdist_group("book")  # pages go on from each other: made once, in one process
@pytest.mark.parametrize(
    "page",
    [pytest.param(p, id=str(p.relative_to(ROOT)), marks=[pytest.mark.slow] * (p.stem in LONG)) for p in WITH_CODE],
)
def test_the_code_of_a_page_runs(page):
    sources = page.read_text() + (earlier(page).read_text() if earlier(page) else "")
    for package in ("brevitas", "hypothesis", "matplotlib"):
        if f"import {package}" in sources:
            pytest.importorskip(package)
    if "$ intsim cosim" in sources:
        pytest.importorskip("pyosys")
    if "--processes" in sources:
        pytest.importorskip("distributed")
    wrong = [f"{one.what}\n{one.complaint}" for one in run_page(page) if one.complaint]
    assert not wrong, "\n\n".join(wrong)


def test_few_blocks_are_left_out_and_each_says_why():
    left_out = [b.left_out for p in pages() for b in blocks(p.read_text()) if b.left_out]
    assert len(left_out) <= MOST_LEFT_OUT
    assert all(len(why) > 10 for why in left_out)
    languages = {b.language for p in pages() for b in blocks(p.read_text())}
    assert languages <= {*LANGUAGES, "text", "", "json"}


@pytest.mark.parametrize(
    ("shown", "real", "same"),
    [
        (["a", "b"], ["a", "b"], True),
        (["a", "...", "b"], ["a", "x", "y", "b"], True),
        (["a ... b"], ["a 12 s b"], True),
        (["a"], ["a", "b"], False),
        (["a", "..."], ["b", "a"], False),
        (["1.5"], ["125"], False),
    ],
)
def test_what_is_shown_is_compared(shown, real, same):
    assert matches(shown, real) == same
    assert (Shown("", shown, real, 0, 0).complaint is None) == same


def test_an_exit_code_is_a_complaint():
    assert Shown("", [], ["text"], 0, 0, 1).complaint == "ended with 1:\ntext"
    assert Shown("", ["text"], ["text"], 0, 0, 1).complaint is None
    assert Shown("", ["text"], ["text"], 0, 0, 2).complaint == "ended with 2"
    assert Shown("", ["intsim: no"], ["intsim: no"], 0, 0, 2).complaint is None


def test_what_was_left_out_stays_so():
    assert renewed(["a", "...", "c"], ["A", "x", "y", "C"]) == ["A", "...", "C"]
    assert renewed(["ran ... ms", "a"], ["ran 7 ms", "b"]) == ["ran ... ms", "b"]
    assert renewed(["old"], ["took 1.25 s"]) == ["took ... s"]


def test_blocks():
    text = "a\n\n```console\n$ x\ny\n```\n\n```toml\n# my-dsp.toml\na = 1\n```\n"
    text += "\n```sh\n# not run here: it installs\n```\n"
    console, toml, sh = blocks(text)
    assert (console.language, console.start, console.end) == ("console", 3, 5)
    assert (toml.file, sh.left_out) == ("my-dsp.toml", "it installs")
    assert Block("python", "# a comment\n", 0, 1).file is None


def test_a_page_may_need_a_part_of_another(tmp_path):
    """Blocks behind the one that makes the file aren't run; a page that doesn't make it is a mistake."""
    first, second = tmp_path / "first.md", tmp_path / "second.md"
    blocks_ = ("echo 1 > a.txt", "echo 2 > b.txt", "echo 3 > c.txt")
    first.write_text("\n\n".join(f"```sh\n{text}\n```" for text in blocks_))
    second.write_text("<!-- goes on from: first.md as far as b.txt -->\n```console\n$ ls\na.txt\nb.txt\n```\n")
    assert (earlier(second), last_file(second)) == (first, "b.txt")
    (shown,) = run_page(second)
    assert shown.real == ["a.txt", "b.txt"]
    assert shown.complaint is None
    second.write_text(second.read_text().replace("b.txt -->", "d.txt -->"))
    with pytest.raises(AssertionError, match=r"makes no d\.txt"):
        run_page(second)
    second.write_text("<!-- goes on from: first.md -->")
    assert (earlier(second), last_file(second)) == (first, None)


def test_pages_are_of_the_book():
    assert {DOCS / "index.md", DOCS / "tutorial.md", ROOT / "README.md"} <= set(pages())
