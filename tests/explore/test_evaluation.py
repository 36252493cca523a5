"""Evaluating with all that is known gives the integers, and the counts, of running everything."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from frontend.build import Net

import intsim
from intsim.engine.run import run_graph
from intsim.engine.telemetry.demand import above
from intsim.errors import IntsimError
from intsim.explore import evaluation
from intsim.explore.configuration import Configuration, checked_stage, configured
from intsim.explore.evaluation import Evaluation
from intsim.explore.telemetry import Seen
from intsim.inputs import draw
from intsim.proofs.bounds import bounds
from intsim.targets import Target
from intsim.testing.graphs import qonnx_models

ZOO = Path(__file__).resolve().parents[2] / "models" / "zoo"
RNG = np.random.default_rng(5)


def target(stages=(), scheme=None, bias="after", operands=None, name="t"):
    tables = [{"sum": "rest" if s is None else s, "bits": b, "overflow": o, "lanes": n} for s, b, o, n in stages]
    content = {
        "title": "t",
        "source": ["s"],
        "accumulate": {"stages": tables, "bias": bias},
        "requantize": scheme or {"scheme": "exact"},
    }
    if operands:
        content["operands"] = {"activation": operands[0], "weight": operands[1]}
    return Target.model_validate({**content, "name": name})


FIXED = {"scheme": "fixed-point", "multiplier_bits": 12, "rounding": "half_up"}
TWICE = {"scheme": "fixed-point", "multiplier_bits": 32, "double_rounding": True}
TARGETS = {
    "unbounded": target(),
    "plain": target([(None, 16, "wrap", 1)], bias="preload"),
    "pairs": target([(2, 12, "saturate", 1), (2, 16, "wrap", 1), (None, 18, "wrap", 1)]),
    "lanes": target([(None, 10, "wrap", 4), (None, 16, "saturate", 1)], FIXED),
    "operands": target([(None, 18, "saturate", 1)], FIXED, operands=("s16", "s16")),
    "twice": target([(None, 14, "wrap", 1)], TWICE),
    "packed": Target.load("dsp48e2-int8"),
}
FITS = ("doesn't fit", "do not fit", "does not fit", "bits", "32-bit", "zero point for each channel", "precondition")


def full(model, sample, chosen):
    """Every node on the configured target, and what its registers would have needed."""
    codes = model.integer_inputs(sample)
    seen = Seen(model.graph, chosen)
    run = run_graph(model.graph, codes, chosen, keep=True, watch=seen.watch)
    return run, seen.demand


def compare(model, samples, start, stage, configuration, evaluate=None):
    """One configuration both ways; returns the row, or None where either refuses."""
    chosen = configured(start, stage, configuration)
    exact = Target.load("exact")
    try:
        runs = [full(model, s, chosen) for s in samples]
    except IntsimError as error:
        if any(word in str(error) for word in FITS):
            return None
        raise
    evaluate = evaluate or Evaluation(model, start, stage, samples)
    row = evaluate(configuration)
    truth = [run_graph(model.graph, model.integer_inputs(s), exact, keep=True) for s in samples]
    for i, (run, _) in enumerate(runs):
        known = evaluate.known(i, configuration, evaluate.exact(i))
        mine = {**known.tensors, **evaluate.rerun(chosen, known, evaluate.proofs(chosen)).changed}
        for name, value in run.tensors.items():
            np.testing.assert_array_equal(mine[name], value, err_msg=f"{name} on {configuration}")
    outputs = {n: model.graph.tensors[n] for n in model.graph.tensors}
    for line, layer in zip(row.layers, evaluate.layers, strict=True):
        gaps = [
            np.abs(t.tensors[layer.tensor].astype(object) - r.tensors[layer.tensor].astype(object))
            for t, (r, _) in zip(truth, runs, strict=True)
        ]
        assert line.elements == sum(g.size for g in gaps)
        assert line.mismatches == sum(int((g > 0).sum()) for g in gaps)
        assert line.max_lsb == max(int(g.max()) for g in gaps)
        assert line.sum_lsb == sum(int(g.sum()) for g in gaps)
        sums = [evaluate.macs[m].output for m in layer.macs]
        assert line.sums == len(samples) * sum(int(np.prod(outputs[s].shape)) for s in sums)
        wrong = sum(
            int((t.tensors[s] != r.tensors[s]).sum()) for t, (r, _) in zip(truth, runs, strict=True) for s in sums
        )
        assert line.sum_mismatches == wrong
        count = {"transient": 0, "persistent": 0, "elsewhere": 0, "groups": 0}
        for _, demand in runs:
            for mac in layer.macs:
                for s, register in enumerate(chosen.stages):
                    partial, final = (int(above(a[:, s].sum(0), register.bits)) for a in demand[mac][2:])
                    if configuration.accumulator is not None and s != stage:
                        count["elsewhere"] += partial
                        continue
                    count["groups"] += int(demand[mac].partial[:, s].sum())
                    count["persistent"] += final
                    count["transient"] += partial - final
        assert {k: getattr(line, k) for k in count} == count, (line.name, configuration)
        assert line.overflowing == line.transient + line.persistent
        reads = [n for m in layer.macs for n in evaluate.macs[m].inputs]
        inside = all(
            outputs[n].low <= r.tensors[n].min() and r.tensors[n].max() <= outputs[n].high
            for r, _ in runs
            for n in reads
        )
        # the engine counts nothing in channels whose proof speaks of other inputs
        if inside and start.registers.packing is None:
            assert line.observed == (not any(r.events[m].any() for r, _ in runs for m in layer.macs)), line
    assert row.run + row.reused == len(samples) * len(model.graph.nodes)
    return row


CONFIGURATIONS = st.builds(
    lambda n, rule, m: Configuration(n, rule if n else None, m),
    st.one_of(st.integers(2, 14), st.none(), st.sampled_from([16, 20, 24, 32, 48])),
    st.sampled_from(["wrap", "saturate"]),
    st.sampled_from([None, None, 4, 8, 16, 31]),
)


@given(qonnx_models(), st.data())
def test_random_graphs_as_if_everything_had_run(case, data):
    start = TARGETS[data.draw(st.sampled_from(sorted(TARGETS)), label="target")]
    stage = checked_stage(start, data.draw(st.sampled_from([None, len(start.stages) or 1]), label="stage"))
    try:
        model = intsim.load(case.model)
    except IntsimError:
        assume(False)
    other = {n: np.asarray(v) + np.float32(0.25) for n, v in case.inputs.items()}
    samples = [case.inputs, other][: data.draw(st.integers(1, 2))]
    evaluate = Evaluation(model, start, stage, samples)
    for configuration in data.draw(st.lists(CONFIGURATIONS, min_size=2, max_size=3)):
        compare(model, samples, start, stage, configuration, evaluate)


def deep():
    """All kinds of layers in a row: convolutions, depthwise, transposed, products, residual, pool, concatenation."""
    net = Net()

    def weights(*shape):
        return net.quant(np.float32(RNG.integers(-7, 8, shape) / 8), 0.125, 0, 4, narrow=1)

    x = net.quant(net.input(1, 2, 6, 6), 0.25, 0, 6)
    a = net.quant(net.node("Relu", net.node("Conv", x, weights(4, 2, 3, 3), pads=[1] * 4)), 0.5, 0, 6, signed=0)
    b = net.quant(net.node("Conv", a, weights(4, 1, 3, 3), np.float32([1, -2, 3, 0]), group=4, pads=[1] * 4), 0.5, 0, 6)
    c = net.quant(net.node("Add", a, b), 0.5, 0, 6)
    d = net.quant(net.node("ConvTranspose", net.node("MaxPool", c, kernel_shape=[2, 2], strides=[2, 2]),
                           weights(4, 2, 2, 2), strides=[2, 2]), 0.5, 0, 6)  # fmt: skip
    e = net.node("Concat", c, d, axis=1)
    f = net.quant(net.node("Conv", e, weights(3, 6, 1, 1)), 1, 0, 6)
    g = net.quant(net.node("MatMul", f, net.node("Transpose", f, perm=[0, 1, 3, 2])), 16, 0, 6)
    h = net.quant(net.node("MatMul", g, weights(6, 5)), 2, 0, 8)
    return intsim.load(net.model(h)), [{"x": np.float32(RNG.integers(-32, 32, (1, 2, 6, 6)) / 4)} for _ in range(2)]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "lanes")) for n in sorted(TARGETS)])
def test_every_width_of_a_network_of_all_layers(name):
    model, samples = deep()
    start = TARGETS[name]
    stage = checked_stage(start, None)
    evaluate = Evaluation(model, start, stage, samples)
    words = set()
    for width in (5, 8, 11, 24):
        for rule in ("wrap", "saturate"):
            row = compare(model, samples, start, stage, Configuration(width, rule), evaluate)
            assert row is not None
            words.add("proven" if row.proven else "observed" if row.observed else "overflows")
    assert "overflows" in words
    for multiplier in (4, 12, 32):
        assert compare(model, samples, start, stage, Configuration(multiplier=multiplier), evaluate) is not None
        assert compare(model, samples, start, stage, Configuration(9, "wrap", multiplier), evaluate) is not None


def there_and_back():
    """One sum that goes up to 4 x 12 and back to 0: a wrapping register forgets what it lost on the way."""
    net = Net()
    x = net.quant(net.input(1, 4), 1, 0, 6)
    w = net.quant(np.float32([[2], [2], [-2], [-2]]), 1, 0, 4)
    return intsim.load(net.model(net.quant(net.node("MatMul", x, w), 1, 0, 8))), [{"x": np.float32([[12] * 4])}]


@pytest.mark.parametrize("network", [deep, there_and_back])
def test_nothing_runs_that_one_pass_answers(network, monkeypatch):
    """The node runs of each width on an exact requantizer: none where no final sum, or no sum, is too wide."""
    model, samples = network()
    ran = []
    real = evaluation.run_among
    monkeypatch.setattr(evaluation, "run_among", lambda g, n, a, t: ran.append(n.name) or real(g, n, a, t))
    evaluate = Evaluation(model, Target.load("exact"), 0, samples)
    seen = set()
    for width in range(4, 18):
        for rule in ("wrap", "saturate"):
            ran.clear()
            row = evaluate(Configuration(width, rule))
            assert row.run == len(ran)
            persistent, overflowing = (sum(getattr(x, k) for x in row.layers) for k in ("persistent", "overflowing"))
            assert bool(ran) == bool(persistent if rule == "wrap" else overflowing), (width, rule)
            if not ran:
                assert row.reused == len(samples) * len(model.graph.nodes)
            seen.add((rule, bool(ran), bool(overflowing)))
    assert {("saturate", True, True), ("wrap", False, False)} <= seen
    assert (("wrap", False, True) in seen) == (network is there_and_back)


def test_only_what_follows_a_change_runs():
    """A change in the last layer leaves all before it alone."""
    model, samples = deep()
    evaluate = Evaluation(model, Target.load("exact"), 0, samples)
    last = [n for n in model.graph.nodes if n.name in evaluate.macs][-1]
    known = evaluate.exact(0)
    counts = evaluate.counts(last, configured(Target.load("exact"), 0, Configuration(8, "wrap")), known)
    for name in evaluate.macs:
        if name != last.name:
            known.counts[name] = counts._replace(partial=counts.partial * 0, final=counts.final * 0)
    chosen = configured(Target.load("exact"), 0, Configuration(3, "wrap"))
    done = evaluate.rerun(chosen, known, evaluate.proofs(chosen))
    order = [n.name for n in model.graph.nodes]
    assert done.run == len(order) - order.index(last.name)


def test_runs_that_are_not_kept_are_repeated(monkeypatch):
    model, samples = deep()
    points = [Configuration(8, "saturate"), Configuration(9, "wrap", 6), Configuration(9, "wrap", 7)]
    keeping = Evaluation(model, TARGETS["plain"], 0, samples)
    kept = [Evaluation(model, TARGETS["plain"], 0, samples)(p) for p in points]
    monkeypatch.setattr(evaluation, "MOST_BYTES", 0)
    forgetful = Evaluation(model, TARGETS["plain"], 0, samples)
    assert [forgetful(p) for p in points] == kept
    for evaluate, repeats in ((keeping, False), (forgetful, True)):
        monkeypatch.setattr(evaluation, "MOST_BYTES", 0 if repeats else 1 << 30)
        exact = evaluate.exact(0)
        assert (evaluate.exact(0) is not exact) == repeats
        first, again = (evaluate.known(0, points[1], exact) for _ in range(2))
        assert (first is not again) == repeats


def test_proofs_are_those_of_bounds():
    """The stereo network, every width from 8 to 32, both rules, and a chain of registers."""
    model = intsim.load(ZOO / "h3dispnet_w8a8.qonnx.onnx")
    for start, stage in ((Target.load("exact"), 0), (Target.load("x86-avx2"), 2)):
        evaluate = Evaluation(model, start, stage, [])
        widths = range(8, 33) if stage == 0 else (16, 22, 24)
        for width in widths:
            chosen = configured(start, stage, Configuration(width, "saturate" if width % 2 else "wrap"))
            proven = evaluate.proofs(chosen)
            mine = [proven[n.name] for n in model.graph.nodes if n.name in proven]
            assert mine == [x.safe for x in bounds(model, chosen).layers], width


@pytest.mark.slow
def test_the_stereo_network_at_every_width():
    """Proven widths agree with the proofs, observed ones contain them, and the integers are those of a full run."""
    model = intsim.load(ZOO / "h3dispnet_w8a8.qonnx.onnx")
    found = intsim.sweep(model, accumulator=range(8, 33))
    assert len(found.rows) == 50
    for row in found.rows:
        chosen = configured(Target.load("exact"), 0, row.configuration)
        safe = [x.safe for x in bounds(model, chosen).layers]
        assert [x.proven for x in row.layers if x.sums] == safe
        assert all(x.observed for x in row.layers if x.proven or row.proven)
        if row.configuration.accumulator in (12, 18, 20, 21):
            evaluate = Evaluation(model, Target.load("exact"), 0, [draw(model, 0)])
            assert compare(model, [draw(model, 0)], Target.load("exact"), 0, row.configuration, evaluate) == row


def test_the_bias_of_a_requantizer_meets_the_narrow_register():
    """A sum of 100 fits 8 bits; with the requantizer's own bias of 60, in the same register, it does not."""
    net = Net()
    x = net.quant(net.input(1, 1), 1, 0, 8)
    sums = net.node("MatMul", x, net.quant(np.float32([[1]]), 1, 0, 2))
    made = net.node("Add", net.node("Mul", sums, np.float32(0.5)), np.float32(30))
    model, sample = intsim.load(net.model(net.quant(made, 1, 0, 8))), {"x": np.float32([[100]])}
    assert [n.op for n in model.graph.nodes] == ["matmul", "requantize"]
    evaluate = Evaluation(model, target(scheme=FIXED), 0, [sample])
    for rule, code in (("wrap", -48), ("saturate", 64)):
        row = compare(model, [sample], target(scheme=FIXED), 0, Configuration(8, rule), evaluate)
        assert row is not None
        line = row.layers[0]
        assert (line.sum_mismatches, line.overflowing, line.max_lsb) == (0, 0, 80 - code)


def test_a_proof_covers_what_an_overflow_before_makes():
    """Codes 0..255, less 200, fit 9 bits. A sum of 256 that wraps to -256 is a code of -128, which no exact sum is."""
    net = Net()
    x = net.quant(net.input(1, 2), 1, 0, 8, signed=0)
    codes = net.quant(net.node("MatMul", x, net.quant(np.float32([[1], [1]]), 1, 0, 2)), 2, 0, 16)
    last = net.node("Gemm", codes, net.quant(np.float32([[1]]), 1, 0, 2), np.float32([-400]))
    model, sample = intsim.load(net.model(net.quant(last, 2, 0, 16))), {"x": np.float32([[255, 1]])}
    evaluate = Evaluation(model, target(), 0, [sample])
    first, second = (n for n in model.graph.nodes if n.name in evaluate.macs)
    assert (model.graph.tensors[second.output].low, model.graph.tensors[second.output].high) == (-200, 55)
    proofs = {bits: evaluate.proofs(configured(target(), 0, Configuration(bits, "wrap"))) for bits in (9, 10)}
    assert proofs == {9: {first.name: False, second.name: False}, 10: {first.name: True, second.name: True}}
    row = evaluate(Configuration(9, "wrap"))
    assert [line.overflowing for line in row.layers] == [1, 1]
