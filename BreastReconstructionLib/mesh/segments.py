"""From a segment of voxels to closed surfaces: holes filled, islands left out, bodies that touch parted, steps smoothed away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..core.errors import VolumeError
from ..geometry.transforms import Frame
from ..geometry.volume import Volume
from .level import level_of_volume
from .mesh import TriangleMesh, connected_parts, vertex_normals
from .patch import signed_volume
from .polydata import triangles

# An island with less than this of the largest body's volume is left out; a further body with more than the other is no island.
ISLAND_SHARE, BODY_SHARE = 0.02, 0.15
HOLE_SHARE = 0.001
# Of the largest spacing: at first. Halved until the volume keeps to this, and the bodies stay whole.
SMOOTHED_VOXELS, KEPT_VOLUME = 1.0, 0.005
# Slices farther apart than this many pixels are interpolated between.
COARSE_SLICES = 1.5
TAUBIN_STEPS, PASS_BAND = 20, 0.1
# A body that ends in a slice with more than this of its largest cross-section, and of that of the slice before, was cut there: a
# body that ends by itself tapers.
CUT_SHARE, TAPERED = 0.15, 0.85
# So many voxels from a cut, its edge is rounded off.
ROUNDED = 2.0
MARGIN = 3


@dataclass(frozen=True)
class SegmentSurface:
    """The bodies of a segment.

    Attributes:
        bodies: closed, outward, patient space; the largest first.
        cut: for each body, (V,) True where it was cut off, by the volume's border or by whoever drew it.
        notes: what was repaired, in words.
    """

    bodies: tuple[TriangleMesh, ...]
    cut: tuple[np.ndarray, ...]
    notes: tuple[str, ...]

    @property
    def mesh(self) -> TriangleMesh:
        """All bodies in one."""
        return joined(self.bodies)

    @property
    def volume_ml(self) -> float:
        """Of all bodies."""
        return sum(signed_volume(body.vertices, body.faces) for body in self.bodies) / 1000.0


def joined(bodies: Sequence[TriangleMesh]) -> TriangleMesh:
    """Return bodies as one mesh, with the scalars that all of them have."""
    before = np.cumsum([0, *(len(body.vertices) for body in bodies)])
    faces = np.concatenate([body.faces + first for body, first in zip(bodies, before, strict=False)])
    vertices = np.concatenate([body.vertices for body in bodies])
    names = set.intersection(*(set(body.scalars) for body in bodies))
    scalars = {name: np.concatenate([body.scalars[name] for body in bodies]) for name in sorted(names)}
    return TriangleMesh(vertices, faces, bodies[0].frame, vertex_normals(vertices, faces), scalars=scalars)


def surface_of_segment(mask: np.ndarray, grid: Volume, name: str, parts: int | None = None) -> SegmentSurface:
    """Return the closed surfaces of a segment.

    Args:
        mask: (K, J, I) True in the segment.
        grid: its place in the patient.
        name: of the file, for messages.
        parts: how many bodies there should be; None for as many as there are.

    Raises:
        VolumeError: more or fewer bodies than there should be, or a body too small to have a surface.
    """
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    low = np.array([part.start for part in box])
    mask, notes = mask[box], []
    filled = ndimage.binary_fill_holes(mask)
    voxel_ml = abs(np.linalg.det(grid.ijk_to_ras[:3, :3])) / 1000.0
    holes = float(filled.sum() - mask.sum())
    if holes > HOLE_SHARE * filled.sum():
        notes.append(f"holes of {holes * voxel_ml:.1f} ml were filled")
    labels, said = _bodies(filled, grid.spacing_mm, parts, voxel_ml, name)
    matrix = grid.ijk_to_ras.copy()
    matrix[:3, 3] = grid.to_ras(low[::-1][None].astype(float))[0]
    bodies, cut = [], []
    for label in range(1, labels.max() + 1):
        body = _closed_surface(labels == label, Volume(labels, matrix), name)
        bodies.append(body)
        cut.append(_cut(labels == label, Volume(labels, matrix), body))
    if any(part.any() for part in cut):
        notes.append("it ends in a flat cut, or at the border of the volume; what lies there is no surface of the organ")
    return SegmentSurface(tuple(bodies), tuple(cut), (*notes, *said))


def _bodies(
    mask: np.ndarray, spacing_mm: np.ndarray, parts: int | None, voxel_ml: float, name: str
) -> tuple[np.ndarray, list[str]]:
    """(K, J, I) labels from 1 of the bodies, the largest first, without islands; and what is to be said of it."""
    labels, _ = ndimage.label(mask)
    labels, counts = _by_size(labels)
    if parts is not None and (counts > BODY_SHARE * counts[0]).sum() < parts:
        parted = _parted(mask, spacing_mm, parts)
        if parted is not None:
            labels, counts = _by_size(parted)
            return labels, ["bodies that touched were parted at their narrowest place"]
    large = int((counts > BODY_SHARE * counts[0]).sum())
    if parts is not None and large > parts:
        raise VolumeError(
            f"{name} holds {large} bodies where {parts} should be: another organ, or two patients? Choose the segments."
        )
    kept = parts if parts is not None else int((counts > ISLAND_SHARE * counts[0]).sum())
    kept = min(kept, int((counts > ISLAND_SHARE * counts[0]).sum()))
    islands = float(counts[kept:].sum())
    words = [f"{len(counts) - kept} islands of {islands * voxel_ml:.2f} ml in all were left out"]
    if islands < HOLE_SHARE * counts.sum():  # a few voxels at thin edges are not worth a word
        words = []
    return np.where(labels <= kept, labels, 0), words


def _by_size(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels numbered from 1 by falling size, and the sizes."""
    counts = np.bincount(labels.ravel())[1:]
    order = np.argsort(-counts, kind="stable")
    number = np.zeros(len(counts) + 1, labels.dtype)
    number[order + 1] = np.arange(1, len(counts) + 1)
    return number[labels], counts[order]


def _parted(mask: np.ndarray, spacing_mm: np.ndarray, parts: int) -> np.ndarray | None:
    """Bodies that touch, parted: cores that are apart when the mask is eroded, grown by watershed; None if there are none."""
    from skimage.segmentation import watershed

    depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing_mm[::-1])[1:-1, 1:-1, 1:-1]
    for eroded in np.linspace(0.0, 0.7, 15)[1:] * depth.max():
        labels, counts = _by_size(ndimage.label(depth > eroded)[0])
        if (counts > BODY_SHARE * counts[0]).sum() == parts:
            return watershed(-depth, np.where(labels <= parts, labels, 0), mask=mask)
    return None


def _closed_surface(mask: np.ndarray, grid: Volume, name: str) -> TriangleMesh:
    """The smoothed surface of one body."""
    height, matrix, finest = _height(mask, grid)
    voxels = float(mask.sum()) * abs(np.linalg.det(grid.ijk_to_ras[:3, :3]))
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)[::-1]
    for halvings in range(4):
        sigma = SMOOTHED_VOXELS * finest / 2**halvings
        mesh = level_of_volume(ndimage.gaussian_filter(height, sigma / spacing, mode="nearest"), matrix)
        if len(mesh.faces) == 0:
            continue
        mesh = smoothed(largest_body(mesh))
        if abs(signed_volume(mesh.vertices, mesh.faces) / voxels - 1.0) < KEPT_VOLUME:
            return mesh
    if len(mesh.faces) == 0:
        raise VolumeError(f"A body of {name} is only {mask.sum()} voxels large: it has no surface that could be used.")
    return mesh


def _height(mask: np.ndarray, grid: Volume) -> tuple[np.ndarray, np.ndarray, float]:
    """Signed distance to the voxels' border, positive inside; its matrix; and the spacing, mm, that limits it.

    Between slices far apart it is interpolated (shape-based interpolation, Raya and Udupa 1990).
    """
    padded = np.pad(mask, MARGIN)
    spacing = grid.spacing_mm[::-1]
    # Up to a few voxels from the border; beyond, the smoothing does not reach.
    height = ndimage.distance_transform_edt(padded, sampling=spacing) - ndimage.distance_transform_edt(~padded, sampling=spacing)
    matrix = grid.padded_to_ras(MARGIN)
    axis = int(np.argmax(spacing))
    finest = float(np.sort(spacing)[1])
    finer = round(spacing[axis] / finest)
    if spacing[axis] > COARSE_SLICES * finest:
        count = (padded.shape[axis] - 1) * finer + 1
        places = np.arange(count) / finer
        below = np.minimum(places.astype(int), padded.shape[axis] - 2)
        shape = [1, 1, 1]
        shape[axis] = -1
        part = (places - below).reshape(shape)
        height = np.take(height, below, axis) * (1 - part) + np.take(height, below + 1, axis) * part
        matrix = matrix.copy()
        matrix[:3, 2 - axis] /= finer
    return height.astype(np.float32), matrix, finest


def largest_body(mesh: TriangleMesh) -> TriangleMesh:
    """Return the connected part of a mesh with the most vertices."""
    labels = connected_parts(mesh.faces, len(mesh.vertices))
    return mesh.part(labels == np.bincount(labels).argmax())


def smoothed(mesh: TriangleMesh, steps: int = TAUBIN_STEPS) -> TriangleMesh:
    """Return the mesh smoothed by Taubin's filter (VTK's windowed sinc), which keeps the volume."""
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkFiltersCore import vtkWindowedSincPolyDataFilter

    smooth = vtkWindowedSincPolyDataFilter()
    smooth.SetInputData(triangles(mesh.vertices, mesh.faces))
    smooth.SetNumberOfIterations(steps)
    smooth.SetPassBand(PASS_BAND)
    smooth.FeatureEdgeSmoothingOff()
    smooth.BoundarySmoothingOff()
    smooth.NonManifoldSmoothingOn()
    smooth.NormalizeCoordinatesOn()
    smooth.Update()
    vertices = vtk_to_numpy(smooth.GetOutput().GetPoints().GetData()).astype(float)
    return TriangleMesh(vertices, mesh.faces, Frame.PATIENT, vertex_normals(vertices, mesh.faces))


def _cut(mask: np.ndarray, grid: Volume, body: TriangleMesh) -> np.ndarray:
    """(V,) True at the vertices of a body in a flat end: at the volume's border, or where whoever drew it stopped."""
    found = np.zeros(len(body.vertices), bool)
    indices = grid.to_ijk(body.vertices)[:, ::-1]
    for axis in range(3):
        area = mask.sum(axis=tuple(other for other in range(3) if other != axis))
        first, last = np.flatnonzero(area)[[0, -1]]
        for end, before, is_first in ((first, first + 1, True), (last, last - 1, False)):
            if first < last and area[end] > max(CUT_SHARE * area.max(), TAPERED * area[before]):
                found |= indices[:, axis] < end + ROUNDED if is_first else indices[:, axis] > end - ROUNDED
    return found
