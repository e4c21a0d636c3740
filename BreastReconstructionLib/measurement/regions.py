"""Parts of the torso that are judged apart, placed by a body's own landmarks; and what can stand behind a place of it."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from ..mesh.mesh import TriangleMesh

REGIONS = ("front", "nipples", "folds", "shoulders", "sides")
# What a shape model does not know, in the order of its labels in a phantom's truth, which begin at 1.
DETAILS = ("scars", "folds", "moles", "nipples", "stretch-marks", "ripples")
FRONT, NIPPLE, FOLD, SHOULDER, SIDE = range(len(REGIONS))
# mm: radius about a nipple; the inframammary fold's height below it, and width.
NIPPLE_MM, FOLD_BELOW_MM, FOLD_BESIDE_MM = 30.0, (25.0, 95.0), 70.0
SHOULDER_BELOW_CORACOID_MM, SIDE_COSINE = 35.0, 0.75


def regions(points_ras: np.ndarray, normals_ras: np.ndarray, landmarks_ras: np.ndarray) -> np.ndarray:
    """Return the (N,) region, an index of REGIONS, of points on a torso's skin.

    Args:
        points_ras, normals_ras: (N, 3) patient space, mm.
        landmarks_ras: (6, 3).
    """
    notch, coracoids = landmarks_ras[0], landmarks_ras[4:]
    found = np.full(len(points_ras), FRONT)
    found[np.abs(normals_ras[:, 0]) > SIDE_COSINE] = SIDE
    for nipple in landmarks_ras[2:4]:
        below, beside = nipple[2] - points_ras[:, 2], np.abs(points_ras[:, 0] - nipple[0])
        found[(below > FOLD_BELOW_MM[0]) & (below < FOLD_BELOW_MM[1]) & (beside < FOLD_BESIDE_MM) & (found == FRONT)] = FOLD
    halfway = 0.55 * np.abs(coracoids[:, 0] - notch[0]).mean()
    high = points_ras[:, 2] > coracoids[:, 2].mean() - SHOULDER_BELOW_CORACOID_MM
    found[high & (np.abs(points_ras[:, 0] - notch[0]) > halfway)] = SHOULDER
    for nipple in landmarks_ras[2:4]:
        found[np.linalg.norm(points_ras - nipple, axis=1) < NIPPLE_MM] = NIPPLE
    return found


def skin_of(surface: TriangleMesh) -> TriangleMesh:
    """Return the skin of a delivered surface, without what closes it behind (scalar `torso`; all of it if it does not say)."""
    torso = surface.scalars.get("torso")
    return surface.part(np.ones(len(surface.vertices), bool) if torso is None else torso > 0.5)


class Evidence(IntEnum):
    """What stands behind a place of a surface: the shape model alone, measured points of skin, or the pictures against it."""

    DRAWN = 0
    MEASURED = 1
    CONTRADICTED = 2
