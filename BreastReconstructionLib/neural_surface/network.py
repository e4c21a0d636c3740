"""Signed distance and colour of one scene, in the unit ball: a start, and what a hash grid and small networks add to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..fields.field import Field
from ..fields.hash_grid import HashGrid, HashGridSize

GEOMETRY_FEATURES = 15
_BETA = 100.0
# The parameter of the logistic's width is smaller than its logarithm by this: it learns fast.
_SHARPNESS_RATE = 10.0
# Corners of a tetrahedron; their sums give gradient and Laplacian from four values beside the middle one.
_TAPS = torch.tensor([[1.0, -1.0, -1.0], [-1.0, -1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, 1.0, 1.0]])
# What extraction must know: near a surface with details the gradient stays below the first; the second derivative by the cells.
_LIPSCHITZ, _CURVATURE_A_CELL = 2.0, 0.25
_CHUNK = 65_536


class Start(nn.Module):
    """A distance that is known before the pictures.

    Attributes:
        sharpness: 1 / width of the logistic at first; the wider, the farther the surface can move.
        reach: the surface moves by at most this; None for anywhere.
    """

    sharpness: float
    reach: float | None


class SphereStart(Start):
    """The distance to a sphere: nothing is known of the object."""

    def __init__(self, radius: float = 0.6):
        super().__init__()
        self.radius, self.sharpness, self.reach = radius, 20.0, None

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """(N,) of (N, 3) points."""
        return points.norm(dim=1) - self.radius


class SampledStart(Start):
    """A distance that was sampled on the corners of a grid over the cube from -1 to 1: a surface that is nearly right."""

    volume: torch.Tensor

    def __init__(self, volume: np.ndarray, reach: float):
        super().__init__()
        self.sharpness, self.reach = 4.0 / reach, reach
        self.register_buffer("volume", torch.as_tensor(volume, dtype=torch.float32))

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """(N,) of (N, 3) points, trilinear."""
        return sample_volume(self.volume, points)


def sample_volume(volume: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """(N,) values of an (X, Y, Z) volume over the cube from -1 to 1, at (N, 3) points."""
    places = points.flip(-1).view(1, 1, 1, -1, 3)
    return nn.functional.grid_sample(volume[None, None], places, align_corners=True, padding_mode="border").view(-1)


def grid_points(cells: int) -> np.ndarray:
    """((cells + 1)^3, 3) corners of a grid over the cube from -1 to 1, the last axis fastest."""
    axis = np.linspace(-1, 1, cells + 1, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)


@dataclass(frozen=True)
class SurfaceNetworkSize:
    """Of grid and networks.

    Attributes:
        grid: of the features.
        width: of the networks' layers.
        frames: pictures, each with an exposure of its own.
        background: whether what is behind the object is learned as well.
        glossy: whether a place may look different from different sides; skin that is known to a few millimetres is told where it
            lies only if it may not.
    """

    grid: HashGridSize
    width: int
    frames: int
    background: bool
    glossy: bool = True


@dataclass(frozen=True)
class Local:
    """The function about N points.

    Attributes:
        distance: (N,).
        features: (N, 15) for the colour.
        gradient: (N, 3) and
        laplacian: (N,) by differences over the active level's cells.
    """

    distance: torch.Tensor
    features: torch.Tensor
    gradient: torch.Tensor
    laplacian: torch.Tensor


class SurfaceNetwork(nn.Module):
    """Distance, colour, exposure and sharpness of one scene."""

    taps: torch.Tensor

    def __init__(self, size: SurfaceNetworkSize, start: Start):
        super().__init__()
        self.size, self.start = size, start
        self.grid = HashGrid(size.grid)
        self.geometry = _layers(3 + self.grid.width, size.width, 1 + GEOMETRY_FEATURES, depth=1, smooth=True)
        nn.init.normal_(self.geometry[-1].weight, std=1e-3)  # the start is what is first there
        nn.init.zeros_(self.geometry[-1].bias)
        self.color = _layers(9 + GEOMETRY_FEATURES, size.width, 3, depth=2)
        self.behind = _layers(3 * 2 * 4, size.width, 3, depth=2) if size.background else None
        self.exposure = nn.Parameter(torch.zeros(size.frames, 3))
        self.sharpness_parameter = nn.Parameter(torch.tensor(np.log(start.sharpness) / _SHARPNESS_RATE, dtype=torch.float32))
        self.register_buffer("taps", _TAPS.clone(), persistent=False)

    @property
    def sharpness(self) -> torch.Tensor:
        """1 / width of the logistic by which a distance becomes an opacity; ball units."""
        return (self.sharpness_parameter * _SHARPNESS_RATE).exp()

    def distance(self, points: torch.Tensor, active: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(N,) signed distances and (N, 15) features of (N, 3) points of the ball; negative inside."""
        out = self.geometry(torch.cat([points, self.grid(points, active)], dim=1))
        reach = self.start.reach
        moved = out[:, 0] if reach is None else reach * torch.tanh(out[:, 0] / reach)
        return self.start(points) + moved, out[:, 1:]

    def local(self, points: torch.Tensor, active: int) -> Local:
        """The function about (N, 3) points. Numerical gradients reach all cells around (Li et al. 2023, section 3.2)."""
        step, count = 1.0 / self.size.grid.cells(active - 1), len(points)
        around = (points[None] + step * self.taps[:, None]).reshape(-1, 3)
        values, features = self.distance(torch.cat([points, around]), active)
        middle, taps = values[:count], values[count:].view(4, count)
        gradient = (taps.T @ self.taps) / (4 * step)
        laplacian = (taps.sum(dim=0) - 4 * middle) / (2 * step**2)
        return Local(middle, features[:count], gradient, laplacian)

    def colors(
        self, points: torch.Tensor, normals: torch.Tensor, directions: torch.Tensor, features: torch.Tensor
    ) -> torch.Tensor:
        """(N, 3) red, green, blue of 0 to 1 at (N, 3) points seen along (N, 3) unit directions, before exposure."""
        seen_from = directions if self.size.glossy else torch.zeros_like(directions)
        return torch.sigmoid(self.color(torch.cat([points, normals, seen_from, features], dim=1)))

    def background(self, directions: torch.Tensor, origins: torch.Tensor) -> torch.Tensor:
        """(R, 3) colours behind the ball, by where (R, 3) rays leave a far sphere; black if none is learned."""
        if self.behind is None:
            return torch.zeros_like(directions)
        far = nn.functional.normalize(origins + 3 * directions * origins.norm(dim=1, keepdim=True), dim=1)
        turns = torch.cat([far * (2.0**octave * np.pi) for octave in range(4)], dim=1)
        return torch.sigmoid(self.behind(torch.cat([turns.sin(), turns.cos()], dim=1)))

    def gains(self, frames: torch.Tensor) -> torch.Tensor:
        """(R, 3) factors by which frames are brighter than the mean."""
        return (self.exposure - self.exposure.mean(dim=0))[frames].exp()

    def field(self, evaluate=None) -> Field:
        """The distance for extraction, all levels active.

        Args:
            evaluate: (function of points, points) -> values; shares the work, by default in chunks.
        """
        device, levels = self.exposure.device, self.size.grid.levels

        def at(points: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                inside = torch.as_tensor(points, dtype=torch.float32, device=device)
                parts = [self.distance(part, levels)[0] for part in inside.split(_CHUNK)]
            # The ball ends what the pictures say nothing about.
            beyond = np.linalg.norm(points, axis=1) - 1.0
            return np.maximum(torch.cat(parts).cpu().numpy(), beyond).astype(np.float32)

        def distance(points: np.ndarray) -> np.ndarray:
            return at(points) if evaluate is None else evaluate(at, points)

        def with_gradient(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            with torch.no_grad():
                inside = torch.as_tensor(points, dtype=torch.float32, device=device)
                gradient = torch.cat([self.local(part, levels).gradient for part in inside.split(_CHUNK // 4)])
            return at(points), gradient.cpu().numpy()

        curvature = _CURVATURE_A_CELL * self.size.grid.finest
        return Field(distance, with_gradient, lipschitz=_LIPSCHITZ, curvature=curvature)


def _layers(inputs: int, width: int, outputs: int, depth: int, smooth: bool = False) -> nn.Sequential:
    parts: list[nn.Module] = []
    for before in (inputs, *(width,) * (depth - 1)):
        parts += [nn.Linear(before, width), nn.Softplus(_BETA) if smooth else nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(width, outputs))
