"""Sections of the page that compare networks: accuracy, quantization error, noise, targets, decoders, schemes, sets."""

from __future__ import annotations

from collections.abc import Iterator

from models.study.records import MAIN, PLAIN_DECODER, Records, Run
from models.study.tables import (
    ACCURACY,
    EPE,
    NOTHING,
    RATIO,
    Column,
    Figure,
    Measured,
    Row,
    accuracies,
    errors,
    floats,
    markdown,
    number,
    ratios,
    seeds,
    span,
    table,
    verdict,
)
from models.study.text import MASKED_NOTE, PAPER, PAPER_NOTE, PAPER_RATIOS, SCHEMES_NOTE

PRECISIONS = (("FP32", "fp32", None), ('W8A8 "CPU"', "w8a8-cpu", None), ('W8A8 "DSP"', "w8a8", "exact"))
D1 = ACCURACY[4]


def base(records: Records, family: str = "dispnet", noise: bool = True) -> dict[str, list[Run]]:
    """The networks that differ in order and dimensions of their heads alone."""
    runs = [run for run in records.runs if run.family == family and not (_other(run) or run.remedies)]
    return records.networks(run for run in runs if bool(run.noise) == noise)


def remedied(records: Records) -> dict[str, list[Run]]:
    """The networks with feature noise, and those with other heads or losses besides."""
    runs = [run for run in records.runs if run.family == "dispnet" and run.noise]
    return records.networks(run for run in runs if not _other(run))


def _other(run: Run) -> bool:
    return bool(run.scheme or run.embedding or run.inputs != "cost-volume")


def ways(runs: list[Run], where: str) -> list[tuple[str, str | None, str]]:
    """Precision, target and decoder of every entry of a network, in the files' order, each once."""
    return list(dict.fromkeys((e.precision, e.target, e.decoder) for run in runs for e in run.entries(where)))


def rows_of(records: Records, networks: dict[str, list[Run]], where: str = MAIN, **way: str) -> list[Row]:
    """One row a network."""
    return [((name,), Measured(records, tuple(runs), where, **way)) for name, runs in networks.items()]


def main_table(records: Records, family: str = "dispnet") -> str:
    """In the form of the paper's Table 1, with the paper's beside it."""
    rows: list[Row] = []
    for name, runs in base(records, family).items():
        for title, precision, target in PRECISIONS:
            rows.append(((name, title), Measured(records, tuple(runs), MAIN, precision, target)))
    shown = table(("network", "numbers"), rows, [*seeds(), *accuracies(), *_paper()])
    pairs = sorted({run.sets[MAIN].pairs for _, measured in rows for run, _ in measured.seeds()})
    said = f"On {' or '.join(map(str, pairs))} generated test pairs:"
    return "\n\n".join(part for part in (said, shown, _loss(rows), PAPER_NOTE) if part) if shown else ""


def _loss(rows: list[Row]) -> str:
    """What quantization does to the end-point error of each network, seed by seed."""
    parts = []
    for (name, _), measured in rows:
        pairs = [(e, run.entry(MAIN, "fp32", None, e.decoder)) for run, e in measured.seeds()]
        lost = [e.accuracy["epe"] - other.accuracy["epe"] for e, other in pairs if other]
        if measured.target and lost:
            parts.append(f"{name} {_signed(lost)}")
    return f'EPE of W8A8 "DSP" minus EPE of FP32, px, mean over seeds: {", ".join(parts)}.' if parts else ""


def _signed(values: list[float]) -> str:
    text = f"{sum(values) / len(values):+.4f}"
    return f"{text} ({min(values):+.4f}..{max(values):+.4f})" if len(values) > 1 else text


def _paper() -> list[Column]:
    def cell(measured: Measured, place: int) -> str:
        run, precisions = measured.runs[0], [precision for _, precision, _ in PRECISIONS]
        if (run.family, run.order) not in PAPER or run.dimensions != 2:
            return NOTHING
        return number(PAPER[run.family, run.order][precisions.index(measured.precision)][place], 2)

    return [(f"paper: {f.title}", lambda m, i=i: cell(m, i)) for i, f in enumerate(ACCURACY)]  # type: ignore[misc]


def error_table(records: Records, family: str = "dispnet") -> str:
    """Quantization error of W8A8, exact, nearest point; ratios to the plain network, "CPU" and "DSP"."""
    rows = rows_of(records, base(records, family))
    if not (shown := table(("network",), rows, [*seeds(), *errors()])):
        return ""
    length: list[Column] = [("L", lambda m: number(m.runs[0].length, 2))]
    both = [(title, precision, target) for title, precision, target in PRECISIONS if precision != "fp32"]
    curved: list[Row] = []
    for name, runs in base(records, family).items():
        for title, precision, target in both:
            measured = Measured(records, tuple(runs), MAIN, precision, target)
            curved += [((name, title), measured)] if measured.ratio("mean") else []
    gains = table(("network", "numbers"), curved, [*length, *seeds(), *ratios((*RATIO, _MEDIAN))])
    said = f"{_LENGTH} {PAPER_RATIOS}" if family == "dispnet" else _LENGTH
    return "\n\n".join(part for part in (shown, gains, gains and said, verdict(rows)) if part)


_LENGTH = """\
L is the curve's length in the unit square or cube: what the ratio would be if errors of the outputs were independent,
as large as the plain network's, and small against the curve's edges."""
_MEDIAN = Figure("median", "÷ median", 2)


def noise_table(records: Records) -> str:
    """The same networks without and with feature noise."""
    pairs = base(records, noise=False), base(records)
    if not pairs[0]:
        return ""
    rows: list[Row] = []
    for still, runs in pairs[0].items():
        twins = [name for name in pairs[1] if name == still.removesuffix("_still")]
        for name, chosen in ((still, runs), *((t, pairs[1][t]) for t in twins)):
            rows.append(((name, number(chosen[0].noise, 2)), Measured(records, tuple(chosen), MAIN)))
    columns = [*seeds(), *floats(), *accuracies((EPE,)), *errors("mean", "rmse", "robust_sd", "jump_rate"), *ratios()]
    shown = table(("network", "noise SD"), rows, columns)
    judged = verdict([row for row in rows if not row[1].runs[0].noise], "Without noise the bar")
    return "\n\n".join(part for part in (shown, _NOISE, judged, _quieter(rows)) if part)


_NOISE = """\
Ratios are to the plain network with the same noise. Ratios across would credit the curve with what the noise does."""


def _quieter(rows: list[Row]) -> str:
    """By how much noise in training alone lowers the error."""
    by_name = {names[0]: measured for names, measured in rows}
    parts = []
    for name, measured in by_name.items():
        still = by_name.get(f"{name}_still")
        if still and (a := still.error("mean")) and (b := measured.error("mean")):
            parts.append(f"{name} {number(sum(a) / len(a) / (sum(b) / len(b)), 2)}")
    said = f"Mean error without noise over that with noise, both averaged over seeds: {', '.join(parts)}."
    return said if parts else ""


OUTSIDE = (
    "Rows of saturate-16 and saturate-20 were measured with the bias of most layers behind the register, in the "
    "requantizer. It now takes part in the sum (docs/ir.md, Bias), which changes codes on these two targets and on no "
    "other; `train` and `measure` give the rows anew."
)


def target_table(records: Records) -> str:
    """Each base network on each target; then all networks and decoders, RMSE ratio alone."""
    networks = base(records)
    targets = targets_of(records)
    if len(targets) < 2:
        return ""
    parts, sentences = [], []
    rows: list[Row] = []
    for target in targets:
        here: list[Row] = [
            ((target, *names), measured) for names, measured in rows_of(records, networks, target=target)
        ]
        rows += here
        sentences.append(f"* {_broken(target, [((names[1],), m) for names, m in here])}")
    columns = [*seeds(), *accuracies((EPE, D1)), *errors("mean", "rmse", "robust_sd", "jump_rate"), *ratios()]
    note = OUTSIDE if any(target.startswith("saturate-") for target in targets) else ""
    parts += [table(("target", "network"), rows, columns), note, "\n".join(sentences), *_matrix(records, targets)]
    return "\n\n".join(part for part in parts if part)


def targets_of(records: Records) -> list[str]:
    """Targets that the base networks ran on, the exact one first."""
    every = [way for runs in base(records).values() for way in ways(runs, MAIN)]
    targets = {target for precision, target, _ in every if precision == "w8a8" and target}
    return sorted(targets, key=lambda target: (target != "exact", target))


def _broken(target: str, rows: list[Row]) -> str:
    """Where the gain breaks on a target: the bar, and the networks that are worse than the plain one."""
    worse = [names[0] for names, m in rows if any(sum(m.ratio(key)) < len(m.ratio(key)) for key in ("mean", "rmse"))]
    more = f" Larger mean or RMSE than the plain network's: {', '.join(worse)}." if worse else ""
    return (verdict(rows, f"{target}: the bar") or f"{target}: there is no plain network to compare with.") + more


def _matrix(records: Records, targets: list[str]) -> Iterator[str]:
    """RMSE ratios of all networks with noise, by decoder and target."""
    figure, lines = RATIO[2], []
    for name, runs in remedied(records).items():
        for decoder in dict.fromkeys(d for p, _, d in ways(runs, MAIN) if p == "w8a8" and runs[0].order):
            measurements = [Measured(records, tuple(runs), MAIN, target=target, decoder=decoder) for target in targets]
            lines.append([name, decoder, *(span(measured.ratio("rmse"), figure) for measured in measurements)])
    if lines:
        yield "RMSE of the plain network on the same target over this network's, by decoder:"
        yield markdown(["network", "decoder", *targets], lines)


LONG = "long"
"""Scheme of networks that were trained longer, on plain scenes."""


def longer(records: Records) -> dict[str, list[Run]]:
    """The networks that were trained longer."""
    return records.networks(run for run in records.runs if run.scheme == LONG)


def decoder_rows(records: Records, networks: dict[str, list[Run]] | None = None) -> list[Row]:
    """Every network with noise, or those given, and every decoder that fits it, W8A8 exact."""
    rows: list[Row] = []
    for name, runs in (remedied(records) if networks is None else networks).items():
        decoders = dict.fromkeys(d for p, t, d in ways(runs, MAIN) if (p, t) == ("w8a8", "exact"))
        rows += [((name, d), Measured(records, tuple(runs), MAIN, decoder=d)) for d in decoders]
    return rows


def decoder_table(records: Records) -> str:
    """The rows of all decoders, and where the bar holds on all pixels, or on the trusted ones."""
    rows = decoder_rows(records)
    if not any(m.decoder != PLAIN_DECODER or m.runs[0].remedies for _, m in rows):
        return ""
    return _decoders(rows)


def longer_table(records: Records) -> str:
    """The same of the networks that were trained longer; their own kind of scenes is what they are measured on."""
    return _decoders(decoder_rows(records, longer(records)))


def _decoders(rows: list[Row]) -> str:
    if not rows:
        return ""
    errors_of = errors("mean", "rmse", "robust_sd", "jump_rate", "effective_bits_rmse")
    columns = [*seeds(), *coverage(), *floats(), *accuracies((EPE,)), *errors_of, *ratios()]
    whole = [row for row in rows if min((e.coverage for _, e in row[1].seeds()), default=0.0) == 1]
    masked = [row for row in rows if row not in whole]
    parts = [table(("network", "decoder"), rows, columns), verdict(whole, "On all pixels the bar")]
    if masked:
        parts.append(MASKED_NOTE)
        parts.append(verdict(masked, "On the trusted pixels only, against the plain network on all pixels, the bar"))
    return "\n\n".join(part for part in parts if part)


def coverage() -> list[Column]:
    """Share of pixels that a decoder answers for."""
    figure = Figure("coverage", "pixels %", 1, 100)

    def cell(measured: Measured) -> str:
        shares = [entry.coverage for _, entry in measured.seeds()]
        return span(shares[:1] if len(set(shares)) == 1 else shares, figure)

    return [(figure.title, cell)]


def first_layer(run: Run) -> bool:
    """Whether a network belongs to the comparison of first layers."""
    return bool(run.scheme.startswith("first") or run.embedding or run.inputs != "cost-volume")


def scheme_rows(records: Records) -> list[Row]:
    """Networks trained on at other widths or with other weights, exact; and the base networks beside them."""
    plain, others, rows = base(records), False, list[Row]()
    chosen = (r for r in records.runs if r.family == "dispnet" and not first_layer(r) and r.scheme != LONG)
    for name, runs in records.networks(chosen).items():
        for precision, target, decoder in ways(runs, MAIN):
            usual = precision in ("fp32", "w8a8-cpu") or decoder != PLAIN_DECODER or target != "exact"
            if not usual and (runs[0].scheme or precision != "w8a8" or name in plain):
                others |= bool(runs[0].scheme) or precision != "w8a8"
                rows.append(
                    ((name, scheme_of(runs[0], precision)), Measured(records, tuple(runs), MAIN, precision, target))
                )
    return rows if others else []


def scheme_of(run: Run, precision: str) -> str:
    """How a network was quantized, by its recipe's name, or else after training."""
    return run.scheme.removeprefix("q_") if run.scheme else f"{precision}, after training"


def scheme_table(records: Records) -> str:
    """Other widths and weights, exact target."""
    columns = [*seeds(), *floats(), *accuracies((EPE, D1))]
    columns += [*errors("mean", "rmse", "robust_sd", "jump_rate"), *ratios()]
    rows = scheme_rows(records)
    shown = table(("network", "scheme"), rows, columns)
    judged = verdict(rows)
    return "\n\n".join(part for part in (shown, shown and SCHEMES_NOTE, judged) if part)


def input_table(records: Records) -> str:
    """Networks that differ in their first layer: in float, in 8 bits, or a table for each pixel value in front."""
    rows: list[Row] = []
    for name, runs in records.networks(r for r in records.runs if r.family == "dispnet" and first_layer(r)).items():
        first = runs[0].inputs + (f", table of {runs[0].embedding}" if runs[0].embedding else "")
        for precision, target, decoder in ways(runs, MAIN):
            if decoder == PLAIN_DECODER:
                measured = Measured(records, tuple(runs), MAIN, precision, target, decoder)
                rows.append(((name, first, precision, target or "float"), measured))
    columns = [*seeds(), *accuracies((EPE, D1)), *errors("mean", "rmse", "robust_sd")]
    return table(("network", "input", "precision", "arithmetic"), rows, columns)


def real_table(records: Records) -> str:
    """The same networks on each set that was not generated."""
    networks, parts = remedied(records), []
    for where in sorted({name for run in records.runs for name in run.sets} - {MAIN}):
        rows: list[Row] = []
        for name, runs in networks.items():
            decoders = dict.fromkeys(
                d for p, t, d in ways(runs, where) if (p, t) == ("w8a8", "exact") and d != "masked"
            )
            rows += [((name, d), Measured(records, tuple(runs), where, decoder=d)) for d in decoders]
        columns = [
            *seeds(),
            *floats((EPE, D1)),
            *accuracies((EPE, D1)),
            *errors("mean", "rmse", "robust_sd"),
            *ratios(),
        ]
        if text := table(("network", "decoder"), rows, columns):
            pairs = max(run.sets[where].pairs for run in records.runs if where in run.sets)
            title = f"### {where.capitalize()} ({pairs} pair{'s' * (pairs != 1)})"
            parts += [title, text, verdict([(names, m) for names, m in rows])]
    return "\n\n".join(part for part in parts if part)
