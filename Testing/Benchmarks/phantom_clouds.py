"""Clouds of phantoms that no training saw, with what is needed to measure a fit's error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from BreastReconstructionLib.fields.evaluation import Shape, distances_to_surface
from BreastReconstructionLib.geometry.transforms import Similarity
from BreastReconstructionLib.phantom.torso import sample_torso, skin_points
from BreastReconstructionLib.shape_model.model import ShapeModel

FIRST_SEED = 9000


@dataclass(frozen=True)
class PhantomCloud:
    """Noisy points with outliers, landmarks, and exact skin points, in the model frame."""

    points: np.ndarray
    landmarks: np.ndarray
    exact: np.ndarray
    mm_per_unit: float

    @classmethod
    def of(cls, seed: int, count: int, noise_mm: float = 1.2, outliers: float = 0.05) -> PhantomCloud:
        """Sample the skin of a phantom; an outlier lies up to some cm off."""
        torso, _ = sample_torso(seed)
        rng = np.random.default_rng(seed)
        points = skin_points(torso, count, rng)[0] + rng.normal(0, noise_mm * torso.to_model.scale, (count, 3))
        wrong = rng.random(count) < outliers
        points[wrong] += rng.normal(0, 0.05, (wrong.sum(), 3))
        landmarks = torso.to_model.apply(torso.landmarks_ras)
        return cls(points, landmarks, skin_points(torso, 5000, rng)[0], 1 / torso.to_model.scale)

    def error_mm(self, model: ShapeModel, code: torch.Tensor, refinement: Similarity | None = None) -> float:
        """Mean distance of the exact skin to the fitted surface."""
        exact = self.exact if refinement is None else refinement.apply(self.exact)
        return float(distances_to_surface(Shape.of(model, code), exact).mean() * self.mm_per_unit)
