"""The stage that compares a surface with that of an earlier visit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...core.case import Case
from ...core.errors import RegistrationError
from ...core.progress import Progress
from ...core.run import Inputs
from ...geometry.transforms import Frame, Similarity, fit_similarity
from ...measurement.change import signed_distances_mm, volume_between_ml
from ...measurement.rows import Row
from ...measurement.symmetry import find_mirror_plane
from ...measurement.volumes import SKIN_UNLIKE
from ...mesh.mesh import TriangleMesh
from ...mesh.registration import register_robustly
from ...shape_model.atlas import SIDES
from ..torso.stages import SURFACE
from .boundaries import snapped_fold
from .chest import Chest, chest_of
from .measure import boundaries_of, distances_of
from .results import Comparison
from .stages import CompareOptions

KERNELS_MM, SAMPLES = (20.0, 8.0, 4.0), 4000
REFUSED_MM = 6.0
# Landmarks that surgery of the breast leaves alone.
STEADY = [0, 1, 4, 5]


def run(options: CompareOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Align the earlier surface, and say what changed."""
    assert options.earlier is not None
    surface, other = inputs.result(SURFACE), Case(options.earlier).result(SURFACE)
    progress(0.05, "which place is which")
    later = chest_of(surface.mesh, surface.landmarks_ras, surface.scale.relative_uncertainty)
    earlier = chest_of(other.mesh, other.landmarks_ras, other.scale.relative_uncertainty)
    progress(0.5, "alignment by ribs and sternum")
    to_later, residual = align(earlier, later)
    moved = earlier.mesh.moved(to_later, Frame.PATIENT)
    progress(0.6, "change along the normal")
    change = signed_distances_mm(later.mesh.vertices, later.normals, moved)
    values, _ = boundaries_of(later, [])
    progress(0.75, "volume between the skins")
    rows = [*_volume_rows(later, earlier, moved, values), *_distance_rows(later, earlier)]
    exceeding = tuple(bool(abs(row.value) > 2 * row.uncertainty) for row in rows)
    warnings = [f"Ribs and sternum of the two visits lie {residual:.1f} mm apart (median); less than that is no change."]
    first, second = earlier.fit.to_patient.scale, later.fit.to_patient.scale
    if abs(np.log(second / first)) > 0.03:
        warnings.append(
            f"The later body is {100 * (second / first - 1):+.0f} % larger as a whole: weight, or the scale of one of the videos?"
        )
    shown = replace(
        later.mesh, scalars={"change_mm": change, "uncertainty_mm": later.mesh.scalars.get("uncertainty_mm", change * 0)}
    )
    Comparison(folder, to_later, tuple(rows), exceeding, tuple(warnings)).save(shown)


def align(earlier: Chest, later: Chest) -> tuple[Similarity, float]:
    """Return the rigid map from the earlier to the later surface, by ribs and sternum, and the median distance that is left.

    Raises:
        RegistrationError: they do not match.
    """
    start = fit_similarity(earlier.landmarks_ras[STEADY], later.landmarks_ras[STEADY], with_scale=False)
    places = earlier.mesh.vertices[earlier.deciding("ribs")]
    places = places[:: max(1, len(places) // SAMPLES)]
    found = register_robustly(places, later.mesh.vertices, later.normals, KERNELS_MM, start=start)
    residual = float(np.median(np.abs(found.residual)))
    if residual > REFUSED_MM:
        raise RegistrationError(
            f"Ribs and sternum of the two visits lie {residual:.0f} mm apart after alignment; is it the same patient, and is the "
            "scale of both videos right?"
        )
    return found.transform, residual


def _volume_rows(later: Chest, earlier: Chest, moved: TriangleMesh, values: dict[str, np.ndarray]) -> list[Row]:
    rows = []
    own = [float(np.median(chest.mesh.scalars.get("uncertainty_mm", np.ones(1)))) for chest in (later, earlier)]
    sure, scale = float(np.hypot(own[0], own[1])), float(np.hypot(later.relative_scale, earlier.relative_scale))
    for number, side in enumerate(SIDES):
        ml, whole, patch = volume_between_ml(later.mesh, moved, values[side], later.landmarks_ras[2 + number], side)
        uncertainty = float(np.hypot(SKIN_UNLIKE * sure * patch.area / 1000.0, 3 * scale * whole))
        rows.append(Row("volume between the skins", side, ml, "ml", uncertainty, "inside one boundary; no wall needed"))
    return rows


def _distance_rows(later: Chest, earlier: Chest) -> list[Row]:
    """Differences of the distances of both visits, later minus earlier."""
    tables = []
    for chest in (later, earlier):
        plane = find_mirror_plane(chest.mesh, chest.places.stable, chest.landmarks_ras)
        folds = {side: snapped_fold(chest.fit.points_ras.fold[side], chest.mesh) for side in SIDES}
        tables.append({(m.row.name, m.row.side, m.row.method): m.row for m in distances_of(chest, folds, plane)})
    rows = []
    for key, row in tables[0].items():
        if (before := tables[1].get(key)) is not None:
            uncertainty = float(np.hypot(row.uncertainty, before.uncertainty))
            rows.append(
                Row(row.name, row.side, row.value - before.value, row.unit, uncertainty, f"later minus earlier, {row.method}")
            )
    return rows
