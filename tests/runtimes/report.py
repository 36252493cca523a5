"""Writes docs/measured/runtimes.md: what the targets of runtimes predict, against the runtimes themselves.

`make runtimes`, or `python -m tests.runtimes.report` from the root of the tree, runs every runtime that is installed,
on this CPU and under qemu-x86_64 on Haswell, on drawn layers and networks, and compares every code. Part of a run:
`python -m tests.runtimes.report onnxruntime torch`, which keeps the other lines; `--codes N` stops each line at N
codes.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from intsim.errors import IntsimError

from . import batches, draw, litert, runtimes
from .test_targets import (
    LITERT,
    LITERT_OPERATORS,
    TARGETS,
    TORCH,
    WHOLE,
    litert_lines,
    predicted,
    torch_cases,
    torch_target,
)

ROOT = Path(__file__).resolve().parents[2]
PAGE, RECORD = ROOT / "docs" / "measured" / "runtimes.md", Path(__file__).with_name("record.json")
BATCH = 60
"""Cases handed to a runtime at once."""
LEFT = "leftover channels or codes of a vector round ties otherwise"
ENDS = "an end of a fused activation at half a code"
CAUSES: dict[tuple[str, str], str] = {
    **{("litert-ruy", op): LEFT for op in ("DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "MEAN", "QUANTIZE")},
    **{("litert-ruy", op): LEFT for op in ("ADD", "ADD broadcast")},
    **{("xnnpack", op): ENDS for op in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "ADD")},
    **{("xnnpack", op): ENDS for op in ("SUB", "MUL", "MAX_POOL_2D")},
}
"""Why codes of a target's operator differ, where some do."""

HEAD = """# Runtimes

What the targets of runtimes predict, against what the runtimes compute: drawn layers (weights over the whole INT8
range, all operand types, odd sizes, strides, dilations, paddings, groups, scales that make ties likely) and whole
networks, every code compared. A layer is compared on its own; of a network all tensors and the output. "not predicted"
counts layers that the target refuses, with the reason it gives most often.

Written by `make runtimes`. {where}

| target | runtime | CPU | operator | codes compared | codes differing | largest difference | not predicted | cause |
|---|---|---|---|---|---|---|---|---|
"""


@dataclass
class Line:
    """One operator of a runtime on a machine."""

    target: str
    runtime: str
    machine: str
    operator: str
    codes: int = 0
    differing: int = 0
    largest: int = 0
    layers: int = 0
    refused: int = 0
    reason: str = ""

    def compare(self, mine: np.ndarray, theirs: np.ndarray) -> None:
        """Add one tensor."""
        gap = np.abs(mine.astype(np.int64) - theirs.astype(np.int64))
        self.codes += gap.size
        self.differing += int(np.count_nonzero(gap))
        self.largest = max(self.largest, int(gap.max(initial=0)))

    def refuse(self, error: IntsimError) -> None:
        """Count a layer that isn't predicted."""
        self.refused += 1
        self.reason = str(error).split(": ", 2)[-1]

    def row(self) -> str:
        """A row of the table."""
        cpu = "this one" if self.machine == runtimes.NATIVE else self.machine
        refused = f"{self.refused} of {self.layers}" + (f": {self.reason}" if self.refused else "")
        cells = (f"`{self.target}`", self.runtime, cpu, self.operator, number(self.codes), number(self.differing))
        cause = CAUSES.get((self.target, self.operator), "") if self.differing else ""
        return f"| {' | '.join((*cells, str(self.largest), refused if self.refused else '0', cause))} |\n"


def number(value: int) -> str:
    """With thin groups of three."""
    return f"{value:,}".replace(",", " ")


def layers(line: Line, drawn: Iterator[list], run, codes: int) -> Line:
    """Cases, a batch at a time, until enough codes are compared."""
    while line.codes < codes:
        cases = next(drawn)
        kept, mine = [], []
        for case in cases:
            line.layers += 1
            try:
                mine.append(predicted(case, line.target))
                kept.append(case)
            except IntsimError as error:
                line.refuse(error)
        for answer, own in zip(run(kept) if kept else [], mine, strict=True):
            if isinstance(answer, str):
                raise RuntimeError(f"{line.target}, {line.operator}: {answer}")
            line.compare(own, answer["y"])
        print(f"{line.target} {line.machine} {line.operator}: {line.differing} of {line.codes}", file=sys.stderr)
    return line


def seeds(make) -> Iterator[list]:
    """Batch after batch."""
    seed = 0
    while True:
        seed += 1
        yield make(seed)


def onnxruntime(machine: str, codes: int) -> Iterable[Line]:
    """Every operator, and whole networks."""
    target, named = f"onnxruntime-{TARGETS[machine]}", f"onnxruntime {version('onnxruntime')}"
    for name in WHOLE:
        line = Line(target, named, machine, name)
        drawn = seeds(lambda seed, name=name: batches.ort(name, BATCH, seed, "qdq"))
        yield layers(line, drawn, lambda cases: runtimes.onnxruntime(cases, machine, "qdq"), codes)
    line, seed = Line(target, named, machine, "whole networks"), 0
    while line.codes < codes:
        seed += 1
        some = [draw.network(np.random.default_rng((seed, i)), ("u8s8", "u8u8")[i % 2]) for i in range(12)]
        kept, mine = [], []
        for one in some:
            line.layers += 1
            try:
                model = runtimes.executed(draw.model(one, "qdq", every_tensor=True))
                mine.append(model.run(draw.network_feeds(one), target).outputs)
                kept.append(one)
            except IntsimError as error:
                line.refuse(error)
        for every in (True, False):
            for answer, own in zip(runtimes.onnxruntime(kept, machine, "qdq", every), mine, strict=True):
                for tensor, theirs in answer.items():
                    line.compare(own[tensor], theirs)
        print(f"{target} {machine} networks: {line.differing} of {line.codes}", file=sys.stderr)
    yield line


def torch(machine: str, codes: int) -> Iterable[Line]:
    """Convolutions and linear layers of every backend."""
    for engine, names in TORCH.items():
        target, named = torch_target(engine, machine), f"torch {version('torch')} ({engine})"
        for name in names:
            line = Line(target, named, machine, name)
            drawn = seeds(lambda seed, name=name, engine=engine: torch_cases(name, BATCH, engine, seed))
            ask = lambda cases, engine=engine: runtimes.torch(cases, engine, machine)  # noqa: E731
            yield layers(line, drawn, ask, codes)


def lite(machine: str, codes: int) -> Iterable[Line]:
    """Every operator of the three kernel sets of LiteRT, here."""
    if machine != runtimes.NATIVE or litert.WHY_NOT is not None:
        print(f"LiteRT: {litert.WHY_NOT or 'natively only'}", file=sys.stderr)
        return
    for name in LITERT_OPERATORS:
        lines = {kind: Line(target, f"ai-edge-litert 2.3.0 ({kind})", machine, name) for kind, target in LITERT.items()}
        with TemporaryDirectory() as folder:
            for _, kind, count, differing, largest, refused in litert_lines([name], codes // 4000 + 1, Path(folder)):
                line = lines[kind]
                line.layers += 1
                line.codes, line.differing = line.codes + count, line.differing + differing
                line.largest = max(line.largest, largest)
                if refused is not None:
                    line.refuse(IntsimError(refused))
        yield from (line for line in lines.values() if line.layers)


PARTS = {"onnxruntime": onnxruntime, "torch": torch, "litert": lite}


def main(arguments: list[str]) -> None:
    """Run and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all of them if none is named")
    parser.add_argument("--codes", type=int, default=1_000_000, help="codes at which a line stops")
    parser.add_argument("--machine", choices=list(TARGETS), help="one machine only")
    asked = parser.parse_args(arguments)
    known = json.loads(RECORD.read_text()) if RECORD.exists() else []
    lines = {(x["target"], x["machine"], x["operator"]): Line(**x) for x in known}
    for part in asked.parts or PARTS:
        for machine in [asked.machine] if asked.machine else TARGETS:
            if (reason := runtimes.why_not(machine)) is not None:
                print(f"{part} on {machine}: {reason}", file=sys.stderr)
                continue
            for line in PARTS[part](machine, asked.codes):
                lines[line.target, line.machine, line.operator] = line
                RECORD.write_text(json.dumps([asdict(x) for x in lines.values()], indent=1) + "\n")
    PAGE.write_text(page(lines.values()))


def page(lines: Iterable[Line]) -> str:
    """The page."""
    cpu = "AVX512 and VNNI" if runtimes.NATIVE in TARGETS else "?"
    where = f'Python {platform.python_version()}; "this one" is an x86-64 CPU with {cpu}; Haswell is qemu-x86_64\'s.'
    return HEAD.format(where=where) + "".join(x.row() for x in lines)


if __name__ == "__main__":
    main(sys.argv[1:])
