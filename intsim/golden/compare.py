"""A dump against golden vectors: how many integers differ, and everything about the first wrong one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.golden.dump import dumped, elements, format_of, integers, named, ordered
from intsim.golden.element import Element, Values
from intsim.golden.grammar import Dump, read_map
from intsim.golden.layout import ORDERS, POSITIONS, Layout, of_data, of_weights
from intsim.golden.manifest import Golden, Manifest
from intsim.notebook import Shown

FORMAT = "intsim-comparison-1"


@dataclass(frozen=True)
class FirstWrong:
    """The first wrong integer of a tensor, in the order of the dump.

    Attributes:
        element: its number in the dump, from 0.
        sample: of several samples; channel: None where the tensor has no axis of channels.
        position: in the tensor, in the network's order of axes.
        expected, got: what it should be, and what the dump holds.
        before: the accumulator there, where the layer has one of that shape.
        registers: what each stage's registers held there after the last addition, where the vectors say it.
    """

    element: int
    sample: int
    channel: int | None
    position: tuple[int, ...]
    expected: int
    got: int
    before: int | None = None
    registers: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True)
class TensorComparison:
    """One tensor of a dump. `order` is that in which it was read."""

    layer: str
    tensor: str
    order: str
    elements: int
    mismatches: int
    first: FirstWrong | None = None
    also: str | None = None  # an order in which all integers are right
    narrower: str | None = None  # a type of the dump's elements with which all integers are right


@dataclass(frozen=True)
class Comparison(Shown):
    """What `intsim.compare` returns: tensors in the network's order."""

    vectors: str
    dump: str
    tensors: list[TensorComparison]

    @property
    def same(self) -> bool:
        """Whether every integer is right."""
        return not any(t.mismatches for t in self.tensors)

    @property
    def wrong(self) -> TensorComparison | None:
        """The first tensor in the network's order that has a wrong integer."""
        return next((t for t in self.tensors if t.mismatches), None)

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers."""
        tensors = [asdict(t) for t in self.tensors]
        for one in tensors:
            if one["first"] is not None:
                one["first"]["position"] = list(one["first"]["position"])
        return {"format": FORMAT, "vectors": self.vectors, "dump": self.dump, "same": self.same, "tensors": tensors}


def compare(
    vectors: str | Path,
    dump: str | Path,
    *,
    layer: str | None = None,
    tensor: str | None = None,
    order: str | None = None,
    map: str | Path | None = None,
) -> Comparison:
    """Hold a dump against vectors: docs/guides/golden-vectors.md.

    Args:
        vectors: a folder that `intsim.vectors` wrote.
        dump: .npy, .npz, hexadecimal as `$readmemh` reads it, decimal text, raw little-endian integers, or .vcd.
        layer: the layer; may be left out where the vectors hold one, or an .npz names it.
        tensor: its role; the layer's result if None.
        order: of the dump's elements, "NCHW", "NHWC", "finn" or "hls4ml"; that of the vectors if None.
        map: a TOML file that says the rest.

    Raises:
        IntsimError: vectors or a dump that can't be read, or a dump of another length. One line.
    """
    manifest = Manifest.read(Path(vectors))
    found = [
        _compared(manifest, held)
        for held in read_dump(manifest, Path(dump), layer=layer, tensor=tensor, order=order, map=map)
    ]
    places = {x["name"]: i for i, x in enumerate(manifest.layers)}
    found.sort(key=lambda t: places[t.layer])
    return Comparison(str(vectors), str(dump), found)


class Held(NamedTuple):
    """A tensor of a dump beside its golden one.

    `wanted` and `got` are flat, in the dump's order; `places` is of each element its place in the golden tensor
    (`expected`, (samples, *shape)), -1 of what only fills.
    """

    golden: Golden
    order: str
    expected: Values
    wanted: Values
    got: Values
    places: NDArray[np.int64]
    folded: bool

    def values(self) -> Values:
        """What the dump holds, (samples, *shape) in the network's order."""
        inside = self.places >= 0
        out = np.empty(self.expected.size, self.got.dtype)
        out[self.places[inside]] = self.got[inside]
        return out.reshape(self.expected.shape)


def read_dump(
    manifest: Manifest,
    path: Path,
    *,
    layer: str | None = None,
    tensor: str | None = None,
    order: str | None = None,
    map: str | Path | None = None,
) -> list[Held]:
    """A dump's tensors beside golden ones, read as `compare` reads them. Raises as it does."""
    if order is not None and order not in ORDERS:
        raise IntsimError(f"order {order!r}: allowed: {', '.join(ORDERS)}")
    given = [Dump()] if map is None else read_map(Path(map)).each()
    found: list[Held] = []
    for told in given:
        told = told.model_copy(
            update={k: v for k, v in (("layer", layer), ("tensor", tensor), ("order", order)) if v is not None}
        )
        file = path if told.file is None else (Path(map or ".").parent / told.file)
        found += _tensors(manifest, file, told)
    return found


def _tensors(manifest: Manifest, path: Path, told: Dump) -> Iterator[Held]:
    """The tensors of one file."""
    if format_of(path, told) == "npy":
        arrays = dumped(path)
        if "" not in arrays:
            yield from _archive(manifest, path, told, arrays)
            return
    golden = manifest.tensor(_layer(manifest, path, told), told.tensor)
    yield _held(manifest, golden, path, told, None)


def _layer(manifest: Manifest, path: Path, told: Dump) -> dict[str, Any]:
    if told.layer is not None:
        return manifest.layer(told.layer)
    if len(manifest.layers) == 1:
        return manifest.layers[0]
    names = ", ".join(x["name"] for x in manifest.layers[:12])
    raise IntsimError(f"{path}: say with --layer whose integers it holds: {names}")


def _archive(manifest: Manifest, path: Path, told: Dump, arrays: dict[str, NDArray[Any]]) -> Iterator[Held]:
    """The arrays of an .npz: those named after layers; a lone one is what --layer says."""
    asked = [manifest.layer(told.layer)] if told.layer is not None else manifest.layers
    for layer in asked:
        roles = manifest.roles(layer) if told.tensor is None else [told.tensor]
        default = manifest.tensor(layer, told.tensor).entry["role"]
        folder = layer["tensors"][0]["files"]
        stem = next(iter(folder.values())).split("/")[0]
        taken = {role: f"{n}.{role}" for role in roles for n in (stem, layer["name"]) if f"{n}.{role}" in arrays}
        plain = named(arrays, layer, stem, default)
        if plain is not None:
            taken.setdefault(default, plain)
        if not taken and told.layer is not None and len(arrays) == 1:
            taken[default] = next(iter(arrays))
        for role, name in taken.items():
            yield _held(manifest, manifest.tensor(layer, role), path, told, arrays.pop(name))
            if not arrays:
                return
    if told.layer is None and arrays:
        first = next(iter(arrays))
        raise IntsimError(f"{path}: array {first!r} is called like no layer, nor LAYER.TENSOR; give --layer")
    if told.layer is not None and not taken:
        raise IntsimError(f"{path}: no array is called {told.layer!r}; its arrays are {', '.join(list(arrays)[:12])}")


def _held(manifest: Manifest, golden: Golden, path: Path, told: Dump, array: NDArray[Any] | None) -> Held:
    """One tensor beside its golden one."""
    if golden.element.kind == "f":
        raise IntsimError(f"{path}: {golden.entry['role']} holds floats; compare integers")
    order = told.order or manifest.content["options"]["order"]
    expected = golden.read()
    wanted, places = _wanted(golden, expected, order, told.fold)
    row = len(wanted) // golden.samples
    if order == "finn" and golden.shape:
        row = golden.shape[_layout(golden, order).permutation[-1]]
    if array is not None and told.bus is None:
        got = integers(array, str(path))
    else:
        got = elements(path, told, golden.element, row, array)
    if got.ndim > 1:
        _check_shape(golden, got, order, told, path)
        got = got.reshape(-1)
    if len(got) != len(wanted):
        raise IntsimError(_wrong_length(golden, order, len(got), len(wanted), path, told))
    return Held(golden, order, expected, wanted, got, places, told.fold is not None)


def _compared(manifest: Manifest, held: Held) -> TensorComparison:
    """How many of a tensor's integers are wrong, and the first one."""
    golden, order, expected, wanted, got, places, folded = held
    wrong = np.flatnonzero((got != wanted) & (places >= 0))
    layer, role = golden.layer["name"], golden.entry["role"]
    size = int((places >= 0).sum())
    if not wrong.size:
        return TensorComparison(layer, role, order, size, 0)
    at = int(wrong[0])
    first = _first(manifest, golden, at, int(places[at]), int(wanted[at]), int(got[at]))
    also = None
    for other in () if folded else ORDERS:
        again = _wanted(golden, expected, other, None)[0]
        if other != order and np.array_equal(again, got):
            also = other
            break
    return TensorComparison(layer, role, order, size, len(wrong), first, also, _narrower(wanted, got, places >= 0))


def _narrower(wanted: Values, got: Values, inside: NDArray[np.bool_]) -> str | None:
    """The signed type of a register whose digits were read without their sign, where all integers are right with it."""
    bits = int(got.max()).bit_length()
    if got.min() < 0 or not 0 < bits < 64:
        return None
    signed = Element("s", bits).from_patterns(got.astype(np.uint64))
    return f"s{bits}" if np.array_equal(signed[inside], wanted[inside]) else None


def _wanted(golden: Golden, expected: Values, order: str, fold: int | None) -> tuple[Values, NDArray[np.int64]]:
    """What a dump in an order holds, and of each element its place in the golden tensor."""
    permutation = _layout(golden, order).permutation
    if fold is not None and expected.ndim < 3:
        raise IntsimError(
            f"layer {golden.layer['name']}: fold = {fold}, but {golden.entry['role']} has no channels to fold"
        )
    return ordered(expected, permutation, fold)


def _layout(golden: Golden, order: str) -> Layout:
    """How a dump in an order has a tensor."""
    rank, role, axes = len(golden.shape), golden.entry["role"], golden.entry["axes"]
    if role == "weight" and golden.layer["products"] is not None:
        return of_weights(rank, golden.layer["operator"] != "matmul", order)
    lanes = axes.endswith("R")
    if sorted(axes.rstrip("R")) != sorted("NC" + POSITIONS.get(rank - lanes, "?")):
        return Layout("", tuple(golden.entry["permutation"]))  # channels are last already, whatever the order
    return Layout("", (*of_data(rank - lanes, True, order).permutation, *([rank - 1] if lanes else [])))


def _check_shape(golden: Golden, got: Values, order: str, told: Dump, path: Path) -> None:
    """Raise IntsimError for an array of another shape than the order's, leading axes of 1 left out or added."""
    if told.fold is not None:
        return
    stored = _layout(golden, order).shape(golden.shape)
    full = (golden.samples, *stored) if golden.samples > 1 else stored
    bare = tuple(s for s in full if s != 1)
    if tuple(s for s in got.shape if s != 1) == bare:
        return
    if got.size != prod(full):
        return  # its length is wrong, and said
    raise IntsimError(
        f"{path}: shape {'x'.join(map(str, got.shape))}, expected {'x'.join(map(str, full))} in order {order}; "
        "say with --order what it has"
    )


def _wrong_length(golden: Golden, order: str, got: int, wanted: int, path: Path, told: Dump) -> str:
    shape, layer = "x".join(map(str, golden.shape)), golden.layer["name"]
    count = wanted // golden.samples
    text = f"{path}: {got} elements, {wanted} expected: {layer}'s {golden.entry['role']} has shape {shape}"
    text += f" and {golden.samples} samples" if golden.samples > 1 else ""
    if golden.samples > 1 and got == count:
        return f"{text}; this is one sample: write vectors of one, or dump all of them"
    if got and wanted % got == 0:
        return f"{text}; are these words of {wanted // got} elements? say so in --map, [bus]"
    if got and got % wanted == 0:
        return f"{text}; it holds {got // wanted} times as many: are these samples, or parts of elements?"
    return f"{text}; the dump {'ends early' if got < wanted else 'goes on'}"


def _first(manifest: Manifest, golden: Golden, at: int, place: int, expected: int, got: int) -> FirstWrong:
    sample, *position = (int(i) for i in np.unravel_index(place, (golden.samples, *golden.shape)))
    axes, permutation = golden.entry["axes"], golden.entry["permutation"]
    channel = position[permutation[axes.index("C")]] if "C" in axes else None
    before, registers = None, []
    roles = manifest.roles(golden.layer)
    for role in roles:
        if role != golden.entry["role"] and (role == "accumulator" or role.startswith("partial_")):
            other = manifest.tensor(golden.layer, role)
            lanes = other.shape[len(golden.shape) :]
            if other.shape[: len(golden.shape)] != golden.shape or len(lanes) > 1:
                continue
            values = np.atleast_1d(other.read()[(sample, *position)]).tolist()
            if role == "accumulator":
                before = values[0]
            else:
                registers.append(values)
    return FirstWrong(at, sample, channel, tuple(position), expected, got, before, registers)
