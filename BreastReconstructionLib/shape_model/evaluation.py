"""How well a model fits one body: points that it is fitted to, others that it is measured at."""

from __future__ import annotations

import numpy as np
import torch

from ..fields.evaluation import Shape, distances_to_surface
from .fit import ShapeFit, fit_shape
from .model import ShapeModel


def fit_and_measure(
    model: ShapeModel, points_model: np.ndarray, landmarks_model: np.ndarray, others_model: np.ndarray, mm_per_unit: float
) -> tuple[ShapeFit, np.ndarray]:
    """Fit a model to points, and return the fit with the distances of other points of the same body to it.

    Args:
        model: the shape model.
        points_model: (N, 3) aligned model frame.
        landmarks_model: (6, 3) in the same frame.
        others_model: (M, 3) in the same frame.
        mm_per_unit: of the body.

    Returns:
        the fit, and (M,) distances in mm.

    Raises:
        FitError: the model has no shape to fit.
    """
    fit = fit_shape(points_model, landmarks_model, model)
    shape = Shape.of(model, torch.from_numpy(fit.code))
    return fit, distances_to_surface(shape, fit.refinement.apply(others_model)) * mm_per_unit
