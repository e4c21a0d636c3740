"""A clinic's scans as training data: meshes with landmark files, checked, closed, and brought into the model's frame.

Mesh and landmark file of a scan have the same stem and the same coordinates; which ones does not matter, since the
similarity of the landmarks to the official mean anchors takes both into model space.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from ..core.errors import LandmarkError, ShapeModelError
from ..core.progress import Progress
from ..geometry.transforms import fit_similarity
from ..landmarks.files import read_landmarks
from ..landmarks.mean_anchors import OFFICIAL_MEAN_ANCHORS_MODEL, OFFICIAL_MM_PER_UNIT
from ..landmarks.names import LANDMARK_NAMES
from ..mesh.boundary import boundary_loops
from ..mesh.distance import closest_on_mesh
from ..mesh.mesh import connected_parts, names_own_vertices, sample_surface, triangle_areas
from ..mesh.polydata import with_points
from ..mesh.signed_distance import sample_distances
from ..phantom.torso import BACK_Z_MODEL
from .training_data import Subject, write_subjects

MESH_ENDINGS = (".ply", ".obj", ".stl", ".vtp")
LANDMARK_ENDINGS = (".csv", ".pp", ".mrk.json", ".json")
SURFACE_POINTS, POINTS = 10_000, 20_000
# mm a unit of length; a body's size is known to a factor of 1.5 at most, so these are never mistaken for each other.
UNITS_MM = {"millimetres": 1.0, "centimetres": 10.0, "inches": 25.4, "metres": 1000.0}
LARGEST_SIZE_FACTOR = 1.5
LANDMARK_OFF_SURFACE_MM = 10.0
# Root mean square distance of landmarks from the mean anchors, model units, that no body in its right labelling has.
LARGEST_LANDMARK_MISFIT = 0.15
# A part of a mesh with less of its area than this is debris.
DEBRIS_SHARE = 0.01
FACING_MM = 40.0
# Of the rim's vertices: where its shadow on the back crosses itself over no more than this, a corner is meant.
SMALL_CROSSING_SHARE = 0.03


@dataclass(frozen=True)
class Scan:
    """A mesh with six landmarks, in whatever frame and unit its files have.

    Attributes:
        vertices: (V, 3).
        faces: (F, 3).
        landmarks: (6, 3).
        notes: what was repaired, in words.
    """

    vertices: np.ndarray
    faces: np.ndarray
    landmarks: np.ndarray
    notes: tuple[str, ...] = ()

    def noted(self, words: str, **changes) -> Scan:
        """Return the scan with changes and a note of them."""
        return replace(self, notes=(*self.notes, words), **changes)


def prepare_scans(folder: Path, output: Path, progress: Progress | None = None) -> list[str]:
    """Write every mesh of a folder, with the landmark file of the same stem, as training data; returns the notes.

    Raises:
        ShapeModelError: no folder, fewer than two scans, or a scan that cannot be used: which one, why, and what to do.
        LandmarkError: landmarks missing, swapped, or off the surface.
        CaseError: the disk is full.
    """
    if not folder.is_dir():
        raise ShapeModelError(f"The folder {folder.name} does not exist; give the folder that holds the scans.")
    landmark_files = {path for path in folder.iterdir() if path.name.lower().endswith(LANDMARK_ENDINGS)}
    meshes = sorted(path for path in folder.iterdir() if path.suffix.lower() in MESH_ENDINGS)
    if len(meshes) < 2:
        raise ShapeModelError(
            f"{folder.name} holds {len(meshes)} scans (.ply, .obj, .stl, .vtp); training needs two at least, better fifty."
        )
    stems = [path.stem for path in meshes]
    if repeated := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise ShapeModelError(f"There are two meshes named {repeated[0]} in {folder.name}; keep one.")
    notes, progress = [], progress or Progress()

    def subjects():
        for i, path in enumerate(meshes):
            progress(i / len(meshes), f"scan {i + 1} of {len(meshes)}")
            subject, said = prepare_scan(path, _landmark_file(path, landmark_files))
            notes.extend(f"{path.name}: {words}" for words in said)
            yield subject

    write_subjects(output, subjects())
    return notes


def _landmark_file(mesh: Path, candidates: set[Path]) -> Path:
    for ending in LANDMARK_ENDINGS:
        if (path := mesh.with_name(mesh.stem + ending)) in candidates:
            return path
    raise LandmarkError(f"There is no landmark file for {mesh.name}; save it as {mesh.stem}.mrk.json, .pp or .csv beside it.")


def prepare_scan(mesh_path: Path, landmark_path: Path) -> tuple[Subject, tuple[str, ...]]:
    """Return one scan as a subject, and what was repaired."""
    vertices, faces = _read(mesh_path)
    points = read_landmarks(landmark_path).points
    if not points:
        raise LandmarkError(f"{landmark_path.name} holds picks in pictures; a scan needs 3D landmarks.")
    landmarks = np.stack([points[name] for name in LANDMARK_NAMES])
    if landmark_path.name.lower().endswith("json"):
        landmarks = _same_space(landmarks, vertices)
    name = mesh_path.name
    scan = _one_part(_welded(Scan(vertices, faces, landmarks)), name)
    scan = _in_millimetres(scan, name)
    _check_landmarks(scan, name)
    to_model = fit_similarity(scan.landmarks, OFFICIAL_MEAN_ANCHORS_MODEL)
    scan = replace(scan, vertices=to_model.apply(scan.vertices), landmarks=to_model.apply(scan.landmarks))
    scan = _closed(_outside_out(scan, to_model.scale), name)
    if np.abs(scan.vertices).max() > 1.0:
        raise ShapeModelError(
            f"{name} reaches beyond the model's cube; crop it to the torso between the base of the neck and just below the navel."
        )
    rng = np.random.default_rng(0)
    surface, normals = sample_surface(scan.vertices, scan.faces, SURFACE_POINTS, rng)
    near, distances = sample_distances(scan.vertices, scan.faces, POINTS, rng)
    return Subject(mesh_path.stem, scan.landmarks, surface, normals, 1.0 / to_model.scale, near, distances), scan.notes


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        if path.suffix.lower() == ".vtp":
            vertices, faces = _read_vtp(path)
        else:
            import trimesh

            mesh = trimesh.load(path, process=False, force="mesh")
            vertices, faces = np.asarray(mesh.vertices, float), np.asarray(mesh.faces, int)
    except Exception as error:  # trimesh raises many kinds for broken files
        raise ShapeModelError(f"{path.name} cannot be read as a mesh; export it again as PLY, OBJ, STL or VTP.") from error
    if not names_own_vertices(vertices, faces):
        raise ShapeModelError(f"{path.name} is damaged: its triangles name vertices that it does not hold; export it again.")
    if len(faces) < 100 or not np.isfinite(vertices).all():
        raise ShapeModelError(f"{path.name} holds {len(faces)} triangles, or positions that are no numbers; export it again.")
    return vertices, faces


def _read_vtp(path: Path) -> tuple[np.ndarray, np.ndarray]:
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkFiltersCore import vtkTriangleFilter
    from vtkmodules.vtkIOXML import vtkXMLPolyDataReader

    reader = vtkXMLPolyDataReader()
    reader.SetFileName(str(path))
    triangles = vtkTriangleFilter()
    triangles.SetInputConnection(reader.GetOutputPort())
    triangles.PassLinesOff()
    triangles.PassVertsOff()
    triangles.Update()
    data = triangles.GetOutput()
    return vtk_to_numpy(data.GetPoints().GetData()).astype(float), vtk_to_numpy(data.GetPolys().GetConnectivityArray()).reshape(
        -1, 3
    )


def _same_space(landmarks_ras: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Slicer's markups are RAS and its mesh files LPS, unless they say otherwise: the one that lies on the mesh is meant."""
    tree = cKDTree(vertices)
    candidates = [landmarks_ras, landmarks_ras * np.array([-1.0, -1.0, 1.0])]
    return min(candidates, key=lambda points: tree.query(points)[0].sum())


def _welded(scan: Scan) -> Scan:
    """Join vertices that lie in one place: STL has three of its own a triangle."""
    unique, inverse = np.unique(scan.vertices, axis=0, return_inverse=True)
    faces = inverse.reshape(-1)[scan.faces]
    proper = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return replace(scan, vertices=unique, faces=faces[proper])


def _one_part(scan: Scan, name: str) -> Scan:
    of_face = connected_parts(scan.faces, len(scan.vertices))[scan.faces[:, 0]]
    area = triangle_areas(scan.vertices, scan.faces)
    share = np.bincount(of_face, area) / area.sum()
    large = np.flatnonzero(share > DEBRIS_SHARE)
    if len(large) > 1:
        raise ShapeModelError(
            f"{name} has {len(large)} separate parts (the largest is {100 * share.max():.0f} % of the area); keep the torso only."
        )
    kept = of_face == share.argmax()
    used, faces = np.unique(scan.faces[kept], return_inverse=True)
    parts = len(np.flatnonzero(share > 0)) - 1
    scan = replace(scan, vertices=scan.vertices[used], faces=faces.reshape(-1, 3))
    return scan.noted(f"{parts} loose bits were left out") if parts else scan


def _in_millimetres(scan: Scan, name: str) -> Scan:
    """Find the unit of length from the distances between landmarks."""
    pairs = np.array(list(combinations(range(len(LANDMARK_NAMES)), 2)))
    usual = np.linalg.norm(np.diff(OFFICIAL_MEAN_ANCHORS_MODEL[pairs], axis=1)[:, 0], axis=1) * OFFICIAL_MM_PER_UNIT
    found = np.linalg.norm(np.diff(scan.landmarks[pairs], axis=1)[:, 0], axis=1)
    size = np.median(found / usual)
    for unit, factor in UNITS_MM.items():
        if 1 / LARGEST_SIZE_FACTOR < size * factor < LARGEST_SIZE_FACTOR:
            if factor == 1.0:
                return scan
            moved = {"vertices": scan.vertices * factor, "landmarks": scan.landmarks * factor}
            return scan.noted(f"its lengths are {unit} and were converted", **moved)
    raise ShapeModelError(
        f"The landmarks of {name} are {size:.3g} times as far apart as a body's in millimetres; export it in millimetres."
    )


def _misfit(landmarks: np.ndarray) -> float:
    fitted = fit_similarity(landmarks, OFFICIAL_MEAN_ANCHORS_MODEL).apply(landmarks)
    return float(np.sqrt(((fitted - OFFICIAL_MEAN_ANCHORS_MODEL) ** 2).sum(axis=1).mean()))


def _check_landmarks(scan: Scan, name: str) -> None:
    misfit = _misfit(scan.landmarks)
    swaps = {pair: list(range(6)) for pair in combinations(range(6), 2)}
    for (i, j), order in swaps.items():
        order[i], order[j] = j, i
    both_sides = [0, 1, 3, 2, 5, 4]
    if _misfit(scan.landmarks[both_sides]) < 0.6 * misfit:
        raise LandmarkError(f"Left and right are swapped in the landmarks of {name}; left and right are the patient's.")
    (i, j), order = min(swaps.items(), key=lambda item: _misfit(scan.landmarks[item[1]]))
    if _misfit(scan.landmarks[order]) < 0.6 * misfit:
        raise LandmarkError(
            f"{LANDMARK_NAMES[i]} and {LANDMARK_NAMES[j]} seem to be swapped in the landmarks of {name}; exchange them."
        )
    if misfit > LARGEST_LANDMARK_MISFIT:
        raise LandmarkError(f"The landmarks of {name} do not lie as on a torso; check their order: {', '.join(LANDMARK_NAMES)}.")
    distance, _ = closest_on_mesh(scan.landmarks, scan.vertices, scan.faces)
    worst = int(distance.argmax())
    if distance[worst] > LANDMARK_OFF_SURFACE_MM:
        raise LandmarkError(
            f"{LANDMARK_NAMES[worst]} of {name} lies {distance[worst]:.0f} mm off the surface; place it on the skin."
        )


def _outside_out(scan: Scan, model_units_per_mm: float) -> Scan:
    """Turn the faces round if, about the landmarks of the front, they face the back; in model space."""
    corners = scan.vertices[scan.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    near = cKDTree(scan.landmarks[:4]).query(corners.mean(axis=1))[0] < FACING_MM * model_units_per_mm
    if normals[near, 2].sum() >= 0:
        return scan
    return scan.noted("its faces were inside out and were turned", faces=scan.faces[:, ::-1])


def _closed(scan: Scan, name: str) -> Scan:
    """Close an open frontal scan by walls from its rim to a flat back; model space.

    Raises:
        ShapeModelError: holes, faces that do not fit together, or a rim whose shadow on the back crosses itself.
    """
    edges = np.sort(scan.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    if (np.unique(edges, axis=0, return_counts=True)[1] > 2).any():
        raise ShapeModelError(f"{name} has edges with more than two triangles; repair it (MeshLab: Repair non Manifold Edges).")
    loops = boundary_loops(scan.faces)
    if not loops:
        return scan
    around = [np.linalg.norm(np.diff(scan.vertices[np.append(loop, loop[0])], axis=0), axis=1).sum() for loop in loops]
    rim = loops[int(np.argmax(around))]
    if len(loops) > 1:
        hole = sorted(around)[-2] * OFFICIAL_MM_PER_UNIT
        raise ShapeModelError(
            f"{name} has {len(loops) - 1} holes besides its rim, the largest about {hole:.0f} mm around; fill them first."
        )
    outline, shadow_of = _uncrossed(scan.vertices[rim, :2])
    depth = min(BACK_Z_MODEL, scan.vertices[:, 2].min() - 0.005)
    back = np.column_stack([outline, np.full(len(outline), depth)])
    cap = _polygon(back)
    if cap is None:
        raise ShapeModelError(f"The rim of {name} cannot be closed by a flat back; crop it straight, seen from the front.")
    count = len(scan.vertices)
    after, shadow = np.roll(rim, -1), count + shadow_of
    walls = np.concatenate([np.column_stack([after, rim, shadow]), np.column_stack([after, shadow, np.roll(shadow, -1)])])
    walls = walls[(walls[:, 1] != walls[:, 2])]  # where several vertices of the rim share a shadow
    vertices, faces = np.concatenate([scan.vertices, back]), np.concatenate([scan.faces, walls, count + cap])
    return scan.noted("it is open and was closed by a flat back", vertices=vertices, faces=faces)


def _uncrossed(loop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join the ends of small crossings of a flat loop (K, 2), as corners have them: a new loop, and where each vertex went."""
    index = np.arange(len(loop))
    largest = SMALL_CROSSING_SHARE * len(loop)
    points = loop.copy()
    while (crossing := _first_crossing(points)) is not None:
        i, j, at = crossing
        count = len(points)
        inner = np.arange(i + 1, j + 1) if j - i < count / 2 else np.concatenate([np.arange(j + 1, count), np.arange(i + 1)])
        if len(inner) > largest:
            break
        points[inner[0]] = at
        goes = np.arange(count)
        goes[inner] = inner[0]
        kept, goes = np.unique(goes, return_inverse=True)
        points, index = points[kept], goes[index]
    return points, index


def _first_crossing(points: np.ndarray) -> tuple[int, int, np.ndarray] | None:
    """Indices of the first two edges of a closed flat loop that cross, and the point; None if none do."""
    following = np.roll(points, -1, axis=0)

    def side(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])

    for i in range(len(points) - 2):
        a, b, c, d = points[i], following[i], points[i + 2 :], following[i + 2 :]
        across = side(a, b, c), side(a, b, d)
        crossed = np.flatnonzero((across[0] * across[1] < 0) & (side(c, d, a) * side(c, d, b) < 0))
        if len(crossed):
            k = crossed[0]
            share = across[0][k] / (across[0][k] - across[1][k])
            return i, i + 2 + int(k), c[k] + share * (d[k] - c[k])
    return None


def _polygon(points: np.ndarray) -> np.ndarray | None:
    """Triangles that fill a flat loop (K, 3), counter-clockwise seen from the front, and face backwards; None if they cannot."""
    from vtkmodules.vtkCommonCore import vtkIdList
    from vtkmodules.vtkCommonDataModel import vtkPolygon

    order = np.arange(len(points))[::-1]
    polygon = vtkPolygon()
    polygon.Initialize(len(points), order.tolist(), with_points(points).GetPoints())
    triangles = vtkIdList()
    if not polygon.EarCutTriangulation(triangles):
        return None
    local = np.array([triangles.GetId(i) for i in range(triangles.GetNumberOfIds())]).reshape(-1, 3)
    return order[local]
