"""Command line: ``python -m models.datasets NAME ROOT`` describes a data set on your disk."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from intsim.errors import IntsimError
from models.datasets import DATASETS
from models.datasets.summary import census, table


def main() -> None:
    """Read every pair of a split and print a table: sizes, known and valid pixels, percentiles of the disparities."""
    parser = argparse.ArgumentParser(prog="python -m models.datasets", description=__doc__)
    parser.add_argument("name", choices=list(DATASETS), metavar="NAME", help=", ".join(DATASETS))
    parser.add_argument("root", type=Path, metavar="ROOT", help="the folder the data set is unpacked in")
    parser.add_argument("--split", choices=["train", "test"], default="train")
    parser.add_argument("--frames", choices=["clean", "final"], help="rendering pass, scene_flow only")
    parser.add_argument("--limit", type=int, metavar="N", help="read the first N pairs only")
    arguments = parser.parse_args()
    try:
        if arguments.limit is not None and arguments.limit < 1:
            raise IntsimError(f"--limit {arguments.limit}: give a number of at least 1")
        if arguments.frames and arguments.name != "scene_flow":
            raise IntsimError(f"--frames: {arguments.name} has one kind of images; leave the option out")
        options = {"frames": arguments.frames} if arguments.frames else {}
        pairs = DATASETS[arguments.name](arguments.root, arguments.split, **options)
        counts = census(pairs[: arguments.limit])
    except IntsimError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    Console().print(table(f"{arguments.name}, {arguments.split} split", counts))


if __name__ == "__main__":
    main()
