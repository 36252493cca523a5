"""The manifest of a folder of vectors, and its tensors read back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

import intsim
from intsim.budget import contents
from intsim.errors import IntsimError
from intsim.golden.element import Element, Values
from intsim.golden.folder import MANIFEST, read_manifest
from intsim.golden.layout import Layout
from intsim.golden.text import digits_of, lines_of
from intsim.golden.words import unpacked

READ = ("npy", "hex", "words")
"""Formats that are read back, the quickest first."""


def sealed(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Write a manifest, with the version that wrote it."""
    format_, *rest = content.items()
    full = dict([format_, ("intsim", intsim.__version__), *rest])
    (folder / MANIFEST).write_text(json.dumps(full, indent=1) + "\n")
    return full


@dataclass(frozen=True)
class Golden:
    """A tensor of a folder of vectors: its entry in the manifest, and its layer's."""

    folder: Path
    layer: dict[str, Any]
    entry: dict[str, Any]
    bus: int

    @property
    def element(self) -> Element:
        """The type of its elements."""
        return Element.named(self.entry["type"])

    @property
    def shape(self) -> tuple[int, ...]:
        """In the network's order, of one sample."""
        return tuple(self.entry["of_shape"])

    @property
    def samples(self) -> int:
        """How many are stored one after another."""
        return prod(self.entry["shape"]) // max(1, prod(self.shape))

    def read(self) -> Values:
        """(samples, *shape) in the network's order. Raises IntsimError for files that are gone, damaged or changed."""
        entry = self.entry
        kind = next((k for k in READ if k in entry["files"]), None)
        if kind is None:
            raise IntsimError(
                f"{self.folder}: has C headers only, which are not read back; write vectors with --format npy"
            )
        path = self.folder / entry["files"][kind]
        data = contents(path)
        if hashlib.sha256(data).hexdigest() != entry["sha256"][kind]:
            raise IntsimError(f"{path}: was changed after intsim wrote it; write the vectors again")
        flat = self._elements(kind, path, data).reshape(self.samples, -1)
        layout = Layout("", tuple(entry["permutation"]))
        stored = layout.shape(self.shape)
        back = np.argsort((0, *(1 + i for i in layout.permutation)))
        return np.ascontiguousarray(flat.reshape(self.samples, *stored).transpose(back))

    def _elements(self, kind: str, path: Path, data: bytes) -> Values:
        element, count = self.element, prod(self.shape)
        if kind == "npy":
            loaded = np.load(path, allow_pickle=False)
            return loaded if element.kind == "f" or loaded.dtype == np.uint64 else loaded.astype(np.int64)
        width = element.bits if kind == "hex" else self.bus
        bits = digits_of([text for _, text in lines_of(data.decode(), str(path))], width)
        if kind == "hex":
            return element.from_patterns(unpacked(bits, len(bits), width, width).reshape(-1))
        row = self.entry["row"] or count
        return element.from_patterns(unpacked(bits, row, element.bits, self.bus).reshape(-1))


@dataclass(frozen=True)
class Manifest:
    """A folder of vectors."""

    folder: Path
    content: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises IntsimError for a folder that holds none."""
        return cls(folder, read_manifest(folder))

    @property
    def layers(self) -> list[dict[str, Any]]:
        """In the network's order."""
        return list(self.content["layers"])

    def layer(self, name: str) -> dict[str, Any]:
        """By its name, its node's or its module's. Raises IntsimError for none or several."""
        found = [x for x in self.layers if x["name"] == name]
        found = found or [x for x in self.layers if name in (x.get("node"), x.get("module"))]
        if len(found) != 1:
            names = ", ".join(x["name"] for x in (found or self.layers)[:12])
            what = "no layer" if not found else "several layers"
            raise IntsimError(
                f"{self.folder}: {what} {name!r}; {'its layers are' if not found else 'give one of'} {names}"
            )
        return found[0]

    def tensor(self, layer: dict[str, Any], role: str | None = None) -> Golden:
        """A layer's tensor by its role, else its result. Raises IntsimError for a role that it doesn't have."""
        entries = {t["role"]: t for t in layer["tensors"]}
        chosen = role or ("output" if "output" in entries else "accumulator")
        if chosen not in entries:
            more = "; write the vectors with --partial" if chosen.startswith("partial") else ""
            have = ", ".join(entries)
            raise IntsimError(f"{self.folder}: layer {layer['name']} has no tensor {chosen!r}; it has {have}{more}")
        bus = entries[chosen].get("bus_bits", self.content["options"]["bus_bits"])
        return Golden(self.folder, layer, entries[chosen], bus)

    def roles(self, layer: dict[str, Any]) -> Sequence[str]:
        """Of a layer's tensors."""
        return [t["role"] for t in layer["tensors"]]
