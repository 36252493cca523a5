"""A2Q's promise, on the exported file: no sum of products leaves its register, for any input."""

import numpy as np
import pytest
import torch
from brevitas.nn import QuantConv2d

import intsim
from intsim.errors import IntsimError
from models import finetune
from models.accumulator_aware import largest_norm, store_integers, weight_quantizer
from models.disparity import ZOO, Network
from models.export import export
from models.finetune import start_network
from models.networks import DispNet, fold
from models.quantize import quantize
from models.recipe import checked
from models.schemes import Scheme
from models.train import make_network, make_optimizer
from tests.models.test_train import RECIPE

pytestmark = pytest.mark.xdist_group("accumulator_aware")  # what its tests share is made once

SIZE = (2, 33, 16, 24)
CASES = [
    ("a2q+", 14),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in (("a2q", 16), ("a2q", 20), ("a2q+", 18))),
]


@pytest.fixture(scope="module")
def folded():
    torch.manual_seed(0)
    network = DispNet(2, (4, 6, 8, 10)).train()
    with torch.no_grad():
        for _ in range(5):
            network(torch.randint(0, 256, SIZE).float())
    return fold(network.eval())


def quantized(folded, weights="int", bits=32):
    torch.manual_seed(1)
    scheme = Scheme(weights, accumulator_bits=bits)
    return quantize(folded, [torch.randint(0, 256, SIZE).float() for _ in range(2)], scheme)


def exported(network, folder):
    meta = Network("tiny", 2, 32, 64)
    export(None, network, meta, {}, folder)
    return intsim.load(folder / "tiny_w8a8.qonnx.onnx")


def norms(model):
    """Largest l1 norm of a channel's integer weights, over all layers."""
    rows = [np.abs(n.arrays["weight"]).sum((1, 2, 3)) for n in model.graph.nodes if n.op == "conv"]
    return max(int(r.max()) for r in rows)


@pytest.mark.parametrize(("weights", "bits"), CASES)
def test_the_exported_file_keeps_the_promise(folded, tmp_path, weights, bits):
    network = quantized(folded, weights, bits)
    integers = {}

    def note(layer, inputs):
        integers[layer] = layer.quant_weight(inputs[0]).int().numpy()

    layers = [m for m in network.modules() if isinstance(m, QuantConv2d)]
    hooks = [m.register_forward_pre_hook(note) for m in layers]
    network(torch.zeros(SIZE))
    for hook in hooks:
        hook.remove()
    store_integers(network, torch.zeros(SIZE))
    model = exported(network, tmp_path)
    stored = [n.arrays["weight"] for n in model.graph.nodes if n.op == "conv"]
    assert sorted(w.tobytes() for w in stored) == sorted(w.astype(np.int64).tobytes() for w in integers.values())
    assert 0.7 * largest_norm(weights, bits) < norms(model) <= largest_norm(weights, bits)
    assert intsim.bounds(model, f"a2q-{bits}").safe
    assert not intsim.bounds(model, f"a2q-{bits - 3}").safe


@pytest.mark.parametrize(
    ("name", "weights", "bits"), [("a2q", "a2q", 20), pytest.param("a2qplus", "a2q+", 18, marks=pytest.mark.slow)]
)
def test_the_committed_networks_keep_it(name, weights, bits):
    model = intsim.load(ZOO / f"h3dispnet_{name}_w8a8.qonnx.onnx")
    assert 0.7 * largest_norm(weights, bits) < norms(model) <= largest_norm(weights, bits)
    assert intsim.certify(model, f"a2q-{bits}").verdict == "certified"
    found = intsim.bounds(model, f"a2q-{bits}")
    assert found.safe
    granted = [layer.budget for layer in found.layers]
    widths = [max(g.a2q_bits if weights == "a2q" else g.a2q_plus_bits) for g in granted if g is not None]
    assert max(widths) == bits
    plain = intsim.bounds(ZOO / "h3dispnet_w8a8.qonnx.onnx", f"a2q-{bits}")
    assert not any(layer.safe for layer in plain.layers)


def test_float_weights_in_the_file_break_it(folded, tmp_path):
    """What Brevitas exports by itself: the limit was met in training, and is not in the file."""
    network = quantized(folded, "a2q", 16)
    assert norms(exported(network, tmp_path)) > largest_norm("a2q", 16)


def test_the_function_is_kept(folded):
    """At 22 bits these small layers lose nothing but the rounding toward zero."""
    codes = torch.randint(0, 256, SIZE).float()
    with torch.no_grad():
        plain, aware = (q(codes) for q in (quantized(folded), quantized(folded, "a2q", 22)))
    assert (plain - aware).abs().mean() < 4 / 256


def test_limits():
    assert largest_norm("a2q", 16) == 32767 / 256
    assert largest_norm("a2q+", 16) == 65534 / 255
    for wrong in (("a2q", 11), ("a2q", 33), ("axe", 16)):
        with pytest.raises(IntsimError, match='take "a2q" or "a2q\\+", and 12 to 32 bits'):
            weight_quantizer(*wrong)


def test_a_recipe_begins_with_a_network_of_the_zoo():
    changes = {
        "network": {"order": 3, "widths": [24, 48, 64, 96], "noise": 0.0},
        "quantization": {"start": "h3dispnet", "weights": "a2q+", "accumulator_bits": 20},
    }
    recipe = checked({**RECIPE, **changes})
    network = make_network(recipe)
    assert type(network.blocks()["enc0.0"].conv) is QuantConv2d
    sizes = {group["size"] for group in make_optimizer(network, recipe).param_groups}
    assert min(sizes) < 1e-3 < 1e-1 < max(sizes)
    with pytest.raises(IntsimError, match="head of order 3"):
        start_network({**recipe, "network": {**recipe["network"], "order": 2}})
    with pytest.raises(IntsimError, match="not the float file of a network of widths"):
        finetune.float_network("h3dispnet", (4, 4, 4, 4))
