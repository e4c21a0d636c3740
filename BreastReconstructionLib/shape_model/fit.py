"""Fit of the latent code: damped Gauss-Newton with a robust kernel, the similarity refined together with the code.

The code's coordinates u are whitened by the training population, so |u|^2 is the negative log prior (up to a factor);
points count by a Geman-McClure kernel whose scale shrinks from stage to stage (graduated non-convexity). While the kernel is
wide, points are taken to be as noisy, so the prior leads and outliers find no shape of their own; at last the noise is
what the residuals say, so exact points are followed closely and noisy ones are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ..core.errors import FitError
from ..core.progress import Progress
from ..fields.evaluation import Shape, anchor_jacobian, derivatives, signed_distances
from ..geometry.transforms import Similarity
from ..optimise.gauss_newton import damped_gauss_newton
from .model import ShapeModel

# Points that the residuals of the summary are taken from.
SUMMARY_POINTS = 20_000
FIT_FILE = "fit.npz"
# Kernel scale by standard deviation of the noise: with it, no fit of 20 torsos was led astray by 20 % outliers.
KERNEL_PER_NOISE = 2.2
# By how much residuals may correct the noise that is assumed before. Exact points assumed at 0.3 are followed to 0.24 instead
# of 0.28 mm, but for that the code goes where its landmarks are worse (2.8 instead of 2.3 mm).
NOISE_FACTORS = (0.6, 2.0)
FIRST_ORDER_STEPS, FIRST_ORDER_POINTS = 600, 1000
IDENTITY = Similarity(1.0, np.eye(3), np.zeros(3))


@dataclass(frozen=True)
class FitSettings:
    """What the fit assumes about its data; lengths in model units (0.01 is about 3 mm).

    Attributes:
        stages: (points, kernel scale) of each stage, coarse to fine; None for the scale that the residuals ask for.
        smallest_kernel: of the stages that take it from the residuals.
        point_noise: standard deviation of a measured point beyond its own covariance, along the surface's normal; the last
            stages correct it by the residuals.
        independent_points: how many independent measurements all points together are worth; neighbours err alike.
        landmark_noise: standard deviation of a landmark.
        similarity_noise: standard deviations of the landmarks' similarity: rotation (radians), translation, log scale.
        expected_log_scale: of the similarity that is fitted; 0 where the start has the size that is expected.
        regularisation: factor on the prior of the code.
        largest_iterations: a stage.
        smallest_step: root mean square change of the surface, at the points, that ends a stage.
        seed: of the choice of points.
    """

    stages: tuple[tuple[int, float | None], ...] = ((1000, 0.15), (1000, 0.06), (2500, 0.03), (6000, None), (6000, None))
    smallest_kernel: float = 0.009
    point_noise: float = 0.0035
    independent_points: float = 1000.0
    landmark_noise: float = 0.005
    similarity_noise: tuple[float, float, float] = (0.02, 0.01, 0.015)
    expected_log_scale: float = 0.0
    regularisation: float = 1.0
    largest_iterations: int = 30
    smallest_step: float = 3e-4
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
        covariance: (R + 7, R + 7) posterior of u and the similarity's rotation vector, translation and log scale: the
            inverse of the Gauss-Newton matrix at the optimum (Laplace approximation).
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
    covariance: np.ndarray

    def save(self, folder: Path) -> None:
        """Write one npz."""
        numbers = {key: value for key, value in self.__dict__.items() if key != "refinement"}
        np.savez(folder / FIT_FILE, **numbers, **{f"similarity_{k}": v for k, v in self.refinement.as_dict().items()})

    @classmethod
    def load(cls, folder: Path) -> ShapeFit:
        """Read what `save` wrote."""
        with np.load(folder / FIT_FILE) as file:
            values = {key: file[key] for key in file.files if not key.startswith("similarity_")}
            scalars = {key: value if value.ndim else value.item() for key, value in values.items()}
            similarity = {key: file[f"similarity_{key}"] for key in ("scale", "rotation", "translation")}
            return cls(refinement=Similarity.from_dict(similarity), **scalars)


@dataclass(frozen=True)
class State:
    """Where a fit is: (R,) whitened code, and the similarity from the aligned frame to the model's."""

    u: torch.Tensor
    similarity: Similarity

    def stepped(self, step: torch.Tensor) -> State:
        """Return the state after a step (R + 7,): code, rotation vector, translation, log scale."""
        count = len(self.u)
        rotation_vector, translation, log_scale = step[count : count + 3], step[count + 3 : count + 6], step[count + 6]
        small = Similarity(
            float(log_scale.exp()),
            Rotation.from_rotvec(rotation_vector.numpy()).as_matrix(),
            translation.numpy().astype(float),
        )
        return State(self.u + step[:count], small.after(self.similarity))


@dataclass(frozen=True)
class _Data:
    """What is fitted to: (N, 3) points, their (N,) standard deviations, (6, 3) landmarks, and what is assumed of them."""

    points: np.ndarray
    noise: np.ndarray
    landmarks: np.ndarray
    model: ShapeModel
    settings: FitSettings

    def first(self, count: int, order: np.ndarray) -> _Data:
        chosen = order[:count]
        return replace(self, points=self.points[chosen], noise=self.noise[chosen])

    def for_stage(self, kernel: float | None, state: State) -> tuple[_Data, float]:
        """Return the data with the noise that a stage assumes, and the stage's kernel."""

        def residual() -> np.ndarray:
            shape = Shape.of(self.model, self.model.code(state.u))
            return signed_distances(shape, state.similarity.apply(self.points))

        noise, kernel = stage_noise(self.noise, kernel, self.settings, residual)
        return replace(self, noise=noise), kernel


def stage_noise(
    noise: np.ndarray, kernel: float | None, settings: FitSettings, residual: Callable[[], np.ndarray]
) -> tuple[np.ndarray, float]:
    """Return the (N,) standard deviations that a stage assumes, and its kernel's scale.

    With a kernel given, points are no better than its scale lets pass. With None, the noise is multiplied by the one factor,
    within NOISE_FACTORS, that the median of the (N,) residuals asks for: 1.4826 times the median of absolute values is the
    standard deviation of normal ones, and hardly heeds outliers.
    """
    if kernel is not None:
        return np.maximum(noise, kernel / KERNEL_PER_NOISE), kernel
    measured = noise * np.clip(1.4826 * np.median(np.abs(residual()) / noise), *NOISE_FACTORS)
    return measured, max(settings.smallest_kernel, KERNEL_PER_NOISE * float(np.median(measured)))


def _data(points: np.ndarray, landmarks: np.ndarray, model: ShapeModel, settings: FitSettings, noise: np.ndarray | None) -> _Data:
    if len(points) < 200:
        raise FitError(f"Only {len(points)} points are left to fit; check landmarks and video.")
    variance = settings.point_noise**2 + (np.zeros(len(points)) if noise is None else noise**2)
    return _Data(points, np.sqrt(variance), landmarks, model, settings)


def fit_shape(
    points_model: np.ndarray,
    landmarks_model: np.ndarray,
    model: ShapeModel,
    settings: FitSettings | None = None,
    progress: Progress | None = None,
    noise_model: np.ndarray | None = None,
) -> ShapeFit:
    """Fit code and similarity to points.

    Args:
        points_model: (N, 3) points in the aligned model frame, outliers allowed.
        landmarks_model: (6, 3) in the same frame; NaN where unknown.
        model: the shape model.
        settings: see FitSettings.
        progress: reported an iteration.
        noise_model: (N,) standard deviations of the points along the normal; None for points that are all equally good.

    Raises:
        FitError: too few points, or no finite solution.
    """
    settings, progress = settings or FitSettings(), progress or Progress()
    data = _data(points_model, landmarks_model, model, settings, noise_model)
    order = np.random.default_rng(settings.seed).permutation(len(points_model))
    state, iterations, stages = State(torch.zeros(model.latent_basis.shape[1]), IDENTITY), 0, len(settings.stages)
    for stage, (count, kernel) in enumerate(settings.stages):
        part, kernel = data.first(count, order).for_stage(kernel, state)

        def report(iteration: int, stage: int = stage, before: int = iterations) -> None:
            share = iteration / settings.largest_iterations
            progress((stage + share) / stages, f"fit, step {before + iteration + 1}")

        def linearise(at: State, part: _Data = part, kernel: float = kernel) -> _Linear:
            return _linearise(at, part, kernel)

        descent = damped_gauss_newton(state, linearise, _step, settings.largest_iterations, settings.smallest_step, report)
        state, iterations = descent.state, iterations + descent.iterations
    return _summary(state, descent.linear, data.first(SUMMARY_POINTS, order), kernel, iterations, descent.converged)


@dataclass(frozen=True)
class _Linear:
    """Normal equations at a state: cost, gradient, Gauss-Newton matrix, and rows to judge a step by."""

    cost: float
    gradient: torch.Tensor
    matrix: torch.Tensor
    rows: torch.Tensor


def _linearise(state: State, data: _Data, kernel: float) -> _Linear:
    settings, model = data.settings, data.model
    shape = Shape.of(model, model.code(state.u))
    moved = torch.as_tensor(state.similarity.apply(data.points), dtype=torch.float32)
    at = derivatives(shape, moved)
    rows = torch.cat([at.by_code, by_similarity(at.by_point, moved)], dim=1)
    residual = at.distance
    square = kernel**2 / (kernel**2 + residual**2)
    # All points together are worth `independent_points` ones of mean precision.
    scale = torch.as_tensor(settings.independent_points / len(data.points) / data.noise**2, dtype=torch.float32)
    # Geman-McClure: rho = r^2 c^2 / (c^2 + r^2) / 2, whose weight is (c^2 / (c^2 + r^2))^2.
    cost = 0.5 * float((scale * residual**2 * square).sum())
    weighted = rows * (scale * square**2)[:, None]
    prior = priors(state, shape, data.landmarks, settings)
    return _Linear(cost + prior.cost, weighted.T @ residual + prior.gradient, weighted.T @ rows + prior.matrix, rows)


@dataclass(frozen=True)
class Priors:
    """Normal equations of the priors: cost, (R + 7,) gradient, (R + 7, R + 7) matrix."""

    cost: float
    gradient: torch.Tensor
    matrix: torch.Tensor


def priors(state: State, shape: Shape, landmarks: np.ndarray, settings: FitSettings) -> Priors:
    """Priors of the fit: landmarks at the anchors, a code as in the training population, a similarity near the landmarks' own.

    Landmarks that are NaN are unknown and say nothing.

    Raises:
        FitError: the numbers are not finite.
    """
    count = len(state.u)
    known = np.isfinite(landmarks).all(axis=1)
    seen = torch.as_tensor(state.similarity.apply(landmarks[known]), dtype=torch.float32)
    difference = (shape.anchors[torch.from_numpy(known)] - seen).reshape(-1)
    rows = torch.cat([anchor_jacobian(shape)[np.repeat(known, 3)], -_landmark_rows(seen)], dim=1)
    scale = 1.0 / settings.landmark_noise**2
    cost = 0.5 * scale * float(difference @ difference)
    matrix = scale * rows.T @ rows
    gradient = scale * rows.T @ difference

    cost += 0.5 * settings.regularisation * float(state.u @ state.u)
    matrix[:count, :count] += settings.regularisation * torch.eye(count)
    gradient[:count] += settings.regularisation * state.u
    rotation, translation, log_scale = settings.similarity_noise
    precision = torch.tensor([rotation**-2] * 3 + [translation**-2] * 3 + [log_scale**-2], dtype=torch.float32)
    parameters = _parameters(state.similarity)
    parameters[6] -= settings.expected_log_scale
    cost += 0.5 * float(precision @ parameters**2)
    matrix[count:, count:] += torch.diag(precision)
    gradient[count:] += precision * parameters
    if not np.isfinite(cost):
        raise FitError("The fit left the range of numbers; check that the landmarks are on the patient.")
    return Priors(cost, gradient, matrix)


def _parameters(similarity: Similarity) -> torch.Tensor:
    """Rotation vector, translation and log scale, (7,): how far the similarity is from the landmarks' own."""
    vector = Rotation.from_matrix(similarity.rotation).as_rotvec()
    return torch.tensor([*vector, *similarity.translation, np.log(similarity.scale)], dtype=torch.float32)


def by_similarity(by_point: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
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


def _step(state: State, linear: _Linear, damping: float) -> tuple[State, float]:
    diagonal = linear.matrix.diagonal()
    step = torch.linalg.solve((linear.matrix + damping * torch.diag(diagonal)).double(), -linear.gradient.double()).float()
    moved = float((linear.rows @ step).square().mean().sqrt())
    return state.stepped(step), moved


def _summary(state: State, linear: _Linear, data: _Data, kernel: float, iterations: int, converged: bool) -> ShapeFit:
    shape = Shape.of(data.model, data.model.code(state.u))
    residual = np.abs(signed_distances(shape, state.similarity.apply(data.points)))
    return ShapeFit(
        code=shape.code.numpy(),
        refinement=state.similarity,
        anchors_model=shape.anchors_model,
        residual_mean=float(residual.mean()),
        residual_median=float(np.median(residual)),
        residual_p95=float(np.percentile(residual, 95)),
        inlier_share=float((residual < 3 * kernel).mean()),
        iterations=iterations,
        converged=converged,
        prior_distance=float(state.u.norm() / np.sqrt(len(state.u))),
        covariance=torch.linalg.inv(linear.matrix.double()).float().numpy(),
    )


def surface_uncertainty(fit: ShapeFit, model: ShapeModel, points_model: np.ndarray) -> np.ndarray:
    """Return the (N,) standard deviation, along the normal, of the fitted surface at (N, 3) points on it; model units.

    The posterior covariance of code and similarity, carried to the surface by the implicit function theorem: a point of
    the zero level moves along its normal by -(df/du) du / |df/dx|. It does not know what the model cannot express.
    """
    return deviation_along(surface_rows(fit, model, points_model), fit)


def surface_rows(fit: ShapeFit, model: ShapeModel, points_model: np.ndarray) -> torch.Tensor:
    """Return the (N, R + 7) derivative of how far the surface lies inward of (N, 3) points on it, by code and similarity."""
    points = torch.as_tensor(points_model, dtype=torch.float32)
    at = derivatives(Shape.of(model, torch.from_numpy(fit.code)), points)
    return torch.cat([at.by_code, by_similarity(at.by_point, points)], dim=1) / at.by_point.norm(dim=1, keepdim=True)


def deviation_along(rows: torch.Tensor, fit: ShapeFit) -> np.ndarray:
    """Return the (N,) standard deviations of what (N, R + 7) rows say, by a fit's posterior."""
    variance = ((rows @ torch.from_numpy(fit.covariance)) * rows).sum(dim=1)
    return variance.clamp_min(0).sqrt().numpy().astype(float)


def fit_first_order(
    points_model: np.ndarray,
    landmarks_model: np.ndarray,
    model: ShapeModel,
    settings: FitSettings | None = None,
    progress: Progress | None = None,
    noise_model: np.ndarray | None = None,
) -> ShapeFit:
    """Fit by Adam on the same cost: slower, but without a matrix to solve; arguments, result and errors as `fit_shape`.

    Random points a step, and the stages in turn, each for as many steps.
    """
    settings, progress = settings or FitSettings(), progress or Progress()
    data = _data(points_model, landmarks_model, model, settings, noise_model)
    rng = np.random.default_rng(settings.seed)
    data = data.first(SUMMARY_POINTS, rng.permutation(len(points_model)))
    state = State(torch.zeros(model.latent_basis.shape[1]), IDENTITY)
    # A step of Adam is as long as its rate: in standard deviations of the code, radians, model units, log scale.
    rate = torch.cat([torch.full_like(state.u, 0.05), torch.full((7,), 0.0005)])
    mean, square = torch.zeros_like(rate), torch.zeros_like(rate)
    each = FIRST_ORDER_STEPS // len(settings.stages)
    for step in range(each * len(settings.stages)):
        progress(step / FIRST_ORDER_STEPS, f"first-order fit, step {step + 1}")
        if step % each == 0:
            part, kernel = data.for_stage(settings.stages[step // each][1], state)
        chosen = rng.choice(len(part.points), min(FIRST_ORDER_POINTS, len(part.points)), replace=False)
        gradient = _linearise(state, part.first(FIRST_ORDER_POINTS, chosen), kernel).gradient
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        corrected = mean / (1 - 0.9 ** (step + 1)) / ((square / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
        state = state.stepped(-rate * 0.5 ** (step // (FIRST_ORDER_STEPS // 5)) * corrected)
    last = part.first(settings.stages[-1][0], np.arange(len(part.points)))
    return _summary(state, _linearise(state, last, kernel), data, kernel, FIRST_ORDER_STEPS, True)
