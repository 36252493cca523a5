import json

import numpy as np
import pytest

from intsim.errors import IntsimError
from intsim.hilbert import Decoder
from models.disparity import Network, described, disparity, float_disparity, read_network, target
from models.recipe import checked

PLAIN = Network("plain", 0, 32, 48)
HILBERT = [Network("hilbert", order, 32, 48) for order in range(1, 5)]
CUBES = [Network("cube", order, 32, 48, dimensions=3) for order in (1, 2)]
GUIDED = [Network("guided", 2, 32, 48, guide=True), Network("guided", 1, 32, 48, dimensions=3, guide=True)]


def title(network):
    return f"{network.name}-{network.order}-{network.dimensions}"


@pytest.mark.parametrize("network", [PLAIN, *HILBERT, *CUBES, *GUIDED], ids=title)
def test_float_outputs_invert_the_target(network):
    truth = np.linspace(0, network.disparity_range, 101).reshape(1, 1, 101)
    wanted = target(truth, network)
    assert wanted.shape == (1, network.heads, 1, 101)
    assert wanted.dtype == np.float32
    assert np.abs(wanted).max() <= 0.5
    np.testing.assert_allclose(float_disparity(wanted, network), truth, rtol=0, atol=1e-4)


@pytest.mark.parametrize("network", [*HILBERT, *CUBES], ids=title)
def test_every_position_along_the_curve_is_a_point_of_codes(network):
    """Targets of the decodable disparities are whole codes, within INT8 and clear of its ends."""
    truth = np.arange(network.steps + 1)[None] * (network.disparity_range / network.steps)
    codes = target(truth, network).astype(np.float64) * 256
    whole = np.rint(codes)
    np.testing.assert_allclose(codes, whole, rtol=0, atol=1e-3)
    margin = 16 if network.order == 1 else 1 << (7 - network.order)
    assert (whole.min(), whole.max()) == (-128 + margin, 128 - margin)
    np.testing.assert_allclose(disparity(whole.astype(np.int8), network), truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("network", HILBERT, ids=lambda n: str(n.order))
def test_integer_and_float_decoding_agree_on_all_codes(network):
    """All 65 536 pairs; where two branches are equally near the float search may take either.

    The order-1 curve is 224 codes an edge; it has no tie off its axis, code 0.
    """
    axis = np.arange(-128, 128)
    codes = np.stack(np.meshgrid(axis, axis)).astype(np.int8)
    fixed = disparity(codes, network)
    floats = float_disparity(codes.astype(np.float64) / 256, network)
    differ = np.abs(fixed - floats) > 1e-9
    if network.order == 1:
        ties = (codes[0] == 0) | (np.abs(codes[0].astype(int)) == codes[1])
    else:
        ties = Decoder.lattice_aligned(network.order, signed=True).ties(np.moveaxis(codes, 0, -1))
    assert not (differ & ~ties).any()


def test_plain_codes_are_256ths_of_the_range():
    codes = np.array([[[[-128, 0, 127]]]], np.int8)
    assert disparity(codes, PLAIN).tolist() == [[[0.0, 12.0, 127 * 24 / 256 + 12]]]
    assert float_disparity(np.array([[[[-0.7, 0.0, 0.7]]]]), PLAIN).tolist() == [[[0.0, 12.0, 24.0]]]


@pytest.mark.parametrize(
    ("codes", "complaint"),
    [
        (np.zeros((1, 1, 2, 2), np.int8), "shape"),
        (np.zeros((2, 2), np.int8), "shape"),
        (np.zeros((1, 2, 2, 2), np.float32), "must be integers"),
        (np.full((1, 2, 2, 2), 128), "must be integers in"),
    ],
)
def test_what_is_not_output_codes_is_refused(codes, complaint):
    with pytest.raises(IntsimError, match=complaint):
        disparity(codes, HILBERT[2])


def test_metadata_round_trip(tmp_path):
    path = tmp_path / "net.json"
    network = Network("net", 3, 96, 144)
    path.write_text(json.dumps(network.document()))
    assert read_network(path) == network
    assert network.input_shape == (1, 33, 48, 72)
    assert network.document()["curve"] == {"inset": "1/16", "spacing": 32}


@pytest.mark.parametrize("network", [*CUBES, *GUIDED, Network("n", 0, 32, 48, inputs="concat")], ids=title)
def test_metadata_of_every_kind_round_trips(tmp_path, network):
    path = tmp_path / "net.json"
    path.write_text(json.dumps(network.document()))
    assert read_network(path) == network


def test_a_recipe_describes_its_network():
    recipe = {
        "name": "n",
        "network": {
            "order": 2,
            "dimensions": 3,
            "guide": True,
            "widths": [4, 4, 4, 4],
            "noise": 0.0,
            "inputs": "concat",
        },
        "data": {"height": 32, "width": 48, "train": 4, "validation": 2},
        "training": {
            "seed": 1,
            "steps": 1,
            "batch": 1,
            "learning_rate": 0.1,
            "warmup": 0,
            "weight_decay": 0.0,
            "invalid_weight": 1.0,
            "bfloat16": False,
            "validate_every": 1,
        },
    }
    network = described(checked(recipe), 64, 96)
    assert network == Network("n", 2, 64, 96, dimensions=3, guide=True, inputs="concat")
    assert (network.heads, network.channels, network.input_shape) == (4, 8, (1, 8, 32, 48))
    assert (network.segments, network.spacing, network.steps) == (63, 64, 63 * 64)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not the metadata"),
        ("[]", "not the metadata"),
        ('{"name": "n"}', "not the metadata"),
        ('{"name": "n", "order": 5, "height": 96, "width": 144, "disparity_range": 24}', "order is 5"),
        ('{"name": "n", "order": 3, "height": 90, "width": 144, "disparity_range": 24}', "multiples of 16"),
    ],
)
def test_bad_metadata_is_one_clear_line(tmp_path, text, complaint):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(IntsimError, match=complaint) as caught:
        read_network(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(IntsimError):
        read_network("no-such-network")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({"inputs": "rgb"}, "inputs"), ({"dimensions": 4}, "2 or 3 dimensions"), ({"order": 0, "guide": True}, "guide")],
)
def test_impossible_networks_are_refused(options, complaint):
    with pytest.raises(IntsimError, match=complaint):
        Network(**{"name": "n", "order": 2, "height": 32, "width": 48, **options})
