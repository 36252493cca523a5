"""Machine code on disk that somebody else may have written is neither read nor kept: kernels are compiled."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KERNEL = """
from intsim.jit.compile import census, compiled

@compiled
def double(x):
    return 2 * x

print(double(9), *census())
"""
COLD, WARM = "18 0 1", "18 1 0"


class Evil:
    """What leaves a file behind when it's unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def run(tmp_path):
    """A module with one kernel in a process of its own: its result, how many kernels were loaded and compiled."""
    (tmp_path / "package").mkdir(mode=0o755)
    path = tmp_path / "package" / "kernel.py"
    path.write_text(KERNEL)

    def run(umask: int = -1, **environment: str) -> str:
        env = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA")}
        env |= {"XDG_CACHE_HOME": str(tmp_path / "user"), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False,
                              env={**env, **environment}, umask=umask, cwd=tmp_path)  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    return run


def kept(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.nbc"))


def poison(tmp_path: Path) -> Path:
    """Put what must not be read in place of every kept file."""
    proof = tmp_path / "was-here"
    for path in kept(tmp_path):
        mode = path.stat().st_mode
        path.write_bytes(pickle.dumps(Evil(proof)))
        path.chmod(mode)
    return proof


def test_the_fixture_does_harm(run, tmp_path):
    """In the user's own folder the same file is read: the tests below would see it."""
    assert run() == COLD
    proof = poison(tmp_path)
    assert run() == COLD
    assert proof.exists()


def test_a_folder_that_others_write_to(run, tmp_path):
    """Neither read nor written; the next place is used, as it is the user's own."""
    folder = tmp_path / "package" / "__pycache__"
    assert run() == COLD
    assert [p.parent for p in kept(tmp_path)] == [folder]
    folder.chmod(0o777)
    proof = poison(tmp_path)
    before = {p: p.read_bytes() for p in kept(folder)}
    assert run() == COLD
    assert run() == WARM
    assert {p: p.read_bytes() for p in kept(folder)} == before
    assert len(kept(tmp_path / "user")) == 1
    assert not proof.exists()


def test_a_folder_that_others_can_replace(run, tmp_path):
    assert run() == COLD
    (tmp_path / "package").chmod(0o777)
    proof = poison(tmp_path)
    assert run() == COLD
    assert not proof.exists()
    (tmp_path / "package").chmod(0o1777)
    assert len(kept(tmp_path / "user")) == 1


def test_a_file_that_others_write_to(run, tmp_path):
    assert run() == COLD
    proof = poison(tmp_path)
    for path in kept(tmp_path):
        path.chmod(0o666)
    assert run() == COLD
    assert not proof.exists()
    assert run() == WARM  # the user's folder: a new file took the place


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_somebody_elses(run, tmp_path, what):
    assert run() == COLD
    proof = poison(tmp_path)
    (path,) = kept(tmp_path)
    os.chown(path if what == "file" else path.parent, 4321, 4321)
    assert run() == COLD
    assert not proof.exists()


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_given_folder_that_others_write_to(run, tmp_path, mode):
    given = tmp_path / "given"
    given.mkdir()
    assert run(NUMBA_CACHE_DIR=str(given)) == COLD
    given.chmod(mode)
    proof = poison(tmp_path)
    # below a sticky folder, as in /tmp, the user's own folder is safe
    assert run(NUMBA_CACHE_DIR=str(given)) == COLD
    assert proof.exists() == (mode == 0o1777)


@pytest.mark.parametrize("name", ["NUMBA_CACHE_DIR", "XDG_CACHE_HOME"])
def test_a_relative_folder(run, tmp_path, name):
    """It would be another folder in each working directory, a downloaded one among them."""
    (tmp_path / "package" / "__pycache__").touch()
    assert run(**{name: "here"}) == COLD
    assert not (tmp_path / "here").exists()


def test_what_is_written_is_the_users_alone(run, tmp_path):
    assert run(umask=0) == COLD
    (path,) = kept(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.parent.stat().st_mode & 0o777 == 0o755
    assert run(umask=0) == WARM


def test_settings_in_the_working_directory(run, tmp_path):
    """With PyYAML Numba reads a file there that may name folders and modules; a stand-in for it shows that it can't."""
    (tmp_path / "yaml").mkdir()
    (tmp_path / "yaml" / "__init__.py").write_text(
        f"def safe_load(file): return {{'cache_dir': {str(tmp_path / 'evil')!r}, 'cache_locator_classes': 'a.B'}}\n"
    )
    (tmp_path / ".numba_config.yaml").touch()
    assert run(PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}") == COLD
    assert run(PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}") == WARM
    assert not (tmp_path / "evil").exists()
    assert len(kept(tmp_path / "package" / "__pycache__")) == 1
