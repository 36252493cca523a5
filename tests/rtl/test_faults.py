"""Planted faults: co-simulation finds each, at the very row where the mistaken arithmetic first differs."""

from fractions import Fraction

import numpy as np
import pytest

from intsim.arithmetic.accumulate import Stage, accumulate
from intsim.arithmetic.integers import IntegerType
from intsim.arithmetic.requantizers.fixed_point import multiply_high_double_rounding
from intsim.arithmetic.rounding import round_divide
from intsim.hilbert import Decoder
from intsim.hilbert.scan import scan
from intsim.rtl import cosim, kinds, layers
from intsim.targets import Target

from .faults import FAULTS
from .simulators import each
from .test_emitted import chain, one_layer, requantizer

S8 = IntegerType(8, True)
TWICE = 'scheme = "fixed-point"\nmultiplier_bits = 12\ndouble_rounding = true'
LAYER = one_layer([[(None, "7/300", 0)]], ends=(-128, 127))
SCALE = Fraction(7, 300)


def rounding_constant():
    """Ties of the high product go up from a quarter on: floor(x + 1/4)."""
    kind = layers.requantize(*LAYER, requantizer(TWICE), 600, 0)
    told = requantizer(TWICE).requantize.channel(SCALE).told
    high = (kind.vectors["acc"] * told["multiplier"] + (1 << 9)) >> 11
    return kind, np.clip(round_divide(high, 1 << (told["shift"] - 11), "half_away"), -128, 127)


def tie_rule():
    kind = layers.requantize(*LAYER, requantizer(TWICE), 600, 0)
    told = requantizer(TWICE).requantize.channel(SCALE).told
    high = multiply_high_double_rounding(kind.vectors["acc"], told["multiplier"], 11, 12)
    return kind, np.clip(round_divide(high, 1 << (told["shift"] - 11), "half_up"), -128, 127)


def _accumulated(kind, cast, last):
    """The register of the vectors of a mac, with other operands or another rule."""
    v, out, acc = kind.vectors, [], 0
    for clear, enable, a, b, bias in zip(*(v[n].tolist() for n in ("clear", "enable", "a", "b", "bias")), strict=True):
        acc = last(0 + bias) if clear else last(acc + a * cast(b)) if enable else acc
        out.append(acc)
    return np.array(out)


def sign_bit():
    kind = kinds.mac(Target.load("wrap-24"), S8, S8, 600, 0)
    return kind, _accumulated(kind, lambda b: b % 256, lambda x: (x + (1 << 23)) % (1 << 24) - (1 << 23))


def saturation_bound():
    kind = kinds.mac(Target.load("saturate-14"), S8, S8, 600, 0)

    def last(x):
        return x if -8192 <= x < 8192 else -8191 if x < 0 else 8191

    return kind, _accumulated(kind, lambda b: b, last)


def lane_order():
    """Two lanes, handed on the wrong way round, into a register that saturates."""
    target = chain(
        [
            '{ sum = "rest", bits = 20, overflow = "wrap", lanes = 2 }',
            '{ sum = "rest", bits = 17, overflow = "saturate" }',
        ],
        "preload",
    )
    kind = kinds.dot(target, S8, S8, 40, 1500, 0)
    v, start, out = kind.vectors, 0, []
    for end in np.flatnonzero(v["in_last"]) + 1:
        products = (v["a"] * v["b"])[start:end]
        lanes = [accumulate(products[k::2], [Stage(None, 20, "wrap")])[0] for k in range(min(2, len(products)))]
        swapped = np.array(lanes[::-1])
        out.append(accumulate(swapped, [Stage(None, 17, "saturate")], v["bias"][start])[0])
        start = end
    return kind, np.array([int(x) for x in out])


def window_edge():
    """The segment that the window ends in is taken to its end: a foot with position <= end of that segment."""
    decoder = Decoder.lattice_aligned(2, None, 5, signed=True)
    kind = kinds.hilbert(decoder, False, 2000, 0, guided=True, window=11)
    v, length = kind.vectors, decoder.spacing
    aim = decoder.aim(v["guide"])
    high = np.minimum(-(-(aim + 11) // length) * length, decoder.position_max)
    places = np.stack([v["x"], v["y"]]) - decoder.lowest_code - decoder.offset
    return kind, scan(places, decoder.curve, length, np.maximum(aim - 11, 0), high, aim, None)[0]


def borrow():
    """Fields as they stand, short by one where the sum below is negative."""
    target = Target.load("dsp48e2-int4")
    types = target.operands.activation, target.operands.weight
    raw = kinds.dot(Target.load("dsp48e2-int4-raw"), *types, 20, 600, 0)
    return kinds.dot(target, *types, 20, 600, 0), raw.vectors["acc"].reshape(-1)


MISTAKEN = {
    "window edge": window_edge,
    "borrow": borrow,
    "rounding constant": rounding_constant,
    "sign bit": sign_bit,
    "saturation bound": saturation_bound,
    "tie rule": tie_rule,
    "lane order": lane_order,
}


@pytest.mark.parametrize("simulator", each("netlist", slow=["icarus"]))
@pytest.mark.parametrize("name", FAULTS)
def test_each_is_found_where_it_is(tmp_path, name, simulator):
    kind, mistaken = MISTAKEN[name]()
    kinds.emit(kind, tmp_path)
    fault, port = FAULTS[name], kind.design.outputs[0]
    path = tmp_path / f"{fault.module}.sv"
    path.write_text(fault.planted(path.read_text()))
    expected = kind.vectors[port.name].reshape(-1)
    wrong = np.flatnonzero(expected != mistaken)
    assert 0 < len(wrong) < len(expected)
    found = cosim(tmp_path, simulator)
    first = found.first
    assert (first.how, first.port, first.element) == ("differs", port.name, wrong[0])
    assert (first.expected, first.got) == (expected[wrong[0]], mistaken[wrong[0]])
    assert found.mismatches == len(wrong)
    if not kind.design.handshake:
        assert first.cycle == wrong[0] + kind.design.latency
