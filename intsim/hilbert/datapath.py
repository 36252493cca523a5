"""Arithmetic of a decoder that looks at every segment, as hardware would do it: for short curves.

The curve of order 1 in space has 7 segments; looking at all of them needs no cells and no vertex index, and a window or
a weight is a few operations more for each.
"""

from __future__ import annotations

from typing import Any

from intsim.hilbert.cell import below, choose
from intsim.hilbert.decoder import Decoder
from intsim.hilbert.scan import segment_table


def scan_datapath(
    decoder: Decoder,
    codes: list[Any],
    guide: Any = None,
    window: int | None = None,
    weight_shift: int | None = None,
) -> tuple[Any, Any]:
    """What `Decoder.nearest` returns, on any one integer-like value a code.

    It asks of the values + - << >> & | ^ ~, unary minus and products, with Python integers as constants: one square for
    each axis and lattice line, one for each segment, one more for each segment if there is a weight, and one product
    for the guide; where a code is several sub-units, one more for each code. No comparison, division, table or branch
    on a value occurs. Codes are not checked.

    Args:
        decoder: tells the curve and the codes.
        codes: d integer-likes.
        guide: integer-like, if there is a window or a weight.
        window: w >= 0 or None, a constant.
        weight_shift: k or None, a constant.
    """
    curve, stride, spacing, end = decoder.curve, decoder.stride, decoder.spacing, decoder.position_max
    scaled = [code if stride == 1 else code * stride for code in codes]
    first = decoder.offset + decoder.lowest_code * stride
    lines = [[code - (first + spacing * i) for i in range(curve.side)] for code in scaled]
    squares = [[offset * offset for offset in axis] for axis in lines]
    low: Any = None
    high: Any = None
    aim: Any = None
    out: Any = None
    if guide is not None:
        aim = (guide - decoder.lowest_code) * end + (1 << (decoder.code_bits - 1)) >> decoder.code_bits
    if window is not None:
        low, high = _at_least(aim - window, 0), _at_most(aim + window, end)
    best: tuple[Any, Any, Any] | None = None
    for s, (start, axis, sign) in enumerate(segment_table(curve)):
        offset = lines[axis][start[axis]] if sign > 0 else 0 - lines[axis][start[axis]]
        along = _at_most(_at_least(offset, 0), spacing)
        if window is not None:
            along = _at_most(_at_least(along, low - s * spacing), high - s * spacing)
        beyond = offset - along
        squared = beyond * beyond
        for other in range(curve.dimensions):
            if other != axis:
                squared = squared + squares[other][start[other]]
        position = along + s * spacing
        cost = squared
        if weight_shift is not None:
            far = position - aim
            cost = squared + (far * far >> weight_shift)
        if best is None:
            best = cost, position, squared
            out = out if window is None else below(spacing, low)
        else:
            # Segments come in the order of positions: a later one has to be strictly better.
            take = below(cost, best[0])
            if window is not None:
                # Outside: it begins behind the window or ends before it. Whatever was best outside gives way.
                take = (take | out) & ~below(high, s * spacing)
                out = below((s + 1) * spacing, low)
            best = (choose(take, cost, best[0]), choose(take, position, best[1]), choose(take, squared, best[2]))
    assert best is not None
    return best[1], best[2]


def _at_least(value: Any, least: Any) -> Any:
    return choose(below(value, least), least, value)


def _at_most(value: Any, most: Any) -> Any:
    return choose(below(most, value), most, value)
