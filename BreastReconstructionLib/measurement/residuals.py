"""The last line of defence: residuals far above those of a sound run say that something unforeseen is wrong."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial import cKDTree

from ..sfm.reconstruction import usual_reprojection_px

# 95 % of the measured points lie within this of the fitted surface in sound runs (1.3 to 4.6 mm).
USUAL_RESIDUAL_P95_MM = 6.5
# What makes all residuals larger bends the whole shape: with 1.2 px and 12 mm the surface was 9.4 mm wrong where 0.7 mm was
# stated, so the uncertainty grows by the square of each.
GROWTH = 2
# The scatter of points is taken about quadratic patches of so many neighbours, at so many places.
NEIGHBOURS, PLACES = 64, 2000
# Standard deviation over the median absolute residual of a patch of that many, six of whose freedoms the patch took (simulated).
OVER_MEDIAN = 1.56
# An uncertainty that grew so many times is said first; by more than the second, the surface is not to be relied on.
DOUBTED, UNRELIABLE = 1.3, 4.0


def misfit(reprojection_px: float, longer_side_px: int, residual_p95_mm: float) -> float:
    """Return by how much the uncertainty grows because of residuals larger than a sound run's, 1 at least.

    Args:
        reprojection_px: mean reprojection error of the cameras; NaN if unknown.
        longer_side_px: of the frames.
        residual_p95_mm: 95th percentile of the distance of the measured points to the fitted surface.
    """
    ratios = [residual_p95_mm / USUAL_RESIDUAL_P95_MM]
    if math.isfinite(reprojection_px):
        ratios.append(reprojection_px / usual_reprojection_px(longer_side_px))
    return math.prod(max(1.0, ratio) ** GROWTH for ratio in ratios)


def doubt_of_residuals(reprojection_px: float, longer_side_px: int, residual_p95_mm: float) -> tuple[str, ...]:
    """Return what to say of residuals that are unlike a sound run's."""
    factor = misfit(reprojection_px, longer_side_px, residual_p95_mm)
    if factor < DOUBTED:
        return ()
    pixels = f"{reprojection_px:.1f} px between the frames, " if math.isfinite(reprojection_px) else ""
    advice = "Do not rely on this surface before that is known" if factor > UNRELIABLE else "Look at the outline on the frames"
    return (
        f"The pictures do not agree with one shape as they should (errors of {pixels}{residual_p95_mm:.0f} mm of the points at "
        f"95 %): was the video changed by another program, or did the patient move? {advice}; the stated uncertainty was raised "
        f"{factor:.1f} times.",
    )


def scatter_about_neighbours(points: np.ndarray) -> float:
    """Return by how much measured points scatter about smooth patches of their neighbours, as one standard deviation.

    Their errors have a part in common with their neighbours' as well (twice as large on phantoms), which no cloud tells by
    itself: that shows in their distance to the surface.

    Args:
        points: (N, 3), in any unit, which is the result's; NaN if there are fewer than a patch needs.
    """
    if len(points) < NEIGHBOURS:
        return math.nan
    chosen = np.random.default_rng(0).choice(len(points), min(PLACES, len(points)), replace=False)
    around = points[cKDTree(points).query(points[chosen], NEIGHBOURS, workers=-1)[1]]
    local = around - around.mean(axis=1, keepdims=True)
    _, size, axes = np.linalg.svd(local, full_matrices=False)
    x, y, z = (local @ axes.transpose(0, 2, 1) / np.maximum(size[:, :1, None], 1e-12)).transpose(2, 0, 1)
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=2)
    left = z - (terms @ (np.linalg.pinv(terms) @ z[..., None]))[..., 0]
    return float(OVER_MEDIAN * np.median(np.median(np.abs(left), axis=1) * size[:, 0]))
