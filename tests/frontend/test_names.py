"""Names of the file that are called like intsim's own: every tensor keeps its meaning."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import intsim
from frontend.build import CHANNELS_LAST, Net, check, halves

RNG = np.random.default_rng(9)


def rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """One tensor, everywhere."""
    graph = model.graph
    for named in (*graph.input, *graph.output, *graph.initializer):
        if named.name == old:
            named.name = new
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if n == old else n for n in names]


def zero_points(net, x):
    """One zero point a channel: rounded first, shifted afterwards."""
    return net.node("QuantizeLinear", x, np.float32([0.25, 0.5]), np.int8([3, -4]), axis=1)


def test_a_quantizer_with_a_zero_point_for_each_channel():
    """Its tensor before the zero point is intsim's own; the file has one of that name, made by another quantizer."""
    for wrap in (lambda n, x: x, lambda n, x: n.quant(x, 0.25, 0, 6)):
        net = Net()
        x = wrap(net, net.input(3, 2))
        q = zero_points(net, x)
        other = net.node("QuantizeLinear", x, np.float32(1), np.int8(0))
        model = net.model(q, other)
        rename(model, other, f"{q}~rounded")
        data = {"x": halves(RNG, (3, 2))}
        check(model, data, 2)
        assert intsim.verify(model, inputs=data, references=False).verdict == "exact"
        swapped = [*model.graph.node[:-2], model.graph.node[-1], model.graph.node[-2]]
        del model.graph.node[:]
        model.graph.node.extend(swapped)
        check(model, data, 2)


def mul_add(net, x, y):
    """Sums of steps are settled as tensors of their own: `~exact`."""
    return net.node("Mul", net.node("Relu", net.node("Add", x, y)), y)


def broadcast(net, x, y):
    """Several integer nodes for one of the file: `#2`."""
    return net.node("MatMul", net.node("Transpose", net.node("Concat", x, y, axis=0), perm=[1, 0]), net.quant(W, 0.25))


W = np.float32(RNG.integers(-3, 4, (6, 2))) * 0.25


@pytest.mark.parametrize("make", [mul_add, broadcast])
def test_every_name_that_intsim_makes_up_may_be_the_files(make):
    """Each integer tensor's name in turn is given to an input, to another quantizer's output and to a node."""

    def model():
        net = Net()
        x = net.quant(net.input(3, 2), 0.25, 0, 5)
        y = net.quant(net.input(3, 2, name="second"), 0.5, 0, 4)
        z = net.quant(make(net, x, y), 1.5, 0, 6)
        return net.model(z, net.quant(net.node("Neg", y), 0.3, 0, 5)), z

    data = {"x": halves(RNG, (3, 2)), "second": halves(RNG, (3, 2))}
    plain, z = model()
    right = check(plain, data, 3).outputs[z]
    file_names = {t for n in plain.graph.node for t in (*n.input, *n.output)}
    own = [t for t in intsim.load(plain).graph.tensors if t not in file_names]
    assert own
    for name in own:
        for old in ("second", plain.graph.output[1].name):
            taken, _ = model()
            rename(taken, old, name)
            given = {name if n == old else n: a for n, a in data.items()}
            np.testing.assert_array_equal(check(taken, given, 3).outputs[z], right, err_msg=name)
            assert intsim.verify(taken, inputs=given, references=False).verdict == "exact"


def test_names_on_the_host():
    """Transposes around channels-last nodes and the rows of an old Softmax are intsim's own.

    The file's tensor of that name is made before and read afterwards.
    """
    x = np.float32(RNG.normal(size=(1, 6, 6, 2)))
    for rename_to in ("{}~0", "{}~1", "{}~2"):
        net = Net()
        n = net.node("Neg", net.input(1, 6, 6, 2))
        y = net.node("Conv", "x", np.float32(W_CONV), domain=CHANNELS_LAST, kernel_shape=[3, 3])
        model = net.model(net.quant(y, 0.01, 0, 10), net.quant(n, 0.01, 0, 10))
        conv = next(v.name for v in model.graph.node if v.op_type == "Conv")
        rename(model, n, rename_to.format(conv))
        out = list(intsim.run(model, inputs={"x": x}).outputs.values())
        assert out[0].any()
        assert abs(out[1] + x).max() < 0.006
    for rename_to in ("{}~shape", "{}~rows", "{}~done"):
        net = Net(11)
        q = net.quant(net.input(1, 2, 3))
        n = net.node("Neg", q)
        y = net.node("LogSoftmax", q, axis=1)
        model = net.model(net.node("Sub", y, n))
        soft = next(v.name for v in model.graph.node if v.op_type == "LogSoftmax")
        rename(model, n, rename_to.format(soft))
        made = next(iter(intsim.run(model, inputs={"x": np.ones((1, 2, 3), np.float32)}).outputs.values()))
        np.testing.assert_allclose(made, np.full((1, 2, 3), 1 - np.log(6)), rtol=1e-6)


W_CONV = RNG.normal(size=(3, 3, 3, 2))


def test_two_nodes_of_one_name():
    """ONNX wants names of nodes to differ and nobody checks it: what intsim adds around both must not be shared."""
    net = Net()
    x = net.input(1, 6, 6, 2)
    a = net.node("Conv", x, np.float32(W_CONV), domain=CHANNELS_LAST, kernel_shape=[3, 3])
    b = net.node("Conv", x, np.float32(-W_CONV), domain=CHANNELS_LAST, kernel_shape=[3, 3])
    model = net.model(net.quant(a, 0.01, 0, 8), net.quant(b, 0.01, 0, 8))
    for node in model.graph.node:
        node.name = "n"
    first, second = intsim.run(model, inputs={"x": np.float32(RNG.normal(size=(1, 6, 6, 2)))}).outputs.values()
    assert first.any()
    kept = (abs(first) < 1.27) & (abs(second) < 1.27)
    np.testing.assert_array_equal(first[kept], -second[kept])


def test_codes_beside_an_output_of_their_name(tmp_path, monkeypatch):
    """`run -o` stores the integers of y as y.codes: not over an output that is called so."""
    from intsim.cli import main

    net = Net()
    q = net.quant(net.input(1, 3), 0.5, 0, 4)
    other = net.node("Exp", q)
    model = net.model(q, other)
    rename(model, other, f"{q}.codes")
    path = tmp_path / "m.onnx"
    onnx.save(model, str(path))
    np.savez(tmp_path / "x.npz", x=np.float32([[0, 0.5, 1]]))
    monkeypatch.setattr(
        "sys.argv", ["intsim", "run", str(path), "-i", str(tmp_path / "x.npz"), "-o", str(tmp_path / "o")]
    )
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    with np.load(tmp_path / "o.npz") as out:
        np.testing.assert_allclose(out[f"{q}.codes"], np.exp([[0, 0.5, 1]]), rtol=1e-6)
        assert out[f"{q}.codes#"].tolist() == [[0, 1, 2]]
