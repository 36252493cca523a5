"""Layers whose machines are searched: vectors of a target, and dumps that another target or another file made."""

import numpy as np
from frontend.build import Net

import intsim
from intsim.diagnosis.layer import read_layer
from intsim.diagnosis.machine import Space
from intsim.golden.manifest import Manifest
from intsim.targets import Target

STAGES = '{ sum = "rest", bits = 32, overflow = "wrap" }'
REQUANTIZE = 'scheme = "fixed-point"\nmultiplier_bits = 32\nrounding = "half_up"'


def target(stages=STAGES, requantize=REQUANTIZE, bias="preload", operands=True, order="kh kw cin", more=""):
    """A machine with u8 x s8 operands, or with any whose zero points are taken off."""
    kinds = '[operands]\nactivation = "u8"\nweight = "s8"\n' if operands else ""
    text = f'title = "t"\nsource = ["test"]\n{kinds}[accumulate]\nstages = [{stages}]\nbias = "{bias}"\n'
    text += f'order = "{order}"\n{more}\n[requantize]\n{requantize}\n'
    return Target.from_toml(text)


def conv(seed=3, channels=3, outputs=4, size=(6, 5), pads=(1, 1, 1, 1), relu=True, zero=7, scale=0.06, **changes):
    """QDQ convolution `conv`, u8 with zero points, a scale a channel; `changes` replace `w`, `b` (codes), `group`."""
    rng, net = np.random.default_rng(seed), Net(opset=17)
    group = changes.get("group", 1)
    w = np.clip(np.rint(rng.normal(0, 45, (outputs, channels // group, 3, 3))), -127, 127).astype(np.int8)
    b = rng.integers(-3000, 3000, outputs).astype(np.int32)
    steps = rng.uniform(0.0005, 0.002, outputs).astype(np.float32)
    x = net.qdq(net.input(1, channels, *size), 0.05, np.uint8(zero))
    w, b = changes.get("w", lambda v: v)(w), changes.get("b", lambda v: v)(b)
    wq = net.node("DequantizeLinear", net.const(w), net.const(steps), net.const(np.zeros(outputs, np.int8)), axis=0)
    step = np.float32(np.float32(0.05) * steps)
    bq = net.node("DequantizeLinear", net.const(b), net.const(step), net.const(np.zeros(outputs, np.int32)), axis=0)
    y = net.node("Conv", x, wq, bq, kernel_shape=[3, 3], pads=list(pads), group=group)
    net.nodes[-1].name = "conv"
    y = net.node("Relu", y) if relu else y
    return net.model(net.qdq(y, scale, np.uint8(changes.get("out_zero", 5))))


def dense(seed=4, depth=24, outputs=6, relu=False):
    """QONNX-like dense layer `dense`, s8, scales that are powers of two."""
    rng, net = np.random.default_rng(seed), Net(opset=17)
    x = net.qdq(net.input(1, depth), 2.0**-4, np.int8(0))
    w = np.clip(np.rint(rng.normal(0, 45, (depth, outputs))), -127, 127).astype(np.int8)
    wq = net.node("DequantizeLinear", net.const(w), net.const(np.float32(2.0**-7)), net.const(np.int8(0)))
    y = net.node("MatMul", x, wq)
    net.nodes[-1].name = "dense"
    return net.model(net.qdq(y, 2.0**-1, np.int8(0)))


def codes(model, count=1, seed=0):
    """Inputs that use all codes of the first quantizer."""
    rng = np.random.default_rng(seed)
    info = model.graph.input[0]
    shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
    low, high = (-0.4, 12.5) if len(shape) == 4 else (-8.0, 7.9)
    return [{info.name: rng.uniform(low, high, shape).astype(np.float32)} for _ in range(count)]


def vectors(folder, model, on, count=1, name=None):
    """A folder of vectors of one layer."""
    name = name or next(n.name for n in model.graph.node if n.op_type in ("Conv", "MatMul"))
    inputs = codes(model, count)
    intsim.vectors(model, on, inputs if count > 1 else inputs[0], out=folder, layer=[name], formats=["npy"])
    return folder


def tensor(folder, role="output"):
    """A tensor of the one layer of a folder."""
    manifest = Manifest.read(folder)
    return manifest.tensor(manifest.layers[0], role).read()


def space(folder):
    """Of the one layer of a folder."""
    manifest = Manifest.read(folder)
    return Space(read_layer(manifest, manifest.layers[0]["name"]))
