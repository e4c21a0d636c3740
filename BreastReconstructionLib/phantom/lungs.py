"""Synthetic lungs with exact surfaces: scaffoldmaker's human lungs (ABI, Apache-2.0), their parameters drawn at random.

Two closed bodies that do not touch, patient space (mm, RAS). They are smooth: no fissures, no vessels, no heart's imprint
beyond what the scaffold has.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DependencyError
from ..core.files import disk_errors
from ..core.progress import Progress
from ..geometry.transforms import Frame
from ..geometry.volume import Volume, write_volume
from ..mesh.files import write_ply
from ..mesh.mesh import TriangleMesh, connected_parts
from ..mesh.solids import coverage

# mm a unit of the scaffold, and the spread of sizes: a mean lung is 240 mm high and holds 1.8 l.
MM_PER_SCAFFOLD_UNIT, SIZE_SPREAD = 205.0, 0.07
DIVISIONS = 6
# Lungs nearer to each other than this, mm, are drawn anew: those of a patient are parted by pleura and mediastinum.
SMALLEST_GAP_MM = 4.0
# Relative standard deviations of the scaffold's parameters: what both lungs share, each lung by itself, and between both.
OF_EACH = {
    "width": (0.09, 0.04),
    "depth": (0.07, 0.03),
    "height": (0.10, 0.04),
    "ventral edge sharpness factor": (0.12, 0.08),
    "dorsal-ventral medial curvature": (0.20, 0.12),
}
# The heart lies to the left, and the liver lifts the right lung's base: the left lung is narrower and longer.
USUAL_FACTORS = {"Left": {"width": 0.91, "height": 1.04}, "Right": {"width": 1.06, "height": 0.96}}
OF_BOTH = {
    "Left-right lung spacing": 0.06,
    "Left-right apex medial shear displacement": 0.3,
    "Left-right apex ventral shear displacement": 0.3,
    "Diaphragm curvature x": 0.3,
    "Diaphragm curvature y": 0.3,
}
MEDIAL_PROTRUSION = 0.05  # of a lung's base, where the scaffold has none
LEFT, RIGHT = 1, 2


def lungs(seed: int) -> TriangleMesh:
    """Return the lungs of a seed, outward, mm RAS; scalar `side` is 1 on the left lung and 2 on the right one.

    Raises:
        DependencyError: scaffoldmaker is not installed.
    """
    for attempt in range(20):
        rng = np.random.default_rng([41, seed, attempt])
        vertices, faces = _exterior(_drawn(rng))
        labels = connected_parts(faces, len(vertices))
        if labels.max() != 1:
            continue
        sizes = MM_PER_SCAFFOLD_UNIT * np.exp(SIZE_SPREAD * rng.normal())
        vertices = vertices * sizes
        left = labels == labels[vertices[:, 0].argmin()]
        if _gap(vertices[left], vertices[~left]) > SMALLEST_GAP_MM:
            return TriangleMesh(vertices, faces, Frame.PATIENT, scalars={"side": np.where(left, float(LEFT), float(RIGHT))})
    raise AssertionError(f"no lungs of seed {seed} keep apart")  # 20 draws; a tenth of all fail


def label_volume(mesh: TriangleMesh, spacing_mm: tuple[float, float, float], matrix: np.ndarray | None = None) -> Volume:
    """Return the lungs as a label volume: 1 in the left, 2 in the right.

    Args:
        mesh: of `lungs`.
        spacing_mm: along i, j, k.
        matrix: (3, 3) directions of i, j, k as columns, a rotation; None for RAS.
    """
    directions = np.eye(3) if matrix is None else matrix
    along = mesh.vertices @ directions
    margin = 5.0 + max(spacing_mm)
    low, high = along.min(axis=0) - margin, along.max(axis=0) + margin
    shape = np.ceil((high - low) / spacing_mm).astype(int) + 1
    to_ras = np.eye(4)
    to_ras[:3, :3] = directions * np.asarray(spacing_mm)
    to_ras[:3, 3] = directions @ low
    values = np.zeros(shape[::-1], np.uint8)
    volume = Volume(values, to_ras)
    for side in (LEFT, RIGHT):
        one = mesh.part(mesh.scalars["side"] == side)
        values[coverage(one.vertices, one.faces, volume) > 0.5] = side
    return volume


def write_phantom_lungs(
    folder: Path, first_seed: int, count: int, spacing_mm: tuple[float, float, float] | None, progress: Progress | None = None
) -> list[Path]:
    """Write the lungs of consecutive seeds: meshes, or label volumes (NIfTI) if a spacing is given; returns their paths."""
    progress, paths = progress or Progress(), []
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            progress(number / count, f"lungs {number + 1} of {count}")
            mesh = lungs(first_seed + number)
            path = folder / f"lungs-{first_seed + number:04d}{'.ply' if spacing_mm is None else '.nii.gz'}"
            if spacing_mm is None:
                write_ply(path, mesh)
            else:
                write_volume(path, label_volume(mesh, spacing_mm))
            paths.append(path)
    return paths


@lru_cache(1)
def _scaffold() -> Any:
    try:
        from scaffoldmaker.meshtypes.meshtype_3d_lung2 import MeshType_3d_lung2
    except ImportError as error:
        raise DependencyError("Synthetic lungs need scaffoldmaker: pip install 'BreastReconstructionLib[train]'.") from error
    return MeshType_3d_lung2


def _drawn(rng: np.random.Generator) -> dict:
    """Parameters of the scaffold about those of its human lungs."""
    options = dict(_scaffold().getDefaultOptions("Human 1"))
    common = {name: spread * rng.normal() for name, (spread, _) in OF_EACH.items()}
    for side in ("Left", "Right"):
        for name, (_, spread) in OF_EACH.items():
            factor = USUAL_FACTORS[side].get(name, 1.0) * (1 + common[name] + spread * rng.normal())
            options[f"{side} lung {name}"] *= float(factor)
        options[f"{side} lung base medial protrusion"] = float(abs(MEDIAL_PROTRUSION * rng.normal()))
    for name, spread in OF_BOTH.items():
        options[name] *= float(1 + spread * rng.normal())
    _scaffold().checkOptions(options)
    return options


def _exterior(options: dict) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and outward faces of the scaffold's outer surface, a grid of triangles on each of its element faces."""
    from cmlibs.zinc.context import Context
    from cmlibs.zinc.element import Element

    context = Context("lungs")  # kept while its region is in use: the library lets it go with the last reference
    region = context.getDefaultRegion().createChild("lungs")
    _scaffold().generateBaseMesh(region, options)
    fields = region.getFieldmodule()
    coordinates = fields.findFieldByName("coordinates").castFiniteElement()
    fields.defineAllFaces()
    is_exterior, cache = fields.createFieldIsExterior(), fields.createFieldcache()
    elements = fields.findMeshByDimension(2).createElementiterator()
    vertices: list[list[float]] = []
    faces = []
    while (element := elements.next()).isValid():
        cache.setElement(element)
        if is_exterior.evaluateReal(cache, 1)[1] < 0.5:
            continue
        places, local = _grid(element.getShapeType() == Element.SHAPE_TYPE_SQUARE)
        faces.append(local + len(vertices))
        for place in places:
            cache.setMeshLocation(element, place)
            vertices.append(coordinates.evaluateReal(cache, 3)[1])
    return _joined(np.array(vertices), np.concatenate(faces))


@lru_cache(2)
def _grid(is_square: bool) -> tuple[list[list[float]], np.ndarray]:
    """Local coordinates of a grid on a square or triangular element face, and its triangles."""
    rows = [range(DIVISIONS + 1 - (0 if is_square else i)) for i in range(DIVISIONS + 1)]
    number = {place: k for k, place in enumerate((i, j) for i, row in enumerate(rows) for j in row)}
    triangles = []
    for i, j in number:
        right, up, across = (i + 1, j), (i, j + 1), (i + 1, j + 1)
        if right in number and up in number:
            triangles.append([number[i, j], number[right], number[up]])
        if right in number and up in number and across in number:
            triangles.append([number[right], number[across], number[up]])
    return [[i / DIVISIONS, j / DIVISIONS] for i, j in number], np.array(triangles)


def _joined(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices at one place made one, and the faces of each body turned outward."""
    import trimesh

    mesh = trimesh.Trimesh(vertices, faces, process=False)
    mesh.merge_vertices(digits_vertex=5)
    mesh.update_faces(mesh.nondegenerate_faces())
    mesh.remove_unreferenced_vertices()
    mesh.fix_normals(multibody=True)
    return np.asarray(mesh.vertices, float), np.asarray(mesh.faces, np.int64)


def _gap(one: np.ndarray, other: np.ndarray) -> float:
    """Smallest distance between two clouds."""
    from scipy.spatial import cKDTree

    return float(cKDTree(one).query(other)[0].min())
