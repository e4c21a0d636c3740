"""How uncertain each place of the surface is: what the fit says of itself, what the shape model cannot express, and what the
pictures say against both.

See docs/uncertainty.md for what the number means, and for how it was checked.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from ...shape_model.fit import ShapeFit, surface_uncertainty
from ...shape_model.model import ShapeModel
from ...shape_model.tracks import TrackFit
from .results import from_nearest

# Vertices at which the posterior is evaluated; it is smooth, so the others are interpolated.
POSTERIOR_POINTS = 4000
# The posterior takes the noise for a constant, but it is as large as the residuals say. On sound phantom videos 95 % of the
# points lie within this of the surface (model units, 2.7 mm); the factor and the power that make posterior and model error
# right on them, and the limits, are in docs/uncertainty.md.
USUAL_RESIDUAL_P95, NOISE_FACTOR, NOISE_POWER, NOISE_LIMITS = 0.0090, 0.35, 1.2, (0.6, 2.5)
# What few of the frames see errs more than the posterior knows: their points lie on one side of it and scatter more, and the
# model draws it toward the usual. By this share of the frames the front is seen; the error grows by this power of what is
# missing, on all videos alike, up to so many times.
USUAL_SHARE, SHARE_POWER, MOST_BY_SHARE = 0.9, 1.35, 5.0
# Tracks err alike over this distance (model units, 12 mm), and at least so many within it tell an offset; the surface turns out
# to be wrong by half of it.
OFFSET_REACH, FEWEST_OFFSETS, OFFSET_NEIGHBOURS, OFFSET_SHARE = 0.04, 6, 24, 0.5
# Where nothing was measured, the surface is the model's guess from what was; it errs by this (model units, 9 mm) in the long run,
# reached over this distance from the nearest measurement (30 mm).
GUESS, GUESS_REACH = 0.03, 0.1


def uncertainty_model(
    found: TrackFit, model: ShapeModel, vertices_model: np.ndarray, to_skin: np.ndarray, seen_share: np.ndarray
) -> np.ndarray:
    """Return the (V,) standard deviation of the surface along its normal, model units.

    Args:
        found: the fit with its tracks' offsets.
        model: the shape model.
        vertices_model: (V, 3) on the surface, model frame of the fit.
        to_skin: (V,) distance to the nearest measured point of skin, model units.
        seen_share: (V,) of the frames that see it, 0 to 1.
    """
    noise = np.clip((found.fit.residual_p95 / USUAL_RESIDUAL_P95) ** NOISE_POWER, *NOISE_LIMITS) * NOISE_FACTOR
    by_share = np.clip((USUAL_SHARE / np.maximum(seen_share, 1e-3)) ** SHARE_POWER, 1.0, MOST_BY_SHARE)
    told = by_share * noise * np.hypot(_posterior(found.fit, model, vertices_model), model.expression_error)
    offset = OFFSET_SHARE * local_offsets(found, vertices_model)
    guess = GUESS * (1.0 - np.exp(-((to_skin / GUESS_REACH) ** 2)))
    return np.sqrt(told**2 + offset**2 + guess**2)


def _posterior(fit: ShapeFit, model: ShapeModel, vertices_model: np.ndarray) -> np.ndarray:
    some = vertices_model[:: max(1, len(vertices_model) // POSTERIOR_POINTS)]
    return from_nearest(some, surface_uncertainty(fit, model, some), vertices_model)[0]


def local_offsets(found: TrackFit, vertices_model: np.ndarray) -> np.ndarray:
    """Return (V,) by how much the tracks about a place agree that the surface lies elsewhere; 0 where there are too few."""
    if len(found.offsets) < OFFSET_NEIGHBOURS:
        return np.zeros(len(vertices_model))
    some = vertices_model[:: max(1, len(vertices_model) // POSTERIOR_POINTS)]
    distance, index = cKDTree(found.places).query(some, OFFSET_NEIGHBOURS)
    near = np.where(distance < OFFSET_REACH, found.offsets[index], np.nan)
    told = np.isfinite(near).sum(axis=1) >= FEWEST_OFFSETS
    agreed = np.zeros(len(some))
    agreed[told] = np.nanmedian(near[told], axis=1)
    return np.abs(from_nearest(some, agreed, vertices_model)[0])
