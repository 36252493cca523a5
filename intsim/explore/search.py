"""Search: which bits of weights, activations, accumulators and multipliers, layer by layer, are worth their cost.

A point has widths of its own for every layer. Its accumulators start from the least proven ones, of its own codes, and
go below them by a slack. Optuna (NSGA-II or TPE) proposes points; every uniform network is evaluated beside them, and
each starts a point.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import tomli_w
from numpy.typing import NDArray

from intsim import __version__
from intsim.dispatch import machine
from intsim.engine.run import run_graph
from intsim.errors import IntsimError
from intsim.explore.configuration import CODES, MULTIPLIERS, with_multiplier
from intsim.explore.metrics import Metric, MetricResult, labels_of, read_metrics
from intsim.explore.network_costs import NetworkWidths, read_costs, widths
from intsim.explore.sweep import subject_of
from intsim.inputs import Inputs, Sample, samples_of
from intsim.model import Model
from intsim.narrowing import Narrowing
from intsim.notebook import Shown
from intsim.ops import OPS, Mac
from intsim.proofs.propose import by_layer, propose, with_bits
from intsim.targets import Target
from intsim.verification.executed import opened

FORMAT = "intsim-search-1"
KINDS = ("weights", "activations", "slack", "multiplier")
"""Of what a search varies."""
SAMPLERS = ("nsga2", "tpe")
MOST_SLACK = 32
NAME = "search.sqlite"
STUDY = "intsim"
MOST_TRIALS = 1_000_000
MOST_NETWORKS = 8
Report = Callable[[str], None]
Range = tuple[int, int]
Bits = tuple[tuple[str, int], ...]
"""By layer, in order."""


@dataclass(frozen=True)
class Point:
    """A network and a machine.

    Attributes:
        weights, activations, multiplier_bits: bits by layer, activations by quantizer; empty where none are searched.
        registers: bits of each layer's registers, stage by stage.
        uniform: all layers have the same bits, registers as many as the widest layer needs.
        proven: no register can overflow; `overflows` that were counted.
        values: the metric and the costs, in the order of the objectives.
        front: no other point is as good in all of them and better in one; `knee`: of these the one that gives most.
        toml: of the front, the text of the machine's target file.
        file: folder of its files, if any were written.
    """

    weights: dict[str, int]
    activations: dict[str, int]
    registers: dict[str, list[int]]
    multiplier_bits: dict[str, int]
    uniform: bool
    proven: bool
    overflows: int
    values: tuple[float, ...]
    front: bool = False
    knee: bool = False
    toml: str | None = None
    file: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not finite is null."""
        content = asdict(self)
        kinds = ("weights", "activations", "registers", "multiplier_bits")
        return {
            "configuration": {k: content.pop(k) for k in kinds},
            **content,
            "values": [v if math.isfinite(v) else None for v in self.values],
        }


@dataclass
class Search(Shown):
    """What `intsim.search` returns: all points, uniform ones first; `objectives` name their values.

    `greater` says of each objective whether more is better; `dominated` how many uniform points the front beats.
    """

    model: str
    target: str
    samples: int
    seed: int | None
    objectives: list[str]
    greater: list[bool]
    trials: int
    resumed: int
    points: list[Point] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def front(self) -> list[Point]:
        """The best points, by their first cost."""
        return sorted((p for p in self.points if p.front), key=lambda p: p.values[1:])

    @property
    def best(self) -> Point | None:
        """The knee of the front; without one the point that costs most there."""
        return next((p for p in self.front if p.knee), self.front[-1] if self.front else None)

    @property
    def uniform(self) -> list[Point]:
        """The uniform ones."""
        return [p for p in self.points if p.uniform]

    @property
    def dominated(self) -> int:
        """How many uniform points another point beats: as good in every objective and better in one."""
        costs = [self._signed(p) for p in self.points if not p.uniform]
        return sum(any(_beats(c, self._signed(u)) for c in costs) for u in self.uniform)

    def _signed(self, point: Point) -> tuple[float, ...]:
        return _signed(point.values, self.greater)

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers."""
        return {
            "format": FORMAT,
            "model": self.model,
            "target": self.target,
            "samples": self.samples,
            "seed": self.seed,
            "objectives": self.objectives,
            "greater": self.greater,
            "trials": self.trials,
            "resumed": self.resumed,
            "seconds": self.seconds,
            "uniform_points": len(self.uniform),
            "uniform_dominated": self.dominated,
            "points": [p.to_json() for p in self.points],
        }


def _signed(values: Sequence[float], greater: Sequence[bool]) -> tuple[float, ...]:
    """Less is better."""
    return tuple(-v if more else v for v, more in zip(values, greater, strict=True))


def _beats(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)


def front_of(values: Sequence[Sequence[float]]) -> list[bool]:
    """Of points where less is better, which no other beats; of equal ones the first."""
    array = np.array(values, float).reshape(len(values), -1)
    flags = []
    for i, own in enumerate(array):
        as_good = (array <= own).all(axis=1)
        flags.append(not (as_good & ((array < own).any(axis=1) | (np.arange(len(array)) < i))).any())
    return flags


def knee_of(values: Sequence[Sequence[float]]) -> int | None:
    """Of a front's points, less being better, the one whose objectives sum to the least; None for fewer than three.

    Each is scaled to 0..1 between its least and greatest value on the front: with two objectives it is the point
    furthest below the line through both ends.
    """
    array = np.array(values, float)
    if len(array) < 3:
        return None
    span = np.ptp(array, axis=0)
    scaled = (array - array.min(axis=0)) / np.where(span == 0, 1, span)
    return int(np.argmin(scaled.sum(axis=1)))


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class Ranges:
    """What is searched: least and most bits of weights, activations, multipliers; bits below proven registers."""

    weights: Range | None = None
    activations: Range | None = None
    multiplier: Range | None = None
    slack: int = 0

    def __post_init__(self) -> None:
        """Refuse ranges that are none."""
        for what, given, (low, high) in (
            ("weights", self.weights, CODES),
            ("activations", self.activations, CODES),
            ("multiplier", self.multiplier, MULTIPLIERS),
        ):
            ends = [low, high] if given is None else list(given)
            if len(ends) != 2 or not all(map(_whole, ends)) or not low <= ends[0] <= ends[1] <= high:
                shown = ":".join(map(str, ends))
                raise IntsimError(f"search: {what} {shown}; allowed: {low}..{high}, the least first")
        if not _whole(self.slack) or not 0 <= self.slack <= MOST_SLACK:
            raise IntsimError(f"search: slack {self.slack!r}; allowed: 0..{MOST_SLACK} bits below the proven ones")


class Network:
    """One set of codes: the network that has them, its proven registers, what its outputs are with these.

    Args:
        model: with those codes. target: whose registers get other widths.
    """

    def __init__(self, model: Model, target: Target) -> None:
        """Raises IntsimError where no width of a register is proven enough."""
        self.model, self.target = model, target
        runs = machine(model.graph, target)
        self.own = {n.shown: runs.arithmetic(n) for n in model.graph.nodes if isinstance(OPS[n.op], Mac)}
        self.needs: dict[Bits, dict[str, list[int]]] = {(): self._proven(target)}
        self.outputs: dict[Bits, tuple[list[float], int]] = {}

    def _proven(self, target: Target) -> dict[str, list[int]]:
        bits = {x.name: x.bits for x in propose(self.model, target).layers}
        return {n: self.fields(n) + b[len(self.fields(n)) :] for n, b in bits.items()}

    def fields(self, layer: str) -> list[int]:
        """Bits of a packed multiplier's fields, which are no matter of choice: the first stage, or none."""
        own = self.own[layer]
        return [own.stages[0].bits] if own.accumulate.packing is not None else []

    def proven(self, multipliers: Mapping[str, int]) -> dict[str, list[int]]:
        """The least widths that are proven, stage by stage, of the codes that these multipliers make."""
        key = tuple(sorted(multipliers.items()))
        if key not in self.needs:
            self.needs[key] = self._proven(self.machine(self.needs[()], multipliers, "point")[0])
        return self.needs[key]

    def registers(self, slack: Mapping[str, int], multipliers: Mapping[str, int]) -> dict[str, list[int]]:
        """Widths of each layer below the proven ones, none below 2 for that; a packed multiplier's fields stay."""
        proven = self.proven(multipliers)
        return {n: self.fewer(n, bits, slack.get(n, 0)) for n, bits in proven.items()}

    def fewer(self, layer: str, bits: Sequence[int], less: int) -> list[int]:
        """A layer's registers with fewer bits, none below 2 for that; a packed multiplier's fields stay."""
        kept = len(self.fields(layer))
        return [b if i < kept else max(min(b, 2), b - less) for i, b in enumerate(bits)]

    def uniform(self, multipliers: Mapping[str, int]) -> dict[str, list[int]]:
        """Of all layers the widest, stage by stage; a packed multiplier's fields stay."""
        proven = self.proven(multipliers)
        most = max(map(len, proven.values()))
        wide = [max(b[i] for b in proven.values() if i < len(b)) for i in range(most)]
        return {n: self.fields(n) + wide[len(self.fields(n)) : len(b)] for n, b in proven.items()}

    def machine(
        self, registers: Mapping[str, list[int]], multipliers: Mapping[str, int], name: str
    ) -> tuple[Target, dict[str, Any]]:
        """The target with these registers and multipliers, and the content of its file."""
        own = {}
        for layer, arithmetic in self.own.items():
            made = with_bits(arithmetic, registers[layer])
            own[layer] = with_multiplier(made, multipliers[layer]) if layer in multipliers else made
        return by_layer(self.model, self.target, own, name, whole=bool(multipliers))


def key_of(values: Mapping[tuple[str, str], int]) -> object:
    """What tells the points of a search apart."""
    return tuple(sorted(values.items()))


class Problem:
    """What a point of a search is worth: its metric over the data and its costs.

    Args:
        model, target, data: what is searched, from where, and on what.
        metric, labels: of the outputs, against the exact run of the model as it is.
        costs: of the widths.
        ranges: that are searched.
    """

    def __init__(
        self,
        model: Model,
        target: Target,
        data: Sequence[Sample],
        metric: Metric,
        labels: Any,
        costs: Sequence[Callable[[NetworkWidths], float]],
        ranges: Ranges,
    ) -> None:
        """Runs the model as it is. Raises IntsimError where there is nothing to search."""
        if ranges.multiplier is not None:  # what its offsets need of a register doesn't depend on its width
            most = ranges.multiplier[1]
            target = target.changed(lambda own: with_multiplier(own, most))
        self.model, self.target, self.data = model, target, data
        self.metric, self.labels, self.costs, self.ranges = metric, labels, costs, ranges
        self.channels = {x.name: x.channels for x in widths(model.graph, target).layers}
        self.layers = list(self.channels)
        if not self.layers:
            raise IntsimError(f"{model.path}: no layer adds up products, so there is nothing to search")
        self.narrowing = Narrowing(model) if ranges.weights or ranges.activations else None
        self.sources = {
            "weights": self.narrowing.weights() if self.narrowing is not None and ranges.weights else [],
            "activations": self.narrowing.activations() if self.narrowing is not None and ranges.activations else [],
        }
        self.parameters = self._parameters()
        if not self.parameters:
            raise IntsimError("search: nothing to vary; give ranges of weights, activations or multipliers, or a slack")
        exact = Target.load("exact")
        runs = (run_graph(model.graph, model.narrow_inputs(sample, target), exact) for sample in data)
        self.truth = [model.finish(s, r)[0] for s, r in zip(data, runs, strict=True)]
        self.known: dict[object, Network] = {}
        self.points: dict[object, Point] = {}

    def _parameters(self) -> dict[tuple[str, str], Range]:
        """By kind and name the least and the most that it may be."""
        made: dict[tuple[str, str], Range] = {}
        for kind, sources in self.sources.items():
            low, high = getattr(self.ranges, kind) or (0, 0)
            for source in sources:
                least = max(low, 1 + source.type.signed)
                made[kind, source.names[0]] = (min(least, source.bits), min(max(least, high), source.bits))
        for layer in self.layers:
            if self.ranges.slack:
                made["slack", layer] = (0, self.ranges.slack)
            if self.ranges.multiplier is not None:
                made["multiplier", layer] = self.ranges.multiplier
        return made

    def network(self, weights: Mapping[str, int], activations: Mapping[str, int]) -> Network:
        """The network with these codes; the last few are remembered."""
        key = tuple(sorted(weights.items())), tuple(sorted(activations.items()))
        if key not in self.known:
            if len(self.known) >= MOST_NETWORKS:
                del self.known[next(iter(self.known))]
            fewer = self.model
            if self.narrowing is not None and (weights or activations):
                fewer = self.narrowing.opened(self.target, weights or None, activations or None)
            self.known[key] = Network(fewer, self.target)
        return self.known[key]

    def point(self, values: Mapping[tuple[str, str], int]) -> Point:
        """A point of these values, by kind and name; each is evaluated once."""
        key = key_of(values)
        if key not in self.points:
            self.points[key] = self._evaluated(values)
        return self.points[key]

    def _evaluated(self, values: Mapping[tuple[str, str], int]) -> Point:
        of: dict[str, dict[str, int]] = {k: {} for k in KINDS}
        for (kind, name), value in values.items():
            of[kind][name] = value
        network = self.network(of["weights"], of["activations"])
        return self._point(network, of, network.registers(of["slack"], of["multiplier"]), False)

    def uniform(self, values: Mapping[str, int]) -> Point:
        """The point whose layers all have these bits, by kind, and the same registers."""
        of = {kind: {n: values[kind] for k, n in self.parameters if k == kind} for kind in values}
        for kind in ("weights", "activations"):
            limits = {n: self.parameters[kind, n] for n in of.get(kind, {})}
            of[kind] = {n: min(max(values[kind], low), high) for n, (low, high) in limits.items()}
        of |= {k: {} for k in ("multiplier",) if k not in of}
        network = self.network(of["weights"], of["activations"])
        return self._point(network, of, network.uniform(of["multiplier"]), True)

    def with_registers(self, registers: Mapping[str, list[int]]) -> Point:
        """The network as it is, with these registers, stage by stage."""
        return self._point(self.network({}, {}), {k: {} for k in KINDS}, registers, False)

    def _point(
        self, network: Network, of: Mapping[str, dict[str, int]], registers: Mapping[str, list[int]], uniform: bool
    ) -> Point:
        made = network.machine(registers, of["multiplier"], "point")[0]
        needs = network.proven(of["multiplier"])
        pairs = ((have, need) for n, bits in registers.items() for have, need in zip(bits, needs[n], strict=True))
        proven = all(have >= need for have, need in pairs)
        key = tuple(sorted(of["multiplier"].items()))
        if proven and key in network.outputs:  # no sum leaves its register, however wide that is
            scores, overflows = network.outputs[key]
        else:
            scores, overflows = self._run(network, made)
            if proven:
                network.outputs[key] = scores, overflows
        result = MetricResult.of(self.metric.name, scores)
        value = result.mean if result.mean is not None else next((s for s in scores if not math.isnan(s)), math.nan)
        if math.isnan(value):
            raise IntsimError(f"{self.model.path}: metric {self.metric.name} is no number on any sample")
        net = widths(network.model.graph, made)
        return Point(
            dict(of["weights"]),
            dict(of["activations"]),
            dict(registers),
            dict(of["multiplier"]),
            uniform,
            proven,
            overflows,
            (value, *(cost(net) for cost in self.costs)),
        )

    def _run(self, network: Network, target: Target) -> tuple[list[float], int]:
        """The metric of each sample, and overflow events."""
        scores, overflows = [], 0
        for i, sample in enumerate(self.data):
            ran = run_graph(network.model.graph, network.model.narrow_inputs(sample, target), target)
            outputs = network.model.finish(sample, ran)[0]
            scores.append(self.metric(outputs, self.truth[i], None if self.labels is None else self.labels[i]))
            overflows += sum(int(e.sum()) for e in ran.events.values())
        return scores, overflows

    def starts(self) -> Iterator[dict[str, int]]:
        """Bits of every uniform network, each once: of each kind that is searched every width that changes it."""
        kinds = [k for k in ("weights", "activations", "multiplier") if getattr(self.ranges, k) is not None]
        spans = [range(lo, hi + 1) for lo, hi in (getattr(self.ranges, k) for k in kinds)]
        seen = set()
        for values in product(*spans):
            bits = dict(zip(kinds, values, strict=True))
            own = tuple(self.start(bits).values())
            if own not in seen:
                seen.add(own)
                yield bits

    def start(self, bits: Mapping[str, int]) -> dict[tuple[str, str], int]:
        """The values of a uniform network, with registers as narrow as is proven."""
        values = {}
        for (kind, name), (low, high) in self.parameters.items():
            values[kind, name] = 0 if kind == "slack" else min(max(bits[kind], low), high)
        return values


def search(
    model: str | Path | onnx.ModelProto | Model,
    target: str | Path | Target = "exact",
    inputs: Inputs | None = None,
    samples: int | None = None,
    seed: int = 0,
    *,
    weights: Range | None = None,
    activations: Range | None = None,
    multiplier: Range | None = None,
    slack: int = 0,
    metric: str | Metric = "mae",
    labels: str | Path | NDArray[Any] | None = None,
    costs: Sequence[str] = ("bops",),
    trials: int = 100,
    sampler: Literal["nsga2", "tpe"] = "nsga2",
    storage: str | None = None,
    folder: str | Path | None = None,
    restart: bool = False,
    progress: Report | None = None,
) -> Search:
    """Search widths layer by layer: a metric against costs.

    Args:
        model: path, ModelProto or what `load` returned; QONNX or QCDQ where its codes are searched.
        target: a built-in name, a TOML file or a `Target`: order, lanes, overflow rule and requantizer.
        inputs, samples, seed: as `run` takes them; samples are drawn where no inputs are given. `seed` is that of the
            sampler too.
        weights, activations, multiplier: least and most bits of each layer, or None: as they are. Codes lose their
            last bits (`narrow`), which no retraining has made good.
        slack: how many bits below the proven ones a layer's registers may be.
        metric: a name, FILE.py:FUNCTION, MODULE:FUNCTION or a `Metric`; labels as `evaluate` takes them. Its mean
            counts, over samples where it is finite, so that of sqnr is without those that are exact.
        costs: names of `intsim.explore.network_costs.COSTS`, each an objective.
        trials: points that the sampler proposes, those of an interrupted search included.
        sampler: "nsga2" or "tpe", Optuna's.
        storage: an Optuna storage, as sqlite:///file; search.sqlite of `folder` where None, memory without one.
        folder: gets search.sqlite.
        restart: forget an earlier search in `folder`.
        progress: called with a line of text before each point.

    Raises:
        IntsimError: bad model, target, inputs, ranges, metric, costs or labels; layers that no register is proven
            enough for; Optuna isn't there; a storage that can't be used or holds another search.
    """
    began = time.monotonic()
    chosen, ranges = Target.load(target), Ranges(weights, activations, multiplier, slack)
    if sampler not in SAMPLERS:
        raise IntsimError(f"search: sampler {sampler!r}; allowed: {', '.join(SAMPLERS)}")
    if not _whole(trials) or not 1 <= trials <= MOST_TRIALS:
        raise IntsimError(f"search: {trials!r} trials; allowed: 1..{MOST_TRIALS}")
    loaded = opened(model, inputs, chosen)
    loaded.check_whole("a search")
    data = list(samples_of(loaded, inputs, samples, seed))
    known = labels_of(labels, len(data))
    (measured,) = read_metrics([metric], known is not None)
    problem = Problem(loaded, chosen, data, measured, known, read_costs(costs), ranges)
    say = progress or (lambda text: None)
    head = {
        "format": FORMAT,
        "intsim": __version__,
        **subject_of(loaded, chosen, data, [measured], known),
        "costs": list(costs),
        "ranges": json.loads(json.dumps(asdict(ranges))),
    }
    greater = [measured.greater, *(False for _ in costs)]
    where = storage or (None if folder is None else f"sqlite:///{Path(folder) / NAME}")
    tried = Trials(problem, where, head, greater, restart)
    uniform = []
    for i, bits in enumerate(problem.starts()):
        say("uniform: " + (", ".join(f"{k} {v}" for k, v in bits.items()) or "the network as it is"))
        uniform.append(tried.uniform(bits))
        if i < trials:
            problem.point(problem.start(bits))  # of the same codes, which are at hand now
    resumed = min(len(tried.done), trials)
    points = [*uniform, *tried.points(trials, sampler, seed, say)]
    made = Search(
        loaded.path,
        chosen.name,
        len(data),
        None if inputs is not None else int(seed),
        [measured.name, *costs],
        greater,
        trials,
        resumed,
        _ranked(problem, points, greater),
    )
    made.seconds = time.monotonic() - began
    return made


def _ranked(problem: Problem, points: Sequence[Point], greater: Sequence[bool]) -> list[Point]:
    """The same points, those of the front marked, with their machines."""
    signed = [_signed(p.values, greater) for p in points]
    front = [i for i, best in enumerate(front_of(signed)) if best]
    finite = [i for i in front if all(map(math.isfinite, signed[i]))]
    knee = knee_of([signed[i] for i in finite])
    ranked = list(points)
    for i in front:
        network = problem.network(points[i].weights, points[i].activations)
        content = network.machine(points[i].registers, points[i].multiplier_bits, f"point-{i}")[1]
        best = knee is not None and i == finite[knee]
        ranked[i] = replace(points[i], front=True, knee=best, toml=tomli_w.dumps(content))
    return ranked


class Trials:
    """What a sampler proposed, and uniform networks, in an Optuna storage or in memory.

    The sampler works in memory; a finished point goes to the storage at once, as a whole, and isn't evaluated again.

    Args:
        problem: what is searched.
        storage: an Optuna storage; None: nothing is kept.
        head: what its points hold for.
        greater: of each objective, whether more is better.
        restart: forget what the storage has.

    Raises:
        IntsimError: Optuna isn't there, a storage that fails, or one that holds another search.
    """

    def __init__(
        self, problem: Problem, storage: str | None, head: Mapping[str, Any], greater: Sequence[bool], restart: bool
    ) -> None:
        """Read what is there."""
        try:
            import optuna
        except ImportError:
            raise IntsimError('search: Optuna is missing; pip install "intsim[explore]"') from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.optuna: Any = optuna
        self.problem, self.storage = problem, storage
        self.directions = ["maximize" if more else "minimize" for more in greater]
        self.spans = {f"{kind}/{name}": (kind, name) for kind, name in problem.parameters}
        self.kept = None if storage is None else self._opened(storage, head, restart)
        self.done: list[Any] = []
        if self.kept is not None:
            with _one_line(storage):
                self.done = self.kept.get_trials(states=[optuna.trial.TrialState.COMPLETE])
        for trial in self.done:
            problem.points[self._key(trial.params)] = _read(trial.user_attrs["point"], trial.values)

    def _opened(self, storage: str, head: Mapping[str, Any], restart: bool) -> Any:
        optuna = self.optuna
        with _one_line(storage):
            if storage.startswith("sqlite:///"):
                Path(storage.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
            if restart and STUDY in optuna.get_all_study_names(storage):
                optuna.delete_study(study_name=STUDY, storage=storage)
            study = optuna.create_study(
                study_name=STUDY, storage=storage, directions=self.directions, load_if_exists=True
            )
            held = study.user_attrs.get("head")
            if held is None and not study.trials:
                study.set_user_attr("head", dict(head))
                return study
        if held is None:
            raise IntsimError(f"{storage}: holds a study named {STUDY} that is no search; give another storage")
        other = [k for k in head if held.get(k) != head[k]]
        if other:
            raise IntsimError(f"{storage}: holds a search with another {other[0]}; --restart begins anew")
        return study

    def _key(self, parameters: Mapping[str, int]) -> object:
        return key_of({self.spans[p]: v for p, v in parameters.items()})

    def uniform(self, bits: Mapping[str, int]) -> Point:
        """A uniform network's point, evaluated unless it is there."""
        name = "uniform " + json.dumps(dict(bits), sort_keys=True)
        held = None if self.kept is None else self.kept.user_attrs.get(name)
        if held is not None:
            return _read(held["point"], held["values"])
        point = self.problem.uniform(bits)
        if self.kept is not None:
            with _one_line(self.storage):
                self.kept.set_user_attr(name, {"point": point.to_json(), "values": point.values})
        return point

    def points(self, trials: int, sampler: str, seed: int, say: Report) -> list[Point]:
        """That many, in the order in which they were proposed, those that are there first."""
        optuna, done = self.optuna, self.done[:trials]
        own = {"tpe": optuna.samplers.TPESampler, "nsga2": optuna.samplers.NSGAIISampler}[sampler]
        study = optuna.create_study(directions=self.directions, sampler=own(seed=seed + len(done)))
        study.add_trials(done)
        tried = [trial.params for trial in done]
        for bits in self.problem.starts():
            start = {f"{kind}/{name}": v for (kind, name), v in self.problem.start(bits).items()}
            if start not in tried:
                study.enqueue_trial(start)
        limits = {p: optuna.distributions.IntDistribution(*self.problem.parameters[k]) for p, k in self.spans.items()}
        points = [self.problem.points[self._key(trial.params)] for trial in done]
        while len(points) < trials:
            say(f"point {len(points) + 1} of {trials}")
            trial = study.ask(limits)
            point = self.problem.point({self.spans[p]: v for p, v in trial.params.items()})
            study.tell(trial, point.values)
            points.append(point)
            if self.kept is not None:
                held = {"values": point.values, "user_attrs": {"point": point.to_json()}}
                made = optuna.trial.create_trial(params=trial.params, distributions=limits, **held)
                with _one_line(self.storage):
                    self.kept.add_trial(made)
        return points


@contextmanager
def _one_line(storage: str | None) -> Iterator[None]:
    """Failures of a storage, which raises what its driver does, as one line that names it."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise IntsimError(f"{storage}: can't be used as a storage: {type(error).__name__}: {reason}") from error


def _read(content: Mapping[str, Any], values: Sequence[float]) -> Point:
    """A point as a storage has it."""
    flags = {k: content[k] for k in ("uniform", "proven", "overflows")}
    return Point(**content["configuration"], **flags, values=tuple(values))
