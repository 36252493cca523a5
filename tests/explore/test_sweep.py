"""A whole sweep: numbers by hand, axes and grids, and rows on disk that an interrupted sweep goes on from."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from frontend.build import Net

import intsim
from intsim.errors import IntsimError
from intsim.explore.configuration import Configuration, checked_stage, configurations, configured
from intsim.explore.row import OutputRow, Row
from intsim.explore.sweep import SafeFrom, sweep
from intsim.targets import Target

X = {"x": np.float32([[100, 100, 100], [60, 60, 60]])}


def model(zero=0):
    """Two channels of three products, the last one subtracted in the first; scale 1, out in steps of 2."""
    net = Net()
    x = net.quant(net.input(2, 3), 1, zero, 8)
    w = net.quant(np.float32([[1, 1], [1, 1], [-1, 1]]), 1, 0, 2)
    return intsim.load(net.model(net.quant(net.node("MatMul", x, w), 2, 0, 10)))


def test_eight_bits_by_hand():
    """Rows 100 and 60: sums 100, 300 and 60, 180. In 8 bits: 200 and 300, 120 and 180 on the way."""
    found = sweep(model(), inputs=X, accumulator=[8])
    wrap, saturate = found.rows
    assert (found.stage, found.samples, found.seed, found.accumulators, found.rules) == (
        1,
        1,
        None,
        [8],
        ["wrap", "saturate"],
    )
    for row in (wrap, saturate):
        (line,) = row.layers
        # 100, 200, 100 is transient; 300 and 180 are persistent; 60, 120, 60 fits
        assert (line.groups, line.transient, line.persistent, line.elsewhere) == (4, 1, 2, 0)
        assert (line.sums, line.elements) == (4, 4)
        assert not line.proven
        assert not line.observed
    # wraps: 300 to 44, 180 to -76; codes 50, 150, 30, 90 become 50, 22, 30, -38
    line = wrap.layers[0]
    assert (line.sum_mismatches, line.mismatches, line.max_lsb, line.sum_lsb) == (2, 2, 128, 256)
    assert line.mean_lsb == 64
    assert wrap.outputs == [OutputRow(wrap.outputs[0].name, 4, 2, 128.0, 128.0, float(np.sqrt(2 * 256**2 / 4)), 256.0)]
    # saturates at 127: 100 ends as 27, 300 and 180 as 127; code 13.5 goes to 14, 63.5 to 64
    line = saturate.layers[0]
    assert (line.sum_mismatches, line.mismatches, line.max_lsb, line.sum_lsb) == (3, 3, 86, 36 + 86 + 26)
    assert (saturate.outputs[0].mean_error, saturate.outputs[0].median_error, saturate.outputs[0].max_error) == (
        2 * 37.0,
        62.0,
        172.0,
    )


def test_from_which_width_on():
    """Sums up to 3 x 128 are proven in 10 bits, 300 is seen in 10, 180 wraps back nowhere below 9."""
    found = sweep(model(), inputs=X, accumulator=range(6, 13))
    assert found.safe_from() == [SafeFrom(found.rows[0].layers[0].name, r, 10, 10, 10) for r in ("wrap", "saturate")]
    small = sweep(model(), inputs={"x": X["x"] * np.float32(0.5)}, accumulator=range(6, 13))
    # 150 on the way and at the end needs 9 bits
    assert [(s.overflow, s.proven_from, s.observed_from, s.exact_from) for s in small.safe_from()] == [
        ("wrap", 10, 9, 9),
        ("saturate", 10, 9, 9),
    ]


def test_axes_one_after_another_or_as_a_grid():
    found = sweep(model(), inputs=X, accumulator=[8, 9], overflow=["wrap"], multiplier=[4, 8, 31])
    assert [r.configuration for r in found.rows] == [
        Configuration(8, "wrap"),
        Configuration(9, "wrap"),
        *(Configuration(multiplier=m) for m in (4, 8, 31)),
    ]
    assert found.multiplier_rounding == "fixed-point, rounded once, half_up (exact has scheme exact itself)"
    grid = sweep(model(), inputs=X, accumulator=[8, 9], overflow=["wrap"], multiplier=[4, 8], grid=True)
    assert [(r.configuration.accumulator, r.configuration.multiplier) for r in grid.rows] == [
        (8, 4),
        (9, 4),
        (8, 8),
        (9, 8),
    ]
    assert grid.safe_from()[0].proven_from is None
    only = sweep(model(), inputs=X, target="cpu-int32", multiplier=[6])
    assert (only.stage, only.multiplier_rounding) == (None, "fixed-point, two roundings")
    assert only.rows[0].layers[0].proven


def test_configured_targets():
    avx2 = Target.load("x86-avx2")
    chosen = configured(avx2, 0, Configuration(12, "wrap", 9))
    assert [(s.sum, s.bits, s.overflow) for s in chosen.stages] == [
        (2, 12, "wrap"),
        (2, 32, "wrap"),
        (None, 32, "wrap"),
    ]
    assert (chosen.requantize.scheme, chosen.requantize.multiplier_bits, str(chosen.requantize.rounding)) == (
        "fixed-point",
        9,
        "half_up",
    )
    assert chosen.operands == avx2.operands
    plain = configured(Target.load("exact"), 0, Configuration(7, "saturate"))
    assert [(s.sum, s.bits, s.overflow) for s in plain.stages] == [(None, 7, "saturate")]
    assert plain.requantize == Target.load("exact").requantize
    twice = configured(Target.load("cpu-int32"), 0, Configuration(multiplier=9)).requantize
    assert (twice.multiplier_bits, twice.double_rounding) == (9, True)
    assert configured(avx2, 0, Configuration()) == avx2
    assert checked_stage(avx2, None) == 2
    assert checked_stage(avx2, 1) == 0
    with pytest.raises(IntsimError, match=r"stage 4; target x86-avx2 has stages 1\.\.3"):
        checked_stage(avx2, 4)
    with pytest.raises(IntsimError, match="given by its packing"):
        checked_stage(Target.load("dsp48e2-int8"), 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([], ["wrap"], []), "nothing to vary"),
        (([0], ["wrap"], []), "accumulator width 0; allowed: 1..64"),
        (([65], ["wrap"], []), "accumulator width 65"),
        (([8], ["round"], []), "overflow rule 'round'; allowed: wrap, saturate"),
        (([8], [], []), "overflow rule none"),
        (([], ["wrap"], [3]), "multiplier width 3; allowed: 4..32"),
        (([], ["wrap"], [33]), "multiplier width 33"),
        (([8.0], ["wrap"], []), "accumulator width 8.0"),
        (([8], ["wrap"], [], True), "a grid needs two kinds of widths"),
    ],
)
def test_what_can_not_be_swept(arguments, words):
    with pytest.raises(IntsimError, match=words):
        configurations(*arguments)


class StopError(Exception):
    """An interruption."""


def stopping(after):
    """A progress report that interrupts before the sample after so many."""
    seen = []

    def say(text):
        if len(seen) == after:
            raise StopError
        seen.append(text)

    return say, seen


def rows(found):
    return [r.to_json() for r in found.rows]


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interrupted_sweep_goes_on(tmp_path, after):
    widths = {"accumulator": [7, 8, 9], "multiplier": [5]}
    whole = sweep(model(), inputs=X, **widths)
    folder = tmp_path / "deep" / "sweep"
    say, _ = stopping(after)
    with pytest.raises(StopError):
        sweep(model(), inputs=X, **widths, folder=folder, progress=say)
    assert folder.exists() == bool(after)
    if after:
        assert len((folder / "rows.jsonl").read_text().splitlines()) == 1 + after
    say, seen = stopping(99)
    again = sweep(model(), inputs=X, **widths, folder=folder, progress=say)
    assert len(seen) == 7 - after
    assert again.resumed == after
    assert rows(again) == rows(whole)
    say, seen = stopping(0)
    assert rows(sweep(model(), inputs=X, **widths, folder=folder, progress=say)) == rows(whole)
    # other widths of the same sweep are added to it
    wider = sweep(model(), inputs=X, accumulator=[8, 12], folder=folder)
    assert wider.resumed == 2
    assert len(wider.rows) == 4


def test_a_line_cut_off_is_forgotten(tmp_path):
    whole = sweep(model(), inputs=X, accumulator=[7, 8], folder=tmp_path)
    path = tmp_path / "rows.jsonl"
    text = path.read_text()
    path.write_text(text[:-40])
    again = sweep(model(), inputs=X, accumulator=[7, 8], folder=tmp_path)
    assert again.resumed == 3
    assert rows(again) == rows(whole)
    assert path.read_text() == text


def test_rows_survive_the_file():
    for row in sweep(model(), inputs=X, accumulator=[8], multiplier=[4]).rows:
        assert Row.from_json(json.loads(json.dumps(row.to_json()))) == row


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"model": model(1)}, "model"),
        ({"inputs": {"x": X["x"] + 1}}, "inputs"),
        ({"target": "cpu-int32"}, "target"),
        ({"target": "x86-avx2"}, "target"),
        ({"stage": 1}, "stage"),
    ],
)
def test_rows_of_another_sweep_are_refused(tmp_path, changes, what):
    arguments = {
        "model": model(),
        "inputs": X,
        "target": "x86-avx2" if what == "stage" else "exact",
        "accumulator": [8],
    }
    sweep(**arguments, folder=tmp_path)
    before = (tmp_path / "rows.jsonl").read_text()
    with pytest.raises(IntsimError, match=f"holds a sweep with another {what}; give another folder, or --restart"):
        sweep(**{**arguments, **changes}, folder=tmp_path)
    assert (tmp_path / "rows.jsonl").read_text() == before
    assert sweep(**{**arguments, **changes}, folder=tmp_path, restart=True).resumed == 0
    assert sweep(**{**arguments, **changes}, folder=tmp_path).resumed == 2


def test_the_same_target_under_another_name_goes_on(tmp_path):
    sweep(model(), inputs=X, accumulator=[8], folder=tmp_path)
    named = Target.load("exact").model_copy(update={"name": "other", "title": "another title"})
    assert sweep(model(), named, X, accumulator=[8], folder=tmp_path).resumed == 2


@pytest.mark.parametrize(
    "text", ["", "\n", "[]\n", "{}\nnot json\n", '{"format": "intsim-sweep-1"}\n{"a": 1}\n', "\udcff"]
)
def test_damaged_rows_are_refused(tmp_path, text):
    sweep(model(), inputs=X, accumulator=[8], folder=tmp_path)
    (tmp_path / "rows.jsonl").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(IntsimError, match=r"rows\.jsonl: "):
        sweep(model(), inputs=X, accumulator=[8], folder=tmp_path)
    assert sweep(model(), inputs=X, accumulator=[8], folder=tmp_path, restart=True).resumed == 0


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(IntsimError, match="is a file"):
        sweep(model(), inputs=X, accumulator=[8], folder=tmp_path / "file")
    with pytest.raises(IntsimError, match="is a file"):
        sweep(model(), inputs=X, accumulator=[8], folder=tmp_path / "file" / "below")
    with pytest.raises(IntsimError, match="doesn't fit the target's u4 operand"):
        sweep(model(), "dsp48e2-int4", X, accumulator=[8], folder=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_drawn_samples_and_json():
    found = intsim.sweep(model(), accumulator=[8, 12], samples=3, seed=4)
    content = found.to_json()
    assert (content["samples"], content["seed"], content["stage"]) == (3, 4, 1)
    assert json.loads(json.dumps(content)) == content
    assert content["nodes_run"] + content["nodes_reused"] == 4 * 3 * 2
    assert [r["accumulator"] for r in content["rows"]] == [8, 12, 8, 12]
    assert content["rows"][0]["layers"][0]["groups"] == 3 * 4


def test_codes_that_lose_bits():
    """Weights 1 and -1 have 2 bits and stay; inputs of 8 bits get 4: 100 is 6 of 16 (tie to even), 60 is 4."""
    (row,) = sweep(model(), inputs=X, activations=[4], weights=[2]).rows[1:]
    assert row.configuration == Configuration(activations=4)
    # 6 + 6 - 6 and 18, 4 and 12, of 16; the result's 10 bits in steps of 2 become 4 in steps of 128: 96, 288, 64, 192
    # are 0.75, 2.25, 0.5 and 1.5 of them, so 1, 2, 0 and 2; against 100, 300, 60 and 180
    gaps = np.abs(np.array([128, 256, 0, 256]) - [100, 300, 60, 180])
    assert row.outputs == [
        OutputRow(row.outputs[0].name, 4, 4, gaps.mean(), np.median(gaps), float(np.sqrt((gaps**2).mean())), gaps.max())
    ]
    assert [x.mismatches for x in row.layers] == [0]  # against the exact run of these codes
    whole = sweep(model(), inputs=X, activations=[16]).rows[0]
    assert whole.outputs[0].mismatches == 0


def test_every_axis_is_that_of_its_own_run(tmp_path):
    """Rows of a grid over codes, targets and models are those of sweeps of each alone."""
    other = tmp_path / "other.onnx"
    net = Net()
    x = net.quant(net.input(2, 3), 1, 0, 8)
    w = net.quant(np.float32([[1, 0], [1, 1], [-1, 1]]), 1, 0, 2)
    onnx.save(net.model(net.quant(net.node("MatMul", x, w), 2, 0, 10)), other)
    inputs = {net.inputs[0].name: X["x"]}
    base = tmp_path / "base.onnx"
    onnx.save(model().lowered.source.proto, base)
    names = ["exact", "cpu-int32"]
    varied = {"accumulator": [8, 9], "overflow": ["wrap"], "activations": [5, 6]}
    found = sweep(base, inputs=inputs, targets=names, models=[base, other], grid=True, **varied)
    assert len(found.rows) == 16
    for row in found.rows:
        c = row.configuration
        alone = sweep(
            c.model,
            c.target,
            inputs,
            accumulator=[c.accumulator],
            overflow=["wrap"],
            activations=[c.activations],
            grid=True,
        )
        assert replace(alone.rows[0], configuration=c, run=row.run, reused=row.reused) == row
    assert len({str(r.outputs) for r in found.rows}) > 2


def test_axes_resume_together_and_not_with_another_file(tmp_path):
    base, other = tmp_path / "a.onnx", tmp_path / "b.onnx"
    for path in (base, other):
        onnx.save(model().lowered.source.proto, path)
    first = sweep(base, inputs=X, models=[other], weights=[2], folder=tmp_path / "out")
    again = sweep(base, inputs=X, models=[other], weights=[2], folder=tmp_path / "out")
    assert (again.resumed, rows(again)) == (1, rows(first))
    onnx.save(model(zero=3).lowered.source.proto, other)
    with pytest.raises(IntsimError, match="another models"):
        sweep(base, inputs=X, models=[other], weights=[2], folder=tmp_path / "out")
