"""Training on phantoms: exact distances, corresponding skin, the truth of every subject, and errors on others."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.files import disk_errors
from ..core.progress import Progress
from ..mesh.mesh import sample_surface
from ..mesh.signed_distance import sample_distances
from ..phantom.deformation import breast_truth
from ..phantom.torso import population_torso, skin_points
from .evaluation import fit_and_measure
from .model import ShapeModel
from .model_file import load_model, save_model
from .training import run_training
from .training_data import Subject, write_subjects
from .training_settings import TrainingConfig, TrainingSettings

# Disjoint: what is trained on, what decides when training ends, and what the figures are of. Phantoms below are for
# demonstrations and tests.
FIRST_TRAINING_SEED = 1_000_000
FIRST_VALIDATION_SEED = 400_000
FIRST_EVALUATION_SEED = 500_000
SURFACE_POINTS, POINTS, VALIDATION_SUBJECTS = 3000, 8000, 100
# How many torsos the card's figures are of.
EVALUATED = 20


def phantom_subject(seed: int, points: int, population: str) -> Subject:
    """Sample one torso: points with exact distances, surface with normals, skin, truth in patient space."""
    torso = population_torso(seed, population)
    rng = np.random.default_rng([7, seed])
    vertices = torso.to_model.apply(torso.vertices_ras)
    weight = np.ones(len(torso.faces))
    weight[torso.skin_face_count :] = 0.3  # the flat closure needs fewer samples than skin
    near, distances = sample_distances(vertices, torso.faces, points, rng, weight)
    surface, normals = sample_surface(vertices, torso.faces, SURFACE_POINTS, rng)
    return Subject(
        f"phantom-{seed}",
        torso.to_model.apply(torso.landmarks_ras),
        surface,
        normals,
        1.0 / torso.to_model.scale,
        near,
        distances,
        vertices[: torso.skin_vertex_count],
        {"landmarks_ras": torso.landmarks_ras, **breast_truth(torso.body_ras)},
    )


def phantom_subjects(
    first_seed: int, count: int, points: int, population: str, progress: Progress | None = None
) -> Iterator[Subject]:
    """Sample torsos of consecutive seeds on two processes; `progress` is reported a torso."""
    progress = progress or Progress()
    seeds = range(first_seed, first_seed + count)
    with ProcessPoolExecutor(2) as pool:
        try:
            parts = pool.map(phantom_subject, seeds, [points] * count, [population] * count, chunksize=4)
            for done, subject in enumerate(parts):
                progress(done / count, f"torso {done + 1} of {count}")
                yield subject
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def train_on_phantoms(
    population: str,
    subjects: int,
    settings: TrainingSettings,
    work: Path,
    output: Path,
    progress: Progress | None = None,
) -> Path:
    """Sample phantoms, train, measure on others, and write the model with its card; goes on from what `work` holds.

    Args:
        population: one of POPULATIONS.
        subjects: to train on; 100 more, or a tenth if that is fewer, decide when training ends.
        settings: see TrainingSettings.
        work: folder for samples and checkpoint.
        output: folder for the model.
        progress: reported a torso, and every 100 steps.

    Returns:
        the path of the model file.
    """
    progress = progress or Progress()
    with disk_errors(work):
        work.mkdir(parents=True, exist_ok=True)
    kinds = {
        "training": (FIRST_TRAINING_SEED, subjects),
        "validation": (FIRST_VALIDATION_SEED, min(VALIDATION_SUBJECTS, max(1, subjects // 10))),
    }
    files = {}
    for kind, (seed, count) in kinds.items():
        files[kind] = work / f"{kind}-{population}-{count}.h5"
        if not files[kind].exists():
            write_subjects(files[kind], phantom_subjects(seed, count, POINTS, population, progress.part(0.0, 0.1)))
    path = run_training(
        TrainingConfig((files["training"],), work, output, files["validation"], settings), progress.part(0.1, 1.0)
    )
    model = load_model(path)
    card = model.card | {
        "use": "knows phantoms only; not for diagnosis",
        "phantom_seeds": [FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + subjects - 1],
        "command": f"breast-reconstruction train phantoms --population {population} --subjects {subjects} "
        f"--variant {settings.variant} --steps {settings.steps}" + " --mixed-precision" * settings.mixed_precision,
        "metrics": model.card["metrics"] | evaluate_on_phantoms(model, population, EVALUATED),
    }
    with disk_errors(output):
        return save_model(output, replace(model, card=card))


def evaluate_on_phantoms(model: ShapeModel, population: str, subjects: int = EVALUATED, points: int = 8000) -> dict[str, float]:
    """Fit torsos that were never trained on, from exact points on their whole skin; errors, mm, at others."""
    means, tails, landmarks = [], [], []
    for seed in range(FIRST_EVALUATION_SEED, FIRST_EVALUATION_SEED + subjects):
        torso = population_torso(seed, population)
        skin, _ = skin_points(torso, 2 * points, np.random.default_rng([8, seed]))
        marks = torso.to_model.apply(torso.landmarks_ras)
        fit, errors = fit_and_measure(model, skin[:points], marks, skin[points:], 1.0 / torso.to_model.scale)
        means.append(errors.mean())
        tails.append(np.percentile(errors, 95))
        landmarks.append(np.linalg.norm(fit.anchors_model - fit.refinement.apply(marks), axis=1).mean() / torso.to_model.scale)
    return {
        "subjects": subjects,
        "first_seed": FIRST_EVALUATION_SEED,
        "mean_mm": round(float(np.mean(means)), 3),
        "worst_subject_mean_mm": round(float(np.max(means)), 3),
        "p95_mm": round(float(np.mean(tails)), 3),
        "landmarks_mean_mm": round(float(np.mean(landmarks)), 2),
    }
