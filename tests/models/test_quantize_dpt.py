from collections import Counter
from fractions import Fraction
from math import log2

import numpy as np
import onnx
import pytest
import torch
from brevitas.graph.calibrate import calibration_mode
from brevitas.nn import QuantIdentity
from tiny_dpt import settled

import intsim
from intsim.errors import IntsimError
from models.disparity import Network
from models.export import export
from models.layer_errors import layer_errors, quantized_tensors, table
from models.networks import fold
from models.quantize import quantize
from models.quantize_dpt import ADDED, Residual, with_quantizers
from models.schemes import Scheme

pytestmark = pytest.mark.xdist_group("quantize_dpt")  # what its tests share is made once

META = Network("tiny", 2, 32, 48)


def _codes(seed, count=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *META.input_shape[1:]), generator=generator).float()


@pytest.fixture(scope="module")
def folded():
    return fold(settled(META.order))


@pytest.fixture(scope="module")
def quantized(folded):
    return quantize(folded, [_codes(seed) for seed in range(3)])


@pytest.fixture(scope="module")
def path(folded, quantized, tmp_path_factory):
    """The exported QONNX file."""
    return export(folded, quantized, META, {}, tmp_path_factory.mktemp("dpt"), qcdq=False)[0]


@pytest.fixture(scope="module")
def model(path):
    return intsim.load(path)


def test_outputs_are_int8_codes_near_the_float_outputs(folded, quantized):
    output, wanted = (network(_codes(9)).detach().numpy() for network in (quantized, folded))
    assert np.array_equal(output * 256, np.rint(output * 256))
    assert np.abs(output - wanted).mean() < 2 / 256
    assert wanted.std() > 4 / 256


def test_what_is_added_has_powers_of_two_as_scales(quantized):
    scales = [quantized.blocks()[name].relu.act_quant.scale() for name in ADDED]
    points = [quantized.embed_point, quantized.position_point, quantized.tokens]
    points += [getattr(layer, name) for layer in quantized.layers for name in ("branch1", "branch2", "sum1", "sum2")]
    scales += [point.act_quant.scale() for point in points]
    assert len(scales) == 5 + 3 + 12
    assert all(log2(scale.item()).is_integer() for scale in scales)
    for layer in quantized.layers:
        assert float(layer.attention.shares.act_quant.scale()) == 2.0**-8


def test_the_file_holds_layer_norms_and_the_position_whole(path, quantized):
    graph = onnx.load(path).graph
    kinds = Counter(node.op_type for node in graph.node)
    assert kinds["LayerNormalization"] == 6
    assert kinds["Softmax"] == kinds["Erf"] == 3
    assert kinds["Resize"] == 3  # maps only: the positional embedding of this grid is a constant
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names)
    assert {"stem0.conv", "layers.1.attention.scores.Quant", "layers.2.gelu.Erf", "head_x"} <= set(names)


def test_everything_between_the_quantizers_is_integers(model):
    assert not model.lowered.prologue.operations
    assert not model.lowered.epilogue.operations
    kinds = Counter(node.op for node in model.graph.nodes)
    assert (kinds["conv"], kinds["matmul"]) == (12, 24)
    assert (kinds["layer_norm"], kinds["softmax"], kinds["table"]) == (6, 3, 3)
    for node in model.graph.nodes:
        if node.op == "requantize" and len(node.inputs) > 1:  # sums: shifts only
            parts = {abs(int(a)) for a in np.asarray(node.arrays["coefficients"]).reshape(-1)}
            assert all(part & (part - 1) == 0 for part in parts), node.name


def test_integers_are_exactly_what_the_file_says(model):
    verdict = intsim.verify(model, "exact", {"codes": _codes(5, 1).numpy()}, references=False)
    assert verdict.verdict == "exact"
    assert verdict.overflows == 0
    assert len(verdict.layers) > 50


def test_integers_are_near_what_brevitas_computes(model, quantized):
    codes = _codes(6, 1)
    ours = model.run({"codes": codes.numpy()}).codes["output"]
    theirs = np.rint(quantized(codes).detach().numpy() * 256)
    # Brevitas sums in float32; a value next to a tie may round either way, and go on from there
    assert np.abs(ours - theirs).max() <= 2
    assert (ours != theirs).mean() < 0.05


@pytest.fixture(scope="module")
def exact(model):
    return model.run({"codes": _codes(7, 1).numpy()})


def test_32_bit_lanes_hold_everything(model, exact):
    ran = model.run({"codes": _codes(7, 1).numpy()}, "x86-vnni")
    assert not any(events.any() for events in ran.overflows.values())
    np.testing.assert_array_equal(ran.codes["output"], exact.codes["output"])


def test_saturating_sums_of_pairs_are_counted_and_blamed(model, exact):
    codes = {"codes": _codes(7, 1).numpy()}
    ran = model.run(codes, "x86-avx2")
    events = {name: int(e.sum()) for name, e in ran.overflows.items()}
    assert sum(events.values()) > 0
    verdict = intsim.verify(model, "x86-avx2", codes, references=False)
    assert verdict.overflows == sum(events.values())
    assert not verdict.holds
    difference = np.abs(ran.codes["output"] - exact.codes["output"])
    assert 0 < difference.max() < 64


def test_other_widths_of_the_residual_stream(folded):
    network = with_quantizers(folded, residual_bits=12)
    x = torch.tensor([1.0, -1.0])
    assert network.layers[0].sum1(x).bit_width == 12
    assert network.layers[0].norm1_point(x).bit_width == 8


def test_outliers_of_the_residual_stream_are_clipped():
    point = QuantIdentity(act_quant=Residual, bit_width=8)
    x = torch.linspace(-1, 1, 4001)
    x[::2001] = 100  # two of them, fewer than one in a thousand
    with torch.no_grad(), calibration_mode(point):
        point(x)
    point.eval()
    assert point.act_quant.scale().item() == 2.0**-7
    assert point(x).max().item() == 127 / 128
    assert (point(x) - x)[x < 0.99].abs().max().item() <= 1.001 * 2.0**-8


def test_a_pixel_embedding_is_quantized_with_the_rest():
    folded = fold(settled(1, embedding=2))
    network = quantize(folded, [_codes(seed) for seed in range(3)])
    output, wanted = (n(_codes(9)).detach().numpy() for n in (network, folded))
    assert np.abs(output - wanted).mean() < 2 / 256
    assert wanted.std() > 4 / 256


def test_what_cant_be_quantized_is_refused(folded):
    with pytest.raises(IntsimError, match="fold it first"):
        with_quantizers(settled(2))
    with pytest.raises(IntsimError, match="w8a8, not as w4a8"):
        quantize(folded, [], Scheme(weight_bits=4))


def test_layer_errors_cover_every_quantizer_and_are_what_numpy_says(folded, model):
    codes = _codes(8, 2).numpy()
    rows = layer_errors(folded, model, codes)
    quantizers = [n for n in model.graph.nodes if n.source.endswith(".Quant")]
    assert len(rows) == len(quantizers) == len({row.name for row in rows})
    assert {"stem0.relu", "layers.2.attention.shares", "outputs.y"} <= {row.name for row in rows}
    (row,) = [row for row in rows if row.name == "outputs.y"]
    wanted = folded(torch.from_numpy(codes)).detach().numpy()[:, 1].astype(np.float64)
    found = np.concatenate([model.run({"codes": c[None]}).codes["output"][:, 1] for c in codes]) / 256
    assert (row.type, row.step) == ("INT8", 1 / 256)
    assert row.rms == pytest.approx(np.sqrt((wanted**2).mean()), rel=1e-4)
    assert row.error == pytest.approx(np.sqrt(((found - wanted) ** 2).sum() / (wanted**2).sum()), rel=1e-4)
    assert row.largest == pytest.approx(np.abs(found - wanted).max(), rel=1e-4)
    own = np.rint(wanted * 256) / 256
    assert row.rounding == pytest.approx(np.sqrt(((own - wanted) ** 2).sum() / (wanted**2).sum()), rel=1e-4)
    assert row.signal == pytest.approx(-20 * np.log10(row.error), rel=1e-4)
    assert row.saturated == 0
    assert table(rows, "tiny").row_count == len(rows)


def test_layer_errors_need_the_model_of_that_network(model):
    with pytest.raises(IntsimError, match="none of its quantizers"):
        quantized_tensors(torch.nn.Linear(1, 1), model)


def test_the_scale_of_the_input_is_one(model):
    (name,) = model.graph.inputs
    assert set(model.graph.tensors[name].scale.reshape(-1)) == {Fraction(1)}
