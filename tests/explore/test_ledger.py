"""Rows on disk: what is noticed of foreign hands, who may write, what a kill leaves, and what a full disk says."""

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import intsim
from intsim.errors import IntsimError
from intsim.explore import ledger as module
from intsim.explore.ledger import Ledger, canonical, checksum

HEAD = {"model": "a", "inputs": "b"}
ROOT = Path(intsim.__file__).resolve().parents[1]


def filled(folder, count=3, head=HEAD):
    with Ledger(folder, head) as ledger:
        for i in range(len(ledger), count):
            ledger.add({"width": i}, {"error": i / 7, "name": "é\n"})
    return folder / "rows.sqlite"


def opened(path):
    connection = sqlite3.connect(path)
    with connection:
        yield connection
    connection.close()


def edit(path, *statements):
    for connection in opened(path):
        for statement in statements:
            connection.execute(*statement) if isinstance(statement, tuple) else connection.execute(statement)


def rows(folder, head=HEAD):
    with Ledger(folder, head) as ledger:
        return ledger.rows


def test_rows_come_back_in_order_and_alone(tmp_path):
    path = filled(tmp_path / "deep" / "er")
    assert [p.name for p in path.parent.iterdir()] == ["rows.sqlite"]
    with Ledger(path.parent, HEAD) as ledger:
        assert [json.loads(k) for k in ledger.rows] == [{"width": i} for i in range(3)]
        assert {"width": 2} in ledger
        assert {"width": 3} not in ledger
        assert ledger[{"width": 2}] == {"error": 2 / 7, "name": "é\n"}
    in_memory = Ledger(None, HEAD)
    in_memory.add({"b": 1, "a": 2}, [1])
    assert in_memory[{"a": 2, "b": 1}] == [1]


def test_the_file_is_what_is_written_down(tmp_path):
    """Its head, and a checksum that anybody can compute."""
    path = filled(tmp_path, 1)
    for connection in opened(path):
        (head,) = connection.execute("SELECT content FROM head").fetchone()
        ((key, content, told),) = connection.execute("SELECT key, content, sha256 FROM rows").fetchall()
    assert json.loads(head) == {"format": "intsim-rows-1", "intsim": intsim.__version__, "kind": "sweep", **HEAD}
    assert key == '{"width":0}'
    assert told == hashlib.sha256(f"{head}\n{key}\n{content}".encode()).hexdigest()


FORGED = {
    "a number": (
        "UPDATE rows SET content = replace(content, '0.14', '0.13') WHERE number = 2",
        "row 2 is not what was",
    ),
    "a key": ("""UPDATE rows SET key = '{"width":9}' WHERE number = 2""", "row 2 is not what was"),
    "cut": ("UPDATE rows SET content = substr(content, 1, 9) WHERE number = 3", "row 3 is not what was"),
    "no text": ("UPDATE rows SET content = x'00' WHERE number = 1", "row 1 is not what was"),
    "no UTF-8": ("UPDATE rows SET content = CAST(x'ff' AS TEXT) WHERE number = 1", "not rows of a sweep, or damaged"),
    "no head": ("DELETE FROM head", "not rows of a sweep, or damaged"),
    "no rows": ("DROP TABLE rows", "not rows of a sweep, or damaged"),
    "other tables": ("ALTER TABLE head RENAME TO users", "not rows of a sweep, or damaged"),
}


@pytest.mark.parametrize("how", FORGED)
def test_forged_rows_are_noticed(tmp_path, how):
    path = filled(tmp_path)
    edit(path, FORGED[how][0])
    before = path.read_bytes()
    with pytest.raises(IntsimError, match=rf"rows\.sqlite: {FORGED[how][1]}.*; --restart begins anew$"):
        rows(tmp_path)
    assert path.read_bytes() == before
    with Ledger(tmp_path, HEAD, restart=True) as ledger:
        assert len(ledger) == 0
        ledger.add({"width": 0}, 1)
    assert rows(tmp_path) == {'{"width":0}': 1}


def test_rows_of_another_file_are_noticed(tmp_path):
    """Copied from the ledger of another model, checksum and all."""
    path, other = filled(tmp_path / "a", 1), filled(tmp_path / "b", 2, {**HEAD, "model": "c"})
    edit(path, ("ATTACH ? AS b", (str(other),)), "INSERT INTO rows SELECT * FROM b.rows WHERE number = 2")
    with pytest.raises(IntsimError, match="row 2 is not what was written"):
        rows(tmp_path / "a")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("model", "holds a sweep with another model; give another folder, or --restart begins anew"),
        ("intsim", r"rows of intsim 0\.0\.9, this is .*; give another folder, or --restart begins anew"),
        ("kind", "holds rows of a search; give another folder, or --restart begins anew"),
        ("format", "not rows of a sweep, or damaged; --restart begins anew"),
    ],
)
def test_another_head_is_refused(tmp_path, monkeypatch, key, words):
    with Ledger(tmp_path, HEAD) as ledger:
        ledger.head[key] = {"intsim": "0.0.9", "kind": "search"}.get(key, "other")
        ledger.add({"width": 0}, 1)
    with pytest.raises(IntsimError, match=words):
        rows(tmp_path)
    with Ledger(tmp_path, HEAD, restart=True) as ledger:
        assert len(ledger) == 0
    with pytest.raises(IntsimError, match=words):  # no row, nothing replaced
        rows(tmp_path)


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + bytes(200), b"\n" * 5000])
def test_a_damaged_file(tmp_path, content):
    path = tmp_path / "rows.sqlite"
    path.write_bytes(content)
    with pytest.raises(IntsimError, match=r"rows\.sqlite: not rows of a sweep, or damaged; --restart begins anew$"):
        rows(tmp_path)
    assert path.read_bytes() == content
    with Ledger(tmp_path, HEAD, restart=True) as ledger:
        ledger.add({"width": 0}, 1)
    assert rows(tmp_path) == {'{"width":0}': 1}


def test_every_cut_is_noticed_or_harmless(tmp_path):
    """A file that ends early, or has one byte changed: what was written, or an error."""
    path = filled(tmp_path, 40)
    whole, told = path.read_bytes(), rows(tmp_path)
    for at in range(0, len(whole), 509):
        for content in (whole[:at], whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]):
            path.write_bytes(content)
            with suppress(IntsimError):
                assert rows(tmp_path).items() <= told.items()


def test_rows_of_an_earlier_format(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}\n")
    words = (
        r"rows\.jsonl: rows of an earlier intsim, which aren't read any more; remove the file, or --restart begins anew"
    )
    with pytest.raises(IntsimError, match=words):
        rows(tmp_path)
    with Ledger(tmp_path, HEAD, restart=True) as ledger:
        assert (tmp_path / "rows.jsonl").exists()
        ledger.add({"width": 0}, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["rows.sqlite"]


def test_what_never_had_a_row_leaves_nothing(tmp_path):
    with Ledger(tmp_path / "a" / "b", HEAD):
        assert (tmp_path / "a" / "b" / "rows.sqlite").exists()
    assert not (tmp_path / "a").exists()
    (tmp_path / "rows.sqlite").write_bytes(b"")  # a process that was killed before its first row
    assert rows(tmp_path) == {}


def test_one_process_at_a_time(tmp_path):
    """The second is refused in one line, at once, and takes nothing away from the first."""
    for count in (0, 2):
        with Ledger(tmp_path, HEAD) as ledger:
            for i in range(count):
                ledger.add({"width": i}, i)
            code = "import sys; from pathlib import Path; from intsim.explore.ledger import Ledger\n"
            code += f"Ledger(Path(sys.argv[1]), {HEAD!r}, bool(sys.argv[2:]))"
            for more in ([], ["restart"]):
                done = subprocess.run([sys.executable, "-c", code, str(tmp_path), *more], cwd=ROOT,
                                      capture_output=True, text=True, check=False)  # fmt: skip
                assert done.returncode == 1
                assert "rows.sqlite: another process works on it; wait until it ends" in done.stderr.splitlines()[-1]
            ledger.add({"width": count}, count)
        assert len(rows(tmp_path)) == count + 1
        (tmp_path / "rows.sqlite").unlink()


def test_two_in_one_process(tmp_path):
    with Ledger(tmp_path, HEAD) as ledger:
        with pytest.raises(IntsimError, match="another process works on it"):
            Ledger(tmp_path, HEAD)
        ledger.add({"width": 0}, 0)
    assert len(rows(tmp_path)) == 1


def test_a_file_that_is_taken_away(tmp_path):
    """What would be written to no name is not reported as kept."""
    with Ledger(tmp_path, HEAD) as ledger:
        ledger.add({"width": 0}, 0)
        (tmp_path / "rows.sqlite").unlink()
        with pytest.raises(IntsimError, match="was removed or replaced"):
            ledger.add({"width": 1}, 1)


WRITER = """
import sys
from pathlib import Path
from intsim.explore.ledger import Ledger
with Ledger(Path(sys.argv[1]), {head!r}) as ledger:
    for i in range(len(ledger), 100000):
        ledger.add({{"width": i}}, {{"text": "x" * 3000, "i": i}})
        print(i, flush=True)
"""


def killed(folder, seconds):
    """A writer that is killed after some time: the last row that it reported."""
    process = subprocess.Popen([sys.executable, "-c", WRITER.format(head=HEAD), str(folder)], cwd=ROOT,
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout.readline()
    time.sleep(seconds)
    process.kill()
    said = process.stdout.read().split("\n")[:-1]
    process.wait()
    process.stdout.close()
    return int(said[-1]) if said else None


@pytest.mark.parametrize("times", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_a_kill_loses_nothing_that_was_reported(tmp_path, times):
    for i in range(times):
        last = killed(tmp_path, 0.05 + 0.003 * i)
        found = rows(tmp_path)
        assert [v["i"] for v in found.values()] == list(range(len(found)))
        assert last is None or len(found) in (last + 1, last + 2)  # one may be written and not yet reported
        assert [p.name for p in tmp_path.iterdir()] == ["rows.sqlite"]


def test_a_full_disk(tmp_path):
    """One line; the rows before it stay."""
    with Ledger(tmp_path, HEAD) as ledger:
        ledger.add({"width": 0}, 0)
        (pages,) = ledger.connection.execute("PRAGMA page_count").fetchone()
        ledger.connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite says the same of a disk
        with pytest.raises(IntsimError, match=r"rows\.sqlite: can't be read or written: database or disk is full$"):
            ledger.add({"width": 1}, "x" * 100_000)
        assert {"width": 1} not in ledger
    assert list(rows(tmp_path)) == ['{"width":0}']


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
def test_a_limit_on_files(tmp_path):
    """The system's own refusal in the middle of a row."""
    code = WRITER.format(head=HEAD).replace("import sys", "import resource, signal, sys", 1)
    code = code.replace("\nwith", "\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
                        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\nwith", 1)  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
                          check=False)  # fmt: skip
    last = done.stderr.splitlines()[-1]
    assert "rows.sqlite: can't be read or written: " in last
    assert len(rows(tmp_path)) == len(done.stdout.split())
    assert len(done.stdout.split()) > 3


def test_folders_that_can_not_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(IntsimError, match="file: is a file; give a folder"):
            Ledger(folder, HEAD)
    (tmp_path / "rows.sqlite").mkdir()
    with pytest.raises(IntsimError, match=r"rows\.sqlite: can't be read or written: unable to open"):
        Ledger(tmp_path, HEAD)
    monkeypatch.setattr(module.os, "access", lambda *_: False)
    with pytest.raises(IntsimError, match="can't be written"):
        Ledger(tmp_path / "new", HEAD)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "rows.sqlite"]


def test_a_read_only_file(tmp_path):
    """As SQLite meets it where the folder can be written and the file can't."""
    with Ledger(tmp_path, HEAD) as ledger:
        ledger.add({"width": 0}, 0)
        ledger.connection.execute("PRAGMA query_only = ON")
        with pytest.raises(IntsimError, match="can't be read or written: attempt to write a readonly database"):
            ledger.add({"width": 1}, 1)


def test_keys_that_are_equal_are_one():
    assert canonical({"b": [1, 2.5], "a": None}) == canonical({"a": None, "b": [1, 2.5]}) == '{"a":null,"b":[1,2.5]}'
    with pytest.raises(ValueError):
        canonical(float("nan"))
    assert (
        len({checksum(*parts) for parts in (("a", "b", "c"), ("a", "bc", ""), ("ab", "", "c"), ("x", "b", "c"))}) == 4
    )


def test_a_signal_between_statements(tmp_path):
    """Ctrl-C leaves a transaction undone, never half done."""

    class Interrupted:
        def __init__(self, connection):
            self.connection = connection

        def execute(self, text, *more):
            if text.startswith("INSERT INTO rows"):
                os.kill(os.getpid(), signal.SIGINT)
            return self.connection.execute(text, *more)

        def close(self):
            self.connection.close()

    with Ledger(tmp_path, HEAD) as ledger:
        ledger.add({"width": 0}, 0)
        ledger.connection = Interrupted(ledger.connection)
        with pytest.raises(KeyboardInterrupt):
            ledger.add({"width": 1}, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["rows.sqlite"]
    assert list(rows(tmp_path)) == ['{"width":0}']
