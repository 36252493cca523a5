"""Will it overflow on AVX2? Proven for every input, and counted on a few.

`python overflow_on_avx2.py [MODEL]`. AVX2 adds two products of bytes in 16 bits that saturate.
"""

import sys
from pathlib import Path

import intsim

MODEL = Path(__file__).with_name("digits.onnx")


def main(model=MODEL, target="x86-avx2"):
    """Print the bits that each register can need; 1 if one can overflow."""
    loaded = intsim.load(model)
    proven = intsim.bounds(loaded, target)
    counted = intsim.telemetry(loaded, target=target, samples=8)
    for layer, seen in zip(proven.layers, counted.layers, strict=True):
        print(f"{layer.name}: {'no register can overflow' if layer.safe else 'a register can overflow'}")
        for register, held in zip(layer.stages, seen.stages, strict=True):
            overflows = int(sum(held.overflows))
            what = f"stage {register.stage}, {register.bits} bits, {register.overflow}"
            print(f"    {what}: may need {register.required_bits}; overflowed {overflows} times in 8 samples")
    return 0 if proven.safe else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
