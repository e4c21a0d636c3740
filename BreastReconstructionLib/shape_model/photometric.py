"""A surface moved along its normals until the frames agree about what they show of each place.

A place of skin looks alike in all frames that see it, but for exposure, and light that varies slowly over the skin. As functions
of the displacement the grey levels are linearised, and one sparse system a step weighs them against a smooth prior: a Gaussian
field of Matern's covariance (Lindgren, Rue & Lindstrom 2011, section 2.3). The prior is strong where the shape model is right.
Where the frames agree better without it than noise explains (a scar, a fold, a nipple of another form), it gives way.
A displacement along the normal cannot make an overhang; there the surface stays the model's, in front of it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.linalg import LinearOperator, cg, splu
from scipy.spatial import cKDTree

from ..core.errors import FitError
from ..core.progress import Progress
from ..mesh.mesh import TriangleMesh, connected_parts, keep_vertices
from .frame_comparison import Comparer, Comparison, MovedFrame, PhotometricSettings, Smoother

# So far beside where the prior gave way the displacement is found again, mm; more than the strong prior's range.
BESIDE_MM = 20.0
# Triangles are halved where the prior gave way by more than this.
FINER_FROM = 0.2
NO_SOLUTION = "The comparison of the frames has no solution; look whether they show the patient."
# Of the linear systems: residual against the right side, and steps at most.
SOLVED_TO, MOST_STEPS = 1e-5, 25


@dataclass(frozen=True)
class Displacement:
    """Of V vertices.

    Attributes:
        vertices: (V, 3) mm: those of the mesh, and others between them where the prior gave way.
        displacement_mm: (V,) along the normals, outwards positive.
        weakened: (V,) 0 to 1, where the prior gave way.
        views: (V,) frames that count.
    """

    vertices: np.ndarray
    displacement_mm: np.ndarray
    weakened: np.ndarray
    views: np.ndarray

    def only(self, kept: np.ndarray) -> Displacement:
        """Of some vertices."""
        return Displacement(*(getattr(self, field.name)[kept] for field in fields(self)))

    def with_others(self, other: Displacement) -> Displacement:
        """Of these and other vertices."""
        return Displacement(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))


def find_displacement(
    mesh: TriangleMesh, frames: list[MovedFrame], settings: PhotometricSettings, progress: Progress
) -> Displacement:
    """Find by how much each vertex moves along its normal.

    Args:
        mesh: triangles of 1 to 2 mm, with normals; its unit is mm.
        frames: of the video, in the same frame.
        settings: see PhotometricSettings.
        progress: reported a frame.

    Raises:
        FitError: no place is seen well by enough frames, or the frames' comparison has no solution.
    """
    nowhere, everywhere = np.zeros(len(mesh.vertices)), np.ones(len(mesh.vertices))
    field, compare = _Field(mesh, settings), Comparer(mesh, frames, settings)
    finest, costs = settings.blurs_px[-1], []
    strong = nowhere
    for part, blur in _parts(progress, 0.0, 0.25, settings.blurs_px):
        strong = field.solved(compare(strong, blur, part), nowhere)
    weak = strong
    for part, step in _parts(progress, 0.25, 0.5, range(settings.weak_steps + 1)):
        seen = compare(weak, finest, part)
        if (seen.views < settings.fewest_views).all():
            raise FitError(f"No place of the skin is seen well by {settings.fewest_views} frames; film nearer, in better light.")
        costs.append(seen.cost)
        if step < settings.weak_steps:
            weak = field.solved(seen, everywhere)
    weakened = _gives_way(mesh, costs[0] - costs[-1], seen, len(frames), settings)
    rest = Displacement(mesh.vertices, np.where(seen.views > 0, strong, 0.0), weakened, seen.views)
    near = _nearness(mesh.vertices, weakened)
    if not near.any():
        return rest
    del field  # and its factor
    used, faces = keep_vertices(mesh.vertices, mesh.faces, near > 0.0)
    assert mesh.normals is not None
    part = TriangleMesh(mesh.vertices[used], faces, mesh.frame, mesh.normals[used])
    found = _found_again(part, near[used], rest.only(used), compare, settings, progress)
    left = np.ones(len(near), bool)
    left[used] = False
    return rest.only(left).with_others(found)


def _nearness(vertices: np.ndarray, weakened: np.ndarray) -> np.ndarray:
    """(V,) 1 at and about where the prior gave way, fading to 0: beyond, nothing changes by that."""
    weak = weakened > 0.0
    if not weak.any():
        return np.zeros(len(vertices))
    distance = cKDTree(vertices[weak]).query(vertices, distance_upper_bound=BESIDE_MM, workers=-1)[0]
    return np.clip(2.0 * (1.0 - distance / BESIDE_MM), 0.0, 1.0)


def _found_again(
    mesh: TriangleMesh,
    near: np.ndarray,
    before: Displacement,
    compare: Comparer,
    settings: PhotometricSettings,
    progress: Progress,
) -> Displacement:
    """Find the displacement where the prior gave way, and about there, in triangles that are halved in between.

    At the vertices that fade out it is drawn toward what it was.
    """
    moved, weakened = before.displacement_mm, before.weakened
    field, compare = _Field(mesh, settings), compare.on(mesh)
    for part, blur in _parts(progress, 0.5, 0.75, settings.weak_blurs_px):
        moved = field.solved(compare(moved, blur, part), weakened)
    mesh, carried = _finer(mesh, weakened, np.column_stack([moved, weakened, before.displacement_mm, near]))
    moved, weakened, strong, share = carried.T.copy()
    field, compare = _Field(mesh, settings), compare.on(mesh)
    for part, blur in _parts(progress, 0.75, 1.0, settings.fine_blurs_px):
        seen = compare(moved, blur, part)
        moved = field.solved(seen, weakened)
    moved = np.where(seen.views > 0, strong + share * (moved - strong), 0.0)
    return Displacement(mesh.vertices, moved, weakened, seen.views)


def _finer(mesh: TriangleMesh, weakened: np.ndarray, values: np.ndarray) -> tuple[TriangleMesh, np.ndarray]:
    """Halve the triangles where the prior gave way; with (V, C) values, also of the new vertices."""
    from trimesh.remesh import subdivide

    chosen = np.flatnonzero((weakened[mesh.faces] > FINER_FROM).any(axis=1))
    if len(chosen) == 0:
        return mesh, values
    carried = {"normals": mesh.normals, "values": values}
    vertices, faces, carried = subdivide(mesh.vertices, mesh.faces, chosen, vertex_attributes=carried)
    normals = carried["normals"] / np.linalg.norm(carried["normals"], axis=1, keepdims=True)
    return TriangleMesh(vertices, faces, mesh.frame, normals), carried["values"]


def _parts(progress: Progress, begin: float, end: float, steps):
    """Each step with its part of the progress."""
    each = (end - begin) / len(steps)
    for number, step in enumerate(steps):
        yield progress.part(begin + number * each, begin + (number + 1) * each), step


def _gives_way(mesh: TriangleMesh, gain: np.ndarray, seen: Comparison, frames: int, settings: PhotometricSettings) -> np.ndarray:
    """(V,) share by which the prior gives way: where without it the frames agree better than noise explains, and where they
    also say where the surface lies.
    """
    smoother, ones = Smoother(mesh.vertices, settings.gain_mm), np.ones(len(gain))
    mean = smoother(gain, ones)
    above = mean > settings.gains[0]
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    part = connected_parts(edges[above[edges].all(axis=1)], len(mean))
    reached = np.zeros(part.max() + 1, bool)
    reached[part[mean > settings.seed_gain]] = True
    enough = _ramp(seen.views / max(frames, 1), settings.shares) * _ramp(smoother(seen.information, ones), settings.told)
    return smoother(_ramp(mean, settings.gains) * (above & reached[part]), ones) * enough


def _ramp(values: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """0 up to the lower bound, 1 from the upper one on."""
    low, high = bounds
    return np.clip((values - low) / (high - low), 0.0, 1.0)


class _Field:
    """Gaussian fields on a triangle mesh, by finite elements, whose prior varies from place to place."""

    def __init__(self, mesh: TriangleMesh, settings: PhotometricSettings):
        import potpourri3d

        self._stiffness = sparse.csc_matrix(potpourri3d.cotan_laplacian(mesh.vertices, mesh.faces))
        self._mass = np.maximum(potpourri3d.vertex_areas(mesh.vertices, mesh.faces), 1e-6)
        self._settings = settings
        self._factor: Any = None
        self._last_weakened = np.empty(0)

    def _mixed(self, name: str, weakened: np.ndarray) -> np.ndarray:
        strong, weak = (getattr(prior, name) for prior in (self._settings.strong, self._settings.weak))
        return np.exp((1 - weakened) * np.log(strong) + weakened * np.log(weak))

    def _precision(self, weakened: np.ndarray) -> sparse.csc_matrix:
        kappa = np.sqrt(8.0) / self._mixed("range_mm", weakened)
        tau = 1.0 / (np.sqrt(4.0 * np.pi) * kappa * self._mixed("deviation_mm", weakened))
        half = (sparse.diags(kappa**2 * self._mass) + self._stiffness) @ sparse.diags(tau)
        return half.T @ sparse.diags(1.0 / self._mass) @ half

    def solved(self, seen: Comparison, weakened: np.ndarray) -> np.ndarray:
        """(V,) displacement that the comparison and the prior, which gave way by a (V,) share, agree on."""
        told = self._mixed("worth", weakened) * seen.information
        matrix, right = sparse.csr_matrix(self._precision(weakened) + sparse.diags(told)), told * seen.wanted
        found = self._by_last_factor(matrix, right) if self._last_weakened is weakened else None
        if found is None:
            found = self._factorised(matrix).solve(right)
            self._last_weakened = weakened
        if not np.isfinite(found).all():
            raise FitError(NO_SOLUTION)
        return np.clip(found, -self._settings.largest_mm, self._settings.largest_mm)

    def _factorised(self, matrix: sparse.csr_matrix) -> Any:
        """Factorise a symmetric matrix; kept for the next ones of the same prior."""
        self._factor = None  # hundreds of megabytes
        options = {"SymmetricMode": True}
        try:
            self._factor = splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", options=options, diag_pivot_thresh=0.0)
        except RuntimeError as error:  # a singular matrix
            raise FitError(NO_SOLUTION) from error
        return self._factor

    def _by_last_factor(self, matrix: sparse.csr_matrix, right: np.ndarray) -> np.ndarray | None:
        """Solve by conjugate gradients, preconditioned by the last factor: a quarter of a factor's time.

        None if the comparison has changed too much for it.
        """
        nearly = LinearOperator(matrix.shape, self._factor.solve, dtype=np.float64)
        found, failed = cg(matrix, right, rtol=SOLVED_TO, maxiter=MOST_STEPS, M=nearly)
        return None if failed else found
