"""Rigid and similarity registration of points to a surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ..geometry.transforms import Similarity

TRIMMED_PERCENTILE = 95.0
IDENTITY = Similarity(1.0, np.eye(3), np.zeros(3))


@dataclass(frozen=True)
class Registered:
    """Where a registration ended.

    Attributes:
        transform: of the source.
        residual: (N,) signed distance of each source point along the normal of the surface nearest to it.
        weight: (N,) 0 to 1 with which it counted.
        covariance: (6 or 7, 6 or 7) of rotation vector about the source's centre, translation and log scale, if residuals of
            different points are independent.
    """

    transform: Similarity
    residual: np.ndarray
    weight: np.ndarray
    covariance: np.ndarray


def register_to_surface(
    source: np.ndarray, vertices: np.ndarray, normals: np.ndarray, with_scale: bool, iterations: int = 60
) -> Similarity:
    """Iterative closest points, point to plane (Chen and Medioni 1991), without the farthest twentieth of the points.

    Args:
        source: (N, 3) points, already close to the surface.
        vertices: (V, 3) dense surface vertices.
        normals: (V, 3) their unit normals.
        with_scale: refine the scale too.
        iterations: at most.

    Returns:
        the transform of the source.
    """
    return _iterate(source, vertices, normals, with_scale, iterations, None, IDENTITY).transform


def register_robustly(
    source: np.ndarray,
    vertices: np.ndarray,
    normals: np.ndarray,
    kernels_mm: tuple[float, ...],
    with_scale: bool = False,
    start: Similarity = IDENTITY,
    iterations: int = 40,
) -> Registered:
    """As `register_to_surface`, with Tukey's biweight, which gives points beyond its width no vote.

    Our own, since small_gicp's Python interface has neither a robust kernel nor a scale.

    Args:
        source, vertices, normals, with_scale: see there.
        kernels_mm: widths of the biweight, one round each.
        start: transform to begin with.
        iterations: at most, a round.
    """
    found = _iterate(source, vertices, normals, with_scale, iterations, kernels_mm[0], start)
    for kernel in kernels_mm[1:]:
        found = _iterate(source, vertices, normals, with_scale, iterations, kernel, found.transform)
    return found


def _iterate(
    source: np.ndarray,
    vertices: np.ndarray,
    normals: np.ndarray,
    with_scale: bool,
    iterations: int,
    kernel: float | None,
    start: Similarity,
) -> Registered:
    tree, result = cKDTree(vertices), start
    size = 7 if with_scale else 6
    for last in [False] * iterations + [True]:
        moved = result.apply(source)
        distance, index = tree.query(moved)
        n = normals[index]
        residual = ((moved - vertices[index]) * n).sum(axis=1)
        if kernel is None:
            weight = (distance <= np.percentile(distance, TRIMMED_PERCENTILE)).astype(float)
        else:
            # By the distance, not only along the normal: where the surface ends, points beside it have none.
            weight = np.clip(1.0 - (np.maximum(np.abs(residual), 0.5 * distance) / kernel) ** 2, 0.0, None) ** 2
        if last or weight.sum() < 10:
            break
        used = weight > 0
        center = np.average(moved[used], axis=0, weights=weight[used])
        arm = moved[used] - center
        columns = [np.cross(arm, n[used]), n[used]] + ([(arm * n[used]).sum(axis=1)] if with_scale else [])
        rows = np.column_stack(columns)
        root = np.sqrt(weight[used])
        step = np.linalg.lstsq(rows * root[:, None], -residual[used] * root, rcond=None)[0]
        scale = float(np.exp(step[6])) if with_scale else 1.0
        rotation = Rotation.from_rotvec(step[:3]).as_matrix()
        result = Similarity(scale, rotation, center + step[3:6] - scale * rotation @ center).after(result)
        if np.abs(step).max() < 1e-7:
            break
    covariance = np.full((size, size), np.inf)
    if (used := weight > 0).sum() > size:
        moved = result.apply(source[used])
        arm, n = moved - moved.mean(axis=0), n[used]
        rows = np.column_stack([np.cross(arm, n), n] + ([(arm * n).sum(axis=1)] if with_scale else []))
        variance = float(np.average(residual[used] ** 2, weights=weight[used]))
        covariance = variance * np.linalg.pinv((rows * weight[used, None]).T @ rows)
    return Registered(result, residual, weight, covariance)
