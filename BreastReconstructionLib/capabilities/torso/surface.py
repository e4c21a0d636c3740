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
from ...shape_model.align import inside_crop
from ...shape_model.fit import ShapeFit
from ...shape_model.model import ShapeModel
from ...shape_model.model_file import load_model
from ...shape_model.sampling import mesh_of_code
from ...shape_model.tracks import TrackFit
from .appearance import distance_to_points, see_vertices
from .correction import move_smoothly
from .evidence import judge
from .results import Surface
from .scale import final_scale
from .stages import ALIGN, CAMERAS, DENSE, FIT, FRAMES, LANDMARKS, SurfaceOptions
from .uncertainty import uncertainty_model

# Behind this (aligned model frame; the back is flat at -0.29) the shape rounds off toward its back, which no body does.
RIM_Z = -0.23
# Grey of a place that the frames contradict: the background is no skin's colour.
NO_COLOR = 128


@dataclass(frozen=True)
class Delivered:
    """A surface in patient space.

    Attributes:
        mesh: see Surface.
        landmarks_ras: (6, 3) mm, as placed.
        scale: the metric scale.
        world_to_patient: from world to patient space.
    """

    mesh: TriangleMesh
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


def world_to_fit(inputs: Inputs, fit: ShapeFit) -> Similarity:
    """The map from world to the model frame of a fit."""
    return fit.refinement.after(inputs.result(ALIGN).world_to_model)


def run(options: SurfaceOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Extract the fitted shape in patient space."""
    found = deliver(options, inputs, inputs.result(FIT), progress)
    Surface.save(folder, found.mesh, found.landmarks_ras, found.scale, found.world_to_patient)


def deliver(options: SurfaceOptions, inputs: Inputs, found: TrackFit, progress: Progress) -> Delivered:
    """Return the surface of a fit of this case."""
    model, to_fit = load_model(inputs.options(ALIGN).model), world_to_fit(inputs, found.fit)
    scale = final_scale(to_fit.scale, model, inputs)
    to_patient = model_to_patient(scale.mm_per_world / to_fit.scale).after(to_fit)
    landmarks_ras = to_patient.apply(inputs.result(LANDMARKS).points_world)
    mesh = _mesh(options, inputs, found, model, to_patient, progress)
    return Delivered(mesh, landmarks_ras, scale, to_patient)


def _mesh(
    options: SurfaceOptions,
    inputs: Inputs,
    found: TrackFit,
    model: ShapeModel,
    world_to_patient: Similarity,
    progress: Progress,
) -> TriangleMesh:
    progress(0.05, "surface from the fitted shape")
    fit, aligned = found.fit, inputs.result(ALIGN)
    fit_to_patient = world_to_patient.after(world_to_fit(inputs, fit).inverse())
    cell = options.detail_mm / fit_to_patient.scale
    shape = mesh_of_code(model.on(fastest_device()), torch.from_numpy(fit.code), cell).mesh
    mesh = shape.moved(fit_to_patient, Frame.PATIENT)
    vertices, normals = mesh.vertices, mesh.normals
    assert normals is not None
    if options.correct_nipples:
        placed = world_to_patient.apply(inputs.result(LANDMARKS).points_world)[list(NIPPLES)]
        vertices = move_smoothly(vertices, fit_to_patient.apply(fit.anchors_model)[list(NIPPLES)], placed)
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
    uncertainty = uncertainty_model(found, model, shape.vertices, to_skin * fit.refinement.scale)
    scalars = {
        "residual_mm": to_skin / to_aligned.scale,
        "views": seen.views.astype(float),
        "uncertainty_mm": uncertainty * fit_to_patient.scale * misfit(*residuals(inputs, fit, model)),
        "agreement": judged.agreement,
        "evidence": judged.evidence.astype(float),
        "torso": _is_torso(aligned_vertices, aligned.landmarks_model).astype(float),
    }
    colors = np.where(contradicted[:, None], NO_COLOR, seen.colors).astype(np.uint8)
    left_out = options.remove_unseen & (seen.views == 0) | options.remove_contradicted & contradicted
    kept, faces = keep_vertices(vertices, mesh.faces, ~left_out) if left_out.any() else (np.arange(len(vertices)), mesh.faces)
    scalars = {name: values[kept] for name, values in scalars.items()}
    return TriangleMesh(vertices[kept], faces, Frame.PATIENT, normals[kept], colors[kept], scalars)


def _is_torso(vertices_aligned: np.ndarray, landmarks_aligned: np.ndarray) -> np.ndarray:
    """Tell which vertices belong to the torso, and not to the flat back and the cuts that close the shape, or to their rim."""
    return inside_crop(vertices_aligned, landmarks_aligned) & (vertices_aligned[:, 2] > RIM_Z)
