"""Which instructions multiply and add four bytes at once here; `selftest` says which of them adds exactly.

`vpdpbusd` (AVX512 VNNI, at 512 or 256 bits) adds four u8 x s8 products to a 32-bit lane without saturation. Processors
without it use `pmaddwd` on bytes widened to 16 bits, which is exact too: two products of at most 255 x 128 fit its 32
bits. `vpmaddubsw`, which saturates at 16 bits, is never used. `tdpbsud` (AMX) adds up to 64 s8 x u8 products to each of
16 x 16 sums in a tile register, without saturation too. Intel 64 and IA-32 Architectures Software Developer's Manual,
volume 2, VPDPBUSD, PMADDWD and TDPBSUD.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from functools import cache

from intsim.errors import IntsimError


@dataclass(frozen=True)
class Dot:
    """A way to add four products to each lane of a vector.

    `lanes` are the 32-bit lanes of a vector, `parts` the 32-bit weight words that one group of four bytes takes:
    1 (four int8), 2 (pairs of int16: bytes 0, 2 and bytes 1, 3) or 4 (one int32 each). With `tiles` dense convolutions
    go by tile registers.
    """

    name: str
    lanes: int
    parts: int
    registers: int  # vector registers of the machine
    tiles: bool = False


DOTS = {
    dot.name: dot
    for dot in (
        Dot("amx", 16, 1, 32, True),
        Dot("vnni512", 16, 1, 32),
        Dot("vnni256", 8, 1, 32),
        Dot("avx512", 16, 2, 32),
        Dot("avx2", 8, 2, 16),
        Dot("sse2", 4, 2, 16),
        Dot("generic", 4, 4, 16),
    )
}
VARIABLE = "INTSIM_ISA"
_AVX2 = {"haswell", "broadwell", "core-avx2", "skylake", "znver1", "znver2", "znver3", "alderlake", "x86-64-v3"}
"""Processors that NUMBA_CPU_NAME may name without features, and whose widest here is AVX2."""


@cache
def untried() -> Dot:
    """The quickest that this processor names, not tried: its vectors are of a fitting width."""
    return DOTS[candidates()[0]]


def candidates() -> list[str]:
    """Names of what may be used here, quickest first; the environment variable INTSIM_ISA names one of them instead.

    Raises IntsimError for a name that isn't one, or isn't available here.
    """
    names, name = available(), os.environ.get(VARIABLE)
    if name is None:
        return names
    if name not in names:
        raise IntsimError(f"{VARIABLE} is {name!r}; this processor has {', '.join(names)}")
    return [name]


def shuffles() -> bool:
    """Whether 64 bytes are looked up in 256 at once: AVX512 VBMI, unless vectors or the processor are chosen otherwise.

    Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VPERMI2B.
    """
    import llvmlite.binding as llvm
    from numba.core import config

    wide = DOTS[candidates()[0]].lanes == 16
    chosen = config.CPU_NAME not in (None, llvm.get_host_cpu_name()) or config.CPU_FEATURES
    return wide and not chosen and bool(llvm.get_host_cpu_features().get("avx512vbmi", False))


def available() -> list[str]:
    """Names of what compiled code may use here, quickest first."""
    import llvmlite.binding as llvm
    from numba.core import config

    has = {name for name, on in llvm.get_host_cpu_features().items() if on}
    x86 = llvm.get_process_triple().split("-")[0] in ("x86_64", "i686", "i386")
    named, given = config.CPU_NAME, config.CPU_FEATURES
    if named is not None and named != llvm.get_host_cpu_name():
        # LLVM can't be asked which features a named processor has
        has &= {"avx2", "sse2"} if named in _AVX2 else {"sse2"}
    if given is not None and given:
        asked = {part[1:] for part in given.split(",") if part.startswith("+")}
        has &= asked | {"sse2"}
    needs = {
        "amx": {"amx-int8", "amx-tile", "avx512vnni", "avx512bw", "avx512f"},
        "vnni512": {"avx512vnni", "avx512bw", "avx512f"},
        "vnni256": {"avx512vnni", "avx512vl"},
        "avx512": {"avx512bw", "avx512f"},
        "avx2": {"avx2"},
        "sse2": {"sse2"},
    }
    names = [name for name, features in needs.items() if x86 and features <= has] + ["generic"]
    return [name for name in names if not DOTS[name].tiles or _may_use_tiles()]


@cache
def _may_use_tiles() -> bool:
    """Whether this process may use tile registers: Linux wants to be asked, for all its threads at once.

    arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), of "Using XSTATE features in user space applications" in the
    kernel's documentation.
    """
    if sys.platform != "linux":
        return False
    try:
        return bool(ctypes.CDLL(None).syscall(158, 0x1023, 18) == 0)
    except (OSError, AttributeError):
        return False
