"""A trained network for radiographs, and its file: safetensors with a JSON card."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import ShapeModelError
from ..core.files import replacing, write_text
from .network import PictureFrame, RadiographNetwork

FORMAT = 1


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
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{model.card['name']}.safetensors"
    with replacing(path) as temporary:
        # Half precision halves the file; what it changes is far below what the network errs.
        save_file({key: value.half().contiguous() for key, value in model.network.state_dict().items()}, temporary)
    card = {**model.card, "format": FORMAT, "kind": "radiograph", "frame": model.network.frame.as_dict()}
    write_text(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    return path


def load_radiograph_model(path: Path) -> RadiographModel:
    """Read what `save_radiograph_model` wrote.

    Raises:
        ShapeModelError: missing, damaged, or no network for radiographs.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    card_path = path.with_suffix(".json")
    if not path.is_file() or not card_path.is_file():
        raise ShapeModelError(f"The model {path.name} needs both its .safetensors and its .json file; copy both.")
    try:
        card = json.loads(card_path.read_text())
        if card.get("kind") != "radiograph" or card.get("format") != FORMAT:
            raise ShapeModelError(f"{path.name} is no network for radiographs of this version; choose another.")
        network = RadiographNetwork(PictureFrame(**card["frame"]))
        network.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise ShapeModelError(f"The model {path.name} is damaged; install it again.") from error
    return RadiographModel(network.eval().requires_grad_(False), card)
