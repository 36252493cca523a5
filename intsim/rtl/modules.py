"""The modules of hardware/rtl: SystemVerilog that Verilator, Icarus and Yosys take."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
SOURCE_TREE = PACKAGE.parent / "hardware" / "rtl"
INSTALLED = PACKAGE / "_rtl"
NEEDS = {
    "overflow_add": (),
    "round_shift": (),
    "mac": ("overflow_add",),
    "stage": ("overflow_add",),
    "chain": ("overflow_add", "stage"),
    "dot": ("overflow_add", "round_shift", "stage", "chain"),
    "packed_mac": ("overflow_add",),
    "packed_dot": ("overflow_add", "stage", "chain", "packed_mac"),
    "convolve": ("overflow_add", "round_shift", "stage", "chain", "dot"),
    "requantize": ("overflow_add", "round_shift"),
    "threshold": (),
    "lookup": (),
    "elastic": (),
    "hilbert_round": (),
    "hilbert_segment": (),
    "hilbert_aim": (),
    "hilbert_foot": (),
    "hilbert_decode": ("elastic", "hilbert_round"),
    "hilbert_scan": ("elastic", "hilbert_round", "hilbert_segment", "hilbert_aim", "hilbert_foot"),
    "hilbert_walk": ("hilbert_round", "hilbert_segment", "hilbert_aim", "hilbert_foot"),
    "hilbert_table": (),
}
"""Modules, and the ones they are made of."""


def source(module: str) -> str:
    """Text of a module's file."""
    folder = SOURCE_TREE if SOURCE_TREE.is_dir() else INSTALLED
    return (folder / f"{module}.sv").read_text(encoding="ascii")


def sources(module: str) -> dict[str, str]:
    """Files of a module and of those that it is made of, in an order in which they can be read."""
    return {f"{name}.sv": source(name) for name in (*NEEDS[module], module)}
