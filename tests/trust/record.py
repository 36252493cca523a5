"""Counts that long tests leave in record.json, from which docs/measured/trust.md is made."""

import json
from pathlib import Path

PATH = Path(__file__).resolve().parent / "record.json"


def read():
    return json.loads(PATH.read_text()) if PATH.exists() else {"targets": {}, "requantizers": {}}


def write(table, name, counts):
    """Put the counts of one name into a table of the record."""
    record = read()
    record[table] = dict(sorted((record.get(table, {}) | {name: counts}).items()))
    PATH.write_text(json.dumps(record, indent=1) + "\n")
