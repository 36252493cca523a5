"""Finished configurations on disk, one line each, so that an interrupted sweep goes on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from intsim.errors import IntsimError
from intsim.explore.configuration import Configuration
from intsim.explore.row import Row

FORMAT = "intsim-sweep-rows-4"
NAME = "rows.jsonl"


class Ledger:
    """Rows of one sweep by configuration, in the file rows.jsonl of a folder, or in memory if there is none.

    The file's first line, its head, says what the rows hold for: model, target, stage, inputs, metrics and labels. Rows
    of other widths of the same are kept and taken up again.

    Raises:
        IntsimError: a file of another sweep (`restart` replaces it), a damaged one, or a folder that can't be written.
    """

    def __init__(self, folder: Path | None, head: dict[str, Any], restart: bool = False) -> None:
        """Read the folder's rows; nothing is written before the first row is there."""
        self.path = None if folder is None else folder / NAME
        self.rows: dict[Configuration, Row] = {}
        if self.path is None:
            return
        self.head = {"format": FORMAT, **head}
        self.begun = False
        with _reported(self.path):
            ground = next(p for p in self.path.absolute().parents if p.exists())
            if not ground.is_dir() or not os.access(ground, os.W_OK):
                what = "can't be written" if ground.is_dir() else "is a file; give a folder"
                raise IntsimError(f"{ground}: {what}")
            if not restart and self.path.exists():
                self._read()
                self.begun = True

    def add(self, row: Row) -> None:
        """Keep a finished row; it is on disk when this returns."""
        self.rows[row.configuration] = row
        if self.path is None:
            return
        with _reported(self.path):
            if not self.begun:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._write([json.dumps(self.head)])
                self.begun = True
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row.to_json()) + "\n")
                file.flush()
                os.fsync(file.fileno())

    def _read(self) -> None:
        assert self.path is not None
        lines = self.path.read_text(encoding="utf-8").split("\n")
        complete, rest = lines[:-1], lines[-1]  # what no newline ends was being written when it was interrupted
        anew = "--restart begins anew"
        try:
            head = json.loads(complete[0])
            for line in complete[1:]:
                row = Row.from_json(json.loads(line))
                self.rows[row.configuration] = row
        except (IndexError, KeyError, TypeError, ValueError):
            raise IntsimError(f"{self.path}: not rows of a sweep, or damaged; {anew}") from None
        other = [k for k, mine in self.head.items() if not isinstance(head, dict) or head.get(k) != mine]
        if other:
            raise IntsimError(f"{self.path}: holds a sweep with another {other[0]}; give another folder, or {anew}")
        if rest:
            self._write(complete)

    def _write(self, lines: list[str]) -> None:
        assert self.path is not None
        draft = self.path.with_name(f".{NAME}.{os.getpid()}")
        try:
            draft.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            os.replace(draft, self.path)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Failures of the file system as one line that names `path`."""
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise IntsimError(f"{path}: can't be read or written: {reason}") from error
