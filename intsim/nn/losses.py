"""Losses for points on a curve, and the projection that they need.

Source: arXiv 2405.14024, equations 2 and 3; the depth loss is that of Hu et al., "Revisiting Single Image Depth
Estimation", WACV 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from intsim.errors import IntsimError
from intsim.hilbert import Curve

_SOBEL = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8


def point_loss(predicted: Tensor, wanted: Tensor, weight: Tensor | None = None) -> Tensor:
    """Weighted mean Euclidean distance of points: ``(N, d, ...)`` twice; weight ``(N, 1, ...)``, None for ones.

    With d = 1 it is the L1 loss. Smooth at 0, so that its gradient is finite everywhere.
    """
    return _mean(torch.sqrt((predicted - wanted).square().sum(1, keepdim=True) + 1e-8), weight)


def _mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """The weighted mean; the plain one without weights."""
    return values.mean() if weight is None else (weight * values).sum() / weight.sum().clamp(min=1e-12)


def project(points: Tensor, curve: Curve) -> tuple[Tensor, Tensor]:
    """Closest point of the curve: ``(N, d, ...)`` -> q ``(N, 1, ...)`` in [0, 1] and the squared distance, likewise.

    Coordinates are those of the unit square or cube. Differentiable: on the segment that was chosen q moves with the
    coordinate along it; the choice itself has no gradient.

    Raises:
        IntsimError: points of another dimension than the curve's.
    """
    vertices = torch.tensor(curve.points, dtype=points.dtype, device=points.device)
    if points.shape[1] != vertices.shape[1]:
        raise IntsimError(f"points of {points.shape[1]} coordinates on a curve of {vertices.shape[1]}")
    flat = points.movedim(1, -1).reshape(-1, vertices.shape[1])
    start, step = vertices[:-1], vertices[1:] - vertices[:-1]
    length = curve.edge_length
    with torch.no_grad():
        best = torch.full(flat.shape[:1], torch.inf, dtype=points.dtype, device=points.device)
        segment = torch.zeros(flat.shape[0], dtype=torch.long, device=points.device)
        for s in range(len(start)):
            offset = flat - start[s]
            along = (offset @ step[s] / length**2).clamp(0, 1)
            squared = (offset - along[:, None] * step[s]).square().sum(1)
            closer = squared < best
            best, segment = torch.where(closer, squared, best), torch.where(closer, s, segment)
    offset = flat - start[segment]
    along = ((offset * step[segment]).sum(1) / length**2).clamp(0, 1)
    squared = (offset - along[:, None] * step[segment]).square().sum(1)
    shape = (points.shape[0], *points.shape[2:])
    q = (segment.to(points.dtype) + along) / len(start)
    return q.reshape(shape).unsqueeze(1), squared.reshape(shape).unsqueeze(1)


def curve_distance(points: Tensor, curve: Curve, weight: Tensor | None = None) -> Tensor:
    """Weighted mean squared distance of points to the curve: the term that keeps predictions on it (r of equation 3).

    `points` ``(N, d, ...)`` in the unit square or cube, `weight` ``(N, 1, ...)``, None for ones.
    """
    return _mean(project(points, curve)[1], weight)


def depth_loss(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Loss of Hu et al. on maps ``(N, 1, H, W)``: ln(|e| + 1/2), the same of its gradients, and the normals' angle.

    Lowest, ``3 ln(1/2)``, where both maps are equal.
    """
    kernel = torch.stack([_SOBEL, _SOBEL.T])[:, None].to(predicted)
    error = (predicted - wanted).abs()
    slopes = [functional.conv2d(functional.pad(m, (1, 1, 1, 1), "replicate"), kernel) for m in (predicted, wanted)]
    gradient = (slopes[0] - slopes[1]).abs()
    normals = [torch.cat([-slope, torch.ones_like(slope[:, :1])], 1) for slope in slopes]
    angle = 1 - functional.cosine_similarity(normals[0], normals[1], dim=1)
    logs = [torch.log(part + 0.5).mean() for part in (error, gradient[:, :1], gradient[:, 1:])]
    return logs[0] + logs[1] + logs[2] + angle.abs().mean()
