"""Fit of a shape model to radiographs: code, pose, and what the bone is made of, by the difference of pictures.

The bone is drawn from the model's signed distances on a grid: a cortex whose thickness changes along it, marrow inside. A factor
that changes over the picture (scatter makes it lower where tissue is thick) and a smooth background (soft tissue, exposure) are
what the picture leaves open; they are taken out of the residuals by least squares (variable projection, Golub and Pereyra 1973,
with Kaufman's derivative), so that only code, pose and density are searched.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ..core.errors import FitError
from ..core.progress import Progress
from ..fields.evaluation import Shape, signed_distances
from ..fields.projection import Box
from ..geometry.radiograph import Radiograph
from ..geometry.transforms import Similarity
from ..optimise.gauss_newton import damped_gauss_newton
from ..shape_model.model import ShapeModel
from .density import DENSITY, KNOTS, Density, Substance, box_of

# (pixel in the bone's plane, cell of the grid), mm, and steps at most, of each stage.
STAGES = ((5.0, 5.0, 8), (3.0, 3.5, 10), (2.5, 2.5, 5))
# Pixels farther from where the bone is thought to be have no say, mm.
REACH_MM = 18.0
# The background: degrees of Legendre polynomials across and along.
ACROSS, ALONG = 6, 4
# Residuals of so many neighbouring pixels are one measurement: what the model leaves out is smooth.
PIXELS_ALIKE = 12.0
KERNEL = 3.0
# A pixel does not fit if the kernel leaves so little of its weight's root.
STRANGE = 0.2
# Priors: turn from the start, which is as good as a network's; log of the cortex's thickness, marrow.
TURN_NOISE, THICKNESS_NOISE, MARROW, MARROW_NOISE = 0.045, 0.5, 0.25, 0.1
# Steps of differences by pose.
SMALL_TURN, SMALL_SIZE, SMALL_SHIFT_MM = 2e-3, 2e-3, 0.5
# Of pixels: by how much a picture is smoothed, alike to how soft the model's surface is.
SMOOTHING = 0.6
# By how much neighbouring thicknesses differ, in logarithms.
NEIGHBOURS_NOISE = 0.3
SMALLEST_STEP = 0.02


@dataclass(frozen=True)
class View:
    """A radiograph, and how the bone is turned for it from the first one: (3, 3)."""

    picture: Radiograph
    turn: np.ndarray


@dataclass(frozen=True)
class BoneState:
    """Where a fit is.

    Attributes:
        u: (R,) whitened code.
        rotation: (3, 3) from the model's axes to the first picture's.
        scale: mm a model unit.
        shifts: (V, 2) of the bone's centre in each picture's plane, mm.
        cortex_mm: (K,) thickness from the lower to the upper end.
        marrow: density inside, of the cortex's.
    """

    u: torch.Tensor
    rotation: np.ndarray
    scale: float
    shifts: np.ndarray
    cortex_mm: np.ndarray
    marrow: float

    def pose(self, number: int, view: View) -> Similarity:
        """From the model's frame to a view's picture's."""
        return Similarity(self.scale, view.turn @ self.rotation, np.array([*self.shifts[number], 0.0]))

    def stepped(self, step: np.ndarray) -> BoneState:
        """After a step (R + 4 + 2 V + K + 1,): code, turn, log scale, shifts, log thicknesses, marrow."""
        count = len(self.u)
        turn, size, rest = step[count : count + 3], step[count + 3], step[count + 4 :]
        shifts = rest[:-DENSITY].reshape(-1, 2)
        return BoneState(
            self.u + torch.as_tensor(step[:count], dtype=torch.float32),
            Rotation.from_rotvec(turn).as_matrix() @ self.rotation,
            self.scale * float(np.exp(size)),
            self.shifts + shifts,
            self.cortex_mm * np.exp(rest[-DENSITY:-1]),
            self.marrow + float(rest[-1]),
        )


@dataclass(frozen=True)
class BoneFit:
    """A fitted bone.

    Attributes:
        state: see BoneState.
        pose: from the model's frame to the first picture's, mm.
        code: (latent,).
        covariance: (R + 4 + 2 V, ...) posterior of code, turn, log scale, shifts (Laplace).
        explained: share of what the background does not explain of the pictures that the bone does.
        left_out: share of pixels that do not fit.
        iterations: steps in all.
    """

    state: BoneState
    pose: Similarity
    code: torch.Tensor
    covariance: np.ndarray
    explained: float
    left_out: float
    iterations: int

    @property
    def form_deviations(self) -> float:
        """How unusual the form is: 1 for a typical member of the population."""
        return float(self.state.u.norm() / np.sqrt(len(self.state.u)))


def fit_bone(
    views: list[View],
    model: ShapeModel,
    pose: Similarity,
    u: torch.Tensor,
    cortex_mm: np.ndarray,
    progress: Progress | None = None,
    stages: tuple[tuple[float, float, int], ...] = STAGES,
) -> BoneFit:
    """Fit a shape model to radiographs.

    Args:
        views: one or more, of one bone.
        model: of this bone.
        pose: start, from the model's frame to the first picture's, mm.
        u: start of the code, whitened.
        cortex_mm: (2,) usual thickness of the cortex at the ends and in the middle.
        progress: told a step.
        stages: see STAGES.

    Raises:
        FitError: nothing of the bone is in a picture.
    """
    progress = progress or Progress()
    # Of the bone's place in a further view nothing is known but that the picture was taken of it.
    shifts = np.array([pose.translation[:2], *(view.picture.middle_mm for view in views[1:])])
    usual = cortex_mm[0] + (cortex_mm[1] - cortex_mm[0]) * (1 - np.linspace(-1, 1, KNOTS) ** 2)
    state = BoneState(u, pose.rotation, pose.scale, shifts, usual, MARROW)
    iterations = 0
    for number, (pixel_mm, cell_mm, steps) in enumerate(stages):
        problem = _Problem.of(views, model, state, pixel_mm, cell_mm, usual, pose.rotation, number == 0)

        def report(k: int, number: int = number, steps: int = steps) -> None:
            progress((number + k / steps) / len(stages), f"fit to the radiograph, step {k + 1}")

        descent = damped_gauss_newton(state, problem.linearise, problem.step, steps, SMALLEST_STEP, report)
        state, iterations = descent.state, iterations + descent.iterations
    linear = descent.linear
    posterior = np.linalg.inv(linear.matrix)[:-DENSITY, :-DENSITY]
    return BoneFit(state, state.pose(0, views[0]), model.code(state.u), posterior, linear.explained, linear.left_out, iterations)


@dataclass(frozen=True)
class _Linear:
    """Normal equations at a state; see BoneFit for the last two."""

    cost: float
    gradient: np.ndarray
    matrix: np.ndarray
    explained: float
    left_out: float


@dataclass(frozen=True)
class _Rays:
    """The pixels of a view that count: values, places on the detector, and smooth functions for background and factor."""

    view: View
    values: np.ndarray
    ends: np.ndarray
    background: np.ndarray
    gains: np.ndarray
    kernel: float


@dataclass(frozen=True)
class _Problem:
    """What a stage fits."""

    rays: list[_Rays]
    model: ShapeModel
    box: Box
    usual_mm: np.ndarray
    rotation: np.ndarray

    @classmethod
    def of(
        cls,
        views: list[View],
        model: ShapeModel,
        state: BoneState,
        pixel_mm: float,
        cell_mm: float,
        usual: np.ndarray,
        rotation: np.ndarray,
        is_first: bool,
    ) -> _Problem:
        cell = cell_mm / state.scale
        box = box_of(model, state.u, cell)
        rays = [_rays(view, state.pose(k, view), model, state, pixel_mm, box) for k, view in enumerate(views)]
        problem = cls(rays, model, box, usual, rotation)
        drawn = problem._drawn(state, False)
        kernels = []
        for k, one in enumerate(rays):
            lines = drawn.lines(one.view.picture, one.ends, state.pose(k, one.view))[0]
            left = _without(one, lines, np.ones(len(lines)))[0]
            kernels.append(KERNEL * float(left.std() if is_first else 1.4826 * np.median(np.abs(left))))
        return replace(problem, rays=[replace(one, kernel=kernel) for one, kernel in zip(rays, kernels, strict=True)])

    def _drawn(self, state: BoneState, with_derivatives: bool) -> Density:
        substance = Substance(state.u, state.cortex_mm / state.scale, state.marrow)
        return Density.of(self.model, substance, self.box, with_derivatives)

    def linearise(self, state: BoneState) -> _Linear:
        """Normal equations at a state."""
        count = len(state.u)
        size = count + 4 + 2 * len(self.rays) + DENSITY
        cost, gradient, matrix = 0.0, np.zeros(size), np.zeros((size, size))
        explained, left_out = [], []
        drawn = self._drawn(state, True)
        for k, one in enumerate(self.rays):
            pose = state.pose(k, one.view)
            lines = drawn.lines(one.view.picture, one.ends, pose)
            rows = np.zeros((len(one.values), size))
            rows[:, :count] = lines[1 : 1 + count].T
            rows[:, -DENSITY:] = lines[1 + count :].T
            own = slice(count + 4 + 2 * k, count + 6 + 2 * k)
            rows[:, [*range(count, count + 4), *range(own.start, own.stop)]] = _by_pose(drawn, one, state, k)
            weight, left, reduced = _reduced(one, lines[0], rows)
            noise = one.kernel / KERNEL
            scale = 1.0 / (noise**2 * PIXELS_ALIKE)
            square = one.kernel**2 / (one.kernel**2 + left**2)
            cost += 0.5 * scale * float((left**2 * square).sum())
            gradient += scale * reduced.T @ (weight * left)
            matrix += scale * (reduced * weight[:, None]).T @ reduced
            explained.append(1.0 - float((weight * left**2).sum() / (weight * _of_background(one, weight) ** 2).sum()))
            left_out.append(float((square < STRANGE).mean()))
        own_cost, own_gradient, own_matrix = self._priors(state)
        return _Linear(
            cost + own_cost, gradient + own_gradient, matrix + own_matrix, float(np.mean(explained)), float(np.mean(left_out))
        )

    def _priors(self, state: BoneState) -> tuple[float, np.ndarray, np.ndarray]:
        """Cost, gradient and matrix of what is known without a picture."""
        model, count = self.model, len(state.u)
        spread = max(model.mm_per_unit_spread / model.mm_per_unit, 0.03)
        turn = Rotation.from_matrix(state.rotation @ self.rotation.T).as_rotvec()
        aside = np.zeros(2 * len(self.rays))
        thick = np.log(state.cortex_mm / self.usual_mm)
        off = np.concatenate(
            [state.u.numpy(), turn, [np.log(state.scale / model.mm_per_unit)], aside, thick, [state.marrow - MARROW]]
        )
        precision = np.diag(
            np.concatenate(
                [
                    np.ones(count),
                    np.full(3, TURN_NOISE**-2),
                    [spread**-2],
                    aside + 1e-6,
                    np.full(KNOTS, THICKNESS_NOISE**-2),
                    [MARROW_NOISE**-2],
                ]
            )
        )
        steps = np.diff(np.eye(KNOTS), axis=0) / NEIGHBOURS_NOISE
        precision[-DENSITY:-1, -DENSITY:-1] += steps.T @ steps
        return 0.5 * float(off @ precision @ off), precision @ off, precision

    def step(self, state: BoneState, linear: _Linear, damping: float) -> tuple[BoneState, float]:
        """Return the next state, and how far it is from the last in standard deviations of what is searched."""
        damped = linear.matrix + damping * np.diag(linear.matrix.diagonal())
        step = np.linalg.solve(damped, -linear.gradient)
        limit = np.concatenate([np.full(len(state.u), 1.5), np.full(3, 0.12), [0.06], np.full(2 * len(self.rays), 15.0)])
        step[:-DENSITY] = np.clip(step[:-DENSITY], -limit, limit)
        step[-DENSITY:] = np.clip(step[-DENSITY:], -0.3, 0.3)
        return state.stepped(step), float(np.sqrt((step * (linear.matrix @ step)).sum() / len(step)))


def _rays(view: View, pose: Similarity, model: ShapeModel, state: BoneState, pixel_mm: float, box: Box) -> _Rays:
    small = view.picture.in_bone_plane(pixel_mm, smoothing=SMOOTHING)
    near = box.points()[::7]
    near = near[signed_distances(Shape.of(model, model.code(state.u)), near) < 0.01]
    at, inside = small.within(pose.apply(near))
    mask = np.zeros(small.attenuation.shape, bool)
    if inside.mean() < 0.3:
        raise FitError("The bone is not in the radiograph where it was looked for; choose the part of the picture that shows it.")
    mask[at[inside, 1], at[inside, 0]] = True
    mask = ndimage.distance_transform_edt(~mask) * pixel_mm < REACH_MM
    mask &= small.exposed()
    row, column = np.nonzero(mask)
    pixels = np.stack([column, row], axis=1).astype(float)
    scaled = 2 * (pixels - pixels.min(axis=0)) / np.maximum(np.ptp(pixels, axis=0), 1) - 1
    across = np.polynomial.legendre.legvander(scaled[:, 0], ACROSS)
    along = np.polynomial.legendre.legvander(scaled[:, 1], ALONG)
    background = (across[:, :, None] * along[:, None]).reshape(len(pixels), -1)
    gains = np.column_stack([np.ones(len(pixels)), scaled[:, 0], scaled[:, 0] ** 2, scaled[:, 1]])
    return _Rays(view, small.attenuation[mask].astype(float), small.on_detector(pixels), background, gains, np.inf)


def _by_pose(drawn: Density, rays: _Rays, state: BoneState, number: int) -> np.ndarray:
    """(N, 6) derivative of the line integrals by turn, log scale and the view's shift, by central differences."""
    count, columns = len(state.u), []
    size = count + 4 + 2 * len(state.shifts) + DENSITY
    places = [*range(count, count + 4), count + 4 + 2 * number, count + 5 + 2 * number]
    for place, small in zip(places, [SMALL_TURN] * 3 + [SMALL_SIZE] + [SMALL_SHIFT_MM] * 2, strict=True):
        step = np.zeros(size)
        step[place] = small
        ahead, behind = (
            drawn.lines(rays.view.picture, rays.ends, state.stepped(sign * step).pose(number, rays.view), 1)[0]
            for sign in (1, -1)
        )
        columns.append((ahead - behind) / (2 * small))
    return np.column_stack(columns)


def _basis(rays: _Rays, lines: np.ndarray) -> np.ndarray:
    """What a picture is made of, but for unknown factors: the bone's lines and their square, and the background."""
    return np.column_stack([rays.gains * lines[:, None], lines**2, rays.background])


def _of_background(rays: _Rays, weight: np.ndarray) -> np.ndarray:
    """(N,) what the background alone leaves of the values."""
    root = np.sqrt(weight)
    found = np.linalg.lstsq(rays.background * root[:, None], rays.values * root, rcond=None)[0]
    return rays.values - rays.background @ found


def _without(rays: _Rays, lines: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the picture leaves of its values beyond the bone's lines and the background, weighted; the basis; factor of lines."""
    basis = _basis(rays, lines)
    basis = basis / np.maximum(np.linalg.norm(basis, axis=0), 1e-12)
    root = np.sqrt(weight)[:, None]
    q, _ = np.linalg.qr(basis * root)
    left = rays.values * root[:, 0]
    left = (left - q @ (q.T @ left)) / np.maximum(root[:, 0], 1e-6)
    return left, q, root[:, 0]


def _reduced(rays: _Rays, lines: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Robust weights, residuals, and derivatives of the residuals with the linear unknowns taken out.

    Geman-McClure, as in the fit to points; the weights are found together with the linear unknowns.
    """
    weight = np.ones(len(lines))
    for _ in range(4):
        left, q, root = _without(rays, lines, weight)
        weight = (rays.kernel**2 / (rays.kernel**2 + left**2)) ** 2
    left, q, root = _without(rays, lines, weight)
    basis = _basis(rays, lines)
    coefficients = np.linalg.lstsq(basis * root[:, None], rays.values * root, rcond=None)[0]
    count = rays.gains.shape[1]
    slope = rays.gains @ coefficients[:count] + 2 * coefficients[count] * lines
    moved = slope[:, None] * rows * root[:, None]
    reduced = -(moved - q @ (q.T @ moved)) / np.maximum(root, 1e-6)[:, None]
    return weight, left, reduced
