"""The stages that look for printed markers and set the metric scale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...core.progress import Progress
from ...core.run import Inputs
from ...measurement.markers import find_markers, marker_words, mirror_doubts, require_markers
from ...measurement.scale import (
    KnownDistance,
    KnownMarker,
    Scale,
    agreed_scale,
    approximate_scale,
    doubted_scale,
    scale_from_distance,
    scale_from_marker,
)
from ...sfm.reconstruction import subject_sphere
from ...shape_model.model import ShapeModel
from ...shape_model.model_file import load_model
from .results import Markers
from .sources import known, known_markers
from .stages import ALIGN, CAMERAS, FRAMES, LANDMARKS, MARKERS, SCALE, MarkersOptions, ScaleOptions

# The landmarks alone tell the body's size less well than the fit does.
ROUGH_SIZE = 1.3


def run_markers(options: MarkersOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Look for the printed markers before the long run, or, without any, for one that can be read only in a mirror."""
    frames, given = inputs.result(FRAMES), known_markers(options)
    if given:
        require_markers(frames.names, frames.read, given, frames.mirrored)
        doubts: tuple[str, ...] = ()
    else:
        doubts = mirror_doubts(frames.names, frames.read, frames.mirrored)
    Markers(doubts).save(folder)


def run(options: ScaleOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Measure the scale, and set it against the body as soon as the landmarks say how large that is.

    Raises:
        ScaleError: it is unlike any body or any filming, and not confirmed.
    """
    given = known(inputs.options(MARKERS), options)
    model = load_model(inputs.options(ALIGN).model)
    units_per_world = inputs.result(ALIGN).world_to_model.scale
    if given:
        measured = agreed_scale([_scale_of(one, inputs) for one in given], options.trust_scale)
        doubted(measured, units_per_world, model, inputs, ROUGH_SIZE)
    else:
        measured = approximate_scale(model.mm_per_unit, model.mm_per_unit_spread, units_per_world)
    measured.save(folder)


def final_scale(units_per_world: float, model: ShapeModel, inputs: Inputs) -> Scale:
    """Return the scale once the fit has told the body's size, with what speaks against it.

    Args:
        units_per_world: model units of the fit a world unit.
        model: the shape model.
        inputs: of a stage that needs the scale.
    """
    measured = inputs.result(SCALE)
    if measured.approximate:
        return approximate_scale(model.mm_per_unit, model.mm_per_unit_spread, units_per_world)
    return doubted(measured, units_per_world, model, inputs)


def doubted(scale: Scale, units_per_world: float, model: ShapeModel, inputs: Inputs, widened: float = 1.0) -> Scale:
    """Return a measured scale with what the body, of so many model units a world unit, and the phone's distance say of it.

    The spread of the population is widened where the body's size is only roughly known.
    """
    options = inputs.options(SCALE)
    _, distance = subject_sphere(list(inputs.result(CAMERAS).cameras.values()))
    prior = model.mm_per_unit, model.mm_per_unit_spread * widened
    given = known(inputs.options(MARKERS), options)
    mm_per_unit = scale.mm_per_world / units_per_world
    return doubted_scale(scale, given, mm_per_unit, prior, distance * scale.mm_per_world, options.trust_scale)


def _scale_of(one: KnownDistance | KnownMarker, inputs: Inputs) -> Scale:
    cameras = inputs.result(CAMERAS).cameras
    if isinstance(one, KnownMarker):
        seen, every = find_markers(cameras, inputs.result(FRAMES).read, one)
        scale = scale_from_marker(replace(one, number=seen.number), seen.side_world, seen.side_spread_world, seen.sightings)
        in_view = tuple(marker_words(marker, one.dictionary, scale.mm_per_world) for marker in every)
        return replace(scale, markers_in_view=in_view)
    landmarks = inputs.result(LANDMARKS)
    focal = float(np.mean([camera.intrinsics[0, 0] for camera in cameras.values()]))
    _, distance = subject_sphere(list(cameras.values()))
    return scale_from_distance(one, landmarks.points_world, landmarks.reprojection_px, landmarks.views, focal, distance)
