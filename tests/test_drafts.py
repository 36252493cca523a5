"""Drafts: gone whoever leaves them, and whatever else is beside them stays."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from intsim import drafts
from intsim.drafts import draft, swap
from intsim.errors import IntsimError

ROOT = Path(drafts.__file__).parents[1]
HOLDS = """
import os, sys
from pathlib import Path
from intsim.drafts import draft
with draft(Path(sys.argv[1]), folder=sys.argv[2] == "folder") as made:
    (made / "half" if made.is_dir() else made).write_text("half")
    print(made, flush=True)
    sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def holder(path: Path, kind: str) -> tuple[subprocess.Popen, Path]:
    """A process inside a draft's block, and the draft."""
    command = [sys.executable, "-c", HOLDS, str(path), kind]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    return process, Path(process.stdout.readline().strip())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, kind):
    path = tmp_path / "out.npz"
    process, left = holder(path, kind)
    with draft(path, folder=kind == "folder"):
        assert left.exists()  # somebody works on it
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert names(tmp_path) == [left.name]
    with draft(tmp_path / "other.npz"), draft(tmp_path / "out.npy"):
        assert left.exists()  # of another place
    with draft(path):
        assert not left.exists()
    assert names(tmp_path) == []


def test_what_only_looks_like_a_draft_stays(tmp_path):
    others = [".out.npz", ".out.intsim-.npz", ".out.intsim-ABCDEFGH.npz", ".out.intsim-abcdefgh.npy", "out.npz"]
    for name in others:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".out.intsim-abcdefg1.npz").symlink_to(tmp_path / "out.npz")
    with draft(tmp_path / "out.npz"):
        pass
    assert names(tmp_path) == sorted([*others, ".out.intsim-abcdefg1.npz"])


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_takes_no_more_names_the_place(tmp_path, kind, number):
    path = tmp_path / "out.json"
    named = pytest.raises(IntsimError, match=rf"out\.json: can't be written: {os.strerror(number)}$")
    with named, draft(path, folder=kind == "folder"):
        raise OSError(number, os.strerror(number))
    assert names(tmp_path) == []


def test_other_errors_pass(tmp_path):
    for error in (ConnectionResetError(errno.ECONNRESET, "reset"), BrokenPipeError(errno.EPIPE, "pipe"), ValueError()):
        with pytest.raises(type(error)), draft(tmp_path / "x"):
            raise error
    assert names(tmp_path) == []


def test_folders_are_exchanged_in_one_step(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(name)
    assert swap(tmp_path / "a", tmp_path / "b")
    assert (names(tmp_path / "a"), names(tmp_path / "b")) == (["b"], ["a"])
    assert not swap(tmp_path / "a", tmp_path / "none")
    assert names(tmp_path) == ["a", "b"]
