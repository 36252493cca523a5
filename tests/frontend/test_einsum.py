"""Einsum as a matrix product, of tensors and constants; rotary embeddings and shifted windows."""

import numpy as np
import pytest

import intsim
from intsim.errors import IntsimError

from .build import Net, check

RNG = np.random.default_rng(2)
SIZES = {"b": 2, "h": 3, "i": 4, "j": 5, "d": 6, "e": 7}
PRODUCTS = [
    "bi,ij->bj",
    "bhid,bhjd->bhij",
    "bhij,bhjd->bihd",
    "bid,hde->bhie",
    "id,jd->ji",
    "...id,...jd->...ji",
    "hid,...hjd->...hij",
    "bi, i",
    "i,j->ij",
    "i,i",
    "bid,bjd",
]


def operand(net, term, name, constant, side):
    shape = [SIZES[c] for c in term.strip().replace("...", "b")]
    if constant:
        return net.quant(net.const(RNG.normal(0, 1, shape)), 0.1, 0, 4)
    return net.quant(net.input(*shape, name=name), 0.1, 0.0 if side else 3.0, 8), shape


@pytest.mark.parametrize("equation", PRODUCTS)
@pytest.mark.parametrize("constant", [None, 0, 1], ids=["tensors", "constant first", "constant second"])
def test_products(equation, constant):
    net, data, names = Net(), {}, []
    for side, term in enumerate(equation.split("->")[0].split(",")):
        made = operand(net, term, "xz"[side], constant == side, side)
        if constant != side:
            made, shape = made
            data["xz"[side]] = RNG.normal(0, 4, shape).astype(np.float32)
        names.append(made)
    model = net.model(net.quant(net.node("Einsum", *names, equation=equation), 0.5, 0, 12))
    run = check(model, data)
    assert "matmul" in {n.op for n in intsim.load(model).graph.nodes}
    values = [np.clip(np.round(data[n] / np.float32(0.1)) * 0.1, -13.1, 12.7) if n in data else None for n in "xz"]
    if constant is None and "..." not in equation:
        wanted = np.einsum(equation, *values)
        assert np.abs(next(iter(run.outputs.values())) - wanted).max() <= 0.26 + 0.3 * np.abs(wanted).max()


def test_a_transposition():
    net = Net()
    x = net.quant(net.input(2, 3, 4), 0.1, 0, 8)
    model = net.model(net.quant(net.node("Einsum", x, equation="abc->cab"), 0.2, 0, 8))
    check(model, {"x": RNG.normal(0, 4, (2, 3, 4)).astype(np.float32)})


REFUSED = {
    "bii,ij->bj": "diagonal",
    "bij,jk->bk": "sums an operand over an axis",
    "bi,j->bk": "isn't made of its operands' axes",
    "bi->b": "no product of two operands",
    "b,,i->b": "doesn't fit",
    "b1,i->b": "doesn't fit",
    "b,i->bi": "doesn't fit operands of",
}


@pytest.mark.parametrize("equation", REFUSED)
def test_refused(equation):
    net = Net()
    shapes = [(2, 4, 4), (4, 5)] if "bii" in equation else [(2, 4, 4), (4, 3)] if "bij" in equation else [(2, 4), (4,)]
    count = equation.split("->")[0].count(",") + 1
    names = [net.quant(net.input(*s, name=f"x{i}"), 0.1, 0, 8) for i, s in enumerate(shapes[:count])]
    with pytest.raises(IntsimError, match=REFUSED[equation]):
        intsim.load(net.model(net.quant(net.node("Einsum", *names, equation=equation), 0.5, 0, 8)))


def test_rotary_embeddings():
    """q cos + turned(q) sin, halves turned by Split, Neg and Concat; in front of a product of two tensors."""
    net = Net()
    angles = np.outer(np.arange(4), [1, 0.1]).repeat(2).reshape(4, 4)

    def turned(x):
        first, second = net.node("Split", x, np.int64([2, 2]), outputs=2, axis=-1)
        half = net.node("Concat", net.node("Neg", second), first, axis=-1)
        cos, sin = (net.quant(net.const(f(angles)), 1 / 127, 0, 8) for f in (np.cos, np.sin))
        return net.quant(net.node("Add", net.node("Mul", x, cos), net.node("Mul", half, sin)), 0.05, 0, 8)

    q, k = (turned(net.quant(net.input(2, 4, 4, name=n), 0.04, 0, 8)) for n in "qk")
    scores = net.node("MatMul", q, net.node("Transpose", k, perm=[0, 2, 1]))
    model = net.model(net.quant(net.node("Softmax", scores), 1 / 255, 0, 8, signed=0))
    data = {n: RNG.normal(0, 1.5, (2, 4, 4)).astype(np.float32) for n in "qk"}
    check(model, data, 3)
    assert intsim.verify(model, inputs=data, references=False).verdict == "exact"


def test_shifted_windows():
    """Swin: rolled, cut into windows, scores masked by -100 where parts of the image meet, and all of it back."""
    net, size, width = Net(), 4, 3

    def rolled(x, by):
        for axis in (1, 2):
            ends = (np.int64([by]), np.int64([size])), (np.int64([0]), np.int64([by]))
            parts = [net.node("Slice", x, *e, np.int64([axis])) for e in ends]
            x = net.node("Concat", *parts, axis=axis)
        return x

    def windows(x):
        x = net.node("Reshape", x, np.int64([1, 2, 2, 2, 2, width]))
        return net.node("Reshape", net.node("Transpose", x, perm=[0, 1, 3, 2, 4, 5]), np.int64([4, 4, width]))

    x = net.quant(net.input(1, size, size, width), 0.02, 0, 8)
    cut = windows(rolled(x, 1))
    scores = net.node("MatMul", cut, net.node("Transpose", cut, perm=[0, 2, 1]))
    part = np.arange(4)[:, None] // 2 == np.arange(4)[None] // 2
    mask = np.where([np.ones((4, 4), bool), part, part.T, np.eye(4, dtype=bool)], 0, -100).astype(np.float32)
    shares = net.quant(net.node("Softmax", net.node("Add", scores, mask)), 1 / 255, 0, 8, signed=0)
    mixed = net.node(
        "Reshape", net.quant(net.node("MatMul", shares, cut), 0.02, 0, 8), np.int64([1, 2, 2, 2, 2, width])
    )
    back = net.node("Transpose", mixed, perm=[0, 1, 3, 2, 4, 5])
    model = net.model(rolled(net.node("Reshape", back, np.int64([1, size, size, width])), 3))
    data = {"x": RNG.normal(0, 1, (1, size, size, width)).astype(np.float32)}
    check(model, data, 2)
    assert any("mask" in n.arrays for n in intsim.load(model).graph.nodes)
