"""Landmarks proposed on the skin of a volume, for people to correct."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...core.errors import RegistrationError
from ...geometry.transforms import Similarity
from ...landmarks.names import LANDMARK_NAMES, NIPPLES
from ...mesh.distance import closest_on_mesh
from ...mesh.mesh import TriangleMesh
from ...shape_model.atlas import fit_atlas
from .chest import Chest

# The skin so near to a landmark says whether it moved, if it lies farther from the volume's than this (median).
AROUND_MM, MOVED_MM = 35.0, 3.0


def proposed_landmarks(chest: Chest, transform: Similarity, distance_mm: np.ndarray, skin: TriangleMesh) -> dict[str, np.ndarray]:
    """Return (3,) landmarks on the volume's skin, RAS mm, by name.

    Where the registered surface lies on the skin they are the surface's own. Elsewhere the patient moved: they are those of the
    atlas, fitted to the skin; but nipples slide over the chest by centimetres, so that none is proposed.

    Args:
        chest: the surface.
        transform: that registers it.
        distance_mm: (V,) of its vertices to the skin, then.
        skin: of the volume.
    """
    marks = transform.apply(chest.landmarks_ras)
    still = [_is_still(chest, mark, distance_mm) for mark in chest.landmarks_ras]
    places = marks.copy()
    if not all(still):
        known = np.where(np.array(still)[:, None], marks, np.nan)
        enough = np.isfinite(known).all(axis=1).sum() >= 3
        try:
            fitted = fit_atlas(replace(skin, scalars={}), known if enough else marks).points_ras.landmarks
        except RegistrationError:  # the volume holds too little of the chest for an atlas: only what is still is proposed
            fitted = np.full_like(marks, np.nan)
        places[~np.array(still)] = fitted[~np.array(still)]
        places[[number for number in NIPPLES if not still[number]]] = np.nan
    found = np.isfinite(places).all(axis=1)
    _, onto = closest_on_mesh(places[found], skin.vertices, skin.faces)
    names = [name for name, is_found in zip(LANDMARK_NAMES, found, strict=True) if is_found]
    return dict(zip(names, onto, strict=True))


def _is_still(chest: Chest, mark: np.ndarray, distance_mm: np.ndarray) -> bool:
    near = np.linalg.norm(chest.mesh.vertices - mark, axis=1) < AROUND_MM
    return bool(near.any()) and float(np.median(np.abs(distance_mm[near]))) < MOVED_MM
