"""The page: what it says and draws, in a browser where there is one; nothing of a file's runs, nothing is too wide."""

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import intsim
from intsim.errors import IntsimError
from intsim.report.documents import collect
from intsim.report.page.curves import fronts, sweep
from intsim.report.page.drawing import network as drawn
from intsim.report.page.drawing import plane
from intsim.report.page.page import page, write_page
from intsim.report.page.registers import bits, by_layer, histograms, overflow
from intsim.report.results import GraphNode
from intsim.report.summary import Need, needs_of
from report.browser import WHY_NOT, chromium, probed, seen
from report.made import ALL, HOSTILE, network, results, written

go = pytest.importorskip("plotly.graph_objects", reason="a page needs the extra `explore`")
pytest.importorskip("jinja2", reason="a page needs the extra `explore`")
pytestmark = pytest.mark.xdist_group("report")
browser = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def whole(folder) -> Path:
    """A page of everything."""
    paths = written(folder, *ALL)
    write_page(folder / "all.html", collect(paths)[0])
    return folder / "all.html"


class Tags(HTMLParser):
    """Elements with their attributes, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.words.append(data)


def test_figures_are_plotlys(folder):
    """Each attribute is one that Plotly has, and of the kind that it takes."""
    made = results(folder)
    seen_, proven = made["telemetry"], needs_of(made["bounds"])
    plots = [
        *(bits(proven, seen_), bits(proven, None), bits([], made["unbounded"]), bits(needs_of(made["chain"]), None)),
        *(*histograms(seen_), *histograms(made["unbounded"]), by_layer(seen_), overflow(seen_)),
        *(*sweep(made["sweep"]), *fronts(made["search"])),
    ]
    assert len(plots) > 12
    assert overflow(made["unbounded"]) is None
    for plot in plots:
        go.Figure({"data": plot.data, "layout": plot.layout})
        assert len(plot.alt) > 30
        assert plot.layout["xaxis"]["title"]["text"]
        assert plot.layout["yaxis"]["title"]["text"]
        assert plot.key


def test_figures_say_what_results_say(folder):
    made = results(folder)
    seen_, proven = made["telemetry"], made["bounds"]
    plot = bits(needs_of(proven), seen_)
    there, observed, marks = plot.data
    assert there["x"] == [x.stages[0].bits for x in proven.layers]
    assert marks["x"] == [x.stages[0].required_bits for x in proven.layers]
    assert observed["upperfence"] == [max(x.stages[0].channel_bits) for x in seen_.layers]
    assert [c == "#d6455d" for c in marks["marker"]["color"]] == [not x.safe for x in proven.layers]
    (hist,) = histograms(seen_)
    groups = {b: sum(d["y"][d["x"].index(b)] for d in hist.data) for b in hist.data[0]["x"]}
    for b, count in groups.items():
        assert count == sum(int(x.stages[0].partial[:, b].sum()) for x in seen_.layers)
    over = sum(sum(d["y"]) for d in hist.data if d["marker"]["color"] == "#d6455d")
    assert over == sum(int(s.overflowing(s.bits).sum()) for x in seen_.layers for s in x.stages)
    heat = overflow(seen_)
    assert sum(map(sum, heat.data[0]["customdata"])) == seen_.overflows


def test_the_page_is_the_same_twice(folder, whole):
    again = collect(written(folder, *ALL))[0]
    assert page(again) == whole.read_text()


def test_nothing_comes_from_elsewhere_and_nothing_of_a_file_is_code(whole):
    found = Tags(whole.read_text())
    scripts = [a for t, a in found.tags if t == "script"]
    assert [a for a in scripts if a.get("type") != "application/json"] == [{}, {}]
    assert len(scripts) > 10
    for tag, attributes in found.tags:
        assert tag not in ("img", "iframe", "object", "embed", "link", "base", "form", "a"), tag
        assert not [k for k in attributes if k.startswith("on") or k in ("src", "href", "srcdoc", "action")]
    policy = next(a["content"] for t, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert re.fullmatch(
        r"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src( 'sha256-[^']+'){2}", policy
    )
    words = "".join(found.words)
    for name in HOSTILE.values():
        assert name.replace("\x1b", "?") in words
    for data in re.findall(r'<script type="application/json">(.*?)</script>', whole.read_text(), re.DOTALL):
        assert not set("<>") & set(data)
        json.loads(data)


def test_the_verdict_comes_first(whole, folder):
    text = whole.read_text()
    body = text[text.index("<body>") :]
    told = html.unescape(re.sub(r"<[^>]*>", "", body[: body.index("<section>")]))
    limit = next(d.summary.limit for d in collect(written(folder, "bounds"))[0])
    assert limit in told
    for word in ("diverges", "overflow is possible", "proven", "observed", "overflows"):
        assert word in told


def test_names_that_plotly_would_read(folder):
    plot = bits([Need('<b>x</b> <a href="javascript:1">y</a>', 1, 8, "wrap", 9)], None)
    assert plot.layout["yaxis"]["ticktext"] == ['… &lt;a href="javascript:1"&gt;y&lt;/a&gt;']
    assert "<" not in str((plot.data, plot.layout))


def test_the_network_has_its_branches():
    """An Add of the sum before and the one before that: one line goes around."""
    graph = intsim.load(network()).graph
    proven = intsim.bounds(intsim.load(network()), "wrap-12")
    needs = {n.layer: n for n in needs_of(proven)}
    made = drawn(graph.nodes, needs)
    assert made.skips == 1
    assert len([line for line in made.lines if "H" in line]) == 1
    assert [b.name for b in made.boxes if b.headroom] == [x.name for x in proven.layers]
    lacking = [b.name for b in made.boxes if b.kind == "lacking"]
    assert lacking == [x.name for x in proven.layers if not x.safe]
    assert made.short_of == lacking
    tops = [b.y for b in made.boxes]
    assert tops == sorted(tops)
    for a, b in zip(made.boxes, made.boxes[1:], strict=False):
        assert a.y + a.height < b.y
    assert all(b.output == made.boxes[i].output for i, b in enumerate(made.boxes))


def test_lines_that_go_around_lie_beside_each_other():

    def node(name, *reads):
        return GraphNode("add", name, list(reads), name)

    nodes = [node("a", "x", "y"), node("b", "a", "x"), node("c", "b", "x"), node("d", "c", "a"), node("e", "d", "b")]
    made = drawn(nodes, {})
    around = [line for line in made.lines if "H" in line]
    lanes = {}
    for line in around:
        x = float(re.search(r"H([\d.]+)V", line)[1])
        low, high = float(re.match(r"M[\d.]+ ([\d.]+)H", line)[1]), float(re.search(r"V([\d.]+)H", line)[1])
        assert all(high <= a or b <= low for a, b in lanes.setdefault(x, []))
        lanes[x].append((low, high))
        assert x < made.width
    assert len(around) == made.skips == 5


def test_a_place_on_a_channel():
    found = plane([0, 3, 2, 7], [1, 4, 5, 10])
    assert (found.rows, found.columns, found.row, found.column, found.before) == (5, 10, 2, 7, (0, 3))
    assert (found.x / found.width, found.y / found.height) == pytest.approx((0.75, 0.5))
    assert plane([0, 3], [1, 10]).column == 3
    for position, shape in (([0, 4], [1, 4]), ([0], [1, 4]), ([0, 1], None), ([], []), ([-1], [3])):
        assert plane(position, shape) is None


def test_a_network_that_is_not_that_of_the_result(folder, tmp_path):
    """It is not drawn, and the page says why."""
    (path,) = written(folder, "bounds")
    content = json.loads(path.read_text())
    cases = {
        "is neither here nor beside its result": {**content, "model": "nowhere.onnx"},
        "has not the layers of the result any more": {**content, "layers": [{**content["layers"][0], "name": "gone"}]},
    }
    for said, changed in cases.items():
        (tmp_path / "b.json").write_text(json.dumps(changed))
        text = page(collect([tmp_path / "b.json"])[0])
        assert "The network is not drawn" in text
        assert said in text
    assert "The network is not drawn" not in page(collect([path])[0])


def test_a_graph_beside_it_is_enough(folder, tmp_path):
    (path,) = written(folder, "bounds")
    intsim.load(network(HOSTILE)).graph.save(tmp_path / "integer_graph")
    (tmp_path / "b.json").write_text(json.dumps({**json.loads(path.read_text()), "model": "nowhere.onnx"}))
    text = page(collect([tmp_path])[0])
    assert '<svg viewBox="0 0 ' in text
    assert "The network is not drawn" not in text


def test_what_is_missing_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "plotly" else name)
    with pytest.raises(IntsimError, match=r'a page needs plotly: pip install "intsim\[explore\]"'):
        write_page(tmp_path / "a.html", collect(written(folder, "bounds"))[0])
    assert not list(tmp_path.iterdir())


@browser
def test_every_plot_is_drawn_and_nobody_complains(whole):
    found = seen(whole)
    assert found.complaints == []
    tags = Tags(re.sub(r"<script.*?</script>", "", found.dom, flags=re.DOTALL)).tags
    plots = sum("plot" in (a.get("class") or "").split() for t, a in tags if t == "div")
    drawn_ = sum("main-svg" in (a.get("class") or "").split() for t, a in tags if t == "svg")
    assert plots > 12
    assert drawn_ >= plots
    assert found.dom.count("js-plotly-plot") >= plots


@browser
@pytest.mark.parametrize(("width", "dark"), [(400, False), (1400, True)])
def test_nothing_is_too_wide_and_nothing_overlaps(whole, width, dark):
    found = probed(whole, width=width, dark=dark)
    assert found["errors"] == []
    assert found["width"] == width
    assert found["all"] <= width
    assert found["wide"] == []
    assert found["over"] == []
    assert found["scheme"] == dark
    assert (found["paper"] == "rgb(255, 255, 255)") != dark
    for plot in found["plots"]:
        assert plot["svg"] >= 1
        assert plot["alt"]
        assert plot["x"]
        assert plot["y"]
        assert plot["inner"] > width * 0.35


@browser
@pytest.mark.slow
def test_what_is_wrong_would_be_seen(whole):
    """Titles moved onto their ticks, and a page that is wider than the screen."""
    wrong = whole.with_name("wrong.html")
    moved = ".ytitle { transform: translateX(40px) } body { min-width: 600px }"
    wrong.write_text(whole.read_text().replace("</style>", f"{moved}</style>", 1))
    found = probed(wrong, width=400)
    assert found["over"]
    assert found["wide"]
    assert found["all"] > 400


@browser
def test_nothing_of_a_file_runs(whole):
    """Were a name of a layer a script, the browser would open a dialog, and its own log or the page would show it."""
    text = whole.read_text()
    planted = whole.with_name("planted.html")
    planted.write_text(text.replace("<body>", "<body><script>console.error('planted')</script>", 1))
    assert any("Content Security Policy" in c or "Content-Security-Policy" in c for c in seen(planted).complaints)


@browser
@pytest.mark.slow
def test_on_paper(whole):
    """All plots fit the page, tables are open, and it prints."""
    found = probed(whole, width=1400, printed=True)
    assert len(found["plots"]) > 12
    assert all(0 < p["width"] <= 680 and p["height"] <= 860 for p in found["plots"])
    assert found["closed"] == 0
    path = whole.with_suffix(".pdf")
    chromium(whole, f"--print-to-pdf={path}", "--no-pdf-header-footer")
    assert path.read_bytes().startswith(b"%PDF")
