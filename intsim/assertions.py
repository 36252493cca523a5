"""Assertions for tests about a model on a target: what fails says which layer, which register and what to do.

`from intsim.assertions import assert_exact`, and a call in a test of pytest is the whole test.
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import onnx
from rich.console import Console

from intsim.inputs import Inputs
from intsim.model import Model
from intsim.proofs.bounds import bounds
from intsim.proofs.certify import certify
from intsim.report.certificate import lines, sentence
from intsim.report.next_step import NextStep, after_certify, after_verify, show_step, widen
from intsim.report.summary import can_overflow, overflowed
from intsim.report.text import counted, number
from intsim.report.verdict import first_divergence
from intsim.report.verdict import inputs as of_inputs
from intsim.targets import Target
from intsim.verification.executed import opened
from intsim.verification.verdict import Verdict
from intsim.verification.verify import verify

__all__ = ["assert_certified", "assert_exact", "assert_no_overflow"]
WIDTHS = (100, 10_000)
"""Columns of a failure: the first in which it fits; in the other one nothing is wrapped."""
MOST_LINES = 7
"""Of a failure; with what pytest writes around it they are fifteen at most."""
ISLANDS = "float islands run on the host between its integers, and nothing is said of these"
Source: TypeAlias = str | Path | onnx.ModelProto | Model


@dataclass
class _Asked:
    """What is asserted of, as advice on the next step wants to know it."""

    loaded: Model
    chosen: Target
    target: str

    def command(self, verb: str, *more: object, target: str | None = None, data: bool = False) -> str:
        words: list[object] = ["intsim", verb, self.loaded.path]
        words += [] if verb in ("inspect", "advise") else ["-t", target or self.target]
        return shlex.join(map(str, [*words, *more]))


def _asked(model: Source, target: str | Path | Target, inputs: Inputs | None) -> _Asked:
    chosen = Target.load(target)
    return _Asked(opened(model, inputs, chosen), chosen, chosen.name if isinstance(target, Target) else str(target))


def assert_exact(
    model: Source,
    target: str | Path | Target,
    inputs: Inputs | None = None,
    samples: int | None = None,
    seed: int = 0,
) -> None:
    """Assert that a target makes every integer of exact arithmetic on some inputs, and no register overflows.

    Args:
        model, target, inputs, samples, seed: as `intsim.verify` takes them.

    Raises:
        AssertionError: it doesn't: the first wrong integer with its cause, the layers, and what to do.
        IntsimError: as `intsim.verify` does.
    """
    __tracebackhide__ = True
    asked = _asked(model, target, inputs)
    found = verify(asked.loaded, asked.chosen, inputs, samples, seed, references=False)
    if found.holds and found.verdict == "exact":
        return
    if found.holds:
        raise AssertionError(_text(f"{found.model} on {found.target} is {found.verdict}: {ISLANDS}", [], None))
    wrong, total = sum(x.mismatches for x in found.layers), sum(x.elements for x in found.layers)
    head = f"{found.model} on {found.target}: {number(wrong)} of {number(total)} integers are wrong"
    told = [first_divergence(found.first_divergence)] if found.first_divergence else []
    raise AssertionError(
        _text(
            f"{head}, {of_inputs(found.samples, found.seed)}", [*told, *_overflows(found)], after_verify(asked, found)
        )
    )


def assert_no_overflow(
    model: Source,
    target: str | Path | Target,
    inputs: Inputs | None = None,
    samples: int | None = None,
    seed: int = 0,
) -> None:
    """Assert that no register of a target overflows: proven for every input, or on given inputs or drawn samples.

    Args:
        model, target, inputs, samples, seed: as `intsim.verify` takes them; without inputs and samples it is a proof.

    Raises:
        AssertionError: one can, or does: layers, widths that they need, and what to do.
        IntsimError: as `intsim.verify` and `intsim.bounds` do.
    """
    __tracebackhide__ = True
    asked = _asked(model, target, inputs)
    if inputs is None and samples is None:
        proven = bounds(asked.loaded, asked.chosen)
        unsafe = [x for x in proven.layers if not x.safe]
        if unsafe:
            told = [f"{x.name}: {line}" for x in unsafe for line in can_overflow(x)]
            head = f"{proven.model} on {proven.target}: registers of {counted(len(unsafe), 'layer')} can overflow"
            raise AssertionError(_text(head, told, widen(asked, proven)))
        return
    found = verify(asked.loaded, asked.chosen, inputs, samples, seed, references=False)
    if found.overflows:
        head = f"{found.model} on {found.target}: {counted(found.overflows, 'overflow')}"
        raise AssertionError(_text(f"{head}, {_of(found)}", _overflows(found), widen(asked)))


def assert_certified(
    model: Source, target: str | Path | Target, inputs: Inputs | None = None, samples: int | None = None, seed: int = 0
) -> None:
    """Assert that a target is certified: every integer exact for every input, and the file read a second time agrees.

    Args:
        model, target, inputs, samples, seed: as `intsim.certify` takes them.

    Raises:
        AssertionError: it isn't: what stands between, and what to do.
        IntsimError: as `intsim.certify` does.
    """
    __tracebackhide__ = True
    asked = _asked(model, target, inputs)
    made = certify(asked.loaded, asked.chosen, inputs, samples, seed)
    if made.verdict != "certified":
        told = [line for o in made.obstacles if o.status != "certified" for line in lines(o)]
        head = f"{made.model['file']} on {made.target['name']} is {made.verdict}: {sentence(made)}"
        raise AssertionError(_text(head, told, after_certify(asked, made)))


def _of(found: Verdict) -> str:
    return of_inputs(found.samples, found.seed)


def _overflows(found: Verdict) -> list[str]:
    return [f"{x.name}: {line}" for x in found.layers for line in overflowed(x)]


def _text(head: str, told: Iterable[str], step: NextStep | None) -> str:
    """What pytest shows, wrapped; of many layers as many as there is room for."""
    named = list(told)
    lines: list[str] = []
    for width in WIDTHS:
        first, last = _wrapped(head, width), [] if step is None else _wrapped(step, width)
        for count in range(len(named), min(len(named), 1) - 1, -1):
            more = [f"... and {len(named) - count} more"] if count < len(named) else []
            layers = [line for one in named[:count] for line in _wrapped(one, width)]
            lines = [*first, *layers, *more, *last]
            if len(lines) <= MOST_LINES:
                return "\n".join(lines)
    return "\n".join(lines)


def _wrapped(what: str | NextStep, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    show_step(console, what) if isinstance(what, NextStep) else console.print(what, markup=False)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]
