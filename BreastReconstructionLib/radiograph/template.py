"""A template brought onto a bone, so that all have the same vertices and labels: coherent point drift, then onto the surface."""

from __future__ import annotations

import numpy as np

from ..core.progress import Progress
from ..geometry.transforms import Frame
from ..mesh.coherent_drift import DriftSettings, drift
from ..mesh.distance import closest_on_mesh
from ..mesh.mesh import TriangleMesh, sample_surface

TARGET_POINTS = 2000
# Rounds of smoothing of the last step's displacements.
SMOOTHED = 3


def register_template(
    template: TriangleMesh, bone: TriangleMesh, settings: DriftSettings, progress: Progress | None = None
) -> TriangleMesh:
    """Return the template on the bone: its faces and labels, the bone's shape; both in patient space.

    Raises:
        RegistrationError: what `drift` raises.
    """
    target, _ = sample_surface(bone.vertices, bone.faces, TARGET_POINTS, np.random.default_rng(73))
    moved = drift(template.vertices, template.faces, target, settings, progress).moved
    for rounds in range(SMOOTHED, -1, -1):
        step = closest_on_mesh(moved, bone.vertices, bone.faces)[1] - moved
        moved = moved + _smoothed(step, template.faces, rounds)
    return TriangleMesh(moved, template.faces, Frame.PATIENT, scalars=dict(template.scalars))


def _smoothed(values: np.ndarray, faces: np.ndarray, rounds: int) -> np.ndarray:
    """(V, C) values, averaged with those of neighbours so many times."""
    import scipy.sparse as sparse

    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    count = len(values)
    around = sparse.coo_matrix((np.ones(len(edges)), edges.T), (count, count)).tocsr()
    around = around + around.T + sparse.eye(count)
    around = sparse.diags(1.0 / np.asarray(around.sum(axis=1)).ravel()) @ around
    for _ in range(rounds):
        values = around @ values
    return values
