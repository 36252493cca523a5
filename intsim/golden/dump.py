"""A dump of a simulation, a board or another model, as integers in the order in which it holds them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.budget import contents
from intsim.errors import IntsimError
from intsim.golden.element import Element, Values
from intsim.golden.grammar import Bus, Dump
from intsim.golden.text import digits_of, lines_of
from intsim.golden.vcd import sampled
from intsim.golden.words import Bits, unpacked
from intsim.inputs import arrays_of

ENDINGS = {
    **dict.fromkeys((".npy", ".npz"), "npy"),
    **dict.fromkeys((".hex", ".mem"), "hex"),
    **dict.fromkeys((".csv", ".txt"), "text"),
    **dict.fromkeys((".bin", ".raw"), "raw"),
    ".vcd": "vcd",
}
"""Formats by the endings of files."""


def format_of(path: Path, told: Dump) -> str:
    """What a dump is told to be, or what its ending says. Raises IntsimError where neither says anything."""
    kind = told.format or ENDINGS.get(path.suffix.lower())
    if kind is None:
        raise IntsimError(
            f"{path}: no format has the ending {path.suffix or 'none'!r}; its endings are {', '.join(ENDINGS)}, "
            "or give format in --map"
        )
    return kind


def dumped(path: Path) -> dict[str, NDArray[Any]]:
    """What `arrays_of` reads, one array at least; raises IntsimError as it does, and for none."""
    found = arrays_of(path)
    if not found:
        raise IntsimError(f"{path}: holds no array")
    return found


def integers(array: NDArray[Any], path: str) -> Values:
    """An array's integers, with an axis at least; raises IntsimError for numbers that are none."""
    array = np.atleast_1d(array)
    if array.dtype.kind in "iub":
        return array if array.dtype == np.uint64 else array.astype(np.int64)
    if array.dtype.kind != "f":
        raise IntsimError(f"{path}: holds {array.dtype}, no numbers")
    array = array.astype(np.float64) if array.dtype.itemsize < 8 else array
    wrong = np.flatnonzero(~(np.isfinite(array) & (array == np.rint(array)) & (np.abs(array) < 2.0**63)).reshape(-1))
    if wrong.size:
        value = array.reshape(-1)[wrong[0]]
        raise IntsimError(f"{path}: element {wrong[0]} is {value}, no integer; dump integers, not real numbers")
    return array.astype(np.int64)


def elements(path: Path, told: Dump, element: Element, count: int, array: NDArray[Any] | None = None) -> Values:
    """A dump's integers, in its order.

    Args:
        path: of the file.
        told: what is known of it.
        element: the golden tensor's type, where the dump has no other.
        count: elements of a row of a bus where none is told.
        array: one of an .npz.

    Raises:
        IntsimError: a file that can't be read, or holds something else; one line.
    """
    kind, of = format_of(path, told), told.element or element
    if kind == "npy":
        loaded = dumped(path) if array is None else {"": array}
        if len(loaded) != 1:
            raise IntsimError(f"{path}: holds arrays {', '.join(loaded)}; name the one with layer in --map, or --layer")
        found = integers(next(iter(loaded.values())), str(path))
        return _unpack_integers(found.reshape(-1), told.bus, of, count, str(path)) if told.bus else found
    data = contents(path)
    if kind == "raw":
        return _raw(data, told.bus, of, count, str(path))
    if kind == "vcd":
        return _signals(path, told, of, count)
    text = _text(data, path)
    if kind == "text":
        found = _numbers(text, str(path))
        return _unpack_integers(found, told.bus, of, count, str(path)) if told.bus else found
    words = list(lines_of(text, str(path)))
    if told.bus:
        for number, word in words:
            _fits(int(word, 16), told.bus.bits, f"{path}: line {number}: {word}")
        return _unpack(digits_of([w for _, w in words], told.bus.bits), told.bus, of, count, str(path))
    for number, word in words:
        _fits(int(word, 16), of.bits, f"{path}: line {number}: {word}", len(word) * 4 if of.kind == "s" else 0, of)
    bits = digits_of([w for _, w in words], of.bits)
    return (
        of.from_patterns(unpacked(bits, len(bits), of.bits, of.bits).reshape(-1))
        if len(bits)
        else np.zeros(0, np.int64)
    )


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise IntsimError(f"{path}: is no text; give format in --map") from None


def _fits(value: int, bits: int, where: str, extended: int = 0, element: Element | None = None) -> None:
    """Raise IntsimError for digits beyond a width that aren't its sign's (`extended`: bits of all digits)."""
    if value >> bits == 0:
        return
    if extended and value >> (bits - 1) == (1 << (extended - bits + 1)) - 1:
        return
    what = f"{bits} bits" if element is None else element.name
    raise IntsimError(f"{where[:200]} doesn't fit {what}; give type or bus in --map")


def _numbers(text: str, path: str) -> Values:
    """Decimal numbers between commas, semicolons and spaces."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        for word in line.split("#")[0].replace(",", " ").replace(";", " ").split():
            if not re.fullmatch("[+-]?[0-9]+", word):
                raise IntsimError(f"{path}: line {number}: {word[:40]!a} is no decimal integer")
            value = int(word) if len(word) < 100 else 1 << 64
            if not -(1 << 63) <= value < 1 << 64:
                raise IntsimError(f"{path}: line {number}: {word[:40]} is beyond 64 bits")
            found.append(value)
    return _of_python(found)


def _of_python(values: Sequence[int]) -> Values:
    return np.array(values, np.uint64 if values and max(values) >= 1 << 63 else np.int64)


def _raw(data: bytes, bus: Bus | None, of: Element, count: int, path: str) -> Values:
    """Little-endian numbers; words of a bus in whole bytes."""
    size = of.width // 8 if bus is None else -(-bus.bits // 8)
    if len(data) % size:
        what = f"{size}-byte " + (f"elements ({of.name})" if bus is None else f"words of {bus.bits} bits")
        raise IntsimError(f"{path}: {len(data)} bytes are no whole number of {what}; give type or bus in --map")
    if bus is None:
        found = np.frombuffer(data, of.dtype)
        return found if found.dtype == np.uint64 else found.astype(np.int64)
    bits = np.unpackbits(np.frombuffer(data, np.uint8).reshape(-1, size), axis=1, bitorder="little")
    return _unpack(bits[:, : bus.bits], bus, of, count, path)


def _unpack_integers(words: Values, bus: Bus, of: Element, count: int, path: str) -> Values:
    """Words that are integers already, signed or not."""
    parts = words.astype(np.uint64) if words.dtype == np.uint64 else words.view(np.uint64)
    if bus.bits > 64:
        raise IntsimError(f"{path}: words of {bus.bits} bits are no integers of 64; dump them as hex")
    return _unpack(
        ((parts[:, None] >> np.arange(bus.bits, dtype=np.uint64)) & 1).astype(np.uint8), bus, of, count, path
    )


def _unpack(bits: Bits, bus: Bus, of: Element, count: int, path: str) -> Values:
    """Elements of words of a bus."""
    row = bus.row or count
    per = bus.elements or bus.bits // of.bits
    if per * of.bits > bus.bits or (per == 0 and bus.elements):
        raise IntsimError(f"{path}: {bus.elements} elements of {of.name} don't fit a word of {bus.bits} bits")
    if per == 0:  # an element in several words
        across = -(-of.bits // bus.bits)
        if bus.first == "high":
            raise IntsimError(
                f"{path}: an element of {of.name} takes several words of {bus.bits} bits; leave out first, which is "
                "for several elements in one"
            )
        whole = len(bits) // across
        return of.from_patterns(unpacked(bits[: whole * across], whole, of.bits, bus.bits).reshape(-1))
    if bus.first == "high":
        bits = bits[:, : per * of.bits].reshape(len(bits), per, of.bits)[:, ::-1].reshape(len(bits), -1)
    words = -(-row // per)
    if len(bits) % words:  # a dump that ends early, or goes on: what its words hold
        return of.from_patterns(unpacked(bits, per, of.bits, per * of.bits).reshape(-1))
    return of.from_patterns(unpacked(bits[:, : per * of.bits], row, of.bits, per * of.bits).reshape(-1))


def _signals(path: Path, told: Dump, of: Element, count: int) -> Values:
    """What signals held."""
    if told.vcd is None:
        raise IntsimError(f"{path}: a .vcd needs the table [vcd] in --map: clock, data, valid")
    values, width = sampled(path, told.vcd)
    if told.bus:
        for value in values:
            _fits(value, told.bus.bits, f"{path}: {value:x}")
        size = -(-told.bus.bits // 8)
        data = b"".join(v.to_bytes(size, "little") for v in values)
        return _raw(data, told.bus, of, count, str(path))
    for value in values:
        _fits(value, of.bits, f"{path}: {value:x}", width if of.kind == "s" else 0, of)
    mask = (1 << of.bits) - 1
    return of.from_patterns(np.array([v & mask for v in values], np.uint64))


def named(arrays: Mapping[str, Any], layer: Mapping[str, Any], folder: str, role: str) -> str | None:
    """Which array of an .npz is a layer's tensor: LAYER.ROLE, else LAYER, or its folder's name instead."""
    for name in (f"{layer['name']}.{role}", layer["name"], f"{folder}.{role}", folder):
        if name in arrays:
            return str(name)
    return None


def ordered(golden: Values, permutation: Sequence[int], fold: int | None) -> tuple[Values, NDArray[np.int64]]:
    """(samples, *shape) as a dump has it, flat: values, and of each its place in the golden tensor, -1 of what fills.

    With `fold` channels, axis 1, come in groups of so many, which are the innermost axis: the last group is filled up.
    """
    place: NDArray[Any] = np.arange(prod(golden.shape), dtype=np.int64).reshape(golden.shape)
    if fold is not None:
        grown = [(0, 0)] * golden.ndim
        grown[2] = (0, -golden.shape[2] % fold)
        place = np.pad(place, grown, constant_values=-1)
        groups = place.shape[2] // fold
        parts = place.reshape(*place.shape[:2], groups, fold, *place.shape[3:])
        place = np.moveaxis(parts, 3, -1).transpose(0, *(1 + i for i in permutation), golden.ndim)
    else:
        place = place.transpose(0, *(1 + i for i in permutation))
    flat = place.reshape(-1)
    return golden.reshape(-1)[flat], flat
