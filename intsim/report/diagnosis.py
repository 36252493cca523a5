"""Which machine made a dump, and how many mistakes some inputs show: as tables and in words."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console

from intsim.diagnosis.discriminate import Coverage
from intsim.diagnosis.identify import Identification, MachineClass
from intsim.golden.manifest import Manifest
from intsim.report.next_step import NextStep
from intsim.report.table import Column, note, say, show_table
from intsim.report.text import counted, number

MOST_CLASSES = 8
"""That are shown; JSON has all."""
AS_SPECIFIED = "as specified"
VERDICTS = {
    "specification": ("only the specification makes this dump", "green"),
    "one class": ("one class of machines makes this dump", "yellow"),
    "several classes": ("several machines make this dump", "yellow"),
    "none": ("no machine makes this dump", "red"),
}


def show_identification(console: Console, found: Identification) -> None:
    """The classes, the simplest first, or the nearest machine."""
    say(
        console,
        f"{found.layer}, {found.tensor}: {number(found.mismatches)} of {number(found.elements)} differ from the "
        "specification",
    )
    shown = found.classes[:MOST_CLASSES]
    if shown:
        show_table(
            console,
            [
                Column("class", [str(i) for i in range(1, len(shown) + 1)]),
                Column("changes", ["; ".join(c.changes) or AS_SPECIFIED for c in shown], "text"),
                Column("machines", [number(c.machines) for c in shown]),
                Column("proved", ["yes" if c.proved else "" for c in shown], "text"),
            ],
            f"{found.dump} against {found.vectors}",
        )
        note(
            console,
            f"machines of a class act alike on {counted(found.samples, 'sample')} that differ from this dump's; "
            "proved: for every input",
        )
    if len(found.classes) > len(shown):
        note(console, f"{number(len(found.classes) - len(shown))} more: --json")
    for one in shown[:1]:
        if one.alternatives:
            note(console, f"of class 1 also: {'; or: '.join(', '.join(a) for a in one.alternatives)}")
    if not found.complete:
        note(console, "not every machine was looked at to the end: there may be more")
    if found.nearest is not None:
        near = found.nearest
        share = 100 * (1 - near.mismatches / max(1, found.elements))
        where = [
            f"{what} {', '.join(map(str, places))}"
            for what, places in (("channels", near.wrong_channels), ("positions", near.wrong_rows))
            if places
        ]
        what = "; ".join(near.changes) or AS_SPECIFIED
        say(
            console,
            f"nearest: {what}: {share:.2f} % of the elements"
            + (f"; all {number(near.mismatches)} mismatches are in {' and '.join(where)}" if where else ""),
        )
    text, colour = VERDICTS[found.answer]
    if found.answer == "several classes" and not found.complete and len(found.classes) == 1:
        text = "one class of machines makes this dump, and others may"
    elif len(found.classes) > 1 and not found.classes[0].changes:
        text = "the specification makes this dump, and so do machines that act differently elsewhere"
    if found.answer != "several classes":
        text += f", of all known ones with up to {counted(found.mistakes, 'mistake')}"
    say(console, "verdict: ", (text, colour))


def after_identification(found: Identification, words: list[str], written: str | None = None) -> NextStep | None:
    """What to do next; `words` are the command, `written` is where operands were written that tell classes apart."""
    if found.answer == "specification":
        return None
    if written is not None:
        content = Manifest.read(Path(found.vectors)).content
        target = content["target"]["path"] or content["target"]["name"]
        command = ["intsim", "vectors", content["model"]["path"], "-t", target, "--layer", found.layer]
        text = f"write golden vectors of the operands in {written}, let your design compute them, and identify its dump"
        return NextStep(text, shlex.join([*command, "--operands", written, "--out", f"{written}.golden"]), found.layer)
    if found.answer == "several classes":
        text = "let your design compute operands that tell these classes apart, and identify that dump"
        return NextStep(text, shlex.join([*words, "--next", "2", "next.npz"]), found.layer)
    first: MachineClass | None = found.classes[0] if found.classes else None
    if first is not None and first.toml is not None:
        text = "write what made it as a target, to verify the network on it"
        return NextStep(text, shlex.join([*words, "--out", "found.toml"]), found.layer)
    if first is not None:
        text = f"in the design: {'; '.join(first.changes)}"
    else:
        text = "see the first wrong integer, and trace its additions"
    compared = [words[0], "compare", *words[2:]]
    return NextStep(text, shlex.join(compared), found.layer)


def show_coverage(console: Console, found: Coverage) -> None:
    """How many mistakes the inputs show."""

    def share(count: int) -> str:
        return f"{100 * count / max(1, found.possible):.1f} %"

    say(
        console,
        f"{number(found.faults)} single mistakes: {number(found.equivalent)} proved to change nothing, "
        f"{number(found.detected)} of the other {number(found.possible)} shown by these operands "
        f"({share(found.detected)})",
    )
    note(console, f"as many uniform operands show {number(found.random)} ({share(found.random)})")
    if found.real is not None:
        note(console, f"the inputs alone show {number(found.real)} ({share(found.real)})")
    note(console, f"{number(found.told)} of {number(found.functions)} different functions told apart")
    if found.undetected:
        named = "; ".join(found.undetected[:MOST_CLASSES])
        more = f"; {len(found.undetected) - MOST_CLASSES} more: --json" if len(found.undetected) > MOST_CLASSES else ""
        note(console, f"shown by no operand that was tried, and not proved to change nothing: {named}{more}")
