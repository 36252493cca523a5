"""The decoders on all inputs: with 8-bit codes that is a proof."""

import numpy as np
import pytest

from intsim.errors import IntsimError
from intsim.hilbert import Decoder
from intsim.rtl import cosim, kinds

from .simulators import each, needs

ORDERS = [1, 2, 3, 4]
HOW = [{"window": 0}, {"weight_shift": 2}, {"window": 7, "weight_shift": 1}]


def emitted(folder, decoder, table=False, vectors=1 << 16, **more):
    kinds.emit(kinds.hilbert(decoder, table, vectors, 0, **more), folder)
    return folder


def signed(order, bits=8, output_bits=None):
    return Decoder.lattice_aligned(order, None, bits, output_bits, signed=True)


@needs("netlist")
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_every_pair_of_8_bit_codes(tmp_path, order):
    """Places, squared distances and confidence."""
    found = cosim(emitted(tmp_path, signed(order), radius=(1 << 8 - order) // 2 - 1), "netlist")
    assert (found.mismatches, found.vectors) == (0, 65536)


@needs("cxxrtl")
@pytest.mark.parametrize("order", [pytest.param(p, marks=pytest.mark.slow) if p != 3 else p for p in ORDERS])
def test_every_pair_of_8_bit_codes_through_registers(tmp_path, order):
    found = cosim(emitted(tmp_path, signed(order), radius=9, pipelined=True), "cxxrtl")
    assert (found.mismatches, found.vectors) == (0, 65536)
    assert found.cycles > 65536 * 5 / 4  # the output side isn't ready in one cycle of five


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_fewer_registers(tmp_path, stages):
    folder = emitted(tmp_path, signed(2, 5), radius=2, pipelined=True)
    top = (folder / "intsim_hilbert_decode.sv").read_text()
    (folder / "intsim_hilbert_decode.sv").write_text(top.replace(".STAGES(4)", f".STAGES({stages})"))
    found = cosim(folder, "netlist")
    assert (found.mismatches, found.vectors) == (0, 1024)


@needs("cxxrtl")
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("order", [pytest.param(p, marks=[pytest.mark.slow] * (p != 2)) for p in ORDERS])
def test_every_guided_code_of_4_bits(tmp_path, order, how):
    """Order 4 needs 5 bits, of which some are drawn."""
    decoder = signed(order, max(4, order + 1))
    found = cosim(emitted(tmp_path, decoder, radius=2, pipelined=True, guided=True, vectors=4096, **how), "cxxrtl")
    assert (found.mismatches, found.vectors) == (0, 4096)


@pytest.mark.slow
@needs("cxxrtl")
@pytest.mark.parametrize("how", [{"window": w, "weight_shift": k} for w in (None, 0, 5) for k in (None, 0, 2)][1:])
@pytest.mark.parametrize(("order", "pipelined"), [(1, False), (2, False), *((p, True) for p in ORDERS)])
def test_every_guided_code_of_5_bits(tmp_path, order, pipelined, how):
    more = {"radius": 2, "pipelined": pipelined, "guided": True, "vectors": 1 << 15}
    found = cosim(emitted(tmp_path, signed(order, 5), **more, **how), "cxxrtl")
    assert (found.mismatches, found.vectors) == (0, 1 << 15)


@pytest.mark.parametrize("simulator", each("netlist", slow=["icarus"]))
@pytest.mark.parametrize(
    ("order", "pipelined"),
    [
        *(pytest.param(p, b, marks=pytest.mark.slow) for p, b in ((1, False), (1, True), (4, True))),
        (2, False),
        (3, True),
    ],
)
def test_guided_codes_of_8_bits(tmp_path, order, pipelined, simulator):
    """Drawn ones, and corners; rounded and unsigned too."""
    decoder = Decoder.lattice_aligned(order, None, 8, 2 * order + 2, order == 1)
    window = 2 * decoder.spacing + 3
    more = {"window": window, "weight_shift": 5, "radius": 20, "pipelined": pipelined}
    found = cosim(emitted(tmp_path, decoder, vectors=400, guided=True, **more), simulator)
    assert (found.mismatches, found.vectors) == (0, 400)


@pytest.mark.slow
@needs("cxxrtl")
@pytest.mark.parametrize("how", [{"window": 100}, {"weight_shift": 6}, {"window": 300, "weight_shift": 4}])
@pytest.mark.parametrize("order", ORDERS)
def test_drawn_guided_codes_of_8_bits(tmp_path, order, how):
    vectors = 100_000
    found = cosim(emitted(tmp_path, signed(order), vectors=vectors, guided=True, pipelined=True, **how), "cxxrtl")
    assert (found.mismatches, found.vectors) == (0, vectors)


@pytest.mark.parametrize("order", [3, 4])
def test_a_walk_takes_a_cycle_for_each_segment_of_the_window(tmp_path, order):
    """As its header says: one for each segment that has a position of the window, and four more."""
    decoder, window = signed(order, 6), 9
    kind = kinds.hilbert(decoder, False, 40, 0, guided=True, window=window, pipelined=True)
    kinds.emit(kind, tmp_path)
    aim, s = decoder.aim(kind.vectors["guide"]), decoder.spacing
    low, high = np.maximum(aim - window, 0), np.minimum(aim + window, decoder.position_max)
    segments = sum(np.arange(decoder.curve.segments)[:, None] * s <= high) - sum(
        np.arange(1, decoder.curve.segments + 1)[:, None] * s < low
    )
    found = cosim(tmp_path, "netlist")
    least = int((segments + 4).sum())
    assert found.mismatches == 0
    assert least <= found.cycles - 64 <= least + 3 * 40  # pauses of both sides; 64 quiet cycles behind the last row


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


REFUSED = [
    ({"guided": True}, "--guide needs --window or --weight-shift or both"),
    ({"window": 3}, "--guide needs --window or --weight-shift or both"),
    ({"guided": True, "window": -1, "pipelined": True}, "window is -1: give an integer of at least 0"),
    ({"guided": True, "weight_shift": 99, "pipelined": True}, "weight_shift is 99: give 0..60"),
    ({"radius": -1}, "radius is -1: give an integer of at least 0"),
    ({"guided": True, "window": 3}, "a decoder of order 3 takes a cycle for each segment: give --pipelined"),
    ({"table": True, "radius": 3}, "--lookup is a table of places: it takes no --guide, --confidence or --pipelined"),
]


@pytest.mark.parametrize(("how", "why"), REFUSED)
def test_what_has_no_module_is_refused(how, why):
    with pytest.raises(IntsimError, match=why):
        kinds.hilbert(signed(3), vectors=16, seed=0, **({"table": False} | how))


@pytest.mark.parametrize("guided", [False, True])
def test_what_the_confidence_vectors_say_is_the_decoder(guided):
    decoder, how = signed(2, 5), {"window": 4, "weight_shift": 3}
    more = {"guided": True, **how} if guided else {}
    v = kinds.hilbert(decoder, False, 300, 0, radius=3, **more).vectors
    given = {"guide": v["guide"], **how} if guided else {}
    points = np.stack([v["x"], v["y"]], axis=-1)
    place, squared = decoder.scanned(points, **given)
    assert np.array_equal(v["place"], place)
    assert np.array_equal(v["squared"], squared)
    assert np.array_equal(v["confident"], squared <= 9)
    assert 0 < v["confident"].sum() < len(points)


def test_what_the_vectors_say_is_the_decoder(tmp_path):
    decoder = Decoder.lattice_aligned(2, None, 4, signed=True)
    made = kinds.hilbert(decoder, False, 256, 0)
    assert sorted(zip(made.vectors["x"], made.vectors["y"], strict=True)) == [
        (x, y) for x in range(-8, 8) for y in range(-8, 8)
    ]
    assert np.array_equal(
        made.vectors["place"], [decoder([[x, y]])[0] for x, y in zip(made.vectors["x"], made.vectors["y"], strict=True)]
    )
