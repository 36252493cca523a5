"""Builds and runs the programs of `hardware/witness/`, or says why it can't."""

import functools
import platform
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent.parent.parent / "hardware" / "witness"
MAX_SECONDS = 120
NO_INSTRUCTION = 77  # exit code of a program whose CPU lacks the instruction; hardware/witness/stream.h

COMMON = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror"]
CROSS = {"aarch64": "aarch64-linux-gnu-gcc", "arm": "arm-linux-gnueabihf-gcc"}
EMULATOR = {"aarch64": ["qemu-aarch64", "-cpu", "max"], "arm": ["qemu-arm", "-cpu", "max"], "hexagon": ["qemu-hexagon"]}


@dataclass(frozen=True)
class Witness:
    """One entry of `hardware/witness/witnesses.toml`, which explains the fields."""

    name: str
    source: str
    machine: str
    flags: tuple[str, ...] = ()
    cpu: tuple[str, ...] = ()
    emulate: bool = False
    targets: tuple[str, ...] = ()
    activation: str = ""
    weight: str = ""
    step: int = 0
    flag: bool = False

    @property
    def outputs(self) -> int:
        """Results of one dot product: the accumulator, and the overflow flag if there is one."""
        return 2 if self.flag else 1


def _read() -> dict[str, Witness]:
    entries = tomllib.loads((FOLDER / "witnesses.toml").read_text())
    tuples = {"flags", "cpu", "targets"}
    return {
        name: Witness(name, **{key: tuple(v) if key in tuples else v for key, v in entry.items()})
        for name, entry in entries.items()
    }


WITNESSES = _read()


def native(witness: Witness) -> bool:
    return platform.system() == "Linux" and platform.machine() == witness.machine


def _compilers(witness: Witness) -> list[str]:
    if witness.machine == "hexagon":
        return ["clang"]
    return ["gcc", "clang", "cc"] if native(witness) else [CROSS[witness.machine]] if witness.emulate else []


def _compile(witness: Witness, compiler: str) -> list[str]:
    """Command that compiles from standard input or files, without input and output."""
    if witness.machine == "hexagon":
        freestanding = ["--target=hexagon", "-ffreestanding", "-fno-builtin", "-DWITNESS_FREESTANDING", "-c"]
        return [compiler, *COMMON, *freestanding, *witness.flags]
    return [compiler, *COMMON, *([] if native(witness) else ["-static"]), *witness.flags]


@functools.cache
def _understands(command: tuple[str, ...]) -> bool:
    """Whether the compiler knows the machine, its flags and, if it links, a C library."""
    program = "#ifndef WITNESS_FREESTANDING\n#include <stdlib.h>\n#endif\nint main(void) { return 0; }\n"
    done = subprocess.run(
        [*command, "-x", "c", "-", "-o", "/dev/null"], input=program, text=True, capture_output=True, check=False
    )
    return done.returncode == 0


@functools.cache
def _cpu_flags() -> frozenset[str]:
    """Flags of the first CPU in /proc/cpuinfo; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = [line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))]
    return frozenset(flags[0]) if flags else frozenset()


def compiler_of(witness: Witness) -> str | None:
    return next(
        (c for c in _compilers(witness) if shutil.which(c) and _understands(tuple(_compile(witness, c)))),
        None,
    )


@functools.cache
def missing(witness: Witness) -> str | None:
    """Why a witness can't be heard on this machine, in a few words; None if it can."""
    if not native(witness) and not witness.emulate:
        return f"this machine is {platform.system()} {platform.machine()}, not Linux {witness.machine}"
    if native(witness) and (lacking := [flag for flag in witness.cpu if flag not in _cpu_flags()]):
        return f"this CPU has no {lacking[0]}"
    if compiler_of(witness) is None:
        needs = " ".join(f for f in witness.flags if f.startswith("-m")) or "a static C library"
        return f"no compiler for {witness.machine} ({' or '.join(_compilers(witness))}, {needs})"
    if witness.machine == "hexagon" and shutil.which("ld.lld") is None:
        return "no linker for hexagon (ld.lld)"
    if not native(witness) and shutil.which(EMULATOR[witness.machine][0]) is None:
        return f"no {EMULATOR[witness.machine][0]}"
    return None


def available() -> dict[str, str | None]:
    """Every witness, and why it can't be heard here: None if it can. Compiles a few empty files."""
    return {name: missing(witness) for name, witness in WITNESSES.items()}


class LacksInstructionError(Exception):
    """The program itself says that its (possibly emulated) CPU lacks the instruction."""


def build(witness: Witness, folder: Path) -> list[str]:
    """Compile a witness that is not `missing` into a folder; returns the command that runs it."""
    program = folder / witness.name
    compiler = compiler_of(witness)
    assert compiler is not None
    output = program.with_suffix(".o") if witness.machine == "hexagon" else program
    _checked([*_compile(witness, compiler), str(FOLDER / witness.source), "-o", str(output)])
    if witness.machine == "hexagon":
        _checked(["ld.lld", "-static", str(output), "-o", str(program)])
    return [str(program)] if native(witness) else [*EMULATOR[witness.machine], str(program)]


def _checked(command: list[str]) -> None:
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"


def call(command: list[str], data: bytes) -> bytes:
    """Run a built witness on raw bytes; raises LacksInstructionError if its CPU lacks the instruction."""
    done = subprocess.run(command, input=data, capture_output=True, timeout=MAX_SECONDS, check=False)
    if done.returncode == NO_INSTRUCTION:
        raise LacksInstructionError(f"the CPU that {command[0]} emulates lacks the instruction")
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}: {done.stderr.decode()[:500]}"
    return done.stdout


def matmul(command: list[str], a: np.ndarray, w: np.ndarray, start: np.ndarray, outputs: int = 1) -> np.ndarray:
    """Accumulate a @ w.T in the instruction's registers.

    a: (M, K) and w: (N, K), of one width; start: (N,) int32, initial accumulators. Returns (M, N, outputs) int32.
    """
    (rows, depth), channels = a.shape, len(w)
    assert a.dtype.itemsize == w.dtype.itemsize
    assert start.dtype == np.int32
    size = np.array([rows, channels, depth * a.dtype.itemsize], "<u4")
    data = size.tobytes() + w.tobytes() + start.astype("<i4").tobytes() + a.tobytes()
    return np.frombuffer(call(command, data), "<i4").reshape(rows, channels, outputs)
