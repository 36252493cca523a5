"""Formulas of cells: the stored ones are those of the stored figures, and what is mapped anew lies where they say."""

import pytest

from intsim.errors import IntsimError
from intsim.explore import cost

from .parts import FAMILIES, HELD_OUT, MADE, POINTS, figure, mapped
from .report import PAGE, residuals
from .simulators import needs


def key(f):
    return f.part, f.variant, f.arguments, f.fpga


def test_stored_coefficients_are_those_of_the_stored_figures():
    _, figures, fits = cost.stored()
    made = cost.fit(figures)
    assert made.keys() == fits.keys()
    for name, coefficients in fits.items():
        assert made[name] == pytest.approx(coefficients, abs=2e-6), name


def test_figures_are_of_all_points_on_all_families():
    figures = cost.stored()[1]
    wanted = {(*p, f): held for held, points in ((False, POINTS), (True, HELD_OUT)) for p in points for f in FAMILIES}
    assert {key(f): f.held_out for f in figures} == wanted
    assert len(figures) == len(wanted)


def test_held_out_figures_have_no_say():
    figures = cost.stored()[1]
    changed = [f._replace(cells=tuple(c + 100 for c in f.cells)) if f.held_out else f for f in figures]
    assert cost.fit(changed) == cost.fit(figures)
    changed = [f._replace(cells=tuple(c + 100 for c in f.cells)) if f.part == "shift" else f for f in figures]
    assert cost.fit(changed) != cost.fit(figures)


def test_the_page_has_their_residuals():
    version, figures, fits = cost.stored()
    page = PAGE.read_text()
    assert f"Yosys {version} maps" in " ".join(page.split())
    for kind in ("luts", "carries"):
        assert residuals(figures, fits, kind) in page


def test_a_part_is_what_its_arguments_say():
    """Of thresholds and registers, whose parameters are in the text."""
    for levels, bits in ((10, 20), (255, 24), (3, 16)):
        top = MADE["threshold"]("constants", levels, bits).top
        assert f".COUNT({levels})" in top
        assert f".ACC({bits})" in top
    assert ".MUL(12)" in MADE["requantizer"]("single ports", 20, 12).top
    assert ".TWICE(1)" in MADE["requantizer"]("double constants", 24, 24).top
    assert ".SATURATE(1)" in MADE["mac"]("saturate", 12, 8, 20).top


def anew(point, family):
    """A point mapped now, and its estimate."""
    version, _, fits = cost.stored()
    found = mapped(MADE[point[0]](point[1], *point[2]), family)
    if found.version != version:
        pytest.skip(f"figures are those of Yosys {version}")
    return figure(point, family, found, True), cost.predict(fits, *point[:2], family, point[2])


AGAIN = [
    (("mac", "saturate", (8, 8, 24)), "ecp5"),
    (("requantizer", "single constants", (20, 12)), "ice40"),
    (("threshold", "constants", (10, 20)), "generic"),
    *(pytest.param(("shift", "ports", (20,)), f, marks=pytest.mark.slow) for f in FAMILIES),
    *(pytest.param(("requantizer", "single ports", (32, 20)), f, marks=pytest.mark.slow) for f in FAMILIES),
    *(pytest.param(("requantizer", "double constants", (32, 24)), f, marks=pytest.mark.slow) for f in FAMILIES),
]


@needs("netlist")
@pytest.mark.parametrize(("point", "family"), AGAIN)
def test_mapped_anew_it_has_the_stored_cells(point, family):
    found, _ = anew(point, family)
    (stored,) = [f for f in cost.stored()[1] if key(f) == key(found)]
    assert found.cells == stored.cells


ELSEWHERE = [
    (("mac", "wrap", (8, 8, 20)), "ice40"),
    (("mac", "wrap", (8, 8, 30)), "ecp5"),
    (("requantizer", "single constants", (32, 12)), "generic"),
    (("threshold", "constants", (20, 24)), "ecp5"),
    *(pytest.param(("threshold", "constants", (100, 24)), f, marks=pytest.mark.slow) for f in FAMILIES),
]


@needs("netlist")
@pytest.mark.parametrize(("point", "family"), ELSEWHERE)
def test_what_was_not_mapped_lies_near_the_worst_residual(point, family):
    """Of the formula's own figures: within twice that and ROOM; the page says that others may be further off."""
    found, estimate = anew(point, family)
    _, figures, fits = cost.stored()
    assert key(found) not in map(key, figures)
    for kind, value in enumerate(estimate):
        own = [f for f in figures if (f.part, f.variant, f.fpga) == (*point[:2], family)]
        worst = max(abs(cost.predict(fits, *point[:2], family, f.arguments)[kind] - f.cells[kind]) for f in own)
        assert abs(value - found.cells[kind]) <= 2 * worst + cost.ROOM


def test_estimates():
    one = cost.mac("xilinx", 8, 8, 24, "saturate")
    assert (one.flip_flops, one.dsps) == (24, 1)
    assert cost.mac("generic", 8, 8, 24, "wrap").dsps == 0
    assert cost.requantizer("ecp5", 32, 32, 1, False).dsps == 4
    assert cost.threshold("ice40", 31, 24).carries > cost.threshold("ice40", 7, 24).carries


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: cost.mac("asic", 8, 8, 24, "wrap"), "FPGA 'asic'; there are figures of ecp5, generic, ice40, xilinx"),
        (lambda: cost.mac("ecp5", 8, 8, 24, "clip"), "overflow is 'clip'; allowed: wrap, saturate"),
        (lambda: cost.mac("ecp5", 8, 4, 24, "wrap"), r"mac: weight_bits is 4; there are figures of 6\.\.16"),
        (lambda: cost.requantizer("ecp5", 40, 8, 1, True), r"accumulator_bits is 40; .* 16\.\.32"),
        (lambda: cost.requantizer("ecp5", 32, 8, 3, True), "roundings is 3; allowed: 1, 2"),
        (lambda: cost.requantizer("ecp5", 32, 0, 2, True), "a shift alone rounds once; give roundings 1"),
        (lambda: cost.threshold("ecp5", 256, 24), r"levels is 256; there are figures of 1\.\.255"),
    ],
)
def test_what_was_not_mapped_is_refused(ask, message):
    with pytest.raises(IntsimError, match=message):
        ask()


def test_blocks_that_a_product_is_cut_into():
    assert [cost.blocks("xilinx", *p) for p in ((8, 8), (25, 18), (18, 25), (26, 18), (32, 32))] == [1, 1, 1, 2, 4]
    assert [cost.blocks("ice40", *p) for p in ((16, 16), (17, 16), (32, 32), (32, 8))] == [1, 2, 4, 2]
    assert cost.blocks("generic", 32, 32) == 0
