"""Who is to blame when a float executor differs: its own rounding, the target's requantizer, the target's registers."""

from fractions import Fraction

import numpy as np
import onnx
import pytest
from frontend.build import Net
from hypothesis import given, settings
from hypothesis import strategies as st

import intsim
from intsim.targets import Target
from intsim.verification.causes import Causes
from intsim.verification.exact_file import ExactFile
from intsim.verification.executors import by_onnxruntime, by_qonnx
from intsim.verification.judge import judge, judge_end
from intsim.verification.verdict import BLAMES, ReferenceVerdict


def blame(**counts: int) -> dict[str, int]:
    return dict.fromkeys(BLAMES, 0) | counts


def false_tie() -> tuple[int, np.float32, Fraction]:
    """An integer and a float32 scale whose float32 quotient is a tie that rounds otherwise than the exact one."""
    for n in range(3, 128):
        for k in range(n // 2):
            scale = np.float32(n / (k + 0.5))
            exact = Fraction(n) / Fraction(float(scale))
            if np.float32(n) / scale == k + 0.5 and exact != Fraction(2 * k + 1, 2) and round(exact) != round(k + 0.5):
                return n, scale, exact
    raise AssertionError("no such quotient")


def tie_network() -> tuple[onnx.ModelProto, dict[str, np.ndarray], Fraction]:
    """Integers, a Quant whose float32 division lands on a false tie, and two layers that carry the error on."""
    n, scale, exact = false_tie()
    net = Net()
    x = net.quant(net.input(1, 1, 1, 4), 1, 0, 8)
    y = net.quant(x, scale, 0, 8)
    w = net.quant(np.ones((1, 1, 1, 1), np.float32), 1, 0, 2)
    a = net.quant(net.node("Conv", y, w, kernel_shape=[1, 1]), scale, 0, 9)
    b = net.quant(net.node("Conv", a, w, kernel_shape=[1, 1]), scale, 0, 10)
    return net.model(b), {"x": np.float32([0, 0, n, 0]).reshape(1, 1, 1, 4)}, exact


@pytest.fixture(scope="module")
def tie_verdict():
    model, x, exact = tie_network()
    return intsim.verify(model, "exact", x, reference_timeout=60), exact


@pytest.mark.parametrize("kind", ["qonnx", "onnxruntime"])
def test_a_false_tie_is_float_rounding_and_counted_once(tie_verdict, kind):
    found, exact = tie_verdict
    assert found.holds
    assert found.first_divergence is None
    report = found.references[kind]
    assert report.reason is None
    assert report.mismatches == 1
    assert report.blame == blame(float_rounding=1)
    assert (report.judged, report.max_lsb, report.off_grid) == (4 * 4 + 1, 1, 0)  # four tensors and the weight
    at = report.first_divergence
    assert at["exact"] == f"{exact.numerator}/{exact.denominator}"
    assert at["exact_approx"] == float(exact)
    assert (at["position"], at["channel"], at["blame"]) == ([0, 0, 0, 2], 0, "float_rounding")
    assert at["expected"] == round(exact)
    assert at["got"] == round(float(np.float32(float(exact))))
    # end to end the later layers differ as well
    assert report.result == {"judged": 4, "mismatches": 1, "max_lsb": 1}


def halving() -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Accumulators 1, 2, 3, 5 halved: ties at 0.5, 1.5 and 2.5."""
    net = Net()
    x = net.quant(net.input(1, 1, 1, 4), 1, 0, 8)
    w = net.quant(np.ones((1, 1, 1, 1), np.float32), 1, 0, 2)
    y = net.quant(net.node("Conv", x, w, kernel_shape=[1, 1]), 2, 0, 8)
    return net.model(y), {"x": np.float32([1, 2, 3, 5]).reshape(1, 1, 1, 4)}


def test_a_tie_of_gemmlowp_is_the_requantizers():
    """0.5 and 2.5 go away from zero in gemmlowp, to even in the file; 1.5 goes to 2 in both."""
    model, x = halving()
    found = intsim.verify(model, "cpu-int32", x, reference_timeout=60)
    assert found.verdict == "diverges"
    assert found.overflows == 0
    (layer,) = (x for x in found.layers if x.op == "Conv")
    assert (layer.mismatches, layer.born, layer.max_lsb) == (2, 2, 1)
    at = found.first_divergence
    assert (at["expected"], at["got"], at["position"], at["blame"]) == (0, 1, [0, 0, 0, 0], "requantizer")
    for report in found.references.values():
        assert report.reason is None
        assert report.mismatches == 2
        assert report.blame == blame(requantizer=2)
        assert report.first_divergence["blame"] == "requantizer"
        assert (report.first_divergence["expected"], report.first_divergence["got"]) == (1, 0)
        assert report.first_divergence["exact"] == "1/2"


def loud(bare: bool = False) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """255 x 127 + 255 x 127 in one place, small sums elsewhere."""
    net = Net()
    x = net.quant(net.input(1, 2, 2, 2), 1, 0, 8, signed=0)
    weight = np.float32([[1, 1], [127, 127]]).reshape(2, 2, 1, 1)
    acc = net.node("Conv", x, net.quant(weight, 1, 0, 8, narrow=1), kernel_shape=[1, 1])
    values = np.ones((1, 2, 2, 2), np.float32)
    values[0, :, 1, 0] = 255
    return net.model(acc if bare else net.quant(acc, 256, 0, 8, signed=0)), {"x": values}


@pytest.mark.parametrize("bare", [False, True])
def test_an_overflow_is_the_registers(bare):
    model, x = loud(bare)
    found = intsim.verify(model, "x86-avx2", x, reference_timeout=60)
    assert found.overflows == 1
    for report in found.references.values():
        assert report.reason is None
        assert report.blame == blame(overflow=1)
        at = report.first_divergence
        assert (at["position"], at["channel"], at["blame"]) == ([0, 1, 1, 0], 1, "overflow")
        assert (at["expected"], at["got"]) == ((32767, 64770) if bare else (128, 253))


# --- the judge alone, on values that an executor might have had ---------------------------------------------------


def network(seed: int, loud: bool = True) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Two convolutions: loud weights (overflow on AVX2) with coarse scales, or small sums with a tie in every other."""
    rng = np.random.default_rng(seed)
    net = Net()
    x = net.quant(net.input(1, 4, 3, 3), 1, int(rng.integers(0, 5)), 8, signed=0)
    for outputs in (3, 2):
        shape = (outputs, 4 if outputs == 3 else 3, 2, 2)
        w = net.quant(np.float32(rng.integers(-128, 128, shape) if loud else rng.integers(-1, 3, shape)), 1, 0, 8)
        x = net.node("Conv", x, w, kernel_shape=[2, 2])
        x = net.quant(x, np.float32(rng.choice([64, 100, 128, 96.5]) if loud else 2), 0, 8, signed=0)
    return net.model(x), {"x": np.float32(rng.integers(0, 256 if loud else 6, (1, 4, 3, 3)))}


def judged(model, sample, tensors, name: str) -> ReferenceVerdict:
    loaded = intsim.load(model)
    report = ReferenceVerdict()
    found = ExactFile(loaded).run(sample, tensors)
    causes = Causes(ExactFile(loaded).proto)
    judge(report, found, loaded.graph, loaded.integer_inputs(sample), Target.load(name), causes)
    return report


@settings(max_examples=max(settings().max_examples // 3, 8))
@given(
    st.integers(0, 2**32),
    st.sampled_from([n for n in Target.names() if not Target.load(n).when]),
    st.integers(0, 3),
    st.booleans(),
)
def test_blame_is_complete(seed, name, flips, loud):
    """Whatever an executor had: blame adds up, counts are those of a comparison written out, flips are found."""
    model, sample = network(seed, loud)
    loaded = intsim.load(model)
    exact = ExactFile(loaded).run(sample)
    rng = np.random.default_rng(seed)
    tensors = {n: np.asarray(exact.value(n)).copy() for n in exact.codes}
    flipped = list(tensors)[-1]
    flips = min(flips, tensors[flipped].size)
    places = rng.choice(tensors[flipped].size, flips, replace=False)
    low = exact.codes[flipped].reshape(-1)
    for p in places:
        tensors[flipped].reshape(-1)[p] += float(np.asarray(exact.scale[flipped]).reshape(-1)[0]) * (
            1 if low[p] < 255 else -1
        )
    try:
        report = judged(model, sample, tensors, name)
    except intsim.IntsimError:
        assert name != "exact"  # a scale that the target's requantizer doesn't take
        return
    assert sum(report.blame.values()) == report.mismatches
    assert tuple(report.blame) == BLAMES
    assert report.judged == sum(exact.codes[n].size for n in tensors)
    assert (report.first_divergence is None) == (report.mismatches == 0)
    if name == "exact":
        assert report.mismatches == report.blame["float_rounding"] + report.blame["executor"] == flips
    if not Target.load(name).stages:
        assert report.blame["overflow"] == 0
    if Target.load(name).requantize.scheme == "exact":
        assert report.blame["requantizer"] == 0


@pytest.mark.parametrize("name", ["x86-avx2", "cpu-int32"])
def test_blame_against_the_run_itself(name):
    """With executors that had exact values, blame is what the target does to each layer's exact inputs."""
    totals = dict.fromkeys(BLAMES, 0)
    for seed in range(12):
        model, sample = network(seed, name == "x86-avx2")
        loaded = intsim.load(model)
        exact = ExactFile(loaded).run(sample)
        report = judged(model, sample, {n: exact.value(n) for n in exact.codes}, name)
        run, truth = loaded.run(sample, name, keep=True), loaded.run(sample, "exact", keep=True)
        first = next(n.output for n in loaded.graph.nodes if n.op == "requantize")
        wrong = int((run.tensors[first] != truth.tensors[first]).sum())
        assert report.mismatches >= wrong
        for cause in BLAMES:
            totals[cause] += report.blame[cause]
    assert totals["float_rounding"] == 0
    assert totals["overflow" if name == "x86-avx2" else "requantizer"] > 0
    assert totals["requantizer" if name == "x86-avx2" else "overflow"] == 0


@pytest.mark.parametrize("execute", [by_qonnx, by_onnxruntime])
def test_executors_in_process_have_no_other_fault(execute):
    """The executors' own values of random networks: every difference from exact is a false tie, blamed as such."""
    for seed in range(4):
        model, sample = network(seed)
        loaded = intsim.load(model)
        wanted = [*ExactFile(loaded).reference.quantizers]
        copied = onnx.ModelProto()
        copied.CopyFrom(model)
        report = judged(model, sample, execute(copied, dict(sample), wanted), "exact")
        assert report.mismatches == report.blame["float_rounding"] <= 1
        assert report.off_grid == 0


def test_bare_accumulators():
    """The end of a graph without a quantizer: exact against exact, target against target."""
    report = ReferenceVerdict()
    had, exact = np.array([[10, 20, 30]]), np.array([[10, 21, 30]])
    judge_end(report, "y", had, exact, None, np.array([[True, True, True]]))
    assert (report.judged, report.mismatches, report.max_lsb) == (3, 1, 1)
    assert report.blame == blame(float_rounding=1)
    assert report.first_divergence["position"] == [0, 1]
    report = ReferenceVerdict()
    judge_end(report, "y", had, exact, np.array([[10, 21, 7]]), had == had)
    assert report.blame == blame(float_rounding=1, overflow=1)
    assert report.max_lsb == 23
    report = ReferenceVerdict()
    judge_end(report, "y", had, had, had, had == had)
    assert (report.mismatches, report.first_divergence) == (0, None)
