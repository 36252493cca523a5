import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from models import real_pair as module
from models.stereo import DISPARITY_RANGE, generate


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INTSIM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def _stand_in(folder):
    """Three files like the real ones, small, with a known geometry: right is left moved by 10 pixels."""
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (50, 90), dtype=np.uint8)
    Image.fromarray(wide[:, :80]).save(folder / "motorcycle_left.png")
    Image.fromarray(wide[:, 10:]).save(folder / "motorcycle_right.png")
    truth = np.full((50, 80), 10, np.float32)
    truth[20, 40] = np.inf
    np.savez(folder / "motorcycle_disp.npz", truth)


def _is_stand_in_for_failure(pair, capsys, reason):
    message = capsys.readouterr().err.strip().splitlines()[-1]
    expected = generate("test", 0, 32, 48)
    assert np.array_equal(pair.left, expected.left)
    assert pair.name == "generated test 0"
    assert reason in message
    assert "using a generated one" in message


@pytest.mark.parametrize(
    "error",
    [OSError("no network"), subprocess.TimeoutExpired("pip", 90), zipfile.BadZipFile("not a zip"), KeyError("member")],
)
def test_any_failure_to_fetch_gives_a_generated_pair_and_one_line(cache, monkeypatch, capsys, error):
    def fail(folder):
        raise error

    monkeypatch.setattr(module, "download", fail)
    _is_stand_in_for_failure(module.real_pair(32, 48), capsys, str(error).strip())


def test_wrong_bytes_are_refused(cache, monkeypatch, capsys):
    def forged(folder):
        (folder / module.WHEEL).write_bytes(b"something else")
        return folder / module.WHEEL

    monkeypatch.setattr(module, "download", forged)
    _is_stand_in_for_failure(module.real_pair(32, 48), capsys, "wrong SHA-256 sum")
    assert not list((cache / "motorcycle").iterdir())


def test_failing_pip_is_reported_and_hangs_are_cut(cache, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-such-python"))
    _is_stand_in_for_failure(module.real_pair(32, 48), capsys, "no-such-python")
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 30\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    _is_stand_in_for_failure(module.real_pair(32, 48), capsys, "timed out")


def test_fetches_once_checks_and_keeps(cache, tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.mkdir()
    _stand_in(source)
    calls = []

    def fetch(folder):
        calls.append(folder)
        with zipfile.ZipFile(folder / module.WHEEL, "w") as archive:
            for name in module.FILES:
                archive.write(source / name, f"skimage/data/{name}")
        monkeypatch.setattr(module, "WHEEL_SHA256", module._sha256(folder / module.WHEEL))
        return folder / module.WHEEL

    monkeypatch.setattr(module, "download", fetch)
    monkeypatch.setattr(module, "FILES", {name: module._sha256(source / name) for name in module.FILES})
    first, second = module.real_pair(25, 40), module.real_pair(25, 40)
    assert len(calls) == 1
    assert first.name.startswith("motorcycle")
    assert np.array_equal(first.left, second.left)
    # 50 x 80 to 25 x 40: factor 2, so disparity 5; the match must lie in the image.
    assert first.left.shape == (25, 40)
    assert set(np.unique(first.disparity[first.valid])) == {5.0}
    assert np.array_equal(first.left[:, 5:], first.right[:, :-5])
    assert not first.valid[:, :5].any()
    assert first.valid.sum() in {25 * 35, 25 * 35 - 1}
    assert not list(cache.glob("tmp*"))


def test_too_large_disparities_are_not_valid(tmp_path):
    _stand_in(tmp_path)
    np.savez(tmp_path / "motorcycle_disp.npz", np.full((50, 80), DISPARITY_RANGE * 2, np.float32))
    assert not module._read(tmp_path, 25, 40).valid.any()


def test_needs_no_torch():
    code = "import sys; import models.real_pair, models.evaluate, models.disparity; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
