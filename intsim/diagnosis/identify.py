"""Which machine made a dump: the simplest mistakes that explain all integers of it, and inputs that tell them apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tomli_w
from numpy.typing import NDArray

from intsim.diagnosis import faults
from intsim.diagnosis.classes import Alike, alike, signatures, steps_of
from intsim.diagnosis.faults import Hypothesis
from intsim.diagnosis.layer import read_layer
from intsim.diagnosis.machine import Space, Stand, codes_of
from intsim.diagnosis.patterns import Pattern, pool
from intsim.diagnosis.search import MOST_CHANGES, Search, edges
from intsim.errors import IntsimError, writing
from intsim.golden.compare import Held, read_dump
from intsim.golden.manifest import Manifest
from intsim.graph import IntArray
from intsim.notebook import Shown
from intsim.targets import Target

FORMAT = "intsim-identification-1"
MOST_CLASSED = 1024
"""Machines that are put into classes, the nearest ones."""
TRIED = 48
"""Samples on which machines are held against each other."""
MOST_KINDS, MOST_AIMS = 320, 192
"""Requantizers that are told apart, and accumulators that are aimed at."""
MOST_PRODUCTS = 1 << 23
"""Products of a machine on those samples."""
Answer = Literal["specification", "one class", "several classes", "none"]


@dataclass(frozen=True)
class MachineClass:
    """Machines that make the dump and act alike on every sample that was tried.

    Attributes:
        changes: of the one that is nearest to the specification, in words; empty for the specification.
        machines: how many they are.
        proved: whether they act alike for every input, or only on the samples that were tried.
        alternatives: what some others of them change.
        toml: a target file of the nearest one; None where the grammar has no words for it.
    """

    changes: tuple[str, ...]
    machines: int
    proved: bool
    alternatives: tuple[tuple[str, ...], ...]
    toml: str | None


@dataclass(frozen=True)
class Nearest:
    """Where no machine explains the dump: the one that makes most of it.

    `wrong_channels` and `wrong_rows` hold all mismatches; empty where these are more than a quarter of all. Rows are
    positions, counted through.
    """

    changes: tuple[str, ...]
    mismatches: int
    wrong_channels: tuple[int, ...]
    wrong_rows: tuple[int, ...]


@dataclass(frozen=True)
class Identification(Shown):
    """What `intsim.identify` returns.

    Attributes:
        elements: of the dump; mismatches: those that differ from the specification's.
        classes: machines that make the whole dump, the simplest first.
        complete: False where some machines could not be computed on all elements; `classes` may lack some then.
        nearest: where there are no classes.
        samples: on which machines were held against each other.
        kinds: of the samples that were written for `next`, what each is made for.
    """

    vectors: str
    dump: str
    layer: str
    tensor: str
    elements: int
    mismatches: int
    classes: list[MachineClass]
    complete: bool
    nearest: Nearest | None
    samples: int
    kinds: tuple[str, ...] = ()

    @property
    def answer(self) -> Answer:
        """Whether the specification made the dump, or one other class of machines, or several may have, or none, of
        all with up to so many `mistakes`.

        One is said to be the only one only where every machine was looked at to the end.
        """
        if not self.classes:
            return "none"
        if len(self.classes) > 1 or not self.complete:
            return "several classes"
        return "one class" if self.classes[0].changes else "specification"

    @property
    def mistakes(self) -> int:
        """Machines with so many at once were looked at: one more than explain the dump, at most three."""
        return min(len(self.classes[0].changes) + 1, MOST_CHANGES) if self.classes else MOST_CHANGES

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers."""
        return {"format": FORMAT, "answer": self.answer, **_plain(asdict(self))}


def _plain(value: Any) -> Any:
    """Tuples as lists."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def identify(
    vectors: str | Path,
    dump: str | Path,
    *,
    layer: str | None = None,
    tensor: str | None = None,
    order: str | None = None,
    map: str | Path | None = None,
    next: tuple[int, str | Path] | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Identification:
    """Search the machines that make a dump of a layer: docs/guides/golden-vectors.md.

    Args:
        vectors: a folder that `intsim.vectors` wrote.
        dump: of a layer's codes or accumulators, as `intsim.compare` reads it.
        layer, tensor, order, map: as `intsim.compare` takes them.
        next: how many samples of the layer's operand to write at most, and the .npz: those that tell classes apart.
        seed: of the samples on which machines are held against each other.
        progress: called with a line of text now and then.

    Raises:
        IntsimError: as `compare` does; a layer without products, with weights that aren't constant, or with packed
            multipliers; vectors whose specification doesn't make them.
    """
    manifest = Manifest.read(Path(vectors))
    held = read_dump(manifest, Path(dump), layer=layer, tensor=tensor, order=order, map=map)
    if len(held) != 1:
        names = ", ".join(dict.fromkeys(h.golden.layer["name"] for h in held))
        raise IntsimError(f"{dump}: holds several tensors ({names}); say with --layer and --tensor which to explain")
    told, role = held[0], held[0].golden.entry["role"]
    spec = read_layer(manifest, told.golden.layer["name"])
    if role not in ("output", "accumulator"):
        raise IntsimError(f"{dump}: explains codes and accumulators, not {role}; give --tensor output or accumulator")
    if role == "output" and not told.golden.element.holds(told.values()):
        kind, values = told.golden.element, told.values()
        raise IntsimError(
            f"{dump}: holds {values.min()}..{values.max()}, no codes of {kind.name}; give their type in --map, or see "
            "intsim compare"
        )
    if role == "accumulator" and spec.back is not None:
        spec = replace(spec, back=None)
    space = Space(spec)
    codes = np.asarray(manifest.tensor(told.golden.layer, "operand").read(), np.int64)
    wanted = _by_reading(space, told)
    _check(space, codes, told)
    searching = Search(space, codes, wanted, progress)
    found = searching.run()
    stand, patterns = tried(space, found, seed, TRIED)
    classes = alike(stand, found[:MOST_CLASSED]) if found else []
    return Identification(
        *(str(vectors), str(dump), spec.name, role),
        elements=told.expected.size,
        mismatches=int((told.values() != told.expected).sum()),
        classes=[_described(space, c, manifest) for c in classes],
        complete=not searching.truncated and len(found) <= MOST_CLASSED,
        nearest=None if found else nearest(space, codes, wanted),
        samples=len(patterns),
        kinds=() if next is None else _write_next(stand, patterns, classes, *next),
    )


def _by_reading(space: Space, held: Held) -> dict[str, IntArray]:
    """What each reading of the dump says that the machine made: (samples, rows, channels)."""
    layer = space.layer
    values = np.asarray(held.values(), np.int64)
    shape = (len(values), *layer.result_shape)
    numbers = np.arange(values.size).reshape(shape)
    out: dict[str, IntArray] = {}
    for name, reading in faults.readings(layer.result_shape, layer.node.op != "matmul").items():
        made = np.empty(values.size, np.int64)
        made[reading(numbers).reshape(-1)] = values.reshape(-1)
        made = made.reshape(len(values), -1)[:, layer.outputs]
        if not any(np.array_equal(made, o) for o in out.values()):
            out[name] = made
    return out


def _check(space: Space, codes: IntArray, held: Held) -> None:
    """The specification as it was read makes the vectors' own integers."""
    layer = space.layer
    rows = np.unique(np.linspace(0, layer.extent[0] - 1, min(64, layer.extent[0])).astype(np.int64))
    stand = Stand(space, codes[:4], rows)
    own = np.asarray(held.expected[:4], np.int64).reshape(len(stand.codes), -1)[:, layer.outputs][:, rows]
    if not np.array_equal(stand.results(space.specification), own):
        raise IntsimError(
            f"layer {layer.name}: its vectors hold other integers than its constants and registers make; "
            "write them again with this version"
        )


def tried(space: Space, machines: Sequence[Hypothesis], seed: int, most: int) -> tuple[Stand, list[Pattern]]:
    """About `most` samples on which machines are held against each other, and the rows that are looked at."""
    patterns, set_ = pool(space, targets(space, machines), seed, most)
    layer = space.layer
    count = max(8, MOST_PRODUCTS // max(1, len(patterns) * layer.depth * layer.extent[1]))
    rows = _rows(space, count, set_, seed)
    return Stand(space, np.stack([p.codes for p in patterns]), rows), patterns


def _rows(space: Space, most: int, windows: Sequence[int], seed: int) -> IntArray:
    """Rows that are looked at: corners and edges, windows that were set, others at random."""
    count = space.layer.extent[0]
    if count <= most:
        return np.arange(count)
    chosen = np.unique(np.concatenate([edges(space)[: most // 4], np.array(windows, np.int64)[: most * 3 // 4]]))
    rest = np.random.default_rng(seed).choice(count, max(0, most - len(chosen)), replace=False)
    return np.unique(np.concatenate([chosen, rest]))


def targets(space: Space, machines: Sequence[Hypothesis]) -> list[tuple[int, int]]:
    """Few (channel, accumulator) that tell the requantizers of machines apart as far as accumulators can."""
    if space.layer.back is None:
        return []
    spec = space.specification
    kinds: dict[object, Hypothesis] = {}
    for h in (spec, *machines):
        if len(kinds) < MOST_KINDS:
            kinds.setdefault((h.rounder, h.scale, h.code), replace(spec, rounder=h.rounder, scale=h.scale, code=h.code))
    channels = np.unique(np.linspace(0, space.layer.extent[1] - 1, min(space.layer.extent[1], 16)).astype(int))
    columns: list[NDArray[np.int64]] = []
    places: list[tuple[int, int]] = []
    for channel in map(int, channels):
        steps = [s for k in kinds.values() if (s := steps_of(space, k, channel)) is not None]
        if not steps:
            continue
        low, high, own = steps[0][0], steps[0][1], steps[0][4:]
        moved = [_between(own, s[4:], channel) for s in steps if len(s) == len(steps[0])]
        some = np.concatenate([*moved, own[:1], own[-1:], own[:1] - 1, own[-1:] - 1, [low, high]])
        some = np.unique(np.clip(some, low, high))
        columns.append(np.stack([_codes(space, k, channel, some) for k in kinds.values()]))
        places += [(channel, int(a)) for a in some]
    if not places:
        return []
    table = np.concatenate(columns, axis=1)
    groups: IntArray = np.zeros(len(table), np.int64)
    chosen: list[int] = []
    while len(chosen) < MOST_AIMS:
        pairs = groups[:, None] * (1 << 20) + (table - table.min()) % (1 << 20)
        counts = [len(np.unique(pairs[:, i])) for i in range(pairs.shape[1])]
        best = int(np.argmax(counts))
        if counts[best] == len(np.unique(groups)):
            break
        chosen.append(best)
        groups = np.unique(pairs[:, best], return_inverse=True)[1].reshape(-1)
    return [places[i] for i in chosen]


def _between(own: IntArray, other: IntArray, channel: int) -> IntArray:
    """Some accumulators at which two machines' codes differ: the first one of steps that both have elsewhere."""
    places = np.flatnonzero(own != other)
    picked = places[[0, -1, channel % len(places)]] if places.size else places
    return np.minimum(own, other)[picked]


def _codes(space: Space, made: Hypothesis, channel: int, acc: IntArray) -> IntArray:
    """Codes, or what no code is where the requantizer refuses."""
    try:
        return codes_of(space, made, channel, acc)
    except IntsimError:
        return np.full(acc.shape, -(1 << 19))


def _described(space: Space, found: Alike, manifest: Manifest) -> MachineClass:
    first = found.first
    others = [h.changes for h in found.members[1:] if h.changes]
    picked = sorted(dict.fromkeys(others), key=len)[:4]
    return MachineClass(first.changes, len(found.members), found.proved, tuple(picked), as_toml(space, first, manifest))


def as_toml(space: Space, made: Hypothesis, manifest: Manifest) -> str | None:
    """A target file that describes a machine; None where what differs isn't a target's to say."""
    told = space.layer
    elsewhere = made.reading, made.operand, made.bias, made.scale, made.code
    if any(elsewhere) or made.rounder.rounding is not None or isinstance(made.rounder.requantizer, faults.Constants):
        return None
    axes, turn = space.orders[made.order]
    if made.order == faults.REVERSED or not isinstance(turn, slice):
        return None
    if any(isinstance(s, faults.Symmetric) for s in made.chain.stages):
        return None
    own = manifest.content["target"]["content"]
    if own.get("when"):
        return None  # the layer's rule is one of several
    keys = [s.keys() for s in made.chain.stages]
    accumulate = {"order": " ".join(axes), "stages": keys, "bias": made.place}
    accumulate |= {"padding": "skipped"} if told.operands.skipped else {}
    requantize = {k: v for k, v in made.rounder.requantizer.keys().items() if v not in (None, False)}
    if told.back is not None and not made.rounder.words:
        requantize = {k: v for k, v in told.back.requantizer.keys().items() if v not in (None, False)}
    content = {
        "title": f"What made a dump of layer {told.name}: {'; '.join(made.changes) or 'as specified'}"[:500],
        "source": [f"intsim identify, from {own['title']}"[:500]],
        **({"operands": own["operands"]} if own.get("operands") else {}),
        "accumulate": accumulate,
        "requantize": requantize,
    }
    if told.back is None:
        content["requantize"] = {k: v for k, v in own["requantize"].items() if v not in (None, False)}
    try:
        Target.from_content(content, "found", "found")
    except IntsimError:
        return None
    return tomli_w.dumps(content)


def nearest(space: Space, codes: IntArray, wanted: dict[str, IntArray]) -> Nearest:
    """Of the specification and the machines with one change, the one that makes most of some outputs; the
    specification where that makes no more of the whole dump."""
    count = space.layer.extent[0]
    rows = np.unique(np.linspace(0, count - 1, min(64, count)).astype(np.int64))
    some = Stand(space, codes[:8], rows)
    best, most = space.specification, -1
    known: dict[object, IntArray] = {}
    for made in [space.specification, *space.singles(list(wanted))]:
        key = made.operand, made.bias, made.place, made.order, made.chain.stages
        if key not in known:
            if len(known) > 8:
                known.clear()
            known[key] = some.accumulators(made)
        try:
            got = some.results(made, known[key])
        except IntsimError:
            continue
        right = int((got == wanted[made.reading][:8, rows]).sum())
        if right > most:
            best, most = made, right
    whole = Stand(space, codes, np.arange(count))
    wrong, own = (whole.results(m) != wanted[m.reading] for m in (best, space.specification))
    if own.sum() <= wrong.sum():
        best, wrong = space.specification, own
    return Nearest(best.changes, int(wrong.sum()), _few(wrong.any((0, 1))), _few(wrong.any((0, 2))))


def _few(flags: Any) -> tuple[int, ...]:
    """Where flags are set, if that is a quarter of the places or less."""
    places = np.flatnonzero(flags)
    return tuple(int(p) for p in places[:16]) if places.size and places.size <= max(1, len(flags) // 4) else ()


def _write_next(
    stand: Stand, patterns: Sequence[Pattern], classes: Sequence[Alike], count: int, path: str | Path
) -> tuple[str, ...]:
    """Write the samples that tell most classes apart, one after another; returns what they are made for."""
    table = signatures(stand, [c.first for c in classes])
    chosen: list[int] = []
    groups = np.zeros(len(classes), np.int64)
    while len(chosen) < min(count, len(patterns)):
        split = [_split(groups, table[:, i]) for i in range(len(patterns))]
        best = max(range(len(patterns)), key=lambda i: (split[i].max(initial=0), -i))
        if chosen and split[best].max(initial=0) == groups.max(initial=0):
            break
        chosen.append(best)
        groups = split[best]
    codes = np.stack([patterns[i].codes for i in chosen])
    with writing(Path(path)), open(path, "wb") as file:
        np.savez(file, operand=codes)
    return tuple(patterns[i].kind for i in chosen)


def _split(groups: IntArray, column: Any) -> IntArray:
    """Groups, each divided by what a column holds."""
    pairs = [(int(g), c) for g, c in zip(groups, column, strict=True)]
    numbers = {p: i for i, p in enumerate(dict.fromkeys(pairs))}
    return np.array([numbers[p] for p in pairs], np.int64)
