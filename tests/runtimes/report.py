"""Writes docs/measured/runtimes.md: what the targets of runtimes predict, against the runtimes themselves.

`make runtimes`, or `python -m tests.runtimes.report` from the root of the tree, runs every runtime that is installed,
on this CPU and under qemu-x86_64 on Haswell, on drawn layers and networks, and compares every code. Part of a run:
`python -m tests.runtimes.report onnxruntime torch`, which keeps the other lines; `--codes N` stops each line at N
codes, `--operators conv add` are the lines that are made anew.

Layers are drawn small, as rare shapes are what differs; each is then given as many inputs as it takes to reach a
few thousand codes.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import intsim
from intsim.errors import IntsimError
from intsim.inputs import draw as draw_inputs

from . import batches, draw, litert, runtimes, zoo
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
BATCH, EACH = 60, 6000
"""Cases handed to a runtime at once, and about how many codes each has."""
NETWORKS = 12
"""Drawn networks, each of which has --codes codes."""
NETS = "whole networks"
CHANNELS, VECTORS = ("DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"), ("QUANTIZE", "ADD", "SUB", "MUL", "ADD broadcast")
CAUSES: dict[tuple[str, str], str] = {
    **{("litert-ruy", op): "the last (channels mod 8) channels round ties otherwise" for op in CHANNELS},
    ("litert-ruy", "MEAN"): "the last (channels mod 16) channels round ties otherwise",
    **{("litert-ruy", op): "the last (codes mod 16) codes of a tensor round ties otherwise" for op in VECTORS},
}
"""Why codes of a target's operator differ, where some do."""

Wanted = Callable[[str], bool]

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
        tell(line)
    return line


def tell(line: Line) -> None:
    """Progress."""
    print(f"{line.target} {line.machine} {line.operator}: {line.differing} of {line.codes}", file=sys.stderr)


def seeds(make) -> Iterator[list]:
    """Batch after batch of enlarged layers."""
    seed = 0
    while True:
        seed += 1
        rng = np.random.default_rng(seed)
        yield [draw.enlarged(rng, case, EACH) for case in make(seed)]


def networks(line: Line, drawn: Iterator[draw.Network], read, run, codes: int) -> Line:
    """Whole networks, each on as many inputs as give it `codes` codes; every tensor is compared."""
    while line.layers < line.refused + NETWORKS:
        one = next(drawn)
        line.layers += 1
        try:
            model = read(draw.model(one, "qdq", every_tensor=True))
            first = model.run(one.feeds, line.target).outputs
        except IntsimError as error:
            line.refuse(error)
            continue
        rng, many = np.random.default_rng(line.layers), [one]
        while len(many) * sum(codes_.size for codes_ in first.values()) < codes:
            more = {name: draw.codes(rng, array.dtype, array.shape) for name, array in one.feeds.items()}
            many.append(draw.Network(one.layers, more))
        mine = [first, *(model.run(other.feeds, line.target).outputs for other in many[1:])]
        for answers in run(many):
            for answer, own in zip(answers, mine, strict=True):
                if isinstance(answer, str):
                    raise RuntimeError(f"{line.target}, {line.operator}: {answer}")
                for tensor, theirs in answer.items():
                    line.compare(own[tensor], theirs)
        tell(line)
    return line


def numbered(make) -> Iterator:
    """One drawn thing for each seed."""
    seed = 0
    while True:
        seed += 1
        yield make(np.random.default_rng(seed), seed)


def onnxruntime(machine: str, codes: int, wanted: Wanted) -> Iterable[Line]:
    """Every operator, whole networks with and without their inner tensors shown, and the zoo's."""
    target, named = f"onnxruntime-{TARGETS[machine]}", f"onnxruntime {version('onnxruntime')}"
    for name in filter(wanted, WHOLE):
        drawn = seeds(lambda seed, name=name: batches.ort(name, BATCH, seed, "qdq"))
        line = Line(target, named, machine, name)
        yield layers(line, drawn, lambda cases: runtimes.onnxruntime(cases, machine, "qdq"), codes)
    if wanted(NETS):
        drawn = numbered(lambda rng, seed: draw.network(rng, ("u8s8", "u8u8")[seed % 2], size=24))
        ask = lambda many: (runtimes.onnxruntime(many, machine, "qdq", every) for every in (True, False))  # noqa: E731
        yield networks(Line(target, named, machine, NETS), drawn, runtimes.executed, ask, codes)
    if wanted(zoo.LAYERS):
        ask = lambda cases: runtimes.onnxruntime(cases, machine, "qdq")  # noqa: E731
        yield zoo_line(Line(target, named, machine, zoo.LAYERS), ask, codes)
    if wanted(zoo.ENCODERS):
        line, seed = Line(target, named, machine, zoo.ENCODERS), 0
        while line.codes < codes:
            seed += 1
            for model in zoo.encoders():
                line.layers += 1
                loaded = runtimes.executed(model)
                feeds = draw_inputs(loaded, seed)
                own = loaded.run(feeds, target).outputs
                job = {"library": "ort", "model": model.SerializeToString(), "feeds": feeds}
                (answer,) = runtimes.answer([job], machine)
                for tensor, theirs in answer.items():
                    line.compare(own[tensor], theirs)
            tell(line)
        yield line


def zoo_line(line: Line, run, codes: int) -> Line:
    """The layers of the zoo's networks on the codes that ONNX Runtime gives them."""
    seed = 0
    while line.codes < codes:
        seed += 1
        layers(line, iter([zoo.cases(seed, line.target)]), run, line.codes + 1)
    return line


def torch(machine: str, codes: int, wanted: Wanted) -> Iterable[Line]:
    """Convolutions and linear layers of every backend, and networks of convolutions."""
    for engine, names in TORCH.items():
        target, named = torch_target(engine, machine), f"torch {version('torch')} ({engine})"
        if not wanted(target):
            continue
        ask = lambda cases, engine=engine: runtimes.torch(cases, engine, machine)  # noqa: E731
        for name in filter(wanted, names):
            line = Line(target, named, machine, name)
            drawn = seeds(lambda seed, name=name, engine=engine: torch_cases(name, BATCH, engine, seed))
            yield layers(line, drawn, ask, codes)
        if wanted(NETS):
            zero = 0 if engine == "onednn" else None
            drawn = numbered(lambda rng, seed, zero=zero: draw.torch_network(rng, zero))
            whole = lambda many, engine=engine: [runtimes.torch_networks(many, engine, machine)]  # noqa: E731
            yield networks(Line(target, named, machine, NETS), drawn, intsim.load, whole, codes)
        if wanted(zoo.LAYERS):
            yield zoo_line(Line(target, named, machine, zoo.LAYERS), ask, codes)


def lite(machine: str, codes: int, wanted: Wanted) -> Iterable[Line]:
    """Every operator of the three kernel sets of LiteRT, and whole networks, here."""
    if machine != runtimes.NATIVE or litert.WHY_NOT is not None:
        print(f"LiteRT: {litert.WHY_NOT or 'natively only'}", file=sys.stderr)
        return
    for name in filter(wanted, [*LITERT_OPERATORS, NETS]):
        lines = {kind: Line(target, f"ai-edge-litert 2.3.0 ({kind})", machine, name) for kind, target in LITERT.items()}
        seed, count = 0, NETWORKS if name == NETS else BATCH
        while seed == 0 or max(line.codes for line in lines.values()) < codes:
            seed += 1
            with TemporaryDirectory() as folder:
                found = litert_lines([name], count, Path(folder), seed, EACH)
                for _, kind, size, differing, largest, refused in found:
                    line = lines[kind]
                    line.layers += 1
                    line.codes, line.differing = line.codes + size, line.differing + differing
                    line.largest = max(line.largest, largest)
                    if refused is not None:
                        line.refuse(IntsimError(refused))
            for line in lines.values():
                tell(line)
        yield from (line for line in lines.values() if line.layers)


PARTS = {"onnxruntime": onnxruntime, "torch": torch, "litert": lite}


def main(arguments: list[str]) -> None:
    """Run and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all of them if none is named")
    parser.add_argument("--codes", type=int, default=1_000_000, help="codes at which a line stops")
    parser.add_argument("--operators", nargs="+", help="lines of these operators only, as they are called in the table")
    parser.add_argument("--targets", nargs="+", help="lines of these targets of torch only")
    parser.add_argument("--machine", choices=list(TARGETS), help="one machine only")
    asked = parser.parse_args(arguments)
    known = json.loads(RECORD.read_text()) if RECORD.exists() else []
    lines = {(x["target"], x["machine"], x["operator"]): Line(**x) for x in known}

    def wanted(name: str) -> bool:
        known = asked.targets if name in torch_targets else asked.operators
        return name in (known or [name])

    torch_targets = {torch_target(engine, machine) for engine in TORCH for machine in TARGETS}
    for part in asked.parts or PARTS:
        for machine in [asked.machine] if asked.machine else TARGETS:
            if (reason := runtimes.why_not(machine)) is not None:
                print(f"{part} on {machine}: {reason}", file=sys.stderr)
                continue
            for line in PARTS[part](machine, asked.codes, wanted):
                known = json.loads(RECORD.read_text()) if RECORD.exists() else []
                lines = {(x["target"], x["machine"], x["operator"]): Line(**x) for x in known}
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
