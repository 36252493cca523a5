"""Verify my Brevitas model: export it, and compare every integer with exact arithmetic on the exported file.

`python verify_my_brevitas_model.py [FILE]` writes FILE (digits.onnx). Needs `intsim[references]` and Brevitas.
"""

import sys

import brevitas.nn as qnn
import torch
from brevitas.core.scaling import ScalingImplType
from brevitas.export import export_qonnx
from brevitas.quant import Int8WeightPerTensorFloat, Uint8ActPerTensorFloat
from torch import nn

import intsim

ACTIVATION = {"act_quant": Uint8ActPerTensorFloat, "scaling_impl_type": ScalingImplType.CONST}
WEIGHT = {"weight_quant": Int8WeightPerTensorFloat}


class Digits(nn.Module):
    """Ten classes of 8 x 8 images. Constant activation scales make the file the same everywhere."""

    def __init__(self):
        super().__init__()
        self.image = qnn.QuantIdentity(**ACTIVATION, max_val=1.0)
        self.conv1 = qnn.QuantConv2d(1, 8, 3, padding=1, bias=True, **WEIGHT)
        self.relu1 = qnn.QuantReLU(**ACTIVATION, max_val=2.0)
        self.conv2 = qnn.QuantConv2d(8, 16, 3, stride=2, padding=1, bias=True, **WEIGHT)
        self.relu2 = qnn.QuantReLU(**ACTIVATION, max_val=2.0)
        self.classify = qnn.QuantLinear(16 * 4 * 4, 10, bias=True, **WEIGHT)

    def forward(self, x):
        """Images (n, 1, 8, 8) in 0..1 to scores (n, 10)."""
        x = self.relu1(self.conv1(self.image(x)))
        return self.classify(self.relu2(self.conv2(x)).flatten(1))


def main(file="digits.onnx"):
    """Export and verify; 1 where something differs."""
    torch.manual_seed(0)
    names = {"input_names": ["image"], "output_names": ["scores"]}
    export_qonnx(Digits().eval(), torch.rand(1, 1, 8, 8), file, dynamo=False, **names)

    verdict = intsim.verify(file, "exact", samples=2)
    for layer in verdict.layers:
        print(f"{layer.name}: {layer.elements} integers, {layer.mismatches} wrong")
    for name, executor in verdict.references.items():
        print(f"{name}: {executor.reason or f'{executor.mismatches} of {executor.judged} wrong'}")
    print(verdict.verdict)
    return 0 if verdict.holds else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
