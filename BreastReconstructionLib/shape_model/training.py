"""Training of the shape model, from exact distances or, where a scan has only a surface, by the published losses.

Subjects with exact distances: clamped L1 (Park et al. 2019, equation 4). Scans: surface, normal, eikonal, off-surface, code
and anchor terms with the weights of Weiherer et al. 2025 (arXiv 2510.13540). Codes start at principal component scores where
skins correspond, so the network learns shapes and not a labelling; else near zero, as published.

`torchrun --nproc-per-node N -m BreastReconstructionLib train run CONFIG` shares every batch among N processes by PyTorch's
DistributedDataParallel; what is drawn depends on seed and step alone, so one process and several do the same.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import distributed, nn

from ..case import disk_errors
from ..errors import FitError, ShapeModelError
from ..landmarks.names import LANDMARK_NAMES
from .anchors import OFFICIAL_MM_PER_UNIT
from .evaluation import Shape, distances_to_surface
from .fit import fit_shape
from .model_file import ShapeModel, latent_distribution, save_model
from .network import VARIANTS, FoldedShape, NetworkSize, ShapeNetwork
from .training_data import Subject, TrainingSet, read_subjects, split

CODE_SPREAD, PUBLISHED_CODE_SPREAD = 0.1, 1e-4
# Members below this blend weight are not trained at a point; the blend they are left out of errs by less than 1e-3 units.
NEGLIGIBLE = 1e-3
# Of the published losses: standard deviation of points near the surface, and the weights of the terms.
NEAR_SIGMA = 0.01
SURFACE_WEIGHT, NORMAL_WEIGHT, EIKONAL_WEIGHT, OFF_SURFACE_WEIGHT = 2.0, 0.3, 0.1, 0.01
PUBLISHED_CODE_WEIGHT, PUBLISHED_ANCHOR_WEIGHT = 0.01, 7.5
CHECKPOINT_EVERY, REPORT_EVERY, WARM_UP = 500, 100, 200
LARGEST_GRADIENT = 0.1
VALIDATION_SUBJECTS, VALIDATION_POINTS = 8, 3000
SMALLEST_IMPROVEMENT = 0.005
PICTURE_MM, PICTURE_SIZE = 6.0, (120, 140)


@dataclass(frozen=True)
class TrainingSettings:
    """What decides a training run; the keys of `train run`'s JSON, and written to the model card.

    Attributes:
        name: of the model.
        variant: 'local' (a blend, liRBSM) or 'global' (one function, iRBSM).
        population, licence: for the card: whose shapes these are, and on what terms the model may be used.
        steps: optimisation steps at most.
        batch_subjects: a step, over all processes.
        batch_points: a subject.
        learning_rate, code_learning_rate: at the start; they fall by a cosine to a hundredth.
        clamp: model units beyond which exact distances no longer matter.
        code_weight, anchor_weight: of subjects with exact distances; scans have the published weights.
        validate_every: steps between fits of subjects that are not trained on.
        patience: how many validations without a better one end the run.
        mixed_precision: the hidden layers' products in bfloat16; three times faster for `global` on processors that have it.
        seed: of network, batches and split.
    """

    name: str = "my-model"
    variant: str = "local"
    population: str = "not stated"
    licence: str = "not stated"
    steps: int = 20_000
    batch_subjects: int = 32
    batch_points: int = 192
    learning_rate: float = 1e-3
    code_learning_rate: float = 1e-3
    clamp: float = 0.1
    code_weight: float = 1e-4
    anchor_weight: float = 0.5
    validate_every: int = 2000
    patience: int = 4
    mixed_precision: bool = False
    seed: int = 0


@dataclass(frozen=True)
class TrainingConfig:
    """Settings with the files that they are for.

    Attributes:
        data: HDF5 files to train on.
        validation: HDF5 file, or None: a twentieth of the data, at least one subject.
        work: folder of checkpoint and TensorBoard's records.
        output: folder of the model.
    """

    data: tuple[Path, ...]
    work: Path
    output: Path
    validation: Path | None
    settings: TrainingSettings


def read_config(path: Path) -> TrainingConfig:
    """Read a JSON file: `data`, `work`, `output`, optionally `validation`, and any of TrainingSettings; paths beside the file.

    Raises:
        ShapeModelError: unreadable, or a key or value that training does not know.
    """
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ShapeModelError(f"{path.name} cannot be read as a JSON file; check path and commas.") from error
    known = {f.name: type(f.default) for f in fields(TrainingSettings)}
    files = {"data", "work", "output", "validation"}
    if not isinstance(values, dict) or not {"data", "work", "output"} <= set(values):
        raise ShapeModelError(f"{path.name} must give data (a list of .h5 files), work and output.")
    if unknown := sorted(set(values) - files - set(known)):
        raise ShapeModelError(f"{path.name} gives {unknown[0]}, which training does not know; it knows {', '.join(known)}.")
    for key in set(values) & set(known):
        kinds = (int, float) if known[key] is float else known[key]
        wrong = not isinstance(values[key], kinds) or (isinstance(values[key], bool) and known[key] is not bool)
        lowest = 0 if key in ("seed", "code_weight", "anchor_weight") else 1 if known[key] is int else 1e-12
        if wrong or (known[key] in (int, float) and not lowest <= values[key] < math.inf):
            kind = {int: "a whole number above 0", float: "a number above 0", bool: "true or false", str: "a text"}[known[key]]
            raise ShapeModelError(f"{key} in {path.name} must be {kind}, not {json.dumps(values[key])}.")
    settings = TrainingSettings(**{key: values[key] for key in set(values) & set(known)})
    if settings.variant not in VARIANTS:
        raise ShapeModelError(f"variant in {path.name} must be one of {', '.join(VARIANTS)}, not {settings.variant}.")
    data = [values["data"]] if isinstance(values["data"], str) else values["data"]
    beside = path.resolve().parent
    validation = beside / values["validation"] if values.get("validation") else None
    return TrainingConfig(
        tuple(beside / d for d in data), beside / values["work"], beside / values["output"], validation, settings
    )


def principal_codes(training_set: TrainingSet, size: NetworkSize) -> np.ndarray:
    """Initial (S, latent) codes: global scores of all vertices, local scores of the vertices about each anchor.

    Scores carry the fourth root of their component's variance: whole variances starve the small components, equal
    ones amplify noise.
    """
    skins = training_set.skins.astype(np.float64)
    centered = skins - skins.mean(axis=0)
    mean_skin, mean_anchors = skins.mean(axis=0), training_set.anchors.mean(axis=0)

    def scores(weights: np.ndarray, count: int) -> np.ndarray:
        data = (centered * np.sqrt(weights)[:, None]).reshape(len(centered), -1)
        u, singular, _ = np.linalg.svd(data @ data.T)
        kept = min(count, len(u) - 1)
        spread = (singular[:kept] / singular[0]) ** 0.25
        result = np.zeros((len(data), count))
        result[:, :kept] = u[:, :kept] * np.sqrt(len(data)) * spread * CODE_SPREAD
        return result

    everywhere = np.ones(skins.shape[1])
    blocks = [scores(everywhere, size.global_latent)]
    if size.local_latent:
        for anchor in mean_anchors[: size.local_members]:
            distance2 = ((mean_skin - anchor) ** 2).sum(axis=1)
            blocks.append(scores(np.exp(-distance2 / size.blend_sigma**2), size.local_latent))
        blocks.append(scores(everywhere, size.local_latent))
    return np.concatenate(blocks, axis=1)


def _initial_codes(training_set: TrainingSet, size: NetworkSize, seed: int) -> torch.Tensor:
    if training_set.skins is not None:
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
        s, codes = self.settings, self.codes[part.subjects]
        shape = self.network.fold(codes)
        predicted = self._distances(part.rows[..., :3], shape)
        target = part.rows[..., 3]
        distance = (predicted.clamp(-s.clamp, s.clamp) - target.clamp(-s.clamp, s.clamp)).abs().mean(dim=1)
        anchor, code = _anchor_and_code(shape.anchors, part.anchors, codes)
        loss = distance + s.anchor_weight * anchor + s.code_weight * code
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
    return (anchors - landmarks).abs().mean(dim=(1, 2)), (codes**2).sum(dim=1)


@dataclass(frozen=True)
class _Part:
    """The subjects of a batch that are supervised alike.

    Attributes:
        exact: by exact distances, else by the published losses.
        subjects: (B,) indices.
        rows: (B, P, 4) points with distances, or (B, P, 6) surface points with normals.
        off_surface: (B, 2 P, 3) points near the surface and anywhere, for the published losses; None for exact ones.
        anchors: (B, 6, 3) landmarks.
    """

    exact: bool
    subjects: torch.Tensor
    rows: torch.Tensor
    off_surface: torch.Tensor | None
    anchors: torch.Tensor

    def on(self, device: str) -> _Part:
        """Return the part on another device."""
        values = {key: value.to(device) if torch.is_tensor(value) else value for key, value in self.__dict__.items()}
        return _Part(**values)


@dataclass(frozen=True)
class _Process:
    """This process among those of `torchrun`; alone without it."""

    rank: int
    count: int
    device: str

    @classmethod
    def started(cls) -> _Process:
        """Join the others by gloo, or nccl where each process has its graphics card."""
        rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
        if count > 1:
            distributed.init_process_group("gloo" if device == "cpu" else "nccl")
        return cls(rank, count, device)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def of_first(self, compute: Callable[[], float]) -> float:
        """Return what the first process computes, to all, so that they never decide differently."""
        if self.count == 1:
            return compute()
        value = torch.tensor([compute() if self.rank == 0 else 0.0], dtype=torch.float64, device=self.device)
        distributed.broadcast(value, 0)
        return float(value)


def _batch(training_set: TrainingSet, landmarks: torch.Tensor, settings: TrainingSettings, step: int, process: _Process):
    """Draw the batch of a step from (seed, step), of which this process keeps its share."""
    generator = torch.Generator().manual_seed(settings.seed * 1_000_000_007 + step)
    subjects = torch.randint(len(training_set), (settings.batch_subjects,), generator=generator)
    parts, before = [], 0
    for exact, pool in ((True, training_set.exact), (False, training_set.surface)):
        alike = subjects[(training_set.exact.count[subjects] > 0) == exact]
        if len(alike) == 0:
            continue
        rows, off = pool.draw(alike, settings.batch_points, generator), None
        if not exact:
            near = rows[..., :3] + NEAR_SIGMA * torch.randn(rows[..., :3].shape, generator=generator)
            off = torch.cat([near, 2 * torch.rand(near.shape, generator=generator) - 1], dim=1)
        mine = slice((process.rank - before) % process.count, None, process.count)  # as many subjects each
        before += len(alike)
        if len(alike[mine]):
            part = _Part(exact, alike[mine], rows[mine], None if off is None else off[mine], landmarks[alike[mine]])
            parts.append(part.on(process.device))
    return subjects, parts


@dataclass(frozen=True)
class _Optimisation:
    """Network and codes, the same shared among processes, and what changes them."""

    losses: _Losses
    shared: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    @classmethod
    def of(cls, training_set: TrainingSet, settings: TrainingSettings, process: _Process) -> _Optimisation:
        size = VARIANTS[settings.variant]
        torch.manual_seed(settings.seed)
        network = ShapeNetwork(size, torch.from_numpy(training_set.anchors.mean(axis=0)))
        losses = _Losses(network, _initial_codes(training_set, size, settings.seed), settings).to(process.device)
        optimizer = torch.optim.AdamW(
            [
                {"params": network.parameters(), "lr": settings.learning_rate, "weight_decay": 1e-4},
                {"params": [losses.codes], "lr": settings.code_learning_rate, "weight_decay": 0.0},
            ]
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, settings.steps))
        shared = nn.parallel.DistributedDataParallel(losses) if process.count > 1 else losses
        return cls(losses, shared, optimizer, schedule)

    def step(self, parts: list[_Part], process: _Process) -> torch.Tensor | None:
        """Take a step and return the batch's means of `_Losses.forward`; None, and no step, if one is not a number."""
        share = process.count / self.losses.settings.batch_subjects  # processes' gradients are averaged
        sums = self.shared(parts) * share
        record = process.sum(sums.detach() / process.count)
        self.optimizer.zero_grad()
        sums[0].backward()
        norm = nn.utils.clip_grad_norm_(self.losses.network.parameters(), LARGEST_GRADIENT)
        if not torch.isfinite(torch.stack([*record, norm, self.losses.codes.grad.sum()])).all():
            return None
        self.optimizer.step()
        self.schedule.step()
        return record


def train(
    training_set: TrainingSet,
    validation: list[Subject],
    settings: TrainingSettings,
    work: Path,
    report: Callable[[dict], None] = lambda record: None,
) -> ShapeModel:
    """Train; go on from `work/checkpoint.pt` if it exists; return the model that fitted the validation subjects best.

    Args:
        training_set: at least two subjects.
        validation: fitted every `validate_every` steps and at the end.
        settings: see TrainingSettings.
        work: folder of the checkpoint, written every 500 steps, first under a temporary name, and of TensorBoard's records.
        report: called every 100 steps with step, losses, seconds, and after a validation with its error.

    Raises:
        ShapeModelError: one subject, a batch that the processes cannot share, or a loss that is no longer a number.
        CaseError: the disk is full; the last checkpoint stays.
    """
    process = _Process.started()
    _check(training_set, validation, settings, process)
    optimisation = _Optimisation.of(training_set, settings, process)
    losses = optimisation.losses
    landmarks = torch.from_numpy(training_set.anchors).float()
    checkpoint = work / "checkpoint.pt"
    first, best = _resume(checkpoint, optimisation, process) if checkpoint.exists() else (0, _Best(math.inf, 0, {}))
    board = _Board(work) if process.rank == 0 else None
    start = time.perf_counter()
    for step in range(first, settings.steps):
        if best.stale >= settings.patience:
            break
        subjects, parts = _batch(training_set, landmarks, settings, step, process)
        record = optimisation.step(parts, process)
        if record is None:
            names = ", ".join(training_set.names[i] for i in sorted(set(subjects.tolist())))
            raise ShapeModelError(
                f"Training stopped at step {step}: the loss is not a number in the batch of {names}; the last good state "
                f"is in {checkpoint.name}."
            )
        done, last = step + 1, step + 1 == settings.steps
        if done % settings.validate_every == 0 or last:
            model = _model(losses, training_set, settings, {})
            error = process.of_first(lambda model=model: validation_error_mm(model, validation))
            best = best.after(error, losses)
            if board is not None:
                board.validation(done, error, model)
        if board is not None and (done % REPORT_EVERY == 0 or last):
            values = dict(zip(("loss", "distance", "anchor", "code"), (float(value) for value in record)))
            board.scalars(done, values)
            report({"step": done, **values, "validation_mm": best.error_mm, "seconds": round(time.perf_counter() - start, 1)})
        if board is not None and (done % CHECKPOINT_EVERY == 0 or last):
            _save_checkpoint(checkpoint, done, optimisation, best)
    losses.load_state_dict(best.state)
    if board is not None:
        board.close()
    if process.count > 1:
        distributed.destroy_process_group()
    return _model(losses, training_set, settings, {"validation_mm": round(best.error_mm, 4)})


def _check(training_set: TrainingSet, validation: list[Subject], settings: TrainingSettings, process: _Process) -> None:
    if len(training_set) < 2 or not validation:
        raise ShapeModelError(
            f"Training needs at least two subjects and one to validate on, not {len(training_set)} and {len(validation)}; "
            "prepare more scans."
        )
    if settings.batch_subjects % process.count:
        raise ShapeModelError(f"batch_subjects ({settings.batch_subjects}) must be a multiple of the {process.count} processes.")


def _rate(step: int, steps: int) -> float:
    cosine = 0.5 * (1 + math.cos(math.pi * min(step / max(steps, 1), 1.0)))
    return min(1.0, (step + 1) / WARM_UP) * (0.01 + 0.99 * cosine)


@dataclass(frozen=True)
class _Best:
    """The best validation so far: its error, how many came since, and network and codes."""

    error_mm: float
    stale: int
    state: dict

    def after(self, error_mm: float, losses: _Losses) -> _Best:
        """Return what is the best after another validation; one better by less than `SMALLEST_IMPROVEMENT` counts as stale."""
        stale = 0 if error_mm < self.error_mm * (1 - SMALLEST_IMPROVEMENT) else self.stale + 1
        if self.state and not error_mm < self.error_mm:
            return _Best(self.error_mm, stale, self.state)
        return _Best(error_mm, stale, {key: value.detach().cpu().clone() for key, value in losses.state_dict().items()})


def _save_checkpoint(path: Path, step: int, optimisation: _Optimisation, best: _Best) -> None:
    temporary = path.with_suffix(".partial")
    state = {
        "step": step,
        "settings": _decisive(optimisation.losses.settings),
        "losses": optimisation.losses.state_dict(),
        "optimizer": optimisation.optimizer.state_dict(),
        "schedule": optimisation.schedule.state_dict(),
        "best": {"error_mm": best.error_mm, "stale": best.stale, "state": best.state},
    }
    try:
        with disk_errors(path.parent):
            try:
                torch.save(state, temporary)
            except RuntimeError as error:  # torch's zip writer hides the system's error
                raise OSError(28, "torch could not write") from error
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _decisive(settings: TrainingSettings) -> dict:
    """What must be the same to go on from a checkpoint."""
    return {key: value for key, value in asdict(settings).items() if key not in ("name", "population", "licence", "patience")}


def _resume(path: Path, optimisation: _Optimisation, process: _Process) -> tuple[int, _Best]:
    state = torch.load(path, weights_only=True, map_location=process.device)
    wanted = _decisive(optimisation.losses.settings)
    if changed := [key for key in wanted if state["settings"].get(key) != wanted[key]]:
        raise ShapeModelError(
            f"The checkpoint in {path.parent.name} was made with another {changed[0]}; take another work folder, or delete it."
        )
    if state["losses"]["codes"].shape != optimisation.losses.codes.shape:
        raise ShapeModelError(f"The checkpoint in {path.parent.name} was made with other subjects; take another work folder.")
    optimisation.losses.load_state_dict(state["losses"])
    optimisation.optimizer.load_state_dict(state["optimizer"])
    optimisation.schedule.load_state_dict(state["schedule"])
    return state["step"], _Best(**state["best"])


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
        "landmarks": list(LANDMARK_NAMES),
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
        try:
            fit = fit_shape(points[:half], subject.landmarks, model)
        except FitError:  # early in a training, a model may have no shape to fit
            return math.inf
        shape = Shape.of(model, torch.from_numpy(fit.code))
        mm = subject.mm_per_unit if np.isfinite(subject.mm_per_unit) else model.mm_per_unit
        errors.append(distances_to_surface(shape, fit.refinement.apply(points[half : 2 * half])).mean() * mm)
    return float(np.mean(errors))


class _Board:
    """TensorBoard's records: scalars, and pictures of the mean shape; none where the package is not installed."""

    def __init__(self, work: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._writer = None
        else:
            self._writer = SummaryWriter(str(work / "tensorboard"))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def validation(self, step: int, error_mm: float, model: ShapeModel) -> None:
        if self._writer is None:
            return
        self._writer.add_scalar("validation_mm", error_mm, step)
        if (picture := picture_of_mean(model)) is not None:
            self._writer.add_image("mean shape", picture, step, dataformats="HWC")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def picture_of_mean(model: ShapeModel) -> np.ndarray | None:
    """Return a (H, W, 3) uint8 picture of the mean shape from the left front; None while it has no surface yet."""
    from ..surface.picture import render_view
    from .sampling import mesh_of_code

    try:
        mesh = mesh_of_code(model, model.latent_mean, PICTURE_MM).mesh
    except FitError:
        return None
    colors = np.full((len(mesh.vertices_ras), 3), 200, np.uint8)
    return render_view(mesh.vertices_ras, mesh.normals_ras, colors, 30.0, PICTURE_SIZE)


def run_training(config: TrainingConfig, report: Callable[[dict], None] = lambda record: None) -> Path | None:
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
    model = train(TrainingSet.of(subjects), validation, config.settings, config.work, report)
    if int(os.environ.get("RANK", 0)) > 0:
        return None
    with disk_errors(config.output):
        return save_model(config.output, model)
