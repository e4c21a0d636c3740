"""What pictures show of a signed distance: opacity along rays by its logistic (Wang et al. 2021, NeuS, equations 10 to 13)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .network import SurfaceNetwork, grid_points, sample_volume

# Places along a ray at which the remembered distance is looked at, and what is added to the chance of each.
COARSE, FLOOR = 64, 1e-3
# Places whose opacity is below that of a distance of so many widths of the logistic are not evaluated.
WIDTHS = 8.0


@dataclass(frozen=True)
class Rays:
    """R rays of pictures.

    Attributes:
        origins, directions: (R, 3) of the ball; unit directions.
        near, far: (R,) where they enter and leave the ball.
        frames: (R,) number of their picture.
        colors: (R, 3) what it shows, 0 to 1.
        masks: (R,) 1 on the object, 0 beside it; None without masks.
        spread: (R, S) 0 to 1: where each of S samples lies in its share of the ray.
    """

    origins: torch.Tensor
    directions: torch.Tensor
    near: torch.Tensor
    far: torch.Tensor
    frames: torch.Tensor
    colors: torch.Tensor
    masks: torch.Tensor | None
    spread: torch.Tensor


@dataclass(frozen=True)
class Rendered:
    """What is seen along R rays.

    Attributes:
        colors: (R, 3).
        opacity: (R,) 0 to 1.
        depth: (R,) along the ray, of what is opaque.
        gradient: (M, 3) and
        laplacian: (M,) at the M places that were evaluated.
    """

    colors: torch.Tensor
    opacity: torch.Tensor
    depth: torch.Tensor
    gradient: torch.Tensor
    laplacian: torch.Tensor


@dataclass(frozen=True)
class Remembered:
    """The distance as it was some steps ago, on a grid; tells where along rays to look.

    Attributes:
        volume: (C, C, C) values.
        cell: side of a cell.
    """

    volume: torch.Tensor
    cell: float

    @classmethod
    def of(cls, network: SurfaceNetwork, active: int, cells: int = 80) -> Remembered:
        """Evaluate the network on a grid."""
        device = network.exposure.device
        points = torch.from_numpy(grid_points(cells)).to(device)
        with torch.no_grad():
            values = torch.cat([network.distance(part, active)[0] for part in points.split(65_536)])
        return cls(values.view((cells + 1,) * 3), 2.0 / cells)


def render(network: SurfaceNetwork, rays: Rays, remembered: Remembered, active: int, annealed: float) -> Rendered:
    """Render rays.

    Args:
        network: the scene.
        rays: see Rays.
        remembered: where to look.
        active: levels of the grid.
        annealed: 0 to 1; from 1 on only surfaces that face the camera are opaque.
    """
    with torch.no_grad():
        at, length = _places(network, rays, remembered)
        points = rays.origins[:, None] + at[..., None] * rays.directions[:, None]
        reach = WIDTHS / network.sharpness + 2 * remembered.cell
        ray, number = torch.nonzero(
            sample_volume(remembered.volume, points.reshape(-1, 3)).abs().view_as(at) < reach, as_tuple=True
        )
    places, directions = points[ray, number], rays.directions[ray]
    here = network.local(places, active)
    normals = torch.nn.functional.normalize(here.gradient, dim=1, eps=1e-4)
    facing = (here.gradient * directions).sum(dim=1)
    falling = torch.relu(0.5 - 0.5 * facing) * (1 - annealed) + torch.relu(-facing) * annealed
    half = 0.5 * length[ray, number] * falling
    before, after = (torch.sigmoid(network.sharpness * (here.distance + side)) for side in (half, -half))
    opaque = ((before - after) / (before + 1e-5)).clamp(0, 1)
    along = torch.zeros_like(at).index_put((ray, number), opaque)
    passed = torch.cat([torch.ones_like(along[:, :1]), (1 - along + 1e-7).cumprod(dim=1)], dim=1)
    weight = along * passed[:, :-1]
    colors = network.colors(places, normals, directions, here.features)
    shown = torch.zeros_like(rays.origins).index_add(0, ray, weight[ray, number, None] * colors)
    shown = shown + passed[:, -1:] * network.background(rays.directions, rays.origins)
    opacity = weight.sum(dim=1)
    depth = (weight * at).sum(dim=1) / opacity.clamp_min(1e-4)
    return Rendered(shown * network.gains(rays.frames), opacity, depth, here.gradient, here.laplacian)


def _places(network: SurfaceNetwork, rays: Rays, remembered: Remembered) -> tuple[torch.Tensor, torch.Tensor]:
    """(R, S) places along the rays, most of them where the remembered surface is, and the lengths that they stand for."""
    share = torch.linspace(0, 1, COARSE + 1, device=rays.origins.device)
    edges = rays.near[:, None] + (rays.far - rays.near)[:, None] * share
    values = sample_volume(
        remembered.volume, (rays.origins[:, None] + edges[..., None] * rays.directions[:, None]).reshape(-1, 3)
    )
    sharpness = torch.minimum(network.sharpness, network.sharpness.new_tensor(2.0 / remembered.cell))
    inside = torch.sigmoid(-sharpness * values.view_as(edges))
    opaque = ((inside[:, 1:] - inside[:, :-1]) / (1 - inside[:, :-1] + 1e-5)).clamp(0, 1)
    passed = torch.cat([torch.ones_like(opaque[:, :1]), (1 - opaque).cumprod(dim=1)[:, :-1]], dim=1)
    chance = (opaque * passed).cumsum(dim=1) + FLOOR * torch.arange(1, COARSE + 1, device=share.device)
    chance = torch.nn.functional.pad(chance / chance[:, -1:], (1, 0))
    count = rays.spread.shape[1]
    wanted = (torch.arange(count, device=share.device) + rays.spread) / count
    above = torch.searchsorted(chance, wanted.contiguous()).clamp(1, COARSE)
    low, high = (chance.gather(1, index) for index in (above - 1, above))
    within = (wanted - low) / (high - low).clamp_min(1e-9)
    start, end = (edges.gather(1, index) for index in (above - 1, above))
    at = start + within * (end - start)
    middle = 0.5 * (at[:, 1:] + at[:, :-1])
    bounds = torch.cat([rays.near[:, None], middle, rays.far[:, None]], dim=1)
    coarse = ((rays.far - rays.near) / COARSE)[:, None]
    return at, torch.minimum(bounds[:, 1:] - bounds[:, :-1], coarse)
