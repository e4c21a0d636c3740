"""The network that finds landmarks, and its file."""

from __future__ import annotations

from pathlib import Path

from ..fields.network_file import load_network, save_network
from .network import LandmarkNetwork

KIND = "landmarks"


def save_landmark_network(folder: Path, network: LandmarkNetwork, card: dict) -> Path:
    """Write `<name>.safetensors` and `<name>.json`; returns the path of the former."""
    return save_network(folder, network, card, KIND)


def load_landmark_network(path: Path) -> tuple[LandmarkNetwork, dict]:
    """Read what `save_landmark_network` wrote, and its card.

    Raises:
        ShapeModelError: missing, damaged, or no network for landmarks.
    """
    return load_network(path, KIND, "network for landmarks", lambda card: LandmarkNetwork())
