"""Products through registers of any width against the definition and a twin in Python integers."""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import intsim
from intsim.arithmetic.accumulate import Stage, accumulate_telemetry
from intsim.engine.registers.matmul import ColumnMatmul, register_matmul
from intsim.errors import IntsimError
from tests import twins

pytestmark = pytest.mark.xdist_group("registers")  # kernels that its tests share are compiled once

BLOCK = 64  # positions: tiles are 16, 32 or 64 of them
WIDTHS = st.one_of(st.integers(1, 64), st.sampled_from([1, 2, 8, 15, 16, 17, 30, 31, 32, 33, 48, 62, 63, 64]))
OVERFLOW = st.sampled_from(["wrap", "saturate"])
REST16 = [Stage(None, 16, "saturate")]


def edges(limit):
    """Values in -limit..limit at +-2^k, +-2^k+-1, and any."""
    near = st.builds(
        lambda k, s, d: min(max(s * (1 << k) + d, -limit), limit),
        st.integers(0, limit.bit_length()),
        st.sampled_from([-1, 1]),
        st.integers(-1, 1),
    )
    return st.one_of(near, st.integers(-limit, limit))


@st.composite
def stage_lists(draw):
    groups = draw(st.lists(st.integers(1, 6), max_size=3))
    rests = draw(st.integers(1, 5 - len(groups)))
    sums = [*groups, *[None] * rests]
    lanes = [*(draw(st.sampled_from([1, 1, 2, 3, 5])) for _ in sums[1:]), 1]
    return [Stage(s, draw(WIDTHS), draw(OVERFLOW), n) for s, n in zip(sums, lanes, strict=True)]


def check_against_definition(a, w, stages, start=None, bias=None, modes=("counted", "touched")):
    ours = register_matmul(a, w, stages, start, bias)
    products = np.asarray(a, np.int64)[:, None, :] * np.asarray(w, np.int64)[None]
    defined = accumulate_telemetry(products, stages, 0 if start is None else start, bias)
    assert ours.out.dtype == np.int64
    assert np.array_equal(ours.out, defined.result)
    assert np.array_equal(ours.events, defined.events.sum(0))
    assert np.array_equal(ours.low, defined.low.min(0, initial=0))
    assert np.array_equal(ours.high, defined.high.max(0, initial=0))
    for mode in modes:
        quick = register_matmul(a, w, stages, start, bias, mode)
        np.testing.assert_array_equal(quick.out, ours.out, mode)
        np.testing.assert_array_equal(quick.events, ours.events if mode == "counted" else ours.events > 0, mode)
    return ours


@settings(deadline=None)
@given(
    stage_lists(),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 14),
    st.sampled_from([1, 15, 128, 255, 1 << 15, 1 << 20, (1 << 31) - 1, 1 << 31]),
    st.data(),
)
def test_it_is_the_definition_and_the_dumb_twin(stages, pixels, channels, depth, largest, data):
    def draw(rows, columns, values):
        drawn = data.draw(st.lists(values, min_size=rows * columns, max_size=rows * columns))
        return np.array(drawn, np.int64).reshape(rows, columns)

    a, w = draw(pixels, depth, edges(largest)), draw(channels, depth, edges(largest))
    constants = st.one_of(edges(largest), edges((1 << 63) - 1))
    start, bias = (draw(1, channels, constants)[0] if data.draw(st.booleans()) else None for _ in range(2))
    # each mode is compiled anew for each kind of first register; test_register_plan draws more of these
    modes = data.draw(st.sampled_from([(), (), ("counted",), ("touched",)]))
    ours = check_against_definition(a, w, stages, start, bias, modes)
    for n in range(channels):
        each = []
        for m in range(pixels):
            products = [int(x) * int(y) for x, y in zip(a[m], w[n], strict=True)]
            first, late = (None if c is None else int(c[n]) for c in (start, bias))
            each.append(twins.accumulate(products, stages, first, late))
            assert ours.out[m, n] == each[-1][0]
        for i in range(len(stages)):
            assert ours.events[n, i] == sum(e[1][i] for e in each)
            assert ours.low[n, i] == min([0, *(e[2][i] for e in each)])
            assert ours.high[n, i] == max([0, *(e[3][i] for e in each)])


STAGE_LISTS = {
    "saturating": REST16,
    "wrapping": [Stage(None, 18, "wrap")],
    "int32": [Stage(None, 32, "wrap")],
    "pairs": [Stage(2, 16, "saturate"), Stage(2, 32, "wrap"), Stage(None, 32, "wrap")],
    "tile": [Stage(16, 16, "saturate"), Stage(None, 20, "saturate")],
    "store": [Stage(None, 40, "wrap"), Stage(None, 24, "saturate")],
    "four": [Stage(3, 15, "wrap"), Stage(2, 17, "saturate"), Stage(4, 18, "wrap"), Stage(None, 19, "saturate")],
    "wide": [Stage(None, 64, "saturate")],
    "lanes": [Stage(2, 16, "saturate"), Stage(None, 17, "wrap", lanes=4), Stage(None, 18, "saturate")],
    "six": [Stage(2, 15, "saturate", 3), *[Stage(2, 16, "wrap", 2), Stage(2, 17, "saturate", 5)] * 2, *REST16],
}


LONG = ("wrapping", "int32", "store", "six")
"""Of whose kind `LANES` of test_register_plan.py has some every day."""


@pytest.mark.parametrize(
    "stages",
    [pytest.param(s, id=name, marks=[pytest.mark.slow] * (name in LONG)) for name, s in STAGE_LISTS.items()],
)
@pytest.mark.parametrize("pixels", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 7])
def test_blocks_of_pixels(stages, pixels):
    rng = np.random.default_rng(pixels)
    a = rng.integers(0, 256, (pixels, 21), dtype=np.uint8)
    w = rng.integers(-128, 128, (3, 21), dtype=np.int8)
    w[1] = 127  # overflows soon
    ours = check_against_definition(a, w, stages, bias=np.array([5, -5, 1 << 14]))
    if stages[0].bits < 32:
        assert ours.events.sum() > 0


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("group", [1, 2, 3, None])
def test_every_small_sequence(group, lanes, overflow):
    """Every five values out of -4, -1, 3 and 4 in 3 bits, through groups and lanes that fill, or don't."""
    a = np.array(list(itertools.product([-4, -1, 3, 4], repeat=5)))
    stages = [Stage(group, 3, overflow, lanes), Stage(None, 4, overflow, 2), Stage(None, 5, overflow)]
    ours = check_against_definition(a, np.ones((1, 5), np.int64), stages)
    each = [twins.accumulate(row, stages) for row in a.tolist()]
    np.testing.assert_array_equal(ours.out[:, 0], [e[0] for e in each])
    np.testing.assert_array_equal(ours.events[0], np.sum([e[1] for e in each], axis=0))
    assert ours.events[0, 0] > 0 or (group == 1 or lanes == 3)


EVERYDAY = (1, 8, 16, 17, 32, 33, 63, 64)
"""Widths where lanes and registers end; those between are left to the long suite."""


def widths(numbers):
    return [n if n in EVERYDAY else pytest.param(n, marks=pytest.mark.slow) for n in numbers]


@pytest.mark.parametrize("bits", widths([*range(1, 34), 47, 48, 61, 62, 63, 64]))
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_every_width_at_its_edges(bits, overflow):
    """Sums that reach the register's ends exactly, and pass them by one; crosses from lane to lane as bits grow."""
    top = 1 << (bits - 1)
    bottom = max(-top, -((1 << 63) - 1))  # operands are within +-(2^63 - 1)
    steps = [top - 1, 1, -1, bottom, -1, 1, top - 1]
    half = [s // 2 for s in steps]
    a = np.array([half + [s - h for s, h in zip(steps, half, strict=True)], steps + [0] * 7])
    check_against_definition(a, np.ones((1, 14), np.int64), [Stage(None, bits, overflow)])
    check_against_definition(a, -np.ones((1, 14), np.int64), [Stage(2, bits, overflow), Stage(None, bits, overflow)])


@pytest.mark.parametrize("bits", [32, *(pytest.param(n, marks=pytest.mark.slow) for n in (28, 29, 30, 31, 33, 34))])
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_where_int32_lanes_end(bits, overflow):
    """Registers and arrivals whose sum just fits int32, or just does not."""
    rows = []
    for arrival in (1 << 29, (1 << 30) - 1, 1 << 30, (1 << 30) + 1, (1 << 31) - (1 << 29), (1 << 31) - 1):
        rows += [
            [s * arrival + d for s in signs] for d in (-1, 0) for signs in ([1] * 6, [-1] * 6, [1, 1, -1, -1, -1, 1])
        ]
    for row in rows:  # one at a time: the largest operand chooses the lanes
        a, ones = np.array([row]), np.ones((1, 6), np.int64)
        check_against_definition(a, ones, [Stage(None, bits, overflow)])
        check_against_definition(a, ones, [Stage(2, bits, overflow), Stage(None, 32, overflow)])
        check_against_definition(a // 2, ones, [Stage(None, 16, overflow)], start=a[0, :1], bias=-a[0, :1])


def test_operands_wider_than_their_products():
    a = np.array([[1 << 40, 3]])
    assert register_matmul(a, np.array([[0, 5]]), REST16).out.tolist() == [[15]]


def test_layouts_and_dtypes_do_not_matter():
    rng = np.random.default_rng(0)
    a, w = rng.integers(0, 128, (70, 33)), rng.integers(-128, 128, (4, 33))
    expected = register_matmul(a, w, STAGE_LISTS["pairs"])
    read_only = w.astype(np.int64)
    read_only.setflags(write=False)
    for aa, ww in (
        (a.astype(np.uint8), w.astype(np.int8)),
        (np.asfortranarray(a), np.asfortranarray(w)),
        (a.astype(np.uint64), read_only),
        (np.repeat(a, 2, axis=0)[::2], w[:, ::-1][:, ::-1]),
    ):
        for ours, theirs in zip(register_matmul(aa, ww, STAGE_LISTS["pairs"]), expected, strict=True):
            assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 3), int), np.ones((2, 4), int), REST16), r"\(2, 3\) and weights \(2, 4\)"),
        ((np.ones(3, int), np.ones((2, 3), int), REST16), r"must be \(M, K\) and \(N, K\)"),
        ((np.ones((2, 3)), np.ones((2, 3), int), REST16), "activations: expected integers, got float64"),
        ((np.ones((2, 3), int), np.ones((2, 3), object), REST16), "weights"),
        ((np.ones((2, 3), int), np.ones((2, 3), int), []), "takes one stage or more, got none"),
        ((np.ones((2, 3), int), np.ones((2, 3), int), [Stage(2, 8, "wrap")]), 'last stage must be "rest"'),
        ((np.ones((2, 3), int), np.ones((2, 3), int), REST16, [1]), r"start has shape \(1,\); it must be \(2,\)"),
        ((np.ones((2, 3), int), np.ones((2, 3), int), REST16, None, 7), r"bias has shape \(\)"),
        ((np.full((1, 1), 1 << 40), np.full((1, 1), 1 << 40), REST16), "do not fit int64"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(IntsimError, match=message) as error:
        register_matmul(*arguments)
    assert "\n" not in str(error.value)


def test_without_a_writable_cache_directory(tmp_path):
    """A read-only installation: no __pycache__, no user cache. Numba then refuses cache=True when it is asked to."""
    source, package = Path(intsim.__file__).parent, tmp_path / "intsim"
    for room in (".", "arithmetic", "engine", "engine/registers", "engine/exact", "jit"):
        (package / room).mkdir(parents=True, exist_ok=True)
        (package / room / "__init__.py").touch()
        (package / room / "__pycache__").write_text("a file where the cache directory would be")
    wings = {"registers": ("matmul", "plan", "lanes", "vectors", "kernel", "rounded"), "exact": ("isa",)}
    files = ["errors.py", "ownership.py", "jit/compile.py", "jit/cache.py", "jit/constants.py", "jit/emit.py"]
    files += [f"engine/{wing}/{name}.py" for wing, names in wings.items() for name in names]
    for file in (*(source / f for f in files), *(source / "arithmetic").glob("[a-z]*.py")):
        shutil.copy(file, package / file.relative_to(source))
    program = (
        "import numpy as np\n"
        "from intsim.arithmetic.accumulate import Stage\n"
        "from intsim.engine.registers import matmul\n"
        f"assert matmul.__file__.startswith({str(tmp_path)!r})\n"
        "r = matmul.register_matmul(np.full((1, 3), 127), np.full((1, 3), 127), [Stage(None, 16, 'wrap')])\n"
        "print(r.out)\n"
    )
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the user's cache would be")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA", "XDG", "PYTHON"))}
    environment |= {"PYTHONPATH": str(tmp_path), "HOME": str(blocked), "XDG_CACHE_HOME": str(blocked)}
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert run.stdout.split() == ["[[-17149]]"], run.stderr


@pytest.mark.parametrize(
    "stages",
    [
        REST16,
        [Stage(None, 16, "wrap")],
        [Stage(None, 13, "saturate")],
        [Stage(2, 16, "saturate"), Stage(None, 32, "wrap")],
        [Stage(None, 24, "saturate")],
    ],
)
@pytest.mark.parametrize("span", [(0, 255), (-128, 127)])
@pytest.mark.parametrize("rows", [1, 3, 7])
def test_columns_laid_out_once(stages, span, rows):
    """Weights made ready for any activations of a range, which then come: small ones, its ends, anything."""
    rng = np.random.default_rng(rows)
    w = rng.integers(-127, 128, (70, 23))
    start, late = rng.integers(-3000, 3000, 70), rng.integers(-(1 << 20), 1 << 20, 70)
    for terms in ((None, None), (start, late)):
        layer = ColumnMatmul(w, rows, span, stages, *terms)
        for values in ([0, 1], span, range(span[0], span[1] + 1)):
            a = rng.choice(np.array(values, np.int16), (rows, 23))
            products = a.astype(np.int64)[:, None, :] * w[None]
            first = 0 if terms[0] is None else terms[0]
            defined = accumulate_telemetry(products, stages, first, terms[1])
            for counts in (True, False):
                out, events = layer.run(a, counts)
                np.testing.assert_array_equal(out, defined.result)
                wanted = defined.events.sum(0)
                np.testing.assert_array_equal(events, wanted if counts else np.minimum(wanted, 1))
