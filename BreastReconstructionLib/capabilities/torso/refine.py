"""The stage that moves the fitted surface until the pictures agree."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from ...core.errors import FitError
from ...core.progress import Progress
from ...core.run import Inputs
from ...fields.evaluation import fastest_device
from ...geometry.transforms import Frame, Similarity
from ...shape_model.align import is_torso
from ...shape_model.frame_comparison import MovedFrame, PhotometricSettings
from ...shape_model.model_file import load_model
from ...shape_model.photometric import find_displacement
from ...shape_model.sampling import mesh_of_code
from ...shape_model.tracks import motion_basis
from .results import Refinement
from .stages import ALIGN, CAMERAS, FIT, FRAMES, RefineOptions


def run(options: RefineOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Find the displacement, or write that nothing moves."""
    if not options.refine:
        Refinement.nothing().save(folder)
        return
    model, aligned, found = load_model(inputs.options(ALIGN).model), inputs.result(ALIGN), inputs.result(FIT)
    progress(0.0, "surface from the fitted shape")
    mm, fit = model.mm_per_unit, found.fit
    shape = mesh_of_code(model.on(fastest_device()), torch.from_numpy(fit.code), options.refine_cell_mm / mm).mesh
    to_aligned, in_mm = fit.refinement.inverse(), Similarity(mm, np.eye(3), np.zeros(3))
    skin = shape.part(is_torso(to_aligned.apply(shape.vertices), aligned.landmarks_model))
    to_mm, world_to_mm = in_mm.after(to_aligned), in_mm.after(aligned.world_to_model)
    frames, cameras = inputs.result(FRAMES), inputs.result(CAMERAS).cameras
    moved = [
        MovedFrame(
            camera.moved(world_to_mm),
            partial(frames.read, name),
            partial(_displaced, motion=motion, mm=mm),
            aligned.tone.may_be_skin,
        )
        for (name, camera), motion in zip(cameras.items(), found.motion, strict=True)
    ]
    try:
        result = find_displacement(skin.moved(to_mm, Frame.MODEL), moved, PhotometricSettings(), progress.part(0.1, 1.0))
    except FitError as error:  # the surface is delivered as the shape model draws it, and the report says so
        Refinement.nothing(str(error)).save(folder)
        return
    vertices = to_mm.inverse().apply(result.vertices)
    Refinement(vertices, result.displacement_mm / to_mm.scale, result.weakened, result.views).save(folder)


def _displaced(points_mm: np.ndarray, motion: np.ndarray, mm: float) -> np.ndarray:
    """Where (N, 3) points at rest were in a frame, by the fit's motion of it."""
    return points_mm + mm * (motion_basis(points_mm / mm) @ motion)
