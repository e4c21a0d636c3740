"""Fit of the latent code: damped Gauss-Newton with a robust kernel, the similarity refined together with the code.

The code's coordinates u are whitened by the training population, so |u|^2 is the negative log prior (up to a factor);
points count by a Geman-McClure kernel whose scale shrinks from stage to stage (graduated non-convexity).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ..errors import FitError
from ..geometry import Similarity
from ..progress import Progress
from .evaluation import Shape, anchor_jacobian, derivatives, signed_distances
from .model_file import ShapeModel


@dataclass(frozen=True)
class FitSettings:
    """What the fit believes about its data; lengths in model units (0.01 is about 3 mm).

    Attributes:
        stages: (points, kernel scale) of each stage, coarse to fine.
        point_noise: standard deviation of a measured point.
        independent_points: how many independent measurements all points together are worth; neighbours err alike.
        landmark_noise: standard deviation of a landmark.
        similarity_noise: standard deviations of the landmarks' similarity: rotation (radians), translation, log scale.
        regularisation: factor on the prior of the code.
        largest_iterations: a stage.
        smallest_step: root mean square change of the surface, at the points, that ends a stage.
        seed: of the choice of points.
    """

    stages: tuple[tuple[int, float], ...] = ((1000, 0.06), (2500, 0.03), (6000, 0.009))
    point_noise: float = 0.0035
    independent_points: float = 500.0
    landmark_noise: float = 0.008
    similarity_noise: tuple[float, float, float] = (0.02, 0.01, 0.015)
    regularisation: float = 1.0
    largest_iterations: int = 30
    smallest_step: float = 1e-4
    seed: int = 0


@dataclass(frozen=True)
class ShapeFit:
    """The fitted shape.

    Attributes:
        code: (latent,) latent code.
        refinement: similarity from the aligned model frame to the model frame of the fit.
        anchors_model: (6, 3) anchors of the fitted shape.
        residual_mean, residual_median, residual_p95: |signed distance| at all points, model units.
        inlier_share: share of points within three kernel scales of the last stage.
        iterations: Gauss-Newton steps in all.
        converged: whether the last stage ended by itself.
        prior_distance: |u| / sqrt(R): 1 for a typical member of the training population, above 2 for an unusual one.
    """

    code: np.ndarray
    refinement: Similarity
    anchors_model: np.ndarray
    residual_mean: float
    residual_median: float
    residual_p95: float
    inlier_share: float
    iterations: int
    converged: bool
    prior_distance: float

    def save(self, path: Path) -> None:
        """Write one npz."""
        numbers = {key: value for key, value in self.__dict__.items() if key != "refinement"}
        np.savez(path, **numbers, **{f"similarity_{k}": v for k, v in self.refinement.as_dict().items()})

    @classmethod
    def load(cls, path: Path) -> ShapeFit:
        """Read what `save` wrote."""
        with np.load(path) as file:
            values = {key: file[key] for key in file.files if not key.startswith("similarity_")}
            scalars = {key: value if value.ndim else value.item() for key, value in values.items()}
            similarity = {key: file[f"similarity_{key}"] for key in ("scale", "rotation", "translation")}
            return cls(refinement=Similarity.from_dict(similarity), **scalars)


@dataclass(frozen=True)
class _State:
    u: torch.Tensor
    similarity: Similarity


def fit_shape(
    points_model: np.ndarray,
    landmarks_model: np.ndarray,
    model: ShapeModel,
    settings: FitSettings | None = None,
    progress: Progress | None = None,
) -> ShapeFit:
    """Fit code and similarity to points.

    Args:
        points_model: (N, 3) points in the aligned model frame, outliers allowed.
        landmarks_model: (6, 3) in the same frame.
        model: the shape model.
        settings: see FitSettings.
        progress: reported an iteration.

    Raises:
        FitError: too few points, or no finite solution.
    """
    settings, progress = settings or FitSettings(), progress or Progress()
    if len(points_model) < 200:
        raise FitError(f"Only {len(points_model)} points are left to fit; check landmarks and video.")
    order = np.random.default_rng(settings.seed).permutation(len(points_model))
    state = _State(torch.zeros(model.latent_basis.shape[1]), Similarity(1.0, np.eye(3), np.zeros(3)))
    iterations, converged = 0, False
    for stage, (count, kernel) in enumerate(settings.stages):
        points = points_model[order[:count]]
        damping = 1e-3
        linear = _linearise(state, points, landmarks_model, model, kernel, settings)
        converged = False
        for step in range(settings.largest_iterations):
            progress((stage + step / settings.largest_iterations) / len(settings.stages), f"fit, step {iterations + 1}")
            iterations += 1
            for _ in range(8):
                candidate, moved = _step(state, linear, damping)
                trial = _linearise(candidate, points, landmarks_model, model, kernel, settings)
                if trial.cost <= linear.cost:
                    break
                damping *= 10
            else:
                converged = True  # no step downhill is left: the optimum, to the precision of float32
                break
            state, linear, damping = candidate, trial, max(damping / 10, 1e-6)
            if moved < settings.smallest_step:
                converged = True
                break
    return _summary(state, points_model, model, settings, iterations, converged)


@dataclass(frozen=True)
class _Linear:
    """Normal equations at a state: cost, gradient, Gauss-Newton matrix, and rows to judge a step by."""

    cost: float
    gradient: torch.Tensor
    matrix: torch.Tensor
    rows: torch.Tensor


def _linearise(
    state: _State,
    points: np.ndarray,
    landmarks: np.ndarray,
    model: ShapeModel,
    kernel: float,
    settings: FitSettings,
) -> _Linear:
    shape = Shape.of(model, model.code(state.u))
    moved = torch.as_tensor(state.similarity.apply(points), dtype=torch.float32)
    at = derivatives(shape, moved)
    rows = torch.cat([at.by_code, _by_similarity(at.by_point, moved)], dim=1)
    residual = at.distance
    square = kernel**2 / (kernel**2 + residual**2)
    scale = settings.independent_points / len(points) / settings.point_noise**2
    # Geman-McClure: rho = r^2 c^2 / (c^2 + r^2) / 2, whose weight is (c^2 / (c^2 + r^2))^2.
    cost = 0.5 * scale * float((residual**2 * square).sum())
    weighted = rows * (scale * square**2)[:, None]
    matrix = weighted.T @ rows
    gradient = weighted.T @ residual

    count = len(state.u)
    seen = torch.as_tensor(state.similarity.apply(landmarks), dtype=torch.float32)
    difference = (shape.anchors - seen).reshape(-1)
    anchor_rows = torch.cat([anchor_jacobian(shape), -_landmark_rows(seen)], dim=1)
    anchor_scale = 1.0 / settings.landmark_noise**2
    cost += 0.5 * anchor_scale * float(difference @ difference)
    matrix += anchor_scale * anchor_rows.T @ anchor_rows
    gradient += anchor_scale * anchor_rows.T @ difference

    cost += 0.5 * settings.regularisation * float(state.u @ state.u)
    matrix[:count, :count] += settings.regularisation * torch.eye(count)
    gradient[:count] += settings.regularisation * state.u
    rotation, translation, log_scale = settings.similarity_noise
    precision = torch.tensor([rotation**-2] * 3 + [translation**-2] * 3 + [log_scale**-2], dtype=torch.float32)
    parameters = _parameters(state.similarity)
    cost += 0.5 * float(precision @ parameters**2)
    matrix[count:, count:] += torch.diag(precision)
    gradient[count:] += precision * parameters
    if not np.isfinite(cost):
        raise FitError("The fit left the range of numbers; check that the landmarks are on the patient.")
    return _Linear(cost, gradient, matrix, rows)


def _parameters(similarity: Similarity) -> torch.Tensor:
    """Rotation vector, translation and log scale, (7,): how far the similarity is from the landmarks' own."""
    vector = Rotation.from_matrix(similarity.rotation).as_rotvec()
    return torch.tensor([*vector, *similarity.translation, np.log(similarity.scale)], dtype=torch.float32)


def _by_similarity(by_point: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Derivative by a small rotation vector, translation and log scale applied after the present similarity."""
    return torch.cat([torch.cross(points, by_point, dim=1), by_point, (by_point * points).sum(1, keepdim=True)], dim=1)


def _landmark_rows(points: torch.Tensor) -> torch.Tensor:
    """(18, 7) derivative of moved points by the same small similarity."""
    count = len(points)
    rows = torch.zeros(count, 3, 7)
    x, y, z = points.T
    rows[:, 0, 1], rows[:, 0, 2] = z, -y
    rows[:, 1, 0], rows[:, 1, 2] = -z, x
    rows[:, 2, 0], rows[:, 2, 1] = y, -x
    rows[:, :, 3:6] = torch.eye(3)
    rows[:, :, 6] = points
    return rows.reshape(3 * count, 7)


def _step(state: _State, linear: _Linear, damping: float) -> tuple[_State, float]:
    diagonal = linear.matrix.diagonal()
    step = torch.linalg.solve((linear.matrix + damping * torch.diag(diagonal)).double(), -linear.gradient.double()).float()
    moved = float((linear.rows @ step).square().mean().sqrt())
    count = len(state.u)
    rotation_vector, translation, log_scale = step[count : count + 3], step[count + 3 : count + 6], step[-1]
    small = Similarity(
        float(log_scale.exp()),
        Rotation.from_rotvec(rotation_vector.numpy()).as_matrix(),
        translation.numpy().astype(float),
    )
    return _State(state.u + step[:count], small.after(state.similarity)), moved


def _summary(
    state: _State, points: np.ndarray, model: ShapeModel, settings: FitSettings, iterations: int, converged: bool
) -> ShapeFit:
    shape = Shape.of(model, model.code(state.u))
    residual = np.abs(signed_distances(shape, state.similarity.apply(points)))
    return ShapeFit(
        code=shape.code.numpy(),
        refinement=state.similarity,
        anchors_model=shape.anchors_model,
        residual_mean=float(residual.mean()),
        residual_median=float(np.median(residual)),
        residual_p95=float(np.percentile(residual, 95)),
        inlier_share=float((residual < 3 * settings.stages[-1][1]).mean()),
        iterations=iterations,
        converged=converged,
        prior_distance=float(state.u.norm() / np.sqrt(len(state.u))),
    )
