"""`python -m tests.fuzz --count N --seed S [--kind KIND]`: run mutants, and write the smallest of what is wrong."""

import argparse
import sys
import tempfile
from pathlib import Path

from intsim import budget

from .campaign import KINDS, MEMORY, campaign, one, smaller


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="mutants of each kind")
    parser.add_argument("--seed", type=int, default=0, help="seeds SEED, SEED + 1, ...")
    parser.add_argument("--kind", choices=list(KINDS), action="append")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"), help="folder for what is found")
    given = parser.parse_args()
    mutants = [(k, given.seed + i) for i in range(given.count) for k in given.kind or KINDS]

    def say(done, made):
        if done % 500 == 0:
            print(f"{done} of {len(mutants)}, {len(made.wrong)} wrong", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        made = campaign(mutants, folder, say)
        print(made.text())
        budget.set_memory(MEMORY)
        for kind, seed, _ in made.wrong[:20]:
            found, content, judge = one(kind, seed, folder)
            content = smaller(content, judge, found)
            given.out.mkdir(parents=True, exist_ok=True)
            path = given.out / f"{kind}-{seed}"
            path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
            print(f"{path}: {found}")
    return 1 if made.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
