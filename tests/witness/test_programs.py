"""The witnesses' own machinery: every program is described, and what can't run says why."""

import platform

import numpy as np
import pytest

from . import programs
from .programs import FOLDER, WITNESSES, LacksInstructionError, Witness, available, build, matmul, missing


@pytest.fixture(autouse=True)
def forget():
    yield
    missing.cache_clear()


def test_every_program_is_described():
    assert {w.source for w in WITNESSES.values()} == {path.name for path in FOLDER.glob("*.c")}
    assert list(available()) == list(WITNESSES)


def test_reasons(monkeypatch, request):
    missing.cache_clear()  # other tests asked before, and ask afterwards
    request.addfinalizer(missing.cache_clear)
    witness = WITNESSES["sdot"]
    here = Witness("here", "x86_maddubs.c", platform.machine(), cpu=("no_such_flag",))
    assert missing(here) == "this CPU has no no_such_flag"
    elsewhere = Witness("elsewhere", "x86_maddubs.c", "pdp11")
    assert missing(elsewhere).endswith("not Linux pdp11")
    monkeypatch.setattr(programs, "native", lambda w: False)
    monkeypatch.setattr(programs.shutil, "which", lambda name: None)
    assert missing(witness).startswith("no compiler for aarch64 (aarch64-linux-gnu-gcc")
    missing.cache_clear()
    monkeypatch.setattr(programs, "compiler_of", lambda w: "gcc")
    assert missing(witness) == "no qemu-aarch64"
    assert missing(WITNESSES["vrmpy"]) == "no linker for hexagon (ld.lld)"


def test_a_flag_that_the_compiler_does_not_know(monkeypatch):
    witness = Witness("new", "x86_maddubs.c", platform.machine(), flags=("-mno-such-extension",))
    assert "-mno-such-extension" in missing(witness)


@pytest.mark.skipif(programs.native(WITNESSES["sdot"]), reason="a real CPU is not exchanged")
def test_a_cpu_without_the_instruction_says_so(tmp_path):
    """An older CPU than the emulator's default: no SIGILL but an exit code of its own."""
    witness = WITNESSES["sdot"]
    if reason := missing(witness):
        pytest.skip(reason)
    emulator, _, _, program = build(witness, tmp_path)
    one = np.ones((1, 4), np.int8)
    with pytest.raises(LacksInstructionError, match="lacks the instruction"):
        matmul([emulator, "-cpu", "cortex-a57", program], one, one, np.zeros(1, np.int32))


def test_bad_input_is_refused(tmp_path):
    """Truncated operands end in exit code 2, not in an answer."""
    witness = WITNESSES["cvtps2dq"]
    if reason := missing(witness):
        pytest.skip(reason)
    with pytest.raises(AssertionError, match="exit 2"):
        programs.call(build(witness, tmp_path), b"\x04\x00\x00\x00")
