"""A scalar function of space that has a zero level, with what extraction must know of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Field:
    """Signed distance, or a function alike; negative inside.

    Attributes:
        distance: (N, 3) points -> (N,) values.
        distance_and_gradient: (N, 3) points -> (N,) values and (N, 3) gradients.
        lipschitz: the gradient stays below this near the surface; a true distance has 1.
        curvature: the second derivative along a line stays below this near the surface.
        low: corner of the cube in which the surface lies, the same for all three axes.
        side: of that cube.
    """

    distance: Callable[[np.ndarray], np.ndarray]
    distance_and_gradient: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    lipschitz: float
    curvature: float
    low: float = -1.0
    side: float = 2.0
