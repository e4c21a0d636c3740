"""How a body becomes a torso: subdivided, cut as the official mean shape is cut, and closed."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from ..mesh.boundary import boundary_loops

# The crop of the official mean shape, in its model units on the population mean.
BOTTOM_Y, BACK_Z, ARM_DISTANCE = -0.75, -0.27, 0.54
NECK_FRONT, NECK_SLOPE = (0.61, -0.04), 0.5


def catmull_clark(vertex_count: int, quads: np.ndarray, uv: np.ndarray):
    """One Catmull-Clark round on an open quad mesh: the (V', V) operator, the new quads, their corner coordinates.

    Catmull and Clark 1978, with the usual cubic B-spline rule on the boundary. Texture coordinates are split linearly.
    """
    face_count = len(quads)
    half_edges = np.sort(np.stack([quads, np.roll(quads, -1, axis=1)], axis=-1).reshape(-1, 2), axis=1)
    edges, edge_of, edge_faces = np.unique(half_edges, axis=0, return_inverse=True, return_counts=True)
    edge_of = edge_of.reshape(face_count, 4)
    on_boundary = edge_faces == 1
    ones = np.ones(face_count * 4)
    face_points = sparse.csr_matrix((ones / 4, (np.repeat(np.arange(face_count), 4), quads.ravel())), (face_count, vertex_count))
    edge_index = np.repeat(np.arange(len(edges)), 2)
    midpoints = sparse.csr_matrix((np.full(len(edges) * 2, 0.5), (edge_index, edges.ravel())), (len(edges), vertex_count))
    edge_to_face = sparse.csr_matrix((ones, (edge_of.ravel(), np.repeat(np.arange(face_count), 4))), (len(edges), face_count))
    interior = sparse.diags((~on_boundary).astype(float))
    edge_points = (
        interior @ (0.5 * midpoints + 0.25 * (edge_to_face @ face_points)) + sparse.diags(on_boundary.astype(float)) @ midpoints
    )

    vertex_to_edge = sparse.csr_matrix((np.ones(len(edges) * 2), (edges.ravel(), edge_index)), (vertex_count, len(edges)))
    vertex_to_face = sparse.csr_matrix((ones, (quads.ravel(), np.repeat(np.arange(face_count), 4))), (vertex_count, face_count))
    valence = np.asarray(vertex_to_face.sum(axis=1)).ravel()
    boundary_vertex = np.zeros(vertex_count, bool)
    boundary_vertex[edges[on_boundary]] = True
    inverse = 1.0 / np.maximum(valence, 1)
    inner = (
        sparse.diags(inverse**2) @ (vertex_to_face @ face_points)
        + sparse.diags(2 * inverse**2) @ (vertex_to_edge @ midpoints)
        + sparse.diags(np.maximum(valence - 3, 0) * inverse)
    )
    rim = 0.5 * sparse.identity(vertex_count) + 0.25 * (vertex_to_edge @ sparse.diags(on_boundary.astype(float)) @ midpoints)
    vertex_points = sparse.diags((~boundary_vertex).astype(float)) @ inner + sparse.diags(boundary_vertex.astype(float)) @ rim
    operator = sparse.vstack([vertex_points, edge_points, face_points]).tocsr()

    edge_ids = vertex_count + edge_of
    face_ids = vertex_count + len(edges) + np.arange(face_count)
    center, middle = uv.mean(axis=1), 0.5 * (uv + np.roll(uv, -1, axis=1))
    new_quads, new_uv = [], []
    for corner in range(4):
        previous = (corner + 3) % 4
        new_quads.append(np.stack([quads[:, corner], edge_ids[:, corner], face_ids, edge_ids[:, previous]], axis=1))
        new_uv.append(np.stack([uv[:, corner], middle[:, corner], center, middle[:, previous]], axis=1))
    return operator, np.concatenate(new_quads), np.concatenate(new_uv)


def crop_fields(points_model: np.ndarray, arm_weight: np.ndarray) -> list[np.ndarray]:
    """Scalar fields whose positive part is kept: back, bottom, neck, arms (arms by skin weight, so no plane slices the waist)."""
    x, y, z = points_model.T
    along_arm = 0.76 * np.abs(x) - 0.65 * y
    neck_y, neck_z = NECK_FRONT
    return [
        z - BACK_Z,
        y - BOTTOM_Y,
        neck_y + NECK_SLOPE * (neck_z - z) - y,
        np.maximum(ARM_DISTANCE - along_arm, 0.5 - arm_weight),
    ]


def cut(points: np.ndarray, faces: np.ndarray, fields_to_keep: list[np.ndarray]):
    """Clip triangles by the fields' zero contours; return the (T, S) operator and the triangles of the largest piece."""
    operator = sparse.identity(len(points), format="csr")
    for field in fields_to_keep:
        values = operator @ field
        # Contours that pass within a tenth of an edge of a vertex are moved onto it: no slivers.
        edges = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
        span = np.zeros(len(values))
        np.maximum.at(span, edges.ravel(), np.repeat(np.abs(values[edges[:, 0]] - values[edges[:, 1]]), 2))
        values = np.where(np.abs(values) < 0.1 * span, 0.0, values)
        operator, faces = _clip_once(operator, faces, values)
    adjacency = sparse.coo_matrix(
        (np.ones(len(faces) * 3), (faces.ravel(), np.roll(faces, 1, axis=1).ravel())), (operator.shape[0],) * 2
    )
    _, component = sparse.csgraph.connected_components(adjacency, directed=False)
    largest = np.bincount(component[faces[:, 0]]).argmax()
    faces = faces[component[faces[:, 0]] == largest]
    used, flat = np.unique(faces, return_inverse=True)
    return operator[used], flat.reshape(-1, 3)


def _clip_once(operator: sparse.csr_matrix, faces: np.ndarray, values: np.ndarray):
    inside = values >= 0
    faces = faces[(values[faces] > 0).any(axis=1)]
    count = inside[faces].sum(axis=1)
    whole = faces[count == 3]
    crossing = faces[(count == 1) | (count == 2)]
    lone_inside = inside[crossing].sum(axis=1) == 1
    lone = np.where(lone_inside[:, None], inside[crossing], ~inside[crossing]).argmax(axis=1)
    a, b, c = (crossing[np.arange(len(crossing)), (lone + shift) % 3] for shift in range(3))
    pairs = np.sort(np.concatenate([np.stack([a, b], 1), np.stack([a, c], 1)]), axis=1)
    edges, edge_of = np.unique(pairs, axis=0, return_inverse=True)
    edge_of = edge_of.ravel() + operator.shape[0]
    t = values[edges[:, 0]] / (values[edges[:, 0]] - values[edges[:, 1]])
    rows = np.repeat(np.arange(len(edges)), 2)
    on_edges = sparse.csr_matrix((np.stack([1 - t, t], 1).ravel(), (rows, edges.ravel())), (len(edges), operator.shape[0]))
    ab, ac = edge_of[: len(a)], edge_of[len(a) :]
    kept = [
        whole,
        np.stack([a, ab, ac], 1)[lone_inside],
        np.stack([ab, b, c], 1)[~lone_inside],
        np.stack([ab, c, ac], 1)[~lone_inside],
    ]
    faces = np.concatenate(kept)
    # A contour through a vertex gives triangles of no area whose corners coincide: merge those corners.
    at_vertex = (t == 0) | (t == 1)
    target = np.arange(operator.shape[0] + len(edges))
    target[operator.shape[0] :][at_vertex] = np.where(t == 0, edges[:, 0], edges[:, 1])[at_vertex]
    faces = target[faces]
    distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])
    return sparse.vstack([operator, on_edges @ operator]).tocsr(), faces[distinct]


def outline(faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The one loop around the crop, counter-clockwise seen from the front."""
    loops = boundary_loops(faces)
    if len(loops) != 1:
        raise ValueError(f"the crop has {len(loops)} boundary loops instead of one")
    if _signed_area(points[loops[0], :2]) < 0:
        raise ValueError("the skin's faces point inwards")
    return loops[0]


def close_torso(torso_model: np.ndarray, boundary: np.ndarray, cut_fields: np.ndarray):
    """Close the frontal skin as the solid body between the cutting planes: caps at neck, arms and bottom, and a flat back.

    Args:
        torso_model: (T, 3) template skin, model units.
        boundary: (L,) its boundary loop.
        cut_fields: (4, T) the crop fields at its vertices: back, bottom, neck, arms.

    Returns:
        (N, T) weights of the closing vertices, (N,) which of them lie in the plane of the back, and (C, 3) triangles
        over the T skin and N closing vertices.
    """
    starts, kinds = _loop_runs(boundary, cut_fields)
    weights = [sparse.identity(len(torso_model), format="csr")]
    faces, back_loop = [], []

    def add(rows: sparse.csr_matrix) -> np.ndarray:
        first = sum(block.shape[0] for block in weights)
        weights.append(rows)
        return first + np.arange(rows.shape[0])

    def cap(ring: np.ndarray, toward: np.ndarray) -> None:
        template = sparse.vstack(weights).tocsr()[ring]
        triangles, interior = _fill_polygon(template @ torso_model, toward)
        ids = np.concatenate([ring, add(sparse.csr_matrix(interior) @ template)])
        faces.append(ids[triangles])

    for start, stop, kind in zip(starts, np.roll(starts, -1), kinds, strict=True):
        run = np.arange(start, stop if stop > start else stop + len(boundary)) % len(boundary)
        run = boundary[np.append(run, stop % len(boundary))]
        if kind == 0:
            back_loop.append(run[:-1])
            continue
        ends = torso_model[[run[0], run[-1]]]
        t = np.linspace(0, 1, max(3, int(np.linalg.norm(ends[1] - ends[0]) / 0.02)))[1:-1]
        rows = sparse.csr_matrix(
            (np.stack([1 - t, t], 1).ravel(), (np.repeat(np.arange(len(t)), 2), np.tile(run[[0, -1]], len(t)))),
            (len(t), len(torso_model)),
        )
        chord = add(rows)
        back_loop.append(np.concatenate([run[:1], chord]))
        points = torso_model[run]
        toward = np.linalg.svd(points - points.mean(axis=0))[2][2]
        outward = points.mean(axis=0) - torso_model.mean(axis=0)
        cap(np.concatenate([run, chord[::-1]]), toward * np.sign(toward @ outward))

    rim_front = np.concatenate(back_loop)
    skin_rows = sparse.vstack(weights).tocsr()
    rim = add(skin_rows[rim_front])
    here, after, rim_after = rim_front, np.roll(rim_front, -1), np.roll(rim, -1)
    faces += [np.stack([after, here, rim], 1), np.stack([after, rim, rim_after], 1)]
    cap(rim, np.array([0.0, 0.0, -1.0]))
    closing = sparse.vstack(weights[1:]).tocsr()
    on_back = np.arange(closing.shape[0]) + len(torso_model) >= rim[0]
    return closing, on_back, np.concatenate(faces)


def _loop_runs(boundary: np.ndarray, cut_fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split the loop into runs that lie on one cut each; return their first positions and cuts."""
    values = np.abs(cut_fields[:, boundary])
    kind_of_edge = np.maximum(values, np.roll(values, -1, axis=1)).argmin(axis=0)
    while True:
        starts = np.flatnonzero(kind_of_edge != np.roll(kind_of_edge, 1))
        lengths = (np.roll(starts, -1) - starts) % len(boundary)
        shortest = lengths.argmin()
        if lengths[shortest] > 3:
            return starts, kind_of_edge[starts]
        # A corner's edge may lie on two cuts; a run of one to three edges belongs to the run before it.
        where = (starts[shortest] + np.arange(lengths[shortest])) % len(boundary)
        kind_of_edge[where] = kind_of_edge[starts[shortest] - 1]


def _fill_polygon(ring: np.ndarray, toward: np.ndarray, spacing: float = 0.06):
    """Triangulate a nearly planar polygon with interior points placed by harmonic weights.

    Args:
        ring: (L, 3) the polygon.
        toward: (3,) the outward normal.

    Returns:
        (F, 3) triangles over L ring and I interior points, and (I, L) weights.
    """
    from matplotlib.path import Path as Polygon
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
    from vtkmodules.vtkFiltersCore import vtkDelaunay2D

    first = np.linalg.svd(np.eye(3) - np.outer(toward, toward))[0][:, 0]
    axes = np.stack([first, np.cross(toward, first)])
    flat = (ring - ring.mean(axis=0)) @ axes.T
    low, high = flat.min(axis=0), flat.max(axis=0)
    grid = np.stack(np.meshgrid(*(np.arange(a, b, spacing) for a, b in zip(low, high, strict=True))), -1).reshape(-1, 2)
    grid = grid[Polygon(flat).contains_points(grid) & (cKDTree(flat).query(grid)[0] > 0.5 * spacing)]
    count = len(ring)
    points = np.concatenate([flat, grid])
    order = np.arange(count) if _signed_area(flat) > 0 else np.arange(count)[::-1]

    cloud, outline = vtkPolyData(), vtkPolyData()
    vtk_points = vtkPoints()
    vtk_points.SetData(numpy_to_vtk(np.column_stack([points, np.zeros(len(points))]), deep=True))
    cloud.SetPoints(vtk_points)
    outline.SetPoints(vtk_points)
    polygon = vtkCellArray()
    polygon.InsertNextCell(count)
    for i in order:
        polygon.InsertCellPoint(int(i))
    outline.SetPolys(polygon)
    delaunay = vtkDelaunay2D()
    delaunay.SetInputData(cloud)
    delaunay.SetSourceData(outline)
    delaunay.SetTolerance(0.0)
    delaunay.Update()
    triangles = vtk_to_numpy(delaunay.GetOutput().GetPolys().GetConnectivityArray()).reshape(-1, 3).copy()
    a, b, c = points[triangles].transpose(1, 0, 2)
    turn = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    triangles = np.where((turn < 0)[:, None], triangles[:, ::-1], triangles)
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    unique, uses = np.unique(edges, axis=0, return_counts=True)
    rim = {tuple(edge) for edge in unique[uses == 1].tolist()}
    wanted = {tuple(sorted((i, (i + 1) % count))) for i in range(count)}
    if rim != wanted:
        raise ValueError(f"{len(rim ^ wanted)} edges of a cap do not follow the cut")
    adjacency = sparse.csr_matrix((np.ones(len(unique)), unique.T), (len(points),) * 2)
    adjacency = adjacency + adjacency.T
    laplacian = (sparse.diags(np.asarray(adjacency.sum(axis=1)).ravel()) - adjacency).tocsr()
    inner = laplacian[count:].tocsc()
    weights = -splu(inner[:, count:]).solve(inner[:, :count].toarray())
    return triangles, weights


def _signed_area(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) / 2)
