"""An executor's fault gets the name of what is shown to be the cause, and that of rounding within a bound only."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import intsim
from intsim.targets import Target
from intsim.verification.causes import Causes
from intsim.verification.exact_file import ExactFile
from intsim.verification.judge import judge
from intsim.verification.reference import Reference
from intsim.verification.verdict import ReferenceVerdict

RNG = np.random.default_rng(0)


def net(
    op: str, shape: tuple[int, ...], extra=(), arrays=None, opset: int = 13, out_scale: float = 0.125, **attributes
):
    """QuantizeLinear, DequantizeLinear, the operator, QuantizeLinear."""
    constants = {"s": np.float32(0.25), "z": np.int8(0), "s2": np.float32(out_scale), **(arrays or {})}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node(op, ["xd", *extra], ["p"], name="op", **attributes),
        helper.make_node("QuantizeLinear", ["p", "s2", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT8, None)],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def judged(model, sample, changed) -> ReferenceVerdict:
    """An executor that had exact codes everywhere but those in `changed`."""
    loaded = intsim.load(model)
    exact_file = ExactFile(loaded)
    exact = exact_file.run(sample)
    tensors = {n: np.array(exact.codes[n] if exact.quantized[n].integer else exact.value(n)) for n in exact.codes}
    tensors |= changed(exact) if callable(changed) else changed
    report = ReferenceVerdict()
    found = exact_file.run(sample, tensors)
    judge(report, found, loaded.graph, loaded.integer_inputs(sample), Target.load("exact"), Causes(exact_file.proto))
    assert sum(report.blame.values()) == report.mismatches
    return report


def blamed(report: ReferenceVerdict) -> dict[str, int]:
    return {k: n for k, n in report.blame.items() if n}


def codes_of(model, sample) -> np.ndarray:
    loaded = intsim.load(model)
    return np.asarray(ExactFile(loaded).run(sample).codes["y"])


# --- AveragePool -----------------------------------------------------------------------------------------------------

POOLS = [
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1, "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 0, "ceil_mode": 1},
    {"kernel_shape": [3, 2], "strides": [1, 2], "pads": [1, 0, 1, 1]},
    {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
]


def average(x: np.ndarray, at: dict, count: str) -> np.ndarray:
    """AveragePool written out, with each way to count."""
    (kh, kw), (sh, sw), (t, left, b, r) = at["kernel_shape"], at["strides"], at.get("pads", [0] * 4)
    _, _, height, width = x.shape
    places = []
    for n, k, s, before, after in ((height, kh, sh, t, b), (width, kw, sw, left, r)):
        room = n + before + after - k
        last = -(-room // s) if at.get("ceil_mode") else room // s
        places.append(last + 1 - (last * s >= n + before))
    out = np.zeros((*x.shape[:2], *places))
    for i, j in np.ndindex(*places):
        rows = [i * sh - t + a for a in range(kh)]
        columns = [j * sw - left + a for a in range(kw)]
        real = [(a, c) for a in rows for c in columns if 0 <= a < height and 0 <= c < width]
        padded = [(a, c) for a in rows for c in columns if -t <= a < height + b and -left <= c < width + r]
        number = {"real": len(real), "padded": len(padded), "kernel": kh * kw}[count]
        out[:, :, i, j] = sum(x[:, :, a, c] for a, c in real) / number
    return out


@pytest.mark.parametrize("pool", POOLS, ids=["include", "exclude", "uneven", "ceil"])
@pytest.mark.parametrize("count", ["real", "padded", "kernel"])
def test_another_divisor(pool, count):
    sample = {"x": np.float32(RNG.integers(20, 120, (1, 2, 6, 7)) / 4)}
    model = net("AveragePool", (1, 2, 6, 7), opset=19, **pool)
    theirs = np.rint(average(sample["x"].astype(float), pool, count) / 0.125).clip(-128, 127)
    right = codes_of(model, sample)
    ties = np.abs(theirs - right) == 1  # of exact halves, which rint above may have missed by a rounding
    report = judged(model, sample, {"y": np.where(ties, right, theirs).astype(np.int8)})
    wrong = int((np.abs(theirs - right) > 1).sum())
    own = "padded" if pool.get("count_include_pad") else "real"
    assert blamed(report) == ({"pool_divisor": wrong} if wrong else {})
    assert wrong > 0 or count == own or own == "padded" or "ceil" in str(pool)
    if count == own:
        assert wrong == 0


def test_a_pool_that_is_wrong_in_no_known_way():
    """One code off by three, and the right divisor elsewhere: nothing explains that."""
    sample = {"x": np.float32(RNG.integers(20, 60, (1, 2, 6, 7)) / 4)}
    model = net("AveragePool", (1, 2, 6, 7), opset=19, **POOLS[0])

    def changed(exact):
        y = np.array(exact.codes["y"])
        y[0, 1, 1, 1] -= 3
        return {"y": y}

    report = judged(model, sample, changed)
    assert blamed(report) == {"executor": 1}
    assert report.first_divergence["blame"] == "executor"


# --- Resize ----------------------------------------------------------------------------------------------------------


def resizing(scale: float, mode: str, nearest: str, size: int = 5) -> onnx.ModelProto:
    arrays = {"scales": np.float32([1, 1, scale, scale])}
    return net("Resize", (1, 1, size, size), ("", "scales"), arrays, mode="nearest",
               coordinate_transformation_mode=mode, nearest_mode=nearest)  # fmt: skip


@pytest.mark.parametrize("scale", [1.5, 2.0, 0.5])
@pytest.mark.parametrize("mode", [("half_pixel", "round_prefer_floor"), ("asymmetric", "floor")])
@pytest.mark.parametrize(
    "other", [("asymmetric", "ceil"), ("align_corners", "round_prefer_ceil"), ("half_pixel", "ceil")]
)
def test_another_pixel(scale, mode, other):
    sample = {"x": np.float32(RNG.permutation(25).reshape(1, 1, 5, 5) / 4)}
    theirs = codes_of(resizing(scale, *other), sample)
    model = resizing(scale, *mode)
    wrong = int((theirs != codes_of(model, sample)).sum())
    assert blamed(judged(model, sample, {"y": theirs})) == ({"resize_pixel": wrong} if wrong else {})


def test_a_pixel_from_nowhere():
    sample = {"x": np.float32(RNG.permutation(25).reshape(1, 1, 5, 5) / 4)}
    model = resizing(2.0, "asymmetric", "floor")
    assert blamed(judged(model, sample, lambda exact: {"y": exact.codes["y"][..., ::-1]})).keys() == {"executor"}


def test_coordinates_in_single_precision():
    """ONNX Runtime divides in float32: 3 / float32(0.6) is 5 there, and less than 5 exactly."""
    sample = {"x": np.float32(np.arange(49).reshape(1, 1, 7, 7) / 4)}
    model = resizing(0.6, "asymmetric", "floor", 7)
    found = intsim.verify(model, inputs=sample, reference_timeout=60)
    assert found.holds
    report = found.references["onnxruntime"]
    assert report.reason is None
    assert blamed(report) == {"resize_pixel": report.mismatches}


# --- int32 -----------------------------------------------------------------------------------------------------------


def biased(zero: np.ndarray, axis: int | None = None) -> onnx.ModelProto:
    """DequantizeLinear of int32 with a zero point, then QuantizeLinear."""
    attributes = {} if axis is None else {"axis": axis}
    scale = np.full(zero.shape, 2.0**-25, np.float32)
    arrays = {"s": scale, "z": zero, "s2": np.float32(1), "z2": np.int8(0)}
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["xd"], **attributes),
        helper.make_node("QuantizeLinear", ["xd", "s2", "z2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.INT32, (1, 4))],
        [helper.make_tensor_value_info("y", TensorProto.INT8, (1, 4))],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize(("zero", "axis"), [(np.int32(100000), None), (np.int32([9, 9, -9, 9] * 1), 1)])
def test_a_difference_that_wraps(zero, axis):
    """The executors subtract in int32; 2^31 over 2^25 is 64, so that the wrong codes are far from the right ones."""
    low, high = -(2**31), 2**31 - 1
    found = intsim.verify(biased(np.asarray(zero), axis), inputs={"x": np.int32([[low, high, high, 5]])},
                          reference_timeout=60)  # fmt: skip
    assert found.holds
    for report in found.references.values():
        assert report.reason is None
        assert report.mismatches > 0
        assert report.max_lsb > 100
        assert blamed(report) == {"int32_wrap": report.mismatches}


def test_a_requantized_sum_that_wraps():
    """QLinearMatMul: the wrapped sum is scaled to another code; one next to it is unexplained."""
    x, w = np.full((1, 40000), 255, np.uint8), np.full((40000, 2), 255, np.uint8)
    w[:, 1] = 1
    arrays = {"xs": np.float32(0.5), "xz": np.uint8(0), "w": w, "ws": np.float32([0.5, 0.25]), "wz": np.uint8([0, 0]),
              "ys": np.float32(2.0**24), "yz": np.int8(3)}  # fmt: skip
    inputs = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    graph = helper.make_graph(
        [helper.make_node("QLinearMatMul", inputs, ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, (1, 40000))],
        [helper.make_tensor_value_info("y", TensorProto.INT8, None)],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    exact_file = ExactFile(intsim.load(model))
    exact = exact_file.run({"x": x}).codes["y"]
    total = 40000 * 255 * 255
    assert exact.tolist() == [[round(total / 4 / 2**24) + 3, round(40000 * 255 / 8 / 2**24) + 3]]
    causes = Causes(exact_file.proto)
    for code, cause in ((round((total - 2**32) / 4 / 2**24) + 3, "int32_wrap"), (7, "executor")):
        had = np.array([[code, exact[0, 1]]])
        assert causes.of_codes(exact_file.run({"x": x}, {"y": had}), "y", had).tolist() == [[cause, ""]]


# --- the bound -------------------------------------------------------------------------------------------------------


def product(k: int, scale: float, spread: int = 100) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    w = np.float32(RNG.integers(-spread, spread + 1, (k, 3))) / 128
    sample = {"x": np.float32(RNG.integers(-120, 120, (1, k)) / 4)}
    return net("MatMul", (1, k), ("w",), {"w": w}, out_scale=scale), sample


def test_one_off_without_a_tie_is_not_rounding():
    model, sample = product(16, 5.0)
    for step in (-1, 1, 2):
        report = judged(model, sample, lambda exact, step=step: {"y": exact.codes["y"] + step})
        near = [abs(v % 1 - 0.5) for v in unrounded(model, sample)]
        assert min(near) > 1e-3
        assert blamed(report) == {"executor": 3}


def unrounded(model, sample):
    found = ExactFile(intsim.load(model)).run(sample)
    return [float(found.unrounded("y", i)) for i in range(3)]


def test_a_tie_is_rounding_to_one_side_only():
    arrays = {"w": np.float32([[1.0]])}
    model = net("MatMul", (1, 1), ("w",), arrays, out_scale=0.5)
    sample = {"x": np.float32([[0.25]])}  # half a step
    right = int(codes_of(model, sample)[0, 0])
    assert right == 0
    for step, cause in ((1, "float_rounding"), (-1, "executor"), (2, "executor")):
        assert blamed(judged(model, sample, {"y": np.array([[right + step]])})) == {cause: 1}


@pytest.mark.parametrize("order", ["forward", "backward", "pairwise", "sorted"])
@pytest.mark.parametrize("op", ["MatMul", "Conv", "AveragePool", "chain"])
def test_float32_in_any_order_is_within_the_bound(op, order):
    """Sums in float32, each order, far from what float64 says by many roundings: never called anything else."""
    for _ in range(20):
        k = int(RNG.integers(2, 400))
        x, w = np.float32(RNG.integers(-128, 128, k)) / 4, np.float32(RNG.normal(size=k))
        scale = np.float32(2.0**-18)  # so fine that roundings are many steps
        arrays = {"w": w.reshape(k, 1), "s2": scale, "z2": np.int32(0)}
        if op == "Conv":
            arrays["w"] = w.reshape(1, k, 1, 1)
        shape = {"MatMul": (1, k), "chain": (1, k), "Conv": (1, k, 1, 1), "AveragePool": (1, 1, 1, k)}[op]
        nodes = {
            "MatMul": [helper.make_node("MatMul", ["xd", "w"], ["p"])],
            "Conv": [helper.make_node("Conv", ["xd", "w"], ["p"])],
            "AveragePool": [helper.make_node("AveragePool", ["xd"], ["p"], kernel_shape=[1, k])],
            "chain": [
                helper.make_node("MatMul", ["xd", "w"], ["a"]), helper.make_node("Mul", ["a", "c"], ["b"]),
                helper.make_node("Sub", ["b", "d"], ["e"]), helper.make_node("Relu", ["e"], ["p"]),
            ],
        }[op]  # fmt: skip
        arrays |= {"c": np.float32(RNG.normal()), "d": np.float32(RNG.normal() * 9)} if op == "chain" else {}
        products = x * (np.float32(1) if op == "AveragePool" else w)
        total = summed(products, order)
        if op == "AveragePool":
            total = np.float32(total / np.float32(k))
        if op == "chain":
            total = np.maximum(np.float32(np.float32(total * arrays["c"]) - arrays["d"]), np.float32(0))
        model = fine(nodes, shape, arrays)
        sample = {"x": x.reshape(shape)}
        reference = Reference(model)
        had = np.asarray(np.rint(total / scale)).astype(np.int64)
        found = reference.run(sample)
        had = np.broadcast_to(had, found.codes["y"].shape)
        causes = set(Causes(model).of_codes(found, "y", had).flat)
        assert causes <= {"", "float_rounding"}, (op, order, k)
        far = had + np.int64(2e6 * max(1.0, float(np.abs(products).sum())))
        far = np.minimum(far, 2**29)
        assert set(Causes(model).of_codes(found, "y", far).flat) == {"executor"}


def summed(products: np.ndarray, order: str) -> np.float32:
    if order == "pairwise":
        return np.float32(products.sum(dtype=np.float32))
    terms = {"forward": products, "backward": products[::-1], "sorted": np.sort(products)[::-1]}[order]
    total = np.float32(0)
    for term in terms:
        total = np.float32(total + term)
    return total


def fine(nodes, shape, arrays) -> onnx.ModelProto:
    """The nodes between an 8-bit quantizer and one of 30 bits (QONNX)."""
    constants = {"s": np.float32(0.25), "zero": np.float32(0), "b8": np.float32(8), "b30": np.float32(30), **arrays}
    domain = "qonnx.custom_op.general"
    graph = helper.make_graph(
        [helper.make_node("Quant", ["x", "s", "zero", "b8"], ["xd"], domain=domain), *nodes,
         helper.make_node("Quant", ["p", "s2", "zero", "b30"], ["y"], domain=domain)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(domain, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


DECOMPOSED = {
    "layer norm": [
        ("ReduceMean", ["xd"], "m", {"axes": [-1]}), ("Sub", ["xd", "m"], "d", {}), ("Pow", ["d", "two"], "q", {}),
        ("ReduceMean", ["q"], "v", {"axes": [-1]}), ("Add", ["v", "eps"], "ve", {}), ("Sqrt", ["ve"], "r", {}),
        ("Div", ["d", "r"], "n", {}), ("Mul", ["n", "c"], "p", {}),
    ],
    "fused layer norm": [("LayerNormalization", ["xd", "c"], "p", {})],
    "softmax": [("Softmax", ["xd"], "p", {"axis": -1})],
    "gelu": [
        ("Div", ["xd", "c"], "h", {}), ("Erf", ["h"], "e", {}), ("Add", ["e", "one"], "o", {}),
        ("Mul", ["xd", "o"], "p", {}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", DECOMPOSED)
def test_functions_of_real_executors_are_within_the_bound(kind):
    """ONNX Runtime's own float32, on steps so fine that every element is off: rounding, and nothing else."""
    import onnxruntime

    nodes = [helper.make_node(op, i, [o], **a) for op, i, o, a in DECOMPOSED[kind]]
    c = np.float32(RNG.uniform(0.5, 1.5, 16)) if "norm" in kind else np.float32(1.4142135)
    scale = np.float32(2.0**-27)
    arrays = {"two": np.float32(2), "eps": np.float32(1e-5), "one": np.float32(1), "c": c, "s2": scale}
    model = fine(nodes, (1, 8, 16), arrays)
    if kind == "fused layer norm":
        model.opset_import[0].version = 17
    sample = {"x": np.float32(RNG.integers(-12, 13, (1, 8, 16)) / 4)}
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    del plain.graph.node[0], plain.graph.node[-1]
    plain.graph.input[0].name = "xd"
    plain.graph.output[0].name = "p"
    session = onnxruntime.InferenceSession(plain.SerializeToString(), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"xd": sample["x"]})
    found = Reference(model).run(sample)
    had = np.asarray(np.rint(theirs.astype(np.float64) / float(scale)).clip(-(2**29), 2**29 - 1), np.int64)
    causes = Causes(model).of_codes(found, "y", had)
    apart = had != found.codes["y"]
    assert apart.sum() > 20
    assert set(causes[apart]) == {"float_rounding"}
    far = np.where(had > 0, had - 2**22, had + 2**22)
    assert set(Causes(model).of_codes(found, "y", far).flat) == {"executor"}
