"""Constructed operands: what they show, against brute force, and the vectors that hold them."""

import json

import numpy as np
import pytest

import intsim
from intsim.diagnosis.discriminate import cover
from intsim.diagnosis.machine import Stand, defined
from intsim.errors import IntsimError

from . import cases
from .test_classes import ON, every_input, small
from .test_identify import SIGNED


def test_coverage_is_that_of_every_input(tmp_path):
    """Of a layer whose inputs can all be tried: equivalent faults are, and the others are shown."""
    intsim.vectors(small("conv", 1, 0.6, 5), ON["wide"], out=tmp_path / "v", layer=["layer"], formats=["npy"])
    space = cases.space(tmp_path / "v")
    patterns, found = cover(space, 16)
    stand, spec = every_input(space), space.specification
    right = stand.results(spec)
    faults = [h for h in space.singles([""]) if defined(space, h)]
    differing = [h for h in faults if not np.array_equal(stand.results(h), right)]
    assert found.faults == len(faults)
    assert found.detected <= len(differing) <= found.possible
    own = Stand(space, np.stack([p.codes for p in patterns]), np.arange(space.layer.extent[0]))
    shown = sum(not np.array_equal(own.results(h), own.results(spec)) for h in faults)
    assert shown >= found.detected >= 0.97 * len(differing)


@pytest.mark.parametrize(
    ("model", "on"),
    [
        (cases.dense(depth=64), SIGNED),
        pytest.param(cases.conv(channels=16, outputs=16, size=(8, 8)), cases.target(), marks=pytest.mark.slow),
    ],
)
def test_sixteen_operands_show_what_can_be_shown(tmp_path, model, on):
    _, found = cover(cases.space(cases.vectors(tmp_path / "v", model, on)), 16)
    assert found.detected >= 0.99 * found.possible
    assert found.random < found.detected
    assert found.detected + len(found.undetected) <= found.possible


def test_vectors_hold_them(tmp_path):
    """And the network's own input in front, where one is given; the same bytes again."""
    model, inputs = cases.conv(), cases.codes(cases.conv())[0]
    for name in ("a", "b"):
        made, coverage = intsim.discriminate(
            model, cases.target(), inputs, out=tmp_path / name, layer="conv", count=5, formats=["npy"]
        )
    operands = cases.tensor(tmp_path / "a", "operand")
    real = cases.vectors(tmp_path / "r", model, cases.target())
    assert operands.shape == (6, 1, 3, 6, 5)
    assert len(coverage.kinds) == 5
    np.testing.assert_array_equal(operands[0], cases.tensor(real, "operand")[0])
    np.testing.assert_array_equal(cases.tensor(tmp_path / "a")[0], cases.tensor(real)[0])
    assert made.manifest["coverage"]["detected"] == coverage.detected > coverage.real
    for file in sorted(p for p in (tmp_path / "a").rglob("*") if p.is_file()):
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()
    again = intsim.vectors(
        model, cases.target(), out=tmp_path / "c", layer=["conv"], operands=operands, formats=["npy"]
    )
    np.testing.assert_array_equal(cases.tensor(tmp_path / "c"), cases.tensor(tmp_path / "a"))
    assert json.loads(json.dumps(again.to_json()))["samples"] == 6


def test_refusals(tmp_path):
    model = cases.conv()
    with pytest.raises(IntsimError, match="count is 0; give 1"):
        intsim.discriminate(model, out=tmp_path / "v", layer="conv", count=0)
    with pytest.raises(IntsimError, match="no layer 'none'"):
        intsim.discriminate(model, out=tmp_path / "v", layer="none")
    with pytest.raises(IntsimError, match=r"operands of type float64 and shape \(2,\); give integers of shape"):
        intsim.vectors(model, out=tmp_path / "v", layer=["conv"], operands=np.zeros(2))
    with pytest.raises(IntsimError, match=r"operands 0\.\.300; its codes are 0\.\.255"):
        intsim.vectors(
            model, out=tmp_path / "v", layer=["conv"], operands=300 * (np.arange(90) == 0).reshape(1, 1, 3, 6, 5)
        )
    with pytest.raises(IntsimError, match="both inputs of the network and operands"):
        intsim.vectors(model, samples=1, out=tmp_path / "v", layer=["conv"], operands=np.zeros((1, 1, 3, 6, 5), int))
    assert not (tmp_path / "v").exists()
