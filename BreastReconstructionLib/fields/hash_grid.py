"""Features of space in grids of several resolutions, whose corners share small tables (Müller et al. 2022, section 3).

In plain torch, for processors and any graphics card: the derivative by position is never taken, so a lookup is a weighted sum
of rows, and its backward pass adds rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

# Of the spatial hash, equation 4 there.
_PRIMES = (1, 2_654_435_761, 805_459_861)
_INITIAL = 1e-4


@dataclass(frozen=True)
class HashGridSize:
    """Levels and tables.

    Attributes:
        levels: how many resolutions.
        features: numbers a corner.
        table_bits: a level has at most 2 to the power of this many rows.
        coarsest, finest: cells a side of the cube from -1 to 1, of the first and the last level.
    """

    levels: int = 8
    features: int = 2
    table_bits: int = 16
    coarsest: int = 12
    finest: int = 192

    def cells(self, level: int) -> int:
        """Cells a side of a level; they grow evenly by a factor."""
        share = level / max(self.levels - 1, 1)
        return round(self.coarsest * (self.finest / self.coarsest) ** share)


class HashGrid(nn.Module):
    """The tables; called with points, it returns their features, those of levels that are not active yet being 0."""

    ends: torch.Tensor

    def __init__(self, size: HashGridSize):
        super().__init__()
        self.size = size
        self._cells = [size.cells(level) for level in range(size.levels)]
        rows = [min((cells + 1) ** 3, 2**size.table_bits) for cells in self._cells]
        self._hashed = [(cells + 1) ** 3 > 2**size.table_bits for cells in self._cells]
        self._first = [sum(rows[:level]) for level in range(size.levels)]
        self.table = nn.Parameter(torch.empty(sum(rows), size.features).uniform_(-_INITIAL, _INITIAL))
        self.register_buffer("ends", torch.tensor([0, 1]), persistent=False)

    @property
    def width(self) -> int:
        """Numbers a point."""
        return self.size.levels * self.size.features

    def forward(self, points: torch.Tensor, active: int) -> torch.Tensor:
        """(N, width) features of (N, 3) points of the cube; of the first `active` levels."""
        with torch.no_grad():
            looked_up = [self._corners_of(points, level) for level in range(active)]
            rows = torch.stack([rows for rows, _ in looked_up], dim=1)
            weights = torch.stack([weights for _, weights in looked_up], dim=1)
        found = _WeightedRows.apply(self.table, rows.reshape(-1, 8), weights.reshape(-1, 8)).view(len(points), -1)
        return nn.functional.pad(found, (0, self.width - found.shape[1]))

    def _corners_of(self, points: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, 8) rows of the corners around each point, and their trilinear weights."""
        cells = self._cells[level]
        place = (points.clamp(-1, 1) + 1) * (0.5 * cells)
        low = place.floor().clamp_(0, cells - 1)
        share = (place - low).T
        # (3, N, 2): of both corners along each axis; their products and sums over the axes are the eight.
        weight = torch.stack([1 - share, share], dim=2)
        step = low.long().T[..., None] + self.ends
        if self._hashed[level]:
            x, y, z = (step[axis] * prime for axis, prime in enumerate(_PRIMES))
            row = ((x[:, :, None] ^ y[:, None])[..., None] ^ z[:, None, None]) & (2**self.size.table_bits - 1)
        else:
            x, y, z = step[0] * (cells + 1) ** 2, step[1] * (cells + 1), step[2]
            row = (x[:, :, None] + y[:, None])[..., None] + z[:, None, None]
        product = (weight[0][:, :, None] * weight[1][:, None])[..., None] * weight[2][:, None, None]
        return row.view(-1, 8) + self._first[level], product.view(-1, 8)


class _WeightedRows(torch.autograd.Function):
    """Sums of a table's rows, with weights. torch's own embedding_bag sorts all rows for its backward pass: five times slower."""

    @staticmethod
    def forward(ctx, table: torch.Tensor, rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(rows, weights)
        ctx.shape = table.shape
        return nn.functional.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        rows, weights = ctx.saved_tensors
        added = gradient.new_zeros(ctx.shape)
        values = (gradient[:, None] * weights[..., None]).reshape(-1, gradient.shape[1])
        added.scatter_add_(0, rows.reshape(-1, 1).expand_as(values), values)
        return added, None, None
