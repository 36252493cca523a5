"""Instructions against the registers of the targets: millions of dot products, bit for bit."""

import functools

import numpy as np
import pytest

from intsim.arithmetic.accumulate import Stage, accumulate_telemetry
from intsim.engine.registers.matmul import register_matmul
from intsim.targets import Target

from .operands import STARTS, combinations, starts, weighted
from .programs import WITNESSES, LacksInstructionError, Witness, build, matmul, missing

ACCUMULATING = [w for w in WITNESSES.values() if w.targets]
CHUNK = 1 << 15  # products of one arrival that the definition adds at once: they stay in the second-level cache


@functools.cache
def stages_of(target: str) -> tuple[Stage, ...]:
    return Target.load(target).registers.stages


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Command of a witness, built once; skips with the reason where it can't be heard."""
    folder, commands = tmp_path_factory.mktemp("witness"), {}

    def command(witness: Witness) -> list[str]:
        if reason := missing(witness):
            pytest.skip(f"{witness.name}: {reason}")
        if witness.name not in commands:
            commands[witness.name] = build(witness, folder)
        return commands[witness.name]

    return command


def heard(witness, command, a, w, start):
    try:
        return matmul(command, a, w, start, witness.outputs)
    except LacksInstructionError as reason:
        pytest.skip(f"{witness.name}: {reason}")


def agrees(witness, command, a, w, start):
    """Compare with the definition, row by row, and the fast twin; returns events of the last register."""
    result = heard(witness, command, a, w, start)
    events = np.zeros(result.shape[:2], np.int64)
    for stages in dict.fromkeys(stages_of(target) for target in witness.targets):
        rows = max(1, CHUNK // len(w))
        fast = register_matmul(a, w, stages, start)
        np.testing.assert_array_equal(fast.out, result[..., 0], f"{witness.name} and the fast twin")
        for m in range(0, len(a), rows):
            products = a[m : m + rows, None, :].astype(np.int64) * w[None].astype(np.int64)
            ours = accumulate_telemetry(products, stages, start=start[None])
            np.testing.assert_array_equal(ours.result, result[m : m + rows, :, 0], f"{witness.name} and the definition")
            events[m : m + rows] = ours.events[..., -1]
        np.testing.assert_array_equal(fast.events[:, -1], events.sum(0))
        if witness.flag:
            # SMLAD sets Q when its sum leaves 32 bits, which is the definition's event.
            np.testing.assert_array_equal(result[..., 1], events > 0, f"{witness.name}: Q flag and events")
    return events


@pytest.mark.parametrize("witness", ACCUMULATING, ids=lambda w: w.name)
def test_extremes(witness, programs):
    """All combinations of extreme operands; with accumulators at the ends of int32 in turn, and all of these."""
    command = programs(witness)
    rng = np.random.default_rng(1)
    a, w = combinations(witness.activation, witness.step, rng), combinations(witness.weight, witness.step, rng)
    agrees(witness, command, a, w, STARTS[rng.integers(0, len(STARTS), len(w))])
    # Operands thinned out so that all accumulators fit in: 125 x 625 x 7.
    events = agrees(witness, command, a[rng.permutation(625)[:125]], np.repeat(w, 7, 0), np.tile(STARTS, 625))
    assert events.any()


@pytest.mark.parametrize("witness", ACCUMULATING, ids=lambda w: w.name)
def test_weighted(witness, programs):
    """Several steps and an incomplete one, two thirds of the operands at or near their ends."""
    command = programs(witness)
    rng = np.random.default_rng(2)
    depth = 2 * witness.step + 3
    a, w = weighted(witness.activation, 512, depth, rng), weighted(witness.weight, 512, depth, rng)
    agrees(witness, command, a, w, starts(512, rng))


@pytest.mark.parametrize("witness", ACCUMULATING, ids=lambda w: w.name)
def test_long_sums(witness, programs):
    """1 to 1030 products: past every spill, and every incomplete last step."""
    command = programs(witness)
    rng = np.random.default_rng(3)
    for depth in [*range(1, 2 * witness.step + 2), 255, 256, 257, 513, 1030]:
        a, w = weighted(witness.activation, 17, depth, rng), weighted(witness.weight, 35, depth, rng)
        agrees(witness, command, a, w, starts(35, rng))


@pytest.mark.slow
@pytest.mark.parametrize("witness", ACCUMULATING, ids=lambda w: w.name)
def test_thorough(witness, programs):
    """Eight million more, of new operands and depths each."""
    command = programs(witness)
    for seed in range(4):
        rng = np.random.default_rng([4, seed])
        depth = int(rng.integers(1, witness.step + 20))
        a, w = weighted(witness.activation, 1024, depth, rng), weighted(witness.weight, 2048, depth, rng)
        agrees(witness, command, a, w, starts(2048, rng))


def test_targets_take_the_operands_of_their_instruction():
    for witness in ACCUMULATING:
        for target in witness.targets:
            path = Target.load(target).registers
            for kind, said in ((path.activation, witness.activation), (path.weight, witness.weight)):
                assert kind is None or f"{'s' if kind.signed else 'u'}{kind.bits}" == said, (witness.name, target)


def test_a_wrong_register_is_seen(programs, monkeypatch):
    """The comparison itself: 32767 where the register wraps would be -766."""
    witness = WITNESSES["vpmaddubsw-256"]
    command = programs(witness)
    wraps = (Stage(2, 16, "wrap"), *stages_of("x86-avx2")[1:])
    a, w = np.full((1, 4), 255, np.uint8), np.full((1, 4), 127, np.int8)
    assert heard(witness, command, a, w, np.zeros(1, np.int32))[0, 0, 0] == 2 * 32767
    monkeypatch.setitem(globals(), "stages_of", lambda target: wraps)
    with pytest.raises(AssertionError, match="fast twin"):
        agrees(witness, command, a, w, np.zeros(1, np.int32))
