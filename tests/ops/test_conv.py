"""Convolution and transposed convolution against loops; their ranges are attained."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.errors import IntsimError
from intsim.ops import OPS
from intsim.ops.conv import kernel_axes, pad_spatial

from .nodes import check, ints, node, tensor


def convolved(x, w, at, zx, zw, bias):
    """`sum (x - zx) (w - zw) + bias` over the taps that lie inside."""
    rank, groups = x.ndim - 2, at["groups"]
    size = [
        (x.shape[2 + i] + at["pads"][i] + at["pads"][rank + i] - at["dilations"][i] * (w.shape[2 + i] - 1) - 1)
        // at["strides"][i]
        + 1
        for i in range(rank)
    ]
    out = np.zeros((x.shape[0], w.shape[0], *size), object)
    for n, o, *place in np.ndindex(*out.shape):
        total = int(bias[o])
        for c, *tap in np.ndindex(*w.shape[1:]):
            at_x = [
                p * s + t * d - b
                for p, s, t, d, b in zip(place, at["strides"], tap, at["dilations"], at["pads"], strict=False)
            ]
            if all(0 <= a < s for a, s in zip(at_x, x.shape[2:], strict=True)):
                channel = o // (w.shape[0] // groups) * w.shape[1] + c
                total += (int(x[(n, channel, *at_x)]) - zx) * (int(w[(o, c, *tap)]) - int(zw[o]))
        out[(n, o, *place)] = total
    return out


@st.composite
def layers(draw, attribute="strides"):
    rank, groups = draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2, 3]))
    per, out_per = draw(st.sampled_from([1, 1, 2])), draw(st.integers(1, 2))
    kernel = [draw(st.integers(1, 2 if rank == 3 else 3)) for _ in range(rank)]
    at = {
        attribute: [draw(st.integers(1, 2)) for _ in range(rank)],
        "dilations": [draw(st.integers(1, 2)) for _ in range(rank)],
        "pads": [draw(st.integers(0, 2)) for _ in range(2 * rank)],
        "groups": groups,
    }
    x = draw(
        ints(
            (
                draw(st.integers(1, 2)),
                per * groups,
                *[draw(st.integers(3, 4) if rank < 3 else st.just(3)) for _ in kernel],
            )
        )
    )
    w, _, _ = draw(ints((out_per * groups, per, *kernel)))
    zx, channels = draw(st.integers(-300, 300)), w.shape[0]
    zw = np.array(
        draw(st.one_of(st.just([0] * channels), st.lists(st.integers(-9, 9), min_size=channels, max_size=channels)))
    )
    bias = np.array(
        draw(
            st.one_of(st.just([0] * channels), st.lists(st.integers(-9999, 9999), min_size=channels, max_size=channels))
        )
    )
    return x, w, at, zx, zw, bias


def made(op, w, at, zx, zw, bias):
    arrays = {"weight": w, **({"weight_zero": zw.reshape(-1, *[1] * (w.ndim - 1))} if zw.any() else {})}
    return node(op, {**at, "zero_point": zx}, {**arrays, **({"bias": bias} if bias.any() else {})})


def reaches(x, at, w, insert=None):
    size = [(s - 1) * i + 1 for s, i in zip(x.shape[2:], insert, strict=True)] if insert else x.shape[2:]
    rank = len(size)
    return all(
        size[i] + at["pads"][i] + at["pads"][rank + i] > at["dilations"][i] * (w.shape[2 + i] - 1) for i in range(rank)
    )


@given(layers())
def test_conv(layer):
    x, w, at, zx, zw, bias = layer
    n = made("conv", w, at, zx, zw, bias)
    if not reaches(x[0], at, w):
        with pytest.raises(IntsimError, match="larger than"):
            OPS["conv"].shape(n, x[0].shape)
        return
    check(n, [x], convolved(x[0], w, at, zx, zw, bias))


@given(layers("insert"))
def test_conv_transpose(layer):
    """The input with zeros between its samples, then a convolution: the twin does just that."""
    x, w, at, zx, zw, bias = layer
    n = made("conv_transpose", w, {**at, "strides": [1] * (w.ndim - 2)}, zx, zw, bias)
    if not reaches(x[0], at, w, at["insert"]):
        return
    stuffed = np.full(
        (*x[0].shape[:2], *[(s - 1) * i + 1 for s, i in zip(x[0].shape[2:], at["insert"], strict=True)]), zx
    )
    for index in np.ndindex(*x[0].shape):
        stuffed[(*index[:2], *[p * i for p, i in zip(index[2:], at["insert"], strict=True)])] = x[0][index]
    check(n, [x], convolved(stuffed, w, {**at, "strides": [1] * (w.ndim - 2)}, zx, zw, bias))


def test_conv_transpose_is_the_adjoint_of_conv():
    """<conv(x), y> = <x, conv_transpose(y)>, for strides that divide."""
    rng = np.random.default_rng(0)
    x, w = rng.integers(-9, 9, (1, 3, 7, 9)), rng.integers(-9, 9, (2, 3, 3, 3))
    at = {"dilations": [1, 1], "groups": 1, "zero_point": 0}
    forward = OPS["conv"].evaluate(node("conv", {**at, "strides": [2, 2], "pads": [1] * 4}, {"weight": w}), x)
    y = rng.integers(-9, 9, forward.shape)
    flipped = np.ascontiguousarray(w.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])
    back = OPS["conv_transpose"].evaluate(
        node("conv_transpose", {**at, "insert": [2, 2], "strides": [1, 1], "pads": [1] * 4}, {"weight": flipped}), y
    )
    assert back.shape == x.shape
    assert (forward * y).sum() == (x * back).sum()


@given(layers())
def test_the_range_of_conv_is_attained(layer):
    """An input that meets every weight at its extreme, per channel."""
    (x, low, high), w, at, zx, zw, bias = layer
    at = {
        **at,
        "groups": 1,
        "strides": [1] * (w.ndim - 2),
        "dilations": [1] * (w.ndim - 2),
        "pads": [0] * (2 * (w.ndim - 2)),
    }
    n = made("conv", w, at, zx, zw, bias)
    shape = (1, *w.shape[1:])
    lows, highs = OPS["conv"].channel_ranges(n, tensor(shape, low, high))
    for o in range(w.shape[0]):
        up = w[o] - zw[o] > 0
        for wanted, x in ((lows[o], np.where(up, low, high)), (highs[o], np.where(up, high, low))):
            assert OPS["conv"].evaluate(n, x[None])[0, o].item() == wanted
    assert OPS["conv"].value_range(n, tensor(shape, low, high)) == (min(lows), max(highs))


def test_sums_beyond_float64_stay_exact():
    """Every carrier: float32, float64 and int64, with a last bit that a narrower one would lose."""
    for scale in (1, 1 << 12, 1 << 24, 1 << 29):
        x = np.full((1, 4, 1, 1), scale)
        x[0, 0] += 1
        w = np.full((1, 4, 1, 1), scale + 1)
        at = {"strides": [1, 1], "dilations": [1, 1], "pads": [0] * 4, "groups": 1}
        wanted = (4 * scale + 1) * (scale + 1)
        assert OPS["conv"].evaluate(node("conv", at, {"weight": w}), x).item() == wanted
        at["groups"] = 4
        out = OPS["conv"].evaluate(node("conv", at, {"weight": w.reshape(4, 1, 1, 1)}), x)
        assert out.sum() == wanted


def test_arrival_order():
    """Panels list products as the order says, the last token fastest."""
    w = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    for order in (("kh", "kw", "cin"), ("cin", "kh", "kw"), ("kw", "cin", "kh")):
        sizes = dict(zip(("cin", "kh", "kw"), w.shape[1:], strict=True))
        wanted = [
            w[1, p["cin"], p["kh"], p["kw"]]
            for place in np.ndindex(*(sizes[t] for t in order))
            for p in [dict(zip(order, place, strict=True))]
        ]
        at = {"strides": [1, 1], "dilations": [1, 1], "pads": [0] * 4, "groups": 1}
        n = node("conv", at, {"weight": w})
        assert OPS["conv"].weight_rows(n, w, order)[1].tolist() == wanted
        panel = next(OPS["conv"].panels(n, w[1:], w, 0, order))
        assert panel.a[0].tolist() == wanted
        assert panel.w[1].tolist() == wanted
    assert kernel_axes(("kh", "kw", "cin"), 1) == (1, 0)
    assert kernel_axes(("kh", "kw", "cin"), 3) == (1, 2, 3, 0)
    assert kernel_axes(("kh", "kw", "cin"), 4)[-1] == 4 or kernel_axes((), 4) == (0, 1, 2, 3, 4)


def test_panels_cover_the_output_once(monkeypatch):
    import intsim.ops.conv as module

    rng = np.random.default_rng(0)
    x, w = rng.integers(-9, 9, (2, 4, 7, 5)), rng.integers(-9, 9, (6, 2, 3, 2))
    n = node("conv", {"strides": [1, 1], "dilations": [1, 1], "pads": [1, 0, 1, 1], "groups": 2}, {"weight": w})
    whole = OPS["conv"].evaluate(n, x)
    monkeypatch.setattr(module, "PANEL_ELEMENTS", 40)
    np.testing.assert_array_equal(OPS["conv"].evaluate(n, x), whole)
    seen = np.zeros(OPS["conv"].extent(n, x.shape), int)
    panels = list(OPS["conv"].panels(n, x, w, 0))
    assert len(panels) > 8
    for panel in panels:
        seen[panel.rows, panel.channels] += 1
    assert (seen == 1).all()


def test_pad_spatial_crops_where_negative():
    x = np.arange(12).reshape(1, 1, 3, 4)
    assert pad_spatial(x, [1, -1, 0, 2], 7).tolist() == [
        [[[7] * 5, [1, 2, 3, 7, 7], [5, 6, 7, 7, 7], [9, 10, 11, 7, 7]]]
    ]
