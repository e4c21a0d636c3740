"""Distances that a clinic takes, straight and along the surface, each with where its ends come from and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ..mesh.geodesics import length_of, surface_path
from ..mesh.mesh import TriangleMesh, connected_parts
from .rows import Row

STRAIGHT, ALONG = "straight", "along the surface"
# Standard deviation, mm, of a place along the surface: clicked in pictures; proposed by the atlas (against exact phantoms).
PICKED_MM, FOLD_MM, MIDCLAVICLE_MM, BOUNDARY_MM = 1.5, 5.0, 8.0, 5.0


@dataclass(frozen=True)
class Place:
    """An end of a distance.

    Attributes:
        ras: (3,) mm.
        sure_mm: standard deviation along the surface.
        source: 'placed' or 'proposed'.
    """

    ras: np.ndarray
    sure_mm: float
    source: str


@dataclass(frozen=True)
class Measured:
    """A row, and the line or curve that shows it.

    Attributes:
        row: the number.
        path_ras: (K, 3) mm.
    """

    row: Row
    path_ras: np.ndarray


def measure_between(
    surface: TriangleMesh, name: str, side: str, ends: tuple[Place, Place], relative_scale: float, note: str = ""
) -> list[Measured]:
    """Return the straight distance between two places and the shortest one along the surface, if there is a way."""
    first, second = ends
    where = f"{first.source} to {second.source}" if first.source != second.source else f"both {first.source}"
    words = f"{where}{', ' + note if note else ''}"
    straight = float(np.linalg.norm(first.ras - second.ras))
    own = np.hypot(*(np.hypot(place.sure_mm, uncertainty_at(surface, place.ras)) for place in ends))
    found = [
        Measured(
            Row(name, side, straight, "mm", float(np.hypot(own, relative_scale * straight)), f"{STRAIGHT}, {words}"),
            np.stack([first.ras, second.ras]),
        )
    ]
    path = surface_path(surface.vertices, surface.faces, first.ras, second.ras)
    if path is not None:
        length = length_of(path)
        row = Row(name, side, length, "mm", float(np.hypot(own, relative_scale * length)), f"{ALONG}, {words}")
        found.append(Measured(row, path))
    return found


def uncertainty_at(surface: TriangleMesh, place_ras: np.ndarray) -> float:
    """Stated uncertainty of a surface, mm, near a place; 0 if it states none."""
    values = surface.scalars.get("uncertainty_mm")
    return 0.0 if values is None else float(values[np.linalg.norm(surface.vertices - place_ras, axis=1).argmin()])


def half_way(surface: TriangleMesh, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(3,) place half-way along the surface between two."""
    path = surface_path(surface.vertices, surface.faces, first, second)
    if path is None:
        return surface.vertices[np.linalg.norm(surface.vertices - 0.5 * (first + second), axis=1).argmin()]
    steps = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    return np.array([np.interp(0.5 * steps[-1], steps, path[:, axis]) for axis in range(3)])


def front_arc(surface: TriangleMesh, level_mm: float, middle_ras: np.ndarray) -> np.ndarray | None:
    """(K, 3) curve in which a horizontal plane cuts the front of the trunk, from the right to the left; None if it does not.

    Args:
        surface: skin alone, patient space.
        level_mm: S of the plane.
        middle_ras: (3,) the part of the section nearest to it is the trunk; others are arms.
    """
    import trimesh

    mesh = surface.as_trimesh()
    segments = np.asarray(trimesh.intersections.mesh_plane(mesh, np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.0, level_mm])))
    if len(segments) < 3:
        return None
    points, index = np.unique(np.round(segments.reshape(-1, 3), 5), axis=0, return_inverse=True)
    pairs = index.reshape(-1, 2)
    labels = connected_parts(pairs, len(points))
    nearest = cKDTree(points[:, :2]).query(middle_ras[:2])[1]
    own = labels == labels[nearest]
    return _ordered(points, pairs[own[pairs[:, 0]]])


def _ordered(points: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Points of a chain of segments, from its right end on."""
    neighbours: dict[int, list[int]] = {}
    for a, b in pairs[pairs[:, 0] != pairs[:, 1]].tolist():
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    ends = [place for place, others in neighbours.items() if len(set(others)) == 1] or list(neighbours)
    current = max(ends, key=lambda place: points[place, 0])
    chain, seen = [current], {current}
    while following := [other for other in neighbours[current] if other not in seen]:
        current = following[0]
        chain.append(current)
        seen.add(current)
    return points[chain]
