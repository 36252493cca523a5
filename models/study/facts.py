"""Sections of the page that state facts of single networks: cost, training, errors by layer; and other tasks."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence

from models.study.records import Demo, Records, Run
from models.study.tables import ERROR, NOTHING, RATIO, Figure, deviation, markdown, number, span
from models.study.text import PAPER_OVERHEAD

_MILLISECONDS = Figure("milliseconds", "ms", 2)
_MINUTES = Figure("minutes", "minutes", 1, 1 / 60)
_PIXELS = Figure("epe", "px", 3)


def cost_table(records: Records) -> str:
    """Multiplications, bytes and simulated time, and their share of the plain network's."""
    lines, percents = [], []
    for name, runs in records.networks(r for r in records.runs if r.cost).items():
        costs = [run.cost for run in runs if run.cost]
        first = costs[0]
        times = {part: [c.milliseconds[part] for c in costs] for part in ("network", "decoder")}
        more, macs = overhead(records, runs), _share(records, runs)
        if runs[0].order and more is not None:
            percents.append(f"{name} {more:+.1f} %")
        lines.append(
            [
                name,
                str(len(costs)),
                *(f"{first.macs[part]:,}" for part in ("trunk", "heads")),
                NOTHING if macs is None else f"{macs:+.1f} %",
                *(f"{first.bytes[part]:,}" for part in ("weights", "outputs")),
                *(span(times[part], _MILLISECONDS) for part in ("network", "decoder")),
                NOTHING if more is None else f"{more:+.1f} %",
            ]
        )
    if not lines:
        return ""
    header = ["network", "seeds", "MACs trunk", "MACs heads", "MACs to plain", "weights B", "outputs B"]
    header += ["network ms", "decoder ms", "time to plain"]
    said = f"Network and decoder together, to the plain network: {', '.join(percents)}. " if percents else ""
    return f"{markdown(header, lines)}\n\n{_COST}\n\n{said}{PAPER_OVERHEAD}"


_COST = """\
MACs and bytes are of one image pair. Times are the least CPU time of many runs of the integer simulator on one thread,
not of a device: they compare networks, and vary by some percent even so. "To plain" is to the plain network of the
same family, noise and inputs."""


def _share(records: Records, runs: Sequence[Run]) -> float | None:
    """Percent of multiplications more than in the plain network."""
    plain = records.plain(runs[0], lambda other: other.cost)
    if not (plain and plain.cost and runs[0].cost):
        return None
    return 100 * (sum(runs[0].cost.macs.values()) / sum(plain.cost.macs.values()) - 1)


def overhead(records: Records, runs: Sequence[Run]) -> float | None:
    """Percent of time more than the plain network's, network and decoder together, mean over seeds."""
    each = []
    for run in runs:
        plain = records.plain(run, lambda other: other.cost)
        if plain and plain.cost and run.cost:
            each.append(sum(run.cost.milliseconds.values()) / sum(plain.cost.milliseconds.values()))
    return 100 * (statistics.fmean(each) - 1) if each else None


def layer_table(records: Records) -> str:
    """Error of each layer's output, by network."""
    names = list(dict.fromkeys(layer.name for layers in records.layers.values() for layer in layers))
    lines = []
    for name in names:
        each = [[layer for layer in layers if layer.name == name] for layers in records.layers.values()]
        cells = [f"{number(100 * f[0].relative_rms, 2)} / {number(f[0].max, 3)}" if f else NOTHING for f in each]
        lines.append([name, *cells])
    note = "Each cell: RMS of the layer's quantization error in percent of the RMS of its float values / largest error."
    return f"{markdown(['layer', *records.layers], lines)}\n\n{note}" if lines else ""


def demo_tables(records: Records) -> str:
    """Other tasks, one table each."""
    parts = []
    for demo in records.demos:
        unit = f" {demo.unit}" if demo.unit else ""
        keys, targets = (
            list(dict.fromkeys(k for row in demo.rows for k in getattr(row, a))) for a in ("error", "targets")
        )
        lines = [_demo_line(demo, name, keys, targets) for name in dict.fromkeys(row.network for row in demo.rows)]
        header = ["network", "seeds", *(f"{kind}{unit}" for kind in ("FP32", "W8A8 exact", *targets))]
        header += [_title(key, demo.unit if demo.error_unit is None else demo.error_unit) for key in keys]
        header += [figure.title for figure in RATIO if figure.key in keys]
        about = " ".join(f"{text.rstrip('.')}." for text in (f"Metric: {demo.metric}", demo.data) if text)
        parts += [f"### {demo.demo.replace('_', ' ').capitalize()}", about, markdown(header, lines)]
    return "\n\n".join(part for part in parts if part)


def _demo_line(demo: Demo, network: str, keys: Sequence[str], targets: Sequence[str]) -> list[str]:
    rows = [row for row in demo.rows if row.network == network]
    own = Figure(demo.metric, demo.metric, 3)
    metrics = [[row.fp32 for row in rows], [row.w8a8 for row in rows]]
    metrics += [[row.targets[target] for row in rows if target in row.targets] for target in targets]
    each = {key: [row.error[key] for row in rows if key in row.error] for key in keys}
    gains = [span(demo.ratios(network, figure.key), figure) for figure in RATIO if figure.key in keys]
    errors = [span(each[key], _figure(key)) for key in keys]
    return [network, str(len(rows)), *(deviation(values, own) for values in metrics), *errors, *gains]


def _figure(key: str) -> Figure:
    return next((figure for figure in ERROR if figure.key == key), Figure(key, key, 4))


def _title(key: str, unit: str) -> str:
    title = _figure(key).title.replace(" px", f" {unit}".rstrip())
    return f"error: {title}"


def training_table(records: Records) -> str:
    """Steps, time, device and size of every network, and its validation at the end."""
    lines = []
    for name, runs in records.networks().items():
        trainings = [run.training for run in runs]
        last = [t.validation[-1] for t in trainings if t.validation]
        lines.append(
            [
                name,
                str(len(runs)),
                f"{runs[0].parameters:,}",
                _set(t.steps for t in trainings),
                span([t.seconds for t in trainings], _MINUTES),
                _set(t.device for t in trainings),
                deviation([epe for _, epe, _ in last], _PIXELS),
                deviation([median for _, _, median in last], _PIXELS),
            ]
        )
    header = ["network", "seeds", "parameters", "steps", "minutes", "device", "validation EPE px", "median px"]
    return "\n\n".join(part for part in (markdown(header, lines), *_equal(records)) if part)


def _equal(records: Records) -> Iterator[str]:
    """Whether the networks that are compared at W8A8 had equally many steps, by family."""
    for family in dict.fromkeys(run.family for run in records.runs):
        runs = [run for run in records.runs if run.family == family and not run.scheme]
        steps = _set(run.training.steps for run in runs)
        if steps.isdecimal():
            yield f"All networks of the family {family} that are compared at W8A8 were trained for {steps} steps."
        elif runs:
            yield f"Networks of the family {family} were trained for unequal numbers of steps ({steps}): beware."


def _set(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in sorted(set(values), key=str))
