"""Whole graphs: against a dumb twin in Fractions, against QONNX's executor, and what is refused."""

import importlib.resources
from fractions import Fraction

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

from intsim.errors import IntsimError
from intsim.verification.reference import Reference

from .twins import (
    BASE,
    TYING_SCALES,
    as_float32,
    exactly,
    model,
    modes,
    quant_node,
    repeatable,
    seeds,
    twin_conv,
    twin_quant,
)

node = helper.make_node


class Build:
    """A random chain of layers as ONNX nodes, and the same in Fractions."""

    def __init__(self, rng, mode):
        self.rng, self.mode = rng, mode
        self.nodes, self.fixed, self.want = [], {}, {}
        self.count = 0

    def name(self):
        self.count += 1
        return f"t{self.count}"

    def constant(self, array):
        name = f"c{len(self.fixed)}"
        self.fixed[name] = np.asarray(array, np.float32)
        return name

    def scale(self, shape=()):
        return as_float32(self.rng.choice(TYING_SCALES, shape))

    def quant(self, x, values, bits, shape=(), zero=0):
        scale, zero = self.scale(shape), np.float32(zero)
        out = self.name()
        names = [x, self.constant(scale), self.constant(zero), self.constant(bits)]
        self.nodes.append(quant_node(names, out, rounding_mode=self.mode))
        codes = twin_quant(values, exactly(scale), exactly(zero), bits, mode=self.mode)
        self.want[out] = codes
        return out, (codes - exactly(zero)) * exactly(scale)

    def op(self, op, x, values, *others, **attrs):
        out = self.name()
        self.nodes.append(node(op, [x, *others], [out], **attrs))
        return out, np.asarray(values, object)

    def layer(self, kind, x, values):
        rng, channels = self.rng, values.shape[1]
        if kind in ("conv", "depthwise"):
            group = channels if kind == "depthwise" else 1
            w = (rng.standard_normal((2 if group == 1 else channels, channels // group, 2, 2)) * 0.3).astype(np.float32)
            name = self.constant(w)
            shape = (len(w), 1, 1, 1) if rng.random() < 0.5 else ()
            name, weights = self.quant(name, exactly(w), 4, shape)
            bias = (rng.integers(-3, 4, len(w)) * 0.25).astype(np.float32)
            out = twin_conv(values, weights, [1, 1], [1, 1], [1, 0, 0, 1], group) + exactly(bias).reshape(-1, 1, 1)
            return self.op("Conv", x, out, name, self.constant(bias), pads=[1, 0, 0, 1], group=group)
        if kind == "pool":
            out = twin_conv(values, np.full((channels, 1, 2, 2), Fraction(1, 4)), [1, 1], [1, 1], [0] * 4, channels)
            return self.op("AveragePool", x, out, kernel_shape=[2, 2])
        if kind == "batchnorm":
            gamma, beta, mean = (rng.integers(-4, 5, channels).astype(np.float32) / 4 for _ in range(3))
            var = rng.integers(1, 9, channels).astype(np.float32)
            # the one rounding: 1 / sqrt(variance + epsilon) in float64
            r = exactly(1.0 / np.sqrt(var.astype(np.float64) + float(np.float32(1e-3))))
            per = [exactly(a).reshape(-1, 1, 1) for a in (gamma, beta, mean)]
            out = (values - per[2]) * r.reshape(-1, 1, 1) * per[0] + per[1]
            names = [self.constant(a) for a in (gamma, beta, mean, var)]
            return self.op("BatchNormalization", x, out, *names, epsilon=float(np.float32(1e-3)))
        if kind == "relu":
            return self.op("Relu", x, np.maximum(values, Fraction(0)))
        if kind == "leaky":
            alpha = Fraction(float(np.float32(0.1)))
            return self.op("LeakyRelu", x, np.where(values >= 0, values, values * alpha), alpha=float(alpha))
        if kind == "clip":
            low, high = as_float32(Fraction(-1)), as_float32(BASE * 15)
            names = [self.constant(low), self.constant(high)]
            return self.op("Clip", x, np.minimum(np.maximum(values, exactly(low)), exactly(high)), *names)
        if kind == "residual":
            other, real = self.quant(x, values, 4)
            return self.op("Add", x, values + real, other)
        factor = self.scale()
        return self.op("Mul", x, values * exactly(factor), self.constant(factor))


KINDS = st.sampled_from(["conv", "depthwise", "pool", "batchnorm", "relu", "leaky", "clip", "residual", "scale"])


@repeatable(150)
@given(seeds, modes, st.lists(st.tuples(KINDS, st.booleans()), min_size=1, max_size=4), st.integers(-2, 2))
def test_random_graphs_against_fractions(seed, mode, kinds, zero):
    rng = np.random.default_rng(seed)
    build = Build(rng, mode)
    data = (rng.integers(-30, 31, (1, 2, 3, 3)) * np.float32(0.05)).astype(np.float32)
    x, values = build.quant("x", exactly(data), 5, zero=zero)
    for kind, then in kinds:
        if kind == "pool" and min(values.shape[2:]) < 2:
            continue
        x, values = build.layer(kind, x, values)
        if then:
            x, values = build.quant(x, values, 6, zero=zero)
    x, values = build.quant(x, values, 8)
    made = model(build.nodes, [("x", data.shape)], [x], build.fixed)
    run = Reference(made).run({"x": data})
    assert set(run.codes) == set(build.want)
    for name, want in build.want.items():
        assert run.codes[name].tolist() == want.tolist(), name
    assert [run.exact(x, i) for i in range(values.size)] == list(values.flat)
    assert all(run.single[n] <= run.ties[n] <= run.codes[n].size for n in run.codes)


def dense(scale_in=0.5, scale_out=1.0):
    """Quant -> MatMul with a quantized weight -> Quant."""
    fixed = {
        "si": np.float32(scale_in), "so": np.float32(scale_out), "z": np.float32(0), "b": np.float32(4),
        "w": np.array([[1.0, -0.5], [0.5, 0.25]], np.float32), "sw": np.float32(0.25),
    }  # fmt: skip
    nodes = [
        quant_node(["x", "si", "z", "b"], "xq"),
        quant_node(["w", "sw", "z", "b"], "wq"),
        node("MatMul", ["xq", "wq"], ["m"]),
        quant_node(["m", "so", "z", "b"], "y"),
    ]
    return model(nodes, [("x", [1, 2])], ["y"], fixed)


def test_given_tensors_judge_each_quantizer_on_its_own_inputs():
    ref = Reference(dense())
    x = np.array([[1.0, 2.0]], np.float32)
    own = ref.run({"x": x})
    assert own.codes["y"].tolist() == [[2, 0]]  # 2 and 0: 1 + 1 and -0.5 + 0.5
    assert not own.off_grid
    # the executor had 3 instead of 4 as the code of 2.0, a weight wrong, and one more for y
    given = {
        "xq": np.array([[1.0, 1.5]], np.float32),
        "wq": np.array([[1.0, -0.5], [0.5, 1.0]], np.float32),
        "m": np.full((1, 2), 99, np.float32),
        "y": np.array([[3.0, 1.0]], np.float32),
    }
    run = ref.run({"x": x}, given)
    assert run.codes["xq"].tolist() == [[2, 4]]
    assert run.codes["wq"].tolist() == [[4, -2], [2, 1]]
    assert run.value("m").tolist() == [[1.75, 1.0]]  # from the given codes; the given m is ignored
    assert run.codes["y"].tolist() == [[2, 1]]
    assert run.value("y").tolist() == [[3.0, 1.0]]
    assert run.unrounded("y", (0, 0)) == Fraction(7, 4)
    assert all(len(v) == 0 for v in run.off_grid.values())
    assert set(run.off_grid) == {"xq", "wq", "y"}
    # nothing of the given weights is remembered
    again = ref.run({"x": x})
    assert again.value("m").tolist() == own.value("m").tolist()


def test_given_tensors_off_the_grid_are_reported_and_snapped():
    ref = Reference(dense(0.1))
    s = np.float32(0.1)
    x = np.array([[0.3, 0.7]], np.float32)
    near = np.nextafter(np.float32(7) * s, np.float32(9))
    run = ref.run({"x": x}, {"xq": np.array([[np.float32(3) * s, near]], np.float32)})
    assert len(run.off_grid["xq"]) == 0
    assert run.given_codes["xq"].tolist() == [[3, 7]]
    far = np.array([[0.1, np.float32(7) * s * np.float32(1 + 2.0**-20)]], np.float32)
    assert ref.run({"x": x}, {"xq": far}).off_grid["xq"].tolist() == [[0, 1]]
    for bad, code in ((0.32, 3), (np.nan, 0), (np.inf, 0), (2.0, 7), (0.3001, 3)):
        run = ref.run({"x": x}, {"xq": np.array([[0.1, bad]], np.float32)})
        assert run.off_grid["xq"].tolist() == [[0, 1]]
        assert run.exact("xq", (0, 1)) == code * Fraction(float(s))
    with pytest.raises(IntsimError, match="xq"):
        ref.run({"x": x}, {"xq": np.zeros(3, np.float32)})


def test_constants_computed_from_given_weights_are_not_remembered():
    made = dense()
    turned = [node("Transpose", ["wq"], ["wt"]), node("MatMul", ["xq", "wt"], ["m"])]
    kept = list(made.graph.node)
    del made.graph.node[:]
    made.graph.node.extend([*kept[:2], *turned, kept[3]])
    ref = Reference(made)
    x = {"x": np.array([[1.0, 2.0]], np.float32)}
    for _ in range(2):
        run = ref.run(x, {"wq": np.array([[1.5, 0], [0, 0.5]], np.float32)})
        assert run.value("m").tolist() == [[1.5, 1.0]]
        assert ref.run(x).value("m").tolist() == [[0.0, 1.0]]


def test_given_codes_of_quantize_linear():
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    ref = Reference(model(nodes, [("x", [3])], ["y"], {"s": np.float32(0.5), "z": np.int8(1)}))
    run = ref.run({"x": np.ones(3, np.float32)}, {"q": np.array([3, 127, -128], np.int8)})
    assert run.value("y").tolist() == [1, 63, -64.5]
    assert run.codes["q"].tolist() == [3, 3, 3]
    assert len(run.off_grid["q"]) == 0
    run = ref.run({"x": np.ones(3, np.float32)}, {"q": np.array([3, 130, 2.5])})
    assert run.off_grid["q"].tolist() == [[1], [2]]


@pytest.mark.parametrize("seed", range(5))
def test_qonnx_s_executor_agrees_but_beside_ties(seed):
    rng = np.random.default_rng(seed)
    build = Build(rng, "ROUND")
    data = rng.standard_normal((1, 2, 4, 4)).astype(np.float32)
    x, values = build.quant("x", exactly(data), 6)
    for kind in ("conv", "batchnorm", "leaky"):
        x, values = build.layer(kind, x, values)
    x, values = build.quant(x, values, 4)
    made = model(build.nodes, [("x", data.shape)], [(x, values.shape)], build.fixed)
    theirs = execute_onnx(ModelWrapper(made).transform(InferShapes()), {"x": data}, return_full_exec_context=True)
    ref = Reference(made)
    run = ref.run({"x": data}, given={k: v for k, v in theirs.items() if k in ref.quantizers})
    wrong = 0
    for name in ref.quantizers:
        assert len(run.off_grid[name]) == 0
        scale, zero = (np.vectorize(float)(a) for a in (run.scale[name], run.zero_point[name]))
        codes = np.rint(theirs[name] / scale + zero).astype(int)
        for i in np.argwhere(codes != run.codes[name]):
            exact = run.unrounded(name, tuple(i))
            assert abs(2 * exact - round(2 * exact)) < Fraction(1, 10**4)
            assert run.codes[name][tuple(i)] == min(max(round(exact), -32), 31)
            wrong += 1
    assert wrong < values.size / 4


@pytest.mark.parametrize("kind", ["nn_resize", "subpixel"])
def test_published_super_resolution_networks_run(kind):
    path = importlib.resources.files("qonnx") / "data/onnx/bsd300x3-espcn" / kind / "quant_model.onnx"
    ref = Reference(str(path))
    (name,) = ref.inputs
    run = ref.run({name: np.random.default_rng(0).random((1, 3, 128, 128)).astype(np.float32)})
    (out,) = ref.outputs
    assert run.codes[ref.quantizers[-1]].max() <= 255
    assert run.value(out).shape == (1, 3, 256, 256)
    assert sum(run.single.values()) < 10
    # one element worked out through the whole graph lies within the bound
    last = ref.quantizers[-1]
    before = next(n.input[0] for n in onnx.load(str(path)).graph.node if n.output[0] == last)
    for i in (0, 12345, 100000):
        v, e = run.value(before).flat[i], run.error(before).flat[i]
        assert abs(run.exact(before, i) - Fraction(float(v))) <= Fraction(float(e))


def softmax_between():
    fixed = {"s": np.float32(1), "z": np.float32(0), "b": np.float32(4)}
    nodes = [node("LogSoftmax", ["x"], ["p"], name="soft"), quant_node(["p", "s", "z", "b"], "q")]
    return model(nodes, [("x", [1, 2])], ["q"], fixed)


def test_a_function_without_an_exact_form_is_refused_before_a_quantizer_and_flagged_after():
    with pytest.raises(IntsimError, match=r"soft.*no exact form"):
        Reference(softmax_between())
    made = dense()
    made.graph.node.append(node("Softmax", ["y"], ["p"], axis=-1))
    made.graph.node.append(node("Mul", ["p", "si"], ["r"]))
    run = Reference(made).run({"x": np.ones((1, 2), np.float32)})
    np.testing.assert_allclose(run.value("r").sum(), 0.5)
    assert (run.error("r") == np.inf).all()
    with pytest.raises(IntsimError, match="Softmax"):
        run.exact("r", 0)


def test_square_root_of_data_before_a_quantizer_is_exact():
    made = softmax_between()
    made.graph.node[0].op_type = "Sqrt"
    # the root of 9 / 4 is a tie between 1 and 2
    assert Reference(made).run({"x": np.float32([[2.25, 2.2499998]])}).codes["q"].tolist() == [[2, 1]]


def test_every_unknown_operator_is_named_in_one_message():
    nodes = [node("LSTM", ["x"], ["a"], name="one"), node("Fancy", ["a"], ["y"], name="two", domain="acme")]
    with pytest.raises(IntsimError, match=r"one.*LSTM.*two.*acme\.Fancy") as caught:
        Reference(model(nodes, [("x", [1])], ["y"]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "missing"),
        ({"x": np.ones((1, 2)), "other": np.ones(1)}, "other"),
        ({"x": np.ones((2, 2))}, "shape"),
        ({"x": np.ones(2)}, "shape"),
        ({"x": np.array([[1.0, np.nan]])}, "finite"),
        ({"x": np.array([[1.0, np.inf]])}, "finite"),
        ({"x": np.array([[1.0, 1e-200]])}, "magnitudes"),
    ],
)
def test_bad_inputs_are_named(feeds, message):
    with pytest.raises(IntsimError, match=message):
        Reference(dense()).run(feeds)


def damaged(change):
    made = dense()
    change(made.graph)
    return made


def shuffled(graph):
    first = graph.node[0]
    del graph.node[0]
    graph.node.append(first)


def misshapen(graph):
    graph.initializer[4].CopyFrom(onnx.numpy_helper.from_array(np.ones((3, 2), np.float32), "w"))


def nameless_scale(graph):
    del graph.node[0].input[1:]


def infinite_weight(graph):
    graph.initializer[4].CopyFrom(onnx.numpy_helper.from_array(np.full((2, 2), np.inf, np.float32), "w"))


def complex_weight(graph):
    graph.initializer[4].CopyFrom(onnx.numpy_helper.from_array(np.ones((2, 2), np.complex64), "w"))


def cut_weight(graph):
    graph.initializer[4].raw_data = graph.initializer[4].raw_data[:7]


def float8_weight(graph):
    graph.initializer[4].CopyFrom(helper.make_tensor("w", TensorProto.FLOAT8E4M3FN, [2, 2], [1.0, 1, 1, 1]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shuffled, "'xq'"),
        (misshapen, "MatMul"),
        (nameless_scale, "xq.*scale"),
        (infinite_weight, "wq.*finite"),
        (complex_weight, "'w'"),
        (cut_weight, "'w'"),
        (float8_weight, "'w'"),
    ],
)
def test_a_damaged_graph_gets_one_line_that_names_the_place(change, message):
    with pytest.raises(IntsimError, match=message) as caught:
        Reference(damaged(change)).run({"x": np.ones((1, 2), np.float32)})
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_model(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x0a\xff\xff")
    with pytest.raises(IntsimError, match=r"broken\.onnx"):
        Reference(path)
    with pytest.raises(IntsimError, match=r"absent\.onnx"):
        Reference(tmp_path / "absent.onnx")


def test_parameters_without_an_initializer_come_as_constants():
    made = dense()
    weight = onnx.numpy_helper.to_array(made.graph.initializer[4])
    del made.graph.initializer[4]
    made.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 2]))
    ref = Reference(made, constants={"w": weight})
    assert ref.inputs == ["x"]
    assert ref.run({"x": np.array([[1.0, 2.0]])}).codes["y"].tolist() == [[2, 0]]


def test_a_long_chain_without_quantizers_stays_exact():
    fixed = {"s": np.float32(0.3), "z": np.float32(0), "b": np.float32(8), "c": np.float32(1 / 3)}
    nodes = [quant_node(["x", "s", "z", "b"], "t0")]
    nodes += [node("Add", [f"t{k}", "c"], [f"t{k + 1}"]) for k in range(60)]
    nodes += [node("Mul", ["t60", "c"], ["m"]), quant_node(["m", "s", "z", "b"], "y")]
    run = Reference(model(nodes, [("x", [2])], ["y"], fixed)).run({"x": np.array([1.0, -2.0], np.float32)})
    s, c = Fraction(float(np.float32(0.3))), Fraction(float(np.float32(1 / 3)))
    assert [run.exact("m", i) for i in (0, 1)] == [(round(Fraction(x) / s) * s + 60 * c) * c for x in (1, -2)]


def test_a_bit_width_computed_from_constants_reaches_a_quantizer():
    """Brevitas writes the input width of an adaptive average pool's Trunc as Ceil(Log(peak) / Log(2))."""
    made = model(
        [
            node("Log", ["peak"], ["log"]),
            node("Div", ["log", "log2"], ["bits"]),
            node("Ceil", ["bits"], ["width"]),
            node("Quant", ["x", "one", "zero", "width"], ["y"], domain="qonnx.custom_op.general", signed=0, narrow=0),
        ],
        [("x", (4,))],
        [("y", None)],
        {
            "peak": np.float32(65280),
            "log2": np.float32(np.log(2)),
            "one": np.float32(1),
            "zero": np.float32(0),
        },
        13,
    )
    run = Reference(made).run({"x": np.array([0, 1, 65535, 65536], np.float32)})
    assert run.codes["y"].tolist() == [0, 1, 65535, 65535]
