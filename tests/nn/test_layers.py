import numpy as np
import pytest
import torch

from intsim.errors import IntsimError
from intsim.hilbert import Curve, decode_points
from intsim.nn import (
    FeatureNoise,
    HilbertHead,
    PixelEmbedding,
    curve_distance,
    depth_loss,
    head_names,
    point_loss,
    project,
)


def test_noise_has_its_size_and_acts_in_training_only():
    torch.manual_seed(0)
    noise, x = FeatureNoise(0.25), torch.ones(4, 3, 64, 64).to(memory_format=torch.channels_last)
    drawn = noise(x) - x
    assert drawn.std().item() == pytest.approx(0.25, rel=0.02)
    assert abs(drawn.mean().item()) < 0.01
    assert noise(x.bfloat16()).dtype == torch.bfloat16
    assert noise.eval()(x) is x
    assert FeatureNoise(0.0)(x) is x
    for sigma in (-0.1, float("nan"), float("inf")):
        with pytest.raises(IntsimError, match="standard deviation"):
            FeatureNoise(sigma)


def test_heads_are_side_by_side_on_the_same_features():
    torch.manual_seed(0)
    head, x = HilbertHead(5, 2, dimensions=3, guide=True), torch.randn(2, 5, 6, 7)
    assert list(head) == ["x", "y", "z", "guide"]
    output = head(x)
    assert output.shape == (2, 4, 6, 7)
    for i, name in enumerate(head):
        assert torch.equal(output[:, i : i + 1], head[name](x))
    custom = HilbertHead(5, 1, make=lambda width: torch.nn.Conv2d(width, 1, 1))
    assert {tuple(m.kernel_size) for m in custom.values()} == {(1, 1)}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [((0,), ("q",)), ((3,), ("x", "y")), ((1, 3), ("x", "y", "z")), ((2, 2, True), ("x", "y", "guide"))],
)
def test_head_names(arguments, names):
    assert head_names(*arguments) == names


@pytest.mark.parametrize("arguments", [(-1,), (1, 4), (0, 2, True)])
def test_impossible_heads_are_refused(arguments):
    with pytest.raises(IntsimError):
        head_names(*arguments)


def test_an_embedding_is_one_table_for_all_channels():
    torch.manual_seed(0)
    layer, codes = PixelEmbedding(3), torch.randint(0, 256, (2, 4, 5, 6))
    rows = layer(codes.float())
    assert rows.shape == (2, 12, 5, 6)
    for n, c, i, j in np.ndindex(2, 4, 5, 6):
        assert torch.equal(rows[n, 3 * c : 3 * c + 3, i, j], layer.table[codes[n, c, i, j]])


def test_the_first_rows_of_an_embedding_tell_all_values_apart_at_four_bits():
    table = PixelEmbedding(6).table.detach()
    assert table.min() >= 0
    assert table.max() <= 1
    codes = torch.round(table * 15)
    assert len(torch.unique(codes, dim=0)) == 256


def test_gradients_reach_exactly_the_rows_that_were_read_straight_through_the_quantizer():
    class Rounded(torch.nn.Module):
        def forward(self, x):
            return x + (torch.round(x * 15) / 15 - x).detach()

    layer = PixelEmbedding(2, Rounded())
    codes = torch.tensor([[[[3, 250, 3]]]])
    layer(codes).sum().backward()
    expected = torch.zeros(256, 2)
    expected[3], expected[250] = 2, 1
    assert torch.equal(layer.table.grad, expected)


@pytest.mark.parametrize("width", [0, 17])
def test_bad_embeddings_are_refused(width):
    with pytest.raises(IntsimError, match="width"):
        PixelEmbedding(width)


def test_point_loss_is_a_weighted_mean_distance_with_a_finite_gradient_at_zero():
    wanted = torch.zeros(1, 2, 1, 2)
    predicted = torch.tensor([[[[3.0, 0.0]], [[4.0, 0.0]]]], requires_grad=True)
    weight = torch.tensor([[[[1.0, 3.0]]]])
    assert point_loss(predicted, wanted, weight).item() == pytest.approx(5 / 4, abs=1e-3)
    loss = point_loss(predicted, wanted)
    assert loss.item() == pytest.approx(2.5, abs=1e-3)
    loss.backward()
    assert torch.isfinite(predicted.grad).all()
    assert point_loss(wanted[:, :1] + 0.5, wanted[:, :1]).item() == pytest.approx(0.5)


@pytest.mark.parametrize("curve", [Curve(1), Curve(3, 0.0625), Curve(1, 0.0625, 3), Curve(2, 0.125, 3)], ids=str)
def test_projection_agrees_with_the_codec(curve):
    points = torch.rand(2, curve.dimensions, 30, 40, dtype=torch.float64)
    q, squared = project(points, curve)
    expected, distance = decode_points(points.movedim(1, -1).numpy(), curve.order, curve.exact_inset, distance=True)
    np.testing.assert_allclose(q[:, 0], expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(squared[:, 0].sqrt() / curve.edge_length, distance, rtol=0, atol=1e-9)
    assert curve_distance(points, curve).item() == pytest.approx(squared.mean().item())
    weight = torch.rand(2, 1, 30, 40, dtype=torch.float64)
    expected = (weight * squared).sum() / weight.sum()
    assert curve_distance(points, curve, weight).item() == pytest.approx(expected.item())


def test_projection_has_the_gradient_of_the_edge_that_was_chosen():
    """In the middle of an edge q grows with the coordinate along it by 1 / (segments h), and not with the other."""
    curve = Curve(1)  # edges: up, right, down
    point = torch.tensor([[0.5, 0.93]], dtype=torch.float64)[..., None].requires_grad_()
    q, squared = project(point, curve)
    q.sum().backward()
    np.testing.assert_allclose(point.grad[0, :, 0], [1 / (3 * 0.8), 0], atol=1e-12)
    assert squared.item() == pytest.approx(0.03**2)
    with pytest.raises(IntsimError, match="coordinates"):
        project(torch.zeros(1, 3, 4), curve)


def test_depth_loss_is_lowest_where_both_maps_agree():
    torch.manual_seed(0)
    truth = torch.rand(2, 1, 12, 14)
    best = depth_loss(truth, truth).item()
    assert best == pytest.approx(3 * np.log(0.5), abs=1e-5)
    offset, slope = depth_loss(truth + 0.2, truth).item(), depth_loss(truth * 1.5, truth).item()
    assert offset > best + 0.1  # a shift changes no gradient but the error
    assert slope > best + 0.1
    tilted = truth + torch.linspace(0, 1, 14)
    assert depth_loss(tilted, truth).item() > best
