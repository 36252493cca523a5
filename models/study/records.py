"""What the study has measured: results files, read and checked, and the entries of a network over its seeds."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from intsim.errors import IntsimError
from models.disparity import Network

Figure = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A measured number; JSON's null stands for one that is infinite or not known."""
Figures = dict[str, Figure]
MAIN = "generated"
"""The set on which networks are compared; all others are real pairs."""
PLAIN_DECODER = "nearest"
REMEDIES = ("guide", "commit", "depth")


class _Table(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Entry(_Table):
    """One way of running and decoding a network, on one set; see `models.study.measure`."""

    precision: str
    target: str | None = None
    decoder: str = PLAIN_DECODER
    coverage: Figure = 1.0
    accuracy: Figures
    error: Figures | None = None


class EntrySet(_Table):
    """All entries of one set, and its number of pairs."""

    pairs: int
    entries: list[Entry]


class Training(_Table):
    """How long a network was trained, on what; validation holds step, mean and median end-point error in pixels."""

    steps: int
    seconds: float
    device: str
    validation: list[tuple[float, Figure, Figure]] = []


class Cost(_Table):
    """Of one image pair: multiplications and bytes, by part, and CPU milliseconds in the simulator."""

    macs: dict[str, int]
    bytes: dict[str, int]
    milliseconds: Figures
    pixels: int


class Run(_Table):
    """One results file: a recipe with one seed."""

    run: str
    recipe: str
    seed: int
    family: str = "dispnet"
    order: Annotated[int, Field(ge=0, le=4)]
    dimensions: Literal[2, 3] = 2
    guide: bool = False
    noise: float
    inputs: str = "cost-volume"
    embedding: int = 0
    parameters: int
    training: Training
    sets: dict[str, EntrySet]
    cost: Cost | None = None

    @property
    def head(self) -> str:
        """The part of the recipe's name that tells the head, such as ``p3`` or ``c1``; empty where none does."""
        return next((part for part in self.recipe.split("_") if re.fullmatch(r"[pc]\d", part)), "")

    @property
    def remedies(self) -> list[str]:
        """What was added to the head or the loss, by the recipe's name."""
        return [part for part in self.recipe.split("_") if part in REMEDIES]

    @property
    def scheme(self) -> str:
        """What else the recipe's name says: ``q_w4a4``, ``first_float``; empty for networks at W8A8."""
        known = {self.family, self.head, "still", *REMEDIES}
        return "_".join(part for part in self.recipe.split("_") if part not in known)

    @property
    def length(self) -> float:
        """Times that the curve is as long as the axis, in output codes; 1 for a plain head."""
        return Network(self.recipe, self.order, 16, 16, dimensions=self.dimensions).steps / 256

    def entry(self, where: str, precision: str, target: str | None, decoder: str | None = None) -> Entry | None:
        """The entry of that name; without a decoder the nearest point's, or else the first there is."""
        matching = [e for e in self.entries(where) if (e.precision, e.target) == (precision, target)]
        wanted = [e for e in matching if e.decoder == (decoder or PLAIN_DECODER)]
        return next(iter(wanted or (matching if decoder is None else [])), None)

    def entries(self, where: str) -> list[Entry]:
        """All entries of a set; none where it was not measured."""
        return self.sets[where].entries if where in self.sets else []


class Layer(_Table):
    """Error of one layer's output: RMS over the RMS of the float values, and the largest."""

    name: str
    relative_rms: Figure = Field(validation_alias=AliasChoices("relative_rms", "error"))
    max: Figure = Field(validation_alias=AliasChoices("max", "largest"))


class Demo(_Table):
    """Another task than disparity: one row for each network and seed. error_unit: of the errors, if not `unit`."""

    class Row(_Table):
        """A network's metric in float, as exact integers and on other targets, and its quantization error."""

        network: str
        seed: int
        fp32: Figure
        w8a8: Figure
        targets: Figures = {}
        error: Figures = {}

    demo: str
    metric: str
    unit: str = ""
    error_unit: str | None = None
    data: str = ""
    rows: list[Row]

    def ratios(self, network: str, key: str) -> list[float]:
        """Error of p0 over a network's, by seed, where both are there."""
        plain = {row.seed: row.error for row in self.rows if row.network == "p0"}
        rows = [row for row in self.rows if row.network == network != "p0" and row.seed in plain]
        pairs = [(plain[row.seed].get(key, math.nan), row.error.get(key, math.nan)) for row in rows]
        return [above / below if below else math.nan for above, below in pairs]


class Records(_Table):
    """All that a results folder holds. layers: by the stem of the file, without ``_layers``."""

    runs: list[Run]
    layers: dict[str, list[Layer]]
    demos: list[Demo]

    def networks(self, runs: Iterable[Run] | None = None) -> dict[str, list[Run]]:
        """Runs by recipe, plain networks first, then by dimensions, order and name; seeds in order."""
        by_recipe: dict[str, list[Run]] = {}
        for run in sorted(self.runs if runs is None else runs, key=_place):
            by_recipe.setdefault(run.recipe, []).append(run)
        return by_recipe

    def plain(self, run: Run, fits: Callable[[Run], object]) -> Run | None:
        """The plain network that a run is compared with, of those that `fits` accepts.

        Family, seed, scheme, feature noise, inputs and embedding agree; of several the shortest name is taken.
        """
        same = [
            other
            for other in self.runs
            if other.order == 0 and all(getattr(other, key) == getattr(run, key) for key in _EQUAL) and fits(other)
        ]
        return min(same, key=lambda other: (len(other.recipe), other.recipe), default=None)


_EQUAL = ("family", "seed", "scheme", "noise", "inputs", "embedding")


def _place(run: Run) -> tuple[object, ...]:
    return (
        run.family != "dispnet",
        run.family,
        run.order > 0,
        run.dimensions,
        run.order,
        len(run.recipe),
        run.recipe,
        run.seed,
    )


def read(folder: Path) -> Records:
    """Read every ``*.json`` of a results folder: ``demo_*``, ``*_layers`` and, all others, runs.

    Raises:
        IntsimError: there is no results file, one can't be read, is no JSON or not of its kind; or two are one run.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise IntsimError(f"{folder}: no results; make some with python -m models.study measure")
    runs, layers, demos = [], {}, []
    for path in paths:
        if path.stem.startswith("demo_"):
            demos.append(_checked(path, Demo))
        elif path.stem.endswith("_layers"):
            layers[path.stem.removesuffix("_layers")] = _checked(path, list[Layer])
        else:
            runs.append(_checked(path, Run))
            if any((r.recipe, r.seed) == (runs[-1].recipe, runs[-1].seed) for r in runs[:-1]):
                raise IntsimError(f"{path}: recipe {runs[-1].recipe}, seed {runs[-1].seed} is in another file, too")
    return Records(runs=runs, layers=layers, demos=demos)


def _checked(path: Path, kind: Any) -> Any:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise IntsimError(f"{path}: can't be read as results ({error})") from None
    try:
        return TypeAdapter(kind).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise IntsimError(f"{path}: {place or 'results'}: {first['msg']}; measure it again") from None
