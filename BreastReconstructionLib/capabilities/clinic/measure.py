"""The stage that measures a surface: distances, folds, boundaries, volumes and symmetry, each as a number and as a curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core.errors import MeasurementError
from ...core.progress import Progress
from ...core.run import Inputs
from ...geometry.transforms import Frame
from ...landmarks.curves import CLOSED_CURVE, CURVE, LINE, read_closed_curves, read_points, write_curve
from ...measurement.distances import (
    ALONG,
    BOUNDARY_MM,
    FOLD_MM,
    MIDCLAVICLE_MM,
    PICKED_MM,
    Measured,
    Place,
    front_arc,
    half_way,
    measure_between,
    uncertainty_at,
)
from ...measurement.rows import Row, differences
from ...measurement.symmetry import MirrorPlane, find_mirror_plane, landmark_asymmetry_mm, mirrored_distance_mm
from ...measurement.volumes import PUBLISHED_REPEATABILITY_ML, SMALLEST_ML, WALLS, BreastShape, difference_ml, measure_breast
from ...mesh.decimation import decimated
from ...mesh.distance import closest_on_mesh
from ...mesh.files import write_ply
from ...mesh.geodesics import length_of
from ...mesh.mesh import TriangleMesh, vertex_normals
from ...shape_model.atlas import SIDES
from ..torso.stages import SURFACE
from .boundaries import drawn_values, proposed_values, snapped_fold
from .chest import Chest, chest_of
from .results import Measurements
from .stages import MeasureOptions

SHOWN_CURVE_MM, COARSE_VERTICES = 4.0, 40_000
PROPOSED = "boundary proposed"


def run(options: MeasureOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Measure, and write table, curves and meshes."""
    surface = inputs.result(SURFACE)
    progress(0.05, "which place is which")
    points = {} if options.measure_points is None else read_points(options.measure_points)
    chest = chest_of(surface.mesh, surface.landmarks_ras, surface.scale.relative_uncertainty, points)
    drawn = [] if options.breast_boundaries is None else read_closed_curves(options.breast_boundaries)
    progress(0.3, "boundaries")
    values, sources = boundaries_of(chest, drawn)
    plane = find_mirror_plane(chest.mesh, chest.places.stable, chest.landmarks_ras)
    folds = {side: snapped_fold(chest.fit.points_ras.fold[side], chest.mesh) for side in SIDES}
    progress(0.4, "distances")
    found = distances_of(chest, folds, plane)
    progress(0.6, "volumes")
    breasts, warnings = breasts_of(chest, values)
    for breast in breasts:
        found += shape_of(chest, breast)
    progress(0.85, "symmetry")
    mirrored = mirrored_distance_mm(chest.mesh, plane)
    rows = [m.row for m in found]
    rows += differences(tuple(rows))
    rows += [row for breast in breasts for row in volume_rows(breast, sources[breast.side])]
    rows += [*_volume_differences(breasts, sources, chest.relative_scale), *_symmetry_rows(chest, plane, mirrored)]
    _write_curves(folder / "curves", found, folds, breasts)
    _write_meshes(folder / "meshes", breasts)
    places = {f"{side}_mm": values[side] for side in SIDES}
    places |= {"stable": chest.places.stable.astype(float), "mirror_mm": mirrored}
    Measurements(folder, tuple(rows), (*warnings, *_notes(rows))).save(places, _coarse(surface.mesh))


def _coarse(mesh: TriangleMesh) -> TriangleMesh:
    vertices, faces = decimated(mesh.vertices, mesh.faces, COARSE_VERTICES)
    return TriangleMesh(vertices, faces, Frame.PATIENT, vertex_normals(vertices, faces))


def boundaries_of(chest: Chest, drawn: list[np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return by side the (V,) distance from the breast's boundary, negative inside, and where that comes from.

    Raises:
        MeasurementError: a drawn boundary is around both breasts, or around none.
    """
    values = {side: proposed_values(chest.fit, chest.places, side) for side in SIDES}
    sources = dict.fromkeys(SIDES, PROPOSED)
    for curve in drawn:
        value = drawn_values(chest.mesh, curve)
        nipples = {side: chest.place(f"{side}-nipple").ras for side in SIDES}
        held = [side for side, at in nipples.items() if value[np.linalg.norm(chest.mesh.vertices - at, axis=1).argmin()] < 0]
        if len(held) != 1:
            what = "both breasts" if held else "no nipple"
            raise MeasurementError(f"A boundary goes around {what}; draw one closed curve around each breast.")
        values[held[0]], sources[held[0]] = value, "boundary drawn"
    return values, sources


def distances_of(chest: Chest, folds: dict[str, np.ndarray], plane: MirrorPlane) -> list[Measured]:
    """The distances of the table."""
    mesh, scale = chest.mesh, chest.relative_scale
    notch, nipple = chest.place("sternal-notch"), {side: chest.place(f"{side}-nipple") for side in SIDES}
    found = measure_between(mesh, "nipple to nipple", "", (nipple["left"], nipple["right"]), scale)
    for side in SIDES:
        found += measure_between(mesh, "notch to nipple", side, (notch, nipple[side]), scale)
        clavicle = f"{side}-midclavicle"
        if clavicle in chest.points:
            start = chest.place(clavicle)
        else:
            start = Place(half_way(mesh, notch.ras, chest.place(f"{side}-coracoid").ras), MIDCLAVICLE_MM, "proposed")
        found += measure_between(mesh, "midclavicle to nipple", side, (start, nipple[side]), scale)
        fold = folds[side]
        below = fold[np.abs(fold[:, 0] - nipple[side].ras[0]).argmin()]
        ends = (nipple[side], Place(below, FOLD_MM, "proposed"))
        found += measure_between(mesh, "nipple to inframammary fold", side, ends, scale, "unstretched")
        found.append(_to_midline(chest, side, nipple[side], plane))
        found.append(_ptosis(chest, side, nipple[side], fold))
        medial, lateral = f"{side}-areola-medial", f"{side}-areola-lateral"
        if medial in chest.points and lateral in chest.points:
            found += measure_between(mesh, "areola diameter", side, (chest.place(medial), chest.place(lateral)), scale)
    return found + _arcs(chest, nipple, folds)


def _to_midline(chest: Chest, side: str, nipple: Place, plane: MirrorPlane) -> Measured:
    off = float(plane.distance(nipple.ras[None])[0])
    value, foot = abs(off), nipple.ras - off * plane.normal_ras
    uncertainty = float(np.hypot(np.hypot(nipple.sure_mm, 2.0), chest.relative_scale * value))
    return Measured(
        Row("nipple to midline", side, value, "mm", uncertainty, "straight, to the mid-sagittal plane"),
        np.stack([nipple.ras, foot]),
    )


def _ptosis(chest: Chest, side: str, nipple: Place, fold: np.ndarray) -> Measured:
    """How far the nipple lies above (positive) or below the lowest place of the fold."""
    lowest = fold[fold[:, 2].argmin()]
    value = float(nipple.ras[2] - lowest[2])
    uncertainty = float(np.hypot(np.hypot(nipple.sure_mm, FOLD_MM), chest.relative_scale * abs(value)))
    level = np.array([nipple.ras[0], nipple.ras[1], lowest[2]])
    return Measured(
        Row("nipple above fold", side, value, "mm", uncertainty, "vertical; negative: ptosis"), np.stack([nipple.ras, level])
    )


def _arcs(chest: Chest, nipple: dict[str, Place], folds: dict[str, np.ndarray]) -> list[Measured]:
    found = []
    middle = chest.landmarks_ras[0]
    levels = {
        "front arc at the nipples": np.mean([place.ras[2] for place in nipple.values()]),
        "front arc at the folds": np.mean([fold[:, 2].min() for fold in folds.values()]),
    }
    for name, level in levels.items():
        path = front_arc(chest.mesh, float(level), middle)
        if path is None:
            continue
        length = length_of(path)
        sides = np.mean([uncertainty_at(chest.mesh, path[end]) for end in (0, -1)])
        uncertainty = float(np.hypot(2 * sides, chest.relative_scale * length))
        row = Row(name, "", length, "mm", uncertainty, f"{ALONG}, the front alone, from side to side of the surface")
        found.append(Measured(row, path))
    return found


def breasts_of(chest: Chest, values: dict[str, np.ndarray]) -> tuple[list[BreastShape], list[str]]:
    """Cut out and measure both breasts; what is no breast is said."""
    found, warnings = [], []
    for side in SIDES:
        shape = measure_breast(
            chest.mesh,
            side,
            values[side],
            chest.place(f"{side}-nipple").ras,
            chest.places.wall_ras[side],
            chest.places.offset_mm,
            chest.relative_scale,
        )
        found.append(shape)
        if max(shape.volumes_ml.values()) < SMALLEST_ML or shape.volumes_ml["population"] < SMALLEST_ML:
            warnings.append(f"There is hardly a breast on the {side}: its volume is that of a flat chest, and says little.")
    return found, warnings


def shape_of(chest: Chest, breast: BreastShape) -> list[Measured]:
    """Base width and projection of a breast."""
    boundary, scale = breast.boundary_ras, chest.relative_scale
    left, right = boundary[boundary[:, 0].argmin()], boundary[boundary[:, 0].argmax()]
    nipple = chest.place(f"{breast.side}-nipple").ras
    ends = (Place(left, BOUNDARY_MM, "proposed"), Place(right, BOUNDARY_MM, "proposed"))
    width = measure_between(chest.mesh, "base width", breast.side, ends, scale)[:1]
    distance, closest = closest_on_mesh(nipple[None], breast.sheets["membrane"], breast.patch.faces)
    own = float(np.hypot(np.hypot(uncertainty_at(chest.mesh, nipple), 2.0), scale * distance[0]))
    row = Row("projection", breast.side, float(distance[0]), "mm", own, "nipple in front of the membrane through the boundary")
    return [*width, Measured(row, np.stack([nipple, closest[0]]))]


def volume_rows(breast: BreastShape, source: str) -> list[Row]:
    """A row for each wall."""
    return [
        Row("volume", breast.side, breast.volumes_ml[wall], "ml", breast.uncertainty_ml[wall], f"to the wall '{wall}', {source}")
        for wall in WALLS
    ]


def _volume_differences(breasts: list[BreastShape], sources: dict[str, str], relative_scale: float) -> list[Row]:
    left, right = breasts
    alike, rows = sources["left"] == sources["right"] == PROPOSED, []
    for wall in WALLS:
        value, sure = difference_ml(left, right, wall, alike, relative_scale)
        words = PROPOSED if alike else "boundaries drawn"
        rows.append(Row("volume, left minus right", "", value, "ml", sure, f"to the wall '{wall}', {words}"))
    return rows


def _symmetry_rows(chest: Chest, plane: MirrorPlane, mirrored: np.ndarray) -> list[Row]:
    marks = chest.landmarks_ras
    asymmetry = landmark_asymmetry_mm(marks)
    breast = np.minimum(chest.places.breast["left"], chest.places.breast["right"]) < 1.0
    away = np.abs(mirrored)[breast]
    return [
        Row("asymmetry of the landmarks", "", asymmetry, "mm", PICKED_MM, "Procrustes, root mean square"),
        Row(
            "asymmetry of the breasts' skin",
            "",
            float(np.median(away)),
            "mm",
            plane.residual_mm,
            "median distance to the mirrored skin",
        ),
    ]


def _notes(rows: list[Row]) -> list[str]:
    notes = [
        "A volume depends on its wall more than on the surface: compare only volumes of one wall.",
        "Distances along the skin are unstretched: a tape from nipple to fold reads about 12 mm more.",
    ]
    for row in rows:
        small = abs(row.value) < PUBLISHED_REPEATABILITY_ML
        if row.name == "volume, left minus right" and small and "population" in row.method:
            notes.append(
                f"The difference of {abs(row.value):.0f} ml between left and right is within the "
                f"{PUBLISHED_REPEATABILITY_ML:.0f} ml by which repeated measurements differ, as published."
            )
    return notes


def _write_curves(folder: Path, found: list[Measured], folds: dict[str, np.ndarray], breasts: list[BreastShape]) -> None:
    folder.mkdir()
    for measured in found:
        kind = LINE if len(measured.path_ras) == 2 and not measured.row.method.startswith(ALONG) else CURVE
        name = measured.row.key + ("-along" if measured.row.method.startswith(ALONG) else "")
        write_curve(folder / f"{name}.mrk.json", measured.path_ras, kind)
    for side, fold in folds.items():
        write_curve(folder / f"{side}-inframammary-fold.mrk.json", fold, CURVE)
    for breast in breasts:
        boundary = breast.boundary_ras
        step = max(1, round(SHOWN_CURVE_MM * len(boundary) / length_of(boundary)))
        write_curve(folder / f"{breast.side}-breast-boundary.mrk.json", boundary[::step], CLOSED_CURVE)


def _write_meshes(folder: Path, breasts: list[BreastShape]) -> None:
    folder.mkdir()
    for breast in breasts:
        for wall in WALLS:
            sheet = TriangleMesh(breast.sheets[wall], breast.patch.faces, Frame.PATIENT)
            write_ply(folder / f"{breast.side}-wall-{wall}.ply", sheet)
            vertices, faces = breast.closed(wall)
            closed = TriangleMesh(vertices, faces, Frame.PATIENT, vertex_normals(vertices, faces))
            write_ply(folder / f"{breast.side}-breast-{wall}.ply", closed)
