"""A real stereo pair for evaluation: the Middlebury 2014 motorcycle, as scikit-image 0.16.2 ships it.

The pair is fetched once from PyPI with pip, checked against known SHA-256 sums and kept in ``~/.cache/intsim`` (or
``$INTSIM_CACHE``). It is used for evaluation only: never for training, never redistributed (no licence is stated for
it). Without network, pip or the right bytes, one line says so and a generated pair stands in.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.stereo import DISPARITY_RANGE, Pair, generate

REQUIREMENT = "scikit-image==0.16.2"
WHEEL = "scikit_image-0.16.2-cp37-cp37m-manylinux1_x86_64.whl"
WHEEL_SHA256 = "2aa962aa82d815606d7dad7f045f5d7ca55c65b4320d47e15a98fc92612c2d6c"
FILES = {
    "motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    "motorcycle_right.png": "5fc913ae870e42a4b662314bc904d1786bcad8e2f0b9b67dba5a229406357797",
    "motorcycle_disp.npz": "2e49c8cebff3fa20359a0cc6880c82e1c03bbb106da81a177218281bc2f113d7",
}
TIMEOUT = 90.0
"""Seconds after which a download is given up."""


def real_pair(height: int, width: int) -> Pair:
    """The motorcycle pair at `height` x `width` pixels, or the generated pair ``test 0`` if it can't be had.

    The largest centred crop of the right aspect is area-averaged down; the ground truth is sampled, not averaged, and
    divided by the same factor. Valid where the ground truth is known, within the networks' range, and its match lies
    inside the right image; occlusions are not known, so they count.
    """
    try:
        folder = _fetched(cache_folder())
        return _read(folder, height, width)
    except (OSError, ValueError, KeyError, subprocess.SubprocessError, zipfile.BadZipFile) as error:
        line = str(error).strip().splitlines()
        reason = line[-1] if line else type(error).__name__
        print(f"real stereo pair not available ({reason}); using a generated one", file=sys.stderr)
        return generate("test", 0, height, width)


def cache_folder() -> Path:
    """``$INTSIM_CACHE``, or ``~/.cache/intsim``."""
    return Path(os.environ.get("INTSIM_CACHE") or Path.home() / ".cache" / "intsim")


def _fetched(cache: Path) -> Path:
    """The folder that holds the three files with the right sums, downloaded first if need be."""
    folder = cache / "motorcycle"
    if all(_sha256(folder / name) == digest for name, digest in FILES.items()):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        wheel = download(Path(scratch))
        if _sha256(wheel) != WHEEL_SHA256:
            raise ValueError(f"{wheel.name}: wrong SHA-256 sum")
        with zipfile.ZipFile(wheel) as archive:
            for name, digest in FILES.items():
                part = Path(scratch) / name
                part.write_bytes(archive.read(f"skimage/data/{name}"))
                if _sha256(part) != digest:
                    raise ValueError(f"{name}: wrong SHA-256 sum")
                os.replace(part, folder / name)
    return folder


def download(folder: Path) -> Path:
    """Let pip put the wheel into `folder`; its path. Raises a SubprocessError or OSError if that fails."""
    command = [sys.executable, "-m", "pip", "download", REQUIREMENT, "--dest", str(folder)]
    command += ["--no-deps", "--only-binary=:all:", "--python-version=37", "--implementation=cp", "--abi=cp37m"]
    command += ["--platform=manylinux1_x86_64", "--retries=1", "--timeout=10", "--quiet", "--disable-pip-version-check"]
    print(f"fetching a real stereo pair ({REQUIREMENT} from PyPI, 26 MB, once)", file=sys.stderr)
    result = subprocess.run(command, timeout=TIMEOUT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode:
        raise OSError(f"pip download failed: {(result.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return folder / WHEEL


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _read(folder: Path, height: int, width: int) -> Pair:
    images = [Image.open(folder / f"motorcycle_{side}.png").convert("L") for side in ("left", "right")]
    truth: NDArray[np.float32] = np.load(folder / "motorcycle_disp.npz")["arr_0"]
    rows, columns = truth.shape
    factor = min(rows / height, columns / width)
    top, left = (rows - factor * height) / 2, (columns - factor * width) / 2
    box = (left, top, left + factor * width, top + factor * height)
    small = [np.asarray(image.resize((width, height), Image.Resampling.BOX, box=box)) for image in images]
    pick_row = (top + (np.arange(height) + 0.5) * factor).astype(np.intp)
    pick_column = (left + (np.arange(width) + 0.5) * factor).astype(np.intp)
    disparity = truth[np.ix_(pick_row, pick_column)] / np.float32(factor)
    known = np.isfinite(disparity) & (disparity > 0) & (disparity < DISPARITY_RANGE)
    disparity = np.where(known, disparity, np.float32(0))
    valid = known & (np.arange(width) - disparity >= 0)
    return Pair(small[0], small[1], disparity, valid, "motorcycle (Middlebury 2014)")
