"""The stages that align the points to the shape model, and fit it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core.progress import Progress
from ...core.run import Inputs
from ...sfm.dense import References
from ...shape_model.align import align_cloud
from ...shape_model.fit import FitSettings, ShapeFit, fit_first_order, fit_shape
from ...shape_model.model import ShapeModel
from ...shape_model.model_file import load_model
from ...shape_model.picture_patches import PATCH_SIDE, Pictures, fit_to_pictures
from ...shape_model.tracks import TrackFit, Tracks
from .motion import largest_motion, write_motion
from .stages import ALIGN, CAMERAS, DENSE, FRAMES, LANDMARKS, AlignOptions, FitOptions


def run_align(options: AlignOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Bring the points to model space and keep the torso's."""
    landmarks = inputs.result(LANDMARKS).points_world
    align_cloud(inputs.result(DENSE), landmarks, load_model(options.model)).save(folder)


def run_fit(options: FitOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Fit to the points, then to the pictures."""
    model, aligned = load_model(inputs.options(ALIGN).model), inputs.result(ALIGN)
    settings = FitSettings(regularisation=options.regularisation)
    fit = (fit_first_order if options.first_order_fit else fit_shape)(
        aligned.points_model, aligned.landmarks_model, model, settings, progress.part(0.0, 0.2), noise_model=aligned.noise_model
    )
    refined = refine_by_pictures(fit, inputs, model, settings, options, progress.part(0.2, 1.0))
    refined.save(folder)
    # Said before the surface is computed; the metric scale follows with the surface, here the model's mean one serves.
    write_motion(folder, largest_motion(refined.motion) * model.mm_per_unit)


def refine_by_pictures(
    fit: ShapeFit, inputs: Inputs, model: ShapeModel, settings: FitSettings, options: FitOptions, progress: Progress
) -> TrackFit:
    """Refine a fit to this case's points by its pictures."""
    aligned = inputs.result(ALIGN)
    references, cameras = References.load(inputs.folder(DENSE)), inputs.result(CAMERAS).cameras
    moved = [cameras[name].moved(aligned.world_to_model) for name in references.names]
    points = aligned.world_to_model.apply(references.points_world.astype(float))
    pictures = Pictures(moved, inputs.result(FRAMES).read, options.patch_pixels)
    # Hair within a patch would be followed instead of the skin: with it, the surface lay 4 mm too far out beneath.
    bare = aligned.is_skin(points, margin=PATCH_SIDE / 2)
    tracks = Tracks.of(moved, references.frames, references.normalized, points).only(bare)
    found = fit_to_pictures(fit, tracks, pictures, aligned.landmarks_model, model, settings, options.patch_rounds, progress)
    return found.with_motion_between(np.searchsorted(sorted(cameras), references.names), len(cameras))
