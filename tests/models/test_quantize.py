import numpy as np
import pytest
import torch

from intsim.errors import IntsimError
from models.networks import DispNet, fold
from models.quantize import SHARED, quantize, with_quantizers

SIZE = (2, 33, 16, 24)


@pytest.fixture(scope="module")
def folded():
    torch.manual_seed(0)
    network = DispNet(3, (4, 6, 8, 10)).train()
    with torch.no_grad():
        for _ in range(5):
            network(torch.randint(0, 256, SIZE).float())
    return fold(network.eval())


@pytest.fixture(scope="module")
def quantized(folded):
    torch.manual_seed(1)
    return quantize(folded, [torch.randint(0, 256, SIZE).float() for _ in range(3)])


def test_outputs_are_int8_codes_near_the_float_outputs(folded, quantized):
    codes = torch.randint(0, 256, SIZE).float()
    output = quantized(codes).detach().numpy()
    scaled = output * 256
    assert np.array_equal(scaled, np.rint(scaled))
    assert np.abs(output - folded(codes).detach().numpy()).mean() < 4 / 256


def test_input_codes_pass_unchanged(quantized):
    codes = torch.arange(256).float().reshape(1, 1, 16, 16)
    assert torch.equal(quantized.input(codes).value, codes)
    assert float(quantized.input.act_quant.scale()) == 1.0


def test_output_scale_is_the_constant(quantized):
    for output in quantized.outputs.values():
        assert float(output.act_quant.scale()) == 2.0**-8


def test_weights_are_narrow_int8_per_channel(quantized):
    layers = {name: block.conv for name, block in quantized.blocks().items()} | dict(quantized.heads)
    assert len(layers) == 13
    for name, layer in layers.items():
        weight = layer.quant_weight()
        codes = weight.int()
        assert weight.scale.numel() == layer.out_channels, name
        assert codes.min() >= -127, name
        assert codes.abs().amax((1, 2, 3)).eq(127).all(), name
        assert layer.bias_quant.is_quant_enabled, name


def test_concatenated_tensors_share_their_quantizer(quantized):
    blocks = quantized.blocks()
    for first, second in SHARED:
        assert blocks[first].relu is blocks[second].relu
    others = [block.relu for name, block in blocks.items() if name not in {second for _, second in SHARED}]
    assert len({id(relu) for relu in others}) == len(others)


def test_the_float_network_is_not_touched(folded, quantized):
    assert not any("Quant" in type(module).__name__ for module in folded.modules())


def test_unfolded_networks_are_refused():
    with pytest.raises(IntsimError, match="fold it first"):
        with_quantizers(DispNet(0, (4, 4, 4, 4)))
