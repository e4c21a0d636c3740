"""Training of the network that sees bones in radiographs: pictures are drawn while it trains, from bones that are known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..core.errors import FitError, ShapeModelError
from ..core.files import disk_errors
from ..core.progress import Progress
from ..geometry.radiograph import Radiograph
from ..geometry.transforms import Similarity
from ..mesh.mesh import sample_surface
from ..mesh.own_frame import own_frame
from ..optimise import trainer
from ..optimise.trainer import Process, Schedule
from ..phantom.radiograph import DistanceGrid, Exposure, drawn_pose, is_long, radiograph
from ..shape_model.fit import fit_shape
from ..shape_model.model import ShapeModel
from ..shape_model.organ_data import OrganSource, organ_files, read_organ
from ..shape_model.organ_fit import settings_for, unknown_landmarks
from .model_file import RadiographModel, save_radiograph_model
from .network import POSE, SOFTNESS_MM, PictureFrame, RadiographNetwork, numbers_of

CELL_MM, SIZE_MM = 3.0, 4.0
# Of the poses that are drawn: turns about each axis, shifts.
TURN_DEGREES, SHIFT_MM = 15.0, 25.0
SURFACE_POINTS, NEAR_MM = 4000, 6.0
# Of a bone's places in a step, the share that lie anywhere in its box.
ANYWHERE = 0.3
JUDGES, JUDGED_PLACES = 8, 4000
FEWEST_BONES = 10
# Usual thickness of the cortex at the ends and in the middle.
LONG_CORTEX_MM, SHORT_CORTEX_MM = (1.7, 6.0), (1.7, 1.7)


@dataclass(frozen=True)
class RadiographSettings:
    """What decides a training; written to the card.

    Attributes:
        name: of the model.
        population, licence: for the card: whose bones these are, and on what terms the model may be used.
        steps: at most.
        batch: pictures a step.
        places: of which occupancy is asked, a picture.
        learning_rate: at the start.
        pose_weight, code_weight: against the occupancy's cross-entropy.
        seed: of network and pictures.
    """

    name: str = "my-bone"
    population: str = "not stated"
    licence: str = "not stated"
    steps: int = 4000
    batch: int = 12
    places: int = 512
    learning_rate: float = 1e-3
    pose_weight: float = 1.0
    code_weight: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Bone:
    """One bone to learn from.

    Attributes:
        name: of its file.
        grid: its distances, mm, in its own place.
        points: (N, 3) on its surface, there.
        to_model: from there to the frame of the shape model that was fitted to it.
        u: (R,) that fit's whitened code.
    """

    name: str
    grid: DistanceGrid
    points: np.ndarray
    to_model: Similarity
    u: np.ndarray


@dataclass(frozen=True)
class _Part:
    """What a process sees in a step."""

    pictures: torch.Tensor
    places: torch.Tensor
    pixels: torch.Tensor
    inside: torch.Tensor
    pose: torch.Tensor
    code: torch.Tensor


class _Losses(nn.Module):
    """The network; the losses of a step in `forward`, as DistributedDataParallel wants them."""

    def __init__(self, network: RadiographNetwork, settings: RadiographSettings):
        super().__init__()
        self.network, self.settings = network, settings

    def forward(self, part: _Part) -> torch.Tensor:
        """Return the (4,) sums over the pictures: loss, occupancy's cross-entropy, errors of pose and code."""
        local, whole = self.network.encode(part.pictures)
        logits = self.network.occupancy(local, whole, part.places, part.pixels)
        occupancy = nn.functional.binary_cross_entropy_with_logits(logits, part.inside, reduction="none").mean(dim=1)
        found = self.network.regress(whole)
        pose = nn.functional.smooth_l1_loss(found[:, :POSE], part.pose, reduction="none").mean(dim=1)
        code = nn.functional.smooth_l1_loss(found[:, POSE:], part.code, reduction="none").mean(dim=1)
        loss = occupancy + self.settings.pose_weight * pose + self.settings.code_weight * code
        return torch.stack([loss, occupancy, pose, code]).sum(dim=1)


def read_bones(folder: Path, model: ShapeModel, progress: Progress) -> list[Bone]:
    """Read the meshes or segmentations of a folder, and fit the shape model to each.

    Raises:
        ShapeModelError, VolumeError: a file that cannot be used, or too few.
    """
    bones, files = [], organ_files(folder)
    for number, path in enumerate(files):
        progress(number / len(files), f"{model.organ} {number + 1} of {len(files)}")
        mesh = read_organ(path, OrganSource(model.organ, (), 1)).mesh
        frame = own_frame(mesh.vertices, mesh.faces)
        rng = np.random.default_rng([61, number])
        points = frame.apply(sample_surface(mesh.vertices, mesh.faces, SURFACE_POINTS, rng)[0])
        try:
            fit = fit_shape(points, unknown_landmarks(model), model, settings_for(model, False))
        except FitError as error:
            raise ShapeModelError(f"The shape model {model.card['name']} does not fit to {path.name}: {error}") from error
        to_model = fit.refinement.after(Similarity(frame.scale, np.eye(3), np.zeros(3)))
        u = model.whitened(torch.from_numpy(fit.code)).numpy()
        bones.append(Bone(path.name.split(".")[0], DistanceGrid.of(mesh, CELL_MM), points / frame.scale, to_model, u))
    if len(bones) < FEWEST_BONES:
        raise ShapeModelError(f"{folder.name} holds {len(bones)} bones; training needs {FEWEST_BONES} at least, better 200.")
    return bones


def frame_for(bones: list[Bone], model: ShapeModel) -> PictureFrame:
    """Return the picture that holds all bones in all poses, its sides multiples of 16."""
    extent = np.max([bone.grid.box.extent for bone in bones], axis=0)
    turned = 0.5 * np.sin(np.radians(TURN_DEGREES)) * extent[1]
    sides = np.array([extent[1], extent[0] + turned]) + 2 * SHIFT_MM
    rows, columns = (16 * np.ceil(sides / SIZE_MM / 16)).astype(int)
    reach = np.max([np.maximum(-bone.grid.box.low, bone.grid.box.high) for bone in bones], axis=0)
    return PictureFrame(
        int(rows),
        int(columns),
        SIZE_MM,
        float(rows * SIZE_MM),
        model.latent_basis.shape[1],
        model.mm_per_unit,
        (float(reach[0]), float(reach[1]), float(reach[2])),
    )


@dataclass(frozen=True)
class Drawn:
    """A picture of a bone: what the network sees, and the bone's rigid pose in it."""

    bone: Bone
    picture: Radiograph
    pose: Similarity


def drawn(bone: Bone, frame: PictureFrame, rng: np.random.Generator) -> Drawn:
    """Return a picture of a bone in a random pose and exposure, as the network sees it."""
    pose = drawn_pose(rng, TURN_DEGREES, SHIFT_MM)
    near = rng.uniform(850, 1150)
    far = near * rng.uniform(1.06, 1.3)
    center = np.array([frame.columns - 1, frame.rows - 1]) / 2.0
    blank = Radiograph(np.zeros((frame.rows, frame.columns), np.float32), frame.size_mm * far / near, far, near, center)
    exposure = Exposure.drawn(rng, is_long(bone.grid.box), 0.5 * bone.grid.box.extent[0] + 40)
    exposure = replace(exposure, photons=exposure.photons * (SIZE_MM / 0.6) ** 2)
    values = radiograph(bone.grid, pose, blank, exposure, rng)
    return Drawn(bone, frame.seen(replace(blank, attenuation=values)), pose)


class RadiographTraining:
    """A network and the bones whose pictures it learns from, as the trainer wants them."""

    terms = ("loss", "occupancy", "pose", "code")
    unit = "% of volume"

    def __init__(
        self, trained: list[Bone], judges: list[Bone], frame: PictureFrame, settings: RadiographSettings, process: Process
    ):
        torch.manual_seed(settings.seed)
        self.module = _Losses(RadiographNetwork(frame), settings).to(process.device)
        self.decisive: dict[str, Any] = {**asdict(settings), **frame.as_dict(), "bones": len(trained)}
        self._bones, self._judges, self._frame, self._settings = trained, judges, frame, settings
        self._device = process.device

    @property
    def network(self) -> RadiographNetwork:
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
        chosen = np.random.default_rng([s.seed, step]).integers(0, len(self._bones), s.batch)
        mine = range(process.rank, s.batch, process.count)
        rows = [self._row(self._bones[chosen[k]], np.random.default_rng([s.seed, step, k])) for k in mine]
        columns = (torch.as_tensor(np.stack(c), dtype=torch.float32, device=self._device) for c in zip(*rows, strict=True))
        return [self._bones[k].name for k in chosen], _Part(*columns)

    def _row(self, bone: Bone, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        seen = drawn(bone, self._frame, rng)
        count = self._settings.places
        box = bone.grid.box
        near = bone.points[rng.integers(0, len(bone.points), count)] + NEAR_MM * rng.normal(size=(count, 3))
        anywhere = rng.random(count) < ANYWHERE
        near[anywhere] = rng.uniform(box.low, box.high, (anywhere.sum(), 3))
        inside = 1 / (1 + np.exp(bone.grid.at(near) / SOFTNESS_MM))
        places = seen.pose.apply(near)
        pose = numbers_of(seen.pose.after(bone.to_model.inverse()), seen.picture, self._frame)
        return seen.picture.attenuation[None], places, seen.picture.project(places), inside, pose, bone.u

    def judged(self) -> _JudgedNetwork:
        """The present state."""
        return _JudgedNetwork(self.network, self._judges, self._frame)


@dataclass(frozen=True)
class _JudgedNetwork:
    """A network, and the bones that judge it."""

    network: RadiographNetwork
    judges: list[Bone]
    frame: PictureFrame

    def error(self) -> float:
        """What occupancy and truth do not have in common, of both together, in pictures that are always the same; percent."""
        common = both = 0.0
        device = next(self.network.parameters()).device
        to = lambda values: torch.as_tensor(values, dtype=torch.float32, device=device)[None]
        for number, bone in enumerate(self.judges):
            rng = np.random.default_rng([67, number])
            seen = drawn(bone, self.frame, rng)
            own = rng.uniform(bone.grid.box.low, bone.grid.box.high, (JUDGED_PLACES, 3))
            places = seen.pose.apply(own)
            with torch.no_grad():
                local, whole = self.network.encode(to(seen.picture.attenuation[None]))
                found = self.network.occupancy(local, whole, to(places), to(seen.picture.project(places)))[0].cpu().numpy() > 0
            true = bone.grid.at(own) < 0
            common, both = common + (found & true).sum(), both + (found | true).sum()
        return float(100 * (1 - common / both))

    def picture(self) -> np.ndarray | None:
        """None: there is no mean shape."""
        return None


def train_radiographs(
    folder: Path, model: ShapeModel, settings: RadiographSettings, work: Path, output: Path, progress: Progress | None = None
) -> Path | None:
    """Train on the bones of a folder, but for a few that judge; write the network with its card.

    Returns:
        the path of the network; None in all processes of `torchrun` but the first.

    Raises:
        ShapeModelError, VolumeError: what `read_bones` and the trainer raise.
    """
    progress = progress or Progress()
    bones = read_bones(folder, model, progress.part(0.0, 0.1))
    count = min(JUDGES, len(bones) // 5)
    frame = frame_for(bones, model)
    with disk_errors(work):
        work.mkdir(parents=True, exist_ok=True)
    process = Process.started()
    training = RadiographTraining(bones[count:], bones[:count], frame, settings, process)
    schedule = Schedule(settings.steps, settings.batch, max(settings.steps // 10, 1), 11)
    error = trainer.train(training, schedule, process, work, progress.part(0.1, 1.0))
    process.leave()
    if process.rank > 0:
        return None
    card = {
        "name": settings.name,
        "bone": model.organ,
        "shape_model": model.card["name"],
        "population": settings.population,
        "licence": settings.licence,
        "bones": len(bones) - count,
        "cortex_mm": LONG_CORTEX_MM if is_long(bones[0].grid.box) else SHORT_CORTEX_MM,
        "training": asdict(settings),
        "metrics": {"subjects": count, "occupancy_iou": round(1 - error / 100, 4)},
    }
    with disk_errors(output):
        return save_radiograph_model(output, RadiographModel(training.network.cpu().eval(), card))
