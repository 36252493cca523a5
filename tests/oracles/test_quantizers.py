"""QONNX's quantizer nodes as qonnx and finn-base execute them, against our definitions."""

from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from qonnx.custom_op.registry import getCustomOp

from intsim.arithmetic.pieces import Formula
from intsim.arithmetic.requantizers.exact import exact_requantize
from intsim.arithmetic.requantizers.thresholds import staircase
from intsim.arithmetic.rounding import Rounding
from intsim.frontend.qonnx import ROUNDING

from . import installed, nodes
from .drive_nodes import execute
from .judge import as_codes, exact_codes, float_rounding_explains, threshold_counts, trunc_codes


def qonnx(asked, tmp_path, opset=1):
    made = partial(getCustomOp, onnx_opset_version=opset)
    return [execute(made, "qonnx.custom_op.general", n.op, n.attributes, n.inputs) for n in asked]


def finn_base(asked, tmp_path):
    if reason := installed.missing("finn-base"):
        pytest.skip(reason)
    nodes.save(tmp_path / "cases.npz", asked)
    installed.ask("finn-base", "drive_nodes.py", str(tmp_path / "cases.npz"), str(tmp_path / "answers.npz"))
    with np.load(tmp_path / "answers.npz") as found:
        return [found[str(n)] for n in range(len(asked))]


EXECUTORS = pytest.mark.parametrize("executor", [qonnx, finn_base])


def modes_of(executor):
    return nodes.MODES if executor is qonnx else nodes.FINN_MODES


@EXECUTORS
def test_quant(executor, tmp_path):
    """Where a code differs, float32 rounding made it: exact arithmetic on the same numbers gives ours."""
    asked = list(nodes.quants(modes_of(executor), 110, np.random.default_rng(1)))
    elements = differing = 0
    for node, answer in zip(asked, executor(asked, tmp_path), strict=True):
        exact, _ = exact_codes(node)
        codes = as_codes(node, answer)
        elements += len(codes)
        for i in np.flatnonzero(codes != np.array(exact)):
            differing += 1
            assert float_rounding_explains(node, i, int(codes[i])), (
                node.attributes,
                node.inputs[0][i],
                node.inputs[1:],
            )
    assert 0 < differing < elements // 4


def test_a_wrong_code_is_not_explained(tmp_path):
    """Float rounding excuses the code that it makes and no other."""
    asked = list(nodes.quants(nodes.MODES, 21, np.random.default_rng(8)))
    for node, answer in zip(asked, qonnx(asked, tmp_path), strict=True):
        for i, code in enumerate(as_codes(node, answer)):
            assert not any(float_rounding_explains(node, i, int(code) + wrong) for wrong in (-2, -1, 1, 2))


@EXECUTORS
def test_quant_of_an_accumulator(executor, tmp_path):
    """What the engine does: an integer accumulator times a scale, requantized; the executor sees it as float32.

    With power-of-two scales float32 is exact, and nothing may differ.
    """
    rng = np.random.default_rng(2)
    asked, ours = [], []
    for i in range(56):
        mode = modes_of(executor)[i % len(modes_of(executor))]
        acc = np.unique(np.concatenate([np.arange(-600, 600), rng.integers(-(1 << 16), 1 << 16, 300)]))
        before, after = Fraction(1, 1 << int(rng.integers(3, 9))), Fraction(1, 1 << int(rng.integers(0, 4)))
        x = (acc * float(before)).astype(np.float32)
        bits = int(rng.integers(2, 9))
        attributes = {"signed": 1, "narrow": 0, "rounding_mode": mode}
        asked.append(nodes.Node("Quant", attributes, [x, np.float32(after), np.float32(0), np.float32(bits)]))
        codes = exact_requantize(acc, before / after, 0, ROUNDING[mode])
        ours.append(np.clip(codes, -(1 << (bits - 1)), (1 << (bits - 1)) - 1))
    for node, answer, codes in zip(asked, executor(asked, tmp_path), ours, strict=True):
        np.testing.assert_array_equal(as_codes(node, answer), codes)


@EXECUTORS
def test_trunc(executor, tmp_path):
    """Its first rounding repairs float32's quotient, so nothing may differ."""
    asked = list(nodes.truncs(modes_of(executor), 77, np.random.default_rng(3)))
    for node, answer in zip(asked, executor(asked, tmp_path), strict=True):
        np.testing.assert_array_equal(as_codes(node, answer), trunc_codes(node))


def test_trunc_version_2(tmp_path):
    asked = list(nodes.truncs_2(nodes.MODES, 77, np.random.default_rng(7)))
    for node, answer in zip(asked, qonnx(asked, tmp_path, opset=2), strict=True):
        codes = np.rint(answer.astype(np.float64) / float(node.inputs[4])).astype(np.int64)
        np.testing.assert_array_equal(codes, trunc_codes(node))


@EXECUTORS
def test_bipolar(executor, tmp_path):
    asked = list(nodes.bipolars(len(nodes.SCALES), np.random.default_rng(4)))
    for node, answer in zip(asked, executor(asked, tmp_path), strict=True):
        x, scale = node.inputs
        np.testing.assert_array_equal(answer, np.where(x >= 0, scale, -scale))


@EXECUTORS
def test_multithreshold(executor, tmp_path):
    """Comparisons don't round: nothing may differ, whatever the thresholds."""
    asked = list(nodes.multithresholds(12, np.random.default_rng(5)))
    for node, answer in zip(asked, executor(asked, tmp_path), strict=True):
        np.testing.assert_array_equal(answer, threshold_counts(node))


@EXECUTORS
def test_our_thresholds_in_a_multithreshold_node(executor, tmp_path):
    """The staircase of an exact requantizer, handed to the executor, counts to the requantizer's codes."""
    rng = np.random.default_rng(6)
    acc = np.arange(-4096, 4096)
    asked, ours = [], []
    for mode in Rounding:
        for scale, offset in (
            (Fraction(3, 700), Fraction(1, 3)),
            (Fraction(1, 16), Fraction(1, 2)),
            (Fraction(7, 9), 0),
        ):
            bits = int(rng.integers(1, 9))
            stairs = staircase(Formula([(None, scale, Fraction(offset))], mode, 0, 0, (1 << bits) - 1), -4096, 4095)
            assert (stairs.steps == 1).all()
            attributes = {"out_dtype": "INT32", "out_bias": float(stairs.base), "out_scale": 1.0, "data_layout": "NCHW"}
            data = acc.astype(np.float32).reshape(1, 1, 64, 128)
            asked.append(nodes.Node("MultiThreshold", attributes, [data, stairs.thresholds.astype(np.float32)[None]]))
            ours.append(np.clip(exact_requantize(acc, scale, offset, mode), 0, (1 << bits) - 1))
    for answer, codes in zip(executor(asked, tmp_path), ours, strict=True):
        np.testing.assert_array_equal(answer.reshape(-1), codes)
