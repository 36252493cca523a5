import copy
from fractions import Fraction

import numpy as np
import pytest
import torch

import intsim
from intsim.arithmetic.integers import IntegerType
from intsim.errors import IntsimError
from intsim.targets import Target
from models.accumulator_aware import store_integers
from models.disparity import Network
from models.export import export
from models.networks import DispNet, fold
from models.quantize import SHARED, quantize, with_quantizers
from models.quantizers import spread_table
from models.schemes import AWARE, Scheme

pytestmark = pytest.mark.xdist_group("quantize")  # what its tests share is made once

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


def random_codes():
    return torch.randint(0, 256, SIZE).float()


def exported(network, scheme, folder):
    """The network quantized to a scheme, as a lowered QONNX file."""
    torch.manual_seed(1)
    network = quantize(network, [random_codes() for _ in range(2)], scheme)
    if scheme.weights in AWARE:
        store_integers(network, torch.zeros(SIZE))
    export(None, network, Network("tiny", 3, 32, 48), {}, folder)
    return intsim.load(folder / "tiny_w8a8.qonnx.onnx")


def weights_of(model):
    """Integer weights of the convolutions, in the order of the graph: first layer first, heads last."""
    return [node.arrays["weight"] for node in model.graph.nodes if node.op == "conv"]


def power_of_two(number):
    return number.numerator & (number.numerator - 1) == 0 == number.denominator & (number.denominator - 1)


SCHEMES = [
    Scheme("binary"),
    Scheme("a2q+", 4, 4, accumulator_bits=14),
    Scheme("ternary", activation_bits=4, per_channel=False, power_of_two=True),
    *(
        pytest.param(scheme, marks=pytest.mark.slow)
        for scheme in (
            Scheme(weight_bits=4, activation_bits=4, per_channel=False),
            Scheme("ternary"),
            Scheme(),
            Scheme(weight_bits=4),
            Scheme(per_channel=False),
            Scheme(power_of_two=True),
            Scheme(weight_bits=2, activation_bits=2),
            Scheme(weight_bits=3, activation_bits=5, power_of_two=True),
            Scheme(weight_bits=4, activation_bits=4),
            Scheme("ternary", activation_bits=4),
            Scheme("ternary", per_channel=False),
            Scheme("binary", activation_bits=4, per_channel=False),
            Scheme("binary", power_of_two=True),
            Scheme("a2q", 8, 4, accumulator_bits=18),
            Scheme("a2q", 5, 6, accumulator_bits=20),
        )
    ),
]
SHIFT = Target.from_toml(
    'title = "shift, ties to even"\nsource = ["none"]\n[accumulate]\nstages = []\n'
    '[requantize]\nscheme = "shift"\nrounding = "half_even"\n'
)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_a_scheme_is_what_the_integers_show(folded, scheme, tmp_path):
    """Bits, signs, levels and scales in the lowered file; integers only; exact."""
    model = exported(folded, scheme, tmp_path)
    first, *inner, head, other = weights_of(model)
    assert len(inner) == 10
    levels = {"ternary": 1, "binary": 1}.get(scheme.weights, (1 << scheme.weight_bits - 1) - 1)
    for weight in inner:
        found = set(np.unique(weight))
        assert max(map(abs, found)) <= levels
        if scheme.weights == "binary":
            assert found == {-1, 1}
        elif scheme.weights not in AWARE:
            assert len(found) > min(levels, 16)
            assert max(map(abs, found)) > levels // 2
    if scheme.weights not in AWARE:
        assert min(np.abs(weight).max() for weight in (first, head, other)) > 63
    tensors = model.graph.tensors
    conv = next(n for n in model.graph.nodes if n.op == "conv" and n.arrays["weight"] is inner[0])
    sizes = {1: 1} if not scheme.per_channel else {len(inner[0]): 1, 1: scheme.power_of_two}  # equal ones are one
    assert sizes.get(tensors[conv.output].scale.size)
    bits = [tensors[node.output].type.bits for node in model.graph.nodes if node.op == "requantize"]
    assert bits == [scheme.activation_bits] * 10 + [8, 8, 8]
    (codes,) = model.graph.inputs
    assert (tensors[codes].low, tensors[codes].high, tensors[codes].scale.item()) == (0, 255, 1)
    outputs = [tensors[node.output] for node in model.graph.nodes if node.op == "requantize"][-2:]
    assert all((t.type, t.scale.item()) == (IntegerType(8, True), Fraction(1, 256)) for t in outputs)
    powers = all(power_of_two(scale) for t in tensors.values() for scale in t.scale.reshape(-1))
    assert powers == scheme.power_of_two
    path = tmp_path / "tiny_w8a8.qonnx.onnx"
    verdict = intsim.verify(path, "exact", samples=1, seed=3, references=False)
    assert (verdict.verdict, verdict.host["prologue"], verdict.host["epilogue"]) == ("exact", [], [])
    if scheme.power_of_two:
        assert intsim.verify(path, SHIFT, samples=1, seed=3, references=False).verdict == "exact"
        assert intsim.certify(model, SHIFT).verdict == "certified"
    else:
        with pytest.raises(IntsimError, match="not a power of two"):
            intsim.verify(path, SHIFT, samples=1, seed=3, references=False)
    if scheme.weights in AWARE:
        assert intsim.bounds(model, f"a2q-{scheme.accumulator_bits}").safe


def test_the_scales_of_few_bits_are_the_best(folded):
    """No scale within a factor of two has a smaller squared error, up to the spacing of the candidates."""
    for scheme in (Scheme("ternary"), Scheme(weight_bits=4), Scheme("ternary", power_of_two=True)):
        layer = with_quantizers(folded, scheme).blocks()["enc2.0"].conv
        weight, scale = layer.weight.detach().flatten(1), layer.quant_weight().scale.detach().flatten(1)
        limit = 1 if scheme.weights == "ternary" else 7

        def error(scale, weight=weight, limit=limit):
            return ((weight / scale).round().clamp(-limit, limit) * scale - weight).square().sum(1)

        torch.testing.assert_close(
            layer.quant_weight().value.detach().flatten(1), (weight / scale).round().clamp(-limit, limit) * scale
        )
        factors = (0.5, 2.0) if scheme.power_of_two else torch.linspace(0.5, 2, 31)
        assert all((error(scale * factor) > 0.99 * error(scale)).all() for factor in factors)


def test_binary_weights_have_the_mean_size(folded):
    layer = with_quantizers(folded, Scheme("binary")).blocks()["dec1.0"].conv
    value = layer.quant_weight().value.detach()
    torch.testing.assert_close(value.abs().amax((1, 2, 3)), layer.weight.detach().abs().mean((1, 2, 3)))
    assert torch.equal(value > 0, layer.weight >= 0)


def test_a_float_first_layer_stays_on_the_host(folded, tmp_path):
    """Its convolution and ReLU are the prologue; the codes of the first quantizer are the integers' input."""
    model = exported(folded, Scheme(weight_bits=4, activation_bits=4, first="float"), tmp_path)
    verdict = intsim.verify(tmp_path / "tiny_w8a8.qonnx.onnx", "exact", samples=1, seed=3, references=False)
    assert verdict.verdict == "exact"
    assert [line.split()[0] for line in verdict.host["prologue"]] == ["enc0.0.conv", "enc0.0.relu"]
    (codes,) = model.graph.inputs
    assert (model.graph.tensors[codes].shape, model.graph.tensors[codes].high) == ((1, 4, 16, 24), 15)
    assert len(weights_of(model)) == 12


@pytest.fixture(scope="module")
def embedded():
    torch.manual_seed(0)
    network = DispNet(3, (4, 6, 8, 10), embedding=3).train()
    with torch.no_grad():
        network.input.table += 0.3 * torch.randn(256, 3)
        for _ in range(5):
            network(random_codes())
    return fold(network.eval())


@pytest.mark.parametrize("power", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_embedding_is_one_integer_table(embedded, power, tmp_path):
    """256 rows of 4 unsigned bits, read at the pixel codes; nothing before it, 4-bit weights behind it; exact."""
    scheme = Scheme(weight_bits=4, activation_bits=4, power_of_two=power)
    model = exported(embedded, scheme, tmp_path)
    graph = model.graph
    assert [node.op for node in graph.nodes][:4] == ["lookup", "transpose", "reshape", "conv"]
    assert [node.op for node in graph.nodes].count("lookup") == 1
    table = graph.nodes[0].arrays["table"]
    assert (table.shape, table.min(), table.max()) == ((256, 3), 0, 15)
    assert len(np.unique(table)) == 16
    assert graph.nodes[0].inputs == tuple(graph.inputs)
    assert (graph.tensors[graph.inputs[0]].low, graph.tensors[graph.inputs[0]].high) == (0, 255)
    assert weights_of(model)[0].shape == (4, 99, 3, 3)
    assert np.abs(weights_of(model)[0]).max() <= 7
    verdict = intsim.verify(tmp_path / "tiny_w8a8.qonnx.onnx", "exact", samples=1, seed=3, references=False)
    assert (verdict.verdict, verdict.host["prologue"]) == ("exact", [])


def test_spreading_a_table_keeps_the_function_inside_the_border(embedded):
    spread = copy.deepcopy(embedded)
    spread_table(spread)
    table = spread.input.table
    torch.testing.assert_close((table.amin(0), table.amax(0)), (torch.zeros(3), torch.ones(3)))
    codes = random_codes()
    before, after = (network.blocks()["enc0.0"].conv(network.input(codes)) for network in (embedded, spread))
    torch.testing.assert_close(before[..., 1:-1, 1:-1], after[..., 1:-1, 1:-1], rtol=0, atol=2e-5)
    assert not torch.allclose(before, after, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"weights": "float"}, "take int, ternary"),
        ({"weight_bits": 1}, "take 2 to 8"),
        ({"activation_bits": 9}, "take 2 to 8"),
        ({"weights": "a2q", "power_of_two": True}, "float scales per channel only"),
        ({"weights": "a2q+", "per_channel": False}, "float scales per channel only"),
    ],
)
def test_impossible_schemes_are_refused(wrong, complaint):
    with pytest.raises(IntsimError, match=complaint):
        Scheme(**wrong)


def test_names_of_schemes():
    assert Scheme().name == "w8a8"
    assert Scheme("binary", activation_bits=4, per_channel=False, power_of_two=True).name == "w1a4-tensor-shift"
    assert Scheme("a2q", accumulator_bits=18).name == "w8a8-a2q-18"
    assert Scheme.of({"start": "p3", "weights": "ternary", "activation_bits": 4}) == Scheme("ternary", 8, 4)
