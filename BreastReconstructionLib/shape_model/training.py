"""Training of the shape model, from exact distances or, where a scan has only a surface, by the published losses.

Subjects with exact distances: clamped L1 (Park et al. 2019, equation 4). Scans: surface, normal, eikonal, off-surface, code
and anchor terms with the weights of Weiherer et al. 2025 (arXiv 2510.13540). Codes start at principal component scores where
skins correspond, so the network learns shapes and not a labelling; else near zero, as published.

`torchrun --nproc-per-node N -m BreastReconstructionLib train run CONFIG` shares every batch among N processes by PyTorch's
DistributedDataParallel; what is drawn depends on seed and step alone, so one process and several do the same.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..core.errors import FitError, ShapeModelError
from ..core.files import disk_errors
from ..core.progress import Progress
from ..fields.network import VARIANTS, FoldedShape, NetworkSize, ShapeNetwork
from ..landmarks.mean_anchors import OFFICIAL_MM_PER_UNIT
from ..optimise import trainer
from ..optimise.trainer import Process, Schedule
from .evaluation import fit_and_measure
from .model import ShapeModel, latent_distribution
from .model_file import save_model
from .training_data import FIELD_CLAMP, Subject, TrainingSet, places, read_subjects, split
from .training_settings import TrainingConfig, TrainingSettings

CODE_SPREAD, PUBLISHED_CODE_SPREAD = 0.1, 1e-4
# Members below this blend weight are not trained at a point; the blend they are left out of errs by less than 1e-3 units.
NEGLIGIBLE = 1e-3
# Of the published losses: standard deviation of points near the surface, and the weights of the terms.
NEAR_SIGMA = 0.01
SURFACE_WEIGHT, NORMAL_WEIGHT, EIKONAL_WEIGHT, OFF_SURFACE_WEIGHT = 2.0, 0.3, 0.1, 0.01
PUBLISHED_CODE_WEIGHT, PUBLISHED_ANCHOR_WEIGHT = 0.01, 7.5
VALIDATION_SUBJECTS, VALIDATION_POINTS = 8, 3000
PICTURE_MM, PICTURE_SIZE = 6.0, (120, 140)


def principal_codes(training_set: TrainingSet, size: NetworkSize) -> np.ndarray:
    """Initial (S, latent) codes: global scores of all vertices, local scores of the vertices about each anchor.

    Where no vertices correspond, the distances at places that are the same for all stand for them. Scores carry the fourth
    root of their component's variance: whole variances starve the small components, equal ones amplify noise.
    """
    if training_set.skins is not None:
        skins = training_set.skins.astype(np.float64)
        centered, where = skins - skins.mean(axis=0), skins.mean(axis=0)
    else:
        fields = training_set.fields.astype(np.float64).clip(-FIELD_CLAMP, FIELD_CLAMP)[..., None]
        centered, where = fields - fields.mean(axis=0), places()
    mean_anchors = training_set.anchors.mean(axis=0)

    def scores(weights: np.ndarray, count: int) -> np.ndarray:
        data = (centered * np.sqrt(weights)[:, None]).reshape(len(centered), -1)
        u, singular, _ = np.linalg.svd(data @ data.T)
        kept = min(count, len(u) - 1)
        spread = (singular[:kept] / singular[0]) ** 0.25
        result = np.zeros((len(data), count))
        result[:, :kept] = u[:, :kept] * np.sqrt(len(data)) * spread * CODE_SPREAD
        return result

    everywhere = np.ones(len(where))
    blocks = [scores(everywhere, size.global_latent)]
    if size.local_latent:
        for anchor in mean_anchors[: size.local_members]:
            distance2 = ((where - anchor) ** 2).sum(axis=1)
            blocks.append(scores(np.exp(-distance2 / size.blend_sigma**2), size.local_latent))
        blocks.append(scores(everywhere, size.local_latent))
    return np.concatenate(blocks, axis=1)


def _initial_codes(training_set: TrainingSet, size: NetworkSize, seed: int) -> torch.Tensor:
    if training_set.skins is not None or training_set.fields is not None:
        return torch.from_numpy(principal_codes(training_set, size)).float()
    return PUBLISHED_CODE_SPREAD * torch.randn(len(training_set), size.latent, generator=torch.Generator().manual_seed(seed))


class _Losses(nn.Module):
    """Network and codes of all subjects; the loss of a batch, as DistributedDataParallel wants it: in `forward`."""

    def __init__(self, network: ShapeNetwork, codes: torch.Tensor, settings: TrainingSettings):
        super().__init__()
        self.network, self.codes, self.settings = network, nn.Parameter(codes), settings

    def forward(self, batch: list[_Part]) -> torch.Tensor:
        """Return the (4,) sums over the subjects of a batch: loss, and for the record distance, anchor and code terms."""
        return torch.stack([self._exact(part) if part.exact else self._published(part) for part in batch]).sum(dim=0)

    def _distances(self, points: torch.Tensor, shape: FoldedShape) -> torch.Tensor:
        with torch.autocast(points.device.type, torch.bfloat16, enabled=self.settings.mixed_precision):
            return self.network.distances(points, shape, NEGLIGIBLE)

    def _exact(self, part: _Part) -> torch.Tensor:
        """Clamped L1 at points of known distance; on the surface, where asked for, mean |f|, the normal, and the eikonal term."""
        s, codes = self.settings, self.codes[part.subjects]
        shape = self.network.fold(codes)
        target, count = part.rows[..., 3], part.rows.shape[1]
        points = part.rows[..., :3] if part.surface is None else torch.cat([part.rows[..., :3], part.surface[..., :3]], dim=1)
        by_point = s.eikonal_weight > 0 or s.normal_weight > 0
        predicted = self._distances(points.requires_grad_(by_point), shape)
        distance = (predicted[:, :count].clamp(-s.clamp, s.clamp) - target.clamp(-s.clamp, s.clamp)).abs().mean(dim=1)
        anchor, code = _anchor_and_code(shape.anchors, part.anchors, codes)
        loss = distance + s.anchor_weight * anchor + s.code_weight * code
        if part.surface is not None:
            loss = loss + s.surface_weight * predicted[:, count:].abs().mean(dim=1)
        if by_point:
            gradient = torch.autograd.grad(predicted.sum(), points, create_graph=True)[0]
            loss = loss + s.eikonal_weight * (gradient.norm(dim=2) - 1.0).abs().mean(dim=1)
            if part.surface is not None:
                loss = loss + s.normal_weight * (gradient[:, count:] - part.surface[..., 3:]).norm(dim=2).mean(dim=1)
        return torch.stack([values.sum() for values in (loss, distance, anchor, code)])

    def _published(self, part: _Part) -> torch.Tensor:
        """Points on the surface, as many near it and as many anywhere in the cube, as published."""
        codes = self.codes[part.subjects]
        shape = self.network.fold(codes)
        on, normals, off = part.rows[..., :3], part.rows[..., 3:], part.off_surface
        points = torch.cat([on, off], dim=1).requires_grad_(True)
        distance = self._distances(points, shape)
        gradient = torch.autograd.grad(distance.sum(), points, create_graph=True)[0]
        count = on.shape[1]
        surface = distance[:, :count].abs().mean(dim=1)
        normal = (gradient[:, :count] - normals).norm(dim=2).mean(dim=1)
        eikonal = (gradient.norm(dim=2) - 1.0).abs().mean(dim=1)
        away = torch.exp(-10.0 * distance[:, count:].abs()).mean(dim=1)
        anchor, code = _anchor_and_code(shape.anchors, part.anchors, codes)
        loss = SURFACE_WEIGHT * surface + NORMAL_WEIGHT * normal + EIKONAL_WEIGHT * eikonal + OFF_SURFACE_WEIGHT * away
        loss = loss + PUBLISHED_ANCHOR_WEIGHT * anchor + PUBLISHED_CODE_WEIGHT * code
        return torch.stack([values.sum() for values in (loss, surface, anchor, code)])


def _anchor_and_code(anchors: torch.Tensor, landmarks: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    anchor = (anchors - landmarks).abs().mean(dim=(1, 2)) if anchors.shape[1] else codes.new_zeros(len(codes))
    return anchor, (codes**2).sum(dim=1)


class ShapeModelTraining:
    """Network and codes of all subjects, as the trainer wants them."""

    terms = ("loss", "distance", "anchor", "code")
    unit = "mm"

    def __init__(self, training_set: TrainingSet, validation: list[Subject], settings: TrainingSettings, process: Process):
        size = VARIANTS[settings.variant].with_anchors(len(training_set.landmark_names))
        torch.manual_seed(settings.seed)
        network = ShapeNetwork(size, torch.from_numpy(training_set.anchors.mean(axis=0)))
        codes = _initial_codes(training_set, size, settings.seed)
        self.module = _Losses(network, codes, settings).to(process.device)
        self._training_set, self._validation, self._settings = training_set, validation, settings
        self._landmarks = torch.from_numpy(training_set.anchors).float()

    @property
    def decisive(self) -> dict:
        """What must be the same to go on from a checkpoint."""
        left_out = ("name", "population", "licence", "patience")
        return {key: value for key, value in asdict(self._settings).items() if key not in left_out}

    def groups(self) -> list[dict]:
        """The network, and the codes at a rate of their own."""
        s, module = self._settings, self.module
        return [
            {"params": module.network.parameters(), "lr": s.learning_rate, "weight_decay": 1e-4},
            {"params": [module.codes], "lr": s.code_learning_rate, "weight_decay": 0.0},
        ]

    def clipped(self) -> Iterable[nn.Parameter]:
        """The network's parameters."""
        return self.module.network.parameters()

    def batch(self, step: int, process: Process) -> tuple[list[str], list[_Part]]:
        """Draw the batch of a step from (seed, step), of which this process keeps its share."""
        training_set, settings = self._training_set, self._settings
        generator = torch.Generator().manual_seed(settings.seed * 1_000_000_007 + step)
        subjects = torch.randint(len(training_set), (settings.batch_subjects,), generator=generator)
        parts, before = [], 0
        for exact, pool in ((True, training_set.exact), (False, training_set.surface)):
            alike = subjects[(training_set.exact.count[subjects] > 0) == exact]
            if len(alike) == 0:
                continue
            rows, off, surface = pool.draw(alike, settings.batch_points, generator), None, None
            if exact and (settings.surface_weight > 0 or settings.normal_weight > 0):
                surface = training_set.surface.draw(alike, settings.batch_points, generator)
            if not exact:
                near = rows[..., :3] + NEAR_SIGMA * torch.randn(rows[..., :3].shape, generator=generator)
                off = torch.cat([near, 2 * torch.rand(near.shape, generator=generator) - 1], dim=1)
            mine = slice((process.rank - before) % process.count, None, process.count)  # as many subjects each
            before += len(alike)
            if len(alike[mine]):
                own = lambda values, mine=mine: None if values is None else values[mine]
                part = _Part(exact, alike[mine], rows[mine], own(off), self._landmarks[alike[mine]], own(surface))
                parts.append(part.on(process.device))
        return [training_set.names[i] for i in sorted(set(subjects.tolist()))], parts

    def model(self, metrics: dict) -> ShapeModel:
        """The shape model of the present state."""
        return _model(self.module, self._training_set, self._settings, metrics)

    def judged(self) -> _JudgedModel:
        """The model of the present state."""
        return _JudgedModel(self.model({}), self._validation)


@dataclass(frozen=True)
class _JudgedModel:
    """A shape model, and the subjects that judge it."""

    shape_model: ShapeModel
    validation: list[Subject]

    def error(self) -> float:
        """Error on the validation subjects."""
        return validation_error_mm(self.shape_model, self.validation)

    def picture(self) -> np.ndarray | None:
        """The mean shape."""
        return picture_of_mean(self.shape_model)


def train(
    training_set: TrainingSet,
    validation: list[Subject],
    settings: TrainingSettings,
    work: Path,
    progress: Progress | None = None,
) -> ShapeModel:
    """Train; go on from `work/checkpoint.pt` if it exists; return the model that fitted the validation subjects best.

    Args:
        training_set: at least two subjects.
        validation: fitted every `validate_every` steps and at the end.
        settings: see TrainingSettings.
        work: folder of the checkpoint and of TensorBoard's records.
        progress: reported every 100 steps.

    Raises:
        ShapeModelError: one subject, and what the trainer raises.
        CaseError: the disk is full; the last checkpoint stays.
    """
    if len(training_set) < 2 or not validation:
        raise ShapeModelError(
            f"Training needs at least two subjects and one to validate on, not {len(training_set)} and {len(validation)}; "
            "prepare more scans."
        )
    process = Process.started()
    training = ShapeModelTraining(training_set, validation, settings, process)
    schedule = Schedule(settings.steps, settings.batch_subjects, settings.validate_every, settings.patience)
    error_mm = trainer.train(training, schedule, process, work, progress or Progress())
    process.leave()
    return training.model({"validation_mm": round(error_mm, 4)})


@dataclass(frozen=True)
class _Part:
    """The subjects of a batch that are supervised alike.

    Attributes:
        exact: by exact distances, else by the published losses.
        subjects: (B,) indices.
        rows: (B, P, 4) points with distances, or (B, P, 6) surface points with normals.
        off_surface: (B, 2 P, 3) points near the surface and anywhere, for the published losses; None for exact ones.
        anchors: (B, K, 3) landmarks.
        surface: (B, P, 6) further surface points with normals, where the settings weigh them; else None.
    """

    exact: bool
    subjects: torch.Tensor
    rows: torch.Tensor
    off_surface: torch.Tensor | None
    anchors: torch.Tensor
    surface: torch.Tensor | None

    def on(self, device: str) -> _Part:
        """Return the part on another device."""
        values = {key: value.to(device) if torch.is_tensor(value) else value for key, value in self.__dict__.items()}
        return _Part(**values)


def _model(losses: _Losses, training_set: TrainingSet, settings: TrainingSettings, metrics: dict) -> ShapeModel:
    """The shape model of the present network and codes, on the CPU, with its card."""
    network = ShapeNetwork(losses.network.size, losses.network.mean_anchors.cpu())
    network.load_state_dict({key: value.detach().cpu() for key, value in losses.network.state_dict().items()})
    mean, basis = latent_distribution(losses.codes.detach().cpu().numpy().astype(float))
    sizes = training_set.mm_per_unit[np.isfinite(training_set.mm_per_unit)]
    known = len(sizes) > 1
    card = {
        "name": settings.name,
        "population": settings.population,
        "licence": settings.licence,
        "use": "research; not for diagnosis",
        "subjects": len(training_set),
        "exact_subjects": int((training_set.exact.count > 0).sum()),
        "organ": training_set.organ,
        "components": training_set.parts,
        "landmarks": list(training_set.landmark_names),
        "axes": ["left", "superior", "anterior"],
        "units": "model units, +x patient's left, +y superior, +z anterior; negative inside",
        "scale": "mean of the subjects" if known else "the official model's: the subjects' sizes are not known",
        "training": asdict(settings),
        "metrics": metrics,
    }
    return ShapeModel(
        network.eval().requires_grad_(False),
        torch.from_numpy(mean).float(),
        torch.from_numpy(np.ascontiguousarray(basis)).float(),
        float(sizes.mean()) if known else OFFICIAL_MM_PER_UNIT,
        float(sizes.std()) if known else 0.05 * OFFICIAL_MM_PER_UNIT,
        card,
    )


def validation_error_mm(model: ShapeModel, subjects: list[Subject]) -> float:
    """Fit the first subjects' surface points and return the mean distance of other points of them to the fit, mm."""
    errors = []
    for subject in subjects[:VALIDATION_SUBJECTS]:
        order = np.random.default_rng(5).permutation(len(subject.surface_points))
        points = subject.surface_points[order].astype(float)
        half = min(VALIDATION_POINTS, len(points) // 2)
        mm = subject.mm_per_unit if np.isfinite(subject.mm_per_unit) else model.mm_per_unit
        try:
            _, distances_mm = fit_and_measure(model, points[:half], subject.landmarks, points[half : 2 * half], mm)
        except FitError:  # early in a training, a model may have no shape to fit
            return math.inf
        errors.append(distances_mm.mean())
    return float(np.mean(errors))


def picture_of_mean(model: ShapeModel) -> np.ndarray | None:
    """Return a (H, W, 3) uint8 picture of the mean shape from the left front; None while it has no surface yet."""
    from ..mesh.picture import render_view
    from .sampling import mesh_of_code

    try:
        mesh = mesh_of_code(model, model.latent_mean, PICTURE_MM / model.mm_per_unit).in_patient(model).mesh
    except FitError:
        return None
    if not len(mesh.vertices):
        return None
    colors = np.full((len(mesh.vertices), 3), 200, np.uint8)
    return render_view(mesh.vertices, mesh.normals, colors, 30.0, PICTURE_SIZE)


def run_training(config: TrainingConfig, progress: Progress | None = None) -> Path | None:
    """Read the data, train, write model and card; raises what `read_subjects` and `train` raise.

    Returns:
        the path of the model; None in all processes of `torchrun` but the first.
    """
    subjects = [subject for path in config.data for subject in read_subjects(path)]
    if config.validation is not None:
        validation = read_subjects(config.validation)
    else:
        subjects, validation = split(subjects, min(max(1, len(subjects) // 20), max(len(subjects) - 1, 0)), config.settings.seed)
    if not subjects:
        raise ShapeModelError("There is only one subject; training needs at least two and one to validate on.")
    with disk_errors(config.work):
        config.work.mkdir(parents=True, exist_ok=True)
    model = train(TrainingSet.of(subjects), validation, config.settings, config.work, progress)
    if int(os.environ.get("RANK", 0)) > 0:
        return None
    with disk_errors(config.output):
        return save_model(config.output, model)
