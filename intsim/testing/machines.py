"""Machines: random accumulator stages with lanes, packed multipliers, requantizers, whole targets; built-in ones."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import Any

from hypothesis import strategies as st

from intsim.arithmetic.accumulate import Stage
from intsim.arithmetic.packing import Packing
from intsim.arithmetic.registers import BiasPlace, Registers
from intsim.arithmetic.requantizers import Requantizer, built_in, named
from intsim.arithmetic.rounding import Rounding
from intsim.targets import Target
from intsim.testing.values import integer_types

WIDTHS = (16, 8, 32, 18, 20, 24, 40, 48, 4, 1, 2, 31, 33, 62, 63, 64)
SCHEMES = tuple(name for name, scheme in built_in().items() if scheme.reads == "sum")
OVERFLOW = st.sampled_from(["wrap", "saturate"])
PLACES: tuple[BiasPlace, ...] = ("after", "preload", "requantizer")


def stages(
    max_stages: int = 4,
    max_sum: int = 8,
    max_lanes: int = 4,
    min_bits: int = 1,
    max_bits: int = 64,
    max_restart: int = 8,
    max_drop: int = 12,
) -> st.SearchStrategy[tuple[Stage, ...]]:
    """Valid lists of 1..`max_stages` stages: groups of up to `max_sum`, then one or more that take the rest.

    Args:
        max_stages: at least 1.
        max_sum: largest group; smaller ones are drawn more often.
        max_lanes: most registers that take turns in a stage; the last stage has one.
        min_bits: least width, 1..64.
        max_restart: products after which groups of the first stage restart, where they do; 0: they never do.
        max_drop: most bits that are rounded off each product by a first stage of one product; 0: none is.
        max_bits: greatest width; the usual ones are drawn more often.
    """
    usual = [bits for bits in WIDTHS if min_bits <= bits <= max_bits]
    plain = st.integers(min_bits, max_bits)
    bits = st.one_of(st.sampled_from(usual), plain) if usual else plain
    lanes = st.one_of(st.just(1), st.integers(1, max_lanes))

    @st.composite
    def lists(draw: Any) -> tuple[Stage, ...]:
        groups = draw(st.lists(st.integers(1, max_sum), max_size=max_stages - 1))
        rests = draw(st.integers(1, max_stages - len(groups)))
        sums = [*groups, *[None] * rests]
        last = len(sums) - 1
        made = [Stage(n, draw(bits), draw(OVERFLOW), 1 if i == last else draw(lanes)) for i, n in enumerate(sums)]
        if groups and max_restart and draw(st.integers(0, 3)) == 0:
            made[0] = replace(made[0], restart=draw(st.integers(1, max_restart)))
        if groups and max_drop and draw(st.integers(0, 4)) == 0:
            drop = draw(st.integers(1, max_drop))
            own = {"sum": 1, "lanes": 1, "restart": None, "drop": drop, "rounding": draw(st.sampled_from(Rounding))}
            made = [replace(s, bits=min(s.bits, 63 - drop)) for s in made]
            made[0] = replace(made[0], **own)
        return tuple(made)

    return lists()


@st.composite
def packings(draw: Any, max_fields: int = 4) -> Packing:
    """Valid packings of 1..`max_fields` products, fields of 2 to 18 bits, in a register of up to 64 bits."""
    outer = draw(st.integers(1, min(3, max_fields)))
    inner = draw(st.integers(1, min(3, max_fields // outer)))
    width = st.integers(2, 64 // (outer * inner) if outer * inner > 3 else 18)
    near = list(accumulate((draw(width) for _ in range(inner - 1)), initial=0))
    far = list(accumulate((near[-1] + draw(width) for _ in range(outer - 1)), initial=0))
    least = near[-1] + far[-1] + 2
    if least > 64:
        near, far, least = [0], [0, 18], 20
    bits = draw(st.one_of(st.integers(least, 64), st.just(max(48, least))))
    channels, pixels = draw(st.permutations([tuple(near), tuple(far)]))
    return Packing(channels, pixels, bits, draw(st.sampled_from(["none", "borrow"])))


def packed_stages(packing: Packing, max_sum: int = 8) -> st.SearchStrategy[tuple[Stage, ...]]:
    """Stages whose first one can be read from the fields of `packing`, groups of up to `max_sum` products."""
    field = st.one_of(st.just(min(packing.widths)), st.integers(1, min(packing.widths)))
    first = st.builds(Stage, st.integers(1, max_sum), field, st.just("wrap"))
    return st.builds(
        lambda head, rest: (head, *rest), first, stages(max_stages=3, max_sum=max_sum, max_restart=0, max_drop=0)
    )


@st.composite
def registers(draw: Any, max_stages: int = 4, max_operand_bits: int = 8, packed: bool | None = None) -> Registers:
    """Whole multiply-accumulate paths.

    Args:
        max_stages: at least 1.
        max_operand_bits: widest operand, 1..31.
        packed: True or False for machines with or without several products per multiplier, None for both.
    """
    packing = draw(packings()) if packed or (packed is None and draw(st.integers(0, 3)) == 0) else None
    chain = draw(stages(max_stages) if packing is None else packed_stages(packing))
    kinds = integer_types(max_bits=max_operand_bits)
    order = tuple(draw(st.permutations(["kh", "kw", "cin"])))
    return Registers(chain, order, draw(st.sampled_from(PLACES)), draw(kinds), draw(kinds), packing)


@st.composite
def requantizers(draw: Any, schemes: tuple[str, ...] = SCHEMES) -> Requantizer:
    """Requantizers of the given schemes, with every value of their keys."""
    variants = named(draw(st.sampled_from(schemes))).variants()
    twice = [v for v in variants if v.double_rounding]
    return draw(st.sampled_from(twice if twice and draw(st.booleans()) else variants))


@st.composite
def targets(draw: Any, max_stages: int = 4, packed: bool | None = None) -> Target:
    """Random valid targets: any registers, orders, operands and requantizers that the grammar allows."""
    path, requantizer = draw(registers(max_stages, packed=packed)), draw(requantizers())
    if path.stages[0].drop and not requantizer.exact:
        requantizer = named("exact")()
    bias = path.bias if requantizer.takes_bias or path.bias != "requantizer" else "after"
    sums = {"order": path.order, "stages": path.stages, "packing": path.packing, "bias": bias}
    operands = {"activation": path.activation, "weight": path.weight} if draw(st.booleans()) else None
    return Target.model_validate(
        {
            "name": "random",
            "title": "random",
            "source": ["drawn"],
            "operands": operands,
            "accumulate": sums,
            "requantize": requantizer,
        }
    )


def sampled_targets() -> st.SearchStrategy[Target]:
    """The built-in targets that take every network, and members of the families, the ends of each more often.

    Those of runtimes are left out, which refuse operators that the runtime's quantized kernels don't have.
    """
    single = [st.just(name) for name in Target.names() if Target.load(name).others != "refused"]
    members = [
        st.one_of(st.sampled_from([f.low, f.high]), st.integers(f.low, f.high)).map(f.member) for f in Target.families()
    ]
    return st.one_of(*single, *members).map(Target.load)
