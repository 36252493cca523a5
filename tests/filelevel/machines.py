"""Machines to run a network on: shipped ones, members of families near the width that a network needs, random ones."""

import json

import numpy as np

from .machine import machine, text_of

PLAIN = [
    "exact",
    "x86-avx2",
    "x86-avx512",
    "x86-vnni",
    "x86-vnni-saturating",
    "fbgemm-acc16",
    "arm-neon-int8",
    "arm-sdot",
    "arm-udot",
    "arm-usdot",
    "cortex-m-smlad",
    "cortex-m-smlad-single",
    "cpu-int32",
    "tflite-single",
    "hexagon-hvx",
    "hifi-56",
    "dsp-40",
    "dsp48e2",
    "dsp48e2-int8",
    "dsp48e2-int8-raw",
    "dsp48e2-int4",
    "dsp48e2-int4-raw",
    "finn-mvau",
    "rtl-shift",
    "ruy-neon",
    "tosa",
    "tosa-double",
    "tosa-int16",
]
FAMILIES = [
    ("wrap", 4, 64),
    ("saturate", 4, 64),
    ("a2q", 4, 32),
    ("axe", 8, 32),
    ("wrapnet", 8, 16),
    ("fixed-point", 4, 32),
]
MODES = ["half_even", "half_away", "half_toward_zero", "half_up", "floor", "ceil", "away", "toward_zero"]


def label(name):
    """What a table calls a machine: families and random ones by their kind."""
    stem, _, number = name.rpartition("-")
    return f"{stem}-N" if number.isdecimal() and stem in [f for f, _, _ in FAMILIES] else name


def draw(rng, bits, network):
    """(name, TOML text) of a machine for a network whose sums need `bits` bits."""
    roll = rng.random()
    if roll < 0.3:
        name = PLAIN[int(rng.integers(len(PLAIN)))]
        if name.startswith("dsp48e2-int4") and network.note.split()[0] != "qonnx":
            name = name.replace("int4", "int8")
        if network.grid and rng.random() < 0.2:
            name = "rtl-shift"
        return name, text_of(name)
    if roll < 0.6:
        stem, least, most = FAMILIES[int(rng.choice(len(FAMILIES), p=[0.28, 0.28, 0.14, 0.1, 0.06, 0.14]))]
        number = int(rng.integers(4, 17)) if stem == "fixed-point" else bits + int(rng.integers(-3, 2))
        name = f"{stem}-{min(max(number, least), most)}"
        return name, text_of(name)
    return "random", random_text(rng, bits, network)


def random_text(rng, bits, network):
    """A machine of no manual."""

    def pick(options):
        return options[int(rng.integers(len(options)))]

    lines = ['title = "random"', 'source = ["none"]']
    small = network.note.split()[0] == "qonnx"
    kinds = [None, None, None, ("u8", "s8"), ("s8", "s8"), ("u8", "u8"), ("s8", "u8"), ("u9", "s9"), ("s16", "s16")]
    kinds += [("u4", "s4"), ("s4", "s4")] if small else []
    operands = pick(kinds)
    if operands:
        lines += ["[operands]", f'activation = "{operands[0]}"', f'weight = "{operands[1]}"']
    order = list(rng.permutation(["kh", "kw", "cin"]))
    lines += ["[accumulate]", f'order = "{" ".join(order)}"']
    packed = rng.random() < 0.15
    stages = []
    count = int(rng.integers(1, 4)) if not packed else int(rng.integers(2, 4))
    rest = False
    field = int(rng.integers(max(3, bits - 2), max(5, bits + 4)))
    for i in range(count):
        last = i == count - 1
        rest = rest or last or rng.random() < 0.15
        total = '"rest"' if rest else str(int(rng.integers(1, 5)))
        lanes = 1 if last or (packed and i == 0) or rng.random() < 0.5 else int(rng.integers(2, 5))
        wide = min(max(bits + int(rng.integers(-3, 3)), 2), 64)
        rule = pick(["wrap", "saturate"])
        if packed and i == 0:
            wide, rule = min(wide, field), "wrap"
        stages.append(f'{{ sum = {total}, bits = {wide}, overflow = "{rule}", lanes = {lanes} }}')
    lines.append(f"stages = [{', '.join(stages)}]" if packed or rng.random() < 0.95 else "stages = []")
    scheme, more = pick(
        [("exact", [])] * 4
        + [("thresholds", [])] * 2
        + [("float32", [])]
        + [("fixed-point", [f"multiplier_bits = {int(rng.integers(4, 33))}", f'rounding = "{pick(MODES)}"'])] * 2
        + [("fixed-point", [f"multiplier_bits = {int(rng.integers(8, 33))}", "double_rounding = true"])]
        + [("tosa", [f"multiplier_bits = {pick([16, 32])}"]), ("tosa", ["double_rounding = true"])]
        + ([("shift", [f'rounding = "{pick(MODES)}"'])] * 3 if network.grid else [])
    )
    exact = scheme in ("exact", "thresholds")
    lines.append(
        f'bias = "{pick(["after", "after", "preload", "preload", "requantizer"] if exact else ["after", "preload"])}"'
    )
    if packed:
        lines += ["[accumulate.packing]", f"channels = {json.dumps([0, field])}"]
        four = rng.random() < 0.4 and 4 * field <= 64
        if four:
            lines.append(f"pixels = {json.dumps([0, 2 * field])}")
        lines.append(f"bits = {min(64, max((4 if four else 2) * field, int(rng.integers(20, 65))))}")
        lines.append(f'correction = "{pick(["none", "borrow"])}"')
    lines += ["[requantize]", f'scheme = "{scheme}"', *more]
    return "\n".join(lines) + "\n"


def drawn(seed, bits, network):
    """(name, TOML text, Machine) of a seed."""
    name, text = draw(np.random.default_rng([seed, 7]), bits, network)
    return name, text, machine(text, name)
