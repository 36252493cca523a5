import json

import numpy as np
import pytest

from intsim.errors import IntsimError
from models.disparity import Network, disparity, float_disparity, lattice_decoder, read_network, target

PLAIN = Network("plain", 0, 32, 48)
HILBERT = [Network("hilbert", order, 32, 48) for order in range(1, 5)]


@pytest.mark.parametrize("network", [PLAIN, *HILBERT], ids=lambda n: str(n.order))
def test_float_outputs_invert_the_target(network):
    truth = np.linspace(0, network.disparity_range, 101).reshape(1, 1, 101)
    wanted = target(truth, network)
    assert wanted.shape == (1, network.heads, 1, 101)
    assert wanted.dtype == np.float32
    assert np.abs(wanted).max() <= 0.5
    np.testing.assert_allclose(float_disparity(wanted, network), truth, rtol=0, atol=1e-4)


@pytest.mark.parametrize("network", HILBERT, ids=lambda n: str(n.order))
def test_every_position_along_the_curve_is_a_pair_of_codes(network):
    """Targets of the decodable disparities are whole codes, within INT8 and clear of its ends."""
    truth = np.arange(network.steps + 1)[None] * (network.disparity_range / network.steps)
    codes = target(truth, network).astype(np.float64) * 256
    whole = np.rint(codes)
    np.testing.assert_allclose(codes, whole, rtol=0, atol=1e-3)
    margin = 1 << (7 - network.order)
    assert (whole.min(), whole.max()) == (-128 + margin, 128 - margin)
    np.testing.assert_allclose(disparity(whole.astype(np.int8), network), truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("network", HILBERT, ids=lambda n: str(n.order))
def test_integer_and_float_decoding_agree_on_all_codes(network):
    """All 65 536 pairs; where two branches are equally near the float search may take either."""
    axis = np.arange(-128, 128)
    codes = np.stack(np.meshgrid(axis, axis)).astype(np.int8)
    fixed = disparity(codes, network)
    floats = float_disparity(codes.astype(np.float64) / 256, network)
    differ = np.abs(fixed - floats) > 1e-9
    assert not (differ & ~lattice_decoder(network.order).ties(codes[0], codes[1])).any()


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
    assert network.document()["curve"] == {"inset": "1/16", "log2_spacing": 5}


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
