"""Which int8 kernels libraries choose on the processor that this process runs on, emulated or not."""

from __future__ import annotations

from typing import Literal

Processor = Literal["vnni", "avx2", "other"]


def processor() -> Processor:
    """By CPUID, as libraries ask: /proc/cpuinfo names the machine's own processor even under qemu-user."""
    from llvmlite import binding

    try:
        features = binding.get_host_cpu_features()
    except RuntimeError:  # LLVM can't tell
        return "other"
    if features.get("avx512vnni") or features.get("avxvnni"):
        return "vnni"
    return "avx2" if features.get("avx2") else "other"
