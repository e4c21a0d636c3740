"""Settings of the training of a neural surface."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..fields.hash_grid import HashGridSize


@dataclass(frozen=True)
class NeuralSettings:
    """How a scene is learned; every loss has a switch, so that what it brings can be shown.

    Attributes:
        grid: levels and tables.
        width: of the networks' layers.
        steps: of optimisation.
        rays: a step, over all processes.
        samples: places along a ray.
        mask_loss: 'cross-entropy', 'mse' or 'off': the opacity of a ray against the mask.
        mask_weight, points_weight, eikonal_weight, curvature_weight: of the losses; 0 switches one off. The points' is the mean
            distance of the sparse points that the pictures of a step see.
        weight_decay: of the networks; the tables have none.
        learning_rate, grid_learning_rate: of networks, and of tables.
        first_levels: active from the start; the others follow evenly until `all_levels_at`, as a share of the steps.
        seed: of all that is drawn.
    """

    grid: HashGridSize = field(default_factory=HashGridSize)
    width: int = 64
    steps: int = 2000
    rays: int = 512
    samples: int = 20
    mask_loss: str = "cross-entropy"
    mask_weight: float = 0.3
    points_weight: float = 0.3
    eikonal_weight: float = 0.1
    curvature_weight: float = 5e-4
    weight_decay: float = 1e-2
    learning_rate: float = 2e-3
    grid_learning_rate: float = 1e-2
    first_levels: int = 3
    all_levels_at: float = 0.6
    seed: int = 0

    def active(self, step: int) -> int:
        """Levels that are active at a step."""
        later = self.grid.levels - self.first_levels
        share = min(1.0, step / max(self.all_levels_at * self.steps, 1))
        return min(self.grid.levels, self.first_levels + int(share * (later + 1e-9)))
