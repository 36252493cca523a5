"""The networks that are measured, each as QONNX, as QCDQ and fully fused, with inputs from a seed.

dispnet, h3dispnet   the zoo's files as Brevitas exported them, on codes of an image pair of 256x512 pixels
unet                 12 convolutions, 4.70 GMAC: 7x7/2 6>32, 3x3 32>32, 3x3/2 32>64, 64>64, 3x3/2 64>128, 128>128,
                     3x3/2 128>256, 256>256; then three times upsampling, concatenation and a 3x3 convolution 384>128,
                     192>64, 96>32; a 3x3 head 32>1. Input 6x256x512
mobilenet            depthwise 3x3 and 1x1 convolutions, widths 16..512 (MobileNetV1 x 0.5), a residual addition around
                     every block that keeps its shape, global average, 512>1000. Input 3x224x224
mlp                  784>512>512>10, batches of 64 and of 1
layer                one convolution of c>c channels, for the peers that run layers only and for growth
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, shape_inference

from bench.draft import Draft, with_input
from bench.forms import qcdq_form, qonnx_form, value
from bench.fuse import fused_form

ROOT = Path(__file__).resolve().parent.parent
ZOO = ROOT / "models" / "zoo"
FOLDER = ROOT / "out" / "bench" / "networks"


@dataclass(frozen=True, eq=False)
class Network:
    """Three forms of one network and an input; `macs` multiply-accumulates of one run."""

    name: str
    qonnx: onnx.ModelProto
    qcdq: onnx.ModelProto
    fused: onnx.ModelProto
    inputs: dict[str, NDArray[np.float32]]
    macs: int

    def save(self, folder: Path = FOLDER) -> dict[str, Path]:
        """Write the three files and the input for other processes; returns their paths by form."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = {form: folder / f"{self.name}.{form}.onnx" for form in ("qonnx", "qcdq", "fused")}
        for form, path in paths.items():
            path.write_bytes(getattr(self, form).SerializeToString())
        np.savez(folder / f"{self.name}.npz", allow_pickle=False, **self.inputs)
        return {**paths, "inputs": folder / f"{self.name}.npz"}


def count_macs(qcdq: onnx.ModelProto) -> int:
    """Multiply-accumulates of all Conv and Gemm nodes, multiplications by padding included."""
    graph = shape_inference.infer_shapes(qcdq).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            total += int(np.prod(shapes[node.output[0]])) * int(np.prod(shapes[node.input[1]][1:]))
        elif node.op_type == "Gemm":
            total += int(np.prod(shapes[node.output[0]])) * shapes[node.input[0]][1]
    return total


def from_draft(name: str, draft: Draft, shape: tuple[int, ...]) -> Network:
    """All forms of a draft for one input shape."""
    qcdq = qcdq_form(draft, shape)
    # whole codes, as the bytes of an image are: the input's quantizer then leaves nothing to argue about
    codes = np.rint(value(draft.seen["x"], shape) * 255).astype(np.float32)
    inputs = {"x": codes * draft.scales["x"]}
    return Network(name, qonnx_form(draft, shape), qcdq, fused_form(qcdq), inputs, count_macs(qcdq))


def image(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Smooth blobs and a little noise, 0..1."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((*shape[:2], -(-shape[2] // 8), -(-shape[3] // 8)))
    smooth = coarse.repeat(8, 2).repeat(8, 3)[:, :, : shape[2], : shape[3]]
    return (0.9 * smooth + 0.1 * rng.random(shape)).astype(np.float32)


@cache
def _unet(width: int) -> Draft:
    a, b, c, e = (width * n for n in (1, 2, 4, 8))
    d = Draft("unet", image((1, 6, 64, 128), 1), seed=1)
    x = d.conv("x", "e0", a, 7, 2)
    e1 = d.conv(x, "e1", a)
    x = d.conv(e1, "e2", b, stride=2)
    e3 = d.conv(x, "e3", b)
    x = d.conv(e3, "e4", c, stride=2)
    e5 = d.conv(x, "e5", c)
    x = d.conv(e5, "e6", e, stride=2)
    x = d.conv(x, "e7", e, scale=d.scales[e5])
    x = d.conv(d.concat(d.upsample(x, "u2"), e5, "c2"), "d2", c, scale=d.scales[e3])
    x = d.conv(d.concat(d.upsample(x, "u1"), e3, "c1"), "d1", b, scale=d.scales[e1])
    x = d.conv(d.concat(d.upsample(x, "u0"), e1, "c0"), "d0", a)
    d.conv(x, "head", 1, relu=False, signed=True)
    return d


@cache
def _mobilenet() -> Draft:
    d = Draft("mobilenet", image((1, 3, 224, 224), 2), seed=2)
    x = d.conv("x", "stem", 16, stride=2)
    widths = [(32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (256, 2), *[(256, 1)] * 5, (512, 2), (512, 1)]
    for n, (width, stride) in enumerate(widths):
        same = width == d.seen[x].shape[1] and stride == 1
        y = d.conv(x, f"b{n}.dw", d.seen[x].shape[1], stride=stride, depthwise=True)
        y = d.conv(y, f"b{n}.pw", width, 1, scale=d.scales[x] if same else None)
        x = d.add(x, y, f"b{n}.add") if same else y
    d.dense(d.flatten(d.mean(x, "mean"), "flat"), "top", 1000, relu=False, signed=True)
    return d


@cache
def _mlp() -> Draft:
    d = Draft("mlp", np.random.default_rng(3).random((64, 784)).astype(np.float32), seed=3)
    d.dense(d.dense(d.dense("x", "fc0", 512), "fc1", 512), "fc2", 10, relu=False, signed=True)
    return d


@cache
def _layer(channels: int, kernel: int) -> Draft:
    drawn = np.maximum(np.random.default_rng(4).normal(size=(1, channels, 32, 64)), 0)  # as behind a ReLU: half are 0
    d = Draft("layer", (drawn / drawn.max()).astype(np.float32), seed=4)
    d.conv("x", "conv", channels, kernel)
    return d


def unet(height: int = 256, width: int = 512, batch: int = 1, channels: int = 32) -> Network:
    """The U-Net; height and width multiples of 16. `channels` of the finest level, 2, 4 and 8 times as many below."""
    usual = (height, width, batch, channels) == (256, 512, 1, 32)
    name = "unet" if usual else f"unet{channels}_{batch}x{height}x{width}"
    return from_draft(name, _unet(channels), (batch, 6, height, width))


def mobilenet() -> Network:
    """The MobileNet."""
    return from_draft("mobilenet", _mobilenet(), (1, 3, 224, 224))


def mlp(batch: int = 64) -> Network:
    """The perceptron."""
    return from_draft(f"mlp{batch}", _mlp(), (batch, 784))


def layer(channels: int = 32, height: int = 128, width: int = 256, kernel: int = 3) -> Network:
    """One convolution."""
    name = f"conv{kernel}x{kernel}_{channels}_{height}x{width}"
    return from_draft(name, _layer(channels, kernel), (1, channels, height, width))


def zoo(name: str, height: int = 256, width: int = 512) -> Network:
    """A network of the zoo on the codes of an image pair of `height` x `width` pixels; the network sees half of it."""
    forms = {form: onnx.load(ZOO / f"{name}_w8a8.{form}.onnx") for form in ("qonnx", "qcdq")}
    first = forms["qcdq"].graph.input[0]
    channels = first.type.tensor_type.shape.dim[1].dim_value
    shape = (1, channels, height // 2, width // 2)
    for form, model in forms.items():
        forms[form] = with_input(model, shape)
        for out in forms[form].graph.output:
            old = [d.dim_value for d in out.type.tensor_type.shape.dim]
            out.CopyFrom(helper.make_tensor_value_info(out.name, onnx.TensorProto.FLOAT, [*old[:2], *shape[2:]]))
    codes = np.floor(image(shape, 5) * 256).astype(np.float32)
    qonnx, qcdq = forms["qonnx"], forms["qcdq"]
    return Network(name, qonnx, qcdq, fused_form(qcdq), {first.name: codes}, count_macs(qcdq))


def restored(name: str, folder: Path = FOLDER) -> Network:
    """A network that `Network.save` wrote."""
    qonnx, qcdq, fused = (onnx.load(folder / f"{name}.{form}.onnx") for form in ("qonnx", "qcdq", "fused"))
    with np.load(folder / f"{name}.npz") as inputs:
        return Network(name, qonnx, qcdq, fused, dict(inputs), count_macs(qcdq))


NETWORKS: dict[str, Callable[[], Network]] = {
    "unet": unet,
    "h3dispnet": lambda: zoo("h3dispnet"),
    "dispnet": lambda: zoo("dispnet"),
    "mobilenet": mobilenet,
    "mlp64": lambda: mlp(64),
    "mlp1": lambda: mlp(1),
}
