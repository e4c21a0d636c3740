"""Triangle meshes in a named frame."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ..geometry.transforms import Frame, Similarity

if TYPE_CHECKING:
    import trimesh
    from vtkmodules.vtkCommonDataModel import vtkPolyData


@dataclass(frozen=True)
class TriangleMesh:
    """A mesh, or, without faces, a point cloud.

    Attributes:
        vertices: (V, 3) in `frame`, in its unit.
        faces: (F, 3).
        frame: where the numbers live.
        normals: (V, 3) unit, or None.
        colors: (V, 3) uint8 RGB, or None.
        scalars: name -> (V,) float values a vertex.
    """

    vertices: np.ndarray
    faces: np.ndarray
    frame: Frame
    normals: np.ndarray | None = None
    colors: np.ndarray | None = None
    scalars: dict[str, np.ndarray] = field(default_factory=dict)

    def require(self, frame: Frame) -> TriangleMesh:
        """Return the mesh itself.

        Raises:
            ValueError: it is in another frame.
        """
        if self.frame is not frame:
            raise ValueError(f"a mesh of the {frame.value} frame is needed here, not one of the {self.frame.value} frame")
        return self

    def as_trimesh(self) -> trimesh.Trimesh:
        """Return the mesh for trimesh, in the same frame, with its colours."""
        import trimesh

        return trimesh.Trimesh(self.vertices, self.faces, vertex_colors=self.colors, process=False)

    def as_polydata(self) -> vtkPolyData:
        """Return the mesh for VTK, in the same frame, with point arrays Normals, RGB, and one a scalar."""
        from .polydata import array, triangles

        data = triangles(self.vertices, self.faces)
        at_points = data.GetPointData()
        if self.normals is not None:
            at_points.SetNormals(array("Normals", self.normals.astype(np.float32)))
        for name, values in self.scalars.items():
            at_points.AddArray(array(name, values.astype(np.float32)))
        if self.colors is not None:
            at_points.AddArray(array("RGB", np.ascontiguousarray(self.colors, np.uint8)))
        return data

    def moved(self, transform: Similarity, frame: Frame) -> TriangleMesh:
        """Return the mesh in another frame, given the map from its own."""
        normals = None if self.normals is None else transform.apply_directions(self.normals)
        return replace(self, vertices=transform.apply(self.vertices), normals=normals, frame=frame)

    def part(self, kept: np.ndarray) -> TriangleMesh:
        """Return what is left if only faces of the (V,) kept vertices stay, with all that vertices carry."""
        used, faces = keep_vertices(self.vertices, self.faces, kept)
        of_used = lambda values: None if values is None else values[used]
        scalars = {name: values[used] for name, values in self.scalars.items()}
        return replace(
            self,
            vertices=self.vertices[used],
            faces=faces,
            normals=of_used(self.normals),
            colors=of_used(self.colors),
            scalars=scalars,
        )


def connected_parts(edges: np.ndarray, count: int) -> np.ndarray:
    """Return the (count,) number of the connected part that each vertex belongs to.

    Args:
        edges: (E, 2) vertices, or the (F, 3) faces of a mesh.
        count: of vertices.
    """
    import scipy.sparse as sparse

    pairs = edges[:, [0, 1, 1, 2]].reshape(-1, 2) if edges.shape[1] == 3 else edges
    graph = sparse.coo_matrix((np.ones(len(pairs)), pairs.T), (count, count))
    return sparse.csgraph.connected_components(graph, directed=False)[1]


def vertex_normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit vertex normals, (N, 3)."""
    corners = points[faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(points)
    for i in range(3):
        np.add.at(normals, faces[:, i], face_normals)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def triangle_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the (F,) areas of triangles."""
    corners = vertices[faces]
    return 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)


def vertex_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the (V,) share of the surface that each vertex stands for: a third of its triangles' areas."""
    return np.bincount(faces.ravel(), np.repeat(triangle_areas(vertices, faces) / 3.0, 3), len(vertices))


def weighted_share(chosen: np.ndarray, weights: np.ndarray) -> float:
    """Return which share of the weight a (N,) choice has; 0 if nothing weighs anything."""
    return float(weights[chosen].sum() / max(weights.sum(), 1e-9))


def weighted_quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """Return the value below which a share of the weight of (N,) values lies; NaN if there is none."""
    if not len(values):
        return float("nan")
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][min(np.searchsorted(below, share * below[-1]), len(values) - 1)])


def sample_surface(
    vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator, weight: np.ndarray | float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return (count, 3) points on a mesh, even by area times a face's weight, and their (count, 3) unit normals."""
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normals, axis=1)
    share = area * weight
    face = rng.choice(len(share), count, p=share / share.sum())
    points = np.einsum("nk,nkc->nc", rng.dirichlet([1.0, 1.0, 1.0], count), corners[face])
    return points, normals[face] / area[face, None]


def keep_vertices(vertices: np.ndarray, faces: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which vertices stay if only faces of kept vertices stay, and those faces, renumbered."""
    faces = faces[kept[faces].all(axis=1)]
    used = np.unique(faces)
    number = np.full(len(vertices), -1)
    number[used] = np.arange(len(used))
    return used, number[faces]


def names_own_vertices(vertices: np.ndarray, faces: np.ndarray) -> bool:
    """Whether (F, 3) faces name only vertices that are there; a damaged file's do not."""
    return not len(faces) or bool(faces.min() >= 0 and faces.max() < len(vertices))
