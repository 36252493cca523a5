"""Results in words: the verdict, the layer that limits the widths, JUnit, Markdown."""

import re
import shlex
import xml.etree.ElementTree as ET

import pytest
from markdown_it import MarkdownIt

from intsim.explore.advice import Advice, RuntimeAdvice
from intsim.report.documents import document
from intsim.report.markdown import markdown
from intsim.report.summary import Need, limit, summarize
from intsim.report.write import write_cases
from report.made import HOSTILE, as_json, diverging, results

pytestmark = pytest.mark.xdist_group("report")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("summary")


def test_the_limiting_layer():
    def told(*needs):
        return limit(
            [Need(name, stage, bits, "wrap", required) for name, stage, bits, required in needs], "for every input"
        )

    assert told() == ""
    assert told(("a", 1, 16, 14)) == (
        "a limits the width: stage 1 has 16 bits (wrap) and needs 14 for every input, 2 to spare"
    )
    assert told(("a", 1, 16, 14), ("b", 1, 16, 23), ("c", 1, 16, 18)) == (
        "b limits the width: stage 1 has 16 bits (wrap) and needs 23 for every input, 7 bits too few; "
        "every other layer fits in 18"
    )
    assert told(("a", 1, 16, 17)).endswith("1 bit too few")
    # of two registers the one that lacks most, and of others those of its stage
    assert told(("a", 1, 16, 17), ("a", 2, 32, 40), ("b", 1, 16, 30), ("b", 2, 32, 33)) == (
        "b limits the width: stage 1 has 16 bits (wrap) and needs 30 for every input, 14 bits too few; "
        "every other layer fits in 17"
    )
    assert told(("a", 1, 16, 17), ("b", 1, 16, 17), ("c", 1, 16, 12)) == (
        "a and 1 layer more limit the width: stage 1 has 16 bits (wrap) and needs 17 for every input, 1 bit too few; "
        "every other layer fits in 12"
    )
    assert told(("a", 1, None, 14), ("b", 1, None, 11)) == (
        "a limits the width: a register for its sums needs 14 bits for every input; every other layer fits in 11"
    )


def test_bounds_and_telemetry_name_it(folder):
    """Against the numbers of the results themselves."""
    proven, seen = results(folder)["bounds"], results(folder)["telemetry"]
    widest = max(proven.layers, key=lambda x: x.required_bits)
    text = summarize(proven).limit
    assert text.startswith(f"{widest.name} limits the width: stage 1 has 12 bits (wrap) and needs ")
    needed = {x.name: x.stages[0].required_bits for x in proven.layers}
    assert f"needs {needed.pop(widest.name)} for every input" in text
    assert f"; every other layer fits in {max(needed.values())} (of what registers that overflow hand on; " in text
    assert "on these inputs" in summarize(seen).limit
    assert summarize(results(folder)["certify"]).limit.split(" for every")[0] == text.split(" for every")[0]


def test_verdicts(folder):
    words = {name: (s.verdict, s.holds) for name, r in results(folder).items() for s in [summarize(r)]}
    assert words == {
        "verify": ("diverges", False),
        "certify": (results(folder)["certify"].verdict, False),
        "bounds": ("overflow is possible", False),
        "chain": ("proven", True),
        "propose": ("proven", None),
        "telemetry": ("overflows", False),
        "unbounded": ("observed", True),
        "evaluate": ("overflows", None),
        "sweep": ("compared", None),
        "search": ("compared", None),
        "observed": ("observed", None),
        "inspect": ("described", None),
        "compare": ("different", False),
        "advise": ("not predicted", True),
        "witness": ("not as predicted", False),
        "cosim": ("not as expected", False),
    }


def test_advice_is_the_worst_of_all_runtimes():
    """Where a runtime isn't predicted nothing is exact; where one is only seen nothing is certified."""
    told = {
        ("certified", "not predicted"): "not predicted",
        ("exact here", "certified"): "exact here",
        ("certified", "near exact", "exact here"): "near exact",
        ("differs", "not predicted"): "differs",
        ("certified", "certified"): "certified",
        (): "no runtime",
    }
    for standings, word in told.items():
        runtimes = [RuntimeAdvice(f"t{i}", "r", s) for i, s in enumerate(standings)]
        found = summarize(Advice("m.onnx", 1, 0, runtimes))
        assert (found.verdict, found.holds) == (word, word != "differs")
        assert all(f"{standings.count(s)} {s}" in found.text for s in standings)


def test_junit(tmp_path):
    write_cases(tmp_path / "v.xml", [summarize(diverging())])
    suite = ET.parse(tmp_path / "v.xml").getroot()
    assert suite.tag == "testsuite"
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")
    cases = suite.findall("testcase")
    assert [c.get("name") for c in cases] == ["Conv_0", "Conv_1 <&?>", "Gemm"]
    assert [len(c.findall("failure")) for c in cases] == [0, 1, 1]
    message = cases[1].find("failure").get("message")
    assert "3 of 20" in message
    assert "9 LSB" in message
    assert "2 overflows of the 16-bit register of stage 1" in message


def test_every_result_has_cases(folder, tmp_path):
    told = [summarize(r) for r in results(folder).values()]
    for one in told:
        write_cases(tmp_path / "one.xml", [one])
        suite = ET.parse(tmp_path / "one.xml").getroot()
        assert int(suite.get("tests")) == len(suite) > 0
        assert (int(suite.get("failures")) > 0) == (one.holds is False), one.verb
    write_cases(tmp_path / "all.xml", told)
    suite = ET.parse(tmp_path / "all.xml").getroot()
    assert int(suite.get("failures")) == sum(max(len(s.failures), not s.cases and s.holds is False) for s in told)


def test_markdown(folder):
    """As GitHub reads it: a row a result, no markup of a layer's name, the command in a block of its own."""
    step = {"text": "widen <b>it</b>", "command": "intsim bounds '`x`' ```\n## no", "layer": None}
    found = [document({**as_json(results(folder)[n]), "next_step": step}, n) for n in ("bounds", "verify", "chain")]
    text = markdown(found)
    assert text.startswith("## intsim: 2 of 3 results do not hold\n")
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    rows = [t for t in tokens if t.type == "tr_open"]
    assert len(rows) == 4
    inline = [c for t in tokens for c in t.children or []]
    assert {c.type for c in inline} <= {"text", "text_special", "strong_open", "strong_close", "softbreak"}
    shown = "".join(c.content for c in inline)
    for name in HOSTILE.values():
        assert name.replace("\x1b", "?") in shown
    assert [t.content for t in tokens if t.type == "fence"] == ["intsim bounds '`x`' ```?## no\n"]  # said once
    assert "@" not in text
    assert "overflow is possible" in shown


def test_markdown_where_all_holds(folder):
    text = markdown(
        [document(as_json(results(folder)["chain"]), "c"), document(as_json(results(folder)["search"]), "s")]
    )
    assert text.startswith("## intsim: everything holds\n")
    assert "Next" not in text
    assert shlex.split(re.search(r"### bounds: (.*)", text)[1])[-1] == "arm-neon-int8"
