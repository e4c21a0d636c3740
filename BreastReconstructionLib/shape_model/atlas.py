"""Which place of a torso is which: a linear model of vertices that all phantoms share, fitted to any surface of the chest.

The neural shape model is a distance; it draws a surface well, but does not say where on it the breast ends or the ribs lie.
Phantoms have one topology, so the mean and the principal components of their vertices (Cootes et al. 1995) do, with what goes
along: the chest wall behind each breast (that of the body's twin without breasts) and the inframammary folds. Fitted to a
surface by its closest points, the coefficients give all of them. It fits to skin of a CT as well as to a video's surface, and
does not depend on the shape model in use.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ..core.errors import RegistrationError
from ..core.resources import resource_path
from ..geometry.transforms import Frame, Similarity, fit_similarity
from ..mesh.boundary import on_boundary
from ..mesh.distance import barycentric, closest_faces
from ..mesh.mesh import TriangleMesh, vertex_normals
from ..optimise.gauss_newton import damped_gauss_newton

SIDES = ("left", "right")
# Standard deviations, mm: of a vertex along the normal, beyond what the components can express; of a landmark.
VERTEX_MM, LANDMARK_MM = 1.5, 4.0
# Neighbouring vertices err alike: all together are worth so many.
INDEPENDENT_VERTICES = 800.0
KERNELS_MM = (40.0, 15.0, 6.0)
ITERATIONS, SMALLEST_STEP = 25, 1e-2
LEAST_ALIKE = 0.5
FEWEST_VERTICES = 300


@dataclass(frozen=True)
class Atlas:
    """Mean and principal components of vertices in the model frame; lengths in model units.

    Attributes:
        mean: (P, 3): N vertices of skin, then those of the walls behind both breasts, the folds' points, the six landmarks.
        components: (K, P, 3), each times its standard deviation.
        faces: (F, 3) of the skin.
        breast: (2, N) of the left and right breast: 1 at its edge, 0 in its middle, more outside.
        stable: (N,) 1 where posture moves the skin little: sternum and ribs.
        walled: (2, W) vertices of skin that have a vertex of wall behind them, left and right; -1 fills the shorter row.
        fold_points: points of each fold.
    """

    mean: np.ndarray
    components: np.ndarray
    faces: np.ndarray
    breast: np.ndarray
    stable: np.ndarray
    walled: np.ndarray
    fold_points: int

    @property
    def skin_count(self) -> int:
        """N."""
        return self.breast.shape[1]

    def parts(self, points: np.ndarray) -> AtlasPoints:
        """Take apart (P, ...) rows that are ordered as `mean`."""
        rest = points[self.skin_count :]
        counts = [(row >= 0).sum() for row in self.walled]
        wall = [rest[: counts[0]], rest[counts[0] : sum(counts)]]
        rest = rest[sum(counts) :]
        folds = [rest[: self.fold_points], rest[self.fold_points : 2 * self.fold_points]]
        return AtlasPoints(points[: self.skin_count], dict(zip(SIDES, wall)), dict(zip(SIDES, folds)), rest[-6:])

    def save(self, path: Path) -> None:
        """Write one npz; components in half precision (a hundredth of a millimetre)."""
        arrays = {key: value for key, value in self.__dict__.items() if key != "components"}
        np.savez_compressed(path, **arrays, components=self.components.astype(np.float16))


@dataclass(frozen=True)
class AtlasPoints:
    """Points of an atlas, by what they are.

    Attributes:
        skin: (N, 3).
        wall: by side, (W, 3) behind the skin's vertices `Atlas.walled`.
        fold: by side, (Q, 3) along the inframammary fold, from the medial to the lateral end.
        landmarks: (6, 3).
    """

    skin: np.ndarray
    wall: dict[str, np.ndarray]
    fold: dict[str, np.ndarray]
    landmarks: np.ndarray


@dataclass(frozen=True)
class AtlasFit:
    """An atlas on a surface.

    Attributes:
        atlas: which.
        coefficients: (K,) in standard deviations.
        to_patient: from the model frame to patient space.
        points_ras: its points, mm.
        residual_mm: median distance of its skin to the surface along the normal.
        share: of its skin that found the surface.
    """

    atlas: Atlas
    coefficients: np.ndarray
    to_patient: Similarity
    points_ras: AtlasPoints
    residual_mm: float
    share: float

    @property
    def mesh(self) -> TriangleMesh:
        """Its skin, patient space."""
        skin = self.points_ras.skin
        return TriangleMesh(skin, self.atlas.faces, Frame.PATIENT, vertex_normals(skin, self.atlas.faces))

    def on(self, surface: TriangleMesh) -> AtlasPlaces:
        """Say of each vertex of a surface which place it is: that of the nearest point of the atlas."""
        skin = self.points_ras.skin
        _, closest, face = closest_faces(surface.vertices, skin, self.atlas.faces)
        corners = self.atlas.faces[face]
        share = barycentric(closest, skin[corners])
        spread = lambda values: np.einsum("nk,nk...->n...", share, values[corners])
        walls = {}
        for side, row in zip(SIDES, self.atlas.walled, strict=True):
            behind = skin.copy()
            behind[row[row >= 0]] = self.points_ras.wall[side]
            walls[side] = spread(behind)
        return AtlasPlaces(
            {side: spread(values) for side, values in zip(SIDES, self.atlas.breast, strict=True)},
            spread(self.atlas.stable) > 0.5,
            walls,
            surface.vertices - closest,
        )


@dataclass(frozen=True)
class AtlasPlaces:
    """Of each of V vertices of a surface, by the atlas.

    Attributes:
        breast: by side, (V,) 1 at the breast's edge, less inside.
        stable: (V,) True on sternum and ribs.
        wall_ras: by side, (V, 3) the place of the population's wall behind it; its own place where there is no breast.
        offset_mm: (V, 3) from the atlas to the vertex.
    """

    breast: dict[str, np.ndarray]
    stable: np.ndarray
    wall_ras: dict[str, np.ndarray]
    offset_mm: np.ndarray


@lru_cache(maxsize=1)
def load_atlas() -> Atlas:
    """Return the shipped atlas (constant data)."""
    with np.load(resource_path("ShapeModels", "atlas.npz"), allow_pickle=False) as file:
        values = {name: file[name] for name in file.files}
    values["components"] = values["components"].astype(float)
    values["fold_points"] = int(values["fold_points"])
    return Atlas(**values)


@dataclass(frozen=True)
class _State:
    coefficients: np.ndarray
    similarity: Similarity


@dataclass(frozen=True)
class _Equations:
    """Normal equations, over coefficients, rotation vector, translation (mm) and logarithm of the scale."""

    cost: float
    matrix: np.ndarray
    gradient: np.ndarray
    residual_mm: np.ndarray


def fit_atlas(surface: TriangleMesh, landmarks_ras: np.ndarray, atlas: Atlas | None = None) -> AtlasFit:
    """Fit the atlas to a surface of the chest: closest points, point to plane, a robust kernel that narrows.

    Args:
        surface: patient space, with normals; it may end anywhere.
        landmarks_ras: (6, 3) mm; NaN for those that are unknown, of which at least three are not.
        atlas: the shipped one if None.

    Raises:
        RegistrationError: too little of the surface looks like a chest.
    """
    atlas = atlas or load_atlas()
    target = _Target.of(surface)
    known = np.isfinite(landmarks_ras).all(axis=1)
    start = fit_similarity(atlas.parts(atlas.mean).landmarks[known], landmarks_ras[known])
    state = _State(np.zeros(len(atlas.components)), start)
    for kernel in KERNELS_MM:
        linearise = lambda at, kernel=kernel: _equations(atlas, at, target, landmarks_ras, known, kernel)
        state = damped_gauss_newton(state, linearise, _stepped, ITERATIONS, SMALLEST_STEP).state
    residual = _equations(atlas, state, target, landmarks_ras, known, KERNELS_MM[-1]).residual_mm
    found = np.isfinite(residual) & (residual < 2 * KERNELS_MM[-1])
    if found.sum() < FEWEST_VERTICES:
        raise RegistrationError(
            f"Only {100 * found.mean():.0f} % of a chest's skin was found on this surface; is it a whole chest, in millimetres?"
        )
    points = atlas.parts(state.similarity.apply(_shape(atlas, state.coefficients)))
    return AtlasFit(atlas, state.coefficients, state.similarity, points, float(np.median(residual[found])), float(found.mean()))


def _shape(atlas: Atlas, coefficients: np.ndarray) -> np.ndarray:
    return atlas.mean + np.tensordot(coefficients, atlas.components, 1)


@dataclass(frozen=True)
class _Target:
    """A surface to be found: its vertices, which of them are at its edge, and a tree of them."""

    vertices: np.ndarray
    normals: np.ndarray
    at_edge: np.ndarray
    tree: cKDTree

    @classmethod
    def of(cls, surface: TriangleMesh) -> _Target:
        normals = vertex_normals(surface.vertices, surface.faces) if surface.normals is None else surface.normals
        at_edge = on_boundary(surface.faces, len(surface.vertices))
        return cls(surface.vertices, normals, at_edge, cKDTree(surface.vertices))


def _equations(
    atlas: Atlas, state: _State, target: _Target, landmarks: np.ndarray, known: np.ndarray, kernel_mm: float
) -> _Equations:
    shape = _shape(atlas, state.coefficients)
    placed = state.similarity.apply(shape)
    skin, count = placed[: atlas.skin_count], len(state.coefficients)
    normals = vertex_normals(skin, atlas.faces)
    _, nearest = target.tree.query(skin)
    toward = target.normals[nearest]
    residual = ((skin - target.vertices[nearest]) * toward).sum(axis=1)
    usable = ~target.at_edge[nearest] & ((normals * toward).sum(axis=1) > LEAST_ALIKE)
    squared = np.where(usable, (residual / kernel_mm) ** 2, np.inf)
    # Geman-McClure, by its derivative; what finds nothing costs as much as an outlier.
    weight = np.where(usable, 1.0 / (1.0 + np.where(usable, squared, 0.0)) ** 2, 0.0)
    worth = INDEPENDENT_VERTICES / atlas.skin_count / max(VERTEX_MM, kernel_mm / 6) ** 2
    lever = np.tensordot(atlas.components[:, : atlas.skin_count], state.similarity.rotation.T * state.similarity.scale, 1)
    rows = np.concatenate([np.einsum("knc,nc->nk", lever, toward), _rigid_rows(skin, toward, state)], axis=1)
    matrix = (rows * (worth * weight)[:, None]).T @ rows
    gradient = rows.T @ (worth * weight * residual)
    cost = worth * kernel_mm**2 * np.where(usable, squared / (1.0 + np.where(usable, squared, 0.0)), 1.0).sum()
    marks = placed[-6:][known]
    miss = (marks - landmarks[known]) / LANDMARK_MM
    lever = np.tensordot(atlas.components[:, -6:][:, known], state.similarity.rotation.T * state.similarity.scale, 1)
    for axis in range(3):
        toward = np.tile(np.eye(3)[axis], (len(marks), 1))
        rows = np.concatenate([lever[:, :, axis].T, _rigid_rows(marks, toward, state)], axis=1) / LANDMARK_MM
        matrix += rows.T @ rows
        gradient += rows.T @ miss[:, axis]
    prior = np.concatenate([np.ones(count), np.full(7, 1e-9)])
    matrix += np.diag(prior)
    gradient[:count] += state.coefficients
    cost += (miss**2).sum() + (state.coefficients**2).sum()
    return _Equations(float(cost), matrix, gradient, np.where(usable, np.abs(residual), np.nan))


def _rigid_rows(points: np.ndarray, toward: np.ndarray, state: _State) -> np.ndarray:
    """(N, 7) derivatives along directions for rotation about the similarity's origin, translation and log scale."""
    arm = points - state.similarity.translation
    return np.column_stack([np.cross(arm, toward), toward, (arm * toward).sum(axis=1)])


def _stepped(state: _State, linear: _Equations, damping: float) -> tuple[_State, float]:
    diagonal = np.diag(np.diag(linear.matrix))
    step = -np.linalg.solve(linear.matrix + damping * diagonal, linear.gradient)
    turn, old = Rotation.from_rotvec(step[-7:-4]).as_matrix(), state.similarity
    similarity = Similarity(old.scale * float(np.exp(step[-1])), turn @ old.rotation, old.translation + step[-4:-1])
    moved = max(np.abs(step[:-7]).max(), np.abs(step[-4:-1]).max() / 10.0, np.abs(step[-7:-4]).max() * 10.0)
    return _State(state.coefficients + step[:-7], similarity), float(moved)
