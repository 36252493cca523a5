"""A small network on every built-in target, its sums written out from the definition; or a refusal that names why."""

import numpy as np
import pytest
from frontend.build import Net

import intsim
from intsim.arithmetic.accumulate import accumulate_telemetry
from intsim.arithmetic.packing import accumulate_packed
from intsim.errors import IntsimError
from intsim.targets import Target

ALL = [*(n for n in Target.names() if not Target.load(n).when), *(f.member(max(f.low, 12)) for f in Target.families())]
ZERO = 3  # zero point of the activation


def network(bits: int, seed: int, scale: float = 64, loud: bool = True):
    """One 3 x 3 convolution of codes with a zero point, with a bias, 3 to 4 channels, 4 x 4 pixels.

    Loud: codes and weights at the ends of their types, and channel 0 without negative weights. Else sums below 400.
    """
    rng = np.random.default_rng(seed)
    high, most = (1 << bits) - 1, (1 << (bits - 1)) - 1
    codes = rng.choice([0, high, high, ZERO, *range(high)] if loud else [0, 5, 14, 15], (1, 3, 4, 4))
    weight = rng.integers(-most, most + 1, (4, 3, 3, 3)) // (1 if loud else most)
    weight[0] = np.abs(weight[0])
    bias = rng.integers(-1000, 1000, 4) if loud else np.zeros(4, np.int64)
    net = Net()
    x = net.quant(net.input(1, 3, 4, 4), 0.5, ZERO, bits, signed=0)
    w = net.quant(np.float32(weight), 1, 0, bits, narrow=1)
    acc = net.node("Conv", x, w, np.float32(bias / 2), pads=[1, 1, 1, 1])
    return net.model(net.quant(acc, scale, 0, 8)), np.float32((codes - ZERO) / 2), codes, weight, bias


def shift(codes: tuple[int, int], kind) -> int:
    """Codes of the other sign are stored half the range away."""
    return 0 if kind is None or (kind.min <= codes[0] and codes[1] <= kind.max) else kind.min - codes[0]


def written_out(target: Target, codes, weight, bias, bits: int):
    """Sums (4 channels, 16 pixels) and events by channel and stage, product by product in the target's order."""
    path = target.registers
    given = path.activation is not None
    dx = shift((0, (1 << bits) - 1), path.activation) if given else -ZERO
    dw = shift((-(1 << (bits - 1)), (1 << (bits - 1)) - 1), path.weight) if given else 0
    zx, zw = ZERO + dx, dw
    padded = np.pad(codes[0] + dx, ((0, 0), (1, 1), (1, 1)), constant_values=zx)
    arrivals = [(kh, kw, c) for kh in range(3) for kw in range(3) for c in range(3)]
    a = np.array([[padded[c, i + kh, j + kw] for kh, kw, c in arrivals] for i in range(4) for j in range(4)])
    w = np.array([[weight[n, c, kh, kw] + dw for kh, kw, c in arrivals] for n in range(4)])
    late = np.zeros((4, 16), np.int64)
    if given:  # sum (x - zx)(w - zw), multiplied out
        late += -zx * w.sum(1)[:, None] + len(arrivals) * zx * zw - zw * a.sum(1)[None]
    start = bias[:, None] if path.bias == "preload" else 0
    late += bias[:, None] if path.bias == "after" else 0
    products = w[:, None] * a[None]
    if path.packing is None:
        found = accumulate_telemetry(products, path.stages, np.broadcast_to(start, (4, 16)), late)
        return found.result, found.events.sum(axis=1)
    sides = len(path.packing.channels), len(path.packing.pixels)
    split = (4 // sides[0], sides[0], 16 // sides[1], sides[1])
    sets = products.reshape(*split, -1).transpose(0, 2, 1, 3, 4)
    found = accumulate_packed(sets, path.stages, path.packing, 0, late.reshape(split).transpose(0, 2, 1, 3))
    return (
        found.result.transpose(0, 2, 1, 3).reshape(4, 16),
        found.events.transpose(0, 2, 1, 3, 4).reshape(4, 16, -1).sum(axis=1),
    )


def operand_bits(target: Target) -> int:
    return 4 if target.operands is not None and target.operands.weight.bits == 4 else 8


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ALL)
def test_sums_and_events_are_the_definitions(name, seed):
    target = Target.load(name)
    bits = operand_bits(target)
    model, x, codes, weight, bias = network(bits, seed)
    loaded = intsim.load(model)
    run = loaded.run({"x": x}, target, keep=True)
    (node,) = (n for n in loaded.graph.nodes if n.op == "conv")
    sums, events = written_out(target, codes, weight, bias, bits)
    behind = bias[:, None] if target.registers.bias == "requantizer" else 0
    np.testing.assert_array_equal(run.tensors[node.output].reshape(4, 16), sums + behind)
    np.testing.assert_array_equal(run.overflows[node.name], events)
    out = run.tensors[loaded.graph.outputs[0]]
    assert out.dtype == np.int64
    assert -128 <= out.min() <= out.max() <= 127


@pytest.mark.parametrize("name", [n for n in ALL if not n.endswith("raw")])
def test_quiet_networks_are_the_same_everywhere(name):
    """Weights -1, 0, 1: no target differs. Thirds are no ties, but a power of two for what shifts or rounds twice."""
    target = Target.load(name)
    scale = 0.5 if target.requantize.scheme in ("shift", "ruy") or target.requantize.double_rounding else 1.5
    model, x, *_ = network(operand_bits(target), 7, scale, loud=False)
    exact, found = (intsim.run(model, t, {"x": x}, keep=True) for t in ("exact", target))
    assert not any(e.any() for e in found.overflows.values())
    for tensor, value in exact.tensors.items():
        np.testing.assert_array_equal(found.tensors[tensor], value, err_msg=tensor)


def test_uncorrected_packing_is_what_differs():
    """The borrow of a negative neighbour is the only difference, and it is always downward."""
    for name in ("dsp48e2-int8", "dsp48e2-int4"):
        bits = operand_bits(Target.load(name))
        model, x, *_ = network(bits, 1)
        loaded = intsim.load(model)
        (node,) = (n for n in loaded.graph.nodes if n.op == "conv")
        exact, corrected, raw = (
            loaded.run({"x": x}, t, keep=True).tensors[node.output] for t in ("exact", name, f"{name}-raw")
        )
        np.testing.assert_array_equal(exact, corrected)
        assert (raw <= exact).all()
        assert (raw < exact).any()
        np.testing.assert_array_equal(raw[:, 0, :, ::2], exact[:, 0, :, ::2])  # the lowest field borrows from nobody


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dsp48e2-int4", r"Conv.*activation \(UINT8\) doesn't fit the target's u4 operand"),
        ("rtl-shift", "power of two"),
    ],
)
def test_refusals(name, message):
    """A multiplier that is too narrow, and a scale that a shift can't be."""
    net = Net()
    x = net.quant(net.input(1, 1, 2, 2), 1, 0, 8, signed=0)
    acc = net.node("Conv", x, net.quant(np.ones((1, 1, 1, 1), np.float32), 1, 0, 8))
    model = net.model(net.quant(acc, 0.3, 0, 8))
    with pytest.raises(IntsimError, match=message):
        intsim.run(model, name, {"x": np.ones((1, 1, 2, 2), np.float32)})
