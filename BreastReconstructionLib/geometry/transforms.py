"""Similarity transforms and the three coordinate frames.

- world: what structure from motion gave; arbitrary scale and orientation; `x_camera = R x_world + t`, OpenCV axes.
- model: the shape model's cube; +x patient's left, +y superior, +z anterior.
- patient: millimetres, RAS. Mesh files hold LPS and say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from ..core.errors import PlacesError

# Nothing that is fitted lies farther from the origin, in any unit.
FARTHEST = 1e9
# Rows are the R, A, S axes written in model axes (left, superior, anterior); a proper rotation.
MODEL_AXES_TO_RAS = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


class Frame(Enum):
    """A coordinate frame; see the top of this file."""

    WORLD = "world"
    MODEL = "model"
    PATIENT = "patient"


@dataclass(frozen=True)
class Similarity:
    """x -> scale * rotation @ x + translation.

    Attributes:
        scale: positive factor, units of the target per unit of the source.
        rotation: (3, 3), determinant +1.
        translation: (3,), units of the target.
    """

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Map (..., 3) points."""
        return self.scale * points @ self.rotation.T + self.translation

    def apply_directions(self, directions: np.ndarray) -> np.ndarray:
        """Rotate (..., 3) unit directions."""
        return directions @ self.rotation.T

    def inverse(self) -> Similarity:
        """Return the map back."""
        rotation = self.rotation.T
        return Similarity(1.0 / self.scale, rotation, -(rotation @ self.translation) / self.scale)

    def after(self, first: Similarity) -> Similarity:
        """Return the map that applies `first`, then this one."""
        return Similarity(self.scale * first.scale, self.rotation @ first.rotation, self.apply(first.translation))

    def as_dict(self) -> dict:
        """Return plain numbers, for JSON."""
        return {
            "scale": float(self.scale),
            "rotation": self.rotation.tolist(),
            "translation": self.translation.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict) -> Similarity:
        """Read what `as_dict` wrote."""
        return cls(float(values["scale"]), np.array(values["rotation"]), np.array(values["translation"]))


def fit_similarity(
    source: np.ndarray, target: np.ndarray, with_scale: bool = True, weights: np.ndarray | None = None
) -> Similarity:
    """Least-squares similarity of corresponding points (Umeyama 1991, equations 40 to 42).

    Args:
        source: (N, 3) points, N at least 3 and not on one line.
        target: (N, 3) where they should come to lie.
        with_scale: False for a rigid transform.
        weights: (N,) non-negative, or None for equal weights.

    Raises:
        PlacesError: fewer than three points, all on one line, or not finite.
    """
    source, target = np.asarray(source, float), np.asarray(target, float)
    if len(source) < 3:
        raise PlacesError("Fewer than three landmarks correspond; place three at least.")
    if not all((np.abs(places) < FARTHEST).all() for places in (source, target)):
        raise PlacesError("A landmark lies nowhere (its coordinates are no numbers, or huge); place it anew.")
    w = np.ones(len(source)) if weights is None else np.asarray(weights, float)
    w = w / w.sum()
    source_mean, target_mean = w @ source, w @ target
    a, b = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd((b * w[:, None]).T @ a)
    if singular[1] < 1e-12 * max(singular[0], 1e-300):
        raise PlacesError("The landmarks lie on one line, or all on one place; place them anew.")
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / (w @ (a**2).sum(axis=1))) if with_scale else 1.0
    return Similarity(scale, rotation, target_mean - scale * rotation @ source_mean)


def model_to_patient(mm_per_unit: float) -> Similarity:
    """Return the map from model space to patient space (mm, RAS)."""
    return Similarity(mm_per_unit, MODEL_AXES_TO_RAS, np.zeros(3))
