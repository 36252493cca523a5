"""A target in words, its registers and packed fields drawn, as plain text."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.packing import Packing
from intsim.arithmetic.registers import BiasPlace, PaddingRule

if TYPE_CHECKING:
    from intsim.targets.rules import When
    from intsim.targets.target import Target

INDENT, WIDTH = 12, 120
BIAS: dict[BiasPlace, str] = {
    "after": "added into the last register after all products",
    "preload": "preloaded: the last register starts at it",
    "requantizer": "in the requantizer: no register holds it",
}
PADDING: dict[PaddingRule, str] = {"fed": "its zero point goes through the multiplier", "skipped": "makes no products"}
ANEW = {"tap": "at each tap of a kernel", "half": "after half of a layer's products"}


def describe(target: Target) -> str:
    """Several lines of at most 120 characters, but for sources and notes, which are as long as they are written."""
    lines = [f"{target.name}: {target.title}", ""]
    if target.runtime is not None:
        lines.append(f"predicts    {target.runtime}")
    if target.operands is None:
        lines.append("multiplier  takes values with their zero points removed, of any width")
    else:
        lines.append(f"multiplier  {target.operands.activation} activation x {target.operands.weight} weight")
    if target.registers.packing is not None:
        lines += _block("packing", _packing(target.registers.packing))
    lines.append(f"order       {' '.join(target.accumulate.order)}, the last one fastest")
    lines += _block("registers", _registers(target.stages))
    if target.accumulate.padding != "fed":
        lines.append(f"padding     {PADDING[target.accumulate.padding]}")
    lines.append(f"bias        {BIAS[target.accumulate.bias]}")
    lines.append(f"requantize  {target.requantize.words()}")
    for number, (rule, own) in enumerate(zip(target.when, target.arithmetics, strict=True), 1):
        wrapped = (
            wrap(line, WIDTH - INDENT, subsequent_indent=" " * (14 if line[0] == " " else 2))
            for line in _rule(rule, own, target)
        )
        lines += _block(f"rule {number}", [part for parts in wrapped for part in parts])
    if target.when:
        rest = "refused" if target.others == "refused" else "the arithmetic above"
        lines.append(f"others      {rest}; rules are tried in order, the first that holds decides")
    lines += _block("notes", list(target.notes))
    lines += _block("source", list(target.source))
    return "\n".join(lines)


def _rule(rule: When, own: Target, base: Target) -> list[str]:
    """When it holds, and what it changes."""
    lines = [f"{rule.conditions()}:"]
    if rule.refused is not None:
        return [f"{lines[0]} not predicted, {rule.refused}"]
    if rule.operands is not None:
        kinds = own.operands
        lines.append(
            "  multiplier  " + (f"{kinds.activation} x {kinds.weight}" if kinds else "any values, zero points removed")
        )
    if rule.accumulate is not None:
        anew = "".join(f", anew {_anew(s)}" for s in own.stages if s.restart is not None)
        lines.append(f"  registers   {chain(own)}{anew}")
        if rule.accumulate.order != base.accumulate.order:
            lines.append(f"  order       {' '.join(rule.accumulate.order)}")
        if rule.accumulate.bias != base.accumulate.bias:
            lines.append(f"  bias        {BIAS[rule.accumulate.bias]}")
        if rule.accumulate.padding != base.accumulate.padding:
            lines.append(f"  padding     {PADDING[rule.accumulate.padding]}")
    if rule.requantize is not None:
        lines.append(f"  requantize  {own.requantize.words()}")
    return lines if len(lines) > 1 else [f"{lines[0]} as above"]


def chain(target: Target) -> str:
    """The registers in short: bits, w wraps, s saturates; lanes before, packed fields as 2p, an LSB behind a dot."""
    drawn = [f"{f'{s.lanes}x' if s.lanes > 1 else ''}{s.bits}{s.overflow[0]}" for s in target.stages]
    if target.stages and target.stages[0].rounding is not None:
        first = target.stages[0]
        drawn[0] += f".2^{first.lsb}" if first.lsb is not None else f".-{first.drop}"
    if target.registers.packing is not None:
        drawn[0] = f"{len(target.registers.packing.offsets)}p{drawn[0]}"
    return " ".join(drawn) or "unbounded"


def _block(head: str, lines: list[str]) -> list[str]:
    """Lines under a heading in the first column."""
    return [f"{head if i == 0 else '':<{INDENT}}{line}" for i, line in enumerate(lines)]


def _registers(stages: tuple[Stage, ...]) -> list[str]:
    """The chain of registers, one under the other."""
    if not stages:
        return ["products ==> exact sum, unbounded"]
    lines = ["products"]
    for stage in stages:
        taken = "the rest" if stage.sum is None else f"{stage.sum} at a time"
        lanes = "" if stage.lanes == 1 else f"{stage.lanes} x "
        if stage.lanes > 1:
            taken = f"in turn to {stage.lanes} lanes" + ("" if stage.sum is None else f", {stage.sum} to each")
        if stage.restart is not None:
            taken += f", anew {_anew(stage)}"
        if stage.lsb is not None:
            taken += f", cast to multiples of 2^{stage.lsb}, rounded {stage.rounding}; so is all that is added below"
        if stage.drop:
            taken += f", without {stage.drop} lowest bits, rounded {stage.rounding}; so is all that is added below"
        lines.append(f"  |  {taken}")
        lines.append(f"  +--> {lanes}[{stage.bits} bits, {stage.overflow}]  {stage.min}..{stage.max}")
    return lines


def _anew(stage: Stage) -> str:
    """Where groups restart."""
    return ANEW.get(str(stage.restart), f"after {stage.restart} products")


def _packing(packing: Packing) -> list[str]:
    """What is packed, and a ruler of the wide register: one character a bit, the highest on the left."""
    counts = [(len(packing.channels), "channel"), (len(packing.pixels), "pixel")]
    words = " x ".join(f"{n} {what}s" for n, what in counts if n > 1) or "1 product"
    named = {c + p: (i, j) for i, c in enumerate(packing.channels) for j, p in enumerate(packing.pixels)}
    numbers, fields = "", ""
    for offset, width in sorted(zip(packing.offsets, packing.widths, strict=True), reverse=True):
        channel, pixel = named[offset]
        label = f"c{channel}" + (f" p{pixel}" if len(packing.pixels) > 1 else "")
        numbers += f"{offset:>{width}}"
        fields += f"[{label if len(label) <= width - 2 else '':^{width - 2}}]"
    if packing.correction == "borrow":
        note = "each field gets the bit below it, which repays the 1 that a negative lower field borrowed"
    else:
        note = "fields are read as they stand: a negative lower field has borrowed 1 from the next"
    top = str(packing.bits - 1)
    if not numbers[: len(top) + 1].strip():
        numbers = top + numbers[len(top) :]
    return [f"{words} share a multiplier; their sums lie in one {packing.bits}-bit register", numbers, fields, note]
