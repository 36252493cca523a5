"""What verbs write is read back as what it was; what they don't write is refused in one line."""

import copy
import json

import pytest

from intsim.errors import IntsimError
from intsim.golden.sums import Trace
from intsim.golden.vectors import Vectors
from intsim.model import Model, Run
from intsim.report.documents import collect, document
from intsim.report.html import SHOW
from intsim.report.markdown import markdown
from intsim.report.page.page import page
from intsim.report.results import READ, Checked, Outputs, parsed
from intsim.report.summary import WORDS
from intsim.rtl import Cosimulation
from report.made import ALL, as_json, results, written

pytestmark = pytest.mark.xdist_group("report")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


def test_all_of_them(folder):
    """What notebooks show has its words and a way back, but for what is no verdict and for what JSON only names."""
    assert set(SHOW) - {Model, Run, Trace, Vectors} == set(WORDS) - {Checked, Cosimulation, Outputs, dict}
    assert set(results(folder)) == set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_a_result_is_read_back(folder, name):
    result = results(folder)[name]
    content = as_json(result)
    again = READ[content["format"]](content)
    assert type(again) is type(result)
    assert as_json(again) == content
    if name not in ("telemetry", "unbounded", "inspect", "sweep", "search"):
        assert again == result


def places(value, path=()):
    """Paths to every entry of JSON."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*path, key)
        yield from places(part, (*path, key))


def changed(content, path, to):
    made = copy.deepcopy(content)
    at = made
    for key in path[:-1]:
        at = at[key]
    if to is None:
        del at[path[-1]]
    else:
        at[path[-1]] = to
    return made


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n not in ("verify", "bounds", "sweep", "search"))) for n in ALL],
)
def test_damage_is_one_line(folder, name, monkeypatch):
    """Entries left out, and exchanged for something else: a page or a refusal, never anything else."""
    offline = pytest.importorskip("plotly.offline", reason="a page needs the extra `explore`")
    monkeypatch.setattr(offline, "get_plotlyjs", lambda: "")
    content = as_json(results(folder)[name])
    if isinstance(content.get("model"), str):
        content["model"] = "gone.onnx"  # which takes no time to read
    tried, refused = 0, []
    everywhere = list(places(content))
    for path in everywhere[:: max(1, len(everywhere) // 15)]:
        for other in (None, {"x": []}, "</script>", -1, 0, [], 10**40):
            tried += 1
            try:
                made = document(changed(content, path, other), "it.json")
                assert page([made]).startswith("<!doctype html>")
                assert markdown([made]).startswith("## intsim")
            except IntsimError as error:
                refused.append(str(error))
    assert len(refused) > tried / 10
    assert all(line.startswith("it.json: ") and "\n" not in line for line in refused)


def test_a_certificate_that_was_altered(folder):
    content = as_json(results(folder)["certify"])
    assert content["verdict"] != "certified"
    with pytest.raises(IntsimError, match="digest is not that of what it says"):
        document({**content, "verdict": "certified"}, "c.json")


def test_a_search_has_a_value_for_each_objective(folder):
    content = as_json(results(folder)["search"])
    for objectives in (["mae"], [*content["objectives"], "more"]):
        with pytest.raises(IntsimError, match="not as many values"):
            document({**content, "objectives": objectives, "greater": [False] * len(objectives)}, "s.json")


@pytest.mark.parametrize("text", ["{", "[1e999]", "[NaN]", "[-Infinity]", "[" * 100_000, b"\xff\xfe", "9" * 5000])
def test_what_is_no_json(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(IntsimError, match=r"x\.json: not JSON: "):
        collect([path])


def test_files_and_folders(folder, tmp_path):
    (bounds, verify) = written(folder, "bounds", "verify")
    (tmp_path / "deep").mkdir()
    for path in (bounds, verify):
        (tmp_path / "deep" / path.name).write_text(path.read_text())
    (tmp_path / "other.json").write_text('{"a": 1}')
    (tmp_path / "broken.json").write_text("{ // comment")
    (tmp_path / "new.json").write_text('{"format": "intsim-bounds-9"}')
    found, others = collect([tmp_path, tmp_path / "deep" / "bounds.json"])
    assert [d.summary.verb for d in found] == ["bounds", "verify"]
    assert others == [str(tmp_path / "new.json")]
    (tmp_path / "half.json").write_text('{"format": "intsim-bounds-1", ')
    with pytest.raises(IntsimError, match=r"half\.json: not JSON"):
        collect([tmp_path])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "names no format of intsim's"),
        ({"format": "other-1"}, "names no format of intsim's"),
        (
            {"format": "intsim-bounds-9"},
            "a report has no place for format 'intsim-bounds-9'; it has for advice-1, bounds-1,",
        ),
        ({"format": "intsim-bounds-1"}, "damaged: model: Field required; have its verb write it again"),
        ({"format": "intsim-graph-1", "name": "", "nodes": [], "tensors": []}, "a graph alone says nothing"),
    ],
)
def test_what_has_no_place(tmp_path, content, said):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    with pytest.raises(IntsimError) as found:
        collect([path])
    assert str(found.value).startswith(f"{path}: ")
    assert said in str(found.value)


def test_nothing_there(tmp_path):
    for path, said in (
        (tmp_path, "holds no JSON that a report takes"),
        (tmp_path / "no.json", "can't be read: No such"),
    ):
        with pytest.raises(IntsimError, match=said):
            collect([path])


def test_numbers_stay_what_they_are():
    assert parsed('{"a": [1, -2.5, 1e3]}') == {"a": [1, -2.5, 1000.0]}
