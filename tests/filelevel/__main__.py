"""`python -m tests.filelevel --count N --seed S`: contradict intsim by networks that the oracle reads from files."""

import argparse
import sys
import time

from .contradict import campaign


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.filelevel", description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="networks of seeds SEED, SEED + 1, ...")
    parser.add_argument("--exact-biases", action="store_true", help="only biases of whole LSBs")
    parser.add_argument("--show", type=int, default=10, help="contradicted networks to list")
    given = parser.parse_args()
    begun = time.monotonic()

    def say(done, table):
        if done % 100 == 0:
            spent = time.monotonic() - begun
            print(f"{done} of {given.count}, {spent:.0f} s, {len(table.contradicted)} contradicted", file=sys.stderr)

    table = campaign(range(given.seed, given.seed + given.count), given.exact_biases, say)
    print(table.text())
    for found in table.contradicted[: given.show]:
        print(f"\nseed {found.seed}, {found.target} ({found.note})")
        for verb, texts in found.contradictions.items():
            for text in texts[:3]:
                print(f"  {verb}: {text[:300]}")
    return 1 if table.contradicted else 0


if __name__ == "__main__":
    sys.exit(main())
