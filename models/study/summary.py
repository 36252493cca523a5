"""The page's first section: what the tables say in a few sentences, every word of it computed."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from models.study.facts import overhead
from models.study.records import MAIN, Records
from models.study.sections import base, decoder_rows, rows_of, targets_of
from models.study.tables import EPE, RATIO, Row, deviation, number, verdict


def summary(records: Records) -> str:
    """Points on W8A8, generated pairs; empty where there is no plain network to compare with."""
    rows = rows_of(records, base(records))
    if not any(measured.ratio("mean") for _, measured in rows):
        return ""
    still = rows_of(records, base(records, noise=False))
    points = [verdict(rows, "Exact integers, nearest point: the bar"), _best(rows), *_accuracy(records, rows)]
    points += [_remedies(records), verdict(still, "Without feature noise in training: the bar")]
    points += [_targets(records), _cost(records)]
    return "\n".join(f"* {point}" for point in points if point)


def _best(rows: list[Row]) -> str:
    parts = []
    for figure in RATIO:
        each = [(statistics.fmean(m.ratio(figure.key)), names[0]) for names, m in rows if m.ratio(figure.key)]
        if each:
            most, name = max(each)
            parts.append(f"{figure.title.removeprefix('÷ ')} {number(most, 2)} ({name})")
    below = "Below 1 the plain network is better."
    return f"Largest ratios to the plain network's error, mean over seeds: {', '.join(parts)}. {below}"


def _accuracy(records: Records, rows: list[Row]) -> Iterator[str]:
    for title, precision, target in (("FP32", "fp32", None), ("W8A8", "w8a8", "exact")):
        each = [(names[0], [run.entry(MAIN, precision, target) for run in m.runs]) for names, m in rows]
        values = [(name, [e.accuracy["epe"] for e in entries if e]) for name, entries in each]
        cells = [f"{name} {deviation(epe, EPE)}" for name, epe in values if epe]
        yield f"{title} {EPE.title}: {', '.join(cells)}." if cells else ""


def _remedies(records: Records) -> str:
    rows = [(names, m) for names, m in decoder_rows(records) if m.decoder != "nearest" or m.runs[0].remedies]
    whole = [row for row in rows if all(e.coverage == 1 for _, e in row[1].seeds())]
    return verdict(whole, "Other decoders, guides and losses, on all pixels: the bar")


def _targets(records: Records) -> str:
    held: list[str] = []
    broken: list[str] = []
    for target in targets_of(records):
        judged = [m for _, m in rows_of(records, base(records), target=target) if m.ratio("mean")]
        if judged:
            (held if any(m.holds(False) for m in judged) else broken).append(target)
    if not broken:
        return ""
    kept = f"; some network reaches it on {', '.join(held)}" if held else ""
    return f"No network reaches the bar on {', '.join(broken)}{kept} (mean over seeds)."


def _cost(records: Records) -> str:
    each = [(name, overhead(records, runs)) for name, runs in base(records).items() if runs[0].order]
    cells = [f"{name} {more:+.1f} %" for name, more in each if more is not None]
    return f"Simulated time to that of the plain network, decoder included: {', '.join(cells)}." if cells else ""
