"""The page itself: documents by model and target, what is drawn of them, and the file that holds it all."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import intsim
from intsim.errors import IntsimError
from intsim.explore.search import Search
from intsim.explore.sweep import Sweep
from intsim.explore.telemetry import Telemetry
from intsim.golden.compare import Comparison
from intsim.model import load
from intsim.proofs.bounds import Bounds
from intsim.proofs.certificate import Certificate
from intsim.report import files
from intsim.report.certificate import agreement, scope
from intsim.report.documents import Document
from intsim.report.page import curves, registers
from intsim.report.page.drawing import MOST_ROWS, Drawn, Network, Plane, network, plane, shown
from intsim.report.page.figures import Plot
from intsim.report.results import Graph
from intsim.report.summary import limiting, needs_of
from intsim.report.text import counted, printable
from intsim.report.vectors import first_wrong
from intsim.report.verdict import first_divergence
from intsim.targets import Target
from intsim.verification.executed import opened
from intsim.verification.verdict import Verdict
from intsim.verification.witness import Witnessed

HOME = Path(__file__).parent
NEEDED = ("jinja2", "plotly")


@dataclass(frozen=True)
class First:
    """The first wrong integer of a result, in words and where it lies."""

    words: str
    plane: Plane | None


@dataclass
class Group:
    """What is shown of the documents of one model on one target."""

    title: str
    documents: list[Document]
    network: Network | None = None
    why_not: str = ""
    plots: list[Plot] = field(default_factory=list)
    quiet: str = ""
    firsts: list[First] = field(default_factory=list)
    certificates: list[list[tuple[str, str]]] = field(default_factory=list)

    @property
    def parts(self) -> bool:
        """Whether there is anything."""
        return bool(self.network or self.plots or self.firsts or self.certificates)

    def one(self, kind: type) -> Any:
        """The first result of a kind; None if there is none."""
        return next((d.result for d in self.documents if isinstance(d.result, kind)), None)


def check() -> None:
    """Raise IntsimError where what makes pages is not installed."""
    lacking = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if lacking:
        raise IntsimError(f'a page needs {" and ".join(lacking)}: pip install "intsim[explore]"')


def write_page(path: Path, documents: Sequence[Document], others: Sequence[str] = ()) -> None:
    """Write the page of documents; `others` names files of folders that are not shown.

    Raises:
        IntsimError: Jinja2 or Plotly is missing, or `path` can't be written.
    """
    check()
    with files.file(path) as draft:
        draft.write_text(page(documents, others), encoding="utf-8")


def page(documents: Sequence[Document], others: Sequence[str] = ()) -> str:
    """HTML, the same for the same documents; models that they name are read, where they are there, to be drawn."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs, get_plotlyjs_version

    told = [d for d in documents if d.summary is not None]
    groups = _groups(told)
    graphs = [d.result for d in documents if isinstance(d.result, Graph)]
    for group in groups:
        _fill(group, graphs)
    library, script = get_plotlyjs(), (HOME / "page.js").read_text(encoding="utf-8")
    names = list(dict.fromkeys(g.title for g in groups))
    content: dict[str, Any] = {
        "title": printable(f"intsim: {names[0]}" + (f" and {len(names) - 1} more" if names[1:] else "")),
        "documents": told,
        "groups": groups,
        "others": others,
        "known": _versions(told),
        "version": intsim.__version__,
        "plotly": get_plotlyjs_version(),
        "css": Markup((HOME / "page.css").read_text(encoding="utf-8")),
        "library": library,
        "script": script,
        "scripts": [_hash(text) for text in (library, script)],
    }
    environment = Environment(
        loader=FileSystemLoader(HOME),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = printable
    return environment.get_template("page.html").render(content).lstrip()


def _hash(script: str) -> str:
    """For the page's policy: no script runs but these two."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _groups(documents: Iterable[Document]) -> list[Group]:
    """By model and target, in the order in which they come; a certificate, which names no folder, where one fits."""
    found: dict[tuple[str | None, str | None, str], Group] = {}
    certificates = [d for d in documents if isinstance(d.result, Certificate)]
    for d in documents:
        if not isinstance(d.result, Certificate):
            assert d.summary is not None
            key = (d.model, d.target, d.summary.subject if d.model is None else "")
            title = d.summary.subject if d.model is None or d.target is None else f"{d.model} on {d.target}"
            found.setdefault(key, Group(title, [])).documents.append(d)
    for d in certificates:
        fits = [
            g for (model, target, _), g in found.items() if (model and Path(model).name, target) == (d.model, d.target)
        ]
        if len(fits) == 1:
            fits[0].documents.append(d)
        else:
            found.setdefault((d.model, d.target, ""), Group(f"{d.model} on {d.target}", [])).documents.append(d)
    return list(found.values())


def _fill(group: Group, graphs: Sequence[Graph]) -> None:
    """Everything that is drawn of a group."""
    results = [d.result for d in group.documents]
    seen: Telemetry | None = group.one(Telemetry)
    proven = needs_of(group.one(Bounds) or group.one(Certificate))
    shapes: dict[str, list[int]] = {}
    if proven or seen is not None or group.one(Verdict) is not None:
        needs = {n.layer: n for n in limiting(proven or needs_of(seen))}
        try:
            nodes, shapes = _graph(group, graphs)
            if len(nodes) > MOST_ROWS:
                group.why_not = f"it has more than {MOST_ROWS} nodes"
            else:
                group.network = network(nodes, needs)
        except IntsimError as error:
            group.why_not = " ".join(str(error).split())
    plots = [registers.bits(proven, seen)]
    if seen is not None:
        heat = registers.overflow(seen)
        plots += [*registers.histograms(seen), registers.by_layer(seen), heat]
        group.quiet = "" if heat else "No register overflowed on these inputs, so there is no map of overflows."
    for result in results:
        plots += curves.sweep(result) if isinstance(result, Sweep) else []
        plots += curves.fronts(result) if isinstance(result, Search) else []
        if isinstance(result, Certificate):
            group.certificates.append(_rests_on(result))
        if isinstance(result, Verdict) and (at := result.first_divergence) is not None:
            group.firsts.append(First(first_divergence(at), plane(at["position"], shapes.get(at["tensor"]))))
        if isinstance(result, Comparison) and result.wrong is not None and result.wrong.first is not None:
            group.firsts.append(First(first_wrong(result.wrong, result.wrong.first), None))
    group.plots = [p for p in plots if p is not None]


def _graph(group: Group, graphs: Sequence[Graph]) -> tuple[Sequence[Drawn], dict[str, list[int]]]:
    """The nodes of the group's network and the shapes of its tensors, of a graph beside it or of the model itself.

    Raises:
        IntsimError: none that has its layers can be read.
    """
    names = {x.name for kind in (Bounds, Telemetry) for r in [group.one(kind)] if r is not None for x in r.layers}
    tensors = {x.tensor for r in [group.one(Verdict)] if r is not None for x in r.layers}
    made = group.one(Certificate)
    names |= set() if made is None else {x.name for x in made.layers}

    def fits(nodes: Sequence[Drawn], known: Mapping[str, Any]) -> bool:
        return names <= {shown(n) for n in nodes} and tensors <= known.keys()

    for graph in graphs:
        shapes = {t.name: t.shape for t in graph.tensors}
        if fits(graph.nodes, shapes):
            return graph.nodes, shapes
    model, target = group.documents[0].model, group.documents[0].target
    near = [p for d in group.documents for p in (Path(model or ""), Path(d.source).parent / Path(model or "").name)]
    path = next((p for p in near if p.is_file()), None)
    if path is None:
        raise IntsimError(f"{model} is neither here nor beside its result")
    if made is not None and hashlib.sha256(path.read_bytes()).hexdigest() != made.model["sha256"]:
        raise IntsimError(f"{path} is not the file that was certified")
    try:
        chosen = Target.load(target or "exact")
    except IntsimError:  # a file of one's own, of which only the name is known
        chosen = Target.load("exact")
    between = made is not None and "islands" in made.host
    read = opened(load(path, islands=True) if between else path, target=chosen).graph
    shapes = {name: list(t.shape) for name, t in read.tensors.items()}
    if not fits(read.nodes, shapes):
        raise IntsimError(f"{path} has not the layers of the result any more")
    return read.nodes, shapes


def _rests_on(made: Certificate) -> list[tuple[str, str]]:
    """What a certificate is of, and what was done for it."""
    counts = {s: sum(o.status == s for o in made.obstacles) for s in dict.fromkeys(o.status for o in made.obstacles)}
    searched = made.search["samples"]
    proven = sum(x.holds for x in made.layers)
    equal = sum(r.equal is True for r in made.requantizers)
    rows = [
        ("verdict", f"{made.verdict}, {scope(made)}"),
        ("sums", f"{proven} of {counted(len(made.layers), 'layer')} proven in every channel"),
        ("requantizers", f"{equal} of {len(made.requantizers)} equal to exact ones on all sums that can reach them"),
        ("obstacles", ", ".join(f"{n} {s}" for s, n in counts.items()) or "none"),
        ("the file, read a second time", agreement(made).removesuffix(".")),
        ("searched for a refutation", counted(searched, "network input")),
        ("outside, on the host", ", ".join(n for names in made.host.values() for n in names) or "nothing"),
        ("model, SHA-256", made.model["sha256"]),
        ("its integer graph, SHA-256", made.model["graph_sha256"]),
        ("target, SHA-256", made.target["sha256"]),
        ("made by", f"intsim {made.intsim}"),
    ]
    return [*rows, ("to confirm it", "intsim certify --check computes every claim again from the model alone")]


def _versions(documents: Iterable[Document]) -> list[str]:
    """Versions that documents name."""
    found: dict[str, None] = {}
    for d in documents:
        if isinstance(d.result, Certificate):
            found[f"{d.source} was made by intsim {d.result.intsim}"] = None
        if isinstance(d.result, Witnessed):
            found[f"{d.source} ran {d.result.runtime} {d.result.version}"] = None
    return list(found)
