"""Training of a neural surface: rendered colours against the pictures, opacity against masks, distance against sparse points.

The losses are those of Li et al. 2023 (Neuralangelo) with a mask loss (Wang et al. 2021, NeuS) and a loss of sparse points (Fu et
al. 2022, Geo-NeuS, equation 14); levels are switched on coarse to fine, and gradients are taken over the active level's cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..core.errors import FitError
from ..core.progress import Progress
from ..optimise import trainer
from ..optimise.trainer import Process, Schedule
from .network import Start, SurfaceNetwork, SurfaceNetworkSize
from .rendering import Rays, Remembered, Rendered, render
from .scene import Scene
from .settings import NeuralSettings

# Steps between looks at the whole ball; drawn places that keep the function a distance; sparse points a step.
REMEMBER_EVERY, ANYWHERE, POINTS = 25, 256, 512
# Of the steps, in which the opacity of surfaces seen from behind fades.
ANNEALED_AT = 0.2
JUDGED_RAYS, JUDGED_TIMES = 2048, 5
# Rays whose pictures show the background are not the object's colour; edges of masks mix both.
SEEN_COLOR = 0.5


@dataclass(frozen=True)
class _Part:
    """What a process renders in a step.

    Attributes:
        rays: see Rays.
        points: (P, 3) sparse points that their pictures see.
        anywhere: (A, 3) places in the ball.
        active: levels.
        annealed: see `render`.
        remembered: where to look.
    """

    rays: Rays
    points: torch.Tensor
    anywhere: torch.Tensor
    active: int
    annealed: float
    remembered: Remembered


class _Losses(nn.Module):
    """The network; the losses of a step in `forward`, as DistributedDataParallel wants them."""

    def __init__(self, network: SurfaceNetwork, settings: NeuralSettings):
        super().__init__()
        self.network, self.settings = network, settings

    def forward(self, part: _Part) -> torch.Tensor:
        """Return the (6,) sums over the rays: loss, and colour, mask, points, eikonal and curvature terms."""
        s, rays = self.settings, part.rays
        seen = render(self.network, rays, part.remembered, part.active, part.annealed)
        count = len(rays.origins)
        color = _color(seen, rays)
        mask = _mask(seen, rays, s.mask_loss)
        points, gradient = self._elsewhere(part)
        eikonal = _mean((torch.cat([seen.gradient, gradient]).norm(dim=1) - 1).square())
        curvature = _mean(seen.laplacian.abs())
        loss = color + s.mask_weight * mask + s.points_weight * points
        loss = loss + s.eikonal_weight * eikonal + s.curvature_weight * curvature
        return count * torch.stack([loss, color, mask, points, eikonal, curvature])

    def _elsewhere(self, part: _Part) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean distance of the sparse points, and (A, 3) gradients anywhere."""
        gradient = self.network.local(part.anywhere, part.active).gradient
        if len(part.points) == 0 or self.settings.points_weight == 0:
            return gradient.new_zeros(()), gradient
        return self.network.distance(part.points, part.active)[0].abs().mean(), gradient


def _mean(values: torch.Tensor) -> torch.Tensor:
    return values.sum() / max(len(values), 1)


def _color(seen: Rendered, rays: Rays) -> torch.Tensor:
    error = (seen.colors - rays.colors).abs().mean(dim=1)
    return error.mean() if rays.masks is None else (error * (rays.masks > SEEN_COLOR)).mean()


def _mask(seen: Rendered, rays: Rays, kind: str) -> torch.Tensor:
    if rays.masks is None or kind == "off":
        return seen.opacity.new_zeros(())
    if kind == "mse":
        return nn.functional.mse_loss(seen.opacity, rays.masks)
    return nn.functional.binary_cross_entropy(seen.opacity.clamp(1e-3, 1 - 1e-3), rays.masks)


class SurfaceTraining:
    """A network and what pictures say of it, as the trainer wants them."""

    terms = ("loss", "colour", "mask", "points", "eikonal", "curvature")
    unit = "grey levels"

    def __init__(self, scene: Scene, start: Start, settings: NeuralSettings, process: Process, decisive: Mapping[str, Any]):
        torch.manual_seed(settings.seed)
        free = start.reach is None
        size = SurfaceNetworkSize(settings.grid, settings.width, len(scene.names), scene.pixels.masked is None, glossy=free)
        network = SurfaceNetwork(size, start)
        self.module = _Losses(network, settings).to(process.device)
        self.decisive = dict(decisive)
        self._scene, self._settings, self._device = scene, settings, process.device
        self._remembered: tuple[int, Remembered] | None = None

    @property
    def network(self) -> SurfaceNetwork:
        """The present state."""
        return self.module.network

    def groups(self) -> list[dict]:
        """The networks, and the tables at a rate of their own."""
        s, network = self._settings, self.network
        alone = [network.exposure, network.sharpness_parameter]
        tables = list(network.grid.parameters())
        known = {id(parameter) for parameter in (*alone, *tables)}
        layers = [parameter for parameter in network.parameters() if id(parameter) not in known]
        return [
            {"params": layers, "lr": s.learning_rate, "weight_decay": s.weight_decay},
            {"params": tables, "lr": s.grid_learning_rate, "weight_decay": 0.0, "eps": 1e-15},
            {"params": alone, "lr": s.learning_rate, "weight_decay": 0.0},
        ]

    def clipped(self) -> Iterable[nn.Parameter]:
        """All parameters."""
        return self.network.parameters()

    def batch(self, step: int, process: Process) -> tuple[list[str], _Part]:
        """Draw the rays of a step from (seed, step), of which this process keeps its share."""
        s, scene = self._settings, self._scene
        generator = np.random.default_rng([s.seed, step])
        chosen = scene.draw(s.rays, generator)
        spread = torch.from_numpy(generator.random((s.rays, s.samples), np.float32))
        views = np.unique(scene.pixels.view[chosen])
        of_views = np.flatnonzero(scene.seen[views].any(axis=0))
        points = scene.points[generator.choice(of_views, min(POINTS, len(of_views)), replace=False)]
        anywhere = generator.uniform(-1, 1, (ANYWHERE, 3)) / np.sqrt(3)
        mine = slice(process.rank, None, process.count)
        active = s.active(step)
        part = _Part(
            scene.rays(chosen[mine], spread[mine], self._device),
            self._on(points[mine]),
            self._on(anywhere[mine]),
            active,
            min(1.0, step / max(ANNEALED_AT * s.steps, 1)),
            self._look(step, active),
        )
        return [scene.names[view] for view in views], part

    def _on(self, values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self._device)

    def _look(self, step: int, active: int) -> Remembered:
        """The distance as it was at the last look."""
        last = step - step % REMEMBER_EVERY
        if self._remembered is None or self._remembered[0] != last:
            self._remembered = last, Remembered.of(self.network, active)
        return self._remembered[1]

    def judged(self) -> _JudgedSurface:
        """The present state."""
        return _JudgedSurface(self.network, self._scene, self._settings, self._device)


@dataclass(frozen=True)
class _JudgedSurface:
    """A network, and the pictures that judge it."""

    network: SurfaceNetwork
    scene: Scene
    settings: NeuralSettings
    device: str

    def error(self) -> float:
        """Mean difference to the pictures along rays that are always the same, grey levels of 255."""
        generator = np.random.default_rng([self.settings.seed, 977])
        chosen = self.scene.draw(JUDGED_RAYS, generator)
        spread = torch.from_numpy(generator.random((JUDGED_RAYS, self.settings.samples), np.float32))
        levels = self.settings.grid.levels
        with torch.no_grad():
            rays = self.scene.rays(chosen, spread, self.device)
            seen = render(self.network, rays, Remembered.of(self.network, levels), levels, 1.0)
            return float(255 * _color(seen, rays))

    def picture(self) -> np.ndarray | None:
        """None: pictures of the scene are not put among records."""
        return None


def train_surface(
    scene: Scene,
    start: Start,
    settings: NeuralSettings,
    process: Process,
    work: Path,
    progress: Progress,
    decisive: Mapping[str, Any],
) -> tuple[SurfaceNetwork, float]:
    """Learn a scene; go on from `work/checkpoint.pt` if it exists.

    Args:
        scene: what the pictures show.
        start: the distance at first.
        settings: see NeuralSettings.
        process: this one among several.
        work: folder of the checkpoint and of TensorBoard's records.
        progress: reported every 100 steps.
        decisive: plain values that must be the same to go on from a checkpoint.

    Returns:
        the network, and the mean difference of its pictures to the given ones, grey levels of 255.

    Raises:
        FitError: no surface is left.
        ShapeModelError: what the trainer raises.
    """
    training = SurfaceTraining(scene, start, settings, process, decisive)
    schedule = Schedule(settings.steps, settings.rays, max(settings.steps // JUDGED_TIMES, 1), JUDGED_TIMES + 1)
    error = trainer.train(training, schedule, process, work, progress)
    if not (Remembered.of(training.network, settings.grid.levels).volume < 0).any():
        raise FitError("Nothing opaque was found in the ball that the cameras look at; check the masks and the cameras.")
    return training.network.eval().requires_grad_(False), error
