"""What a bone takes up, on a grid: signed distances of a shape model, a cortex whose thickness changes along it, marrow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from ..core.errors import FitError
from ..fields.evaluation import Shape, derivatives, signed_distances
from ..fields.projection import Box, line_integrals
from ..geometry.radiograph import Radiograph
from ..geometry.transforms import Similarity
from ..shape_model.model import ShapeModel

# Places along the bone at which the cortex's thickness is asked for.
KNOTS = 9
DENSITY = KNOTS + 1
# Of the cells: how soft the model's surface is (a logistic function's scale).
SOFTNESS = 0.35
COARSER = 3
# Around the shape, model units.
BOX_MARGIN = 0.025


@dataclass(frozen=True)
class Substance:
    """What a bone consists of.

    Attributes:
        u: (R,) whitened code of its shape.
        cortex: (K,) thickness of the cortex from the lower to the upper end, model units.
        marrow: density inside, of the cortex's.
    """

    u: torch.Tensor
    cortex: np.ndarray
    marrow: float


def box_of(model: ShapeModel, u: torch.Tensor, cell: float) -> Box:
    """Return the grid that holds a shape, found on a coarse one over the whole cube.

    Raises:
        FitError: there is no surface.
    """
    whole = Box.around(np.full(3, -1.0), np.full(3, 1.0), 0.05)
    points = whole.points()
    near = points[signed_distances(Shape.of(model, model.code(u)), points) < 0.03]
    if len(near) == 0:
        raise FitError("The shape model has no surface where the radiograph's code leads; choose another model.")
    return Box.around(near.min(axis=0) - BOX_MARGIN, near.max(axis=0) + BOX_MARGIN, cell)


@dataclass(frozen=True)
class Density:
    """Densities on a grid, and their derivatives: (1 + R + K + 1, X, Y, Z), or (1, X, Y, Z)."""

    values: torch.Tensor
    box: Box

    @classmethod
    def of(cls, model: ShapeModel, state: Substance, box: Box, with_derivatives: bool) -> Density:
        """Densities for a substance.

        Args:
            model: of the shape.
            state: see Substance.
            box: the grid, model frame.
            with_derivatives: by code, logarithms of the thicknesses, and marrow.
        """
        shape = Shape.of(model, model.code(state.u))
        points = box.points()
        coarse = Box.around(box.low, box.high, COARSER * box.cell)
        rough = signed_distances(shape, coarse.points()).reshape(coarse.shape)
        guessed = ndimage.map_coordinates(rough, ((points - coarse.low) / coarse.cell).T, order=1, mode="nearest")
        asked = np.flatnonzero(guessed < 2 * box.cell)
        distance = np.full(len(points), 1.0, np.float32)
        distance[asked] = signed_distances(shape, points[asked])
        f = torch.from_numpy(distance)
        hats = torch.as_tensor(_hats((points[:, 1] - box.low[1]) / box.extent[1]), dtype=torch.float32)
        knots = torch.as_tensor(state.cortex, dtype=torch.float32)
        thick = hats @ knots
        soft = SOFTNESS * box.cell
        outer, inner = torch.sigmoid(-f / soft), torch.sigmoid(-(f + thick) / soft)
        count = 1 + len(state.u) + DENSITY if with_derivatives else 1
        values = torch.zeros(count, len(points))
        values[0] = outer - (1 - state.marrow) * inner
        if with_derivatives:
            outer_slope, inner_slope = outer * (1 - outer) / soft, inner * (1 - inner) / soft
            by_distance = -outer_slope + (1 - state.marrow) * inner_slope
            counting = torch.nonzero(by_distance.abs() * soft > 0.02)[:, 0]
            at = derivatives(shape, torch.as_tensor(points[counting], dtype=torch.float32))
            values[1 : 1 + len(state.u), counting] = (at.by_code * by_distance[counting, None]).T
            values[1 + len(state.u) : -1] = ((1 - state.marrow) * inner_slope[:, None] * hats * knots).T
            values[-1] = inner
        return cls(values.reshape(-1, *box.shape), box)

    def lines(self, picture: Radiograph, ends: np.ndarray, pose: Similarity, channels: int | None = None) -> np.ndarray:
        """Return (C, N) integrals, model units, along the rays of a picture to (N, 3) places on its detector.

        Args:
            picture: for its source.
            ends: (N, 3), picture's frame.
            pose: from the model's frame to the picture's.
            channels: only the first so many.
        """
        back = pose.inverse()
        to = lambda places: torch.as_tensor(back.apply(places), dtype=torch.float32)
        with torch.no_grad():
            found = line_integrals(self.values[:channels], self.box, to(picture.source_mm), to(ends))
            return found.numpy().astype(float)


def _hats(share: np.ndarray) -> np.ndarray:
    """(N, K) weights of linear interpolation between knots, at (N,) places from 0 to 1."""
    return np.clip(1.0 - np.abs(share[:, None] * (KNOTS - 1) - np.arange(KNOTS)), 0.0, None)
