"""The picture of a sweep: what covers what, and lines only where there is something to say."""

import numpy as np
import pytest
from frontend.build import Net

import intsim
from intsim.report.picture import sweep_figure

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure

SAFE = {"proven safe from here on", "observed safe from here on"}


def network(layers: int) -> intsim.Model:
    net = Net()
    x = net.quant(net.input(1, 2, 4, 4), 1, 0, 8, signed=0)
    for i in range(layers):
        w = net.quant(np.float32([[1, 2], [127, 126 - i]]).reshape(2, 2, 1, 1), 1, 0, 8, narrow=1)
        net.node("Conv", x, w, kernel_shape=[1, 1])
        net.nodes[-1].name = f"a rather long name of a layer {i}"
        x = net.quant(net.node("Relu", net.nodes[-1].output[0]), 256, 0, 8, signed=0)
    return intsim.load(net.model(x))


X = {"x": np.full((1, 2, 4, 4), 255, np.float32)}
SWEEPS = {
    "nothing proven": (1, {"accumulator": [8, 9, 10]}, set()),
    "one width": (1, {"accumulator": [20]}, SAFE),
    "one layer": (1, {"accumulator": range(9, 20)}, SAFE),
    "many layers": (30, {"accumulator": range(12, 20), "overflow": ["wrap"]}, SAFE),
    "multipliers": (2, {"multiplier": [4, 8, 12]}, set()),
    "both": (2, {"accumulator": range(12, 20), "multiplier": [4, 8]}, SAFE),
    "a grid": (2, {"accumulator": range(12, 20), "multiplier": [4, 8], "grid": True}, set()),
    "no layers": (0, {"accumulator": [8, 16]}, set()),
}


@pytest.fixture(scope="module", params=SWEEPS)
def drawn(request):
    layers, varied, lines = SWEEPS[request.param]
    figure = sweep_figure(Figure, intsim.sweep(network(layers), inputs=X, **varied))
    figure.draw_without_rendering()
    return figure, lines


def legends(figure):
    parts = [figure, *figure.subfigs, *(s for f in figure.subfigs for s in f.subfigs)]
    inside = [a.get_legend() for a in figure.axes]
    return [x for x in (*(y for p in parts for y in p.legends), *inside) if x is not None]


def test_legends_lie_beside_the_data(drawn):
    figure, _ = drawn
    whole = figure.bbox
    for legend in legends(figure):
        box = legend.get_window_extent()
        for axes in figure.axes:
            assert not box.overlaps(axes.get_window_extent()), axes.get_title()
        assert whole.x0 <= box.x0 < box.x1 <= whole.x1
        assert whole.y0 <= box.y0 < box.y1 <= whole.y1


def test_lines_stand_only_where_something_is_safe(drawn):
    figure, wanted = drawn
    labels = {line.get_label() for axes in figure.axes for line in axes.get_lines()}
    assert labels & SAFE == wanted
    named = {text.get_text() for legend in legends(figure) for text in legend.get_texts()}
    assert named & SAFE == wanted


def test_a_layer_that_is_never_safe_has_no_line():
    """Of two layers one is proven from 4 bits on, the other at no swept width: the line ends between them."""
    net = Net()
    x = net.quant(net.input(1, 2), 1, 0, 2, signed=0)
    net.node("MatMul", x, net.quant(np.float32([[1], [1]]), 1, 0, 2))
    y = net.quant(net.nodes[-1].output[0], 1, 0, 8, signed=0)
    net.node("MatMul", y, net.quant(np.float32([[127]]), 1, 0, 8))
    found = intsim.sweep(
        net.model(net.quant(net.nodes[-1].output[0], 8, 0, 8)), accumulator=[3, 4, 5], overflow=["wrap"]
    )
    assert [x.proven_from for x in found.safe_from()] == [4, None]
    figure = sweep_figure(Figure, found)
    (line,) = [x for a in figure.axes for x in a.get_lines() if x.get_label() == "proven safe from here on"]
    assert line.get_xdata()[:2].tolist() == [0.5, 0.5]
    assert np.isnan(line.get_xdata()[2:]).all()
