"""How narrow can my accumulators be? For every layer the least width: proven for all inputs, and seen on some.

`python narrowest_accumulators.py [MODEL]`.
"""

import sys
from pathlib import Path

import intsim

MODEL = Path(__file__).with_name("digits.onnx")


def main(model=MODEL):
    """Print one line a layer and overflow rule; a dash stands for none of the widths."""
    swept = intsim.sweep(model, accumulator=range(14, 25), samples=4)
    print(f"{'layer':16} {'register':9} proven  observed  exact codes")
    for found in swept.safe_from():
        widths = [found.proven_from, found.observed_from, found.exact_from]
        proven, observed, exact = ["-" if w is None else w for w in widths]
        print(f"{found.name:16} {found.overflow:9} {proven:>6}  {observed:>8}  {exact:>11}")


if __name__ == "__main__":
    main(*sys.argv[1:])
