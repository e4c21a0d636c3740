"""A trained network for radiographs, and its file: safetensors with a JSON card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..fields.network_file import load_network, save_network
from .network import PictureFrame, RadiographNetwork

KIND = "radiograph"


@dataclass(frozen=True)
class RadiographModel:
    """A trained network, and its card, which names the shape model that it goes with."""

    network: RadiographNetwork
    card: dict

    @property
    def bone(self) -> str:
        """Which bone."""
        return self.card["bone"]

    @property
    def cortex_mm(self) -> np.ndarray:
        """(2,) usual thickness of the cortex at the ends and in the middle."""
        return np.array(self.card["cortex_mm"], float)

    @property
    def posterior_factor(self) -> float:
        """By how much a fit's posterior is too sure, by its card; 1 if the card does not say."""
        return self.card.get("metrics", {}).get("posterior_factor", 1.0)


def save_radiograph_model(folder: Path, model: RadiographModel) -> Path:
    """Write `<name>.safetensors` and `<name>.json`; returns the path of the former."""
    card = {**model.card, "frame": model.network.frame.as_dict()}
    return save_network(folder, model.network, card, KIND)


def load_radiograph_model(path: Path) -> RadiographModel:
    """Read what `save_radiograph_model` wrote.

    Raises:
        ShapeModelError: missing, damaged, or no network for radiographs.
    """
    build = lambda card: RadiographNetwork(PictureFrame(**card["frame"]))
    return RadiographModel(*load_network(path, KIND, "network for radiographs", build))
