"""Training of an organ's model, and what its card says of organs that it never saw."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..core.errors import FitError, ShapeModelError
from ..core.files import disk_errors
from ..core.progress import Progress
from ..core.resources import TORSO
from ..fields.evaluation import Shape, distances_to_surface
from ..mesh.mesh import connected_parts
from ..mesh.patch import signed_volume
from .fit import ShapeFit, fit_shape, surface_rows, surface_uncertainty
from .model import ShapeModel
from .model_file import save_model
from .organ_fit import settings_for, unknown_landmarks, volume_deviation_ml
from .sampling import mesh_of_code
from .training import train
from .training_data import Subject, TrainingSet, read_subjects, split
from .training_settings import TrainingSettings

# A quarter is not trained on: a few of it decide when training ends, the card's figures are of the others.
HELD_OUT, VALIDATION = 0.25, 6
MESH_MM = 4.0
# Of the height, from below, that is left out to see how well guessed volumes are stated.
MISSING_SHARE = 0.4


def held_out_count(subjects: int) -> int:
    """Return how many of so many organs are not trained on; one at least."""
    return max(1, round(HELD_OUT * subjects))


def train_organ(
    data: tuple[Path, ...], settings: TrainingSettings, work: Path, output: Path, progress: Progress | None = None
) -> Path | None:
    """Train on three quarters of the organs of some files, measure on others, write the model with its card.

    Returns:
        the path of the model; None in all processes of `torchrun` but the first.

    Raises:
        ShapeModelError: fewer than three organs, different ones, torsos, and what `train` raises.
    """
    progress = progress or Progress()
    subjects = [subject for path in data for subject in read_subjects(path)]
    if len(subjects) < 3:
        raise ShapeModelError(
            f"There are {len(subjects)} organs in the data; training needs three at least, better fifty: two to learn from, one "
            "to be judged by."
        )
    if subjects[0].organ == TORSO:
        raise ShapeModelError("These are torsos; train them by 'breast-reconstruction train run'.")
    trained, held_out = split(subjects, held_out_count(len(subjects)), settings.seed)
    judges = held_out[:VALIDATION]
    with disk_errors(work):
        work.mkdir(parents=True, exist_ok=True)
    model = train(TrainingSet.of(trained), judges, settings, work, progress.part(0.0, 0.95))
    if int(os.environ.get("RANK", 0)) > 0:
        return None
    progress(0.95, "figures of organs that were not trained on")
    card = model.card | {"metrics": model.card["metrics"] | measured(model, held_out[VALIDATION:] or judges)}
    with disk_errors(output):
        return save_model(output, replace(model, card=card))


@dataclass(frozen=True)
class _Measured:
    """One organ that was not trained on; mm.

    Attributes:
        distances, posterior: of points beside those that were fitted to, all over the organ: error, and what the fit states.
        unseen, unseen_posterior: the same in one half, after a fit to the other.
        volume_error: relative.
        volume_ratio: error of the volume over what the fit states, where the organ's lower end was not given.
        is_whole: as many bodies as the model has.
    """

    distances: np.ndarray
    posterior: np.ndarray
    unseen: np.ndarray
    unseen_posterior: np.ndarray
    volume_error: float
    volume_ratio: float
    is_whole: bool


def measured(model: ShapeModel, subjects: list[Subject]) -> dict[str, float]:
    """Fit a part of each organ's points and return errors at the others, and how well they are stated: for the card."""
    found = [one for number, subject in enumerate(subjects) if (one := _measure(model, subject, number)) is not None]
    if not found:
        return {}
    together = lambda name: np.concatenate([getattr(one, name) for one in found])
    distances, volumes = together("distances"), np.array([one.volume_error for one in found])
    mean = float(np.mean([one.distances.mean() for one in found]))
    expression = mean / 0.798  # as ShapeModel.expression_error
    beyond = np.sqrt(np.maximum(together("unseen") ** 2 - expression**2, 0.0)) / together("unseen_posterior")
    factor = max(1.0, float(np.quantile(beyond, 0.68)))
    within = lambda error, posterior, count: round(float((error < count * np.hypot(factor * posterior, expression)).mean()), 3)
    result = {
        "subjects": len(found),
        "mean_mm": round(mean, 3),
        "worst_subject_mean_mm": round(float(max(one.distances.mean() for one in found)), 3),
        "p95_mm": round(float(np.percentile(distances, 95)), 3),
        "unseen_mean_mm": round(float(together("unseen").mean()), 3),
        "posterior_factor": round(factor, 2),
        "within_one": within(distances, together("posterior"), 1),
        "within_two": within(distances, together("posterior"), 2),
        "unseen_within_one": within(together("unseen"), together("unseen_posterior"), 1),
        "unseen_within_two": within(together("unseen"), together("unseen_posterior"), 2),
        "whole": round(float(np.mean([one.is_whole for one in found])), 3),
    }
    if np.isfinite(volumes).any():
        ratios = np.array([one.volume_ratio for one in found])
        result["volume_factor"] = round(max(factor, float(np.sqrt(np.nanmean(ratios**2)))), 2)
        result["volume_percent"] = round(float(100 * np.sqrt(np.nanmean(volumes**2))), 3)
    return result


def _measure(model: ShapeModel, subject: Subject, number: int) -> _Measured | None:
    rng = np.random.default_rng([6, number])
    points = subject.surface_points[rng.permutation(len(subject.surface_points))].astype(float)
    given, others = points[: len(points) // 2], points[len(points) // 2 :]
    direction = rng.normal(size=3)
    middle = np.median(points @ direction)
    settings, none = settings_for(model, False), unknown_landmarks(model)
    try:
        whole = fit_shape(given, none, model, settings)
        half = fit_shape(given[given @ direction > middle], none, model, settings)
        mesh = mesh_of_code(model, torch.from_numpy(whole.code), MESH_MM / subject.mm_per_unit).mesh
    except FitError:
        return None
    parts = connected_parts(mesh.faces, len(mesh.vertices)).max() + 1
    size = (subject.mm_per_unit / whole.refinement.scale) ** 3 / 1000.0
    true = float(subject.truth["volume_ml"]) if "volume_ml" in subject.truth else np.nan
    volume = signed_volume(mesh.vertices, mesh.faces) * size
    unseen = others[others @ direction < middle]
    low, high = points[:, 1].min(), points[:, 1].max()
    cut = fit_shape(given[given[:, 1] > low + MISSING_SHARE * (high - low)], none, model, settings)
    shape, mm = mesh_of_code(model, torch.from_numpy(cut.code), 2 * MESH_MM / subject.mm_per_unit).mesh, subject.mm_per_unit
    deviation = volume_deviation_ml(surface_rows(cut, model, shape.vertices), cut, shape, mm / cut.refinement.scale)
    guessed = signed_volume(shape.vertices, shape.faces) * (mm / cut.refinement.scale) ** 3 / 1000.0
    return _Measured(
        *_errors(model, whole, others, subject.mm_per_unit),
        *_errors(model, half, unseen, subject.mm_per_unit),
        volume / true - 1.0,
        (guessed - true) / deviation,
        bool(parts == model.parts),
    )


def _errors(model: ShapeModel, fit: ShapeFit, points: np.ndarray, mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances of points to a fit, and its posterior there; mm."""
    moved = fit.refinement.apply(points)
    distances = distances_to_surface(Shape.of(model, torch.from_numpy(fit.code)), moved)
    return distances * mm, np.maximum(surface_uncertainty(fit, model, moved) * mm, 1e-6)
