"""How well a shape model explains bodies that it never saw, beside principal components and screened Poisson on the same clouds.

Subjects are phantoms of seeds that no training uses. Each method gets the same points and landmarks and gives a mesh; errors
are in mm, against the exact skin at least 20 mm from the cut, in both directions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ..core.errors import DependencyError
from ..core.files import replacing
from ..core.progress import Progress
from ..core.resources import resource_path
from ..geometry.transforms import Similarity
from ..landmarks.names import NIPPLES
from ..mesh.distance import closest_on_mesh
from ..mesh.mesh import vertex_normals
from ..phantom.basis import load_torso_basis
from ..phantom.torso import Torso, population_torso, sample_torso, skin_points
from .fit import IDENTITY, FitSettings, fit_shape, stage_noise
from .model import ShapeModel
from .phantom_training import FIRST_EVALUATION_SEED, FIRST_TRAINING_SEED
from .sampling import mesh_of_code, random_codes

PROTOCOLS = ("frontal", "points_5000", "noisy_1000", "video")
SAMPLED_POINTS = {"frontal": 20_000, "points_5000": 5000, "noisy_1000": 1000}
# Where a torso is cut off is no part of the patient: solids are capped there, and a cloud hardly says where.
CUT_MARGIN_MM = 20.0
SCORED_POINTS = 4000
MESH_MM, SPECIFICITY_MESH_MM = 3.0, 6.0
COARSE = 100


@dataclass(frozen=True)
class Reconstructed:
    """What a method gives: a mesh in the frame of its input, and where it has the six landmarks (None if it has none)."""

    vertices: np.ndarray
    faces: np.ndarray
    landmarks: np.ndarray | None


class Method(Protocol):
    """From a cloud and landmarks, both in the aligned model frame, to a mesh."""

    def __call__(self, points_model: np.ndarray, landmarks_model: np.ndarray) -> Reconstructed:
        """Reconstruct one subject."""


def by_model(model: ShapeModel) -> Method:
    """Return the method of this project: `fit_shape` and the zero level."""

    def reconstruct(points_model: np.ndarray, landmarks_model: np.ndarray) -> Reconstructed:
        fit = fit_shape(points_model, landmarks_model, model)
        back = fit.refinement.inverse()
        shape = mesh_of_code(model, torch.from_numpy(fit.code), MESH_MM / model.mm_per_unit)
        return Reconstructed(back.apply(shape.mesh.vertices), shape.mesh.faces, back.apply(shape.landmarks))

    return reconstruct


@dataclass(frozen=True)
class PrincipalComponents:
    """A linear model of corresponding skins, which phantoms have for free and scans do not.

    Attributes:
        mean: (V, 3).
        basis: (3 V, K) principal directions, each times its standard deviation.
        faces: (F, 3).
        landmarks: (6,) vertices.
    """

    mean: np.ndarray
    basis: np.ndarray
    faces: np.ndarray
    landmarks: np.ndarray

    @classmethod
    def of(cls, skins: np.ndarray, kept_variance: float = 0.9995) -> PrincipalComponents:
        """Make the model of (S, V, 3) skins of one topology."""
        data = skins.reshape(len(skins), -1).astype(np.float64)
        mean = data.mean(axis=0)
        gram = (data - mean) @ (data - mean).T
        variance, u = np.linalg.eigh(gram)
        variance, u = np.maximum(variance[::-1], 0.0), u[:, ::-1]
        count = int(np.searchsorted(np.cumsum(variance) / variance.sum(), kept_variance)) + 1
        directions = (data - mean).T @ u[:, :count] / np.sqrt(variance[:count])
        basis = directions * np.sqrt(variance[:count] / (len(skins) - 1))
        torso = load_torso_basis()
        return cls(mean.reshape(-1, 3), basis, torso.skin_faces, torso.landmarks)

    def __call__(self, points_model: np.ndarray, landmarks_model: np.ndarray) -> Reconstructed:
        """Fit coefficients and similarity to points by closest vertices, with the kernel and the priors of `fit_shape`."""
        settings = FitSettings()
        order = np.random.default_rng(settings.seed).permutation(len(points_model))
        b, similarity = np.zeros(self.basis.shape[1]), IDENTITY
        for count, kernel in settings.stages:
            points = points_model[order[:count]]
            noise = np.full(len(points), settings.point_noise)
            seen = similarity.apply(points)
            noise, kernel = stage_noise(noise, kernel, settings, lambda b=b, seen=seen: self._closest(b, seen)[-1])
            for _ in range(settings.largest_iterations):
                step, moved = self._step(b, similarity, points, landmarks_model, noise, kernel, settings)
                b = b + step[:-7]
                turn = Rotation.from_rotvec(step[-7:-4]).as_matrix()
                similarity = Similarity(float(np.exp(step[-1])), turn, step[-4:-1]).after(similarity)
                if moved < settings.smallest_step:
                    break
        vertices = similarity.inverse().apply(self._vertices(b))
        return Reconstructed(vertices, self.faces, vertices[self.landmarks])

    def _vertices(self, b: np.ndarray) -> np.ndarray:
        return self.mean + (self.basis @ b).reshape(-1, 3)

    def _closest(self, b, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the vertices, and of (N, 3) moved points the closest one, its normal, and the distance along it."""
        vertices = self._vertices(b)
        _, index = cKDTree(vertices).query(moved)
        n = vertex_normals(vertices, self.faces)[index]
        return vertices, index, n, ((moved - vertices[index]) * n).sum(axis=1)

    def _step(self, b, similarity, points, landmarks, noise, kernel: float, settings: FitSettings) -> tuple[np.ndarray, float]:
        """Return a Gauss-Newton step over coefficients, rotation, translation and log scale, and the surface's movement."""
        moved = similarity.apply(points)
        vertices, index, n, residual = self._closest(b, moved)
        rows = np.concatenate([-_along(self.basis, index, n), np.cross(moved, n), n, (moved * n).sum(axis=1)[:, None]], axis=1)
        weight = (kernel**2 / (kernel**2 + residual**2)) ** 2 * settings.independent_points / len(points) / noise**2
        matrix, gradient = (rows * weight[:, None]).T @ rows, (rows * weight[:, None]).T @ residual
        at = similarity.apply(landmarks)
        for axis in range(3):
            direction = np.tile(np.eye(3)[axis], (6, 1))
            row = np.concatenate(
                [-_along(self.basis, self.landmarks, direction), np.cross(at, direction), direction, at[:, [axis]]], axis=1
            )
            off = (at - vertices[self.landmarks])[:, axis]
            matrix += row.T @ row / settings.landmark_noise**2
            gradient += row.T @ off / settings.landmark_noise**2
        count = len(b)
        matrix[:count, :count] += np.eye(count)
        gradient[:count] += b
        rotation, translation, log_scale = settings.similarity_noise
        precision = np.array([rotation**-2] * 3 + [translation**-2] * 3 + [log_scale**-2])
        vector = Rotation.from_matrix(similarity.rotation).as_rotvec()
        parameters = np.array([*vector, *similarity.translation, np.log(similarity.scale)])
        matrix[count:, count:] += np.diag(precision)
        gradient[count:] += precision * parameters
        step = np.linalg.solve(matrix, -gradient)
        return step, float(np.sqrt(np.mean((rows @ step) ** 2)))


def _along(basis: np.ndarray, index: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """(N, K) movement of (N,) vertices along (N, 3) directions by each component."""
    return np.einsum("nck,nc->nk", basis.reshape(-1, 3, basis.shape[1])[index], directions)


def screened_poisson() -> Method:
    """Return screened Poisson reconstruction (Kazhdan and Hoppe 2013) as MeshLab has it; normals from 16 neighbours.

    Raises:
        DependencyError: pymeshlab is not installed.
    """
    try:
        import pymeshlab
    except ImportError as error:
        raise DependencyError("Screened Poisson needs pymeshlab: pip install pymeshlab.") from error

    def reconstruct(points_model: np.ndarray, landmarks_model: np.ndarray) -> Reconstructed:
        meshes = pymeshlab.MeshSet()
        meshes.add_mesh(pymeshlab.Mesh(vertex_matrix=points_model))
        meshes.compute_normal_for_point_clouds(k=16, flipflag=True, viewpos=np.array([0.0, 0.0, 10.0]))
        meshes.generate_surface_reconstruction_screened_poisson(depth=8)
        mesh = meshes.current_mesh()
        return Reconstructed(mesh.vertex_matrix(), mesh.face_matrix(), None)

    return reconstruct


def cloud_of(torso: Torso, protocol: str, seed: int) -> np.ndarray:
    """Return the (N, 3) points of a protocol in model space.

    frontal: 20,000 exact points of the skin; points_5000: 5,000; noisy_1000: 1,000, of which 80 % carry noise of 2 mm
    a coordinate and 20 % lie anywhere within 60 mm of the torso's box.
    """
    rng = np.random.default_rng([9, seed, PROTOCOLS.index(protocol)])
    count = SAMPLED_POINTS[protocol]
    points, _ = skin_points(torso, count, rng)
    if protocol == "noisy_1000":
        mm = torso.to_model.scale
        points = points + rng.normal(0.0, 2.0 * mm, points.shape)
        low, high = points.min(axis=0) - 60 * mm, points.max(axis=0) + 60 * mm
        points[: count // 5] = rng.uniform(low, high, (count // 5, 3))
    return points


def score_mesh(result: Reconstructed, torso: Torso) -> dict[str, float]:
    """Return the errors of one reconstruction, mm: both directions, landmarks, agreement of normals, F-scores."""
    mm = 1.0 / torso.to_model.scale
    skin = torso.to_model.apply(torso.vertices_ras)
    cut = cKDTree(skin[torso.skin_vertex_count :])  # the closing vertices begin at the cut
    points, normals = skin_points(torso, SCORED_POINTS, np.random.default_rng(0))
    inner = cut.query(points)[0] * mm > CUT_MARGIN_MM
    points, normals = points[inner], normals[inner]
    to_result, closest = closest_on_mesh(points, result.vertices, result.faces)
    some = np.random.default_rng(1).choice(len(result.vertices), min(SCORED_POINTS, len(result.vertices)), replace=False)
    chosen = result.vertices[some]
    to_truth, on_truth = closest_on_mesh(chosen, skin, torso.faces)
    # Only what lies opposite the skin counts: the closure and what a method adds behind it do not.
    of_skin = cKDTree(skin).query(on_truth)[1] < torso.skin_vertex_count
    to_truth = to_truth[of_skin & (cut.query(on_truth)[0] * mm > CUT_MARGIN_MM)]
    forward, backward = to_result * mm, to_truth * mm
    both = np.concatenate([forward, backward])
    result_normals = vertex_normals(result.vertices, result.faces)[cKDTree(result.vertices).query(closest)[1]]
    values = {
        "mean_mm": 0.5 * (forward.mean() + backward.mean()),
        "p95_mm": float(np.percentile(both, 95)),
        "truth_to_surface_mm": forward.mean(),
        "surface_to_truth_mm": backward.mean(),
        "normal_consistency": np.abs((result_normals * normals).sum(axis=1)).mean(),
    }
    for limit in (1.0, 2.0):
        recall, precision = (forward < limit).mean(), (backward < limit).mean()
        values[f"f_score_{limit:.0f}_mm"] = 2 * recall * precision / max(recall + precision, 1e-9)
    if result.landmarks is not None:
        error = np.linalg.norm(result.landmarks - torso.to_model.apply(torso.landmarks_ras), axis=1) * mm
        values |= {"landmarks_mm": error.mean(), "nipples_mm": error[list(NIPPLES)].mean()}
    return {key: float(value) for key, value in values.items()}


@dataclass(frozen=True)
class Trial:
    """One cloud to reconstruct, in the aligned model frame of its torso.

    Attributes:
        torso: the truth.
        points_model: (N, 3).
        landmarks_model: (6, 3).
    """

    torso: Torso
    points_model: np.ndarray
    landmarks_model: np.ndarray


def sampled_trials(protocol: str, torsos: list[Torso]) -> list[Trial]:
    """Return the trials of a protocol whose clouds are drawn from the torsos' skins, with exact landmarks."""
    return [Trial(t, cloud_of(t, protocol, i), t.to_model.apply(t.landmarks_ras)) for i, t in enumerate(torsos)]


def video_trials() -> list[Trial]:
    """Return the clouds that this program made of phantom videos, with picked landmarks; `Testing/video_clouds.py` wrote them.

    Each was laid on its torso by the similarity of closest points, so only shape is compared, for every method alike.
    """
    with np.load(resource_path("Phantom", "video_clouds.npz")) as file:
        return [
            Trial(sample_torso(int(seed))[0], file[f"points{seed}"].astype(float), file[f"landmarks{seed}"])
            for seed in file["seeds"]
        ]


def evaluate_methods(
    methods: dict[str, Method], subjects: int, population: str, progress: Progress | None = None
) -> dict[str, dict[str, dict[str, float]]]:
    """Return method -> protocol -> means over subjects, each with its 95 % interval as `<name>_interval`."""
    progress = progress or Progress()
    torsos = [population_torso(FIRST_EVALUATION_SEED + i, population) for i in range(subjects)]
    trials = {p: video_trials()[:subjects] if p == "video" else sampled_trials(p, torsos) for p in PROTOCOLS}
    table: dict[str, dict[str, dict[str, float]]] = {}
    total, done = len(methods) * sum(map(len, trials.values())), 0
    for name, method in methods.items():
        table[name] = {}
        for protocol, clouds in trials.items():
            rows = []
            for trial in clouds:
                rows.append(score_mesh(method(trial.points_model, trial.landmarks_model), trial.torso))
                done += 1
                progress(done / total, f"{name}, {protocol}: {len(rows)} of {len(clouds)}")
            table[name][protocol] = {"subjects": len(rows), **_means(rows)}
    return table


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    result = {}
    for key in rows[0]:
        values = np.array([row[key] for row in rows])
        result[key] = round(float(values.mean()), 4)
        result[f"{key}_interval"] = round(float(1.96 * values.std(ddof=1) / np.sqrt(len(values))), 4) if len(rows) > 1 else None
    return result


def specificity(
    model: ShapeModel, training_skins: np.ndarray, samples: int = 20, seed: int = 0, progress: Progress | None = None
) -> dict[str, float]:
    """Return the mean distance, mm, of random shapes of the model to their nearest training torso (of (S, V, 3) skins)."""
    detail = SPECIFICITY_MESH_MM / model.mm_per_unit
    meshes = (mesh_of_code(model, code, detail).mesh for code in random_codes(model, samples, seed))
    sized = ((mesh.vertices, mesh.faces, model.mm_per_unit) for mesh in meshes)
    return _to_nearest(sized, training_skins, samples, progress or Progress())


def specificity_of_population(
    training_skins: np.ndarray, population: str, samples: int = 20, progress: Progress | None = None
) -> dict[str, float]:
    """Return the same distance of torsos never trained on: what a model's random shapes have if they vary as bodies do."""
    torsos = (population_torso(FIRST_EVALUATION_SEED + i, population) for i in range(samples))
    meshes = ((t.to_model.apply(t.vertices_ras), t.faces, 1.0 / t.to_model.scale) for t in torsos)
    return _to_nearest(meshes, training_skins, samples, progress or Progress())


def _to_nearest(
    meshes: Iterable[tuple[np.ndarray, np.ndarray, float]], training_skins: np.ndarray, count: int, progress: Progress
) -> dict[str, float]:
    """Mean over meshes (vertices, faces, mm per unit), with its 95 % interval, of the distance to the nearest skin.

    The nearest is sought over all skins by every hundredth vertex, then measured to the mesh from every fifth.
    """
    found = []
    for vertices, faces, mm in meshes:
        progress(len(found) / count, f"specificity: {len(found) + 1} of {count}")
        coarse, _ = cKDTree(vertices).query(training_skins[:, ::COARSE].reshape(-1, 3))
        nearest = training_skins[int(coarse.reshape(len(training_skins), -1).mean(axis=1).argmin())]
        found.append({"mean_mm": closest_on_mesh(nearest[::5].astype(float), vertices, faces)[0].mean() * mm})
    return {"subjects": len(found), **_means(found)}


def compactness(model: ShapeModel) -> dict[str, int]:
    """Return how many principal directions of the codes hold 90, 95 and 99 % of their variance."""
    variance = model.latent_basis.square().sum(dim=0).numpy()
    share = np.cumsum(np.sort(variance)[::-1]) / variance.sum()
    return {f"{percent}_percent": int(np.searchsorted(share, percent / 100)) + 1 for percent in (90, 95, 99)}


def training_skins(subjects: int, population: str, work: Path) -> np.ndarray:
    """Return the (S, V, 3) skins of the first training torsos in model space; kept in `work` for the next time."""
    path = work / f"skins-{population}-{subjects}.npy"
    if path.exists():
        return np.load(path)
    work.mkdir(parents=True, exist_ok=True)
    skins = []
    for seed in range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + subjects):
        torso = population_torso(seed, population)
        skins.append(torso.to_model.apply(torso.vertices_ras[: torso.skin_vertex_count]).astype(np.float32))
    result = np.stack(skins)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, result)
    return result
