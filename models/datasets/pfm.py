"""PFM files: float32 images, grey or colour, that stereo data sets keep disparities in.

The header is three lines: ``PF`` (colour) or ``Pf`` (grey), width and height, and a number whose sign gives the byte
order: negative is little-endian. Rows follow from the bottom up (http://netpbm.sourceforge.net/doc/pfm.html).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError

_HEADER = re.compile(rb"(P[Ff])\s+(\d{1,6})\s+(\d{1,6})\s+([-+]?[0-9.]{1,40}(?:[eE][-+]?\d{1,3})?)[ \t\r]*\n")


def read_pfm(path: Path) -> NDArray[np.float32]:
    """A PFM file's values: ``(H, W)`` float32, or ``(H, W, 3)`` of a colour file, top row first.

    The size of the number that gives the byte order is ignored, as Middlebury's description demands.

    Raises:
        IntsimError: no such file, a header that isn't a PFM's, or more or fewer values than the header says.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise IntsimError(f"{path}: {error.strerror}; give a PFM file that can be read") from error
    header = _HEADER.match(content)
    scale = _number(header[4]) if header else 0.0
    if not header or not 0 < abs(scale) < np.inf:
        raise IntsimError(f"{path}: not a PFM file; its header must be 'Pf' or 'PF', width, height and a nonzero scale")
    width, height = int(header[2]), int(header[3])
    shape = (height, width, 3) if header[1] == b"PF" else (height, width)
    expected, held = 4 * int(np.prod(shape)), len(content) - header.end()
    if not expected or expected != held:
        raise IntsimError(
            f"{path}: {held} bytes of data, but its {width} x {height} header needs {expected}; fetch the file again"
        )
    values = np.frombuffer(content, "<f4" if scale < 0 else ">f4", offset=header.end()).reshape(shape)
    return np.ascontiguousarray(values[::-1], np.float32)


def write_pfm(path: Path, image: NDArray[np.float32], little_endian: bool = True) -> None:
    """Write float32 values, ``(H, W)`` or ``(H, W, 3)``, top row first, as a PFM file.

    Raises:
        IntsimError: another dtype or shape, or no pixels.
    """
    shape = image.shape
    if image.dtype != np.float32 or len(shape) not in (2, 3) or shape[2:] not in ((), (3,)) or not image.size:
        raise IntsimError(f"{path}: a PFM file holds float32 (H, W) or (H, W, 3), not {image.dtype} {shape}")
    kind, scale, order = ("PF" if image.ndim == 3 else "Pf"), *((-1.0, "<f4") if little_endian else (1.0, ">f4"))
    path.write_bytes(f"{kind}\n{shape[1]} {shape[0]}\n{scale}\n".encode() + image[::-1].astype(order).tobytes())


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
