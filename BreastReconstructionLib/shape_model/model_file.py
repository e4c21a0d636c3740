"""Shape models on disk: our own safetensors with a JSON card, and the official liRBSM checkpoint."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import torch

from ..core.errors import ShapeModelError
from ..core.files import replacing, unpacks_sanely
from ..core.resources import default_model_path
from ..fields.network import NetworkSize, ShapeNetwork
from ..fields.network_file import check_weights, write_card
from ..landmarks.mean_anchors import OFFICIAL_MM_PER_UNIT
from .model import ShapeModel

FORMAT = 1


def save_model(folder: Path, model: ShapeModel) -> Path:
    """Write `<name>.safetensors` and `<name>.json`; returns the path of the former."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{model.card['name']}.safetensors"
    tensors = {f"network.{key}": value.contiguous() for key, value in model.network.state_dict().items()}
    tensors |= {
        "mean_anchors": model.network.mean_anchors.contiguous(),
        "latent_mean": model.latent_mean.contiguous(),
        "latent_basis": model.latent_basis.contiguous(),
    }
    card = model.card | {
        "format": FORMAT,
        "network": model.network.size.as_dict(),
        "mm_per_unit": model.mm_per_unit,
        "mm_per_unit_spread": model.mm_per_unit_spread,
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary)
    write_card(path, card)
    return path


def load_model(path: Path | None = None) -> ShapeModel:
    """Load one of our own model files; None for the bundled one.

    Raises:
        ShapeModelError: missing, damaged, another format, or other shapes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path) if path is not None else default_model_path()
    if path.suffix != ".safetensors":
        raise ShapeModelError(
            f"{path.name} is not a model of this program; convert the official checkpoint with "
            "'breast-reconstruction model import'."
        )
    card_path = path.with_suffix(".json")
    if not path.is_file() or not card_path.is_file():
        raise ShapeModelError(f"The shape model {path.name} needs both its .safetensors and its .json file; copy both.")
    try:
        tensors = load_file(path)
        card = json.loads(card_path.read_text())
        check_weights(path, card)
        if card.get("format") != FORMAT:
            raise ShapeModelError(f"{path.name} was written by another version of the program; get a matching model.")
        network = ShapeNetwork(NetworkSize(**card["network"]), tensors["mean_anchors"])
        state = {key.removeprefix("network."): value for key, value in tensors.items() if key.startswith("network.")}
        _load_state(network, state, path.name)
        model = ShapeModel(
            network,
            tensors["latent_mean"],
            tensors["latent_basis"],
            float(card["mm_per_unit"]),
            float(card["mm_per_unit_spread"]),
            card,
        )
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise ShapeModelError(f"The shape model {path.name} is damaged; install or import it again.") from error
    if model.latent_mean.shape != (network.size.latent,) or model.latent_basis.shape[:1] != (network.size.latent,):
        raise ShapeModelError(f"The shape model {path.name} holds codes of another length than its network's.")
    return model


def import_official_model(checkpoint: Path, average_anchors: Path) -> ShapeModel:
    """Read the authors' checkpoint (`model_state_dict`, `latent_mean`, `latent_std`) and `average_anchors.pt` (6 x 3).

    Both are opened with `weights_only=True`: a file that holds code is refused.

    Raises:
        ShapeModelError: missing, damaged, holding code, or of other shapes.
    """
    values = _load_pickle(checkpoint)
    anchors = _load_pickle(average_anchors)
    if not isinstance(values, dict) or not {"model_state_dict", "latent_mean", "latent_std"} <= set(values):
        raise ShapeModelError(
            f"{checkpoint.name} is not the official checkpoint: it lacks model_state_dict, latent_mean or latent_std."
        )
    anchors = torch.as_tensor(anchors, dtype=torch.float32)
    size = NetworkSize()
    if anchors.shape != (size.anchors, 3):
        raise ShapeModelError(f"{average_anchors.name} holds {tuple(anchors.shape)} numbers, not six anchors of three.")
    network = ShapeNetwork(size, anchors)
    _load_state(network, values["model_state_dict"], checkpoint.name)
    mean = torch.as_tensor(values["latent_mean"], dtype=torch.float32).reshape(-1)
    spread = torch.as_tensor(values["latent_std"], dtype=torch.float32).reshape(-1)
    spread = spread.expand(size.latent) if spread.numel() == 1 else spread
    if mean.shape != (size.latent,) or spread.shape != (size.latent,):
        raise ShapeModelError(f"{checkpoint.name} holds a latent mean of {len(mean)} numbers, not {size.latent}.")
    card = {
        "name": "official-lirbsm-576",
        "population": "168 women, 3D scans of the authors",
        "licence": "the authors' own: non-commercial research, no redistribution",
        "source": "imported from the official liRBSM checkpoint (arXiv 2510.13540)",
    }
    # The paper gives one scale for all; women differ in size by about 5 % (stature: 6 cm of 164 cm and more).
    spread_mm = 0.05 * OFFICIAL_MM_PER_UNIT
    return ShapeModel(network, mean, torch.diag(spread), OFFICIAL_MM_PER_UNIT, spread_mm, card)


def _load_pickle(path: Path):
    if not Path(path).is_file():
        raise ShapeModelError(f"The file {Path(path).name} does not exist; check the path.")
    damaged = ShapeModelError(f"{Path(path).name} is damaged; download it from its authors again.")
    if not unpacks_sanely(path):
        raise damaged
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ShapeModelError(
            f"{Path(path).name} holds program code or is damaged and is not opened; download it from its authors again."
        ) from error
    except (RuntimeError, EOFError, zipfile.BadZipFile, OSError, ValueError, KeyError) as error:
        raise damaged from error


def _load_state(network: ShapeNetwork, state: dict, name: str) -> None:
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items() if hasattr(value, "shape")}
    if expected != found:
        wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        raise ShapeModelError(
            f"{name} has other layers than this network ({wrong[0]}: {found.get(wrong[0], 'missing')} instead of "
            f"{expected.get(wrong[0], 'none')}); it belongs to another model."
        )
    network.load_state_dict(state)
    network.eval().requires_grad_(False)
