"""The decoders on all inputs: with 8-bit codes that is a proof."""

import numpy as np
import pytest

from intsim.errors import IntsimError
from intsim.hilbert import Decoder
from intsim.rtl import cosim, kinds

from .simulators import each, needs


def emitted(folder, decoder, table=False, vectors=1 << 16):
    kinds.emit(kinds.hilbert(decoder, table, vectors, 0), folder)
    return folder


@needs("netlist")
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_every_pair_of_8_bit_codes(tmp_path, order):
    found = cosim(emitted(tmp_path, Decoder.lattice_aligned(order, signed=True)), "netlist")
    assert (found.mismatches, found.vectors) == (0, 65536)


@pytest.mark.parametrize(
    ("simulator", "bits"),
    [pytest.param(s, b, marks=needs(s)) for s, b in [("icarus", 4), ("icarus", 8), ("icarus", 9), ("cxxrtl", 9)]],
)
def test_every_pair_of_6_bit_codes_rounded(tmp_path, simulator, bits):
    decoder = Decoder.lattice_aligned(2, None, 6, bits)
    found = cosim(emitted(tmp_path, decoder), simulator)
    assert (found.mismatches, found.vectors) == (0, 4096)


@pytest.mark.slow
@pytest.mark.parametrize("simulator", each("icarus", "cxxrtl", "verilator"))
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_every_pair_of_8_bit_codes_elsewhere(tmp_path, simulator, order):
    found = cosim(emitted(tmp_path, Decoder.lattice_aligned(order, signed=True)), simulator)
    assert (found.mismatches, found.vectors) == (0, 65536)


@pytest.mark.slow
@needs("cxxrtl")
def test_wide_codes(tmp_path):
    found = cosim(emitted(tmp_path, Decoder.lattice_aligned(6, None, 12, signed=True), vectors=50_000), "cxxrtl")
    assert (found.mismatches, found.vectors) == (0, 50_000)


@pytest.mark.parametrize("simulator", each("icarus", "netlist"))
def test_the_table_of_all_pairs(tmp_path, simulator):
    found = cosim(emitted(tmp_path, Decoder.lattice_aligned(2, None, 5, signed=True), table=True), simulator)
    assert (found.mismatches, found.vectors) == (0, 1024)


def test_other_decoders_have_no_module():
    with pytest.raises(IntsimError, match="lattice-aligned decoders of the plane"):
        kinds.hilbert(Decoder.inset(2), False, 16, 0)
    with pytest.raises(IntsimError, match="without --lookup"):
        kinds.hilbert(Decoder.lattice_aligned(2, None, 12), True, 16, 0)


def test_what_the_vectors_say_is_the_decoder(tmp_path):
    decoder = Decoder.lattice_aligned(2, None, 4, signed=True)
    made = kinds.hilbert(decoder, False, 256, 0)
    assert sorted(zip(made.vectors["x"], made.vectors["y"], strict=True)) == [
        (x, y) for x in range(-8, 8) for y in range(-8, 8)
    ]
    assert np.array_equal(
        made.vectors["place"], [decoder([[x, y]])[0] for x, y in zip(made.vectors["x"], made.vectors["y"], strict=True)]
    )
