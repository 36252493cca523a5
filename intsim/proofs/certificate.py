"""What a certificate says, and its file: claims about one model on one target that can be checked again from the model.

The text is the same for the same model, target and samples: no time, no path.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from intsim.errors import IntsimError
from intsim.graph import IntArray, without_module
from intsim.notebook import Shown

FORMAT = "intsim-certificate-3"
FORMAT_2 = "intsim-certificate-2"
"""Files of this format have other keys; they are still read."""
FORMAT_1 = "intsim-certificate-1"
"""Nor do files of this format say whether their graph agrees with the file."""
Status = Literal["certified", "hybrid", "refuted", "open", "undecided", "unread", "disputed"]
STATUSES: tuple[Status, ...] = ("disputed", "refuted", "open", "undecided", "unread", "hybrid", "certified")
"""Worst first: a statement has the first of these that one of its parts has."""
Int64 = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]


@dataclass(frozen=True)
class Codes:
    """An integer tensor: `fill` everywhere but at the flat positions `at`."""

    fill: Int64
    at: list[Int64]
    values: list[Int64]

    @classmethod
    def of(cls, array: IntArray, fill: int | None = None) -> Codes:
        """An array in this form; `fill` None: its first value."""
        fill = int(array.reshape(-1)[0]) if fill is None else fill
        at = np.flatnonzero(array.reshape(-1) != fill)
        return cls(fill, at.tolist(), array.reshape(-1)[at].tolist())

    def array(self, shape: tuple[int, ...]) -> IntArray:
        """The array; raises IntsimError for positions outside `shape`."""
        out = np.full(shape, self.fill, np.int64)
        if self.at and not (len(self.at) == len(self.values) and min(self.at) >= 0 and max(self.at) < out.size):
            raise IntsimError(f"positions of a tensor of shape {shape} lie outside it")
        out.reshape(-1)[self.at] = self.values
        return out


@dataclass(frozen=True)
class NetworkRun:
    """A network input, run through the whole model on the target.

    Attributes:
        sample: number of the sample searched; None where the input was constructed from the integers given.
        sha256: of each network input's bytes (little-endian, C order, in the type it is run in).
        first_node: integer node at which the run on the target first leaves exact semantics.
        outputs_differ: whether an output of the file differs.
    """

    sample: int | None
    sha256: dict[str, str]
    first_node: str
    outputs_differ: bool


@dataclass(frozen=True)
class Counterexample:
    """Inputs for which integers on the target are wrong, and the wrong integer.

    Attributes:
        level: "layer": `inputs` are the multiply-accumulate's, within their proven ranges. "accumulator": they are a
            requantizer's. "network": `inputs` are the integer graph's, or those of a sample.
        through: integer nodes that are run on the target, one after another, on right inputs.
        tensor: what the last of them makes.
        position: where the wrong integer is.
        expected: exact semantics.
        got: the target's.
        accumulators: exact and on the target, where `through` goes on to a requantizer.
        codes: exact code and the target's behind a wrong accumulator, where one requantizer reads it.
        masked: the two codes are equal, and no candidate was found whose codes differ.
        inputs: integers by tensor.
        network: present at level "network".
    """

    level: Literal["layer", "accumulator", "network"]
    through: list[str]
    tensor: str
    position: list[int]
    expected: int
    got: int
    accumulators: list[int] | None = None
    codes: list[int] | None = None
    masked: bool = False
    inputs: dict[str, Codes] = field(default_factory=dict)
    network: NetworkRun | None = None


@dataclass(frozen=True)
class StageClaim:
    """One register: extremes of the true sums in it, the bits they need, how many channels may overflow.

    Stages count from 1.
    """

    stage: int
    bits: int
    overflow: str
    lanes: int
    low: int
    high: int
    required_bits: int
    unsafe_channels: int


@dataclass(frozen=True)
class LayerClaim:
    """The sums of one multiply-accumulate, by channel; every channel is of exactly one kind.

    Attributes:
        name: what a reader calls it: the module where the file names one, else the file's node.
        source: the file's node, where it names a module.
        module: that module.
        tensor: what it makes.
        inputs: proven range of each input tensor.
        low: least finished accumulator over all inputs within these ranges.
        high: greatest.
        safe_channels: how many channels have no register that can overflow.
        wraps_back: channels in which a register may overflow, and the sum is right all the same.
        tried: channels in which every input was tried, and the sum is right.
        wrong: channels in which an input was found for which the sum is wrong.
        undecided: channels for which neither was found.
    """

    node: str
    name: str
    op: str
    tensor: str
    inputs: list[list[int]]
    depth: int
    channels: int
    low: int
    high: int
    stages: list[StageClaim]
    safe_channels: int
    wraps_back: list[int] = field(default_factory=list)
    tried: list[int] = field(default_factory=list)
    wrong: list[int] = field(default_factory=list)
    undecided: list[int] = field(default_factory=list)
    source: str | None = None
    module: str | None = None

    @property
    def holds(self) -> bool:
        """No channel's sum can come out wrong."""
        return not self.wrong and not self.undecided


@dataclass(frozen=True)
class CellClaim:
    """One cell of a requantizer over the accumulators low..high.

    Attributes:
        cell: row-major number.
        low: least accumulator that can reach it.
        high: greatest.
        count: accumulators (with several inputs: combinations of codes) whose code is not the exact one.
        wrong_intervals: all of them, four numbers each: first, last, least and greatest code minus the exact one.
        refused_intervals: first and last, for which the scheme has no result; among `count`.
        reason: why the cell is undecided; empty when it isn't.
    """

    cell: int
    low: int
    high: int
    count: int
    wrong_intervals: list[int]
    refused_intervals: list[int]
    reason: str = ""

    @property
    def intervals(self) -> list[tuple[int, int]]:
        """First and last accumulator of each interval of wrong codes."""
        return list(zip(self.wrong_intervals[::4], self.wrong_intervals[1::4], strict=True))


@dataclass(frozen=True)
class RequantizerClaim:
    """One requantizer over all accumulators that can reach it.

    Attributes:
        reads: the tensors whose sum it takes.
        equal: whether every code is the exact one; None where a cell is undecided and no wrong code is known.
        exact_multiplier_widths: all fixed-point multiplier widths 4..32 with which it is exact, where asked for.
    """

    node: str
    name: str
    reads: list[str]
    equal: bool | None
    cells: list[CellClaim]
    exact_multiplier_widths: list[int] | None = None
    source: str | None = None
    module: str | None = None

    @property
    def reachable(self) -> int:
        """Accumulators looked at, over all cells."""
        return sum(c.high - c.low + 1 for c in self.cells)

    @property
    def count(self) -> int:
        """Accumulators, or combinations of inputs, that give a wrong code or none, over all cells."""
        return sum(c.count for c in self.cells)

    @property
    def undecided(self) -> list[CellClaim]:
        """Cells for which the proof gave up."""
        return [c for c in self.cells if c.reason]


@dataclass(frozen=True)
class Obstacle:
    """What stands between the target and exact semantics at one node."""

    kind: Literal["registers", "requantizer"]
    node: str
    name: str
    status: Status
    reason: str
    counterexamples: list[Counterexample] = field(default_factory=list)


@dataclass(frozen=True)
class Disagreement:
    """Where the lowered graph first leaves what the reference evaluator reads in the file.

    `input` is its number among the reading's inputs, `expected` the file's integer (of an output that no quantizer
    makes: its real value), `got` the graph's.
    """

    input: int
    name: str
    op: str
    tensor: str
    position: list[int]
    expected: int | float
    got: int | float


@dataclass(frozen=True)
class Reading:
    """The lowered graph against an independent reading of the file, on a few inputs.

    Attributes:
        inputs: what they are, corners of the input range among them.
        elements: how many were compared; values of outputs that no quantizer makes are among them.
        near_ties: of these, codes that float64 on the host, or the proven error of a Softmax, leaves open.
        sha256: of the inputs, one after another.
        cut: host tensors that have no exact form: their float64 values were taken as given.
        refused: why the reference evaluator can't read the file; empty if it can.
        disagreement: the first one; the comparison ended there.
    """

    inputs: list[str]
    elements: int
    near_ties: int
    sha256: str
    cut: list[str]
    refused: str = ""
    disagreement: Disagreement | None = None

    @property
    def status(self) -> Status:
        """What it says of the whole."""
        return "disputed" if self.disagreement is not None else "unread" if self.refused else "certified"


@dataclass(frozen=True)
class Certificate(Shown):
    """What `intsim.certify` returns; docs/certify.md says what it means.

    `search` is {"samples", "seed", "sha256"}: how many inputs were searched for a refutation, the seed they were
    drawn with (None: they were given, or none was searched), and the hash of all of them ("" of none). `reading`
    compares the graph with the file. `arrays` are the samples that refute something, by number.
    """

    intsim: str
    model: dict[str, Any]
    target: dict[str, Any]
    verdict: Status
    search: dict[str, Any]
    reading: Reading
    host: dict[str, list[str]]
    layers: list[LayerClaim]
    requantizers: list[RequantizerClaim]
    obstacles: list[Obstacle]
    multipliers: bool = False
    arrays: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether the integers equal exact semantics for every input, and the file as it was read a second time.

        `hybrid` says so of those between float islands, for all codes that these may hand on.
        """
        return self.verdict in ("certified", "hybrid")

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers, with the format's name and a digest of all the rest."""
        content = {"format": FORMAT, **{k: v for k, v in asdict(self).items() if k != "arrays"}}
        content |= {k: [without_module(claim) for claim in content[k]] for k in ("layers", "requantizers")}
        return {**content, "digest": digest(content)}

    def text(self) -> str:
        """The file: JSON, a list of numbers a line."""
        return text(self.to_json())


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of the content's canonical JSON, its own entry and the advice in `next_step` left out."""
    rest = {k: v for k, v in content.items() if k not in ("digest", "next_step")}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def text(content: Mapping[str, Any]) -> str:
    """Readable JSON; raw line ends, which no JSON string holds, tell lists of numbers from texts."""
    lines = json.dumps(content, indent=1)
    return re.sub(r"\[\n[\s\d,-]*\]", lambda m: "[" + " ".join(m[0][1:-1].split()) + "]", lines) + "\n"


def differences(mine: Any, theirs: Any, path: str = "") -> list[str]:
    """One line for every place in which a file's content (`theirs`) is not what was computed again (`mine`)."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        pairs = {k: (mine.get(k, MISSING), theirs.get(k, MISSING)) for k in {**mine, **theirs}}
        parts = [(f"{path}.{k}".lstrip("."), *pair) for k, pair in pairs.items()]
    elif type(mine) is type(theirs) and mine == theirs and not _nested(mine):
        return []
    elif isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        parts = [(_at(path, i, a), a, b) for i, (a, b) in enumerate(zip(mine, theirs, strict=True))]
    else:
        return [f"{path}: the file says {_short(theirs)}, computed again {_short(mine)}"]
    lines = [line for at, a, b in parts for line in differences(a, b, at)]
    return lines if isinstance(mine, dict) or _nested(mine) else lines[:1]


MISSING = "(nothing)"


def _nested(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(v, dict | list) for v in value)


def _at(path: str, index: int, value: Any) -> str:
    """Layers, requantizers and obstacles by their name in the file, others by number."""
    name = value.get("name") if isinstance(value, dict) else None
    return f"{path}[{name if name is not None else index}]"


def _short(value: Any) -> str:
    written = value if isinstance(value, str) else json.dumps(value)
    return written if len(written) <= 80 else written[:77] + "..."
