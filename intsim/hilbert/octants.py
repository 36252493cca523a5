"""Vertices of the 3-D Hilbert polygon, octant by octant.

The curve of order p - 1 runs from the corner (0, 0, 0) to the neighbouring corner along x. Eight copies of it, turned
and mirrored, fill the octants in the order of the reflected binary (Gray) code, so that neighbouring octants share a
face. A copy enters its octant at the corner next to where the copy before left, and leaves along one axis:

    octant    000  001  011  010  110  111  101  100    (x y z)
    enters    000  000  000  011  011  110  110  101    its own corner
    along      z    y    y    x    x    y    y    z

A copy that leaves along an axis is the curve with its axes turned in a circle until x is that axis, then mirrored along
every axis on whose far side it enters. The same rule in two dimensions gives the 2-D curve. This is the variant of
C. H. Hamilton and A. Rau-Chaplin, "Compact Hilbert indices", Information Processing Letters 105 (2008), up to the names
of the axes. Run backwards it is its own mirror image in x.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_OCTANTS = ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1), (1, 0, 0))
_ENTERS = ((0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 1, 1), (0, 1, 1), (1, 1, 0), (1, 1, 0), (1, 0, 1))
_ALONG = (2, 1, 1, 0, 0, 1, 1, 2)


def octant_vertices(order: int) -> NDArray[np.int64]:
    """Lattice vertices in the order of the curve: int64 (8**p, 3), columns x, y, z in 0..2**p - 1, read-only.

    Args:
        order: p >= 1.
    """
    vertices = np.zeros((1, 3), np.int64)
    for level in range(order):
        half = 1 << level
        copies = []
        for octant, enters, along in zip(_OCTANTS, _ENTERS, _ALONG, strict=True):
            turned = np.roll(vertices, along, axis=1)
            mirrored = np.where(np.array(enters) == 1, half - 1 - turned, turned)
            copies.append(mirrored + half * np.array(octant))
        vertices = np.concatenate(copies)
    vertices.setflags(write=False)
    return vertices
