"""A design to simulate: a TOML file that names a module, its sources and ports, and a file of vectors for each port.

The grammar is in docs/guides/hardware.md. Vectors are files for $readmemh, one element a line: `count` elements are a
row, the first in the lowest bits of the port.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.arithmetic.keys import Key, check, integer, shown
from intsim.errors import IntsimError

MAX_FILE_BYTES = 1 << 16
MOST_LATENCY = 1 << 16
MOST_ELEMENTS = 1 << 24
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
PATH = re.compile(r"[A-Za-z0-9_./+][A-Za-z0-9_./+-]*")
"""Names of files that every simulator's command line and script takes as they are, and none as an option."""
Words = NDArray[np.uint64]


def _matches(pattern: re.Pattern[str]) -> Any:
    return lambda v: isinstance(v, str) and pattern.fullmatch(v) is not None


def _pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(v == "" or _matches(IDENTIFIER)(v) for v in value)


def _parameters(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _matches(IDENTIFIER)(k) and (type(v) is int or _matches(PATH)(v)) for k, v in value.items()
    )


NAME = Key(_matches(IDENTIFIER), "a Verilog name")
KEYS = {
    "top": NAME,
    "layer": Key(lambda v: isinstance(v, str) and v.isprintable() and len(v) <= 500, "a text"),
    "sources": Key(
        lambda v: isinstance(v, list) and bool(v) and all(map(_matches(PATH), v)),
        "a list of files, their names of letters, digits and _ . / + -",
    ),
    "parameters": Key(_parameters, "a table of integers or of names of files"),
    "clock": NAME,
    "reset": Key(_matches(re.compile(f"!?{IDENTIFIER.pattern}")), "a Verilog name, with ! before it if active low"),
    "latency": integer(0, MOST_LATENCY),
    "valid": Key(_pair, 'two Verilog names ["in_valid", "out_valid"]; "" for a side without'),
    "ready": Key(_pair, 'two Verilog names ["in_ready", "out_ready"]; "" for a side without'),
    "inputs": Key(lambda v: isinstance(v, dict) and all(map(_matches(IDENTIFIER), v)), "a table of ports"),
    "outputs": Key(lambda v: isinstance(v, dict) and bool(v) and all(map(_matches(IDENTIFIER), v)), "a table of ports"),
}
PORT = {
    "file": Key(_matches(PATH), "a file, its name of letters, digits and _ . / + -"),
    "value": Key(lambda v: type(v) is int and 0 <= v < 1 << 64, "an integer 0..2^64-1"),
    "bits": integer(1, 64),
    "count": integer(1, 4096),
    "signed": Key(lambda v: type(v) is bool, "true, false"),
}


@dataclass(frozen=True)
class Port:
    """A port of a design, `count * bits` bits wide.

    Attributes:
        name: as the module has it.
        bits: of an element, 1..64.
        count: elements a row; element 0 is in the lowest bits.
        signed: whether elements are shown as two's complement; they are compared bit by bit.
        file: of the vectors, relative to the design's; "" for an input that holds still.
        value: of such an input.
    """

    name: str
    bits: int
    count: int = 1
    signed: bool = False
    file: str = ""
    value: int = 0

    @property
    def width(self) -> int:
        """Bits of the port."""
        return self.bits * self.count

    def shown(self, word: int) -> int:
        """An element's bits as the number they stand for."""
        return word - (1 << self.bits) if self.signed and word >> (self.bits - 1) else word


@dataclass(frozen=True)
class Design:
    """A module, how it is clocked, and its vectors.

    Each row of the inputs is offered for one cycle: with `latency` row r in cycle r, and row r of the outputs is looked
    at in cycle r + latency, before the rising edge that ends it; with `valid` rows are taken and given where valid (and
    ready, where there is one) are high at the edge. Without `clock` nothing is clocked.

    Attributes:
        folder: that names of files are relative to.
        top: module; sources: its files; parameters: of the module; layer: of a network that it computes, or "".
        clock, reset: ports or ""; `reset` with "!" before it is active low. It is active in two cycles before cycle 0.
        latency: in cycles.
        valid, ready: ports of the input and of the output side, "" for none.
        inputs, outputs: the other ports.
    """

    folder: Path
    top: str
    sources: tuple[str, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    parameters: dict[str, int | str] = field(default_factory=dict)
    clock: str = ""
    reset: str = ""
    latency: int = 0
    valid: tuple[str, str] = ("", "")
    ready: tuple[str, str] = ("", "")
    layer: str = ""

    @classmethod
    def load(cls, path: str | Path) -> Design:
        """Read a TOML file, or `cosim.toml` of a folder. Raises IntsimError for what is no design, one line."""
        path = Path(path)
        path = path / "cosim.toml" if path.is_dir() else path
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise IntsimError(f"{path}: larger than {MAX_FILE_BYTES} bytes; this is no description of a design")
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise IntsimError(
                f"{path}: can't be read: {error.strerror}; give a folder that emit wrote, or a TOML file"
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise IntsimError(f"{path}: not TOML: {' '.join(str(error).split())}") from None
        try:
            return cls._read(path.parent, content)
        except IntsimError as error:
            raise IntsimError(f"{path}: {error}") from None

    @classmethod
    def _read(cls, folder: Path, content: dict[str, Any]) -> Design:
        _known(content, KEYS, "")
        missing = [k for k in ("top", "sources", "inputs", "outputs") if k not in content]
        if missing:
            raise IntsimError(f"{missing[0]} is missing; allowed: {KEYS[missing[0]].allowed}")
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
        given["inputs"] = tuple(_port("inputs", n, p) for n, p in content["inputs"].items())
        given["outputs"] = tuple(_port("outputs", n, p) for n, p in content["outputs"].items())
        design = cls(folder, **given)
        clocked = [k for k in ("reset", "latency", "valid", "ready") if k in content]
        if not design.clock and clocked:
            raise IntsimError(f"{clocked[0]} is given without clock; add clock, or remove it")
        if "latency" in content and "valid" in content:
            raise IntsimError("latency and valid are two ways to say when outputs come; give one of them")
        if "valid" in content and not design.valid[1]:
            raise IntsimError("valid names no port of the output side; give latency in its place")
        if "ready" in content and "valid" not in content:
            raise IntsimError("ready is given without valid")
        names = [p.name for p in (*design.inputs, *design.outputs)]
        names += [n for n in (design.clock, design.reset.lstrip("!"), *design.valid, *design.ready) if n]
        twice = [n for n in names if names.count(n) > 1]
        if twice:
            raise IntsimError(f"port {twice[0]} is named twice")
        if all(not p.file for p in design.inputs):
            raise IntsimError("no input has a file of vectors")
        if still := [p.name for p in design.outputs if not p.file]:
            raise IntsimError(f"outputs.{still[0]}: file is missing")
        return design

    @property
    def handshake(self) -> bool:
        """Whether outputs say when they are valid."""
        return bool(self.valid[1])

    @property
    def driven(self) -> tuple[Port, ...]:
        """Inputs with vectors."""
        return tuple(p for p in self.inputs if p.file)

    @cached_property
    def vectors(self) -> dict[str, Words]:
        """Rows of the ports that have vectors: uint64 (rows, count) by port. Raises IntsimError for a bad file."""
        read = {p.name: read_hex(self.folder / p.file, p) for p in (*self.driven, *self.outputs)}
        for side in (self.driven, self.outputs) if self.handshake else ((*self.driven, *self.outputs),):
            rows = {p.name: len(read[p.name]) for p in side}
            if len(set(rows.values())) > 1:
                (one, n), (other, m) = next((a, b) for a in rows.items() for b in rows.items() if a[1] != b[1])
                raise IntsimError(f"{self.folder / 'cosim.toml'}: port {one} has {n} rows of vectors, port {other} {m}")
        return read

    @property
    def rows(self) -> tuple[int, int]:
        """Rows of the inputs and of the outputs."""
        return len(self.vectors[self.driven[0].name]), len(self.vectors[self.outputs[0].name])

    def toml(self) -> str:
        """The file that `load` reads."""
        lines = [f'top        = "{self.top}"', f"sources    = {_list(self.sources)}"]
        shown = self.layer if self.layer.isprintable() else ascii(self.layer)
        lines += [f"layer      = {json.dumps(shown, ensure_ascii=False)}"] if shown else []
        if self.parameters:
            given = ", ".join(f"{k} = {_text(v)}" for k, v in self.parameters.items())
            lines.append(f"parameters = {{ {given} }}")
        lines += [f'{k:<10} = "{v}"' for k, v in (("clock", self.clock), ("reset", self.reset)) if v]
        if self.handshake:
            lines += [f"{k:<10} = {_list(v)}" for k, v in (("valid", self.valid), ("ready", self.ready)) if any(v)]
        elif self.clock:
            lines.append(f"latency    = {self.latency}")
        for side, ports in (("inputs", self.inputs), ("outputs", self.outputs)):
            lines.append(f"[{side}]")
            for p in ports:
                keys = [f'file = "{p.file}"' if p.file else f"value = {p.value}", f"bits = {p.bits}"]
                keys += [f"count = {p.count}"] if p.count > 1 else []
                keys += ["signed = true"] if p.signed else []
                lines.append(f"{p.name} = {{ {', '.join(keys)} }}")
        return "\n".join(lines) + "\n"


def _list(values: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{v}"' for v in values) + "]"


def _text(value: int | str) -> str:
    return str(value) if isinstance(value, int) else f'"{value}"'


def _known(content: dict[str, Any], keys: dict[str, Key], where: str) -> None:
    unknown = [k for k in content if k not in keys]
    if unknown:
        raise IntsimError(f"{where}unknown key {shown(unknown[0])}; allowed: {', '.join(keys)}")
    check({k: keys[k] for k in content}, content, where)


def _port(side: str, name: str, content: Any) -> Port:
    where = f"{side}.{name}"
    if not isinstance(content, dict):
        raise IntsimError(f'{where} is {shown(content)}; allowed: a table, e.g. {{ file = "{name}.hex", bits = 8 }}')
    _known(content, PORT, where + ".")
    if "bits" not in content:
        raise IntsimError(f"{where}.bits is missing; allowed: {PORT['bits'].allowed}")
    if ("file" in content) == ("value" in content):
        raise IntsimError(f"{where}: give a file of vectors, or a value that holds still")
    port = Port(name, **content)
    if port.value >> port.width:
        raise IntsimError(f"{where}.value is {port.value}, more than its {port.width} bits hold")
    return port


def read_hex(path: Path, port: Port) -> Words:
    """Elements of a port, one hexadecimal number a line: uint64 (rows, count).

    Raises:
        IntsimError: one line with file and line.
    """
    try:
        lines = path.read_text(encoding="ascii").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise IntsimError(f"{path}: can't be read: {getattr(error, 'strerror', None) or 'not ASCII'}") from None
    if lines[-1] == "":
        lines.pop()
    if not lines or len(lines) % port.count or len(lines) > MOST_ELEMENTS:
        raise IntsimError(
            f"{path}: {len(lines)} lines; port {port.name} takes rows of {port.count}, "
            f"at least one and {MOST_ELEMENTS} elements at most"
        )
    values = np.empty(len(lines), np.uint64)
    for number, line in enumerate(lines):
        if not re.fullmatch(r"[0-9a-fA-F]{1,16}", line) or int(line, 16) >> port.bits:
            raise IntsimError(f"{path}, line {number + 1}: {shown(line)} is no hexadecimal number of {port.bits} bits")
        values[number] = int(line, 16)
    return values.reshape(-1, port.count)


def write_hex(path: str | Path, values: Any, bits: int) -> None:
    """Integers, signed or not, as `read_hex` reads them, in their order; they must fit `bits`."""
    mask, digits = (1 << bits) - 1, (bits + 3) // 4
    flat = np.asarray(values).reshape(-1)
    Path(path).write_text("".join(f"{int(v) & mask:0{digits}x}\n" for v in flat), encoding="ascii")
