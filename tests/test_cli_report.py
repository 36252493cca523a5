"""`intsim report`, and `--html`, `--junit`, `--markdown` of verbs: what they write; nothing is ever half there."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import onnx
import pytest
from golden.networks import mixed

pytest.importorskip("plotly", reason="a page needs the extra `explore`")
pytest.importorskip("jinja2", reason="a page needs the extra `explore`")
pytestmark = pytest.mark.xdist_group("cli report")

VERBS = {
    "inspect": (["inspect", "m.onnx"], 0),
    "run": (["run", "m.onnx", "-t", "wrap-12", "--profile"], 1),
    "verify": (["verify", "m.onnx", "-t", "wrap-12", "--no-references"], 1),
    "bounds": (["bounds", "m.onnx", "-t", "wrap-12"], 1),
    "propose": (["bounds", "m.onnx", "-t", "wrap-12", "--propose", "own.toml"], 0),
    "certify": (["certify", "m.onnx", "-t", "wrap-12"], 1),
    "check": (["certify", "--check", "c.json"], 0),
    "telemetry": (["telemetry", "m.onnx", "-t", "wrap-12"], 1),
    "evaluate": (["evaluate", "m.onnx", "-t", "wrap-12"], 0),
    "sweep": (["sweep", "m.onnx", "-a", "12,24", "-o", "swept"], 0),
    "sweep --propose": (["sweep", "m.onnx", "-t", "wrap-32", "--propose", "-o", "observed"], 0),
    "search": (["search", "m.onnx", "-w", "6:8", "--trials", "2", "-o", "searched"], 0),
    "advise": (["advise", "m.onnx", "-t", "onednn-vnni"], None),
    "compare": (["compare", "golden", "dump.npz"], 1),
    "identify": (["identify", "golden", "dump.npy", "--layer", "first"], None),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli")
    onnx.save(mixed(scale=2.0), path / "m.onnx")
    return path


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.fixture
def made(intsim_):
    """What some verbs go on from."""
    if not Path("golden").exists():
        assert intsim_("vectors", "m.onnx", "-t", "wrap-12", "-o", "golden", "--partial", "--format", "npy")[0] == 0
        assert intsim_("certify", "m.onnx", "-t", "wrap-12", "-o", "c.json")[0] == 1
        layers = json.loads(Path("golden/manifest.json").read_text())["layers"]
        codes = {x["name"]: np.load(Path("golden") / x["tensors"][-1]["files"]["npy"]) for x in layers}
        np.savez("dump.npz", **{name: a ^ 1 for name, a in codes.items()})
        np.save("dump.npy", codes["first"])


LONG = ("check", "sweep", "sweep --propose", "search", "evaluate", "advise", "identify")


@pytest.mark.parametrize("name", [pytest.param(v, marks=[pytest.mark.slow] * (v in LONG)) for v in VERBS])
def test_a_verb_writes_its_result(intsim_, made, name):
    call, code = VERBS[name]
    plain = intsim_(*call, "--json")
    status, out, err = intsim_(*call, "--json", "--html", "a.html", "--junit", "a.xml", "--markdown", "a.md")
    assert (status, err) == (plain[0], "")
    assert code in (None, status)
    content = json.loads(out)
    assert content.keys() == json.loads(plain[1]).keys()
    page, summary = Path("a.html").read_text(), Path("a.md").read_text()
    assert page.startswith("<!doctype html>")
    assert page.endswith("</html>\n")
    assert summary.startswith("## intsim: ")
    suite = ET.parse("a.xml").getroot()
    assert int(suite.get("tests")) > 0
    if status in (0, 1):
        assert (int(suite.get("failures")) > 0) == (status == 1)
    # the same JSON makes the same page, but for its file's name
    Path(f"{name}.json").write_text(out)
    assert intsim_("report", f"{name}.json", "-o", "b.html", "--markdown", "b.md")[0] == 0
    verb = call[0]
    assert Path("b.html").read_text().replace(f"{name}.json", f"intsim {verb}") == page
    assert Path("b.md").read_text() == summary


def test_tables_are_printed_beside(intsim_):
    plain, beside = (intsim_("bounds", "m.onnx", "-t", "wrap-12", *more) for more in ([], ["--html", "t.html"]))
    assert beside == plain
    assert Path("t.html").exists()


def test_the_words_as_json(intsim_, made):
    for name in ("bounds", "verify"):
        Path(f"{name}.json").write_text(intsim_(*VERBS[name][0], "--json")[1])
    status, out, err = intsim_("report", "bounds.json", "verify.json", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert (found["format"], found["files"]) == ("intsim-report-1", [])
    assert [r["verdict"] for r in found["results"]] == ["overflow is possible", "diverges"]
    assert found["results"][0]["next_step"] == json.loads(Path("bounds.json").read_text())["next_step"]
    assert {f["name"] for f in found["results"][0]["failures"]} <= {"first", "each", "last"}


REFUSED = {
    ("report", "c.json"): "give the file to write: --out report.html, --markdown FILE or --junit FILE",
    ("report", "c.json", "-o", "."): ".: is a folder; give a file",
    ("report", "c.json", "-o", "x", "--markdown", "x"): "x: two reports into one file; give each its own",
    ("report", "no.json", "-o", "x"): "no.json: can't be read: No such file or directory; give a file or a folder of",
    ("report", "m.onnx", "-o", "x"): "m.onnx: not JSON: ",
    ("report", "golden", "-o", "x"): "golden: holds no JSON that a report takes",
    ("report", "c.json", "half.json", "-o", "x", "--markdown", "y", "--junit", "z"): "half.json: damaged: ",
    ("bounds", "m.onnx", "-t", "wrap-12", "--html", "/proc/x/y"): "/proc/x/y: can't be written",
    ("bounds", "m.onnx", "-t", "none", "--html", "x"): "unknown target",
    ("bounds", "gone.onnx", "--junit", "x", "--markdown", "y"): "gone.onnx",
}


@pytest.mark.parametrize("call", REFUSED, ids=" ".join)
def test_bad_input_is_one_line_and_leaves_nothing(intsim_, made, call):
    content = json.loads(Path("c.json").read_text())
    Path("half.json").write_text(json.dumps({**content, "layers": [{}]}))
    before = sorted(Path().rglob("*"))
    status, out, err = intsim_(*call)
    assert (status, out) == (2, "")
    assert err.startswith("intsim: ")
    assert err.count("\n") == 1
    assert REFUSED[call] in err
    assert sorted(Path().rglob("*")) == before


def test_without_what_makes_pages(intsim_, monkeypatch):
    """It is said before the work; Markdown and JUnit need nothing."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, out, err = intsim_("bounds", "m.onnx", "--html", "n.html")
    assert (status, out) == (2, "")
    assert err == 'intsim: a page needs jinja2 and plotly: pip install "intsim[explore]"\n'
    assert not Path("n.html").exists()
    assert intsim_("bounds", "m.onnx", "--markdown", "n.md", "--junit", "n.xml")[0] == 0


@pytest.mark.slow
def test_the_workflow_of_the_guide(intsim_, monkeypatch, tmp_path):
    """Its commands are intsim's, and do what the page says."""
    yaml = pytest.importorskip("yaml")
    from docs.pages import DOCS, ROOT, blocks, environment

    (text,) = [b.text for b in blocks((DOCS / "guides/pull-requests.md").read_text()) if b.text.startswith("# .github")]
    steps = yaml.safe_load(text)["jobs"]["integers"]["steps"]
    (script,) = [s["run"] for s in steps if s.get("name") == "verify and certify"]
    (tmp_path / "digits.onnx").write_bytes((ROOT / "examples" / "digits.onnx").read_bytes())
    images = np.random.default_rng(0).random((2, 1, 8, 8), np.float32)
    np.save(tmp_path / "images.npy", images)
    program = f'set -e\nintsim() {{ {sys.executable} -m intsim.cli "$@"; }}\n{script}'
    done = subprocess.run(["bash", "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    written = {p.name for p in (tmp_path / "integers").iterdir()}
    assert written == {"verify.json", "certify.json", "bounds.json", "report.html", "summary.md", "cases.xml"}
    assert (tmp_path / "integers" / "summary.md").read_text().startswith("## intsim: everything holds")
    wrong = subprocess.run(
        ["bash", "-c", program.replace("x86-vnni", "wrap-12")],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert wrong.returncode == 1
    assert "results do not hold" in (tmp_path / "integers" / "summary.md").read_text()
