import pytest
import torch

from intsim.errors import IntsimError
from models.networks import DispNet, FeatureNoise, fold


def _settled(order, widths=(4, 6, 8, 10)):
    """An untrained network whose batch normalization is not the identity."""
    torch.manual_seed(0)
    network = DispNet(order, widths)
    network.train()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
        for _ in range(3):
            network(torch.randint(0, 256, (2, 33, 16, 24)).float())
    return network.eval()


@pytest.mark.parametrize("order", range(5))
def test_shapes_and_heads(order):
    network = _settled(order)
    output = network(torch.randint(0, 256, (2, 33, 16, 24)).float())
    assert output.shape == (2, 2 if order else 1, 16, 24)
    assert list(network.heads) == (["x", "y"] if order else ["q"])


def test_twins_differ_in_the_heads_only():
    plain, hilbert = DispNet(0), DispNet(3)
    count = sum(p.numel() for p in plain.parameters())
    assert 390_000 < count < 420_000
    assert sum(p.numel() for p in hilbert.parameters()) - count == 24 * 9 + 1
    assert {k for k in hilbert.state_dict() if "heads" not in k} == {k for k in plain.state_dict() if "heads" not in k}


@pytest.mark.parametrize("order", [0, 3])
def test_folding_changes_nothing_but_rounding(order):
    network = _settled(order)
    folded = fold(network)
    codes = torch.randint(0, 256, (2, 33, 16, 24)).float()
    torch.testing.assert_close(folded(codes), network(codes), rtol=0, atol=2e-5)
    assert not any(isinstance(m, torch.nn.BatchNorm2d | FeatureNoise) for m in folded.modules())
    with pytest.raises(IntsimError, match="no batch normalization"):
        fold(folded)


def test_noise_acts_in_training_only_and_before_the_heads():
    network = _settled(3)
    codes = torch.randint(0, 256, (1, 33, 16, 24)).float()
    assert torch.equal(network(codes), network(codes))
    noise = network.noise.train()
    features = torch.zeros(1, 4, 64, 64)
    assert noise(features).std().item() == pytest.approx(0.1, rel=0.05)
    assert torch.equal(noise.eval()(features), features)


def test_unknown_order_is_refused():
    with pytest.raises(IntsimError, match="order is 7"):
        DispNet(7)
