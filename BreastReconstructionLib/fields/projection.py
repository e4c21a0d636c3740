"""Digitally reconstructed radiographs: line integrals of values on a grid along rays from a point; differentiable by torch.

Joseph's method (1982): a ray is sampled where it meets the grid's planes across the axis that it runs along most, bilinearly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional


@dataclass(frozen=True)
class Box:
    """A grid of cubes: its first corner's centre, their side, and how many along x, y and z."""

    low: np.ndarray
    cell: float
    shape: tuple[int, int, int]

    @classmethod
    def around(cls, low: np.ndarray, high: np.ndarray, cell: float) -> Box:
        """The box that holds both corners."""
        count = np.ceil((high - low) / cell).astype(int) + 1
        return cls(np.asarray(low, float), float(cell), (int(count[0]), int(count[1]), int(count[2])))

    @property
    def high(self) -> np.ndarray:
        """(3,) the last corner's centre."""
        return self.low + self.cell * (np.array(self.shape) - 1)

    @property
    def extent(self) -> np.ndarray:
        """(3,) from the first to the last corner."""
        return self.high - self.low

    def points(self) -> np.ndarray:
        """(X * Y * Z, 3) all centres, x slowest."""
        axes = [self.low[k] + self.cell * np.arange(self.shape[k]) for k in range(3)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def line_integrals(values: torch.Tensor, box: Box, source: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Return (C, N) integrals of (C, X, Y, Z) values along rays from a source to (N, 3) ends, all in the box's frame and unit.

    Outside the box values are 0. All rays are sampled across one axis, that of their mean direction: a ray at more than about 60
    degrees to it would be sampled too thinly.
    """
    direction = ends - source
    axis = int(direction.detach().mean(dim=0).abs().argmax())
    planes = box.low[axis] + box.cell * torch.arange(box.shape[axis], dtype=ends.dtype)
    share = (planes[None] - source[axis]) / direction[:, axis, None]  # (N, P)
    points = source + share[..., None] * direction[:, None]
    low, span = (torch.as_tensor(value, dtype=ends.dtype) for value in (box.low, box.extent))
    # grid_sample's order is that of the last axis first: z, y, x.
    places = (2.0 * (points - low) / span.clamp_min(1e-9) - 1.0).flip(-1)
    sampled = functional.grid_sample(values[None], places[None, None], mode="bilinear", align_corners=True)[0, :, 0]
    length = direction.norm(dim=1) / direction[:, axis].abs() * box.cell
    return sampled.sum(dim=2) * length
