"""Brevitas' QuantLSTM, exported as one node, against Brevitas itself."""

import io
import warnings

import numpy as np
import onnx
import pytest
from onnx import helper

torch = pytest.importorskip("torch", reason="Brevitas networks need the extra `train`")

import brevitas.nn as qnn  # noqa: E402
from brevitas.export import export_qonnx  # noqa: E402

import intsim  # noqa: E402

STEPS, BATCH, INPUTS, HIDDEN = 3, 2, 4, 3


class Network(torch.nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.lstm = qnn.QuantLSTM(INPUTS, HIDDEN, **options)

    def forward(self, x):
        outputs, (hidden, cell) = self.lstm(x)
        return outputs, hidden, cell


def exported(seed, **options):
    """A calibrated network, its file, and an input."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = Network(**options)
        x = torch.randn((BATCH, STEPS, INPUTS) if options.get("batch_first") else (STEPS, BATCH, INPUTS))
        for _ in range(2):
            model(x)
        model.eval()
        file = io.BytesIO()
        export_qonnx(model, args=x, export_path=file, dynamo=False)
    return model, onnx.load_from_string(file.getvalue()), x


OPTIONS = [{}, {"batch_first": True, "bias": False}, {"coupled_input_forget_gates": True}]
OPTIONS.append({"bidirectional": True, "num_layers": 2})


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "plain")
def test_cells_are_brevitas_own(options):
    """Numbers within float32's rounding of Brevitas', one step of a quantizer apart at most where that flips a tie."""
    model, file, x = exported(3, **options)
    loaded = intsim.load(file)
    assert (
        intsim.verify(
            loaded, inputs=[{loaded.lowered.source.proto.graph.input[0].name: x.numpy()}], references=False
        ).verdict
        == "exact"
    )
    made = loaded.run({next(iter(loaded.lowered.source.inputs)): x.numpy()}).outputs
    with torch.no_grad():
        wanted = model(x)
    for (name, value), true in zip(made.items(), wanted, strict=True):
        true = true.numpy()
        assert value.shape == true.shape, name
        near = np.abs(value - true) <= 1e-5
        assert near.mean() > 0.9, name
        assert np.abs(value - true).max() < 0.05, name


def cell(shape=(2, 1, 2), **at):
    """A cell of two steps by hand: one input and one hidden number."""
    rng = np.random.default_rng(0)
    nodes, held = [], {}

    def constant(name, value):
        held[name] = onnx.numpy_helper.from_array(np.asarray(value, np.float32), name)
        return name

    def quant(x, scale, signed=1):
        out = f"{x}.q"
        given = [constant(f"{x}.s", scale), constant(f"{x}.z", 0), constant(f"{x}.b", 8)]
        nodes.append(helper.make_node("Quant", [x, *given], [out], domain="qonnx.custom_op.general", signed=signed))
        return out

    names = [quant("x", 0.03125)]
    names += [constant(n, np.zeros((1, 3))) for n in ("h", "c")]
    names += [quant(constant(f"w{i}", rng.normal(size=(3, 2 if i < 4 else 3))), 0.015625) for i in range(8)]
    names += [constant(f"b{i}", rng.normal(size=3)) for i in range(4)]
    for i in range(11):
        names += [constant(f"s{i}", 0.03125 if i < 6 else 0.0078125), constant(f"z{i}", 0), constant(f"n{i}", 8)]
    signs = {f"{n}_signed": 0 for n in ("input_sigmoid", "forget_sigmoid", "output_sigmoid")}
    nodes.append(
        helper.make_node("QuantLSTMCell", names, ["y", "hn", "cn"], domain="qonnx.custom_op.general", **signs, **at)
    )
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "cell",
        [helper.make_tensor_value_info("x", floats, shape)],
        [helper.make_tensor_value_info(n, floats, None) for n in ("y", "hn", "cn")],
        list(held.values()),
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("qonnx.custom_op.general", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9), held


def by_hand(held, x, reverse=False):
    """The same in float64: quantizers of powers of two, far from ties."""
    h = {n: onnx.numpy_helper.to_array(v).astype(np.float64) for n, v in held.items()}

    def q(v, scale, low=-128, high=127):
        return np.clip(np.rint(v / scale), low, high) * scale

    def of(v, i, low=-128, high=127):
        return q(v, float(h[f"s{i}"]), low, high)

    def sigmoid(v, i):
        return of(1 / (1 + np.exp(-v)), i, 0, 255)

    w = [q(h[f"w{i}"], 0.015625) for i in range(8)]
    state, memory, out = h["h"], h["c"], {}
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        step = q(x[t], 0.03125)
        gates = [of(step @ w[i].T + state @ w[4 + i].T + h[f"b{i}"], 2 + i) for i in range(4)]
        taken, kept, shown = sigmoid(gates[0], 6), sigmoid(gates[1], 7), sigmoid(gates[3], 9)
        memory = of(of(kept * memory, 1) + of(taken * of(np.tanh(gates[2]), 8), 1), 1)
        state = out[t] = of(shown * of(np.tanh(memory), 10), 0)
    return np.stack([out[t] for t in range(len(x))]), state, memory


@pytest.mark.parametrize("reverse", [0, 1])
def test_a_cell_written_out(reverse):
    model, held = cell(reverse_input=reverse)
    x = (np.random.default_rng(1).normal(size=(2, 1, 2))).astype(np.float32)
    run = intsim.run(model, inputs={"x": x})
    for name, value in zip(("y", "hn", "cn"), by_hand(held, x.astype(np.float64), bool(reverse)), strict=True):
        np.testing.assert_array_equal(run.outputs[name], value.astype(np.float32))
    made = intsim.certify(model, "exact")
    assert made.verdict == "certified"
    assert len(made.layers) == 12  # two products a gate and step, but for the first state, which is a constant


def test_a_sequence_of_unknown_length_is_refused():
    model, _ = cell(shape=("steps", 1, 2))
    for refused in (intsim.load, intsim.certify):
        with pytest.raises(intsim.IntsimError, match="its steps can't be written out"):
            refused(model)
    assert intsim.load(model, shapes={"x": (2, 1, 2)}).graph.nodes


def test_a_sequence_of_millions_of_steps_is_refused_at_once():
    model, _ = cell(shape=(1 << 25, 1, 2))
    with pytest.raises(intsim.IntsimError, match="33554432 steps are more than 131072 nodes"):
        intsim.load(model)


def test_a_cell_that_lacks_quantizers_is_refused():
    model, _ = cell()
    del model.graph.node[-1].input[-3:]
    with pytest.raises(intsim.IntsimError, match="has 45 inputs, not the 48"):
        intsim.load(model)


def test_lstm_of_onnx_between_quantizers_says_what_is_missing():
    from .build import Net

    net = Net(opset=14)
    x = net.quant(net.input(2, 1, 3))
    w, r = (np.ones((1, 8, n), np.float32) for n in (3, 2))
    y = net.node("LSTM", x, w, r, hidden_size=2)
    with pytest.raises(
        intsim.IntsimError, match=r"LSTM is not supported between quantizers: no quantizer is inside it"
    ):
        intsim.load(net.model(net.quant(y)))
