"""The stage that writes the numbers and the sheet."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from ... import __version__
from ...core.files import write_json
from ...core.progress import Progress
from ...core.run import Inputs
from ...landmarks.locate import Landmarks
from ...landmarks.names import LANDMARK_NAMES
from ...measurement.accuracy import read_truth, score
from ...measurement.residuals import doubt_of_residuals, scatter_about_neighbours
from ...measurement.skin import doubts_of_skin
from ...mesh.mesh import TriangleMesh, vertex_areas, weighted_quantile, weighted_share
from ...mesh.picture import outlines
from ...shape_model.align import AlignedCloud
from ...shape_model.model import ShapeModel
from ...shape_model.model_file import load_model
from ...video.frames import write_png
from .evidence import FEWEST_VIEWS, contradicted_where, shares, unusual
from .motion import largest_motion, motion_warning
from .results import Refinement, report_lines
from .sheet import Sheet, draw_sheet
from .stages import ALIGN, CAMERAS, DENSE, FIT, FRAMES, LANDMARKS, MARKERS, REFINE, SURFACE, ReportOptions
from .surface import residuals, world_to_fit

# What is said: shares of the points, and of the torso.
NOTED_SHARE, CONTRADICTED_SHARE = 0.02, 0.04


def run(options: ReportOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Write the numbers, the outlines and the sheet, and the error if the truth is known."""
    surface, frames = inputs.result(SURFACE), inputs.result(FRAMES)
    model = load_model(inputs.options(ALIGN).model)
    report = _numbers(inputs, model)
    found = inputs.result(CAMERAS).cameras
    if options.truth is not None:
        used = tuple(number for number, name in zip(frames.video_frames, frames.names, strict=True) if name in found)
        accuracy = score(surface.mesh, surface.landmarks_ras, read_truth(options.truth), used)
        write_json(folder / "accuracy.json", accuracy)
    progress(0.5, "drawing the report")
    cameras = {name: camera.moved(surface.world_to_patient) for name, camera in found.items()}
    drawn: dict[str, Any] = dict(outlines(cameras, surface.mesh.vertices))
    np.savez_compressed(folder / "outlines.npz", **drawn)
    sheet = Sheet(surface.mesh, cameras, surface.landmarks_ras, report_lines(report))
    write_png(folder / "report.png", draw_sheet(sheet, frames.read))
    write_json(folder / "report.json", report)


def _warnings(inputs: Inputs, model: ShapeModel, motion_mm: float, landmark_distances_mm: np.ndarray) -> list[str]:
    fit, scale = inputs.result(FIT).fit, inputs.result(SURFACE).scale
    warnings = [*inputs.result(FRAMES).warnings, *inputs.result(CAMERAS).warnings, *inputs.result(LANDMARKS).warnings]
    if scale.approximate:
        warnings.append(
            "The scale is approximate: nothing was measured, so lengths may be wrong by "
            f"{100 * scale.relative_uncertainty:.0f} % and volumes by three times that."
        )
    if not fit.converged:
        warnings.append("The fit stopped before it converged; look at the outline on the frames.")
    if moved := motion_warning(motion_mm):
        warnings.append(moved)
    aligned, mesh = inputs.result(ALIGN), inputs.result(SURFACE).mesh
    other = len(aligned.other_model) / (len(aligned.points_model) + len(aligned.other_model))
    if other > NOTED_SHARE:
        warnings.append(
            f"{100 * other:.0f} % of what was measured on the torso has not the colour of the skin (hair, clothing, "
            "jewellery): it had no vote, and the surface beneath is drawn by the model."
        )
    if shares(mesh)["contradicted"] > CONTRADICTED_SHARE:
        warnings.append(
            f"The pictures contradict the surface {contradicted_where(mesh, inputs.result(SURFACE).landmarks_ras)}: they show no "
            "skin there, or nothing at all. It has no colour there; --remove-contradicted (in the panel, 'Leave out what the "
            "pictures contradict') removes it."
        )
    if proposed := inputs.result(LANDMARKS).proposed:
        warnings.append(f"Nobody has looked at landmarks that the program proposed ({', '.join(proposed)}).")
    if failed := inputs.result(REFINE).failed:
        warnings.append(f"The surface is not refined by the pictures: {failed}")
    if reasons := unusual(fit, model, landmark_distances_mm):
        warnings.append(
            f"This body is unusual for the shape model ({'; '.join(reasons)}); look at the outline on the frames with care."
        )
    if "phantom" in str(model.card.get("population", "")):
        warnings.append("The bundled shape model knows only synthetic bodies; it is not for diagnosis.")
    return warnings


def _numbers(inputs: Inputs, model: ShapeModel) -> dict:
    frames, cameras, aligned = inputs.result(FRAMES), inputs.result(CAMERAS), inputs.result(ALIGN)
    surface, landmarks, fit = inputs.result(SURFACE), inputs.result(LANDMARKS), inputs.result(FIT).fit
    scale, mesh, at = surface.scale, surface.mesh, surface.landmarks_ras
    mm_per_unit = scale.mm_per_world / world_to_fit(inputs, fit).scale
    motion_mm = largest_motion(inputs.result(FIT).motion) * mm_per_unit
    # Triangles differ in size: every share and quantile is one of the surface, not of its vertices.
    seen, area = mesh.scalars["views"] > 0, vertex_areas(mesh.vertices, mesh.faces)
    placed = fit.refinement.apply(aligned.landmarks_model)
    landmark_distances_mm = np.linalg.norm(fit.anchors_model - placed, axis=1) * mm_per_unit
    return {
        "program": f"BreastReconstruction {__version__}",
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "frame": "patient space, mm, RAS (surface.ply holds LPS and says so)",
        "scale": {**scale.as_dict(), "uncertainty_mm_over_250_mm": 250 * scale.relative_uncertainty},
        "handedness": frames.handedness,
        "frames": {"selected": len(frames.names), "registered": len(cameras.cameras), "lost": list(cameras.lost)},
        "cameras": {
            "source": cameras.source,
            "reprojection_error_px": _finite(cameras.reprojection_error_px),
            "sparse_points": len(cameras.points_world),
        },
        "points": {
            "dense": len(inputs.result(DENSE).points_world),
            "on_torso": len(aligned.points_model),
            "not_skin": len(aligned.other_model),
            "scatter_mm": _finite(scatter_about_neighbours(aligned.points_model) * mm_per_unit),
        },
        "landmarks": {
            name: {
                "position_ras_mm": at[k].tolist(),
                "frames": int(landmarks.views[k]),
                "source": _landmark_source(landmarks, name),
                "reprojection_px": _finite(landmarks.reprojection_px[k]),
                "distance_to_fitted_shape_mm": float(landmark_distances_mm[k]),
            }
            for k, name in enumerate(LANDMARK_NAMES)
        },
        "distances_mm": {
            "left-nipple to right-nipple": float(np.linalg.norm(at[2] - at[3])),
            "sternal-notch to left-nipple": float(np.linalg.norm(at[0] - at[2])),
            "sternal-notch to right-nipple": float(np.linalg.norm(at[0] - at[3])),
            "sternal-notch to navel": float(np.linalg.norm(at[0] - at[1])),
        },
        "fit": {
            "model": model.card["name"],
            "residual_mean_mm": fit.residual_mean * mm_per_unit,
            "residual_median_mm": fit.residual_median * mm_per_unit,
            "residual_p95_mm": fit.residual_p95 * mm_per_unit,
            "inlier_share": fit.inlier_share,
            "iterations": fit.iterations,
            "converged": fit.converged,
            "largest_patient_motion_mm": motion_mm,
            "distance_from_mean_body": fit.prior_distance,
            "mm_per_model_unit": mm_per_unit,
        },
        "surface": {
            "vertices": len(mesh.vertices),
            "faces": len(mesh.faces),
            "seen_share": weighted_share(seen, area),
            "shares_of_torso": shares(mesh),
            "median_distance_to_points_mm": weighted_quantile(mesh.scalars["residual_mm"][seen], area[seen], 0.5),
            "median_uncertainty_mm": weighted_quantile(mesh.scalars["uncertainty_mm"][seen], area[seen], 0.5),
            "refined": _refined(inputs.result(REFINE), mesh, area),
            "p95_uncertainty_mm": weighted_quantile(mesh.scalars["uncertainty_mm"][seen], area[seen], 0.95),
        },
        "doubts": [
            *_doubts_of_skin(aligned),
            *doubt_of_residuals(*residuals(inputs, fit, model)),
            *scale.doubts,
            *inputs.result(MARKERS).doubts,
        ],
        "warnings": _warnings(inputs, model, motion_mm, landmark_distances_mm),
    }


def _refined(refinement: Refinement, mesh: TriangleMesh, area: np.ndarray) -> dict | None:
    """What the pictures moved, by the vertices' areas; None if they were not asked."""
    if not len(refinement.vertices):
        return None
    torso = mesh.scalars["torso"] > 0
    detail, area = np.abs(mesh.scalars["detail_mm"][torso]), area[torso]
    return {
        "median_mm": weighted_quantile(detail, area, 0.5),
        "largest_mm": float(detail.max()),
        "share_beyond_1_mm": weighted_share(detail > 1.0, area),
        "share_by_pictures_alone": float((refinement.weakened > 0.5).mean()),
        "share_left_to_the_model": float((refinement.views < FEWEST_VIEWS).mean()),
    }


def _landmark_source(landmarks: Landmarks, name: str) -> str:
    if name in landmarks.proposed:
        return "proposed by the program, accepted unseen (--accept-proposed)"
    return "proposed by the program, confirmed by a person" if name in landmarks.confirmed else "placed by a person"


def _doubts_of_skin(aligned: AlignedCloud) -> tuple[str, ...]:
    return doubts_of_skin(aligned.tone, aligned.points_model, aligned.other_model, aligned.landmarks_model)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
