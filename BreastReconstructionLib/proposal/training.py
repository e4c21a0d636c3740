"""Training of the network that finds landmarks, on pictures of phantoms that are changed anew each time they are shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..core.errors import LandmarkError
from ..core.files import disk_errors
from ..core.progress import Progress
from ..landmarks.names import EXCHANGED
from ..optimise import trainer
from ..optimise.trainer import Process, Schedule
from ..phantom.landmark_pictures import LandmarkPictures
from .model_file import save_landmark_network
from .network import CELL_PX, SEEN_PX, LandmarkNetwork, normalised, sightings

FEWEST_BODIES, JUDGES_SHARE = 10, 0.05
# Shapes of the pictures, (height, width): whole, upright as phones film, and lying.
SHAPES = ((SEEN_PX, SEEN_PX), (SEEN_PX, 128), (SEEN_PX, 128), (128, SEEN_PX))
# A landmark's cell and its neighbours share what is to be said.
SPREAD_CELLS = 0.7
# Judging: places farther off than this are all alike.
LARGEST_ERROR_PX = 20.0
# What is drawn for each picture: its part of the whole, turn, and the share of pictures where something covers a place.
SMALLEST_PART, TURN_DEGREES, COVERED_SHARE, COVERED_PX = 0.5, 15.0, 0.3, 40


@dataclass(frozen=True)
class LandmarkSettings:
    """What decides a training; written to the card.

    Attributes:
        name: of the network.
        population, licence: for the card.
        steps: at most.
        batch: pictures a step.
        learning_rate: at the start.
        seed: of network and pictures.
    """

    name: str = "my-landmarks"
    population: str = "not stated"
    licence: str = "not stated"
    steps: int = 4000
    batch: int = 12
    learning_rate: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class _Part:
    """What a process sees in a step: (B, 3, H, W) pictures and (B, 6, cells + 1) what is to be said of them."""

    pictures: torch.Tensor
    said: torch.Tensor


class _Losses(nn.Module):
    """The network; the losses of a step in `forward`, as DistributedDataParallel wants them."""

    def __init__(self, network: LandmarkNetwork):
        super().__init__()
        self.network = network

    def forward(self, part: _Part) -> torch.Tensor:
        """Return the (1,) sum over the pictures of the cross-entropy, mean over the landmarks."""
        logits = self.network(part.pictures)
        return -(part.said * functional.log_softmax(logits, dim=2)).sum(dim=2).mean(dim=1).sum()[None]


@dataclass(frozen=True)
class Shown:
    """A picture as the network is shown it: (H, W, 3) uint8 RGB, (6, 2) pixels, (6,) whether they are seen."""

    picture: np.ndarray
    pixels: np.ndarray
    seen: np.ndarray


def shown(data: LandmarkPictures, number: int, shape: tuple[int, int], rng: np.random.Generator) -> Shown:
    """Return a part of a picture: turned, flipped, in other light and colours, blurred, and covered in places."""
    import cv2

    picture, pixels, seen = data.pictures[number], data.pixels[number].astype(float), data.visible[number]
    height, width = shape
    side = picture.shape[0]
    scale = SEEN_PX / (rng.uniform(SMALLEST_PART, 1.05) * side)
    middle = side / 2 + (side - np.array([width, height]) / scale) * rng.uniform(-0.5, 0.5, 2)
    matrix = cv2.getRotationMatrix2D((0.0, 0.0), float(rng.uniform(-TURN_DEGREES, TURN_DEGREES)), scale)
    flip = rng.random() < 0.5
    if flip:
        matrix[0] *= -1
    matrix[:, 2] = np.array([width, height]) / 2 - matrix[:, :2] @ middle
    pixels = pixels @ matrix[:, :2].T + matrix[:, 2]
    to_index = matrix.copy()
    to_index[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5  # OpenCV has the first pixel's centre at 0
    picture = cv2.warpAffine(picture, to_index, (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    if flip:
        pixels, seen = pixels[EXCHANGED], seen[EXCHANGED]
    picture = _in_other_light(picture, rng)
    if rng.random() < COVERED_SHARE:
        corner = rng.uniform(0, [width, height])
        ends = np.clip(np.concatenate([corner, corner + rng.uniform(8, COVERED_PX, 2)]), 0, [width, height] * 2).astype(int)
        picture[ends[1] : ends[3], ends[0] : ends[2]] = rng.integers(0, 256, 3)
        seen = seen & ~((pixels > ends[:2]) & (pixels < ends[2:])).all(axis=1)
    return Shown(picture, pixels, seen & ((pixels > 0) & (pixels < [width, height])).all(axis=1))


def _in_other_light(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    import cv2

    values = (picture / 255.0) ** np.exp(rng.normal(0, 0.25)) * np.exp(rng.normal(0, 0.25) + rng.normal(0, 0.1, 3))
    grey = values.mean(axis=2, keepdims=True)
    values = grey + (values - grey) * rng.uniform(0.4, 1.4)
    values = (values - 0.5) * np.exp(rng.normal(0, 0.15)) + 0.5
    if rng.random() < 0.3:
        values = cv2.GaussianBlur(values, (0, 0), float(rng.uniform(0.3, 1.5)))
    values += rng.normal(0, rng.uniform(0, 0.03), values.shape)
    return np.clip(255 * values, 0, 255).astype(np.uint8)


def said(shown: Shown) -> np.ndarray:
    """Return (6, cells + 1) what the network should say: shares of the cells about a place, or all of 'not seen'."""
    height, width = (size // CELL_PX for size in shown.picture.shape[:2])
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    places = np.nan_to_num(shown.pixels / CELL_PX, nan=-1e3)
    across = np.exp(-((x - places[:, :1]) ** 2) / (2 * SPREAD_CELLS**2))
    down = np.exp(-((y - places[:, 1:]) ** 2) / (2 * SPREAD_CELLS**2))
    cells = (down[:, :, None] * across[:, None]).reshape(len(places), -1)
    seen = shown.seen[:, None]
    cells = np.where(seen, cells / np.maximum(cells.sum(axis=1, keepdims=True), 1e-12), 0.0)
    return np.concatenate([cells, ~seen], axis=1).astype(np.float32)


class LandmarkTraining:
    """A network and the pictures that it learns from, as the trainer wants them."""

    terms = ("loss",)
    unit = "px"

    def __init__(self, trained: LandmarkPictures, judges: LandmarkPictures, settings: LandmarkSettings, process: Process):
        torch.manual_seed(settings.seed)
        self.module = _Losses(LandmarkNetwork()).to(process.device)
        self.decisive: dict[str, Any] = {**asdict(settings), "pictures": len(trained.pictures)}
        self._data, self._judges, self._settings, self._device = trained, judges, settings, process.device

    @property
    def network(self) -> LandmarkNetwork:
        """The present state."""
        return self.module.network

    def groups(self) -> list[dict]:
        """All parameters at one rate."""
        return trainer.at_one_rate(self.network, self._settings.learning_rate)

    def clipped(self) -> Iterable[nn.Parameter]:
        """All parameters."""
        return self.network.parameters()

    def batch(self, step: int, process: Process) -> tuple[list[str], _Part]:
        """Draw the pictures of a step from (seed, step, number), of which this process draws its share."""
        s = self._settings
        rng = np.random.default_rng([s.seed, step])
        shape = SHAPES[rng.integers(len(SHAPES))]
        chosen = rng.integers(0, len(self._data.pictures), s.batch)
        mine = range(process.rank, s.batch, process.count)
        rows = [shown(self._data, chosen[k], shape, np.random.default_rng([s.seed, step, k])) for k in mine]
        pictures = normalised(np.stack([row.picture for row in rows])).to(self._device)
        return [f"picture {k}" for k in chosen], _Part(
            pictures, torch.from_numpy(np.stack([said(r) for r in rows])).to(self._device)
        )

    def judged(self) -> _JudgedNetwork:
        """The present state."""
        return _JudgedNetwork(self.network, self._judges, self._device)


@dataclass(frozen=True)
class _JudgedNetwork:
    """A network, and the pictures that judge it."""

    network: LandmarkNetwork
    judges: LandmarkPictures
    device: str

    def error(self) -> float:
        """Mean error of the places that are seen, px; `LARGEST_ERROR_PX` for what is wrongly said not to be, and the reverse."""
        shape, errors = (SEEN_PX, SEEN_PX), []
        for number in range(len(self.judges.pictures)):
            row = shown(self.judges, number, shape, np.random.default_rng([73, number]))
            with torch.no_grad():
                logits = self.network(normalised(row.picture[None]).to(self.device)).cpu()
            found = sightings(logits, SEEN_PX // CELL_PX, SEEN_PX // CELL_PX)
            off = np.minimum(np.linalg.norm(found.pixels[0] - row.pixels, axis=1), LARGEST_ERROR_PX)
            said_seen = found.seen[0] > 0.5
            errors.append(np.where(row.seen & said_seen, off, np.where(row.seen == said_seen, 0.0, LARGEST_ERROR_PX)))
        return float(np.mean(errors))

    def picture(self) -> np.ndarray | None:
        """None: a network has no picture of its own."""
        return None


def train_landmarks(
    folder: Path,
    settings: LandmarkSettings,
    work: Path,
    output: Path,
    progress: Progress | None = None,
    start: LandmarkNetwork | None = None,
) -> Path | None:
    """Train on the pictures of a folder, but for a few bodies that judge; write the network with its card.

    Args:
        folder: of what `draw_landmark_pictures` draws.
        settings: see LandmarkSettings.
        work: folder of the checkpoint; a training that was stopped goes on.
        output: folder for the network.
        progress: see the trainer.
        start: a trained network to go on from, on other pictures; None to begin anew.

    Returns:
        the path of the network; None in all processes of `torchrun` but the first.

    Raises:
        LandmarkError: too few pictures, or a file that holds none.
        ShapeModelError: what the trainer raises.
    """
    progress = progress or Progress()
    files = sorted(folder.glob("*.npz"))
    if len(files) < FEWEST_BODIES:
        raise LandmarkError(
            f"{folder.name} holds pictures of {len(files)} bodies; training needs {FEWEST_BODIES} at least, better 300: draw "
            "them by 'breast-reconstruction phantom landmark-pictures'."
        )
    count = max(round(JUDGES_SHARE * len(files)), 2)
    with disk_errors(work):
        work.mkdir(parents=True, exist_ok=True)
    process = Process.started()
    training = LandmarkTraining(LandmarkPictures.load(files[count:]), LandmarkPictures.load(files[:count]), settings, process)
    if start is not None:
        training.network.load_state_dict(start.state_dict())
    schedule = Schedule(settings.steps, settings.batch, max(settings.steps // 10, 1), 11)
    error = trainer.train(training, schedule, process, work, progress)
    process.leave()
    if process.rank > 0:
        return None
    card = {
        "name": settings.name,
        "population": settings.population,
        "licence": settings.licence,
        "bodies": len(files) - count,
        "training": asdict(settings),
        "metrics": {"bodies": count, "error_px": round(error, 2), "picture_px": SEEN_PX},
    }
    with disk_errors(output):
        return save_landmark_network(output, training.network.cpu().eval(), card)
