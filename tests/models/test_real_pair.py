import shutil
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
        monkeypatch.setattr(module, "WHEEL_SHA256", module.sha256(folder / module.WHEEL))
        return folder / module.WHEEL

    monkeypatch.setattr(module, "download", fetch)
    monkeypatch.setattr(module, "FILES", {name: module.sha256(source / name) for name in module.FILES})
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
    assert not module.read_pair(tmp_path, 25, 40).valid.any()


ALOE_TRUTH = np.full((60, 80), 10, np.uint8)
ALOE_TRUTH[30, 40] = 0

FAKE_TOOL = """#!/bin/sh
# Stands in for apt-get download --quiet PACKAGE and for dpkg-deb -x FILE FOLDER, which unpacks $SOURCE.
case "$0 $1" in
*/apt-get\\ download) echo "$4" >> "$CALLS"; echo content > "$3_1.0_all.deb" ;;
*/dpkg-deb\\ -x)
    mkdir -p "$3/usr/share/doc/opencv-doc/examples"
    cp -r "$SOURCE" "$3/usr/share/doc/opencv-doc/examples/data" ;;
esac
"""


@pytest.fixture
def debian(cache, tmp_path, monkeypatch):
    """Stand-ins for the two tools, the only ones on the path beside the shell's, and a package with small files.

    Right is left moved by 10 pixels. Returns the file that lists the downloads.
    """
    source, tools = tmp_path / "data", tmp_path / "tools"
    source.mkdir()
    tools.mkdir()
    wide = np.random.default_rng(1).integers(0, 256, (60, 90), dtype=np.uint8)
    # PNG data under JPEG names: the bytes must come through unchanged, and Pillow looks at the bytes.
    Image.fromarray(wide[:, :80]).save(source / "aloeL.jpg", "PNG")
    Image.fromarray(wide[:, 10:]).save(source / "aloeR.jpg", "PNG")
    Image.fromarray(ALOE_TRUTH).save(source / "aloeGT.png")
    monkeypatch.setattr(module, "ALOE_FILES", {name: module.sha256(source / name) for name in module.ALOE_FILES})
    for name in ("apt-get", "dpkg-deb"):
        (tools / name).write_text(FAKE_TOOL)
        (tools / name).chmod(0o755)
    for name in ("sh", "mkdir", "cp"):
        (tools / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("SOURCE", str(source))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def _no_motorcycle(monkeypatch):
    def fail(folder):
        raise OSError("no network")

    monkeypatch.setattr(module, "download", fail)


def test_aloe_is_fetched_once_checked_and_kept(cache, debian, monkeypatch, capsys):
    _no_motorcycle(monkeypatch)
    first, second = module.real_pairs(30, 40), module.real_pairs(30, 40)
    assert [pair.name for pair in first + second] == ["aloe (Middlebury 2006)"] * 2
    assert debian.read_text().count("\n") == 1
    aloe = first[0]
    np.testing.assert_array_equal(second[0].left, aloe.left)
    # 60 x 80 to 30 x 40: factor 2, so disparity 5.
    np.testing.assert_array_equal(aloe.left[:, 5:], aloe.right[:, :-5])
    np.testing.assert_array_equal(aloe.disparity, np.where(ALOE_TRUTH[1::2, 1::2] > 0, 5, 0))
    np.testing.assert_array_equal(aloe.valid, (aloe.disparity == 5) & (np.arange(40) >= 5))
    assert sorted(path.name for path in (cache / "aloe").iterdir()) == sorted(module.ALOE_FILES)
    assert not list(cache.glob("tmp*"))
    lines = capsys.readouterr().err.splitlines()
    assert lines.count("real stereo pair motorcycle not available (no network); left out") == 2
    assert len(lines) == 3


def test_both_pairs_come_in_order(cache, debian, monkeypatch):
    (cache / "motorcycle").mkdir()
    _stand_in(cache / "motorcycle")
    sums = {name: module.sha256(cache / "motorcycle" / name) for name in module.FILES}
    monkeypatch.setattr(module, "FILES", sums)
    pairs = module.real_pairs(20, 30)
    assert [pair.name.split()[0] for pair in pairs] == ["motorcycle", "aloe"]
    np.testing.assert_array_equal(pairs[0].left, module.real_pair(20, 30).left)


@pytest.mark.parametrize(
    ("tool", "script", "reason"),
    [
        ("apt-get", None, "no apt-get here"),
        ("dpkg-deb", None, "no dpkg-deb here"),
        ("apt-get", "#!/bin/sh\necho 'E: Unable to locate package' >&2; exit 100\n", "E: Unable to locate package"),
        ("apt-get", "#!/bin/sh\nexit 0\n", "left no opencv-doc_*.deb"),
        ("apt-get", "#!/bin/sh\nwhile :; do :; done\n", "timed out"),
        ("dpkg-deb", "#!/bin/sh\nexit 2\n", "dpkg-deb failed: no reason given"),
        ("dpkg-deb", "#!/bin/sh\nexit 0\n", "aloeL.jpg"),
    ],
)
def test_any_failure_leaves_the_aloe_out(cache, debian, tmp_path, monkeypatch, capsys, tool, script, reason):
    _no_motorcycle(monkeypatch)
    path = tmp_path / "tools" / tool
    if script is None:
        path.unlink()
    else:
        path.write_text(script)
    monkeypatch.setattr(module, "PACKAGE_TIMEOUT", 0.2 if reason == "timed out" else 60)
    assert module.real_pairs(30, 40) == []
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("real stereo pair aloe not available (")
    assert reason in message
    assert not list((cache / "aloe").iterdir())
    assert not list(cache.glob("tmp*"))


def test_wrong_bytes_of_the_aloe_are_refused(cache, debian, tmp_path, monkeypatch, capsys):
    _no_motorcycle(monkeypatch)
    with (tmp_path / "data" / "aloeGT.png").open("ab") as file:
        file.write(b"\0")
    assert module.real_pairs(30, 40) == []
    assert "aloeGT.png: wrong SHA-256 sum" in capsys.readouterr().err
    assert not list((cache / "aloe").iterdir())


@pytest.mark.parametrize(("name", "files"), [("motorcycle", module.FILES), ("aloe", module.ALOE_FILES)])
def test_ground_truth_has_the_right_sign_and_scale(name, files):
    """Warping the right image by it explains the left one; 10 % more or less, or the other sign, doesn't."""
    folder = module.cache_folder() / name
    if any(module.sha256(folder / file) != digest for file, digest in files.items()):
        pytest.skip(f"the {name} pair has not been fetched")
    pair = getattr(module, name)(96, 144)
    rows, residual = np.arange(96)[:, None], {}
    for share in (-1, 0, 0.9, 1, 1.1):
        x = np.clip(np.arange(144) - share * pair.disparity, 0, 142.999)
        low = x.astype(int)
        warped = pair.right[rows, low] * (1 - x + low) + pair.right[rows, low + 1] * (x - low)
        residual[share] = np.abs(warped - pair.left)[pair.valid].mean()
    assert residual[1] < 0.7 * min(residual[0.9], residual[1.1])
    assert residual[1] < 0.3 * min(residual[0], residual[-1])


def test_needs_no_torch():
    code = "import sys; import models.real_pair, models.evaluate, models.disparity; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
