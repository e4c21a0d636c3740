"""The stage that measures a breast's volume to a wall that was drawn in the registered volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core.errors import MeasurementError
from ...core.progress import Progress
from ...core.run import Inputs
from ...geometry.transforms import Frame, Similarity
from ...geometry.volume import read_volume
from ...landmarks.names import NIPPLES
from ...measurement.regions import skin_of
from ...measurement.rows import Row
from ...measurement.volumes import BOUNDARY_JITTER_MM, SEGMENT
from ...mesh.mesh import TriangleMesh, vertex_normals
from ...mesh.patch import Patch, closed_between, cut_patch, harmonic
from ...mesh.solids import isosurface_of_labels, subtracted
from ...shape_model.atlas import SIDES
from ..torso.stages import SURFACE
from .results import ScanWall
from .stages import MEASURE, REGISTER, ScanWallOptions

# So far behind the boundary's membrane the wall is looked for.
DEPTH_MM = 90.0


def run(options: ScanWallOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Measure both breasts to the segment."""
    if options.chest_wall is None:
        raise MeasurementError("No segment is given; export the chest wall's segment as a label map (--chest-wall).")
    surface, found = inputs.result(SURFACE), inputs.result(REGISTER)
    progress(0.05, "reading the segment")
    wall = isosurface_of_labels(read_volume(options.chest_wall))
    mesh, places = skin_of(surface.mesh), inputs.result(MEASURE).places
    rows, meshes = [], {}
    for number, side in enumerate(SIDES):
        progress(0.2 + 0.4 * number, f"{side} breast")
        values, nipple = places[f"{side}_mm"].astype(float), surface.landmarks_ras[NIPPLES[number]]
        volumes = []
        for shift in (0.0, -BOUNDARY_JITTER_MM, BOUNDARY_JITTER_MM):
            patch = cut_patch(mesh.vertices, mesh.faces, values - shift, nipple, {})
            if patch is None:
                raise MeasurementError(f"The boundary of the {side} breast encloses nothing; measure again.")
            solid = subtracted(_block(patch, found.surface_to_scan), wall, found.surface_to_scan.apply(nipple), side)
            volumes.append(solid.volume_mm3 / 1000.0)
            if shift == 0.0:
                meshes[f"{side}-breast-{SEGMENT}"] = _in_surface_space(solid.vertices, solid.faces, found.surface_to_scan)
                area = patch.area
        sure = float(np.median(surface.mesh.scalars.get("uncertainty_mm", np.ones(1)))) + found.numbers["median_mm"]
        own = np.hypot(area * sure / 1000.0, 3 * surface.scale.relative_uncertainty * volumes[0])
        uncertainty = float(np.hypot(own, max(abs(v - volumes[0]) for v in volumes[1:])))
        method = f"to the wall '{SEGMENT}' {options.chest_wall.name}, in the registered volume"
        rows.append(Row("volume", side, volumes[0], "ml", uncertainty, method))
    ScanWall(folder, tuple(rows)).save(meshes)


def _block(patch: Patch, to_scan: Similarity) -> tuple[np.ndarray, np.ndarray]:
    """A closed mesh in the volume's space: the skin in front, and behind it a sheet that lies deep in the chest."""
    membrane = harmonic(patch, patch.vertices[patch.rim])
    normal = vertex_normals(membrane, patch.faces).mean(axis=0)
    vertices, faces = closed_between(patch, membrane - DEPTH_MM * normal / np.linalg.norm(normal))
    return to_scan.apply(vertices), faces


def _in_surface_space(vertices: np.ndarray, faces: np.ndarray, to_scan: Similarity) -> TriangleMesh:
    placed = to_scan.inverse().apply(vertices)
    return TriangleMesh(placed, faces, Frame.PATIENT, vertex_normals(placed, faces))
