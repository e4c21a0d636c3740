"""Triangles halved where their edges are chosen, without cracks."""

from __future__ import annotations

import numpy as np


def edges_of(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the (E, 2) edges of (F, 3) faces, lower vertex first, and (F, 3) numbers: of those from each corner to the next."""
    both = np.sort(np.stack([faces, np.roll(faces, -1, axis=1)], axis=2), axis=2).reshape(-1, 2)
    keys = both[:, 0] * (int(faces.max(initial=0)) + 1) + both[:, 1]
    _, first, number = np.unique(keys, return_index=True, return_inverse=True)
    return both[first], number.reshape(-1, 3)


def bent_edges(vertices: np.ndarray, normals: np.ndarray, edges: np.ndarray, tolerance: float) -> np.ndarray:
    """Tell which (E, 2) edges lie farther than a tolerance from the smooth surface whose unit normals the vertices know.

    A chord of length l whose ends' normals differ by d lies l d / 8 below a circle's arc.
    """
    length = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
    turned = np.linalg.norm(normals[edges[:, 0]] - normals[edges[:, 1]], axis=1)
    return length * turned / 8.0 > tolerance


def halved(faces: np.ndarray, edges: np.ndarray, numbers: np.ndarray, chosen: np.ndarray, count: int) -> np.ndarray:
    """Divide each face at the middles of its chosen edges: into four, three or two.

    Args:
        faces: (F, 3).
        edges, numbers: of `edges_of`.
        chosen: (E,) which edges get a new vertex at their middle.
        count: of vertices; the new ones follow, in the order of the chosen edges.

    Returns:
        (G, 3) faces, turned as before.
    """
    middle = np.full(len(edges), -1)
    middle[chosen] = count + np.arange(int(chosen.sum()))
    at = middle[numbers]
    cut = at >= 0
    parts = [faces[~cut.any(axis=1)]]
    for number in (1, 2, 3):
        some = cut.sum(axis=1) == number
        # Turned so that the first edge is cut and, of two, the last is not.
        lead = np.argmax(cut[some] & ~np.roll(cut[some], 1, axis=1), axis=1) if number < 3 else np.zeros(int(some.sum()), int)
        order = (lead[:, None] + np.arange(3)) % 3
        (a, b, c), (ab, bc, ca) = (np.take_along_axis(values[some], order, axis=1).T for values in (faces, at))
        triangles = {
            1: ((a, ab, c), (ab, b, c)),
            2: ((ab, b, bc), (a, ab, bc), (a, bc, c)),
            3: ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)),
        }[number]
        parts += [np.stack(triangle, axis=1) for triangle in triangles]
    return np.concatenate(parts)
