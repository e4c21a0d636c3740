"""The fit's last step: shape and patient motion from the pictures' tracks themselves, without triangulated points between.

A patient breathes and sways while the phone goes around; points triangulated from several moments are then wrong along
the rays, by ten times the movement. Here every track keeps its ray: the ray of the reference frame meets the model's
zero level, the point moves with the patient to the other frames' moments, and what counts is how far it then lies from
where it was seen there. Code, similarity and the motion of every frame are found together by damped Gauss-Newton.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..core.progress import Progress
from ..fields.evaluation import ROUGH_WEIGHT, Shape, derivatives, distances_and_gradients, signed_distances
from ..optimise.gauss_newton import damped_gauss_newton
from ..optimise.sums import sum_rows
from .fit import FitSettings, ShapeFit, State, by_similarity, priors
from .model import ShapeModel
from .tracks import MOTION_NOISE, MOTIONS, TrackFit, Tracks, motion_basis

# Tracks that lie farther from the fitted surface (9 mm) are another thing's.
LARGEST_DISTANCE = 0.03
FEWEST_TRACKS = 500
# Side of the patches over which tracks are spread, 6 mm.
PATCH = 0.02


@dataclass(frozen=True)
class TrackSettings:
    """What is assumed of tracks.

    Attributes:
        tracks: how many are used.
        pixel_noise: standard deviation of a sighting, pixels.
        kernel: scale of the robust kernel, pixels.
        independent_tracks: how many independent ones all are worth; neighbours err alike.
        smallest_cosine: between ray and normal; rays that graze the surface say little.
        largest_iterations: Gauss-Newton steps.
        smallest_step: median movement of the surface along the rays that ends the fit, model units.
    """

    tracks: int = 6000
    pixel_noise: float = 0.5
    kernel: float = 1.0
    independent_tracks: float = 1000.0
    smallest_cosine: float = 0.25
    largest_iterations: int = 15
    smallest_step: float = 1e-4
    seed: int = 0


@dataclass(frozen=True)
class _Joint:
    """State of the joint fit: shape and similarity, (F, MOTIONS) motions, (T,) depths."""

    state: State
    motion: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True)
class _Normal:
    """Normal equations over code, similarity and motions, and what they were made at."""

    cost: float
    gradient: np.ndarray
    matrix: np.ndarray
    intersection: _Intersection


def refine_by_tracks(
    fit: ShapeFit,
    tracks: Tracks,
    landmarks_model: np.ndarray,
    model: ShapeModel,
    fit_settings: FitSettings,
    settings: TrackSettings | None = None,
    progress: Progress | None = None,
) -> TrackFit:
    """Refine a fit by the tracks, together with the motion of the patient.

    With a reference ray o + s r and the model's zero level f(x; u) = 0, the implicit function theorem gives how the depth s
    follows code, similarity and the reference frame's motion; so every track adds one row to the Gauss-Newton matrix.

    Args:
        fit: by `fit_shape`.
        tracks: in the aligned model frame, chosen by `usable_tracks`.
        landmarks_model: (6, 3) in the same frame.
        model: the shape model.
        fit_settings: the priors besides the tracks.
        settings: see TrackSettings.
        progress: reported an iteration.

    Returns:
        the refined fit; unchanged, without motion, if the tracks are too few.

    Raises:
        FitError: no finite solution.
    """
    settings, progress = settings or TrackSettings(), progress or Progress()
    if len(tracks.depth) < FEWEST_TRACKS:
        return TrackFit.without_tracks(fit, len(tracks.center))
    state = State(model.whitened(torch.from_numpy(fit.code)), fit.refinement)
    joint = _Joint(state, np.zeros((len(tracks.center), MOTIONS)), tracks.depth)
    problem = _Problem(tracks, landmarks_model, model, fit_settings, settings)
    descent = damped_gauss_newton(
        joint,
        lambda at: _linearise(at, problem),
        lambda at, linear, damping: _stepped(at, linear, damping, tracks),
        settings.largest_iterations,
        settings.smallest_step,
        lambda step: progress(step / settings.largest_iterations, f"fit to the pictures, step {step + 1}"),
    )
    joint = descent.state
    shape = Shape.of(model, model.code(joint.state.u))
    size = len(joint.state.u) + 7
    refined = replace(
        fit,
        code=shape.code.numpy(),
        refinement=joint.state.similarity,
        anchors_model=shape.anchors_model,
        iterations=fit.iterations + descent.iterations,
        converged=descent.converged,
        prior_distance=float(joint.state.u.norm() / np.sqrt(len(joint.state.u))),
        covariance=np.linalg.inv(descent.linear.matrix)[:size, :size].astype(np.float32),
    )
    places, offsets = _offsets(joint, descent.linear.intersection, shape, problem)
    return TrackFit(refined, joint.motion, len(tracks.depth), places, offsets)


def _offsets(joint: _Joint, intersection: _Intersection, shape: Shape, problem: _Problem) -> tuple[np.ndarray, np.ndarray]:
    """Places and offsets of TrackFit: a track's own best depth, the shape held, is one Gauss-Newton step from the surface."""
    sums, similarity = _sum_sightings(joint, intersection, problem), joint.state.similarity
    used = intersection.steep & (sums.information > 0)
    along_ray = -sums.moment[used] / sums.information[used] * similarity.scale
    places = similarity.apply(intersection.rest[used])
    _, gradient = distances_and_gradients(shape, places)
    normals = gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-9)
    rays = similarity.apply_directions(problem.tracks.rays()[used])
    return places, along_ray * (rays * normals).sum(axis=1)


@dataclass(frozen=True)
class _Problem:
    """What is given."""

    tracks: Tracks
    landmarks: np.ndarray
    model: ShapeModel
    fit_settings: FitSettings
    settings: TrackSettings


def usable_tracks(fit: ShapeFit, tracks: Tracks, model: ShapeModel, settings: TrackSettings) -> Tracks:
    """Choose tracks that lie near the fitted surface, at most `settings.tracks`, spread evenly over it."""
    shape = Shape.of(model, torch.from_numpy(fit.code))
    points = fit.refinement.apply(tracks.points_model())
    near = np.flatnonzero(np.abs(signed_distances(shape, points, ROUGH_WEIGHT)) < LARGEST_DISTANCE)
    return tracks.only(_spread(tracks, near, settings))


def _spread(tracks: Tracks, usable: np.ndarray, settings: TrackSettings) -> np.ndarray:
    """Choose tracks evenly over the surface, however often each part of it was filmed."""
    points = tracks.only(usable).points_model()
    order = np.random.default_rng(settings.seed).permutation(len(usable))
    cell = np.unique(np.floor(points[order] / PATCH).astype(int), axis=0, return_inverse=True)[1].ravel()
    by_cell = np.argsort(cell, kind="stable")
    first = np.searchsorted(cell[by_cell], cell[by_cell])
    rank = np.empty(len(cell), int)
    rank[by_cell] = np.arange(len(cell)) - first
    return usable[order[np.argsort(rank, kind="stable")[: settings.tracks]]]


@dataclass(frozen=True)
class _Intersection:
    """Where the reference rays meet the zero level, and how that depth follows code and similarity, and motion.

    Attributes:
        rest: (T, 3) points of the patient at rest, aligned frame.
        basis: (T, 3, MOTIONS) displacement by the motion parameters.
        depth: (T,) along the ray.
        by_theta: (T, R + 7) derivative of the depth.
        by_motion: (T, MOTIONS) derivative by the reference frame's motion.
        steep: (T,) False where the ray grazes the surface; such tracks do not count.
    """

    rest: np.ndarray
    basis: np.ndarray
    depth: np.ndarray
    by_theta: torch.Tensor
    by_motion: np.ndarray
    steep: np.ndarray


def _intersect(joint: _Joint, shape: Shape, problem: _Problem) -> _Intersection:
    tracks, similarity = problem.tracks, joint.state.similarity
    reference, rays = tracks.frames[:, 0], tracks.rays()
    # The patient's point at rest: on the ray, less the patient's motion at the reference frame's moment.
    at_moment = tracks.center[reference] + joint.depth[:, None] * rays
    basis = motion_basis(at_moment)
    rest = at_moment - np.einsum("tij,tj->ti", basis, joint.motion[reference])
    moved = torch.as_tensor(similarity.apply(rest), dtype=torch.float32)
    at = derivatives(shape, moved)
    by_rest = at.by_point.double().numpy() @ (similarity.scale * similarity.rotation)
    by_depth = (by_rest * rays).sum(axis=1)
    grazing = problem.settings.smallest_cosine * np.linalg.norm(by_rest, axis=1) * np.linalg.norm(rays, axis=1)
    steep = np.abs(by_depth) > grazing
    slope = np.where(steep, 1.0 / np.where(steep, by_depth, 1.0), 0.0)
    change = -at.distance.double().numpy() * slope  # one Newton step onto the zero level
    rows = torch.cat([at.by_code, by_similarity(at.by_point, moved)], dim=1)
    return _Intersection(
        rest=rest + change[:, None] * rays,
        basis=basis,
        depth=joint.depth + change,
        by_theta=-rows * torch.as_tensor(slope, dtype=torch.float32)[:, None],
        by_motion=np.einsum("ti,tij->tj", by_rest, basis) * slope[:, None],
        steep=steep,
    )


class _Sums:
    """What the sightings add to the normal equations: by depth, by motion (MOTIONS a frame), and mixed."""

    def __init__(self, tracks: int, frames: int):
        self.cost = 0.0
        self.information, self.moment = np.zeros(tracks), np.zeros(tracks)
        self.mixed = np.zeros((tracks, MOTIONS * frames))
        self.matrix, self.gradient = np.zeros((MOTIONS * frames,) * 2), np.zeros(MOTIONS * frames)

    def add(self, weight: np.ndarray, error: np.ndarray, by_depth: np.ndarray, by_motions: list) -> None:
        """Add one sighting a track.

        Args:
            weight: (T,).
            error: (T, 2) on the plane z = 1.
            by_depth: (T, 2) its derivative by the depth.
            by_motions: pairs of (T,) frame and (T, 2, MOTIONS) derivative by that frame's motion.
        """
        self.information += weight * (by_depth**2).sum(axis=1)
        self.moment += weight * (by_depth * error).sum(axis=1)
        row, frames = np.arange(len(weight))[:, None], len(self.gradient) // MOTIONS
        for frame, by_motion in by_motions:
            weighted = weight[:, None, None] * by_motion
            # A track's two frames are different ones, so no place is met twice.
            self.mixed[row, MOTIONS * frame[:, None] + np.arange(MOTIONS)] += np.einsum("ti,tij->tj", by_depth, weighted)
            self.gradient += sum_rows(frame, frames, np.einsum("ti,tij->tj", error, weighted)).ravel()
            for other, by_other in by_motions:
                products = np.einsum("tki,tkj->tij", weighted, by_other).reshape(len(weight), -1)
                pair = sum_rows(frame * frames + other, frames**2, products)
                self.matrix += pair.reshape(frames, frames, MOTIONS, MOTIONS).transpose(0, 2, 1, 3).reshape(self.matrix.shape)


def _sum_sightings(joint: _Joint, intersection: _Intersection, problem: _Problem) -> _Sums:
    tracks, settings = problem.tracks, problem.settings
    rays, reference = tracks.rays(), tracks.frames[:, 0]
    scale, kernel = (tracks.focal_px / settings.pixel_noise) ** 2, settings.kernel / tracks.focal_px
    sums = _Sums(len(rays), len(tracks.center))
    for sighting in range(1, tracks.frames.shape[1]):
        present = (tracks.frames[:, sighting] >= 0) & intersection.steep
        frame = np.where(present, tracks.frames[:, sighting], 0)
        rotation = tracks.rotation[frame]
        there = intersection.rest + np.einsum("tij,tj->ti", intersection.basis, joint.motion[frame]) - tracks.center[frame]
        in_camera = np.einsum("tij,tj->ti", rotation, there)
        depth = np.maximum(in_camera[:, 2], 1e-3)
        projected = in_camera[:, :2] / depth[:, None]
        error = np.where(present[:, None], projected - np.nan_to_num(tracks.seen[:, sighting]), 0.0)
        by_point = (rotation[:, :2] - projected[:, :, None] * rotation[:, 2:]) / depth[:, None, None]
        by_depth = np.einsum("tij,tj->ti", by_point, rays)
        by_motion = by_point @ intersection.basis
        by_reference_motion = by_depth[:, :, None] * intersection.by_motion[:, None] - by_motion
        # Geman-McClure, as in `fit`.
        squared = (error**2).sum(axis=1)
        robust = kernel**2 / (kernel**2 + squared)
        sums.cost += 0.5 * float((present * scale * robust * squared).sum())
        weight = present * scale * robust**2
        sums.add(weight, error, by_depth, [(reference, by_reference_motion), (frame, by_motion)])
    return sums


def _linearise(joint: _Joint, problem: _Problem) -> _Normal:
    model, motion = problem.model, joint.motion.ravel()
    shape = Shape.of(model, model.code(joint.state.u))
    intersection = _intersect(joint, shape, problem)
    sums = _sum_sightings(joint, intersection, problem)
    prior = priors(joint.state, shape, problem.landmarks, problem.fit_settings)
    # All tracks together are worth `independent_tracks`.
    share = problem.settings.independent_tracks / len(intersection.depth)
    by_theta, size = intersection.by_theta, intersection.by_theta.shape[1]
    information, moment, mixed = (
        torch.as_tensor(share * values, dtype=torch.float32) for values in (sums.information, sums.moment, sums.mixed)
    )
    precision = np.tile(1.0 / np.square(MOTION_NOISE), len(problem.tracks.center))
    matrix = np.zeros((size + len(motion),) * 2)
    matrix[:size, :size] = ((by_theta * information[:, None]).T @ by_theta + prior.matrix).numpy()
    matrix[:size, size:] = (by_theta.T @ mixed).numpy()
    matrix[size:, :size] = matrix[:size, size:].T
    matrix[size:, size:] = share * sums.matrix + np.diag(precision)
    gradient = np.concatenate([(by_theta.T @ moment + prior.gradient).numpy(), share * sums.gradient + precision * motion])
    cost = share * sums.cost + prior.cost + 0.5 * float(precision @ motion**2)
    return _Normal(cost, gradient.astype(float), matrix, intersection)


def _stepped(joint: _Joint, linear: _Normal, damping: float, tracks: Tracks) -> tuple[_Joint, float]:
    """Return the state after a damped step, and the median movement of the surface along the rays."""
    step = np.linalg.solve(linear.matrix + damping * np.diag(linear.matrix.diagonal()), -linear.gradient)
    size = linear.intersection.by_theta.shape[1]
    theta, motion = torch.as_tensor(step[:size], dtype=torch.float32), step[size:].reshape(-1, MOTIONS)
    by_shape = (linear.intersection.by_theta @ theta).double().numpy()
    by_motion = (linear.intersection.by_motion * motion[tracks.frames[:, 0]]).sum(axis=1)
    moved = _Joint(joint.state.stepped(theta), joint.motion + motion, linear.intersection.depth + by_shape + by_motion)
    return moved, float(np.median(np.abs(by_shape)))
