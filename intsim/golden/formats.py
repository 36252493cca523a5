"""The files of a tensor: .npy, hexadecimal for `$readmemh`, packed words of a bus, a C header. All are streams.

Each is written part by part, so that a tensor of many samples is never in memory whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from intsim.errors import IntsimError
from intsim.golden.element import Element, Values
from intsim.golden.words import hex_lines, packed

FORMATS = {"npy": ".npy", "hex": ".hex", "words": ".words.hex", "c": ".h"}
"""Formats and the endings of their files."""
BLOCK = 1 << 16
"""Elements that are written at once."""
LEAST = {32: "(-2147483647 - 1)", 64: "(-9223372036854775807LL - 1)"}
"""The least integers, of which C has no literals."""
A_LINE = 16
"""Numbers in a line of a C header."""


@dataclass
class Sink:
    """One tensor while it is written.

    Attributes:
        stem: path without ending, within `root`.
        name: what a C compiler calls it.
        shape: of the whole tensor as it is stored.
        row: elements that are packed from a new word on; all of a sample where None.
        about: a line of text for comments.
    """

    root: Path
    stem: str
    name: str
    element: Element
    shape: tuple[int, ...]
    about: str
    formats: Sequence[str]
    bus: int
    row: int | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    written: int = 0
    _digests: dict[str, hashlib._Hash] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Write what stands at the beginning of each file."""
        (self.root / self.stem).parent.mkdir(parents=True, exist_ok=True)
        guard = self.name.upper() + "_H"
        count = prod(self.shape)
        heads = {
            "hex": f"// {self.about}; one element a line, two's complement\n",
            "words": f"// {self.about}; {self._packing}\n",
            "c": f"/* {self.about} */\n#ifndef {guard}\n#define {guard}\n#include <stdint.h>\n\n"
            f"static const {self.element.c} {self.name}[{max(count, 1)}] = {{",
        }
        for kind in self.formats:
            self._digests[kind] = hashlib.sha256()
            with self._file(kind, "wb") as file:
                if kind == "npy":
                    self._put(kind, file, npy_header(self.element, self.shape))
                else:
                    self._put(kind, file, heads[kind].encode())

    @property
    def files(self) -> dict[str, str]:
        """Paths within the folder, by format."""
        return {kind: self.stem + FORMATS[kind] for kind in self.formats}

    def append(self, values: Values) -> None:
        """Write a sample's elements, in the order in which they are stored."""
        flat = np.ascontiguousarray(values).reshape(-1)
        if self.element.kind != "f" and not self.element.holds(flat):
            raise IntsimError(f"{self.about}: holds {flat.min()}..{flat.max()}, beyond its type; please report this")
        for kind in self.formats:
            with self._file(kind, "ab") as file:
                for part in self._encoded(kind, flat):
                    self._put(kind, file, part)
        self.written += flat.size

    def close(self) -> None:
        """Write what stands at the end."""
        for kind in self.formats:
            if kind == "c":
                with self._file(kind, "ab") as file:
                    self._put(kind, file, b"0\n};\n\n#endif\n" if not self.written else b"\n};\n\n#endif\n")
            self.hashes[kind] = self._digests[kind].hexdigest()

    def _encoded(self, kind: str, flat: Values) -> Iterator[bytes]:
        element, row = self.element, self.row or max(flat.size, 1)
        if kind == "words":
            for rows in _blocks(flat, row, max(1, self.bus // element.bits)):
                yield hex_lines(packed(element.patterns(rows), element.bits, self.bus))
            return
        for at in range(0, flat.size, BLOCK):
            block = flat[at : at + BLOCK]
            if kind == "npy":
                yield block.astype(element.dtype).tobytes()
            elif kind == "hex":
                yield hex_lines(packed(element.patterns(block)[None], element.bits, element.bits))
            else:
                yield _c_numbers(element, block, self.written + at).encode()

    @property
    def _packing(self) -> str:
        bits, bus = self.element.bits, self.bus
        if bits > bus:
            return f"an element in {-(-bits // bus)} words of {bus} bits, its lowest bits first"
        more = "" if self.row is None else f", {self.row} elements from a new word on"
        return f"{bus // bits} elements a word of {bus} bits, the first in the lowest bits{more}"

    def _file(self, kind: str, mode: str) -> IO[bytes]:
        return (self.root / self.files[kind]).open(mode)

    def _put(self, kind: str, file: IO[bytes], data: bytes) -> None:
        file.write(data)
        self._digests[kind].update(data)


def _blocks(flat: Values, row: int, per: int) -> Iterator[Values]:
    """Parts of rows of elements, none of which ends within a word of `per` elements: (rows, elements)."""
    if row <= BLOCK:
        for at in range(0, flat.size, step := BLOCK // row * row):
            yield flat[at : at + step].reshape(-1, row)
        return
    step = BLOCK // per * per or per
    for start in range(0, flat.size, row):
        for at in range(start, start + row, step):
            yield flat[None, at : min(at + step, start + row)]


def npy_header(element: Element, shape: tuple[int, ...]) -> bytes:
    """What stands before the elements of an .npy file of version 1.0."""
    text = str({"descr": element.dtype.str, "fortran_order": False, "shape": shape})
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def _c_numbers(element: Element, block: Values, before: int) -> str:
    """Numbers of an initializer, `A_LINE` a line; `before` of them were written already."""
    if element.kind == "f":
        texts = [f"0x{p:0{element.bits // 4}x}{'ULL' * (element.bits == 64)}" for p in element.patterns(block).tolist()]
    elif element.bits > 32:
        suffix = "LL" if element.kind == "s" else "ULL"
        texts = [LEAST[64] if v == -(1 << 63) else f"{v}{suffix}" for v in block.tolist()]
    else:
        texts = [LEAST[32] if v == -(1 << 31) else f"{v}{'U' * (v >> 31 > 0)}" for v in block.tolist()]
    out = []
    for i, text in enumerate(texts, before):
        out.append(("," if i else "") + ("\n  " if i % A_LINE == 0 else " ") + text)
    return "".join(out)


def identifier(text: str) -> str:
    """Letters, digits and underscores, 40 at most, of any name."""
    return re.sub("_+", "_", re.sub("[^A-Za-z0-9]", "_", text)).strip("_")[:40].strip("_") or "layer"
