"""The frame that a shape has by itself, without landmarks."""

from __future__ import annotations

import numpy as np

from ..geometry.transforms import MODEL_AXES_TO_RAS, Similarity
from .mesh import triangle_areas

# Of the surface's distance from its centre, root mean square, in model units.
ROOT_MEAN_SQUARE = 0.5


def own_frame(vertices_ras: np.ndarray, faces: np.ndarray) -> Similarity:
    """Return the map from patient space (mm, RAS) to a shape's own model frame: its surface's centre, its size, model axes."""
    area, middles = triangle_areas(vertices_ras, faces), vertices_ras[faces].mean(axis=1)
    center = np.average(middles, axis=0, weights=area)
    radius = np.sqrt(np.average(((middles - center) ** 2).sum(axis=1), weights=area))
    scale, rotation = ROOT_MEAN_SQUARE / float(radius), MODEL_AXES_TO_RAS.T
    return Similarity(scale, rotation, -scale * rotation @ center)
