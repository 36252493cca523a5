"""Finished rows on disk, in one SQLite file, so that an interrupted search goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from intsim import __version__
from intsim.errors import IntsimError

FORMAT = "intsim-rows-1"
NAME, FORMER = "rows.sqlite", "rows.jsonl"
ANEW = "--restart begins anew"
DAMAGED = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""What SQLite says of a file without the tables, a damaged one, and one that is no database."""
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
SETTINGS = ("journal_mode=TRUNCATE", "journal_mode=DELETE", "synchronous=FULL", "locking_mode=EXCLUSIVE")
"""The change of the first takes away the journal of a process that was killed."""
TABLES = (
    "CREATE TABLE head (content TEXT NOT NULL)",
    "CREATE TABLE rows (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, content TEXT NOT NULL, sha256 TEXT)",
)


class Ledger:
    """Rows by key, both of them JSON, in the file rows.sqlite of a folder, or in memory if there is none.

    The file's head says what the rows hold for. Rows of the same head are kept and taken up again, in the order in
    which they were added; each has a SHA-256 over head, key and content. One process at a time has the file: it is
    locked until `close`, or until the process ends in whatever way.

    Args:
        folder: where the file is; made if it doesn't exist.
        head: JSON; a file that differs in one of its keys is refused by that key's name.
        restart: begin anew. What is there is replaced when the first row is added.
        kind: what the rows are of, in a word.

    Raises:
        IntsimError: rows of another head, kind or version of intsim, damaged ones, a file that another process has
            open, a folder that can't be written.
    """

    def __init__(self, folder: Path | None, head: dict[str, Any], restart: bool = False, kind: str = "sweep") -> None:
        """Lock the file and read its rows; nothing is written before the first one is added."""
        self.rows: dict[str, Any] = {}
        self.kind, self.restart = kind, restart
        self.head = {"format": FORMAT, "intsim": __version__, "kind": kind, **head}
        self.connection: sqlite3.Connection | None = None
        self.begun, self.empty, self.made = False, False, list[Path]()
        if folder is None:
            return
        self.path, self.former = folder / NAME, folder / FORMER
        try:
            with self._reported():
                self._open()
                if not restart:
                    self._read()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Ledger:
        """Itself; closed when the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def __contains__(self, key: Any) -> bool:
        """Whether there is a row."""
        return canonical(key) in self.rows

    def __getitem__(self, key: Any) -> Any:
        """A row's content; raises KeyError where there is none."""
        return self.rows[canonical(key)]

    def __len__(self) -> int:
        """How many rows."""
        return len(self.rows)

    def add(self, key: Any, content: Any) -> None:
        """Keep a finished row; it is on disk when this returns. Raises IntsimError where it can't be written."""
        name, text = canonical(key), json.dumps(content)
        if self.connection is not None:
            with self._reported():
                self._write(name, text)
        self.rows[name] = json.loads(text)

    def close(self) -> None:
        """Let others have the file. One without rows is removed, with the folders that were made for it."""
        with suppress(OSError):
            if self.empty and not self.begun:
                self.path.unlink()  # while it is locked: nobody else can have written to it
        self._disconnect()
        with suppress(OSError):
            for folder in self.made:
                folder.rmdir()

    def damaged(self, what: str = "not rows of a {kind}, or damaged") -> IntsimError:
        """The error for what can't be rows."""
        return IntsimError(f"{self.path}: {what.format(kind=self.kind)}; {ANEW}")

    def _open(self) -> None:
        parents = self.path.absolute().parents
        ground = next(p for p in parents if p.exists())
        if not ground.is_dir() or not os.access(ground, os.W_OK):
            what = "can't be written" if ground.is_dir() else "is a file; give a folder"
            raise IntsimError(f"{ground}: {what}")
        if self.former.exists() and not self.restart:
            what = f"rows of an earlier intsim, which aren't read any more; remove the file, or {ANEW}"
            raise IntsimError(f"{self.former}: {what}")
        self.made = list(parents[: parents.index(ground)])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        before = self._file()
        try:
            self._connect()
        except sqlite3.DatabaseError as error:
            if not self.restart or _code(error) not in DAMAGED:
                raise
            self._disconnect()
            self.path.unlink()
            before = None
            self._connect()
        self.file = self._file()
        if self.file is None or before not in (None, self.file):  # another process ended, and took its empty file away
            raise self._taken()
        assert self.connection is not None
        self.empty = self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)

    def _connect(self) -> None:
        """Open and lock a sound file, or a new one."""
        self.connection = sqlite3.connect(self.path, timeout=0, isolation_level=None)
        for setting in SETTINGS:
            self.connection.execute(f"PRAGMA {setting}")
        self.connection.execute("BEGIN EXCLUSIVE")  # the lock is kept behind the end of this
        self.connection.execute("COMMIT")
        found = self.connection.execute("PRAGMA integrity_check(1)").fetchone()
        if found != ("ok",):
            error = sqlite3.DatabaseError(found[0])
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error

    def _disconnect(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def _file(self) -> tuple[int, int] | None:
        """Which file lies at the path; None if there is none."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _read(self) -> None:
        """The rows, each of them checked."""
        assert self.connection is not None
        if self.empty:
            return
        (text,) = self.connection.execute("SELECT content FROM head").fetchone() or ("",)
        try:
            head = json.loads(text)
            other = [k for k, mine in self.head.items() if head.get(k) != mine]
        except (AttributeError, TypeError, ValueError):
            raise self.damaged() from None
        if "format" in other or text != canonical(head):
            raise self.damaged()
        if "intsim" in other:
            what = f"rows of intsim {str(head.get('intsim'))[:40]}, this is {__version__}"
            raise IntsimError(f"{self.path}: {what}; give another folder, or {ANEW}")
        if other:
            what = (
                f"rows of a {str(head.get('kind'))[:40]}"
                if "kind" in other
                else f"a {self.kind} with another {other[0]}"
            )
            raise IntsimError(f"{self.path}: holds {what}; give another folder, or {ANEW}")
        columns = "SELECT number, key, content, sha256 FROM rows ORDER BY number"
        for number, key, content, told in self.connection.execute(columns):
            if not isinstance(key, str) or not isinstance(content, str) or told != checksum(text, key, content):
                raise self.damaged(f"row {number} is not what was written")
            self.rows[key] = json.loads(content)
        self.begun = True

    def _write(self, key: str, content: str) -> None:
        assert self.connection is not None
        head = canonical(self.head)
        self.connection.execute("BEGIN")
        try:
            if not self.begun:
                for name in ("head", "rows"):
                    self.connection.execute(f"DROP TABLE IF EXISTS {name}")
                for table in TABLES:
                    self.connection.execute(table)
                self.connection.execute("INSERT INTO head VALUES (?)", (head,))
            row = (key, content, checksum(head, key, content))
            self.connection.execute("INSERT INTO rows (key, content, sha256) VALUES (?, ?, ?)", row)
            self.connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self.connection.execute("ROLLBACK")
            raise
        if self._file() != self.file:
            raise IntsimError(f"{self.path}: was removed or replaced while rows were written to it")
        if not self.begun:
            self.former.unlink(missing_ok=True)
        self.begun = True

    def _taken(self) -> IntsimError:
        return IntsimError(f"{self.path}: another process works on it; wait until it ends, or give another folder")

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Failures of the file system and of SQLite as one line that names the file."""
        try:
            yield
        except OSError as error:
            raise IntsimError(f"{self.path}: can't be read or written: {error.strerror or error}") from error
        except sqlite3.Error as error:
            code = _code(error)
            if code in BUSY:
                raise self._taken() from error
            if code is None or code in DAMAGED:
                raise self.damaged() from error
            raise IntsimError(f"{self.path}: can't be read or written: {error}") from error


def canonical(value: Any) -> str:
    """JSON that is the same for equal values. Raises ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def checksum(head: str, key: str, content: str) -> str:
    """SHA-256 of a row; JSON has no newline that isn't written as an escape."""
    return hashlib.sha256("\n".join((head, key, content)).encode()).hexdigest()


def _code(error: sqlite3.Error) -> int | None:
    """SQLite's primary result code; None of what isn't its own, as text that is no UTF-8."""
    found = getattr(error, "sqlite_errorcode", None)
    return None if found is None else found & 0xFF
