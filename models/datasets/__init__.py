"""Public stereo data sets, read from folders on your disk; nothing is downloaded, nothing is copied.

Each data set is a function that lists a split's pairs in a fixed order and reads each (`models.stereo.Pair`) when it
is asked for; `fit` brings one to a network's size. Your use of the images is bound by their owners' terms.

``python -m models.datasets NAME ROOT`` describes what it finds in a folder.
"""

from __future__ import annotations

from collections.abc import Callable

from models.datasets.kitti import kitti_2012, kitti_2015
from models.datasets.pairs import DatasetSplit, PairFiles, Pairs
from models.datasets.pfm import read_pfm, write_pfm
from models.datasets.resize import fit
from models.datasets.scene_flow import scene_flow
from models.datasets.scenes import eth3d, middlebury

DATASETS: dict[str, Callable[..., Pairs]] = {
    "scene_flow": scene_flow,
    "kitti_2012": kitti_2012,
    "kitti_2015": kitti_2015,
    "middlebury": middlebury,
    "eth3d": eth3d,
}
"""By name: functions of the data set's folder and a split, ``train`` or ``test``."""

__all__ = [
    "DATASETS",
    "DatasetSplit",
    "PairFiles",
    "Pairs",
    "eth3d",
    "fit",
    "kitti_2012",
    "kitti_2015",
    "middlebury",
    "read_pfm",
    "scene_flow",
    "write_pfm",
]
