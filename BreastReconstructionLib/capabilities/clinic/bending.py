"""A smooth displacement that carries a registered surface onto the skin of a volume in another posture."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree

from ...core.progress import Progress
from ...geometry.transforms import RAS_TO_LPS, Similarity
from ...geometry.volume import Volume
from ...landmarks.names import LANDMARK_NAMES
from ...mesh.mesh import TriangleMesh

CONTROL_POINTS = 500
# Smoothing of the thin plate (scipy's, mm), coarse to fine.
SMOOTHINGS = (300.0, 100.0, 30.0, 10.0, 3.0)
LEAST_ALIKE, FARTHEST_MM, GRID_MM, MARGIN_MM = 0.3, 90.0, 12.0, 40.0


def bend(
    mesh: TriangleMesh,
    to_scan: Similarity,
    skin: TriangleMesh,
    landmarks_ras: np.ndarray,
    scan_landmarks: dict[str, np.ndarray],
    progress: Progress,
) -> tuple[Volume, float]:
    """Return the displacements on a grid (mm, components in LPS as files hold them), and the median distance that is left.

    Thin-plate splines (scipy) of closest points, smoother at first; landmarks placed on the volume are kept in place.

    Args:
        mesh: the skin of the surface, with normals.
        to_scan: its registration.
        skin: of the volume.
        landmarks_ras: (6, 3) of the surface.
        scan_landmarks: name -> (3,) on the volume.
        progress: told how far it is.
    """
    assert mesh.normals is not None
    assert skin.normals is not None
    count = len(mesh.vertices)
    chosen = np.random.default_rng(0).choice(count, min(CONTROL_POINTS, count), replace=False)
    rest, normals = to_scan.apply(mesh.vertices[chosen]), to_scan.apply_directions(mesh.normals[chosen])
    named = [LANDMARK_NAMES.index(name) for name in scan_landmarks]
    fixed = to_scan.apply(landmarks_ras[named])
    wanted = np.array([scan_landmarks[LANDMARK_NAMES[number]] for number in named]).reshape(-1, 3)
    tree, moved, plate = cKDTree(skin.vertices), rest.copy(), None
    for number, smoothing in enumerate(SMOOTHINGS):
        progress(0.7 * number / len(SMOOTHINGS), "bending")
        for _ in range(3):
            distance, index = tree.query(moved)
            toward = skin.normals[index]
            alike = ((normals * toward).sum(axis=1) > LEAST_ALIKE) & (distance < FARTHEST_MM)
            onto = moved - ((moved - skin.vertices[index]) * toward).sum(axis=1)[:, None] * toward
            sources = np.concatenate([rest[alike], fixed])
            targets = np.concatenate([onto[alike], wanted])
            smooth = np.concatenate([np.full(alike.sum(), smoothing), np.full(len(fixed), 0.1)])
            plate = RBFInterpolator(sources, targets - sources, kernel="thin_plate_spline", smoothing=smooth)
            moved = rest + plate(rest)
    assert plate is not None
    whole = to_scan.apply(mesh.vertices)
    bent = whole + plate(whole)
    some = bent[:: max(1, len(bent) // 5000)]
    distance, index = tree.query(some)
    along = np.abs(((some - skin.vertices[index]) * skin.normals[index]).sum(axis=1))
    left = float(np.median(along[distance < 15.0])) if (distance < 15.0).any() else float("inf")
    low, high = whole.min(axis=0) - MARGIN_MM, whole.max(axis=0) + MARGIN_MM
    counts = np.ceil((high - low) / GRID_MM).astype(int) + 1
    axes = [low[axis] + GRID_MM * np.arange(counts[axis]) for axis in range(3)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    progress(0.85, "grid")
    displacement = plate(places).reshape(*counts, 3) @ RAS_TO_LPS
    matrix = np.diag([GRID_MM, GRID_MM, GRID_MM, 1.0])
    matrix[:3, 3] = low
    return Volume(displacement.transpose(2, 1, 0, 3).astype(np.float32), matrix), left


def apply_grid(points_ras: np.ndarray, field: Volume) -> np.ndarray:
    """Move (N, 3) points by a grid of displacements, linearly interpolated; 0 outside of it."""
    from scipy.ndimage import map_coordinates

    index = field.to_ijk(points_ras).T[::-1]
    moved = [map_coordinates(field.values[..., axis], index, order=1, mode="constant") for axis in range(3)]
    return points_ras + np.stack(moved, axis=1) @ RAS_TO_LPS
