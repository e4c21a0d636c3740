"""Along a surface: shortest paths, exact to a thousandth of a percent, and distances from many places."""

from __future__ import annotations

import numpy as np

from ..core.errors import MeasurementError, RegistrationError
from .distance import closest_faces
from .mesh import connected_parts, keep_vertices

# Of the surface, what lies farther around the two ends than this is left out: no shortest path of a torso goes there.
DETOUR, MARGIN_MM = 1.6, 40.0


def surface_path(vertices: np.ndarray, faces: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray | None:
    """Return the (K, 3) polyline of the shortest path along a surface between the places nearest to two points.

    Edge flips (Sharp and Crane 2020, potpourri3d) straighten a path along edges; Dijkstra's alone, which Slicer's own curves
    take, is 4 to 6 % too long on any mesh.

    Returns:
        the path, or None if no path connects the two.

    Raises:
        MeasurementError: the surface is no manifold.
    """
    from potpourri3d import EdgeFlipGeodesicSolver

    straight = float(np.linalg.norm(stop - start))
    points, cells = _between(vertices, faces, start, stop, DETOUR * straight + MARGIN_MM)
    if len(cells) == 0:
        return None
    away = [np.linalg.norm(points - place, axis=1) for place in (start, stop)]
    ends, gaps = [int(one.argmin()) for one in away], sum(float(one.min()) for one in away)  # places may lie off the surface
    longest, edge = _along_edges(points, cells, ends)
    if not np.isfinite(longest):
        return None
    # No point of the shortest path can be farther from both ends, straight, than a path along edges is long.
    points, cells = _between(points, cells, start, stop, longest + 4 * edge + gaps)
    ends = []
    for place in (start, stop):
        points, cells, index = _with_vertex(points, cells, place)
        ends.append(index)
    if ends[0] == ends[1]:
        return points[ends]
    try:
        return np.asarray(EdgeFlipGeodesicSolver(points, cells).find_geodesic_path(*ends))
    except RuntimeError as error:  # geometry-central's checks of the mesh
        raise MeasurementError("The surface is no clean mesh (edges with three faces); no path can be measured on it.") from error


def _between(
    vertices: np.ndarray, faces: np.ndarray, start: np.ndarray, stop: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """The part of a surface whose distances from two places sum up to at most so much."""
    near = np.linalg.norm(vertices - start, axis=1) + np.linalg.norm(vertices - stop, axis=1) < reach
    while True:
        used, cells = keep_vertices(vertices, faces, near)
        # Where the cut leaves two parts that touch in a vertex, the vertex goes too: the solver wants a manifold.
        edges = np.sort(cells[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        single, counts = np.unique(edges, axis=0, return_counts=True)
        pinched = np.bincount(single[counts == 1].ravel(), minlength=len(used)) > 2
        if not pinched.any():
            return vertices[used], cells
        near = near.copy()
        near[used[pinched]] = False


def _along_edges(points: np.ndarray, cells: np.ndarray, ends: list[int]) -> tuple[float, float]:
    """Length of the shortest path along edges between two vertices, infinite if there is none; and the longest edge's."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import dijkstra

    edges = cells[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    lengths = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    # An edge of two faces is listed once in each sense, so that nothing is added up.
    graph = coo_matrix((lengths, edges.T), (len(points),) * 2).tocsr()
    return float(dijkstra(graph, directed=False, indices=ends[0])[ends[1]]), float(lengths.max())


def length_of(path: np.ndarray) -> float:
    """Length of a (K, 3) polyline."""
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def _with_vertex(points: np.ndarray, cells: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Put a vertex where the surface is nearest to a place."""
    _, (closest,), (face,) = closest_faces(place[None], points, cells)
    corners = cells[face]
    gap = np.linalg.norm(points[corners] - closest, axis=1)
    shortest = np.linalg.norm(points[corners] - points[np.roll(corners, 1)], axis=1).min()
    if gap.min() < 1e-3 * shortest:
        return points, cells, int(corners[gap.argmin()])
    a, b, c = corners
    new = len(points)
    parts = np.array([[a, b, new], [b, c, new], [c, a, new]])
    edge = np.linalg.norm(np.cross(points[parts[:, 1]] - points[parts[:, 0]], closest - points[parts[:, 0]]), axis=1)
    if edge.min() < 1e-4 * shortest**2:  # on an edge, which must be split on both sides: the nearest corner will do
        return points, cells, int(corners[gap.argmin()])
    others = np.delete(cells, face, axis=0)
    return np.concatenate([points, closest[None]]), np.concatenate([others, parts]), new


def geodesic_distances(vertices: np.ndarray, faces: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return (L, V) distances along a surface from vertices, by the heat method (Crane et al. 2013, potpourri3d).

    Raises:
        RegistrationError: the surface is in several pieces.
    """
    from potpourri3d import MeshHeatMethodDistanceSolver

    if connected_parts(faces, len(vertices)).max() > 0:
        raise RegistrationError("The template is in several pieces; distances along it are only known on one: join them.")
    solver = MeshHeatMethodDistanceSolver(np.ascontiguousarray(vertices, float), np.ascontiguousarray(faces, np.int64))
    found = np.stack([solver.compute_distance(int(place)) for place in places])
    return np.maximum(found, 0.0)
