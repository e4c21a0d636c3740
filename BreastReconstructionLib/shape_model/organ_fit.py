"""Fit of an organ's model to what is known of one: its whole surface, a part of it, or a few contours; with or without landmarks.

Without landmarks, the pose is searched: the patient's own axes first, then the principal axes of the points against those of the
mean shape, each from several places; the best few are fitted coarsely, the best of these to the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations, product

import numpy as np
import torch
from scipy.spatial import cKDTree

from ..core.errors import FitError, LandmarkError
from ..core.progress import Progress
from ..fields.evaluation import Shape, signed_distances
from ..geometry.transforms import MODEL_AXES_TO_RAS, Frame, Similarity, fit_similarity
from ..mesh.extraction import cells_for, extract_zero_level
from ..mesh.mesh import TriangleMesh, connected_parts, triangle_areas, vertex_normals
from ..mesh.own_frame import ROOT_MEAN_SQUARE
from ..mesh.patch import signed_volume
from .fit import FitSettings, ShapeFit, deviation_along, fit_shape, surface_rows
from .model import ShapeModel
from .sampling import mesh_of_code

FEWEST_POINTS, MOST_POINTS = 200, 12_000
# Poses are judged at so few points, with a kernel as wide as a half of a partial organ may be misplaced.
JUDGED_POINTS, JUDGED_KERNEL = 200, 0.15
SHIFTS = (-0.35, 0.0, 0.35)
TRIED = 10
# A pose in the patient's axes is right if so much of the points lies this near to the shape; else others are tried too.
GOOD_SHARE, ENOUGH_SHARE, GOOD = 0.8, 0.9, 0.02
# What a standard deviation of form or size costs of that share.
UNUSUAL_COST = 0.03
# Principal axes have two signs each, and their order changes where two are about as long: the 24 rotations of a cube.
TURNS = tuple(
    turn
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
    if np.linalg.det(turn := np.eye(3)[list(order)] * signs) > 0
)
COARSE_STAGES: tuple[tuple[int, float | None], ...] = ((400, 0.2), (600, 0.08))
# Nothing but the population is known of the pose beyond the start: a third of a radian, a fifth of a unit.
POSE_NOISE, POSE_SHIFT = 0.3, 0.2
SEEN_MM, SPARSE_FACTOR = 4.0, 2.0
UNSEEN = 0.1
# Standard deviations of form and size, and model units, beyond which it is another organ; and how much better the mirrored points
# must fit: on 14 whole lungs the product of residual and form was smaller for the right side by 1.4 and more; of a half it is no
# sign.
SMALLEST_SPREAD, IMPOSSIBLE_SIZE = 0.05, 8.0
UNUSUAL, UNUSUAL_SIZE, MISFIT, MIRRORED, ENOUGH_SEEN = 2.1, 4.0, 0.02, 0.75, 0.7
# Levels below the surface at which bodies that touch may be apart, model units; and how near to the middle they are brought back.
PARTING_DEPTHS, MIDDLE, SMALLEST_BODY = (0.005, 0.01, 0.02), 0.4, 0.05


@dataclass(frozen=True)
class Observation:
    """What is known of an organ.

    Attributes:
        points_ras: (N, 3) on its surface, mm.
        landmarks_ras: names -> (3,), may be empty.
        left_out: share of the surface given that is a cut and no surface of the organ.
        notes: what was repaired, in words.
    """

    points_ras: np.ndarray
    landmarks_ras: dict[str, np.ndarray]
    left_out: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FittedOrgan:
    """A model's shape, fitted.

    Attributes:
        fit: code and similarity.
        start: from patient space to the model frame in which the fit began.
        bodies: closed, patient space, from the patient's left to right; scalars `uncertainty_mm` and `seen` (0 or 1).
        volume_ml, volume_uncertainty_ml: of all bodies.
        seen_share: of the surface.
        residual_mm: median distance of the points from it.
        from_mean_mm: mean distance of the points from the model's mean shape in the same pose.
        warnings: what speaks against it.
    """

    fit: ShapeFit
    start: Similarity
    bodies: tuple[TriangleMesh, ...]
    volume_ml: float
    volume_uncertainty_ml: float
    seen_share: float
    residual_mm: float
    from_mean_mm: float
    warnings: tuple[str, ...]

    @property
    def model_to_patient(self) -> Similarity:
        """From the fitted shape's model frame to patient space."""
        return self.fit.refinement.after(self.start).inverse()


def settings_for(model: ShapeModel, has_landmarks: bool) -> FitSettings:
    """Return what a fit of a model assumes; landmarks fix the pose as those of the torso do."""
    if has_landmarks:
        return FitSettings()
    return FitSettings(similarity_noise=(POSE_NOISE, POSE_SHIFT, _relative_spread(model)))


def unknown_landmarks(model: ShapeModel) -> np.ndarray:
    """Return (K, 3) landmarks of which nothing is known, for a fit."""
    return np.full((len(model.landmark_names), 3), np.nan)


def _relative_spread(model: ShapeModel) -> float:
    """Of sizes in the population."""
    return max(model.mm_per_unit_spread / model.mm_per_unit, SMALLEST_SPREAD)


def _fit_from(
    start: Similarity, points_ras: np.ndarray, marks: np.ndarray, model: ShapeModel, settings: FitSettings, progress: Progress
) -> ShapeFit:
    """Fit from a pose, whatever its size; the size that is expected is the population's, unless landmarks decide.

    Points are no better than what the model can express: a model of few organs would else go far from its population for them.
    """
    if not np.isfinite(marks).any():
        settings = replace(settings, expected_log_scale=-float(np.log(start.scale * model.mm_per_unit)))
    noise = np.full(len(points_ras), model.expression_error)
    return fit_shape(start.apply(points_ras), marks, model, settings, progress, noise)


def fit_organ(observed: Observation, model: ShapeModel, detail_mm: float = 2.0, progress: Progress | None = None) -> FittedOrgan:
    """Fit a model to what is known of an organ.

    Args:
        observed: see Observation.
        model: of this organ.
        detail_mm: size of the triangles of the result.
        progress: told how far it is.

    Raises:
        FitError: too few points, or another organ.
        LandmarkError: landmarks that the model does not know.
    """
    progress = progress or Progress()
    if len(observed.points_ras) < FEWEST_POINTS:
        raise FitError(f"Only {len(observed.points_ras)} points are known of the organ; give {FEWEST_POINTS} at least.")
    order = np.random.default_rng(3).permutation(len(observed.points_ras))[:MOST_POINTS]
    points = observed.points_ras[order]
    names = [name for name in model.landmark_names if name in observed.landmarks_ras]
    if observed.landmarks_ras and len(names) < 3:
        known = ", ".join(model.landmark_names)
        raise LandmarkError(
            f"The model knows the landmarks {known}; give three of them at least, or no landmarks."
            if known
            else "The model has no landmarks; leave the landmark file out, the pose is found without."
        )
    marks = unknown_landmarks(model)
    settings = settings_for(model, len(names) >= 3)
    if len(names) >= 3:
        placed = np.array([observed.landmarks_ras[name] for name in names])
        chosen = [model.landmark_names.index(name) for name in names]
        start = fit_similarity(placed, model.network.mean_anchors.numpy()[chosen].astype(float))
        marks[chosen] = start.apply(placed)
    else:
        start = find_pose(points, model, settings, progress.part(0.0, 0.4))
    progress(0.4, "fit")
    fit = _fit_from(start, points, marks, model, settings, progress.part(0.4, 0.8))
    deviation = _size_deviation(fit.refinement.after(start), model)
    if deviation > IMPOSSIBLE_SIZE:
        off = np.abs(signed_distances(Shape.of(model, model.latent_mean), start.apply(points))).mean() / start.scale
        raise FitError(
            f"What is given is not the {model.organ}: it lies {off:.0f} mm from the model's mean, and to fit it the model's "
            f"size would have to differ by {deviation:.0f} standard deviations. Choose the right segment, or another model."
        )
    progress(0.8, "surface")
    return _delivered(observed, points, model, start, fit, detail_mm)


def find_pose(points_ras: np.ndarray, model: ShapeModel, settings: FitSettings, progress: Progress | None = None) -> Similarity:
    """Return the map from patient space to the model frame that lets a coarse fit of the model come nearest to the points."""
    progress = progress or Progress()
    own = _candidates(points_ras, model, [MODEL_AXES_TO_RAS.T])
    best = _best_of(own, points_ras, model, settings)
    if best[0] >= GOOD_SHARE:
        return best[1]
    progress(0.5, "other orientations")
    _, _, axes = np.linalg.svd(points_ras - points_ras.mean(axis=0), full_matrices=False)
    mean = mesh_of_code(model, model.latent_mean, 0.06).mesh.vertices
    _, _, mean_axes = np.linalg.svd(mean - mean.mean(axis=0), full_matrices=False)
    axes[2] *= np.linalg.det(axes)
    mean_axes[2] *= np.linalg.det(mean_axes)
    turned = _candidates(points_ras, model, [mean_axes.T @ turn @ axes for turn in TURNS])
    other = _best_of(turned, points_ras, model, settings)
    return max(best, other, key=lambda pair: pair[0])[1]


def _candidates(points_ras: np.ndarray, model: ShapeModel, rotations: list[np.ndarray]) -> list[Similarity]:
    """Starts: by orientation, place, and size (the population's, or that of a whole organ)."""
    center = points_ras.mean(axis=0)
    radius = float(np.sqrt(((points_ras - center) ** 2).sum(axis=1).mean()))
    usual, spread = 1.0 / model.mm_per_unit, 3 * model.mm_per_unit_spread / model.mm_per_unit
    scales = {usual, float(np.clip(ROOT_MEAN_SQUARE / radius, usual * (1 - spread), usual * (1 + spread)))}
    return [
        Similarity(scale, rotation, np.array(shift) - scale * rotation @ center)
        for rotation, shift, scale in product(rotations, product(SHIFTS, repeat=3), sorted(scales))
    ]


def _best_of(
    candidates: list[Similarity], points_ras: np.ndarray, model: ShapeModel, settings: FitSettings
) -> tuple[float, Similarity]:
    """The share of points near to a coarse fit from the best start, and where that fit ended."""
    few = points_ras[:JUDGED_POINTS]
    shape = Shape.of(model, model.latent_mean)
    moved = np.concatenate([candidate.apply(few) for candidate in candidates])
    square = signed_distances(shape, moved).reshape(len(candidates), -1) ** 2
    cost = (square / (square + JUDGED_KERNEL**2)).mean(axis=1)
    coarse = replace(settings, stages=COARSE_STAGES)
    none = unknown_landmarks(model)
    found = []
    for number in _tried(candidates, cost):
        start = candidates[number]
        fit = _fit_from(start, points_ras, none, model, coarse, Progress())
        end = fit.refinement.after(start)
        off = np.abs(signed_distances(Shape.of(model, torch.from_numpy(fit.code)), end.apply(points_ras[:1000])))
        # In mm: where the whole cloud shrinks to a spot, everything is near in model units.
        near = float((off / end.scale < GOOD * model.mm_per_unit).mean())
        found.append((near - UNUSUAL_COST * (fit.prior_distance + _size_deviation(end, model)), end))
        if found[-1][0] > ENOUGH_SHARE:
            break
    return max(found, key=lambda pair: pair[0])


def _tried(candidates: list[Similarity], cost: np.ndarray) -> list[int]:
    """The candidates of lowest cost: several of one orientation, or the best of each."""
    order = [int(number) for number in np.argsort(cost)]
    if all(candidate.rotation is candidates[0].rotation for candidate in candidates):
        return order[:TRIED]
    best: dict[int, int] = {}
    for number in order:
        best.setdefault(id(candidates[number].rotation), number)
    return list(best.values())


def _delivered(
    observed: Observation, points: np.ndarray, model: ShapeModel, start: Similarity, fit: ShapeFit, detail_mm: float
) -> FittedOrgan:
    """The fit's surface with what is known of its errors."""
    to_patient = fit.refinement.after(start).inverse()
    mm = to_patient.scale
    shape = mesh_of_code(model, torch.from_numpy(fit.code), detail_mm / mm).mesh
    rows = surface_rows(fit, model, shape.vertices)
    posterior = model.posterior_factor * deviation_along(rows, fit)
    mesh = replace(shape, scalars={"uncertainty_mm": np.hypot(posterior, model.expression_error) * mm})
    deviation_ml = volume_deviation_ml(rows, fit, shape, mm)
    shape, were_joined = _parted(mesh, model, fit, detail_mm / mm)
    mesh = shape.moved(to_patient, Frame.PATIENT)
    seen = _seen(mesh, points).astype(float)
    seen_share = float(np.average(seen, weights=_areas(mesh)))
    labels = connected_parts(mesh.faces, len(mesh.vertices))
    mesh = replace(mesh, scalars={**mesh.scalars, "seen": seen})
    bodies = [mesh.part(labels == label) for label in range(labels.max() + 1)]
    bodies.sort(key=lambda body: body.vertices[:, 0].mean())
    volume = sum(signed_volume(body.vertices, body.faces) for body in bodies) / 1000.0
    aligned = fit.refinement.after(start).apply(points)
    from_mean = float(np.abs(signed_distances(Shape.of(model, model.latent_mean), aligned)).mean() * mm)
    return FittedOrgan(
        fit,
        start,
        tuple(bodies),
        volume,
        float(np.hypot(deviation_ml * model.volume_factor, model.volume_error * volume)),
        seen_share,
        fit.residual_median * mm,
        from_mean,
        (
            *(f"{note[0].upper()}{note[1:]}." for note in observed.notes),
            *_warnings_of_bodies([float(body.scalars["seen"].mean()) for body in bodies], model, were_joined),
            *_warnings_of_form(points, model, start, fit, from_mean, seen_share),
        ),
    )


def _areas(mesh: TriangleMesh) -> np.ndarray:
    """(V,) a third of the area of the triangles at each vertex."""
    area = triangle_areas(mesh.vertices, mesh.faces)
    return np.bincount(mesh.faces.ravel(), np.repeat(area / 3.0, 3), len(mesh.vertices))


def _seen(mesh: TriangleMesh, points: np.ndarray) -> np.ndarray:
    """(V,) True where a point lies as near as the points lie to each other, or nearer than SEEN_MM."""
    tree = cKDTree(points)
    apart = np.median(tree.query(points[:2000], k=2)[0][:, 1])
    return tree.query(mesh.vertices)[0] < max(SEEN_MM, SPARSE_FACTOR * apart)


def volume_deviation_ml(rows: torch.Tensor, fit: ShapeFit, shape: TriangleMesh, mm: float) -> float:
    """Return the fit's posterior carried to the volume, ml: it changes by the integral of the surface's movement.

    Args:
        rows: of `surface_rows` at the vertices.
        fit: see there.
        shape: the surface, model frame.
        mm: a model unit.
    """
    by_parameters = torch.as_tensor(_areas(shape), dtype=torch.float32) @ rows
    # A rigid movement leaves the volume as it is; what is summed there is the triangles' error.
    by_parameters[-7:-1] = 0.0
    return float(deviation_along(by_parameters[None], fit)[0]) * mm**3 / 1000.0


def _parted(shape: TriangleMesh, model: ShapeModel, fit: ShapeFit, cell: float) -> tuple[TriangleMesh, bool]:
    """The shape, model frame, with bodies that touch parted, and whether they were; as it is if they do not come apart.

    Bodies that are nearer to each other than the fit is right can grow together. They are apart a little below the surface: that
    level is carried back outward, but nowhere farther than to the middle between them.
    """
    count = lambda mesh: connected_parts(mesh.faces, len(mesh.vertices)).max() + 1
    if count(shape) >= model.parts:
        return shape, False
    field = Shape.of(model, torch.from_numpy(fit.code)).field()
    for depth in PARTING_DEPTHS:
        below = replace(field, distance=lambda points, depth=depth: field.distance(points) + depth)
        try:
            level = extract_zero_level(below, cells_for(cell, field.side))
        except FitError:
            break
        labels = connected_parts(level.faces, len(level.vertices))
        sizes = np.bincount(labels)
        if (sizes > SMALLEST_BODY * sizes.max()).sum() != model.parts:
            continue
        kept = np.isin(labels, np.flatnonzero(sizes > SMALLEST_BODY * sizes.max()))
        mesh = TriangleMesh(level.vertices, level.faces, Frame.MODEL).part(kept)
        labels, normals = connected_parts(mesh.faces, len(mesh.vertices)), vertex_normals(mesh.vertices, mesh.faces)
        room = np.full(len(mesh.vertices), np.inf)
        for label in range(labels.max() + 1):
            own = labels == label
            room[own] = cKDTree(mesh.vertices[~own]).query(mesh.vertices[own])[0]
        vertices = mesh.vertices + normals * np.minimum(depth, MIDDLE * room)[:, None]
        nearest = cKDTree(shape.vertices).query(vertices)[1]
        scalars = {name: values[nearest] for name, values in shape.scalars.items()}
        return TriangleMesh(vertices, mesh.faces, Frame.MODEL, vertex_normals(vertices, mesh.faces), scalars=scalars), True
    return shape, False


def _warnings_of_bodies(seen_shares: list[float], model: ShapeModel, were_joined: bool) -> list[str]:
    """What the user should know of the bodies."""
    said = []
    if were_joined:
        said.append(
            "The bodies touched in the fitted shape and were parted in the middle between them: their gap is not measured."
        )
    if len(seen_shares) != model.parts:
        said.append(f"The fitted shape has {len(seen_shares)} bodies where the model has {model.parts}: it is not to be trusted.")
    for number, share in enumerate(seen_shares):
        if share < UNSEEN:
            said.append(
                f"Of body {number + 1} of {len(seen_shares)}, from the patient's left, {100 * share:.0f} % is given: the rest "
                "of it is the model's prediction."
            )
    return said


def _is_mirrored(points: np.ndarray, model: ShapeModel, fit: ShapeFit) -> bool:
    """Whether the points fit the model better with left and right exchanged."""
    settings, none = settings_for(model, False), unknown_landmarks(model)
    mirrored = points * [-1.0, 1.0, 1.0]
    again = _fit_from(find_pose(mirrored, model, settings), mirrored, none, model, settings, Progress())
    return again.residual_mean * again.prior_distance < MIRRORED * fit.residual_mean * fit.prior_distance


def _size_deviation(to_model: Similarity, model: ShapeModel) -> float:
    """By how many standard deviations of the population a size differs from the mean."""
    return abs(float(np.log(to_model.scale * model.mm_per_unit))) / _relative_spread(model)


def _warnings_of_form(
    points: np.ndarray, model: ShapeModel, start: Similarity, fit: ShapeFit, from_mean_mm: float, seen_share: float
) -> list[str]:
    """What the user should know of how the points and the model agree."""
    if seen_share > ENOUGH_SEEN and _is_mirrored(points, model, fit):
        return ["Left and right may be exchanged: the mirrored points fit the model better. Check the volume's orientation."]
    end = fit.refinement.after(start)
    size = _size_deviation(end, model)
    misfit = fit.residual_median
    if misfit < MISFIT and fit.prior_distance < UNUSUAL and size < UNUSUAL_SIZE:
        return []
    return [
        f"This is probably no {model.organ}, or an unusual one: the points lie {from_mean_mm:.0f} mm from the model's mean and "
        f"{misfit / end.scale:.1f} mm (median) from the fitted shape, whose size is {size:.1f} and whose form "
        f"{fit.prior_distance:.1f} standard deviations from the usual."
    ]
