"""Counts that long tests leave, from which docs/measured/trust.md is made.

Tests write into the folder of what is built, a file each, and a command makes the page anew: so a run of the tests
changes no file of the tree, and the page always says what record.json says.
"""

import json
from pathlib import Path

PATH = Path(__file__).resolve().parent / "record.json"
LEFT = PATH.parents[2] / "out" / "trust"


def read():
    return json.loads(PATH.read_text()) if PATH.exists() else {"targets": {}, "requantizers": {}}


def write(table, name, counts):
    """Leave the counts of one name of a table."""
    LEFT.mkdir(parents=True, exist_ok=True)
    (LEFT / f"{table}.{name}.json").write_text(json.dumps(counts) + "\n")


def take():
    """Put what tests have left into the record."""
    record = read()
    for path in sorted(LEFT.glob("*.json")):
        table, _, name = path.name.removesuffix(".json").partition(".")
        record[table][name] = json.loads(path.read_text())
    PATH.write_text(json.dumps({t: dict(sorted(rows.items())) for t, rows in record.items()}, indent=1) + "\n")
