"""A machine as its TOML file describes it: operands, order, registers, packed multipliers, place of the bias.

Written from docs/targets.md. A dot product is a list of products in their order of arrival.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from .numbers import Refused, ends, held

LIBRARY = Path(__file__).resolve().parents[2] / "hardware" / "targets"


@dataclass(frozen=True)
class Register:
    """A stage: how many values a group has (None: the rest), bits, overflow rule, lanes."""

    sum: int | None
    bits: int
    overflow: str
    lanes: int


@dataclass(frozen=True)
class Machine:
    """A target. `operands` is None or ((signed, bits) of the activation, of the weight); `packing` None or a table."""

    name: str
    operands: tuple | None
    order: tuple
    stages: tuple
    packing: dict | None
    bias: str
    requantize: dict

    def __hash__(self):
        return hash(self.name)


def text_of(name):
    """The TOML text of a built-in target; a member of a family is its file with the number for the letter."""
    path = LIBRARY / f"{name}.toml"
    if path.exists():
        return path.read_text()
    stem, _, number = name.rpartition("-")
    (family,) = [p for p in LIBRARY.glob(f"{stem}-?.toml") if p.stem[-1].isupper()]
    return family.read_text().replace("$" + family.stem[-1], number)


def machine(text, name="machine"):
    """Read a target."""
    table = tomllib.loads(text)
    accumulate = table["accumulate"]
    given = table.get("operands")
    operands = None
    if given is not None:
        operands = tuple((given[k][0] == "s", int(given[k][1:])) for k in ("activation", "weight"))
    stages = tuple(
        Register(None if s["sum"] == "rest" else s["sum"], s["bits"], s["overflow"], s.get("lanes", 1))
        for s in accumulate["stages"]
    )
    packing = accumulate.get("packing")
    if packing is not None:
        packing = {"pixels": [0], **packing}
    order = tuple(accumulate.get("order", "kh kw cin").split())
    return Machine(name, operands, order, stages, packing, accumulate.get("bias", "after"), table["requantize"])


EXACT = Machine("unbounded", None, ("kh", "kw", "cin"), (), None, "after", {"scheme": "exact"})


@dataclass
class Stage:
    """What was seen in one stage while dot products ran: see `Sums`."""

    events: int = 0
    low: int = 0
    high: int = 0


def lives(values, stage, last):
    """Groups of values: what each register of a stage adds up before it hands on, in the order of handing on."""
    if last:
        return [list(values)]
    whole = len(values) if stage.sum is None else stage.sum * stage.lanes
    found = []
    for begin in range(0, len(values), max(whole, 1)):
        block = values[begin : begin + whole]
        found += [block[lane :: stage.lanes] for lane in range(min(stage.lanes, len(block)))]
    return found


@dataclass
class Sums:
    """One dot product on a machine.

    `result` is the finished accumulator. Of each stage: `events`, additions whose true sum did not fit; `lows` and
    `highs`, extremes of the sums as if this register had not overflowed (stages before it as they did), the empty
    register's 0 among them.
    """

    result: int
    events: list
    lows: list
    highs: list


def register_life(values, stage, seen):
    """Add values one after another into one register; returns what it holds at the end."""
    value = true = 0
    low, high = ends(stage.bits)
    for v in values:
        total = value + v
        seen.events += not low <= total <= high
        value = held(total, stage.bits, stage.overflow)
        true += v
        seen.low, seen.high = min(seen.low, true), max(seen.high, true)
    return value


def chain(values, stages, start, late):
    """Through a chain of registers: (result, what was seen of each stage)."""
    seen = []
    for i, stage in enumerate(stages):
        last = i == len(stages) - 1
        seen.append(Stage())
        groups = lives(values, stage, last)
        if last:
            groups = [[*start, *groups[0], *late]]
        values = [register_life(group, stage, seen[-1]) for group in groups]
    return values[0], seen


def dot(products, stages, start=(), late=()):
    """A dot product through registers; `start` and `late` are what the last register adds first and last."""
    if not stages:
        return Sums(sum(products) + sum(start) + sum(late), [], [], [])
    result, seen = chain(list(products), stages, list(start), list(late))
    return Sums(result, [s.events for s in seen], [s.low for s in seen], [s.high for s in seen])


def packed(products, stages, packing, start, late):
    """Several dot products in one multiplier.

    products[c][p] is a list, None where the multiplier has no partner; start[c][p], late[c][p] are lists. Returns
    {(c, p): Sums} of those that are there. An event of the first stage is a group read wrongly.
    """
    field = stages[0]
    offsets = {(c, p): a + b for c, a in enumerate(packing["channels"]) for p, b in enumerate(packing["pixels"])}
    there = [k for k in offsets if products[k[0]][k[1]] is not None]
    depth = len(products[there[0][0]][there[0][1]])
    size = depth if field.sum is None else field.sum
    read = {k: [] for k in there}
    seen = {k: Stage() for k in there}
    for begin in range(0, depth, max(size, 1)):
        wide, true = 0, dict.fromkeys(there, 0)
        for k in range(begin, min(begin + size, depth)):
            for key in there:
                value = products[key[0]][key[1]][k]
                wide += value * 2 ** offsets[key]
                true[key] += value
                seen[key].low, seen[key].high = min(seen[key].low, true[key]), max(seen[key].high, true[key])
        wide %= 2 ** packing["bits"]
        wide = held(wide, packing["bits"], "wrap")
        for key in there:
            value = held(wide // 2 ** offsets[key], field.bits, "wrap")
            if packing["correction"] == "borrow" and offsets[key] > 0:
                value += wide // 2 ** (offsets[key] - 1) % 2
            seen[key].events += value != true[key]
            read[key].append(value)
    found = {}
    for key in there:
        rest = dot(read[key], stages[1:], start[key[0]][key[1]], late[key[0]][key[1]])
        s = seen[key]
        found[key] = Sums(rest.result, [s.events, *rest.events], [s.low, *rest.lows], [s.high, *rest.highs])
    return found


def shift(kind, values, operand):
    """What is added to codes of a type (or of a range, where none is declared) so that they fit an operand.

    0, or half the operand's range: up where it is unsigned, down where it is signed.
    """
    signed, bits = operand
    low, high = kind if kind is not None else (min(values), max(values))
    least, most = ends(bits) if signed else (0, 2**bits - 1)
    half = 2 ** (bits - 1)
    for moved in (0, -half if signed else half):
        if least <= low + moved and high + moved <= most:
            return moved
    raise Refused(f"{low}..{high} does not fit {'s' if signed else 'u'}{bits}")
