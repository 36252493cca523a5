"""My accelerator as a TOML file: draw it, and prove that it computes a network exactly, for every input.

`python my_accelerator.py [MODEL [TARGET]]`. The machine is my_accelerator.toml.
"""

import sys
from pathlib import Path

import intsim

HERE = Path(__file__).parent


def main(model=HERE / "digits.onnx", target=HERE / "my_accelerator.toml"):
    """Print what stands between the network and its certificate, if something does."""
    machine = intsim.Target.load(str(target))
    print(machine.describe())
    certificate = intsim.certify(model, machine)
    for obstacle in certificate.obstacles:
        print(obstacle)
    print(certificate.verdict)
    return 0 if certificate.holds else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
