"""Compiled kernels: kept on disk, and working where nothing can be kept."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from intsim.jit import cache
from intsim.jit.compile import cache_folder

ROOT = Path(__file__).resolve().parents[2]
KERNEL = """
import sys
from intsim.jit.compile import cache_folder, census, compiled, watch_compiles

{before}

@compiled
def _inner(x):
    return x + 1

@compiled
def outer(x):
    return {factor} * _inner(x)

names = []
with watch_compiles(names.append):
    values = [outer(9), outer(9.5)]
print(values, *census(), names, sep="|")
"""


@pytest.fixture
def kernel(tmp_path):
    """Runs a module with two kernels in a process of its own: values, loaded, compiled, names told."""

    def run(factor=2, before="", file="kernel.py", **environment) -> str:
        path = tmp_path / file
        path.write_text(KERNEL.format(factor=factor, before=before))
        env = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA")}
        env |= {"XDG_CACHE_HOME": str(tmp_path / "user"), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, path], capture_output=True, text=True, check=False, env={**env, **environment}
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    return run


COLD, WARM = "[20, 21.0]|0|4|['outer', 'outer']", "[20, 21.0]|2|0|[]"


def kept(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.nbc"))


def test_the_second_process_reads_what_the_first_compiled(kernel, tmp_path):
    assert kernel() == COLD
    assert {p.parent for p in kept(tmp_path)} == {tmp_path / "__pycache__"}
    assert len(kept(tmp_path)) == 4
    # damaged files are compiled anew, and mended
    for path in kept(tmp_path):
        path.write_bytes(path.read_bytes()[:100])
    assert kernel() == COLD
    assert kernel() == WARM
    # another body is compiled anew, and what was kept of the old one is gone
    assert kernel(factor=3) == COLD.replace("[20, 21.0]", "[30, 31.5]")
    assert len(kept(tmp_path)) == 4


def test_a_file_under_another_key_is_not_taken(kernel, tmp_path):
    """Numba's own numbered files can get swapped by processes that compile at once."""
    assert kernel() == COLD
    one, two = [p for p in kept(tmp_path) if ".outer-" in p.name]
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    assert kernel().startswith("[20, 21.0]|2|2|")


def test_another_folder(kernel, tmp_path):
    given = tmp_path / "given"
    assert kernel(NUMBA_CACHE_DIR=str(given)) == COLD
    assert len(kept(given)) == 4
    assert not (tmp_path / "__pycache__").exists()
    assert kernel(NUMBA_CACHE_DIR=str(given)) == WARM
    assert kernel() == COLD
    assert kernel(NUMBA_CACHE_DIR=str(tmp_path / "empty")) == COLD


@pytest.mark.slow
def test_processors_do_not_share(kernel):
    assert kernel() == COLD
    assert kernel(NUMBA_CPU_NAME="x86-64", NUMBA_CPU_FEATURES="") == COLD
    assert kernel() == WARM


def test_no_folder_can_be_written(kernel, tmp_path):
    (tmp_path / "__pycache__").touch()
    (tmp_path / "user").touch()
    assert kernel(NUMBA_CACHE_DIR=str(tmp_path / "user")) == COLD
    # Numba knows no folder at all
    assert kernel(NUMBA_CACHE_DIR="/proc/nothing", NUMBA_CACHE_LOCATOR_CLASSES="UserProvidedCacheLocator") == COLD
    assert not kept(tmp_path)


@pytest.mark.parametrize("folder", ["package", pytest.param("given", marks=pytest.mark.slow)])
def test_a_read_only_folder_with_kernels_compiled_before(kernel, tmp_path, folder):
    """As in a container: what was compiled when it was built is read, though nothing can be written there now."""
    given = {"NUMBA_CACHE_DIR": str(tmp_path / "given")} if folder == "given" else {}
    assert kernel(**given) == COLD
    (tmp_path / "user").touch()
    code = f"""
import tempfile
from numba.core import caching
def refused(self):
    raise PermissionError(13, "read-only")
caching.InTreeCacheLocator.ensure_cache_path = refused
exec(compile(open({str(tmp_path / "kernel.py")!r}).read(), {str(tmp_path / "kernel.py")!r}, "exec"))
"""
    if given:
        code = code.replace("InTree", "UserProvided")
        (tmp_path / "__pycache__").touch()
    path = tmp_path / "outside.py"
    path.write_text(code)
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "user"), "PYTHONPATH": str(ROOT), **given}
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False, env=env)
    assert (done.stdout.strip(), done.stderr) == (WARM, "")


def test_a_full_disk(kernel, tmp_path):
    before = "from pathlib import Path\ndef full(path, content):\n    path.touch()\n"
    before += f"    raise OSError({errno.ENOSPC}, 'No space left on device')\nPath.write_bytes = full"
    assert kernel(before=before) == COLD
    assert not list((tmp_path / "__pycache__").iterdir())


def test_without_a_compiler(kernel):
    assert kernel(NUMBA_DISABLE_JIT="1") == "[20, 21.0]|0|0|[]"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("del c.CompileResultCacheImpl", marks=pytest.mark.slow),
        pytest.param("c.Cache.__init__ = lambda self, function, more: None", marks=pytest.mark.slow),
        "c.Cache.load_overload = c.Cache.save_overload = lambda self: None",
    ],
)
def test_a_numba_made_differently_keeps_nothing(kernel, tmp_path, change):
    before = f"import numba.core.caching as c\n{change}"
    assert [kernel(before=before), kernel(before=before)] == [COLD, COLD]
    assert not kept(tmp_path)


def test_no_folder_of_a_numba_made_differently(monkeypatch):
    monkeypatch.delattr("numba.core.caching.Cache.__init__")
    assert cache_folder() is None


def test_what_a_file_imports_is_part_of_its_stamp(tmp_path, monkeypatch):
    package = tmp_path / "intsim"
    (package / "a").mkdir(parents=True)
    files = {"k.py": "from intsim.a import (\n    b,\n)\n", "a/__init__.py": "", "a/b.py": "from intsim.c import X"}
    for name, text in {**files, "c.py": "X = 1\nfrom intsim.k import f\n", "d.py": ""}.items():
        (package / name).write_text(text)
    monkeypatch.setattr(cache, "PACKAGE", package)

    def stamp():
        cache.stamp.cache_clear()
        return cache.stamp(package / "k.py")

    before = stamp()
    (package / "d.py").write_text("Y = 2")
    assert stamp() == before
    for name in ("c.py", "a/b.py", "a/__init__.py", "k.py"):
        with (package / name).open("a") as file:
            file.write("# more\n")
        assert stamp() != before, name
        before = stamp()


def test_nothing_is_imported_before_a_kernel_is_made():
    code = "import sys; from intsim.jit.compile import watch_compiles as w\nwith w(print): pass\n"
    code += "print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "False\n"


def test_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    assert cache_folder().is_relative_to(tmp_path)
    monkeypatch.setattr(cache.Locations, "_locator_classes", [cache.ReadOnly])
    assert cache_folder() is None
