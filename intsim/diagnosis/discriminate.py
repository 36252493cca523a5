"""Few inputs of a layer that tell its specification from every plausible mistake, and the fault coverage they reach."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from intsim.diagnosis.classes import proved_key, signatures
from intsim.diagnosis.faults import readings
from intsim.diagnosis.identify import tried
from intsim.diagnosis.layer import read_layer
from intsim.diagnosis.machine import Space, Stand, defined
from intsim.diagnosis.patterns import Pattern
from intsim.dispatch import Machine, machine
from intsim.errors import IntsimError
from intsim.golden.layers import Layer, chosen, layers
from intsim.golden.manifest import Manifest
from intsim.golden.vectors import Options, Vectors, check_options, only, steps, steps_of, vectors, write_steps
from intsim.graph import IntArray
from intsim.inputs import Inputs, samples_of
from intsim.model import Model
from intsim.targets import Target
from intsim.verification.executed import opened

MOST_INPUTS, POOL = 256, 192
"""That are asked for, and of which they are chosen."""


@dataclass(frozen=True)
class Coverage:
    """Mistakes, one at a time, and how many of them some inputs tell from the specification.

    Attributes:
        faults: all that the layer can have.
        equivalent: those that are proved to change no integer, whatever the input.
        detected: those that the chosen inputs show.
        real: those that the given inputs alone show; random: those that as many uniform inputs show.
        undetected: the rest, in words; no input that was tried shows them, and nothing proves them equivalent.
        functions: how many different functions of the operand all of them are, on every input that was tried; told:
            how many the chosen inputs tell apart.
        kinds: what each chosen input was made for.
    """

    faults: int
    equivalent: int
    detected: int
    real: int | None
    random: int
    undetected: tuple[str, ...]
    functions: int
    told: int
    kinds: tuple[str, ...]

    @property
    def possible(self) -> int:
        """Faults that aren't proved equivalent."""
        return self.faults - self.equivalent

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists."""
        names = ("faults", "equivalent", "detected", "real", "random", "functions", "told")
        return {**{n: getattr(self, n) for n in names}, "undetected": list(self.undetected), "kinds": list(self.kinds)}


def discriminate(
    model: str | Path | onnx.ModelProto | Model,
    target: str | Path | Target = "exact",
    inputs: Inputs | None = None,
    *,
    out: str | Path,
    layer: str,
    count: int = 16,
    seed: int = 0,
    partial: bool = False,
    formats: Sequence[str] = ("npy", "hex"),
    bus_bits: int = 32,
    order: str = "NCHW",
    source: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Vectors, Coverage]:
    """Write golden vectors of one layer on constructed operands: docs/guides/golden-vectors.md.

    Args:
        model, target, out, partial, formats, bus_bits, order: as `vectors` takes them.
        inputs: of the network; what the layer reads of them comes before the constructed operands.
        layer: one multiply-accumulate layer with constant weights.
        count: how many operands to construct, 1..256.
        seed: of the construction.
        source: where the inputs come from, for the manifest.
        progress: called with a line of text now and then.

    Raises:
        IntsimError: as `vectors` does; a layer of another kind, or of tables and kernels instead of a requantizer.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_INPUTS:
        raise IntsimError(f"count is {count!r}; give 1..{MOST_INPUTS} operands")
    check_options(formats, bus_bits, order)
    on = Target.load(target)
    loaded = opened(model, inputs, on)
    loaded.check_whole("telling machines apart")
    runs = machine(loaded.graph, on)
    wanted = chosen(layers(runs.graph, loaded.graph), [layer], loaded.path)
    one = only(wanted, loaded.path, [layer])
    with tempfile.TemporaryDirectory() as folder:
        vectors(loaded, on, out=Path(folder) / "one", layer=[one.name], formats=("npy",), progress=progress)
        space = Space(read_layer(Manifest.read(Path(folder) / "one"), one.name))
    real = _real(loaded, runs, one, inputs)
    patterns, coverage = cover(space, count, real, seed, progress)
    operands = [*real, *(p.codes for p in patterns)]
    file = str(target) if isinstance(target, str | Path) and on.name != str(target) else None
    made = write_steps(
        out,
        loaded,
        runs,
        file,
        Options(tuple(formats), bus_bits, order, partial, (layer,)),
        steps_of(runs, one, operands),
        wanted,
        len(operands),
        {"seed": None, "inputs": source, "input_sha256": {}, "coverage": {"seed": seed, **coverage.to_json()}},
    )
    return made, coverage


def _real(model: Model, runs: Machine, layer: Layer, inputs: Inputs | None) -> list[IntArray]:
    """What a layer reads of the network's inputs."""
    if inputs is None:
        return []
    data = samples_of(model, inputs, None, 0)
    return [s.arrays[0] for s in steps(model, runs, [layer], data, None) if s.node is layer.head]


def cover(
    space: Space,
    count: int,
    real: Sequence[IntArray] = (),
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> tuple[list[Pattern], Coverage]:
    """Operands that show most single mistakes, and how many; `real` ones are there anyway."""
    spec = space.specification
    names = list(readings(space.layer.result_shape, space.layer.node.op != "matmul"))
    faults = [h for h in space.singles(names[:1]) if defined(space, h)]
    if progress is not None:
        progress(f"{len(faults)} single mistakes")
    stand, patterns = tried(space, faults, seed, POOL)
    rng = np.random.default_rng(seed + 1)
    low, high = space.layer.element.ends
    uniform = [rng.integers(low, high, space.layer.shape, np.int64, True) for _ in range(count)]
    codes = [*real, *(p.codes for p in patterns), *uniform]
    first, last = len(real), len(real) + len(patterns)
    table = signatures(Stand(space, np.stack(codes), stand.rows), [spec, *faults])
    shown = table[1:] != table[:1]
    open_ = [i for i, s in enumerate(shown) if not s.any()]
    own = proved_key(space, spec)
    same = [i for i in open_ if own is not None and proved_key(space, faults[i]) == own]
    chosen_ = _greedy(table, shown, range(first), list(range(first, last)), count)
    use = [*range(first), *chosen_]
    rest = [faults[i] for i in open_ if i not in set(same)]
    return [patterns[i - first] for i in chosen_], Coverage(
        len(faults),
        len(same),
        int(shown[:, use].any(axis=1).sum()),
        int(shown[:, :first].any(axis=1).sum()) if first else None,
        int(shown[:, last:].any(axis=1).sum()),
        tuple(h.changes[0] for h in rest),
        _distinct(table),
        _distinct(table[:, use]),
        tuple(patterns[i - first].kind for i in chosen_),
    )


def _greedy(
    table: NDArray[np.object_], shown: NDArray[np.bool_], given: range, pool: Sequence[int], count: int
) -> list[int]:
    """Samples that show most mistakes, one after another; then those that tell most functions apart."""
    seen = shown[:, given].any(axis=1) if len(given) else np.zeros(len(shown), bool)
    groups = _numbered(table[:, list(given)])
    out: list[int] = []
    for _ in range(min(count, len(pool))):
        left = [i for i in pool if i not in out]
        gains = [int((shown[:, i] & ~seen).sum()) for i in left]
        splits = [len(set(zip(groups, _numbered(table[:, [i]]), strict=True))) for i in left]
        best = max(range(len(left)), key=lambda n: (gains[n], splits[n], -n))
        out.append(left[best])
        seen |= shown[:, left[best]]
        groups = [hash(pair) for pair in zip(groups, _numbered(table[:, [left[best]]]), strict=True)]
    return out


def _numbered(columns: NDArray[np.object_]) -> list[int]:
    numbers: dict[tuple[Any, ...], int] = {}
    return [numbers.setdefault(tuple(row), len(numbers)) for row in columns]


def _distinct(table: NDArray[np.object_]) -> int:
    return len({tuple(row) for row in table})
