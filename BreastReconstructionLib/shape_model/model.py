"""A shape model in memory: the network with the distribution of its latent codes."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..core.errors import ShapeModelError
from ..core.resources import TORSO
from ..fields.network import ShapeNetwork
from ..landmarks.names import LANDMARK_NAMES


@dataclass(frozen=True)
class ShapeModel:
    """A network with the distribution of its latent codes.

    Attributes:
        network: float32, in evaluation mode; on the CPU unless moved by `on`.
        latent_mean: (latent,) mean code.
        latent_basis: (latent, R) principal directions, each times its standard deviation: code = mean + basis u, and u is
            standard normal over the training population.
        mm_per_unit: mean millimetres a model unit over the training population.
        mm_per_unit_spread: its standard deviation, the uncertainty of an approximate scale.
        card: what the JSON model card says.
    """

    network: ShapeNetwork
    latent_mean: torch.Tensor
    latent_basis: torch.Tensor
    mm_per_unit: float
    mm_per_unit_spread: float
    card: dict

    def on(self, device: str) -> ShapeModel:
        """Return the model on another device ('cpu', 'cuda')."""
        if device == self.latent_mean.device.type:
            return self
        network = copy.deepcopy(self.network).to(device)
        mean, basis = self.latent_mean.to(device), self.latent_basis.to(device)
        return replace(self, network=network, latent_mean=mean, latent_basis=basis)

    @property
    def expression_error(self) -> float:
        """Standard deviation, in model units, of what the model cannot express, by its card; 0 if the card does not say.

        The card gives the mean absolute distance on held-out subjects; a normal distribution's is 0.8 of its deviation.
        """
        return self.card.get("metrics", {}).get("mean_mm", 0.0) / 0.798 / self.mm_per_unit

    @property
    def organ(self) -> str:
        """What it is a model of; 'torso' where the card does not say."""
        return self.card.get("organ", TORSO)

    @property
    def parts(self) -> int:
        """Of how many closed bodies its shapes consist."""
        return self.card.get("components", 1)

    @property
    def landmark_names(self) -> tuple[str, ...]:
        """Of its anchors."""
        return tuple(self.card.get("landmarks", LANDMARK_NAMES))

    def required(self, organ: str) -> ShapeModel:
        """Return the model itself.

        Raises:
            ShapeModelError: it is of another organ.
        """
        if self.organ != organ:
            raise ShapeModelError(
                f"{self.card['name']} is a model of the {self.organ}, not of the {organ}; choose another model."
            )
        return self

    @property
    def volume_error(self) -> float:
        """Relative standard deviation of volumes that were seen whole, by its card; 1 % if the card does not say."""
        return self.card.get("metrics", {}).get("volume_percent", 1.0) / 100.0

    @property
    def posterior_factor(self) -> float:
        """By how much a fit's posterior is too sure of what it did not see, by its card; 1 if the card does not say."""
        return self.card.get("metrics", {}).get("posterior_factor", 1.0)

    @property
    def volume_factor(self) -> float:
        """The same of volumes of which a part was not seen."""
        return self.card.get("metrics", {}).get("volume_factor", self.posterior_factor)

    def code(self, u: torch.Tensor) -> torch.Tensor:
        """Return the (latent,) code of (R,) whitened coordinates."""
        return self.latent_mean + self.latent_basis @ u

    def whitened(self, code: torch.Tensor) -> torch.Tensor:
        """Return the (R,) whitened coordinates of a (latent,) code; the basis is orthogonal."""
        return (self.latent_basis.T @ (code - self.latent_mean)) / self.latent_basis.square().sum(dim=0)


def latent_distribution(codes: np.ndarray, kept_variance: float = 0.9995) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the scaled principal directions of (S, latent) training codes."""
    mean = codes.mean(axis=0)
    _, singular, directions = np.linalg.svd(codes - mean, full_matrices=False)
    variance = singular**2 / max(len(codes) - 1, 1)
    count = int(np.searchsorted(np.cumsum(variance) / variance.sum(), kept_variance)) + 1
    return mean, (directions[:count] * np.sqrt(variance[:count])[:, None]).T
