"""The stage that takes frames from the video."""

from __future__ import annotations

from pathlib import Path

from ...core.progress import Progress
from ...core.run import Inputs
from ...video.selection import select_frames
from .stages import FramesOptions


def run(options: FramesOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Choose the frames and write them."""
    assert options.video is not None  # seen to by the check
    values = inputs.sources
    count, required = values.get("count", options.frame_count), tuple(values["required"])
    select_frames(options.video, folder, count, options.strategy, required, progress, options.mirrored).save(folder)
