"""Lattice-aligned decoders whose outputs are positions, and points as decoders take them."""

import numpy as np

from intsim.hilbert import Decoder


def aligned(order, dimensions, spacing, code_bits=8, signed=True):
    """A lattice-aligned decoder whose outputs are positions."""
    return Decoder.lattice_aligned(order, spacing, code_bits, signed=signed, dimensions=dimensions)


def first_line(decoder):
    """The code of lattice line 0 of a lattice-aligned decoder."""
    return decoder.lowest_code + decoder.offset


def pairs(x, y):
    """Points (..., 2) of x and y, which broadcast."""
    return np.stack(np.broadcast_arrays(x, y), axis=-1)
