"""The network that says where the landmarks are in a picture, or that it does not see them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..fields.picture_encoder import PictureEncoder
from ..landmarks.names import LANDMARK_NAMES

WIDTHS, DEPTHS, JOINED = (48, 96, 160, 224), (1, 2, 3, 2), 64
# A cell of its answer, and what sides of its pictures are multiples of, pixels.
CELL_PX, MULTIPLE_PX = 4, 32
# Longer side of the pictures that it learns from.
SEEN_PX = 192
# Cells about the likeliest one over which a place is averaged.
NEAR_CELLS = 2
MEAN, DEVIATION = 0.45, 0.25


class LandmarkNetwork(PictureEncoder):
    """For each landmark and cell of a picture, how likely it is there; and how likely it is nowhere to be seen."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, WIDTHS[0], 7, CELL_PX, 3), WIDTHS, DEPTHS, JOINED)
        count = len(LANDMARK_NAMES)
        self.cells = nn.Sequential(nn.GELU(), nn.Conv2d(JOINED, JOINED, 3, padding=1), nn.GELU(), nn.Conv2d(JOINED, count, 1))
        self.unseen = nn.Sequential(nn.LayerNorm(WIDTHS[-1]), nn.Linear(WIDTHS[-1], count))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return (B, 6, H W / 16 + 1) logits of cells, row by row, and of 'not seen', for (B, 3, H, W) normalised RGB."""
        places, coarse = self.places(pictures)
        cells = self.cells(places).flatten(2)
        return torch.cat([cells, self.unseen(coarse.mean(dim=(2, 3)))[..., None]], dim=2)


def normalised(pictures: np.ndarray) -> torch.Tensor:
    """Return (B, 3, H, W) as the network takes them, for (B, H, W, 3) uint8 RGB."""
    values = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255
    return (values - MEAN) / DEVIATION


@dataclass(frozen=True)
class Sightings:
    """What the network says of B pictures.

    Attributes:
        pixels: (B, 6, 2) where the landmarks are, if they are seen; continuous, the upper left pixel's centre at 0.5.
        seen: (B, 6) probability that they are, there.
        peak: (B, 6) probability of the likeliest cell alone: how sharply the place is told.
    """

    pixels: np.ndarray
    seen: np.ndarray
    peak: np.ndarray


def sightings(logits: torch.Tensor, rows: int, columns: int) -> Sightings:
    """Return places and probabilities, for (B, 6, rows columns + 1) logits of pictures of that many cells.

    A place is the mean of the cells about the likeliest one, weighed by what they say; its probability is their sum.
    """
    chances = functional.softmax(logits, dim=2)[..., :-1]
    batch, count = chances.shape[:2]
    maps = chances.reshape(batch * count, rows, columns)
    size = 2 * NEAR_CELLS + 1
    around = functional.unfold(functional.pad(maps[:, None], [NEAR_CELLS] * 4), size)  # (B 6, size², cells)
    best = around.sum(dim=1).argmax(dim=1)
    near = around[torch.arange(len(best)), :, best]
    offsets = torch.arange(size) - NEAR_CELLS
    total = near.sum(dim=1)
    weights = (near / total.clamp_min(1e-9)[:, None]).reshape(-1, size, size)
    x = best % columns + (weights.sum(dim=1) * offsets).sum(dim=1)
    y = best // columns + (weights.sum(dim=2) * offsets).sum(dim=1)
    pixels = CELL_PX * (torch.stack([x, y], dim=1) + 0.5)
    as_array = lambda values, *shape: values.reshape(batch, count, *shape).numpy().astype(float)
    return Sightings(as_array(pixels, 2), as_array(total), as_array(near.max(dim=1).values))
