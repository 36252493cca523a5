"""PyTorch layers and losses for networks whose output is a point on a Hilbert curve; needs the extra `train`."""

from intsim.nn.embedding import PixelEmbedding
from intsim.nn.heads import HilbertHead, head_names
from intsim.nn.losses import curve_distance, depth_loss, point_loss, project
from intsim.nn.noise import FeatureNoise

__all__ = [
    "FeatureNoise",
    "HilbertHead",
    "PixelEmbedding",
    "curve_distance",
    "depth_loss",
    "head_names",
    "point_loss",
    "project",
]
