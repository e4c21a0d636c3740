"""The stage that brings the landmarks into space."""

from __future__ import annotations

from pathlib import Path

from ...core.progress import Progress
from ...core.run import Inputs
from ...landmarks.locate import locate_landmarks
from .sources import landmark_file
from .stages import CAMERAS, DENSE, FRAMES, LandmarksOptions


def run(options: LandmarksOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Triangulate the picks, or take points in space as they are."""
    frames, video = inputs.result(FRAMES), inputs.options(FRAMES).video
    assert video is not None  # seen to by the check
    given = landmark_file(options.landmarks, video)
    given = given.flipped(frames.width) if frames.mirrored else given
    names = dict(zip(frames.video_frames, frames.names, strict=True))
    points = inputs.result(DENSE).points_world.astype(float)
    locate_landmarks(given, inputs.result(CAMERAS).cameras, names, points).save(folder)
