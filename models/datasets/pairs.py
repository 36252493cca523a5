"""Pairs of a data set on disk: listed at once, read one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from models.datasets.images import read_grey
from models.stereo import Pair

DatasetSplit = Literal["train", "test"]
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class PairFiles:
    """Where a pair lies and how its files are read.

    left, right: the views. truth: the left view's disparity map, none where the data set keeps it secret, and
    `read_truth` its reader, which yields 0 where unknown. seen: the map of points seen in both views, if there is one,
    and `read_seen` its reader. size: ``(H, W)`` that the calibration promises, if it does.
    """

    name: str
    left: Path
    right: Path
    truth: Path | None
    read_truth: Callable[[Path], NDArray[np.float32]]
    seen: Path | None
    read_seen: Callable[[Path], NDArray[np.bool_]]
    size: tuple[int, int] | None = None

    def check(self) -> PairFiles:
        """The same, with every file in place.

        Raises:
            IntsimError: one of the files is missing.
        """
        for path in (self.left, self.right, self.truth, self.seen):
            if path is not None and not path.is_file():
                raise IntsimError(f"{path}: missing, and {self.left} needs it; unpack it or move the image away")
        return self

    def read(self) -> Pair:
        """The pair. Without a map of the points seen in both views, ``valid`` counts hidden points, too.

        Valid always needs a known disparity whose match lies inside the right image.

        Raises:
            IntsimError: a broken file, or sizes that differ.
        """
        left = read_grey(self.left)
        right = _same_size(self.right, read_grey(self.right), left.shape)
        if self.size is not None and self.size != left.shape:
            raise IntsimError(f"{self.left}: {_text(left.shape)} pixels, but its calib.txt says {_text(self.size)}")
        disparity = np.zeros(left.shape, np.float32)
        if self.truth is not None:
            disparity = _same_size(self.truth, self.read_truth(self.truth), left.shape)
        valid = (disparity > 0) & (np.arange(left.shape[1]) - disparity >= 0)
        if self.seen is not None:
            valid &= _same_size(self.seen, self.read_seen(self.seen), left.shape)
        return Pair(left, right, disparity, valid, self.name)


class Pairs(Sequence[Pair]):
    """The pairs of one split, in a fixed order; each is read when it is asked for."""

    def __init__(self, files: Sequence[PairFiles]) -> None:
        """Check that all files exist, sizes and contents when read."""
        self.files = tuple(entry.check() for entry in files)

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> Pairs: ...
    def __getitem__(self, index: int | slice) -> Pair | Pairs:
        """Read a pair; a slice reads nothing."""
        return Pairs(self.files[index]) if isinstance(index, slice) else self.files[index].read()

    def __iter__(self) -> Iterator[Pair]:
        """Read pair after pair."""
        return (entry.read() for entry in self.files)


def folder(path: Path, content: str) -> Path:
    """`path` if it is a folder.

    Raises:
        IntsimError: it isn't.
    """
    if not path.is_dir():
        raise IntsimError(f"{path}: no such folder; give the folder that holds {content}")
    return path


def listed(files: Sequence[PairFiles], images: Path, pattern: str) -> Pairs:
    """The pairs found in a place.

    Raises:
        IntsimError: there are none, or one of their files is missing.
    """
    if not files:
        raise IntsimError(f"{images}: no left images ({pattern}); unpack the data set's images there")
    return Pairs(files)


def _same_size(path: Path, array: NDArray[T], shape: tuple[int, ...]) -> NDArray[T]:
    if array.shape != shape:
        raise IntsimError(f"{path}: {_text(array.shape)} pixels, but the left image has {_text(shape)}")
    return array


def _text(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"
