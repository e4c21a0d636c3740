"""Making the atlas: the vertices of many phantoms and their twins, and their principal components."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.spatial import cKDTree

from ..core.progress import Progress
from ..mesh.decimation import decimated
from ..mesh.mesh import vertex_normals
from ..phantom.basis import TorsoBasis, load_torso_basis
from ..phantom.deformation import BREAST_DEPTH, breast_ratios, neighbour_mean
from ..phantom.posture import body_of
from ..phantom.torso import sample_wide_torso
from .atlas import Atlas

SKIN_VERTICES, COMPONENTS = 4000, 90
# Nobody else draws these seeds.
FIRST_SEED = 900_000
# Of a breast's ellipse on the mean body, where its boundary is drawn (breast_truth's runs along the faces that reach into the
# ellipse), and how far around it walls go.
BOUNDARY, WALL_REACH = 1.04, 1.35
# Over how many mm the ratio rises by one beyond midline and flank.
EDGE_MM = 75.0
FOLD_POINTS, FOLD_DEGREES, FOLD_BODIES = 25, (205.0, 335.0), 40
# Of the stable region on the mean body, mm: margin around breasts, half width above and below their middle, above the navel.
STABLE_BREAST, STABLE_HALF_WIDTH, STABLE_ABOVE_NAVEL, STABLE_BELOW_NOTCH = 1.12, (85.0, 135.0), 70.0, 8.0


def train_atlas(bodies: int, progress: Progress | None = None) -> Atlas:
    """Make the atlas from the wide population; 1.2 s a body."""
    progress = progress or Progress()
    basis = load_torso_basis()
    template = _Template.of(basis)
    rows, seed = [], FIRST_SEED
    while len(rows) < bodies:
        progress(len(rows) / bodies, f"body {len(rows)} of {bodies}")
        body = body_of(sample_wide_torso(seed))
        seed += 1
        if body.deformation is not None and max(body.deformation.left.flattened, body.deformation.right.flattened) > 0:
            if seed % 2:  # a removed breast has no wall of its own: half as many
                continue
        torso, twin = body.torso(), body.twin()
        skin, wall = (torso.to_model.apply(t.vertices_ras[: torso.skin_vertex_count]) for t in (torso, twin))
        rows.append(template.points(skin, wall, basis))
    stacked = np.array(rows)
    mean = stacked.mean(axis=0)
    _, singular, directions = np.linalg.svd((stacked - mean).reshape(len(rows), -1), full_matrices=False)
    scaled = directions[:COMPONENTS] * (singular[:COMPONENTS] / np.sqrt(len(rows) - 1))[:, None]
    components = scaled.reshape(-1, *mean.shape)
    return Atlas(mean, components, template.faces, template.breast, template.stable, template.walled, FOLD_POINTS)


class _Template:
    """Which vertices of a torso's skin the atlas has."""

    def __init__(self, kept, faces, breast, stable, walled, folds):
        self.kept, self.faces, self.breast, self.stable, self.walled, self.folds = kept, faces, breast, stable, walled, folds

    @classmethod
    def of(cls, basis: TorsoBasis) -> _Template:
        mean = basis.torso @ (basis.subdivision @ basis.template_mm.astype(float))
        kept, faces = _kept(mean, basis.skin_faces)
        whole = _breast(basis, mean)
        breast, landmarks = whole[:, kept], mean[basis.landmarks]
        rows = [np.flatnonzero(row < WALL_REACH) for row in breast]
        walled = np.full((2, max(map(len, rows))), -1)
        for side, row in enumerate(rows):
            walled[side, : len(row)] = row
        return cls(kept, faces, breast / BOUNDARY, _stable(mean[kept], landmarks, breast), walled, _folds(basis, whole))

    def points(self, skin: np.ndarray, twin: np.ndarray, basis: TorsoBasis) -> np.ndarray:
        """(P, 3) points of a body in the order of Atlas.mean."""
        walls = [twin[self.kept[row[row >= 0]]] for row in self.walled]
        return np.concatenate([skin[self.kept], *walls, *(skin[fold] for fold in self.folds), skin[basis.landmarks]])


def _breast(basis: TorsoBasis, mean: np.ndarray) -> np.ndarray:
    """(2, T) 1 at a breast's edge, which runs along the midline and the flank where the ellipse would cross them."""
    ratios = (basis.torso @ breast_ratios(basis).T).T
    for side, nipple in enumerate(mean[basis.landmarks[2:4]]):
        across = 1.0 - np.sign(nipple[0]) * mean[:, 0] / EDGE_MM
        behind = 1.0 + (nipple[2] - BREAST_DEPTH - mean[:, 2]) / EDGE_MM
        ratios[side] = np.maximum(ratios[side], np.maximum(across, behind))
    return ratios


def _kept(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """About SKIN_VERTICES of the vertices, and their faces."""
    points, cells = decimated(vertices, faces, SKIN_VERTICES)
    return cKDTree(vertices).query(points)[1], cells


def _stable(mean: np.ndarray, landmarks: np.ndarray, breast: np.ndarray) -> np.ndarray:
    """(N,) 1 on sternum and ribs of the mean body, 0 on breasts, shoulders, flanks and abdomen."""
    notch, navel, nipples = landmarks[0], landmarks[1], landmarks[2:4]
    high = mean[:, 1] > nipples[:, 1].mean()
    half = np.where(high, *STABLE_HALF_WIDTH)
    inside = np.abs(mean[:, 0] - notch[0]) < half
    inside &= (mean[:, 1] > navel[1] + STABLE_ABOVE_NAVEL) & (mean[:, 1] < notch[1] - STABLE_BELOW_NOTCH)
    return (inside & (breast.min(axis=0) > STABLE_BREAST)).astype(float)


@lru_cache(maxsize=1)
def fold_vertices() -> tuple[np.ndarray, np.ndarray]:
    """Return each fold's vertices of a torso's skin, left and right, from the medial to the lateral end."""
    basis = load_torso_basis()
    whole = _breast(basis, basis.torso @ (basis.subdivision @ basis.template_mm.astype(float)))
    return _folds(basis, whole)


def _folds(basis: TorsoBasis, breast: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the skin below a breast is most concave over many bodies, along each of its meridians."""
    concave = np.zeros(basis.torso.shape[0])
    averaging = basis.torso @ neighbour_mean(basis)
    for number in range(FOLD_BODIES):
        torso = body_of(sample_wide_torso(FIRST_SEED - 1 - number)).torso()
        skin = torso.vertices_ras[: torso.skin_vertex_count]
        normals = vertex_normals(skin, basis.skin_faces)
        concave += np.clip(((averaging @ torso.body_ras - basis.torso @ torso.body_ras) * normals).sum(axis=1), 0.0, 1.0)
    mean = basis.torso @ (basis.subdivision @ basis.template_mm.astype(float))
    found = []
    for side, sign in ((0, 1.0), (1, -1.0)):
        nipple = mean[basis.landmarks[2 + side]]
        across, up = sign * (mean[:, 0] - nipple[0]), mean[:, 1] - nipple[1]
        angle = np.degrees(np.arctan2(up, across)) % 360.0  # 0 is lateral, 270 below
        radius = np.hypot(across, up)
        near = breast[side] < 1.3
        places = []
        for middle in np.linspace(FOLD_DEGREES[0], FOLD_DEGREES[1], FOLD_POINTS):
            own = near & (np.abs(angle - middle) < 6.0) & (radius > 25.0)
            weight = concave[own] ** 3
            wanted = (weight * radius[own]).sum() / max(weight.sum(), 1e-12)
            places.append((middle, wanted))
        degrees, radii = np.array(places).T
        radii = np.convolve(np.pad(radii, 3, mode="edge"), np.ones(7) / 7, mode="valid")
        x, y = nipple[0] + sign * radii * np.cos(np.radians(degrees)), nipple[1] + radii * np.sin(np.radians(degrees))
        candidates = np.flatnonzero(near)
        found.append(candidates[cKDTree(mean[candidates, :2]).query(np.column_stack([x, y]))[1]])
    return found[0], found[1]
