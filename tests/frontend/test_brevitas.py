"""Files as Brevitas writes them, QONNX and QCDQ: each lowers, and its integers are the reference's."""

import warnings

import pytest

torch = pytest.importorskip("torch", reason="Brevitas networks need the extra `train`")

import brevitas.nn as qnn  # noqa: E402
from brevitas.export import export_onnx_qcdq, export_qonnx  # noqa: E402
from brevitas.quant import (  # noqa: E402
    Int8ActPerTensorFloat,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFloat,
    Int32Bias,
    Uint8ActPerTensorFloat,
)
from brevitas.quant.binary import SignedBinaryWeightPerTensorConst  # noqa: E402
from brevitas.quant.fixed_point import Int8ActPerTensorFixedPoint, Int8WeightPerTensorFixedPoint  # noqa: E402
from brevitas.quant.shifted_scaled_int import (  # noqa: E402
    ShiftedUint8ActPerTensorFloat,
    ShiftedUint8WeightPerTensorFloat,
)
from brevitas.quant.ternary import SignedTernaryWeightPerTensorConst  # noqa: E402
from torch import nn  # noqa: E402

import intsim  # noqa: E402


class Chain(nn.Module):
    """Convolution with unfolded normalization, depthwise, transposed, linear; an accumulator at the end."""

    def __init__(self, activation, weight, bits=8, bias=Int32Bias):
        super().__init__()
        shared = {"weight_quant": weight, "weight_bit_width": bits, "return_quant_tensor": False}
        self.input = qnn.QuantIdentity(act_quant=activation, return_quant_tensor=True)
        self.conv = qnn.QuantConv2d(3, 8, 3, padding=1, bias_quant=bias, **shared)
        self.norm = nn.BatchNorm2d(8)
        self.relu = qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=bits, return_quant_tensor=True)
        self.depthwise = qnn.QuantConv2d(8, 8, 3, padding=1, groups=8, stride=2, bias=False, **shared)
        self.between = qnn.QuantIdentity(act_quant=activation, return_quant_tensor=True)
        self.up = qnn.QuantConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1, bias_quant=bias, **shared)
        self.after = qnn.QuantIdentity(act_quant=activation, return_quant_tensor=True)
        self.linear = qnn.QuantLinear(6 * 8 * 8, 5, bias=True, bias_quant=bias, **shared)

    def forward(self, x):
        x = self.relu(self.norm(self.conv(self.input(x))))
        x = self.after(self.up(self.between(self.depthwise(x))))
        return self.linear(x.flatten(1))


class Residual(nn.Module):
    """LeakyReLU, residual addition, concatenation of different scales, a pool, an output quantizer."""

    def __init__(self, pool, features):
        super().__init__()
        self.input, self.a, self.joined = (qnn.QuantIdentity(return_quant_tensor=True) for _ in range(3))
        self.first = qnn.QuantConv2d(3, 8, 3, padding=1, bias=False)
        self.second = qnn.QuantConv2d(8, 8, 3, padding=1, bias=False)
        self.four_bits = qnn.QuantIdentity(bit_width=4, return_quant_tensor=True)
        self.add = qnn.QuantEltwiseAdd(return_quant_tensor=True)
        self.leaky = nn.LeakyReLU(0.1)
        self.pool = pool
        self.linear = qnn.QuantLinear(features, 4, bias=True)
        self.output = qnn.QuantIdentity()

    def forward(self, x):
        x = self.a(self.first(self.input(x)))
        y = self.add(x, self.four_bits(self.leaky(self.second(x))))
        joined = self.joined(torch.cat([y.value, x.value], 1))
        return self.output(self.linear(self.pool(joined).flatten(1)))


class Gated(nn.Module):
    """A function of many bends between two quantizers."""

    def __init__(self, function):
        super().__init__()
        self.input, self.before, self.after = (qnn.QuantIdentity(return_quant_tensor=True) for _ in range(3))
        self.first, self.second = qnn.QuantConv2d(3, 8, 3, padding=1, bias=False), qnn.QuantConv2d(8, 4, 3, bias=False)
        self.function, self.output = function, qnn.QuantIdentity()

    def forward(self, x):
        x = self.before(self.first(self.input(x)))
        return self.output(self.second(self.after(self.function(x.value))))


class Layerwise(nn.Module):
    """As Brevitas' `layerwise_quantize` leaves a network: each layer rounds what it reads, nothing else does.

    A pyramid of pools of a function, and a U of two branches that nobody quantized.
    """

    def __init__(self, function):
        super().__init__()

        def conv(i, o, **more):
            options = {"input_quant": Int8ActPerTensorFloat, "weight_quant": Int8WeightPerChannelFloat} | more
            return qnn.QuantConv2d(i, o, 3, padding=1, **options)

        self.first, self.deep, self.wide = conv(3, 6), conv(24, 8, stride=2, bias_quant=Int32Bias), conv(14, 4)
        self.norm, self.function, self.pool = nn.BatchNorm2d(6), function, nn.MaxPool2d(3, 1, 1)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x):
        x = self.function(self.norm(self.first(x)))
        y = self.pool(x)
        z = self.pool(y)
        deep = torch.relu(self.deep(torch.cat([x, y, z, self.pool(z)], 1)))
        return self.wide(torch.cat([self.up(deep), x], 1))


class LayerwiseResidual(Layerwise):
    """The same of what computes with numbers that nobody quantized: a residual sum, a gate, a smooth enlargement."""

    def __init__(self):
        super().__init__(nn.ReLU())

        def conv(i, o, size=3):
            options = {"input_quant": Int8ActPerTensorFloat, "weight_quant": Int8WeightPerChannelFloat}
            return qnn.QuantConv2d(i, o, size, padding=size // 2, bias_quant=Int32Bias, **options)

        self.first, self.deep, self.gate, self.wide = conv(3, 6), conv(6, 6), conv(6, 6, 1), conv(6, 4)
        self.norms = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(2))
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")

    def forward(self, x):
        x = torch.relu(self.norms[0](self.first(x)))
        x = torch.relu(x + self.norms[1](self.deep(x)))
        x = x * nn.functional.hardsigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        return self.wide(self.up(x))


NETWORKS = {
    "symmetric": lambda: Chain(Int8ActPerTensorFloat, Int8WeightPerChannelFloat),
    "asymmetric": lambda: Chain(ShiftedUint8ActPerTensorFloat, ShiftedUint8WeightPerTensorFloat),
    "power of two": lambda: Chain(Int8ActPerTensorFixedPoint, Int8WeightPerTensorFixedPoint),
    "4 bits": lambda: Chain(Int8ActPerTensorFloat, Int8WeightPerTensorFloat, 4),
    "float bias": lambda: Chain(Int8ActPerTensorFloat, Int8WeightPerChannelFloat, 8, None),
    "binary": lambda: Chain(Int8ActPerTensorFloat, SignedBinaryWeightPerTensorConst, 1, None),
    "ternary": lambda: Chain(Int8ActPerTensorFloat, SignedTernaryWeightPerTensorConst, 2, None),
    "gelu": lambda: Gated(nn.GELU()),
    "silu": lambda: Gated(nn.SiLU()),
    "max pool": lambda: Residual(nn.MaxPool2d(2), 16 * 4 * 4),
    "truncated average": lambda: Residual(qnn.TruncAvgPool2d(2), 16 * 4 * 4),
    "layerwise SiLU": lambda: Layerwise(nn.SiLU()),
    "layerwise HardSwish": lambda: Layerwise(nn.Hardswish()),
    "layerwise residual": LayerwiseResidual,
    "truncated global average": lambda: Residual(qnn.TruncAdaptiveAvgPool2d(1), 16),
}
DIALECTS = {"qonnx": export_qonnx, "qcdq": export_onnx_qcdq}
NO_QCDQ = {"binary"}  # Brevitas itself refuses: "Binary quant not supported"


def exports():
    """Each network in one of the two dialects every day, by turns, and in the other in the long suite."""
    everyday = {name: "qonnx" if name in NO_QCDQ else ("qonnx", "qcdq")[i % 2] for i, name in enumerate(NETWORKS)}
    return [
        pytest.param(name, dialect, marks=[pytest.mark.slow] * (dialect != everyday[name]))
        for name in NETWORKS
        for dialect in DIALECTS
    ]


@pytest.mark.parametrize(("name", "dialect"), exports())
def test_a_brevitas_export_is_exact(name, dialect, tmp_path):
    if dialect == "qcdq" and name in NO_QCDQ:
        pytest.skip("Brevitas doesn't export binary weights to QCDQ")
    torch.manual_seed(20240522)
    network, path = NETWORKS[name](), tmp_path / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.train()
        for _ in range(3):
            network(torch.randn(4, 3, 8, 8))
        network.eval()
        DIALECTS[dialect](network, torch.randn(1, 3, 8, 8), str(path), dynamo=False)
    verdict = intsim.verify(path, "exact", samples=2, seed=7, references=name in ("asymmetric", "truncated average"))
    assert verdict.verdict == "exact"
    assert sum(layer.elements for layer in verdict.layers) > 1000
    assert not verdict.host["prologue"]
    for executor in verdict.references.values():
        assert executor.reason is None
        assert executor.mismatches == sum(executor.blame.values()) == executor.blame["float_rounding"]
