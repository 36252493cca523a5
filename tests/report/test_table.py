"""Tables and lines: widths, folding, what is left out, encodings, control characters."""

import io

import pytest
from rich.console import Console
from rich.text import Text

from intsim.report.table import Column, say, show_table


def shown(columns: list[Column], width: int, encoding: str = "utf-8") -> list[str]:
    raw = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    show_table(Console(file=raw, width=width, highlight=False), columns)
    raw.flush()
    return raw.buffer.getvalue().decode(encoding).splitlines()


NAMES = Column("layer", ["features.0.conv", "head"], "text")
COUNTS = [Column("integers", ["1 234 567", "8"]), Column("wrong\nsums", ["12 345", "0"], spare=1)]
DETAIL = [Column("low", ["-99 999", "-1"], spare=2), Column("high", ["99 999", "1"], spare=2)]


def test_numbers_are_aligned_to_the_right():
    assert shown([NAMES, *COUNTS], 80) == [
        "                             wrong",
        "layer             integers    sums",
        "----------------------------------",
        "features.0.conv  1 234 567  12 345",
        "head                     8       0",
    ]


def test_too_wide_first_folds_then_closes_up_then_leaves_out():
    columns = [NAMES, *COUNTS, *DETAIL]
    assert max(map(len, shown(columns, 80))) == 51
    assert shown(columns, 48)[3:5] == [
        "features.0.   1 234 567  12 345  -99 999  99 999",
        "conv                                            ",
    ]
    assert shown(columns, 44)[3] == "features.0.  1 234 567 12 345 -99 999 99 999"
    left = shown(columns, 43)
    assert left[3] == "features.0.conv  1 234 567  12 345"
    assert left[-2:] == ["no room for: low, high (a wider terminal or", "--json shows them)"]
    left = shown(columns, 25)
    assert left[2] == "features.0.     1 234 567"
    assert "no room for: wrong sums," in left
    # nothing more can go: it is printed whole
    assert shown(columns, 10)[2] == "features.0.conv 1 234 567"


@pytest.mark.parametrize("width", range(13, 40))
def test_a_folded_text_is_whole_and_its_numbers_are(width):
    text = "differs in 12 345 678 of 9 876 543 210 inputs of /enc/layer.0/convolution"
    lines = shown([Column("what", [text], "text")], width)[2:]
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert max(map(len, lines)) <= width
    assert any("12 345 678" in line for line in lines)
    assert any("9 876 543 210" in line for line in lines)


def test_an_empty_table():
    assert shown([Column("layer", [], "text"), Column("bits", [])], 80) == ["layer  bits", "-----------"]


SPELLED = {"utf-8": "Größe→", "cp1252": "Größe\\u2192", "ascii": "Gr\\xf6\\xdfe\\u2192"}


@pytest.mark.parametrize(("encoding", "name"), SPELLED.items())
def test_encodings(encoding, name):
    lines = shown([Column("layer", ["Größe→", "[red]x\x1b[2J"], "text"), Column("n", ["1", "2"])], 80, encoding)
    assert lines[2].split() == [name, "1"]
    assert lines[3].split() == ["[red]x?[2J", "2"]
    assert len({len(line) for line in lines}) == 1


def test_wide_characters_and_styles():
    words = Column("word", [Text("exact", "green"), "-"], "text")
    lines = shown([Column("layer", ["畳み込み層", "b"], "text"), words], 80)
    assert lines[2] == "畳み込み層  exact"
    assert lines[3] == "b           -    "
    folded = shown([Column("layer", ["畳み込み層" * 2], "text"), Column("n", ["1" * 20])], 34)
    assert [line[:6].strip() for line in folded[2:]] == ["畳み込み層畳", "み込み層"]


def test_lines_break_between_words_only():
    out = io.StringIO()
    console = Console(file=out, width=30, highlight=False)
    say(console, "verdict: ", ("diverges", "red"), " in 1 234 567 of 9 876 543 integers of ", "x" * 40)
    assert out.getvalue() == f"verdict: diverges in 1 234 567\nof 9 876 543 integers of\n{'x' * 40}\n"
