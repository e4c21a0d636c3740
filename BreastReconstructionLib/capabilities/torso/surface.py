"""The stage that makes the surface: extracted, scaled, coloured, with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...core.progress import Progress
from ...core.run import Inputs
from ...fields.evaluation import fastest_device
from ...geometry.transforms import Frame, Similarity, model_to_patient
from ...landmarks.names import NIPPLES
from ...measurement.regions import Evidence
from ...measurement.residuals import misfit
from ...measurement.scale import Scale
from ...mesh.mesh import TriangleMesh, keep_vertices, vertex_normals
from ...shape_model.align import is_torso
from ...shape_model.fit import ShapeFit
from ...shape_model.model import ShapeModel
from ...shape_model.model_file import load_model
from ...shape_model.sampling import mesh_of_code
from ...shape_model.tracks import TrackFit
from .appearance import distance_to_points, see_vertices
from .cameras import masks_of_turning_patient
from .correction import move_smoothly
from .evidence import judge
from .results import Refinement, Surface
from .scale import final_scale
from .stages import ALIGN, CAMERAS, DENSE, FIT, FRAMES, LANDMARKS, REFINE, SurfaceOptions
from .uncertainty import uncertainty_model

# Of what the pictures moved, this share is wrong (the standard deviation, on phantoms with details).
DETAIL_SHARE = 0.25
# Where the patient turned and the lamps stood still, light and shade moved over the skin: errors are so many times what residuals
# tell, since neighbours are drawn the same way.
BY_LIGHT = 2.0
# What the model leaves is still there where the pictures did not refine it; and a draft's points, found in smaller pictures,
# scatter less than they err.
UNREFINED = 1.25
# Triangles are twice as large where the surface is flat, but not larger than this.
LARGEST_FLAT_MM = 3.0
# Grey of a place that the frames contradict: the background is no skin's colour.
NO_COLOR = 128


@dataclass(frozen=True)
class Delivered:
    """A surface in patient space.

    Attributes:
        mesh: see Surface.
        unrefined_ras: (V, 3) where its vertices were before the pictures moved them.
        landmarks_ras: (6, 3) mm, as placed.
        scale: the metric scale.
        world_to_patient: from world to patient space.
    """

    mesh: TriangleMesh
    unrefined_ras: np.ndarray
    landmarks_ras: np.ndarray
    scale: Scale
    world_to_patient: Similarity


def residuals(inputs: Inputs, fit: ShapeFit, model: ShapeModel) -> tuple[float, int, float]:
    """Reprojection error in px, longer side of the frames, and 95th percentile of the fit's residuals in mm.

    Millimetres of a body of the model's mean size: the scale that somebody typed must not hide or make residuals.
    """
    frames = inputs.result(FRAMES)
    longer = max(frames.width, frames.height)
    return inputs.result(CAMERAS).reprojection_error_px, longer, fit.residual_p95 * model.mm_per_unit


def _grown(inputs: Inputs, fit: ShapeFit, model: ShapeModel, refinement: Refinement) -> float:
    """By how much the uncertainty grows everywhere: residuals, light that moved over the skin, a fit that was not refined."""
    light = 1.0 if masks_of_turning_patient(inputs) is None else BY_LIGHT
    unrefined = 1.0 if len(refinement.vertices) else UNREFINED
    return misfit(*residuals(inputs, fit, model)) * light * unrefined


def world_to_fit(inputs: Inputs, fit: ShapeFit) -> Similarity:
    """The map from world to the model frame of a fit."""
    return fit.refinement.after(inputs.result(ALIGN).world_to_model)


def run(options: SurfaceOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Extract the fitted shape in patient space."""
    found = deliver(options, inputs, inputs.result(FIT), inputs.result(REFINE), progress)
    Surface.save(folder, found.mesh, found.unrefined_ras, found.landmarks_ras, found.scale, found.world_to_patient)


def deliver(options: SurfaceOptions, inputs: Inputs, found: TrackFit, refinement: Refinement, progress: Progress) -> Delivered:
    """Return the surface of a fit of this case, refined."""
    model, to_fit = load_model(inputs.options(ALIGN).model), world_to_fit(inputs, found.fit)
    scale = final_scale(to_fit.scale, model, inputs)
    to_patient = model_to_patient(scale.mm_per_world / to_fit.scale).after(to_fit)
    landmarks_ras = to_patient.apply(inputs.result(LANDMARKS).points_world)
    mesh, unrefined = _mesh(options, inputs, found, refinement, model, to_patient, progress)
    return Delivered(mesh, unrefined, landmarks_ras, scale, to_patient)


def _mesh(
    options: SurfaceOptions,
    inputs: Inputs,
    found: TrackFit,
    refinement: Refinement,
    model: ShapeModel,
    world_to_patient: Similarity,
    progress: Progress,
) -> tuple[TriangleMesh, np.ndarray]:
    progress(0.05, "surface from the fitted shape")
    fit, aligned = found.fit, inputs.result(ALIGN)
    fit_to_patient = world_to_patient.after(world_to_fit(inputs, fit).inverse())
    fine_mm = options.detail_mm
    fine, flat = np.array([fine_mm, max(fine_mm, min(2.0 * fine_mm, LARGEST_FLAT_MM))]) / fit_to_patient.scale
    shape = mesh_of_code(model.on(fastest_device()), torch.from_numpy(fit.code), fine, flat, refinement.at).mesh
    mesh = shape.moved(fit_to_patient, Frame.PATIENT)
    unrefined, normals = mesh.vertices, mesh.normals
    assert normals is not None
    detail_mm = refinement.at(shape.vertices) * fit_to_patient.scale
    vertices = unrefined + detail_mm[:, None] * normals
    if detail_mm.any():
        normals = vertex_normals(vertices, mesh.faces)
    if options.correct_nipples:
        placed = world_to_patient.apply(inputs.result(LANDMARKS).points_world)[list(NIPPLES)]
        drawn = fit_to_patient.apply(fit.anchors_model)[list(NIPPLES)]
        vertices, unrefined = (move_smoothly(places, drawn, placed) for places in (vertices, unrefined))
        normals = vertex_normals(vertices, mesh.faces)
    cameras = {name: camera.moved(world_to_patient) for name, camera in inputs.result(CAMERAS).cameras.items()}
    seen = see_vertices(vertices, normals, cameras, inputs.result(FRAMES).read, aligned.tone, progress.part(0.4, 0.85))
    progress(0.9, "what the pictures say of it")
    to_aligned = fit.refinement.inverse().after(fit_to_patient.inverse())
    aligned_vertices = to_aligned.apply(vertices)
    points = aligned.world_to_model.apply(inputs.result(DENSE).points_world.astype(float))
    to_skin = distance_to_points(aligned_vertices, points[aligned.is_skin(points)])
    nipples, aligned_normals = aligned.landmarks_model[list(NIPPLES)], to_aligned.apply_directions(normals)
    judged = judge(aligned_vertices, aligned_normals, seen, to_skin, nipples, aligned.tone)
    contradicted = judged.evidence == Evidence.CONTRADICTED
    share = seen.views / len(cameras)
    uncertainty = uncertainty_model(found, model, shape.vertices, to_skin * fit.refinement.scale, share)
    uncertainty = np.hypot(uncertainty, DETAIL_SHARE * np.abs(detail_mm) / fit_to_patient.scale)
    scalars = {
        "residual_mm": to_skin / to_aligned.scale,
        "detail_mm": detail_mm,
        "views": seen.views.astype(float),
        "uncertainty_mm": uncertainty * fit_to_patient.scale * _grown(inputs, fit, model, refinement),
        "agreement": judged.agreement,
        "evidence": judged.evidence.astype(float),
        "torso": is_torso(aligned_vertices, aligned.landmarks_model).astype(float),
    }
    colors = np.where(contradicted[:, None], NO_COLOR, seen.colors).astype(np.uint8)
    left_out = options.remove_unseen & (seen.views == 0) | options.remove_contradicted & contradicted
    kept, faces = keep_vertices(vertices, mesh.faces, ~left_out) if left_out.any() else (np.arange(len(vertices)), mesh.faces)
    scalars = {name: values[kept] for name, values in scalars.items()}
    mesh = TriangleMesh(vertices[kept], faces, Frame.PATIENT, normals[kept], colors[kept], scalars)
    return mesh, unrefined[kept]
